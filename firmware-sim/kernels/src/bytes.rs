//! Raw bytes of device or host memory, behind bounds checks.
//!
//! A guest may write the same memory at any time. So no Rust reference to it is ever made: values are read and written one by one (or
//! copied in bulk) through raw pointers, and what is decided upon is decided upon a private copy.

use std::marker::PhantomData;

use vmlu_abi::Wire;

use super::stream;

/// A range of memory that a command may use, alive as long as `'a`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    pointer: *mut u8,
    length: usize,
    writable: bool,
    _alive: PhantomData<&'a ()>,
}

// SAFETY: the range is plain memory that any thread may access; races only make contents unspecified, which the users of this type
// accept by contract (no reference is formed, no decision rests on a second read).
unsafe impl Send for Bytes<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for Bytes<'_> {}

impl<'a> Bytes<'a> {
    /// Wraps a range.
    ///
    /// # Safety
    ///
    /// `pointer` must be valid for reads (and, if `writable`, for writes) of `length` bytes during `'a`, and no Rust reference to those
    /// bytes may exist meanwhile.
    pub unsafe fn new(pointer: *mut u8, length: usize, writable: bool) -> Self {
        Self {
            pointer,
            length,
            writable,
            _alive: PhantomData,
        }
    }

    /// Bytes of the range.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the range has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// First byte, for kernels that check their bounds themselves. Reads of the range are always valid.
    pub fn as_ptr(&self) -> *const u8 {
        self.pointer
    }

    /// First byte of a writable range; `None` if the range is read-only.
    pub fn as_mut_ptr(&self) -> Option<*mut u8> {
        self.writable.then_some(self.pointer)
    }

    /// A part of the range; `None` if it does not lie within.
    pub fn slice(&self, offset: usize, length: usize) -> Option<Self> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        Some(Self {
            // SAFETY: `offset + length` lies within the range, so the pointer stays within it too.
            pointer: unsafe { self.pointer.add(offset) },
            length,
            writable: self.writable,
            _alive: PhantomData,
        })
    }

    /// Reads a value at a byte offset; `None` outside the range.
    pub fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        let part = self.slice(offset, size_of::<T>())?;
        // SAFETY: the part is valid for reads of its length; the read is unaligned and every bit pattern is a valid `T`.
        Some(unsafe { part.pointer.cast::<T>().read_unaligned() })
    }

    /// Writes a value at a byte offset; `false` outside the range or if it is read-only.
    pub fn write<T: Wire>(&self, offset: usize, value: T) -> bool {
        match self.slice(offset, size_of::<T>()) {
            Some(part) if part.writable => {
                // SAFETY: the part is valid for writes of its length; the write is unaligned.
                unsafe { part.pointer.cast::<T>().write_unaligned(value) };
                true
            }
            _ => false,
        }
    }

    /// Copies from the start of the range into private memory; `false` if the range is shorter.
    pub fn copy_to(&self, to: &mut [u8]) -> bool {
        if to.len() > self.length {
            return false;
        }
        // SAFETY: both are valid for `to.len()` bytes; `to` is a private reference, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer, to.as_mut_ptr(), to.len()) };
        true
    }

    /// Copies private memory to the start of the range; `false` if the range is shorter or read-only.
    pub fn copy_from(&self, from: &[u8]) -> bool {
        if from.len() > self.length || !self.writable {
            return false;
        }
        // SAFETY: both are valid for `from.len()` bytes; `from` is a private reference, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.pointer, from.len()) };
        true
    }

    /// Writes zeroes over the range; `false` if it is read-only.
    pub fn zero(&self) -> bool {
        if self.writable {
            // SAFETY: the range is valid for writes of `length` bytes.
            unsafe { std::ptr::write_bytes(self.pointer, 0, self.length) };
        }
        self.writable
    }

    /// Copies another range of the same length over this one; ranges may overlap. `false` if the lengths differ or this one is read-only.
    pub fn copy_bytes(&self, from: &Bytes<'_>) -> bool {
        if from.length != self.length || !self.writable {
            return false;
        }
        // SAFETY: both ranges are valid for `length` bytes; `copy` allows overlap.
        unsafe { std::ptr::copy(from.pointer, self.pointer, self.length) };
        true
    }

    /// As [`Self::copy_bytes`], past the caches: faster for what does not fit them anyway. Where the ranges overlap, what is written is
    /// unspecified.
    pub fn stream_bytes(&self, from: &Bytes<'_>) -> bool {
        if from.length != self.length || !self.writable {
            return false;
        }
        // SAFETY: both ranges are valid for `length` bytes.
        unsafe { stream::copy(from.pointer, self.pointer, self.length) };
        true
    }
}
