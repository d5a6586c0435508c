//! Queues, timelines, notifiers.

use std::time::{Duration, Instant};

use vmlu::abi::packet::op;
use vmlu::abi::rpc::Fault;
use vmlu::operators::MatmulOptions;
use vmlu::{DataType, Status, Tensor};

use super::{refused, Bench, Check};

pub(super) fn timeline(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for expected in 1..=1000 {
        assert_eq!(queue.nop()?, expected);
    }
    queue.sync()?;
    assert_eq!((queue.timeline(), queue.submitted()), (1000, 1000));
    assert!(queue.is_idle() && queue.error()?.is_none());
    Ok(())
}

pub(super) fn ring_wraps(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue_with(128, 3, 1)?;
    let buffer = context.alloc(1 << 16)?;
    let mut expected = vec![0; 1 << 16];
    queue.fill(&buffer, 0, 1 << 16, 0)?;
    // Packets of all lengths, so that they cross the ring's end in all ways.
    for i in 0..600_usize {
        let at = (i * 97) % 60_000;
        let data: Vec<u8> = (0..(i * 31) % 2048).map(|j| (i + j) as u8).collect();
        queue.write(&buffer, at as u64, &data)?;
        expected[at..at + data.len()].copy_from_slice(&data);
        queue.nop()?;
    }
    let mut back = vec![0; 1 << 16];
    queue.read(&buffer, 0, &mut back)?;
    assert!(back == expected);
    Ok(())
}

/// As many as a chip must have at least.
pub(super) fn many_queues(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queues: Vec<_> = (0..1024)
        .map(|_| context.queue_with(128, 3, 1))
        .collect::<Result<_, _>>()?;
    for _ in 0..20 {
        for queue in &queues {
            queue.nop()?;
        }
    }
    for queue in &queues {
        queue.wait_timeout(20, Duration::from_secs(20))?;
    }
    Ok(())
}

pub(super) fn wait_times_out(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let start = Instant::now();
    refused(
        queue.wait_timeout(5, Duration::from_millis(30)),
        Status::Timeout,
    );
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(30) && elapsed < Duration::from_secs(5),
        "{elapsed:?}"
    );
    Ok(())
}

pub(super) fn queues_wait_for_each_other(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (first, second) = (context.queue()?, context.queue()?);
    let buffer = context.alloc(8)?;
    for round in 1..=100_u64 {
        second.wait_for(&first, first.submitted() + 2)?;
        second.write(&buffer, 0, &(2 * round).to_le_bytes())?;
        first.write(&buffer, 0, &(2 * round - 1).to_le_bytes())?;
        first.nop()?;
        first.wait_for(&second, second.submitted())?;
        let mut back = [0; 8];
        first.read(&buffer, 0, &mut back)?;
        assert_eq!(u64::from_le_bytes(back), 2 * round);
    }
    Ok(())
}

pub(super) fn notifiers(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let context = queue.context();
    let model = vmlu::abi::model::by_id(context.info().info.model).ok_or("unknown model")?;
    let n = 64;
    let a = Tensor::zeros(&queue, DataType::F32, &[n, n])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[n, n])?;
    let (start, end) = (context.notifier()?, context.notifier()?);
    assert!(start.is_done());
    refused(start.elapsed_ms(&end), Status::InvalidArgument);
    start.place(&queue)?;
    for _ in 0..10 {
        queue.matmul(&a, &a, &out, &MatmulOptions::default())?;
    }
    end.place(&queue)?;
    end.wait()?;
    // The device time of ten small products by the model's roofline, the same on every host.
    let bytes = 3 * n * n * 4;
    let roofline = (2 * n * n * n * 1_000_000_000 / model.rates.f32)
        .max(bytes * 1_000_000_000 / model.memory_bandwidth);
    let expected = 10.0 * (model.launch_ns + roofline) as f32 / 1e3;
    let duration = start.duration_us(&end)?;
    assert!(
        (duration - expected).abs() <= 0.02 * expected,
        "{duration} µs, the model says {expected} µs"
    );
    assert!(start.elapsed_ms(&end)? > 0.0);
    Ok(())
}

pub(super) fn waiters_in_threads(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let injected = bench.inject(Fault::Delay, op::NOP, 1, 0, 100_000)?;
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (1..=16_u64)
            .map(|i| {
                let queue = queue.clone();
                scope.spawn(move || queue.wait_timeout(i * 10, Duration::from_secs(20)))
            })
            .collect();
        for _ in 0..160 {
            queue.nop()?;
        }
        for waiter in waiters {
            waiter.join().map_err(|_| "a waiter panicked")??;
        }
        Check::Ok(())
    })?;
    drop(injected);
    Ok(())
}

pub(super) fn destroyed_under_a_waiter(bench: &Bench) -> Check {
    let context = bench.context()?;
    let memory = context.channel().queue_create(128, 3, 1)?;
    std::thread::scope(|scope| {
        let channel = context.channel();
        let waiter = scope.spawn(move || channel.queue_wait(memory.queue, 1, u64::MAX));
        std::thread::sleep(Duration::from_millis(50));
        channel.queue_destroy(memory.queue)?;
        let start = Instant::now();
        let ended = waiter.join().map_err(|_| "the waiter panicked")?;
        assert!(
            ended.is_err() && start.elapsed() < Duration::from_secs(1),
            "{ended:?}"
        );
        refused(
            context.channel().queue_wait(memory.queue, 1, 0),
            Status::BadHandle,
        );
        Ok(())
    })
}

