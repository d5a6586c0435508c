//! Copies and fills. They go through segments piece by piece, so host memory need not be contiguous here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use vmlu_abi::packet::{Copy, Fill, WriteInline, MAX_INLINE};
use vmlu_abi::{Status, Wire};

use super::command::Command;
use crate::clock::{cost_ns, transfer_ns};
use crate::kernels::env::{Access, Env, Fault, Work};
use crate::memory::bytes::Bytes;
use crate::memory::space::Segment;

/// Bytes between two looks at the cancel flag: well under a millisecond.
pub(super) const CHUNK: u64 = 1 << 20;

/// Most bytes of a copy that takes no longer than some microseconds.
pub(super) const BRIEF: u64 = 16 << 10;

/// Bytes from which on a copy goes past the caches, in parts on all workers that are free: it would leave nothing in them that is still
/// there when somebody looks at it.
const LARGE: u64 = 8 << 20;

/// Bytes of the pattern that are laid out to be copied; a multiple of every width.
const TILE: u64 = 64 << 10;

/// Operand numbers of a copy: where it writes, where it reads.
pub(super) const DST: u16 = 0;
pub(super) const SRC: u16 = 1;

/// [`vmlu_abi::packet::op::COPY`]; its device time.
pub fn copy(env: &Command<'_>, copy: &Copy) -> Result<u64, Fault> {
    if copy.length == 0 {
        return Ok(env.queue.core.hardware.model.launch_ns);
    }
    let src = env.segment(SRC, copy.src, copy.length, Access::Read)?;
    let dst = env.segment(DST, copy.dst, copy.length, Access::Write)?;
    if copy.src < copy.dst.saturating_add(copy.length)
        && copy.dst < copy.src.saturating_add(copy.length)
    {
        let text = format!(
            "copy: {:#x} and {:#x} overlap over {:#x} bytes",
            copy.dst, copy.src, copy.length
        );
        return Err(Fault::operand(Status::BadOperand, DST, copy.dst, text));
    }
    contiguous(env, &dst, copy.dst, &src, copy.src, copy.length)?;
    Ok(moved(env, &src, &dst, copy.length))
}

