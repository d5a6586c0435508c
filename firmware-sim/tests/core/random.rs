//! Whatever a guest sends: the card never panics, never touches what is not the context's, and goes on.

use proptest::prelude::*;
use vmlu_abi::packet::{self, op, PacketHeader};
use vmlu_abi::rpc::{self, Function, RpcHeader, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{Status, Wire};

use crate::harness::*;

const LENGTH: u64 = 1 << 16;
const CANARY: u8 = 0xc5;

/// Addresses near what is mapped, and far from it.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0_u64..6, -70_i64..70).prop_map(|(at, by)| (VA + at * LENGTH).wrapping_add_signed(by)),
        2 => VA..VA + 6 * LENGTH,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..300_u64, 2 => LENGTH - 70..LENGTH + 70, 1 => any::<u64>()]
}

fn opcode() -> impl Strategy<Value = u16> {
    let known = [
        op::NOP,
        op::COPY,
        op::FILL,
        op::WRITE,
        op::COPY_STRIDED,
        op::WAIT,
        op::NOTIFY,
        op::GRAPH_LAUNCH,
    ];
    let operators: Vec<u16> = vmlu_firmware::kernels::KERNELS
        .iter()
        .map(|k| k.opcode)
        .collect();
    prop_oneof![4 => prop::sample::select(known.to_vec()), 4 => prop::sample::select(operators), 1 => any::<u16>()]
}

/// A body: of a known command with random fields, or random words among which are good addresses.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(
        prop_oneof![3 => 0_u64..10, 2 => address(), 1 => length(), 1 => any::<u64>()],
        0..80,
    );
    prop_oneof![
        (address(), address(), length()).prop_map(|(dst, src, length)| packet::Copy {
            dst,
            src,
            length
        }
        .as_bytes()
        .to_vec()),
        (address(), length(), any::<u64>(), 0_u32..10).prop_map(|(dst, length, pattern, width)| {
            packet::Fill {
                dst,
                length,
                pattern: pattern >> (pattern % 64),
                width,
                reserved: 0,
            }
            .as_bytes()
            .to_vec()
        }),
        (address(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(dst, data)| {
            [
                packet::WriteInline {
                    dst,
                    length: data.len() as u32,
                    reserved: 0,
                }
                .as_bytes(),
                &data,
            ]
            .concat()
        }),
        words.prop_map(|words| words.iter().flat_map(|w| w.to_le_bytes()).collect()),
        prop::collection::vec(any::<u8>(), 0..600),
    ]
}

#[derive(Clone, Debug)]
struct Packet {
    opcode: u16,
    body: Vec<u8>,
    version: u8,
    flags: u32,
    units: Option<u8>,
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let rarely = |value, other: BoxedStrategy<u32>| prop_oneof![30 => Just(value), 1 => other];
    let units = prop_oneof![200 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let packet = (
        opcode(),
        body(),
        rarely(1, (0..256_u32).boxed()),
        rarely(0, any::<u32>().boxed()),
        units,
    );
    let packet = packet.prop_map(|(opcode, body, version, flags, units)| Packet {
        opcode,
        body,
        version: version as u8,
        flags,
        units,
    });
    prop::collection::vec(packet, 1..40)
}

/// A context with device memory and host memory, all of it known, and canaries everywhere else.
struct Field<'a> {
    chip: &'a Chip,
    context: Context<'a>,
    /// Offsets in device memory that are the context's.
    mine: Vec<u64>,
    host: u64,
}

impl<'a> Field<'a> {
    fn new(chip: &'a Chip) -> Self {
        let context = chip.context();
        // Two apart, one writable piece of host memory, one read-only, and another context's between.
        let mine = [0, 2]
            .map(|at| context.alloc_at(VA + at * LENGTH, LENGTH).unwrap().offset)
            .to_vec();
        let host = chip.pages(3 * LENGTH) + LENGTH;
        let map = |va, access| rpc::HostMap {
            va,
            length: LENGTH,
            offset: 0,
            count: 1,
            access,
            flags: 0,
        };
        context
            .map_pieces(
                map(VA + 3 * LENGTH, ACCESS_READ | ACCESS_WRITE),
                &[(host, LENGTH)],
            )
            .unwrap();
        context
            .map_pieces(
                map(VA + 4 * LENGTH, ACCESS_READ),
                &[(READ_ONLY_DMA, LENGTH)],
            )
            .unwrap();
        let field = Self {
            chip,
            context,
            mine,
            host,
        };
        field.paint();
        field
    }

    fn device_parts(&self) -> Vec<(u64, u64)> {
        let granules = (0..DEVICE / LENGTH)
            .map(|i| i * LENGTH)
            .filter(|o| !self.mine.contains(o));
        granules.take(16).map(|o| (o, LENGTH)).collect()
    }

    fn host_parts(&self) -> [(u64, usize); 3] {
        [
            (self.host - LENGTH, LENGTH as usize),
            (self.host + LENGTH, LENGTH as usize),
            (READ_ONLY_DMA, LENGTH as usize),
        ]
    }

    fn paint(&self) {
        let canary = vec![CANARY; LENGTH as usize];
        for (offset, length) in self.device_parts() {
            assert!(self
                .chip
                .memory
                .bytes(offset, length)
                .unwrap()
                .copy_from(&canary));
        }
        for (address, length) in self.host_parts() {
            self.chip.fill_host(address, length, CANARY);
        }
    }

