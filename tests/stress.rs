//! The stress test on the embedded card and over a local server: every packet is accounted for.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use vmlu::transport::embedded::Embedded;
use vmlu::transport::local::Local;
use vmlu_device::local::LocalServer;
use vmlu_tests::stress::{processes, threads, Options};

#[path = "local/server.rs"]
mod server;

type Outcome = Result<String, Box<dyn std::error::Error>>;

/// A test and its name.
type Test = (&'static str, fn(&Options) -> Outcome);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [Test; 2] = [("embedded", embedded), ("local", local)];
    let trials = tests.map(|(name, run)| {
        Trial::test(format!("{name}::stress"), move || {
            let options = Options::from_environment();
            match run(&options) {
                Ok(line) => {
                    println!("{name}, seed {}: {line}", options.seed);
                    Ok(())
                }
                Err(error) => Err(format!("MLU_STRESS_SEED={}: {error}", options.seed).into()),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn embedded(options: &Options) -> Outcome {
    let folder = tempfile::tempdir()?;
    let card = Embedded::new(1, false)?;
    threads::run(&*card, options, &folder.path().join("record"))
}

fn local(options: &Options) -> Outcome {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 1))?;
    let card = Local::open(server.path())?;
    let environment = [(
        "MLU_TRANSPORT",
        format!("local:{}", server.path().display()),
    )];
    processes::run(
        &*card,
        options,
        Path::new(env!("CARGO_BIN_EXE_mlu-stress")),
        &environment,
        folder.path().join("record"),
    )
}
