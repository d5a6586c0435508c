//! The card over vfio-user: what a hypervisor and a driver see of it, from connection to connection.
#![cfg(feature = "vfio-user")]

mod common;

use common::{eventually, signalled, Guest, Host, EVENTS, FREE, IMAGE, RAM, RAM_SIZE, RPC};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use vmlu_abi::event::{Event, RING_ENTRIES};
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::regs::{self, CardState};
use vmlu_abi::rpc::{
    self, ContextCreate, ContextCreated, EventRing, Function, HostMap, HostPiece, Info, QueueCreate,
};
use vmlu_abi::{pci, Status, Wire};
use vmlu_device::server::Server;

#[test]
fn a_hypervisor_sees_the_card() {
    let host = Host::new(2, false);
    let mut guest = host.guest(1);
    assert_eq!(guest.config::<4>(0), [0xbc, 0xca, 0x70, 0x03]);
    assert_eq!(guest.register(regs::ID), regs::ID_VALUE);
    assert_eq!(guest.register(regs::MODEL), MLU370_X8.id);
    assert_eq!(guest.register(regs::CHIP), 1);
    assert_eq!(guest.register(regs::SERIAL_LO), 0x42);
    assert_eq!(guest.register(regs::SERIAL_HI), 0x5400_0000);
    assert_eq!(guest.state(), Some(CardState::Ready));
    let size = |guest: &Guest, region| guest.client.region(region).unwrap().size;
    assert_eq!(size(&guest, 0), pci::BAR_REGS_SIZE);
    assert_eq!(size(&guest, 2), pci::BAR_DOORBELL_SIZE);
    assert_eq!(size(&guest, 4), MLU370_X8.bar_memory_size());
    let memory = guest.client.region(4).unwrap();
    assert_eq!(memory.sparse_areas.len(), 1);
    assert_eq!(memory.sparse_areas[0].size, MLU370_X8.memory_bytes);
    let file = memory.file_offset.as_ref().unwrap().file();
    assert_eq!(
        file.metadata().unwrap().len(),
        MLU370_X8.memory_bytes,
        "never shorter than what is mapped"
    );
    assert_eq!(guest.client.get_irq_info(0).unwrap().count, 0, "no INTx");
    assert_eq!(
        guest.client.get_irq_info(1).unwrap().count,
        pci::MAX_VECTORS
    );
    assert_eq!(
        guest.client.get_irq_info(2).unwrap().count,
        pci::MAX_VECTORS
    );
}

#[test]
fn the_firmware_boots_and_answers() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    guest.call(Function::Ping, 0, &[]);
    let info = Info::read_from(&guest.call(Function::Info, 0, &[])).unwrap();
    assert_eq!(
        (info.serial, info.memory_bytes),
        (0x5400_0000_0000_0042, MLU370_X8.memory_bytes)
    );
    // More than the slots, several at a time.
    for _ in 0..20 {
        let first = guest.send(Function::Ping, 0, &[]);
        let last = (1..8)
            .map(|_| guest.send(Function::Ping, 0, &[]))
            .last()
            .unwrap();
        assert_eq!(last, first + 7);
        assert_eq!(guest.response(last).0.sequence, last + 1000);
    }
    assert_eq!(guest.word(RPC + rpc::COMMAND_CONSUMED as u64), 162);
    guest.set_register(regs::BOOT, 1);
    assert_eq!(
        guest.state(),
        Some(CardState::Running),
        "a second boot is ignored"
    );
    guest.call(Function::Ping, 0, &[]);
}

#[test]
fn responses_come_with_an_event_and_an_interrupt() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    let events = guest.vector(0);
    let mut ring = EventRing::zeroed();
    ring.address = RAM + EVENTS;
    ring.entries = 16;
    guest.call(Function::EventRing, 0, ring.as_bytes());
    eventually("the event of the first response", || {
        guest.word(EVENTS) == 1
    });
    guest.call(Function::Ping, 0, &[]);
    eventually("the event of the second response", || {
        guest.word(EVENTS) == 2
    });
    eventually("an interrupt", || signalled(&events) > 0);
    let mut bytes = [0; size_of::<Event>()];
    std::os::unix::fs::FileExt::read_exact_at(
        &guest.memory,
        &mut bytes,
        EVENTS + RING_ENTRIES as u64,
    )
    .unwrap();
    let event = Event::read_from(&bytes).unwrap();
    assert_eq!((event.kind, event.value, event.sequence), (4, 1, 1));
}

