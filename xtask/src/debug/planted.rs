//! Bugs on purpose: a run on the debug kernel counts only if its checkers report them.
//!
//! The module is `tests/planted/`; it is loaded here and nowhere else.

use std::fs;

use anyhow::{ensure, Result};

use super::audit;
use super::report::{Detector, Report};
use crate::module::Target;
use crate::paths;
use crate::problem::problem;
use crate::progress::Step;
use crate::setup::Setup;
use crate::vm::config::Config;
use crate::vm::Vm;

/// File name of the module.
const NAME: &str = "planted.ko";

/// A bug of the module: its number there, who must report it, and what the report must say.
type Bug = (u32, Detector, &'static [&'static str]);

/// In this order: after a report of KASAN lockdep does not trust itself any more, and after its own it is silent.
const BUGS: &[Bug] = &[
    (
        5,
        Detector::Lockdep,
        &["possible circular locking dependency", "planted_lock_order"],
    ),
    (
        6,
        Detector::AtomicSleep,
        &["sleeping function called", "planted_sleep"],
    ),
    (4, Detector::DmaApi, &["planted_dma"]),
    (
        1,
        Detector::Kasan,
        &["slab-out-of-bounds", "Read of size 1", "[planted]"],
    ),
    (
        2,
        Detector::Kasan,
        &["slab-out-of-bounds", "Read of size 1", "planted_c_read"],
    ),
    (
        3,
        Detector::Kmemleak,
        &["unreferenced object", "planted_leak"],
    ),
];

/// Plants each bug in a machine of its own, without cards, and checks that each is reported.
pub fn prove(setup: &Setup) -> Result<()> {
    let target = Target {
        toolbox: &setup.toolbox,
        tree: &setup.tree,
        flavour: setup.flavour,
    };
    let folder = setup.flavour.module_folder().with_file_name("planted");
    let source = paths::project().join("tests/planted");
    let module = target.module(&folder, &[(source, "planted")], NAME)?;
    let planted = paths::out().join(NAME);
    fs::copy(module, &planted)?;
    let vm = Vm::boot(
        setup,
        &Config {
            boards: 0,
            driver: false,
            ..Config::default()
        },
    )?;
    let step = Step::start("planted bugs");
    let before = vm.reports();
    ensure!(
        before.is_empty(),
        "the debug kernel reports before anything was planted:\n{}",
        listed(&before)
    );
    for &(number, detector, says) in BUGS {
        vm.ok(&format!("insmod /mlu/out/{NAME} bug={number}"))?;
        // While the module is there, so that kmemleak names the places in it.
        let found = match detector {
            Detector::Kmemleak => audit::leaks(&vm).map_err(anyhow::Error::msg)?,
            _ => vm.reports(),
        };
        vm.ok("rmmod planted")?;
        check((number, detector, says), &found)?;
    }
    fs::remove_file(planted)?;
    step.done_with(&format!("{} planted, all reported", BUGS.len()));
    Ok(())
}

/// That one of the reports is the bug's.
fn check(bug: Bug, found: &[Report]) -> Result<()> {
    let (number, detector, says) = bug;
    let fits = |report: &&Report| {
        report.detector == detector && says.iter().all(|word| report.text.contains(word))
    };
    if found.iter().any(|report| fits(&report)) {
        return Ok(());
    }
    let wrong = format!(
        "{detector} did not report the bug {number} of tests/planted ({}); reported was:\n{}",
        says.join(", "),
        listed(found)
    );
    Err(problem(
        "trust the debug kernel",
        wrong,
        "read kernel.log of the newest machine in target/xtask-logs/vm",
    ))
}

fn listed(reports: &[Report]) -> String {
    match reports {
        [] => "nothing".into(),
        _ => reports.iter().map(|report| format!("{report}\n")).collect(),
    }
}
