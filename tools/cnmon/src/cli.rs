//! The command line, and how commands fail.

use clap::{Args, Parser, Subcommand};
use vmlu::telemetry::DeviceSnapshot;

use crate::info::Section;

/// Monitor of MLU cards: without a command, a table of the cards and of the processes that use them.
///
/// Exit status: 0 if all went well, 1 if there is no device or the card does not exist, 2 if the command line is wrong.
/// The cards are those of the kernel driver (/dev/mluctl), or of the transport that MLU_TRANSPORT names: embedded, kernel or local:PATH.
#[derive(Debug, Parser)]
#[command(name = "cnmon", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// List the cards with their UUIDs, one a line
    #[arg(short, long)]
    pub(crate) list: bool,
    /// Print everything as JSON, with a versioned schema
    #[arg(long, conflicts_with = "list")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else there is to ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the version
    Version,
    /// Print the cards as keys and values
    Info(InfoOptions),
}

/// Options of `cnmon info`. Without any of the sections, all are printed.
#[derive(Debug, Default, Args)]
pub(crate) struct InfoOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Product type
    #[arg(short = 't', long = "type")]
    product: bool,
    /// Driver version
    #[arg(short, long)]
    driver: bool,
    /// Memory
    #[arg(short, long)]
    memory: bool,
    /// Utilisation
    #[arg(short, long)]
    util: bool,
    /// Temperatures
    #[arg(short = 'e', long = "temperature")]
    temperature: bool,
    /// Power
    #[arg(short, long)]
    power: bool,
    /// Also write cnmon_info.json into the current folder
    #[arg(short = 'j', long = "json-file")]
    pub(crate) write_json: bool,
}

impl InfoOptions {
    /// The sections to print: all, if none was asked for.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let asked = [
            (self.product, Section::Product),
            (self.driver, Section::Driver),
            (self.util, Section::Utilization),
            (self.temperature, Section::Temperature),
            (self.memory, Section::Memory),
            (self.power, Section::Power),
        ];
        let sections: Vec<_> = asked
            .iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, section)| *section)
            .collect();
        if sections.is_empty() {
            Section::ALL.to_vec()
        } else {
            sections
        }
    }
}

/// A command that has nothing to show.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line for scripts, on standard output.
    pub(crate) line: String,
    /// The cause and what to do, on standard error.
    pub(crate) help: String,
}

impl Failure {
    pub(crate) fn no_device(cause: &str) -> Self {
        Self {
            line: "there is no device".into(),
            help: format!(
                "no device found: {cause}\n  Load the driver (`modprobe mlu`) where a card is plugged in, or use the card inside this process (see `cnmon --help`)."
            ),
        }
    }

    pub(crate) fn not_existed(card: u32, there: &[DeviceSnapshot]) -> Self {
        let numbers: Vec<_> = there.iter().map(|card| card.index.to_string()).collect();
        Self {
            line: format!("Card {card} is not existed"),
            help: format!(
                "card {card} was asked for, but the cards here are {}",
                numbers.join(", ")
            ),
        }
    }

    pub(crate) fn cannot_write(file: &str, cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: format!("cannot write {file}"),
            help: format!("{file} goes into the current folder, which must be writable: {cause}"),
        }
    }
}
