//! The command line, and how commands fail.

use std::ffi::{OsStr, OsString};

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
    /// One line a card with these fields, separated by commas; `--help-query` lists them
    #[arg(long, value_name = "FIELDS", conflicts_with_all = ["list", "json"])]
    pub(crate) query: Option<String>,
    /// Form of the lines: csv, with noheader and nounits as wanted
    #[arg(long, value_name = "FORMAT", requires = "query", default_value = "csv")]
    pub(crate) format: String,
    /// List the fields of --query
    #[arg(long)]
    pub(crate) help_query: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Long options that the vendor writes with one dash.
const ONE_DASH: [&str; 2] = ["-smlu", "-mim"];

impl Cli {
    /// The command line of this process.
    pub(crate) fn from_environment() -> Self {
        Self::parse_from(std::env::args_os().map(two_dashes))
    }
}

/// An argument, with two dashes if it is one of [`ONE_DASH`].
pub(crate) fn two_dashes(argument: OsString) -> OsString {
    if !ONE_DASH.iter().any(|known| argument == *known) {
        return argument;
    }
    let mut long = OsStr::new("-").to_owned();
    long.push(argument);
    long
}

/// What else there is to ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the version
    Version,
    /// Print the table of all cards, as without a command
    All,
    /// Print the cards as keys and values
    Info(InfoOptions),
    /// Print how near the cards are to each other: MLU-Link, or the level of PCIe between them
    Topo(TopoOptions),
    /// Print the MLU-Link ports of the cards
    Mlulink(MlulinkOptions),
    /// Print the MIM instances of the cards: this card cannot be divided, so there are none
    Mim(InstanceOptions),
    /// Print the sMLU instances of the cards: this card cannot be divided, so there are none
    Smlu(InstanceOptions),
    /// Print whether ports speak RoCE: those of this card speak MLU-Link alone
    Roce(RoceOptions),
    /// Inject a fault, where the server of the cards allows it (root, or the user who runs the server)
    #[command(subcommand)]
    Inject(Inject),
    /// Print or change the settings of the cards (changes: root, or the user who runs the server)
    Set(SetOptions),
    /// Print memory errors and retired pages, or turn ECC on or off from the next reset on
    Ecc(EccOptions),
    /// Begin anew with a card that nobody uses: what waits for a reset takes effect
    Reset(ResetOptions),
    /// Print what happened to the cards: xids, links; with --follow also cards that are lost and come back
    Events(EventsOptions),
    /// Show the cards live: graphs, processes, links
    Watch(WatchOptions),
    /// Record what the cards do, one JSON object a line
    Record(RecordOptions),
    /// Show what was recorded
    Replay(ReplayOptions),
    /// Serve the cards to Prometheus, with the names and labels of the vendor's exporter
    Exporter(ExporterOptions),
    /// Print a specification of the cards for container runtimes (Container Device Interface)
    Cdi,
    /// Find out what keeps the cards from being used
    Doctor,
    /// Print completions for a shell
    Completions(CompletionsOptions),
    /// Print the manual page
    Man,
}

/// Options of `cnmon set`. Without changes the settings are printed.
#[derive(Debug, Default, Args)]
pub(crate) struct SetOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Power cap of the board, W; 0 for the product's
    #[arg(long, value_name = "W")]
    pub(crate) power_cap: Option<u64>,
    /// Locks the clock, MHz; 0 unlocks it
    #[arg(long, value_name = "MHZ")]
    pub(crate) clock: Option<u64>,
    /// Who may use the card
    #[arg(long)]
    pub(crate) compute_mode: Option<Mode>,
    /// MIM instances, also as -mim; this card has none, so on is refused
    #[arg(long, value_name = "MODE")]
    pub(crate) mim: Option<Switch>,
    /// sMLU instances, also as -smlu; this card has none, so on is refused
    #[arg(long, value_name = "MODE")]
    pub(crate) smlu: Option<Switch>,
}

