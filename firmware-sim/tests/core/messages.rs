//! Each message: what it does, and each field that can be wrong while all others are right.

use vmlu_abi::boot::API_VERSION;
use vmlu_abi::rpc::{self, feature, Fault, Function, RpcHeader, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::{notifier, pci, queue, Status, Wire};

use crate::harness::*;

#[test]
fn the_header_is_checked() {
    let chip = Chip::new();
    let good = message(Function::Ping, 0, &[]);
    assert_eq!(chip.message(&good), (Status::Ok, vec![]));
    let changed = |change: &dyn Fn(&mut RpcHeader)| {
        let mut header = RpcHeader::read_from(&good).unwrap();
        change(&mut header);
        chip.message(header.as_bytes()).0
    };
    assert_eq!(changed(&|h| h.version = 2), Status::VersionMismatch);
    assert_eq!(changed(&|h| h.version = 0), Status::VersionMismatch);
    assert_eq!(changed(&|h| h.function = 0), Status::UnknownFunction);
    assert_eq!(changed(&|h| h.function = 0xffff), Status::UnknownFunction);
    assert_eq!(changed(&|h| h.length = 33), Status::BadLength);
    assert_eq!(changed(&|h| h.length = u32::MAX), Status::BadLength);
    assert_eq!(changed(&|h| h.status = 1), Status::ReservedNotZero);
    assert_eq!(changed(&|h| h.reserved = 1), Status::ReservedNotZero);
    assert_eq!(chip.message(&[]).0, Status::BadLength);
    assert_eq!(chip.message(&good[..31]).0, Status::BadLength);
    assert_eq!(
        chip.message(&message(Function::Ping, 0, &vec![0; rpc::MAX_MESSAGE]))
            .0,
        Status::BadLength
    );
    let answer = RpcHeader::read_from(&chip.firmware.rpc(&good)).unwrap();
    assert_eq!(
        (answer.sequence, answer.function, answer.reserved),
        (99, Function::Ping as u16, 0)
    );
}

/// Every function with a body one byte short and one byte long.
#[test]
fn every_body_has_its_length() {
    let chip = Chip::new();
    let context = chip.context();
    let bodies = [
        (Function::Info, 0),
        (Function::ContextCreate, size_of::<rpc::ContextCreate>()),
        (Function::ContextDestroy, 0),
        (Function::MemoryAlloc, size_of::<rpc::MemoryAlloc>()),
        (Function::MemoryFree, size_of::<rpc::MemoryFree>()),
        (Function::HostMap, size_of::<rpc::HostMap>()),
        (Function::HostUnmap, size_of::<rpc::MemoryFree>()),
        (Function::QueueCreate, size_of::<rpc::QueueCreate>()),
        (Function::QueueDestroy, size_of::<rpc::QueueDestroy>()),
        (Function::QueueError, size_of::<rpc::QueueError>()),
        (Function::NotifierPool, size_of::<rpc::NotifierPool>()),
        (Function::EventRing, size_of::<rpc::EventRing>()),
        (Function::TelemetryPage, size_of::<rpc::TelemetryPage>()),
        (Function::Telemetry, 0),
        (Function::Processes, size_of::<rpc::Processes>()),
        (Function::Inject, size_of::<rpc::Inject>()),
        (Function::Ping, 0),
        (Function::GraphCreate, size_of::<rpc::GraphImage>()),
        (Function::GraphDestroy, size_of::<rpc::Graph>()),
        (Function::GraphUpdate, size_of::<rpc::GraphImage>()),
        (Function::TimelineExport, size_of::<rpc::Timeline>()),
        (Function::TimelineImport, size_of::<rpc::TimelineToken>()),
        (Function::TimelineRelease, size_of::<rpc::Timeline>()),
        (Function::TimelineRead, size_of::<rpc::Timeline>()),
        (Function::MemoryExport, size_of::<rpc::MemoryFree>()),
        (Function::MemoryImport, size_of::<rpc::MemoryImport>()),
        (Function::PeerPath, size_of::<rpc::Peer>()),
        (Function::LinkPorts, 0),
        (Function::LinkControl, size_of::<rpc::LinkControl>()),
        (Function::Segments, size_of::<rpc::Segments>()),
    ];
    for (function, length) in bodies {
        for wrong in [length.wrapping_sub(1), length + 1] {
            if wrong < rpc::MAX_MESSAGE {
                assert_eq!(
                    chip.raw(function, context.handle, &vec![0; wrong]),
                    Err(Status::BadLength),
                    "{function:?} {wrong}"
                );
            }
        }
    }
    assert!(
        Function::from_raw(bodies.len() as u16 + 1).is_none(),
        "a function without a test"
    );
}

/// Every function that is about a context, with none.
#[test]
fn functions_of_a_context_want_one() {
    let chip = Chip::new();
    let context = chip.context();
    context.destroy().unwrap();
    let bodies: [(Function, Vec<u8>); 8] = [
        (Function::ContextDestroy, vec![]),
        (
            Function::MemoryAlloc,
            rpc::MemoryAlloc {
                va: VA,
                length: 1 << 16,
                flags: 0,
            }
            .as_bytes()
            .to_vec(),
        ),
        (
            Function::MemoryFree,
            rpc::MemoryFree { va: VA }.as_bytes().to_vec(),
        ),
        (
            Function::HostUnmap,
            rpc::MemoryFree { va: VA }.as_bytes().to_vec(),
        ),
        (
            Function::QueueCreate,
            context.queue_memory(128).as_bytes().to_vec(),
        ),
        (
            Function::QueueDestroy,
            rpc::QueueDestroy { queue: 1 }.as_bytes().to_vec(),
        ),
        (
            Function::QueueError,
            rpc::QueueError {
                queue: 1,
                clear: 0,
                reserved: 0,
            }
            .as_bytes()
            .to_vec(),
        ),
        (
            Function::NotifierPool,
            rpc::NotifierPool {
                va: VA,
                count: 1,
                reserved: 0,
            }
            .as_bytes()
            .to_vec(),
        ),
    ];
    for (function, body) in &bodies {
        for handle in [0, 1, context.handle, u64::MAX, context.handle + 1] {
            assert_eq!(
                chip.raw(*function, handle, body),
                Err(Status::BadHandle),
                "{function:?} {handle:#x}"
            );
        }
    }
}

#[test]
fn info_tells_the_chip() {
    let chip = Chip::new();
    let info: rpc::Info = chip.call(Function::Info, 0, &()).unwrap();
    assert_eq!(&info.name[..9], b"MLU370-X8");
    assert_eq!(
        (info.api_version, info.memory_available, info.granule),
        (API_VERSION, DEVICE, 64 << 10)
    );
    assert_eq!(
        (
            info.max_queues,
            info.max_contexts,
            info.features & feature::INJECT
        ),
        (4096, 1024, feature::INJECT)
    );
    assert_eq!(&info.uuid[..8], &info.serial.to_be_bytes());
    let plain: rpc::Info = Chip::with(1 << 20, false)
        .call(Function::Info, 0, &())
        .unwrap();
    assert_eq!(plain.features, info.features & !feature::INJECT);
}

#[test]
fn contexts_come_and_go() {
    let chip = Chip::new();
    let create = rpc::ContextCreate {
        pid: 1,
        uid: 2,
        flags: 0,
        comm: [0xff; 32],
    };
    let all: Vec<rpc::ContextCreated> = (0..pci::MAX_CONTEXTS)
        .map(|_| chip.call(Function::ContextCreate, 0, &create).unwrap())
        .collect();
    assert_eq!(
        chip.call::<_, rpc::ContextCreated>(Function::ContextCreate, 0, &create),
        Err(Status::OutOfResources)
    );
    assert!(all
        .iter()
        .enumerate()
        .all(|(i, c)| c.index == i as u32 && c.context != 0));
    chip.raw(Function::ContextDestroy, all[500].context, &[])
        .unwrap();
    let again: rpc::ContextCreated = chip.call(Function::ContextCreate, 0, &create).unwrap();
    assert!(again.index == 500 && again.context != all[500].context);
    let flags = rpc::ContextCreate { flags: 1, ..create };
    assert_eq!(
        chip.call::<_, rpc::ContextCreated>(Function::ContextCreate, 0, &flags),
        Err(Status::ReservedNotZero)
    );
    assert_eq!(chip.telemetry().contexts, pci::MAX_CONTEXTS);
}

#[test]
fn device_memory() {
    let chip = Chip::new();
    let context = chip.context();
    let one = context.alloc_at(VA, 100_000).unwrap();
    let two = context.alloc_at(VA + (1 << 20), 1 << 20).unwrap();
    assert!(two.allocation > one.allocation && one.offset.abs_diff(two.offset) >= 1 << 17);
    assert_eq!(chip.telemetry().memory_used, (128 << 10) + (1 << 20));
    let refused = |va, length| context.alloc_at(va, length).unwrap_err();
    assert_eq!(refused(VA + (2 << 20) + 1, 4096), Status::InvalidArgument);
    assert_eq!(refused(0, 4096), Status::InvalidArgument);
    assert_eq!(refused(VA + (2 << 20), 0), Status::InvalidArgument);
    assert_eq!(refused(VA + (2 << 20), u64::MAX), Status::InvalidArgument);
    assert_eq!(refused(u64::MAX - 0xffff, 1 << 16), Status::InvalidArgument);
    assert_eq!(refused(VA, 4096), Status::AddressInUse);
    assert_eq!(refused(VA + (64 << 10), 4096), Status::AddressInUse);
    assert_eq!(refused(VA + (2 << 20), DEVICE), Status::OutOfDeviceMemory);
    assert_eq!(
        refused(VA + (2 << 20), u64::MAX / 2),
        Status::OutOfDeviceMemory
    );
    let flags = rpc::MemoryAlloc {
        va: VA + (2 << 20),
        length: 4096,
        flags: 1,
    };
    assert_eq!(
        context.call::<_, rpc::MemoryAllocated>(Function::MemoryAlloc, &flags),
        Err(Status::ReservedNotZero)
    );
    assert_eq!(chip.telemetry().memory_used, (128 << 10) + (1 << 20));

    assert_eq!(context.free(VA + 4096), Err(Status::BadHandle));
    assert_eq!(context.unmap(VA), Err(Status::BadHandle));
    assert_eq!(context.free(VA), Ok(()));
    assert_eq!(context.free(VA), Err(Status::BadHandle));
    context.alloc_at(VA, 4096).unwrap();
    context.destroy().unwrap();
    assert_eq!(chip.telemetry().memory_used, 0);
}

#[test]
fn host_memory() {
    let chip = Chip::new();
    let context = chip.context();
    let both = ACCESS_READ | ACCESS_WRITE;
    let dma = chip.pages(16 * PAGE);
    let good = rpc::HostMap {
        va: VA,
        length: 4 * PAGE,
        offset: 0,
        count: 2,
        access: both,
        flags: 0,
    };
    let pieces = [(dma, 3 * PAGE), (dma + 8 * PAGE, PAGE)];
    let refused = |change: &dyn Fn(&mut rpc::HostMap), pieces: &[(u64, u64)]| {
        let mut map = good;
        change(&mut map);
        context.map_pieces(map, pieces).unwrap_err()
    };
    assert_eq!(refused(&|m| m.va += 1, &pieces), Status::InvalidArgument);
    assert_eq!(refused(&|m| m.va = 0, &pieces), Status::InvalidArgument);
    assert_eq!(
        refused(&|m| m.va = u64::MAX - 0xfff, &pieces),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|m| m.length += 1, &pieces),
        Status::InvalidArgument
    );
    assert_eq!(refused(&|m| m.length = 0, &pieces), Status::InvalidArgument);
    assert_eq!(
        refused(&|m| m.length = PAGE, &pieces),
        Status::InvalidArgument
    );
    assert_eq!(refused(&|m| m.offset = PAGE, &pieces), Status::BadState);
    assert_eq!(refused(&|m| m.count = 3, &pieces), Status::BadLength);
    assert_eq!(refused(&|m| m.count = 1, &pieces), Status::BadLength);
    assert_eq!(refused(&|m| m.count = 0, &[]), Status::BadLength);
    assert_eq!(refused(&|m| m.count = u32::MAX, &pieces), Status::BadLength);
    assert_eq!(refused(&|m| m.access = 0, &pieces), Status::InvalidArgument);
    assert_eq!(
        refused(&|m| m.access = 4 | both, &pieces),
        Status::ReservedNotZero
    );
    assert_eq!(refused(&|m| m.flags = 1, &pieces), Status::ReservedNotZero);
    assert_eq!(
        refused(&|_| (), &[(dma + 1, 3 * PAGE), pieces[1]]),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|_| (), &[(dma, 0), pieces[1]]),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|_| (), &[(dma, PAGE + 1), pieces[1]]),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|_| (), &[(dma, 4 * PAGE), pieces[1]]),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|_| (), &[(dma, !0xfff), pieces[1]]),
        Status::InvalidArgument
    );
    assert_eq!(
        refused(&|_| (), &[(0x1000, 3 * PAGE), pieces[1]]),
        Status::AddressFault
    );
    assert_eq!(
        refused(&|_| (), &[(!0xfff, 3 * PAGE), pieces[1]]),
        Status::AddressFault
    );
    assert_eq!(
        refused(&|_| (), &[(READ_ONLY_DMA, 3 * PAGE), pieces[1]]),
        Status::AddressFault
    );

    context.map_pieces(good, &pieces).unwrap();
    assert_eq!(refused(&|_| (), &pieces), Status::AddressInUse);
    assert_eq!(
        refused(&|m| m.va += 3 * PAGE, &pieces),
        Status::AddressInUse
    );
    let read_only = rpc::HostMap {
        va: VA + (1 << 20),
        access: ACCESS_READ,
        ..good
    };
    context
        .map_pieces(read_only, &[(READ_ONLY_DMA, 3 * PAGE), pieces[1]])
        .unwrap();
    assert_eq!(context.unmap(VA + PAGE), Err(Status::BadHandle));
    assert_eq!(context.free(VA), Err(Status::BadHandle));
    assert_eq!(context.unmap(VA), Ok(()));
    assert_eq!(context.unmap(VA), Err(Status::BadHandle));
}

