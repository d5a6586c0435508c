//! Checked tensors over operand memory. All that kernels do with that memory goes through [`View::load`] and [`View::store`]: rows are
//! copied to private buffers, computed on, and copied back, with bounds checked at each row, so nothing else needs `unsafe`.

use vmlu_abi::{Status, Wire};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault};
use crate::bytes::Bytes;

/// A tensor's memory.
pub struct View<'a> {
    /// `None` for a tensor without elements.
    bytes: Option<Bytes<'a>>,
    /// Byte of element (0, …, 0) within `bytes`.
    origin: usize,
    /// Whether contiguous stores go past the caches.
    streaming: bool,
}

/// What a kernel says that has a bug.
const OUTSIDE: &str = "a kernel left its operand";

/// Elements that were checked to lie in an operand, for vector code that reads them by itself.
pub struct Grid<T> {
    first: *const T,
}

impl<T> Grid<T> {
    /// The first element; all of the grid may be read from it, unaligned, as long as the view lives.
    pub fn first(&self) -> *const T {
        self.first
    }
}

/// Bytes of an output from which on stores past the caches pay: more than the caches hold.
const STREAM_FROM: u64 = 16 << 20;

/// Bytes of an operand from which on what follows a row is fetched ahead: more than second-level caches hold. The processor's own fetching
/// ends at each page.
const FETCH_FROM: usize = 4 << 20;
/// Least bytes of a row for that.
const FETCH_LEAST: usize = 1024;

impl<'a> View<'a> {
    /// Finds the memory of operand `index`.
    pub fn open(
        env: &'a dyn Env,
        index: u16,
        tensor: &Tensor,
        access: Access,
    ) -> Result<Self, Fault> {
        if tensor.bytes == 0 {
            return Ok(Self {
                bytes: None,
                origin: 0,
                streaming: false,
            });
        }
        let bytes = env.operand(index, tensor.start, tensor.bytes, access)?;
        let short = bytes.len() as u64 != tensor.bytes;
        if short || (access == Access::Write && bytes.as_mut_ptr().is_none()) {
            let text = "operand memory is not what was asked for";
            return Err(Fault::operand(Status::Internal, index, tensor.start, text));
        }
        Ok(Self {
            bytes: Some(bytes),
            origin: (tensor.address - tensor.start) as usize,
            streaming: false,
        })
    }

    /// [`View::open`] for an output that is written once from start to end: if it is large, contiguous stores go past the caches. The threads
    /// that store must call [`fence`] before they end; `walk::split` does.
    pub fn output(env: &'a dyn Env, index: u16, tensor: &Tensor) -> Result<Self, Fault> {
        let mut view = Self::open(env, index, tensor, Access::Write)?;
        view.streaming = tensor.bytes >= STREAM_FROM;
        Ok(view)
    }

    /// First byte of a row of `count` > 0 elements, after checking that all of it lies in the operand.
    ///
    /// # Panics
    ///
    /// If it does not: a bug of the kernel, since the tensor's extent has been checked.
    #[inline]
    fn row<T: Wire>(&self, offset: isize, stride: isize, count: usize) -> (Bytes<'a>, usize) {
        let bytes = self.bytes.expect(OUTSIDE);
        let size = size_of::<T>() as isize;
        let first = offset
            .checked_mul(size)
            .and_then(|o| o.checked_add(self.origin as isize))
            .expect(OUTSIDE);
        let last = isize::try_from(count - 1)
            .ok()
            .and_then(|n| n.checked_mul(stride)?.checked_mul(size)?.checked_add(first))
            .expect(OUTSIDE);
        let end = first.max(last).checked_add(size).expect(OUTSIDE);
        assert!(
            first.min(last) >= 0 && end as usize <= bytes.len(),
            "{OUTSIDE}"
        );
        (bytes, first as usize)
    }

    /// Elements `offset + i · outer.1 + j · inner.1` for `i < outer.0` and `j < inner.0`, after checking that all of them lie in the operand;
    /// `None` if there are none.
    ///
    /// # Panics
    ///
    /// If they do not: a bug of the kernel, since the tensor's extent has been checked.
    pub fn grid<T: Wire>(
        &self,
        offset: isize,
        outer: (usize, isize),
        inner: (usize, isize),
    ) -> Option<Grid<T>> {
        if outer.0 == 0 || inner.0 == 0 {
            return None;
        }
        let reach = |(count, stride): (usize, isize)| {
            let steps = isize::try_from(count - 1).ok();
            steps.and_then(|n| n.checked_mul(stride)).expect(OUTSIDE)
        };
        let (far, wide) = (reach(outer), reach(inner));
        let least = offset
            .checked_add(far.min(0))
            .and_then(|o| o.checked_add(wide.min(0)));
        let most = offset
            .checked_add(far.max(0))
            .and_then(|o| o.checked_add(wide.max(0)));
        let (Some(least), Some(most)) = (least, most) else {
            panic!("{OUTSIDE}")
        };
        let (bytes, _) = self.row::<T>(least, most - least, 2);
        let first = bytes
            .as_ptr()
            .wrapping_offset(self.origin as isize + offset * size_of::<T>() as isize);
        Some(Grid {
            first: first.cast(),
        })
    }

