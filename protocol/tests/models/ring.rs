//! A producer and a card around a ring of two units. Properties: packets arrive once, in order, whole; nothing is overwritten.

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use vmlu_abi::queue::ARM_NONE;
use vmlu_protocol::room::Room;
use vmlu_protocol::submit::{publish, Barrier};
use vmlu_protocol::sync::{without, Step};
use vmlu_protocol::wait::complete;

use crate::explore;

const UNITS: u64 = 2;
const PACKETS: u64 = 3;

struct Queue {
    ring: [AtomicU64; UNITS as usize],
    doorbell: AtomicU64,
    asleep: AtomicU32,
    consumed: AtomicU64,
    timeline: AtomicU64,
    arm: AtomicU64,
}

fn goes_round() {
    let queue = Arc::new(Queue {
        ring: [AtomicU64::new(0), AtomicU64::new(0)],
        doorbell: AtomicU64::new(0),
        asleep: AtomicU32::new(0),
        consumed: AtomicU64::new(0),
        timeline: AtomicU64::new(0),
        arm: AtomicU64::new(ARM_NONE),
    });
    let card = {
        let queue = queue.clone();
        thread::spawn(move || {
            let mut consumed = 0;
            while consumed < PACKETS {
                if queue.doorbell.load(Ordering::Acquire) == consumed {
                    thread::yield_now();
                    continue;
                }
                let packet = queue.ring[(consumed % UNITS) as usize].load(Ordering::Relaxed);
                assert_eq!(packet, 100 + consumed, "overwritten");
                consumed += 1;
                complete(
                    &queue.consumed,
                    &queue.timeline,
                    &queue.arm,
                    consumed,
                    consumed,
                );
            }
        })
    };
    let mut room = Room::new(UNITS as u32);
    for packet in 0..PACKETS {
        let position = loop {
            match room.take(1, || queue.consumed.load(Ordering::Acquire)) {
                Some(position) => break position,
                None => thread::yield_now(),
            }
        };
        queue.ring[(position % UNITS) as usize].store(100 + packet, Ordering::Relaxed);
        assert!(!publish(
            &queue.doorbell,
            &queue.asleep,
            room.written(),
            Barrier::Full
        ));
    }
    card.join().unwrap();
    assert_eq!(queue.timeline.load(Ordering::Acquire), PACKETS);
}

#[test]
fn wraps_around() {
    explore(2, goes_round);
}

#[test]
#[should_panic(expected = "overwritten")]
fn without_the_check_for_room() {
    without(Step::Room, || explore(2, goes_round));
}
