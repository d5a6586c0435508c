//! `queues`: the path from a program's store to the card and back. One file a group of figures.

mod commands;
mod copies;
mod graph;
mod killed;
pub mod steady;
mod wake;

use std::hint::spin_loop;

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result, Status};

use crate::floors::{self, Copies};
use crate::row::{Row, Samples};

pub use killed::hold;

/// Rounds of all groups, one after the other.
const ROUNDS: usize = 9;

/// Figures of one kind.
trait Group {
    /// Measures each of them once.
    fn round(&mut self, samples: &mut Samples) -> Result<()>;

    /// What was measured.
    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row>;
}

/// Where a bench runs, and what the machine can do there.
struct Site {
    transport: &'static str,
    /// Whether that is in a virtual machine.
    guest: bool,
    /// Round trip of a polled cache line, ns.
    line: f64,
    /// Round trip over two eventfds, ns.
    event: f64,
    /// The better of `memcpy` and a copy past the caches, GB/s.
    copy: f64,
}

impl Site {
    fn row(&self, samples: &Samples, name: &str, unit: &str) -> Row {
        Row::new("queues", self.transport, name, samples.median(name), unit)
    }

    fn embedded(&self) -> bool {
        self.transport == "embedded"
    }
}

/// Published figures of others (NVMe over vfio-user in SPDK): time of a command at queue depth 1, ns.
const PEER_COMMAND: f64 = 2_650.0;
/// As above: millions of commands a second on one core.
const PEER_RATE: f64 = 4.3;
/// As above: millions of commands a second at best, on ten cores.
const PEER_RATE_OF_MANY: f64 = 18.0;

/// Measures a chip over a transport.
pub fn run(transport: &dyn Transport, device: u32) -> Result<Vec<Row>> {
    let mut groups: Vec<Box<dyn Group + '_>> = vec![
        Box::new(Floors::new(transport, device)?),
        Box::new(commands::Commands::new(transport, device)?),
        Box::new(wake::Wake::new(transport, device)?),
        Box::new(copies::Large::new(transport, device)?),
    ];
    match graph::Graph::new(transport, device) {
        Ok(group) => groups.push(Box::new(group)),
        Err(error)
            if matches!(
                error.status(),
                Status::UnknownFunction | Status::NotSupported
            ) =>
        {
            eprintln!("graphs are not measured: {error}");
        }
        Err(error) => return Err(error),
    }
    if transport.name() != "embedded" {
        groups.push(Box::new(killed::Killed::new(transport, device)));
    }
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        for group in &mut groups {
            group.round(&mut samples)?;
        }
    }
    let site = Site {
        transport: transport.name(),
        guest: transport.name() == "kernel",
        line: samples.median(LINE),
        event: samples.median(EVENT),
        copy: samples.median(MEMCPY).max(samples.median(STREAM)),
    };
    let rows = groups.iter().flat_map(|group| group.rows(&site, &samples));
    Ok(rows.filter(|row| row.value.is_finite()).collect())
}

const LINE: &str = "cache line round trip";
const EVENT: &str = "eventfd round trip";
const MEMCPY: &str = "memcpy 64 MiB";
const STREAM: &str = "non-temporal copy 64 MiB";
const TRAP: &str = "trapped register write";

/// Bytes of a large copy.
const LARGE: u64 = 64 << 20;

/// What the machine can do at best.
struct Floors {
    copies: Copies,
    /// A queue whose context's kick page is a trapped register, where it is one.
    trap: Option<Queue>,
}

impl Floors {
    fn new(transport: &dyn Transport, device: u32) -> Result<Self> {
        let guest = transport.name() == "kernel";
        let trap = guest.then(|| Context::open_on(transport, device)?.queue());
        Ok(Self {
            copies: Copies::new(LARGE as usize),
            trap: trap.transpose()?,
        })
    }
}

impl Group for Floors {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        samples.add(LINE, floors::cache_line());
        samples.add(EVENT, floors::event_fd());
        samples.add(MEMCPY, self.copies.plain());
        samples.add(STREAM, self.copies.streaming());
        if let Some(queue) = &self.trap {
            let context = queue.context();
            samples.add(TRAP, floors::each(200, || context.channel().kick()));
        }
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        vec![
            site.row(samples, LINE, "ns"),
            site.row(samples, EVENT, "ns"),
            site.row(samples, MEMCPY, "GB/s"),
            site.row(samples, STREAM, "GB/s"),
            site.row(samples, TRAP, "ns"),
        ]
    }
}

/// Polls a queue until it has come so far.
fn spin(queue: &Queue, value: u64) {
    while queue.timeline() < value {
        spin_loop();
    }
}

/// Keeps a queue at work until the card polls it.
fn warm(queue: &Queue) -> Result<()> {
    queue.sync()?;
    for _ in 0..1000 {
        spin(queue, queue.nop()?);
    }
    Ok(())
}
