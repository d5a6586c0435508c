//! Graphs: sequences of commands that the card keeps and that one packet runs, with parameters that each launch gives.
//!
//! A [`Graph`] is made by capturing what is submitted to queues ([`Queue::begin_capture`]), command by command ([`GraphBuilder`]), or from
//! the bytes of another ([`Graph::from_image`]). [`Graph::instantiate`] puts it on a card; [`Queue::launch`] runs it.
//!
//! ```no_run
//! # use vmlu::{Context, DataType, Tensor, operators::UnaryFunction};
//! # fn main() -> vmlu::Result<()> {
//! let context = Context::open(0)?;
//! let queue = context.queue()?;
//! let (x, y) = (context.alloc(4096)?, Tensor::zeros(&queue, DataType::F32, &[1024])?);
//! queue.begin_capture()?;
//! queue.copy(y.buffer().address(), x.address(), 4096)?;
//! queue.unary(UnaryFunction::Relu, &y, &y)?;
//! let mut graph = queue.end_capture()?;
//! let input = graph.parameter(&x)?; // The address of `x` is given by each launch.
//! let exec = graph.instantiate(&context)?;
//! let other = context.alloc(4096)?;
//! queue.launch(&exec, &[other.address()])?;
//! queue.sync()?;
//! # let _ = input;
//! # Ok(())
//! # }
//! ```

mod builder;
mod capture;
mod collectives;
mod exec;
mod image;
mod operands;

use std::collections::BTreeMap;

use vmlu_abi::graph::{GraphHead, Relocation, MAX_IMAGE, MAX_PARAMETERS};
use vmlu_abi::packet::{units_for, PacketHeader, MAX_BODY, VERSION};
use vmlu_abi::queue::UNIT;
use vmlu_abi::{Status, Wire};

use crate::error::{Error, Result};
use crate::memory::{Buffer, Owner, PinnedBuffer};

pub use builder::GraphBuilder;
pub use capture::CaptureStatus;
pub(crate) use capture::{Slot, CAPTURED};
pub use exec::GraphExec;

/// Bytes of a packet's header.
const HEADER: usize = size_of::<PacketHeader>();

/// A sequence of commands with parameters. It keeps alive the buffers that its commands name.
#[derive(Clone, Default)]
pub struct Graph {
    /// The packets, framed as in a ring.
    packets: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
    /// By offset in `packets`. The bytes there are zero.
    places: BTreeMap<u32, Place>,
    parameters: u32,
    owners: Vec<Owner>,
    /// In the order of the commands that stand before them.
    meetings: Vec<collectives::Meeting>,
}

/// Where a parameter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    parameter: u32,
    /// 4 or 8.
    width: u32,
    addend: u64,
}

/// A parameter of a graph: the index of its value among those that a launch gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    index: u32,
}

impl Param {
    /// Index of its value in the list that [`Queue::launch`](crate::Queue::launch) takes.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

fn refuse<T>(status: Status, text: impl Into<String>) -> Result<T> {
    Err(Error::new("build a graph", status, text))
}

impl Graph {
    /// Commands.
    pub fn commands(&self) -> usize {
        self.starts.len()
    }

    /// Parameters that a launch gives.
    pub fn parameters(&self) -> usize {
        self.parameters as usize
    }

    /// Opcode of a command.
    pub fn opcode(&self, command: usize) -> Option<u16> {
        Some(self.header(*self.starts.get(command)?).opcode)
    }

    /// Makes the address of a buffer a parameter: in every operand of every command so far that lies in the buffer, found by the layout of
    /// its descriptor, the buffer's start gives way to the parameter, and the distance from it stays. The graph does not keep the buffer
    /// alive any more.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if no operand lies in the buffer; `Status::OutOfResources` beyond 500 parameters.
    pub fn parameter(&mut self, buffer: &Buffer) -> Result<Param> {
        self.parameter_range(buffer.address(), buffer.len())
    }

    /// As [`Graph::parameter`], for pinned host memory.
    pub fn parameter_pinned(&mut self, buffer: &PinnedBuffer) -> Result<Param> {
        self.parameter_range(buffer.address(), buffer.len() as u64)
    }

