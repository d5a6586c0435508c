//! Private memory of products, kept by its thread: fresh memory costs more than the arithmetic on it.

use std::cell::RefCell;

use vmlu_abi::Wire;

/// 64 bytes.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// Memory for one purpose at a time.
#[derive(Default)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// Room for some values; what is in it is left from before.
    pub fn take<T: Wire>(&mut self, count: usize) -> &mut [T] {
        const { assert!(align_of::<T>() <= 64) };
        let lines = (count * size_of::<T>()).div_ceil(64);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 64]));
        }
        // SAFETY: the vector has at least `count` values' bytes, all initialised, every bit pattern is a valid `T`, and 64-byte lines are
        // aligned for it; the slice borrows the buffer.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }
}

/// The private memory of a task.
#[derive(Default)]
pub(crate) struct Space {
    /// Packed panels of `a` and `b`, and what is noted of them.
    pub a: Buffer,
    /// See `a`.
    pub b: Buffer,
    /// See `a`.
    pub notes_a: Buffer,
    /// See `a`.
    pub notes_b: Buffer,
    /// Sums.
    pub out: Buffer,
    /// Sums of columns, then of rows.
    pub sums: Buffer,
    /// For the tile.
    pub spare: Buffer,
}

thread_local!(static POOL: RefCell<Vec<Space>> = const { RefCell::new(Vec::new()) });

/// Runs `f` with memory of this thread; calls nest.
pub(crate) fn with_space<R>(f: impl FnOnce(&mut Space) -> R) -> R {
    let mut space = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = f(&mut space);
    POOL.with_borrow_mut(|pool| {
        if pool.len() < 3 {
            pool.push(space);
        }
    });
    result
}
