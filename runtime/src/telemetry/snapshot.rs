//! What a monitor sees of a chip: plain data, ready to print or to serialise.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vmlu_abi::model::{CardModel, MODELS};
use vmlu_abi::telemetry::incident;

const MIB: u64 = 1 << 20;

/// A chip at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceSnapshot {
    /// Number of the chip: `N` of `/dev/mluN` and of `cnmon -c N`.
    pub index: u32,
    /// Product name, such as `MLU370-X8`.
    pub name: String,
    /// UUID of the chip, 8-4-4-4-12 hexadecimal digits.
    pub uuid: String,
    /// Serial number of the board, 16 hexadecimal digits; its chips share it.
    pub serial: String,
    /// Index of the chip on its board.
    pub chip: u32,
    /// Chips of the board.
    pub chips_per_board: u32,
    /// Where it sits.
    pub pci: PciAddress,
    /// PCIe link of the chip.
    pub pcie_link: PcieLink,
    /// NUMA node; -1 if it belongs to none.
    pub numa_node: i32,
    /// Firmware version, such as `v1.1.6`.
    pub firmware_version: String,
    /// Driver version, such as `v0.1.0`; without a VM, that of the runtime.
    pub driver_version: String,
    /// Clusters.
    pub clusters: u32,
    /// IPU cores of all clusters.
    pub cores: u32,
    /// Health of chip and driver.
    pub health: Health,
    /// Who may use the chip.
    pub compute_mode: ComputeMode,
    /// What changes; `None` if the chip is lost and nothing can be read.
    pub live: Option<Live>,
    /// Processes that have contexts on the chip, in order of their ids.
    pub processes: Vec<ProcessUsage>,
}

/// Address space that the vendor's monitor shows for a chip, bytes.
pub const VIRTUAL_BYTES: u64 = 1 << 40;

impl DeviceSnapshot {
    /// What the chip's processes have mapped for it, in device and host memory, bytes.
    pub fn virtual_used_bytes(&self) -> u64 {
        let device = self.live.as_ref().map_or(0, |live| live.memory.used_bytes);
        let host = self.processes.iter().map(|p| p.host_memory_bytes);
        host.fold(device, u64::saturating_add)
    }

    /// The product; `None` if this runtime does not know it.
    pub fn model(&self) -> Option<&'static CardModel> {
        MODELS.iter().copied().find(|model| model.name == self.name)
    }
}

/// Everything about a chip that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Share of the last second in which the chip had work, percent.
    pub utilisation_percent: f64,
    /// Temperatures.
    pub temperature: Temperatures,
    /// Power.
    pub power: Power,
    /// Device memory.
    pub memory: Memory,
    /// Clocks.
    pub clocks: Clocks,
    /// Fan, percent; 0 on a passive board.
    pub fan_percent: u32,
    /// Memory errors.
    pub ecc: Ecc,
    /// What copies move over PCIe.
    pub transfers: Transfers,
    /// What holds the clock down.
    pub throttle: Throttle,
    /// What is wrong, the worst first.
    pub incidents: Vec<Incident>,
    /// What the chip has done since its firmware booted.
    pub counters: Counters,
}

/// PCI address, domain:bus:device.function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device.
    pub device: u8,
    /// Function.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04X}:{:02X}:{:02X}.{:X}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            let (rest, function) = text.split_once('.')?;
            let mut parts = rest
                .split(':')
                .map(|part| u32::from_str_radix(part, 16).ok());
            let (domain, bus, device) = (parts.next()??, parts.next()??, parts.next()??);
            Some(Self {
                domain,
                bus: bus.try_into().ok()?,
                device: device.try_into().ok()?,
                function: u8::from_str_radix(function, 16).ok()?,
            })
        };
        parse().ok_or_else(|| D::Error::custom(format!("{text} is not a PCI address")))
    }
}

/// PCIe link of a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcieLink {
    /// What the link has been trained to; `None` where there is no PCIe.
    pub current: Option<Link>,
    /// What the chip can do; `None` if it is not known.
    pub max: Option<Link>,
}

/// Speed and width of a PCIe link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Generation: 4 is 16 GT/s.
    pub generation: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Health of chip and driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The chip.
    pub device: DeviceHealth,
    /// The driver, or the runtime that takes its place.
    pub driver: DriverHealth,
}

