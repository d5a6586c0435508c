//! Strided copies against a plain reference, and boxes that are not right.

use std::time::Duration;

use proptest::prelude::*;
use vmlu_abi::packet::{op, CopyStrided};
use vmlu_abi::rpc::{ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{Status, Wire};

use crate::harness::*;

const SIZE: u64 = 1 << 16;

fn bytes_at(chip: &Chip, offset: u64, length: u64) -> Vec<u8> {
    let mut to = vec![0; length as usize];
    assert!(chip.memory.bytes(offset, length).unwrap().copy_to(&mut to));
    to
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..SIZE)
        .map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed)
        .collect()
}

/// What a copy does, byte for byte; offsets count from the two memories' beginnings.
fn reference(c: &CopyStrided, to: &mut [u8], from: &[u8]) {
    for z in 0..c.depth {
        for y in 0..c.height {
            for x in 0..c.width {
                let write = c.dst + z * c.dst_slice + y * c.dst_pitch + x;
                let read = c.src + z * c.src_slice + y * c.src_pitch + x;
                to[write as usize] = from[read as usize];
            }
        }
    }
}

fn strided() -> impl Strategy<Value = CopyStrided> {
    let size = prop_oneof![Just(1_u64), 1..40_u64];
    let gap = || prop_oneof![2 => Just(0_u64), 1 => 0..50_u64];
    (
        (size.clone(), 0..20_u64, 0..6_u64),
        (gap(), gap(), gap(), gap()),
        (0..300_u64, 0..300_u64),
        any::<bool>(),
    )
        .prop_map(
            |((width, height, depth), (a, b, c, d), (dst, src), repeat)| {
                let (dst_pitch, src_pitch) = (width + a, if repeat { 0 } else { width + b });
                CopyStrided {
                    dst,
                    src,
                    width,
                    height,
                    depth,
                    dst_pitch,
                    dst_slice: (height * dst_pitch).max(width) + c,
                    src_pitch,
                    src_slice: height * src_pitch + d,
                }
            },
        )
}

/// A chip with a source and a destination each in device memory, in contiguous host memory, and in host memory in pieces.
struct Memories<'a> {
    chip: &'a Chip,
    queue: Queue<'a>,
    /// Addresses, and the places of their pages: `true` for host memory.
    places: Vec<(u64, bool, Vec<u64>)>,
}

impl<'a> Memories<'a> {
    fn new(chip: &'a Chip, context: &Context<'a>) -> Self {
        let mut places = Vec::new();
        for _ in 0..2 {
            let (va, offset) = context.alloc(SIZE);
            let pages = (0..SIZE / PAGE).map(|p| offset + p * PAGE).collect();
            places.push((va, false, pages));
            let dma = chip.pages(SIZE);
            let va = context.map(dma, SIZE, ACCESS_READ | ACCESS_WRITE);
            places.push((va, true, (0..SIZE / PAGE).map(|p| dma + p * PAGE).collect()));
            let dma = chip.pages(2 * SIZE);
            let pages: Vec<u64> = (0..SIZE / PAGE).map(|p| dma + 2 * p * PAGE).collect();
            let va = context.addresses(SIZE);
            let map = vmlu_abi::rpc::HostMap {
                va,
                length: SIZE,
                offset: 0,
                count: pages.len() as u32,
                access: ACCESS_READ | ACCESS_WRITE,
                flags: 0,
            };
            let pieces: Vec<(u64, u64)> = pages.iter().map(|p| (*p, PAGE)).collect();
            context.map_pieces(map, &pieces).unwrap();
            places.push((va, true, pages));
        }
        Self {
            chip,
            queue: context.queue(),
            places,
        }
    }

    fn get(&self, at: usize) -> Vec<u8> {
        let (_, host, pages) = &self.places[at];
        let page = |p: &u64| match host {
            true => self.chip.host_bytes(*p, PAGE as usize),
            false => bytes_at(self.chip, *p, PAGE),
        };
        pages.iter().flat_map(page).collect()
    }

    fn set(&self, at: usize, bytes: &[u8]) {
        let (_, host, pages) = &self.places[at];
        for (page, bytes) in pages.iter().zip(bytes.chunks(PAGE as usize)) {
            let to = match host {
                true => self.chip.host.arena.bytes(*page - BASE, PAGE),
                false => self.chip.memory.bytes(*page, PAGE),
            };
            assert!(to.unwrap().copy_from(bytes));
        }
    }

    fn check(&self, dst: usize, src: usize, copy: CopyStrided) {
        let from = pattern(7);
        let mut to = pattern(99);
        self.set(src, &from);
        self.set(dst, &to);
        let body = CopyStrided {
            dst: copy.dst + self.places[dst].0,
            src: copy.src + self.places[src].0,
            ..copy
        };
        self.queue
            .ok(self.queue.submit(op::COPY_STRIDED, body.as_bytes()));
        reference(&copy, &mut to, &from);
        assert!(self.get(dst) == to, "{copy:?} from {src} to {dst}");
        assert!(self.get(src) == from);
    }
}

#[test]
fn boxes_are_copied() {
    let chip = Chip::new();
    let context = chip.context();
    let memories = Memories::new(&chip, &context);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (strided(), 0..3_usize, 3..6_usize);
    runner
        .run(&cases, |(copy, dst, src)| {
            memories.check(dst, src, copy);
            Ok(())
        })
        .unwrap();
    // Across the pages of host memory, and of whole memories.
    let wide = CopyStrided {
        dst: 1,
        src: 3,
        width: PAGE + 100,
        height: 3,
        depth: 2,
        dst_pitch: PAGE + 200,
        dst_slice: 4 * PAGE,
        src_pitch: PAGE + 300,
        src_slice: 5 * PAGE,
    };
    let all = CopyStrided {
        dst: 0,
        src: 0,
        width: 256,
        height: 16,
        depth: 16,
        dst_pitch: 256,
        dst_slice: 4096,
        src_pitch: 256,
        src_slice: 4096,
    };
    for dst in 0..3 {
        for src in 3..6 {
            memories.check(dst, src, wide);
            memories.check(dst, src, all);
        }
    }
}