    fn check(&self) {
        let mut bytes = vec![0; LENGTH as usize];
        for (offset, length) in self.device_parts() {
            self.chip
                .memory
                .bytes(offset, length)
                .unwrap()
                .copy_to(&mut bytes);
            assert!(
                bytes.iter().all(|b| *b == CANARY),
                "device memory at {offset:#x} was written"
            );
        }
        for (address, length) in self.host_parts() {
            assert!(
                self.chip
                    .host_bytes(address, length)
                    .iter()
                    .all(|b| *b == CANARY),
                "host memory at {address:#x} was written"
            );
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn random_packets(packets in packets(), doorbell in prop::option::weighted(0.1, any::<u64>())) {
        let chip = Chip::new();
        let field = Field::new(&chip);
        let create = field.context.queue_memory(512);
        let queue = field.context.queue_of(create);
        let bystander = field.context.queue();
        for packet in &packets {
            let mut bytes = packet_bytes(packet.opcode, &packet.body[..packet.body.len().min(packet::MAX_BODY)]);
            let mut header = PacketHeader::read_from(&bytes).unwrap();
            header.version = packet.version;
            header.flags = packet.flags;
            header.units = packet.units.unwrap_or(header.units);
            header.write_to(&mut bytes);
            let value = queue.submit_bytes(&bytes);
            until("the packet", || queue.timeline() >= value || queue.error() == Status::FramingError);
            let record = queue.record(true);
            prop_assert!(record.status != Status::Internal.raw() && record.status != Status::KernelPanic.raw(), "{}", rule(&record));
            if record.status == Status::FramingError.raw() || packet.units.is_some() {
                break;
            }
            prop_assert_eq!(queue.timeline(), value);
        }
        if let Some(doorbell) = doorbell {
            queue.ring(doorbell);
        }
        bystander.ok(bystander.nop());
        queue.destroy().unwrap();
        field.check();
    }

    #[test]
    fn random_messages(
        functions in prop::collection::vec((0_u16..20, prop_oneof![Just(0_usize), Just(1)], body(), 0_usize..5000), 1..30),
        raw in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let chip = Chip::with(16 << 20, true);
        let context = chip.context();
        let queue = context.queue();
        chip.message(&raw);
        for (function, which, body, cut) in functions {
            // Not what would rightly end the chip, or hang it for a minute.
            if Function::from_raw(function) == Some(Function::Inject) {
                continue;
            }
            let header = RpcHeader {
                version: rpc::VERSION,
                function,
                length: (size_of::<RpcHeader>() + body.len()) as u32,
                sequence: 1,
                context: [0, context.handle][which],
                status: 0,
                reserved: 0,
            };
            let bytes = [header.as_bytes(), &body].concat();
            chip.message(&bytes);
            chip.message(&bytes[..cut.min(bytes.len())]);
        }
        if queue.try_record(false).is_ok() {
            queue.ok(queue.nop());
        }
        let again = chip.context();
        let queue = again.queue();
        queue.ok(queue.nop());
        chip.firmware.shutdown();
    }

    /// Structured messages: good bodies with one random word.
    #[test]
    fn nearly_good_messages(cases in prop::collection::vec((0_usize..9, 0_usize..7, prop_oneof![any::<u64>(), 0_u64..9, address()]), 1..60)) {
        let chip = Chip::with(16 << 20, true);
        let context = chip.context();
        let queue = context.queue();
        let page = chip.pages(4 * PAGE);
        let piece = rpc::HostPiece { address: page, length: PAGE };
        let map = rpc::HostMap { va: VA, length: PAGE, offset: 0, count: 1, access: 3, flags: 0 };
        let bodies: [(Function, Vec<u8>); 9] = [
            (Function::MemoryAlloc, rpc::MemoryAlloc { va: VA, length: LENGTH, flags: 0 }.as_bytes().to_vec()),
            (Function::MemoryFree, rpc::MemoryFree { va: VA }.as_bytes().to_vec()),
            (Function::HostMap, [map.as_bytes(), piece.as_bytes()].concat()),
            (Function::HostUnmap, rpc::MemoryFree { va: VA }.as_bytes().to_vec()),
            (Function::QueueCreate, context.queue_memory(128).as_bytes().to_vec()),
            (Function::QueueError, rpc::QueueError { queue: queue.handle, clear: 1, reserved: 0 }.as_bytes().to_vec()),
            (Function::NotifierPool, rpc::NotifierPool { va: VA, count: 8, reserved: 0 }.as_bytes().to_vec()),
            (Function::EventRing, rpc::EventRing { address: page, entries: 16, vector: 1, flags: 0 }.as_bytes().to_vec()),
            (Function::TelemetryPage, rpc::TelemetryPage { address: page }.as_bytes().to_vec()),
        ];
        for (which, word, value) in cases {
            let (function, mut body) = bodies[which].clone();
            if let Some(at) = body.chunks_exact_mut(8).nth(word) {
                at.copy_from_slice(&value.to_le_bytes());
            }
            let _ = chip.raw(function, context.handle, &body);
        }
        queue.ok(queue.fill(VA + (1 << 30), 0, 0));
        context.destroy().unwrap();
        prop_assert_eq!(chip.telemetry().memory_used, 0);
    }
}
