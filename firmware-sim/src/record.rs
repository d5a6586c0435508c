//! What a chip remembers over resets, part of it over power-off, and the log of what happened to it. See `docs/hardware.md`, section 10.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use vmlu_abi::event::EventKind;
use vmlu_abi::setting::{
    ComputeMode, LogEntry, RetireCause, RetiredPage, CORRECTED_LIMIT, LOG_ENTRIES, MAX_RETIRED,
    RETIRED_PAGE,
};
use vmlu_abi::Wire;

/// What outlives power-off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether ECC is on after the next reset.
    pub ecc: bool,
    /// Correctable memory errors since the board was made.
    pub corrected: u64,
    /// Uncorrectable memory errors since the board was made.
    pub uncorrected: u64,
    /// Pages that are out of use.
    pub retired: Vec<Retired>,
}

/// A page of device memory that is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Offset in device memory.
    pub offset: u64,
    /// Whether an uncorrectable error did it.
    pub uncorrected: bool,
    /// Whether it waits for a reset.
    pub pending: bool,
}

impl Retired {
    /// As messages carry it.
    pub fn to_wire(self) -> RetiredPage {
        let cause = match self.uncorrected {
            true => RetireCause::Uncorrected,
            false => RetireCause::Corrected,
        };
        RetiredPage {
            offset: self.offset,
            cause: cause as u32,
            pending: u32::from(self.pending),
        }
    }
}

/// Settings that last until power-off.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Power cap of the board, mW; 0 for the model's.
    pub power_cap_mw: u32,
    /// Who may open contexts.
    pub compute_mode: ComputeMode,
    /// IPU clock, kHz; 0 while it is not locked.
    pub clock_khz: u32,
}

/// What runs on over resets until power-off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Energy, µJ.
    pub energy_uj: f64,
    /// How often heat lowered the clock.
    pub slowdowns: u32,
    /// How often heat stopped the chip.
    pub shutdowns: u32,
    /// Wall time under the power cap, ns.
    pub power_capped_ns: u64,
    /// Wall time slowed by heat, ns.
    pub heat_slowed_ns: u64,
    /// Boots of the firmware.
    pub boots: u32,
}

/// Called with what outlives power-off whenever it changes.
pub type Save = Box<dyn Fn(&Kept) + Send + Sync>;

/// The record of a chip. Whoever makes the hardware makes it, and hands it to each firmware that boots there.
pub struct Record {
    kept: Mutex<Kept>,
    save: Option<Save>,
    settings: Mutex<Settings>,
    /// What runs on.
    pub totals: Mutex<Totals>,
    /// Correctable errors of pages that are not worn out yet.
    worn: Mutex<HashMap<u64, u32>>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    newest: u64,
    entries: VecDeque<LogEntry>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Default for Record {
    fn default() -> Self {
        Self::new(Kept::default(), None)
    }
}

impl Record {
    /// The record of a chip that is powered on; `save` keeps what outlives power-off.
    pub fn new(kept: Kept, save: Option<Save>) -> Self {
        Self {
            kept: Mutex::new(kept),
            save,
            settings: Mutex::new(Settings {
                power_cap_mw: 0,
                compute_mode: ComputeMode::Default,
                clock_khz: 0,
            }),
            totals: Mutex::default(),
            worn: Mutex::default(),
            log: Mutex::default(),
        }
    }

    /// The firmware boots: what waited for a reset takes effect. What is kept from here on.
    pub fn boot(&self) -> Kept {
        lock(&self.totals).boots += 1;
        lock(&self.worn).clear();
        self.change(|kept| {
            kept.retired
                .iter_mut()
                .for_each(|page| page.pending = false);
        })
    }

    /// What outlives power-off.
    pub fn kept(&self) -> Kept {
        lock(&self.kept).clone()
    }

    /// Looks at what outlives power-off.
    pub fn with_kept<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&lock(&self.kept))
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> Kept {
        let mut kept = lock(&self.kept);
        let before = kept.clone();
        change(&mut kept);
        // Under the lock, so that a later state is never overwritten by an earlier one.
        if let (Some(save), true) = (&self.save, *kept != before) {
            save(&kept);
        }
        kept.clone()
    }

    /// Sets whether ECC is on after the next reset.
    pub fn set_ecc(&self, on: bool) {
        self.change(|kept| kept.ecc = on);
    }

