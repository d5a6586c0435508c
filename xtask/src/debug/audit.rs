//! Collects what the debug kernels of machines reported, and has each look for leaked memory before it ends.

use std::sync::Mutex;
use std::time::Duration;

use super::report::{reports, Detector, Report};
use crate::vm::Vm;

/// What machines that have ended reported, and what shared ones did before somebody asked.
static FOUND: Mutex<Vec<Report>> = Mutex::new(Vec::new());

/// Looks for leaked memory: with the driver loaded, and, if nobody uses it, with it gone. kmemleak passes over what is younger than five
/// seconds, and takes what was just seen to move for a pointer that is still held: hence two scans. Prints what it found.
const SCAN: &str = "leaks=/sys/kernel/debug/kmemleak; [ -w $leaks ] || { echo 'kmemleak is not there'; exit 1; }; \
    echo scan > $leaks; timeout 20 rmmod mlu 2>/dev/null; sleep 5.5; echo scan > $leaks; cat $leaks; echo clear > $leaks";

/// How long a scan may take, before it is multiplied for the debug kernel.
const PATIENCE: Duration = Duration::from_secs(20);

/// Notes reports.
pub fn note(reports: impl IntoIterator<Item = Report>) {
    let mut found = FOUND.lock().expect("no one panics with it");
    found.extend(reports);
}

/// What was noted since the last call.
pub fn take() -> Vec<Report> {
    std::mem::take(&mut *FOUND.lock().expect("no one panics with it"))
}

/// The leaks that the machine's kernel finds; `Err` says why it could not look.
pub fn leaks(vm: &Vm) -> Result<Vec<Report>, String> {
    let output = vm
        .exec_within(SCAN, PATIENCE)
        .map_err(|error| format!("{error:#}"))?;
    if output.code != 0 {
        return Err(format!("{}{}", output.stdout, output.stderr));
    }
    let leaks = reports(&output.stdout).into_iter();
    Ok(leaks
        .filter(|report| report.detector == Detector::Kmemleak)
        .collect())
}

/// Notes the last reports of a machine that is about to end, and what it leaked. One whose kernel can no longer be asked (a test ended it)
/// has only its console.
pub fn last(vm: &mut Vm) {
    let leaks = if vm.alive() {
        leaks(vm)
    } else {
        Ok(Vec::new())
    };
    note(vm.reports());
    // A machine that goes on but cannot be asked is no machine without leaks.
    note(leaks.unwrap_or_else(|why| {
        vec![Report {
            detector: Detector::Kmemleak,
            text: format!("it could not be asked: {}", why.trim()),
        }]
    }));
}
