//! cnmon and libcndev over the driver: what they show is caused, and what they change takes effect.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use xtask::vm::agent::{Event, Running};
use xtask::vm::config::Config;
use xtask::vm::Vm;
use xtask::{neuware, paths};

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("cnmon_shows_and_changes", shows_and_changes),
    ("monitors_see_a_program", monitors_see_a_program),
    ("one_process_has_the_card", one_process_has_the_card),
    ("who_waits_for_events_sleeps", who_waits_for_events_sleeps),
];

/// How long something may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: i64 = 1 << 20;

/// Installs the vendor's libraries for the guest, and a program in C that uses libcndev there; its path in the guest.
fn c_monitor(lab: &Lab) -> Result<&'static str> {
    let prefix = lab.setup()?.flavour.stage().join("neuware");
    neuware::install(&prefix, &lab.setup()?.built)?;
    let source = paths::project().join("tests/neuware");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(prefix.join("include"))
        .arg(source.join("monitor.c"))
        .arg("-o")
        .arg(prefix.join("bin/monitor"))
        .arg("-L")
        .arg(prefix.join("lib64"))
        .args(["-Wl,-rpath,/mlu/neuware/lib64", "-lcndev"])
        .output()
        .context("cannot run cc")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok("/mlu/neuware/bin/monitor")
}

/// What a monitor says of a card: keys and numbers.
type Numbers = HashMap<String, i64>;

/// What the program in C says of a card.
fn ask_cndev(vm: &Vm, monitor: &str, card: u32) -> Result<Numbers> {
    let text = vm.ok(&format!("{monitor} {card}"))?;
    let number = |line: &str| {
        Some((
            line.split(' ').next()?.into(),
            line.split(' ').nth(1)?.parse().ok()?,
        ))
    };
    let numbers: Option<Numbers> = text.lines().map(number).collect();
    numbers.with_context(|| format!("not keys and numbers: {text}"))
}

/// What cnmon says of a card, in whole units.
fn ask_cnmon(vm: &Vm, card: u32, fields: &[&str]) -> Result<Vec<i64>> {
    let fields = fields.join(",");
    let text = vm.ok(&format!(
        "cnmon --query {fields} --format csv,noheader,nounits -c {card}"
    ))?;
    let numbers = text.trim().split(", ").map(|value| {
        let value: f64 = value.parse().with_context(|| format!("{fields}: {text}"))?;
        Ok(value.round() as i64)
    });
    numbers.collect()
}

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "not within a minute: {what}");
    }
    Ok(())
}

/// A program in the guest whose lines are read one by one.
struct Program {
    running: Running,
    said: String,
}

impl Program {
    /// Starts it; its number, and what it says first.
    fn start(vm: &Vm, command: &str) -> Result<(Self, u32, String)> {
        let running = vm.start(&format!("echo $$; exec {command}"))?;
        let said = String::new();
        let mut program = Self { running, said };
        let pid = program.line()?.parse()?;
        let first = program.line()?;
        Ok((program, pid, first))
    }

    /// The next line that it writes.
    fn line(&mut self) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some((line, rest)) = self.said.split_once('\n') {
                let line = line.to_owned();
                self.said = rest.to_owned();
                return Ok(line);
            }
            match self
                .running
                .next(end.saturating_duration_since(Instant::now()))?
            {
                Some(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                    self.said += &String::from_utf8_lossy(&bytes);
                }
                Some(Event::Exit(code)) => bail!("it ended with {code}: {}", self.said),
                Some(Event::Failed(why)) => bail!("it cannot be started: {why}"),
                None => bail!("it says nothing: {}", self.said),
            }
        }
    }

    /// Gives it a line, and reads the answer.
    fn tell(&mut self, line: &str) -> Result<String> {
        self.running.input(format!("{line}\n").as_bytes())?;
        self.line()
    }

    /// Ends its input, and waits for its end.
    fn end(self) -> Result<i32> {
        self.running.input(&[])?;
        Ok(self.running.finish(PATIENCE)?.code)
    }
}

