//! MLU-Link: ports, their states and counters, and what chips let each other do. See `docs/hardware.md`, section 16.

use super::Wire;

wire! {
    /// A port of a chip, as `rpc::Function::LinkPorts` reports it. Counters run since the server started; *read* is what the chip
    /// received over the port, *written* what it sent.
    pub struct Port : 192 {
        /// Index of the port on its chip.
        pub port: u32 = 0,
        /// A [`PortState`].
        pub state: u32 = 4,
        /// Bytes/s that the port moves in one direction as it runs now; 0 while it is down.
        pub rate: u64 = 8,
        /// Lanes that it runs with.
        pub lanes: u32 = 16,
        /// Lanes that it has.
        pub max_lanes: u32 = 20,
        /// Serial number of the board at the other end; 0 if there is none.
        pub remote_serial: u64 = 24,
        /// Index of the chip there on its board.
        pub remote_chip: u32 = 32,
        /// Index of the port there.
        pub remote_port: u32 = 36,
        /// Number of the chip there on its server, in the order of the topology.
        pub remote_number: u32 = 40,
        /// Zero.
        pub reserved0: u32 = 44,
        /// Bytes received.
        pub read_bytes: u64 = 48,
        /// Packets received.
        pub read_packets: u64 = 56,
        /// Bytes sent.
        pub written_bytes: u64 = 64,
        /// Packets sent.
        pub written_packets: u64 = 72,
        /// Packets that were sent again.
        pub replays: u64 = 80,
        /// Errors that took the link down.
        pub fatal: u64 = 88,
        /// Double-bit errors of the port's memory.
        pub ecc_double: u64 = 96,
        /// CRC errors of the 24-bit sum.
        pub crc24: u64 = 104,
        /// CRC errors of the 32-bit sum.
        pub crc32: u64 = 112,
        /// Errors that were corrected.
        pub corrected: u64 = 120,
        /// Errors that were not.
        pub uncorrected: u64 = 128,
        /// Accesses that the other end refused.
        pub illegal: u64 = 136,
        /// How often the link went down.
        pub downs: u64 = 144,
        /// CLOCK_MONOTONIC of the serving machine at the last change of state, ns.
        pub changed_ns: u64 = 152,
        /// Zero.
        pub reserved: [u64; 4] = 160,
    }
}

/// Bytes of a link packet's payload, by which packets are counted.
pub const PACKET: u64 = 256;
/// Lanes of a port.
pub const LANES: u32 = 4;

/// What a port is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PortState {
    /// Nothing is plugged in.
    Absent = 0,
    /// The link is down: it does not train.
    Down = 1,
    /// It runs.
    Up = 2,
    /// It runs on fewer lanes than it has.
    Degraded = 3,
}

impl PortState {
    /// The state that a number names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::Absent,
            1 => Self::Down,
            2 => Self::Up,
            3 => Self::Degraded,
            _ => return None,
        })
    }
}

/// How two chips reach each other's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PeerPath {
    /// Not at all.
    None = 0,
    /// It is the same chip.
    Same = 1,
    /// Over MLU-Link.
    Link = 2,
    /// Over PCIe.
    Pcie = 3,
}
