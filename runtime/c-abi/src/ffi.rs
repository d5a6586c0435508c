//! What C hands in. A value of these types only comes from a C caller, as an argument of an exported function, whose contract is C's: a pointer
//! is null, or good for what the header says. Tests make them by [`Out::new`] and its like, which say so.

use std::ffi::{c_char, c_void, CStr};
use std::marker::PhantomData;

use crate::failure::{Failure, Result};

/// A place for a `T`, or for several: null, or valid for being written.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T, PhantomData<T>);

impl<T: Copy> Out<T> {
    /// A place.
    ///
    /// # Safety
    ///
    /// `place` is null, or valid for writes of what the function that gets it writes.
    pub const unsafe fn new(place: *mut T) -> Self {
        Self(place, PhantomData)
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Fails if it is null.
    pub fn check(self) -> Result<()> {
        if self.0.is_null() {
            Err(Failure::INVALID_VALUE)
        } else {
            Ok(())
        }
    }

    /// Writes the value. Fails if the place is null.
    pub fn set(self, value: T) -> Result<()> {
        self.check()?;
        self.set_at(0, value);
        Ok(())
    }

    /// Writes the value if the place is not null.
    pub fn set_if(self, value: T) {
        if !self.0.is_null() {
            self.set_at(0, value);
        }
    }

    /// Writes an element of an array that is not null, and has room for it.
    pub fn set_at(self, index: usize, value: T) {
        // SAFETY: a place that is not null is valid for the writes of the function that got it, by the contract of the type.
        unsafe { self.0.add(index).write_unaligned(value) };
    }

    /// What stands there, where a place is also read. Fails if it is null.
    pub fn get(self) -> Result<T> {
        self.check()?;
        // SAFETY: as for `set_at`; a place that is read is valid for it and holds a `T`, by the header.
        Ok(unsafe { self.0.read_unaligned() })
    }
}

/// A `T`, or several: null, or valid for being read.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct In<T>(*const T, PhantomData<T>);

impl<T: Copy> In<T> {
    /// What is read.
    ///
    /// # Safety
    ///
    /// `place` is null, or valid for reads of what the function that gets it reads.
    pub const unsafe fn new(place: *const T) -> Self {
        Self(place, PhantomData)
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value. Fails if the place is null.
    pub fn get(self) -> Result<T> {
        self.get_at(0)
    }

    /// An element of an array that has it. Fails if the array is null.
    pub fn get_at(self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(Failure::INVALID_VALUE);
        }
        // SAFETY: not null, and then valid for the reads of the function that got it, by the contract of the type.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

/// A text that ends with a zero byte, or null.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// A text.
    ///
    /// # Safety
    ///
    /// `text` is null, or valid for reads up to a zero byte.
    pub const unsafe fn new(text: *const c_char) -> Self {
        Self(text)
    }

    /// The text. Fails if it is null, or not UTF-8.
    pub fn get(self) -> Result<String> {
        if self.0.is_null() {
            return Err(Failure::INVALID_VALUE);
        }
        // SAFETY: not null, and then a text, by the contract of the type.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str()
            .map(str::to_owned)
            .map_err(|_| Failure::INVALID_VALUE)
    }
}

/// An address: host memory, device memory, a handle. It is not followed before it is known what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Ptr(pub *mut c_void);

impl Ptr {
    /// The null pointer.
    pub const NULL: Self = Self(std::ptr::null_mut());

    /// The number.
    pub fn addr(self) -> usize {
        self.0.addr()
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The pointer for a number.
    pub const fn at(addr: usize) -> Self {
        Self(std::ptr::without_provenance_mut(addr))
    }
}

/// Writes a text and a zero byte to `room` bytes. Fails if the place is null or the text does not fit.
pub fn set_text(place: Out<c_char>, room: usize, text: &str) -> Result<()> {
    place.check()?;
    if text.len() >= room {
        return Err(Failure::INVALID_VALUE);
    }
    for (i, byte) in text.bytes().chain([0]).enumerate() {
        place.set_at(i, byte as c_char);
    }
    Ok(())
}
