//! The fuzzer of the kernel's interface: `mlu-fuzz`, as root, in a machine with the driver and nobody else who uses its chips.
//! `MLU_FUZZ_SECONDS`, `MLU_FUZZ_CALLS`, `MLU_FUZZ_SEED` and `MLU_FUZZ_PROCESSES` say how much.

use std::process::ExitCode;
use std::time::Duration;

use vmlu_tests::fuzz::{run, work, Error, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => fuzz(),
        ["worker", number, seed, milliseconds, calls] => {
            worker([number, seed, milliseconds, calls])
        }
        _ => Err("usage: mlu-fuzz".into()),
    };
    match outcome {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz() -> Result<String, Error> {
    let options = Options::from_environment();
    let program = std::env::current_exe()?;
    run(&options, &program)
        .map_err(|error| format!("MLU_FUZZ_SEED={}: {error}", options.seed).into())
}

fn worker(numbers: [&str; 4]) -> Result<String, Error> {
    let mut values = [0; 4];
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = number.parse()?;
    }
    let [number, seed, milliseconds, calls] = values;
    let duration = Duration::from_millis(milliseconds);
    Ok(work(number, seed, duration, calls)?.to_string())
}
