//! Trains a small network on handwritten digits. All arithmetic, forward, backward and update, runs on the card.
//!
//! `cargo run --release --example digits` needs no card, no virtual machine and no root: it runs on the embedded card. In a virtual
//! machine with the driver the same program runs on `/dev/mlu0`, and ends with the same weights to the last bit.
//!
//! `--chips N` trains on several chips, which share every batch and sum their gradients: by a thread each or, with `--processes`, by a
//! process each, with the same weights to the last bit. (The embedded card has two chips, or what `MLU_CHIPS` says, for one process.)
//!
//! `mpirun digits --mpi` trains on the chips of several hosts, again with the same weights; `cargo xtask demo --hosts 4` shows it.

mod data;
mod network;
mod ranks;
mod reference;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;

use network::{Chip, Loaded, Network, Weights, BATCH};
use ranks::Trained;
use reference::Reference;

/// Steps that are checked against the reference.
const CHECKED_STEPS: usize = 5;
/// Largest difference that f32 arithmetic may make in those steps.
const TOLERANCE: f64 = 1e-5;

/// Trains a network on handwritten digits, on a virtual MLU.
#[derive(Parser)]
struct Options {
    /// Number of the chip.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// Train on so many chips, from chip 0 on: a power of two, at most 32.
    #[arg(long, default_value_t = 1, conflicts_with = "device", value_parser = chips)]
    chips: u32,
    /// With `--chips`, a process for each.
    #[arg(long)]
    processes: bool,
    /// As a rank that `mpirun` has started: the first of a host trains on chip 0, and so on
    #[arg(long, conflicts_with_all = ["device", "chips", "processes"])]
    mpi: bool,
    /// The process of this rank, which `--processes` starts.
    #[arg(long, hide = true)]
    rank: Option<u32>,
    /// How often the images are gone through.
    #[arg(long, default_value_t = 25)]
    epochs: usize,
    /// Writes the final weights to a file, for comparison.
    #[arg(long)]
    weights: Option<PathBuf>,
}

fn chips(text: &str) -> Result<u32, String> {
    let chips = text.parse::<u32>().map_err(|e| e.to_string())?;
    if chips == 0 || !BATCH.is_multiple_of(chips as usize) {
        return Err(format!(
            "a batch of {BATCH} images is not shared by {chips}"
        ));
    }
    Ok(chips)
}

fn main() -> Trained {
    let options = Options::parse();
    if options.mpi {
        return ranks::mpi(&|chip| train(chip, &options));
    }
    match (options.rank, options.chips) {
        (Some(rank), size) => train(&ranks::join(&ranks::passed_on()?, rank, size)?, &options),
        (None, 1) => train(&ranks::alone(options.device)?, &options),
        (None, size) if options.processes => ranks::processes(size),
        (None, size) => ranks::threads(size, &|chip| train(chip, &options)),
    }
}

/// Trains on a chip; the first of several speaks for all.
fn train(chip: &Chip, options: &Options) -> Trained {
    let (rank, size) = chip.place();
    let say = |text: String| {
        if rank == 0 {
            println!("{text}");
        }
    };
    let (train, held_out) = data::split();
    let queue = &chip.queue;
    let context = queue.context();
    let info = context.info();
    say(format!(
        "{}, {}: {} images to train on, {} held out",
        String::from_utf8_lossy(&info.info.name).trim_end_matches('\0'),
        match size {
            1 => format!("chip {}", info.device),
            _ => format!("{size} chips"),
        },
        train.len(),
        held_out.len()
    ));

    let start = Weights::new(7);
    let on_card = Loaded::new(queue, &train)?;
    let batches = on_card.batches();
    check_first_steps(chip, &start, &train, &on_card)?;
    say(format!(
        "first {CHECKED_STEPS} steps agree with the float64 reference"
    ));

    let network = Network::new(chip, &start, batches)?;
    let held_out_on_card = Loaded::new(queue, &held_out)?;
    let began = Instant::now();
    for epoch in 1..=options.epochs {
        for batch in 0..batches {
            network.step(&on_card, batch)?;
        }
        if epoch % options.epochs.div_ceil(25) != 0 && epoch != options.epochs {
            continue;
        }
        let loss = network.mean_loss()?;
        if rank == 0 {
            let accuracy = accuracy(&network.classify(&held_out_on_card)?, &held_out.labels);
            say(format!(
                "epoch {epoch:3}  loss {loss:.4}  accuracy {accuracy:.1} %"
            ));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    say(format!("{} commands in {seconds:.2} s", queue.submitted()));

    let weights = network.weights()?;
    if !chip.agree(weights.digest())? {
        return Err("the chips have different weights".into());
    }
    if size > 1 {
        say(format!("all {size} chips have the same weights"));
    }
    say(format!("weights: {:016x}", weights.digest()));
    if rank > 0 {
        return Ok(());
    }
    if let Some(path) = &options.weights {
        let bytes: Vec<u8> = weights
            .0
            .iter()
            .flatten()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        std::fs::write(path, bytes).map_err(|e| format!("write {}: {e}", path.display()))?;
    }
    let accuracy = accuracy(&network.classify(&held_out_on_card)?, &held_out.labels);
    println!("test accuracy: {accuracy:.1} %");
    if accuracy < 95.0 {
        return Err(format!("the accuracy is {accuracy:.1} %, at least 95 % are expected").into());
    }
    Ok(())
}

fn accuracy(found: &[i32], labels: &[i32]) -> f64 {
    let right = found.iter().zip(labels).filter(|(f, l)| f == l).count();
    100.0 * right as f64 / labels.len() as f64
}

/// Trains a few steps on the card and in float64 on the host, and compares.
fn check_first_steps(
    chip: &Chip,
    start: &Weights,
    set: &data::Set,
    on_card: &Loaded,
) -> Result<(), Box<dyn std::error::Error>> {
    let network = Network::new(chip, start, on_card.batches())?;
    let mut reference = Reference::new(start);
    for step in 0..CHECKED_STEPS {
        network.step(on_card, step)?;
        let expected = reference.step(set, step);
        let loss = f64::from(network.batch_loss(step)?);
        let apart = reference
            .difference(&network.weights()?)
            .max((loss - expected).abs() / expected);
        if apart.is_nan() || apart > TOLERANCE {
            return Err(format!("step {step} is {apart:.1e} from the float64 reference, at most {TOLERANCE:.0e} is allowed").into());
        }
    }
    Ok(())
}
