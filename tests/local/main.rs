//! Several processes on a local server.

mod collectives;
mod hostile;
mod processes;
mod quotas;
mod server;
mod timelines;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// How a test ends.
type Check = Result<(), Box<dyn std::error::Error>>;

/// A test and its name.
type Test = (&'static str, fn() -> Check);

fn main() -> ExitCode {
    if std::env::var_os("VMLU_TEST_ROLE").is_some_and(|role| role == "exporter") {
        return match timelines::exporter() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let tests: &[Test] = &[
        ("same_weights", processes::same_weights),
        (
            "waits_for_another_process",
            timelines::waits_for_another_process,
        ),
        ("waits_for_another_chip", timelines::waits_for_another_chip),
        ("exporter_is_killed", timelines::exporter_is_killed),
        ("a_rank_loses_its_chip", collectives::a_rank_loses_its_chip),
        ("garbage", hostile::garbage),
        ("sealed_memory", hostile::sealed_memory),
        ("silent_connections", hostile::silent_connections),
        ("foreign_handles", hostile::foreign_handles),
        ("server_ends", hostile::server_ends),
        ("chip_is_lost", hostile::chip_is_lost),
        ("quotas", quotas::quotas),
        ("path_is_claimed", hostile::path_is_claimed),
    ];
    let plain = tests.iter().map(|(name, run)| {
        Trial::test(format!("local::{name}"), move || {
            run().map_err(|e| e.to_string().into())
        })
    });
    let several = vmlu_tests::processes::CASES.iter().map(|(name, case)| {
        Trial::test(format!("local::{name}"), move || {
            processes::run(*case).map_err(|e| e.to_string().into())
        })
    });
    let trials = plain.chain(several).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
