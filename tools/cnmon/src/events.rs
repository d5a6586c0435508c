//! `cnmon events`: what happened to the cards, and with `-f` what happens.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use vmlu::abi::event::EventKind;
use vmlu::abi::link::PortState;
use vmlu::abi::setting::LogEntry;
use vmlu::abi::status::Xid;
use vmlu::abi::{Status, Wire};
use vmlu::telemetry::{Change, EventWaiter, Monitor, Reader};

use crate::cli::Failure;

/// The logs of some cards.
pub(crate) struct Log<'a> {
    monitor: &'a Monitor,
    reader: Reader,
    waiter: EventWaiter,
    /// Whether a card said that there is something new.
    told: bool,
}

impl<'a> Log<'a> {
    /// The logs of these cards, from their beginnings.
    pub(crate) fn new(monitor: &'a Monitor, cards: &[u32]) -> Result<Self, Failure> {
        let waiter = EventWaiter::new(&**monitor.transport_handle());
        let reader = Reader::default();
        cards.iter().for_each(|card| reader.add(*card, 0));
        Ok(Self {
            monitor,
            reader,
            waiter: waiter.map_err(|error| Failure::no_events(&error))?,
            told: false,
        })
    }

    /// What is new, in the order of time.
    pub(crate) fn read(&mut self) -> Result<Vec<(u32, LogEntry)>, Failure> {
        let mut all = Vec::new();
        for card in self.reader.chips() {
            let entries = unread(&self.reader, self.monitor, card, self.told);
            let entries = entries.map_err(|error| Failure::no_events(&error))?;
            all.extend(entries.into_iter().map(|entry| (card, entry)));
        }
        let wanted = self.reader.chips();
        let changes = self.waiter.changes().into_iter();
        let changes = changes.filter(|change| wanted.contains(&change.chip));
        all.extend(changes.map(|change| (change.chip, of_change(change))));
        all.sort_by_key(|(_, entry)| entry.time_us);
        Ok(all)
    }

    /// Waits until it is worth reading again.
    pub(crate) fn wait(&mut self) {
        self.told = self.waiter.wait(None);
    }
}

/// What is new in a card's log; `told` as for [`Reader::read`].
pub(crate) fn unread(
    reader: &Reader,
    monitor: &Monitor,
    card: u32,
    told: bool,
) -> vmlu::Result<Vec<LogEntry>> {
    let whole = |entries: &[LogEntry]| (entries.len(), entries.to_vec());
    Ok(reader.read(monitor, card, told, whole)?.unwrap_or_default())
}

/// An entry for what became of a card, which its own log does not have.
fn of_change(change: Change) -> LogEntry {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let kind = match change.is_back {
        true => EventKind::CardBack,
        false => EventKind::CardLost,
    };
    LogEntry {
        time_us: now.map_or(0, |time| time.as_micros() as u64),
        kind: kind as u32,
        ..LogEntry::zeroed()
    }
}

/// Name of an xid.
fn xid(entry: &LogEntry) -> &'static str {
    match u32::try_from(entry.value).ok().and_then(Xid::from_raw) {
        Some(Xid::Software) => "software notice",
        Some(Xid::Mcu) => "board controller",
        Some(Xid::Ecc) => "uncorrectable memory error",
        Some(Xid::Rpc) => "RPC failure",
        Some(Xid::IllegalAccess) => "illegal access",
        Some(Xid::Crc) => "CRC error",
        Some(Xid::MluLink) => "MLU-Link",
        Some(Xid::Memory) => "memory",
        Some(Xid::OverTemperature) => "over-temperature",
        Some(Xid::Halt) => "halt",
        None => "unknown",
    }
}

/// What an entry says.
fn text(entry: &LogEntry) -> String {
    match EventKind::from_raw(entry.kind) {
        Some(EventKind::CardLost) => return "is lost, with all that was on it".into(),
        Some(EventKind::CardBack) => return "works again".into(),
        _ => {}
    }
    if entry.kind == EventKind::Link as u32 {
        let state = match u32::try_from(entry.value)
            .ok()
            .and_then(PortState::from_raw)
        {
            Some(PortState::Up) => "up",
            Some(PortState::Down) => "down",
            Some(PortState::Degraded) => "degraded",
            Some(PortState::Absent) | None => "absent",
        };
        return format!("MLU-Link port {} is {state}", entry.object);
    }
    let mut text = format!("XID {}: {}", entry.value, xid(entry));
    if let Some(status) = Status::from_raw(entry.status).filter(|status| *status != Status::Ok) {
        text += &format!(", {}", status.text());
    }
    if entry.pid != 0 {
        text += &format!(", process {}", entry.pid);
    }
    text
}

/// A line for an entry: in words, or as JSON.
pub(crate) fn line(card: u32, entry: &LogEntry, as_json: bool) -> String {
    let seconds = entry.time_us as f64 / 1e6;
    if !as_json {
        return format!("{seconds:.6} Card {card} {}\n", text(entry));
    }
    let kind = EventKind::from_raw(entry.kind);
    let (kind, is_link) = match kind {
        Some(EventKind::Link) => ("link", true),
        Some(EventKind::CardLost) => ("lost", false),
        Some(EventKind::CardBack) => ("back", false),
        _ => ("xid", false),
    };
    let line = json!({
        "schema": "cnmon-event",
        "schema_version": 1,
        "card": card,
        "number": (entry.number != 0).then_some(entry.number),
        "time_us": entry.time_us,
        "kind": kind,
        "value": entry.value,
        "port": is_link.then_some(entry.object),
        "pid": (entry.pid != 0).then_some(entry.pid),
        "text": text(entry),
    });
    format!("{line}\n")
}
