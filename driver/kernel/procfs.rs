// SPDX-License-Identifier: GPL-2.0

//! Folders and files of `/proc`.

use kernel::{bindings, prelude::*, seq_file::SeqFile, str::CString, sync::Arc};

mod ffi {
    use kernel::ffi;

    // A `struct seq_file`, whose binding has fields that are not for FFI.
    pub(super) type Show = unsafe extern "C" fn(*mut ffi::c_void, *mut ffi::c_void) -> ffi::c_int;

    unsafe extern "C" {
        pub(super) fn mlu_proc_mkdir(
            name: *const ffi::c_char,
            parent: *mut ffi::c_void,
        ) -> *mut ffi::c_void;
        pub(super) fn mlu_proc_file(
            name: *const ffi::c_char,
            parent: *mut ffi::c_void,
            show: Show,
            data: *mut ffi::c_void,
        ) -> *mut ffi::c_void;
        pub(super) fn mlu_proc_remove(entry: *mut ffi::c_void);
    }
}

/// A folder; it goes, with all that is in it, when it is dropped.
///
/// # Invariants
///
/// `entry` is a folder that this value removes, as the only one.
pub(crate) struct Folder {
    entry: *mut c_void,
    /// Its parent goes after it.
    _parent: Option<Arc<Folder>>,
}

// SAFETY: Entries belong to no thread.
unsafe impl Send for Folder {}
// SAFETY: The kernel locks.
unsafe impl Sync for Folder {}

impl Folder {
    /// Makes a folder in `parent`, or in `/proc`. The name may begin with folders that are there.
    pub(crate) fn new(
        parent: Option<&Arc<Self>>,
        name: kernel::fmt::Arguments<'_>,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        let above = parent.map_or(core::ptr::null_mut(), |parent| parent.entry);
        // SAFETY: `above` is null or a folder that is there; the name is copied.
        let entry = unsafe { ffi::mlu_proc_mkdir(name.as_char_ptr(), above) };
        if entry.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Made above.
        Ok(Self {
            entry,
            _parent: parent.cloned(),
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is there and ours.
        unsafe { ffi::mlu_proc_remove(self.entry) };
    }
}

/// What a file says.
pub(crate) trait Show: Send + Sync + 'static {
    /// Writes it; may sleep.
    fn show(&self, to: &SeqFile);
}

/// A file; dropping it waits for readers.
///
/// # Invariants
///
/// `entry` was made with the address of what `content` refers to, and is removed by this value
/// alone.
pub(crate) struct File<T: Show> {
    entry: *mut c_void,
    _content: Arc<T>,
    _folder: Arc<Folder>,
}

// SAFETY: Entries belong to no thread, and `T` is `Send` and `Sync`.
unsafe impl<T: Show> Send for File<T> {}
// SAFETY: There are no methods.
unsafe impl<T: Show> Sync for File<T> {}

impl<T: Show> File<T> {
    /// Makes a file that all may read.
    pub(crate) fn new(folder: Arc<Folder>, name: &'static CStr, content: Arc<T>) -> Result<Self> {
        // SAFETY: The folder is there; the name is static; `show` gets the address of `content`,
        // which stays until the file is removed.
        let entry = unsafe {
            ffi::mlu_proc_file(
                name.as_char_ptr(),
                folder.entry,
                Self::show,
                core::ptr::from_ref(&*content).cast_mut().cast(),
            )
        };
        if entry.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Made above.
        Ok(Self {
            entry,
            _content: content,
            _folder: folder,
        })
    }

    /// # Safety
    ///
    /// Called by seq_file, with an open file whose `private` is what the entry was made with.
    unsafe extern "C" fn show(file: *mut c_void, _: *mut c_void) -> c_int {
        let file = file.cast::<bindings::seq_file>();
        // SAFETY: `private` is what the file was made with, by the type invariant alive while
        // readers are; the file is this thread's.
        let (content, file) = unsafe { (&*(*file).private.cast::<T>(), SeqFile::from_raw(file)) };
        content.show(file);
        0
    }
}

impl<T: Show> Drop for File<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is there and ours.
        unsafe { ffi::mlu_proc_remove(self.entry) };
    }
}
