//! `cargo xtask vm`

use std::io::{stdin, stdout, IsTerminal};
use std::path::PathBuf;

use anyhow::Result;

use crate::debug::audit;
use crate::flavour::Flavour;
use crate::progress::say;
use crate::setup;
use crate::vm::config::{Accel, Config, Join};
use crate::vm::{terminal, Vm};

/// Boot a guest with virtual boards: a shell, or one command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// X8 boards, two chips each
    #[arg(long, default_value_t = 1)]
    boards: u32,
    /// Chips on root ports (Gen4 x16 as Linux sees it) instead of on boards' switches
    #[arg(long)]
    flat: bool,
    /// What is linked with what, and which boards are near to which host memory node (default: groups of four boards, each on a node of its
    /// own)
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Virtual processors; rounded up to as many on each node
    #[arg(long, default_value_t = Config::default().cpus)]
    cpus: u32,
    /// Memory, such as 2G or 512M
    #[arg(long, default_value = "2G", value_parser = size)]
    memory: u64,
    /// How the guest's processor is run
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
    /// Do not load mlu.ko
    #[arg(long)]
    no_driver: bool,
    /// Boot the kernel that checks itself and the driver, and show what it reported
    #[arg(long)]
    debug_kernel: bool,
    /// Show the kernel's log on standard error
    #[arg(long)]
    console: bool,
    /// Where the boards keep what survives a restart (default: forgotten)
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Give COMMAND a terminal
    #[arg(short, long)]
    tty: bool,
    /// More boards for other machines, which `--join` this one; links between boards run across machines
    #[arg(long, default_value_t = 0, conflicts_with = "join")]
    spare: u32,
    /// Take boards of the machine with this folder, which was started with `--spare`
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["topology", "server", "state_dir"])]
    join: Option<PathBuf>,
    /// With `--join`, the first of that machine's boards to take, counted with its own
    #[arg(long, default_value_t = 1, requires = "join")]
    first_board: u32,
    /// Use the project's programs as last built
    #[arg(long)]
    no_build: bool,
    /// More kernel parameters
    #[arg(long)]
    append: Vec<String>,
    /// More arguments for QEMU, one each
    #[arg(long, allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// More arguments for the device server, one each
    #[arg(long, allow_hyphen_values = true)]
    server: Vec<String>,
    /// What to run: a program and its arguments, or one word for the shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<i32> {
    let flavour = match args.debug_kernel {
        true => Flavour::Debug,
        false => Flavour::Stock,
    };
    let setup = setup::with_kernel(flavour, !args.no_build)?;
    let config = Config {
        boards: args.boards,
        flat: args.flat,
        topology: args.topology,
        cpus: args.cpus,
        memory: args.memory,
        accel: args.accel,
        driver: !args.no_driver,
        console: args.console,
        state: args.state_dir,
        spare: args.spare,
        join: args.join.map(|folder| Join {
            folder,
            board: args.first_board,
        }),
        server_args: args.server,
        qemu_args: args.qemu,
        kernel_args: args.append,
    };
    let vm = Vm::boot(&setup, &config)?;
    if config.shares() {
        say(format!("this machine's address is {}", config.address()));
    }
    if config.spare > 0 {
        say(format!(
            "{} boards are left for other machines: cargo xtask vm --join {} --first-board {}",
            config.spare,
            vm.folder().display(),
            config.boards
        ));
    }
    let code = attach(&vm, &args.command, args.tty);
    drop(vm);
    for report in audit::take() {
        say(format!("{report}"));
    }
    code
}

/// Runs the command, or a shell.
fn attach(vm: &Vm, command: &[String], tty: bool) -> Result<i32> {
    match command {
        [] => {
            let tty = stdin().is_terminal() && stdout().is_terminal();
            if tty {
                say(format!(
                    "{}: {}. /mlu: the project's files, /mlu/out: writable. Leave with exit.",
                    vm.accel.name(),
                    vm.accel.reason
                ));
            }
            // Not a login shell: that would forget /mlu/bin.
            let shell = if tty { ["bash", "-i"] } else { ["bash", "-s"] };
            terminal::attach(vm, shell.map(String::from).to_vec(), tty)
        }
        [script] => terminal::attach(vm, ["sh", "-c", script].map(String::from).to_vec(), tty),
        argv => terminal::attach(vm, argv.to_vec(), tty),
    }
}

/// Reads a size; the result is in MiB.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(
        text.trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .len(),
    );
    let scale = match unit
        .to_ascii_uppercase()
        .trim_end_matches("IB")
        .trim_end_matches('B')
    {
        "" | "M" => 1,
        "G" => 1024,
        _ => return Err(format!("`{unit}` is no unit: use M or G")),
    };
    let mebibytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale));
    mebibytes
        .filter(|size| (256..=1 << 20).contains(size))
        .ok_or_else(|| format!("`{text}` is not between 256M and 1024G"))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("2G"), Ok(2048));
        assert_eq!(size("512M"), Ok(512));
        assert_eq!(size("512"), Ok(512));
        assert!(size("1").is_err() && size("2T").is_err() && size("G").is_err());
    }
}
