//! Several processes on a local server. The other processes are this program, started again.

mod hostile;
mod processes;
mod server;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// How a test ends.
type Check = Result<(), Box<dyn std::error::Error>>;

/// A test and its name.
type Test = (&'static str, fn() -> Check);

fn main() -> ExitCode {
    if let Some(role) = std::env::var_os("VMLU_TEST_ROLE") {
        return match processes::child(&role.to_string_lossy()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let tests: &[Test] = &[
        ("contexts_are_apart", processes::contexts_are_apart),
        ("killed_with_a_hang", processes::killed_with_a_hang),
        ("killed_idle", processes::killed_idle),
        ("same_weights", processes::same_weights),
        ("garbage", hostile::garbage),
        ("sealed_memory", hostile::sealed_memory),
        ("silent_connections", hostile::silent_connections),
        ("foreign_handles", hostile::foreign_handles),
        ("server_ends", hostile::server_ends),
        ("chip_is_lost", hostile::chip_is_lost),
        ("path_is_claimed", hostile::path_is_claimed),
    ];
    let trials = tests.iter().map(|(name, run)| {
        Trial::test(format!("local::{name}"), move || {
            run().map_err(|e| e.to_string().into())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
