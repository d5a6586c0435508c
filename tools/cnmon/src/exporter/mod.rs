//! `cnmon exporter`: the cards for Prometheus, with the names and labels of the vendor's exporter.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use vmlu::telemetry::{DeviceHealth, DeviceSnapshot, DriverHealth, FabricSnapshot};

use metrics::{flag, CARD, GAUGE, PORT, PROCESS};

pub(crate) use history::History;

mod details;
mod history;
mod metrics;

/// Most bytes of a request.
const REQUEST: u64 = 16 << 10;
/// What stands for "in no instance": the number of the vendor's events, which its exporter prints with a sign.
const NO_INSTANCE: i32 = -1;
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

/// The labels that cards of a kind share on a machine.
fn shared_labels(card: &DeviceSnapshot, node: &str) -> String {
    let kind = card.name.split('-').next().unwrap_or_default();
    format!(
        "driver=\"{}\",model=\"{}\",node=\"{}\",node_ip=\"\",type=\"{}\"",
        escaped(&card.driver_version),
        escaped(&card.name),
        escaped(node),
        escaped(&kind.to_lowercase()),
    )
}

/// The labels that all metrics of a card have.
fn labels(card: &DeviceSnapshot, node: &str) -> String {
    format!(
        "{},mcu=\"{}\",mlu=\"{}\",sn=\"{}\",uuid=\"MLU-{}\"",
        shared_labels(card, node),
        escaped(&card.firmware_version),
        card.index,
        card.serial.trim_start_matches('0'),
        card.uuid,
    )
}

/// Values of one metric, under one head.
struct Family {
    name: &'static str,
    text: String,
    is_empty: bool,
}

impl Family {
    fn new(name: &'static str, kind: &str, help: &str) -> Self {
        let text = format!("# HELP mlu_{name} {help}\n# TYPE mlu_{name} {kind}\n");
        Self {
            name,
            text,
            is_empty: true,
        }
    }

    fn add(&mut self, labels: &str, value: f64) {
        self.is_empty = false;
        let _ = writeln!(self.text, "mlu_{}{{{labels}}} {value}", self.name);
    }
}

/// The labels that a metric has besides those of its card.
fn besides(name: &str) -> &'static str {
    match name {
        // The card as a whole, not one of its virtual functions or memory dies.
        "utilization" | "memory_utilization" | "power_usage" => "vf=\"\",",
        "memory_temperature" => "memory_die=\"\",",
        _ => "",
    }
}

/// The metrics of these cards, in the text form of Prometheus. `past` has looked at them.
pub(crate) fn render(
    cards: &[DeviceSnapshot],
    fabric: Option<&FabricSnapshot>,
    past: &History,
) -> String {
    let node = host();
    let with_labels: Vec<_> = cards
        .iter()
        .map(|card| (card, labels(card, &node)))
        .collect();
    let mut families = vec![machine(cards, &node)];
    families.extend(health(&with_labels));
    families.extend(details::identity(&with_labels));
    families.push(details::xids(&with_labels, past));
    for metric in CARD {
        let mut family = Family::new(metric.name, metric.kind, metric.help);
        for (card, labels) in &with_labels {
            let value = card
                .live
                .as_ref()
                .and_then(|live| (metric.value)(card, live));
            if let Some(value) = value {
                family.add(&format!("{}{labels}", besides(metric.name)), value);
            }
        }
        families.push(family);
    }
    families.extend(parts(&with_labels));
    for metric in PROCESS {
        let mut family = Family::new(metric.name, metric.kind, metric.help);
        for (card, labels) in &with_labels {
            for process in &card.processes {
                let labels = format!("pid=\"{}\",{labels}", process.pid);
                family.add(&labels, (metric.value)(card, process));
            }
        }
        families.push(family);
    }
    families.push(details::processes(&with_labels, past));
    families.extend(details::between(&with_labels, past));
    families.extend(details::remotes(&with_labels, fabric));
    for metric in PORT {
        let mut family = Family::new(metric.name, metric.kind, metric.help);
        for chip in fabric.iter().flat_map(|fabric| &fabric.chips) {
            let found = with_labels
                .iter()
                .find(|(card, _)| card.index == chip.index);
            for port in chip.ports.iter().flatten() {
                if let Some((_, labels)) = found {
                    let labels = format!("link=\"{}\",ppi=\"\",{labels}", port.port);
                    family.add(&labels, (metric.value)(port));
                }
            }
        }
        families.push(family);
    }
    // A family without a value is left out, as by the clients of Prometheus.
    let there = families.into_iter().filter(|family| !family.is_empty);
    there.map(|family| family.text).collect()
}

/// How many cards there are, under the labels that they share.
fn machine(cards: &[DeviceSnapshot], node: &str) -> Family {
    let mut nums = Family::new("machine_mlu_nums", GAUGE, "Cards of the machine");
    if let Some(card) = cards.first() {
        nums.add(&shared_labels(card, node), cards.len() as f64);
    }
    nums
}

/// Whether the cards are well, and their drivers; and the xids that they reported.
fn health(cards: &[(&DeviceSnapshot, String)]) -> [Family; 4] {
    let mut health = Family::new("health", GAUGE, "1 if the card is healthy");
    let mut driver = Family::new("driver_state", GAUGE, "1 if the driver runs");
    let mut last = Family::new("last_xid_error", GAUGE, "Last xid");
    let mut ports = Family::new("mlulink_port_number", GAUGE, "MLU-Link ports");
    for (card, labels) in cards {
        let incidents = card.live.iter().flat_map(|live| &live.incidents);
        let reasons: Vec<_> = match card.live {
            None => vec!["the card does not answer"],
            Some(_) => incidents
                .filter(|i| i.is_fatal())
                .map(|i| i.text())
                .collect(),
        };
        let reason = escaped(&reasons.join("; "));
        health.add(
            &format!("{labels},unhealth_reason=\"{reason}\""),
            flag(card.health.device == DeviceHealth::Good),
        );
        driver.add(labels, flag(card.health.driver == DriverHealth::Running));
        let xid = card.live.as_ref().map_or(0, |live| live.counters.xid);
        if xid != 0 {
            last.add(
                &format!("{labels},xid=\"\",xid_compute_instance_id=\"{NO_INSTANCE}\",xid_mlu_instance_id=\"{NO_INSTANCE}\""),
                xid.into(),
            );
        }
        if let Some(model) = card.model() {
            ports.add(labels, model.link_ports.into());
        }
    }
    [health, driver, last, ports]
}

/// Cores and clusters: a command has all of them.
fn parts(cards: &[(&DeviceSnapshot, String)]) -> [Family; 2] {
    let mut cores = Family::new("core_utilization", GAUGE, "Utilisation of a core, percent");
    let mut clusters = Family::new(
        "cluster_temperature",
        GAUGE,
        "Temperature of a cluster, celsius",
    );
    for (card, labels) in cards {
        let Some(live) = &card.live else { continue };
        for core in 0..card.cores {
            let used = live.utilisation_percent.round();
            cores.add(&format!("core=\"{core}\",{labels}"), used);
        }
        for cluster in 0..card.clusters {
            let heat = live.temperature.chip_c.round();
            clusters.add(&format!("cluster=\"{cluster}\",{labels}"), heat);
        }
    }
    [cores, clusters]
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
    let target = request.split_whitespace().nth(1).unwrap_or_default();
    // A query changes nothing.
    let path = target.split('?').next().unwrap_or_default();
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
