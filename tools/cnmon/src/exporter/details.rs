//! Families whose values are in their labels, and those that need the past.

use vmlu::telemetry::{chip_number, chip_uuid, DeviceSnapshot, FabricSnapshot, LinkState};

use super::history::{History, Rates};
use super::metrics::{COUNTER, GAUGE};
use super::{escaped, Family, NO_INSTANCE};

/// Cards, and the labels that all metrics of each have.
pub(super) type Labelled<'a> = [(&'a DeviceSnapshot, String)];

/// The speed of a PCIe generation, as the vendor's exporter writes it.
fn speed(generation: u32) -> &'static str {
    match generation {
        1 => "2.5GT/s",
        2 => "5GT/s",
        3 => "8GT/s",
        4 => "16GT/s",
        5 => "32GT/s",
        6 => "64GT/s",
        _ => "",
    }
}

/// Versions, where the cards sit in PCIe, and how often their firmware answered. A card without a bus has no place there.
pub(super) fn identity(cards: &Labelled<'_>) -> [Family; 3] {
    let mut version = Family::new("version", GAUGE, "Versions, in the labels");
    let mut pcie = Family::new("pcie_info", GAUGE, "Place in PCIe, in the labels");
    let mut beats = Family::new("heartbeat_count", COUNTER, "Answers of the firmware");
    for (card, labels) in cards {
        if let Some(live) = &card.live {
            beats.add(labels, live.counters.rpcs as f64);
        }
        let Some(model) = card.model() else { continue };
        let (major, minor) = model.compute_capability;
        let library = env!("CARGO_PKG_VERSION");
        let more = format!("cndev_version=\"v{library}\",compute_capability=\"{major}.{minor}\"");
        version.add(&format!("{more},{labels}"), 1.0);
        let Some(link) = card.pcie_link.current else {
            continue;
        };
        let more = format!(
            "module_id=\"{}\",pcie_device_id=\"{:x}\",pcie_id=\"{}\",pcie_slot=\"{}\",pcie_speed=\"{}\",pcie_subsystem=\"{:x}\",\
             pcie_subsystem_vendor=\"{vendor:x}\",pcie_vendor=\"{vendor:x}\",pcie_width=\"{}\"",
            card.chip,
            model.pci_device,
            card.pci.to_string().to_lowercase(),
            card.index,
            speed(link.generation),
            model.board_id,
            link.lanes,
            vendor = vmlu::abi::pci::VENDOR_ID,
        );
        pcie.add(&format!("{more},{labels}"), 1.0);
    }
    [version, pcie, beats]
}

/// Who is at the other end of each port that has a cable.
pub(super) fn remotes(cards: &Labelled<'_>, fabric: Option<&FabricSnapshot>) -> [Family; 2] {
    let mut info = Family::new(
        "mlulink_remote_info",
        GAUGE,
        "The other end of a port, in the labels",
    );
    let mut kind = Family::new("mlulink_connect_type", GAUGE, "0: the other end is a card");
    for chip in fabric.iter().flat_map(|fabric| &fabric.chips) {
        let Some((_, labels)) = cards.iter().find(|(card, _)| card.index == chip.index) else {
            continue;
        };
        for port in chip.ports.iter().flatten() {
            let Some(remote) = port
                .remote
                .as_ref()
                .filter(|_| port.state != LinkState::Absent)
            else {
                continue;
            };
            let labels = format!("link=\"{}\",ppi=\"\",{labels}", port.port);
            let serial = u64::from_str_radix(&remote.serial, 16).unwrap_or(0);
            // A slot is known of cards of this machine.
            let slot = remote.card.map(|card| card.to_string()).unwrap_or_default();
            let more = format!(
                "remote_mc_sn=\"{serial}\",remote_ba_sn=\"{serial}\",remote_slot_id=\"{slot}\",remote_port_id=\"{}\",\
                 remote_ncs_uuid64=\"{}\",remote_ip=\"\",remote_mac=\"\",remote_uuid=\"{}\",remote_port_name=\"\"",
                remote.port,
                chip_number(serial, remote.chip),
                escaped(&chip_uuid(serial, remote.chip)),
            );
            info.add(&format!("{more},{labels}"), 1.0);
            kind.add(&labels, 0.0);
        }
    }
    [info, kind]
}

