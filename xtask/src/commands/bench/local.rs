//! The bench over a local server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{count, idle_server, measure, MANY_CHIPS};
use crate::cargo::Built;
use crate::problem::problem;
use crate::progress::Step;

/// Measures over servers of its own.
pub fn run(built: &Built, step: &Step, quick: bool) -> Result<Vec<Value>> {
    let (bench, server) = (built.program("mlu-bench")?, built.program("mlu-server")?);
    let mut rows = with_server(server, 1, |address, _| {
        let mut rows = measure(bench, address, &["queues"])?;
        rows.extend(count::system_calls_here(bench, "local", address)?);
        Ok(rows)
    })?;
    if !quick {
        step.tick("idle cards");
        rows.extend(with_server(server, MANY_CHIPS, |address, pid| {
            measure(bench, address, &["touch"])?;
            idle_server(bench, "local", pid)
        })?);
    }
    Ok(rows)
}

/// Measures copies between chips and collectives over a server of its own.
pub fn link(built: &Built) -> Result<Vec<Value>> {
    let (bench, server) = (built.program("mlu-bench")?, built.program("mlu-server")?);
    with_server(server, MANY_CHIPS, |address, _| {
        measure(bench, address, &["link"])
    })
}

/// Measures what the monitor costs, over a server of its own.
pub fn monitor(built: &Built) -> Result<Vec<Value>> {
    let (bench, server) = (built.program("mlu-bench")?, built.program("mlu-server")?);
    let cnmon = built.program("cnmon")?.display().to_string();
    with_server(server, MANY_CHIPS, |address, _| {
        measure(bench, address, &["monitor", &cnmon])
    })
}

/// Ends the server with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and does something with its address and its process number.
fn with_server<T>(
    program: &Path,
    chips: u32,
    work: impl FnOnce(&str, u32) -> Result<T>,
) -> Result<T> {
    let socket = std::env::temp_dir().join(format!("vmlu-bench-{}.sock", std::process::id()));
    let mut command = Command::new(program);
    command.arg("--local").arg(&socket);
    command.args(["--chips", &chips.to_string(), "--log", "error"]);
    let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
    let mut server = Running(child.context("cannot start mlu-server")?);
    let mut line = String::new();
    if let Some(stdout) = server.0.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let result = if line.trim() == "ready" {
        work(&format!("local:{}", socket.display()), server.0.id())
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
