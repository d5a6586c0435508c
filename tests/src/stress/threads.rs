//! The stress test on a card in this process: owners are threads, and an end in the middle is a context that is dropped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vmlu::transport::Transport;

use super::account::Account;
use super::record::{Record, LIVES};
use super::worker::{live, End};
use super::{Options, Random};

/// Runs it; a line about the run.
///
/// # Errors
///
/// If something is wrong, with the seed.
pub fn run(
    transport: &dyn Transport,
    options: &Options,
    record: &Path,
) -> Result<String, Box<dyn std::error::Error>> {
    let account = Account::open(transport, options.device)?;
    let record = Record::create(record)?;
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let owners: Vec<_> = (0..options.owners)
            .map(|_| scope.spawn(|| lives(transport, options, &record, &stop, &next)))
            .collect();
        let start = Instant::now();
        while start.elapsed() < options.duration && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
        let ends = owners.into_iter().map(|owner| match owner.join() {
            Ok(Ok(())) => None,
            Ok(Err(text)) => Some(text),
            Err(_) => Some("an owner panicked".to_owned()),
        });
        ends.flatten().collect()
    });
    if !failures.is_empty() {
        return Err(failures.join("; ").into());
    }
    account.close(transport, options.device, &record)
}

/// One life after the other. Most are cut off.
fn lives(
    transport: &dyn Transport,
    options: &Options,
    record: &Record,
    stop: &AtomicBool,
    next: &AtomicUsize,
) -> Result<(), String> {
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let Some(life) = record.lives().get(number).filter(|_| number < LIVES) else {
            return Ok(());
        };
        let seed = options.seed.wrapping_add(number as u64);
        let mut random = Random::new(seed ^ 0xdead);
        let end = End {
            steps: 1 + random.below(20_000),
            well: random.once_in(3),
        };
        let result = live(transport, options, seed, life, end, stop);
        if let Err(error) = result {
            stop.store(true, Ordering::SeqCst);
            return Err(format!("life {number} of seed {}: {error}", options.seed));
        }
        if stop.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}
