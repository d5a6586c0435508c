//! Chips that are unplugged and plugged while the machine runs, and a device server that comes back. The chips have MSI: QEMU aborts when one
//! with MSI-X is unplugged.

use std::time::Duration;

use anyhow::Result;
use xtask::vm::agent::{Event, Running};
use xtask::vm::config::Config;
use xtask::vm::Vm;

use crate::driver::{check_log, put, survive, WORK};
use crate::lab::{Case, Lab};
use crate::uapi;

/// The cases of this file.
pub const CASES: &[Case] = &[("chips_come_and_go", chips_come_and_go)];

/// Time for anything to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says whether the chip works: `python3 works.py CHIP`.
const WORKS: &str = r#"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, "/mlu/out/uapi")
import base
from base import *
base.CHIP = int(sys.argv[1])
with works_again(10) as context:
    context.mem_alloc(VA, GRANULE)
    queue = Queue(context)
    assert queue.wait(queue.submit(FILL, fill(VA, GRANULE, 1, 8))) == (1, 0)
"#;

fn boot(lab: &Lab) -> Result<Vm> {
    let vm = lab.boot(&Config {
        flat: true,
        server_args: vec!["--msi".into()],
        ..Config::default()
    })?;
    uapi::put(&vm)?;
    put(&vm, "works.py", WORKS)?;
    put(
        &vm,
        "work.py",
        &WORK.replace("Context()", "Context(sys.argv[1])"),
    )?;
    Ok(vm)
}

/// A program that waits for work of a chip without an end.
fn work(vm: &Vm, chip: u32) -> Result<Running> {
    let work = vm.start(&format!("python3 /mlu/out/work.py /dev/mlu{chip}"))?;
    says(&work, "working")?;
    Ok(work)
}

/// Waits until a program says something.
fn says(program: &Running, word: &str) -> Result<()> {
    let mut said = String::new();
    while !said.contains(word) {
        match program.next(PATIENCE)? {
            Some(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                said.push_str(&String::from_utf8_lossy(&bytes))
            }
            other => anyhow::bail!("“{said}”, and then {other:?} instead of “{word}”"),
        }
    }
    Ok(())
}

fn works(vm: &Vm, chip: u32) -> Result<()> {
    vm.ok(&format!("python3 /mlu/out/works.py {chip}"))?;
    Ok(())
}

/// Chips go, and so do their nodes. (A port waits 5 s for somebody to think better of it.)
fn unplug(vm: &Vm, chips: &[u32]) -> Result<()> {
    for chip in chips {
        vm.unplug(*chip)?;
    }
    for chip in chips {
        vm.ok(&format!(
            "for i in $(seq 200); do [ -e /dev/mlu{chip} ] || exit 0; sleep 0.1; done; exit 1"
        ))?;
    }
    Ok(())
}

/// A chip comes back, and works.
fn plug(vm: &Vm, chip: u32) -> Result<()> {
    vm.plug(chip)?;
    works(vm, chip)
}

/// One chip goes and comes back under load. Then the server dies, also under load, and is started anew: QEMU does not connect to it by
/// itself, but chips that are plugged again work.
fn chips_come_and_go(lab: &Lab) -> Result<()> {
    survive(
        || boot(lab),
        |vm| {
            let working = work(vm, 1)?;
            unplug(vm, &[1])?;
            says(&working, "ENODEV")?;
            // The other goes on.
            works(vm, 0)?;
            plug(vm, 1)?;
            let working = work(vm, 0)?;
            vm.server()?.kill();
            says(&working, "ENODEV")?;
            unplug(vm, &[0, 1])?;
            vm.server()?.restart()?;
            for chip in 0..2 {
                plug(vm, chip)?;
            }
            check_log(&vm.ok("dmesg")?)
        },
    )
}
