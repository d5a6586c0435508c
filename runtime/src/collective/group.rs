//! Grouped calls: what one thread calls between begin and end takes effect together, so that it can drive several ranks.

use std::cell::RefCell;

use vmlu_abi::Status;

use super::call::Call;
use super::Communicator;
use crate::error::{Error, Result};
use crate::queue::Queue;

/// A call that waits for the end of its group.
pub(super) struct Grouped {
    pub(super) communicator: Communicator,
    pub(super) call: Call,
    pub(super) queue: Queue,
}

#[derive(Default)]
struct Group {
    depth: u32,
    calls: Vec<Grouped>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Begins a group on this thread: collectives that it calls are put off until [`group_end`]. Groups nest; the outermost counts.
pub fn group_start() {
    GROUP.with_borrow_mut(|group| group.depth += 1);
}

/// Ends a group: its calls are made, together. Returns when all of them were submitted at this thread's ranks; the first error if one
/// failed.
///
/// # Errors
///
/// `Status::BadState` if no group was begun.
pub fn group_end() -> Result<()> {
    let calls = GROUP.with_borrow_mut(|group| {
        if group.depth == 0 {
            let text = "no group was begun on this thread";
            return Err(Error::new("end a group", Status::BadState, text));
        }
        group.depth -= 1;
        Ok(if group.depth == 0 {
            std::mem::take(&mut group.calls)
        } else {
            Vec::new()
        })
    })?;
    super::make(calls)
}

/// Makes calls together, as between [`group_start`] and [`group_end`]; those that were made before an error of `calls` take effect too.
pub fn group<T>(calls: impl FnOnce() -> Result<T>) -> Result<T> {
    group_start();
    let made = calls();
    let ended = group_end();
    let made = made?;
    ended.map(|()| made)
}

/// Whether this thread has begun a group.
pub(super) fn is_begun() -> bool {
    GROUP.with_borrow(|group| group.depth > 0)
}

/// Puts a call into this thread's group, if it has begun one; gives it back otherwise.
pub(super) fn put_off(call: Grouped) -> Option<Grouped> {
    GROUP.with_borrow_mut(|group| {
        if group.depth == 0 {
            return Some(call);
        }
        group.calls.push(call);
        None
    })
}
