// SPDX-License-Identifier: GPL-2.0

//! Work that runs again and again until it has no more to do.

use kernel::{
    bindings, container_of,
    prelude::*,
    sync::LockClassKey,
    time::{msecs_to_jiffies, Jiffies},
    types::Opaque,
};

/// When a [`Tick`] comes again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Not until it is started anew.
    Never,
    /// After the interval.
    Later,
    /// After a fifth of the interval.
    Soon,
}

/// What is done each time.
pub(crate) trait Tick: Send + Sync {
    /// Does it; returns when to come again.
    fn tick(&self) -> Next;
}

/// Runs a [`Tick`] at an interval from [`Self::start`] on. Dropping it waits for a run in progress;
/// there is none afterwards.
#[pin_data(PinnedDrop)]
pub(crate) struct Periodic<T: Tick> {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    interval: Jiffies,
    handler: T,
}

// SAFETY: Work items may be used from any thread, and `T` is `Send`.
unsafe impl<T: Tick> Send for Periodic<T> {}
// SAFETY: Work items may be queued from any thread at the same time, and `T` is `Sync`.
unsafe impl<T: Tick> Sync for Periodic<T> {}

impl<T: Tick> Periodic<T> {
    /// Makes one; use [`new_periodic`].
    pub(crate) fn new(
        interval_ms: u32,
        handler: T,
        work: (&'static CStr, Pin<&'static LockClassKey>),
        timer: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            work <- Opaque::ffi_init(move |slot: *mut bindings::delayed_work| {
                // SAFETY: `slot` is valid; `run` recovers this structure from the work item in it;
                // names and keys are static. The timer function belongs to a timer in a delayed
                // work.
                unsafe {
                    bindings::init_work_with_key(
                        &raw mut (*slot).work,
                        Some(Self::run),
                        false,
                        work.0.as_char_ptr(),
                        work.1.as_ptr(),
                    );
                    bindings::timer_init_key(
                        &raw mut (*slot).timer,
                        Some(bindings::delayed_work_timer_fn),
                        bindings::TIMER_IRQSAFE,
                        work.0.as_char_ptr(),
                        timer.as_ptr(),
                    );
                }
            }),
            interval: msecs_to_jiffies(interval_ms),
            handler,
        })
    }

    /// Makes it run from one interval from now on; does nothing if it does so already.
    pub(crate) fn start(&self) {
        self.queue(self.interval);
    }

    fn queue(&self, delay: Jiffies) {
        // SAFETY: The work was initialised, and `drop` cancels it before the memory goes. The queue
        // is the kernel's own.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                bindings::system_dfl_wq,
                self.work.get(),
                delay,
            )
        };
    }

    /// # Safety
    ///
    /// Called by the work queue, with the work item that [`Self::start`] has queued.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work queue calls this with the work item that `start` queued, which is the
        // one of `self.work`.
        let this = unsafe {
            let dwork = container_of!(work, bindings::delayed_work, work);
            &*container_of!(Opaque::cast_from(dwork), Self, work)
        };
        match this.handler.tick() {
            Next::Never => {}
            Next::Later => this.start(),
            Next::Soon => this.queue(this.interval / 5),
        }
    }
}

#[pinned_drop]
impl<T: Tick> PinnedDrop for Periodic<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The work was initialised. This ends work that queues itself, too.
        unsafe { bindings::cancel_delayed_work_sync(self.work.get()) };
    }
}

/// Makes an initialiser of a [`Periodic`] with lock classes of its own.
macro_rules! new_periodic {
    ($name:literal, $interval_ms:expr, $handler:expr) => {
        $crate::ext::periodic::Periodic::new(
            $interval_ms,
            $handler,
            (kernel::c_str!($name), kernel::static_lock_class!()),
            kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_periodic;
