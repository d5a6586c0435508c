//! `cargo xtask bench`

mod count;
mod guest;
mod local;
mod peers;
mod table;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{json, Value};

use crate::cargo;
use crate::paths;
use crate::problem::problem;
use crate::progress::{say, Step};
use crate::setup;

/// Measure, each figure beside its floor and its goal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(default_value = "queues")]
    bench: Bench,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Only these transports
    #[arg(long, value_enum)]
    transport: Vec<Transport>,
    /// Leave out what takes minutes: what idle cards cost
    #[arg(long)]
    quick: bool,
    /// `compute`: without oneDNN and onnxruntime, which need about 400 MB in the cache
    #[arg(long)]
    no_peers: bool,
    /// `compute`: only figures whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// `link`: measure which algorithm an all-reduce goes by on which topology, and write the runtime's table of it
    #[arg(long)]
    table: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Submission, completion, sleep, copies, the end of processes, idle cards
    Queues,
    /// Operators on one core and on two, in the measuring process, and the same in oneDNN and onnxruntime
    Compute,
    /// What the card's model says of known workloads
    Model,
    /// Copies between chips and collectives; how long a machine of sixteen chips takes to start
    Link,
    /// Calls of the C interfaces with the vendor's names, in the measuring process, and what cnmon costs, with sixteen chips
    Abi,
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
/// How often traps and system calls of a million commands are counted.
const ROUNDS: u32 = 9;
/// For how long idle cards are watched.
const IDLE: Duration = Duration::from_secs(60);
/// Chips of which many are watched at once.
const MANY_CHIPS: u32 = 16;

/// Runs the command; fails if a goal is missed.
pub fn run(args: Args) -> Result<i32> {
    if args.bench == Bench::Compute {
        return finish(&args, compute(&args)?);
    }
    if args.bench == Bench::Model {
        let built = cargo::build()?;
        let rows = measure(built.program("mlu-bench")?, "embedded", &["model"])?;
        return finish(&args, rows);
    }
    if args.bench == Bench::Abi {
        let built = cargo::build()?;
        let mut command = Command::new(built.program("mlu-bench")?);
        command.arg("abi").env("MLU_TRANSPORT", "embedded");
        command.env("MLU_CHIPS", MANY_CHIPS.to_string());
        let mut rows = output(command, "embedded")?;
        rows.extend(local::monitor(&built)?);
        return finish(&args, rows);
    }
    let chosen = match args.transport.as_slice() {
        [] => vec![Transport::Embedded, Transport::Local, Transport::Kernel],
        some => some.to_vec(),
    };
    let has = |transport| chosen.contains(&transport);
    let mut rows = Vec::new();
    if args.bench == Bench::Link {
        let built = cargo::build()?;
        let program = built.program("mlu-bench")?;
        if args.table {
            return write_table(program);
        }
        if has(Transport::Embedded) {
            let step = Step::start("links over embedded");
            let mut command = Command::new(program);
            command.arg("link").env("MLU_TRANSPORT", "embedded");
            command.env("MLU_CHIPS", MANY_CHIPS.to_string());
            command.env("MLU_INJECT", "1");
            rows.extend(output(command, "embedded")?);
            step.done();
        }
        if has(Transport::Local) {
            let step = Step::start("links over local");
            rows.extend(local::link(&built)?);
            step.done();
        }
        if has(Transport::Kernel) {
            rows.extend(guest::link(&setup::everything(true)?)?);
        }
        return finish(&args, rows);
    }
    let here = has(Transport::Embedded) || has(Transport::Local);
    if here {
        let built = cargo::build()?;
        let program = built.program("mlu-bench")?;
        if has(Transport::Embedded) {
            let step = Step::start("queues over embedded");
            rows.extend(measure(program, "embedded", &["queues"])?);
            rows.extend(count::system_calls_here(program, "embedded", "embedded")?);
            if !args.quick {
                step.tick("an idle card");
                rows.extend(idle_embedded(program)?);
            }
            step.done();
        }
        if has(Transport::Local) {
            let step = Step::start("queues over local");
            rows.extend(local::run(&built, &step, args.quick)?);
            step.done();
        }
    }
    if has(Transport::Kernel) {
        rows.extend(guest::run(&setup::everything(!here)?, args.quick)?);
    }
    finish(&args, rows)
}

