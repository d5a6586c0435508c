//! The topology and the links of given cards: `cnmon topo` and `cnmon mlulink`, to the byte.

use serde_json::Value;
use vmlu::telemetry::{
    FabricChip, FabricSnapshot, Level, LinkState, PortCounters, PortSnapshot, Relation, RemotePort,
};

use super::*;

fn port(port: u32, state: LinkState, card: u32) -> PortSnapshot {
    let lanes = match state {
        LinkState::Up => 4,
        LinkState::Degraded => 2,
        _ => 0,
    };
    PortSnapshot {
        port,
        state,
        bytes_per_second: u64::from(lanes) * 3_571_428_571,
        lanes,
        max_lanes: 4,
        remote: (state != LinkState::Absent).then(|| RemotePort {
            card: Some(card),
            serial: "5400000000000001".into(),
            chip: card,
            port: 0,
        }),
        counters: PortCounters::default(),
    }
}

fn relation(level: Level, links: u32, links_up: u32) -> Relation {
    Relation {
        level,
        links,
        links_up,
        bytes_per_second: 0,
    }
}

/// A board whose chips are linked and whose link to the next board is down; further cards are at each level.
fn server() -> Seen {
    let levels = [
        relation(Level::Same, 0, 0),
        relation(Level::Internal, 1, 1),
        relation(Level::Multiple, 1, 0),
        relation(Level::Multiple, 0, 0),
        relation(Level::Cpu, 0, 0),
        relation(Level::System, 0, 0),
        relation(Level::Internal, 0, 0),
        relation(Level::Single, 0, 0),
        relation(Level::HostBridge, 0, 0),
        relation(Level::System, 2, 1),
    ];
    let count = levels.len();
    let cards: Vec<_> = (0..count as u32)
        .map(|index| card(index, 0x39 + index as u8, 30.0))
        .collect();
    let chips = cards
        .iter()
        .map(|card| FabricChip {
            index: card.index,
            name: card.name.clone(),
            uuid: card.uuid.clone(),
            serial: card.serial.clone(),
            chip: card.chip,
            pci: card.pci,
            numa_node: if card.index < 5 { 0 } else { -1 },
            cpu_affinity: (card.index < 5).then(|| "0-15,32-47".into()),
            ports: Some(vec![
                port(0, LinkState::Up, 1),
                port(1, LinkState::Down, 2),
                port(2, LinkState::Degraded, 3),
                port(3, LinkState::Absent, 0),
            ]),
        })
        .collect();
    let relations = (0..count)
        .map(|a| (0..count).map(|b| levels[b.abs_diff(a)]).collect())
        .collect();
    Seen {
        transport: "kernel".into(),
        cards,
        fabric: Some(FabricSnapshot { chips, relations }),
    }
}

#[test]
fn the_matrix() {
    let seen = server();
    let text = output(&seen, &["topo", "-m"]);
    assert_eq!(output(&seen, &["topo"]), text, "-m is the default");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "       MLU0   MLU1   MLU2   MLU3   MLU4   MLU5   MLU6   MLU7   MLU8   MLU9   CPU Affinity  NUMA Affinity",
            "MLU0   X      MLK    MUL    MUL    CPU    SYS    INT    SIN    HOS    MLK    0-15,32-47    0",
        ]
    );
    assert_eq!(
        lines[10],
        "MLU9   MLK    HOS    SIN    INT    SYS    CPU    MUL    MUL    MLK    X      N/A           N/A"
    );
    for cell in ["MLK", "INT", "SIN", "MUL", "HOS", "CPU", "SYS"] {
        let explained = lines[12..].iter().filter(|l| l.trim().starts_with(cell));
        assert_eq!(explained.count(), 1, "{cell}");
    }
    let dead = lines.last().unwrap();
    assert!(
        dead.contains("MLU0-MLU2 MLU1-MLU3") && !dead.contains("MLU0-MLU1"),
        "{dead}"
    );
}

#[test]
fn whether_links_run() {
    assert_eq!(
        output(&server(), &["mlulink", "-c", "0", "-s"]),
        "\
Card 0
    Status
        Port 0                     : Enable
        Port 1                     : Disable
        Port 2                     : Enable
        Port 3                     : Not Connected
"
    );
}

