//! `cnmon info`: the cards as keys and values.

use vmlu::telemetry::{DeviceHealth, DeviceSnapshot, DriverHealth, Link, Live};

use crate::text::{harmless, or_unknown, whole, UNKNOWN};

/// Column of the colon.
const COLON: usize = 35;

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Product,
    Uuid,
    Driver,
    Health,
    Utilization,
    Temperature,
    Memory,
    Ecc,
    Frequency,
    Retired,
    Power,
    Pci,
    Processes,
}

impl Section {
    /// All sections, as they are printed.
    pub(crate) const ALL: [Self; 13] = [
        Self::Product,
        Self::Uuid,
        Self::Driver,
        Self::Health,
        Self::Utilization,
        Self::Temperature,
        Self::Memory,
        Self::Ecc,
        Self::Retired,
        Self::Power,
        Self::Frequency,
        Self::Pci,
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
            Section::Product => self.key(1, "Product Name", &card.name),
            Section::Uuid => self.key(1, "UUID", &card.uuid),
            Section::Driver => self.key(1, "Driver", &card.driver_version),
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
            Section::Pci => self.pci(card),
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
        self.0 += &format!("{:<COLON$}:\n", indented(level, key));
    }

    fn key(&mut self, level: usize, key: &str, value: &str) {
        self.0 += &format!("{:<COLON$}: {}\n", indented(level, key), harmless(value));
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

fn indented(level: usize, key: &str) -> String {
    format!("{}{key}", "    ".repeat(level))
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
