//! What set-up says when something is missing. `xtask` itself runs, in namespaces of its own where network, disk or QEMU is not there.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{ensure, Result};
use xtask::toolbox::{recipe, Toolbox};
use xtask::{cache, paths};

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("works_without_network", works_without_network),
    ("no_disk_space", no_disk_space),
    ("qemu_missing", qemu_missing),
    ("broken_kvm", broken_kvm),
    ("too_many_boards", too_many_boards),
    ("commands_are_listed", commands_are_listed),
    ("doctor_finds_everything", doctor_finds_everything),
];

/// Runs xtask after `prepare`, a shell script in own mount and network namespaces (no network there).
fn isolated(lab: &Lab, prepare: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--net", "sh", "-ec"]);
    command.arg(format!("{prepare}\nexec \"$@\"")).arg("sh");
    command
        .arg(lab.setup()?.built.program("xtask")?)
        .args(arguments);
    command
        .env("CARGO_TARGET_DIR", paths::target())
        .env_remove("VMLU_NO_BUILD");
    Ok(command.output()?)
}

/// That it failed and said what was asked, what was wrong and what to do.
fn check_problem(output: &Output, wanted: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it succeeded: {said}");
    for text in wanted.iter().chain(&["next: "]) {
        ensure!(said.contains(text), "`{text}` is not in: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

fn works_without_network(lab: &Lab) -> Result<()> {
    let arguments = ["vm", "--boards", "0", "--no-build", "--", "echo it works"];
    let output = isolated(lab, "", &arguments)?;
    ensure!(
        output.status.success() && output.stdout == b"it works\n",
        "{output:?}"
    );
    Ok(())
}

fn no_disk_space(lab: &Lab) -> Result<()> {
    let folder = cache::folder()?;
    let prepare = format!("mount -t tmpfs -o size=1m none {}", folder.display());
    let output = isolated(lab, &prepare, &["module"])?;
    check_problem(
        &output,
        &["cannot make the toolbox", "GB needed", "XDG_CACHE_HOME"],
    )
}

fn qemu_missing(lab: &Lab) -> Result<()> {
    let qemu = lab.setup()?.toolbox.path("usr/bin/qemu-system-x86_64");
    // A mount over it, only in the namespace: there is a file, but no QEMU.
    let prepare = format!("mount --bind /dev/null {}", qemu.display());
    let output = isolated(
        lab,
        &prepare,
        &["vm", "--boards", "0", "--no-build", "--", "true"],
    )?;
    check_problem(
        &output,
        &["cannot use the toolbox", "qemu-system-x86_64", "remove"],
    )
}

fn broken_kvm(lab: &Lab) -> Result<()> {
    let prepare = "mount -t tmpfs none /dev; touch /dev/null";
    let output = isolated(
        lab,
        prepare,
        &[
            "vm",
            "--boards",
            "0",
            "--no-build",
            "--accel",
            "kvm",
            "--",
            "true",
        ],
    )?;
    check_problem(&output, &["cannot use KVM", "there is no /dev/kvm", "TCG"])
}

fn too_many_boards(lab: &Lab) -> Result<()> {
    let output = isolated(
        lab,
        "",
        &["vm", "--boards", "9", "--no-build", "--", "true"],
    )?;
    check_problem(
        &output,
        &[
            "cannot boot the guest",
            "9 boards asked for, 8 are the most",
        ],
    )
}

fn commands_are_listed(lab: &Lab) -> Result<()> {
    let output = isolated(lab, "", &[])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for command in ["demo", "vm", "test", "module", "doctor", "update", "clean"] {
        ensure!(
            said.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command} is not in: {said}"
        );
    }
    Ok(())
}

fn doctor_finds_everything(lab: &Lab) -> Result<()> {
    lab.setup()?;
    let mut command = Command::new(lab.setup()?.built.program("xtask")?);
    let output = command
        .arg("doctor")
        .env("CARGO_TARGET_DIR", paths::target())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let kernel = Toolbox::find()?
        .map(|toolbox| toolbox.kernel)
        .unwrap_or_default();
    ensure!(
        said.contains(&recipe::name()) && said.contains(&kernel),
        "{said}"
    );
    ensure!(
        output.status.success() && !said.contains("PROBLEM") && !said.contains("missing"),
        "{said}"
    );
    ensure!(
        said.contains("KVM: ") || said.contains("TCG: "),
        "no reason for the accelerator: {said}"
    );
    ensure!(
        Path::new("/dev/kvm").exists() || said.contains("there is no /dev/kvm"),
        "{said}"
    );
    Ok(())
}
