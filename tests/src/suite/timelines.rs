//! Timelines that are not of a context's own queues, host functions, eventfds, and who learns of a failure.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vmlu::abi::packet::op;
use vmlu::abi::rpc::Fault;
use vmlu::{Queue, Status, TimelineToken};

use super::{refused, Bench, Check};

/// Well under every limit of a test, well over every delay.
const SOON: Duration = Duration::from_secs(5);

/// A queue's error is cleared and the queue runs on.
fn runs_on(queue: &Queue) -> Check {
    queue.clear_error()?.ok_or("there is no error")?;
    let value = queue.nop()?;
    queue.wait_timeout(value, SOON)?;
    Ok(())
}

pub(super) fn host_signals(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, timeline) = (context.queue()?, context.host_timeline()?);
    let buffer = context.alloc_pinned(8)?;
    for round in 1..=100_u64 {
        queue.wait_for_timeline(&timeline, 2 * round)?;
        let out = context.alloc(8)?;
        let value = queue.copy(out.address(), buffer.address(), 8)?;
        timeline.signal(2 * round - 1)?;
        assert!(queue.timeline() < value, "it did not wait");
        // What the host wrote before the signal is there after the wait.
        buffer.write(0, &round.to_le_bytes());
        timeline.signal(2 * round)?;
        let mut back = [0; 8];
        queue.read(&out, 0, &mut back)?;
        assert_eq!(u64::from_le_bytes(back), round);
    }
    timeline.signal(5)?;
    assert_eq!(timeline.value(), 200, "it went back");
    Ok(())
}

pub(super) fn host_timeline_ends_under_waiters(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queues = [context.queue()?, context.queue()?];
    let timeline = context.host_timeline()?;
    timeline.signal(1)?;
    let mut waits = Vec::new();
    for queue in &queues {
        queue.wait_for_timeline(&timeline, 1)?;
        waits.push(queue.wait_for_timeline(&timeline, 2)?);
    }
    queues[0].wait_timeout(waits[0] - 1, SOON)?;
    drop(timeline.clone());
    assert_eq!(queues[0].timeline(), waits[0] - 1, "a handle is left");
    timeline.end();
    refused(timeline.signal(3), Status::QueueDestroyed);
    drop(timeline);
    for (queue, value) in queues.iter().zip(waits) {
        // A wait at which the card had not looked yet finds no timeline.
        let ended = queue.wait_timeout(value, SOON).err().map(|e| e.status());
        assert!(
            matches!(ended, Some(Status::Dependency | Status::BadHandle)),
            "{ended:?}"
        );
        runs_on(queue)?;
    }
    Ok(())
}

pub(super) fn foreign_timelines(bench: &Bench) -> Check {
    let (context, other) = (bench.context()?, bench.context()?);
    let (queue, timeline) = (context.queue()?, other.host_timeline()?);
    refused(queue.wait_for_timeline(&timeline, 1), Status::BadHandle);
    // Not stopped on the way, the card refuses it too.
    let wait = vmlu::abi::packet::Wait {
        queue: timeline.handle(),
        value: 0,
    };
    let value = queue.submit_raw(op::WAIT, vmlu::abi::Wire::as_bytes(&wait))?;
    refused(queue.wait_timeout(value, SOON), Status::BadHandle);
    runs_on(&queue)
}

pub(super) fn imported(bench: &Bench) -> Check {
    let (first, second) = (bench.context()?, bench.context()?);
    let (producer, consumer) = (first.queue()?, second.queue()?);
    let token = TimelineToken::from_bytes(&producer.export()?.to_bytes());
    assert_eq!(producer.export()?, token, "a queue keeps its token");
    let timeline = second.import(&token)?;
    assert_eq!(timeline.value()?, 0);
    let hold = first.host_timeline()?;
    producer.wait_for_timeline(&hold, 1)?;
    let value = producer.nop()?;
    let wait = consumer.wait_for_imported(&timeline, value)?;
    refused(
        consumer.wait_timeout(wait, Duration::from_millis(20)),
        Status::Timeout,
    );
    // The import lives as long as a command waits for it.
    let state = timeline.state()?;
    assert_eq!((state.value, state.error), (0, 0));
    drop(timeline);
    hold.signal(1)?;
    consumer.wait_timeout(wait, SOON)?;
    let again = second.import(&token)?;
    assert_eq!(again.value()?, value);
    // A timeline of the host goes the same way.
    let host = second.import(&hold.export()?)?;
    let wait = consumer.wait_for_imported(&host, 2)?;
    hold.signal(2)?;
    consumer.wait_timeout(wait, SOON)?;
    Ok(())
}

