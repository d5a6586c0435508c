//! `mlu-load CHIP`: does on a chip what its input says; see `vmlu_tests::load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let chip = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let Some(chip) = chip else {
        eprintln!("usage: mlu-load CHIP < COMMANDS");
        return ExitCode::from(2);
    };
    let done = vmlu::transport::choose()
        .map_err(Into::into)
        .and_then(|card| vmlu_tests::load::run(&*card, chip));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
