//! Functions of the program that queues run, and what is dropped behind the caller's back because it may wait.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::{mpsc, Arc, OnceLock};
use std::time::Duration;

use vmlu::hold::{Hold, Taken};

use crate::failure::{Failure, Result};
use crate::queue::Queue;

/// A function of the program.
pub type Function = Option<unsafe extern "C" fn(*mut c_void)>;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a function for a queue: it may not call the libraries then.
#[inline]
pub fn is_inside() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

/// What a function gets. It goes to the queue's thread.
struct Argument(*mut c_void);

// SAFETY: the pointer is only handed to the program's function, which the program gave to be run by another thread.
unsafe impl Send for Argument {}

/// Has a queue run a function between its commands.
///
/// # Errors
///
/// [`Failure::INVALID_VALUE`] without a function; [`Failure::CAPTURE_UNSUPPORTED`] while the queue is captured.
pub fn invoke(queue: &Queue, function: Function, argument: *mut c_void) -> Result<()> {
    let function = function.ok_or(Failure::INVALID_VALUE)?;
    let argument = Argument(argument);
    queue.runtime.host_fn(move || {
        let argument = argument;
        INSIDE.set(true);
        // SAFETY: the program gave the function to be called with this argument, from another thread, once.
        unsafe { function(argument.0) };
        INSIDE.set(false);
    })?;
    Ok(())
}

/// Drops what a thread holds of a thing, once that thread does not use it any more: at once if it does not now.
pub(crate) fn take<T: Send + Sync + 'static>(hold: Arc<Hold<T>>) {
    /// Waits for the thread when it is dropped.
    struct Awaited<T>(Arc<Hold<T>>);

    impl<T> Drop for Awaited<T> {
        fn drop(&mut self) {
            while matches!(self.0.take(), Taken::Later) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    if matches!(hold.take(), Taken::Later) {
        later(Arc::new(Awaited(hold)));
    }
}

/// Drops something on a thread of its own: what waits for the card when it goes, where the caller must not wait.
pub(crate) fn later(item: Arc<dyn Any + Send + Sync>) {
    static DROPPER: OnceLock<mpsc::Sender<Arc<dyn Any + Send + Sync>>> = OnceLock::new();
    let dropper = DROPPER.get_or_init(|| {
        let (sender, items) = mpsc::channel();
        // Without the thread the item is dropped by `send`, which then waits.
        let _ = std::thread::Builder::new()
            .name("mlu-release".into())
            .spawn(move || items.into_iter().for_each(drop));
        sender
    });
    let _ = dropper.send(item);
}