#[test]
fn every_reset_ends_the_boot_and_the_next_boot_works() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    for round in 0..9 {
        guest.boot();
        guest.call(Function::Ping, 0, &[]);
        guest.set_register(regs::SCRATCH, 7);
        guest.set_config(4, &[6, 0]);
        host.card(0)
            .doorbells()
            .bytes(0, 8)
            .unwrap()
            .write(0, 99u64);
        let begin = Instant::now();
        match round % 3 {
            0 => guest.set_register(regs::CONTROL, regs::CONTROL_RESET),
            1 => guest.function_reset(),
            _ => guest.client.reset().unwrap(),
        }
        let took = begin.elapsed();
        assert_eq!(guest.state(), Some(CardState::Ready));
        assert_eq!(guest.register(regs::SCRATCH), 0);
        assert_eq!(guest.register(regs::FW_LENGTH), 0);
        assert_eq!(
            host.card(0).doorbells().bytes(0, 8).unwrap().read::<u64>(0),
            Some(0)
        );
        let command = guest.config::<1>(4)[0];
        assert_eq!(
            command,
            if round % 3 == 0 { 6 } else { 0 },
            "the driver's own reset keeps the bus settings"
        );
        assert!(took < Duration::from_millis(200), "{took:?}");
        // Rings into the void do no harm.
        guest.set_register(regs::RPC_DOORBELL, 1);
    }
    assert_eq!(host.card(0).dma().counts().1, 0, "nothing was scrapped");
}

#[test]
fn the_next_hypervisor_gets_a_fresh_card() {
    let host = Host::new(1, false);
    for round in 0..3 {
        let mut guest = host.guest(0);
        guest.map();
        assert_eq!(guest.state(), Some(CardState::Ready), "round {round}");
        assert_eq!(guest.config::<1>(4)[0], 0);
        let mut secret = [0; 8];
        guest
            .client
            .region_read(4, 0x1234_5678, &mut secret)
            .unwrap();
        assert_eq!(secret, [0; 8], "memory of the guest before is cleared");
        guest
            .client
            .region_write(4, 0x1234_5678, b"secret!!")
            .unwrap();
        guest.set_config(4, &[6, 0]);
        let _vector = guest.vector(0);
        guest.boot();
        guest.call(Function::Ping, 0, &[]);
        assert!(host.card(0).dma().mappings() > 0);
        if round == 1 {
            guest.function_reset();
        }
        drop(guest);
        eventually("the guest's memory is let go", || {
            host.card(0).dma().mappings() == 0
        });
    }
    eventually("the last reset", || {
        host.card(0).state() == CardState::Ready
    });
    assert_eq!(host.card(0).interrupts().enabled().1, 0);
}

#[test]
fn bad_images_are_refused_and_a_good_one_boots_after_a_reset() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    let good = vmlu_firmware::image::build();
    let changed = |at: usize| {
        let mut image = good.clone();
        image[at] ^= 0x40;
        image
    };
    let full = good.len() as u32;
    let newer = vmlu_firmware::image::build_with(vmlu_abi::boot::API_VERSION + 1, b"of tomorrow");
    for (image, length, status) in [
        (good.clone(), 0, Status::ImageLength),
        (good.clone(), 5 << 20, Status::ImageLength),
        (good.clone(), u32::MAX, Status::ImageLength),
        (good.clone(), full - 1, Status::ImageLength),
        (changed(0), full, Status::ImageMagic),
        (changed(12), full, Status::ImageDigest),
        (newer.clone(), newer.len() as u32, Status::ImageVersion),
        (changed(good.len() - 1), full, Status::ImageDigest),
    ] {
        assert_eq!(
            guest.boot_image(&image, length),
            Some(CardState::BootFailed),
            "{status:?}"
        );
        assert_eq!(
            Status::from_raw(guest.register(regs::BOOT_ERROR)),
            Some(status)
        );
        guest.set_register(regs::CONTROL, regs::CONTROL_RESET);
        assert_eq!(guest.register(regs::BOOT_ERROR), 0);
    }
    for (register, value, status) in [
        (regs::FW_ADDR_HI, 0x77, Status::AddressFault),
        (regs::RPC_ADDR_HI, 0x77, Status::AddressFault),
        (regs::RPC_ADDR_LO, 0x8, Status::InvalidArgument),
    ] {
        guest.write(IMAGE, &good);
        guest.set_register(regs::FW_ADDR_LO, (RAM + IMAGE) as u32);
        guest.set_register(regs::FW_ADDR_HI, 1);
        guest.set_register(regs::RPC_ADDR_LO, (RAM + RPC) as u32);
        guest.set_register(regs::RPC_ADDR_HI, 1);
        guest.set_register(regs::FW_LENGTH, full);
        guest.set_register(register, value);
        guest.set_register(regs::BOOT, 1);
        assert_eq!(guest.state(), Some(CardState::BootFailed));
        assert_eq!(
            Status::from_raw(guest.register(regs::BOOT_ERROR)),
            Some(status)
        );
        guest.set_register(regs::CONTROL, regs::CONTROL_RESET);
    }
    guest.boot();
    guest.call(Function::Ping, 0, &[]);
}

