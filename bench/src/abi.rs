//! Calls of the C interfaces, beside what they stand on. The functions are called as C does, but for the one jump from `libcnrt.so` to them.

pub mod cndev;

use std::time::Instant;

use vmlu::abi::packet::{op, Fill};
use vmlu::abi::Wire;
use vmlu::transport::Transport;
use vmlu::{Error, Result, Status};
use vmlu_c_abi::{Out, Ptr};

use crate::row::{Better, Row};

/// Interleaved runs of which the median counts.
const RUNS: usize = 15;
/// Calls of a run.
const CALLS: u32 = 2000;
/// Bytes of an allocation.
const BYTES: usize = 64 << 10;

fn check(code: i32) -> Result<()> {
    match code {
        0 => Ok(()),
        code => {
            let text = format!("a call of libcnrt gives {code}");
            Err(Error::new("bench abi", Status::Internal, text))
        }
    }
}

fn place<T: Copy>(value: &mut T) -> Out<T> {
    // SAFETY: a place of the caller's frame, which outlives the call that gets it.
    unsafe { Out::new(value) }
}

/// Time of a call, µs.
fn time(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..CALLS {
        call()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures calls of libcnrt and libcndev.
pub fn run(transport: &dyn Transport) -> Result<Vec<Row>> {
    let mut rows = runtime(transport)?;
    rows.extend(cndev::run(transport.name()));
    Ok(rows)
}

fn runtime(transport: &dyn Transport) -> Result<Vec<Row>> {
    let mut queue = Ptr::NULL;
    let mut memory = Ptr::NULL;
    check(vmlu_cnrt::cnrtQueueCreate(place(&mut queue)))?;
    check(vmlu_cnrt::cnrtMalloc(place(&mut memory), BYTES))?;
    let context = vmlu::Context::open_on(transport, 0)?;
    let (plain, buffer) = (context.queue()?, context.alloc(BYTES as u64)?);
    let fill = Fill {
        dst: buffer.address(),
        length: 4,
        pattern: 7,
        width: 1,
        reserved: 0,
    };
    let mut samples: [Vec<f64>; 4] = Default::default();
    for _ in 0..RUNS {
        samples[0].push(time(|| {
            let mut pointer = Ptr::NULL;
            check(vmlu_cnrt::cnrtMalloc(place(&mut pointer), BYTES))?;
            check(vmlu_cnrt::cnrtFree(pointer))
        })?);
        samples[1].push(time(|| {
            let (mut free, mut total) = (0, 0);
            let places = (place(&mut free), place(&mut total));
            check(vmlu_cnrt::cnrtMemGetInfo(places.0, places.1))
        })?);
        samples[2].push(time(|| {
            plain.submit_raw(op::FILL, fill.as_bytes()).map(drop)
        })?);
        plain.sync()?;
        samples[3].push(time(|| {
            check(vmlu_cnrt::cnrtMemsetAsync(memory, 7, 4, queue))
        })?);
        check(vmlu_cnrt::cnrtQueueSync(queue))?;
    }
    let [alloc, info, rust, abi] = samples.each_mut().map(|s| median(s));
    check(vmlu_cnrt::cnrtFree(memory))?;
    check(vmlu_cnrt::cnrtQueueDestroy(queue))?;
    let name = transport.name();
    let embedded = |goal: f64| (name == "embedded").then_some(goal);
    let row = |what: &str, value, unit: &str| Row::new("abi", name, what, value, unit);
    Ok(vec![
        row("cnrtMalloc + cnrtFree from the cache", alloc, "µs")
            .goal_if(Better::Lower, embedded(5.0)),
        row("cnrtMemGetInfo", info, "µs").goal_if(Better::Lower, embedded(1.0)),
        row("cnrtMemsetAsync of 4 bytes", abi, "µs").floor(rust),
        row("cnrtMemsetAsync against the Rust API", abi / rust, "")
            .goal_if(Better::Lower, embedded(1.3)),
    ])
}
