//! What a card costs that has nothing to do.

use std::path::Path;
use std::time::{Duration, Instant};

use vmlu::transport::Transport;
use vmlu::{Context, Result};

use crate::row::{Better, Row};

/// Name of the figure.
const NAME: &str = "idle processor time";
/// Most of a core that an idle card may take, percent.
const GOAL: f64 = 0.1;
/// After this the card has nothing left to do.
const SETTLE: Duration = Duration::from_secs(3);

/// Processor time of all threads of a process, by the scheduler's own account, ns; `None` if it cannot be read.
pub fn process_time(pid: u32) -> Option<u64> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut sum = 0;
    for task in std::fs::read_dir(tasks).ok()?.flatten() {
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Some(sum)
}

/// What a process costs, which has so many chips and nothing to do.
pub fn watch(pid: u32, transport: &str, chips: usize, during: Duration) -> Vec<Row> {
    std::thread::sleep(SETTLE);
    let (before, start) = (process_time(pid), Instant::now());
    std::thread::sleep(during);
    let used = process_time(pid).zip(before).map(|(now, then)| now - then);
    let row = used.map(|used| {
        let share = used as f64 / start.elapsed().as_nanos() as f64 * 100.0;
        let name = format!("{NAME}, {chips} chips");
        Row::new("queues", transport, &name, share, "%").goal(Better::Lower, GOAL)
    });
    row.into_iter().collect()
}

/// Has every chip do something.
pub fn touch(transport: &dyn Transport) -> Result<()> {
    for chip in transport.devices()? {
        let queue = Context::open_on(transport, chip)?.queue()?;
        queue.nop()?;
        queue.sync()?;
    }
    Ok(())
}

/// What this process costs with a context and a queue on each chip that have nothing to do any more.
pub fn here(transport: &dyn Transport, during: Duration) -> Result<Vec<Row>> {
    let chips = transport.devices()?;
    let queues = chips
        .iter()
        .map(|chip| Context::open_on(transport, *chip)?.queue())
        .collect::<Result<Vec<_>>>()?;
    for queue in &queues {
        queue.nop()?;
        queue.sync()?;
    }
    let pid = std::process::id();
    Ok(watch(pid, transport.name(), chips.len(), during))
}
