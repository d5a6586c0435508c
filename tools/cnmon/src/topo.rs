//! `cnmon topo`: how near each chip is to each other, and the processors near to it.

use vmlu::telemetry::{FabricSnapshot, Level, Relation};

use crate::text::{harmless, or_unknown, UNKNOWN};

/// Characters of a column of the matrix.
const CELL: usize = 7;
/// Least characters of the column of processors.
const PROCESSORS: usize = "CPU Affinity".len();

/// What stands in a cell, and what it means; in the order of nearness.
const LEGEND: [(&str, &str); 8] = [
    ("X", "the same card"),
    ("MLK", "MLU-Link"),
    ("INT", "PCIe, chips of one board"),
    ("SIN", "PCIe, at most one switch between them"),
    (
        "MUL",
        "PCIe, several switches between them, but no host bridge",
    ),
    ("HOS", "PCIe, over a host bridge"),
    ("CPU", "PCIe, over several host bridges of one NUMA node"),
    ("SYS", "PCIe, and between NUMA nodes"),
];

/// The matrix.
pub(crate) fn render(fabric: &FabricSnapshot) -> String {
    let names: Vec<_> = fabric
        .chips
        .iter()
        .map(|chip| format!("MLU{}", chip.index))
        .collect();
    let processors: Vec<_> = fabric
        .chips
        .iter()
        .map(|chip| harmless(chip.cpu_affinity.as_deref().unwrap_or(UNKNOWN)))
        .collect();
    let wide = processors
        .iter()
        .map(|list| list.chars().count())
        .fold(PROCESSORS, usize::max);
    let mut out = " ".repeat(CELL);
    for name in &names {
        out += &format!("{name:<CELL$}");
    }
    out += &format!("{:<wide$}  NUMA Affinity\n", "CPU Affinity");
    for (row, chip) in fabric.chips.iter().enumerate() {
        out += &format!("{:<CELL$}", names[row]);
        for relation in &fabric.relations[row] {
            out += &format!("{:<CELL$}", cell(relation));
        }
        let node = Some(chip.numa_node).filter(|node| *node >= 0);
        out += &format!("{:<wide$}  {}\n", processors[row], or_unknown(node));
    }
    out += "\nLegend:\n";
    for (short, meaning) in LEGEND {
        out += &format!("  {short:<4}= {meaning}\n");
    }
    let dead = dead(fabric);
    if !dead.is_empty() {
        out += "\nNo link runs, and nothing goes over PCIe instead:";
        for (a, b) in dead {
            out += &format!(" MLU{a}-MLU{b}");
        }
        out += "\n";
    }
    out
}

/// A link that runs is shown before PCIe.
fn cell(relation: &Relation) -> &'static str {
    match relation.level {
        Level::Same => "X",
        _ if relation.links_up > 0 => "MLK",
        Level::Internal => "INT",
        Level::Single => "SIN",
        Level::Multiple => "MUL",
        Level::HostBridge => "HOS",
        Level::Cpu => "CPU",
        Level::System => "SYS",
    }
}

/// Pairs that links join, of which none runs.
fn dead(fabric: &FabricSnapshot) -> Vec<(u32, u32)> {
    let count = fabric.chips.len();
    (0..count)
        .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
        .filter(|(a, b)| {
            let relation = fabric.relations[*a][*b];
            relation.links > 0 && relation.links_up == 0
        })
        .map(|(a, b)| (fabric.chips[a].index, fabric.chips[b].index))
        .collect()
}
