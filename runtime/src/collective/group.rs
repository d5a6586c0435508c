//! Grouped calls: what one thread calls between begin and end takes effect together, so that it can drive several ranks.

use std::cell::RefCell;

use vmlu_abi::Status;

use super::script::Script;
use crate::error::{Error, Result};

#[derive(Default)]
struct Group {
    depth: u32,
    scripts: Vec<Script>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Begins a group on this thread: collectives that it calls, and graphs with collectives that it launches, are put off until
/// [`group_end`]. Groups nest; the outermost counts.
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
    let scripts = GROUP.with_borrow_mut(|group| {
        if group.depth == 0 {
            let text = "no group was begun on this thread";
            return Err(Error::new("end a group", Status::BadState, text));
        }
        group.depth -= 1;
        Ok(if group.depth == 0 {
            std::mem::take(&mut group.scripts)
        } else {
            Vec::new()
        })
    })?;
    super::script::make(scripts)
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

/// Puts something into this thread's group, if it has begun one; gives it back otherwise.
pub(super) fn put_off(script: Script) -> Option<Script> {
    GROUP.with_borrow_mut(|group| {
        if group.depth == 0 {
            return Some(script);
        }
        group.scripts.push(script);
        None
    })
}
