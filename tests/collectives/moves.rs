//! What reduces nothing, or for some ranks only.

use vmlu::collective::{group, Function, Memory, Piece};
use vmlu::transport::embedded::Embedded;
use vmlu::{Buffer, DataType, Status};

use crate::values::reference;
use crate::{noise, ranks, Rank};

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
