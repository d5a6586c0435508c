//! Makes the toolbox with mmdebstrap.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{is_root, mirror, recipe, Toolbox};
use crate::cache;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;

/// The toolbox of the current recipe, made if it is missing. Call with the cache's lock held.
pub fn ensure() -> Result<Toolbox> {
    if let Some(toolbox) = Toolbox::find()? {
        return Ok(toolbox);
    }
    cache::need_space("make the toolbox", recipe::SPACE)?;
    need_mmdebstrap()?;
    let mirror = mirror::find()?;
    let folder = cache::entry(&recipe::name(), |folder| make(folder, &mirror))?;
    Toolbox::at(&folder)
}

fn make(folder: &Path, mirror: &str) -> Result<()> {
    let step = Step::with_length("toolbox", recipe::LINES);
    let root = folder.join("root");
    fs::create_dir(&root)?;
    let mut arguments: Vec<String> = ["--variant=minbase", "--architectures=amd64"]
        .map(String::from)
        .to_vec();
    for path in recipe::EXCLUDED {
        arguments.push(format!("--dpkgopt=path-exclude={path}"));
    }
    arguments.push("--dpkgopt=force-unsafe-io".into());
    arguments.push("--aptopt=APT::Install-Recommends \"false\"".into());
    arguments.push("--aptopt=Acquire::Retries \"3\"".into());
    arguments.extend(
        mirror::apt_options()
            .into_iter()
            .map(|option| format!("--aptopt={option}")),
    );
    arguments.push(format!("--include={}", recipe::PACKAGES.join(",")));
    arguments.push(hook(&format!(
        "apt-get install -y --no-install-recommends -t {} {}",
        recipe::BACKPORTS,
        recipe::BACKPORTED.join(" ")
    )));
    arguments.push(hook(recipe::IMAGE_HOOK));
    arguments.push(hook(&format!(
        "mkdir -p /{}",
        recipe::MOUNT_POINTS.join(" /")
    )));
    arguments.push(recipe::SUITE.into());
    let sources =
        [recipe::SUITE, recipe::BACKPORTS].map(|suite| format!("deb {mirror} {suite} main"));

    let mut command;
    if is_root() {
        command = Command::new("mmdebstrap");
        command
            .args(["--mode=root", "--format=directory"])
            .args(&arguments)
            .arg(&root)
            .args(&sources);
    } else {
        // mmdebstrap's files would belong to the user's subordinate ids; unpacked from a tar they are the user's own,
        // so that programs can run from the toolbox directly and anybody may delete it. It works under /var/tmp, because
        // the subordinate ids may not enter a private home folder.
        let script = "set -o pipefail; root=$1; shift; TMPDIR=/var/tmp mmdebstrap --mode=unshare --format=tar \"$@\" \
            | tar -x -C \"$root\" --no-same-owner --exclude='./dev/*'; chmod -R u+rwX \"$root\"";
        command = Command::new("bash");
        command
            .args(["-ec", script, "make"])
            .arg(&root)
            .args(&arguments)
            .arg("-")
            .args(&sources);
    }
    command
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive");
    run::logged(command, "make the toolbox", "toolbox", &step)?;
    step.done();
    Ok(())
}

fn hook(script: &str) -> String {
    format!("--customize-hook=chroot \"$1\" sh -ec '{script}'")
}

/// mmdebstrap is the one program that the machine itself must have.
fn need_mmdebstrap() -> Result<()> {
    let asked = "make the toolbox";
    let packages: &[&str] = if is_root() {
        &["mmdebstrap"]
    } else {
        &["mmdebstrap", "uidmap"]
    };
    let programs: &[&str] = if is_root() {
        &["mmdebstrap"]
    } else {
        &["mmdebstrap", "newuidmap"]
    };
    if programs.iter().any(|program| run::find(program).is_none()) {
        let install = format!(
            "apt-get install -y --no-install-recommends {}",
            packages.join(" ")
        );
        if !is_root() {
            return Err(problem(
                asked,
                "mmdebstrap or newuidmap is missing",
                format!("run: sudo {install}"),
            ));
        }
        let step = Step::start("mmdebstrap");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("{install} || {{ apt-get update && {install}; }}"),
        ]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run::logged(command, "install mmdebstrap", "mmdebstrap", &step)?;
        step.done();
    }
    if !is_root() {
        user_namespaces().context("making the toolbox without root needs user namespaces")?;
    }
    Ok(())
}

/// Whether a plain user may make user namespaces with several ids.
pub fn user_namespaces() -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "true"]);
    run::output(command).map_err(|error| {
        let next = "run as root, or: sudo sysctl kernel.unprivileged_userns_clone=1 (or user.max_user_namespaces=10000)";
        problem("use user namespaces", format!("{error}"), next)
    })?;
    let user = run::output({
        let mut command = Command::new("id");
        command.arg("-un");
        command
    })?;
    let user = user.trim();
    let prefix = format!("{user}:");
    for file in ["/etc/subuid", "/etc/subgid"] {
        let entries = fs::read_to_string(file).unwrap_or_default();
        if !entries.lines().any(|line| line.starts_with(&prefix)) {
            let next = format!(
                "run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            );
            return Err(problem(
                "use user namespaces",
                format!("{file} has no entry for {user}"),
                next,
            ));
        }
    }
    Ok(())
}
