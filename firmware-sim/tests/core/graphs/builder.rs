//! Images, put together.

use vmlu_abi::graph::{GraphHead, Relocation, MAGIC, VERSION};
use vmlu_abi::packet::{self, op, GraphLaunch, PacketHeader};
use vmlu_abi::rpc::{Function, Graph, GraphImage};
use vmlu_abi::Wire;

use crate::harness::*;

/// An image under construction.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub packets: Vec<u8>,
    pub relocations: Vec<Relocation>,
    pub commands: u32,
    pub parameters: u32,
}

impl Builder {
    /// Adds a packet; the offset of its body.
    pub fn packet(&mut self, opcode: u16, body: &[u8]) -> u32 {
        let at = self.packets.len();
        self.packets.extend(packet_bytes(opcode, body));
        // Its correlation tells which it is.
        let mark = 0x1000 + u64::from(self.commands);
        self.packets[at + 8..at + 16].copy_from_slice(&mark.to_le_bytes());
        self.commands += 1;
        (at + size_of::<PacketHeader>()) as u32
    }

    pub fn nops(mut self, count: u32) -> Self {
        (0..count).for_each(|_| {
            self.packet(op::NOP, &[]);
        });
        self
    }

    pub fn fill(&mut self, dst: u64, length: u64, byte: u8) -> u32 {
        let fill = packet::Fill {
            dst,
            length,
            pattern: u64::from(byte),
            width: 1,
            reserved: 0,
        };
        self.packet(op::FILL, fill.as_bytes())
    }

    pub fn notify(&mut self, index: u32, value: u32) -> u32 {
        self.packet(op::NOTIFY, packet::Notify { index, value }.as_bytes())
    }

    /// Puts a parameter at an offset.
    pub fn place(&mut self, offset: u32, width: u32, parameter: u32, addend: u64) {
        self.parameters = self.parameters.max(parameter + 1);
        self.relocations.push(Relocation {
            offset,
            parameter,
            width,
            reserved: 0,
            addend,
        });
    }

    pub fn image(&self) -> Vec<u8> {
        let relocations: Vec<u8> = self
            .relocations
            .iter()
            .flat_map(|r| r.as_bytes().to_vec())
            .collect();
        let head = GraphHead {
            magic: MAGIC,
            version: VERSION,
            length: (size_of::<GraphHead>() + relocations.len() + self.packets.len()) as u64,
            commands: self.commands,
            parameters: self.parameters,
            relocations: self.relocations.len() as u32,
            reserved: 0,
        };
        [head.as_bytes(), &relocations, &self.packets].concat()
    }
}

/// Where a context keeps images for the card to take.
pub struct Shelf<'a> {
    pub chip: &'a Chip,
    pub context: &'a Context<'a>,
    pub va: u64,
    offset: u64,
    length: u64,
}

impl<'a> Shelf<'a> {
    pub fn new(chip: &'a Chip, context: &'a Context<'a>, length: u64) -> Self {
        let (va, offset) = context.alloc(length);
        Self {
            chip,
            context,
            va,
            offset,
            length,
        }
    }

    pub fn put(&self, image: &[u8]) {
        let to = self.chip.memory.bytes(self.offset, self.length).unwrap();
        assert!(to.copy_from(image));
    }

    pub fn create(&self, image: &[u8]) -> Answer<u64> {
        self.put(image);
        create(self.context, 0, self.va, image.len() as u64)
    }

    pub fn update(&self, graph: u64, image: &[u8]) -> Answer<()> {
        self.put(image);
        let image = GraphImage {
            graph,
            address: self.va,
            length: image.len() as u64,
        };
        self.context.call(Function::GraphUpdate, &image)
    }
}

pub fn create(context: &Context<'_>, graph: u64, address: u64, length: u64) -> Answer<u64> {
    let image = GraphImage {
        graph,
        address,
        length,
    };
    let graph: Answer<Graph> = context.call(Function::GraphCreate, &image);
    graph.map(|g| g.graph)
}

pub fn destroy(context: &Context<'_>, graph: u64) -> Answer<()> {
    context.call(Function::GraphDestroy, &Graph { graph })
}

pub fn launch_body(graph: u64, parameters: &[u64]) -> Vec<u8> {
    let launch = GraphLaunch {
        graph,
        parameters: parameters.len() as u32,
        reserved: 0,
    };
    let parameters: Vec<u8> = parameters.iter().flat_map(|p| p.to_le_bytes()).collect();
    [launch.as_bytes(), &parameters].concat()
}

pub fn launch(queue: &Queue<'_>, graph: u64, parameters: &[u64]) -> u64 {
    queue.submit(op::GRAPH_LAUNCH, &launch_body(graph, parameters))
}
