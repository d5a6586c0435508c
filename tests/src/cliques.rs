//! Collectives whose ranks are in several processes: cases of [`crate::processes`], and what the processes of the ranks do.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use vmlu::collective::{group, CliqueId, Communicator, Function, Memory, Piece};
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Queue};

use crate::processes::{Check, Rig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Ranks wait so long for each other where none is missing; on a machine that does other things too.
const LONG: Duration = Duration::from_secs(60);
/// And so long where one is.
const SHORT: Duration = Duration::from_secs(3);
/// An error comes within this, on a machine that does other things too.
const BOUND: Duration = Duration::from_secs(20);

/// A process with some ranks of a clique, each a thread.
struct Ranks {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ranks {
    /// Ranks of so many that do something as soon as all are there.
    fn start(rig: &Rig, id: &CliqueId, task: &str, ranks: &[u32], size: u32) -> Result<Self> {
        let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
        let mut process = Command::new(&rig.program)
            .args(["ranks", task, &hex(id), &ranks.join(","), &size.to_string()])
            .envs(rig.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        let lines = BufReader::new(out).lines();
        Ok(Self { process, lines })
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("the process said nothing")??)
    }

    fn go(&mut self) -> Check {
        Ok(writeln!(self.process.stdin.as_mut().ok_or("no input")?)?)
    }

    fn end(mut self) -> Check {
        drop(self.process.stdin.take());
        let rest: Vec<String> = self.lines.by_ref().collect::<std::io::Result<_>>()?;
        let status = self.process.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("a process of ranks ended with {status}: {rest:?}").into()),
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every operation, with four ranks in three processes, whole and split.
pub(crate) fn operations(rig: &Rig) -> Check {
    let id = CliqueId::new()?;
    let start = |ranks: &[u32]| Ranks::start(rig, &id, "operations", ranks, 4);
    let processes = [start(&[2])?, start(&[0, 3])?, start(&[1])?];
    processes.into_iter().try_for_each(Ranks::end)
}

/// Many grouped calls at once, more than sockets hold.
pub(crate) fn many_calls(rig: &Rig) -> Check {
    let id = CliqueId::new()?;
    let start = |ranks: &[u32]| Ranks::start(rig, &id, "many", ranks, 2);
    let processes = [start(&[0])?, start(&[1])?];
    processes.into_iter().try_for_each(Ranks::end)
}

/// A rank whose process is killed is an error of the others' calls, soon; a new clique is made of those that are left.
pub(crate) fn killed_rank(rig: &Rig) -> Check {
    let (first, second) = (CliqueId::new()?, CliqueId::new()?);
    let start = |ranks: &[u32]| Ranks::start(rig, &first, "until-lost", ranks, 3);
    let mut stay = [start(&[0])?, start(&[2])?];
    let mut dies = start(&[1])?;
    for ranks in stay.iter_mut().chain([&mut dies]) {
        assert_eq!(ranks.line()?, "works");
    }
    dies.process.kill()?;
    let killed = Instant::now();
    for ranks in &mut stay {
        let line = ranks.line()?;
        assert!(killed.elapsed() < BOUND, "{:?}", killed.elapsed());
        assert!(line.contains("Dependency"), "{line}");
        assert!(line.contains("rank 1"), "{line}");
    }
    let hex = hex(&second);
    for (rank, ranks) in stay.iter_mut().enumerate() {
        let input = ranks.process.stdin.as_mut().ok_or("no input")?;
        writeln!(input, "{hex} {rank} 2")?;
    }
    stay.into_iter().try_for_each(Ranks::end)
}

/// A rank that does not come, to the clique or to a call, is named.
pub(crate) fn missing_rank(rig: &Rig) -> Check {
    let id = CliqueId::new()?;
    let start = |id: &CliqueId, ranks: &[u32]| {
        let mut ranks = Ranks::start(rig, id, "missing", ranks, 4)?;
        assert_eq!(ranks.line()?, "ready");
        Ok::<_, Box<dyn std::error::Error>>(ranks)
    };
    let mut processes = [start(&id, &[0, 3])?, start(&id, &[1])?];
    processes.iter_mut().try_for_each(Ranks::go)?;
    for mut ranks in processes {
        let line = ranks.line()?;
        assert!(line.contains("Timeout") && line.contains("[2]"), "{line}");
        ranks.end()?;
    }
    let id = CliqueId::new()?;
    let mut processes = [start(&id, &[0, 3])?, start(&id, &[1])?];
    let mut late = start(&id, &[2])?;
    let all = processes.iter_mut().chain([&mut late]);
    all.into_iter().try_for_each(Ranks::go)?;
    for ranks in &mut processes {
        let line = ranks.line()?;
        assert!(line.contains("Timeout") && line.contains("[2]"), "{line}");
    }
    late.go()?;
    let line = late.line()?;
    assert!(line.contains("Timeout"), "{line}");
    late.end()?;
    processes.into_iter().try_for_each(Ranks::end)
}

/// A rank and its queue.
struct Rank {
    comm: Communicator,
    context: Context,
    queue: Queue,
}

/// Makes an identity, for processes elsewhere, and lives until its input ends.
pub fn clique() -> Check {
    println!("{}", hex(&CliqueId::new()?));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// What a process of ranks does: `TASK ID RANKS SIZE`. Rank `i` is on chip `i`, or shares one if there are fewer.
pub fn ranks(card: &dyn Transport, arguments: &[String]) -> Check {
    let [task, id, ranks, size] = arguments else {
        return Err("ranks TASK ID RANKS SIZE".into());
    };
    let id = identity(id)?;
    let size: u32 = size.parse()?;
    if task == "missing" {
        println!("ready");
        std::io::stdin().read_line(&mut String::new())?;
    }
    let ranks: Vec<u32> = ranks
        .split(',')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let run = |rank: u32| -> Check {
        match task.as_str() {
            "operations" => all_operations(&join(card, &id, rank, size, LONG)?),
            "many" => many(&join(card, &id, rank, size, LONG)?),
            "until-lost" => until_lost(card, &id, rank, size),
            "missing" => missing(card, &id, rank, size, rank == ranks[0]),
            other => Err(format!("no task {other}").into()),
        }
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = ranks
            .iter()
            .map(|rank| scope.spawn(move || run(*rank).map_err(|e| format!("rank {rank}: {e}"))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let done = thread.join().map_err(|_| "a rank's thread panicked")?;
            Ok(done?)
        })
    })
}

fn hex(id: &CliqueId) -> String {
    id.to_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

fn identity(hex: &str) -> Result<CliqueId> {
    let bytes = hex.as_bytes().chunks(2).map(|digits| {
        let text = std::str::from_utf8(digits)?;
        Ok(u8::from_str_radix(text, 16)?)
    });
    let bytes: Vec<u8> = bytes.collect::<Result<_>>()?;
    let bytes: [u8; 128] = bytes.try_into().map_err(|_| "no identity")?;
    Ok(CliqueId::from_bytes(&bytes)?)
}

fn join(
    card: &dyn Transport,
    id: &CliqueId,
    rank: u32,
    size: u32,
    timeout: Duration,
) -> Result<Rank> {
    let chips = card.devices()?.len() as u32;
    let context = Context::open_on(card, rank % chips)?;
    Ok(Rank {
        comm: Communicator::new(&context, id, rank, size, timeout)?,
        queue: context.queue()?,
        context,
    })
}

fn until_lost(card: &dyn Transport, id: &CliqueId, rank: u32, size: u32) -> Check {
    let rank = join(card, id, rank, size, LONG)?;
    let buffer = rank.buffer(&vec![0; 1 << 20])?;
    let mut said = false;
    let error = loop {
        let (queue, count) = (&rank.queue, 1 << 18);
        let called =
            rank.comm
                .all_reduce(&buffer, &buffer, count, DataType::U32, Function::Sum, queue);
        // What is lost in the middle of one is an error on the queue, which kind depends on what its command was at.
        if let Err(error) = called.and_then(|_| queue.sync()) {
            break error;
        }
        if !said {
            println!("works");
            said = true;
        }
    };
    // The communicator says it as well, with the reason; at once or when the end of the connection has arrived.
    let start = Instant::now();
    let reason = loop {
        match rank.comm.async_error() {
            Some(reason) if reason.to_string().contains("rank 1") => break reason,
            _ if start.elapsed() > LONG => return Err(format!("no reason for {error}").into()),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    println!("{:?} {reason}", reason.status());
    rank.comm.abort();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [id, new, size] = words[..] else {
        return Err(line.into());
    };
    let (new, size) = (new.parse()?, size.parse()?);
    let comm = Communicator::new(&rank.context, &identity(id)?, new, size, LONG)?;
    // What the queue has of the lost clique ends, with an error or not; the queue is cleared, and used again.
    let _ = rank.queue.sync();
    rank.queue.clear_error()?;
    all_operations(&Rank { comm, ..rank })
}

fn missing(card: &dyn Transport, id: &CliqueId, rank: u32, size: u32, speaks: bool) -> Check {
    let chips = card.devices()?.len() as u32;
    let context = Context::open_on(card, rank % chips)?;
    let joined = Communicator::new(&context, id, rank, size, SHORT);
    let error = match joined {
        Err(error) => error,
        Ok(comm) => {
            let queue = context.queue()?;
            if rank == 2 {
                std::io::stdin().read_line(&mut String::new())?;
                // The others have given up; a call before that is known here would find theirs, and go well.
                let start = Instant::now();
                while comm.async_error().is_none() && start.elapsed() < LONG {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let error = comm.barrier(&queue).err().ok_or("nobody was missing")?;
            assert!(comm.async_error().is_some());
            error
        }
    };
    if speaks {
        println!("{:?} {error}", error.status());
    }
    Ok(())
}

fn noise(seed: u32, count: usize) -> Vec<u32> {
    let mut state = u64::from(seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        })
        .collect()
}

impl Rank {
    fn buffer(&self, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.context.alloc(bytes.len().max(1) as u64)?;
        self.queue.write(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    fn words(&self, words: &[u32]) -> Result<Buffer> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.buffer(&bytes)
    }

    fn seen(&self, buffer: &Buffer, first: usize, count: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0; 4 * count];
        self.queue.read(buffer, 4 * first as u64, &mut bytes)?;
        let words = bytes.chunks_exact(4);
        Ok(words
            .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
            .collect())
    }
}

fn same(what: &str, seen: &[u32], wanted: &[u32]) -> Check {
    match seen.iter().zip(wanted).position(|(a, b)| a != b) {
        None if seen.len() == wanted.len() => Ok(()),
        place => Err(format!("{what}: differs at {place:?}").into()),
    }
}

/// Calls everything, and looks at the results; then the same with a split clique.
fn all_operations(rank: &Rank) -> Check {
    for count in [1usize, 1001, 40_003] {
        for in_place in [false, true] {
            reductions(rank, count, in_place)?;
            moves(rank, count, in_place)?;
        }
    }
    pairs(rank)?;
    uneven(rank)?;
    let comm = &rank.comm;
    let color = comm.rank() % 2;
    let part = comm.split(Some(color), comm.size() - comm.rank())?;
    let part = Rank {
        comm: part.ok_or("no part")?,
        context: rank.context.clone(),
        queue: rank.queue.clone(),
    };
    reductions(&part, 1001, true)?;
    moves(&part, 20_001, false)?;
    assert!(comm.split(None, 0)?.is_none());
    comm.barrier(&rank.queue)?;
    Ok(rank.queue.sync()?)
}

fn reductions(rank: &Rank, count: usize, in_place: bool) -> Check {
    let (comm, queue, dtype) = (&rank.comm, &rank.queue, DataType::U32);
    let (size, me, n) = (comm.size() as usize, comm.rank(), count as u64);
    let what = |name: &str| format!("{name} of {count}, in place {in_place}");
    let ones: Vec<Vec<u32>> = (0..comm.size()).map(|r| noise(r, count)).collect();
    let combined = |function: Function| -> Vec<u32> {
        let column = |i: usize| ones.iter().map(move |one| one[i]);
        let each = |i: usize| match function {
            Function::Max => column(i).max(),
            Function::Min => column(i).min(),
            _ => column(i).reduce(u32::wrapping_add),
        };
        (0..count).map(|i| each(i).unwrap_or_default()).collect()
    };
    let own = &ones[me as usize];
    for function in [Function::Sum, Function::Max, Function::Min] {
        let send = rank.words(own)?;
        let receive = match in_place {
            true => send.clone(),
            false => rank.words(&vec![7; count])?,
        };
        comm.all_reduce(&send, &receive, n, dtype, function, queue)?;
        let seen = rank.seen(&receive, 0, count)?;
        same(&what("all-reduce"), &seen, &combined(function))?;
    }
    let root = comm.size() - 1;
    let send = rank.words(own)?;
    let receive = match in_place {
        true => send.clone(),
        false => rank.words(&vec![7; count])?,
    };
    let to = (me == root).then(|| Memory::from(&receive));
    comm.reduce(&send, to, (n, dtype), Function::Sum, root, queue)?;
    let wanted = match me == root || in_place {
        true if me == root => combined(Function::Sum),
        true => own.clone(),
        false => vec![7; count],
    };
    same(&what("reduce"), &rank.seen(&receive, 0, count)?, &wanted)?;
    // Each rank's part of the sum of vectors that are as many parts long.
    let alls: Vec<Vec<u32>> = (0..comm.size())
        .map(|r| noise(r + 90, count * size))
        .collect();
    let first = me as usize * count;
    let send = rank.words(&alls[me as usize])?;
    let (receive, at) = match in_place {
        true => (send.clone(), first),
        false => (rank.words(&vec![7; count])?, 0),
    };
    let to = (&receive, 4 * at as u64);
    comm.reduce_scatter(&send, to, n, dtype, Function::Sum, queue)?;
    let wanted: Vec<u32> = (first..first + count)
        .map(|i| alls.iter().fold(0u32, |sum, all| sum.wrapping_add(all[i])))
        .collect();
    let seen = rank.seen(&receive, at, count)?;
    same(&what("reduce-scatter"), &seen, &wanted)
}

fn moves(rank: &Rank, count: usize, in_place: bool) -> Check {
    let (comm, queue, dtype) = (&rank.comm, &rank.queue, DataType::U32);
    let (size, me, n) = (comm.size() as usize, comm.rank(), count as u64);
    let what = |name: &str| format!("{name} of {count}, in place {in_place}");
    let ones: Vec<Vec<u32>> = (0..comm.size()).map(|r| noise(r + 7, count)).collect();
    let alls: Vec<Vec<u32>> = (0..comm.size())
        .map(|r| noise(r + 40, count * size))
        .collect();
    let root = 0;
    let first = me as usize * count;

    let mine = rank.words(&ones[me as usize])?;
    let receive = match in_place && me == root {
        true => mine.clone(),
        false => rank.words(&vec![7; count])?,
    };
    let from = (me == root).then(|| Memory::from(&mine));
    comm.broadcast(from, &receive, (n, dtype), root, queue)?;
    let seen = rank.seen(&receive, 0, count)?;
    same(&what("broadcast"), &seen, &ones[root as usize])?;

    let whole = || -> Result<(Buffer, Buffer, u64)> {
        let mut words = vec![7; count * size];
        if !in_place {
            let mine = rank.words(&ones[me as usize])?;
            return Ok((mine, rank.words(&words)?, 0));
        }
        words[first..first + count].copy_from_slice(&ones[me as usize]);
        let buffer = rank.words(&words)?;
        Ok((buffer.clone(), buffer, 4 * first as u64))
    };
    let gathered = ones.concat();
    let (send, receive, at) = whole()?;
    comm.all_gather((&send, at), &receive, n, dtype, queue)?;
    let seen = rank.seen(&receive, 0, count * size)?;
    same(&what("all-gather"), &seen, &gathered)?;

    let (send, receive, at) = whole()?;
    let to = (me == root).then(|| Memory::from(&receive));
    comm.gather((&send, at), to, (n, dtype), root, queue)?;
    if me == root {
        let seen = rank.seen(&receive, 0, count * size)?;
        same(&what("gather"), &seen, &gathered)?;
    }

    let send = rank.words(&alls[me as usize])?;
    let (receive, at) = match in_place && me == root {
        true => (send.clone(), first),
        false => (rank.words(&vec![7; count])?, 0),
    };
    let from = (me == root).then(|| Memory::from(&send));
    comm.scatter(from, (&receive, 4 * at as u64), (n, dtype), root, queue)?;
    let wanted = &alls[root as usize][first..first + count];
    same(&what("scatter"), &rank.seen(&receive, at, count)?, wanted)?;

    let send = rank.words(&alls[me as usize])?;
    let receive = match in_place {
        true => send.clone(),
        false => rank.words(&vec![7; count * size])?,
    };
    comm.all_to_all(&send, &receive, n, dtype, queue)?;
    let wanted: Vec<u32> = alls
        .iter()
        .flat_map(|all| all[first..first + count].to_vec())
        .collect();
    let seen = rank.seen(&receive, 0, count * size)?;
    same(&what("all-to-all"), &seen, &wanted)
}

/// Everybody sends something to everybody, itself included.
fn pairs(rank: &Rank) -> Check {
    let (comm, queue, dtype) = (&rank.comm, &rank.queue, DataType::U32);
    let me = comm.rank();
    let length = |from: u32, to: u32| 100 + 10 * from as usize + to as usize;
    let data = |from: u32, to: u32| noise(from * 16 + to, length(from, to));
    let ranks = 0..comm.size();
    let send: Vec<Buffer> = ranks
        .clone()
        .map(|to| rank.words(&data(me, to)))
        .collect::<Result<_>>()?;
    let receive: Vec<Buffer> = ranks
        .clone()
        .map(|from| rank.words(&vec![7; length(from, me)]))
        .collect::<Result<_>>()?;
    group(|| {
        for peer in ranks.clone() {
            let (from, to) = (&receive[peer as usize], &send[peer as usize]);
            comm.receive(from, length(peer, me) as u64, dtype, peer, queue)?;
            comm.send(to, length(me, peer) as u64, dtype, peer, queue)?;
        }
        Ok(())
    })?;
    for from in ranks {
        let seen = rank.seen(&receive[from as usize], 0, length(from, me))?;
        same(&format!("from {from} to {me}"), &seen, &data(from, me))?;
    }
    Ok(())
}

/// Parts of different lengths to everybody.
fn uneven(rank: &Rank) -> Check {
    let (comm, queue) = (&rank.comm, &rank.queue);
    let me = comm.rank();
    let length = |from: u32, to: u32| (from * 7 % 5 * 1000 + to * 3) as usize;
    let data = |from: u32, to: u32| noise(from * 16 + to, length(from, to));
    let pieces = |buffers: &[Buffer], lengths: Vec<usize>| -> Vec<Piece> {
        let all = buffers.iter().zip(lengths);
        all.map(|(buffer, count)| Piece {
            memory: buffer.into(),
            count: count as u64,
            dtype: DataType::U32,
        })
        .collect()
    };
    let ranks = 0..comm.size();
    let send: Vec<Buffer> = ranks
        .clone()
        .map(|to| rank.words(&data(me, to)))
        .collect::<Result<_>>()?;
    let receive: Vec<Buffer> = ranks
        .clone()
        .map(|from| rank.words(&vec![7; length(from, me)]))
        .collect::<Result<_>>()?;
    let sent = pieces(&send, ranks.clone().map(|to| length(me, to)).collect());
    let taken = pieces(
        &receive,
        ranks.clone().map(|from| length(from, me)).collect(),
    );
    comm.all_to_all_v(&sent, &taken, queue)?;
    for from in ranks {
        let seen = rank.seen(&receive[from as usize], 0, length(from, me))?;
        same(&format!("uneven from {from}"), &seen, &data(from, me))?;
    }
    Ok(())
}

/// So many pairs in a group that what the processes tell each other does not fit into their sockets.
fn many(rank: &Rank) -> Check {
    const CALLS: usize = 3000;
    let (comm, queue, dtype) = (&rank.comm, &rank.queue, DataType::U32);
    let peer = 1 - comm.rank();
    let send = rank.words(&noise(comm.rank(), CALLS))?;
    let receive = rank.words(&vec![7; CALLS])?;
    group(|| {
        for i in 0..CALLS as u64 {
            comm.send((&send, 4 * i), 1, dtype, peer, queue)?;
            comm.receive((&receive, 4 * i), 1, dtype, peer, queue)?;
        }
        Ok(())
    })?;
    let seen = rank.seen(&receive, 0, CALLS)?;
    same("many", &seen, &noise(peer, CALLS))
}
