//! What wakes the processes: a chip's events, passed on to the context whose queue they are about.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock, Weak};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{
    send, shutdown, socketpair, AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType,
};
use vmlu_abi::event::{Event, EventKind};
use vmlu_abi::ioctl::EventRecord;
use vmlu_abi::Wire;
use vmlu_firmware::clock::wall_ns;

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
        self.say(&[0]);
    }

    /// Says something short, all or nothing of it.
    fn say(&self, what: &[u8]) {
        let _ = send(
            &self.socket,
            what,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
    }

    /// Whether nobody has the other end any more.
    pub fn is_deserted(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        let none = Timespec::default();
        poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0)
    }

    /// Tells the process that the context is gone.
    pub fn hang_up(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

/// Who is told of what the chips report.
#[derive(Default)]
pub struct Watchers(RwLock<Vec<Weak<Bell>>>);

impl Watchers {
    /// From now on this bell says what the chips report, in `ioctl::EventRecord`s, until it is dropped.
    pub fn add(&self, bell: &Arc<Bell>) {
        let mut watchers = write(&self.0);
        watchers.retain(|bell| bell.strong_count() > 0);
        watchers.push(Arc::downgrade(bell));
    }

    /// Passes on what a chip reported; `lost` says that there was more.
    fn hear(&self, device: u32, events: &[Event], lost: bool) {
        let told = |event: &&Event| {
            let kind = EventKind::from_raw(event.kind);
            matches!(kind, Some(EventKind::Xid | EventKind::Link))
        };
        let record = |kind: u32, object: u32, value: u64, lost: u32| EventRecord {
            kind,
            device,
            object: object.into(),
            value,
            time_ns: wall_ns(),
            lost,
            ..EventRecord::zeroed()
        };
        let lost = lost.then(|| record(0, 0, 0, 1));
        let reported = events.iter().filter(told);
        let records = reported.map(|event| record(event.kind, event.object, event.value, 0));
        let records: Vec<_> = lost.into_iter().chain(records).collect();
        if records.is_empty() {
            return;
        }
        for bell in read(&self.0).iter().filter_map(Weak::upgrade) {
            records
                .iter()
                .for_each(|record| bell.say(record.as_bytes()));
        }
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
    /// Listens to a chip, which has this number.
    pub fn new(
        chip: &EmbeddedChip,
        device: u32,
        watchers: &Arc<Watchers>,
    ) -> io::Result<Arc<Self>> {
        let queues = Arc::new(Queues::default());
        let (told, watchers) = (queues.clone(), watchers.clone());
        let hear = move |_: u32, events: &[Event], lost: bool| {
            told.hear(events, lost);
            watchers.hear(device, events, lost);
        };
        let rings = EventRings::attach(chip, Box::new(hear))?;
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
