//! Debian packages beside the toolbox: fetched with its apt, unpacked elsewhere, so that it stays as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{mirror, Toolbox};
use crate::progress::Step;
use crate::run;

/// Unpacks packages and what they depend on into `root` below `folder`. `asked` completes "cannot …".
///
/// # Errors
///
/// If they cannot be fetched.
pub fn unpack(
    toolbox: &Toolbox,
    folder: &Path,
    packages: &[&str],
    asked: &str,
    step: &Step,
) -> Result<()> {
    // apt with lists, archives and settings of its own.
    let mut options: Vec<String> = [
        "Dir::State::lists \"/build/lists\"",
        "Dir::Cache \"/build\"",
        "APT::Install-Recommends \"false\"",
        "APT::Sandbox::User \"root\"",
        "Acquire::Retries \"3\"",
    ]
    .map(String::from)
    .to_vec();
    options.extend(mirror::apt_options());
    let conf: String = options.iter().map(|line| format!("{line};\n")).collect();
    fs::write(folder.join("apt.conf"), conf)?;
    for part in ["lists/partial", "archives/partial", "root"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let script = format!(
        "export APT_CONFIG=/build/apt.conf DEBIAN_FRONTEND=noninteractive; apt-get update; \
         apt-get install -y --download-only {}; \
         for file in /build/archives/*.deb; do dpkg-deb -x $file /build/root; done; \
         rm -r /build/archives /build/lists",
        packages.join(" ")
    );
    let log = format!("debian-{}", packages.first().unwrap_or(&"packages"));
    run::logged(
        toolbox.script(&[(folder, "/build")], &script),
        asked,
        &log,
        step,
    )
}

/// The toolbox's Python on the machine, so that the machine's settings of pip hold, with the modules of packages that [`unpack`] has put
/// below `folder`.
pub fn python(toolbox: &Toolbox, folder: &Path) -> Command {
    let mut command = toolbox.command("usr/bin/python3");
    command.env("PYTHONHOME", toolbox.path("usr"));
    let modules = folder.join("root/usr/lib/python3/dist-packages");
    command.env("PYTHONPATH", modules);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
