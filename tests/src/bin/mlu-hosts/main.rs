//! A rank of several hosts, which `mpirun` starts: checks every operation between hosts against the same on this processor, in the order of
//! ranks, or sums until another rank is lost.

mod moves;
mod pairs;
mod parts;

use std::process::ExitCode;
use std::time::Duration;

use vmlu::collective::{Function, Memory};
use vmlu::{Buffer, Context, DataType, Queue, Status};
use vmlu_mpi::{Cluster, World};

type Check = Result<(), Box<dyn std::error::Error>>;

/// Ranks wait so long for each other, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    match run(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &str) -> Check {
    let world = World::start()?;
    let context = Context::open(world.local_rank())?;
    let rank = Rank {
        cluster: Cluster::new(&world, &context, LONG)?,
        queue: context.queue()?,
    };
    let done = rank.run(task);
    let done = done.map_err(|error| rank.cluster.async_error().map_or(error, Into::into));
    match &done {
        Ok(()) => println!("done"),
        // Before it leaves, for which it may have to wait.
        Err(error) => {
            println!("error: {error}");
            rank.cluster.abort();
        }
    }
    done
}

struct Rank {
    cluster: Cluster,
    queue: Queue,
}

impl Rank {
    fn run(&self, task: &str) -> Check {
        match task {
            "operations" => {
                // Less than a chunk, several, and more than are on their way at once.
                for count in [1, 1000, 300_001, 2_500_000] {
                    self.floats(count)?;
                }
                self.halves(300_001)?;
                self.integers(1001)?;
                self.moves(700_003)?;
                self.at_roots(300_001)?;
                for count in [0, 1, 300_001] {
                    self.all_to_all(count)?;
                }
                self.uneven()?;
                self.pairs()?;
                self.parts()?;
                self.refusals()?;
            }
            "disagree" => return Err(self.disagree()?.into()),
            "until-lost" => return Err(self.until_lost().into()),
            other => return Err(format!("there is no task {other:?}").into()),
        }
        Ok(())
    }
}

