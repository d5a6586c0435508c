//! Images that are not right, and limits.

use proptest::prelude::*;
use vmlu_abi::graph::{GraphHead, Relocation, MAX_GRAPHS, MAX_IMAGE, MAX_IMAGES, MAX_PARAMETERS};
use vmlu_abi::packet::{self, op, PacketHeader, FLAG_INDIRECT};
use vmlu_abi::rpc::{Function, GraphImage};
use vmlu_abi::{Status, Wire};

use super::builder::*;
use crate::harness::*;

/// Two fills around a NOP, with two places in the first.
fn small(a: u64) -> Builder {
    let mut graph = Builder::default();
    let body = graph.fill(a, 64, 1);
    graph.place(body, 8, 0, 0);
    graph.place(body + 8, 4, 1, 0);
    let mut graph = graph.nops(1);
    graph.fill(a + 64, 64, 2);
    graph
}

const FIRST_RELOCATION: usize = size_of::<GraphHead>();
const SECOND_RELOCATION: usize = FIRST_RELOCATION + size_of::<Relocation>();
const FIRST_PACKET: usize = SECOND_RELOCATION + size_of::<Relocation>();

/// Every field of an image, wrong while all others are right.
#[test]
fn each_field_is_checked() {
    use Status::*;
    let chip = Chip::new();
    let context = chip.context();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, _) = context.alloc(1 << 16);
    let good = small(a).image();
    let graph = shelf.create(&good).unwrap();
    destroy(&context, graph).unwrap();
    let u32s = |at: usize, value: u32, status: Status| {
        let mut image = good.clone();
        image[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(shelf.create(&image), Err(status), "{at}: {value:#x}");
    };
    // Head: magic, version, length, commands, parameters, relocations, padding.
    u32s(0, 0, InvalidArgument);
    for version in [0, 2, u32::MAX] {
        u32s(4, version, VersionMismatch);
    }
    let length = good.len() as u32;
    for wrong in [
        0,
        length - 64,
        length - 1,
        length + 1,
        length + 64,
        u32::MAX,
    ] {
        u32s(8, wrong, BadLength);
    }
    u32s(12, 1, BadLength);
    for commands in [0, 2, 4, u32::MAX] {
        u32s(16, commands, BadLength);
    }
    for (parameters, status) in [
        (0, InvalidArgument),
        (1, InvalidArgument),
        (MAX_PARAMETERS + 1, InvalidArgument),
        (u32::MAX, InvalidArgument),
    ] {
        u32s(20, parameters, status);
    }
    for relocations in [0, 1, 3, u32::MAX] {
        let mut image = good.clone();
        image[24..28].copy_from_slice(&relocations.to_le_bytes());
        assert!(shelf.create(&image).is_err(), "{relocations}");
    }
    u32s(28, 1, ReservedNotZero);
    // A relocation: into a header, out of a body, into padding, behind everything, over another, not aligned.
    let body = size_of::<PacketHeader>() as u32;
    for offset in [0, 8, 12, 48, 60, 64, 64 + 16, 3 * 64, u32::MAX - 3] {
        u32s(SECOND_RELOCATION, offset, InvalidArgument);
    }
    for offset in [body, body + 4, body + 9] {
        u32s(SECOND_RELOCATION, offset, InvalidArgument);
    }
    u32s(FIRST_RELOCATION, body + 4, InvalidArgument);
    u32s(FIRST_RELOCATION, body + 16, InvalidArgument);
    u32s(FIRST_RELOCATION + 4, 2, InvalidArgument);
    u32s(FIRST_RELOCATION + 4, u32::MAX, InvalidArgument);
    for width in [0, 1, 2, 3, 5, 7, 9, 16, u32::MAX] {
        u32s(FIRST_RELOCATION + 8, width, InvalidArgument);
    }
    u32s(FIRST_RELOCATION + 12, 1, ReservedNotZero);
    // A packet: opcode, version, units, flags, padding.
    let bytes = |at: usize, value: u8, status: Status| {
        let mut image = good.clone();
        image[FIRST_PACKET + at] = value;
        assert_eq!(shelf.create(&image), Err(status), "{at}: {value:#x}");
    };
    bytes(1, 0xff, UnknownOpcode);
    bytes(2, 0, VersionMismatch);
    bytes(2, 2, VersionMismatch);
    bytes(3, 0, FramingError);
    bytes(3, 4, FramingError);
    bytes(3, 65, FramingError);
    bytes(3, 255, FramingError);
    bytes(3, 2, ReservedNotZero);
    bytes(4, 2, ReservedNotZero);
    bytes(7, 0x80, ReservedNotZero);
    bytes(63, 1, ReservedNotZero);
    bytes(64 + 16, 1, ReservedNotZero);
    assert_eq!(chip.telemetry().packets, 0);
    // What may not be part of a graph.
    for (opcode, body) in [
        (op::WAIT, packet::Wait { queue: 1, value: 0 }.as_bytes()),
        (op::GRAPH_LAUNCH, &launch_body(graph, &[])),
    ] {
        let mut image = Builder::default();
        image.packet(opcode, body);
        assert_eq!(shelf.create(&image.image()), Err(NotSupported));
    }
    let mut image = Builder::default();
    let place = packet::Indirect {
        address: a,
        length: 32,
    };
    image.packet(op::NOP, place.as_bytes());
    let at = 4;
    image.packets[at] |= FLAG_INDIRECT as u8;
    assert!(shelf.create(&image.image()).is_err());
    let mut image = small(a);
    image.packets[at] |= FLAG_INDIRECT as u8;
    assert_eq!(shelf.create(&image.image()), Err(NotSupported));
    // Nothing of all that stays.
    shelf.create(&good).unwrap();
}

