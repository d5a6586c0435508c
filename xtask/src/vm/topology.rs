//! The PCIe tree of the boards, as QEMU arguments.

use std::path::Path;

use serde_json::{json, Value};

use super::config::{Config, CHIPS_A_BOARD};

/// The socket of chip `chip` in the server's folder.
pub fn socket(folder: &Path, chip: u32) -> std::path::PathBuf {
    folder.join(format!("chip{chip}.sock"))
}

/// First bus number of the root complexes of nodes; below are those of `pcie.0`.
const FIRST_BUS: u32 = 0x20;

/// Bus numbers below a root complex: the complex and a switch with its port, and for each board a switch with two chips.
const BUSES: [u32; 2] = [3, 4];

/// Chassis number of the first node's switch; those below are the boards'. Slot numbers are per chassis and must differ.
const NODE_CHASSIS: u32 = 100;

/// The `-device` objects of all boards. `nodes` is the host memory node of each: if there are several, each has a root complex of its own.
/// The boards of a complex sit behind one switch, or on a root port if there is only one; a board is a switch with two chips. Flat, each
/// chip has a root port.
pub fn devices(config: &Config, nodes: &[u32], sockets: &Path) -> Vec<Value> {
    let mut devices = Vec::new();
    let count = nodes.iter().max().map_or(0, |node| node + 1);
    let buses = |boards: &[u32]| BUSES[0] + BUSES[1] * boards.len() as u32;
    let of_nodes: Vec<Vec<u32>> = (0..count)
        .map(|node| {
            let of_node = |board: &u32| nodes[*board as usize] == node;
            (0..nodes.len() as u32).filter(of_node).collect()
        })
        .collect();
    // Linux finds the root complexes in the opposite order, and numbers the chips as it finds them.
    for node in (0..count).rev() {
        let boards = &of_nodes[node as usize];
        if boards.is_empty() {
            continue;
        }
        let complex = match count {
            1 => "pcie.0".to_owned(),
            _ => {
                let id = format!("node{node}");
                let before = of_nodes[..node as usize].iter();
                let bus_number = FIRST_BUS + before.map(|boards| buses(boards)).sum::<u32>();
                devices.push(json!({"driver": "pxb-pcie", "id": id, "bus": "pcie.0", "bus_nr": bus_number, "numa_node": node}));
                id
            }
        };
        match (config.flat, boards.as_slice()) {
            (true, boards) => boards
                .iter()
                .for_each(|board| flat(&mut devices, &complex, *board, sockets)),
            (false, [single]) => {
                let port = format!("port{single}");
                devices.push(root_port(&port, &complex, single + 1, 0));
                board(&mut devices, &port, *single, sockets);
            }
            (false, boards) => {
                let (port, switch) = (format!("first{node}"), format!("fan{node}"));
                let chassis = NODE_CHASSIS + node;
                devices.push(root_port(&port, &complex, chassis, 0));
                devices.push(json!({"driver": "x3130-upstream", "id": switch, "bus": port}));
                for (number, of_board) in boards.iter().enumerate() {
                    let slot = format!("slot{of_board}");
                    devices.push(json!({"driver": "xio3130-downstream", "id": slot, "bus": switch, "chassis": chassis,
                        "slot": number + 1}));
                    board(&mut devices, &slot, *of_board, sockets);
                }
            }
        }
    }
    devices
}

/// The `-device` object of a chip.
pub fn chip(chip: u32, bus: &str, sockets: &Path) -> Value {
    json!({
        "driver": "vfio-user-pci", "id": format!("chip{chip}"), "bus": bus, "rombar": 0,
        "socket": {"type": "unix", "path": socket(sockets, chip).display().to_string()},
    })
}

fn root_port(id: &str, complex: &str, chassis: u32, slot: u32) -> Value {
    json!({"driver": "pcie-root-port", "id": id, "bus": complex, "chassis": chassis, "slot": slot,
        "x-speed": "16", "x-width": "16"})
}

/// A board below a port: a switch with two chips. Chassis 0 is taken.
fn board(devices: &mut Vec<Value>, port: &str, board: u32, sockets: &Path) {
    let switch = format!("switch{board}");
    devices.push(json!({"driver": "x3130-upstream", "id": switch, "bus": port}));
    for half in 0..CHIPS_A_BOARD {
        let down = format!("down{board}.{half}");
        devices.push(
            json!({"driver": "xio3130-downstream", "id": down, "bus": switch, "chassis": board + 1,
            "slot": half + 1}),
        );
        devices.push(chip(board * CHIPS_A_BOARD + half, &down, sockets));
    }
}

/// A board's chips on root ports of their own.
fn flat(devices: &mut Vec<Value>, complex: &str, board: u32, sockets: &Path) {
    for number in board * CHIPS_A_BOARD..(board + 1) * CHIPS_A_BOARD {
        let port = format!("port{number}");
        devices.push(root_port(&port, complex, number + 1, number));
        devices.push(chip(number, &port, sockets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The devices with this driver.
    fn of<'a>(devices: &'a [Value], driver: &str) -> Vec<&'a Value> {
        devices.iter().filter(|d| d["driver"] == driver).collect()
    }

    fn tree(nodes: &[u32], flat: bool) -> Vec<Value> {
        let config = Config {
            boards: nodes.len() as u32,
            flat,
            ..Config::default()
        };
        devices(&config, nodes, Path::new("/run/vm"))
    }

    #[test]
    fn names_and_slots_are_used_once_and_buses_exist() {
        for nodes in [
            &[0][..],
            &[0, 0],
            &[1, 0],
            &[0, 0, 0, 0, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6, 7],
        ] {
            for flat in [false, true] {
                let devices = tree(nodes, flat);
                let mut names = HashSet::from(["pcie.0".to_owned()]);
                let mut slots = HashSet::new();
                for device in &devices {
                    let bus = device["bus"].as_str().unwrap();
                    assert!(names.contains(bus), "{bus}: {devices:?}");
                    assert!(names.insert(device["id"].as_str().unwrap().into()));
                    if let Some(chassis) = device["chassis"].as_u64() {
                        assert!(slots.insert((chassis, device["slot"].as_u64())));
                    }
                }
                assert_eq!(of(&devices, "vfio-user-pci").len(), 2 * nodes.len());
            }
        }
    }

    #[test]
    fn each_node_has_a_root_complex() {
        assert!(of(&tree(&[0, 0], false), "pxb-pcie").is_empty());
        let eight = tree(&[0, 0, 0, 0, 1, 1, 1, 1], false);
        let complexes = of(&eight, "pxb-pcie");
        assert_eq!(complexes.len(), 2);
        assert_eq!(
            (&complexes[0]["numa_node"], &complexes[1]["numa_node"]),
            (&1.into(), &0.into())
        );
        // Node 1 begins where the buses of node 0 have ended.
        let numbers: Vec<_> = complexes
            .iter()
            .map(|c| c["bus_nr"].as_u64().unwrap())
            .collect();
        assert!(numbers[0] - numbers[1] >= 19, "{numbers:?}");
        assert_eq!(of(&eight, "pcie-root-port").len(), 2);
        assert_eq!(of(&eight, "x3130-upstream").len(), 2 + 8);
    }
}
