// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of `trace.h`. Each costs a call and a branch while nobody listens.
//!
//! `kernel::declare_trace` reaches only tracepoints of the kernel itself, whose keys are in its
//! bindings.

mod ffi {
    unsafe extern "C" {
        pub(super) fn mlu_trace_rpc(chip: u32, function: u32, context: u64, status: i32, ns: u64);
        pub(super) fn mlu_trace_queue(kind: u32, chip: u32, queue: u64, value: u64, status: u32);
        pub(super) fn mlu_trace_fault(chip: u32, context: u64, xid: u32, status: u32);
    }
}

/// Which of the events of a queue; see `trace.h`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum QueueTrace {
    /// It was made.
    Create = 0,
    /// A thread waits.
    Submission = 1,
    /// The card told of its timeline.
    Completion = 2,
    /// It failed or ended.
    Error = 3,
}

/// A call of the firmware, with its status (negative: an errno) and duration.
pub(crate) fn rpc(chip: u32, function: u16, context: u64, status: i32, ns: u64) {
    // SAFETY: May be called in any context; all arguments are numbers.
    unsafe { ffi::mlu_trace_rpc(chip, function.into(), context, status, ns) };
}

/// Something that happens to a queue.
pub(crate) fn queue(what: QueueTrace, chip: u32, queue: u64, value: u64, status: u32) {
    // SAFETY: As in `rpc`.
    unsafe { ffi::mlu_trace_queue(what as u32, chip, queue, value, status) };
}

/// An xid, the end of a context, or the loss of the chip.
pub(crate) fn fault(chip: u32, context: u64, xid: u32, status: u32) {
    // SAFETY: As in `rpc`.
    unsafe { ffi::mlu_trace_fault(chip, context, xid, status) };
}
