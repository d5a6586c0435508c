//! Device memory, pinned memory, and the copies between them.

use vmlu::abi::packet::{self, op};
use vmlu::abi::Wire;
use vmlu::Status;

use super::{pattern, refused, Bench, Check};

pub(super) fn round_trips(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for length in [
        1,
        63,
        2048,
        2049,
        4096,
        65_537,
        (1 << 20) + 1,
        (3 << 20) + 77,
    ] {
        let buffer = queue.context().alloc(length as u64)?;
        let data = pattern(length, length as u32);
        queue.write(&buffer, 0, &data)?;
        let mut back = vec![0; length];
        queue.read(&buffer, 0, &mut back)?;
        assert!(back == data, "{length} bytes did not come back");
    }
    let empty = queue.context().alloc(0)?;
    queue.write(&empty, 0, &[])?;
    queue.read(&empty, 0, &mut [])?;
    queue.sync()?;
    Ok(())
}

pub(super) fn device_copies(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let length = 300_000;
    let (from, to) = (
        queue.context().alloc(length)?,
        queue.context().alloc(length)?,
    );
    let data = pattern(length as usize, 5);
    queue.write(&from, 0, &data)?;
    queue.fill(&to, 0, length, 0xee)?;
    queue.copy(to.address() + 100, from.address() + 7, 1000)?;
    let mut back = vec![0; length as usize];
    queue.read(&to, 0, &mut back)?;
    assert!(back[100..1100] == data[7..1007]);
    assert!(
        back[..100].iter().chain(&back[1100..]).all(|b| *b == 0xee),
        "the copy wrote beside its range"
    );
    Ok(())
}

pub(super) fn fills(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(200_000)?;
    queue.fill(&buffer, 0, 200_000, 1)?;
    for (width, pattern) in [
        (1_u32, 0xab_u64),
        (2, 0xabcd),
        (4, 0xabcd_ef01),
        (8, 0x0123_4567_89ab_cdef),
    ] {
        let fill = packet::Fill {
            dst: buffer.address() + 16,
            length: 100_000,
            pattern,
            width,
            reserved: 0,
        };
        queue.submit_raw(op::FILL, fill.as_bytes())?;
        let mut back = vec![0; 200_000];
        queue.read(&buffer, 0, &mut back)?;
        let unit = &pattern.to_le_bytes()[..width as usize];
        assert!(
            back[16..100_016].chunks(unit.len()).all(|c| c == unit),
            "width {width}"
        );
        assert!(
            back[..16].iter().chain(&back[100_016..]).all(|b| *b == 1),
            "the fill wrote beside its range"
        );
    }
    Ok(())
}

pub(super) fn pinned_copies(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let context = queue.context();
    // Longer than the contiguous pieces that the driver gets.
    let length = (5 << 20) + 4096;
    let (from, to) = (context.alloc_pinned(length)?, context.alloc_pinned(length)?);
    let device = context.alloc(length)?;
    let data = pattern(length as usize, 9);
    from.write(0, &data);
    queue.copy(device.address(), from.address(), length)?;
    queue.copy(to.address(), device.address(), length)?;
    queue.sync()?;
    let mut back = vec![0; length as usize];
    to.read(0, &mut back);
    assert!(back == data, "pinned memory did not come back");
    // Host to host, not aligned to anything.
    queue.copy(to.address() + 3, from.address() + 4_000_001, 1_000_001)?;
    queue.sync()?;
    to.read(0, &mut back);
    assert!(back[3..1_000_004] == data[4_000_001..5_000_002]);
    Ok(())
}

pub(super) fn lengths_are_exact(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(1000)?;
    let text = refused(queue.write(&buffer, 990, &[0; 11]), Status::InvalidArgument);
    assert!(text.contains("1000 bytes"), "{text}");
    let value = queue.copy(buffer.address(), buffer.address() + 501, 500)?;
    refused(queue.wait(value), Status::OperandFault);
    Ok(())
}

pub(super) fn out_of_memory(bench: &Bench) -> Check {
    let context = bench.context()?;
    let available = context.info().info.memory_available;
    let text = refused(
        context.alloc(available + (1 << 20)),
        Status::OutOfDeviceMemory,
    );
    assert!(text.contains("allocate"), "{text}");
    refused(context.alloc(u64::MAX - 100), Status::OutOfResources);
    // And it goes on.
    drop(context.alloc(1 << 20)?);
    Ok(())
}

pub(super) fn refusals(bench: &Bench) -> Check {
    let context = bench.context()?;
    let buffer = context.alloc(4096)?;
    let channel = context.channel();
    refused(
        channel.memory_alloc(buffer.address(), 4096),
        Status::AddressInUse,
    );
    refused(
        channel.memory_alloc(buffer.address() + 1, 4096),
        Status::InvalidArgument,
    );
    refused(
        channel.memory_alloc(!0xffff_ffff, u64::MAX),
        Status::InvalidArgument,
    );
    refused(
        channel.memory_free(buffer.address() + 4096),
        Status::BadHandle,
    );
    refused(channel.host_free(buffer.address()), Status::BadHandle);
    refused(
        channel.notifier_pool(buffer.address() + 8, 4),
        Status::InvalidArgument,
    );
    Ok(())
}

pub(super) fn cleared_between_contexts(bench: &Bench) -> Check {
    let length = 8 << 20;
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(length)?;
    queue.fill(&buffer, 0, length, 0x5a)?;
    queue.sync()?;
    drop((buffer, queue));
    let queue = bench.queue()?;
    for _ in 0..4 {
        let buffer = queue.context().alloc(length)?;
        let mut seen = vec![1; length as usize];
        queue.read(&buffer, 0, &mut seen)?;
        assert!(
            seen.iter().all(|b| *b != 0x5a),
            "another context's data shows"
        );
    }
    Ok(())
}

pub(super) fn freed_with_the_context(bench: &Bench) -> Check {
    let used = || -> vmlu::Result<u64> { Ok(bench.transport.telemetry(bench.device)?.memory_used) };
    let before = used()?;
    {
        let channel = bench.transport.open(bench.device)?;
        // Not reserved in this process, and never freed by hand.
        channel.memory_alloc(1 << 40, 10 << 20)?;
        assert!(used()? >= before + (10 << 20));
    }
    assert_eq!(used()?, before);
    Ok(())
}
