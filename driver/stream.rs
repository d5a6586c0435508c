// SPDX-License-Identifier: GPL-2.0

//! What `read` on a file gives: records of events, the oldest of which go when nobody takes them.
//! See `docs/uapi.md`, section 10.

use kernel::{
    fs::{file::flags::O_NONBLOCK, File},
    new_mutex, new_spinlock,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{Atomic, Relaxed},
        poll::{PollCondVarBox, PollTable},
        Arc, Mutex, SpinLock,
    },
    uaccess::UserSliceWriter,
};

use crate::{
    abi::{
        event::EventKind,
        ioctl::{EventRecord, MAX_ARMS, MAX_RECORDS},
        Wire,
    },
    ext::{chardev::ready, wait::now},
};

const RECORD: usize = core::mem::size_of::<EventRecord>();
/// Records that are copied out at once.
const BATCH: usize = 8;

/// The records of a file. Positions count all records that the file ever got.
struct Records {
    /// Record `n` stands at `n % MAX_RECORDS`; empty until somebody asks for records.
    places: KVec<EventRecord>,
    /// Position of the next record that comes.
    next: u64,
    /// Position of the oldest record that is kept.
    oldest: u64,
    /// Position behind the last record that was read: those from here to `oldest` were lost.
    read: u64,
}

impl Records {
    fn push(&mut self, record: EventRecord) {
        let Some(place) = self
            .places
            .get_mut((self.next % MAX_RECORDS as u64) as usize)
        else {
            return;
        };
        *place = record;
        self.next += 1;
        if self.next - self.oldest > MAX_RECORDS as u64 {
            self.oldest += 1;
        }
    }

    /// Copies the oldest records; returns the position of the first and how many there are.
    fn peek(&self, to: &mut [EventRecord]) -> (u64, usize) {
        let count = ((self.next - self.oldest) as usize).min(to.len());
        for (at, to) in (self.oldest..).zip(&mut to[..count]) {
            *to = self.places[(at % MAX_RECORDS as u64) as usize];
        }
        if let Some(first) = to[..count].first_mut() {
            first.lost = u32::try_from(self.oldest - self.read).unwrap_or(u32::MAX);
        }
        (self.oldest, count)
    }

    /// The `count` records from `first` on were read, whether they are still kept or not.
    fn take(&mut self, first: u64, count: usize) {
        self.read = first + count as u64;
        self.oldest = self.oldest.max(self.read);
    }

    fn is_empty(&self) -> bool {
        self.next == self.oldest
    }
}

/// What a file's reader is told.
///
/// Lock order: `reading`, then `records`. Records are put in from interrupt threads, under no other
/// lock than those of the lists of subscribers.
#[pin_data]
pub(crate) struct Stream {
    /// Held by who copies records out, so that none is read twice.
    #[pin]
    reading: Mutex<()>,
    #[pin]
    records: SpinLock<Records>,
    readable: PollCondVarBox,
    /// Bits of the kinds of events that are wanted.
    kinds: Atomic<u64>,
    /// Arms that the file has.
    arms: Atomic<u32>,
}

