//! Graphs: sequences of commands that are checked and decoded once, and run many times. See `docs/hardware.md`, section 7.4.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmlu_abi::graph::{GraphHead, Relocation, MAGIC, MAX_IMAGES, MAX_PARAMETERS, VERSION};
use vmlu_abi::packet::{op, PacketHeader, FLAG_INDIRECT};
use vmlu_abi::queue::{MAX_PACKET_UNITS, UNIT};
use vmlu_abi::{Status, Wire};

use crate::kernels::env::Fault;
use crate::kernels::Kernel;
use crate::queue::command;

/// A graph of a context.
pub struct Graph {
    image: Mutex<Arc<Image>>,
}

impl Graph {
    /// A graph that runs an image.
    pub fn new(image: Image) -> Self {
        Self {
            image: Mutex::new(Arc::new(image)),
        }
    }

    /// What a launch that begins now runs.
    pub fn image(&self) -> Arc<Image> {
        self.image.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Runs another image from here on. It must have as many parameters as the one before: else that number.
    pub fn update(&self, image: Image) -> Result<(), usize> {
        let mut slot = self.image.lock().unwrap_or_else(|e| e.into_inner());
        if slot.parameters != image.parameters {
            return Err(slot.parameters);
        }
        let old = std::mem::replace(&mut *slot, Arc::new(image));
        drop(slot);
        drop(old);
        Ok(())
    }
}

/// Bytes of an image, counted against the chip's limit as long as this lives.
pub struct ImageCharge {
    counter: Arc<AtomicU64>,
    bytes: u64,
}

impl ImageCharge {
    /// Counts `bytes` in `counter`; `None` if there is no room for them.
    pub fn new(counter: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let room = |n: u64| n.checked_add(bytes).filter(|n| *n <= MAX_IMAGES);
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .ok()?;
        Some(Self {
            counter: counter.clone(),
            bytes,
        })
    }
}

impl Drop for ImageCharge {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A command of a graph.
pub struct GraphCommand {
    /// Opcode.
    pub opcode: u16,
    /// The packet's correlation.
    pub correlation: u64,
    /// The operator, if it is one.
    pub kernel: Option<&'static Kernel>,
    /// Body, in the image's bytes.
    body: Range<u32>,
    /// Its relocations, of those of the image.
    relocations: Range<u32>,
}

/// An image, decoded.
pub struct Image {
    bytes: Vec<u8>,
    commands: Vec<GraphCommand>,
    /// Offsets count from the first of `bytes`.
    relocations: Vec<Relocation>,
    /// Those of 4 bytes, whose values may not fit.
    narrow: Vec<Relocation>,
    parameters: usize,
    _charge: ImageCharge,
}

impl Image {
    /// Checks an image, of which `bytes` is a private copy.
    pub fn decode(bytes: Vec<u8>, charge: ImageCharge) -> Result<Self, Fault> {
        let Some(head) = GraphHead::read_from(&bytes) else {
            return refuse(Status::BadLength, "the image has no head");
        };
        if head.magic != MAGIC {
            return refuse(
                Status::InvalidArgument,
                format!("the image has the magic {:#x}", head.magic),
            );
        }
        if head.version != VERSION {
            let text = format!(
                "the image has version {}, {VERSION} is served",
                head.version
            );
            return refuse(Status::VersionMismatch, text);
        }
        if head.reserved != 0 {
            return refuse(Status::ReservedNotZero, "the head's padding is not zero");
        }
        if head.length != bytes.len() as u64 {
            let text = format!("{} bytes, the head says {}", bytes.len(), head.length);
            return refuse(Status::BadLength, text);
        }
        if head.parameters > MAX_PARAMETERS {
            let text = format!("{} parameters, at most {MAX_PARAMETERS}", head.parameters);
            return refuse(Status::InvalidArgument, text);
        }
        let first = size_of::<GraphHead>() as u64
            + u64::from(head.relocations) * size_of::<Relocation>() as u64;
        let Some(room) = head.length.checked_sub(first) else {
            let text = format!("{} relocations in {} bytes", head.relocations, bytes.len());
            return refuse(Status::BadLength, text);
        };
        if room % UNIT as u64 != 0 || room / (UNIT as u64) < u64::from(head.commands) {
            let text = format!("{} packets in {room} bytes", head.commands);
            return refuse(Status::BadLength, text);
        }
        let mut image = Self {
            commands: Vec::with_capacity(head.commands as usize),
            relocations: Vec::with_capacity(head.relocations as usize),
            narrow: Vec::new(),
            parameters: head.parameters as usize,
            bytes,
            _charge: charge,
        };
        // Both fit: the image has at most `MAX_IMAGE` bytes.
        image.decode_packets(first as usize, head.commands)?;
        image.decode_relocations(first as u32)?;
        Ok(image)
    }

