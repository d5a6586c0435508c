//! `cnmon exporter`: the cards for Prometheus, with the names and labels of the vendor's exporter.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use vmlu::telemetry::{
    DeviceHealth, DeviceSnapshot, DriverHealth, FabricSnapshot, LinkState, Live,
};

/// Most bytes of a request.
const REQUEST: u64 = 16 << 10;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Text in a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The labels that all metrics of a card have.
fn labels(card: &DeviceSnapshot, node: &str) -> String {
    let version = |text: &str| escaped(text.trim_start_matches('v'));
    let kind = card
        .name
        .split('-')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    format!(
        "driver=\"{}\",mcu=\"{}\",mlu=\"{}\",model=\"{}\",node=\"{}\",node_ip=\"\",sn=\"{}\",type=\"{}\",uuid=\"MLU-{}\"",
        version(&card.driver_version),
        version(&card.firmware_version),
        card.index,
        escaped(&card.name),
        escaped(node),
        card.serial.trim_start_matches('0'),
        escaped(&kind),
        card.uuid,
    )
}

/// Metrics of a card that have no other labels: name, kind, help, value.
type Metric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&DeviceSnapshot, &Live) -> f64,
);

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

const MIB: f64 = (1u64 << 20) as f64;

const METRICS: &[Metric] = &[
    (
        "utilization",
        "gauge",
        "Utilisation of the card, percent",
        |_, l| l.utilisation_percent.round(),
    ),
    (
        "activity",
        "gauge",
        "Share of time in which the card had work, percent",
        |_, l| l.utilisation_percent.round(),
    ),
    (
        "temperature",
        "gauge",
        "Board temperature, celsius",
        |_, l| l.temperature.board_c.round(),
    ),
    (
        "chip_temperature",
        "gauge",
        "Chip temperature, celsius",
        |_, l| l.temperature.chip_c.round(),
    ),
    (
        "memory_temperature",
        "gauge",
        "Memory temperature, celsius",
        |_, l| l.temperature.memory_c.round(),
    ),
    ("memory_total", "gauge", "Memory, bytes", |_, l| {
        l.memory.total_mib() as f64 * MIB
    }),
    ("memory_used", "gauge", "Memory in use, bytes", |_, l| {
        l.memory.used_mib() as f64 * MIB
    }),
    (
        "memory_free",
        "gauge",
        "Memory that is free, bytes",
        |_, l| l.memory.free_mib() as f64 * MIB,
    ),
    (
        "memory_utilization",
        "gauge",
        "Memory in use, percent",
        |_, l| l.memory.used_mib() as f64 * 100.0 / (l.memory.total_mib() as f64).max(1.0),
    ),
    (
        "power_usage",
        "gauge",
        "Power of the board, watts",
        |_, l| l.power.board_w.round(),
    ),
    (
        "power_current_limit",
        "gauge",
        "Power cap, watts",
        |_, l| l.power.cap_w,
    ),
    (
        "power_default_limit",
        "gauge",
        "Power cap if none is set, watts",
        |_, l| l.power.default_cap_w,
    ),
    (
        "power_min_limit",
        "gauge",
        "Lowest power cap, watts",
        |_, l| l.power.min_cap_w,
    ),
    (
        "power_max_limit",
        "gauge",
        "Highest power cap, watts",
        |_, l| l.power.default_cap_w,
    ),
    ("fan_speed", "gauge", "Fan, percent", |_, l| {
        l.fan_percent.into()
    }),
    ("frequency", "gauge", "Clock, MHz", |_, l| {
        f64::from(l.clocks.ipu_khz / 1000)
    }),
    (
        "default_frequency",
        "gauge",
        "Clock if nothing holds it down, MHz",
        |_, l| f64::from(l.clocks.default_ipu_khz / 1000),
    ),
    ("ddr_frequency", "gauge", "Memory clock, MHz", |_, l| {
        f64::from(l.clocks.memory_khz / 1000)
    }),
    (
        "frequency_status",
        "gauge",
        "Whether the clock is locked",
        |_, l| flag(l.throttle.locked),
    ),
    (
        "thermal_slow_down",
        "gauge",
        "Whether heat lowers the clock",
        |_, l| flag(l.throttle.heat),
    ),
    (
        "over_temp_under_clock_total",
        "counter",
        "How often heat lowered the clock",
        |_, l| l.throttle.slowdowns.into(),
    ),
    (
        "over_temp_power_off_total",
        "counter",
        "How often heat stopped the chip",
        |_, l| l.throttle.shutdowns.into(),
    ),
    (
        "pcie_read_throughput",
        "gauge",
        "From the host, bytes a second",
        |_, l| l.transfers.from_host_per_second.round(),
    ),
    (
        "pcie_write_throughput",
        "gauge",
        "To the host, bytes a second",
        |_, l| l.transfers.to_host_per_second.round(),
    ),
    (
        "ecc_corrected_error_total",
        "counter",
        "Corrected memory errors",
        |_, l| l.ecc.corrected as f64,
    ),
    (
        "ecc_uncorrected_error_total",
        "counter",
        "Uncorrected memory errors",
        |_, l| l.ecc.uncorrected as f64,
    ),
    ("ecc_error_total", "counter", "Memory errors", |_, l| {
        (l.ecc.corrected + l.ecc.uncorrected) as f64
    }),
    ("ecc_current_mode", "gauge", "Whether ECC is on", |_, l| {
        flag(l.ecc.enabled)
    }),
    (
        "ecc_pending_mode",
        "gauge",
        "Whether ECC will be on after a reset",
        |_, l| flag(l.ecc.pending),
    ),
    (
        "dram_ecc_sbe_count",
        "counter",
        "Corrected memory errors since the reset",
        |_, l| l.ecc.corrected as f64,
    ),
    (
        "dram_ecc_dbe_count",
        "counter",
        "Uncorrected memory errors since the reset",
        |_, l| l.ecc.uncorrected as f64,
    ),
    (
        "aggr_dram_ecc_sbe_count",
        "counter",
        "Corrected memory errors since the board was made",
        |_, l| l.ecc.corrected_total as f64,
    ),
    (
        "aggr_dram_ecc_dbe_count",
        "counter",
        "Uncorrected memory errors since the board was made",
        |_, l| l.ecc.uncorrected_total as f64,
    ),
    (
        "single_bit_retired_page_count",
        "counter",
        "Pages retired for corrected errors",
        |_, l| l.ecc.retired_corrected as f64,
    ),
    (
        "double_bit_retired_page_count",
        "counter",
        "Pages retired for uncorrected errors",
        |_, l| l.ecc.retired_pages.saturating_sub(l.ecc.retired_corrected) as f64,
    ),
    (
        "repair_retire_pending",
        "gauge",
        "Whether pages wait for a reset",
        |_, l| flag(l.ecc.retired_pending > 0),
    ),
    ("last_xid_error", "gauge", "Last xid", |_, l| {
        l.counters.xid.into()
    }),
    (
        "compute_mode",
        "gauge",
        "Compute mode: 0 default, 1 exclusive, 2 prohibited",
        |c, _| c.compute_mode as u32 as f64,
    ),
    ("numa_node_id", "gauge", "NUMA node", |c, _| {
        c.numa_node.into()
    }),
];

