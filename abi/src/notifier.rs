//! Notifiers: time stamps that a queue records. See `docs/hardware.md`, section 8.

use super::Wire;

wire! {
    /// One entry of a context's notifier pool, written by the card when a `packet::Notify` completes. `value` is written last, with
    /// release order, so that a reader that sees the value sees the rest.
    pub struct Notifier : 32 {
        /// The packet's value.
        pub value: u32 = 0,
        /// `status::Status` code of the queue at that point: 0 while all is well.
        pub error: u32 = 4,
        /// Device clock at which the commands before it had ended, ns.
        pub device_ns: u64 = 8,
        /// Device time for which this queue's commands have run since the queue was made, ns: the difference of two notifiers of a
        /// queue is the time of the kernels between them.
        pub busy_ns: u64 = 16,
        /// Host wall clock (CLOCK_MONOTONIC of the machine that serves the card), ns.
        pub wall_ns: u64 = 24,
    }
}

/// Notifiers of a context.
pub const MAX_NOTIFIERS: u32 = 32768;