#[test]
fn bad_boxes_are_refused() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, a_offset) = context.alloc(SIZE);
    let (b, b_offset) = context.alloc(SIZE);
    let good = CopyStrided {
        dst: a,
        src: b,
        width: 64,
        height: 4,
        depth: 2,
        dst_pitch: 64,
        dst_slice: 256,
        src_pitch: 64,
        src_slice: 256,
    };
    let before = bytes_at(&chip, a_offset, SIZE);
    assert!(chip
        .memory
        .bytes(b_offset, SIZE)
        .unwrap()
        .copy_from(&pattern(1)));
    let refused = |change: &dyn Fn(&mut CopyStrided), status: Status, operand: u16| {
        let mut copy = good;
        change(&mut copy);
        let value = queue.submit(op::COPY_STRIDED, copy.as_bytes());
        assert_eq!(queue.done(value), status, "{copy:?}");
        let record = queue.record(true);
        assert_eq!(record.operand, operand, "{}", rule(&record));
        assert!(bytes_at(&chip, a_offset, SIZE) == before);
    };
    refused(&|c| c.dst_pitch = 63, Status::BadOperand, 0);
    refused(&|c| c.dst_slice = 255, Status::BadOperand, 0);
    refused(
        &|c| (c.height, c.dst_slice) = (1, 63),
        Status::BadOperand,
        0,
    );
    refused(&|c| c.depth = u64::MAX, Status::BadOperand, 0);
    refused(&|c| c.height = u64::MAX, Status::BadOperand, 0);
    refused(&|c| c.width = u64::MAX, Status::BadOperand, 0);
    refused(
        &|c| (c.width, c.height, c.depth) = (u64::MAX, 1, 1),
        Status::BadOperand,
        0,
    );
    refused(&|c| c.dst_slice = u64::MAX, Status::BadOperand, 0);
    refused(
        &|c| (c.depth, c.dst_pitch) = (1, u64::MAX),
        Status::BadOperand,
        0,
    );
    refused(&|c| c.src_slice = u64::MAX, Status::BadOperand, 1);
    refused(&|c| c.src_pitch = u64::MAX / 3, Status::BadOperand, 1);
    refused(&|c| c.dst = u64::MAX - 100, Status::BadOperand, 0);
    refused(&|c| c.src = u64::MAX - 100, Status::BadOperand, 1);
    refused(&|c| c.dst = a + SIZE - 511, Status::OperandFault, 0);
    refused(&|c| c.src = b + SIZE - 511, Status::OperandFault, 1);
    refused(&|c| c.dst_slice = SIZE - 255, Status::OperandFault, 0);
    refused(&|c| c.src_slice = SIZE - 255, Status::OperandFault, 1);
    refused(&|c| c.src = a - 1, Status::OperandFault, 1);
    refused(&|c| c.dst = 0, Status::OperandFault, 0);
    let read_only = context.map(READ_ONLY_DMA, PAGE, ACCESS_READ);
    refused(&|c| c.dst = read_only, Status::OperandFault, 0);

    // Nothing is touched where nothing is to be copied, wherever it would be.
    for change in [
        |c: &mut CopyStrided| c.width = 0,
        |c: &mut CopyStrided| c.height = 0,
        |c: &mut CopyStrided| c.depth = 0,
    ] {
        let mut copy = CopyStrided {
            dst: 1,
            src: 2,
            dst_slice: u64::MAX,
            ..good
        };
        change(&mut copy);
        queue.ok(queue.submit(op::COPY_STRIDED, copy.as_bytes()));
    }
    // The largest that fits.
    let last = CopyStrided {
        dst: a + SIZE - 512,
        src: b + SIZE - 512,
        ..good
    };
    queue.ok(queue.submit(op::COPY_STRIDED, last.as_bytes()));
    assert!(bytes_at(&chip, a_offset + SIZE - 512, 512) == pattern(1)[SIZE as usize - 512..]);
    // In itself, and over itself: undefined bytes, nothing worse.
    let over = CopyStrided {
        src: a + 10,
        ..good
    };
    queue.ok(queue.submit(op::COPY_STRIDED, over.as_bytes()));
}

/// A copy of many small rows stops soon once its queue or its memory goes.
#[test]
fn a_copy_of_small_rows_is_cancelled() {
    let chip = Chip::new();
    let context = chip.context();
    let length = 64_u64 << 20;
    let (a, _) = context.alloc(length);
    let (b, _) = context.alloc(length);
    for round in 0..4 {
        let queue = context.queue();
        let copy = CopyStrided {
            dst: a,
            src: b,
            width: 1,
            height: length / 2,
            depth: 1,
            dst_pitch: 2,
            dst_slice: 0,
            src_pitch: 2,
            src_slice: 0,
        };
        queue.submit(op::COPY_STRIDED, copy.as_bytes());
        std::thread::sleep(Duration::from_millis(2));
        if round < 3 {
            within(SOON, "the end of a queue", || queue.destroy().unwrap());
        } else {
            within(SOON, "a free", || context.free(b).unwrap());
            let status = queue.done(1);
            assert!(
                matches!(
                    status,
                    // While it ran, before it began, after it ended.
                    Status::AddressFault | Status::OperandFault | Status::Ok
                ),
                "{status:?}"
            );
        }
    }
}
