//! Cases of several processes, and a program that uses the server.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use vmlu::transport::local::Local;
use vmlu_device::local::LocalServer;
use vmlu_tests::processes::Rig;

use crate::{server, Check};

struct Served {
    _folder: tempfile::TempDir,
    server: LocalServer,
    card: Arc<Local>,
}

/// Chips of a server, on two boards.
const CHIPS: u32 = 4;

fn serve() -> Result<Served, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), CHIPS))?;
    let card = Local::open(server.path())?;
    Ok(Served {
        _folder: folder,
        server,
        card,
    })
}

/// Runs a case on a server of its own.
pub fn run(case: fn(&Rig) -> Check) -> Check {
    let served = serve()?;
    let address = format!("local:{}", served.server.path().display());
    case(&Rig {
        card: served.card.clone(),
        program: env!("CARGO_BIN_EXE_mlu-processes").into(),
        environment: vec![("MLU_TRANSPORT".into(), address)],
    })
}

/// The example program ends with the same weights over this transport as on the embedded card; on one chip, and on several, where here each
/// has a process of its own and there a thread.
pub fn same_weights() -> Check {
    let served = serve()?;
    let program = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .ok_or("no target folder")?
        .join("examples/digits");
    if !program.exists() {
        let build = "cargo build --release -p vmlu --example digits";
        return Err(format!("{} is not there: {build}", program.display()).into());
    }
    let train = |transport: &str, arguments: &[&str]| {
        let output = Command::new(&program)
            .args(arguments)
            .env("MLU_TRANSPORT", transport)
            .env("MLU_CHIPS", CHIPS.to_string())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let weights = text.lines().find(|line| line.starts_with("weights: "));
        let said = || format!("{transport}: {text}{:?}", output.stderr);
        if !output.status.success() {
            return Err(said().into());
        }
        Ok::<_, Box<dyn std::error::Error>>(weights.ok_or_else(said)?.to_owned())
    };
    let local = format!("local:{}", served.server.path().display());
    let alone = train(&local, &[])?;
    assert_eq!(alone, train("embedded", &[])?);
    let chips = CHIPS.to_string();
    let several = ["--chips", &chips, "--epochs", "8"];
    let processes = [&several[..], &["--processes"]].concat();
    assert_eq!(train(&local, &processes)?, train("embedded", &several)?);
    Ok(())
}