#[test]
fn bad_commands_get_an_answer_and_a_damaged_ring_stops_rpc() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    for length in [0u32, 31, 4097, u32::MAX] {
        let mut header = rpc::RpcHeader::zeroed();
        header.version = rpc::VERSION;
        header.function = Function::Ping as u16;
        header.length = length;
        let number = guest.send_raw(header.as_bytes());
        let (header, body) = guest.response(number);
        assert_eq!(Status::from_raw(header.status), Some(Status::BadLength));
        assert!(body.is_empty());
    }
    guest.call(Function::Ping, 0, &[]);
    guest.set_produced(1 << 40);
    eventually("the card halts", || {
        guest.state() == Some(CardState::Halted)
    });
    guest.set_register(regs::CONTROL, regs::CONTROL_RESET);
    guest.boot();
    guest.call(Function::Ping, 0, &[]);
    // The memory goes away under the service.
    guest.client.dma_unmap(RAM, RAM_SIZE).unwrap();
    guest.set_register(regs::RPC_DOORBELL, 1);
    eventually("the card halts", || {
        guest.state() == Some(CardState::Halted)
    });
    guest.map();
    guest.set_register(regs::CONTROL, regs::CONTROL_RESET);
    guest.boot();
}

#[test]
fn memory_in_use_can_be_taken_back_at_any_time() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    let mut ring = EventRing::zeroed();
    ring.address = RAM + EVENTS;
    ring.entries = 64;
    guest.call(Function::EventRing, 0, ring.as_bytes());
    let created = guest.call(
        Function::ContextCreate,
        0,
        ContextCreate::zeroed().as_bytes(),
    );
    let context = ContextCreated::read_from(&created).unwrap().context;
    let mut map = HostMap::zeroed();
    (map.va, map.length, map.count) = (0x7000_0000_0000, 0x1000, 1);
    map.access = rpc::ACCESS_READ | rpc::ACCESS_WRITE;
    let mut body = map.as_bytes().to_vec();
    body.extend_from_slice(
        HostPiece {
            address: RAM + FREE,
            length: 0x1000,
        }
        .as_bytes(),
    );
    guest.call(Function::HostMap, context, &body);
    let mut queue = QueueCreate::zeroed();
    queue.ring = RAM + FREE + 0x10_0000;
    queue.status = RAM + FREE + 0x20_0000;
    queue.arm = RAM + FREE + 0x30_0000;
    (queue.ring_units, queue.priority, queue.weight) = (128, 3, 1);
    guest.call(Function::QueueCreate, context, queue.as_bytes());
    let begin = Instant::now();
    guest.client.dma_unmap(RAM, RAM_SIZE).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(
        host.card(0).dma().counts().1,
        0,
        "the firmware let go by itself"
    );
    assert_eq!(host.card(0).dma().mappings(), 0);
    guest.map();
    guest.function_reset();
    guest.boot();
    guest.call(Function::Ping, 0, &[]);
}

#[test]
fn a_second_hypervisor_is_turned_away_and_the_first_goes_on() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    let begin = Instant::now();
    assert!(vfio_user::Client::new(&host.socket(0)).is_err());
    assert!(begin.elapsed() < Duration::from_secs(5));
    guest.call(Function::Ping, 0, &[]);
    drop(guest);
    // Who comes when the chip is free, or just becoming so, is served.
    let mut guest = host.guest(0);
    assert_eq!(guest.state(), Some(CardState::Ready));
}

