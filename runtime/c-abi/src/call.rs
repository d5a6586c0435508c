//! How a call begins and ends: no panic crosses to C, a forked child is told that it has nothing, and what went wrong can be read.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Once;

use crate::failure::{Failure, Result};

/// Whether this process was forked from one that used a card: its threads, its memory that the card writes and its connections are not
/// here.
static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// From here on a child that this process forks is told so. Called before the first use of a card.
pub(crate) fn watch_forks() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: the handler stores to an atomic, which a child may do.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
}

/// Whether this is such a child.
#[inline]
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Runs the body of a call.
///
/// # Errors
///
/// Those of the body; [`Failure::NOT_INITIALIZED`] in a forked child, [`Failure::UNKNOWN`] if the body panics.
#[inline]
pub fn enter<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    if is_forked() {
        return Err(Failure::NOT_INITIALIZED);
    }
    // What a panic may leave half done is behind locks.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Failure::UNKNOWN))
}

/// Says on standard error what went wrong, if `MLU_ABI_LOG=1`: C has a number only.
#[cold]
pub(crate) fn explain(error: &dyn std::fmt::Display) {
    use std::sync::OnceLock;
    static WANTED: OnceLock<bool> = OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("MLU_ABI_LOG").is_some_and(|v| v == "1")) {
        eprintln!("mlu: {error}");
    }
}

/// Defines functions that C calls, with the signatures of the header. Each is exported as `vmlu_` and its name.
///
/// `exports! { wrap; /// … fn name(argument: Type) { body } }`: the body's [`Result`] goes to `wrap`, which gives the returned number.
#[macro_export]
macro_rules! exports {
    ($wrap:path; $( $(#[$meta:meta])* fn $name:ident( $($argument:ident : $type:ty),* $(,)? ) $body:block )*) => { $(
        $(#[$meta])*
        #[allow(non_snake_case, clippy::too_many_arguments)]
        #[unsafe(export_name = concat!("vmlu_", stringify!($name)))]
        pub extern "C" fn $name($($argument: $type),*) -> i32 {
            $wrap(|| $body)
        }
    )* };
}