/// Memory, copies, links, work, heat and power that a program causes, each as the program caused it, in all that shows it.
fn monitors_see_a_program(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let monitor = c_monitor(lab)?;
    let look = || ask_cndev(&vm, monitor, 0);
    let idle = look()?;
    let (mut load, pid, first) = Program::start(&vm, "mlu-load 0")?;
    ensure!(first == "ready", "{first}");
    load.tell("memory 64")?;
    load.tell("write 48")?;
    load.tell("read 16")?;
    load.tell("peer 1 8")?;

    let now = look()?;
    let more = |key: &str| now[key] - idle[key];
    ensure!(more("memory.used") == 64, "{idle:?} {now:?}");
    ensure!(now[&format!("process.{pid}")] == 64 * 1024, "{now:?}");
    ensure!(more("pcie.read") == 48 * MIB, "{idle:?} {now:?}");
    ensure!(more("pcie.write") == 16 * MIB, "{idle:?} {now:?}");
    ensure!(more("links.written") == 8 * MIB, "{idle:?} {now:?}");
    let other = ask_cndev(&vm, monitor, 1)?;
    ensure!(!other.contains_key(&format!("process.{pid}")), "{other:?}");
    let used = ask_cnmon(&vm, 0, &["memory.used"])?;
    ensure!(used == [now["memory.used"]], "{used:?} {now:?}");
    let table = vm.ok("cnmon")?;
    let row = table.lines().find(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(3) == Some(&&*pid.to_string()) && fields.len() == 8
    });
    let row = row.with_context(|| format!("{pid} is not listed: {table}"))?;
    ensure!(row.contains("mlu-load") && row.contains(" 64 MiB"), "{row}");
    let fdinfo = vm.ok(&format!("cat /proc/{pid}/fdinfo/* | grep -h drm-"))?;
    ensure!(fdinfo.contains(&(64 * 1024).to_string()), "{fdinfo}");

    // Work: the card is busy, draws more, and warms up; the card beside it is idle.
    load.running.input(b"work 60000\n")?;
    until("the card is busy", || Ok(look()?["utilisation"] > 50))?;
    until("the card draws more", || {
        Ok(look()?["power"] > idle["power"] + 20)
    })?;
    until("the chip warms up", || {
        Ok(look()?["temperature.chip"] > idle["temperature.chip"])
    })?;
    let busy = look()?;
    ensure!(busy["utilisation.core15"] > 0, "{busy:?}");
    let other = ask_cnmon(&vm, 1, &["utilization.mlu"])?;
    ensure!(other[0] < 10, "{other:?}");
    // The kernel says what the library says.
    let sensors = vm.ok(
        "cd /sys/class/mlu/mlu0/device/hwmon/hwmon* && cat temp1_input temp2_input power1_cap /sys/class/mlu/mlu0/memory_used",
    )?;
    let sensors: Vec<i64> = sensors.lines().map(str::parse).collect::<Result<_, _>>()?;
    let now = look()?;
    for (key, here) in [
        ("temperature.chip", sensors[0] / 1000),
        ("temperature.board", sensors[1] / 1000),
        ("power.cap", sensors[2] / 1_000_000),
        ("memory.used", sensors[3] / MIB),
    ] {
        // A degree goes by between two looks.
        ensure!((now[key] - here).abs() <= 2, "{key}: {sensors:?} {now:?}");
    }

    // It is killed at its work: nothing of it stays.
    load.running.signal(9)?;
    until("it is gone", || {
        let after = look()?;
        let listed = after.contains_key(&format!("process.{pid}"));
        Ok(!listed && after["memory.used"] == idle["memory.used"])
    })?;
    until("the card idles", || Ok(look()?["utilisation"] < 5))
}

/// Compute modes: one process at a time, or none.
fn one_process_has_the_card(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let monitor = c_monitor(lab)?;
    let set = |mode: &str| vm.ok(&format!("cnmon set -c 0 --compute-mode {mode}"));
    let refused = || -> Result<()> {
        let second = vm.exec("mlu-load 0 < /dev/null")?;
        ensure!(second.code == 1 && !second.stderr.is_empty(), "{second:?}");
        Ok(())
    };
    set("exclusive")?;
    ensure!(ask_cndev(&vm, monitor, 0)?["mode"] == 1);
    ensure!(vm.ok("cnmon -c 0")?.contains(" Exclusive |"));
    let (first, ..) = Program::start(&vm, "mlu-load 0")?;
    refused()?;
    vm.ok("mlu-load 1 < /dev/null")?;
    ensure!(first.end()? == 0);
    vm.ok("mlu-load 0 < /dev/null")?;
    set("prohibited")?;
    ensure!(ask_cndev(&vm, monitor, 0)?["mode"] == 2);
    refused()?;
    set("default")?;
    ensure!(ask_cndev(&vm, monitor, 0)?["mode"] == 0);
    Ok(())
}

