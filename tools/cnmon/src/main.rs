//! `cnmon`: what the cards are, how they feel, and who uses them. A view over the telemetry API; one file a view.
//!
//! Scripts cut its output by field, so the views keep the vendor's layout column for column.

mod cli;
mod info;
mod json;
mod list;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use vmlu::telemetry::{DeviceSnapshot, Monitor};

use cli::{Cli, Command, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = observe().and_then(|seen| show(&cli, &seen));
    let result = match result {
        // The version is worth knowing even where there is no card.
        Err(_) if matches!(cli.command, Some(Command::Version)) => Ok(list::version(own_version())),
        other => other,
    };
    match result {
        Ok(text) => print(&text),
        Err(failure) => {
            // The line that scripts look for goes where they look; what people need to know goes to standard error.
            let _ = print(&format!("{}\n", failure.line));
            eprintln!("cnmon: {}", failure.help);
            ExitCode::FAILURE
        }
    }
}

/// What a monitor sees.
struct Seen {
    transport: String,
    cards: Vec<DeviceSnapshot>,
}

fn observe() -> Result<Seen, Failure> {
    let monitor = Monitor::open().map_err(|e| Failure::no_device(&e.to_string()))?;
    let cards = monitor
        .devices()
        .map_err(|e| Failure::no_device(&e.to_string()))?;
    Ok(Seen {
        transport: monitor.transport().to_owned(),
        cards,
    })
}

/// The text that a command line asks for.
fn show(cli: &Cli, seen: &Seen) -> Result<String, Failure> {
    if seen.cards.is_empty() {
        return Err(Failure::no_device(&format!(
            "the {} transport has no cards; is a board plugged in (`lspci -d cabc:`), and what does `dmesg` say?",
            seen.transport
        )));
    }
    let version = version(seen);
    match &cli.command {
        Some(Command::Version) => Ok(list::version(version)),
        Some(Command::Info(options)) => {
            let cards = choose(seen, options.card)?;
            if options.write_json {
                json::write_info_file(&cards)?;
            }
            Ok(info::render(version, &cards, &options.sections()))
        }
        None => {
            let cards = choose(seen, cli.card)?;
            Ok(match (cli.json, cli.list) {
                (true, _) => json::report(version, &seen.transport, &cards)?,
                (_, true) => list::render(&cards),
                _ => table::render(version, &cards),
            })
        }
    }
}

/// All cards, or the one with this number.
fn choose(seen: &Seen, wanted: Option<u32>) -> Result<Vec<&DeviceSnapshot>, Failure> {
    let cards: Vec<_> = seen
        .cards
        .iter()
        .filter(|card| wanted.is_none_or(|n| card.index == n))
        .collect();
    match wanted {
        Some(n) if cards.is_empty() => Err(Failure::not_existed(n, &seen.cards)),
        _ => Ok(cards),
    }
}

/// The version that is shown as the monitor's and as the driver's: the two are one release.
fn version(seen: &Seen) -> &str {
    seen.cards
        .first()
        .map_or(own_version(), |card| card.driver_version.as_str())
}

fn own_version() -> &'static str {
    concat!("v", env!("CARGO_PKG_VERSION"))
}

/// Prints; a reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cnmon: cannot write to standard output: {e}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
