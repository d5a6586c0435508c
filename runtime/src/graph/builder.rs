//! Graphs built command by command.

use vmlu_abi::Status;
use vmlu_ops::Descriptor;

use super::{operands, refuse, Graph, Param};
use crate::error::{Error, Result};
use crate::memory::Owner;
use crate::{Buffer, PinnedBuffer};

/// Placeholder addresses: bit 62, the parameter above bit 40, the distance from its start below. No context has memory there.
const PLACEHOLDER: u64 = 1 << 62;
/// Bits of the distance.
const SPAN: u32 = 40;

/// Builds a graph command by command, without a queue or a card. Parameters that stand for addresses are written as placeholder addresses
/// ([`GraphBuilder::address`]), from which tensors and copies are made as usual.
#[derive(Default)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new parameter.
    ///
    /// # Errors
    ///
    /// `Status::OutOfResources` beyond 500 parameters.
    pub fn parameter(&mut self) -> Result<Param> {
        self.graph.new_parameter()
    }

    /// The placeholder for a parameter that is an address: operands that lie within 1 TiB behind it become the parameter plus their
    /// distance.
    pub fn address(&self, param: Param) -> u64 {
        PLACEHOLDER | u64::from(param.index) << SPAN
    }

    /// Adds a command with its body as it stands in the packet; its number. Placeholders in its address fields become parameters.
    ///
    /// # Errors
    ///
    /// `Status::CaptureUnsupported` for opcodes that no graph can have, such as waits; `Status::BadLength` and `Status::OutOfResources` if
    /// it does not fit a packet or the graph; `Status::InvalidArgument` for the placeholder of a parameter that the graph does not have.
    pub fn command(&mut self, opcode: u16, body: &[u8]) -> Result<usize> {
        let Some(fields) = operands::address_fields(opcode) else {
            let text = format!("opcode {opcode:#06x} cannot be part of a graph");
            return refuse(Status::CaptureUnsupported, text);
        };
        let fields = fields.into_iter().filter_map(|field| {
            let bytes = body.get(field..field + 8)?;
            let value = u64::from_le_bytes(bytes.try_into().ok()?);
            (value >> 62 == 1).then_some((field, value & !PLACEHOLDER))
        });
        let fields: Vec<_> = fields.collect();
        let parameters = u64::from(self.graph.parameters);
        if let Some((_, value)) = fields.iter().find(|(_, v)| v >> SPAN >= parameters) {
            let text = format!("the graph has no parameter {}", value >> SPAN);
            return refuse(Status::InvalidArgument, text);
        }
        let command = self.graph.push(opcode, 0, &[body])?;
        for (field, value) in fields {
            let at = self.graph.place_at(command, field, 8)?;
            let index = (value >> SPAN) as u32;
            let addend = value & ((1 << SPAN) - 1);
            self.graph.set_place(at, Param { index }, 8, addend);
        }
        Ok(command)
    }

    /// Adds an operator; its number. Its rules are checked here.
    pub fn operator<D: Descriptor>(&mut self, descriptor: &D) -> Result<usize> {
        if let Err(error) = descriptor.check() {
            return Err(Error::Operator {
                call: D::INFO.name,
                operand: error.operand,
                rule: error.rule,
            });
        }
        self.command(D::OPCODE, descriptor.as_bytes())
    }

    /// Has a parameter that is a number go to a place in a command's body; see [`Graph::place`].
    pub fn place(&mut self, param: Param, command: usize, offset: usize, width: u32) -> Result<()> {
        self.graph.place(param, command, offset, width, 0)
    }

    /// Keeps a buffer alive that commands name by its address.
    pub fn keep(&mut self, buffer: &Buffer) {
        self.graph.own(Owner::Device(buffer.clone()));
    }

    /// Keeps pinned memory alive that commands name by its address.
    pub fn keep_pinned(&mut self, buffer: &PinnedBuffer) {
        self.graph.own(Owner::Pinned(buffer.clone()));
    }

    /// The graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