/// Measures operators on one core and on two; rows of both, and how they compare.
fn compute(args: &Args) -> Result<Vec<Value>> {
    let built = cargo::build()?;
    let program = built.program("mlu-bench")?;
    let peers = match args.no_peers {
        true => None,
        false => match peers::programs() {
            Ok(programs) => {
                let file = paths::target().join("peers/programs.json");
                std::fs::write(&file, programs.to_string())?;
                Some(file.to_string_lossy().into_owned())
            }
            Err(error) => {
                say(format!("without oneDNN and onnxruntime: {error:#}"));
                None
            }
        },
    };
    let mut rows = Vec::new();
    for cores in ["1", "2"] {
        let step = Step::start(format!("operators on {cores} of the cores"));
        let mut arguments = vec!["compute", "--cores", cores, "--only", &args.only];
        if let Some(peers) = &peers {
            arguments.extend(["--peers", peers]);
        }
        rows.extend(measure(program, "embedded", &arguments)?);
        step.done();
    }
    let of = |name: &str| rows.iter().find(|row| row["name"] == name);
    let mut ratios = Vec::new();
    for row in &rows {
        let one = row["name"]
            .as_str()
            .and_then(|n| n.strip_prefix("1 core: "));
        let Some(name) = one.filter(|_| row["unit"] == "Gop/s" && row["floor"].is_number()) else {
            continue;
        };
        let Some(two) = of(&format!("2 cores: {name}")) else {
            continue;
        };
        let ratio = |of: &str| Some(two[of].as_f64()? / row[of].as_f64()?);
        // What memory bounds does not double with the cores.
        if ratio("floor").is_some_and(|ratio| ratio < 1.8) {
            continue;
        }
        if let Some(value) = ratio("value") {
            ratios.push(json!({
                "bench": "compute",
                "name": format!("2 cores against 1: {name}"),
                "transport": "embedded",
                "value": value,
                "unit": "",
                "floor": null,
                "peer": null,
                "goal": 1.9,
                "ok": value >= 1.9,
            }));
        }
    }
    rows.extend(ratios);
    Ok(rows)
}

/// Where the runtime has its table of algorithms.
const TABLE: &str = "runtime/src/collective/algorithm.txt";

/// Measures the algorithms of all-reduces and writes the runtime's table; the next build has it.
fn write_table(program: &Path) -> Result<i32> {
    let step = Step::start("algorithms of all-reduces");
    let mut command = Command::new(program);
    command.args(["link", "--table"]);
    let table = crate::run::output(command)?;
    let file = paths::project().join(TABLE);
    std::fs::write(&file, table.trim_end().to_owned() + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    step.done();
    say(format!("{TABLE} is written; build again to use it"));
    Ok(0)
}

/// Prints rows; 1 if a goal was missed.
fn finish(args: &Args, rows: Vec<Value>) -> Result<i32> {
    if args.json {
        rows.iter().for_each(|row| println!("{row}"));
    } else {
        table::print(&rows);
    }
    let missed = rows.iter().filter(|row| row["ok"] == false).count();
    if missed > 0 {
        say(format!("{missed} goals missed"));
    }
    Ok(i32::from(missed > 0))
}

/// Runs `mlu-bench` over a transport; its rows.
fn measure(program: &Path, transport: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(program);
    command.args(arguments).env("MLU_TRANSPORT", transport);
    output(command, transport)
}

fn output(mut command: Command, transport: &str) -> Result<Vec<Value>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(problem(
            format!("measure over {transport}"),
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

fn idle_embedded(program: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(program);
    let seconds = IDLE.as_secs().to_string();
    command.args(["idle", "--seconds", &seconds]);
    command
        .env("MLU_TRANSPORT", "embedded")
        .env("MLU_CHIPS", MANY_CHIPS.to_string());
    output(command, "embedded")
}

/// A figure that this program measured itself; at most `goal` is good.
fn row(
    bench: &str,
    transport: &str,
    name: &str,
    value: f64,
    unit: &str,
    goal: Option<f64>,
) -> Value {
    json!({
        "bench": bench,
        "name": name,
        "transport": transport,
        "value": value,
        "unit": unit,
        "floor": null,
        "peer": null,
        "goal": goal,
        "ok": goal.map(|goal| value <= goal),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What an idle server costs.
fn idle_server(program: &Path, transport: &str, pid: u32) -> Result<Vec<Value>> {
    let mut command = Command::new(program);
    command.args(["idle", "--transport", transport]);
    for (name, number) in [
        ("--pid", pid),
        ("--chips", MANY_CHIPS),
        ("--seconds", IDLE.as_secs() as u32),
    ] {
        command.arg(name).arg(number.to_string());
    }
    output(command, transport)
}
