// SPDX-License-Identifier: GPL-2.0

//! Wait queues with absolute deadlines, as `wait_event_*_hrtimeout` of `include/linux/wait.h`.

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    sync::LockClassKey,
    task::{TASK_INTERRUPTIBLE, TASK_NORMAL, TASK_UNINTERRUPTIBLE},
    types::Opaque,
};

/// CLOCK_MONOTONIC, ns.
pub(crate) fn now() -> i64 {
    // SAFETY: May be called at any time.
    unsafe { bindings::ktime_get() }
}

/// How far a deadline may be missed for the sake of one timer interrupt fewer, ns.
const SLACK: u64 = 50_000;

/// A queue of sleeping threads.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue may be used from any thread.
unsafe impl Send for WaitQueue {}
// SAFETY: A wait queue has its own lock.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// Makes a queue; use [`new_wait_queue`].
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid; name and key are static.
                unsafe { bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr()) }
            }),
        })
    }

    /// Wakes all sleepers, who then look at their conditions. May be called in any context.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The head was initialised. No key and no limit on the number of sleepers.
        unsafe { bindings::__wake_up(self.head.get(), TASK_NORMAL, 0, ptr::null_mut()) };
    }

    /// Sleeps until `condition` gives something, until `deadline` (CLOCK_MONOTONIC, ns; `None` for
    /// ever): `ETIME`, or until a signal arrives: `ERESTARTSYS`.
    ///
    /// `condition` is called in a state in which it must not sleep.
    pub(crate) fn wait_interruptible<T>(
        &self,
        deadline: Option<i64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        self.wait_in(TASK_INTERRUPTIBLE, deadline, condition)
    }

    /// Like [`Self::wait_interruptible`], but signals do not end it.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<i64>,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        self.wait_in(TASK_UNINTERRUPTIBLE, deadline, condition)
    }

    fn wait_in<T>(
        &self,
        state: c_int,
        deadline: Option<i64>,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: `entry` lives on this stack frame until `finish_wait` has taken it off the queue.
        unsafe { bindings::init_wait_entry(entry.get(), 0) };
        let result = loop {
            // SAFETY: Head and entry are initialised; the entry is used by this thread alone.
            let signal =
                unsafe { bindings::prepare_to_wait_event(self.head.get(), entry.get(), state) };
            if let Some(value) = condition() {
                break Ok(value);
            }
            if deadline.is_some_and(|d| now() >= d) {
                break Err(ETIME);
            }
            if signal != 0 {
                break Err(Error::from_errno(signal as c_int));
            }
            let mut expires: bindings::ktime_t = deadline.unwrap_or(0);
            let expires = match deadline {
                Some(_) => &raw mut expires,
                None => ptr::null_mut(),
            };
            // SAFETY: `expires` is null, which means no timer, or points to a time on this stack
            // frame.
            unsafe {
                bindings::schedule_hrtimeout_range(
                    expires,
                    SLACK,
                    bindings::hrtimer_mode_HRTIMER_MODE_ABS,
                )
            };
        };
        // SAFETY: Head and entry are initialised; afterwards the entry is on no queue.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        result
    }
}

/// Makes an initialiser of a [`WaitQueue`] with a lock class of its own.
macro_rules! new_wait_queue {
    ($name:literal) => {
        $crate::ext::wait::WaitQueue::new(kernel::c_str!($name), kernel::static_lock_class!())
    };
}
pub(crate) use new_wait_queue;