#[test]
fn a_folder_has_one_server_and_stale_sockets_are_replaced() {
    let host = Host::new(1, false);
    let again = |folder| {
        Server::start(&common::options(folder, 1, false))
            .map(|_| ())
            .unwrap_err()
    };
    assert!(format!("{:#}", again(host.folder.path())).contains("another server"));
    let mode = host.socket(0).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chip0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(format!("{:#}", again(folder.path())).contains("another program listens"));
    drop(listener);
    let server = Server::start(&common::options(folder.path(), 1, false)).unwrap();
    assert_eq!(Guest::connect(&path).state(), Some(CardState::Ready));
    server.stop();
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert!(format!("{:#}", again(folder.path())).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn garbage_on_a_socket_does_not_stop_the_server() {
    let host = Host::new(1, false);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0; 64],
        &[1, 0, 1, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    ] {
        let mut stream = UnixStream::connect(host.socket(0)).unwrap();
        stream.write_all(garbage).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        drop(stream);
        let mut guest = host.guest(0);
        assert_eq!(guest.state(), Some(CardState::Ready));
    }
}

fn ask(host: &Host, request: &str) -> serde_json::Value {
    let mut stream = UnixStream::connect(host.folder.path().join("control.sock")).unwrap();
    writeln!(stream, "{request}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn the_control_socket_tells_resets_and_injects() {
    let host = Host::new(2, true);
    let mut guest = host.guest(1);
    guest.map();
    let inject = r#"{"cmd":"inject","chip":1,"fault":"all_ones"}"#;
    let early = ask(&host, inject);
    assert!(
        early["error"].as_str().unwrap().contains("does not run"),
        "{early}"
    );
    guest.boot();
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"cmd":"status","more":1}"#,
        r#"{"cmd":"reset","chip":2}"#,
        r#"{"cmd":"inject","chip":1,"fault":"x"}"#,
    ] {
        assert_eq!(ask(&host, bad)["ok"], false, "{bad}");
    }
    let status = ask(&host, r#"{"cmd":"status"}"#);
    assert_eq!(status["chips"][0]["state"], "Ready");
    assert_eq!(status["chips"][1]["state"], "Running");
    assert_eq!(status["chips"][1]["serial"], "5400000000000042");
    assert_eq!(status["chips"][1]["counters"]["boots"], 1);

    assert_eq!(ask(&host, inject)["ok"], true);
    eventually("the card is gone", || guest.register(regs::ID) == u32::MAX);
    assert_eq!(guest.register(regs::STATUS), u32::MAX);
    guest.set_register(regs::CONTROL, regs::CONTROL_RESET);
    assert_eq!(
        guest.register(regs::STATUS),
        u32::MAX,
        "the register is gone too"
    );
    guest.function_reset();
    assert_eq!(guest.state(), Some(CardState::Ready));
    guest.boot();
    assert_eq!(ask(&host, r#"{"cmd":"reset","chip":1}"#)["ok"], true);
    assert_eq!(guest.state(), Some(CardState::Ready));
}

#[test]
fn faults_are_refused_where_they_are_not_allowed() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    guest.boot();
    let answer = ask(&host, r#"{"cmd":"inject","chip":0,"fault":"hang"}"#);
    assert!(
        answer["error"].as_str().unwrap().contains("--inject"),
        "{answer}"
    );
}

#[test]
fn odd_memory_maps_are_ignored() {
    let host = Host::new(1, false);
    let mut guest = host.guest(0);
    guest.map();
    let fd = guest.memory.as_raw_fd();
    for (offset, address, size) in [
        (0, RAM + 0x1000, 0x1000),
        (0, 0, RAM_SIZE + 1),
        (u64::MAX, 0, 0x1000),
        (0, u64::MAX, 0x1000),
        (0, 0, 0),
        (1, 0, 0x1000),
    ] {
        guest.client.dma_map(offset, address, size, fd).unwrap();
    }
    assert_eq!(host.card(0).dma().size().0, 1);
    guest.client.dma_unmap(0x7777_0000, 0x1000).unwrap();
    guest.client.dma_unmap(u64::MAX, u64::MAX).unwrap();
    guest.boot();
}
