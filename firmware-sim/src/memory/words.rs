//! Words of host memory that both sides use at the same time: status pages, doorbells, event rings.

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::hardware::HostRange;
use crate::memory::bytes::Bytes;

/// Host memory accessed word by word, atomically. Offsets outside the range are a bug of the caller and panic; every offset used is a
/// constant of the interface, checked against the length at construction.
#[derive(Clone)]
pub struct HostWords {
    range: HostRange,
}

impl HostWords {
    /// Takes a range of at least `length` bytes; `None` if it is shorter or not aligned to 8 bytes.
    pub fn new(range: HostRange, length: usize) -> Option<Self> {
        (range.length >= length && (range.pointer as usize).is_multiple_of(8))
            .then_some(Self { range })
    }

    /// The 64-bit word at a byte offset.
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.range.length,
            "word outside its page"
        );
        // SAFETY: aligned and within the range, which `keep` holds mapped as long as `self`; shared words are only accessed atomically.
        unsafe { AtomicU64::from_ptr(self.range.pointer.add(offset).cast::<u64>()) }
    }

    /// The 32-bit word at a byte offset.
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.range.length,
            "word outside its page"
        );
        // SAFETY: as for `u64`.
        unsafe { AtomicU32::from_ptr(self.range.pointer.add(offset).cast::<u32>()) }
    }

    /// Its first byte.
    pub fn first(&self) -> *const u8 {
        self.range.pointer
    }

    /// All of it as bytes.
    pub fn bytes(&self) -> Bytes<'_> {
        // SAFETY: the range is mapped as long as `self`; nobody makes references to it.
        unsafe { Bytes::new(self.range.pointer, self.range.length, self.range.writable) }
    }
}

/// Has the processor fetch the line at an address, if there is one.
#[inline]
pub fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a hint, which accesses nothing and is allowed at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address as *const i8) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
