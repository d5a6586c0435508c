//! An [`Env`] over private memory, for tests of kernels.

use std::sync::atomic::{AtomicU64, Ordering};

use vmlu_abi::{Status, Wire};

use super::env::{Access, Env, Fault, Stopped, Work};
use crate::bytes::Bytes;

/// Where the arena begins in device addresses.
pub const BASE: u64 = 0x7000_0000_0000;

/// Memory of one allocation, threads, and a cancel flag that can be set to rise.
pub struct Arena {
    memory: Vec<std::cell::UnsafeCell<u64>>,
    length: u64,
    /// Threads that [`Env::parallel`] uses.
    pub threads: usize,
    /// Seed of the order in which tasks run; 0 keeps it.
    pub shuffle: u64,
    /// Calls of [`Env::check`] that still succeed.
    pub patience: AtomicU64,
    /// Calls of [`Env::check`] so far.
    pub checks: AtomicU64,
    used: u64,
}

// SAFETY: the memory is only touched through raw pointers, by kernels that write disjoint parts, or by the owner while none runs.
unsafe impl Sync for Arena {}

impl Arena {
    /// Memory of some bytes, each 0xa5, so that stray writes and missing ones show.
    pub fn new(length: usize) -> Self {
        let words = length.div_ceil(8);
        Self {
            memory: (0..words)
                .map(|_| std::cell::UnsafeCell::new(0xa5a5_a5a5_a5a5_a5a5))
                .collect(),
            length: words as u64 * 8,
            threads: 1,
            shuffle: 0,
            patience: AtomicU64::new(u64::MAX),
            checks: AtomicU64::new(0),
            used: 0,
        }
    }

    fn pointer(&self) -> *mut u8 {
        self.memory.as_ptr() as *mut u8
    }

    /// Takes room for some bytes; the address is a multiple of 64.
    pub fn reserve(&mut self, bytes: usize) -> u64 {
        let address = BASE + self.used;
        self.used += (bytes as u64).next_multiple_of(64);
        assert!(self.used <= self.length, "the arena is too small");
        address
    }

    /// Puts values in memory.
    pub fn put<T: Wire>(&mut self, values: &[T]) -> u64 {
        let address = self.reserve(size_of_val(values));
        self.set(address, values);
        address
    }

    /// Overwrites memory.
    pub fn set<T: Wire>(&mut self, address: u64, values: &[T]) {
        let length = size_of_val(values) as u64;
        let bytes = self
            .operand(0, address, length, Access::Write)
            .expect("in the arena");
        for (i, v) in values.iter().enumerate() {
            assert!(bytes.write(i * size_of::<T>(), *v));
        }
    }

    /// Values in memory.
    pub fn get<T: Wire>(&self, address: u64, count: usize) -> Vec<T> {
        let length = (count * size_of::<T>()) as u64;
        let bytes = self
            .operand(0, address, length, Access::Read)
            .expect("in the arena");
        (0..count)
            .map(|i| bytes.read(i * size_of::<T>()).expect("in range"))
            .collect()
    }

    /// All of memory.
    pub fn snapshot(&self) -> Vec<u8> {
        self.get(BASE, self.length as usize)
    }

    /// Runs an operator as the card does: by its number and bytes.
    pub fn run<D: vmlu_ops::Descriptor>(&self, desc: &D) -> Result<Work, Fault> {
        let kernel = super::find(D::OPCODE).expect("a kernel");
        assert_eq!(kernel.body, desc.as_bytes().len());
        (kernel.run)(desc.as_bytes(), self)
    }
}

impl Env for Arena {
    fn operand(
        &self,
        index: u16,
        address: u64,
        length: u64,
        access: Access,
    ) -> Result<Bytes<'_>, Fault> {
        let offset = address.wrapping_sub(BASE);
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            let text = "outside the arena";
            return Err(Fault::operand(Status::OperandFault, index, address, text));
        }
        // SAFETY: the range lies in the arena, which lives as long as the borrow; nobody makes references to its bytes.
        Ok(unsafe {
            Bytes::new(
                self.pointer().add(offset as usize),
                length as usize,
                access == Access::Write,
            )
        })
    }

    fn check(&self) -> Result<(), Stopped> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let left = self
            .patience
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| p.checked_sub(1));
        left.map(|_| ()).map_err(|_| Stopped)
    }

    fn parallel(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let mut order: Vec<usize> = (0..tasks).collect();
        if self.shuffle != 0 {
            let mut state = self.shuffle;
            for i in (1..tasks).rev() {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                order.swap(i, (state >> 33) as usize % (i + 1));
            }
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let Some(t) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                task(*t);
            }
        };
        if self.threads <= 1 {
            return work();
        }
        std::thread::scope(|s| {
            for _ in 1..self.threads {
                s.spawn(work);
            }
            work();
        });
    }
}
