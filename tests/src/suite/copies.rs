//! Pageable copies through the staging pool.

use std::time::Duration;

use super::{pattern, Bench, Check};

/// Many queues and threads share the staging pool, which stays as small as it is.
pub(super) fn staging_is_shared(bench: &Bench) -> Check {
    let context = bench.context()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|seed| {
                let context = context.clone();
                scope.spawn(move || {
                    let queue = context.queue()?;
                    let buffer = context.alloc(6 << 20)?;
                    for round in 0..3 {
                        let data = pattern((5 << 20) + 77 * round, seed + round as u32);
                        queue.write(&buffer, 11, &data)?;
                        let mut back = vec![0; data.len()];
                        queue.read(&buffer, 11, &mut back)?;
                        assert!(back == data, "thread {seed}");
                    }
                    Ok::<_, vmlu::Error>(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Check::Ok(())
    })?;
    let context = context.channel().context();
    let processes = bench.transport.processes(bench.device)?;
    let used = processes
        .iter()
        .filter(|p| context.is_none_or(|c| p.context == c));
    let pinned = used.map(|p| p.host_memory).max().unwrap_or(0);
    assert!(
        (1 << 20..=16 << 20).contains(&pinned),
        "{pinned} bytes are pinned"
    );
    Ok(())
}

/// Queues that stand still with all of the staging memory do not hold up others.
pub(super) fn staging_of_queues_that_stand_still(bench: &Bench) -> Check {
    let context = bench.context()?;
    let hold = context.host_timeline()?;
    let stuck: Vec<_> = (0..6).map(|_| context.queue()).collect::<Result<_, _>>()?;
    let buffer = context.alloc(2 << 20)?;
    let data = pattern(2 << 20, 5);
    for queue in &stuck {
        queue.wait_for_timeline(&hold, 1)?;
        queue.write(&buffer, 0, &data)?;
    }
    let free = context.queue()?;
    let other = context.alloc(2 << 20)?;
    free.write(&other, 0, &data)?;
    let mut back = vec![0; data.len()];
    free.read(&other, 0, &mut back)?;
    assert!(back == data);
    hold.signal(1)?;
    for queue in &stuck {
        queue.wait_timeout(queue.submitted(), Duration::from_secs(20))?;
    }
    Ok(())
}
