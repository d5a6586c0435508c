//! The PCIe tree of the boards, as QEMU arguments.

use std::path::Path;

use serde_json::{json, Value};

use super::config::{Config, CHIPS_A_BOARD};

/// The socket of chip `chip` in the server's folder.
pub fn socket(folder: &Path, chip: u32) -> std::path::PathBuf {
    folder.join(format!("chip{chip}.sock"))
}

/// The `-device` objects of all boards: root port, switch, and two chips a board; or, flat, a root port a chip.
pub fn devices(config: &Config, sockets: &Path) -> Vec<Value> {
    if config.flat {
        flat(config, sockets)
    } else {
        boards(config, sockets)
    }
}

/// The `-device` object of a chip.
pub fn chip(chip: u32, bus: &str, sockets: &Path) -> Value {
    json!({
        "driver": "vfio-user-pci", "id": format!("chip{chip}"), "bus": bus, "rombar": 0,
        "socket": {"type": "unix", "path": socket(sockets, chip).display().to_string()},
    })
}

fn boards(config: &Config, sockets: &Path) -> Vec<Value> {
    let mut devices = Vec::new();
    for board in 0..config.boards {
        // Slot numbers are per chassis and must differ; chassis 0 is taken.
        let chassis = board + 1;
        let (port, switch) = (format!("port{board}"), format!("switch{board}"));
        devices.push(json!({"driver": "pcie-root-port", "id": port, "bus": "pcie.0", "chassis": chassis, "slot": 0,
            "x-speed": "16", "x-width": "16"}));
        devices.push(json!({"driver": "x3130-upstream", "id": switch, "bus": port}));
        for half in 0..CHIPS_A_BOARD {
            let down = format!("down{board}.{half}");
            devices.push(json!({"driver": "xio3130-downstream", "id": down, "bus": switch, "chassis": chassis,
                "slot": half + 1}));
            devices.push(chip(board * CHIPS_A_BOARD + half, &down, sockets));
        }
    }
    devices
}

fn flat(config: &Config, sockets: &Path) -> Vec<Value> {
    let mut devices = Vec::new();
    for number in 0..config.chips() {
        let port = format!("port{number}");
        devices.push(json!({"driver": "pcie-root-port", "id": port, "bus": "pcie.0", "chassis": number + 1, "slot": number,
            "x-speed": "16", "x-width": "16"}));
        devices.push(chip(number, &port, sockets));
    }
    devices
}
