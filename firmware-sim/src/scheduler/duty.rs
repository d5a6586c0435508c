//! The chip that a worker keeps busy.
//!
//! A worker that goes from queue to queue of a chip keeps it busy all the while, and so does a gap that is too short to be looked at
//! ([`GAP_NS`]): clock and telemetry are told of the first service and the end of the last one, not of each.

use std::sync::Arc;

use crate::clock::wall_ns;
use crate::core::Core;

/// Gaps between two services that count as work, ns.
const GAP_NS: u64 = 1_000;

/// See above.
pub struct Duty {
    core: Option<Arc<Core>>,
    /// Wall time at which the last service ended.
    served: u64,
    /// Wall time when the worker last looked.
    now: u64,
}

impl Duty {
    /// Nothing to do yet.
    pub(super) fn new() -> Self {
        Self {
            core: None,
            served: 0,
            now: wall_ns(),
        }
    }

    /// Wall time when the worker last looked, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Looks at the clock; how much has passed since the last look, ns.
    pub fn look(&mut self) -> u64 {
        let before = self.now;
        self.now = wall_ns();
        self.now.saturating_sub(before)
    }

    /// A service of a queue of a chip begins at the last look.
    pub fn begin(&mut self, core: &Arc<Core>) {
        if self.core.as_ref().is_some_and(|c| Arc::ptr_eq(c, core)) {
            return;
        }
        self.leave();
        core.clock.begin(self.now);
        core.live.begin(self.now);
        self.core = Some(core.clone());
    }

    /// A service ends now; the wall time, ns.
    pub fn end(&mut self) -> u64 {
        self.look();
        self.served = self.now;
        self.now
    }

    /// There is nothing to do at the last look; if that lasts, the chip is idle.
    pub(super) fn pause(&mut self) {
        if self.core.is_some() && self.now.saturating_sub(self.served) > GAP_NS {
            self.leave();
        }
    }

    /// The worker goes: the chip is idle since the last service ended.
    pub(super) fn leave(&mut self) {
        if let Some(core) = self.core.take() {
            core.live.end(self.served);
            core.clock.end(self.served);
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.leave();
    }
}
