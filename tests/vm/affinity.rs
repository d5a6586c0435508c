//! Interrupts whose processor changes a thousand times a second while many wait for them: none is lost.

use std::time::Duration;

use anyhow::{ensure, Result};
use xtask::vm::config::Config;

use crate::lab::{Case, Lab};
use crate::uapi;

/// The cases of this file.
pub const CASES: &[Case] = &[("thousand_changes_a_second", thousand_changes_a_second)];

fn thousand_changes_a_second(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        cpus: 2,
        ..Config::default()
    })?;
    uapi::put(&vm)?;
    let script = format!("python3 {}/affinity.py 12", uapi::FOLDER);
    let output = vm.exec_within(&script, Duration::from_secs(90))?;
    println!("{}", output.stdout.trim());
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    Ok(())
}
