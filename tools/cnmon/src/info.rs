//! `cnmon info`: the cards as keys and values.

use vmlu::telemetry::{
    DeviceHealth, DeviceSnapshot, DriverHealth, Link, Live, Throttle, Transfers, VIRTUAL_BYTES,
};

use crate::instances;
use crate::query::compute_mode;
use crate::text::{self, harmless, or_unknown, whole, UNKNOWN};

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// What the card is: it leads whatever else is asked for, as scripts take any report for the list of cards.
    Identity,
    Serial,
    Health,
    Utilization,
    Temperature,
    Memory,
    VirtualMemory,
    /// Memory of kinds that this card does not have.
    OtherMemory,
    Bandwidth,
    Ecc,
    Crc,
    Retired,
    Remapping,
    Power,
    Frequency,
    Throttling,
    Fan,
    Mode,
    Instances,
    Pci,
    Throughput,
    Chassis,
    Processes,
}

impl Section {
    /// All sections, as they are printed.
    pub(crate) const ALL: [Self; 23] = [
        Self::Identity,
        Self::Serial,
        Self::Health,
        Self::Utilization,
        Self::Temperature,
        Self::Memory,
        Self::VirtualMemory,
        Self::OtherMemory,
        Self::Bandwidth,
        Self::Ecc,
        Self::Crc,
        Self::Retired,
        Self::Remapping,
        Self::Power,
        Self::Frequency,
        Self::Throttling,
        Self::Fan,
        Self::Mode,
        Self::Instances,
        Self::Pci,
        Self::Throughput,
        Self::Chassis,
        Self::Processes,
    ];
}

/// The report on these sections.
pub(crate) fn render(version: &str, cards: &[&DeviceSnapshot], sections: &[Section]) -> String {
    let mut report = Report(format!(
        "================CNMON {}================\n",
        harmless(version)
    ));
    for card in cards {
        report.0 += &format!("Card {}\n", card.index);
        for section in sections {
            report.section(card, *section);
        }
    }
    report.0
}

struct Report(String);

impl Report {
    fn section(&mut self, card: &DeviceSnapshot, section: Section) {
        let live = card.live.as_ref();
        match section {
            Section::Identity => {
                self.key(1, "Product Name", &card.name);
                self.key(1, "UUID", &card.uuid);
                self.key(1, "Driver", &card.driver_version);
            }
            Section::Serial => {
                self.key(1, "Serial Number", &card.serial);
                self.key(1, "Firmware", &card.firmware_version);
            }
            Section::Health => self.health(card),
            Section::Utilization => {
                self.head(1, "Utilization");
                self.quantity(
                    2,
                    "MLU Average",
                    live.map(|l| whole(l.utilisation_percent)),
                    "%",
                );
            }
            Section::Temperature => {
                self.head(1, "Temperature");
                self.quantity(2, "Board", live.map(|l| whole(l.temperature.board_c)), "C");
                self.quantity(2, "Chip", live.map(|l| whole(l.temperature.chip_c)), "C");
                self.quantity(
                    2,
                    "Memory",
                    live.map(|l| whole(l.temperature.memory_c)),
                    "C",
                );
            }
            Section::Memory => {
                self.head(1, "Physical Memory Usage");
                self.quantity(2, "Total", live.map(|l| l.memory.total_mib()), "MiB");
                self.quantity(2, "Used", live.map(|l| l.memory.used_mib()), "MiB");
                self.quantity(2, "Free", live.map(|l| l.memory.free_mib()), "MiB");
            }
            Section::VirtualMemory => {
                let used = live.map(|_| card.virtual_used_bytes());
                self.head(1, "Virtual Memory Usage");
                self.quantity(2, "Total", used.map(|_| mib(VIRTUAL_BYTES)), "MiB");
                self.quantity(2, "Used", used.map(mib), "MiB");
            }
            Section::OtherMemory => {
                self.key(1, "Device System Memory Usage", UNKNOWN);
                self.key(1, "Fast Alloc Memory", UNKNOWN);
                self.key(1, "Channel Memory Usage", UNKNOWN);
            }
            Section::Bandwidth => {
                let bandwidth = card
                    .model()
                    .map(|model| model.memory_bandwidth as f64 / 1e9);
                self.quantity(1, "Memory Bandwidth", bandwidth.map(tenths), "GB/s");
            }
            // Scripts take anything but N/A as "ECC is on".
            Section::Ecc => self.key(
                1,
                "DDR ECC Err Count",
                &or_unknown(live.and_then(ecc_errors)),
            ),
            Section::Power => {
                self.head(1, "Power");
                self.quantity(2, "Usage", live.map(|l| whole(l.power.board_w)), "W");
                self.quantity(2, "Cap", live.map(|l| whole(l.power.cap_w)), "W");
            }
            Section::Frequency => {
                self.head(1, "Frequency");
                self.quantity(2, "MLU", live.map(|l| l.clocks.ipu_khz / 1000), "MHz");
                self.quantity(2, "DDR", live.map(|l| l.clocks.memory_khz / 1000), "MHz");
            }
            Section::Retired => {
                self.head(1, "Retired Pages");
                let count = |of: fn(&Live) -> u64| or_unknown(live.map(of));
                self.key(2, "Single Bit ECC", &count(|l| l.ecc.retired_corrected));
                self.key(
                    2,
                    "Double Bit ECC",
                    &count(|l| l.ecc.retired_pages.saturating_sub(l.ecc.retired_corrected)),
                );
                self.key(2, "Pending", &count(|l| l.ecc.retired_pending));
            }
            Section::Crc => self.key(1, "CRC Err Count", UNKNOWN),
            Section::Remapping => self.key(1, "Row-Remapping", UNKNOWN),
            Section::Throttling => {
                self.head(1, "Performance Throttle");
                let on = |of: fn(&Throttle) -> bool| {
                    live.map_or(UNKNOWN, |l| {
                        if of(&l.throttle) {
                            "Active"
                        } else {
                            "Inactive"
                        }
                    })
                };
                self.key(2, "Power Capping", on(|t| t.power_cap));
                self.key(2, "Thermal Slowdown", on(|t| t.heat));
                self.key(2, "Clock Setting", on(|t| t.locked));
            }
            Section::Fan => self.quantity(1, "Fan Speed", live.map(|l| l.fan_percent), "%"),
            Section::Mode => self.key(1, "Compute Mode", compute_mode(card.compute_mode)),
            Section::Instances => {
                self.key(1, "MIM Mode", instances::MODE);
                self.key(1, "sMLU Mode", instances::MODE);
            }
            Section::Pci => self.pci(card),
            Section::Throughput => {
                self.head(1, "PCIe Throughput");
                let rate = |of: fn(&Transfers) -> f64| live.map(|l| tenths(of(&l.transfers) / 1e6));
                self.quantity(2, "Read", rate(|t| t.from_host_per_second), "MB/s");
                self.quantity(2, "Write", rate(|t| t.to_host_per_second), "MB/s");
            }
            Section::Chassis => self.key(1, "Chassis", UNKNOWN),
            Section::Processes => self.processes(card),
        }
    }