    fn decode_packets(&mut self, first: usize, commands: u32) -> Result<(), Fault> {
        let mut at = first;
        for index in 0..commands {
            let rest = &self.bytes[at..];
            let header = PacketHeader::read_from(rest).unwrap_or_else(PacketHeader::zeroed);
            let units = usize::from(header.units);
            let padded = match rest.get(size_of::<PacketHeader>()..units * UNIT) {
                Some(padded) if (1..=MAX_PACKET_UNITS).contains(&units) => padded,
                _ => {
                    let text = format!(
                        "command {index}: a packet of {units} units where {} are left",
                        rest.len() / UNIT
                    );
                    return refuse(Status::FramingError, text);
                }
            };
            let (kernel, length) =
                command::decode(&header, padded).map_err(|fault| in_command(index, fault))?;
            if header.flags & FLAG_INDIRECT != 0
                || matches!(header.opcode, op::WAIT | op::WAIT_ALL | op::GRAPH_LAUNCH)
            {
                let text = format!(
                    "command {index}: opcode {:#06x} with flags {:#x} cannot be part of a graph",
                    header.opcode, header.flags
                );
                return refuse(Status::NotSupported, text);
            }
            let body = (at + size_of::<PacketHeader>()) as u32;
            self.commands.push(GraphCommand {
                opcode: header.opcode,
                correlation: header.correlation,
                kernel,
                body: body..body + length as u32,
                relocations: 0..0,
            });
            at += units * UNIT;
        }
        if at != self.bytes.len() {
            let text = format!("{} bytes behind the last packet", self.bytes.len() - at);
            return refuse(Status::BadLength, text);
        }
        Ok(())
    }

    fn decode_relocations(&mut self, first: u32) -> Result<(), Fault> {
        let table = &self.bytes[size_of::<GraphHead>()..first as usize];
        let mut command = 0;
        let mut end = 0;
        for (index, relocation) in table
            .chunks_exact(size_of::<Relocation>())
            .filter_map(Relocation::read_from)
            .enumerate()
        {
            let Relocation {
                offset,
                parameter,
                width,
                reserved,
                ..
            } = relocation;
            let what = |rule: &str| {
                format!("relocation {index}: {width} bytes at {offset} from parameter {parameter}: {rule}")
            };
            if reserved != 0 {
                return refuse(Status::ReservedNotZero, what("padding is not zero"));
            }
            if !matches!(width, 4 | 8) || offset % 4 != 0 {
                return refuse(
                    Status::InvalidArgument,
                    what("4 or 8 bytes at a multiple of 4 are wanted"),
                );
            }
            if parameter as usize >= self.parameters {
                return refuse(Status::InvalidArgument, what("there is no such parameter"));
            }
            if u64::from(offset) < end {
                return refuse(
                    Status::InvalidArgument,
                    what("not in ascending order, or over another"),
                );
            }
            end = u64::from(offset) + u64::from(width);
            let (from, to) = (u64::from(offset) + u64::from(first), end + u64::from(first));
            while self
                .commands
                .get(command)
                .is_some_and(|c| u64::from(c.body.end) < to)
            {
                command += 1;
            }
            let index = index as u32;
            match self.commands.get_mut(command) {
                Some(c) if u64::from(c.body.start) <= from => {
                    if c.relocations.is_empty() {
                        c.relocations.start = index;
                    }
                    c.relocations.end = index + 1;
                }
                _ => return refuse(Status::InvalidArgument, what("not in the body of a packet")),
            }
            let placed = Relocation {
                offset: from as u32,
                ..relocation
            };
            self.relocations.push(placed);
            if width == 4 {
                self.narrow.push(placed);
            }
        }
        Ok(())
    }

    /// Parameters that a launch gives.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The commands.
    pub fn commands(&self) -> &[GraphCommand] {
        &self.commands
    }

    /// Checks the parameters of a launch: as many as there must be, each such that it fits.
    pub fn check(&self, parameters: &[u64]) -> Result<(), Fault> {
        if parameters.len() != self.parameters {
            let text = format!(
                "graph launch: {} parameters, the graph has {}",
                parameters.len(),
                self.parameters
            );
            return refuse(Status::InvalidArgument, text);
        }
        for relocation in &self.narrow {
            let value = value(relocation, parameters);
            if value > u64::from(u32::MAX) {
                let text = format!(
                    "graph launch: parameter {} gives {value:#x}, which does not fit 4 bytes",
                    relocation.parameter
                );
                return refuse(Status::InvalidArgument, text);
            }
        }
        Ok(())
    }

    /// The body of a command with the parameters of a launch in it; put together in `scratch` if it has any.
    pub fn body<'a>(
        &'a self,
        command: &GraphCommand,
        parameters: &[u64],
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let Range { start, end } = command.body;
        let body = &self.bytes[start as usize..end as usize];
        if command.relocations.is_empty() {
            return body;
        }
        scratch.clear();
        scratch.extend_from_slice(body);
        let Range { start: from, end } = command.relocations;
        for relocation in &self.relocations[from as usize..end as usize] {
            let at = (relocation.offset - start) as usize;
            let bytes = value(relocation, parameters).to_le_bytes();
            let width = relocation.width as usize;
            scratch[at..at + width].copy_from_slice(&bytes[..width]);
        }
        scratch
    }
}

fn value(relocation: &Relocation, parameters: &[u64]) -> u64 {
    let parameter = parameters.get(relocation.parameter as usize);
    parameter
        .copied()
        .unwrap_or(0)
        .wrapping_add(relocation.addend)
}

/// Says in which command of a graph a fault is.
pub fn in_command(index: u32, fault: Fault) -> Fault {
    Fault {
        rule: format!("command {index}: {}", fault.rule),
        ..fault
    }
}

fn refuse<T>(status: Status, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(status, text))
}
