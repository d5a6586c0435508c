//! `cnmon --query FIELDS --format csv`: one line a card, for programs.

use vmlu::telemetry::{ComputeMode, DeviceHealth, DeviceSnapshot, Live};

use crate::cli::Failure;
use crate::text::UNKNOWN;

/// A field: its name, its unit, and its value.
struct Field {
    name: &'static str,
    unit: &'static str,
    value: fn(&DeviceSnapshot) -> Option<String>,
}

/// A field of what changes; nothing where the card is lost.
fn live(card: &DeviceSnapshot, of: impl FnOnce(&Live) -> String) -> Option<String> {
    card.live.as_ref().map(of)
}

fn fixed(value: f64) -> String {
    format!("{value:.2}")
}

fn on(value: bool) -> String {
    if value { "Enabled" } else { "Disabled" }.into()
}

/// Declares the fields.
macro_rules! fields {
    ($( $name:literal, $unit:literal, |$card:ident| $value:expr; )*) => {
        &[ $( Field { name: $name, unit: $unit, value: |$card| $value }, )* ]
    };
}

/// All fields, in the order in which they are listed.
const FIELDS: &[Field] = fields! {
    "index", "", |c| Some(c.index.to_string());
    "name", "", |c| Some(c.name.clone());
    "uuid", "", |c| Some(c.uuid.clone());
    "serial", "", |c| Some(c.serial.clone());
    "chip", "", |c| Some(c.chip.to_string());
    "pci.bus_id", "", |c| Some(c.pci.to_string());
    "pcie.link.gen.current", "", |c| c.pcie_link.current.map(|l| l.generation.to_string());
    "pcie.link.gen.max", "", |c| c.pcie_link.max.map(|l| l.generation.to_string());
    "pcie.link.width.current", "", |c| c.pcie_link.current.map(|l| l.lanes.to_string());
    "pcie.link.width.max", "", |c| c.pcie_link.max.map(|l| l.lanes.to_string());
    "numa_node", "", |c| (c.numa_node >= 0).then(|| c.numa_node.to_string());
    "driver_version", "", |c| Some(c.driver_version.clone());
    "firmware_version", "", |c| Some(c.firmware_version.clone());
    "cores", "", |c| Some(c.cores.to_string());
    "health", "", |c| Some(match c.health.device {
        DeviceHealth::Good => "Good",
        DeviceHealth::Problem => "In Problem",
        DeviceHealth::Lost => "Lost",
    }.into());
    "compute_mode", "", |c| Some(compute_mode(c.compute_mode).into());
    "utilization.mlu", "%", |c| live(c, |l| format!("{:.0}", l.utilisation_percent));
    "memory.total", "MiB", |c| live(c, |l| l.memory.total_mib().to_string());
    "memory.used", "MiB", |c| live(c, |l| l.memory.used_mib().to_string());
    "memory.free", "MiB", |c| live(c, |l| l.memory.free_mib().to_string());
    "temperature.chip", "C", |c| live(c, |l| format!("{:.0}", l.temperature.chip_c));
    "temperature.board", "C", |c| live(c, |l| format!("{:.0}", l.temperature.board_c));
    "temperature.memory", "C", |c| live(c, |l| format!("{:.0}", l.temperature.memory_c));
    "fan.speed", "%", |c| live(c, |l| l.fan_percent.to_string());
    "power.draw", "W", |c| live(c, |l| fixed(l.power.board_w));
    "power.draw.chip", "W", |c| live(c, |l| fixed(l.power.chip_w));
    "power.limit", "W", |c| live(c, |l| fixed(l.power.cap_w));
    "power.default_limit", "W", |c| live(c, |l| fixed(l.power.default_cap_w));
    "power.min_limit", "W", |c| live(c, |l| fixed(l.power.min_cap_w));
    "energy", "J", |c| live(c, |l| fixed(l.power.energy_j));
    "clocks.mlu", "MHz", |c| live(c, |l| (l.clocks.ipu_khz / 1000).to_string());
    "clocks.memory", "MHz", |c| live(c, |l| (l.clocks.memory_khz / 1000).to_string());
    "throttle.power_cap", "", |c| live(c, |l| on(l.throttle.power_cap));
    "throttle.heat", "", |c| live(c, |l| on(l.throttle.heat));
    "throttle.locked", "", |c| live(c, |l| on(l.throttle.locked));
    "pcie.rx", "MB/s", |c| live(c, |l| fixed(l.transfers.from_host_per_second / 1e6));
    "pcie.tx", "MB/s", |c| live(c, |l| fixed(l.transfers.to_host_per_second / 1e6));
    "pcie.rx.total", "B", |c| live(c, |l| l.counters.bytes_from_host.to_string());
    "pcie.tx.total", "B", |c| live(c, |l| l.counters.bytes_to_host.to_string());
    "ecc.mode.current", "", |c| live(c, |l| on(l.ecc.enabled));
    "ecc.mode.pending", "", |c| live(c, |l| on(l.ecc.pending));
    "ecc.errors.corrected.volatile", "", |c| live(c, |l| l.ecc.corrected.to_string());
    "ecc.errors.corrected.aggregate", "", |c| live(c, |l| l.ecc.corrected_total.to_string());
    "ecc.errors.uncorrected.volatile", "", |c| live(c, |l| l.ecc.uncorrected.to_string());
    "ecc.errors.uncorrected.aggregate", "", |c| live(c, |l| l.ecc.uncorrected_total.to_string());
    "retired_pages.count", "", |c| live(c, |l| l.ecc.retired_pages.to_string());
    "retired_pages.pending", "", |c| live(c, |l| l.ecc.retired_pending.to_string());
    "xid.last", "", |c| live(c, |l| l.counters.xid.to_string());
    "xid.count", "", |c| live(c, |l| l.counters.xid_count.to_string());
    "processes", "", |c| Some(c.processes.len().to_string());
    "packets", "", |c| live(c, |l| l.counters.packets.to_string());
};

/// Name of a compute mode, as the table has it.
pub(crate) fn compute_mode(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "Default",
        ComputeMode::Exclusive => "Exclusive",
        ComputeMode::Prohibited => "Prohibited",
    }
}

/// The names of all fields, one a line.
pub(crate) fn names() -> String {
    FIELDS
        .iter()
        .map(|field| format!("{}\n", field.name))
        .collect()
}

/// The lines for these cards.
pub(crate) fn render(
    cards: &[&DeviceSnapshot],
    wanted: &str,
    format: &str,
) -> Result<String, Failure> {
    let mut fields = Vec::new();
    for name in wanted.split(',').map(str::trim) {
        match FIELDS.iter().find(|field| field.name == name) {
            Some(field) => fields.push(field),
            None => return Err(Failure::no_field(name)),
        }
    }
    let (mut header, mut units) = (true, true);
    for word in format.split(',').map(str::trim) {
        match word {
            "csv" => {}
            "noheader" => header = false,
            "nounits" => units = false,
            _ => return Err(Failure::no_format(word)),
        }
    }
    let mut out = String::new();
    if header {
        let heads = fields.iter().map(|field| match field.unit {
            "" => field.name.to_owned(),
            unit => format!("{} [{unit}]", field.name),
        });
        out += &heads.collect::<Vec<_>>().join(", ");
        out += "\n";
    }
    for card in cards {
        let values = fields.iter().map(|field| match (field.value)(card) {
            None => UNKNOWN.to_owned(),
            Some(value) if units && !field.unit.is_empty() => format!("{value} {}", field.unit),
            Some(value) => value,
        });
        out += &values.collect::<Vec<_>>().join(", ");
        out += "\n";
    }
    Ok(out)
}
