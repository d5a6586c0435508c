// SPDX-License-Identifier: GPL-2.0

//! Memory that the other side may change at any time: accessed by copies and single atomic words,
//! never by reference.

use core::mem::{size_of, MaybeUninit};

use kernel::{
    dma::Coherent,
    prelude::*,
    sync::atomic::{atomic_load, atomic_store, Acquire, Release},
};

use crate::abi::Wire;

/// A piece of shared memory.
///
/// # Safety
///
/// `base` is at least 8-byte aligned and valid for reads and writes of `size` bytes while `self`
/// lives; nobody makes references into it.
pub(crate) unsafe trait Shared {
    /// Start of the memory.
    fn base(&self) -> *mut u8;
    /// Bytes.
    fn size(&self) -> usize;

    /// Pointer to `length` bytes at `offset`, both multiples of `align`.
    fn at(&self, offset: usize, length: usize, align: usize) -> Result<*mut u8> {
        let end = offset.checked_add(length).ok_or(EINVAL)?;
        if end > self.size() || offset % align != 0 {
            return Err(EINVAL);
        }
        // SAFETY: `offset` is within the memory.
        Ok(unsafe { self.base().add(offset) })
    }

    /// Reads a word; what the other side wrote before it wrote the word is seen afterwards.
    fn load64(&self, offset: usize) -> Result<u64> {
        let at = self.at(offset, 8, 8)?;
        // SAFETY: Valid and aligned by `at`; the other side's accesses are single words too.
        Ok(unsafe { atomic_load(at.cast::<u64>(), Acquire) })
    }

    /// Writes a word; what was written before is seen by whoever sees the word.
    fn store64(&self, offset: usize, value: u64) -> Result {
        let at = self.at(offset, 8, 8)?;
        // SAFETY: As in `load64`.
        unsafe { atomic_store(at.cast::<u64>(), value, Release) };
        Ok(())
    }

    /// Reads a 32-bit word, as [`Self::load64`].
    fn load32(&self, offset: usize) -> Result<u32> {
        let at = self.at(offset, 4, 4)?;
        // SAFETY: As in `load64`.
        Ok(unsafe { atomic_load(at.cast::<u32>(), Acquire) })
    }

    /// Copies bytes out, once.
    fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        let from = self.at(offset, to.len(), 1)?;
        // SAFETY: `from` is valid for `to.len()` bytes by `at`, and `to` is a Rust slice that
        // cannot overlap memory to which no references exist.
        unsafe { copy_volatile(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies bytes in.
    fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        let to = self.at(offset, from.len(), 1)?;
        // SAFETY: As in `copy_out`.
        unsafe { copy_volatile(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Copies a structure out, once.
    fn read<T: Wire>(&self, offset: usize) -> Result<T> {
        let from = self.at(offset, size_of::<T>(), 1)?;
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `from` is valid by `at`, and `value` has the same size.
        unsafe { copy_volatile(from, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: All bytes were written, and every bit pattern is valid for a `Wire` type.
        Ok(unsafe { value.assume_init() })
    }
}

/// Copies without the compiler assuming that the bytes stay as they are.
///
/// # Safety
///
/// Both pointers are valid for `length` bytes, which do not overlap.
unsafe fn copy_volatile(from: *const u8, to: *mut u8, length: usize) {
    const WORD: usize = size_of::<u64>();
    let aligned = (from as usize | to as usize) % WORD == 0;
    let words = if aligned { length / WORD } else { 0 };
    for i in 0..words {
        // SAFETY: Within `length`; both sides are aligned for a word.
        unsafe {
            let word = from.cast::<u64>().add(i).read_volatile();
            to.cast::<u64>().add(i).write_volatile(word);
        }
    }
    for i in words * WORD..length {
        // SAFETY: Within `length`.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

// SAFETY: The allocation is page-aligned and lives as long as `self`; this driver makes no
// references into it once it is shared.
unsafe impl Shared for Coherent<[u8]> {
    fn base(&self) -> *mut u8 {
        self.as_mut_ptr().cast()
    }

    fn size(&self) -> usize {
        self.len()
    }
}
