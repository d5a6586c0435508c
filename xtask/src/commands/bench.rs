//! `cargo xtask bench`

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::cargo;
use crate::problem::problem;
use crate::progress::{say, Step};
use crate::setup::{self, Setup};
use crate::vm::config::Config;
use crate::vm::Vm;

/// Measure, each figure beside its floor and its goal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(default_value = "queues")]
    bench: String,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Only these transports
    #[arg(long, value_enum)]
    transport: Vec<Transport>,
}

/// Ways to reach the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// In the measuring process
    Embedded,
    /// In a server of its own
    Local,
    /// In a virtual machine, over the driver
    Kernel,
}

/// How long a bench may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command; fails if a goal is missed.
pub fn run(args: Args) -> Result<i32> {
    let chosen = match args.transport.as_slice() {
        [] => vec![Transport::Embedded, Transport::Local, Transport::Kernel],
        some => some.to_vec(),
    };
    let mut rows = Vec::new();
    let here = chosen.iter().any(|t| *t != Transport::Kernel);
    if here {
        let built = cargo::build()?;
        let program = built.program("mlu-bench")?;
        for transport in chosen.iter().filter(|t| **t != Transport::Kernel) {
            let step = Step::start(format!("{} over {transport:?}", args.bench));
            rows.extend(match transport {
                Transport::Embedded => measure(program, &args.bench, "embedded")?,
                _ => with_server(built.program("mlu-server")?, |address| {
                    measure(program, &args.bench, address)
                })?,
            });
            step.done();
        }
    }
    if chosen.contains(&Transport::Kernel) {
        rows.extend(in_guest(&setup::everything(!here)?, &args.bench)?);
    }
    if args.json {
        rows.iter().for_each(|row| println!("{row}"));
    } else {
        print_table(&rows);
    }
    let missed = rows.iter().filter(|row| row["ok"] == false).count();
    if missed > 0 {
        say(format!("{missed} goals missed"));
    }
    Ok(i32::from(missed > 0))
}

fn measure(program: &Path, bench: &str, transport: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(program);
    command.arg(bench).env("MLU_TRANSPORT", transport);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(problem(
            format!("measure {bench} over {transport}"),
            format!("mlu-bench ended with {}", output.status),
            "see its message above",
        ));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<Vec<Value>> {
    let rows = text.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>()
        .with_context(|| format!("mlu-bench printed {text}"))
}

/// Ends the server with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_server<T>(program: &Path, work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let socket = std::env::temp_dir().join(format!("vmlu-bench-{}.sock", std::process::id()));
    let mut command = Command::new(program);
    command.arg("--local").arg(&socket).args(["--log", "error"]);
    let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
    let mut server = Running(child.context("cannot start mlu-server")?);
    let mut line = String::new();
    if let Some(stdout) = server.0.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let result = if line.trim() == "ready" {
        work(&format!("local:{}", socket.display()))
    } else {
        Err(problem(
            "start a local server",
            format!("it said `{}`", line.trim()),
            format!("try `{} --local {}`", program.display(), socket.display()),
        ))
    };
    drop(server);
    for left in [socket.clone(), socket.with_extension("sock.lock")] {
        let _ = std::fs::remove_file(left);
    }
    result
}

fn in_guest(setup: &Setup, bench: &str) -> Result<Vec<Value>> {
    setup.built.program("mlu-bench")?;
    let config = Config {
        cpus: 1,
        ..Config::default()
    };
    let vm = Vm::boot(setup, &config)?;
    let step = Step::start(format!("{bench} over Kernel"));
    let output = vm.exec_within(&format!("MLU_TRANSPORT=kernel mlu-bench {bench}"), PATIENCE)?;
    if output.code != 0 {
        return Err(problem(
            format!("measure {bench} in the guest"),
            output.stderr,
            format!("see the logs in {}", vm.logs().display()),
        ));
    }
    step.done();
    parse(&output.stdout)
}

fn print_table(rows: &[Value]) {
    let number = |value: &Value| match value.as_f64() {
        None => "-".to_owned(),
        Some(v) if v.abs() >= 100.0 => format!("{v:.0}"),
        Some(v) => format!("{v:.2}"),
    };
    println!(
        "{:<9} {:<38} {:>10} {:<5} {:>10} {:>10} {:>7}",
        "transport", "figure", "value", "unit", "floor", "goal", "met"
    );
    for row in rows {
        let met = match row["ok"].as_bool() {
            None => "",
            Some(true) => "yes",
            Some(false) => "MISSED",
        };
        println!(
            "{:<9} {:<38} {:>10} {:<5} {:>10} {:>10} {:>7}",
            row["transport"].as_str().unwrap_or_default(),
            row["name"].as_str().unwrap_or_default(),
            number(&row["value"]),
            row["unit"].as_str().unwrap_or_default(),
            number(&row["floor"]),
            number(&row["goal"]),
            met
        );
    }
}
