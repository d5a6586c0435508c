//! The stress test with several processes on the card that this machine has: `mlu-stress`; over the embedded card with threads.
//! `MLU_STRESS_SECONDS` and `MLU_STRESS_SEED` say for how long and with which seed.

use std::path::Path;
use std::process::ExitCode;

use vmlu_tests::stress::{processes, threads, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run(),
        ["owner", record, ref numbers @ ..] => owner(record, numbers),
        _ => Err("usage: mlu-stress".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error>;

fn run() -> Result<(), Error> {
    let options = Options::from_environment();
    println!("seed {}", options.seed);
    let transport = vmlu::transport::choose()?;
    let record = std::env::temp_dir().join(format!("mlu-stress-{}", std::process::id()));
    let program = std::env::current_exe()?;
    let result = if transport.name() == "embedded" {
        threads::run(&*transport, &options, &record)
    } else {
        processes::run(&*transport, &options, &program, &[], record.clone())
    };
    let _ = std::fs::remove_file(&record);
    let line = result.map_err(|error| format!("MLU_STRESS_SEED={}: {error}", options.seed))?;
    println!("{line}");
    Ok(())
}

fn owner(record: &str, numbers: &[&str]) -> Result<(), Error> {
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|n| n.parse())
        .collect::<Result<_, _>>()?;
    let numbers = numbers.try_into().map_err(|_| "four numbers are wanted")?;
    let transport = vmlu::transport::choose()?;
    processes::owner(&*transport, Path::new(record), numbers)
}
