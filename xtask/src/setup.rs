//! Makes whatever is missing and says where it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{self, Built};
use crate::debug;
use crate::flavour::Flavour;
use crate::guest::{self, Guest};
use crate::kernel;
use crate::module;
use crate::paths;
use crate::run;
use crate::stage;
use crate::toolbox::{make, Toolbox};

/// Everything that a virtual machine needs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which kernel machines run.
    pub flavour: Flavour,
    /// QEMU, compilers, the kernel's image.
    pub toolbox: Toolbox,
    /// The kernel tree.
    pub tree: PathBuf,
    /// Kernel, initramfs and user space.
    pub guest: Guest,
    /// The project's programs.
    pub built: Built,
    /// The module, if the project has a driver.
    pub module: Option<PathBuf>,
}

/// Programs that make no sense in the guest.
pub const HOST_ONLY: &[&str] = &["xtask"];

/// The toolbox and the kernel tree, made if missing.
pub fn kernel() -> Result<(Toolbox, PathBuf)> {
    let _lock = crate::cache::lock()?;
    let toolbox = make::ensure()?;
    let tree = kernel::ensure(&toolbox)?;
    Ok((toolbox, tree))
}

/// Everything for machines with the stock kernel, made if missing, built if changed.
///
/// With `build` off, the project's programs are taken as they are.
pub fn everything(build: bool) -> Result<Setup> {
    with_kernel(Flavour::Stock, build)
}

/// [`everything`] for machines with this kernel.
pub fn with_kernel(flavour: Flavour, build: bool) -> Result<Setup> {
    let (toolbox, tree, guest) = match flavour {
        Flavour::Stock => {
            let (toolbox, tree) = kernel()?;
            let _lock = crate::cache::lock()?;
            let guest = guest::ensure(&toolbox)?;
            (toolbox, tree, guest)
        }
        Flavour::Debug => {
            let _lock = crate::cache::lock()?;
            let toolbox = make::ensure()?;
            let kernel = debug::kernel::ensure(&toolbox)?;
            let guest = guest::ensure_debug(&toolbox, &kernel)?;
            (toolbox, kernel.tree, guest)
        }
    };
    let (module, built) = if build {
        let target = module::Target {
            toolbox: &toolbox,
            tree: &tree,
            flavour,
        };
        (module::build(target)?, cargo::build()?)
    } else {
        (module::built_before(flavour), cargo::built_before()?)
    };
    let setup = Setup {
        flavour,
        toolbox,
        tree,
        guest,
        built,
        module,
    };
    setup.stage()?;
    Ok(setup)
}

impl Setup {
    /// Puts into the folder that the guest sees as `/mlu` what belongs there.
    fn stage(&self) -> Result<()> {
        let folder = self.flavour.stage();
        let _lock = crate::cache::lock()?;
        for part in ["bin", "lib", "out", "boot"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::create_dir_all(paths::out())?;
        self.built.program("vmlu-agent")?;
        let init = paths::project().join("guest/init");
        stage::file(&init, &folder.join("boot/init"))?;
        for (name, path) in &self.built.programs {
            if HOST_ONLY.contains(&name.as_str()) {
                continue;
            }
            let part = if name == "vmlu-agent" { "boot" } else { "bin" };
            stage::file(path, &folder.join(part).join(name))?;
        }
        for (name, path) in &self.built.libraries {
            stage::file(path, &folder.join("lib").join(name))?;
        }
        match &self.module {
            Some(module) => _ = stage::file(module, &folder.join(module::NAME))?,
            None => _ = fs::remove_file(folder.join(module::NAME)),
        }
        if let Some(modules) = &self.guest.modules {
            stage::tree(modules, &folder.join("modules"), &|_| true)?;
        }
        self.stage_firmware(&folder)?;
        self.stage_glibc(&folder)
    }

    /// The firmware image, at the place where the driver looks for it.
    fn stage_firmware(&self, folder: &Path) -> Result<()> {
        let Some(program) = self.built.programs.get("firmware-image") else {
            return Ok(());
        };
        let image = folder.join("firmware").join(vmlu_abi::boot::IMAGE_NAME);
        fs::create_dir_all(image.parent().expect("it has one"))?;
        let mut command = Command::new(program);
        command.arg(&image);
        run::output(command).context("cannot make the firmware image")?;
        Ok(())
    }

    /// Programs are built on the machine, whose C library may be newer than the guest's. Then the guest gets it too: newer ones
    /// run what was built for older ones, not the other way round.
    fn stage_glibc(&self, folder: &Path) -> Result<()> {
        let target = folder.join("boot/glibc");
        let library = Path::new("/lib/x86_64-linux-gnu");
        let guest = self
            .toolbox
            .version_of("libc6")
            .and_then(|version| glibc_version(&version));
        let machine = machine_glibc();
        if machine <= guest {
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            return Ok(());
        }
        fs::create_dir_all(&target)?;
        for name in GLIBC {
            let file = library.join(name);
            if file.is_file() {
                stage::file(&file, &target.join(name))?;
            }
        }
        Ok(())
    }
}

/// The parts of glibc that must be of one version, and GCC's run-time library.
const GLIBC: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libanl.so.1",
    "libmvec.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "libgcc_s.so.1",
];

fn machine_glibc() -> Option<(u32, u32)> {
    let mut command = Command::new("getconf");
    command.arg("GNU_LIBC_VERSION");
    glibc_version(run::output(command).ok()?.trim().strip_prefix("glibc ")?)
}

/// `2.41` of `2.41-12+deb13u1`.
fn glibc_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