    /// As [`Graph::parameter`], for a range of addresses.
    pub fn parameter_range(&mut self, address: u64, length: u64) -> Result<Param> {
        let within = |at: u64| at >= address && at - address < length.max(1);
        let mut found = Vec::new();
        for (offset, value) in self.addresses() {
            if value != 0 && within(value) {
                found.push((offset, value - address));
            }
        }
        let range = address..address.saturating_add(length.max(1));
        if found.is_empty() && !self.met_addresses().any(|a| range.contains(&a)) {
            let text = format!("no command names an address of the {length} bytes at {address:#x}");
            return refuse(Status::InvalidArgument, text);
        }
        let param = self.new_parameter()?;
        for (offset, addend) in found {
            self.set_place(offset, param, 8, addend);
        }
        self.meet_with(range, param);
        self.owners.retain(|owner| owner.address() != address);
        Ok(param)
    }

    /// Makes a number in the body of a command a parameter: `width` bytes, 4 or 8, from byte `offset` of the body on, a multiple of 4.
    /// What stood there is forgotten. A launch gives the number's bits; those of a narrow one must fit it.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if there is no such place, or if a parameter goes there already.
    pub fn number(&mut self, command: usize, offset: usize, width: u32) -> Result<Param> {
        let at = self.place_at(command, offset, width)?;
        let param = self.new_parameter()?;
        self.set_place(at, param, width, 0);
        Ok(param)
    }

    /// Has a parameter that exists go to another place too, with something added to it.
    ///
    /// # Errors
    ///
    /// As [`Graph::number`].
    pub fn place(
        &mut self,
        param: Param,
        command: usize,
        offset: usize,
        width: u32,
        addend: u64,
    ) -> Result<()> {
        let at = self.place_at(command, offset, width)?;
        if param.index >= self.parameters {
            let text = format!("the graph has no parameter {}", param.index);
            return refuse(Status::InvalidArgument, text);
        }
        self.set_place(at, param, width, addend);
        Ok(())
    }

    /// Addresses that are no parameters: a graph that has some only works in a context where they mean what they meant here.
    pub fn fixed_addresses(&self) -> Vec<u64> {
        let mut fixed: Vec<u64> = self
            .addresses()
            .map(|(_, v)| v)
            .chain(self.met_addresses())
            .filter(|v| *v != 0)
            .collect();
        fixed.sort_unstable();
        fixed.dedup();
        fixed
    }

    fn header(&self, start: u32) -> PacketHeader {
        let bytes = self.packets.get(start as usize..).unwrap_or_default();
        PacketHeader::read_from(bytes).unwrap_or_else(PacketHeader::zeroed)
    }

    fn word(&self, offset: u32) -> u64 {
        let bytes = self.packets.get(offset as usize..).unwrap_or_default();
        u64::read_from(bytes).unwrap_or(0)
    }

    /// The address fields that are no parameters: where they stand, and the addresses.
    fn addresses(&self) -> impl Iterator<Item = (u32, u64)> {
        self.starts.iter().flat_map(move |start| {
            let header = self.header(*start);
            let end = usize::from(header.units) * UNIT;
            let fields = operands::address_fields(header.opcode).unwrap_or_default();
            let inside = fields.into_iter().filter(move |f| HEADER + f + 8 <= end);
            inside
                .map(move |field| *start + (HEADER + field) as u32)
                .filter(|offset| !self.places.contains_key(offset))
                .map(|offset| (offset, self.word(offset)))
        })
    }

    /// The addresses that a launch with these parameters uses, besides those of [`Graph::fixed_addresses`]: where they go, and what they are.
    fn addresses_with(&self, values: &[u64]) -> impl Iterator<Item = (u32, u64)> {
        self.places.iter().filter_map(|(offset, place)| {
            let value = values.get(place.parameter as usize)?;
            (place.width == 8).then_some((*offset, value.wrapping_add(place.addend)))
        })
    }

    fn new_parameter(&mut self) -> Result<Param> {
        if self.parameters == MAX_PARAMETERS {
            let text = format!("a graph has {MAX_PARAMETERS} parameters at most");
            return refuse(Status::OutOfResources, text);
        }
        self.parameters += 1;
        Ok(Param {
            index: self.parameters - 1,
        })
    }

