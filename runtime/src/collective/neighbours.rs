//! All-reduces that go from neighbour to neighbour: round a ring, and up and down a tree.

use super::call::Call;
use super::plan::{at, bit, slice, turns, Area, Place, Plan, Step, Turn};

fn combine(call: &Call, count: u64, inputs: [Place; 2], output: Place) -> Vec<Step> {
    let step = Step::Combine {
        function: call.function,
        dtype: call.dtype,
        count,
        inputs: inputs.to_vec(),
        outputs: vec![output],
    };
    (count > 0).then_some(step).into_iter().collect()
}

fn copy(to: Place, from: Place, bytes: u64) -> Vec<Step> {
    let step = Step::Copy { to, from, bytes };
    (bytes > 0).then_some(step).into_iter().collect()
}

/// Slices go round: each rank adds its own to what its left neighbour has of a slice, until it is whole; then each takes the whole slices from
/// its left neighbour.
///
/// A rank overwrites what its right neighbour reads only after as many phases as there are ranks less one, and each of these waited for the
/// phase before at the left: so the right one is past it.
pub(super) fn ring(call: &Call, order: &[usize]) -> Plan {
    let size = order.len();
    let element = call.dtype.size() as u64;
    let place = |rank: usize| order.iter().position(|r| *r == rank).unwrap_or_default();
    let beside = |rank: usize, steps: usize| order[(place(rank) + steps) % size];
    let part = |index: usize| {
        let (begin, count) = slice(call.count, element, size, index % size);
        (begin * element, count)
    };
    let mut plan = Plan::new();
    for step in 0..size - 1 {
        plan.push(turns(size, |rank| {
            let left = beside(rank, size - 1);
            let (begin, count) = part(place(rank) + 2 * size - step - 1);
            let theirs = match step {
                0 => Area::Send(0),
                _ => Area::Receive(0),
            };
            let inputs = [at(left, theirs, begin), at(rank, Area::Send(0), begin)];
            Turn {
                waits: bit(left),
                steps: combine(call, count, inputs, at(rank, Area::Receive(0), begin)),
            }
        }));
    }
    for step in 0..size - 1 {
        plan.push(turns(size, |rank| {
            let left = beside(rank, size - 1);
            let (begin, count) = part(place(rank) + size - step);
            let from = at(left, Area::Receive(0), begin);
            Turn {
                waits: bit(left),
                steps: copy(at(rank, Area::Receive(0), begin), from, count * element),
            }
        }));
    }
    plan.push(turns(size, |rank| Turn {
        waits: bit(beside(rank, 1)),
        steps: Vec::new(),
    }));
    plan
}

/// Two by two: the lower rank of each pair adds what the higher one has, of the lower ones again two by two. Down the same way the result is
/// taken.
pub(super) fn tree(call: &Call, size: usize) -> Plan {
    let own = |rank: usize, apart: usize| match apart {
        1 => Area::Send(0),
        // With a rank behind it, it has added something before.
        _ if rank + 1 < size => Area::Receive(0),
        _ => Area::Send(0),
    };
    let levels: Vec<usize> = (0..)
        .map(|level| 1 << level)
        .take_while(|apart| *apart < size)
        .collect();
    let mut plan = Plan::new();
    for &apart in &levels {
        plan.push(turns(size, |rank| {
            let other = rank + apart;
            if !rank.is_multiple_of(2 * apart) || other >= size {
                return Turn::default();
            }
            let inputs = [
                at(rank, own(rank, apart), 0),
                at(other, own(other, apart), 0),
            ];
            Turn {
                waits: bit(other),
                steps: combine(call, call.count, inputs, at(rank, Area::Receive(0), 0)),
            }
        }));
    }
    for &apart in levels.iter().rev() {
        plan.push(turns(size, |rank| {
            if rank % (2 * apart) != apart {
                return Turn::default();
            }
            let above = rank - apart;
            let from = at(above, Area::Receive(0), 0);
            Turn {
                waits: bit(above),
                steps: copy(at(rank, Area::Receive(0), 0), from, call.bytes()),
            }
        }));
    }
    plan.push(turns(size, |rank| Turn {
        waits: levels
            .iter()
            .map(|apart| (rank + apart, 2 * apart))
            .filter(|(below, span)| rank.is_multiple_of(*span) && *below < size)
            .fold(0, |mask, (below, _)| mask | bit(below)),
        steps: Vec::new(),
    }));
    plan
}

/// Steps in which a way round is looked for; more than a fabric of sixteen chips takes.
const SEARCH: u32 = 100_000;