/// Cut off anywhere, and where it is.
#[test]
fn truncated_images() {
    let chip = Chip::new();
    let context = chip.context();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, _) = context.alloc(1 << 16);
    let good = small(a).image();
    shelf.put(&good);
    for length in 0..good.len() as u64 {
        assert_eq!(
            create(&context, 0, shelf.va, length),
            Err(Status::BadLength),
            "{length}"
        );
        let mut image = good[..length as usize].to_vec();
        if length >= 16 {
            image[8..16].copy_from_slice(&length.to_le_bytes());
            assert!(shelf.create(&image).is_err(), "{length}");
            shelf.put(&good);
        }
    }
    let length = good.len() as u64;
    for (address, length, status) in [
        (shelf.va, MAX_IMAGE + 1, Status::BadLength),
        (shelf.va, u64::MAX, Status::BadLength),
        (0, length, Status::AddressFault),
        (shelf.va - 1, length, Status::AddressFault),
        (
            shelf.va + (1 << 20) - length + 1,
            length,
            Status::AddressFault,
        ),
        (u64::MAX - 10, length, Status::AddressFault),
        (shelf.va, MAX_IMAGE, Status::AddressFault),
    ] {
        assert_eq!(create(&context, 0, address, length), Err(status));
    }
    assert_eq!(
        create(&context, 1, shelf.va, length),
        Err(Status::InvalidArgument)
    );
    let none = GraphImage {
        graph: 0,
        address: shelf.va,
        length,
    };
    let answer: Answer<()> = context.call(Function::GraphUpdate, &none);
    assert_eq!(answer, Err(Status::BadHandle));
}

#[test]
fn graphs_are_counted() {
    let chip = Chip::new();
    let context = chip.context();
    let shelf = Shelf::new(&chip, &context, MAX_IMAGE);
    let image = Builder::default().nops(1).image();
    let graphs: Vec<u64> = (0..MAX_GRAPHS)
        .map(|_| shelf.create(&image).unwrap())
        .collect();
    assert_eq!(shelf.create(&image), Err(Status::OutOfResources));
    destroy(&context, graphs[5]).unwrap();
    shelf.create(&image).unwrap();
    graphs.iter().enumerate().for_each(|(i, g)| {
        assert_eq!(destroy(&context, *g).is_ok(), i != 5);
    });

    // Bytes of all contexts of the chip together.
    let other = chip.context_of(2);
    let shelf_2 = Shelf::new(&chip, &other, MAX_IMAGE);
    let nops = (MAX_IMAGE as u32 - 32) / 64;
    let large = Builder::default().nops(nops).image();
    let each = large.len() as u64;
    let mut made = Vec::new();
    for i in 0..MAX_IMAGES / each {
        let shelf = if i % 2 == 0 { &shelf } else { &shelf_2 };
        made.push(shelf.create(&large).unwrap());
    }
    assert_eq!(shelf.create(&large), Err(Status::OutOfResources));
    assert_eq!(shelf_2.create(&large), Err(Status::OutOfResources));
    // A refused image is not counted, nor are those of a context that is gone.
    for _ in 0..10 {
        assert!(shelf.create(&image[..64]).is_err());
    }
    other.destroy().unwrap();
    for _ in 0..MAX_IMAGES / each / 2 {
        shelf.create(&large).unwrap();
    }
    assert_eq!(shelf.create(&large), Err(Status::OutOfResources));
    destroy(&context, made[0]).unwrap();
    shelf.create(&large).unwrap();
    // The last launch lets go of an image that is destroyed.
    let queue = context.queue();
    queue.ok(launch(&queue, made[2], &[]));
    destroy(&context, made[2]).unwrap();
    shelf.create(&large).unwrap();
}

fn body_words() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(
        prop_oneof![3 => 0_u64..10, 2 => VA..VA + (1 << 18), 1 => any::<u64>()],
        0..12,
    );
    words.prop_map(|w| w.iter().flat_map(|w| w.to_le_bytes()).collect())
}

