//! What monitors see.

use std::time::{Duration, Instant};

use vmlu::abi::model;
use vmlu::abi::packet::op;
use vmlu::abi::pci::VENDOR_ID;
use vmlu::abi::rpc::Fault;

use super::{Bench, Check};

pub(super) fn identity(bench: &Bench) -> Check {
    let info = bench.transport.info(bench.device)?;
    let model = model::by_id(info.info.model).ok_or("unknown model")?;
    assert_eq!(
        (info.pci_vendor_id, info.pci_device_id, info.alive),
        (VENDOR_ID, model.pci_device, 1)
    );
    assert_eq!(info.info.name[..model.name.len()], *model.name.as_bytes());
    assert_eq!(info.info.serial >> 56, u64::from(model.board_id));
    assert_eq!(
        (info.info.memory_bytes, info.info.clusters),
        (model.memory_bytes, model.clusters)
    );
    assert_eq!(bench.context()?.info().info, info.info);
    Ok(())
}

pub(super) fn load_shows(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let idle = bench.transport.telemetry(bench.device)?;
    let _fault = bench.inject(Fault::Delay, op::NOP, 1, 0, 400_000)?;
    let value = queue.nop()?;
    std::thread::sleep(Duration::from_millis(300));
    let loaded = bench.transport.telemetry(bench.device)?;
    queue.wait(value)?;
    assert_eq!(loaded.busy, 1);
    assert!(
        loaded.utilisation.value_milli > idle.utilisation.value_milli + 10_000,
        "{loaded:?}"
    );
    assert!(
        loaded.power.value_milli > idle.power.value_milli,
        "{loaded:?}"
    );
    let start = Instant::now();
    while bench
        .transport
        .telemetry(bench.device)?
        .utilisation
        .value_milli
        > 5_000
    {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the load does not go away"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(bench.transport.telemetry(bench.device)?.packets > idle.packets);
    Ok(())
}

pub(super) fn memory_is_accounted(bench: &Bench) -> Check {
    let context = bench.context()?;
    let before = bench.transport.telemetry(bench.device)?;
    let buffer = context.alloc(64 << 20)?;
    let during = bench.transport.telemetry(bench.device)?;
    assert_eq!(during.memory_used, before.memory_used + (64 << 20));
    drop(buffer);
    let after = bench.transport.telemetry(bench.device)?;
    assert_eq!(
        (after.memory_used, after.memory_total),
        (before.memory_used, context.info().info.memory_available)
    );
    Ok(())
}

pub(super) fn processes_are_listed(bench: &Bench) -> Check {
    let context = bench.context()?;
    let _buffer = context.alloc(32 << 20)?;
    let mine = |list: Vec<vmlu::abi::rpc::Process>| {
        list.into_iter()
            .filter(|p| p.pid == std::process::id() && p.memory >= 32 << 20)
            .count()
    };
    assert_eq!(mine(bench.transport.processes(bench.device)?), 1);
    drop((_buffer, context));
    assert_eq!(mine(bench.transport.processes(bench.device)?), 0);
    Ok(())
}

pub(super) fn heat(bench: &Bench) -> Check {
    let before = bench.transport.telemetry(bench.device)?.temp_chip;
    let _fault = bench.inject(Fault::Heat, 0, 1, 0, 40_000)?;
    std::thread::sleep(Duration::from_millis(200));
    let after = bench.transport.telemetry(bench.device)?.temp_chip;
    assert!(
        after.target_milli >= before.target_milli + 40_000,
        "{after:?}"
    );
    assert!(
        after.value_milli > before.value_milli,
        "{before:?} {after:?}"
    );
    Ok(())
}

pub(super) fn ecc_counts(bench: &Bench) -> Check {
    let before = bench.transport.telemetry(bench.device)?.ecc_corrected;
    let _fault = bench.inject(Fault::EccCorrected, 0, 1, 0, 3)?;
    assert_eq!(
        bench.transport.telemetry(bench.device)?.ecc_corrected,
        before + 3
    );
    Ok(())
}
