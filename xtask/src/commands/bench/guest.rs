//! The bench in a virtual machine, over the driver.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use serde_json::Value;

use super::{count, idle_server, median, parse, row, MANY_CHIPS, PATIENCE, ROUNDS};
use crate::problem::problem;
use crate::progress::{say, Step};
use crate::run;
use crate::setup::Setup;
use crate::vm::agent::Event;
use crate::vm::config::{Config, CHIPS_A_BOARD};
use crate::vm::Vm;

/// Measures in machines of its own.
pub fn run(setup: &Setup, quick: bool) -> Result<Vec<Value>> {
    setup.built.program("mlu-bench")?;
    let vm = Vm::boot(setup, &Config::default())?;
    let step = Step::start("queues over kernel");
    let mut rows = parse(&bench(&vm, "mlu-bench queues")?)?;
    rows.push(traps(&vm, setup.built.program("mlu-server")?)?);
    rows.extend(system_calls(&vm)?);
    step.done();
    drop(vm);
    if !quick {
        let vm = boot_many(setup)?;
        let step = Step::start("idle cards in a quiet machine");
        bench(&vm, "mlu-bench touch && cnmon")?;
        let pid = vm.server()?.pid();
        if let Some(pid) = pid {
            rows.extend(idle_server(
                setup.built.program("mlu-bench")?,
                "kernel",
                pid,
            )?);
        }
        step.done();
    }
    Ok(rows)
}

/// Boots a machine of [`MANY_CHIPS`].
fn boot_many(setup: &Setup) -> Result<Vm> {
    let boards = MANY_CHIPS / CHIPS_A_BOARD;
    Vm::boot(
        setup,
        &Config {
            boards,
            ..Config::default()
        },
    )
}

/// How long a machine of sixteen chips takes, from the start of the device server to all of its device nodes.
pub fn link(setup: &Setup) -> Result<Vec<Value>> {
    let start = Instant::now();
    let vm = boot_many(setup)?;
    let nodes = vm.ok("ls /dev | grep -c '^mlu[0-9]*$'")?;
    let took = start.elapsed().as_secs_f64();
    if nodes.trim() != MANY_CHIPS.to_string() {
        bail!("{} of {MANY_CHIPS} device nodes are there", nodes.trim());
    }
    let name = "sixteen chips, from start to their device nodes";
    Ok(vec![row("link", "kernel", name, took, "s", Some(15.0))])
}

/// Runs a command in the guest; what it prints.
fn bench(vm: &Vm, command: &str) -> Result<String> {
    let output = vm.exec_within(&format!("export MLU_TRANSPORT=kernel; {command}"), PATIENCE)?;
    if output.code != 0 {
        return Err(problem(
            format!("run `{command}` in the guest"),
            output.stderr,
            format!("see the logs in {}", vm.logs().display()),
        ));
    }
    Ok(output.stdout)
}

/// Accesses of the guest that were trapped so far, on all chips.
fn trapped(vm: &Vm, server: &Path) -> Result<u64> {
    let mut command = Command::new(server);
    command
        .args(["control", "--dir"])
        .arg(vm.server()?.sockets());
    command.arg(r#"{"cmd":"status"}"#);
    let line = run::output(command)?;
    let status: Value = serde_json::from_str(&line)?;
    let kinds = [
        "config_reads",
        "config_writes",
        "register_reads",
        "register_writes",
        "kicks",
        "window_accesses",
    ];
    let chips = status["chips"].as_array().into_iter().flatten();
    let counts = chips.flat_map(|chip| kinds.map(|kind| chip["counters"][kind].as_u64()));
    match counts.sum::<Option<u64>>() {
        Some(sum) if sum > 0 => Ok(sum),
        _ => bail!("the device server's counters cannot be read from {line}"),
    }
}

/// Trapped accesses in the steady state. What the driver does by itself, such as looking whether the card still lives, happens with or
/// without commands and is measured just before.
fn traps(vm: &Vm, server: &Path) -> Result<Value> {
    let running = vm.start(&format!(
        "MLU_TRANSPORT=kernel mlu-bench steady --rounds {ROUNDS}"
    ))?;
    let mut said = String::new();
    let mut until = |mark: &str| -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some((before, after)) = said.split_once(mark) {
                if before.trim().is_empty() {
                    said = after.trim_start().to_owned();
                    return Ok(());
                }
                bail!("the bench said `{before}` before `{mark}`");
            }
            match running.next(Duration::from_secs(1))? {
                Some(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                    said.push_str(&String::from_utf8_lossy(&bytes))
                }
                Some(other) => bail!("the bench ended with {other:?} after: {said}"),
                None if start.elapsed() > PATIENCE => bail!("no `{mark}` after: {said}"),
                None => {}
            }
        }
    };
    let mut counts = Vec::new();
    for _ in 0..ROUNDS {
        until("ready")?;
        let (start, before) = (Instant::now(), trapped(vm, server)?);
        running.input(b"\n")?;
        until("begin")?;
        until("end")?;
        let (lasted, after) = (start.elapsed(), trapped(vm, server)?);
        let quiet = trapped(vm, server)?;
        std::thread::sleep(lasted);
        let idle = trapped(vm, server)? - quiet;
        running.input(b"\n")?;
        counts.push((after - before).saturating_sub(idle) as f64);
    }
    running.finish(PATIENCE)?;
    let name = "trapped accesses a million commands";
    Ok(row("queues", "kernel", name, median(counts), "", Some(0.0)))
}

fn system_calls(vm: &Vm) -> Result<Vec<Value>> {
    let (strace, options) = (count::STRACE, count::STRACE_OPTIONS);
    if vm.exec(&format!("command -v {strace}"))?.code != 0 {
        say(format!(
            "system calls are not counted: the guest has no {strace}"
        ));
        return Ok(Vec::new());
    }
    let trace = bench(
        vm,
        &format!(
            "{strace} {options} -o /tmp/trace mlu-bench steady --rounds {ROUNDS} </dev/null >/dev/null && cat /tmp/trace; rm -f /tmp/trace"
        ),
    )?;
    count::system_calls("kernel", &trace)
}
