//! The toolbox: a Debian root in the cache that holds every tool, so that the machine needs none.
//!
//! [`recipe`] says what is in it, [`make`] makes it, [`Toolbox`] uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::problem::problem;

pub mod make;
pub mod mirror;
pub mod packages;
pub mod recipe;

/// Folders of the project that show up in the toolbox: (on the machine, in the toolbox).
pub type Binds<'a> = &'a [(&'a Path, &'a str)];

/// QEMU in the toolbox.
pub const QEMU: &str = "usr/bin/qemu-system-x86_64";

/// A toolbox that is there.
#[derive(Debug, Clone)]
pub struct Toolbox {
    root: PathBuf,
    /// Version of the kernel image, such as `7.3.4+deb13-amd64`.
    pub kernel: String,
}

impl Toolbox {
    /// The toolbox of the current recipe if it is there.
    pub fn find() -> Result<Option<Toolbox>> {
        let folder = cache::location()?.join(recipe::name());
        if folder.is_dir() {
            Toolbox::at(&folder).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The toolbox in `folder`.
    fn at(folder: &Path) -> Result<Toolbox> {
        let root = folder.join("root");
        let broken = |what: String| {
            problem(
                "use the toolbox",
                what,
                format!("remove {} and run again", folder.display()),
            )
        };
        let modules = root.join("usr/lib/modules");
        let names = fs::read_dir(&modules)
            .map_err(|error| broken(format!("{}: {error}", modules.display())))?;
        let mut names: Vec<_> = names
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| modules.join(name).join("vmlinuz").is_file());
        let qemu = root.join(QEMU);
        if !fs::metadata(&qemu).is_ok_and(|file| file.is_file() && file.len() > 0) {
            return Err(broken(format!("there is no {}", qemu.display())));
        }
        match names.as_slice() {
            [kernel] => Ok(Toolbox {
                root,
                kernel: kernel.clone(),
            }),
            _ => Err(broken(format!(
                "{} holds {} kernels, not one",
                modules.display(),
                names.len()
            ))),
        }
    }

    /// A file of the toolbox.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The stock kernel image.
    pub fn vmlinuz(&self) -> PathBuf {
        self.path(&format!("usr/lib/modules/{}/vmlinuz", self.kernel))
    }

    /// A program of the toolbox that runs *on the machine*, with the toolbox's own loader and libraries.
    pub fn program(&self, inside: &str) -> Vec<PathBuf> {
        let library = |path: &str| self.path(path).into_os_string();
        let mut folders = library("usr/lib/x86_64-linux-gnu");
        folders.push(":");
        folders.push(library("usr/lib"));
        vec![
            self.path("usr/lib64/ld-linux-x86-64.so.2"),
            "--library-path".into(),
            folders.into(),
            self.path(inside),
        ]
    }

    /// [`Toolbox::program`] as a command.
    pub fn command(&self, inside: &str) -> Command {
        let words = self.program(inside);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// A shell script that runs *in* the toolbox, with `binds` mounted and nothing else of the machine but /proc and /dev.
    ///
    /// Own mount and process namespaces: nothing stays mounted, and all processes end with the first. Without root, also
    /// an own user namespace.
    pub fn script(&self, binds: Binds, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        if !is_root() {
            command.arg("--map-root-user");
        }
        // $1 is the root, $2 the script, then pairs of folders.
        let enter = "set -e; root=$1; script=$2; shift 2
            while [ $# -gt 0 ]; do mount --bind \"$1\" \"$root$2\"; shift 2; done
            mount -t proc proc \"$root/proc\" 2>/dev/null || mount --rbind /proc \"$root/proc\"
            mount --rbind /dev \"$root/dev\"
            exec chroot \"$root\" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
                /bin/sh -ec \"$script\"";
        command
            .args(["sh", "-c", enter, "enter"])
            .arg(&self.root)
            .arg(script);
        for (outside, inside) in binds {
            command.arg(outside).arg(inside);
        }
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Version of a package in the toolbox.
    pub fn version_of(&self, package: &str) -> Option<String> {
        let status = fs::read_to_string(self.path("var/lib/dpkg/status")).ok()?;
        let wanted = format!("Package: {package}");
        let entry = status
            .split("\n\n")
            .find(|entry| entry.lines().next() == Some(&wanted))?;
        entry
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .map(str::to_owned)
    }
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
