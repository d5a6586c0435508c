//! Collectives on the embedded card: threads, one thread with groups, failures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlu::abi::link::PortState;
use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::collective::{group, CliqueId, Communicator, Function, Memory, Piece};
use vmlu::transport::embedded::Embedded;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Queue, Status};

const LIMIT: Duration = Duration::from_secs(20);

/// A rank with a queue.
struct Rank {
    comm: Communicator,
    context: Context,
    queue: Queue,
}

fn ranks(card: &dyn Transport, size: u32) -> Vec<Rank> {
    let open = |device| Context::open_on(card, device).unwrap();
    let contexts: Vec<Context> = (0..size).map(open).collect();
    let comms = Communicator::all(&contexts, LIMIT).unwrap();
    comms
        .into_iter()
        .zip(contexts)
        .map(|(comm, context)| Rank {
            queue: context.queue().unwrap(),
            comm,
            context,
        })
        .collect()
}

impl Rank {
    fn buffer(&self, bytes: &[u8]) -> Buffer {
        let buffer = self.context.alloc(bytes.len().max(1) as u64).unwrap();
        self.queue.write(&buffer, 0, bytes).unwrap();
        buffer
    }

    fn empty(&self, bytes: usize) -> Buffer {
        self.buffer(&vec![0x5a; bytes])
    }

    fn bytes(&self, buffer: &Buffer, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.queue.read(buffer, 0, &mut bytes).unwrap();
        bytes
    }
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut next = random(seed + 1);
    (0..length).map(|_| (next() >> 32) as u8).collect()
}

/// Reduces by a plain loop: how each type is loaded, combined and stored.
fn reference(dtype: DataType, function: Function, inputs: &[Vec<u8>]) -> Vec<u8> {
    macro_rules! integers {
        ($t:ty) => {{
            let n = size_of::<$t>();
            let at =
                |v: &Vec<u8>, i: usize| <$t>::from_le_bytes(v[i * n..][..n].try_into().unwrap());
            (0..inputs[0].len() / n)
                .flat_map(|i| {
                    let all = inputs.iter().map(|v| at(v, i));
                    let one = all.reduce(|a, b| match function {
                        Function::Sum | Function::Average => a.wrapping_add(b),
                        Function::Product => a.wrapping_mul(b),
                        Function::Max => a.max(b),
                        Function::Min => a.min(b),
                    });
                    let mut one = one.unwrap();
                    if function == Function::Average {
                        one /= inputs.len() as $t;
                    }
                    one.to_le_bytes()
                })
                .collect()
        }};
    }
    macro_rules! floats {
        ($t:ty) => {{
            let n = size_of::<$t>();
            let at =
                |v: &Vec<u8>, i: usize| <$t>::from_le_bytes(v[i * n..][..n].try_into().unwrap());
            (0..inputs[0].len() / n)
                .flat_map(|i| {
                    let all = inputs.iter().map(|v| at(v, i));
                    let one = all.reduce(|a, b| match function {
                        Function::Sum | Function::Average => a + b,
                        Function::Product => a * b,
                        Function::Max => a.max(b),
                        Function::Min => a.min(b),
                    });
                    let mut one = one.unwrap();
                    if function == Function::Average {
                        one /= inputs.len() as $t;
                    }
                    one.to_le_bytes()
                })
                .collect()
        }};
    }
    match dtype {
        DataType::I8 => integers!(i8),
        DataType::I16 => integers!(i16),
        DataType::I32 => integers!(i32),
        DataType::I64 => integers!(i64),
        DataType::U8 => integers!(u8),
        DataType::U16 => integers!(u16),
        DataType::U32 => integers!(u32),
        DataType::U64 => integers!(u64),
        DataType::F32 => floats!(f32),
        DataType::F64 => floats!(f64),
        other => panic!("{other:?}"),
    }
}

/// Values of a type that are no NaN and whose products stay finite.
fn values(dtype: DataType, seed: u64, count: usize) -> Vec<u8> {
    let mut next = random(seed + 7);
    match dtype {
        DataType::F32 => (0..count)
            .flat_map(|_| (0.5 + (next() >> 40) as f32 / 16_777_216.0).to_le_bytes())
            .collect(),
        DataType::F64 => (0..count)
            .flat_map(|_| (0.5 + (next() >> 40) as f64 / 16_777_216.0).to_le_bytes())
            .collect(),
        // Halves of small integers: exact in both, and so are sums of 16.
        DataType::F16 | DataType::Bf16 => (0..count)
            .flat_map(|_| small(dtype, (next() >> 60) as u32).to_le_bytes())
            .collect(),
        _ => noise(seed, count * dtype.size()),
    }
}