/// Health of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceHealth {
    /// It works.
    Good,
    /// It answers, but says that something is wrong; see the xid in [`Counters`].
    Problem,
    /// It does not answer.
    Lost,
}

/// State of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverHealth {
    /// It serves the chip.
    Running,
    /// It is there, but has given the chip up.
    Stopped,
}

/// Who may use a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeMode {
    /// Any number of processes.
    #[default]
    Default,
    /// One process at a time.
    Exclusive,
    /// Nobody.
    Prohibited,
}

/// Bytes per second over the last second, as the host sees the chip: *from the host* is what the chip reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transfers {
    /// From the host to the chip, bytes/s.
    pub from_host_per_second: f64,
    /// From the chip to the host, bytes/s.
    pub to_host_per_second: f64,
}

/// What holds the clock of a chip down, and how often that happened since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// The power cap does.
    pub power_cap: bool,
    /// Heat does.
    pub heat: bool,
    /// A setting does.
    pub locked: bool,
    /// How often the chip got so hot that its clock was lowered.
    pub slowdowns: u32,
    /// How often it got so hot that it stopped.
    pub shutdowns: u32,
    /// Time under the power cap, ns.
    pub power_capped_ns: u64,
    /// Time slowed by heat, ns.
    pub heat_slowed_ns: u64,
}

/// Something that is wrong with a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incident {
    /// An uncorrectable memory error since the reset.
    MemoryUncorrected,
    /// It was so hot that it stopped; it works again after a reset.
    Overheated,
    /// The watchdog stopped a command, or an operator failed in the card, since the reset.
    Halted,
    /// It is so hot that its clock is lowered.
    Hot,
    /// Pages wait for a reset to be retired.
    RetirementPending,
    /// Correctable memory errors since the reset.
    MemoryCorrected,
    /// An MLU-Link with a cable does not run.
    LinkDown,
    /// An MLU-Link runs on fewer lanes than it has.
    LinkDegraded,
}

impl Incident {
    /// All of them with their bits, the worst first.
    const BITS: [(u32, Self); 8] = [
        (incident::MEMORY_UNCORRECTED, Self::MemoryUncorrected),
        (incident::OVERHEATED, Self::Overheated),
        (incident::HALTED, Self::Halted),
        (incident::HOT, Self::Hot),
        (incident::RETIREMENT_PENDING, Self::RetirementPending),
        (incident::MEMORY_CORRECTED, Self::MemoryCorrected),
        (incident::LINK_DOWN, Self::LinkDown),
        (incident::LINK_DEGRADED, Self::LinkDegraded),
    ];

    /// Those of a mask of `abi::telemetry::incident`.
    pub(super) fn of(mask: u32) -> Vec<Self> {
        let there = Self::BITS.iter().filter(|(bit, _)| mask & bit != 0);
        there.map(|(_, incident)| *incident).collect()
    }

    /// Whether a chip with it is not healthy; the others are warnings.
    pub fn is_fatal(self) -> bool {
        let mine = Self::BITS.iter().find(|(_, known)| *known == self);
        mine.is_some_and(|(bit, _)| bit & incident::FATAL != 0)
    }

    /// What is wrong, as a sentence without a stop.
    pub fn text(self) -> &'static str {
        match self {
            Self::MemoryUncorrected => "an uncorrectable memory error since the last reset",
            Self::Overheated => "the chip stopped because of heat; reset it once it is cool",
            Self::Halted => "a command hung or an operator failed since the last reset",
            Self::Hot => "heat lowers the clock",
            Self::RetirementPending => "memory pages wait for a reset to be retired",
            Self::MemoryCorrected => "correctable memory errors since the last reset",
            Self::LinkDown => "an MLU-Link is down",
            Self::LinkDegraded => "an MLU-Link runs on fewer lanes than it has",
        }
    }
}

/// Temperatures, °C.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// Board.
    pub board_c: f64,
    /// Chip.
    pub chip_c: f64,
    /// Memory.
    pub memory_c: f64,
}

/// Power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The whole board, W: what the chips that answer draw together. The board has one sensor, so its chips show the same value.
    pub board_w: f64,
    /// This chip's share, W.
    pub chip_w: f64,
    /// Cap of the board, W.
    pub cap_w: f64,
    /// The cap if none is set, and the highest that can be, W.
    pub default_cap_w: f64,
    /// The lowest cap that can be set, W.
    pub min_cap_w: f64,
    /// Energy that the chip has used since power-on, J.
    pub energy_j: f64,
}

