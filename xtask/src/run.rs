//! Running programs: their output goes to a log, its last lines into the error.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::OnceLock;
use std::thread;

use anyhow::{anyhow, Context, Result};

use crate::paths;
use crate::problem::problem;
use crate::progress::Step;

/// Lines of output that an error repeats.
const SHOWN: usize = 15;

/// Runs `command`, its output into the log `name` and the step's message. `asked` completes "cannot …".
pub fn logged(mut command: Command, asked: &str, name: &str, step: &Step) -> Result<()> {
    let path = paths::logs().join(format!("{name}.log"));
    fs::create_dir_all(paths::logs())?;
    let mut log =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // One pipe for both streams keeps their order.
    let (output, input) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| {
        problem(
            asked,
            format!("{program} did not start: {error}"),
            "install it, or see `cargo xtask doctor`",
        )
    })?;
    drop(command);
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    let mut output = BufReader::new(output);
    while output.read_until(b'\n', &mut line)? > 0 {
        log.write_all(&line)?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        step.tick(&text);
        if last.len() == SHOWN {
            last.pop_front();
        }
        last.push_back(text);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let last: Vec<_> = last.iter().map(|line| format!("\n    {line}")).collect();
    Err(problem(
        asked,
        format!("{program} ended with {status}:{}", last.concat()),
        format!("read {}", path.display()),
    ))
}

/// Runs `command` and returns its standard output; its standard error goes into the error.
pub fn output(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!(
            "{shown} ended with {}: {}",
            output.status,
            stderr.trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program `name` in `PATH` or the folders of the administrator.
pub fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Starts `program` so that it dies with this process, however this one ends.
///
/// The kernel ties a child to the *thread* that started it, so one thread that lives as long as the process starts them all.
pub fn spawn_tied(command: Command) -> Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, receiver) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in receiver {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    spawner
        .send((command, answer))
        .map_err(|_| anyhow!("the thread that starts programs is gone"))?;
    Ok(child.recv()??)
}

/// A command that runs `program` and is killed when the thread that starts it ends; see [`spawn_tied`].
pub fn tied_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
