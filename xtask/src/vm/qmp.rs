//! QEMU's monitor (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use serde_json::{json, Value};

/// A connection to the monitor.
pub struct Qmp {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the monitor's socket.
    pub fn connect(path: &Path) -> Result<Qmp> {
        let write = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        write.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut qmp = Qmp {
            read: BufReader::new(write.try_clone()?),
            write,
        };
        qmp.next()?; // the greeting
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs `command` and returns its result. Events are skipped.
    pub fn command(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        self.write.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.next()?;
            if let Some(error) = answer.get("error") {
                bail!(
                    "QEMU refused `{command}`: {}",
                    error["desc"].as_str().unwrap_or_default()
                );
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// Waits for the event `name` and returns its data.
    pub fn wait_for(&mut self, name: &str) -> Result<Value> {
        loop {
            let mut message = self.next()?;
            if message["event"] == name {
                return Ok(message["data"].take());
            }
        }
    }

    fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self
            .read
            .read_line(&mut line)
            .context("QEMU's monitor does not answer")?
            == 0
        {
            return Err(anyhow!("QEMU's monitor is gone"));
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line}"))
    }
}
