//! Trains a small network on handwritten digits. All arithmetic, forward, backward and update, runs on the card.
//!
//! `cargo run --release --example digits` needs no card, no virtual machine and no root: it runs on the embedded card. In a virtual
//! machine with the driver the same program runs on `/dev/mlu0`, and ends with the same weights to the last bit.

mod data;
mod network;
mod reference;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use vmlu::Context;

use network::{Loaded, Network, Weights};
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
    /// How often the images are gone through.
    #[arg(long, default_value_t = 25)]
    epochs: usize,
    /// Writes the final weights to a file, for comparison.
    #[arg(long)]
    weights: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let (train, held_out) = data::split();
    let context = Context::open(options.device)?;
    let queue = context.queue()?;
    let name = String::from_utf8_lossy(&context.info().info.name)
        .trim_end_matches('\0')
        .to_owned();
    println!(
        "{name}, chip {}: {} images to train on, {} held out",
        options.device,
        train.len(),
        held_out.len()
    );

    let start = Weights::new(7);
    let on_card = Loaded::new(&queue, &train)?;
    let batches = on_card.batches();
    check_first_steps(&queue, &start, &train, &on_card)?;

    let network = Network::new(&queue, &start, batches)?;
    let held_out_on_card = Loaded::new(&queue, &held_out)?;
    let began = Instant::now();
    for epoch in 1..=options.epochs {
        for batch in 0..batches {
            network.step(&on_card, batch)?;
        }
        if epoch % options.epochs.div_ceil(25) != 0 && epoch != options.epochs {
            continue;
        }
        let loss = network.mean_loss()?;
        let accuracy = accuracy(&network.classify(&held_out_on_card)?, &held_out.labels);
        println!("epoch {epoch:3}  loss {loss:.4}  accuracy {accuracy:.1} %");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{} commands in {seconds:.2} s", queue.submitted());

    let weights = network.weights()?;
    println!("weights: {:016x}", weights.digest());
    if let Some(path) = options.weights {
        let bytes: Vec<u8> = weights
            .0
            .iter()
            .flatten()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        std::fs::write(&path, bytes).map_err(|e| format!("write {}: {e}", path.display()))?;
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
    queue: &vmlu::Queue,
    start: &Weights,
    set: &data::Set,
    on_card: &Loaded,
) -> Result<(), Box<dyn std::error::Error>> {
    let network = Network::new(queue, start, on_card.batches())?;
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
    println!("first {CHECKED_STEPS} steps agree with the float64 reference");
    Ok(())
}
