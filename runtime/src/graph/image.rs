//! A graph as bytes: `abi::graph`.

use vmlu_abi::graph::{GraphHead, Relocation, MAGIC, MAX_IMAGE, MAX_PARAMETERS, VERSION};
use vmlu_abi::packet::PacketHeader;
use vmlu_abi::queue::UNIT;
use vmlu_abi::{Status, Wire};

use super::{Graph, Place, HEADER};
use crate::error::{Error, Result};

fn damaged<T>(status: Status, text: impl Into<String>) -> Result<T> {
    Err(Error::new("read the image of a graph", status, text))
}

impl Graph {
    /// The graph as bytes, which can be kept in a file and used on any host. Addresses that are no parameters stay as they are (see
    /// [`Graph::fixed_addresses`]). Collectives are ranks of this process and do not go into an image: that of a graph which has some is
    /// refused by whoever reads it.
    pub fn image(&self) -> Vec<u8> {
        let relocations = self.places.len() * size_of::<Relocation>();
        let length = size_of::<GraphHead>() + relocations + self.packets.len();
        let head = GraphHead {
            magic: MAGIC,
            version: VERSION,
            length: length as u64,
            commands: self.steps() as u32,
            parameters: self.parameters,
            relocations: self.places.len() as u32,
            reserved: 0,
        };
        let mut image = Vec::with_capacity(length);
        image.extend_from_slice(head.as_bytes());
        for (offset, place) in &self.places {
            let relocation = Relocation {
                offset: *offset,
                parameter: place.parameter,
                width: place.width,
                reserved: 0,
                addend: place.addend,
            };
            image.extend_from_slice(relocation.as_bytes());
        }
        image.extend_from_slice(&self.packets);
        image
    }

    /// The graph of an image.
    ///
    /// # Errors
    ///
    /// `Status::VersionMismatch` for an image of another version; `Status::InvalidArgument`, `Status::BadLength`, `Status::FramingError`
    /// and `Status::ReservedNotZero` for bytes that are no image, with the place where they are wrong.
    pub fn from_image(image: &[u8]) -> Result<Self> {
        let Some(head) = GraphHead::read_from(image) else {
            let text = format!("{} bytes are less than its head", image.len());
            return damaged(Status::BadLength, text);
        };
        if head.magic != MAGIC {
            return damaged(Status::InvalidArgument, "it does not begin with the magic");
        }
        if head.version != VERSION {
            let text = format!("version {}, {VERSION} is read", head.version);
            return damaged(Status::VersionMismatch, text);
        }
        if head.length != image.len() as u64 || head.length > MAX_IMAGE {
            let text = format!(
                "its head says {} bytes, there are {}, {MAX_IMAGE} at most",
                head.length,
                image.len()
            );
            return damaged(Status::BadLength, text);
        }
        if head.reserved != 0 {
            return damaged(Status::ReservedNotZero, "the head's padding is not zero");
        }
        if head.parameters > MAX_PARAMETERS {
            let text = format!("{} parameters, at most {MAX_PARAMETERS}", head.parameters);
            return damaged(Status::InvalidArgument, text);
        }
        let body = &image[size_of::<GraphHead>()..];
        let relocations = (head.relocations as usize).checked_mul(size_of::<Relocation>());
        let Some((relocations, packets)) = relocations.and_then(|n| body.split_at_checked(n))
        else {
            let text = format!("{} relocations do not fit", head.relocations);
            return damaged(Status::BadLength, text);
        };
        let mut graph = Self {
            packets: packets.to_vec(),
            parameters: head.parameters,
            ..Self::default()
        };
        graph.find_packets(head.commands)?;
        for bytes in relocations.chunks_exact(size_of::<Relocation>()) {
            let relocation = Relocation::read_from(bytes).unwrap_or_else(Relocation::zeroed);
            graph.add_relocation(&relocation)?;
        }
        Ok(graph)
    }

    /// Cuts the packets apart.
    fn find_packets(&mut self, commands: u32) -> Result<()> {
        let mut at = 0;
        while at < self.packets.len() {
            let header = PacketHeader::read_from(&self.packets[at..]);
            let bytes = header.map_or(0, |h| usize::from(h.units) * UNIT);
            if !(UNIT..=64 * UNIT).contains(&bytes) || self.packets.len() - at < bytes {
                let text = format!("packet {} at byte {at} has no end", self.starts.len());
                return damaged(Status::FramingError, text);
            }
            self.starts.push(at as u32);
            at += bytes;
        }
        if self.starts.len() != commands as usize {
            let text = format!("{} packets, the head says {commands}", self.starts.len());
            return damaged(Status::FramingError, text);
        }
        Ok(())
    }

    fn add_relocation(&mut self, relocation: &Relocation) -> Result<()> {
        let number = self.places.len();
        let wrong = |what: &str| {
            let text = format!("relocation {number}: {what}: {relocation:?}");
            damaged(Status::InvalidArgument, text)
        };
        if relocation.reserved != 0 {
            return wrong("its padding is not zero");
        }
        if relocation.parameter >= self.parameters {
            return wrong("there is no such parameter");
        }
        let offset = relocation.offset;
        let last = self.places.last_key_value();
        if last.is_some_and(|(at, place)| offset < at + place.width) {
            return wrong("it is not behind the one before");
        }
        let command = self.starts.partition_point(|start| *start <= offset);
        let Some(start) = command.checked_sub(1).and_then(|c| self.starts.get(c)) else {
            return wrong("it is in no packet");
        };
        let inside = (offset - start) as usize;
        let fits = inside >= HEADER
            && self
                .place_at(command - 1, inside - HEADER, relocation.width)
                .is_ok();
        if !fits {
            return wrong("it does not lie in the body of a packet");
        }
        let place = Place {
            parameter: relocation.parameter,
            width: relocation.width,
            addend: relocation.addend,
        };
        let end = offset as usize + relocation.width as usize;
        self.packets[offset as usize..end].fill(0);
        self.places.insert(offset, place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmlu_abi::packet::{op, Copy};

    use super::*;
    use crate::graph::GraphBuilder;

    fn graph() -> Graph {
        let mut builder = GraphBuilder::new();
        let (a, b) = (builder.parameter().unwrap(), builder.parameter().unwrap());
        let copy = Copy {
            dst: builder.address(a) + 64,
            src: builder.address(b),
            length: 8,
        };
        builder.command(op::COPY, copy.as_bytes()).unwrap();
        builder.command(op::NOP, &[]).unwrap();
        builder.finish()
    }

    #[test]
    fn images_come_back() {
        let image = graph().image();
        let back = Graph::from_image(&image).unwrap();
        assert_eq!(back.image(), image);
        assert_eq!((back.commands(), back.parameters()), (2, 2));
        assert!(back.fixed_addresses().is_empty());
        assert_eq!(back.places[&16].addend, 64);
    }

    proptest! {
        #[test]
        fn damaged_images_are_refused_or_read_and_never_panic(
            at in 0_usize..400, value in any::<u8>(), cut in 0_usize..400,
        ) {
            let mut image = graph().image();
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
            image.truncate(image.len().max(cut) - cut.min(image.len()));
            if let Ok(graph) = Graph::from_image(&image) {
                let _ = graph.image();
                let _ = graph.fixed_addresses();
            }
        }
    }
}
