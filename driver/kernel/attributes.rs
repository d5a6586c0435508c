// SPDX-License-Identifier: GPL-2.0

//! Attributes of a device in sysfs: files of one value each.

use core::marker::PhantomData;

use kernel::{bindings, page::PAGE_SIZE, prelude::*, str::as_char_ptr_in_const_context, sync::Arc};

/// The page that a reader gets.
pub(crate) struct Page<'a>(*mut c_char, PhantomData<&'a mut [u8; PAGE_SIZE]>);

impl Page<'_> {
    /// Writes the value; returns its length.
    pub(crate) fn emit(self, value: kernel::fmt::Arguments<'_>) -> Result<usize> {
        // SAFETY: The page is that of a `show` callback; `%pA` takes a pointer to arguments.
        let length = unsafe {
            bindings::sysfs_emit(
                self.0,
                c"%pA\n".as_char_ptr(),
                core::ptr::from_ref(&value).cast::<c_void>(),
            )
        };
        Ok(length as usize)
    }
}

/// How an attribute of a `T` is shown.
pub(crate) type Show<T> = fn(&T, Page<'_>) -> Result<usize>;

/// What a value that was written to an attribute of a `T` does. It has no line end.
pub(crate) type Store<T> = fn(&T, &str) -> Result;

/// An attribute that all may read, and root may write if it can be written.
#[repr(C)]
pub(crate) struct Attribute<T: 'static> {
    raw: bindings::device_attribute,
    show: Show<T>,
    store: Option<Store<T>>,
}

// SAFETY: An attribute does not change.
unsafe impl<T> Sync for Attribute<T> {}

impl<T> Attribute<T> {
    /// Makes one.
    pub(crate) const fn new(name: &'static CStr, show: Show<T>) -> Self {
        let mut raw: bindings::device_attribute = pin_init::zeroed();
        raw.attr.name = as_char_ptr_in_const_context(name).cast();
        raw.attr.mode = 0o444;
        raw.__bindgen_anon_1 = bindings::device_attribute__bindgen_ty_1 {
            show: Some(Self::show_raw),
        };
        Self {
            raw,
            show,
            store: None,
        }
    }

    /// Lets root write it, too.
    pub(crate) const fn writable(mut self, store: Store<T>) -> Self {
        self.raw.attr.mode = 0o644;
        self.raw.__bindgen_anon_2 = bindings::device_attribute__bindgen_ty_2 {
            store: Some(Self::store_raw),
        };
        self.store = Some(store);
        self
    }

    /// # Safety
    ///
    /// Called by sysfs, with a device of the class, an [`Attribute`] of it, and `length` bytes of
    /// text.
    unsafe extern "C" fn store_raw(
        device: *mut bindings::device,
        attribute: *mut bindings::device_attribute,
        text: *const c_char,
        length: usize,
    ) -> isize {
        // SAFETY: As in `show_raw`; `length` bytes of text can be read during the call.
        let (this, data, text) = unsafe {
            (
                &*attribute.cast::<Self>(),
                &*bindings::dev_get_drvdata(device).cast::<T>(),
                core::slice::from_raw_parts(text.cast::<u8>(), length),
            )
        };
        let stored = core::str::from_utf8(text)
            .map_err(|_| EINVAL)
            .and_then(|text| this.store.ok_or(EACCES)?(data, text.trim_end()));
        match stored {
            Ok(()) => length as isize,
            Err(e) => e.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by sysfs, with a device of the class, an [`Attribute`] of it, and a page for the
    /// text.
    unsafe extern "C" fn show_raw(
        device: *mut bindings::device,
        attribute: *mut bindings::device_attribute,
        page: *mut c_char,
    ) -> isize {
        // SAFETY: The attribute is the first field of one of those that a `Group` was made of,
        // whose data is what the device has; both stay until the device is gone, which waits for
        // readers.
        let (this, data) = unsafe {
            (
                &*attribute.cast::<Self>(),
                &*bindings::dev_get_drvdata(device).cast::<T>(),
            )
        };
        match (this.show)(data, Page(page, PhantomData)) {
            Ok(length) => length as isize,
            Err(e) => e.to_errno() as isize,
        }
    }
}

/// What a device shows, and of whom.
///
/// # Invariants
///
/// `list` is null-terminated and holds `group`, whose attributes are `entries`, null-terminated.
/// All of them stay where they are.
pub(crate) struct Group<T: 'static> {
    list: KBox<[*const bindings::attribute_group; 2]>,
    _group: KBox<bindings::attribute_group>,
    _entries: KVec<*const bindings::attribute>,
    data: Arc<T>,
}

// SAFETY: The pointers lead to what belongs to this value or is static; nothing changes.
unsafe impl<T: Send + Sync> Send for Group<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Group<T> {}

impl<T> Group<T> {
    /// Attributes of `data`.
    pub(crate) fn new(attributes: &'static [Attribute<T>], data: Arc<T>) -> Result<Self> {
        let mut entries = KVec::with_capacity(attributes.len() + 1, GFP_KERNEL)?;
        for attribute in attributes {
            entries.push(core::ptr::from_ref(&attribute.raw.attr), GFP_KERNEL)?;
        }
        entries.push(core::ptr::null(), GFP_KERNEL)?;
        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.__bindgen_anon_2 = bindings::attribute_group__bindgen_ty_2 {
            attrs: entries.as_ptr().cast_mut().cast(),
        };
        let group = KBox::new(group, GFP_KERNEL)?;
        let list = KBox::new(
            [core::ptr::from_ref(&*group), core::ptr::null()],
            GFP_KERNEL,
        )?;
        // INVARIANT: Boxes and vectors do not move what they hold.
        Ok(Self {
            list,
            _group: group,
            _entries: entries,
            data,
        })
    }

    /// Null-terminated list of groups.
    pub(super) fn list(&self) -> *const *const bindings::attribute_group {
        self.list.as_ptr()
    }

    /// What the attributes get as the device's data.
    pub(super) fn data(&self) -> *mut c_void {
        core::ptr::from_ref(&*self.data).cast_mut().cast()
    }
}