#[test]
fn host_memory_in_several_messages() {
    let chip = Chip::new();
    let context = chip.context();
    let dma = chip.pages(8 * PAGE);
    let part = |va, offset, pieces: &[(u64, u64)]| {
        let map = rpc::HostMap {
            va,
            length: 4 * PAGE,
            offset,
            count: pieces.len() as u32,
            access: ACCESS_READ,
            flags: 0,
        };
        context.map_pieces(map, pieces)
    };
    let other = VA + (1 << 20);
    part(VA, 0, &[(dma, PAGE)]).unwrap();
    // Another mapping in between does not disturb it.
    part(other, 0, &[(dma, 4 * PAGE)]).unwrap();
    part(VA, PAGE, &[(dma + 2 * PAGE, 2 * PAGE)]).unwrap();
    part(VA, 3 * PAGE, &[(dma + 7 * PAGE, PAGE)]).unwrap();
    context.unmap(VA).unwrap();
    context.unmap(other).unwrap();
    // A gap, and more than was announced, end it.
    part(VA, 0, &[(dma, PAGE)]).unwrap();
    assert_eq!(part(VA, 2 * PAGE, &[(dma, PAGE)]), Err(Status::BadState));
    assert_eq!(part(VA, PAGE, &[(dma, PAGE)]), Err(Status::BadState));
    part(VA, 0, &[(dma, PAGE)]).unwrap();
    assert_eq!(
        part(VA, PAGE, &[(dma, 4 * PAGE)]),
        Err(Status::InvalidArgument)
    );
    part(VA, 0, &[(dma, PAGE)]).unwrap();
    assert_eq!(part(VA, PAGE, &[]), Err(Status::BadLength));
    assert_eq!(part(VA, PAGE, &[(dma, PAGE)]), Err(Status::BadState));
    // Who gives one up says so, and it takes no place; a whole one is not taken for it.
    part(other, 0, &[(dma, 4 * PAGE)]).unwrap();
    for _ in 0..40 {
        part(VA, 0, &[(dma, PAGE)]).unwrap();
        context.unmap(VA).unwrap();
        assert_eq!(context.unmap(VA), Err(Status::BadHandle));
        assert_eq!(part(VA, PAGE, &[(dma, PAGE)]), Err(Status::BadState));
    }
    context.unmap(other).unwrap();
    // Mappings that are neither finished nor given up are bounded.
    for i in 0..16 {
        part(VA + (i << 20), 0, &[(dma, PAGE)]).unwrap();
    }
    assert_eq!(
        part(VA + (16 << 20), 0, &[(dma, PAGE)]),
        Err(Status::OutOfResources)
    );
    for i in 0..16 {
        context.unmap(VA + (i << 20)).unwrap();
    }
    part(VA + (16 << 20), 0, &[(dma, PAGE)]).unwrap();
    context.destroy().unwrap();
    assert_eq!(part(VA, PAGE, &[(dma, PAGE)]), Err(Status::BadHandle));
}

