//! Other chips: memory that is given to them, the links between, and what happens when either goes away.

use vmlu_abi::link::{PeerPath, Port, PortState};
use vmlu_abi::rpc::{self, Function, LinkAction, MemoryToken, PeerWay, PortList};
use vmlu_abi::{Status, Wire};

use crate::harness::*;

const LENGTH: u64 = 1 << 20;

fn export(context: &Context, va: u64) -> Answer<MemoryToken> {
    context.call(Function::MemoryExport, &rpc::MemoryFree { va })
}

fn import(context: &Context, token: MemoryToken, access: u32) -> Answer<u64> {
    let va = context.addresses(token.length);
    let import = rpc::MemoryImport {
        va,
        access,
        flags: 0,
        token,
    };
    context.call::<_, ()>(Function::MemoryImport, &import)?;
    Ok(va)
}

const BOTH: u32 = rpc::ACCESS_READ | rpc::ACCESS_WRITE;

fn ports(chip: &Chip) -> Vec<Port> {
    let body = chip.raw(Function::LinkPorts, 0, &[]).unwrap();
    let head = PortList::read_from(&body).unwrap();
    let ports: Vec<Port> = body[size_of::<PortList>()..]
        .chunks_exact(size_of::<Port>())
        .filter_map(Port::read_from)
        .collect();
    assert_eq!(ports.len(), head.count as usize);
    ports
}

fn control(chip: &Chip, port: u32, action: LinkAction, value: u64) -> Answer<()> {
    let control = rpc::LinkControl {
        port,
        action: action as u32,
        value,
        reserved: [0; 2],
    };
    chip.call(Function::LinkControl, 0, &control)
}

/// A copy to a peer and back arrives, and both ends count it.
#[test]
fn copies_cross_the_link() {
    let chips = Chip::linked(1, 1);
    let (near, far) = (chips[0].context(), chips[1].context());
    let (theirs, _) = far.alloc(LENGTH);
    let peer = import(&near, export(&far, theirs).unwrap(), BOTH).unwrap();
    let (mine, _) = near.alloc(2 * LENGTH);
    let queue = near.queue();
    queue.fill(mine, LENGTH, 7);
    queue.copy(peer, mine, LENGTH);
    queue.ok(queue.copy(mine + LENGTH, peer, LENGTH));
    // What the owner finds in its own memory.
    let dma = chips[1].pages(LENGTH);
    let host = far.map(dma, LENGTH, BOTH);
    let other = far.queue();
    other.ok(other.copy(host, theirs, LENGTH));
    assert!(chips[1]
        .host_bytes(dma, LENGTH as usize)
        .iter()
        .all(|b| *b == 7));
    let (a, b) = (ports(&chips[0])[0], ports(&chips[1])[0]);
    assert_eq!(
        (a.state, a.read_bytes, a.written_bytes),
        (PortState::Up as u32, LENGTH, LENGTH)
    );
    assert_eq!((b.read_bytes, b.written_bytes), (LENGTH, LENGTH));
    assert_eq!(
        (a.remote_serial, a.remote_chip, b.remote_chip),
        (SERIAL, 1, 0)
    );
}

/// Over PCIe no link counts anything, and the same chip is no link either.
#[test]
fn ways_without_a_link() {
    let chips = Chip::linked(2, 1);
    let way = |to: &rpc::Peer| chips[0].call::<_, PeerWay>(Function::PeerPath, 0, to);
    let peer = |serial, chip| rpc::Peer {
        serial,
        chip,
        reserved: 0,
    };
    for (to, path) in [
        (peer(SERIAL, 0), PeerPath::Same),
        (peer(SERIAL, 1), PeerPath::Link),
        (peer(SERIAL + 1, 1), PeerPath::Pcie),
    ] {
        let way = way(&to).unwrap();
        assert!(way.path == path as u32 && way.rate > 0, "{path:?}");
    }
    assert_eq!(way(&peer(SERIAL + 2, 0)).err(), Some(Status::BadHandle));
    let (near, far) = (chips[0].context(), chips[3].context());
    let (theirs, _) = far.alloc(LENGTH);
    let remote = import(&near, export(&far, theirs).unwrap(), BOTH).unwrap();
    let same = chips[0].context_of(7);
    let (mine, _) = same.alloc(LENGTH);
    let local = import(&near, export(&same, mine).unwrap(), BOTH).unwrap();
    let queue = near.queue();
    queue.fill(local, LENGTH, 3);
    queue.ok(queue.copy(remote, local, LENGTH));
    assert!(ports(&chips[0]).iter().all(|p| p.written_bytes == 0));
}

