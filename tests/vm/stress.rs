//! The stress test with several processes over the driver: every packet is accounted for.

use std::time::Duration;

use anyhow::{ensure, Result};
use vmlu_tests::stress::Options;

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[("stress", stress)];

fn stress(lab: &Lab) -> Result<()> {
    let options = Options::from_environment();
    let (seed, seconds) = (options.seed, options.duration.as_secs());
    let vm = lab.vm()?;
    let script = format!(
        "MLU_TRANSPORT=kernel MLU_STRESS_SEED={seed} MLU_STRESS_SECONDS={seconds} mlu-stress"
    );
    let output = vm.exec_within(&script, options.duration + Duration::from_secs(150))?;
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    print!("{}", output.stdout);
    let dmesg = vm.ok("dmesg")?;
    for word in ["BUG:", "WARNING:", "Oops", "hung task", "leaked"] {
        ensure!(
            !dmesg.contains(word),
            "the kernel log has a {word}:\n{dmesg}"
        );
    }
    Ok(())
}
