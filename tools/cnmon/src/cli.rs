//! The command line, and how commands fail.

use clap::{Args, Parser, Subcommand, ValueEnum};
use vmlu::telemetry::DeviceSnapshot;

use crate::info::Section;
use crate::mlulink;

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
    /// Print how near the cards are to each other: MLU-Link, or the level of PCIe between them
    Topo(TopoOptions),
    /// Print the MLU-Link ports of the cards
    Mlulink(MlulinkOptions),
    /// Inject a fault, where the server of the cards allows it (root, or the user who runs the server)
    #[command(subcommand)]
    Inject(Inject),
}

/// Options of `cnmon topo`.
#[derive(Debug, Default, Args)]
pub(crate) struct TopoOptions {
    /// As a matrix; it is one without this, too
    #[arg(short, long)]
    matrix: bool,
    /// Print it as JSON, with a versioned schema
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cnmon mlulink`. Without any of the sections, all are printed.
#[derive(Debug, Default, Args)]
pub(crate) struct MlulinkOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Whether the links run
    #[arg(short, long)]
    status: bool,
    /// What is at the other end of the links, and how fast they run
    #[arg(short, long)]
    remote: bool,
    /// Bytes and packets
    #[arg(short, long)]
    traffic: bool,
    /// Errors by kind
    #[arg(short, long)]
    errors: bool,
    /// Print everything as JSON, with a versioned schema
    #[arg(long)]
    pub(crate) json: bool,
}

impl MlulinkOptions {
    /// The sections to print: all, if none was asked for.
    pub(crate) fn sections(&self) -> Vec<mlulink::Section> {
        let asked = [self.status, self.remote, self.traffic, self.errors];
        let all = mlulink::Section::ALL;
        if asked == [false; 4] {
            return all.to_vec();
        }
        let chosen = all.iter().zip(asked).filter(|(_, asked)| *asked);
        chosen.map(|(section, _)| *section).collect()
    }
}

/// What faults there are.
#[derive(Debug, Subcommand)]
pub(crate) enum Inject {
    /// Take an MLU-Link down or up, slow it down, or count errors of a port
    Link(LinkOptions),
}

/// Options of `cnmon inject link`.
#[derive(Debug, Args)]
pub(crate) struct LinkOptions {
    /// Card
    #[arg(short, long, value_name = "N")]
    pub(crate) card: u32,
    /// Port of the card; the port at the other end changes state with it
    #[arg(short, long, value_name = "P")]
    pub(crate) port: u32,
    /// What happens to it
    pub(crate) fault: LinkFault,
    /// Errors to count
    #[arg(short = 'n', long, default_value_t = 1)]
    pub(crate) count: u64,
    /// Lanes that are left after `degrade`
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3))]
    pub(crate) lanes: u32,
}

/// What happens to a link or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkFault {
    /// The link goes down
    Down,
    /// It comes up with all of its lanes
    Up,
    /// It runs on fewer lanes
    Degrade,
    /// Packets are sent again
    Replay,
    /// CRC errors of the 24-bit sum
    Crc24,
    /// CRC errors of the 32-bit sum
    Crc32,
    /// Double-bit errors of the port's memory
    Ecc,
    /// Corrected errors
    Corrected,
    /// Uncorrected errors
    Uncorrected,
    /// Accesses that the other end refuses
    Illegal,
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

    pub(crate) fn refused(cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: "the fault was not injected".into(),
            help: format!(
                "{cause}\n  The server must have been started with --inject (the embedded card with MLU_INJECT=1), and the caller be root or its user.\n  Ports that have a link: `cnmon mlulink -s`."
            ),
        }
    }

    pub(crate) fn no_fabric(cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: "MLU-Link is not available".into(),
            help: format!("the ports of the cards cannot be read: {cause}"),
        }
    }

    pub(crate) fn cannot_write(file: &str, cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: format!("cannot write {file}"),
            help: format!("{file} goes into the current folder, which must be writable: {cause}"),
        }
    }
}
