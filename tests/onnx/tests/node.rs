//! The node cases of ONNX's `onnx` package on the embedded card.
//!
//! `passing.txt` names the cases that pass. A test a listed case; and one of all others, which fails if one of them passes too: then it is to be
//! added. So the list only grows. `cargo test -p vmlu-onnx --test node -- --ignored survey` prints why the others do not pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use vmlu::transport::embedded::Embedded;
use vmlu::{Context, Queue};
use vmlu_onnx::case;
use vmlu_onnx::Stop;

const PASSING: &str = include_str!("passing.txt");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = match xtask::vectors::ensure() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let folder: &'static Path = Box::leak(folder.into_boxed_path());
    let listed = || {
        PASSING
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
    };
    let mut trials: Vec<Trial> = listed()
        .map(|name| Trial::test(name, move || one(&folder.join(name))))
        .collect();
    trials.push(Trial::test("others_do_not_pass", move || {
        others(folder, listed().collect())
    }));
    trials.push(Trial::test("survey", move || survey(folder)).with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn queue() -> Result<Queue, String> {
    let card = Embedded::new(1, true).map_err(|e| e.to_string())?;
    let context = Context::open_on(&*card, 0).map_err(|e| e.to_string())?;
    context.queue().map_err(|e| e.to_string())
}

thread_local! {
    static QUEUE: Result<Queue, String> = queue();
}

fn run(folder: &Path) -> Result<(), Stop> {
    QUEUE.with(|queue| match queue {
        Ok(queue) => {
            let result = case::run(queue, folder);
            // A fault of one case is not the next one's.
            let _ = queue.clear_error();
            result
        }
        Err(error) => Err(Stop::Wrong(error.clone())),
    })
}

fn one(folder: &Path) -> Result<(), Failed> {
    run(folder).map_err(|e| e.to_string().into())
}

fn others(folder: &Path, listed: BTreeSet<&str>) -> Result<(), Failed> {
    let names = case::names(folder)?;
    let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if let Some(lost) = listed.iter().find(|n| !there.contains(*n)) {
        return Err(format!("{lost} is listed, but the vectors have no such case").into());
    }
    let others = names.iter().filter(|n| !listed.contains(n.as_str()));
    let new: Vec<&String> = others.filter(|n| run(&folder.join(n)).is_ok()).collect();
    if new.is_empty() {
        return Ok(());
    }
    Err(format!("these pass and are to be added to tests/onnx/tests/passing.txt: {new:?}").into())
}

fn survey(folder: &Path) -> Result<(), Failed> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut passed = Vec::new();
    for name in case::names(folder)? {
        match run(&folder.join(&name)) {
            Ok(()) => passed.push(name),
            Err(Stop::Unsupported(what)) => {
                reasons
                    .entry(format!("not supported: {what}"))
                    .or_default()
                    .push(name);
            }
            Err(stop) => reasons.entry(stop.to_string()).or_default().push(name),
        }
    }
    for (reason, names) in &reasons {
        println!("{} × {reason}: {}", names.len(), names.join(" "));
    }
    println!("{} pass", passed.len());
    if let Some(path) = std::env::var_os("VMLU_ONNX_PASSING") {
        std::fs::write(path, passed.join("\n") + "\n")?;
    }
    Ok(())
}