impl Stream {
    /// Makes that of a file. The memory for records comes with [`Self::prepare`].
    pub(crate) fn new() -> Result<Arc<Self>> {
        let readable = PollCondVarBox::new(c"mlu_stream", static_lock_class!())?;
        let records = Records {
            places: KVec::new(),
            next: 0,
            oldest: 0,
            read: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                reading <- new_mutex!(()),
                records <- new_spinlock!(records),
                readable,
                kinds: Atomic::new(0),
                arms: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes room for records; before it none is kept.
    pub(crate) fn prepare(&self) -> Result {
        if !self.records.lock().places.is_empty() {
            return Ok(());
        }
        let mut fresh = KVec::with_capacity(MAX_RECORDS, GFP_KERNEL)?;
        for _ in 0..MAX_RECORDS {
            fresh.push(EventRecord::zeroed(), GFP_KERNEL)?;
        }
        let mut records = self.records.lock();
        if records.places.is_empty() {
            core::mem::swap(&mut records.places, &mut fresh);
        }
        drop(records);
        // Another thread was faster, or this is the empty vector.
        drop(fresh);
        Ok(())
    }

    /// Puts a record in and wakes readers. May be called under spin locks.
    pub(crate) fn push(&self, record: EventRecord) {
        self.records.lock().push(record);
        self.readable.notify_all();
    }

    /// Wakes readers and pollers, who then find that the chip is gone.
    pub(crate) fn wake(&self) {
        // Who has looked and is about to sleep holds the lock until he is entered.
        drop(self.records.lock());
        self.readable.notify_all();
    }

    /// Chooses the kinds of events; see `ioctl::Subscribe::kinds`.
    pub(crate) fn set_kinds(&self, kinds: u64) {
        self.kinds.store(kinds, Relaxed);
    }

    /// Whether events of a kind are wanted.
    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.kinds.load(Relaxed) & bit(kind) != 0
    }

    /// Takes one of the arms that a file may have; give it back with [`Self::give_arm`].
    pub(crate) fn take_arm(&self) -> Result {
        // Taken before it is judged, so that two callers do not both get the last one.
        if self.arms.fetch_add(1, Relaxed) >= MAX_ARMS {
            self.give_arm();
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Gives one back.
    pub(crate) fn give_arm(&self) {
        self.arms.fetch_sub(1, Relaxed);
    }

    /// `read`: as many whole records as fit and are there. With none it waits, while `is_alive`,
    /// unless the file says otherwise.
    pub(crate) fn read(
        &self,
        file: &File,
        mut to: UserSliceWriter,
        is_alive: impl Fn() -> bool,
    ) -> Result<usize> {
        if to.len() < RECORD {
            return Err(EINVAL);
        }
        loop {
            let length = self.copy_out(&mut to)?;
            if length > 0 {
                return Ok(length);
            }
            if !is_alive() {
                return Err(ENODEV);
            }
            if file.flags() & O_NONBLOCK != 0 {
                return Err(EAGAIN);
            }
            let mut records = self.records.lock();
            while records.is_empty() && is_alive() {
                if self.readable.wait_interruptible(&mut records) {
                    return Err(ERESTARTSYS);
                }
            }
        }
    }

    /// Copies out what is there, until `to` is full.
    fn copy_out(&self, to: &mut UserSliceWriter) -> Result<usize> {
        let _reading = self.reading.lock();
        let mut length = 0;
        loop {
            let mut batch = [EventRecord::zeroed(); BATCH];
            let room = (to.len() / RECORD).min(BATCH);
            let (first, count) = self.records.lock().peek(&mut batch[..room]);
            if count == 0 {
                return Ok(length);
            }
            let mut copied = 0;
            let result = batch[..count].iter().try_for_each(|record| {
                to.write_slice(record.as_bytes())?;
                copied += 1;
                Ok(())
            });
            self.records.lock().take(first, copied);
            length += copied * RECORD;
            // What was copied whole counts; the record that could not be copied stays.
            match result {
                Err(e) if length == 0 => return Err(e),
                Err(_) => return Ok(length),
                Ok(()) => {}
            }
        }
    }

    /// `poll`, but for what the file knows of its chip.
    pub(crate) fn poll(&self, file: &File, table: PollTable<'_>) -> u32 {
        table.register_wait(file, &self.readable);
        if self.records.lock().is_empty() {
            0
        } else {
            ready::READ
        }
    }
}

/// The bit of a kind in `ioctl::Subscribe::kinds`.
pub(crate) const fn bit(kind: EventKind) -> u64 {
    1 << kind as u32
}

/// A record of an event that happens now.
pub(crate) fn record(kind: EventKind, device: u32, object: u64, value: u64) -> EventRecord {
    EventRecord {
        kind: kind as u32,
        device,
        object,
        value,
        time_ns: now() as u64,
        ..EventRecord::zeroed()
    }
}

/// Files that want to hear of a card's events.
pub(crate) struct Subscribers(KVec<Arc<Stream>>);

impl Subscribers {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    /// Makes `stream` one that hears of these kinds; 0 ends it.
    pub(crate) fn set(&mut self, stream: &Arc<Stream>, kinds: u64) -> Result {
        let at = self.0.iter().position(|s| Arc::ptr_eq(s, stream));
        match at {
            None if kinds != 0 => self.0.push(stream.clone(), GFP_KERNEL)?,
            // The file still has the stream, so nothing is freed here.
            Some(at) if kinds == 0 => drop(self.0.remove(at)),
            _ => {}
        }
        stream.set_kinds(kinds);
        Ok(())
    }

    /// Tells all of them.
    pub(crate) fn tell(&self, kind: EventKind, record: &EventRecord) {
        for stream in self.0.iter().filter(|stream| stream.wants(kind)) {
            stream.push(*record);
        }
    }
}

/// On the debug kernel, when the module is loaded.
#[kunit_tests(mlu_stream)]
mod tests {
    use super::*;

    const ROOM: u64 = MAX_RECORDS as u64;

    fn records(length: usize) -> Result<Records> {
        Ok(Records {
            places: KVec::from_elem(EventRecord::zeroed(), length, GFP_KERNEL)?,
            next: 0,
            oldest: 0,
            read: 0,
        })
    }

    fn numbered(value: u64) -> EventRecord {
        EventRecord {
            value,
            ..EventRecord::zeroed()
        }
    }

    /// The value of the first, how many records were lost before it, and how many there are, at
    /// most `most`.
    fn first(records: &Records, most: usize) -> (u64, u32, usize) {
        let mut batch = [EventRecord::zeroed(); BATCH];
        let (_, count) = records.peek(&mut batch[..most]);
        (batch[0].value, batch[0].lost, count)
    }

    #[test]
    fn come_out_in_order() -> Result {
        let mut records = records(MAX_RECORDS)?;
        assert!(records.is_empty());
        for value in 1..=5 {
            records.push(numbered(value));
        }
        assert_eq!(first(&records, 3), (1, 0, 3));
        records.take(0, 3);
        assert_eq!(first(&records, BATCH), (4, 0, 2));
        records.take(3, 2);
        assert!(records.is_empty());
        Ok(())
    }

    #[test]
    fn the_oldest_go_and_are_counted() -> Result {
        let mut records = records(MAX_RECORDS)?;
        for value in 0..ROOM + 7 {
            records.push(numbered(value));
        }
        assert_eq!(first(&records, BATCH), (7, 7, BATCH));
        records.take(7, 1);
        // Counted once.
        assert_eq!(first(&records, 1), (8, 0, 1));
        Ok(())
    }

    /// Between looking and taking others came and pushed what was looked at out.
    #[test]
    fn what_was_read_meanwhile_is_not_lost() -> Result {
        let mut records = records(MAX_RECORDS)?;
        for value in 0..ROOM {
            records.push(numbered(value));
        }
        assert_eq!(first(&records, BATCH), (0, 0, BATCH));
        for value in 0..ROOM {
            records.push(numbered(ROOM + value));
        }
        records.take(0, BATCH);
        assert_eq!(
            first(&records, 1),
            (ROOM, (ROOM as usize - BATCH) as u32, 1)
        );
        Ok(())
    }

    #[test]
    fn none_are_kept_before_somebody_asks() -> Result {
        let mut records = records(0)?;
        records.push(numbered(1));
        assert!(records.is_empty());
        Ok(())
    }
}
