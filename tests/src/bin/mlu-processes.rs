//! Runs a case of several processes on the card that this machine has: `mlu-processes NAME`; `mlu-processes --list` lists them.

use std::process::ExitCode;

use vmlu_tests::cliques;
use vmlu_tests::processes::{self, Check, Rig, CASES};

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    match run(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Check {
    if name == "--list" {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let card = vmlu::transport::choose()?;
    if name == "holder" {
        return processes::holder(&*card);
    }
    if name == "clique" {
        return cliques::clique();
    }
    if name == "ranks" {
        let arguments: Vec<String> = std::env::args().skip(2).collect();
        return cliques::ranks(&*card, &arguments);
    }
    let case = CASES.iter().find(|(known, _)| *known == name);
    let (_, case) = case.ok_or("there is no such case; `mlu-processes --list` lists them")?;
    case(&Rig {
        card,
        program: std::env::current_exe()?,
        environment: Vec::new(),
    })
}
