//! What only the debug kernel can show: every failure of an allocation, and of an access to the caller's memory
//! (`driver/tests/uapi/faults.py`); and the driver's own unit tests.

use std::time::Duration;

use anyhow::{ensure, Result};
use xtask::vm::config::Config;

use crate::lab::{Case, Lab};
use crate::uapi;

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("calls", |lab| run(lab, "fault_calls")),
    ("opening", |lab| run(lab, "fault_opening")),
    ("mapping", |lab| run(lab, "fault_mapping")),
    ("events", |lab| run(lab, "fault_events")),
    ("binding", |lab| run(lab, "fault_binding")),
    ("at_random", |lab| run(lab, "fault_at_random")),
    ("kunit", kunit),
];

/// A machine each: what one leaked is found as its machine ends.
fn run(lab: &Lab, test: &str) -> Result<()> {
    let vm = lab.boot(&Config {
        server_args: vec!["--inject".into()],
        ..Config::default()
    })?;
    uapi::put(&vm)?;
    let script = format!("python3 {} --faults {test}", uapi::FOLDER);
    let output = vm.exec_within(&script, Duration::from_secs(300))?;
    ensure!(
        output.code == 0 && output.stdout.contains("1 passed, 0 failed"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    print!("{}", output.stdout);
    Ok(())
}

/// The suites of KUnit in the driver, which run when the module is loaded.
const SUITES: &[&str] = &["mlu_arm", "mlu_quota", "mlu_stream"];

fn kunit(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    let log = vm.kernel_log();
    ensure!(!log.contains("not ok "), "a unit test failed:\n{log}");
    for suite in SUITES {
        let passed = log.lines().any(|line| {
            let line = line.trim_end();
            line.contains("] ok ") && line.ends_with(&format!(" {suite}"))
        });
        ensure!(passed, "{suite} did not pass:\n{log}");
    }
    Ok(())
}
