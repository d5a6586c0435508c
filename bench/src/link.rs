//! Copies between chips and collectives, over the chips that there are.

pub mod table;

use std::time::{Duration, Instant};

use vmlu::abi::link::PortState;
use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::collective::{group, Algorithm, Communicator, Function, Shape};
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Queue, Result};

use crate::row::{median, Better, Row};

const BENCH: &str = "link";
const MIB: u64 = 1 << 20;
/// Bytes/s that a board moves over MLU-Link in one direction; each of its two chips has half.
const CHIP_LINK: f64 = 100e9;

/// Ranks of this process, driven by one thread, with a buffer each.
pub(crate) struct Ranks {
    comms: Vec<Communicator>,
    contexts: Vec<Context>,
    queues: Vec<Queue>,
    buffers: Vec<Buffer>,
}

impl Ranks {
    pub(crate) fn new(transport: &dyn Transport, size: u32, bytes: u64) -> Result<Self> {
        let contexts = (0..size)
            .map(|device| Context::open_on(transport, device))
            .collect::<Result<Vec<_>>>()?;
        let comms = Communicator::all(&contexts, Duration::from_secs(10))?;
        let queues = contexts
            .iter()
            .map(Context::queue)
            .collect::<Result<Vec<_>>>()?;
        let buffers = contexts
            .iter()
            .map(|c| c.alloc(bytes))
            .collect::<Result<Vec<_>>>()?;
        for (queue, buffer) in queues.iter().zip(&buffers) {
            queue.fill(buffer, 0, bytes, 0)?;
            queue.sync()?;
        }
        Ok(Self {
            comms,
            contexts,
            queues,
            buffers,
        })
    }

    /// How the chips are joined.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.comms.first().map(Communicator::shape)
    }

    /// One algorithm instead of the table's.
    pub(crate) fn use_algorithm(&self, algorithm: Option<Algorithm>) {
        // The ranks share what is said of them.
        if let Some(comm) = self.comms.first() {
            comm.set_algorithm(algorithm);
        }
    }

    /// One all-reduce in place, of f32; until it has ended everywhere.
    pub(crate) fn all_reduce(&self, bytes: u64) -> Result<()> {
        self.begin(bytes)?;
        self.queues.iter().try_for_each(Queue::sync)
    }

    /// The same, until it was submitted.
    fn begin(&self, bytes: u64) -> Result<()> {
        group(|| {
            for ((comm, queue), buffer) in self.comms.iter().zip(&self.queues).zip(&self.buffers) {
                comm.all_reduce(
                    buffer,
                    buffer,
                    bytes / 4,
                    DataType::F32,
                    Function::Sum,
                    queue,
                )?;
            }
            Ok(())
        })
    }

    /// Time of one on the host, ns: the median of so many.
    fn time(&self, bytes: u64, times: u32) -> Result<f64> {
        self.all_reduce(bytes)?;
        let mut seen = Vec::new();
        for _ in 0..times {
            let start = Instant::now();
            self.all_reduce(bytes)?;
            seen.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(&mut seen))
    }

    /// Device time of one on the chip that takes longest, ns.
    pub(crate) fn device_time(&self, bytes: u64) -> Result<f64> {
        let mut ends = Vec::new();
        for (context, queue) in self.contexts.iter().zip(&self.queues) {
            let (begin, end) = (context.notifier()?, context.notifier()?);
            begin.place(queue)?;
            ends.push((begin, end));
        }
        self.begin(bytes)?;
        let mut longest = 0f64;
        for ((begin, end), queue) in ends.iter().zip(&self.queues) {
            end.place(queue)?;
            end.wait()?;
            longest = longest.max(f64::from(begin.duration_us(end)?) * 1e3);
        }
        Ok(longest)
    }
}

/// From a cut of a link in the middle of all-reduces until every rank has its error, ns; none where faults are not injected.
fn cut(transport: &dyn Transport, ranks: &Ranks, bytes: u64) -> Result<Option<f64>> {
    let ports = transport.link_ports(2)?;
    let Some(port) = ports.iter().position(|p| p.state == PortState::Up as u32) else {
        return Ok(None);
    };
    let control = |action: LinkAction| {
        let control = LinkControl {
            action: action as u32,
            port: port as u32,
            ..LinkControl::zeroed()
        };
        transport.link_control(2, &control)
    };
    if control(LinkAction::Up).is_err() {
        return Ok(None);
    }
    let mut seen = Vec::new();
    for _ in 0..9 {
        for _ in 0..4 {
            ranks.begin(bytes)?;
        }
        control(LinkAction::Down)?;
        let start = Instant::now();
        let failed = ranks.queues.iter().filter(|q| q.sync().is_err()).count();
        if failed == ranks.queues.len() {
            seen.push(start.elapsed().as_nanos() as f64);
        }
        control(LinkAction::Up)?;
        for queue in &ranks.queues {
            queue.clear_error()?;
        }
    }
    // A run that was over before the cut says nothing.
    Ok((seen.len() > 4).then(|| median(&mut seen)))
}

