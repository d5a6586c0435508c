//! The device server: one process that is all chips of a machine.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::topology;
use crate::problem::problem;
use crate::run;

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running device server.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    sockets: PathBuf,
    log: PathBuf,
    chips: u32,
    child: Option<Child>,
}

impl Server {
    /// Starts the server and waits until it listens for every chip.
    pub fn start(
        program: &Path,
        sockets: &Path,
        chips: u32,
        state: &Path,
        log: &Path,
        more: &[String],
    ) -> Result<Server> {
        let mut arguments = vec![
            "vfio-user".into(),
            "--dir".into(),
            sockets.display().to_string(),
        ];
        arguments.extend([
            "--chips".into(),
            chips.to_string(),
            "--state-dir".into(),
            state.display().to_string(),
        ]);
        arguments.extend_from_slice(more);
        let (program, sockets, log) = (program.to_owned(), sockets.to_owned(), log.to_owned());
        let mut server = Server {
            program,
            arguments,
            sockets,
            log,
            chips,
            child: None,
        };
        server.restart()?;
        Ok(server)
    }

    /// Kills the server if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server anew. A machine that lost its server does not find the new one by itself.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        for chip in 0..self.chips {
            let _ = fs::remove_file(topology::socket(&self.sockets, chip));
        }
        let asked = "start the device server";
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = run::tied_command(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = run::spawn_tied(command).with_context(|| format!("cannot {asked}"))?;
        let stdout = child.stdout.take().expect("it is piped");
        self.child = Some(child);
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.trim() == "ready" {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(PATIENCE).map_err(|error| {
            self.kill();
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<_> = log
                .lines()
                .rev()
                .take(10)
                .map(|line| format!("\n    {line}"))
                .collect();
            let what = match error {
                mpsc::RecvTimeoutError::Timeout => {
                    format!("it was not ready after {} s", PATIENCE.as_secs())
                }
                mpsc::RecvTimeoutError::Disconnected => "it ended".into(),
            };
            let last: String = last.into_iter().rev().collect();
            problem(
                asked,
                format!("{what}:{last}"),
                format!("read {}", self.log.display()),
            )
        })
    }

    /// Process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The folder of the sockets.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // First politely: it saves the boards' state.
        if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..100 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }
}
