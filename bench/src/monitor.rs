//! What a monitor costs: how fast `cnmon` starts, and what it takes to look at all cards ten times a second.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use rustix::termios::{tcsetwinsize, Winsize};
use vmlu::{Error, Result};

use crate::idle::process_time;
use crate::row::{Better, Row};

/// Most time that a start may take, ms.
const START_GOAL: f64 = 10.0;
/// Most of a core that ten looks a second may take, percent.
const LOOK_GOAL: f64 = 1.0;
/// Starts of which the median counts.
const STARTS: usize = 31;
/// For how long looks are measured, and for how long before they are not.
const DURING: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(1);
/// A large terminal. All cards are looked at; those that have room are drawn.
const TERMINAL: Winsize = Winsize {
    ws_row: 50,
    ws_col: 160,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::System {
        call: "bench cnmon",
        reason: what.to_owned(),
        source,
    }
}

/// Measures the program over the transport that this process has in its environment.
///
/// # Errors
///
/// If the program cannot be started, or ends with an error.
pub fn run(program: &Path, transport: &str, chips: usize) -> Result<Vec<Row>> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let status = Command::new(program).stdout(Stdio::null()).status();
        let status = status.map_err(failed("cnmon does not start"))?;
        if !status.success() {
            let error = std::io::Error::other(status.to_string());
            return Err(failed("cnmon fails")(error));
        }
        starts.push(start.elapsed().as_secs_f64() * 1e3);
    }
    starts.sort_by(f64::total_cmp);
    let row = |name: &str, value, unit, goal| {
        let name = format!("{name}, {chips} chips");
        Row::new("cnmon", transport, &name, value, unit).goal(Better::Lower, goal)
    };
    Ok(vec![
        row("cold start", starts[STARTS / 2], "ms", START_GOAL),
        row(
            "record at 10 Hz",
            record(program)?,
            "% of a core",
            LOOK_GOAL,
        ),
        row("watch at 10 Hz", watch(program)?, "% of a core", LOOK_GOAL),
    ])
}

/// What a program takes of a core while it goes on; then it is ended.
fn share(mut child: Child) -> Result<f64> {
    std::thread::sleep(SETTLE);
    let (start, before) = (Instant::now(), process_time(child.id()));
    std::thread::sleep(DURING);
    let now = process_time(child.id());
    let elapsed = start.elapsed().as_nanos() as f64;
    let ended = child.try_wait().map_err(failed("cnmon is lost"))?;
    let _ = child.kill();
    let _ = child.wait();
    match (ended, now.zip(before)) {
        (None, Some((now, before))) => Ok(now.saturating_sub(before) as f64 / elapsed * 100.0),
        _ => {
            let error = std::io::Error::other("it ended by itself");
            Err(failed("cnmon does not go on")(error))
        }
    }
}

fn record(program: &Path) -> Result<f64> {
    let child = Command::new(program)
        .args(["record", "/dev/null", "--interval", "100"])
        .stdout(Stdio::null())
        .spawn();
    share(child.map_err(failed("cnmon does not start"))?)
}

fn watch(program: &Path) -> Result<f64> {
    let (mut screen, terminal) = terminal().map_err(failed("no terminal"))?;
    let copy = || terminal.try_clone().map_err(failed("no terminal"));
    let child = Command::new(program)
        .args(["watch", "--interval", "100"])
        .stdin(copy()?)
        .stdout(copy()?)
        .stderr(copy()?)
        .spawn();
    let child = child.map_err(failed("cnmon does not start"))?;
    drop(terminal);
    // Somebody has to read what it draws.
    let reader = std::thread::spawn(move || {
        let mut room = [0; 1 << 16];
        while screen.read(&mut room).is_ok_and(|length| length > 0) {}
    });
    let share = share(child);
    let _ = reader.join();
    share
}

/// A terminal: the end that shows it, and the end that programs have.
fn terminal() -> std::io::Result<(File, OwnedFd)> {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&screen)?;
    unlockpt(&screen)?;
    let name = ptsname(&screen, Vec::new())?;
    let name = name.to_string_lossy().into_owned();
    let terminal = File::options().read(true).write(true).open(name)?;
    tcsetwinsize(&terminal, TERMINAL)?;
    Ok((File::from(screen), OwnedFd::from(terminal)))
}
