//! Virtual machines: [`Vm::boot`] one, [`Vm::exec`] commands in it. It ends when it is dropped.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

pub mod accel;
pub mod agent;
pub mod config;
mod plug;
pub mod qemu;
pub mod qmp;
pub mod server;
mod share;
pub mod terminal;
pub mod topology;

use agent::{Agent, Output, Running};
use config::Config;
use qemu::Files;
use server::Server;
use vmlu_agent::Exec;

use crate::debug::audit;
use crate::debug::report::{self, Report};
use crate::flavour::Flavour;
use crate::paths;
use crate::problem::problem;
use crate::progress::{say, Step};
use crate::run;
use crate::setup::Setup;

/// How long a boot may take, on a machine that is busy with other things.
const BOOT: Duration = Duration::from_secs(120);

/// How long [`Vm::exec`] waits.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running virtual machine.
pub struct Vm {
    // Dropped in this order: the machine before its cards.
    qemu: Qemu,
    agent: Agent,
    server: Option<Mutex<Server>>,
    config: Config,
    flavour: Flavour,
    /// Bytes of the kernel's log whose reports were taken.
    seen: AtomicUsize,
    files: Files,
    /// KVM or TCG, and why.
    pub accel: accel::Choice,
}

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Vm {
    /// Starts the device server and QEMU and waits for the agent. Checks that every chip has all of its BARs.
    pub fn boot(setup: &Setup, config: &Config) -> Result<Vm> {
        let accel = accel::choose(config.accel, &setup.toolbox, &setup.guest)?;
        let boards = config.boards + config.spare;
        if boards > config::MAX_BOARDS {
            let wrong = format!(
                "{boards} boards asked for, {} are the most",
                config::MAX_BOARDS
            );
            return Err(problem(
                "boot the guest",
                wrong,
                "ask for fewer with --boards",
            ));
        }
        let step = Step::with_length("boot", 48);
        let run = run_folder()?;
        let logs = log_folder(run.file_name().unwrap_or_default())?;
        let files = Files {
            run,
            logs,
            stage: setup.flavour.stage(),
            out: paths::out(),
        };
        let nodes = nodes(setup, config)?;
        let server = match (&config.join, config.chips()) {
            (Some(join), chips) => {
                share::sockets(join, chips, &files.run)?;
                None
            }
            (None, 0) => None,
            (None, _) => {
                let chips = (config.boards + config.spare) * config::CHIPS_A_BOARD;
                let state = config
                    .state
                    .clone()
                    .unwrap_or_else(|| files.run.join("state"));
                fs::create_dir_all(&state)?;
                let program = setup.built.program("mlu-server")?;
                let log = files.logs.join("server.log");
                let mut arguments = config.server_args.clone();
                if let Some(file) = &config.topology {
                    arguments.extend(["--topology".into(), file.display().to_string()]);
                }
                Some(Mutex::new(Server::start(
                    program, &files.run, chips, &state, &log, &arguments,
                )?))
            }
        };
        let mut config = config.clone();
        config.kernel_args.extend(setup.flavour.kernel_arguments());
        let mut command = qemu::machine(
            &setup.toolbox,
            accel.accel,
            &config,
            &nodes,
            &setup.guest,
            &files,
        );
        let log = File::create(files.logs.join("qemu.log"))?;
        command
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut qemu = Qemu(run::spawn_tied(command).context("cannot start QEMU")?);
        if config.console {
            follow(files.kernel_log());
        }
        let agent = wait_for_agent(&mut qemu.0, &files, setup.flavour, &step)?;
        let vm = Vm {
            qemu,
            agent,
            server,
            config,
            flavour: setup.flavour,
            seen: AtomicUsize::new(0),
            files,
            accel,
        };
        vm.check_bars()?;
        let chips = match vm.config.chips() {
            0 => "no chips".into(),
            chips => format!("{chips} chips"),
        };
        step.done_with(&format!("{}, {chips}", vm.accel.name()));
        vm.check_driver()?;
        if vm.config.shares() {
            share::up(&vm)?;
        }
        Ok(vm)
    }

    /// Runs a shell script in the guest and waits for its end, at most [`PATIENCE`].
    pub fn exec(&self, script: &str) -> Result<Output> {
        self.exec_within(script, PATIENCE)
    }

    /// [`Vm::exec`] with another time limit.
    pub fn exec_within(&self, script: &str, timeout: Duration) -> Result<Output> {
        let running = self.start(script)?;
        running.input(&[])?;
        running
            .finish(timeout)
            .with_context(|| format!("cannot run `{script}` in the guest"))
    }

    /// Runs a shell script; anything but exit code 0 is an error. Returns its standard output.
    pub fn ok(&self, script: &str) -> Result<String> {
        let output = self.exec(script)?;
        if output.code != 0 {
            bail!(
                "`{script}` ended with {} in the guest:\n{}{}",
                output.code,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// Starts a shell script in the guest without waiting.
    pub fn start(&self, script: &str) -> Result<Running> {
        self.start_exec(&Exec {
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            ..Exec::default()
        })
    }

    /// Starts a program in the guest without waiting.
    pub fn start_exec(&self, exec: &Exec) -> Result<Running> {
        self.agent.start(exec)
    }

    /// Runs a command of QEMU's monitor.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        qmp::Qmp::connect(&self.files.qmp())?.command(command, arguments)
    }

    /// Resets the machine as its reset button would, and waits until the guest is up again.
    pub fn reset(&self) -> Result<()> {
        // -no-reboot would end QEMU instead.
        self.qmp("set-action", json!({"reboot": "reset"}))?;
        self.qmp("system_reset", json!({}))?;
        self.wait_again("reset the guest")
    }

    /// Waits until the guest, which has been told to start anew, is up again; `asked` says what for.
    pub fn wait_again(&self, asked: &str) -> Result<()> {
        if !self.agent.wait_hello(BOOT * self.flavour.slowness())? {
            return Err(problem(asked, "it did not come up again", self.see_logs()));
        }
        self.check_bars()
    }

    /// The device server, to kill and restart it. An error on a machine without cards.
    pub fn server(&self) -> Result<MutexGuard<'_, Server>> {
        let server = self
            .server
            .as_ref()
            .context("this machine has no cards, so no device server")?;
        Ok(server.lock().expect("no one panics with it"))
    }

    /// What it was booted with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder that the guest can write to, there `/mlu/out`.
    pub fn out(&self) -> &Path {
        &self.files.out
    }

    /// How many times longer than usual something in it may take.
    pub fn slowness(&self) -> u32 {
        self.flavour.slowness()
    }

    /// What the kernel has logged on its console.
    pub fn kernel_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.files.kernel_log()).unwrap_or_default()).into_owned()
    }

    /// What a debug kernel has reported on the console since the last call. Nothing of a stock one.
    pub fn reports(&self) -> Vec<Report> {
        if self.flavour == Flavour::Stock {
            return Vec::new();
        }
        let log = self.kernel_log();
        let from = self.seen.swap(log.len(), Ordering::Relaxed);
        report::reports(log.get(from..).unwrap_or_default())
    }

    /// The folder of its sockets, by which other machines join it.
    pub fn folder(&self) -> &Path {
        &self.files.run
    }

    /// The folder of this machine's logs: `kernel.log`, `qemu.log`, `server.log`.
    pub fn logs(&self) -> &Path {
        &self.files.logs
    }

    /// Whether QEMU still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.qemu.0.try_wait(), Ok(None))
    }

    /// Addresses of the chips and whether each of their BARs 0, 2, 4 has a place.
    pub fn bars(&self) -> Result<Vec<(String, [bool; 3])>> {
        let script = "cd /sys/bus/pci/devices; for d in *; do read v < $d/vendor; [ $v = 0xcabc ] || continue; \
            echo $d $(cut -d' ' -f1 $d/resource | sed -n '1p;3p;5p'); done";
        let rows = self.ok(script)?;
        let rows = rows.lines().map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let mut placed = || {
                words
                    .next()
                    .is_some_and(|start| !start.trim_start_matches(['0', 'x']).is_empty())
            };
            (name, [placed(), placed(), placed()])
        });
        Ok(rows.collect())
    }

    fn check_bars(&self) -> Result<()> {
        if self.config.chips() == 0 {
            return Ok(());
        }
        let chips = self.bars()?;
        let whole = chips.iter().filter(|(_, bars)| *bars == [true; 3]).count();
        if whole == self.config.chips() as usize {
            return Ok(());
        }
        let wrong = format!(
            "{} chips asked for, {} seen, {whole} with all of their BARs: {chips:?}",
            self.config.chips(),
            chips.len()
        );
        Err(problem("give the chips their BARs", wrong, self.see_logs()))
    }

    /// Warns if the module did not load.
    fn check_driver(&self) -> Result<()> {
        let output = self.exec("[ -e /run/insmod.status ] && { cat /run/insmod.log; exit $(cat /run/insmod.status); }; exit 0")?;
        if output.code != 0 {
            say(format!(
                "warning: mlu.ko did not load: {}\n  next: look at `dmesg` in the guest",
                output.stdout.trim()
            ));
        }
        Ok(())
    }

    fn see_logs(&self) -> String {
        format!("read the logs in {}", self.files.logs.display())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.flavour == Flavour::Debug {
            audit::last(self);
        }
        let _ = self.qemu.0.kill();
        let _ = self.qemu.0.wait();
        self.server = None;
        let _ = fs::remove_dir_all(&self.files.run);
    }
}

