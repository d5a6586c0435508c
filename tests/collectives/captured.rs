//! Collectives in graphs.

use vmlu::collective::{group, Function};
use vmlu::transport::embedded::Embedded;
use vmlu::{Buffer, DataType, Status};

use crate::{ranks, Rank};

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
