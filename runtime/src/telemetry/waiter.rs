//! Waiting for what chips log, without asking them again and again.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use vmlu_abi::event::EventKind;
use vmlu_abi::ioctl::{EventRecord, MAX_RECORDS};
use vmlu_abi::setting::LogEntry;
use vmlu_abi::Wire;

use super::monitor::{lock, lost_is_none, Monitor};
use crate::error::{Error, Result};
use crate::transport::Transport;

/// How often telemetry pages are looked at where nothing tells of events.
const LOOK: Duration = Duration::from_millis(10);
/// How often a chip is asked whose page says nothing new: it may have been replaced.
const ASK: Duration = Duration::from_secs(1);

/// Bytes of a record of the driver.
const RECORD: usize = size_of::<EventRecord>();

/// What several threads may wait at for the xids and links that chips log. Where the driver or a server tells of them (`SUBSCRIBE`,
/// `docs/uapi.md`, section 10; `docs/hardware.md`, section 15) a thread that waits uses no processor; on the embedded card, and once the server
/// has ended, it looks at the telemetry pages each 10 ms.
///
/// Wait, then read with [`Reader::read`]; who found something calls [`EventWaiter::wake`], so that the other threads look, too.
pub struct EventWaiter {
    /// Readable once a chip has told of an event.
    records: Option<OwnedFd>,
    /// Nobody tells any more.
    ended: AtomicBool,
    /// Has one thread that waits look up.
    nudge: OwnedFd,
    /// What became of chips, the oldest first, until somebody asks.
    changes: Mutex<VecDeque<Change>>,
}

/// What became of a chip, as the driver tells: it is in no chip's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of the chip.
    pub chip: u32,
    /// `true`: it was reset and works again; `false`: it has failed, and all that was on it is over.
    pub is_back: bool,
}

impl EventWaiter {
    /// What waits from now on for the chips of a transport.
    ///
    /// # Errors
    ///
    /// If the system has no descriptors left, or the driver no memory.
    pub fn new(transport: &dyn Transport) -> Result<Self> {
        let nudge = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let no_nudge = |error: rustix::io::Errno| {
            Error::system("wait for events", "there is no descriptor", error.into())
        };
        Ok(Self {
            records: transport.subscribe()?,
            ended: AtomicBool::new(false),
            nudge: nudge.map_err(no_nudge)?,
            changes: Mutex::default(),
        })
    }

    /// Sleeps until a chip may have logged something, a thread calls [`EventWaiter::wake`], or `limit` is over; without a limit for as long
    /// as it takes. `true` if a chip or a thread said so, and logs are worth reading whatever telemetry says.
    pub fn wait(&self, limit: Option<Duration>) -> bool {
        let records = self.records.as_ref();
        let records = records.filter(|_| !self.ended.load(Ordering::Relaxed));
        let limit = match records {
            Some(_) => limit,
            None => Some(limit.map_or(LOOK, |limit| limit.min(LOOK))),
        };
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(&self.nudge, PollFlags::IN)];
        fds.extend(records.map(|fd| PollFd::new(fd, PollFlags::IN)));
        // An interrupted sleep is one that was short.
        let told = poll(&mut fds, limit.as_ref()).unwrap_or(0) > 0;
        if told {
            let _ = rustix::io::read(&self.nudge, &mut [0; 8]);
            records.inspect(|records| self.drain(records));
        }
        told
    }

    /// Takes the records away. What they say of xids and links is in the logs, too.
    fn drain(&self, records: &OwnedFd) {
        let mut room = [0; RECORD * MAX_RECORDS];
        loop {
            // Nothing to read is an error; a read of nothing is the end.
            let Ok(length) = rustix::io::read(records, &mut room) else {
                return;
            };
            if length == 0 {
                self.ended.store(true, Ordering::Relaxed);
                return;
            }
            for record in room[..length].chunks_exact(RECORD) {
                if let Some(record) = EventRecord::read_from(record) {
                    self.note(&record);
                }
            }
            if length < room.len() {
                return;
            }
        }
    }

    /// Keeps what became of a chip; of more than a file of the driver keeps, the newest.
    fn note(&self, record: &EventRecord) {
        let is_back = match EventKind::from_raw(record.kind) {
            Some(EventKind::CardLost) => false,
            Some(EventKind::CardBack) => true,
            _ => return,
        };
        let mut changes = lock(&self.changes);
        if changes.len() == MAX_RECORDS {
            changes.pop_front();
        }
        let chip = record.device;
        changes.push_back(Change { chip, is_back });
    }

    /// What became of chips since this was asked last, the oldest first; always nothing where no driver tells.
    pub fn changes(&self) -> Vec<Change> {
        lock(&self.changes).drain(..).collect()
    }

    /// Has a thread that waits, or the next one that does, look at once.
    pub fn wake(&self) {
        // It fails only where the count stands at its end, and then somebody looks anyway.
        let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
    }
}

