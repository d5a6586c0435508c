//! Ranks that are threads.

use vmlu::collective::{CliqueId, Communicator, Function};
use vmlu::transport::embedded::Embedded;
use vmlu::transport::Transport;
use vmlu::{Context, DataType};

use crate::LIMIT;

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