/// Options of `cnmon mim` and `cnmon smlu`.
#[derive(Debug, Default, Args)]
pub(crate) struct InstanceOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// List the instances; they are listed without this, too
    #[arg(short, long)]
    list: bool,
    /// Print it as JSON, with a versioned schema
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cnmon roce`.
#[derive(Debug, Default, Args)]
pub(crate) struct RoceOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
}

/// A mode that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// Who may use a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Any number of processes
    Default,
    /// One process at a time
    Exclusive,
    /// Nobody
    Prohibited,
}

/// Options of `cnmon ecc`.
#[derive(Debug, Default, Args)]
pub(crate) struct EccOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Print; it is printed without this, too
    #[arg(short, long)]
    status: bool,
    /// ECC on from the next reset on
    #[arg(long, conflicts_with = "disable")]
    pub(crate) enable: bool,
    /// ECC off from the next reset on
    #[arg(long)]
    pub(crate) disable: bool,
}

/// Options of `cnmon reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetOptions {
    /// Card
    #[arg(short, long, value_name = "N")]
    pub(crate) card: u32,
}

/// Options of `cnmon events`.
#[derive(Debug, Default, Args)]
pub(crate) struct EventsOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cnmon watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchOptions {
    /// Time between two looks, ms
    #[arg(short, long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub(crate) interval: u64,
}

/// Options of `cnmon record`.
#[derive(Debug, Args)]
pub(crate) struct RecordOptions {
    /// File; standard output if it is -
    pub(crate) file: std::path::PathBuf,
    /// Time between two samples, ms
    #[arg(short, long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub(crate) interval: u64,
    /// Samples; without end if this is not given
    #[arg(short = 'n', long)]
    pub(crate) count: Option<u64>,
}

/// Options of `cnmon replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// File of `cnmon record`
    pub(crate) file: std::path::PathBuf,
    /// Times as fast as it was
    #[arg(short, long, default_value_t = 1.0)]
    pub(crate) speed: f64,
    /// In the live view of `cnmon watch`
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Options of `cnmon exporter`.
#[derive(Debug, Args)]
pub(crate) struct ExporterOptions {
    /// Address and port to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:30108")]
    pub(crate) listen: String,
    /// Print the metrics and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Options of `cnmon completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
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
    /// All counters of each link, under the names that the vendor's library has for them
    #[arg(short = 'o', long)]
    pub(crate) counters: bool,
    /// Print everything as JSON, with a versioned schema
    #[arg(long)]
    pub(crate) json: bool,
}

impl MlulinkOptions {
    /// The sections to print: all, if none was asked for.
    pub(crate) fn sections(&self) -> Vec<mlulink::Section> {
        let asked = [self.status, self.remote, self.traffic, self.errors];
        let all = mlulink::Section::ALL;
        if asked == [false; 4] && !self.counters {
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
    /// Memory errors
    Ecc(EccFault),
    /// Heat, in degrees, on top of what the load makes
    Heat(HeatFault),
    /// Report an xid
    Xid(XidFault),
}

/// Options of `cnmon inject ecc`.
#[derive(Debug, Args)]
pub(crate) struct EccFault {
    /// Card
    #[arg(short, long, value_name = "N")]
    pub(crate) card: u32,
    /// One that cannot be corrected, instead of some that can
    #[arg(short, long)]
    pub(crate) uncorrectable: bool,
    /// How many
    #[arg(
        short = 'n',
        long,
        default_value_t = 1,
        conflicts_with = "uncorrectable"
    )]
    pub(crate) count: u64,
    /// Offset in device memory
    #[arg(short, long, default_value_t = 0)]
    pub(crate) offset: u64,
}

/// Options of `cnmon inject heat`.
#[derive(Debug, Args)]
pub(crate) struct HeatFault {
    /// Card
    #[arg(short, long, value_name = "N")]
    pub(crate) card: u32,
    /// Degrees Celsius; 0 takes them away
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-200..=200))]
    pub(crate) degrees: i64,
}

/// Options of `cnmon inject xid`.
#[derive(Debug, Args)]
pub(crate) struct XidFault {
    /// Card
    #[arg(short, long, value_name = "N")]
    pub(crate) card: u32,
    /// Number
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) xid: u64,
}

