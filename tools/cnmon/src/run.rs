//! Commands that go on for a while, or that need no card.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use vmlu::abi::setting::LogEntry;
use vmlu::telemetry::{DeviceSnapshot, FabricSnapshot, Monitor, Reader};

use crate::cli::{
    Cli, Command, EventsOptions, ExporterOptions, Failure, RecordOptions, ReplayOptions,
    WatchOptions,
};
use crate::watch::Look;
use crate::{doctor, events, exporter, own_version, print, query, record, table, watch};

/// Runs a command line if it is one of these.
pub(crate) fn try_run(cli: &Cli) -> Option<Result<ExitCode, Failure>> {
    if cli.help_query {
        return Some(Ok(print(&query::names())));
    }
    Some(match cli.command.as_ref()? {
        Command::Completions(options) => {
            let mut out = Vec::new();
            clap_complete::generate(options.shell, &mut Cli::command(), "cnmon", &mut out);
            Ok(print(&String::from_utf8_lossy(&out)))
        }
        Command::Man => Ok(man()),
        Command::Doctor => Ok(diagnose()),
        Command::Events(options) => tell(options),
        Command::Watch(options) => show(options),
        Command::Record(options) => note(options),
        Command::Replay(options) => play(options),
        Command::Exporter(options) => export(options),
        _ => return None,
    })
}

fn monitor() -> Result<Monitor, Failure> {
    Monitor::open().map_err(|error| Failure::no_device(&error.to_string()))
}

fn cards(monitor: &Monitor) -> Result<Vec<DeviceSnapshot>, Failure> {
    let cards = monitor.devices();
    cards.map_err(|error| Failure::no_device(&error.to_string()))
}

/// The manual page with all commands.
fn man() -> ExitCode {
    let mut out = Vec::new();
    match clap_mangen::Man::new(Cli::command()).render(&mut out) {
        Ok(()) => print(&String::from_utf8_lossy(&out)),
        Err(_) => ExitCode::FAILURE,
    }
}

fn diagnose() -> ExitCode {
    let mut findings = doctor::Findings::default();
    match monitor() {
        Err(failure) => doctor::machine(&mut findings, Err(&failure.help), own_version()),
        Ok(monitor) => {
            doctor::machine(&mut findings, Ok(monitor.transport()), own_version());
            let cards = monitor.devices().unwrap_or_default();
            let fabric = monitor.fabric(&cards).ok();
            doctor::cards(&mut findings, &cards, fabric.as_ref(), own_version());
        }
    }
    let printed = print(&findings.render());
    if findings.is_bad() {
        ExitCode::FAILURE
    } else {
        printed
    }
}

fn tell(options: &EventsOptions) -> Result<ExitCode, Failure> {
    let monitor = monitor()?;
    let all = cards(&monitor)?;
    let chosen = crate::of(&all, options.card)?;
    let numbers: Vec<u32> = chosen.iter().map(|card| card.index).collect();
    let mut log = events::Log::new(&monitor, &numbers)?;
    loop {
        let lines: String = log
            .read()?
            .iter()
            .map(|(card, entry)| events::line(*card, entry, options.json))
            .collect();
        let mut out = io::stdout().lock();
        // A reader that has seen enough ends this.
        let gone = out
            .write_all(lines.as_bytes())
            .and_then(|()| out.flush())
            .is_err();
        if !options.follow || gone {
            return Ok(ExitCode::SUCCESS);
        }
        log.wait();
    }
}

fn look(monitor: &Monitor) -> Option<Look> {
    let cards = monitor.devices().ok()?;
    let fabric = monitor.fabric(&cards).ok();
    Some(Look { cards, fabric })
}

fn show(options: &WatchOptions) -> Result<ExitCode, Failure> {
    let monitor = monitor()?;
    let interval = Duration::from_millis(options.interval);
    let done = watch::run(interval, || look(&monitor));
    done.map_err(|error| Failure::no_terminal(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn note(options: &RecordOptions) -> Result<ExitCode, Failure> {
    let monitor = monitor()?;
    let name = options.file.display().to_string();
    let refuse = |error: &io::Error| Failure::cannot_write(&name, error);
    let mut to: Box<dyn Write> = match options.file.as_os_str() == "-" {
        true => Box::new(io::stdout()),
        false => Box::new(File::create(&options.file).map_err(|error| refuse(&error))?),
    };
    let mut left = options.count;
    while left != Some(0) {
        let sample = record::Sample::now(monitor.transport(), cards(&monitor)?);
        sample.write(&mut to).map_err(|error| refuse(&error))?;
        left = left.map(|left| left - 1);
        if left != Some(0) {
            std::thread::sleep(Duration::from_millis(options.interval));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn play(options: &ReplayOptions) -> Result<ExitCode, Failure> {
    let samples = record::read(&options.file)?;
    let speed = options.speed.clamp(1e-3, 1e6);
    if options.watch {
        let step = samples.get(1).map_or(Duration::from_secs(1), |next| {
            record::between(&samples[0], next, speed)
        });
        let mut rest = samples.into_iter();
        let next = || {
            rest.next().map(|sample| Look {
                cards: sample.cards,
                fabric: None,
            })
        };
        let done = watch::run(step.max(Duration::from_millis(10)), next);
        done.map_err(|error| Failure::no_terminal(&error))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (number, sample) in samples.iter().enumerate() {
        if let Some(before) = number.checked_sub(1).map(|at| &samples[at]) {
            std::thread::sleep(record::between(before, sample, speed));
        }
        let cards: Vec<_> = sample.cards.iter().collect();
        let version = cards
            .first()
            .map_or(own_version(), |card| card.driver_version.as_str());
        let text = format!(
            "{:.3}\n{}",
            sample.time_us as f64 / 1e6,
            table::render(version, &cards)
        );
        if print(&text) != ExitCode::SUCCESS {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What these cards have logged since this was last asked for.
fn news(monitor: &Monitor, logs: &Reader, cards: &[DeviceSnapshot]) -> Vec<(u32, LogEntry)> {
    let mut all = Vec::new();
    for card in cards {
        logs.add(card.index, 0);
        // A card that does not tell now is read again the next time.
        let entries = events::unread(logs, monitor, card.index, false).unwrap_or_default();
        all.extend(entries.into_iter().map(|entry| (card.index, entry)));
    }
    all
}

fn export(options: &ExporterOptions) -> Result<ExitCode, Failure> {
    let monitor = monitor()?;
    let read = || -> (Vec<DeviceSnapshot>, Option<FabricSnapshot>) {
        let cards = monitor.devices().unwrap_or_default();
        let fabric = monitor.fabric(&cards).ok();
        (cards, fabric)
    };
    let mut past = exporter::History::default();
    let logs = Reader::default();
    let mut metrics = || {
        let (cards, fabric) = read();
        let news = news(&monitor, &logs, &cards);
        past.look(Instant::now(), &cards, fabric.as_ref(), &news);
        exporter::render(&cards, fabric.as_ref(), &past)
    };
    if options.once {
        return Ok(print(&metrics()));
    }
    let refuse = |error: &io::Error| Failure::cannot_listen(&options.listen, error);
    let listener = TcpListener::bind(&options.listen).map_err(|error| refuse(&error))?;
    // Whoever asked for port 0 is told which it is.
    if let Ok(address) = listener.local_addr() {
        print(&format!("http://{address}/metrics\n"));
    }
    exporter::serve(&listener, metrics).map_err(|error| refuse(&error))?;
    Ok(ExitCode::SUCCESS)
}