    /// Counts correctable memory errors. At an offset that is known, a page that has had too many is retired at the next reset.
    pub fn corrected(&self, count: u64, offset: Option<u64>) {
        let worn = offset.map(|offset| {
            let page = offset / RETIRED_PAGE * RETIRED_PAGE;
            let mut worn = lock(&self.worn);
            let errors = worn.entry(page).or_default();
            *errors = errors.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            (page, *errors >= CORRECTED_LIMIT)
        });
        self.change(|kept| {
            kept.corrected = kept.corrected.saturating_add(count);
            if let Some((page, true)) = worn {
                retire(kept, page, false);
            }
        });
    }

    /// Counts an uncorrectable memory error; the page, if it is known, is retired at the next reset.
    pub fn uncorrected(&self, offset: Option<u64>) {
        self.change(|kept| {
            kept.uncorrected = kept.uncorrected.saturating_add(1);
            if let Some(offset) = offset {
                retire(kept, offset / RETIRED_PAGE * RETIRED_PAGE, true);
            }
        });
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    /// Changes the settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.settings));
    }

    /// Adds an entry to the log.
    pub fn log(&self, kind: EventKind, object: u32, value: u64, pid: u32, status: u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut log = lock(&self.log);
        log.newest += 1;
        let entry = LogEntry {
            number: log.newest,
            time_us: now.map_or(0, |time| time.as_micros() as u64),
            kind: kind as u32,
            object,
            value,
            pid,
            status,
            ..LogEntry::zeroed()
        };
        if log.entries.len() == LOG_ENTRIES {
            log.entries.pop_front();
        }
        log.entries.push_back(entry);
    }

    /// Number of the newest entry of the log; 0 if it is empty.
    pub fn newest(&self) -> u64 {
        lock(&self.log).newest
    }

    /// At most `most` entries behind one, the oldest first; how many are lost before them; and the number of the newest.
    pub fn entries(&self, after: u64, most: usize) -> (Vec<LogEntry>, u64, u64) {
        let log = lock(&self.log);
        let oldest = log.newest - log.entries.len() as u64;
        let lost = oldest.saturating_sub(after);
        let skip = after.saturating_sub(oldest).min(log.entries.len() as u64);
        let entries = log.entries.iter().skip(skip as usize).take(most).copied();
        (entries.collect(), lost, log.newest)
    }
}

/// Takes a page out of use at the next reset; a page that is out already stays as it is.
fn retire(kept: &mut Kept, offset: u64, uncorrected: bool) {
    let known = kept.retired.iter().any(|page| page.offset == offset);
    if !known && kept.retired.len() < MAX_RETIRED {
        kept.retired.push(Retired {
            offset,
            uncorrected,
            pending: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn pages_wear_out_and_go_at_the_next_boot() {
        let saved = Arc::new(Mutex::new(Kept::default()));
        let copy = saved.clone();
        let record = Record::new(
            Kept::default(),
            Some(Box::new(move |kept| *lock(&copy) = kept.clone())),
        );
        record.boot();
        record.corrected(1, Some(RETIRED_PAGE + 5));
        assert!(record.kept().retired.is_empty());
        record.corrected(1, Some(RETIRED_PAGE + 9));
        record.uncorrected(Some(7 * RETIRED_PAGE));
        record.uncorrected(Some(7 * RETIRED_PAGE + 1));
        let kept = record.kept();
        let pages: Vec<_> = kept
            .retired
            .iter()
            .map(|p| (p.offset / RETIRED_PAGE, p.uncorrected, p.pending))
            .collect();
        assert_eq!(pages, [(1, false, true), (7, true, true)]);
        assert_eq!((kept.corrected, kept.uncorrected), (2, 2));
        assert!(record.boot().retired.iter().all(|page| !page.pending));
        assert_eq!(*lock(&saved), record.kept());
    }

    #[test]
    fn the_log_tells_what_it_has_lost() {
        let record = Record::default();
        for n in 0..LOG_ENTRIES as u64 + 3 {
            record.log(EventKind::Xid, 0, n, 0, 0);
        }
        let (entries, lost, newest) = record.entries(0, 2);
        assert_eq!(
            (entries.len(), lost, newest),
            (2, 3, LOG_ENTRIES as u64 + 3)
        );
        assert_eq!((entries[0].number, entries[0].value), (4, 3));
        assert!(record.entries(newest, 10).0.is_empty());
        assert!(record.entries(u64::MAX, 10).0.is_empty());
    }
}