/// Reads the logs of chips from where it stopped.
#[derive(Debug, Default)]
pub struct Reader {
    chips: Mutex<HashMap<u32, Place>>,
}

/// Where a reader stands in a chip's log.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Number of the last entry that was read.
    seen: u64,
    /// When the chip was asked last.
    asked: Option<Instant>,
    /// Since when its log seems to be shorter than what was read.
    shorter: Option<Instant>,
}

impl Reader {
    /// From now on also reads the log of a chip, behind the entry of this number; one whose log is read already stays where it stands.
    pub fn add(&self, chip: u32, seen: u64) {
        let new = Place {
            seen,
            asked: None,
            shorter: None,
        };
        lock(&self.chips).entry(chip).or_insert(new);
    }

    /// No longer reads the log of a chip.
    pub fn remove(&self, chip: u32) {
        lock(&self.chips).remove(&chip);
    }

    /// The chips whose logs are read.
    pub fn chips(&self) -> Vec<u32> {
        let mut chips: Vec<_> = lock(&self.chips).keys().copied().collect();
        chips.sort_unstable();
        chips
    }

    /// What is new in a chip's log, the oldest first; nothing of a chip that is lost, or that is not read. `told` is what
    /// [`EventWaiter::wait`] gave: without it a chip whose telemetry shows nothing new is not asked. `take` is shown the entries, and says
    /// how many of them count as read.
    ///
    /// # Errors
    ///
    /// If the driver or the server of the chip does not answer.
    pub fn read<T>(
        &self,
        monitor: &Monitor,
        chip: u32,
        told: bool,
        take: impl FnOnce(&[LogEntry]) -> (usize, T),
    ) -> Result<Option<T>> {
        let mut chips = lock(&self.chips);
        let Some(place) = chips.get_mut(&chip) else {
            return Ok(None);
        };
        let recent = place.asked.is_some_and(|at| at.elapsed() < ASK);
        let Some(newest) = monitor.newest_event(chip, recent)? else {
            return Ok(None);
        };
        if !recent {
            place.asked = Some(Instant::now());
        }
        // A log that is shorter than what was read belongs to a chip that was powered on anew, if it stays so: telemetry may be late.
        if newest >= place.seen {
            place.shorter = None;
        } else if place.shorter.get_or_insert_with(Instant::now).elapsed() >= ASK {
            (place.seen, place.shorter) = (0, None);
        } else if !told {
            return Ok(None);
        }
        if newest == place.seen && !told {
            return Ok(None);
        }
        // It may be lost between the two questions.
        let log = monitor.transport_handle().event_log(chip, place.seen);
        let (entries, _) = lost_is_none(log)?.unwrap_or_default();
        if entries.is_empty() {
            return Ok(None);
        }
        let (count, taken) = take(&entries);
        if let Some(last) = entries[..count.min(entries.len())].last() {
            place.seen = last.number;
        }
        Ok(Some(taken))
    }
}
