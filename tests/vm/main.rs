//! Tests in virtual machines.
//!
//! A case is a function `fn(&Lab) -> Result<()>`, listed in the `CASES` of its file; its name starts with that of the file. Most cases
//! share one machine ([`Lab::vm`]), which is booted when the first of them asks. A case that damages its machine, or wants another, boots
//! its own ([`Lab::boot`]). Cases run one after another. The cases of the suite that runs on every transport (`tests/src/suite/`) run here
//! too, over the driver.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use xtask::debug::report::Report;
use xtask::flavour::Flavour;

mod affinity;
mod boot;
mod digits;
mod driver;
mod fabric;
mod faults;
mod hosts;
mod lab;
mod libraries;
mod monitor;
mod plug;
mod setup;
mod stress;
mod uapi;

use lab::{Case, Lab};

/// Every file of cases: its name, and its cases.
const FILES: &[(&str, &[Case])] = &[
    ("affinity", affinity::CASES),
    ("boot", boot::CASES),
    ("digits", digits::CASES),
    ("driver", driver::CASES),
    ("fabric", fabric::CASES),
    ("faults", faults::CASES),
    ("hosts", hosts::CASES),
    ("libraries", libraries::CASES),
    ("monitor", monitor::CASES),
    ("plug", plug::CASES),
    ("setup", setup::CASES),
    ("stress", stress::CASES),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let lab = Arc::new(Lab::default());
    let mut trials = Vec::new();
    let flavour = Flavour::from_environment();
    for (file, cases) in FILES {
        for &(name, case) in *cases {
            if !runs_on(flavour, file, name) {
                continue;
            }
            let lab = lab.clone();
            trials.push(Trial::test(format!("vm::{file}::{name}"), move || {
                let result = case(&lab).map_err(|error| format!("{error:#}\n{}", lab.logs()));
                judged(&lab, result)
            }));
        }
    }
    let suite = vmlu_tests::suite::CASES
        .iter()
        .map(|case| ("suite", "mlu-suite", case.name));
    let several = vmlu_tests::processes::CASES
        .iter()
        .map(|(name, _)| ("processes", "mlu-processes", *name));
    for (file, program, name) in suite.chain(several) {
        let lab = lab.clone();
        trials.push(Trial::test(format!("vm::{file}::{name}"), move || {
            judged(&lab, program_passes(&lab, program, name))
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    lab.close();
    let left = lab.reports();
    if left.is_empty() {
        return conclusion.exit_code();
    }
    println!("reported as the shared machine ended:{}", texts(&left));
    ExitCode::FAILURE
}

/// Whether a case has to do with this kernel.
fn runs_on(flavour: Flavour, file: &str, name: &str) -> bool {
    match (file, name) {
        // About setting up, whatever kernel runs.
        ("setup", _) => flavour == Flavour::Stock,
        // The debug kernel is built without `kexec_file_load`.
        ("driver", "next_kernel") => flavour == Flavour::Stock,
        // What only the debug kernel can do.
        ("faults", _) => flavour == Flavour::Debug,
        _ => true,
    }
}

/// Runs a case of a program in the shared machine.
fn program_passes(lab: &Lab, program: &str, name: &str) -> Result<(), String> {
    let output = lab
        .vm()
        .and_then(|vm| vm.exec(&format!("MLU_TRANSPORT=kernel {program} {name}")))
        .map_err(|error| format!("{error:#}"))?;
    if output.code == 0 {
        return Ok(());
    }
    let (code, stderr) = (output.code, output.stderr);
    Err(format!("exit code {code}\n{stderr}\n{}", lab.logs()))
}

/// A case fails if a debug kernel reported meanwhile, too.
fn judged(lab: &Lab, result: Result<(), String>) -> Result<(), Failed> {
    let reports = lab.reports();
    match result {
        Ok(()) if reports.is_empty() => Ok(()),
        Ok(()) => Err(format!("the debug kernel reported:{}", texts(&reports)).into()),
        Err(error) => Err(format!("{error}{}", texts(&reports)).into()),
    }
}

fn texts(reports: &[Report]) -> String {
    reports.iter().map(|report| format!("\n{report}")).collect()
}
