//! `cnmon`: what the cards are, how they feel, and who uses them. A view over the telemetry API; one file a view.
//!
//! Scripts cut its output by field, so the views keep the vendor's layout column for column.

mod cli;
mod info;
mod inject;
mod json;
mod list;
mod mlulink;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod topo;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use vmlu::telemetry::{DeviceSnapshot, FabricChip, FabricSnapshot, Monitor};
use vmlu::transport;

use cli::{Cli, Command, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = observe(&cli).and_then(|seen| show(&cli, &seen));
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
    /// The ports and what is between the cards, if the command line asks for them.
    fabric: Option<FabricSnapshot>,
}

/// Looks at what the command line asks for; a fault that it asks for is injected before.
fn observe(cli: &Cli) -> Result<Seen, Failure> {
    let transport = transport::choose().map_err(|e| Failure::no_device(&e.to_string()))?;
    let monitor = Monitor::new(transport.clone());
    let cards = monitor
        .devices()
        .map_err(|e| Failure::no_device(&e.to_string()))?;
    if let Some(Command::Inject(wanted)) = &cli.command {
        let cli::Inject::Link(options) = wanted;
        if !cards.iter().any(|card| card.index == options.card) {
            return Err(Failure::not_existed(options.card, &cards));
        }
        inject::run(&*transport, wanted)?;
    }
    let wanted = matches!(
        cli.command,
        Some(Command::Topo(_) | Command::Mlulink(_) | Command::Inject(_))
    );
    let fabric = wanted
        .then(|| monitor.fabric(&cards))
        .transpose()
        .map_err(|e| Failure::no_fabric(&e))?;
    Ok(Seen {
        transport: monitor.transport().to_owned(),
        cards,
        fabric,
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
        Some(Command::Topo(options)) => {
            let fabric = fabric(seen)?;
            match options.json {
                true => json::topology(&seen.transport, fabric),
                false => Ok(topo::render(fabric)),
            }
        }
        Some(Command::Mlulink(options)) => {
            let chips = ports_of(seen, options.card)?;
            match options.json {
                true => json::links(&seen.transport, &chips),
                false => Ok(mlulink::render(&chips, options)),
            }
        }
        Some(Command::Inject(cli::Inject::Link(options))) => {
            let chips = ports_of(seen, Some(options.card))?;
            let line = chips
                .first()
                .and_then(|chip| mlulink::one_port(chip, options.port));
            Ok(line.unwrap_or_default())
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

fn fabric(seen: &Seen) -> Result<&FabricSnapshot, Failure> {
    let none = || Failure::no_fabric(&"nobody looked at them");
    seen.fabric.as_ref().ok_or_else(none)
}

/// The ports of all cards, or of the one with this number.
fn ports_of(seen: &Seen, wanted: Option<u32>) -> Result<Vec<&FabricChip>, Failure> {
    let cards = choose(seen, wanted)?;
    let of_cards = |chip: &&FabricChip| cards.iter().any(|card| card.index == chip.index);
    Ok(fabric(seen)?.chips.iter().filter(of_cards).collect())
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
