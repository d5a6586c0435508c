//! Floors: what this machine can do at best, by loops that do nothing else.

use std::hint::spin_loop;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::event::{eventfd, EventfdFlags};
use rustix::io::{read, write};
use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

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

/// Round trip between two threads that sleep on eventfds, ns: on processors of their own where there are two, as a card and its program are.
pub fn event_fd() -> f64 {
    const ROUNDS: u32 = 500;
    let (Ok(there), Ok(back)) = (
        eventfd(0, EventfdFlags::CLOEXEC),
        eventfd(0, EventfdFlags::CLOEXEC),
    ) else {
        return f64::NAN;
    };
    let pass = |from: &OwnedFd, to: &OwnedFd| {
        let mut bytes = [0; 8];
        read(from, &mut bytes).is_ok() && write(to, &1_u64.to_ne_bytes()).is_ok()
    };
    let mut allowed = processors().into_iter();
    let (mine, other) = (allowed.next(), allowed.next());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(other);
            (0..ROUNDS).all(|_| pass(&there, &back))
        });
        let near = scope.spawn(|| {
            pin(other.and(mine));
            let start = Instant::now();
            let mut bytes = [0; 8];
            for _ in 0..ROUNDS {
                if write(&there, &1_u64.to_ne_bytes()).is_err() || read(&back, &mut bytes).is_err()
                {
                    return f64::NAN;
                }
            }
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        });
        near.join().unwrap_or(f64::NAN)
    })
}

/// The processors that this thread may use.
fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(None);
    let allowed = allowed.map(|set| (0..CpuSet::MAX_CPU).filter(|i| set.is_set(*i)).collect());
    allowed.unwrap_or_default()
}

/// Keeps this thread on a processor.
fn pin(processor: Option<usize>) {
    if let Some(processor) = processor {
        let mut set = CpuSet::new();
        set.set(processor);
        let _ = sched_setaffinity(None, &set);
    }
}

/// Mean time of a call, ns.
pub fn each(times: u32, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// Two pieces of memory that are warm.
pub struct Copies {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Copies {
    /// Pieces of so many bytes.
    pub fn new(length: usize) -> Self {
        Self {
            from: vec![1; length],
            to: vec![2; length],
        }
    }

    /// By `memcpy`, GB/s.
    pub fn plain(&mut self) -> f64 {
        let start = Instant::now();
        self.to.copy_from_slice(std::hint::black_box(&self.from));
        std::hint::black_box(&self.to);
        self.from.len() as f64 / start.elapsed().as_nanos() as f64
    }

    /// Past the caches, GB/s; not a number where the processor's way to do that is not known.
    pub fn streaming(&mut self) -> f64 {
        let start = Instant::now();
        if !stream(std::hint::black_box(&self.from), &mut self.to) {
            return f64::NAN;
        }
        std::hint::black_box(&self.to);
        self.from.len() as f64 / start.elapsed().as_nanos() as f64
    }
}

/// Copies with stores that go past the caches; `false` where there are none.
#[cfg(target_arch = "x86_64")]
fn stream(from: &[u8], to: &mut [u8]) -> bool {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    let bytes = from.len().min(to.len());
    // SAFETY: SSE2 is there on every x86-64 processor. `__m128i` takes any bytes; `align_to_mut` gives a middle that is aligned to 16 bytes.
    let (head, middle, tail) = unsafe { to[..bytes].align_to_mut::<__m128i>() };
    let (first, rest) = from[..bytes].split_at(head.len());
    let (body, last) = rest.split_at(middle.len() * 16);
    head.copy_from_slice(first);
    for (to, from) in middle.iter_mut().zip(body.chunks_exact(16)) {
        // SAFETY: `from` has 16 bytes, `to` is exclusively borrowed and aligned.
        unsafe { _mm_stream_si128(to, _mm_loadu_si128(from.as_ptr().cast())) };
    }
    tail.copy_from_slice(last);
    // SAFETY: as above; the fence orders the stores before whatever reads the memory next.
    unsafe { _mm_sfence() };
    true
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
fn stream(_from: &[u8], _to: &mut [u8]) -> bool {
    false
}

/// Binds this thread, and those that it starts, to the first cores that it may use.
pub fn bind(cores: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut some = CpuSet::new();
    (0..CpuSet::MAX_CPU)
        .filter(|c| allowed.is_set(*c))
        .take(cores)
        .for_each(|c| some.set(c));
    // Where it cannot be bound it measures with all cores; the floors do so too.
    let _ = sched_setaffinity(None, &some);
}