    /// The offset of a place in a command's body, if a parameter can go there.
    fn place_at(&self, command: usize, offset: usize, width: u32) -> Result<u32> {
        let found = self.starts.get(command).and_then(|start| {
            let end = usize::from(self.header(*start).units) * UNIT;
            let at = offset.checked_add(HEADER)?;
            let fits = at.checked_add(width as usize)? <= end;
            (fits && matches!(width, 4 | 8) && offset.is_multiple_of(4))
                .then_some(start + at as u32)
        });
        let Some(at) = found else {
            let text = format!(
                "{width} bytes at byte {offset} of command {command} are no place for a parameter"
            );
            return refuse(Status::InvalidArgument, text);
        };
        let before = self.places.range(..at + width).next_back();
        if before.is_some_and(|(other, place)| other + place.width > at) {
            let text = format!("a parameter goes to byte {offset} of command {command} already");
            return refuse(Status::InvalidArgument, text);
        }
        Ok(at)
    }

    fn set_place(&mut self, at: u32, param: Param, width: u32, addend: u64) {
        self.packets[at as usize..(at + width) as usize].fill(0);
        let place = Place {
            parameter: param.index,
            width,
            addend,
        };
        self.places.insert(at, place);
    }

    /// Adds a command; its number.
    fn push(&mut self, opcode: u16, correlation: u64, body: &[&[u8]]) -> Result<usize> {
        let length = body.iter().map(|b| b.len()).sum();
        let Some(units) = units_for(length) else {
            let text = format!("a body of {length} bytes, at most {MAX_BODY} fit a packet");
            return refuse(Status::BadLength, text);
        };
        let bytes = usize::from(units) * UNIT;
        self.check_room(bytes, 0)?;
        let start = self.packets.len();
        let header = PacketHeader {
            opcode,
            version: VERSION,
            units,
            flags: 0,
            correlation,
        };
        self.packets.extend_from_slice(header.as_bytes());
        body.iter()
            .for_each(|part| self.packets.extend_from_slice(part));
        self.packets.resize(start + bytes, 0);
        self.starts.push(start as u32);
        Ok(self.starts.len() - 1)
    }

    /// Adds the commands of another graph, with values for its parameters.
    fn append(&mut self, other: &Graph, values: &[u64]) -> Result<()> {
        self.check_room(other.packets.len(), 0)?;
        let met = self.meetings.len();
        self.append_meetings(other, values)?;
        let base = self.packets.len();
        self.packets.extend_from_slice(&other.packets);
        for (offset, place) in &other.places {
            let value = values.get(place.parameter as usize).copied();
            let value = value.unwrap_or(0).wrapping_add(place.addend);
            let at = base + *offset as usize;
            let bytes = value.to_le_bytes();
            if place.width == 4 && value > u64::from(u32::MAX) {
                self.packets.truncate(base);
                self.meetings.truncate(met);
                let text = format!(
                    "parameter {} is {value:#x}, which does not fit 4 bytes",
                    place.parameter
                );
                return refuse(Status::InvalidArgument, text);
            }
            self.packets[at..at + place.width as usize]
                .copy_from_slice(&bytes[..place.width as usize]);
        }
        let starts = other.starts.iter().map(|start| base as u32 + start);
        self.starts.extend(starts);
        for owner in &other.owners {
            self.own(owner.clone());
        }
        Ok(())
    }

    fn check_room(&self, bytes: usize, places: usize) -> Result<()> {
        let places = (self.places.len() + places) * size_of::<Relocation>();
        let length = size_of::<GraphHead>() + places + self.packets.len() + bytes;
        if length as u64 > MAX_IMAGE {
            let text = format!("an image of {length} bytes, {MAX_IMAGE} at most");
            return refuse(Status::OutOfResources, text);
        }
        Ok(())
    }

    /// Keeps an allocation alive.
    fn own(&mut self, owner: Owner) {
        if self.owners.iter().all(|o| o.address() != owner.address()) {
            self.owners.push(owner);
        }
    }
}
