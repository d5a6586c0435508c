//! `mlu-bench NAME`: one bench on the card that this process reaches; one JSON object a line.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use vmlu_bench::queues;

#[derive(Parser)]
#[command(about = "Measures the virtual MLU; `cargo xtask bench` runs it on every transport")]
struct Options {
    /// What to measure
    bench: Bench,
    /// Number of the chip
    #[arg(long, default_value_t = 0)]
    device: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Submission and completion
    Queues,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let measured = vmlu::transport::choose().and_then(|transport| match options.bench {
        Bench::Queues => queues::run(&*transport, options.device),
    });
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
