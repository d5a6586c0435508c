//! Machines with boards of one device server, and the network between them.
//!
//! One starts the server, with spare boards; others join it. The links between the boards are the server's, whoever has them. The network
//! carries what their processes have to tell each other: each machine that may join has a cable to the first one, which is their hub.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::config::{Config, Join, CHIPS_A_BOARD};
use super::{topology, Vm};
use crate::problem::problem;

/// Puts the sockets of a joined server's chips where those of a server of its own would be.
pub fn sockets(join: &Join, chips: u32, run: &Path) -> Result<()> {
    for chip in 0..chips {
        let theirs = topology::socket(&join.folder, join.board * CHIPS_A_BOARD + chip);
        if !theirs.exists() {
            return Err(problem(
                "join another machine's device server",
                format!("{} is not there", theirs.display()),
                "start the other machine first, with as many --spare boards as are joined",
            ));
        }
        symlink(&theirs, topology::socket(run, chip)).context("cannot link a socket")?;
    }
    Ok(())
}

/// The socket of the cable to the machine whose first board is this one.
fn cable(folder: &Path, board: u32) -> PathBuf {
    folder.join(format!("net{board}"))
}

/// QEMU's arguments for the network.
pub fn network(config: &Config, run: &Path) -> Vec<String> {
    if !config.shares() {
        return Vec::new();
    }
    let mut arguments = Vec::new();
    let mut netdev = |text: String| arguments.extend(["-netdev".to_owned(), text]);
    let stream = |id: &str, path: &Path, server: &str| {
        let path = path.display().to_string().replace(',', ",,");
        format!("stream,id={id},server={server},addr.type=unix,addr.path={path}")
    };
    let board = match &config.join {
        Some(join) => {
            netdev(stream("nic", &cable(&join.folder, join.board), "off"));
            join.board
        }
        None => {
            for board in config.boards..config.boards + config.spare {
                netdev(stream(&format!("cable{board}"), &cable(run, board), "on"));
                netdev(format!(
                    "hubport,id=port{board},hubid=0,netdev=cable{board}"
                ));
            }
            netdev("hubport,id=nic,hubid=0".into());
            0
        }
    };
    let device = json!({"driver": "virtio-net-pci", "netdev": "nic", "bus": "pcie.0", "romfile": "",
        "mac": format!("52:54:00:37:00:{:02x}", board + 1)});
    arguments.extend(["-device".to_owned(), device.to_string()]);
    arguments
}

/// Brings the network up in the guest.
pub fn up(vm: &Vm) -> Result<()> {
    let address = vm.config().address();
    vm.ok(&format!(
        "modprobe virtio_net && nic=$(ls /sys/class/net | grep -v '^lo$') && ip link set lo up && \
         ip address add {address}/24 dev $nic && ip link set $nic up"
    ))
    .context("the network between machines does not come up")?;
    Ok(())
}
