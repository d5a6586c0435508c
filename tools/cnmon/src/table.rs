//! `cnmon`: the table of the cards and of the processes that use them.
//!
//! Scripts cut this table by field, so each row keeps the number of its fields whatever the values are.

use vmlu::telemetry::{DeviceSnapshot, ProcessUsage};

use crate::text::{cut, cut_front, harmless, or_unknown, whole, UNKNOWN};

/// Characters between the outer borders.
const INNER: usize = 78;
/// Characters of the three columns of cards.
const COLUMNS: [usize; 3] = [31, 22, 23];
/// Characters for name and firmware together.
const NAME_AND_FIRMWARE: usize = 19;
/// Where the memory of a process begins.
const PROCESS_MEMORY_AT: usize = 61;

/// The table.
pub(crate) fn render(version: &str, cards: &[&DeviceSnapshot]) -> String {
    let rule = format!("+{}+\n", "-".repeat(INNER));
    let columns = format!("+{}+\n", COLUMNS.map(|w| "-".repeat(w)).join("+"));
    let mut out = rule.clone();
    out += &row(&[banner(version)]);
    out += &columns;
    out += "| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |\n";
    out += "| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | SR-IOV   Compute-Mode |\n";
    out += &format!("|{}|\n", COLUMNS.map(|w| "=".repeat(w)).join("+"));
    for card in cards {
        out += &row(&identity(card));
        out += &row(&state(card));
        out += &columns;
    }
    out += "\n";
    out += &rule;
    out += &row(&[format!("{:<INNER$}", " Processes:")]);
    out += "|  Card  MI  PID     Command Line                             MLU Memory Usage |\n";
    out += &format!("|{}|\n", "=".repeat(INNER));
    let mut none = true;
    for card in cards {
        for process in &card.processes {
            out += &row(&[process_line(card.index, process)]);
            none = false;
        }
    }
    if none {
        out += &row(&[format!("{:<INNER$}", "  No running processes found")]);
    }
    out + &rule
}

fn row(cells: &[String]) -> String {
    format!("|{}|\n", cells.join("|"))
}

fn banner(version: &str) -> String {
    let version = harmless(version);
    let right = format!("Driver {version} ");
    format!(
        " CNMON {version}{right:>width$}",
        width = INNER.saturating_sub(" CNMON ".len() + version.chars().count())
    )
}

/// Number, name, firmware; address; utilisation and memory errors.
fn identity(card: &DeviceSnapshot) -> [String; 3] {
    let firmware = cut(&harmless(&card.firmware_version), NAME_AND_FIRMWARE - 2);
    let room = NAME_AND_FIRMWARE - 1 - firmware.chars().count();
    let name = cut(&harmless(&card.name), room);
    let left = format!(" {:<6}{:<4}{name}", card.index, "/");
    let utilisation = card
        .live
        .as_ref()
        .map(|live| whole(live.utilisation_percent));
    let errors = card
        .live
        .as_ref()
        .filter(|live| live.ecc.enabled)
        .map(|live| live.ecc.uncorrected);
    [
        between(&left, &firmware, COLUMNS[0]),
        between("", &card.pci.to_string(), COLUMNS[1]),
        between(
            &format!(" {}", percent(utilisation)),
            &or_unknown(errors),
            COLUMNS[2],
        ),
    ]
}

/// Fan, temperature, power; memory; compute mode.
fn state(card: &DeviceSnapshot) -> [String; 3] {
    let live = card.live.as_ref();
    let fan = percent(live.map(|l| l.fan_percent));
    let temperature = live.map_or(UNKNOWN.into(), |l| {
        format!("{}C", whole(l.temperature.chip_c))
    });
    let left = format!("{:<7}{temperature}", format!(" {fan:>3}"));
    let watt = |value: Option<f64>| or_unknown(value.map(whole));
    let power = format!(
        "{:>4} W/{:>4} W",
        watt(live.map(|l| l.power.board_w)),
        watt(live.map(|l| l.power.cap_w))
    );
    let mib = |value: Option<u64>| or_unknown(value);
    let memory = format!(
        "{:>6} MiB/{:>6} MiB",
        mib(live.map(|l| l.memory.used_mib())),
        mib(live.map(|l| l.memory.total_mib()))
    );
    let mode = crate::query::compute_mode(card.compute_mode);
    [
        between(&left, &power, COLUMNS[0]),
        between("", &memory, COLUMNS[1]),
        between(&format!(" {UNKNOWN}"), mode, COLUMNS[2]),
    ]
}

fn percent<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or(UNKNOWN.into(), |v| format!("{v}%"))
}

/// `left` at the left border and `right` one blank before the right one, in `width` characters.
fn between(left: &str, right: &str, width: usize) -> String {
    format!(
        "{left}{right:>room$} ",
        room = width.saturating_sub(left.chars().count() + 1)
    )
}

/// Card, instance, process, program, memory: eight fields with the borders, so the program is one word.
fn process_line(card: u32, process: &ProcessUsage) -> String {
    let left = format!("  {card:<5} {:<3} {:<7} ", "/", process.pid);
    let program = harmless(process.program().split_whitespace().next().unwrap_or("-"));
    let program = cut_front(&program, PROCESS_MEMORY_AT.saturating_sub(left.len() + 1));
    between(
        &format!("{left}{program}"),
        &format!("{} MiB", process.memory_mib()),
        INNER,
    )
}