pub(super) fn imported_fails(bench: &Bench) -> Check {
    let (first, second) = (bench.context()?, bench.context()?);
    let (producer, consumer) = (first.queue()?, second.queue()?);
    let timeline = second.import(&producer.export()?)?;
    let fault = bench.inject(Fault::Fail, op::NOP, 1, 0, 0)?;
    let failed = producer.nop()?;
    refused(producer.wait_timeout(failed, SOON), Status::Injected);
    drop(fault);
    let wait = consumer.wait_for_imported(&timeline, failed)?;
    refused(consumer.wait_timeout(wait, SOON), Status::Dependency);
    assert_eq!(timeline.state()?.error, Status::Injected.raw());
    runs_on(&consumer)?;
    runs_on(&producer)?;
    // Its context ends while others wait for a value that never comes.
    let wait = consumer.wait_for_imported(&timeline, 1 << 40)?;
    let behind = consumer.nop()?;
    drop((producer, first));
    refused(consumer.wait_timeout(behind, SOON), Status::Dependency);
    assert!(consumer.timeline() >= wait);
    assert_eq!(timeline.state()?.error, Status::QueueDestroyed.raw());
    runs_on(&consumer)
}

pub(super) fn bad_tokens(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let good = queue.export()?.to_bytes();
    for byte in [0, 15, 16, 24] {
        let mut bytes = good;
        bytes[byte] ^= 1;
        let error = context.import(&TimelineToken::from_bytes(&bytes)).err();
        assert!(error.is_some(), "byte {byte} is not looked at");
    }
    drop(queue);
    refused(
        context.import(&TimelineToken::from_bytes(&good)),
        Status::BadHandle,
    );
    let channel = context.channel();
    refused(channel.timeline_release(1 << 63 | 7), Status::BadHandle);
    refused(channel.timeline_read(7), Status::BadHandle);
    refused(channel.timeline_export(7), Status::BadHandle);
    Ok(())
}

pub(super) fn host_functions(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue_with(128, 3, 1)?;
    let (pinned, device) = (context.alloc_pinned(8)?, context.alloc(8)?);
    let (said, heard) = mpsc::channel();
    // More than fit the ring at a time: the card runs and waits while they are submitted.
    for round in 0..300_u64 {
        queue.write(&device, 0, &round.to_le_bytes())?;
        queue.copy(pinned.address(), device.address(), 8)?;
        let (memory, said) = (pinned.clone(), said.clone());
        queue.host_fn(move || {
            let mut seen = [0; 8];
            memory.read(0, &mut seen);
            memory.write(0, &(u64::from_le_bytes(seen) + 1000).to_le_bytes());
            let _ = said.send(u64::from_le_bytes(seen));
        })?;
        queue.copy(device.address(), pinned.address(), 8)?;
    }
    let mut back = [0; 8];
    queue.read(&device, 0, &mut back)?;
    assert_eq!(
        u64::from_le_bytes(back),
        1299,
        "the command behind did not wait"
    );
    drop(said);
    assert_eq!(
        heard.iter().collect::<Vec<_>>(),
        (0..300).collect::<Vec<_>>()
    );
    Ok(())
}

pub(super) fn host_function_behind_an_error(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let (said, heard) = mpsc::channel();
    let fault = bench.inject(Fault::Fail, op::NOP, 1, 0, 0)?;
    queue.nop()?;
    let dropped = said.clone();
    let value = queue.host_fn(move || {
        let _ = dropped.send("ran");
    })?;
    refused(queue.wait_timeout(value, SOON), Status::Injected);
    drop(fault);
    runs_on(&queue)?;
    let value = queue.host_fn(move || {
        let _ = said.send("second");
    })?;
    queue.wait_timeout(value, SOON)?;
    assert_eq!(heard.iter().collect::<Vec<_>>(), ["second"]);
    Ok(())
}

pub(super) fn host_function_panics(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let value = queue.host_fn(|| panic!("for a test"))?;
    let behind = queue.nop()?;
    let text = refused(queue.wait_timeout(behind, SOON), Status::Dependency);
    assert!(text.contains("panicked: for a test"), "{text}");
    let record = queue.clear_error()?.ok_or("no record")?;
    assert_eq!(record.value, value);
    let value = queue.host_fn(|| ())?;
    queue.wait_timeout(value, SOON)?;
    refused(queue.wait(behind), Status::Dependency);
    Ok(())
}

pub(super) fn host_function_waits_for_itself(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let (said, heard) = mpsc::channel();
    let inner = queue.clone();
    queue.host_fn(move || {
        let _ = said.send(inner.sync().map_err(|e| e.status()));
    })?;
    assert_eq!(heard.recv_timeout(SOON)?, Err(Status::BadState));
    queue.sync()?;
    Ok(())
}