/// A guest cannot make the card keep a record of any number of pieces: that is the server's memory.
#[test]
fn pieces_are_bounded() {
    let chip = Chip::new();
    let context = chip.context();
    let dma = chip.pages(PAGE);
    let pieces = vec![(dma, PAGE); rpc::MAX_PIECES];
    let count = pieces.len() as u32;
    let refused = (0..20_000_u64).find_map(|i| {
        let offset = i * u64::from(count) * PAGE;
        context
            .map_pieces(
                rpc::HostMap {
                    va: VA,
                    length: 1 << 45,
                    offset,
                    count,
                    access: 1,
                    flags: 0,
                },
                &pieces,
            )
            .err()
    });
    assert_eq!(refused, Some(Status::OutOfResources));
    // And they are given back.
    context.map(dma, PAGE, ACCESS_READ);
}

#[test]
fn queues() {
    let chip = Chip::new();
    let context = chip.context();
    let good = context.queue_memory(128);
    chip.fill_host(good.status, 4096, 0xff);
    let refused = |change: &dyn Fn(&mut rpc::QueueCreate)| {
        let mut create = good;
        change(&mut create);
        context
            .call::<_, rpc::QueueCreated>(Function::QueueCreate, &create)
            .unwrap_err()
    };
    for units in [0, 1, 64, 129, 3 << 10, 1 << 17, u32::MAX] {
        assert_eq!(
            refused(&|q| q.ring_units = units),
            Status::InvalidArgument,
            "{units}"
        );
    }
    assert_eq!(
        refused(&|q| q.priority = queue::PRIORITY_HIGH + 1),
        Status::InvalidArgument
    );
    assert_eq!(refused(&|q| q.weight = 0), Status::InvalidArgument);
    assert_eq!(refused(&|q| q.weight = 1025), Status::InvalidArgument);
    assert_eq!(
        refused(&|q| q.vector = pci::MAX_VECTORS),
        Status::InvalidArgument
    );
    assert_eq!(refused(&|q| q.flags = 2), Status::ReservedNotZero);
    assert_eq!(refused(&|q| q.flags = 1), Status::InvalidArgument);
    assert_eq!(refused(&|q| q.doorbell = q.arm + 4), Status::AddressFault);
    assert_eq!(
        refused(&|q| q.doorbell = READ_ONLY_DMA),
        Status::AddressFault
    );
    for bad in [0, 0x1000, u64::MAX, u64::MAX - 0xfff, BASE + (1 << 40)] {
        assert_eq!(refused(&|q| q.ring = bad), Status::AddressFault, "{bad:#x}");
        assert_eq!(
            refused(&|q| q.status = bad),
            Status::AddressFault,
            "{bad:#x}"
        );
        assert_eq!(refused(&|q| q.arm = bad), Status::AddressFault, "{bad:#x}");
        if bad != 0 {
            assert_eq!(
                refused(&|q| q.doorbell = bad),
                Status::AddressFault,
                "{bad:#x}"
            );
        }
    }
    assert_eq!(refused(&|q| q.ring += 4), Status::AddressFault);
    assert_eq!(refused(&|q| q.status += 4), Status::AddressFault);
    assert_eq!(refused(&|q| q.arm += 4), Status::AddressFault);
    assert_eq!(refused(&|q| q.status = READ_ONLY_DMA), Status::AddressFault);

    let queue = context.queue_of(good);
    assert_eq!(
        (
            queue.timeline(),
            queue.consumed(),
            queue.error(),
            queue.asleep()
        ),
        (0, 0, Status::Ok, true)
    );
    assert_eq!(queue.record(false), ErrorRecord::zeroed());
    queue.ok(queue.nop());
    let error = |clear, reserved| {
        let body = rpc::QueueError {
            queue: queue.handle,
            clear,
            reserved,
        };
        context
            .call::<_, ErrorRecord>(Function::QueueError, &body)
            .map(|_| ())
    };
    assert_eq!(error(1, 0), Ok(()));
    assert_eq!(error(2, 0), Err(Status::InvalidArgument));
    assert_eq!(error(0, 1), Err(Status::ReservedNotZero));
    assert_eq!(queue.destroy(), Ok(()));
    assert_eq!(queue.destroy(), Err(Status::BadHandle));
    assert_eq!(queue.try_record(false), Err(Status::BadHandle));
}

