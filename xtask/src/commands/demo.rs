//! `cargo xtask demo`

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hosts::{Hosts, Plan};
use crate::problem::problem;
use crate::vm::agent::{Event, Output, Running};
use crate::vm::config::{Accel, Config};
use crate::vm::Vm;
use crate::{cargo, setup};

/// Boot boards, train on all of their chips, watch them with cnmon; or train over several hosts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// X8 boards, two chips each. With one, its first chip trains; with several, all chips train one network together
    #[arg(long, default_value_t = 1, value_parser = boards)]
    boards: u32,
    /// Instead of a machine: so many hosts, network namespaces of this machine, train together over MPI
    #[arg(long, conflicts_with_all = ["boards", "accel"], value_parser = hosts)]
    hosts: Option<u32>,
    /// With `--hosts`, the chips of each
    #[arg(long, requires = "hosts", default_value_t = 1, value_parser = hosts)]
    chips: u32,
    /// How the guest's processor is run
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
    /// Use the project's programs as last built
    #[arg(long)]
    no_build: bool,
}

/// How long training may take.
const TRAINING: Duration = Duration::from_secs(300);

/// How often the images are gone through by one chip, and by several, whose threads share the guest's processors.
const EPOCHS: u32 = 150;
const EPOCHS_TOGETHER: u32 = 25;

/// How long after its first line on an epoch cnmon looks: the card has been busy for a while then.
const UNDER_WAY: Duration = Duration::from_millis(250);

fn boards(text: &str) -> Result<u32, String> {
    match text.parse() {
        // The chips share each batch of images evenly.
        Ok(boards @ (1 | 2 | 4 | 8)) => Ok(boards),
        _ => Err("1, 2, 4 or 8".into()),
    }
}

fn hosts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(hosts @ (1 | 2 | 4)) => Ok(hosts),
        _ => Err("1, 2 or 4".into()),
    }
}

/// Trains on chips of several hosts.
fn over_hosts(hosts: u32, args: &Args) -> Result<i32> {
    let machines = Hosts::ensure()?;
    let built = match args.no_build {
        true => cargo::built_before()?,
        false => cargo::build()?,
    };
    built.program("mlu-server")?;
    let arguments = format!("--mpi --epochs {EPOCHS_TOGETHER}");
    heading(&format!(
        "mpirun, {hosts} hosts of {} chips: digits {arguments}",
        args.chips
    ));
    let arguments: Vec<String> = arguments.split(' ').map(String::from).collect();
    let mut command = machines.command(&Plan {
        hosts,
        ranks: args.chips,
        program: built.program("digits")?,
        arguments: &arguments,
        folder: None,
        as_user: false,
    })?;
    let status = command.status().map_err(|error| {
        let next = "install util-linux, or see `cargo xtask doctor`";
        problem("start hosts", format!("unshare: {error}"), next)
    })?;
    Ok(status.code().unwrap_or(1))
}

/// Runs the command.
pub fn run(args: Args) -> Result<i32> {
    if let Some(hosts) = args.hosts {
        return over_hosts(hosts, &args);
    }
    let setup = setup::everything(!args.no_build)?;
    setup.built.program("digits")?;
    setup.built.program("cnmon")?;
    if setup.module.is_none() {
        return Err(problem(
            "load the driver",
            "driver/ has no Kbuild file, so there is no mlu.ko",
            "restore driver/",
        ));
    }
    let vm = Vm::boot(
        &setup,
        &Config {
            boards: args.boards,
            accel: args.accel,
            ..Config::default()
        },
    )?;
    heading("uname -a; lspci -nn -d cabc:; dmesg | grep mlu");
    print!(
        "{}",
        vm.ok("uname -a; lspci -nn -d cabc:; dmesg | grep -i '\\bmlu' | tail -n 20")?
    );

    let several = args.boards > 1;
    if several {
        heading("cnmon topo -m");
        show(&vm.exec("cnmon topo -m")?);
    }
    let command = match several {
        false => format!("digits --epochs {EPOCHS}"),
        true => {
            let chips = vm.config().chips();
            format!("digits --chips {chips} --epochs {EPOCHS_TOGETHER}")
        }
    };
    heading(&command);
    let digits = vm.start(&format!("exec /mlu/bin/{command}"))?;
    digits.input(&[])?;
    let code = train(&vm, &digits)?;
    if code != 0 {
        let next = format!(
            "look at the output above, and at the logs in {}",
            vm.logs().display()
        );
        return Err(problem(
            "train in the guest",
            format!("digits ended with {code}"),
            next,
        ));
    }
    heading("cnmon, after");
    show(&vm.exec("cnmon")?);
    if several {
        heading("cnmon mlulink -c 0 -s -r -t");
        show(&vm.exec("cnmon mlulink -c 0 -s -r -t")?);
    }
    Ok(0)
}

/// Hands the output of the training through; shows cnmon once in the middle of it.
fn train(vm: &Vm, digits: &Running) -> Result<i32> {
    let started = Instant::now();
    let mut first_epoch = None;
    let mut looked = false;
    loop {
        // What it says while cnmon runs waits.
        if !looked && first_epoch.is_some_and(|at: Instant| at.elapsed() > UNDER_WAY) {
            looked = true;
            heading("cnmon, while it trains");
            show(&vm.exec("cnmon")?);
            heading("digits");
        }
        match digits.next(Duration::from_millis(50))? {
            Some(Event::Stdout(bytes)) => {
                print(&bytes);
                if first_epoch.is_none() && String::from_utf8_lossy(&bytes).contains("epoch") {
                    first_epoch = Some(Instant::now());
                }
            }
            Some(Event::Stderr(bytes)) => print(&bytes),
            Some(Event::Exit(code)) => return Ok(code),
            Some(Event::Failed(why)) => {
                return Err(problem(
                    "start digits in the guest",
                    why,
                    "see `cargo xtask vm`: ls /mlu/bin",
                ));
            }
            None => {}
        }
        if started.elapsed() > TRAINING {
            digits.signal(9)?;
            let wrong = format!("digits did not end within {} s", TRAINING.as_secs());
            return Err(problem(
                "train in the guest",
                wrong,
                format!("read the logs in {}", vm.logs().display()),
            ));
        }
    }
}

fn heading(text: &str) {
    println!("\n── {text} ──");
}

fn show(output: &Output) {
    print!("{}{}", output.stdout, output.stderr);
}

fn print(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A closed standard output is no reason to stop training.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
