//! Several hosts on this machine: network namespaces with names and addresses of their own, on one bridge, and OpenMPI among them.
//!
//! OpenMPI is Debian's, unpacked beside the toolbox, whose root it is laid over: nothing of it stays on the machine. `mpirun` stands in a
//! namespace of its own and starts its daemons by `nsenter` instead of `ssh`. Everything ends with the first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Step;
use crate::toolbox::{is_root, make, packages, recipe, Toolbox};
use crate::{cache, paths};

/// Debian packages that the toolbox lacks, their dependencies aside.
const PACKAGES: &[&str] = &["openmpi-bin"];
/// Disk space that they take, in bytes.
const SPACE: u64 = 350_000_000;
/// The target folder in the hosts.
const TARGET: &str = "/build";
/// What a host runs its processes with, in the toolbox.
const SCRIPT: &str = include_str!("hosts.sh");

/// OpenMPI and the toolbox.
#[derive(Debug, Clone)]
pub struct Hosts {
    toolbox: Toolbox,
    packages: PathBuf,
}

/// What hosts run.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Hosts: at most 16.
    pub hosts: u32,
    /// Ranks of each, a chip each. With several the host has a device server, with one the rank has an embedded card.
    pub ranks: u32,
    /// A program in the target folder, with its arguments: what each rank is.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// A folder in the target folder: each rank's output goes to its file `rank.N`, and a host whose number is written to its file `cut`
    /// (through `cut.new`) loses its network. Without it `mpirun` shows what ranks say.
    pub folder: Option<&'a Path>,
    /// Has it all be done in a user namespace, as somebody who is not root must; root may, for tests.
    pub as_user: bool,
}

impl Hosts {
    /// What is needed, fetched if it is missing.
    ///
    /// # Errors
    ///
    /// If there is no network, or too little space.
    pub fn ensure() -> Result<Self> {
        let _lock = cache::lock()?;
        let toolbox = make::ensure()?;
        let name = format!(
            "openmpi-{}",
            cache::key(&[&recipe::name(), &PACKAGES.join(" ")])
        );
        if !cache::folder()?.join(&name).is_dir() {
            cache::need_space("fetch OpenMPI", SPACE)?;
        }
        let packages = cache::entry(&name, |folder| {
            let step = Step::start("OpenMPI");
            packages::unpack(&toolbox, folder, PACKAGES, "fetch OpenMPI", &step)?;
            step.done();
            Ok(())
        })?;
        Ok(Self { toolbox, packages })
    }

    /// `mpirun` over hosts, as a command that ends with it.
    ///
    /// # Errors
    ///
    /// If the program or the folder does not lie in the target folder.
    pub fn command(&self, plan: &Plan<'_>) -> Result<Command> {
        let root = paths::target().join("hosts");
        fs::create_dir_all(&root)?;
        let inside = |path: &Path| {
            let below = path.strip_prefix(paths::target());
            let below =
                below.with_context(|| format!("{} is not in the target folder", path.display()))?;
            Ok::<_, anyhow::Error>(Path::new(TARGET).join(below))
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--uts", "--ipc", "--pid"]);
        command.args(["--fork", "--kill-child"]);
        if plan.as_user || !is_root() {
            command.arg("--map-root-user");
        }
        // $1 the mount point, $2 and $3 what is laid over each other, $4 the target folder, $5 the script, then what that takes.
        let enter = "set -e; root=$1
            mount -t overlay overlay -o \"lowerdir=$2:$3\" \"$root\"
            mount --bind \"$4\" \"$root/build\"
            mount -t proc proc \"$root/proc\"
            mount --rbind /dev \"$root/dev\"
            mount --rbind /sys \"$root/sys\"
            mount -t tmpfs tmpfs \"$root/run\"
            mount -t tmpfs tmpfs \"$root/tmp\"
            script=$5; shift 5
            exec chroot \"$root\" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
                /bin/sh -ec \"$script\" hosts \"$@\"";
        command.args(["sh", "-c", enter, "enter"]);
        command.arg(&root).arg(self.packages.join("root"));
        command.arg(self.toolbox.path("")).arg(paths::target());
        command.arg(SCRIPT);
        command
            .arg(plan.hosts.to_string())
            .arg(plan.ranks.to_string());
        match plan.folder {
            Some(folder) => command.arg(inside(folder)?),
            None => command.arg("-"),
        };
        command.arg(inside(plan.program)?).args(plan.arguments);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }
}