/// Device memory that programs can use, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// Allocated.
    pub used_bytes: u64,
}

impl Memory {
    /// All of it, MiB.
    pub fn total_mib(&self) -> u64 {
        self.total_bytes / MIB
    }

    /// Allocated, MiB, rounded up: memory in use never shows as none.
    pub fn used_mib(&self) -> u64 {
        self.used_bytes.div_ceil(MIB)
    }

    /// What is left, MiB: used and free add up to the total.
    pub fn free_mib(&self) -> u64 {
        self.total_mib().saturating_sub(self.used_mib())
    }
}

/// Clocks, kHz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// IPU cores.
    pub ipu_khz: u32,
    /// Memory.
    pub memory_khz: u32,
    /// IPU cores if nothing holds them down.
    pub default_ipu_khz: u32,
    /// The lowest clock of the IPU cores that can be set.
    pub min_ipu_khz: u32,
    /// The highest.
    pub max_ipu_khz: u32,
}

/// Memory errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// True if ECC is on: the chip then offers the smaller memory of its model.
    pub enabled: bool,
    /// True if it will be on after the next reset.
    pub pending: bool,
    /// Errors that were corrected, since the last reset.
    pub corrected: u64,
    /// Errors that were not, since the last reset.
    pub uncorrected: u64,
    /// Errors that were corrected, since the board was made.
    pub corrected_total: u64,
    /// Errors that were not, since the board was made.
    pub uncorrected_total: u64,
    /// Pages that were taken out of use, or will be at the next reset.
    pub retired_pages: u64,
    /// Of these, the ones that correctable errors wore out.
    pub retired_corrected: u64,
    /// Of these, the ones that wait for a reset.
    pub retired_pending: u64,
}

/// What a chip has done since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Device clock, ns.
    pub device_ns: u64,
    /// Wall time for which the chip had work, ns.
    pub busy_ns: u64,
    /// Contexts that exist.
    pub contexts: u32,
    /// Queues that exist.
    pub queues: u32,
    /// Packets completed.
    pub packets: u64,
    /// Packets that failed or were cancelled.
    pub packets_failed: u64,
    /// Bytes that copies moved from the host.
    pub bytes_from_host: u64,
    /// Bytes that copies moved to the host.
    pub bytes_to_host: u64,
    /// Bytes that operators read and wrote in device memory.
    pub bytes_device: u64,
    /// Operations that operators did.
    pub operations: u64,
    /// Last xid; 0 if there was none.
    pub xid: u32,
    /// Xids.
    pub xid_count: u32,
    /// Kicks.
    pub kicks: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Firmware requests served.
    pub rpcs: u64,
    /// Resets since power-on.
    pub resets: u32,
    /// Events in the chip's log since power-on.
    pub events: u64,
}

/// A process that has contexts on a chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Its arguments; if they cannot be read, the name under which it opened the chip.
    pub command_line: Vec<String>,
    /// Contexts on this chip.
    pub contexts: u32,
    /// Queues on this chip.
    pub queues: u32,
    /// Device memory of this chip, bytes.
    pub memory_bytes: u64,
    /// Host memory mapped for this chip, bytes.
    pub host_memory_bytes: u64,
    /// Wall time for which its commands ran on this chip, ns.
    pub busy_ns: u64,
    /// Packets completed on this chip.
    pub packets: u64,
}

impl ProcessUsage {
    /// Device memory, MiB, rounded up.
    pub fn memory_mib(&self) -> u64 {
        self.memory_bytes.div_ceil(MIB)
    }

    /// The program, without its arguments.
    pub fn program(&self) -> &str {
        self.command_line.first().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_vendor_writes_them() {
        let address = PciAddress {
            domain: 0,
            bus: 0x3d,
            device: 0,
            function: 0,
        };
        assert_eq!(address.to_string(), "0000:3D:00.0");
        assert_eq!(serde_json::to_string(&address).unwrap(), "\"0000:3D:00.0\"");
    }

    #[test]
    fn used_and_free_memory_add_up() {
        let memory = Memory {
            total_bytes: 100 * MIB,
            used_bytes: MIB + 1,
        };
        assert_eq!((memory.used_mib(), memory.free_mib()), (2, 98));
        let over = Memory {
            total_bytes: MIB,
            used_bytes: 3 * MIB,
        };
        assert_eq!(over.free_mib(), 0);
    }
}
