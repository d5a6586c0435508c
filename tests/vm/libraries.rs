//! The libraries with the vendor's names over the driver: the programs of `tests/neuware/`, compiled on the host, run in the machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use xtask::toolbox::Toolbox;
use xtask::{neuware, paths};

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("programs_over_the_driver", programs),
    ("bindgen_reads_the_headers", bindgen),
];

/// Sources; each is linked with all libraries.
const PROGRAMS: &[&str] = &[
    "runtime.c",
    "driver.c",
    "strict.c",
    "topologies.c",
    "collectives.c",
    "ranks.c",
    "processes.c",
    "forked.c",
    "adaptor.cpp",
];

/// The folder of the prefix and of the programs, in the one that the machine sees as `/mlu`.
const FOLDER: &str = "neuware";

fn compile(source: &str, prefix: &Path) -> Result<String> {
    let name = source.replace('.', "-");
    let lib = prefix.join("lib64");
    let compiler = if source.ends_with(".cpp") {
        "c++"
    } else {
        "cc"
    };
    let output = Command::new(compiler)
        .arg("-O1")
        .arg("-I")
        .arg(prefix.join("include"))
        .arg(paths::project().join("tests/neuware").join(source))
        .arg("-o")
        .arg(prefix.join(&name))
        .arg("-L")
        .arg(&lib)
        .arg(format!("-Wl,-rpath-link,{}", lib.display()))
        .arg(format!("-Wl,-rpath,/mlu/{FOLDER}/lib64"))
        .args(["-lcncl", "-lcnrt", "-lcndrv", "-lpthread", "-lm"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{source}: {text}");
    Ok(name)
}

fn programs(lab: &Lab) -> Result<()> {
    let prefix = lab.setup()?.flavour.stage().join(FOLDER);
    neuware::install(&prefix, &lab.setup()?.built)?;
    let vm = lab.vm()?;
    for source in PROGRAMS {
        let name = compile(source, &prefix)?;
        let script = format!("MLU_TRANSPORT=kernel /mlu/{FOLDER}/{name}");
        let output = vm.exec_within(&script, Duration::from_secs(120))?;
        ensure!(
            output.code == 0 && output.stdout.ends_with("all as it should be\n"),
            "{source}: exit code {}\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
    }
    // The exporter looks every function up by its name.
    let symbols = prefix.join("symbols.txt");
    std::fs::copy(
        paths::project().join("runtime/cndev/tests/symbols.txt"),
        symbols,
    )?;
    let name = compile("exporter.c", &prefix)?;
    let script = format!(
        "MLU_TRANSPORT=kernel /mlu/{FOLDER}/{name} /mlu/{FOLDER}/lib64/libcndev.so /mlu/{FOLDER}/symbols.txt"
    );
    let output = vm.exec_within(&script, Duration::from_secs(120))?;
    ensure!(output.code == 0, "exporter: {output:?}");
    Ok(())
}

/// Rust programs make their declarations from the headers. Needs no machine, but the toolbox, which has bindgen.
fn bindgen(lab: &Lab) -> Result<()> {
    let prefix = lab.setup()?.flavour.stage().join(FOLDER);
    neuware::install(&prefix, &lab.setup()?.built)?;
    let toolbox = Toolbox::find()?.context("there is no toolbox: cargo xtask doctor")?;
    let include = prefix.join("include");
    let work = tempfile::tempdir()?;
    for entry in std::fs::read_dir(&include)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let script = format!("bindgen --rust-target 1.82 /mnt/{name} -- -I/mnt");
        let output = toolbox.script(&[(&include, "/mnt")], &script).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {errors}");
        // What it writes proves the layouts that it found.
        let file = work.path().join(format!("{}.rs", name.replace('.', "_")));
        std::fs::write(&file, &output.stdout)?;
        let compiled = Command::new("rustc")
            .args(["--edition", "2021", "--crate-type", "lib"])
            .args(["--emit", "metadata", "-A", "warnings", "-o"])
            .arg(file.with_extension("rmeta"))
            .arg(&file)
            .output()?;
        let errors = String::from_utf8_lossy(&compiled.stderr);
        ensure!(compiled.status.success(), "{name}: {errors}");
    }
    Ok(())
}
