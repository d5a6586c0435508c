//! The fabric: the MLU-Link ports of all chips, and how near each chip is to each other. See `docs/hardware.md`, section 16.

use serde::Serialize;
use vmlu_abi::link;

use super::pcie::Place;
use super::snapshot::{DeviceSnapshot, PciAddress};

/// The chips of a machine, their ports, and what is between each two of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FabricSnapshot {
    /// The chips, in order of their numbers.
    pub chips: Vec<FabricChip>,
    /// `relations[i][j]`: what is between `chips[i]` and `chips[j]`.
    pub relations: Vec<Vec<Relation>>,
}

/// A chip in its fabric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FabricChip {
    /// Number of the chip.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// UUID of the chip.
    pub uuid: String,
    /// Serial number of the board, 16 hexadecimal digits.
    pub serial: String,
    /// Index of the chip on its board.
    pub chip: u32,
    /// Where it sits.
    pub pci: PciAddress,
    /// NUMA node; -1 if it belongs to none.
    pub numa_node: i32,
    /// Processors near to the chip as a list such as `0-7,16-23`; `None` if the system does not say.
    pub cpu_affinity: Option<String>,
    /// Its ports; `None` if the chip is lost.
    pub ports: Option<Vec<PortSnapshot>>,
}

/// An MLU-Link port at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortSnapshot {
    /// Index of the port on its chip.
    pub port: u32,
    /// What it is doing.
    pub state: LinkState,
    /// Bytes/s that it moves in one direction as it runs now; 0 while it is down.
    pub bytes_per_second: u64,
    /// Lanes that it runs with.
    pub lanes: u32,
    /// Lanes that it has.
    pub max_lanes: u32,
    /// The other end; `None` if nothing is plugged in.
    pub remote: Option<RemotePort>,
    /// What it counted since the server of the chip started.
    pub counters: PortCounters,
}

/// The other end of a cable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemotePort {
    /// Number of the chip, if it is one of this machine.
    pub card: Option<u32>,
    /// Serial number of its board, 16 hexadecimal digits.
    pub serial: String,
    /// Index of the chip on its board.
    pub chip: u32,
    /// Index of the port there.
    pub port: u32,
}

/// What a port is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Nothing is plugged in.
    Absent,
    /// The link does not train.
    Down,
    /// It runs.
    Up,
    /// It runs on fewer lanes than it has.
    Degraded,
}

impl LinkState {
    /// Whether bytes can go through.
    pub fn runs(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// What a port counted. *Read* is what the chip received over it, *written* what it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// Bytes received.
    pub read_bytes: u64,
    /// Packets received.
    pub read_packets: u64,
    /// Bytes sent.
    pub written_bytes: u64,
    /// Packets sent.
    pub written_packets: u64,
    /// Packets that were sent again.
    pub replays: u64,
    /// Errors that took the link down.
    pub fatal: u64,
    /// Double-bit errors of the port's memory.
    pub ecc_double: u64,
    /// CRC errors of the 24-bit sum.
    pub crc24: u64,
    /// CRC errors of the 32-bit sum.
    pub crc32: u64,
    /// Errors that were corrected.
    pub corrected: u64,
    /// Errors that were not.
    pub uncorrected: u64,
    /// Accesses that the other end refused.
    pub illegal: u64,
    /// How often the link went down.
    pub downs: u64,
}

/// How near two chips are over PCIe. The numbers are those of the vendor's enumeration of topology relationships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Level {
    /// The same chip.
    Same = 0,
    /// Chips of one board.
    Internal = 1,
    /// One PCIe switch is between them.
    Single = 2,
    /// Several PCIe switches are, but no host bridge.
    Multiple = 3,
    /// A host bridge is.
    HostBridge = 4,
    /// Several host bridges of one NUMA node are.
    Cpu = 5,
    /// They are on different NUMA nodes.
    System = 6,
}

/// What is between two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// How near they are over PCIe.
    pub level: Level,
    /// MLU-Links that join them.
    pub links: u32,
    /// Those that run.
    pub links_up: u32,
    /// Bytes/s that these move in one direction.
    pub bytes_per_second: u64,
}

/// The fabric of chips whose ports were read, and which sit at these places.
pub(super) fn snapshot(
    chips: &[DeviceSnapshot],
    ports: Vec<Option<Vec<link::Port>>>,
    places: &[Place],
) -> FabricSnapshot {
    let chips: Vec<FabricChip> = chips
        .iter()
        .zip(places)
        .zip(ports)
        .map(|((chip, place), read)| FabricChip {
            index: chip.index,
            name: chip.name.clone(),
            uuid: chip.uuid.clone(),
            serial: chip.serial.clone(),
            chip: chip.chip,
            pci: chip.pci,
            numa_node: chip.numa_node,
            cpu_affinity: place.processors.clone(),
            ports: read.map(|ports| ports.iter().map(|p| port(p, chips)).collect()),
        })
        .collect();
    let relations = (0..chips.len())
        .map(|a| {
            (0..chips.len())
                .map(|b| relation(&chips, places, a, b))
                .collect()
        })
        .collect();
    FabricSnapshot { chips, relations }
}

fn port(read: &link::Port, chips: &[DeviceSnapshot]) -> PortSnapshot {
    let state = match link::PortState::from_raw(read.state) {
        Some(link::PortState::Absent) => LinkState::Absent,
        Some(link::PortState::Up) => LinkState::Up,
        Some(link::PortState::Degraded) => LinkState::Degraded,
        // A state that this runtime does not know moves nothing that it could tell of.
        Some(link::PortState::Down) | None => LinkState::Down,
    };
    let serial = format!("{:016x}", read.remote_serial);
    let card = chips
        .iter()
        .find(|c| c.serial == serial && c.chip == read.remote_chip)
        .map(|c| c.index);
    PortSnapshot {
        port: read.port,
        state,
        bytes_per_second: read.rate,
        lanes: read.lanes,
        max_lanes: read.max_lanes,
        remote: (state != LinkState::Absent).then_some(RemotePort {
            card,
            serial,
            chip: read.remote_chip,
            port: read.remote_port,
        }),
        counters: PortCounters {
            read_bytes: read.read_bytes,
            read_packets: read.read_packets,
            written_bytes: read.written_bytes,
            written_packets: read.written_packets,
            replays: read.replays,
            fatal: read.fatal,
            ecc_double: read.ecc_double,
            crc24: read.crc24,
            crc32: read.crc32,
            corrected: read.corrected,
            uncorrected: read.uncorrected,
            illegal: read.illegal,
            downs: read.downs,
        },
    }
}

fn relation(chips: &[FabricChip], places: &[Place], a: usize, b: usize) -> Relation {
    let level = if a == b {
        Level::Same
    } else if chips[a].serial == chips[b].serial {
        Level::Internal
    } else {
        places[a].level(&places[b])
    };
    let joins = |port: &&PortSnapshot| {
        port.remote
            .as_ref()
            .is_some_and(|remote| remote.card == Some(chips[b].index))
    };
    let links: Vec<_> = chips[a].ports.iter().flatten().filter(joins).collect();
    let up = links.iter().filter(|port| port.state.runs());
    Relation {
        level,
        links: links.len() as u32,
        links_up: up.clone().count() as u32,
        bytes_per_second: up.map(|port| port.bytes_per_second).sum(),
    }
}
