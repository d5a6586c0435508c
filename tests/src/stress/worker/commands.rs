//! Random commands, good and bad.

use vmlu::abi::packet::{self, op};
use vmlu::abi::Wire;
use vmlu::ops::{binary, matmul, tensor, Descriptor};
use vmlu::DataType;

use super::super::Random;

/// Where commands work: a range of device memory, and one of pinned memory, of [`RANGE`] bytes each.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Device memory.
    pub device: u64,
    /// Pinned host memory.
    pub host: u64,
}

/// Bytes of each range of a [`Place`].
pub const RANGE: u64 = 1 << 20;
/// Most bytes of a body of these.
pub const MAX_BODY: usize = 2048;

/// An opcode and a body.
pub type Command = (u16, Vec<u8>);

/// A command that works, unless its memory is taken away.
pub fn good(random: &mut Random, place: &Place) -> Command {
    let half = RANGE / 2;
    match random.below(10) {
        0..3 => (op::NOP, Vec::new()),
        3..5 => {
            let length = random.mostly_below(8192, half);
            let fill = packet::Fill {
                dst: [place.device, place.host][random.below(2) as usize],
                length,
                pattern: random.below(256),
                width: 1,
                reserved: 0,
            };
            (op::FILL, fill.as_bytes().to_vec())
        }
        5..7 => {
            let ends = [place.device, place.device + half, place.host];
            let from = random.below(3) as usize;
            let to = (from + 1 + random.below(2) as usize) % 3;
            let copy = packet::Copy {
                dst: ends[to],
                src: ends[from],
                length: random.mostly_below(8192, half),
            };
            (op::COPY, copy.as_bytes().to_vec())
        }
        7 => {
            let length = random.below(MAX_BODY as u64 - 16) as usize;
            let write = packet::WriteInline {
                dst: place.device + random.below(4096),
                length: length as u32,
                reserved: 0,
            };
            let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
            (op::WRITE, [write.as_bytes(), &data].concat())
        }
        8 => {
            let n = 1 + random.below(2000);
            let desc = |at| tensor::contiguous(DataType::F32, place.device + at, &[n]);
            let add = binary::Binary {
                a: desc(0),
                b: desc(8192),
                out: desc(16384),
                ..binary::Binary::zeroed()
            };
            (binary::Binary::OPCODE, add.as_bytes().to_vec())
        }
        _ => {
            let n = 1 + random.mostly_below(48, 256);
            let desc = |at| tensor::contiguous(DataType::F32, place.device + at, &[n, n]);
            let product = matmul::Matmul {
                a: desc(0),
                b: desc(RANGE / 4),
                out: desc(half),
                bias: tensor::absent(),
                alpha: 1.0,
                ..matmul::Matmul::zeroed()
            };
            (matmul::Matmul::OPCODE, product.as_bytes().to_vec())
        }
    }
}

/// A command that the card must refuse.
pub fn bad(random: &mut Random, place: &Place) -> Command {
    match random.below(6) {
        0 => (random.below(0x7000) as u16 | 0x8000, vec![1; 24]),
        1 => (op::NOP, vec![0, 0, 1]),
        2 => {
            let copy = packet::Copy {
                dst: place.device + RANGE - random.below(64),
                src: place.device,
                length: 64 + random.below(4096),
            };
            (op::COPY, copy.as_bytes().to_vec())
        }
        3 => (binary::Binary::OPCODE, vec![0; 40]),
        4 => {
            let fill = packet::Fill {
                dst: random.next(),
                length: random.next(),
                pattern: 1,
                width: 1,
                reserved: 0,
            };
            (op::FILL, fill.as_bytes().to_vec())
        }
        _ => {
            let wait = packet::Wait {
                queue: random.next(),
                value: 1,
            };
            (op::WAIT, wait.as_bytes().to_vec())
        }
    }
}

/// A wait for a timeline.
pub fn wait(queue: u64, value: u64) -> Command {
    (op::WAIT, packet::Wait { queue, value }.as_bytes().to_vec())
}

/// A notifier of the pool of 512.
pub fn notify(random: &mut Random) -> Command {
    let notify = packet::Notify {
        index: random.below(512) as u32,
        value: random.next() as u32,
    };
    (op::NOTIFY, notify.as_bytes().to_vec())
}
