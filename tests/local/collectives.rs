//! Collectives on a local server: what becomes of them when a chip is lost.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vmlu::abi::rpc::{Fault, Inject};
use vmlu::abi::Wire;
use vmlu::collective::{group, Communicator, Function};
use vmlu::transport::local::Local;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Queue};
use vmlu_device::local::LocalServer;

use crate::{server, Check};

/// Ranks wait so long for each other, and errors come within this, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(30);
const COUNT: u64 = 1 << 18;

struct Rank {
    comm: Communicator,
    queue: Queue,
    buffer: Buffer,
}

impl Rank {
    fn new(comm: Communicator) -> vmlu::Result<Self> {
        let context = comm.context().clone();
        let (queue, buffer) = (context.queue()?, context.alloc(4 * COUNT)?);
        queue.fill(&buffer, 0, 4 * COUNT, 0)?;
        queue.sync()?;
        Ok(Self {
            comm,
            queue,
            buffer,
        })
    }

    fn all_reduce(&self) -> vmlu::Result<u64> {
        let (buffer, queue) = (&self.buffer, &self.queue);
        let (dtype, function) = (DataType::U32, Function::Sum);
        self.comm
            .all_reduce(buffer, buffer, COUNT, dtype, function, queue)
    }
}

/// Every rank has an error, and those that are left make a new communicator.
pub fn a_rank_loses_its_chip() -> Check {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 3))?;
    let card = Local::open(server.path())?;
    let open = |device| Context::open_on(&*card, device);
    let contexts: Vec<Context> = (0..3).map(open).collect::<vmlu::Result<_>>()?;
    let comms = Communicator::all(&contexts, LONG)?;
    let ranks: Vec<Rank> = comms.into_iter().map(Rank::new).collect::<Result<_, _>>()?;
    let works = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let works = &works;
        let run = |rank: Rank| {
            let mut first = true;
            loop {
                if let Err(error) = rank.all_reduce().and_then(|_| rank.queue.sync()) {
                    return error;
                }
                works.fetch_add(u32::from(first), Ordering::Relaxed);
                first = false;
            }
        };
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|rank| scope.spawn(move || run(rank)))
            .collect();
        let start = Instant::now();
        while works.load(Ordering::Relaxed) < 3 {
            assert!(start.elapsed() < LONG, "nothing works");
            std::thread::sleep(Duration::from_millis(1));
        }
        let lost = Inject {
            fault: Fault::AllOnes as u32,
            count: 1,
            ..Inject::zeroed()
        };
        card.inject(1, &lost).expect("the fault is taken");
        let start = Instant::now();
        // Which error depends on what the rank's command was at: a wait, the lost chip, or its memory.
        for thread in threads {
            drop(thread.join().expect("no panic"));
        }
        assert!(start.elapsed() < LONG);
    });
    let left = [contexts[0].clone(), contexts[2].clone()];
    let comms = Communicator::all(&left, LONG)?;
    let ranks: Vec<Rank> = comms.into_iter().map(Rank::new).collect::<Result<_, _>>()?;
    group(|| {
        ranks
            .iter()
            .try_for_each(|rank| rank.all_reduce().map(drop))
    })?;
    Ok(ranks.iter().try_for_each(|rank| rank.queue.sync())?)
}
