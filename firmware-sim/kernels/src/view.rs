//! Checked tensors over operand memory. All that kernels do with that memory goes through [`View::load`] and [`View::store`]: rows are
//! copied to private buffers, computed on, and copied back, with bounds checked at each row, so nothing else needs `unsafe`.

use vmlu_abi::{Status, Wire};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault};
use super::stream;
use crate::bytes::Bytes;

/// A tensor's memory.
pub struct View<'a> {
    /// `None` for a tensor without elements.
    bytes: Option<Bytes<'a>>,
    /// Byte of element (0, …, 0) within `bytes`.
    origin: usize,
    /// Whether contiguous stores go past the caches.
    streaming: bool,
    /// Whether loads fetch what follows them.
    ahead: bool,
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
const FETCH_FROM: u64 = 4 << 20;
/// Least bytes of a row for that.
const FETCH_LEAST: usize = 512;
/// How far ahead, in bytes: some times what arrives within the latency of memory.
const FETCH_AHEAD: usize = 4096;

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
                ahead: false,
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
            ahead: tensor.bytes >= FETCH_FROM,
        })
    }

    /// [`View::open`] for an output that is written once from start to end: if it is large, contiguous stores go past the caches. The threads
    /// that store must call [`stream::fence`] before they end; `walk::split` does.
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
                1 if self.ahead && size_of_val(to) >= FETCH_LEAST => fetch(
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

    /// The same memory; its loads fetch nothing that follows them, because the kernel says by [`View::fetch`] what it will read next: between
    /// computations, which go on while memory answers, as a load does not.
    pub fn fetched_by_hand(&self) -> Self {
        Self {
            ahead: false,
            ..*self
        }
    }

    /// Whether what follows a row is worth fetching.
    pub fn is_large(&self) -> bool {
        self.bytes.is_some_and(|b| b.len() as u64 >= FETCH_FROM)
    }

    /// Fetches `count` neighbouring elements from `offset` on into the caches, where the operand is large: a hint, which may say anything.
    #[inline]
    pub fn fetch<T: Wire>(&self, offset: isize, count: usize) {
        let Some(bytes) = self.bytes.filter(|b| b.len() as u64 >= FETCH_FROM) else {
            return;
        };
        let first = offset.wrapping_mul(size_of::<T>() as isize);
        let first = first.wrapping_add(self.origin as isize);
        prefetch(
            bytes.as_ptr().wrapping_offset(first),
            count * size_of::<T>(),
        );
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
                stream::store(
                    from.as_ptr().cast::<u8>(),
                    to.cast::<u8>(),
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

/// Asks for the lines of some bytes: a hint, for which any address will do.
#[inline]
fn prefetch(from: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count).step_by(64) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a prefetch reads nothing that the program could see; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, count);
}

/// Copies, and fetches ahead what lies [`FETCH_AHEAD`] bytes behind.
///
/// # Safety
///
/// `to` is valid for writes and `from` for reads of `count` bytes, and they do not overlap.
#[inline]
unsafe fn fetch(from: *const u8, to: *mut u8, count: usize) {
    const PIECE: usize = 1024;
    for at in (0..count).step_by(PIECE) {
        let piece = PIECE.min(count - at);
        prefetch(from.wrapping_add(at + FETCH_AHEAD), piece);
        // SAFETY: `at + piece` is at most `count`.
        unsafe { std::ptr::copy_nonoverlapping(from.add(at), to.add(at), piece) };
    }
}
