//! Chips inside the process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use vmlu_abi::event::{Event, RING_ENTRIES};
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::rpc::{self, EventRing, Function, Info, RpcHeader, TelemetryPage};
use vmlu_abi::{pci, Status, Wire};
use vmlu_device::embedded::{EmbeddedCard, EmbeddedChip, EmbeddedConfig};
use vmlu_firmware::memory::shared::SharedMemory;

const SERIAL: u64 = 0x5400_0000_0000_0010;

fn card(chips: u32) -> Arc<EmbeddedCard> {
    EmbeddedCard::new(&EmbeddedConfig {
        topology: None,
        model: &MLU370_X8,
        chips,
        serials: vec![SERIAL],
        inject: false,
    })
    .unwrap()
}

fn call(chip: &EmbeddedChip, function: Function, body: &[u8]) -> (Option<Status>, Vec<u8>) {
    let mut header = RpcHeader::zeroed();
    header.version = rpc::VERSION;
    header.function = function as u16;
    header.length = (size_of::<RpcHeader>() + body.len()) as u32;
    let response = chip.rpc(&[header.as_bytes(), body].concat());
    let header = RpcHeader::read_from(&response).unwrap();
    assert_eq!(header.length as usize, response.len());
    (
        Status::from_raw(header.status),
        response[size_of::<RpcHeader>()..].to_vec(),
    )
}

#[test]
fn chips_sit_on_boards_of_two() {
    let card = card(3);
    let infos: Vec<_> = card
        .chips()
        .iter()
        .map(|chip| Info::read_from(&call(chip, Function::Info, &[]).1).unwrap())
        .map(|info| (info.chip, info.serial))
        .collect();
    assert_eq!(infos, [(0, SERIAL), (1, SERIAL), (0, SERIAL + 1)]);
    let chip = card.chip(0).unwrap();
    assert_eq!(chip.memory().len() as u64, MLU370_X8.memory_bytes);
    assert_eq!(chip.doorbells().len() as u64, pci::BAR_DOORBELL_SIZE);
    assert!(card.chip(3).is_none());
}

#[test]
fn a_chip_reaches_what_is_registered_and_nothing_else() {
    let card = card(1);
    let chip = card.chip(0).unwrap();
    let memory = Arc::new(SharedMemory::new("host", 1 << 20).unwrap());
    let mut page = TelemetryPage {
        address: memory.base() as u64,
    };
    assert_eq!(
        call(chip, Function::TelemetryPage, page.as_bytes()).0,
        Some(Status::AddressFault)
    );
    let address = chip.register_shared(&memory).unwrap();
    assert_eq!(address, memory.base() as u64);
    assert!(chip.register_shared(&memory).is_err(), "overlap");
    assert_eq!(
        call(chip, Function::TelemetryPage, page.as_bytes()).0,
        Some(Status::Ok)
    );
    page.address = address + (1 << 20) - 8;
    assert_ne!(
        call(chip, Function::TelemetryPage, page.as_bytes()).0,
        Some(Status::Ok),
        "over the end"
    );
    chip.unregister(address, 1 << 20);
    assert_eq!(Arc::strong_count(&memory), 1, "the chip has let go");
    page.address = address;
    assert_eq!(
        call(chip, Function::TelemetryPage, page.as_bytes()).0,
        Some(Status::AddressFault)
    );
}

#[test]
fn events_reach_the_ring_and_the_hook() {
    let card = card(1);
    let chip = card.chip(0).unwrap();
    let memory = Arc::new(SharedMemory::new("host", 1 << 16).unwrap());
    let raised = Arc::new(AtomicU32::new(u32::MAX));
    let seen = raised.clone();
    chip.set_interrupt_hook(Some(Arc::new(move |vector| {
        seen.store(vector, Ordering::SeqCst)
    })));
    let mut ring = EventRing::zeroed();
    ring.address = chip.register_shared(&memory).unwrap();
    (ring.entries, ring.vector) = (16, 5);
    assert_eq!(
        call(chip, Function::EventRing, ring.as_bytes()).0,
        Some(Status::Ok)
    );
    let mut event = Event::zeroed();
    (event.kind, event.value) = (5, 99);
    chip.firmware().post_event(5, event);
    let written: Event = memory
        .bytes(RING_ENTRIES as u64, 32)
        .unwrap()
        .read(0)
        .unwrap();
    assert_eq!((written.kind, written.value, written.sequence), (5, 99, 1));
    assert_eq!(raised.load(Ordering::SeqCst), 5);
    drop(card);
    assert_eq!(Arc::strong_count(&memory), 1);
}
