//! What wakes the processes: a chip's events, passed on to the context whose queue they are about.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock};

use rustix::net::{
    send, shutdown, socketpair, AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType,
};
use vmlu_abi::event::{Event, EventKind};

use crate::embedded::EmbeddedChip;
use crate::events::EventRings;
use crate::lock::{read, write};

/// Wakes the waiters of one context.
///
/// A socket, not an eventfd: whether a write to an eventfd may block is a flag that the two sides share, so that a client could have the
/// firmware's workers wait.
pub struct Bell {
    socket: OwnedFd,
}

impl Bell {
    /// A bell, and the end that the process listens at.
    pub fn new() -> io::Result<(Arc<Self>, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, ear) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Nothing comes from the other side.
        shutdown(&socket, Shutdown::Read)?;
        Ok((Arc::new(Self { socket }), ear))
    }

    /// Rings. A process that does not listen has rung bells enough.
    fn ring(&self) {
        let _ = send(
            &self.socket,
            &[0],
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
    }

    /// Tells the process that the context is gone.
    pub fn hang_up(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

/// The bells of a chip.
pub struct Bells {
    rings: Arc<EventRings>,
    queues: Arc<Queues>,
}

/// Bells by queue index.
#[derive(Default)]
struct Queues(RwLock<HashMap<u32, Arc<Bell>>>);

impl Queues {
    fn hear(&self, events: &[Event], lost: bool) {
        let queues = read(&self.0);
        let told = |event: &Event| {
            let kind = EventKind::from_raw(event.kind);
            matches!(kind, Some(EventKind::Timeline | EventKind::QueueError))
        };
        if lost || !events.iter().all(told) {
            return queues.values().for_each(|bell| bell.ring());
        }
        for event in events {
            if let Some(bell) = queues.get(&event.object) {
                bell.ring();
            }
        }
    }
}

impl Bells {
    /// Listens to a chip.
    pub fn new(chip: &EmbeddedChip) -> io::Result<Arc<Self>> {
        let queues = Arc::new(Queues::default());
        let told = queues.clone();
        let rings = EventRings::attach(
            chip,
            Box::new(move |_, events, lost| told.hear(events, lost)),
        )?;
        Ok(Arc::new(Self { rings, queues }))
    }

    /// From now on the queue's events ring this bell.
    pub fn add(&self, queue_index: u32, bell: &Arc<Bell>) {
        write(&self.queues.0).insert(queue_index, bell.clone());
    }

    /// The queue's events ring nothing any more.
    pub fn remove(&self, queue_index: u32) {
        write(&self.queues.0).remove(&queue_index);
    }

    /// Looks for events whose interrupt got lost.
    pub fn look(&self) {
        self.rings.take_all();
    }

    /// The chip is gone: tells everybody.
    pub fn hang_up(&self) {
        read(&self.queues.0)
            .values()
            .for_each(|bell| bell.hang_up());
    }
}
