//! `cargo xtask test`

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::flavour::{Flavour, VARIABLE};
use crate::progress::{say, Step};
use crate::{cargo, debug, driver_lint, paths, setup};

/// Set up what is missing and run every test.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also rustfmt and clippy, with warnings as errors, and what a kernel maintainer runs over the driver
    #[arg(long)]
    lint: bool,
    /// Also what takes long: ten million random calls of the kernel's interface; property tests draw other cases than last time
    #[arg(long, conflicts_with = "no_vm")]
    full: bool,
    /// No virtual machine: unit tests and the embedded card
    #[arg(long)]
    no_vm: bool,
    /// The tests in virtual machines, on a kernel that checks itself and the driver (KASAN, lockdep, kmemleak and others); the first time it
    /// is built, which takes a while
    #[arg(long, conflicts_with = "no_vm")]
    debug_kernel: bool,
    /// Run only the tests whose names contain this
    filter: Option<String>,
}

/// Name of the test program that boots virtual machines (package `vmlu-tests`).
const VM_TESTS: &str = "vm";

/// Random calls that `--full` makes.
const FULL_CALLS: u64 = 10_000_000;

/// What proptest calls the seed that property tests draw their cases from.
const SEED: &str = "PROPTEST_RNG_SEED";

/// That seed, so that two runs on one commit try the same cases and the same result means the same; `--full` takes another each time.
const SAME_CASES: u64 = 370;

/// Results of test programs, added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    fn one(passed: bool) -> Sum {
        Sum {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }
}

/// Runs the command. Ends with `N passed, N failed` on a line of its own.
pub fn run(args: Args) -> Result<i32> {
    let mut sum = Sum::default();
    if args.lint {
        sum.add(lint()?);
        if !args.no_vm {
            let (toolbox, tree) = setup::kernel()?;
            let (passed, failed) = driver_lint::run(&toolbox, &tree)?;
            sum.add(Sum { passed, failed });
        }
    }
    if args.debug_kernel {
        sum.add(debug_kernel(args.filter.as_deref())?);
        return Ok(ended(sum));
    }
    // Some tests run the project's programs and examples, which `cargo test` alone does not make; some use the toolbox.
    if args.no_vm {
        cargo::build()?;
    } else {
        setup::everything(true)?;
    }
    let filter: Vec<&str> = args.filter.as_deref().into_iter().collect();
    let workspace = ["--workspace", "--lib", "--bins", "--examples", "--tests"];
    let mut plain = vec!["test", "--release", "--no-fail-fast"];
    plain.extend(workspace);
    // The VM tests want a set-up and a line of progress of their own.
    plain.extend(["--", "--skip", VM_PREFIX]);
    plain.extend(&filter);
    let mut command = cargo::command();
    command.args(&plain);
    if std::env::var_os(SEED).is_none() {
        let seed = if args.full { fresh() } else { SAME_CASES };
        say(format!("property tests: {SEED}={seed}"));
        command.env(SEED, seed.to_string());
    }
    sum.add(tests("tests on this machine", &mut command, false)?);
    sum.add(models(&filter)?);
    let mut docs = vec![
        "test",
        "--release",
        "--no-fail-fast",
        "--workspace",
        "--doc",
        "--",
    ];
    docs.extend(&filter);
    sum.add(tests(
        "examples in the documentation",
        cargo::command().args(&docs),
        false,
    )?);
    if !args.no_vm {
        let mut vm = vec!["test", "--release", "--workspace", "--test", VM_TESTS, "--"];
        vm.extend(&filter);
        let mut command = cargo::command();
        command.args(&vm);
        if args.full {
            command.env("MLU_FUZZ_CALLS", FULL_CALLS.to_string());
        }
        sum.add(tests("tests in virtual machines", &mut command, true)?);
    }
    Ok(ended(sum))
}

/// A seed that was not taken before.
fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Prints the last line; the exit code.
fn ended(sum: Sum) -> i32 {
    println!("{} passed, {} failed", sum.passed, sum.failed);
    i32::from(sum.failed > 0)
}

/// The tests in virtual machines on the debug kernel, after a proof that it reports what is wrong.
fn debug_kernel(filter: Option<&str>) -> Result<Sum> {
    let build = std::env::var_os("VMLU_NO_BUILD").is_none();
    let setup = setup::with_kernel(Flavour::Debug, build)?;
    debug::planted::prove(&setup)?;
    // What the planted machine leaves are its bugs.
    debug::audit::take();
    let mut command = cargo::command();
    command
        .args(["test", "--release", "--workspace", "--test", VM_TESTS, "--"])
        .args(filter)
        .env(VARIABLE, "debug");
    tests("tests on the debug kernel", &mut command, true)
}

/// What the names of all VM tests start with.
pub const VM_PREFIX: &str = "vm::";

/// The models of `protocol/`, which loom runs. They have a target folder of their own: the flag would have cargo build everything anew.
fn models(filter: &[&str]) -> Result<Sum> {
    let mut command = cargo::command();
    command
        .args(["test", "--release", "--package", "vmlu-protocol"])
        .args(["--test", "models", "--no-fail-fast", "--"])
        .args(filter)
        .env("CARGO_TARGET_DIR", paths::target().join("loom"))
        .env("RUSTFLAGS", "--cfg loom");
    tests("models of the queue protocol", &mut command, false)
}

fn lint() -> Result<Sum> {
    let mut sum = Sum::default();
    let lints: [(&str, &[&str]); 2] = [
        ("rustfmt", &["fmt", "--all", "--check"]),
        (
            "clippy",
            &[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        ),
    ];
    for (name, arguments) in lints {
        let step = Step::start(name);
        let passed = cargo::command()
            .args(arguments)
            .status()
            .context("cannot start cargo")?
            .success();
        step.done_with(if passed { "passed" } else { "failed" });
        sum.add(Sum::one(passed));
    }
    Ok(sum)
}

/// Runs one `cargo test` and adds up what its test programs report. If it fails without a failed test (it does not build, a
/// program dies), that counts as one failure. Cargo and the test programs show their progress themselves.
fn tests(name: &str, command: &mut Command, show_all: bool) -> Result<Sum> {
    say(format!("── {name} ──"));
    let started = Instant::now();
    // The set-up has built everything: the VM tests need not.
    command.env("VMLU_NO_BUILD", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().expect("it is piped");
    let mut sum = Sum::default();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match result(&line) {
            Some(result) => sum.add(result),
            None if !show_all && is_noise(&line) => {}
            None => println!("{line}"),
        }
    }
    let status = child.wait()?;
    if !status.success() && sum.failed == 0 {
        println!("{name}: cargo ended with {status} though no test failed (see above)");
        sum.failed = 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    say(format!(
        "{name}: {} passed, {} failed ({seconds:.1} s)",
        sum.passed, sum.failed
    ));
    Ok(sum)
}

/// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn result(line: &str) -> Option<Sum> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let words: Vec<_> = rest
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        words
            .windows(2)
            .find(|pair| pair[1] == word)
            .and_then(|pair| pair[0].parse().ok())
    };
    Some(Sum {
        passed: count("passed")?,
        failed: count("failed")?,
    })
}

/// Lines that say only that all is well.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("running ")
        || (line.starts_with("test ") && line.ends_with(" ... ok"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.31s";
        assert_eq!(
            result(line),
            Some(Sum {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(result("test a::b ... ok"), None);
    }

    #[test]
    fn failures_are_shown() {
        assert!(is_noise("test a::b ... ok") && is_noise("running 3 tests"));
        assert!(!is_noise("test a::b ... FAILED") && !is_noise("thread panicked"));
    }
}
