//! One port: its state and its counters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::OnceLock;

use vmlu_abi::link::{self, PortState, LANES, PACKET};
use vmlu_abi::Wire;

use super::topology::End;
use crate::clock::wall_ns;

/// A kind of error that a port counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A packet was sent again.
    Replay,
    /// The 24-bit sum was wrong.
    Crc24,
    /// The 32-bit sum was wrong.
    Crc32,
    /// A double-bit error.
    EccDouble,
    /// An error that was corrected.
    Corrected,
    /// An error that was not.
    Uncorrected,
    /// The other end refused an access.
    Illegal,
}

/// A port.
pub(super) struct Port {
    pub(super) index: u32,
    full_rate: u64,
    other: OnceLock<End>,
    state: AtomicU32,
    lanes: AtomicU32,
    changed_ns: AtomicU64,
    downs: AtomicU64,
    read: [AtomicU64; 2],
    written: [AtomicU64; 2],
    errors: [AtomicU64; 7],
}

impl Port {
    pub(super) fn new(index: u32, full_rate: u64) -> Self {
        Self {
            index,
            full_rate,
            other: OnceLock::new(),
            state: AtomicU32::new(PortState::Absent as u32),
            lanes: AtomicU32::new(0),
            changed_ns: AtomicU64::new(wall_ns()),
            downs: AtomicU64::new(0),
            read: Default::default(),
            written: Default::default(),
            errors: Default::default(),
        }
    }

    /// Plugs a cable in that leads to another port.
    pub(super) fn plug(&self, other: End, state: PortState) {
        let _ = self.other.set(other);
        self.set(state, LANES / 2);
        self.downs.store(0, Ordering::Relaxed);
    }

    /// Where its cable leads.
    pub(super) fn other(&self) -> Option<End> {
        self.other.get().copied()
    }

    fn state(&self) -> PortState {
        PortState::from_raw(self.state.load(Ordering::Acquire)).unwrap_or(PortState::Absent)
    }

    /// Whether bytes can go through.
    pub(super) fn runs(&self) -> bool {
        matches!(self.state(), PortState::Up | PortState::Degraded)
    }

    /// Bytes/s in one direction.
    pub(super) fn rate(&self) -> u64 {
        self.full_rate / u64::from(LANES) * u64::from(self.lanes.load(Ordering::Relaxed))
    }

    /// Changes the state; whether it did change.
    pub(super) fn set(&self, state: PortState, lanes: u32) -> bool {
        let lanes = match state {
            PortState::Up => LANES,
            PortState::Degraded => lanes.clamp(1, LANES - 1),
            PortState::Absent | PortState::Down => 0,
        };
        let same_lanes = self.lanes.swap(lanes, Ordering::Relaxed) == lanes;
        let before = self.state.swap(state as u32, Ordering::AcqRel);
        if before == state as u32 && same_lanes {
            return false;
        }
        self.changed_ns.store(wall_ns(), Ordering::Relaxed);
        if state == PortState::Down && before != PortState::Down as u32 {
            self.downs.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Counts bytes received and sent.
    pub(super) fn count(&self, read: u64, written: u64) {
        for (counters, bytes) in [(&self.read, read), (&self.written, written)] {
            if bytes > 0 {
                counters[0].fetch_add(bytes, Ordering::Relaxed);
                counters[1].fetch_add(bytes.div_ceil(PACKET), Ordering::Relaxed);
            }
        }
    }

    /// Counts errors.
    pub(super) fn count_errors(&self, kind: ErrorKind, count: u64) {
        self.errors[kind as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What the port reports of itself; of its other end only the fabric knows.
    pub(super) fn report(&self) -> link::Port {
        let state = self.state();
        let errors = |kind: ErrorKind| self.errors[kind as usize].load(Ordering::Relaxed);
        let downs = self.downs.load(Ordering::Relaxed);
        link::Port {
            port: self.index,
            state: state as u32,
            rate: if self.runs() { self.rate() } else { 0 },
            lanes: self.lanes.load(Ordering::Relaxed),
            max_lanes: LANES,
            read_bytes: self.read[0].load(Ordering::Relaxed),
            read_packets: self.read[1].load(Ordering::Relaxed),
            written_bytes: self.written[0].load(Ordering::Relaxed),
            written_packets: self.written[1].load(Ordering::Relaxed),
            replays: errors(ErrorKind::Replay),
            fatal: downs,
            ecc_double: errors(ErrorKind::EccDouble),
            crc24: errors(ErrorKind::Crc24),
            crc32: errors(ErrorKind::Crc32),
            corrected: errors(ErrorKind::Corrected),
            uncorrected: errors(ErrorKind::Uncorrected),
            illegal: errors(ErrorKind::Illegal),
            downs,
            changed_ns: self.changed_ns.load(Ordering::Relaxed),
            ..link::Port::zeroed()
        }
    }
}
