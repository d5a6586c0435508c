//! `mlu-server`: the chips of a machine, for a hypervisor or for the processes of this machine.

use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use vmlu_abi::model::{self, CardModel};
use vmlu_device::local::{self, LocalServer, Quota};
use vmlu_device::server::{state, Options, Server, CONTROL_SOCKET, MAX_CHIPS};
use vmlu_firmware::fabric::topology::Topology;
use vmlu_firmware::image::SERVED;

/// The virtual MLU's device server.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve chips to a hypervisor, each on a vfio-user socket chipN.sock of its own. Prints `ready` once all listen.
    VfioUser(VfioUser),
    /// Serve chips to processes of this machine over a Unix socket, without a virtual machine and without root. Prints `ready` once it
    /// listens. Programs use it with MLU_TRANSPORT=local:PATH. `mlu-server local PATH` is the same.
    #[command(long_flag = "local")]
    Local(Local),
    /// Write the firmware image that the driver loads.
    #[command(alias = "firmware")]
    FirmwareImage(FirmwareImage),
    /// Check a topology file and print the host memory node of each board, one line a board: `board B node N`.
    Topology(CheckTopology),
    /// Send one request to a running server's control socket, such as '{"cmd":"status"}', and print the answer.
    Control(Control),
}

#[derive(Args)]
struct VfioUser {
    /// Folder of the sockets; made with mode 0700 if it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// Chips to serve.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CHIPS)))]
    chips: u32,
    /// Card model.
    #[arg(long, default_value = "MLU370-X8", value_parser = parse_model)]
    model: &'static CardModel,
    /// Serial number of a board, hexadecimal; once a board, in order. Without it a board keeps its own.
    #[arg(long = "board-serial", value_parser = parse_serial)]
    board_serials: Vec<u64>,
    /// Folder of the boards' persistent state [default: DIR/state].
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// File that says what is linked with what; by default all chips of each four boards are.
    #[arg(long)]
    topology: Option<PathBuf>,
    /// Allow faults to be injected.
    #[arg(long)]
    inject: bool,
    /// Take firmware images of these interfaces, FIRST-LAST, as cards of another release do, instead of this release's.
    #[arg(long, value_parser = parse_interfaces)]
    firmware_api: Option<RangeInclusive<u32>>,
    /// Offer MSI alone, without MSI-X: QEMU 11.1 can then unplug a chip.
    #[arg(long)]
    msi: bool,
    /// What to log: error, warn, info, debug or trace, also by module.
    #[arg(long, default_value = "info")]
    log: String,
}

#[derive(Args)]
struct Local {
    /// Socket to listen on.
    path: PathBuf,
    /// Chips to serve.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CHIPS)))]
    chips: u32,
    /// Mode of the socket, octal: 0600 for this user alone, 0666 for everybody.
    #[arg(long, default_value = "0600", value_parser = parse_mode)]
    mode: u32,
    /// Card model.
    #[arg(long, default_value = "MLU370-X8", value_parser = parse_model)]
    model: &'static CardModel,
    /// Serial number of a board, hexadecimal; once a board, in order.
    #[arg(long = "board-serial", value_parser = parse_serial)]
    board_serials: Vec<u64>,
    /// Folder of the boards' persistent state. Without it boards have new serial numbers each time, unless --board-serial names them.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// File that says what is linked with what; by default all chips of each four boards are.
    #[arg(long)]
    topology: Option<PathBuf>,
    /// Most queues of a chip that each user but root may have; 0 for no limit [default: 3072 if --mode lets others in, else 0].
    #[arg(long, value_name = "QUEUES")]
    quota_queues: Option<u64>,
    /// Most bytes of a chip's memory that each user but root may have; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    quota_memory: u64,
    /// Most bytes of pinned host memory that each user but root may have for a chip; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    quota_pinned: u64,
    /// Allow faults to be injected, by root and by the user who runs the server.
    #[arg(long)]
    inject: bool,
    /// What to log: error, warn, info, debug or trace, also by module.
    #[arg(long, default_value = "info")]
    log: String,
}

#[derive(Args)]
struct FirmwareImage {
    /// File to write.
    #[arg(required_unless_present = "out")]
    file: Option<PathBuf>,
    /// The same as an option.
    #[arg(long, conflicts_with = "file")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct CheckTopology {
    /// File that says what is linked with what.
    file: PathBuf,
    /// Chips that it is for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CHIPS)))]
    chips: u32,
    /// Card model.
    #[arg(long, default_value = "MLU370-X8", value_parser = parse_model)]
    model: &'static CardModel,
}

#[derive(Args)]
struct Control {
    /// Folder of the server's sockets.
    #[arg(long)]
    dir: PathBuf,
    /// Request, one JSON object.
    request: String,
}

fn parse_serial(text: &str) -> Result<u64, String> {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16).map_err(|_| {
        "a serial number has up to 16 hexadecimal digits, such as 5400000000000042".into()
    })
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "a mode has up to three octal digits behind a zero, such as 0660".into())
}

fn parse_interfaces(text: &str) -> Result<RangeInclusive<u32>, String> {
    text.split_once('-')
        .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?))
        .filter(|interfaces| !interfaces.is_empty())
        .ok_or_else(|| "two numbers, the first not above the second, such as 0-1".into())
}

