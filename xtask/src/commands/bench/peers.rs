//! Peers of `bench compute`: oneDNN from Debian and onnxruntime from PyPI, for the toolbox's C library and Python.
//!
//! Packages are unpacked into an entry of the cache, beside the toolbox and not into it: who measures nothing needs none of them. The
//! programs in `bench/peers/` run by the toolbox's loader, as QEMU does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{json, Value};

use crate::progress::Step;
use crate::toolbox::{make, packages, Toolbox};
use crate::{cache, paths, run};

/// Debian packages that the toolbox lacks, their dependencies aside.
const PACKAGES: &[&str] = &["libdnnl-dev", "python3-pip"];
/// Packages of PyPI.
const WHEELS: &[&str] = &["onnxruntime==1.*", "onnx==1.*"];
/// Disk space that they take, in bytes.
const SPACE: u64 = 600_000_000;
/// Where Debian keeps libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What `mlu-bench compute --peers` reads: name, command and environment of each.
pub fn programs() -> Result<Value> {
    let (toolbox, folder) = {
        let _lock = cache::lock()?;
        let toolbox = make::ensure()?;
        let name = format!(
            "peers-{}",
            cache::key(&[
                &crate::toolbox::recipe::name(),
                &PACKAGES.join(" "),
                &WHEELS.join(" "),
            ])
        );
        let folder = cache::entry(&name, |folder| fetch(&toolbox, folder))?;
        (toolbox, folder)
    };
    let onednn = compile(&toolbox, &folder)?;
    let script = sources().join("onnxruntime_peer.py");
    let python = python(&toolbox, &folder);
    let words = |command: &Command| -> Vec<String> {
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    };
    let mut first = loader(&toolbox, &folder);
    first.arg(onednn);
    let mut second = loader(&toolbox, &folder);
    second.arg(toolbox.path("usr/bin/python3")).arg(script);
    Ok(json!([
        {"name": "onednn", "command": words(&first), "environment": {}},
        {"name": "onnxruntime", "command": words(&second), "environment": python},
    ]))
}

/// Where the programs' sources are.
fn sources() -> PathBuf {
    paths::project().join("bench/peers")
}

/// The toolbox's loader, with the peers' libraries too.
fn loader(toolbox: &Toolbox, folder: &Path) -> Command {
    let mut libraries = toolbox.path(LIBRARIES).into_os_string();
    libraries.push(":");
    libraries.push(folder.join("root").join(LIBRARIES));
    let mut command = Command::new(toolbox.path("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(libraries);
    command
}

/// Environment of the toolbox's Python outside the toolbox.
fn python(toolbox: &Toolbox, folder: &Path) -> Value {
    json!({
        "PYTHONHOME": toolbox.path("usr"),
        "PYTHONPATH": folder.join("python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    })
}

fn fetch(toolbox: &Toolbox, folder: &Path) -> Result<()> {
    cache::need_space("fetch oneDNN and onnxruntime", SPACE)?;
    let step = Step::start("oneDNN and onnxruntime, to compare with");
    packages::unpack(toolbox, folder, PACKAGES, "fetch oneDNN", &step)?;
    step.tick("onnxruntime");
    // Outside the toolbox, so that the machine's settings of pip hold.
    let mut command = loader(toolbox, folder);
    command.arg(toolbox.path("usr/bin/python3"));
    command.args(["-m", "pip", "install", "--no-warn-script-location"]);
    command.args(["--root-user-action", "ignore", "--no-compile", "--target"]);
    command.arg(folder.join("python")).args(WHEELS);
    command.env("PYTHONHOME", toolbox.path("usr"));
    command.env(
        "PYTHONPATH",
        folder.join("root/usr/lib/python3/dist-packages"),
    );
    run::logged(command, "fetch onnxruntime", "peers-python", &step)?;
    step.done();
    Ok(())
}

/// Compiles the program of oneDNN in the toolbox.
fn compile(toolbox: &Toolbox, folder: &Path) -> Result<PathBuf> {
    let build = paths::target().join("peers");
    fs::create_dir_all(&build)?;
    fs::copy(sources().join("onednn.c"), build.join("onednn.c"))?;
    let binds = [(&*build, "/build"), (folder, "/kernel")];
    let script = format!(
        "gcc -O2 -Wall -o /build/onednn /build/onednn.c -I/kernel/root/usr/include -L/kernel/root/{LIBRARIES} -ldnnl"
    );
    let step = Step::start("peer of oneDNN");
    run::logged(
        toolbox.script(&binds, &script),
        "compile bench/peers/onednn.c",
        "peers-compile",
        &step,
    )?;
    step.done();
    Ok(build.join("onednn"))
}