pub(super) fn queue_dropped_with_host_functions(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let (said, heard) = mpsc::channel();
    for i in 0..10 {
        let said = said.clone();
        queue.host_fn(move || {
            std::thread::sleep(Duration::from_millis(5));
            let _ = said.send(i);
        })?;
    }
    drop(queue);
    drop(said);
    assert_eq!(
        heard.iter().collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    // The function itself has the last handle.
    let context = bench.context()?;
    let queue = context.queue()?;
    let (said, heard) = mpsc::channel();
    let inner = queue.clone();
    let (go, gone) = mpsc::channel::<()>();
    queue.host_fn(move || {
        let _ = gone.recv();
        drop(inner);
        let _ = said.send(());
    })?;
    drop(queue);
    let start = Instant::now();
    drop(go);
    heard.recv_timeout(SOON)?;
    context.queue()?.nop()?;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    Ok(())
}

/// Waits until an eventfd is signalled.
fn signalled(fd: &OwnedFd) -> Check {
    let mut file = File::from(fd.try_clone()?);
    let start = Instant::now();
    loop {
        match file.read(&mut [0; 8]) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock && start.elapsed() < SOON => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn is_quiet(fd: &OwnedFd) -> Result<bool, Box<dyn std::error::Error>> {
    let read = File::from(fd.try_clone()?).read(&mut [0; 8]);
    Ok(read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock))
}

pub(super) fn eventfds(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, hold) = (context.queue()?, context.host_timeline()?);
    let done = queue.nop()?;
    queue.sync()?;
    signalled(&queue.completion_fd(done)?)?;
    // Several values, the larger one first.
    queue.wait_for_timeline(&hold, 1)?;
    let first = queue.nop()?;
    queue.wait_for_timeline(&hold, 2)?;
    let second = queue.nop()?;
    let (late, early) = (queue.completion_fd(second)?, queue.completion_fd(first)?);
    let never = queue.completion_fd(1 << 40)?;
    std::thread::sleep(Duration::from_millis(20));
    assert!(is_quiet(&early)? && is_quiet(&late)?);
    hold.signal(1)?;
    signalled(&early)?;
    assert!(is_quiet(&late)? && is_quiet(&never)?);
    hold.signal(2)?;
    signalled(&late)?;
    // A failure, and the end of the queue.
    let fault = bench.inject(Fault::Fail, op::NOP, 1, 0, 0)?;
    queue.nop()?;
    signalled(&never)?;
    drop(fault);
    runs_on(&queue)?;
    let last = queue.completion_fd(1 << 40)?;
    assert!(is_quiet(&last)?);
    drop(queue);
    signalled(&last)?;
    refused(
        context
            .channel()
            .queue_arm(7, 1, std::os::fd::AsFd::as_fd(&last)),
        Status::BadHandle,
    );
    Ok(())
}

/// A waiter that comes after somebody else has cleared the error learns of the failure all the same.
pub(super) fn failures_outlive_clearing(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for round in 0..50 {
        let good = queue.nop()?;
        queue.sync()?;
        let fault = bench.inject(Fault::Fail, op::NOP, 1, 0, 0)?;
        let failed = queue.nop()?;
        let behind = queue.nop()?;
        let waiter = {
            let queue = queue.clone();
            std::thread::spawn(move || queue.wait_timeout(behind, SOON).map_err(|e| e.status()))
        };
        let other = queue.clone();
        while other.error()?.is_none() {
            std::thread::yield_now();
        }
        drop(fault);
        other.clear_error()?;
        let seen = waiter.join().map_err(|_| "the waiter panicked")?;
        assert_eq!(seen, Err(Status::Injected), "round {round}");
        let after = queue.nop()?;
        queue.wait_timeout(after, SOON)?;
        queue.wait(good)?;
        for value in [failed, behind] {
            refused(queue.wait(value), Status::Injected);
        }
    }
    Ok(())
}

pub(super) fn notifiers_across_queues(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (first, second) = (context.queue()?, context.queue()?);
    let hold = context.host_timeline()?;
    let (start, end) = (context.notifier()?, context.notifier()?);
    first.wait_for_timeline(&hold, 1)?;
    start.place(&first)?;
    start.hold(&second)?;
    end.place(&second)?;
    assert!(!start.query()? && !end.query()?);
    refused(start.elapsed_ms(&end), Status::NotReady);
    hold.signal(1)?;
    end.wait()?;
    assert!(start.query()? && end.query()?);
    assert!(start.elapsed_ms(&end)? >= 0.0 && start.device_elapsed_ms(&end)? >= 0.0);
    assert!(end.elapsed_ms(&start)? <= 0.0);
    refused(start.duration_us(&end), Status::InvalidArgument);
    refused(
        bench.context()?.notifier()?.place(&first),
        Status::BadHandle,
    );
    // Behind a failure it ends too, and says so.
    let fault = bench.inject(Fault::Fail, op::NOP, 1, 0, 0)?;
    first.nop()?;
    start.place(&first)?;
    refused(start.wait(), Status::Injected);
    refused(start.query(), Status::Injected);
    drop(fault);
    first.clear_error()?;
    refused(start.query(), Status::Injected);
    Ok(())
}
