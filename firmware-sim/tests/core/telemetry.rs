//! Telemetry: what work does to it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vmlu_abi::rpc::{self, Fault, Function};
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::Wire;

use crate::harness::*;

#[test]
fn work_shows() {
    let chip = Chip::new();
    let page = chip.pages(PAGE);
    chip.call::<_, ()>(
        Function::TelemetryPage,
        0,
        &rpc::TelemetryPage { address: page },
    )
    .unwrap();
    let context = chip.context();
    let queue = context.queue();
    let (a, _) = context.alloc(8 << 20);
    let idle = chip.telemetry();
    assert_eq!(
        (idle.busy, idle.memory_used, idle.contexts, idle.queues),
        (0, 8 << 20, 1, 1)
    );
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        if queue.submitted() - queue.timeline() < 64 {
            queue.fill(a, 8 << 20, 1);
        }
    }
    // Just now, on a machine with much else to do, it may have run empty.
    let mut loaded = chip.telemetry();
    until("work", || {
        queue.fill(a, 8 << 20, 1);
        loaded = chip.telemetry();
        loaded.busy == 1
    });
    // The card keeps the page by itself.
    let on_page = read_page(&chip, page);
    assert!(on_page.updated_ns > idle.updated_ns && on_page.packets > 0);
    assert_eq!((loaded.busy, loaded.healthy), (1, 1));
    // On an idle machine near 100 %.
    assert!(
        loaded.utilisation.value_milli > 1000,
        "{:?}",
        loaded.utilisation
    );
    assert!(
        loaded.power.value_milli > idle.power.value_milli,
        "{:?}",
        loaded.power
    );
    assert!(loaded.temp_chip.value_milli > idle.temp_chip.value_milli);
    assert!(loaded.energy_uj > idle.energy_uj && loaded.busy_ns > idle.busy_ns);
    assert!(loaded.device_ns > idle.device_ns && loaded.bytes_device >= 64 << 20);
    queue.ok(queue.submitted());
    queue.sleeps();
    let after = chip.telemetry();
    assert_eq!(
        (after.busy, after.packets, after.packets_failed),
        (0, queue.submitted(), 0)
    );
    assert!(after.power.target_milli < loaded.power.target_milli);
    chip.set_fault(chip.inject(Fault::Heat, 20_000));
    assert_eq!(
        chip.telemetry().temp_chip.target_milli,
        after.temp_chip.target_milli + 20_000
    );
}

/// On an idle chip nobody but the messages themselves keeps the page.
#[test]
fn messages_show_on_the_page() {
    let chip = Chip::new();
    let address = chip.pages(PAGE);
    chip.call::<_, ()>(Function::TelemetryPage, 0, &rpc::TelemetryPage { address })
        .unwrap();
    let seen = || {
        let page = read_page(&chip, address);
        (page.contexts, page.queues, page.memory_used)
    };
    assert_eq!(seen(), (0, 0, 0));
    let context = chip.context();
    assert_eq!(seen(), (1, 0, 0));
    let _queue = context.queue();
    let (_, _) = context.alloc(1 << 20);
    assert_eq!(seen(), (1, 1, 1 << 20));
    context.destroy().unwrap();
    assert_eq!(seen(), (0, 0, 0));
}

#[test]
fn segments_are_listed_in_pages() {
    let chip = Chip::new();
    let context = chip.context();
    let (device, _) = context.alloc(100);
    let host = context.map(chip.pages(PAGE), PAGE, 1);
    for _ in 0..rpc::MAX_SEGMENTS {
        context.alloc(1);
    }
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let command = rpc::Segments { from };
        let body = chip
            .raw(Function::Segments, context.handle, command.as_bytes())
            .unwrap();
        let head = rpc::SegmentList::read_from(&body).unwrap();
        let entries = body[size_of::<rpc::SegmentList>()..]
            .chunks_exact(size_of::<rpc::Segment>())
            .map(|entry| rpc::Segment::read_from(entry).unwrap());
        all.extend(entries);
        assert!(head.count as usize <= rpc::MAX_SEGMENTS);
        let last = all.last().unwrap().va;
        if head.more == 0 {
            break;
        }
        from = last + 1;
    }
    assert_eq!(all.len(), rpc::MAX_SEGMENTS + 2);
    assert!(all.windows(2).all(|pair| pair[0].va < pair[1].va));
    let find = |va| all.iter().find(|segment| segment.va == va).unwrap();
    let (device, host) = (find(device), find(host));
    assert_eq!((device.length, device.kind, device.access), (100, 1, 3));
    assert_eq!((host.length, host.kind, host.access), (PAGE, 2, 1));
}

fn read_page(chip: &Chip, page: u64) -> Telemetry {
    loop {
        let before = chip.u64_at(page).load(Ordering::Acquire);
        let telemetry =
            Telemetry::read_from(&chip.host_bytes(page, size_of::<Telemetry>())).unwrap();
        std::sync::atomic::fence(Ordering::SeqCst);
        if before.is_multiple_of(2) && chip.u64_at(page).load(Ordering::Acquire) == before {
            return telemetry;
        }
    }
}

#[test]
fn copies_are_counted_by_where_they_go() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, _) = context.alloc(1 << 20);
    let host = context.map(chip.pages(1 << 20), 1 << 20, 3);
    queue.copy(a, host, 1 << 20);
    queue.copy(host, a, 1 << 19);
    queue.copy(a, a + (1 << 19), 1 << 18);
    queue.ok(queue.submitted());
    let t = chip.telemetry();
    assert_eq!(
        (t.bytes_from_host, t.bytes_to_host, t.bytes_device),
        (1 << 20, 1 << 19, 2 << 18)
    );
}
