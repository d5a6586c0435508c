//! Event rings, the event index, overflow, arm words.

use std::sync::atomic::Ordering;

use vmlu_abi::event::EventKind;
use vmlu_abi::queue::ARM_NONE;
use vmlu_abi::rpc::{self, Fault};
use vmlu_abi::Status;

use crate::harness::*;

fn interrupts(chip: &Chip, vector: usize) -> u64 {
    chip.host.interrupts[vector].load(Ordering::SeqCst)
}

#[test]
fn an_armed_value_is_told_once() {
    let chip = Chip::new();
    let ring = chip.event_ring(5, 16);
    let context = chip.context();
    let queue = context.queue_of(rpc::QueueCreate {
        vector: 5,
        ..context.queue_memory(128)
    });
    queue.ok(queue.nop());
    assert_eq!(
        (ring.produced(), interrupts(&chip, 5)),
        (0, 0),
        "nobody waits"
    );
    queue.arm().store(3, Ordering::SeqCst);
    queue.ok(queue.nop());
    assert_eq!(ring.produced(), 0);
    (0..3).for_each(|_| {
        queue.nop();
    });
    queue.ok(queue.nop());
    until("the event", || ring.produced() == 1);
    let event = ring.entry(0);
    assert_eq!(
        (event.kind, event.object, event.value, event.sequence),
        (EventKind::Timeline as u32, queue.index, 3, 1)
    );
    until("the interrupt", || interrupts(&chip, 5) == 1);
    queue.arm().store(ARM_NONE, Ordering::SeqCst);
    queue.ok(queue.nop());
    assert_eq!(ring.produced(), 1);
    // Armed with a value that is reached already: told at the next packet.
    queue.arm().store(1, Ordering::SeqCst);
    queue.ok(queue.nop());
    until("the event", || ring.produced() == 2);
}

/// Interrupts come when the event index is passed, as the driver asks.
#[test]
fn the_event_index_is_kept() {
    let chip = Chip::new();
    let ring = chip.event_ring(0, 16);
    let context = chip.context();
    let queue = context.queue();
    let raise = |count: u64| {
        for _ in 0..count {
            let next = queue.submitted() + 1;
            queue.arm().store(next, Ordering::SeqCst);
            queue.ok(queue.nop());
            until("the event", || {
                ring.entry(ring.produced().max(1) - 1).value == next
            });
        }
    };
    raise(1);
    until("the first interrupt", || interrupts(&chip, 0) == 1);
    raise(3);
    assert_eq!(interrupts(&chip, 0), 1, "nobody asked for more");
    ring.set_event_index(6);
    raise(2);
    assert_eq!((ring.produced(), interrupts(&chip, 0)), (6, 1));
    raise(1);
    until("the second interrupt", || interrupts(&chip, 0) == 2);
    assert_eq!(chip.telemetry().interrupts, 2);
}

#[test]
fn a_full_ring_counts_what_it_loses() {
    let chip = Chip::new();
    let ring = chip.event_ring(0, 16);
    let context = chip.context();
    let queue = context.queue();
    for round in 1..=20 {
        queue.arm().store(round, Ordering::SeqCst);
        queue.ok(queue.nop());
        until("the event", || ring.produced() + ring.lost() == round);
    }
    assert_eq!((ring.produced(), ring.lost()), (16, 4));
    assert_eq!(ring.entry(0).value, 1, "what is there stays");
    // Each loss interrupts: the driver then looks at every queue.
    until("the interrupts", || interrupts(&chip, 0) == 1 + 4);
    ring.set_consumed(16);
    queue.arm().store(21, Ordering::SeqCst);
    queue.ok(queue.nop());
    until("the event", || ring.produced() == 17);
    let event = ring.entry(16);
    assert_eq!((event.value, event.sequence), (21, 17));
    // A driver that says nonsense harms itself.
    for nonsense in [0, 1 << 40, u64::MAX] {
        ring.set_consumed(nonsense);
        ring.set_event_index(nonsense);
        queue.arm().store(queue.submitted() + 1, Ordering::SeqCst);
        queue.ok(queue.nop());
    }
}

#[test]
fn errors_are_told() {
    let chip = Chip::new();
    let ring = chip.event_ring(2, 16);
    let context = chip.context();
    let queue = context.queue_of(rpc::QueueCreate {
        vector: 2,
        ..context.queue_memory(128)
    });
    queue.done(queue.submit(0xffff, &[]));
    until("the event", || ring.produced() == 1);
    let event = ring.entry(0);
    assert_eq!(
        (event.kind, event.object, event.value),
        (
            EventKind::QueueError as u32,
            queue.index,
            u64::from(Status::UnknownOpcode.raw())
        )
    );
    queue.nop();
    queue.done(queue.submitted());
    assert_eq!(ring.produced(), 1, "once an error");
    queue.record(true);
    queue.ring(1 << 50);
    until("the event", || ring.produced() == 2);
    assert_eq!(ring.entry(1).value, u64::from(Status::FramingError.raw()));
}

#[test]
fn a_dropped_interrupt_leaves_its_event() {
    let chip = Chip::new();
    let ring = chip.event_ring(0, 16);
    ring.set_event_index(0);
    let context = chip.context();
    let queue = context.queue();
    chip.set_fault(rpc::Inject {
        count: 2,
        ..chip.inject(Fault::DropInterrupt, 0)
    });
    for round in 1..=4 {
        ring.set_event_index(round - 1);
        queue.arm().store(round, Ordering::SeqCst);
        queue.ok(queue.nop());
        until("the event", || ring.produced() == round);
    }
    until("the interrupts", || interrupts(&chip, 0) == 2);
}

#[test]
fn the_device_posts_its_own() {
    let chip = Chip::new();
    let ring = chip.event_ring(0, 16);
    let event = vmlu_abi::event::Event {
        kind: EventKind::Rpc as u32,
        object: 0,
        value: 7,
        sequence: 0,
        reserved: 0,
    };
    chip.firmware.post_event(0, event);
    chip.firmware.post_event(16, event);
    chip.firmware.post_event(1, event);
    chip.firmware
        .post_event(0, vmlu_abi::event::Event { kind: 99, ..event });
    assert_eq!((ring.produced(), ring.entry(1).value), (2, 7));
}
