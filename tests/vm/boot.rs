//! The machine itself: it boots, its commands come through, its chips have their places.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use xtask::flavour::Flavour;
use xtask::vm::agent::Output;
use xtask::vm::config::Config;

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("right_kernel", right_kernel),
    ("output_and_exit_code", output_and_exit_code),
    ("killed_command", killed_command),
    ("commands_at_once", commands_at_once),
    ("large_output", large_output),
    ("time_limit", time_limit),
    ("shared_folders", shared_folders),
    ("project_programs_run", project_programs_run),
    ("chips_have_their_bars", chips_have_their_bars),
    ("driver_loads", driver_loads),
    ("most_boards", most_boards),
    ("flat_is_gen4_x16", flat_is_gen4_x16),
];

fn right_kernel(lab: &Lab) -> Result<()> {
    let version = lab.vm()?.ok("uname -rv")?;
    let setup = lab.setup()?;
    let expected = setup.toolbox.kernel.as_str();
    let stock = version.starts_with(expected) && version.contains("Debian");
    let debug = version.contains("-debug ");
    let right = match setup.flavour {
        Flavour::Stock => stock && !debug,
        Flavour::Debug => debug && !stock,
    };
    ensure!(right, "the guest runs {version}");
    Ok(())
}

fn output_and_exit_code(lab: &Lab) -> Result<()> {
    let output = lab
        .vm()?
        .exec("echo to stdout; echo to stderr >&2; exit 7")?;
    let expected = Output {
        code: 7,
        stdout: "to stdout\n".into(),
        stderr: "to stderr\n".into(),
    };
    ensure!(output == expected, "{output:?}");
    Ok(())
}

fn killed_command(lab: &Lab) -> Result<()> {
    let output = lab.vm()?.exec("kill -9 $$")?;
    ensure!(output.code == 128 + 9, "{output:?}");
    Ok(())
}

fn commands_at_once(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let first = vm.start("read line; echo first $line")?;
    let second = vm.start("echo second")?;
    let second = second.finish(Duration::from_secs(20))?;
    first.input(b"line\n")?;
    let first = first.finish(Duration::from_secs(20))?;
    ensure!(
        (first.stdout.as_str(), second.stdout.as_str()) == ("first line\n", "second\n"),
        "{first:?} {second:?}"
    );
    Ok(())
}

fn large_output(lab: &Lab) -> Result<()> {
    let output = lab.vm()?.exec("seq 100000")?;
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    ensure!(
        output.stdout == expected,
        "{} bytes came, not {}",
        output.stdout.len(),
        expected.len()
    );
    Ok(())
}

fn time_limit(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let limit = 2 * vm.slowness();
    let started = Instant::now();
    let error = vm
        .exec_within("echo so far; sleep 600", Duration::from_secs(2))
        .err();
    let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        text.contains(&format!("did not end within {limit} s")) && text.contains("so far"),
        "{text}"
    );
    ensure!(
        started.elapsed() < Duration::from_secs(10) * vm.slowness(),
        "it took {:?}",
        started.elapsed()
    );
    std::thread::sleep(Duration::from_millis(300));
    ensure!(vm.exec("pgrep -x sleep")?.code == 1, "it still runs");
    Ok(())
}

fn shared_folders(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    vm.ok("echo from the guest > /mlu/out/shared-folders")?;
    let file = vm.out().join("shared-folders");
    let text = std::fs::read_to_string(&file)?;
    std::fs::remove_file(&file)?;
    ensure!(text == "from the guest\n", "{text}");
    ensure!(
        vm.exec("touch /mlu/bin/intruder")?.code != 0,
        "the guest can write to the project's programs"
    );
    Ok(())
}

fn project_programs_run(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    for name in
        lab.setup()?.built.programs.keys().filter(|name| {
            !xtask::setup::HOST_ONLY.contains(&name.as_str()) && *name != "vmlu-agent"
        })
    {
        let linked = vm.ok(&format!("ldd /mlu/bin/{name} || true"))?;
        ensure!(
            !linked.contains("not found"),
            "{name} misses libraries in the guest:\n{linked}"
        );
    }
    Ok(())
}

fn chips_have_their_bars(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let bars = vm.bars()?;
    ensure!(
        bars.len() == 2 && bars.iter().all(|(_, bars)| *bars == [true; 3]),
        "{bars:?}"
    );
    Ok(())
}

fn driver_loads(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    ensure!(
        vm.exec("grep -q '^mlu ' /proc/modules")?.code == 0,
        "mlu.ko is not loaded:\n{}",
        vm.ok("dmesg | tail -n 30")?
    );
    Ok(())
}

fn most_boards(lab: &Lab) -> Result<()> {
    // Booting checks the BARs of all sixteen chips.
    let vm = lab.boot(&Config {
        boards: 8,
        driver: false,
        ..Config::default()
    })?;
    ensure!(vm.bars()?.len() == 16, "{:?}", vm.bars()?);
    Ok(())
}

fn flat_is_gen4_x16(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        flat: true,
        driver: false,
        ..Config::default()
    })?;
    let script =
        "cd /sys/bus/pci/devices; for d in *; do read v < $d/vendor; [ $v = 0xcabc ] || continue; \
        cat $d/current_link_speed $d/current_link_width; done";
    let links = vm.ok(script)?;
    ensure!(
        links == "16.0 GT/s PCIe\n16\n16.0 GT/s PCIe\n16\n",
        "{links}"
    );
    Ok(())
}
