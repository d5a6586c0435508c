//! What each rank does for a collective, as phases: pure, so that every rank makes the same plan of the same calls.
//!
//! A rank's turn in a phase begins when ranks that it waits for have ended their turns of the phase before; ahead of the first stands what
//! their queues had to do already. Results depend on the order of the ranks and on the groups of the topology only.

use vmlu_abi::tensor::DataType;
use vmlu_ops::combine::Function;

use super::algorithm::Algorithm;
use super::call::{Call, Kind};
use super::neighbours;
use super::topology::Topology;

/// Up to this many bytes one rank does a reduction to one or a broadcast: the others only wait for it.
const ALONE: u64 = 32 << 10;
/// Slices begin at multiples of this.
const LINE: u64 = 64;

/// Which memory of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Send(usize),
    Receive(usize),
    Scratch,
}

/// A place in a rank's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) rank: usize,
    pub(super) area: Area,
    /// Bytes behind the part's begin.
    pub(super) offset: u64,
}

/// One command.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Combine {
        function: Function,
        dtype: DataType,
        count: u64,
        inputs: Vec<Place>,
        outputs: Vec<Place>,
    },
    Copy {
        to: Place,
        from: Place,
        bytes: u64,
    },
}

/// What a rank does in a phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    /// Ranks that are waited for, a bit each; never the rank itself.
    pub(super) waits: u32,
    pub(super) steps: Vec<Step>,
}

/// The turns of all ranks, phase by phase.
pub(super) type Plan = Vec<Vec<Turn>>;

/// The elements of slice `index` of `parts`: first and number.
pub(super) fn slice(count: u64, size: u64, parts: usize, index: usize) -> (u64, u64) {
    let line = (LINE / size).max(1);
    let each = count.div_ceil(parts as u64).next_multiple_of(line);
    let first = (each * index as u64).min(count);
    (first, each.min(count - first))
}

pub(super) fn bit(rank: usize) -> u32 {
    1 << rank
}

pub(super) fn bits<'a>(ranks: impl IntoIterator<Item = &'a usize>) -> u32 {
    ranks.into_iter().fold(0, |mask, rank| mask | bit(*rank))
}

fn all_but(rank: usize, size: usize) -> u32 {
    (0..size).fold(0, |mask, rank| mask | bit(rank)) & !bit(rank)
}

pub(super) fn turns(size: usize, turn: impl FnMut(usize) -> Turn) -> Vec<Turn> {
    (0..size).map(turn).collect()
}

/// A phase in which everybody waits for everybody.
fn meet(size: usize) -> Vec<Turn> {
    turns(size, |rank| Turn {
        waits: all_but(rank, size),
        steps: Vec::new(),
    })
}

pub(super) fn at(rank: usize, area: Area, offset: u64) -> Place {
    Place { rank, area, offset }
}

/// The plan of calls that agree and were checked, or why they do not fit together.
pub(super) fn plan(calls: &[&Call], topology: &Topology) -> Result<Plan, String> {
    let first = calls[0];
    for (rank, call) in calls.iter().enumerate() {
        first
            .agrees(call)
            .map_err(|text| format!("ranks 0 and {rank} disagree: {text}"))?;
    }
    let size = calls.len();
    let bytes = first.bytes();
    let root = first.root as usize;
    let empty = first.count == 0 && first.kind != Kind::Barrier && first.kind != Kind::AllToAll;
    if empty {
        return Ok(Vec::new());
    }
    Ok(match first.kind {
        Kind::AllReduce => {
            let all: Vec<usize> = (0..size).collect();
            match first.algorithm {
                Algorithm::Alone => reduce_alone(first, size, &all),
                Algorithm::Direct => reduce(first, size, &all),
                Algorithm::Tree => neighbours::tree(first, size),
                Algorithm::Ring => neighbours::ring(first, &topology.ring),
                Algorithm::Hierarchical => by_groups(first, topology),
            }
        }
        Kind::Reduce if bytes <= ALONE => reduce_alone(first, size, &[root]),
        Kind::Reduce => reduce(first, size, &[root]),
        Kind::Broadcast => broadcast(calls),
        Kind::AllGather => {
            let work = turns(size, |rank| {
                let to = (0..size)
                    .map(|r| at(r, Area::Receive(0), bytes * rank as u64))
                    .collect();
                Turn {
                    waits: all_but(rank, size),
                    steps: spread(calls, at(rank, Area::Send(0), 0), to, bytes),
                }
            });
            vec![work, meet(size)]
        }
        Kind::ReduceScatter => {
            let work = turns(size, |rank| {
                let inputs = (0..size)
                    .map(|r| at(r, Area::Send(0), bytes * rank as u64))
                    .collect();
                Turn {
                    waits: all_but(rank, size),
                    steps: vec![Step::Combine {
                        function: first.function,
                        dtype: first.dtype,
                        count: first.count,
                        inputs,
                        outputs: vec![at(rank, Area::Receive(0), 0)],
                    }],
                }
            });
            vec![work, meet(size)]
        }
        Kind::AllToAll => all_to_all(calls)?,
        Kind::Gather => {
            let work = turns(size, |rank| Turn {
                waits: if rank == root { 0 } else { 1 << root },
                steps: spread(
                    calls,
                    at(rank, Area::Send(0), 0),
                    vec![at(root, Area::Receive(0), bytes * rank as u64)],
                    bytes,
                ),
            });
            vec![work, at_root(size, root)]
        }
        Kind::Scatter => {
            let work = turns(size, |rank| Turn {
                waits: if rank == root { 0 } else { 1 << root },
                steps: spread(
                    calls,
                    at(root, Area::Send(0), bytes * rank as u64),
                    vec![at(rank, Area::Receive(0), 0)],
                    bytes,
                ),
            });
            vec![work, at_root(size, root)]
        }
        Kind::Barrier => vec![meet(size)],
        Kind::Send | Kind::Receive => return Err("a pair is not a collective".to_owned()),
    })
}

