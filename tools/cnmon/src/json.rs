//! `cnmon info -j`, in the vendor's schema, and `cnmon --json`, in ours.

use serde::Serialize;
use serde_json::{json, Value};
use vmlu::telemetry::{DeviceSnapshot, FabricChip, FabricSnapshot, Link};

use crate::cli::Failure;
use crate::info::{speed, width};
use crate::instances::Kind;
use crate::text::{whole, UNKNOWN};

/// File that `cnmon info -j` writes into the current folder.
const INFO_FILE: &str = "cnmon_info.json";

/// Version of the schemas of [`report`], [`topology`], [`links`] and [`instances`]. It grows when a field changes its meaning or goes; fields may be added without.
const SCHEMA_VERSION: u32 = 1;

/// Everything, for programs. `cards` are `vmlu::telemetry::DeviceSnapshot`s.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    schema_version: u32,
    cnmon_version: &'a str,
    transport: &'a str,
    cards: &'a [&'a DeviceSnapshot],
}

/// The report of `cnmon --json`.
pub(crate) fn report(
    version: &str,
    transport: &str,
    cards: &[&DeviceSnapshot],
) -> Result<String, Failure> {
    let report = Report {
        schema: "cnmon",
        schema_version: SCHEMA_VERSION,
        cnmon_version: version,
        transport,
        cards,
    };
    pretty(&report)
}

/// The report of `cnmon topo --json`: a `vmlu::telemetry::FabricSnapshot`.
pub(crate) fn topology(transport: &str, fabric: &FabricSnapshot) -> Result<String, Failure> {
    pretty(&json!({
        "schema": "cnmon-topo",
        "schema_version": SCHEMA_VERSION,
        "transport": transport,
        "chips": fabric.chips,
        "relations": fabric.relations,
    }))
}

/// The report of `cnmon mlulink --json`: `vmlu::telemetry::FabricChip`s.
pub(crate) fn links(transport: &str, chips: &[&FabricChip]) -> Result<String, Failure> {
    pretty(&json!({
        "schema": "cnmon-mlulink",
        "schema_version": SCHEMA_VERSION,
        "transport": transport,
        "chips": chips,
    }))
}

/// The report of `cnmon mim --json` and `cnmon smlu --json`: no card can be divided.
pub(crate) fn instances(
    transport: &str,
    cards: &[&DeviceSnapshot],
    kind: Kind,
) -> Result<String, Failure> {
    let of_card = |card: &&DeviceSnapshot| json!({ "index": card.index, "supported": false, "enabled": false, "profiles": [], "instances": [] });
    pretty(&json!({
        "schema": format!("cnmon-{}", kind.name().to_lowercase()),
        "schema_version": SCHEMA_VERSION,
        "transport": transport,
        "cards": cards.iter().map(of_card).collect::<Vec<_>>(),
    }))
}

/// Writes the file of `cnmon info -j`.
pub(crate) fn write_info_file(cards: &[&DeviceSnapshot]) -> Result<(), Failure> {
    std::fs::write(INFO_FILE, pretty(&info(cards))?)
        .map_err(|e| Failure::cannot_write(INFO_FILE, &e))
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::cannot_write("JSON", &e))?;
    Ok(text + "\n")
}

/// What `cnmon_info.json` holds.
pub(crate) fn info(cards: &[&DeviceSnapshot]) -> Value {
    json!({ "CnmonInfo": cards.iter().map(|card| card_info(card)).collect::<Vec<_>>() })
}

fn card_info(card: &DeviceSnapshot) -> Value {
    let speed_of = |link: Option<Link>| link.map_or(UNKNOWN.into(), speed);
    let width_of = |link: Option<Link>| link.map_or(UNKNOWN.into(), width);
    let mut info = json!({
        "CardNum": card.index,
        "ProductName": card.name,
        "UUID": card.uuid,
        "Driver": card.driver_version,
        "Firmware": card.firmware_version,
        "PCI": {
            "DomainID": format!("{:04x}", card.pci.domain),
            "Bus": format!("{:02x}", card.pci.bus),
            "Device": format!("{:02x}", card.pci.device),
            "Function": format!("{:x}", card.pci.function),
            "MaxSpeed": speed_of(card.pcie_link.max),
            "MaxWidth": width_of(card.pcie_link.max),
            "CurrentSpeed": speed_of(card.pcie_link.current),
            "CurrentWidth": width_of(card.pcie_link.current),
        },
        "Processes": card.processes.iter().map(|process| json!({
            "PID": process.pid,
            "Cmdline": process.program(),
            "MLUMemoryUsage": process.memory_mib(),
        })).collect::<Vec<_>>(),
    });
    if let Some(live) = &card.live {
        info["Utilization"] = json!({ "MLUAverage": whole(live.utilisation_percent) });
        info["PhysicalMemUsage"] = json!({
            "Total": live.memory.total_mib(),
            "Used": live.memory.used_mib(),
            "Free": live.memory.free_mib(),
        });
        info["Temperature"] = json!({
            "Board": whole(live.temperature.board_c),
            "Chip": whole(live.temperature.chip_c),
            "Memory": whole(live.temperature.memory_c),
        });
        info["Power"] =
            json!({ "Usage": whole(live.power.board_w), "Cap": whole(live.power.cap_w) });
    }
    info
}