fn parse_model(name: &str) -> Result<&'static CardModel, String> {
    let known = || {
        model::MODELS
            .iter()
            .map(|m| m.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    model::MODELS
        .iter()
        .copied()
        .find(|m| m.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("there is no such model; there are {}", known()))
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::VfioUser(options) => serve(options),
        Command::Local(options) => serve_local(options),
        Command::FirmwareImage(options) => write_image(options),
        Command::Topology(options) => check_topology(options),
        Command::Control(options) => control(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mlu-server: cannot {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging and blocks the signals that are waited for.
fn begin(log: &str) -> Result<SigSet> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("vfio_user=warn,{}", log))
        .context("understand --log; use error, warn, info, debug or trace")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();

    // Every thread inherits the mask, so that the signals wait for this one.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1]);
    signals.thread_block().context("block signals")?;
    Ok(signals)
}

fn serve(arguments: VfioUser) -> Result<()> {
    let signals = begin(&arguments.log)?;
    let topology = topology(&arguments.topology, arguments.model, arguments.chips)?;
    let server = Server::start(&Options {
        topology,
        state: arguments
            .state_dir
            .unwrap_or_else(|| arguments.dir.join("state")),
        folder: arguments.dir,
        chips: arguments.chips,
        model: arguments.model,
        serials: arguments.board_serials,
        inject: arguments.inject,
        served: arguments.firmware_api.unwrap_or(SERVED),
        msix: !arguments.msi,
    })?;
    say_ready();

    loop {
        match signals.wait().context("wait for signals")? {
            Signal::SIGUSR1 => server.log_counters(),
            signal => {
                tracing::info!("{signal}: shutting down");
                server.stop();
                // Threads that wait for their hypervisor end with the process.
                return Ok(());
            }
        }
    }
}

/// The topology of a file, if one was named.
fn topology(
    file: &Option<PathBuf>,
    model: &'static CardModel,
    chips: u32,
) -> Result<Option<Topology>> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read the topology {}", file.display()))?;
        vmlu_device::topology::parse(&text, model, chips)
            .map_err(|error| anyhow::anyhow!("{}:{error}", file.display()))
    };
    file.as_ref().map(read).transpose()
}

fn check_topology(arguments: CheckTopology) -> Result<()> {
    let read = topology(&Some(arguments.file), arguments.model, arguments.chips)?;
    let mut out = std::io::stdout().lock();
    for place in read.iter().flat_map(|t| &t.places).filter(|p| p.chip == 0) {
        writeln!(out, "board {} node {}", place.board, place.node).context("print the nodes")?;
    }
    Ok(())
}

/// Whoever started us may not read it; that is no reason to stop.
fn say_ready() {
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
}

fn serve_local(arguments: Local) -> Result<()> {
    let signals = begin(&arguments.log)?;
    let boards = arguments.chips.div_ceil(arguments.model.chips_per_board);
    let wanted = &arguments.board_serials;
    let (serials, records) = match arguments.state_dir {
        Some(folder) => (
            state::serials(&folder, arguments.model, boards, wanted)?,
            state::records(&folder, arguments.model, arguments.chips)?,
        ),
        None => (
            state::fresh_serials(arguments.model, boards, wanted)?,
            Vec::new(),
        ),
    };
    let topology = topology(&arguments.topology, arguments.model, arguments.chips)?;
    let usual = Quota::of_mode(arguments.mode);
    let options = local::Options {
        topology,
        path: arguments.path.clone(),
        mode: arguments.mode,
        chips: arguments.chips,
        model: arguments.model,
        serials,
        inject: arguments.inject,
        quota: Quota {
            queues: arguments.quota_queues.unwrap_or(usual.queues),
            memory: arguments.quota_memory,
            pinned: arguments.quota_pinned,
        },
    };
    let server = LocalServer::start_with(&options, &records)
        .with_context(|| format!("serve at {}", arguments.path.display()))?;
    tracing::info!(
        "{} chips of {} at {}; fault injection is {}",
        arguments.chips,
        arguments.model.name,
        arguments.path.display(),
        if arguments.inject { "on" } else { "off" },
    );
    say_ready();
    loop {
        match signals.wait().context("wait for signals")? {
            Signal::SIGUSR1 => tracing::info!("{} connections", server.connections()),
            signal => {
                tracing::info!("{signal}: shutting down");
                return Ok(());
            }
        }
    }
}

fn write_image(arguments: FirmwareImage) -> Result<()> {
    let path = arguments.file.or(arguments.out).unwrap_or_default();
    let image = vmlu_firmware::image::build();
    std::fs::write(&path, &image)
        .with_context(|| format!("write the firmware image {}", path.display()))
}

fn control(arguments: Control) -> Result<()> {
    let path = arguments.dir.join(CONTROL_SOCKET);
    let asked = || format!("reach the server at {}; is it running?", path.display());
    let mut stream = UnixStream::connect(&path).with_context(asked)?;
    writeln!(stream, "{}", arguments.request.trim()).with_context(asked)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .with_context(asked)?;
    print!("{answer}");
    let ok =
        serde_json::from_str::<serde_json::Value>(&answer).is_ok_and(|value| value["ok"] == true);
    anyhow::ensure!(ok, "do what was asked; see the answer");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_a_command_and_an_option() {
        for spelling in ["--local", "local"] {
            let line = ["mlu-server", spelling, "/run/mlu", "--chips", "16"];
            let Ok(Cli {
                command: Command::Local(local),
            }) = Cli::try_parse_from(line)
            else {
                panic!("{spelling} is not taken");
            };
            assert_eq!(local.path, PathBuf::from("/run/mlu"));
            assert_eq!(local.chips, 16);
        }
        assert!(Cli::try_parse_from(["mlu-server", "--local"]).is_err());
    }
}
