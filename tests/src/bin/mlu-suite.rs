//! Runs cases of the suite on the card that this machine has: `mlu-suite --list`, or `mlu-suite NAME…`.

use std::process::ExitCode;

use vmlu_tests::suite::{self, Bench, CASES};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.iter().any(|n| n == "--list") {
        CASES.iter().for_each(|c| println!("{}", c.name));
        return ExitCode::SUCCESS;
    }
    let transport = match vmlu::transport::choose() {
        Ok(transport) => transport,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let bench = Bench::new(transport, 0);
    for name in names {
        let Some(case) = suite::find(&name) else {
            eprintln!("there is no case {name}; `mlu-suite --list` lists them");
            return ExitCode::FAILURE;
        };
        if let Err(error) = (case.run)(&bench) {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
