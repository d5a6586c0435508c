//! The chips that train together: a thread each, a process each, or processes on several hosts.

use std::error::Error;
use std::process::{Child, Command};
use std::sync::Arc;

use vmlu::collective::{default_timeout, CliqueId, Communicator, Function, Memory};
use vmlu::{Context, DataType, Queue};
use vmlu_mpi::{Cluster, World};

use crate::network::Chip;

/// How training on a chip ends.
pub type Trained = Result<(), Box<dyn Error>>;

/// A chip's rank among those that train together.
#[derive(Clone)]
pub enum Ranks {
    /// All on one host.
    Fabric(Communicator),
    /// On several, with MPI between them.
    Hosts(Arc<Cluster>),
}

impl Ranks {
    /// This rank.
    pub fn rank(&self) -> u32 {
        match self {
            Self::Fabric(ranks) => ranks.rank(),
            Self::Hosts(ranks) => ranks.rank(),
        }
    }

    /// How many there are.
    pub fn size(&self) -> u32 {
        match self {
            Self::Fabric(ranks) => ranks.size(),
            Self::Hosts(ranks) => ranks.size(),
        }
    }

    /// See [`Communicator::all_reduce`].
    pub fn all_reduce(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        function: Function,
        queue: &Queue,
    ) -> vmlu::Result<u64> {
        match self {
            Self::Fabric(ranks) => ranks.all_reduce(send, receive, count, dtype, function, queue),
            Self::Hosts(ranks) => ranks.all_reduce(send, receive, count, dtype, function, queue),
        }
    }

    /// See [`Communicator::all_gather`].
    pub fn all_gather(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        queue: &Queue,
    ) -> vmlu::Result<u64> {
        match self {
            Self::Fabric(ranks) => ranks.all_gather(send, receive, count, dtype, queue),
            Self::Hosts(ranks) => ranks.all_gather(send, receive, count, dtype, queue),
        }
    }
}

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
        ranks: Some(Ranks::Fabric(ranks)),
    })
}

/// Trains as a rank that `mpirun` has started, on the chip of its host that is its turn.
pub fn mpi(train: &dyn Fn(&Chip) -> Trained) -> Trained {
    let world = World::start()?;
    let rank = world.rank();
    let run = || {
        let context = Context::open(world.local_rank())?;
        let cluster = Arc::new(Cluster::new(&world, &context, default_timeout())?);
        if rank == 0 {
            for host in cluster.hosts() {
                println!("{}: {} of {} ranks", host.name, host.ranks, cluster.size());
            }
        }
        let chip = Chip {
            queue: context.queue()?,
            ranks: Some(Ranks::Hosts(cluster.clone())),
        };
        // What failed on a queue failed because of what became of the ranks, if something did.
        train(&chip).map_err(|error| {
            let error = cluster.async_error().map_or(error, Into::into);
            cluster.abort();
            error
        })
    };
    run().map_err(|error| format!("rank {rank}: {error}").into())
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
