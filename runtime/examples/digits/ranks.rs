//! The chips that train together: a thread each, or a process each.

use std::error::Error;
use std::process::{Child, Command};

use vmlu::collective::{default_timeout, CliqueId, Communicator};
use vmlu::Context;

use crate::network::Chip;

/// How training on a chip ends.
pub type Trained = Result<(), Box<dyn Error>>;

/// A chip that trains alone.
pub fn alone(device: u32) -> vmlu::Result<Chip> {
    let queue = Context::open(device)?.queue()?;
    Ok(Chip { queue, ranks: None })
}

/// A chip as a rank of several: waits until all are there.
pub fn join(id: &CliqueId, rank: u32, size: u32) -> vmlu::Result<Chip> {
    let context = Context::open(rank)?;
    let ranks = Communicator::new(&context, id, rank, size, default_timeout())?;
    Ok(Chip {
        queue: context.queue()?,
        ranks: Some(ranks),
    })
}

/// Trains on so many chips, by a thread each.
pub fn threads(size: u32, train: &(dyn Fn(&Chip) -> Trained + Sync)) -> Trained {
    let id = CliqueId::new()?;
    let run = |rank: u32| {
        let trained = join(&id, rank, size).map_err(Into::into);
        let trained = trained.and_then(|chip| train(&chip));
        trained.map_err(|error| format!("rank {rank}: {error}"))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| scope.spawn(move || run(rank)))
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a rank's thread panicked")??;
        }
        Ok(())
    })
}

/// Ends the process with the value.
struct Rank(Child);

impl Drop for Rank {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Trains on so many chips, by a process each: this program again, with the same arguments and a rank. The identity by which they meet goes
/// in the environment, where other users do not see it.
pub fn processes(size: u32) -> Trained {
    let id = CliqueId::new()?;
    let hex: String = id.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let start = |rank: u32| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1));
        command.args(["--rank", &rank.to_string()]);
        command.env(CLIQUE, &hex).spawn().map(Rank)
    };
    let mut ranks = (0..size).map(start).collect::<std::io::Result<Vec<_>>>()?;
    for (number, rank) in ranks.iter_mut().enumerate() {
        let status = rank.0.wait()?;
        if !status.success() {
            return Err(format!("the process of rank {number} ended with {status}").into());
        }
    }
    Ok(())
}

/// The environment variable with the identity, in hexadecimal digits.
const CLIQUE: &str = "DIGITS_CLIQUE";

/// The identity that [`processes`] passed on.
pub fn passed_on() -> Result<CliqueId, Box<dyn Error>> {
    let hex =
        std::env::var(CLIQUE).map_err(|_| format!("{CLIQUE} is not set; --processes does"))?;
    let bytes = hex.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits)?;
        Ok(u8::from_str_radix(digits, 16)?)
    });
    let bytes = bytes.collect::<Result<Vec<u8>, Box<dyn Error>>>()?;
    let bytes: [u8; 128] = bytes
        .try_into()
        .map_err(|_| format!("{CLIQUE}: not 128 bytes"))?;
    Ok(CliqueId::from_bytes(&bytes)?)
}