fn builder() -> impl Strategy<Value = Builder> {
    let opcodes: Vec<u16> = vmlu_firmware::kernels::KERNELS
        .iter()
        .map(|k| k.opcode)
        .collect();
    let packet = prop_oneof![
        9 => Just((op::NOP, Vec::new())),
        9 => (VA..VA + (1 << 18), 0..5000_u64, any::<u8>()).prop_map(|(dst, length, byte)| {
            let fill = packet::Fill {
                dst,
                length,
                pattern: u64::from(byte),
                width: 1,
                reserved: 0,
            };
            (op::FILL, fill.as_bytes().to_vec())
        }),
        6 => (VA..VA + (1 << 18), VA..VA + (1 << 18), 0..5000_u64).prop_map(|(dst, src, length)| {
            let copy = packet::Copy { dst, src, length };
            (op::COPY, copy.as_bytes().to_vec())
        }),
        3 => (0..4_u32, any::<u32>()).prop_map(|(index, value)| {
            let notify = packet::Notify { index, value };
            (op::NOTIFY, notify.as_bytes().to_vec())
        }),
        4 => (prop::sample::select(opcodes), prop::collection::vec(0..3_u8, 2000)).prop_map(
            |(opcode, mut words)| {
                let kernel = vmlu_firmware::kernels::find(opcode).unwrap();
                words.truncate(kernel.body);
                (opcode, words)
            }
        ),
        1 => (any::<u16>(), body_words()),
    ];
    // In which packet, which word of its body, what goes there.
    let place = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop_oneof![20 => Just(8_u32), 8 => Just(4), 1 => any::<u32>()],
        0..4_u32,
        any::<u64>(),
    );
    let damage = (any::<prop::sample::Index>(), any::<u8>());
    (
        prop::collection::vec(packet, 0..12),
        prop::collection::vec(place, 0..4),
        prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(damage, 1..3)],
    )
        .prop_map(|(packets, places, damage)| {
            let mut builder = Builder::default();
            let bodies: Vec<(u32, usize)> = packets
                .iter()
                .map(|(opcode, body)| (builder.packet(*opcode, body), body.len()))
                .filter(|(_, length)| *length >= 8)
                .collect();
            let mut placed: Vec<_> = places
                .into_iter()
                .filter(|_| !bodies.is_empty())
                .map(|(packet, word, width, parameter, addend)| {
                    let (body, length) = bodies[packet.index(bodies.len())];
                    (
                        body + 8 * word.index(length / 8) as u32,
                        width,
                        parameter,
                        addend % 100,
                    )
                })
                .collect();
            placed.sort_by_key(|p| p.0);
            placed.dedup_by_key(|p| p.0);
            for (offset, width, parameter, addend) in placed {
                builder.place(offset, width, parameter, addend);
            }
            for (at, byte) in damage {
                if !builder.packets.is_empty() {
                    let at = at.index(builder.packets.len());
                    builder.packets[at] = byte;
                }
            }
            builder
        })
}

/// Whatever an image says, it is refused or it runs; the queue goes on, and no memory of others changes.
#[test]
fn random_images() {
    let chip = Chip::new();
    let context = chip.context();
    context.alloc_at(VA, 1 << 18).unwrap();
    let other = chip.context_of(2);
    let (_, canary) = other.alloc(1 << 16);
    let marks = vec![0xc5; 1 << 16];
    assert!(chip
        .memory
        .bytes(canary, 1 << 16)
        .unwrap()
        .copy_from(&marks));
    let queue = context.queue();
    let images = Chip::pages(&chip, 1 << 20);
    let shelf = vmlu_abi::rpc::HostMap {
        va: VA + (1 << 30),
        length: 1 << 20,
        offset: 0,
        count: 1,
        access: 1,
        flags: 0,
    };
    context.map_pieces(shelf, &[(images, 1 << 20)]).unwrap();
    let put = |bytes: &[u8]| {
        let to = chip.host.arena.bytes(images - BASE, 1 << 20).unwrap();
        assert!(to.copy_from(bytes));
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let raw = prop::collection::vec(any::<u8>(), 0..400);
    let cases = prop_oneof![
        9 => builder().prop_map(|b| (b.image(), b.parameters)),
        1 => (builder(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(b, at, byte)| {
            let mut image = b.image();
            let at = at.index(image.len());
            image[at] = byte;
            (image, b.parameters)
        }),
        1 => raw.prop_map(|image| (image, 0)),
    ];
    let parameters = prop::collection::vec(prop_oneof![VA..VA + (1 << 18), any::<u64>()], 4);
    let ran = std::cell::Cell::new(0);
    runner
        .run(&(cases, parameters), |((image, count), parameters)| {
            put(&image);
            match create(&context, 0, VA + (1 << 30), image.len() as u64) {
                Err(status) => prop_assert_ne!(status, Status::Internal),
                Ok(graph) => {
                    ran.set(ran.get() + 1);
                    let count = (count as usize).min(parameters.len());
                    let value = launch(&queue, graph, &parameters[..count]);
                    let status = queue.done(value);
                    prop_assert_ne!(status, Status::Internal);
                    prop_assert_ne!(
                        status,
                        Status::KernelPanic,
                        "{}",
                        rule(&queue.record(false))
                    );
                    queue.record(true);
                    destroy(&context, graph).unwrap();
                }
            }
            Ok(())
        })
        .unwrap();
    queue.ok(queue.nop());
    assert!(ran.get() > 200, "only {} images were good", ran.get());
    let mut after = vec![0; 1 << 16];
    assert!(chip
        .memory
        .bytes(canary, 1 << 16)
        .unwrap()
        .copy_to(&mut after));
    assert!(after == marks, "another context's memory changed");
}
