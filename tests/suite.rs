//! The suite on the embedded card and over a local server: each case has a board of its own.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use vmlu::transport::embedded::Embedded;
use vmlu::transport::local::Local;
use vmlu_device::local::LocalServer;
use vmlu_tests::suite::{Bench, Case, CASES};

#[path = "local/server.rs"]
mod server;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let embedded = CASES.iter().map(|case| {
        Trial::test(format!("embedded::{}", case.name), || {
            let card = Embedded::new(2, true).map_err(|e| e.to_string())?;
            (case.run)(&Bench::new(card, 0)).map_err(|e| e.to_string().into())
        })
    });
    let local = CASES.iter().map(|case| {
        Trial::test(format!("local::{}", case.name), || {
            run_local(case).map_err(|e| e.to_string().into())
        })
    });
    let trials = embedded.chain(local).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run_local(case: &Case) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 2))?;
    (case.run)(&Bench::new(Local::open(server.path())?, 0))
}