    /// Reads elements `offset`, `offset + stride`, … (counted from element (0, …, 0)) into `to`.
    #[inline]
    pub fn load<T: Wire>(&self, offset: isize, stride: isize, to: &mut [T]) {
        if to.is_empty() {
            return;
        }
        let (bytes, first) = self.row::<T>(offset, stride, to.len());
        // SAFETY: `row` has checked that every element of the row lies in the range, which is valid for reads; reads are unaligned, every
        // bit pattern is a valid `T`, and `to` is private, so it does not overlap the range.
        unsafe {
            let from = bytes.as_ptr().add(first).cast::<T>();
            match stride {
                1 if bytes.len() >= FETCH_FROM && size_of_val(to) >= FETCH_LEAST => fetch(
                    from.cast::<u8>(),
                    to.as_mut_ptr().cast::<u8>(),
                    size_of_val(to),
                ),
                1 => std::ptr::copy_nonoverlapping(
                    from.cast::<u8>(),
                    to.as_mut_ptr().cast::<u8>(),
                    size_of_val(to),
                ),
                0 => to.fill(from.read_unaligned()),
                _ => {
                    for (i, t) in to.iter_mut().enumerate() {
                        *t = from.offset(i as isize * stride).read_unaligned();
                    }
                }
            }
        }
    }

    /// Writes `from` to elements `offset`, `offset + stride`, …
    #[inline]
    pub fn store<T: Wire>(&self, offset: isize, stride: isize, from: &[T]) {
        if from.is_empty() {
            return;
        }
        let (bytes, first) = self.row::<T>(offset, stride, from.len());
        let start = bytes.as_mut_ptr().expect("a kernel writes an input");
        // SAFETY: `row` has checked that every element of the row lies in the range, which is valid for writes; writes are unaligned, and
        // `from` is private, so it does not overlap the range.
        unsafe {
            let to = start.add(first).cast::<T>();
            if stride == 1 && self.streaming {
                stream(
                    to.cast::<u8>(),
                    from.as_ptr().cast::<u8>(),
                    size_of_val(from),
                );
            } else if stride == 1 {
                std::ptr::copy_nonoverlapping(
                    from.as_ptr().cast::<u8>(),
                    to.cast::<u8>(),
                    size_of_val(from),
                );
            } else {
                for (i, f) in from.iter().enumerate() {
                    to.offset(i as isize * stride).write_unaligned(*f);
                }
            }
        }
    }
}

/// Copies, and fetches as many bytes behind those ahead.
///
/// # Safety
///
/// `to` is valid for writes and `from` for reads of `count` bytes, and they do not overlap.
#[inline]
unsafe fn fetch(from: *const u8, to: *mut u8, count: usize) {
    const PIECE: usize = 512;
    for at in (0..count).step_by(PIECE) {
        let piece = PIECE.min(count - at);
        #[cfg(target_arch = "x86_64")]
        for line in (at..at + piece).step_by(64) {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            // SAFETY: a hint, for which any address will do; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(count + line).cast()) };
        }
        // SAFETY: `at + piece` is at most `count`.
        unsafe { std::ptr::copy_nonoverlapping(from.add(at), to.add(at), piece) };
    }
}

/// Copies past the caches, but for the first and last few bytes.
///
/// # Safety
///
/// `to` is valid for writes and `from` for reads of `count` bytes, and they do not overlap.
#[inline]
unsafe fn stream(to: *mut u8, from: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
        let head = to.align_offset(64).min(count);
        let body = (count - head) / 64 * 64;
        // SAFETY: `head + body` is at most `count`; the body's start is aligned to 64 bytes; SSE2 is part of x86-64.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, head);
            for at in (head..head + body).step_by(16) {
                let v = _mm_loadu_si128(from.add(at).cast());
                _mm_stream_si128(to.add(at).cast(), v);
            }
            let done = head + body;
            std::ptr::copy_nonoverlapping(from.add(done), to.add(done), count - done);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller promises.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, count);
    }
}

/// Orders this thread's stores past the caches before all that it stores next.
#[inline]
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