/// Something of each rank and element whose sum depends on the order.
fn value(rank: u32, index: u64) -> f32 {
    let mixed = (index ^ u64::from(rank) << 17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fraction = (mixed >> 40) as f32 / (1 << 24) as f32 - 0.5;
    fraction * [1.0, 1e3, 1e-3, 3e4][(index % 4) as usize]
}

fn bytes_of(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}

impl Rank {
    fn ranks(&self) -> std::ops::Range<u32> {
        0..self.cluster.size()
    }

    fn holding(&self, bytes: &[u8]) -> vmlu::Result<Buffer> {
        let buffer = self.cluster.context().alloc(bytes.len() as u64)?;
        self.queue.write(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    fn room(&self, bytes: u64) -> vmlu::Result<Buffer> {
        let buffer = self.cluster.context().alloc(bytes)?;
        self.queue.fill(&buffer, 0, bytes, 0xa5)?;
        Ok(buffer)
    }

    fn expect(&self, what: &str, found: &Buffer, expected: &[u8]) -> Check {
        let mut read = vec![0; expected.len()];
        self.queue.read(found, 0, &mut read)?;
        match read.iter().zip(expected).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(at) => Err(format!("{what}: byte {at} of {} is wrong", read.len()).into()),
        }
    }

    /// Every reduction of f32, whose bits are those of the order of ranks.
    fn floats(&self, count: u64) -> Check {
        let (size, rank) = (self.cluster.size(), self.cluster.rank());
        let own = bytes_of((0..count).map(|i| value(rank, i)));
        let send = self.holding(&own)?;
        let fold = |f: fn(f32, f32) -> f32, i: u64| {
            let all = self.ranks().map(|r| value(r, i));
            all.reduce(f).unwrap_or_default()
        };
        let sum = |i| fold(|a, b| a + b, i);
        type Expected<'a> = &'a dyn Fn(u64) -> f32;
        let cases: [(Function, Expected); 4] = [
            (Function::Sum, &sum),
            (Function::Average, &|i| sum(i) / size as f32),
            (Function::Max, &|i| fold(f32::max, i)),
            (Function::Product, &|i| fold(|a, b| a * b, i)),
        ];
        for (function, expected) in cases {
            let expected = bytes_of((0..count).map(expected));
            let what = format!("all-reduce of {count}, {function:?}");
            let receive = self.room(4 * count)?;
            let (f32, queue) = (DataType::F32, &self.queue);
            self.cluster
                .all_reduce(&send, &receive, count, f32, function, queue)?;
            self.expect(&what, &receive, &expected)?;
        }
        let expected = bytes_of((0..count).map(sum));
        let (f32, queue) = (DataType::F32, &self.queue);
        let root = size - 1;
        let receive = self.room(4 * count)?;
        let to = (rank == root).then(|| Memory::from(&receive));
        self.cluster
            .reduce(&send, to, (count, f32), Function::Sum, root, queue)?;
        if rank == root {
            self.expect("reduce", &receive, &expected)?;
        } else {
            self.expect("reduce elsewhere", &receive, &vec![0xa5; own.len()])?;
        }
        let each = count / u64::from(size);
        let part = self.room((4 * each).max(1))?;
        self.cluster
            .reduce_scatter(&send, &part, each, f32, Function::Sum, queue)?;
        let begin = (4 * each * u64::from(rank)) as usize;
        let end = begin + 4 * each as usize;
        self.expect("reduce-scatter", &part, &expected[begin..end])?;
        // In place, and several at once.
        self.cluster
            .all_reduce(&send, &send, count, f32, Function::Sum, queue)?;
        self.cluster
            .all_reduce(&send, &send, count, f32, Function::Max, queue)?;
        self.expect("all-reduce in place", &send, &expected)
    }

    /// Rounded once, wherever the hosts end.
    fn halves(&self, count: u64) -> Check {
        let context = self.cluster.context();
        let (queue, rank) = (&self.queue, self.cluster.rank());
        let float = |numbers: Vec<f32>| {
            let tensor = vmlu::Tensor::from_slice(queue, &numbers, &[count])?;
            let half = vmlu::Tensor::empty(queue, DataType::Bf16, &[count])?;
            queue.cast(&tensor, &half)?;
            Ok::<_, vmlu::Error>(half)
        };
        let read = |half: &vmlu::Tensor| {
            let wide = vmlu::Tensor::empty(queue, DataType::F32, &[count])?;
            queue.cast(half, &wide)?;
            wide.to_vec::<f32>(queue)
        };
        let all: Vec<Vec<f32>> = self
            .ranks()
            .map(|r| read(&float((0..count).map(|i| value(r, i)).collect())?))
            .collect::<vmlu::Result<_>>()?;
        let sum = |i: usize| all.iter().map(|v| v[i]).reduce(|a, b| a + b);
        let sums: Vec<f32> = (0..count as usize).filter_map(sum).collect();
        let expected = read(&float(sums)?)?;
        let own = float((0..count).map(|i| value(rank, i)).collect())?;
        let receive = context.alloc(2 * count)?;
        let (bf16, sum) = (DataType::Bf16, Function::Sum);
        self.cluster
            .all_reduce(own.buffer(), &receive, count, bf16, sum, queue)?;
        let mut found = vec![0; 2 * count as usize];
        queue.read(&receive, 0, &mut found)?;
        let found = found.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        for (i, (found, expected)) in found.zip(expected).enumerate() {
            let found = f32::from_bits(u32::from(found) << 16);
            if found.to_bits() != expected.to_bits() {
                return Err(format!("bf16 {i}: {found} where {expected} is due").into());
            }
        }
        Ok(())
    }

    /// They wrap around, and an average truncates.
    fn integers(&self, count: u64) -> Check {
        let own = |rank: u32, i: u64| (i as u8).wrapping_mul(rank as u8 + 3);
        let sum = |i: u64| self.ranks().fold(0u8, |sum, r| sum.wrapping_add(own(r, i)));
        let rank = self.cluster.rank();
        let send: Vec<u8> = (0..count).map(|i| own(rank, i)).collect();
        let size = self.cluster.size() as u8;
        let receive = self.room(count)?;
        let (u8, queue) = (DataType::U8, &self.queue);
        for (function, divisor) in [(Function::Sum, 1), (Function::Average, size)] {
            let expected: Vec<u8> = (0..count).map(|i| sum(i) / divisor).collect();
            self.cluster
                .all_reduce(&self.holding(&send)?, &receive, count, u8, function, queue)?;
            self.expect("all-reduce of u8", &receive, &expected)?;
        }
        Ok(())
    }

    /// What cannot be called is refused at once, and nothing comes of it.
    fn refusals(&self) -> Check {
        let (cluster, queue) = (&self.cluster, &self.queue);
        let memory = self.room(64)?;
        let sum = |count, offset, dtype| {
            let to = Memory::from((&memory, offset));
            cluster.all_reduce(&memory, to, count, dtype, Function::Sum, queue)
        };
        for (count, offset, dtype) in [
            (17, 0, DataType::F32),
            (8, 16, DataType::F32),
            (8, 0, DataType::Bool),
            (u64::MAX, 0, DataType::F32),
        ] {
            if sum(count, offset, dtype).is_ok() {
                return Err(format!("{count} {dtype:?} at {offset} are taken").into());
            }
        }
        let root = cluster.size();
        let to = Memory::from(&memory);
        if cluster
            .broadcast(None, to, (1, DataType::U8), root, queue)
            .is_ok()
        {
            return Err("a root that does not exist is taken".into());
        }
        queue.begin_capture()?;
        let captured = sum(16, 0, DataType::F32).map_err(|error| error.status());
        let graph = queue.end_capture()?;
        if captured != Err(Status::CaptureUnsupported) || graph.commands() != 0 {
            return Err(format!("a queue that is captured gives {captured:?}").into());
        }
        sum(16, 0, DataType::F32)?;
        Ok(queue.sync()?)
    }

    fn until_lost(&self) -> vmlu::Error {
        let count = 1 << 18;
        let run = || -> vmlu::Result<std::convert::Infallible> {
            let memory = self.room(4 * count)?;
            let mut said = false;
            loop {
                let (dtype, function) = (DataType::U32, Function::Max);
                self.cluster
                    .all_reduce(&memory, &memory, count, dtype, function, &self.queue)?;
                self.queue.sync()?;
                if !said {
                    println!("works");
                    said = true;
                }
            }
        };
        match run() {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }
}