#[test]
fn as_many_queues_as_there_are() {
    let chip = Chip::new();
    let context = chip.context();
    let create = context.queue_memory(128);
    let new = || context.call::<_, rpc::QueueCreated>(Function::QueueCreate, &create);
    let all: Vec<_> = (0..pci::MAX_QUEUES).map(|_| new().unwrap()).collect();
    assert_eq!(new(), Err(Status::OutOfResources));
    context
        .call::<_, ()>(
            Function::QueueDestroy,
            &rpc::QueueDestroy {
                queue: all[77].queue,
            },
        )
        .unwrap();
    assert_eq!(new().unwrap().index, 77);
    assert_eq!(chip.telemetry().queues, pci::MAX_QUEUES);
    context.destroy().unwrap();
    assert_eq!(chip.telemetry().queues, 0);
}

#[test]
fn notifier_pools() {
    let chip = Chip::new();
    let context = chip.context();
    let dma = chip.pages(16 * PAGE);
    let va = context.map(dma, 16 * PAGE, ACCESS_READ | ACCESS_WRITE);
    let read_only = context.map(dma, 16 * PAGE, ACCESS_READ);
    let pool = |va, count, reserved| {
        context.call::<_, ()>(
            Function::NotifierPool,
            &rpc::NotifierPool {
                va,
                count,
                reserved,
            },
        )
    };
    let most = (16 * PAGE / 32) as u32;
    assert_eq!(pool(va, most, 0), Ok(()));
    assert_eq!(pool(va + 32, most - 1, 0), Ok(()));
    assert_eq!(pool(va, most + 1, 0), Err(Status::AddressFault));
    assert_eq!(pool(va + 8, 1, 0), Err(Status::InvalidArgument));
    assert_eq!(
        pool(va, notifier::MAX_NOTIFIERS + 1, 0),
        Err(Status::InvalidArgument)
    );
    assert_eq!(pool(va, u32::MAX, 0), Err(Status::InvalidArgument));
    assert_eq!(pool(va, 1, 1), Err(Status::ReservedNotZero));
    assert_eq!(pool(read_only, 1, 0), Err(Status::AddressFault));
    assert_eq!(pool(0x1000_0000, 1, 0), Err(Status::AddressFault));
    assert_eq!(pool(0, 0, 0), Ok(()));
    let queue = context.queue();
    assert_eq!(queue.done(queue.notify(0, 1)), Status::BadHandle);
}