/// All ranks in an order in which each is joined with the next and the last with the first, if there is one and it is found soon; else in
/// their own. Of the ranks that each rank is joined with, a bit each.
pub(super) fn round(joined: &[u32]) -> Vec<usize> {
    fn extend(joined: &[u32], path: &mut Vec<usize>, left: &mut u32) -> bool {
        let last = path[path.len() - 1];
        if path.len() == joined.len() {
            return joined[last] >> path[0] & 1 != 0;
        }
        for next in 0..joined.len() {
            if joined[last] >> next & 1 == 0 || path.contains(&next) || *left == 0 {
                continue;
            }
            *left -= 1;
            path.push(next);
            if extend(joined, path, left) {
                return true;
            }
            path.pop();
        }
        false
    }
    let mut path = vec![0];
    match extend(joined, &mut path, &mut { SEARCH }) {
        true => path,
        false => (0..joined.len()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmlu_abi::tensor::DataType;
    use vmlu_ops::combine::Function;

    use super::*;
    use crate::collective::algorithm::Algorithm;
    use crate::collective::call::Kind;

    const COUNT: u64 = 70;

    fn call() -> Call {
        Call {
            kind: Kind::AllReduce,
            function: Function::Sum,
            dtype: DataType::U32,
            root: 0,
            count: COUNT,
            algorithm: Algorithm::Direct,
            sends: Vec::new(),
            receives: Vec::new(),
            scratch: None,
        }
    }

    /// Memory of the ranks; in place what is sent and what is received are one.
    struct Ranks {
        in_place: bool,
        sends: Vec<Vec<u32>>,
        receives: Vec<Vec<u32>>,
    }

    impl Ranks {
        fn at(&mut self, place: &Place) -> &mut [u32] {
            let memory = match place.area {
                Area::Send(_) if !self.in_place => &mut self.sends,
                _ => &mut self.receives,
            };
            &mut memory[place.rank][(place.offset / 4) as usize..]
        }

        fn run(&mut self, step: &Step) {
            match step {
                Step::Combine {
                    count,
                    inputs,
                    outputs,
                    ..
                } => {
                    for i in 0..*count as usize {
                        let sum = inputs
                            .iter()
                            .fold(0u32, |sum, p| sum.wrapping_add(self.at(p)[i]));
                        outputs.iter().for_each(|p| self.at(p)[i] = sum);
                    }
                }
                Step::Copy { to, from, bytes } => {
                    for i in 0..(*bytes / 4) as usize {
                        let value = self.at(from)[i];
                        self.at(to)[i] = value;
                    }
                }
            }
        }
    }

    /// Runs a plan with turns in an order that its waits allow, drawn by `pick`. A rank whose turns are over spoils its memory at once, after
    /// its result was looked at: nobody may use it any more.
    fn simulate(plan: &Plan, size: usize, in_place: bool, mut pick: impl FnMut(usize) -> usize) {
        let sends: Vec<Vec<u32>> = (0..size as u32)
            .map(|r| {
                (0..COUNT as u32)
                    .map(|i| (i + 3).wrapping_mul(1 << r) ^ r)
                    .collect()
            })
            .collect();
        let sum = |i: usize| sends.iter().fold(0u32, |sum, v| sum.wrapping_add(v[i]));
        let expected: Vec<u32> = (0..COUNT as usize).map(sum).collect();
        let mut ranks = Ranks {
            in_place,
            receives: sends.clone(),
            sends: sends.clone(),
        };
        let mut done = vec![0; size];
        loop {
            let may = |rank: &usize| {
                let phase: usize = done[*rank];
                plan.get(phase).is_some_and(|turns| {
                    let waits = turns[*rank].waits;
                    (0..size).all(|r| waits >> r & 1 == 0 || done[r] >= phase)
                })
            };
            let able: Vec<usize> = (0..size).filter(may).collect();
            if able.is_empty() {
                break;
            }
            let rank = able[pick(able.len())];
            plan[done[rank]][rank]
                .steps
                .iter()
                .for_each(|step| ranks.run(step));
            done[rank] += 1;
            if done[rank] == plan.len() {
                assert_eq!(ranks.receives[rank], expected, "rank {rank} of {size}");
                ranks.receives[rank].fill(0xdead_0000);
                ranks.sends[rank].fill(0xdead_0000);
            }
        }
        assert!(
            done.iter().all(|phase| *phase == plan.len()),
            "a circle of waits: {done:?}"
        );
    }

    proptest! {
        #[test]
        fn every_order_of_turns_reduces(
            size in 2..=16_usize,
            in_place: bool,
            shuffle in any::<u64>(),
            picks in proptest::collection::vec(any::<usize>(), 64),
        ) {
            let mut order: Vec<usize> = (0..size).collect();
            order.rotate_left(shuffle as usize % size);
            order.swap(0, (shuffle >> 32) as usize % size);
            let mut turn = 0;
            let mut pick = |n: usize| {
                turn += 1;
                // One rank far ahead, or all mixed.
                picks[turn % picks.len()].rotate_left(turn as u32 / 64) % n
            };
            simulate(&ring(&call(), &order), size, in_place, &mut pick);
            simulate(&tree(&call(), size), size, in_place, &mut pick);
            simulate(&ring(&call(), &order), size, in_place, |_| 0);
            simulate(&tree(&call(), size), size, in_place, |n| n - 1);
        }
    }

    #[test]
    fn a_way_round_follows_links() {
        // Two chips of a board are joined, and boards in a ring by one link each.
        let joined = [
            0b1000_0010,
            0b101,
            0b1010,
            0b1_0100,
            0b10_1000,
            0b101_0000,
            0b1010_0000,
            0b100_0001,
        ];
        let ring = round(&joined);
        for (i, rank) in ring.iter().enumerate() {
            assert!(
                joined[*rank] >> ring[(i + 1) % ring.len()] & 1 != 0,
                "{ring:?}"
            );
        }
        // There is none: a star.
        assert_eq!(round(&[0b1110, 1, 1, 1]), [0, 1, 2, 3]);
    }
}
