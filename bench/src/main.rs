//! `mlu-bench NAME`: one bench on the card that this process reaches; one JSON object a line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use vmlu_bench::queues::steady::Work;
use vmlu_bench::row::Row;
use vmlu_bench::{abi, compute, floors, idle, link, model, monitor, queues};

#[derive(Parser)]
#[command(about = "Measures the virtual MLU; `cargo xtask bench` runs it on every transport")]
struct Options {
    #[command(subcommand)]
    bench: Bench,
    /// Number of the chip
    #[arg(long, global = true, default_value_t = 0)]
    device: u32,
}

#[derive(Subcommand)]
enum Bench {
    /// Submission, completion, sleep, copies, the end of processes
    Queues,
    /// Copies between chips, collectives
    Link {
        /// Instead, measures which algorithm an all-reduce goes by, and prints the runtime's table of it
        #[arg(long)]
        table: bool,
    },
    /// Calls of the C interfaces with the vendor's names
    Abi,
    /// What the monitor costs
    Monitor {
        /// The program, `cnmon`
        program: std::path::PathBuf,
    },
    /// Commands in the steady state, for who counts traps and system calls
    Steady {
        /// How often a million
        #[arg(long)]
        rounds: u32,
        /// Queues that take turns
        #[arg(long, default_value_t = 1)]
        queues: usize,
        /// Bytes that each command copies from pinned to device memory; 0: empty commands
        #[arg(long, default_value_t = 0)]
        copy: u64,
    },
    /// Holds memory, queues and work until its input ends, for who kills it
    Hold,
    /// Has every chip do something
    Touch,
    /// Operators, beside what the processor can do at best
    Compute {
        /// Cores that it may use
        #[arg(long, default_value_t = 1)]
        cores: usize,
        /// Only figures whose names contain this
        #[arg(long, default_value = "")]
        only: String,
        /// Programs that do the same in other libraries: a file that `cargo xtask bench compute` makes
        #[arg(long)]
        peers: Option<std::path::PathBuf>,
    },
    /// What the card's model says of known workloads
    Model,
    /// What a card costs that has nothing to do: in this process, or in a server
    Idle {
        /// For how long, seconds
        #[arg(long)]
        seconds: u64,
        /// Process of the server
        #[arg(long, requires = "chips", requires = "transport")]
        pid: Option<u32>,
        /// Chips of the server
        #[arg(long)]
        chips: Option<usize>,
        /// How the server is reached
        #[arg(long)]
        transport: Option<String>,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let measured = measure(options);
    match measured {
        Ok(rows) => {
            for row in rows {
                match serde_json::to_string(&row) {
                    Ok(line) => println!("{line}"),
                    Err(error) => eprintln!("{}: {error}", row.name),
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: Options) -> vmlu::Result<Vec<Row>> {
    let device = options.device;
    if let Bench::Idle {
        seconds,
        pid: Some(pid),
        chips: Some(chips),
        transport: Some(transport),
    } = options.bench
    {
        let during = Duration::from_secs(seconds);
        return Ok(idle::watch(pid, &transport, chips, during));
    }
    if let Bench::Compute { cores, .. } = &options.bench {
        // Before the card's workers take their cores.
        floors::bind(*cores);
    }
    if let Bench::Link { table: true } = options.bench {
        print!("{}", link::table::run()?);
        return Ok(Vec::new());
    }
    let transport = vmlu::transport::choose()?;
    let transport = &*transport;
    let nothing = |()| Vec::new();
    match options.bench {
        Bench::Queues => queues::run(transport, device),
        Bench::Link { .. } => link::run(transport),
        Bench::Abi => abi::run(transport),
        Bench::Monitor { program } => {
            let chips = transport.devices()?.len();
            monitor::run(&program, transport.name(), chips)
        }
        Bench::Steady {
            rounds,
            queues,
            copy,
        } => {
            let work = Work {
                rounds,
                queues,
                copy,
            };
            queues::steady::run(transport, device, work).map(nothing)
        }
        Bench::Hold => queues::hold(transport, device).map(nothing),
        Bench::Compute { cores, only, peers } => {
            let programs = peers.map(|file| compute::peers::read(&file)).transpose();
            let programs = programs.map_err(|error| vmlu::Error::System {
                call: "bench compute",
                reason: "--peers".to_owned(),
                source: error,
            })?;
            let programs = programs.unwrap_or_default();
            compute::run(transport, device, cores, &only, &programs)
        }
        Bench::Model => model::run(transport, device),
        Bench::Touch => idle::touch(transport).map(nothing),
        Bench::Idle { seconds, .. } => idle::here(transport, Duration::from_secs(seconds)),
    }
}