#[test]
fn event_rings() {
    let chip = Chip::new();
    let address = chip.pages(2 * PAGE);
    let set = |change: &dyn Fn(&mut rpc::EventRing)| {
        let mut ring = rpc::EventRing {
            address,
            entries: 64,
            vector: 3,
            flags: 0,
        };
        change(&mut ring);
        chip.call::<_, ()>(Function::EventRing, 0, &ring)
    };
    assert_eq!(set(&|_| ()), Ok(()));
    assert_eq!(set(&|r| r.address = 0), Ok(()));
    for entries in [0, 1, 8, 17, 8192, u32::MAX] {
        assert_eq!(
            set(&|r| r.entries = entries),
            Err(Status::InvalidArgument),
            "{entries}"
        );
    }
    assert_eq!(
        set(&|r| r.vector = pci::MAX_VECTORS),
        Err(Status::InvalidArgument)
    );
    assert_eq!(set(&|r| r.vector = u32::MAX), Err(Status::InvalidArgument));
    assert_eq!(set(&|r| r.flags = 1), Err(Status::ReservedNotZero));
    assert_eq!(set(&|r| r.address = 0x1000), Err(Status::AddressFault));
    assert_eq!(set(&|r| r.address += 4), Err(Status::AddressFault));
    assert_eq!(
        set(&|r| r.address = READ_ONLY_DMA),
        Err(Status::AddressFault)
    );
    assert_eq!(set(&|r| r.address = u64::MAX), Err(Status::AddressFault));
}