/// Values of one metric, under one head.
struct Family {
    name: &'static str,
    text: String,
}

impl Family {
    fn new(name: &'static str, kind: &str, help: &str) -> Self {
        let text = format!("# HELP mlu_{name} {help}\n# TYPE mlu_{name} {kind}\n");
        Self { name, text }
    }

    fn add(&mut self, labels: &str, value: f64) {
        let _ = writeln!(self.text, "mlu_{}{{{labels}}} {value}", self.name);
    }
}

/// Metrics of ports: name, help, value.
type PortMetric = (
    &'static str,
    &'static str,
    fn(&vmlu::telemetry::PortSnapshot) -> f64,
);

const PORTS: &[PortMetric] = &[
    ("mlulink_status", "Whether the link runs", |p| {
        flag(p.state.runs())
    }),
    (
        "mlulink_cable_status",
        "Whether a cable is plugged in",
        |p| flag(p.state != LinkState::Absent),
    ),
    ("mlulink_speed", "Speed, Gbit/s", |p| {
        p.bytes_per_second as f64 * 8.0 / 1e9
    }),
    ("mlulink_cntr_read_byte_total", "Bytes received", |p| {
        p.counters.read_bytes as f64
    }),
    ("mlulink_cntr_read_package_total", "Packets received", |p| {
        p.counters.read_packets as f64
    }),
    ("mlulink_cntr_write_byte_total", "Bytes sent", |p| {
        p.counters.written_bytes as f64
    }),
    ("mlulink_cntr_write_package_total", "Packets sent", |p| {
        p.counters.written_packets as f64
    }),
    ("mlulink_err_replay_total", "Packets sent again", |p| {
        p.counters.replays as f64
    }),
    (
        "mlulink_err_fatal_total",
        "Errors that took the link down",
        |p| p.counters.fatal as f64,
    ),
    ("mlulink_err_ecc_double_total", "Double-bit errors", |p| {
        p.counters.ecc_double as f64
    }),
    ("mlulink_err_crc24_total", "CRC24 errors", |p| {
        p.counters.crc24 as f64
    }),
    ("mlulink_err_crc32_total", "CRC32 errors", |p| {
        p.counters.crc32 as f64
    }),
    ("mlulink_err_corrected_total", "Corrected errors", |p| {
        p.counters.corrected as f64
    }),
    ("mlulink_err_uncorrected_total", "Uncorrected errors", |p| {
        p.counters.uncorrected as f64
    }),
    (
        "mlulink_link_down_total",
        "How often the link went down",
        |p| p.counters.downs as f64,
    ),
];

