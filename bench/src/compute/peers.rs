//! Peers: programs that run the same operators in other libraries, in turn with ours.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// How a peer is started; it speaks the lines that the programs in `bench/peers/` describe.
#[derive(Debug, Deserialize)]
pub struct Program {
    /// Name of the library.
    pub name: String,
    /// Program and arguments; the number of threads is added.
    command: Vec<String>,
    /// Added to the environment.
    environment: BTreeMap<String, String>,
}

/// Reads what a file says of peers: a list of [`Program`]s in JSON.
pub fn read(file: &Path) -> Result<Vec<Program>> {
    let text = std::fs::read_to_string(file)?;
    serde_json::from_str(&text).map_err(|e| Error::other(format!("{}: {e}", file.display())))
}

/// A running peer.
pub struct Peer {
    /// Name of the library.
    pub name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it, on the cores to which this process is bound.
    pub fn start(program: &Program, threads: usize) -> Result<Self> {
        let (first, rest) = program
            .command
            .split_first()
            .ok_or_else(|| Error::other(format!("{} has no command", program.name)))?;
        let mut child = Command::new(first)
            .args(rest)
            .arg(threads.to_string())
            .envs(&program.environment)
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let taken = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = taken else {
            return Err(Error::other("a pipe is missing"));
        };
        Ok(Self {
            name: program.name.clone(),
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            return Err(Error::other(format!("{} ended at: {line}", self.name)));
        }
        Ok(answer.trim().to_owned())
    }

    /// Whether it has an operator, which is `number` from now on.
    pub fn prepare(&mut self, number: usize, operator: &str) -> Result<bool> {
        Ok(self.ask(&format!("prepare {number} {operator}"))? == "ready")
    }

    /// Seconds of an execution of an operator, of `count` in sequence.
    pub fn seconds(&mut self, number: usize, count: u32) -> Result<f64> {
        let answer = self.ask(&format!("run {number} {count}"))?;
        match answer.parse::<f64>() {
            Ok(seconds) if seconds > 0.0 => Ok(seconds / f64::from(count)),
            _ => Err(Error::other(format!("{} said {answer}", self.name))),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be computing; nobody waits for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