#[test]
fn telemetry_pages() {
    let chip = Chip::new();
    let address = chip.pages(PAGE);
    let set =
        |address| chip.call::<_, ()>(Function::TelemetryPage, 0, &rpc::TelemetryPage { address });
    assert_eq!(set(address), Ok(()));
    assert!(chip
        .u64_at(address)
        .load(std::sync::atomic::Ordering::SeqCst)
        .is_multiple_of(2));
    assert_eq!(set(0), Ok(()));
    for bad in [
        0x1000,
        u64::MAX,
        u64::MAX - 0xfff,
        address + 4,
        READ_ONLY_DMA,
    ] {
        assert_eq!(set(bad), Err(Status::AddressFault), "{bad:#x}");
    }
}

#[test]
fn processes() {
    let chip = Chip::new();
    let list = |start, reserved| {
        let answer = chip.raw(
            Function::Processes,
            0,
            rpc::Processes { start, reserved }.as_bytes(),
        )?;
        let head = rpc::ProcessList::read_from(&answer).unwrap();
        let entries: Vec<rpc::Process> = answer[8..]
            .chunks_exact(size_of::<rpc::Process>())
            .map(|b| rpc::Process::read_from(b).unwrap())
            .collect();
        assert_eq!(head.count as usize, entries.len());
        Ok::<_, Status>((head.total, entries))
    };
    assert_eq!(list(0, 1).unwrap_err(), Status::ReservedNotZero);
    assert_eq!(list(0, 0).unwrap().0, 0);
    let contexts: Vec<Context<'_>> = (0..100).map(|pid| chip.context_of(pid)).collect();
    contexts[1].alloc(1 << 20);
    contexts[1].map(chip.pages(PAGE), PAGE, ACCESS_READ);
    let queue = contexts[1].queue();
    queue.ok(queue.nop());
    let mut all = Vec::new();
    loop {
        let (total, entries) = list(all.len() as u32, 0).unwrap();
        assert_eq!(total, 100);
        if entries.is_empty() {
            break;
        }
        all.extend(entries);
    }
    assert!(all
        .iter()
        .enumerate()
        .all(|(i, p)| p.pid == i as u32 && p.uid == 7 && &p.comm[..4] == b"test"));
    let one = &all[1];
    assert_eq!(
        (one.memory, one.host_memory, one.packets, one.queues),
        (1 << 20, PAGE, 1, 1)
    );
    assert!(one.busy_ns > 0 && all[0].busy_ns == 0);
    assert!(list(u32::MAX, 0).unwrap().1.is_empty());
}

