//! Telemetry of a card at work, over the embedded transport.

use std::time::{Duration, Instant};

use vmlu::operators::MatmulOptions;
use vmlu::telemetry::{DeviceHealth, DeviceSnapshot, Monitor};
use vmlu::transport::{self, Transport};
use vmlu::{Context, DataType, Tensor};

/// The chip with this number, as a monitor sees it.
fn look(monitor: &Monitor, chip: usize) -> DeviceSnapshot {
    monitor
        .devices()
        .expect("the cards answer")
        .swap_remove(chip)
}

#[test]
fn a_monitor_sees_what_a_program_does() {
    let transport = transport::embedded::shared().expect("an embedded card");
    let monitor = Monitor::new(transport.clone());
    let idle = look(&monitor, 0);
    let before = idle.live.clone().expect("live data");
    assert_eq!(idle.health.device, DeviceHealth::Good);
    assert_eq!(
        (idle.name.as_str(), idle.clusters, idle.cores),
        ("MLU370-X8", 4, 16)
    );
    assert!(
        idle.processes.is_empty(),
        "a monitor opens no context: {:?}",
        idle.processes
    );
    assert_eq!(
        (before.memory.used_bytes, before.power.board_w.round()),
        (0, 106.0)
    );

    // Two contexts of this process on chip 0, none on chip 1.
    let contexts = [open(&*transport), open(&*transport)];
    let queue = contexts[0].queue().expect("a queue");
    let tensor = Tensor::zeros(&queue, DataType::F32, &[512, 512]).expect("memory");
    let out = Tensor::zeros(&queue, DataType::F32, &[512, 512]).expect("memory");
    let _other = contexts[1].alloc(8 << 20).expect("memory");
    let end = Instant::now() + Duration::from_millis(700);
    while Instant::now() < end {
        queue
            .matmul(&tensor, &tensor, &out, &MatmulOptions::default())
            .expect("a command");
        if queue.submitted() > queue.timeline() + 8 {
            queue.sync().expect("the commands run");
        }
    }
    let busy = look(&monitor, 0);
    let live = busy.live.expect("live data");
    assert!(live.utilisation_percent > 50.0, "{live:?}");
    assert!(
        live.power.chip_w > before.power.chip_w + 10.0 && live.power.board_w < live.power.cap_w,
        "{live:?}"
    );
    assert!(
        live.power.board_w > live.power.chip_w + 50.0,
        "the other chip counts: {live:?}"
    );
    assert!(
        live.temperature.chip_c > before.temperature.chip_c,
        "{live:?}"
    );
    assert!(
        live.memory.used_mib() >= 10 && live.counters.operations > 0,
        "{live:?}"
    );
    let [process] = busy.processes.as_slice() else {
        panic!("one process: {:?}", busy.processes)
    };
    assert_eq!((process.pid, process.contexts), (std::process::id(), 2));
    assert_eq!(process.command_line, std::env::args().collect::<Vec<_>>());
    assert!(
        process.memory_mib() >= 10 && process.busy_ns > 0,
        "{process:?}"
    );
    let neighbour = look(&monitor, 1);
    assert!(neighbour.processes.is_empty());
    let power = neighbour.live.expect("live data").power;
    assert!(
        power.board_w > power.chip_w + 50.0 && power.chip_w < 60.0,
        "idle, on a busy board: {power:?}"
    );

    drop((queue, tensor, out, _other, contexts));
    let after = look(&monitor, 0);
    assert!(after.processes.is_empty(), "{:?}", after.processes);
    assert_eq!(after.live.expect("live data").memory.used_bytes, 0);
}

fn open(transport: &dyn Transport) -> Context {
    Context::open_on(transport, 0).expect("a context")
}
