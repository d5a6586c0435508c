//! System calls in the steady state.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, Result};
use serde_json::Value;

use super::{median, row, ROUNDS};
use crate::progress::say;

/// The program that counts system calls.
pub const STRACE: &str = "strace";
/// What it is told: all threads, and that bytes of output are shown.
pub const STRACE_OPTIONS: &str = "-f -s 16";
const CALLS: &str = "system calls a million commands";
const CARD_CALLS: &str = "system calls a million, the card's threads";

/// The system calls of a bench process on this machine; no row where `strace` is not installed.
pub fn system_calls_here(program: &Path, transport: &str, address: &str) -> Result<Vec<Value>> {
    let trace = std::env::temp_dir().join(format!("vmlu-bench-{}.trace", std::process::id()));
    let mut command = Command::new(STRACE);
    command
        .args(STRACE_OPTIONS.split(' '))
        .arg("-o")
        .arg(&trace);
    command.arg(program);
    command.args(["steady", "--rounds", &ROUNDS.to_string()]);
    command.env("MLU_TRANSPORT", address);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let result = command.status();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    let _ = std::fs::remove_file(&trace);
    match result {
        Ok(status) if status.success() => system_calls(transport, &text),
        Ok(status) => bail!("strace of mlu-bench ended with {status}"),
        Err(error) => {
            say(format!(
                "system calls are not counted: {STRACE} does not start ({error})"
            ));
            Ok(Vec::new())
        }
    }
}

/// Counts the calls in a trace, in each round between the marks that the bench prints; rows of their medians. Where the card is in the
/// process, its threads are counted apart.
pub fn system_calls(transport: &str, trace: &str) -> Result<Vec<Value>> {
    let is_mark = |line: &str, mark: &str| line.contains("write(1,") && line.contains(mark);
    let (mut program, mut others) = (Vec::new(), Vec::new());
    let mut round = None;
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if is_mark(line, "begin") {
            round = Some((thread, 0.0, 0.0));
        } else if is_mark(line, "end") {
            if let Some((_, own, other)) = round.take() {
                program.push(own);
                others.push(other);
            }
        } else if let Some((own_thread, own, other)) = &mut round {
            // A call that another thread interrupts takes two lines; signals and exits are none.
            let is_call = ![" resumed>", " +++ ", " --- "]
                .iter()
                .any(|word| line.contains(word));
            let count = if thread == *own_thread { own } else { other };
            *count += f64::from(u8::from(is_call));
        }
    }
    if program.len() != ROUNDS as usize {
        bail!(
            "the trace of the bench has {} rounds, not {ROUNDS}",
            program.len()
        );
    }
    if transport != "embedded" {
        program
            .iter_mut()
            .zip(others)
            .for_each(|(own, other)| *own += other);
        return Ok(vec![row(
            "queues",
            transport,
            CALLS,
            median(program),
            "",
            Some(0.0),
        )]);
    }
    Ok(vec![
        row("queues", transport, CALLS, median(program), "", Some(0.0)),
        row("queues", transport, CARD_CALLS, median(others), "", None),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_between_the_marks() {
        let round = "10 read(0, \"\", 1) = 0\n10 write(1, \"begin\\n\", 6) = 6\n11 futex(0x1, FUTEX_WAIT <unfinished ...>\n\
            10 getpid() = 10\n11 <... futex resumed>) = 0\n11 +++ exited with 0 +++\n10 write(1, \"end\\n\", 4) = 4\n10 close(3) = 0\n";
        let trace = round.repeat(ROUNDS as usize);
        let calls = |transport| system_calls(transport, &trace).unwrap();
        assert_eq!(calls("local")[0]["value"], 2.0);
        assert_eq!(calls("local")[0]["ok"], false);
        assert_eq!(calls("embedded")[0]["value"], 1.0);
        assert_eq!(calls("embedded")[1]["value"], 1.0);
        assert!(system_calls("local", round).is_err());
    }
}