/// The plan of a pair: the receiver, at index 1, takes what the sender has.
pub(super) fn pair(send: &Call, receive: &Call) -> Result<Plan, String> {
    let (sent, room) = (send.bytes(), receive.bytes());
    if sent != room {
        return Err(format!("{sent} bytes are sent where {room} are received"));
    }
    if sent == 0 {
        return Ok(Vec::new());
    }
    let take = Turn {
        waits: 1,
        steps: vec![Step::Copy {
            to: at(1, Area::Receive(0), 0),
            from: at(0, Area::Send(0), 0),
            bytes: sent,
        }],
    };
    let wait = Turn {
        waits: 2,
        steps: Vec::new(),
    };
    Ok(vec![
        vec![Turn::default(), take],
        vec![wait, Turn::default()],
    ])
}

/// The root waits for everybody.
fn at_root(size: usize, root: usize) -> Vec<Turn> {
    turns(size, |rank| Turn {
        waits: if rank == root { all_but(rank, size) } else { 0 },
        steps: Vec::new(),
    })
}

/// One rank does everything: it waits for all, and all wait for it.
fn alone(size: usize, worker: usize, steps: Vec<Step>) -> Plan {
    let mut steps = Some(steps);
    let work = turns(size, |rank| {
        if rank != worker {
            return Turn::default();
        }
        Turn {
            waits: all_but(rank, size),
            steps: steps.take().unwrap_or_default(),
        }
    });
    let wait = turns(size, |rank| Turn {
        waits: if rank == worker { 0 } else { 1 << worker },
        steps: Vec::new(),
    });
    vec![work, wait]
}

/// Elements of all vectors become one, at some ranks.
fn combine(call: &Call, size: usize, to: &[usize], begin: u64, count: u64) -> Step {
    let begin = begin * call.dtype.size() as u64;
    Step::Combine {
        function: call.function,
        dtype: call.dtype,
        count,
        inputs: (0..size).map(|r| at(r, Area::Send(0), begin)).collect(),
        outputs: to.iter().map(|r| at(*r, Area::Receive(0), begin)).collect(),
    }
}

/// The first of those that want the result reduces everything for them.
fn reduce_alone(call: &Call, size: usize, to: &[usize]) -> Plan {
    alone(size, to[0], vec![combine(call, size, to, 0, call.count)])
}

/// Each rank reduces its slice of everybody's and writes it to all that want it.
fn reduce(call: &Call, size: usize, to: &[usize]) -> Plan {
    let work = turns(size, |rank| {
        let (begin, count) = slice(call.count, call.dtype.size() as u64, size, rank);
        Turn {
            waits: all_but(rank, size),
            steps: (count > 0)
                .then(|| combine(call, size, to, begin, count))
                .into_iter()
                .collect(),
        }
    });
    vec![work, meet(size)]
}

/// The first phase reduces inside each group, a slice a rank; the second combines the groups' slices, in their order, for each group.
fn by_groups(first: &Call, topology: &Topology) -> Plan {
    let groups = &topology.groups;
    let each = groups[0].len();
    let size = groups.len() * each;
    let element = first.dtype.size() as u64;
    let place = |rank: usize| {
        let found = groups.iter().enumerate().find_map(|(g, members)| {
            let index = members.iter().position(|m| *m == rank)?;
            Some((g, index))
        });
        found.unwrap_or_default()
    };
    let inside = turns(size, |rank| {
        let (group, index) = place(rank);
        let (begin, count) = slice(first.count, element, each, index);
        let members = &groups[group];
        let step = Step::Combine {
            function: first.function,
            dtype: first.dtype,
            count,
            inputs: members
                .iter()
                .map(|r| at(*r, Area::Send(0), begin * element))
                .collect(),
            outputs: vec![at(rank, Area::Scratch, 0)],
        };
        Turn {
            waits: bits(members) & !bit(rank),
            steps: (count > 0).then_some(step).into_iter().collect(),
        }
    });
    let across = turns(size, |rank| {
        let (group, index) = place(rank);
        let (begin, count) = slice(first.count, element, each, index);
        let step = Step::Combine {
            function: first.function,
            dtype: first.dtype,
            count,
            inputs: groups
                .iter()
                .map(|g| at(g[index], Area::Scratch, 0))
                .collect(),
            outputs: groups[group]
                .iter()
                .map(|r| at(*r, Area::Receive(0), begin * element))
                .collect(),
        };
        Turn {
            waits: bits(groups.iter().map(|g| &g[index])) & !bit(rank),
            steps: (count > 0).then_some(step).into_iter().collect(),
        }
    });
    vec![inside, across, meet(size)]
}