/// How often each xid was reported.
pub(super) fn xids(cards: &Labelled<'_>, past: &History) -> Family {
    let mut counts = Family::new("xid_error_count", COUNTER, "How often an xid was reported");
    for (card, labels) in cards {
        for (xid, count) in past.xids(card.index) {
            let more = format!(
                "xid=\"0x{xid:016x}\",xid_base_10=\"{xid}\",xid_compute_instance_id=\"{NO_INSTANCE}\",xid_mlu_instance_id=\"{NO_INSTANCE}\""
            );
            counts.add(&format!("{more},{labels}"), count as f64);
        }
    }
    counts
}

/// What the processes had of the cards.
pub(super) fn processes(cards: &Labelled<'_>, past: &History) -> Family {
    let mut used = Family::new(
        "process_ipu_utilization",
        GAUGE,
        "What a process had of the cores since the last request, percent",
    );
    for (card, labels) in cards {
        for (process, share) in card.processes.iter().zip(past.shares(card.index)) {
            let labels = format!("pid=\"{}\",{labels}", process.pid);
            used.add(&labels, (*share).into());
        }
    }
    used
}

/// A metric between two requests: name, help, value.
type Between = (&'static str, &'static str, fn(&Rates) -> f64);

const BETWEEN: [Between; 6] = [
    (
        "mpm_ipu_utilization",
        "Share of time with work since the last request, percent",
        |r| r.busy_percent,
    ),
    (
        "mpm_mlu_utilization",
        "Share of time with work since the last request, percent",
        |r| r.busy_percent,
    ),
    (
        "mpm_pcie_tx_bandwidth",
        "To the host since the last request, MiB/s",
        |r| r.pcie_tx,
    ),
    (
        "mpm_pcie_rx_bandwidth",
        "From the host since the last request, MiB/s",
        |r| r.pcie_rx,
    ),
    (
        "mpm_mlulink_total_tx_bandwidth",
        "Sent over all links since the last request, MiB/s",
        |r| r.ports.iter().map(|(_, sent, _)| sent).sum(),
    ),
    (
        "mpm_mlulink_total_rx_bandwidth",
        "Received over all links since the last request, MiB/s",
        |r| r.ports.iter().map(|(_, _, received)| received).sum(),
    ),
];

/// What the cards did between the last two requests; nothing at the first.
pub(super) fn between(cards: &Labelled<'_>, past: &History) -> Vec<Family> {
    let with_rates = || {
        let rates = cards
            .iter()
            .map(|(card, labels)| (past.rates(card.index), labels));
        rates.filter_map(|(rates, labels)| Some((rates?, labels)))
    };
    let mut families: Vec<_> = BETWEEN
        .iter()
        .map(|(name, help, value)| {
            let mut family = Family::new(name, GAUGE, help);
            with_rates().for_each(|(rates, labels)| family.add(labels, value(rates)));
            family
        })
        .collect();
    let mut sent = Family::new(
        "mpm_mlulink_tx_bandwidth",
        GAUGE,
        "Sent over a link since the last request, MiB/s",
    );
    let mut received = Family::new(
        "mpm_mlulink_rx_bandwidth",
        GAUGE,
        "Received over a link since the last request, MiB/s",
    );
    for (rates, labels) in with_rates() {
        for (port, tx, rx) in &rates.ports {
            let labels = format!("link=\"{port}\",ppi=\"\",{labels}");
            sent.add(&labels, *tx);
            received.add(&labels, *rx);
        }
    }
    families.extend([sent, received]);
    families
}
