//! Floors: what this machine can do at best, by loops that do nothing else.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::event::{eventfd, EventfdFlags};
use rustix::io::{read, write};

/// Round trip of a cache line between two threads that spin, ns; not a number on one processor, where they would take turns.
pub fn cache_line() -> f64 {
    const ROUNDS: u64 = 50_000;
    if std::thread::available_parallelism().map_or(1, |n| n.get()) < 2 {
        return f64::NAN;
    }
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 1..=ROUNDS {
                while there.load(Ordering::Acquire) < i {
                    spin_loop();
                }
                back.store(i, Ordering::Release);
            }
        });
        let mut start = Instant::now();
        for i in 1..=ROUNDS {
            if i == ROUNDS / 10 {
                start = Instant::now();
            }
            there.store(i, Ordering::Release);
            while back.load(Ordering::Acquire) < i {
                spin_loop();
            }
        }
        start.elapsed().as_nanos() as f64 / (ROUNDS - ROUNDS / 10) as f64
    })
}

/// Round trip between two threads that sleep on eventfds, ns.
pub fn event_fd() -> f64 {
    const ROUNDS: u32 = 500;
    let Ok(there) = eventfd(0, EventfdFlags::CLOEXEC) else {
        return f64::NAN;
    };
    let Ok(back) = eventfd(0, EventfdFlags::CLOEXEC) else {
        return f64::NAN;
    };
    let pass = |from: &std::os::fd::OwnedFd, to: &std::os::fd::OwnedFd| {
        let mut bytes = [0; 8];
        read(from, &mut bytes).is_ok() && write(to, &1_u64.to_ne_bytes()).is_ok()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..ROUNDS).all(|_| pass(&there, &back)));
        let start = Instant::now();
        let mut bytes = [0; 8];
        for _ in 0..ROUNDS {
            if write(&there, &1_u64.to_ne_bytes()).is_err() || read(&back, &mut bytes).is_err() {
                return f64::NAN;
            }
        }
        start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    })
}

/// Copies of `from` to `to`, which are warm, GB/s.
pub fn memory_copy(from: &[u8], to: &mut [u8]) -> f64 {
    let start = Instant::now();
    to.copy_from_slice(std::hint::black_box(from));
    std::hint::black_box(&to);
    from.len() as f64 / start.elapsed().as_nanos() as f64
}
