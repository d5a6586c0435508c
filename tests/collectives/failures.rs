//! Ranks that are missing, leave or disagree, and a link that is cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlu::abi::link::PortState;
use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::collective::{group, CliqueId, Communicator, Function};
use vmlu::transport::embedded::Embedded;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Status};

use crate::ranks;

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
