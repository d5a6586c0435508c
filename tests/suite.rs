//! The suite on the embedded card: each case has chips of its own.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use vmlu::transport::embedded::Embedded;
use vmlu_tests::suite::{Bench, CASES};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = CASES
        .iter()
        .map(|case| {
            Trial::test(format!("embedded::{}", case.name), || {
                let card = Embedded::new(1, true).map_err(|e| e.to_string())?;
                (case.run)(&Bench::new(card, 0)).map_err(|e| e.to_string().into())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
