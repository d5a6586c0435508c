// SPDX-License-Identifier: GPL-2.0

//! The last calls of the firmware, for debugfs and for what is kept of a card that was lost.

use kernel::{fmt, prelude::*};

use crate::{
    abi::{rpc::Function, status::Status},
    ext::wait::now,
};

/// Calls that are kept.
const KEPT: usize = 64;

/// What has become of a call.
#[derive(Clone, Copy)]
enum Outcome {
    /// It is under way.
    Pending,
    /// The firmware answered.
    Answered(Status),
    /// It could not be made, or the card was lost meanwhile; with the errno.
    Failed(i32),
}

/// A call.
#[derive(Clone, Copy)]
struct Call {
    function: Function,
    context: u64,
    /// CLOCK_MONOTONIC at its beginning, ns.
    at: i64,
    /// What it took, ns.
    took: i64,
    outcome: Outcome,
}

/// The last calls. They are made one after another.
#[derive(Clone)]
pub(crate) struct RpcTrace {
    calls: [Option<Call>; KEPT],
    count: u64,
}

impl RpcTrace {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            calls: [None; KEPT],
            count: 0,
        }
    }

    /// A copy of them. May be called under spin locks.
    pub(crate) fn copy(&self) -> Result<KBox<Self>> {
        Ok(KBox::new(self.clone(), GFP_ATOMIC)?)
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, function: Function, context: u64) {
        self.calls[(self.count % KEPT as u64) as usize] = Some(Call {
            function,
            context,
            at: now(),
            took: 0,
            outcome: Outcome::Pending,
        });
        self.count += 1;
    }

    /// The last call has ended, with a status or an errno; returns what it took, ns.
    pub(crate) fn end(&mut self, result: Result<Status>) -> u64 {
        let last = self.count.wrapping_sub(1) % KEPT as u64;
        let Some(call) = &mut self.calls[last as usize] else {
            return 0;
        };
        call.took = now() - call.at;
        call.outcome = match result {
            Ok(status) => Outcome::Answered(status),
            Err(e) => Outcome::Failed(e.to_errno()),
        };
        call.took as u64
    }
}

impl RpcTrace {
    /// A line a call, the oldest first.
    pub(crate) fn write(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        for at in self.count.saturating_sub(KEPT as u64)..self.count {
            let Some(call) = &self.calls[(at % KEPT as u64) as usize] else {
                continue;
            };
            let Call {
                function,
                context,
                took,
                ..
            } = call;
            let (seconds, micro) = (call.at / 1_000_000_000, call.at / 1000 % 1_000_000);
            write!(f, "{at} {seconds}.{micro:06} {function:?} {context:#x} ")?;
            match call.outcome {
                Outcome::Pending => writeln!(f, "pending")?,
                Outcome::Answered(status) => writeln!(f, "{} {took}", status.name())?,
                Outcome::Failed(errno) => writeln!(f, "errno {} {took}", -errno)?,
            }
        }
        Ok(())
    }
}
