//! `cnmon mlulink`: the MLU-Link ports of the cards.
//!
//! Scripts take the lines with one colon and look for `Enable` and `Disable` behind it, so neither word stands anywhere else.

use vmlu::telemetry::{FabricChip, LinkState, PortSnapshot};

use crate::cli::MlulinkOptions;
use crate::text::{key, UNKNOWN};

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Status,
    Remote,
    Traffic,
    Errors,
}

impl Section {
    /// All sections, as they are printed.
    pub(crate) const ALL: [Self; 4] = [Self::Status, Self::Remote, Self::Traffic, Self::Errors];

    fn head(self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Remote => "Remote",
            Self::Traffic => "Traffic",
            Self::Errors => "Errors",
        }
    }
}

/// The report on these cards.
pub(crate) fn render(chips: &[&FabricChip], options: &MlulinkOptions) -> String {
    let sections = options.sections();
    let mut out = String::new();
    for chip in chips {
        out += &format!("Card {}\n", chip.index);
        let Some(ports) = &chip.ports else {
            key(&mut out, 1, "MLU-Link", UNKNOWN);
            continue;
        };
        for section in &sections {
            out += &format!("    {}\n", section.head());
            for port in ports {
                write_port(&mut out, *section, port);
            }
        }
        if options.counters {
            ports.iter().for_each(|port| write_counters(&mut out, port));
        }
    }
    out
}

fn write_port(out: &mut String, section: Section, port: &PortSnapshot) {
    let name = format!("Port {}", port.port);
    let counters = &port.counters;
    let values: &[(&str, u64)] = match section {
        Section::Status => return key(out, 2, &name, status(port.state)),
        Section::Remote => {
            if let Some(text) = remote(port) {
                key(out, 2, &name, &text);
            }
            return;
        }
        Section::Traffic => &[
            ("Read Bytes", counters.read_bytes),
            ("Read Packages", counters.read_packets),
            ("Write Bytes", counters.written_bytes),
            ("Write Packages", counters.written_packets),
        ],
        Section::Errors => &[
            ("Replay", counters.replays),
            ("Fatal", counters.fatal),
            ("ECC Double", counters.ecc_double),
            ("CRC24", counters.crc24),
            ("CRC32", counters.crc32),
            ("Corrected", counters.corrected),
            ("Uncorrected", counters.uncorrected),
            ("Illegal Access", counters.illegal),
            ("Link Down", counters.downs),
        ],
    };
    // What nothing is plugged into counts nothing.
    if port.state == LinkState::Absent {
        return;
    }
    *out += &format!("        {name}\n");
    for (name, value) in values {
        key(out, 3, name, &value.to_string());
    }
}

/// All that a port counts.
fn write_counters(out: &mut String, port: &PortSnapshot) {
    let counters = &port.counters;
    *out += &format!("    Link {}:\n", port.port);
    for (name, value) in [
        ("cntr_read_byte", counters.read_bytes),
        ("cntr_read_package", counters.read_packets),
        ("cntr_write_byte", counters.written_bytes),
        ("cntr_write_package", counters.written_packets),
        ("err_replay", counters.replays),
        ("err_fatal", counters.fatal),
        ("err_ecc_double", counters.ecc_double),
        ("err_crc24", counters.crc24),
        ("err_crc32", counters.crc32),
        ("err_corrected", counters.corrected),
        ("err_uncorrected", counters.uncorrected),
        ("err_illegal_access", counters.illegal),
    ] {
        key(out, 2, name, &value.to_string());
    }
}

/// What scripts look for; a port without a cable is neither.
fn status(state: LinkState) -> &'static str {
    match state {
        LinkState::Absent => "Not Connected",
        LinkState::Down => "Disable",
        LinkState::Up | LinkState::Degraded => "Enable",
    }
}

/// The other end, and how fast the link runs.
fn remote(port: &PortSnapshot) -> Option<String> {
    let remote = port.remote.as_ref()?;
    let card = match remote.card {
        Some(card) => format!("Card {card}"),
        None => format!("Board {} Chip {}", remote.serial, remote.chip),
    };
    Some(format!(
        "{card} Port {}, {}, {} of {} lanes",
        remote.port,
        rate(port.bytes_per_second),
        port.lanes,
        port.max_lanes
    ))
}

/// Bytes/s as people read them.
fn rate(bytes_per_second: u64) -> String {
    format!("{:.1} GB/s", bytes_per_second as f64 / 1e9)
}

/// The line that says what became of a port.
pub(crate) fn one_port(chip: &FabricChip, port: u32) -> Option<String> {
    let port = chip.ports.iter().flatten().find(|p| p.port == port)?;
    let state = match port.state {
        LinkState::Absent => "absent",
        LinkState::Down => "down",
        LinkState::Up => "up",
        LinkState::Degraded => "degraded",
    };
    let to = remote(port).map_or(String::new(), |text| format!(", to {text}"));
    Some(format!(
        "Card {} Port {} is {state}{to}\n",
        chip.index, port.port
    ))
}
