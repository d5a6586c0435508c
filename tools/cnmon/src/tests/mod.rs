//! Tests of the views on given cards.

mod commands;
mod fabric;
mod layout;
mod parsers;

use clap::Parser;
use vmlu::telemetry::{
    Clocks, ComputeMode, Counters, DeviceHealth, DeviceSnapshot, DriverHealth, Ecc, Health, Link,
    Live, Memory, PciAddress, PcieLink, Power, ProcessUsage, Temperatures, Throttle, Transfers,
};

use crate::cli::{Cli, Failure};
use crate::{show, Seen};

/// The table of two idle chips of an X8 board, as the vendor's monitor prints it.
const SAMPLE_TABLE: &str = "\
+------------------------------------------------------------------------------+
| CNMON v5.10.13                                               Driver v5.10.13 |
+-------------------------------+----------------------+-----------------------+
| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |
| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | SR-IOV   Compute-Mode |
|===============================+======================+=======================|
| 0     /   MLU370-X8    v1.1.6 |         0000:39:00.0 | 0%                N/A |
|  0%   32C        106 W/ 250 W |     0 MiB/ 23374 MiB | N/A           Default |
+-------------------------------+----------------------+-----------------------+
| 1     /   MLU370-X8    v1.1.6 |         0000:3D:00.0 | 0%                N/A |
|  0%   39C        106 W/ 250 W |     0 MiB/ 23374 MiB | N/A           Default |
+-------------------------------+----------------------+-----------------------+

+------------------------------------------------------------------------------+
| Processes:                                                                   |
|  Card  MI  PID     Command Line                             MLU Memory Usage |
|==============================================================================|
|  No running processes found                                                  |
+------------------------------------------------------------------------------+
";

/// An idle chip.
fn card(index: u32, bus: u8, chip_c: f64) -> DeviceSnapshot {
    DeviceSnapshot {
        index,
        name: "MLU370-X8".into(),
        uuid: format!("54000000-0000-0001-0000-0000000000{index:02x}"),
        serial: "5400000000000001".into(),
        chip: index,
        chips_per_board: 2,
        pci: PciAddress {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        },
        pcie_link: PcieLink {
            current: Some(Link {
                generation: 4,
                lanes: 16,
            }),
            max: Some(Link {
                generation: 4,
                lanes: 16,
            }),
        },
        numa_node: -1,
        firmware_version: "v1.1.6".into(),
        driver_version: "v5.10.13".into(),
        clusters: 4,
        cores: 16,
        health: Health {
            device: DeviceHealth::Good,
            driver: DriverHealth::Running,
        },
        compute_mode: ComputeMode::Default,
        live: Some(Live {
            utilisation_percent: 0.4,
            temperature: Temperatures {
                board_c: 31.6,
                chip_c,
                memory_c: 34.0,
            },
            power: Power {
                board_w: 106.2,
                chip_w: 53.1,
                cap_w: 250.0,
                default_cap_w: 250.0,
                min_cap_w: 100.0,
                energy_j: 12.5,
            },
            memory: Memory {
                total_bytes: 23374 << 20,
                used_bytes: 0,
            },
            clocks: Clocks {
                ipu_khz: 1_000_000,
                memory_khz: 3_200_000,
                default_ipu_khz: 1_000_000,
                min_ipu_khz: 200_000,
                max_ipu_khz: 1_300_000,
            },
            fan_percent: 0,
            ecc: Ecc::default(),
            transfers: Transfers::default(),
            throttle: Throttle::default(),
            incidents: Vec::new(),
            counters: Counters::default(),
        }),
        processes: Vec::new(),
    }
}

fn process(pid: u32, command: &[&str], mib: u64) -> ProcessUsage {
    ProcessUsage {
        pid,
        uid: 0,
        command_line: command.iter().map(|s| s.to_string()).collect(),
        contexts: 1,
        queues: 1,
        memory_bytes: mib << 20,
        host_memory_bytes: 0,
        busy_ns: 0,
        packets: 0,
    }
}

/// The two chips of [`SAMPLE_TABLE`].
fn idle_board() -> Seen {
    Seen {
        transport: "kernel".into(),
        cards: vec![card(0, 0x39, 32.0), card(1, 0x3d, 39.0)],
        fabric: None,
    }
}

/// The same board at work: card 0 with two processes, card 1 with one and with ECC on.
pub(crate) fn busy_board() -> Seen {
    let mut seen = idle_board();
    let live = seen.cards[0].live.as_mut().unwrap();
    live.utilisation_percent = 99.6;
    live.temperature.chip_c = 77.5;
    live.power.board_w = 243.7;
    live.memory.used_bytes = 17320 << 20;
    seen.cards[0].processes = vec![
        process(
            101_934,
            &["/torch/venv3/pytorch_infer/bin/python", "train.py"],
            15829,
        ),
        process(7, &["a b"], 1491),
    ];
    let live = seen.cards[1].live.as_mut().unwrap();
    live.ecc = Ecc {
        enabled: true,
        corrected: 4,
        uncorrected: 3,
        retired_pages: 1,
        ..Ecc::default()
    };
    live.memory = Memory {
        total_bytes: 20638 << 20,
        used_bytes: 1,
    };
    seen.cards[1].processes = vec![process(
        4_194_304,
        &["/opt/a/very/long/path/that/does/not/fit/in/the/column/digits"],
        1,
    )];
    seen
}

fn cnmon(seen: &Seen, arguments: &[&str]) -> Result<String, Failure> {
    show(&Cli::parse_from([&["cnmon"], arguments].concat()), seen)
}

fn output(seen: &Seen, arguments: &[&str]) -> String {
    cnmon(seen, arguments).unwrap_or_else(|failure| panic!("cnmon {arguments:?}: {failure:?}"))
}