/// Who waits for an event does not look again and again: it sleeps until there is one.
fn who_waits_for_events_sleeps(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let monitor = c_monitor(lab)?;
    let sleeps = |pid: u32| -> Result<()> {
        let switches = || vm.ok(&format!("grep -h ctxt_switches /proc/{pid}/task/*/status"));
        // Until it sleeps for the first time.
        until("it sleeps", || {
            let before = switches()?;
            std::thread::sleep(Duration::from_secs(1));
            Ok(before == switches()?)
        })
    };
    let (mut waiter, pid, first) = Program::start(&vm, &format!("{monitor} wait 60000"))?;
    ensure!(first == "waiting", "{first}");
    sleeps(pid)?;
    let (mut follower, number, _) =
        Program::start(&vm, "sh -c 'cnmon inject xid -c 0 6; exec cnmon events -f'")?;
    let told = waiter.line()?;
    ensure!(told == "device 0 xid 6", "{told}");
    ensure!(waiter.end()? == 0);
    // What happened before, and then what happens.
    until("the log is read", || {
        Ok(follower.line()?.contains("Card 0 XID 6"))
    })?;
    sleeps(number)?;
    vm.ok("cnmon inject xid -c 1 7")?;
    until("the event is told", || {
        Ok(follower.line()?.contains("Card 1 XID 7"))
    })?;
    vm.ok("cd /sys/class/mlu/mlu1/device && echo flr > reset_method && echo 1 > reset")?;
    for what in ["Card 1 is lost", "Card 1 works again"] {
        until(what, || Ok(follower.line()?.contains(what)))?;
    }
    follower.running.signal(15)?;
    let limit = vm.ok(&format!("{monitor} wait 200"))?;
    ensure!(
        limit.starts_with("waiting\n") && limit.lines().count() == 2,
        "{limit}"
    );
    Ok(())
}

/// Output of a command with single blanks.
fn say(vm: &Vm, command: &str) -> Result<String> {
    let text = vm.ok(command)?;
    let lines = text.lines();
    Ok(lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect())
}

fn shows_and_changes(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        server_args: vec!["--inject".into()],
        ..Config::default()
    })?;
    vm.ok("cnmon inject ecc -c 1 --uncorrectable --offset 65536 && cnmon inject ecc -c 1 -n 2 --offset 1048576")?;
    let ecc = say(&vm, "cnmon ecc -c 1")?;
    for line in [
        "Uncorrected Errors : 1",
        "Corrected Errors : 2",
        "Retired Pages Pending : 2",
    ] {
        ensure!(ecc.contains(line), "{line}: {ecc}");
    }
    let events = say(&vm, "cnmon events")?;
    ensure!(
        events.contains("Card 1 XID 3: uncorrectable memory error"),
        "{events}"
    );
    let info = say(&vm, "cnmon info -c 1")?;
    ensure!(info.contains("Device : In Problem"), "{info}");
    let sick = vm.exec("cnmon doctor")?;
    ensure!(sick.code == 1, "{sick:?}");

    let set = say(&vm, "cnmon set -c 0 --power-cap 150 --clock 600")?;
    ensure!(
        set.contains("Power Cap : 150 W") && set.contains("Clock : 600 MHz"),
        "{set}"
    );
    let denied = vm.exec(
        "setpriv --reuid 1000 --clear-groups --inh-caps=-all cnmon set -c 0 --power-cap 200",
    )?;
    ensure!(denied.code == 1, "{denied:?}");
    let cap = vm.ok("cnmon --query power.limit --format csv,noheader,nounits -c 0")?;
    ensure!(cap == "150.00\n", "{cap}");

    vm.ok("cnmon ecc -c 1 --enable && cnmon reset -c 1")?;
    let total = vm.ok(
        "cnmon --query memory.total,health,retired_pages.count --format csv,noheader,nounits -c 1",
    )?;
    ensure!(total == "20637, Good, 2\n", "{total}");

    let metrics = say(&vm, "cnmon exporter --once")?;
    ensure!(
        metrics.contains("mlu_aggr_dram_ecc_dbe_count{driver="),
        "{metrics}"
    );
    // Each node that a container would get is there.
    vm.ok("for n in $(cnmon cdi | grep -o '/dev/[a-z_0-9]*' | sort -u); do test -c $n || exit 1; done")?;
    Ok(())
}