/// A small integer as F16 or BF16.
fn small(dtype: DataType, value: u32) -> u16 {
    let bits = (value as f32).to_bits();
    if dtype == DataType::Bf16 {
        return (bits >> 16) as u16;
    }
    if value == 0 {
        return 0;
    }
    let exponent = (bits >> 23) as i32 - 127 + 15;
    (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

const TYPES: [DataType; 10] = [
    DataType::F32,
    DataType::F64,
    DataType::I8,
    DataType::I16,
    DataType::I32,
    DataType::I64,
    DataType::U8,
    DataType::U16,
    DataType::U32,
    DataType::U64,
];
const FUNCTIONS: [Function; 5] = [
    Function::Sum,
    Function::Product,
    Function::Max,
    Function::Min,
    Function::Average,
];

fn all_reduce(ranks: &[Rank], dtype: DataType, function: Function, count: usize, in_place: bool) {
    let length = count * dtype.size();
    let inputs: Vec<Vec<u8>> = (0..ranks.len())
        .map(|r| values(dtype, r as u64 * 31 + count as u64, count))
        .collect();
    let send: Vec<Buffer> = ranks
        .iter()
        .zip(&inputs)
        .map(|(r, i)| r.buffer(i))
        .collect();
    let receive: Vec<Buffer> = if in_place {
        send.clone()
    } else {
        ranks.iter().map(|r| r.empty(length)).collect()
    };
    group(|| {
        for (i, rank) in ranks.iter().enumerate() {
            let (send, receive) = (&send[i], &receive[i]);
            rank.comm
                .all_reduce(send, receive, count as u64, dtype, function, &rank.queue)?;
        }
        Ok(())
    })
    .unwrap();
    let wanted = reference(dtype, function, &inputs);
    for (i, rank) in ranks.iter().enumerate() {
        let what = format!("rank {i}: {dtype:?} {function:?} {count} in place {in_place}");
        assert!(rank.bytes(&receive[i], length) == wanted, "{what}");
        if !in_place {
            assert!(rank.bytes(&send[i], length) == inputs[i], "{what}: changed");
        }
    }
}

#[test]
fn all_reduce_types_and_functions() {
    let card = Embedded::new(8, false).unwrap();
    let ranks = ranks(&*card, 8);
    for dtype in TYPES {
        for function in FUNCTIONS {
            all_reduce(&ranks, dtype, function, 1001, false);
            all_reduce(&ranks, dtype, function, 40_003, true);
        }
    }
}

#[test]
fn all_reduce_sizes() {
    for size in [1, 2, 3, 8] {
        let card = Embedded::new(8, false).unwrap();
        let ranks = ranks(&*card, size);
        for count in [0, 1, 7, 8192, 8193, 100_000, 1 << 20] {
            all_reduce(&ranks, DataType::F32, Function::Sum, count, count % 2 == 1);
        }
    }
}

/// Sixteen chips are two groups: sums of groups are added, the same bits everywhere and each time.
#[test]
fn all_reduce_by_groups() {
    let card = Embedded::new(16, false).unwrap();
    let ranks = ranks(&*card, 16);
    for count in [1, 999, 100_003, 1 << 20] {
        all_reduce(&ranks, DataType::I32, Function::Sum, count, count == 999);
        all_reduce(&ranks, DataType::U64, Function::Product, count, false);
        all_reduce(&ranks, DataType::F32, Function::Max, count, true);
        all_reduce(&ranks, DataType::I32, Function::Average, count, false);
    }
    let count = 300_001;
    let inputs: Vec<Vec<u8>> = (0..16).map(|r| values(DataType::F32, r, count)).collect();
    let halves: Vec<Vec<u8>> = inputs
        .chunks(8)
        .map(|half| reference(DataType::F32, Function::Sum, half))
        .collect();
    let wanted = reference(DataType::F32, Function::Sum, &halves);
    for _ in 0..2 {
        let buffers: Vec<Buffer> = ranks
            .iter()
            .zip(&inputs)
            .map(|(r, i)| r.buffer(i))
            .collect();
        group(|| {
            for (rank, buffer) in ranks.iter().zip(&buffers) {
                let count = count as u64;
                rank.comm.all_reduce(
                    buffer,
                    buffer,
                    count,
                    DataType::F32,
                    Function::Sum,
                    &rank.queue,
                )?;
            }
            Ok(())
        })
        .unwrap();
        for (rank, buffer) in ranks.iter().zip(&buffers) {
            assert!(rank.bytes(buffer, count * 4) == wanted);
        }
    }
}

#[test]
fn all_reduce_halves() {
    let card = Embedded::new(8, false).unwrap();
    let ranks = ranks(&*card, 8);
    for dtype in [DataType::F16, DataType::Bf16] {
        for count in [5usize, 30_001] {
            let seeds: Vec<u32> = (0..8 * count as u64).map(|i| (i * 7 % 13) as u32).collect();
            let inputs: Vec<Vec<u8>> = (0..8)
                .map(|r| {
                    let own = &seeds[r * count..][..count];
                    own.iter()
                        .flat_map(|v| small(dtype, *v).to_le_bytes())
                        .collect()
                })
                .collect();
            let wanted: Vec<u8> = (0..count)
                .map(|i| (0..8).map(|r| seeds[r * count + i]).sum::<u32>())
                .flat_map(|sum| small(dtype, sum).to_le_bytes())
                .collect();
            let buffers: Vec<Buffer> = ranks
                .iter()
                .zip(&inputs)
                .map(|(r, i)| r.buffer(i))
                .collect();
            group(|| {
                for (rank, buffer) in ranks.iter().zip(&buffers) {
                    let count = count as u64;
                    rank.comm.all_reduce(
                        buffer,
                        buffer,
                        count,
                        dtype,
                        Function::Sum,
                        &rank.queue,
                    )?;
                }
                Ok(())
            })
            .unwrap();
            for (rank, buffer) in ranks.iter().zip(&buffers) {
                assert!(rank.bytes(buffer, count * 2) == wanted, "{dtype:?} {count}");
            }
        }
    }
}

/// Everything else, against plain loops, for a number of elements a part.
fn others(ranks: &[Rank], count: usize, in_place: bool) {
    let (n, dtype) = (ranks.len(), DataType::I32);
    let one = count * 4;
    let elements = count as u64;
    let ones: Vec<Vec<u8>> = (0..n).map(|r| noise(r as u64, one)).collect();
    let alls: Vec<Vec<u8>> = (0..n).map(|r| noise(r as u64 + 50, one * n)).collect();
    let root = n - 1;
    let run = |call: &dyn Fn(usize, &Rank) -> vmlu::Result<u64>| {
        group(|| {
            for (i, rank) in ranks.iter().enumerate() {
                call(i, rank)?;
            }
            Ok(())
        })
        .unwrap();
    };
    let what = |name: &str, i: usize| format!("{name}, rank {i} of {n}, {count}, {in_place}");

    // Reduce.
    let send: Vec<Buffer> = (0..n).map(|i| ranks[i].buffer(&ones[i])).collect();
    let to = if in_place {
        send[root].clone()
    } else {
        ranks[root].empty(one)
    };
    run(&|i, rank| {
        let receive = (i == root).then(|| Memory::from(&to));
        let (count, root) = ((elements, dtype), root as u32);
        rank.comm
            .reduce(&send[i], receive, count, Function::Sum, root, &rank.queue)
    });
    let wanted = reference(dtype, Function::Sum, &ones);
    assert!(
        ranks[root].bytes(&to, one) == wanted,
        "{}",
        what("reduce", root)
    );

    // Broadcast.
    let send = ranks[root].buffer(&ones[root]);
    let receive: Vec<Buffer> = (0..n)
        .map(|i| match i == root && in_place {
            true => send.clone(),
            false => ranks[i].empty(one),
        })
        .collect();
    run(&|i, rank| {
        let send = (i == root).then(|| Memory::from(&send));
        let count = (elements, dtype);
        rank.comm
            .broadcast(send, &receive[i], count, root as u32, &rank.queue)
    });
    for (i, rank) in ranks.iter().enumerate() {
        assert!(
            rank.bytes(&receive[i], one) == ones[root],
            "{}",
            what("broadcast", i)
        );
    }

    // All-gather and gather.
    let place = |i: usize| if in_place { (one * i) as u64 } else { 0 };
    let make = |i: usize| {
        let mut whole = vec![0; one * n];
        if in_place {
            whole[one * i..][..one].copy_from_slice(&ones[i]);
        }
        let receive = ranks[i].buffer(&whole);
        let send = if in_place {
            receive.clone()
        } else {
            ranks[i].buffer(&ones[i])
        };
        (send, receive)
    };
    let buffers: Vec<(Buffer, Buffer)> = (0..n).map(make).collect();
    run(&|i, rank| {
        let (send, receive) = &buffers[i];
        rank.comm
            .all_gather((send, place(i)), receive, elements, dtype, &rank.queue)
    });
    for (i, rank) in ranks.iter().enumerate() {
        let seen = rank.bytes(&buffers[i].1, one * n);
        assert!(seen == ones.concat(), "{}", what("all-gather", i));
    }
    let buffers: Vec<(Buffer, Buffer)> = (0..n).map(make).collect();
    run(&|i, rank| {
        let (send, receive) = &buffers[i];
        let receive = (i == root).then(|| Memory::from(receive));
        let count = (elements, dtype);
        rank.comm
            .gather((send, place(i)), receive, count, root as u32, &rank.queue)
    });
    let seen = ranks[root].bytes(&buffers[root].1, one * n);
    assert!(seen == ones.concat(), "{}", what("gather", root));

    // Reduce-scatter and scatter.
    let make = |i: usize| {
        let send = ranks[i].buffer(&alls[i]);
        let receive = if in_place {
            send.clone()
        } else {
            ranks[i].empty(one)
        };
        (send, receive)
    };
    let wanted = reference(dtype, Function::Sum, &alls);
    let buffers: Vec<(Buffer, Buffer)> = (0..n).map(make).collect();
    run(&|i, rank| {
        let (send, receive) = &buffers[i];
        let receive = (receive, place(i));
        let function = Function::Sum;
        rank.comm
            .reduce_scatter(send, receive, elements, dtype, function, &rank.queue)
    });
    for (i, rank) in ranks.iter().enumerate() {
        let at = place(i) as usize;
        let seen = rank.bytes(&buffers[i].1, at + one);
        let name = what("reduce-scatter", i);
        assert!(seen[at..] == wanted[one * i..][..one], "{name}");
    }
    let buffers: Vec<(Buffer, Buffer)> = (0..n).map(make).collect();
    run(&|i, rank| {
        let (send, receive) = &buffers[i];
        let at = if i == root { place(i) } else { 0 };
        let send = (i == root).then(|| Memory::from(send));
        let count = (elements, dtype);
        rank.comm
            .scatter(send, (receive, at), count, root as u32, &rank.queue)
    });
    for (i, rank) in ranks.iter().enumerate() {
        let at = if i == root { place(i) as usize } else { 0 };
        let seen = rank.bytes(&buffers[i].1, at + one);
        let name = what("scatter", i);
        assert!(seen[at..] == alls[root][one * i..][..one], "{name}");
    }

    // All-to-all.
    let buffers: Vec<(Buffer, Buffer)> = (0..n)
        .map(|i| {
            let send = ranks[i].buffer(&alls[i]);
            let receive = match in_place {
                true => send.clone(),
                false => ranks[i].empty(one * n),
            };
            (send, receive)
        })
        .collect();
    run(&|i, rank| {
        let (send, receive) = &buffers[i];
        rank.comm
            .all_to_all(send, receive, elements, dtype, &rank.queue)
    });
    for (i, rank) in ranks.iter().enumerate() {
        let wanted: Vec<u8> = alls
            .iter()
            .flat_map(|all| all[one * i..][..one].to_vec())
            .collect();
        let seen = rank.bytes(&buffers[i].1, one * n);
        assert!(seen == wanted, "{}", what("all-to-all", i));
    }
}

#[test]
fn other_operations() {
    for size in [1, 2, 8, 16] {
        let card = Embedded::new(16, false).unwrap();
        let ranks = ranks(&*card, size);
        for count in [0, 1, 1003, 70_001] {
            others(&ranks, count, false);
            others(&ranks, count, true);
        }
    }
}

#[test]
fn uneven_all_to_all() {
    let card = Embedded::new(8, false).unwrap();
    let ranks = ranks(&*card, 5);
    let length = |from: usize, to: usize| from * 7 % 5 * 1000 + to * 3;
    let data = |from: usize, to: usize| noise((from * 8 + to) as u64, length(from, to));
    let all = |side: &dyn Fn(usize, usize) -> usize, i: usize| {
        let mut at = 0;
        let ends = (0..5).map(|j| {
            at += side(i, j);
            at - side(i, j)
        });
        ends.collect::<Vec<usize>>()
    };
    let sent = |i: usize, j: usize| length(i, j);
    let received = |i: usize, j: usize| length(j, i);
    let buffers: Vec<(Buffer, Buffer)> = (0..5)
        .map(|i| {
            let whole: Vec<u8> = (0..5).flat_map(|j| data(i, j)).collect();
            let room = (0..5).map(|j| received(i, j)).sum();
            (ranks[i].buffer(&whole), ranks[i].empty(room))
        })
        .collect();
    group(|| {
        for (i, rank) in ranks.iter().enumerate() {
            let pieces = |buffer: &Buffer, side: &dyn Fn(usize, usize) -> usize| {
                let ats = all(side, i).into_iter().enumerate();
                ats.map(|(j, at)| Piece {
                    memory: (buffer, at as u64).into(),
                    count: side(i, j) as u64,
                    dtype: DataType::U8,
                })
                .collect::<Vec<_>>()
            };
            let (send, receive) = &buffers[i];
            let (send, receive) = (pieces(send, &sent), pieces(receive, &received));
            rank.comm.all_to_all_v(&send, &receive, &rank.queue)?;
        }
        Ok(())
    })
    .unwrap();
    for (i, rank) in ranks.iter().enumerate() {
        let wanted: Vec<u8> = (0..5).flat_map(|j| data(j, i)).collect();
        assert!(
            rank.bytes(&buffers[i].1, wanted.len()) == wanted,
            "rank {i}"
        );
    }
}

#[test]
fn pairs() {
    let card = Embedded::new(2, false).unwrap();
    let ranks = ranks(&*card, 2);
    let data = [noise(1, 5000), noise(2, 5000)];
    let send: Vec<Buffer> = (0..2).map(|i| ranks[i].buffer(&data[i])).collect();
    let receive: Vec<Buffer> = ranks.iter().map(|r| r.empty(5000)).collect();
    group(|| {
        for (i, rank) in ranks.iter().enumerate() {
            let peer = 1 - i as u32;
            rank.comm
                .send(&send[i], 5000, DataType::U8, peer, &rank.queue)?;
            rank.comm
                .receive(&receive[i], 5000, DataType::U8, peer, &rank.queue)?;
        }
        Ok(())
    })
    .unwrap();
    for (i, rank) in ranks.iter().enumerate() {
        assert!(rank.bytes(&receive[i], 5000) == data[1 - i]);
    }
    let itself = ranks[0]
        .comm
        .send(&send[0], 1, DataType::U8, 0, &ranks[0].queue);
    assert_eq!(itself.unwrap_err().status(), Status::InvalidArgument);
}

/// Threads, each a rank, meet by identity; collectives stand between operators of their queues.
#[test]
fn threads() {
    let card = Embedded::new(8, false).unwrap();
    let id = CliqueId::new().unwrap();
    let id = CliqueId::from_bytes(&id.to_bytes()).unwrap();
    std::thread::scope(|scope| {
        for rank in 0..8u32 {
            let card: &dyn Transport = &*card;
            scope.spawn(move || {
                let context = Context::open_on(card, rank).unwrap();
                let comm = Communicator::new(&context, &id, rank, 8, LIMIT).unwrap();
                assert_eq!((comm.rank(), comm.size(), comm.device()), (rank, 8, rank));
                let queues = [context.queue().unwrap(), context.queue().unwrap()];
                let buffer = context.alloc(4 * 4096).unwrap();
                for round in 1..=50u32 {
                    // The second queue follows the first without being told.
                    let queue = &queues[round as usize % 2];
                    let value: Vec<u8> = (0..4096)
                        .flat_map(|_| (rank + round).to_le_bytes())
                        .collect();
                    queue.write(&buffer, 0, &value).unwrap();
                    comm.all_reduce(&buffer, &buffer, 4096, DataType::U32, Function::Sum, queue)
                        .unwrap();
                    let mut seen = vec![0; 4 * 4096];
                    queue.read(&buffer, 0, &mut seen).unwrap();
                    let sum = 28 + 8 * round;
                    assert!(seen.chunks(4).all(|c| c == sum.to_le_bytes()), "{round}");
                }
                let part = comm.split(Some(rank % 2), 8 - rank).unwrap().unwrap();
                assert_eq!((part.size(), part.rank()), (4, 3 - rank / 2));
                let value: Vec<u8> = rank.to_le_bytes().to_vec();
                queues[0].write(&buffer, 0, &value).unwrap();
                part.all_reduce(
                    &buffer,
                    &buffer,
                    1,
                    DataType::U32,
                    Function::Sum,
                    &queues[0],
                )
                .unwrap();
                let mut seen = [0; 4];
                queues[0].read(&buffer, 0, &mut seen).unwrap();
                assert_eq!(u32::from_le_bytes(seen), 12 + 4 * (rank % 2));
                assert!(comm.split(None, 0).unwrap().is_none());
                comm.barrier(&queues[0]).unwrap();
                queues[0].sync().unwrap();
            });
        }
    });
}

#[test]
fn a_rank_is_missing() {
    let card = Embedded::new(2, false).unwrap();
    let context = Context::open_on(&*card, 0).unwrap();
    let id = CliqueId::new().unwrap();
    let limit = Duration::from_millis(100);
    let error = Communicator::new(&context, &id, 1, 3, limit).err().unwrap();
    assert_eq!(error.status(), Status::Timeout);
    assert!(error.to_string().contains("[0, 2]"), "{error}");
    // In a call.
    let contexts = [context, Context::open_on(&*card, 1).unwrap()];
    let comms = Communicator::all(&contexts, limit).unwrap();
    let queue = contexts[0].queue().unwrap();
    let error = comms[0].barrier(&queue).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
    assert!(error.to_string().contains("[1]"), "{error}");
    let other = contexts[1].queue().unwrap();
    assert_eq!(
        comms[1].barrier(&other).unwrap_err().status(),
        Status::Timeout
    );
    assert_eq!(comms[1].async_error().unwrap().status(), Status::Timeout);
    // Others are made of the same contexts.
    let comms = Communicator::all(&contexts, limit).unwrap();
    group(|| {
        comms[0].barrier(&queue)?;
        comms[1].barrier(&other)
    })
    .unwrap();
    queue.sync().unwrap();
    other.sync().unwrap();
}

#[test]
fn a_rank_leaves_or_aborts() {
    let card = Embedded::new(2, false).unwrap();
    for aborts in [false, true] {
        let mut ranks = ranks(&*card, 2);
        let last = ranks.pop().unwrap();
        let start = Instant::now();
        let error = std::thread::scope(|scope| {
            let waits = scope.spawn(|| ranks[0].comm.barrier(&ranks[0].queue).unwrap_err());
            std::thread::sleep(Duration::from_millis(50));
            if aborts {
                last.comm.abort();
            }
            drop(last);
            waits.join().unwrap()
        });
        assert!(start.elapsed() < Duration::from_secs(1));
        let wanted = [Status::Dependency, Status::Cancelled][usize::from(aborts)];
        assert_eq!(error.status(), wanted, "{error}");
        assert!(error.to_string().contains("rank 1"), "{error}");
    }
}

#[test]
fn ranks_disagree() {
    let card = Embedded::new(2, false).unwrap();
    let ranks = ranks(&*card, 2);
    let buffers: Vec<Buffer> = ranks.iter().map(|r| r.empty(4096)).collect();
    let make = |count: [u64; 2]| {
        group(|| {
            for (i, rank) in ranks.iter().enumerate() {
                let (buffer, count) = (&buffers[i], count[i]);
                rank.comm.all_reduce(
                    buffer,
                    buffer,
                    count,
                    DataType::F32,
                    Function::Sum,
                    &rank.queue,
                )?;
            }
            Ok(())
        })
    };
    assert_eq!(make([3, 4]).unwrap_err().status(), Status::InvalidArgument);
    make([4, 4]).unwrap();
    let rank = &ranks[0];
    let far = (&buffers[0], 4000);
    let error = rank
        .comm
        .all_reduce(far, far, 100, DataType::F32, Function::Sum, &rank.queue)
        .unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument, "{error}");
    let foreign = rank.comm.all_reduce(
        &buffers[1],
        &buffers[1],
        1,
        DataType::F32,
        Function::Sum,
        &rank.queue,
    );
    assert_eq!(foreign.unwrap_err().status(), Status::BadHandle);
    ranks.iter().for_each(|r| r.queue.sync().unwrap());
}

/// A link that is cut in the middle is an error at every rank within a second; others do not notice; afterwards it works again.
#[test]
fn a_link_is_cut() {
    let card = Embedded::new(8, true).unwrap();
    let ranks = Arc::new(ranks(&*card, 8));
    let bytes = 64 << 20;
    let buffers: Vec<Buffer> = ranks.iter().map(|r| r.empty(bytes)).collect();
    let bystander = Context::open_on(&*card, 3).unwrap();
    let other = bystander.queue().unwrap();
    let memory = bystander.alloc(4096).unwrap();
    let run = |times: u32| {
        for _ in 0..times {
            group(|| {
                for (rank, buffer) in ranks.iter().zip(&buffers) {
                    let count = bytes as u64 / 4;
                    rank.comm.all_reduce(
                        buffer,
                        buffer,
                        count,
                        DataType::U32,
                        Function::Max,
                        &rank.queue,
                    )?;
                }
                Ok(())
            })
            .unwrap();
        }
    };
    run(6);
    let port = card
        .link_ports(2)
        .unwrap()
        .iter()
        .position(|p| p.state == PortState::Up as u32)
        .unwrap();
    let action = |action: LinkAction| {
        let control = LinkControl {
            action: action as u32,
            port: port as u32,
            ..LinkControl::zeroed()
        };
        card.link_control(2, &control).unwrap();
    };
    std::thread::sleep(Duration::from_millis(20));
    assert!(!ranks[0].queue.is_idle(), "over before the link was cut");
    action(LinkAction::Down);
    let cut = Instant::now();
    let mut direct = 0;
    for (i, rank) in ranks.iter().enumerate() {
        let error = rank.queue.sync().err();
        let error = error.unwrap_or_else(|| panic!("rank {i} did not notice"));
        assert!(
            matches!(error.status(), Status::LinkDown | Status::Dependency),
            "rank {i}: {error}"
        );
        direct += u32::from(error.status() == Status::LinkDown);
    }
    assert!(
        cut.elapsed() < Duration::from_secs(1),
        "{:?}",
        cut.elapsed()
    );
    assert!(direct >= 1);
    other.fill(&memory, 0, 4096, 1).unwrap();
    other.sync().unwrap();
    action(LinkAction::Up);
    for rank in ranks.iter() {
        rank.queue.clear_error().unwrap();
    }
    run(1);
    ranks.iter().for_each(|r| r.queue.sync().unwrap());
}

/// Collectives in graphs: between commands, over memory that each launch gives, by threads and by one thread with groups.
#[test]
fn captured() {
    const COUNT: u64 = 20_001;
    let card = Embedded::new(4, false).unwrap();
    let ranks = ranks(&*card, 4);
    let length = 4 * COUNT as usize;
    let words = |value: u32| -> Vec<u8> { (0..COUNT).flat_map(|_| value.to_le_bytes()).collect() };
    let graphs: Vec<_> = ranks
        .iter()
        .map(|rank| {
            let (comm, queue) = (&rank.comm, &rank.queue);
            let (me, next) = (comm.rank(), (comm.rank() + 1) % 4);
            let (input, sum, far) = (rank.empty(length), rank.empty(length), rank.empty(length));
            queue.begin_capture().unwrap();
            queue.fill(&far, 0, length as u64, 0).unwrap();
            let value = comm
                .all_reduce(&input, &sum, COUNT, DataType::U32, Function::Sum, queue)
                .unwrap();
            assert!(value >> 63 == 1, "{value:#x}");
            // What is grouped is made together: each sends on what it has, and receives.
            group(|| {
                comm.send(&sum, COUNT / 2, DataType::U32, next, queue)?;
                comm.receive(&far, COUNT / 2, DataType::U32, (me + 3) % 4, queue)
            })
            .unwrap();
            comm.barrier(queue).unwrap();
            queue.copy(sum.address(), far.address(), 4).unwrap();
            let mut graph = queue.end_capture().unwrap();
            assert_eq!((graph.commands(), graph.collectives()), (2, 4));
            let image = vmlu::Graph::from_image(&graph.image());
            assert_eq!(image.err().unwrap().status(), Status::FramingError);
            graph.parameter(&input).unwrap();
            assert!(!graph.fixed_addresses().contains(&input.address()));
            let exec = graph.instantiate(&rank.context).unwrap();
            let refused = exec.update(&graph).unwrap_err();
            assert_eq!(refused.status(), Status::GraphUpdate);
            (exec, sum, far)
        })
        .collect();
    let check = |rank: &Rank, sum: &Buffer, far: &Buffer, wanted: u32| {
        assert!(rank.bytes(sum, length) == words(wanted));
        let far = rank.bytes(far, length);
        let half = length / 8 * 4;
        assert!(far[..half] == words(wanted)[..half]);
        assert!(far[half..].iter().all(|b| *b == 0));
    };
    std::thread::scope(|scope| {
        for (i, rank) in ranks.iter().enumerate() {
            let (exec, sum, far) = &graphs[i];
            scope.spawn(move || {
                for round in 0..10u32 {
                    let input = rank.buffer(&words(i as u32 + round));
                    let queue = &rank.queue;
                    let value = queue.launch(exec, &[input.address()]).unwrap();
                    queue.wait(value).unwrap();
                    check(rank, sum, far, 6 + 4 * round);
                }
            });
        }
    });
    let inputs: Vec<Buffer> = (0..4).map(|i| ranks[i].buffer(&words(i as u32))).collect();
    group(|| {
        for _ in 0..3 {
            for (i, rank) in ranks.iter().enumerate() {
                let value = rank.queue.launch(&graphs[i].0, &[inputs[i].address()])?;
                assert_eq!(value, 0);
            }
        }
        Ok(())
    })
    .unwrap();
    for (rank, (_, sum, far)) in ranks.iter().zip(&graphs) {
        check(rank, sum, far, 6);
    }
    // Memory that is too short for the call is refused before anything is called.
    let short = ranks[0].empty(length - 4);
    let refused = ranks[0].queue.launch(&graphs[0].0, &[short.address()]);
    assert_eq!(refused.unwrap_err().status(), Status::InvalidArgument);
    ranks.iter().for_each(|r| r.queue.sync().unwrap());
}

/// A queue that joins a capture with a collective only has to be joined back; a graph in another keeps its collectives.
#[test]
fn captured_on_two_queues_and_nested() {
    let card = Embedded::new(2, false).unwrap();
    let ranks = ranks(&*card, 2);
    let buffers: Vec<Buffer> = ranks.iter().map(|r| r.buffer(&[1; 64])).collect();
    let execs: Vec<_> = ranks
        .iter()
        .zip(&buffers)
        .map(|(rank, buffer)| {
            let (queue, second) = (&rank.queue, rank.context.queue().unwrap());
            let begin = |joins: bool| {
                queue.begin_capture().unwrap();
                second
                    .wait_for(queue, queue.fill(buffer, 1, 1, 1).unwrap())
                    .unwrap();
                let comm = &rank.comm;
                let last = comm
                    .all_reduce(buffer, buffer, 64, DataType::U8, Function::Sum, &second)
                    .unwrap();
                if joins {
                    queue.wait_for(&second, last).unwrap();
                }
                queue.end_capture()
            };
            assert_eq!(
                begin(false).err().unwrap().status(),
                Status::CaptureUnjoined
            );
            let inner = begin(true).unwrap().instantiate(&rank.context).unwrap();
            queue.begin_capture().unwrap();
            queue.launch(&inner, &[]).unwrap();
            queue.launch(&inner, &[]).unwrap();
            let outer = queue.end_capture().unwrap();
            assert_eq!((outer.commands(), outer.collectives()), (2, 2));
            outer.instantiate(&rank.context).unwrap()
        })
        .collect();
    group(|| {
        for (rank, exec) in ranks.iter().zip(&execs) {
            rank.queue.launch(exec, &[])?;
        }
        Ok(())
    })
    .unwrap();
    for (rank, buffer) in ranks.iter().zip(&buffers) {
        let mut wanted = [4; 64];
        wanted[1] = 2;
        assert!(rank.bytes(buffer, 64) == wanted);
    }
}