    fn health(&mut self, card: &DeviceSnapshot) {
        let device = match card.health.device {
            DeviceHealth::Good => "Good",
            DeviceHealth::Problem => "In Problem",
            DeviceHealth::Lost => "Lost",
        };
        let driver = match card.health.driver {
            DriverHealth::Running => "Running",
            DriverHealth::Stopped => "Stopped",
        };
        self.head(1, "Health State");
        self.key(2, "Device", device);
        self.key(2, "Driver", driver);
    }

    fn pci(&mut self, card: &DeviceSnapshot) {
        self.head(1, "PCI");
        self.key(2, "Domain ID", &format!("{:04x}", card.pci.domain));
        self.key(2, "Bus num", &format!("{:02x}", card.pci.bus));
        self.key(2, "Device", &format!("{:02x}", card.pci.device));
        self.key(2, "Function", &format!("{:x}", card.pci.function));
        self.key(2, "Max Speed", &or_unknown(card.pcie_link.max.map(speed)));
        self.key(2, "Max Width", &or_unknown(card.pcie_link.max.map(width)));
        self.key(
            2,
            "Current Speed",
            &or_unknown(card.pcie_link.current.map(speed)),
        );
        self.key(
            2,
            "Current Width",
            &or_unknown(card.pcie_link.current.map(width)),
        );
    }

    fn processes(&mut self, card: &DeviceSnapshot) {
        if card.processes.is_empty() {
            return;
        }
        self.head(1, "Processes");
        for (number, process) in card.processes.iter().enumerate() {
            self.key(2, "Process", &number.to_string());
            self.key(3, "PID", &process.pid.to_string());
            self.key(3, "cmdline", process.program());
            self.quantity(3, "MLU Memory Usage", Some(process.memory_mib()), "MiB");
        }
    }

    fn head(&mut self, level: usize, key: &str) {
        text::head(&mut self.0, level, key);
    }

    fn key(&mut self, level: usize, key: &str, value: &str) {
        text::key(&mut self.0, level, key, &harmless(value));
    }

    fn quantity<T: std::fmt::Display>(
        &mut self,
        level: usize,
        key: &str,
        value: Option<T>,
        unit: &str,
    ) {
        let value = value.map_or(UNKNOWN.into(), |v| format!("{v} {unit}"));
        self.key(level, key, &value);
    }
}

/// MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// A number with one digit behind the point.
fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

/// All memory errors; `None` while ECC is off.
fn ecc_errors(live: &Live) -> Option<u64> {
    live.ecc
        .enabled
        .then(|| live.ecc.corrected.saturating_add(live.ecc.uncorrected))
}

/// Speed of a link as the vendor writes it: the number without a fraction of zero.
pub(crate) fn speed(link: Link) -> String {
    match link.generation {
        1 => "2.5 GT/s".into(),
        2 => "5 GT/s".into(),
        generation => format!("{} GT/s", 1u64 << generation.min(32)),
    }
}

/// Width of a link as the vendor writes it.
pub(crate) fn width(link: Link) -> String {
    format!("x{}", link.lanes)
}