/// The host memory node of each board, as the topology file says.
fn nodes(setup: &Setup, config: &Config) -> Result<Vec<u32>> {
    let Some(file) = &config.topology else {
        let boards = 0..config.boards;
        return Ok(boards.map(|board| board / config::BOARDS_A_NODE).collect());
    };
    let asked = "use the topology";
    let mut command = Command::new(setup.built.program("mlu-server")?);
    let chips = (config.boards + config.spare) * config::CHIPS_A_BOARD;
    let chips = chips.to_string();
    command
        .arg("topology")
        .arg(file)
        .args(["--chips", chips.as_str()]);
    let output = command
        .output()
        .with_context(|| format!("cannot {asked}: mlu-server does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let next = "correct the file; docs/hardware.md, section 16, and qemu-device/src/topology.rs say what it may hold";
        return Err(problem(asked, said.trim(), next));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let nodes: Vec<u32> = text
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .take(config.boards as usize)
        .collect();
    let most = nodes.iter().max().map_or(0, |node| node + 1);
    if most > config::MAX_NODES || nodes.len() != config.boards as usize {
        let wrong = format!(
            "{most} host memory nodes, {} are the most",
            config::MAX_NODES
        );
        return Err(problem(asked, wrong, "put more boards on a node"));
    }
    Ok(nodes)
}

fn wait_for_agent(qemu: &mut Child, files: &Files, flavour: Flavour, step: &Step) -> Result<Agent> {
    let asked = "boot the guest";
    let boot = BOOT * flavour.slowness();
    let end = Instant::now() + boot;
    let mut agent = None;
    loop {
        if let Some(status) = qemu.try_wait()? {
            let said = fs::read_to_string(files.logs.join("qemu.log")).unwrap_or_default();
            let wrong = format!(
                "QEMU ended with {status}: {}{}",
                said.trim(),
                last_lines(&files.kernel_log())
            );
            return Err(problem(
                asked,
                wrong,
                format!("read the logs in {}", files.logs.display()),
            ));
        }
        match &agent {
            None => agent = Agent::connect(&files.agent(), flavour.slowness()).ok(),
            // If the guest is gone, QEMU has ended, or will in a moment.
            Some(connected)
                if connected
                    .wait_hello(Duration::from_millis(100))
                    .unwrap_or(false) =>
            {
                return Ok(agent.expect("it is there"));
            }
            Some(_) => step.tick(""),
        }
        if Instant::now() > end {
            let wrong = format!(
                "no answer after {} s{}",
                boot.as_secs(),
                last_lines(&files.kernel_log())
            );
            return Err(problem(
                asked,
                wrong,
                format!("read the logs in {}", files.logs.display()),
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(12))
        .map(|line| format!("\n    {}", line.trim_end()))
        .collect()
}

/// Copies a growing file to standard error for as long as the process lives.
fn follow(path: PathBuf) {
    use std::io::{Read, Write};
    thread::spawn(move || {
        let mut file = loop {
            match File::open(&path) {
                Ok(file) => break file,
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut buffer = [0; 8192];
        while let Ok(count) = file.read(&mut buffer) {
            if count == 0 {
                thread::sleep(Duration::from_millis(50));
            } else if std::io::stderr().write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
}

/// A new folder for logs. Of those of earlier machines, the latest stay.
fn log_folder(name: &std::ffi::OsStr) -> Result<PathBuf> {
    const KEPT: usize = 20;
    let base = paths::logs().join("vm");
    let folder = base.join(name);
    fs::create_dir_all(&folder)?;
    let mut others: Vec<_> = fs::read_dir(&base)?.flatten().collect();
    others.sort_by_key(|entry| {
        std::cmp::Reverse(entry.metadata().and_then(|data| data.modified()).ok())
    });
    for entry in others.iter().skip(KEPT) {
        let _ = fs::remove_dir_all(entry.path());
    }
    Ok(folder)
}

/// A new private folder with a short path. Those of processes that are gone are removed.
pub(crate) fn run_folder() -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Socket paths are limited to 107 bytes.
    let base = Some(std::env::temp_dir()).filter(|path| path.as_os_str().len() < 60);
    let base = base.unwrap_or_else(|| PathBuf::from("/tmp"));
    for entry in fs::read_dir(&base)?.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix("vmlu-vm-")?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = base.join(format!("vmlu-vm-{}-{number}", std::process::id()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
