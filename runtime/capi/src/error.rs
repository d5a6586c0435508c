//! How calls end: a status, and a text that the thread keeps.

use std::cell::RefCell;
use std::ffi::{c_char, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};

use runtime::Status;
use runtime::{Error, Result};

thread_local! {
    /// What went wrong in this thread's last call that failed.
    static TEXT: RefCell<CString> = RefCell::default();
}

/// Runs a call for C: its status, and its error as this thread's text. A panic ends here, as [`Status::Internal`].
pub(crate) fn guard(call: &'static str, body: impl FnOnce() -> Result<()>) -> u32 {
    // What a panic may leave behind half done is behind locks, which it poisons.
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok.raw(),
        Ok(Err(error)) => error,
        Err(_) => Error::new(
            call,
            Status::Internal,
            "a bug of the runtime; its message stands on standard error",
        ),
    };
    keep(&error.to_string());
    error.status().raw()
}

fn keep(text: &str) {
    // C ends a text at a zero byte.
    let text = CString::new(text.replace('\0', "?")).unwrap_or_default();
    // A thread that is ending may have no text any more.
    let _ = TEXT.try_with(|kept| kept.replace(text));
}

/// This thread's text. It stays where it is until the next failure of this thread.
pub(crate) fn text() -> *const c_char {
    TEXT.try_with(|kept| kept.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// An argument that is out of its range.
pub(crate) fn invalid(call: &'static str, reason: impl Into<String>) -> Error {
    Error::new(call, Status::InvalidArgument, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn kept() -> String {
        // SAFETY: the text of this thread, which is not changed meanwhile.
        unsafe { CStr::from_ptr(text()) }
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn failures_leave_a_text_in_their_thread() {
        assert_eq!(kept(), "");
        assert_eq!(
            guard("call", || Err(invalid("call", "a is\0null"))),
            Status::InvalidArgument.raw()
        );
        assert!(kept().starts_with("call: a is?null"), "{}", kept());
        std::thread::spawn(|| assert_eq!(kept(), ""))
            .join()
            .unwrap();
        assert_eq!(guard("call", || Ok(())), 0);
        assert!(!kept().is_empty(), "a success changes no text");
    }

    #[test]
    fn a_panic_does_not_cross() {
        assert_eq!(
            guard("call", || panic!("for the test")),
            Status::Internal.raw()
        );
        assert!(kept().contains("a bug of the runtime"), "{}", kept());
    }
}