/// The metrics of these cards, in the text form of Prometheus.
pub(crate) fn render(cards: &[DeviceSnapshot], fabric: Option<&FabricSnapshot>) -> String {
    let node = host();
    let with_labels: Vec<_> = cards
        .iter()
        .map(|card| (card, labels(card, &node)))
        .collect();
    let mut families = Vec::new();
    let mut nums = Family::new("machine_mlu_nums", "gauge", "Cards of the machine");
    nums.add(&format!("node=\"{}\"", escaped(&node)), cards.len() as f64);
    families.push(nums);
    let mut health = Family::new("health", "gauge", "1 if the card is healthy");
    let mut driver = Family::new("driver_state", "gauge", "1 if the driver runs");
    for (card, labels) in &with_labels {
        health.add(labels, flag(card.health.device == DeviceHealth::Good));
        driver.add(labels, flag(card.health.driver == DriverHealth::Running));
    }
    families.extend([health, driver]);
    for (name, kind, help, value) in METRICS {
        let mut family = Family::new(name, kind, help);
        for (card, labels) in &with_labels {
            if let Some(live) = &card.live {
                family.add(labels, value(card, live));
            }
        }
        families.push(family);
    }
    let mut cores = Family::new(
        "core_utilization",
        "gauge",
        "Utilisation of a core, percent",
    );
    let mut processes = Family::new(
        "process_physical_memory_used",
        "gauge",
        "Memory of a process, bytes",
    );
    for (card, labels) in &with_labels {
        if let Some(live) = &card.live {
            for core in 0..card.cores {
                cores.add(
                    &format!("core=\"{core}\",{labels}"),
                    live.utilisation_percent.round(),
                );
            }
        }
        for process in &card.processes {
            processes.add(
                &format!("pid=\"{}\",{labels}", process.pid),
                process.memory_bytes as f64,
            );
        }
    }
    families.extend([cores, processes]);
    for (name, help, value) in PORTS {
        let mut family = Family::new(
            name,
            if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            },
            help,
        );
        for chip in fabric.iter().flat_map(|fabric| &fabric.chips) {
            let found = with_labels
                .iter()
                .find(|(card, _)| card.index == chip.index);
            for port in chip.ports.iter().flatten() {
                if let Some((_, labels)) = found {
                    family.add(&format!("link=\"{}\",{labels}", port.port), value(port));
                }
            }
        }
        families.push(family);
    }
    families.into_iter().map(|family| family.text).collect()
}

/// Answers requests until the program ends; `metrics` makes the text of each.
pub(crate) fn serve(listener: &TcpListener, mut metrics: impl FnMut() -> String) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // A client that breaks off is no reason to end.
        let _ = answer(stream, &mut metrics);
    }
}

fn answer(mut stream: TcpStream, metrics: &mut impl FnMut() -> String) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?.take(REQUEST));
    reader.read_line(&mut request)?;
    // What else the request says does not matter, but it is read, so that closing does not reset the connection.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let (status, body) = match (request.starts_with("GET "), path) {
        (true, "/metrics") => ("200 OK", metrics()),
        (true, _) => ("404 Not Found", "the metrics are at /metrics\n".into()),
        _ => ("405 Method Not Allowed", "only GET is served\n".into()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