/// Copies contiguous bytes between addresses of two segments, in which they lie.
pub(super) fn contiguous(
    env: &Command<'_>,
    dst: &Segment,
    write: u64,
    src: &Segment,
    read: u64,
    length: u64,
) -> Result<(), Fault> {
    if length < LARGE {
        return part(env, dst, write, src, read, length, |to, from| {
            to.copy_bytes(from)
        });
    }
    let fault = Mutex::new(None);
    let stopped = AtomicBool::new(false);
    env.parallel(length.div_ceil(CHUNK) as usize, &|index| {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let at = index as u64 * CHUNK;
        let bytes = (length - at).min(CHUNK);
        let copied = part(env, dst, write + at, src, read + at, bytes, |to, from| {
            to.stream_bytes(from)
        });
        if let Err(reason) = copied {
            stopped.store(true, Ordering::Relaxed);
            *fault.lock().unwrap_or_else(|e| e.into_inner()) = Some(reason);
        }
    });
    match fault.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// Copies contiguous bytes as above, on this thread, by a way of copying.
fn part(
    env: &Command<'_>,
    dst: &Segment,
    write: u64,
    src: &Segment,
    read: u64,
    length: u64,
    copy: impl Fn(&Bytes<'_>, &Bytes<'_>) -> bool,
) -> Result<(), Fault> {
    let mut done = 0;
    while done < length {
        // The first piece of a short one is over before anybody can want it to stop.
        if done > 0 || length > BRIEF {
            env.check()?;
        }
        let wanted = (length - done).min(CHUNK);
        let from = piece(src, SRC, read + done, wanted)?;
        let to = piece(dst, DST, write + done, from.len() as u64)?;
        let from = from.slice(0, to.len()).unwrap_or(from);
        copy(&to, &from);
        done += to.len() as u64;
    }
    Ok(())
}

/// Counts bytes that were copied; the device time that it takes.
pub(super) fn moved(env: &Command<'_>, src: &Segment, dst: &Segment, bytes: u64) -> u64 {
    let core = &env.queue.core;
    let model = core.hardware.model;
    let counters = &core.live.counters;
    match (!src.is_host(), !dst.is_host()) {
        (true, true) => {
            counters.device.fetch_add(2 * bytes, Ordering::Relaxed);
            cost_ns(
                model,
                &Work {
                    read: bytes,
                    written: bytes,
                    ..Work::default()
                },
            )
        }
        (from_device, _) => {
            let counter = if from_device {
                &counters.to_host
            } else {
                &counters.from_host
            };
            counter.fetch_add(bytes, Ordering::Relaxed);
            transfer_ns(model, bytes)
        }
    }
}

/// [`vmlu_abi::packet::op::FILL`]; its device time.
pub fn fill(env: &Command<'_>, fill: &Fill) -> Result<u64, Fault> {
    let width = u64::from(fill.width);
    if !matches!(fill.width, 1 | 2 | 4 | 8)
        || fill.reserved != 0
        || (width < 8 && fill.pattern >> (width * 8) != 0)
    {
        let text = format!(
            "fill: a pattern {:#x} of {} bytes",
            fill.pattern, fill.width
        );
        return Err(Fault::new(Status::InvalidArgument, text));
    }
    if !fill.dst.is_multiple_of(width) || !fill.length.is_multiple_of(width) {
        let text = format!(
            "fill: {:#x} + {:#x} is not aligned to the {width} bytes of the pattern",
            fill.dst, fill.length
        );
        return Err(Fault::operand(Status::BadOperand, DST, fill.dst, text));
    }
    if fill.length > 0 {
        let dst = env.segment(DST, fill.dst, fill.length, Access::Write)?;
        let unit = &fill.pattern.to_le_bytes()[..fill.width as usize];
        let tile = unit.repeat(fill.length.min(TILE).div_ceil(width) as usize);
        let mut done = 0;
        while done < fill.length {
            env.check()?;
            let run = piece(&dst, DST, fill.dst + done, (fill.length - done).min(CHUNK))?;
            let mut at = 0;
            while at < run.len() {
                let part = tile.len().min(run.len() - at);
                if let Some(to) = run.slice(at, part) {
                    to.copy_from(&tile[..part]);
                }
                at += part;
            }
            done += run.len() as u64;
        }
        env.queue
            .core
            .live
            .counters
            .device
            .fetch_add(fill.length, Ordering::Relaxed);
    }
    Ok(cost_ns(
        env.queue.core.hardware.model,
        &Work {
            written: fill.length,
            ..Work::default()
        },
    ))
}

/// [`vmlu_abi::packet::op::WRITE`]; its device time.
pub fn write(env: &Command<'_>, body: &[u8]) -> Result<u64, Fault> {
    let Some(head) = WriteInline::read_from(body) else {
        return Err(Fault::new(Status::TruncatedBody, "write: truncated body"));
    };
    let data = &body[size_of::<WriteInline>()..];
    if head.reserved != 0 || head.length as usize != data.len() || data.len() > MAX_INLINE {
        let text = format!(
            "write: {} bytes announced, {} in the packet, at most {MAX_INLINE} allowed",
            head.length,
            data.len()
        );
        return Err(Fault::new(Status::BadLength, text));
    }
    if !data.is_empty() {
        let dst = env.segment(DST, head.dst, data.len() as u64, Access::Write)?;
        let mut done = 0;
        while done < data.len() {
            let to = piece(
                &dst,
                DST,
                head.dst + done as u64,
                (data.len() - done) as u64,
            )?;
            to.copy_from(&data[done..done + to.len()]);
            done += to.len();
        }
        env.queue
            .core
            .live
            .counters
            .from_host
            .fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    Ok(transfer_ns(
        env.queue.core.hardware.model,
        data.len() as u64,
    ))
}

/// The contiguous bytes from an address of a segment on, at most `length`, at least one.
pub(super) fn piece(
    segment: &Segment,
    operand: u16,
    address: u64,
    length: u64,
) -> Result<Bytes<'_>, Fault> {
    let run = segment
        .run(address - segment.va, length)
        .filter(|r| !r.is_empty());
    run.ok_or_else(|| {
        Fault::operand(
            Status::OperandFault,
            operand,
            address,
            format!("{address:#x} has no memory behind it"),
        )
    })
}
