//! Collectives on the embedded card: threads, one thread with groups, failures.

mod algorithms;
mod captured;
mod failures;
mod moves;
mod reductions;
mod threads;
mod values;

use std::time::Duration;

use vmlu::collective::Communicator;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, Queue};

const LIMIT: Duration = Duration::from_secs(20);

/// A rank with a queue.
struct Rank {
    comm: Communicator,
    context: Context,
    queue: Queue,
}

fn ranks(card: &dyn Transport, size: u32) -> Vec<Rank> {
    let open = |device| Context::open_on(card, device).unwrap();
    let contexts: Vec<Context> = (0..size).map(open).collect();
    let comms = Communicator::all(&contexts, LIMIT).unwrap();
    comms
        .into_iter()
        .zip(contexts)
        .map(|(comm, context)| Rank {
            queue: context.queue().unwrap(),
            comm,
            context,
        })
        .collect()
}

impl Rank {
    fn buffer(&self, bytes: &[u8]) -> Buffer {
        let buffer = self.context.alloc(bytes.len().max(1) as u64).unwrap();
        self.queue.write(&buffer, 0, bytes).unwrap();
        buffer
    }

    fn empty(&self, bytes: usize) -> Buffer {
        self.buffer(&vec![0x5a; bytes])
    }

    fn bytes(&self, buffer: &Buffer, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.queue.read(buffer, 0, &mut bytes).unwrap();
        bytes
    }
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut next = random(seed + 1);
    (0..length).map(|_| (next() >> 32) as u8).collect()
}