/// Bytes from one place to several, without those that are the place itself.
fn spread(calls: &[&Call], from: Place, mut to: Vec<Place>, bytes: u64) -> Vec<Step> {
    let resolve = |place: &Place| {
        let call = calls[place.rank];
        let part = match place.area {
            Area::Send(i) => call.sends.get(i),
            Area::Receive(i) => call.receives.get(i),
            Area::Scratch => call.scratch.as_ref(),
        };
        part.map(|part| (part, part.offset + place.offset))
    };
    let source = resolve(&from);
    to.retain(|place| match (resolve(place), source) {
        (Some((a, x)), Some((b, y))) => !(place.rank == from.rank && a.is_beside(b) && x == y),
        _ => true,
    });
    if bytes == 0 || to.is_empty() {
        return Vec::new();
    }
    if let [one] = to[..] {
        return vec![Step::Copy {
            to: one,
            from,
            bytes,
        }];
    }
    // One that reads once and writes to all: elements as large as the addresses allow.
    let places = to.iter().chain([&from]).filter_map(resolve);
    let bits = places.fold(bytes, |bits, (_, offset)| bits | offset);
    let (dtype, size) = match bits.trailing_zeros() {
        0 => (DataType::U8, 1),
        1 => (DataType::U16, 2),
        2 => (DataType::U32, 4),
        _ => (DataType::U64, 8),
    };
    vec![Step::Combine {
        function: Function::Max,
        dtype,
        count: bytes / size,
        inputs: vec![from],
        outputs: to,
    }]
}

/// Each rank takes its slice of what the root has and writes it to all.
fn broadcast(calls: &[&Call]) -> Plan {
    let first = calls[0];
    let size = calls.len();
    let root = first.root as usize;
    let bytes = first.bytes();
    let steps = |begin: u64, length: u64| {
        let to = (0..size).map(|r| at(r, Area::Receive(0), begin)).collect();
        spread(calls, at(root, Area::Send(0), begin), to, length)
    };
    if bytes <= ALONE {
        return alone(size, root, steps(0, bytes));
    }
    let work = turns(size, |rank| {
        let (begin, length) = slice(bytes, 1, size, rank);
        Turn {
            waits: all_but(rank, size),
            steps: steps(begin, length),
        }
    });
    vec![work, meet(size)]
}

/// Each rank takes what the others have for it. What is sent in place is set aside before.
fn all_to_all(calls: &[&Call]) -> Result<Plan, String> {
    let size = calls.len();
    for (to, receiver) in calls.iter().enumerate() {
        for (from, sender) in calls.iter().enumerate() {
            let (sent, room) = (sender.sends[to].bytes, receiver.receives[from].bytes);
            if sent != room {
                return Err(format!(
                    "rank {from} has {sent} bytes for rank {to}, which takes {room}"
                ));
            }
        }
    }
    // Where a sender has it.
    let source = |from: usize, to: usize| {
        let call = calls[from];
        if call.is_in_place() {
            let before = call.sends[..to].iter().map(|p| p.bytes).sum();
            at(from, Area::Scratch, before)
        } else {
            at(from, Area::Send(to), 0)
        }
    };
    let aside = turns(size, |rank| {
        let copies = |to: usize| Step::Copy {
            to: source(rank, to),
            from: at(rank, Area::Send(to), 0),
            bytes: calls[rank].sends[to].bytes,
        };
        let staged = calls[rank].is_in_place();
        Turn {
            waits: 0,
            steps: (0..size)
                .filter(|to| staged && calls[rank].sends[*to].bytes > 0)
                .map(copies)
                .collect(),
        }
    });
    let take = turns(size, |rank| Turn {
        waits: all_but(rank, size),
        steps: (0..size)
            .filter(|from| calls[rank].receives[*from].bytes > 0)
            .map(|from| Step::Copy {
                to: at(rank, Area::Receive(from), 0),
                from: source(from, rank),
                bytes: calls[rank].receives[from].bytes,
            })
            .collect(),
    });
    Ok(vec![aside, take, meet(size)])
}