#[test]
fn what_ports_are_joined_with_and_count() {
    let mut seen = server();
    let chips = &mut seen.fabric.as_mut().unwrap().chips;
    chips[1].ports = None;
    let ports = chips[0].ports.as_mut().unwrap();
    ports.truncate(2);
    ports[1].remote.as_mut().unwrap().card = None;
    ports[0].counters = PortCounters {
        read_bytes: 1,
        read_packets: 2,
        written_bytes: 3,
        written_packets: 4,
        replays: 5,
        fatal: 6,
        ecc_double: 7,
        crc24: 8,
        crc32: 9,
        corrected: 10,
        uncorrected: 11,
        illegal: 12,
        downs: 13,
    };
    assert_eq!(
        output(&seen, &["mlulink", "-c", "0", "-r"]),
        "\
Card 0
    Remote
        Port 0                     : Card 1 Port 0, 14.3 GB/s, 4 of 4 lanes
        Port 1                     : Board 5400000000000001 Chip 2 Port 0, 0.0 GB/s, 0 of 4 lanes
"
    );
    let counted = output(&seen, &["mlulink", "-c", "0", "-t", "-e"]);
    let values: Vec<_> = counted
        .lines()
        .skip_while(|line| !line.contains("Port 0"))
        .take_while(|line| !line.contains("Port 1"))
        .filter_map(|line| line.split_once(": "))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["1", "2", "3", "4"], "{counted}");
    let errors: Vec<_> = counted
        .lines()
        .skip_while(|line| !line.contains("Errors"))
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.trim(), value))
        .take(9)
        .collect();
    assert_eq!(
        errors,
        [
            ("Replay", "5"),
            ("Fatal", "6"),
            ("ECC Double", "7"),
            ("CRC24", "8"),
            ("CRC32", "9"),
            ("Corrected", "10"),
            ("Uncorrected", "11"),
            ("Illegal Access", "12"),
            ("Link Down", "13"),
        ]
    );
    // All sections of all cards, and a card that is lost.
    let all = output(&seen, &["mlulink"]);
    assert_eq!(
        all.matches("Card ").count() - all.matches(": Card ").count(),
        10
    );
    assert!(
        all.contains("Card 1\n    MLU-Link                       : N/A\nCard 2\n"),
        "{all}"
    );
    let failure = cnmon(&seen, &["mlulink", "-c", "16", "-s"]).unwrap_err();
    assert_eq!(failure.line, "Card 16 is not existed");
}

#[test]
fn programs_get_the_fabric() {
    let seen = server();
    let json =
        |arguments: &[&str]| -> Value { serde_json::from_str(&output(&seen, arguments)).unwrap() };
    let topo = json(&["topo", "--json"]);
    assert_eq!(
        (&topo["schema"], &topo["schema_version"]),
        (&"cnmon-topo".into(), &1.into())
    );
    assert_eq!(topo["relations"][0][2]["level"], "multiple");
    assert_eq!(topo["relations"][0][2]["links_up"], 0);
    assert_eq!(topo["chips"][0]["cpu_affinity"], "0-15,32-47");
    let links = json(&["mlulink", "-c", "3", "--json"]);
    assert_eq!(links["schema"], "cnmon-mlulink");
    assert_eq!(links["chips"].as_array().unwrap().len(), 1);
    assert_eq!(links["chips"][0]["index"], 3);
    assert_eq!(links["chips"][0]["ports"][2]["state"], "degraded");
    assert_eq!(links["chips"][0]["ports"][2]["remote"]["card"], 3);
    assert_eq!(links["chips"][0]["ports"][3]["remote"], Value::Null);
}

/// A test bench strips each line, takes one that begins with `Link ` for the next port, and sums up its uncorrected errors.
#[test]
fn a_test_bench_reads_the_counters_of_links() {
    let mut seen = server();
    let ports = &mut seen.fabric.as_mut().unwrap().chips[0].ports;
    ports.as_mut().unwrap()[0].counters.uncorrected = 7;
    let text = output(&seen, &["mlulink", "-c", "0", "-o"]);
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Link ") {
            found.push((line.split(':').next().unwrap(), ""));
        } else if line.contains("err_uncorrected") {
            found.last_mut().unwrap().1 = line.split_once(':').unwrap().1.trim();
        }
    }
    let ports = seen.fabric.as_ref().unwrap().chips[0].ports.as_ref();
    assert_eq!(found.len(), ports.unwrap().len(), "{text}");
    assert_eq!(found[0], ("Link 0", "7"));
    assert!(found[1..].iter().all(|(_, count)| *count == "0"), "{text}");
    assert!(!text.contains("Status"), "{text}");
}

#[test]
fn ports_do_not_speak_roce() {
    let seen = server();
    let text = output(&seen, &["roce", "-c", "0"]);
    let ports = seen.fabric.as_ref().unwrap().chips[0].ports.as_ref();
    assert_eq!(
        text.matches(": Not Supported\n").count(),
        ports.unwrap().len(),
        "{text}"
    );
}
