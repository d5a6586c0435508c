//! `cnmon`: what the cards are, how they feel, and who uses them. A view over the telemetry API; one file a view.
//!
//! Scripts cut its output by field, so the views keep the vendor's layout column for column.

mod cdi;
mod cli;
mod doctor;
mod events;
mod exporter;
mod info;
mod inject;
mod instances;
mod json;
mod list;
mod mlulink;
mod query;
mod record;
mod run;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod topo;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use vmlu::telemetry::{DeviceSnapshot, FabricChip, FabricSnapshot, Monitor};
use vmlu::transport::{self, Transport};

use cli::{Cli, Command, Failure};

fn main() -> ExitCode {
    let cli = Cli::from_environment();
    // What goes on for a while, or needs no card, has its own way.
    if let Some(done) = run::try_run(&cli) {
        return match done {
            Ok(code) => code,
            Err(failure) => fail(&failure),
        };
    }
    let result = observe(&cli).and_then(|seen| show(&cli, &seen));
    let result = match result {
        // The version is worth knowing even where there is no card.
        Err(_) if matches!(cli.command, Some(Command::Version)) => Ok(list::version(own_version())),
        other => other,
    };
    match result {
        Ok(text) => print(&text),
        Err(failure) => fail(&failure),
    }
}

/// The line that scripts look for goes where they look; what people need to know goes to standard error.
fn fail(failure: &Failure) -> ExitCode {
    let _ = print(&format!("{}\n", failure.line));
    eprintln!("cnmon: {}", failure.help);
    ExitCode::FAILURE
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
    let look = || {
        let cards = monitor.devices();
        cards.map_err(|e| Failure::no_device(&e.to_string()))
    };
    let mut cards = look()?;
    if let Some(command) = &cli.command
        && act(command, &*transport, &cards)?
    {
        cards = look()?;
    }
    let wanted = matches!(
        cli.command,
        Some(
            Command::Topo(_)
                | Command::Mlulink(_)
                | Command::Roce(_)
                | Command::Inject(cli::Inject::Link(_))
        )
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

/// Does what a command changes; whether it did anything.
fn act(
    command: &Command,
    transport: &dyn Transport,
    cards: &[DeviceSnapshot],
) -> Result<bool, Failure> {
    let one = |number: u32| match cards.iter().find(|card| card.index == number) {
        Some(_) => Ok(number),
        None => Err(Failure::not_existed(number, cards)),
    };
    match command {
        Command::Inject(wanted) => {
            one(wanted.card())?;
            inject::run(transport, wanted)?;
        }
        Command::Set(options) => settings::set(transport, options, &of(cards, options.card)?)?,
        Command::Ecc(options) => settings::set_ecc(transport, options, &of(cards, options.card)?)?,
        Command::Reset(options) => settings::reset(transport, one(options.card)?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// All of these cards, or the one with this number.
fn of(cards: &[DeviceSnapshot], wanted: Option<u32>) -> Result<Vec<&DeviceSnapshot>, Failure> {
    let chosen: Vec<_> = cards
        .iter()
        .filter(|card| wanted.is_none_or(|n| card.index == n))
        .collect();
    match wanted {
        Some(n) if chosen.is_empty() => Err(Failure::not_existed(n, cards)),
        _ => Ok(chosen),
    }
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
        Some(Command::Mim(options)) => instances(seen, options, instances::Kind::Mim),
        Some(Command::Smlu(options)) => instances(seen, options, instances::Kind::Smlu),
        Some(Command::Roce(options)) => Ok(instances::roce(&ports_of(seen, options.card)?)),
        Some(Command::All) => Ok(table::render(version, &choose(seen, None)?)),
        Some(Command::Inject(cli::Inject::Link(options))) => {
            let chips = ports_of(seen, Some(options.card))?;
            let line = chips
                .first()
                .and_then(|chip| mlulink::one_port(chip, options.port));
            Ok(line.unwrap_or_default())
        }
        Some(Command::Inject(inject)) => {
            let card = inject.card();
            Ok(format!("injected into Card {card}; see `cnmon events -c {card}` and `cnmon info -c {card}`\n"))
        }
        Some(Command::Set(options)) => Ok(settings::render(&choose(seen, options.card)?)),
        Some(Command::Ecc(options)) => Ok(settings::render_ecc(&choose(seen, options.card)?)),
        Some(Command::Reset(options)) => Ok(format!("Card {} was reset\n", options.card)),
        Some(Command::Cdi) => Ok(cdi::render(&choose(seen, None)?)),
        Some(
            Command::Events(_)
            | Command::Watch(_)
            | Command::Record(_)
            | Command::Replay(_)
            | Command::Exporter(_)
            | Command::Doctor
            | Command::Completions(_)
            | Command::Man,
        ) => Ok(String::new()),
        None if cli.query.is_some() => {
            let fields = cli.query.as_deref().unwrap_or_default();
            query::render(&choose(seen, cli.card)?, fields, &cli.format)
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

fn instances(
    seen: &Seen,
    options: &cli::InstanceOptions,
    kind: instances::Kind,
) -> Result<String, Failure> {
    let cards = choose(seen, options.card)?;
    match options.json {
        true => json::instances(&seen.transport, &cards, kind),
        false => Ok(instances::render(&cards, kind)),
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
    of(&seen.cards, wanted)
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
