// SPDX-License-Identifier: GPL-2.0

//! The module's one global: what `probe` and `open`, which the kernel calls without any argument of
//! ours, have to find.

use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, AtomicFlag, Full, Release},
        global_lock,
    },
};

use crate::nodes::State;

global_lock! {
    // SAFETY: Initialized by `init`; `with` does not touch it before.
    unsafe(uninit) static STATE: Mutex<Option<State>> = None;
}

static CLAIMED: AtomicFlag = AtomicFlag::new(false);
static READY: AtomicFlag = AtomicFlag::new(false);

/// Sets the global; once.
pub(crate) fn init(state: State) -> Result {
    if CLAIMED.xchg(true, Full) {
        return Err(EBUSY);
    }
    // SAFETY: `CLAIMED` lets only one caller come here, and nobody locks it before `READY` is set.
    unsafe { STATE.init() };
    READY.store(true, Release);
    *STATE.lock() = Some(state);
    Ok(())
}

/// Uses the global; `None` before [`init`] and after [`take`].
pub(crate) fn with<R>(f: impl FnOnce(&mut State) -> R) -> Option<R> {
    if !READY.load(Acquire) {
        return None;
    }
    STATE.lock().as_mut().map(f)
}

/// Takes the global away.
pub(crate) fn take() -> Option<State> {
    if !READY.load(Acquire) {
        return None;
    }
    STATE.lock().take()
}