#[test]
fn injection() {
    let chip = Chip::new();
    let good = chip.inject(Fault::Fail, 0);
    let set = |inject: rpc::Inject| chip.call::<_, ()>(Function::Inject, 0, &inject);
    assert_eq!(set(good), Ok(()));
    assert_eq!(set(rpc::Inject { count: 0, ..good }), Ok(()));
    for fault in [0, 15, u32::MAX] {
        assert_eq!(
            set(rpc::Inject { fault, ..good }),
            Err(Status::InvalidArgument)
        );
    }
    assert_eq!(
        set(rpc::Inject {
            reserved: 1,
            ..good
        }),
        Err(Status::ReservedNotZero)
    );
    assert_eq!(
        set(rpc::Inject {
            reserved1: 1,
            ..good
        }),
        Err(Status::ReservedNotZero)
    );
    // Messages that are refused do nothing.
    let ping = || chip.call::<_, ()>(Function::Ping, 0, &());
    for value in [0, 1 << 32, 31, u64::MAX] {
        let refuse = chip.inject(Fault::Refuse, value);
        assert_eq!(set(refuse), Err(Status::InvalidArgument));
    }
    let busy = rpc::Inject {
        count: 2,
        skip: 1,
        opcode: Function::Ping as u32,
        ..chip.inject(Fault::Refuse, u64::from(Status::Busy.raw()))
    };
    assert_eq!(set(busy), Ok(()));
    let context = chip.context();
    assert_eq!(
        [(); 4].map(|()| ping()),
        [Ok(()), Err(Status::Busy), Err(Status::Busy), Ok(())]
    );
    assert_eq!(
        set(chip.inject(Fault::Refuse, u64::from(Status::BadState.raw()))),
        Ok(())
    );
    assert_eq!(context.alloc_at(VA, PAGE).err(), Some(Status::BadState));
    context.alloc_at(VA, PAGE).unwrap();

    // A list that only grows is bounded.
    let refused = (0..10_000).find_map(|context| set(rpc::Inject { context, ..good }).err());
    assert_eq!(refused, Some(Status::OutOfResources));
    let plain = Chip::with(1 << 20, false);
    assert_eq!(
        plain.call::<_, ()>(Function::Inject, 0, &good),
        Err(Status::NotPermitted)
    );
}