impl Inject {
    /// The card that it hits.
    pub(crate) fn card(&self) -> u32 {
        match self {
            Self::Link(options) => options.card,
            Self::Ecc(options) => options.card,
            Self::Heat(options) => options.card,
            Self::Xid(options) => options.card,
        }
    }
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

/// Options of `cnmon info`. Without any of the sections, all are printed. What the card does not have is N/A.
#[derive(Debug, Default, Args)]
pub(crate) struct InfoOptions {
    /// Only the card with this number
    #[arg(short, long, value_name = "N")]
    pub(crate) card: Option<u32>,
    /// Product type, UUID and driver, which lead every report
    #[arg(short = 't', long = "type")]
    product: bool,
    /// Driver version
    #[arg(short, long)]
    driver: bool,
    /// Memory
    #[arg(short, long)]
    memory: bool,
    /// Bandwidth of the memory
    #[arg(long)]
    bandwidth: bool,
    /// Utilisation
    #[arg(short, long)]
    util: bool,
    /// Temperatures
    #[arg(short = 'e', long = "temperature")]
    temperature: bool,
    /// Power
    #[arg(short, long)]
    power: bool,
    /// Health
    #[arg(short = 's', long)]
    health: bool,
    /// Clocks
    #[arg(short = 'f', long = "frequency")]
    frequency: bool,
    /// Fan
    #[arg(long)]
    fan: bool,
    /// Memory errors and retired pages
    #[arg(short = 'E', long)]
    ecc: bool,
    /// PCI
    #[arg(short = 'b', long)]
    pci: bool,
    /// Processes
    #[arg(short = 'P', long)]
    processes: bool,
    /// Also write cnmon_info.json into the current folder
    #[arg(short = 'j', long = "json-file")]
    pub(crate) write_json: bool,
}

impl InfoOptions {
    /// The sections to print: all, if none was asked for.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let asked = [
            (self.health, Section::Health),
            (self.util, Section::Utilization),
            (self.temperature, Section::Temperature),
            (self.memory, Section::Memory),
            (self.memory, Section::VirtualMemory),
            (self.memory, Section::OtherMemory),
            (self.bandwidth, Section::Bandwidth),
            (self.ecc, Section::Ecc),
            (self.ecc, Section::Crc),
            (self.ecc, Section::Retired),
            (self.ecc, Section::Remapping),
            (self.power, Section::Power),
            (self.frequency, Section::Frequency),
            (self.frequency, Section::Throttling),
            (self.fan, Section::Fan),
            (self.pci, Section::Pci),
            (self.pci, Section::Throughput),
            (self.processes, Section::Processes),
            // What leads every report anyway.
            (self.product || self.driver, Section::Identity),
        ];
        let wanted = |section: &Section| asked.contains(&(true, *section));
        if !asked.iter().any(|(asked, _)| *asked) {
            return Section::ALL.to_vec();
        }
        let all = Section::ALL.into_iter();
        all.filter(|section| *section == Section::Identity || wanted(section))
            .collect()
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

    pub(crate) fn no_field(name: &str) -> Self {
        Self {
            line: format!("there is no field {name}"),
            help: format!("--query was asked for {name}; `cnmon --help-query` lists the fields"),
        }
    }

    pub(crate) fn no_format(word: &str) -> Self {
        Self {
            line: format!("there is no format {word}"),
            help: format!("--format was asked for {word}; it takes csv, noheader and nounits, separated by commas"),
        }
    }

    pub(crate) fn not_set(cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: "the setting was not changed".into(),
            help: format!("{cause}\n  It takes root, or the user who runs the server of the cards; `cnmon set` shows the ranges, and a card is reset only while nobody uses it."),
        }
    }

    pub(crate) fn no_instances(kind: &str) -> Self {
        Self {
            line: format!("{kind} is not supported"),
            help: format!("{kind} was to be turned on, but this card cannot be divided into instances; `cnmon set --compute-mode` chooses who may use it"),
        }
    }

    pub(crate) fn no_events(cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: "the events are not available".into(),
            help: format!("the logs of the cards cannot be read: {cause}"),
        }
    }

    pub(crate) fn no_record(file: &str, cause: &str) -> Self {
        Self {
            line: format!("{file} is no recording"),
            help: format!("{file} cannot be used: {cause}\n  `cnmon record FILE` makes one."),
        }
    }

    pub(crate) fn no_terminal(cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: "there is no terminal".into(),
            help: format!("the live view needs one: {cause}"),
        }
    }

    pub(crate) fn cannot_listen(address: &str, cause: &dyn std::fmt::Display) -> Self {
        Self {
            line: format!("cannot listen at {address}"),
            help: format!("{address}: {cause}; choose another with --listen"),
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