/// A full ring refuses and overwrites nothing: what was accepted is done once, in order.
pub(super) fn full_ring(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue_with(128, 3, 1)?;
    let other = context.queue()?;
    let buffer = context.alloc(256 * 8)?;
    queue.fill(&buffer, 0, 256 * 8, 0)?;
    queue.sync()?;
    // The queue stands at this until the other queue moves.
    queue.wait_for(&other, 1)?;
    let mut accepted = 0_u64;
    let full = loop {
        let write = vmlu::abi::packet::WriteInline {
            dst: buffer.address() + accepted * 8,
            length: 8,
            reserved: 0,
        };
        let body = [
            vmlu::abi::Wire::as_bytes(&write),
            &(accepted + 1).to_le_bytes()[..],
        ]
        .concat();
        match queue.try_submit_raw(op::WRITE, &body) {
            Ok(value) => {
                accepted += 1;
                assert_eq!(value, accepted + 2);
            }
            error => break error,
        }
        assert!(accepted < 256, "a ring of 128 units takes no end");
    };
    refused(full, Status::NotReady);
    refused(queue.try_submit_raw(op::NOP, &[]), Status::NotReady);
    // The card may have consumed the wait already.
    assert!((127..=128).contains(&accepted), "{accepted} were accepted");
    assert_eq!((queue.timeline(), queue.submitted()), (1, accepted + 2));
    // One who blocks gets through once the queue moves.
    let last = std::thread::scope(|scope| {
        let blocked = scope.spawn(|| queue.nop());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!blocked.is_finished(), "it was submitted to a full ring");
        other.nop()?;
        blocked
            .join()
            .map_err(|_| "the producer panicked")?
            .map_err(Box::<dyn std::error::Error>::from)
    })?;
    assert_eq!(last, accepted + 3);
    queue.sync()?;
    let mut back = vec![0; accepted as usize * 8];
    queue.read(&buffer, 0, &mut back)?;
    for (i, word) in back.chunks(8).enumerate() {
        assert_eq!(word, (i as u64 + 1).to_le_bytes(), "command {i}");
    }
    queue.try_submit_raw(op::NOP, &[])?;
    queue.sync()?;
    Ok(())
}

/// A batch runs when it is closed, also after an error in it, and when somebody waits for it.
pub(super) fn batches(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for round in 1..=100 {
        let last = queue.batch(|batch| {
            for _ in 0..9 {
                batch.nop()?;
            }
            batch.nop()
        })?;
        assert_eq!(last, round * 10);
        queue.wait_timeout(last, Duration::from_secs(10))?;
    }
    let held = queue.batch(|batch| {
        batch.nop()?;
        std::thread::sleep(Duration::from_millis(5));
        // Nobody has told the card.
        Ok(queue.timeline())
    })?;
    assert_eq!(held, 1000);
    queue.wait_timeout(1001, Duration::from_secs(10))?;
    queue.batch(|batch| {
        let value = batch.nop()?;
        queue.wait_timeout(value, Duration::from_secs(10))
    })?;
    let failed: vmlu::Result<u64> = queue.batch(|batch| {
        batch.nop()?;
        batch.submit_raw(op::NOP, &[0; 1 << 13])
    });
    refused(failed, Status::BadLength);
    queue.wait_timeout(1003, Duration::from_secs(10))?;
    assert_eq!(queue.submitted(), 1003);
    Ok(())
}

/// A batch that is larger than its ring goes through it.
pub(super) fn batch_in_a_full_ring(bench: &Bench) -> Check {
    let queue = bench.context()?.queue_with(128, 3, 1)?;
    let last = queue.batch(|batch| {
        for _ in 0..1000 {
            batch.nop()?;
        }
        batch.nop()
    })?;
    assert_eq!(last, 1001);
    queue.wait_timeout(last, Duration::from_secs(10))?;
    Ok(())
}

/// Threads that batch and threads that do not, on one queue: every command has a value of its own, and all are done.
pub(super) fn batches_from_threads(bench: &Bench) -> Check {
    const EACH: u64 = 2000;
    let queue = bench.context()?.queue_with(128, 3, 1)?;
    let mut values = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let queue = queue.clone();
                scope.spawn(move || -> vmlu::Result<Vec<u64>> {
                    if i % 2 == 0 {
                        return (0..EACH).map(|_| queue.nop()).collect();
                    }
                    let batches = (0..EACH / 20).map(|_| {
                        queue.batch(|b| (0..20).map(|_| b.nop()).collect::<Result<_, _>>())
                    });
                    Ok(batches.collect::<vmlu::Result<Vec<Vec<u64>>>>()?.concat())
                })
            })
            .collect();
        let mut values = Vec::new();
        for thread in threads {
            let own = thread.join().map_err(|_| "a producer panicked")??;
            assert!(own.is_sorted());
            values.extend(own);
        }
        Result::<_, Box<dyn std::error::Error>>::Ok(values)
    })?;
    values.sort_unstable();
    assert!(values.into_iter().eq(1..=4 * EACH));
    queue.wait_timeout(4 * EACH, Duration::from_secs(20))?;
    Ok(())
}