/// Bytes/ns that so many threads copy at once; reads and writes are as many each.
fn copy_rate(threads: usize, bytes: usize) -> f64 {
    const ROUNDS: usize = 5;
    let gate = std::sync::Barrier::new(threads);
    let each = bytes / threads;
    let times: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let gate = &gate;
                scope.spawn(move || {
                    let (from, mut to) = (vec![1u8; each], vec![2u8; each]);
                    (0..ROUNDS)
                        .map(|_| {
                            gate.wait();
                            let start = Instant::now();
                            to.copy_from_slice(std::hint::black_box(&from));
                            std::hint::black_box(&to);
                            start.elapsed().as_nanos() as f64
                        })
                        .collect::<Vec<f64>>()
                })
            })
            .collect();
        let done = workers.into_iter().filter_map(|w| w.join().ok());
        done.collect()
    });
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|i| times.iter().map(|t| t[i]).fold(0.0, f64::max))
        .collect();
    (each * threads) as f64 / median(&mut rounds)
}

/// Measures on all chips; what needs more than there are is left out.
pub fn run(transport: &dyn Transport) -> Result<Vec<Row>> {
    let chips = transport.devices()?.len() as u32;
    let name = transport.name();
    let row = |what: &str, value: f64, unit: &str| Row::new(BENCH, name, what, value, unit);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut rows = Vec::new();
    if chips >= 2 {
        rows.extend(peer_copy(transport, threads, &row)?);
    }
    if chips >= 8 {
        let ranks = Ranks::new(transport, 8, 64 * MIB)?;
        let hot = ranks.time(4096, 2000)? / 1e3;
        let goal = (name == "embedded").then_some(30.0);
        rows.push(row("all-reduce, 4 KiB, 8 chips", hot, "us").goal_if(Better::Lower, goal));
        // What each chip must take in and give out: it reads seven parts of its slice, and seven others write theirs to it.
        let bytes = 64 * MIB;
        let least = bytes as f64 * 7.0 / 8.0 / CHIP_LINK * 1e9;
        let device = ranks.device_time(bytes)?;
        rows.push(
            row(
                "all-reduce, 64 MiB, 8 chips, device time",
                device / 1e3,
                "us",
            )
            .floor(2.0 * least / 1e3)
            .goal(Better::Lower, 2.0 * least / 1e3 / 0.9),
        );
        // As the benchmarks of collectives give it: what crosses a chip's links in one direction.
        let bus = 2.0 * bytes as f64 * 7.0 / 8.0 / device;
        let what = "all-reduce, 64 MiB, 8 chips, device bus bandwidth";
        let limit = CHIP_LINK / 1e9;
        rows.push(
            row(what, bus, "GB/s")
                .floor(limit)
                .goal(Better::Higher, 0.9 * limit),
        );
        if let Some(took) = cut(transport, &ranks, bytes)? {
            let what = "a link is cut, until all 8 ranks know";
            rows.push(row(what, took / 1e6, "ms").goal(Better::Lower, 1000.0));
        }
    }
    for size in [8, 16].into_iter().filter(|n| *n <= chips) {
        let bytes = 16 * MIB;
        let ranks = Ranks::new(transport, size, bytes)?;
        let took = ranks.time(bytes, 10)?;
        drop(ranks);
        let floor = (u64::from(size) * bytes) as f64 / copy_rate(threads, 128 << 20);
        let what = format!("all-reduce, 16 MiB, {size} chips");
        rows.push(
            row(&what, took / 1e6, "ms")
                .floor(floor / 1e6)
                .goal(Better::Lower, floor / 1e6 / 0.8),
        );
    }
    Ok(rows)
}

fn peer_copy(
    transport: &dyn Transport,
    threads: usize,
    row: &dyn Fn(&str, f64, &str) -> Row,
) -> Result<Vec<Row>> {
    let bytes = 64 * MIB;
    let (near, far) = (
        Context::open_on(transport, 0)?,
        Context::open_on(transport, 1)?,
    );
    let (queue, other) = (near.queue()?, far.queue()?);
    let (to, from) = (near.alloc(bytes)?, far.alloc(bytes)?);
    other.fill(&from, 0, bytes, 1)?;
    other.sync()?;
    let from = near.import_memory(&from.export()?, false)?;
    let mut seen = Vec::new();
    for _ in 0..12 {
        let start = Instant::now();
        queue.copy(to.address(), from.address(), bytes)?;
        queue.sync()?;
        seen.push(bytes as f64 / start.elapsed().as_nanos() as f64);
    }
    let floor = copy_rate(threads, bytes as usize);
    let copy = row("peer copy, 64 MiB", median(&mut seen), "GB/s")
        .floor(floor)
        .goal(Better::Higher, 0.9 * floor);
    let (begin, end) = (near.notifier()?, near.notifier()?);
    begin.place(&queue)?;
    queue.copy(to.address(), from.address(), bytes)?;
    end.place(&queue)?;
    end.wait()?;
    let rate = bytes as f64 / (f64::from(begin.duration_us(&end)?) * 1e3);
    let way = vmlu::peer::way(transport, 0, 1)?.rate as f64 / 1e9;
    let device = row("peer copy, 64 MiB, device time", rate, "GB/s")
        .floor(way)
        .goal(Better::Higher, 0.9 * way);
    Ok(vec![copy, device])
}