/// What is not given is out of reach: wrong tokens, no right to write, memory that is not the giver's own.
#[test]
fn nothing_without_a_token() {
    let chips = Chip::linked(1, 1);
    let (near, far) = (chips[0].context(), chips[1].context());
    let (theirs, _) = far.alloc(LENGTH);
    let token = export(&far, theirs).unwrap();
    assert_eq!(export(&far, theirs).unwrap().secret, token.secret, "kept");
    assert_eq!(export(&near, theirs).err(), Some(Status::BadHandle));
    let mut wrong = [token; 4];
    wrong[0].secret[3] ^= 1;
    wrong[1].serial += 1;
    wrong[2].chip = 0;
    wrong[3].length += 4096;
    for token in wrong {
        assert_eq!(import(&near, token, BOTH), Err(Status::BadHandle));
    }
    assert_eq!(import(&near, token, 0), Err(Status::InvalidArgument));
    assert_eq!(import(&near, token, 8), Err(Status::ReservedNotZero));
    let read_only = import(&near, token, rpc::ACCESS_READ).unwrap();
    let queue = near.queue();
    assert_eq!(
        queue.done(queue.fill(read_only, 8, 0)),
        Status::OperandFault
    );
    queue.record(true);
    // A mapping cannot be passed on, and ends by itself.
    assert_eq!(
        export(&near, read_only).err(),
        Some(Status::InvalidArgument)
    );
    near.free(read_only).unwrap();
    assert_eq!(near.free(read_only), Err(Status::BadHandle));
    queue.ok(queue.nop());
}

/// Memory that its owner frees leads nowhere for the others, also under a command that uses it.
#[test]
fn the_owner_frees() {
    let chips = Chip::linked(1, 1);
    let (near, far) = (chips[0].context(), chips[1].context());
    let (theirs, _) = far.alloc(LENGTH);
    let token = export(&far, theirs).unwrap();
    let peer = import(&near, token, BOTH).unwrap();
    let (mine, _) = near.alloc(LENGTH);
    let queue = near.queue();
    queue.ok(queue.copy(peer, mine, LENGTH));
    far.free(theirs).unwrap();
    assert_eq!(
        queue.done(queue.copy(peer, mine, LENGTH)),
        Status::OperandFault
    );
    assert_eq!(import(&near, token, BOTH), Err(Status::BadHandle));
    // The same when the owner's context ends.
    let (theirs, _) = far.alloc(LENGTH);
    let peer = import(&near, export(&far, theirs).unwrap(), BOTH).unwrap();
    far.destroy().unwrap();
    queue.record(true);
    assert_eq!(
        queue.done(queue.copy(mine, peer, LENGTH)),
        Status::OperandFault
    );
}

/// A dead link fails the commands that need it, and only those; it comes back.
#[test]
fn the_link_goes_down() {
    let chips = Chip::linked(2, 2);
    let (near, far) = (chips[0].context(), chips[3].context());
    let events = chips[0].event_ring(0, 64);
    let (theirs, _) = far.alloc(LENGTH);
    let token = export(&far, theirs).unwrap();
    let peer = import(&near, token, BOTH).unwrap();
    let (mine, _) = near.alloc(LENGTH);
    let (broken, well) = (near.queue(), near.queue());
    control(&chips[3], 0, LinkAction::Down, 0).unwrap();
    assert_eq!(
        broken.done(broken.copy(peer, mine, LENGTH)),
        Status::LinkDown
    );
    let record = broken.record(true);
    assert_eq!(record.xid, vmlu_abi::status::Xid::MluLink as u32);
    assert!(
        rule(&record).contains("link of port 2"),
        "{}",
        rule(&record)
    );
    assert_eq!(import(&near, token, BOTH), Err(Status::NotSupported));
    well.ok(well.copy(mine, mine + LENGTH / 2, LENGTH / 2));
    assert_eq!((events.entry(0).kind, events.entry(0).object), (6, 2));
    control(&chips[0], 2, LinkAction::Up, 0).unwrap();
    broken.ok(broken.copy(peer, mine, LENGTH));
    control(&chips[0], 2, LinkAction::Crc32, 5).unwrap();
    let port = ports(&chips[0])[2];
    assert_eq!((port.downs, port.crc32), (1, 5));
    assert_eq!(
        control(&chips[0], 5, LinkAction::Down, 0),
        Err(Status::InvalidArgument)
    );
    assert_eq!(
        control(&chips[0], 50, LinkAction::Crc24, 1),
        Err(Status::InvalidArgument)
    );
}

/// Device time is that of the slowest way: a link's, one direction at a time, however many of them work.
#[test]
fn device_time_is_the_link_s() {
    let chips = Chip::linked(1, 1);
    let (near, far) = (chips[0].context(), chips[1].context());
    let (theirs, _) = far.alloc(8 * LENGTH);
    let peer = import(&near, export(&far, theirs).unwrap(), BOTH).unwrap();
    let (mine, _) = near.alloc(8 * LENGTH);
    let queue = near.queue();
    queue.ok(queue.nop());
    let before = chips[0].telemetry().device_ns;
    queue.ok(queue.copy(peer, mine, 8 * LENGTH));
    let took = chips[0].telemetry().device_ns - before;
    let way = rpc::Peer {
        serial: SERIAL,
        chip: 1,
        reserved: 0,
    };
    let way: PeerWay = chips[0].call(Function::PeerPath, 0, &way).unwrap();
    let floor = 8 * LENGTH * 1_000_000_000 / way.rate;
    // Idle time in between is the host's.
    assert!(took >= floor, "{took} ns, at least {floor}");
}
