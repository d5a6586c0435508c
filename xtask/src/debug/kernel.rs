//! Builds the debug kernel, with clang: gcc and Kconfig drop Rust or KASAN.
//!
//! It starts from nothing and takes what [`config::WANTED`] names: the hardware of the guest built in, and the checkers. That is some ten
//! minutes of two processors, once; what is kept is the image and what modules need to be built against it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::config;
use crate::cache;
use crate::flavour::Flavour;
use crate::kernel::{unpack, INSIDE};
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::toolbox::Toolbox;

/// Disk space that unpacking and building takes, in bytes.
const SPACE: u64 = 6_000_000_000;

/// Lines that make prints, about.
const LINES: u64 = 2_000;

/// What of the source it does not need.
const LEFT_OUT: &[&str] = &[
    "*/arch/*/boot/dts",
    "*/Documentation/*.rst",
    "*/Documentation/*.yaml",
    "*/Documentation/*.svg",
    "*/drivers/gpu/drm/*.[ch]",
    "*/drivers/net/*/*.c",
    "*/drivers/media/*.c",
    "*/drivers/staging/*.c",
    "*/drivers/scsi/*.c",
    "*/sound/*.c",
    "*/tools/testing/*",
    "*/tools/perf/*",
];

/// Folder of the tree for what depmod made of the kernel's built-in modules, as under `/lib/modules`.
const MODULES: &str = "installed/lib/modules";

/// A debug kernel that is there.
#[derive(Debug, Clone)]
pub struct DebugKernel {
    /// The tree, to build modules against.
    pub tree: PathBuf,
}

impl DebugKernel {
    /// The image.
    pub fn vmlinuz(&self) -> PathBuf {
        self.tree.join("arch/x86/boot/bzImage")
    }

    /// What the guest gets as `/lib/modules`: modprobe then knows what is built in.
    pub fn modules(&self) -> PathBuf {
        self.tree.join(MODULES)
    }
}

/// Name of the tree in the cache.
pub fn name(toolbox: &Toolbox) -> String {
    let version = |package| toolbox.version_of(package).unwrap_or_default();
    let parts = [
        config::WANTED,
        &version("rustc"),
        &version("clang-19"),
        &version("bindgen"),
        &LEFT_OUT.join(" "),
        SCRIPT,
    ];
    format!("debug-kernel-{}-{}", toolbox.kernel, cache::key(&parts))
}

/// The debug kernel of the toolbox's source, built if it is missing. Call with the cache's lock held.
pub fn ensure(toolbox: &Toolbox) -> Result<DebugKernel> {
    let name = name(toolbox);
    if !cache::folder()?.join(&name).is_dir() {
        cache::need_space("build the debug kernel", SPACE)?;
    }
    let tree = cache::entry(&name, |folder| make(toolbox, folder))?;
    Ok(DebugKernel { tree })
}

/// Makes the image, tells depmod what is built in, and removes what no module needs.
const SCRIPT: &str = "make -j$(nproc) $ARGUMENTS bzImage modules; \
    release=$(make -s $ARGUMENTS kernelrelease); folder=$PWD/$MODULES/$release; \
    mkdir -p $folder; cp modules.builtin modules.builtin.modinfo $folder; : > $folder/modules.order; \
    depmod -b $PWD/${MODULES%/lib/modules} $release; \
    find . -path ./scripts -prune -o -path ./tools -prune -o \\( -name '*.o' -o -name '*.a' -o -name 'vmlinux*' -type f \\) \
        ! -name '*.lds*' ! -name '*.h' -exec rm {} +";

fn make(toolbox: &Toolbox, folder: &Path) -> Result<()> {
    let asked = "build the debug kernel";
    unpack(toolbox, folder, LEFT_OUT)?;
    let binds: &[(&Path, &str)] = &[(folder, INSIDE)];
    let step = Step::with_length("debug kernel", LINES);
    let arguments = Flavour::Debug.make_arguments();
    fs::write(folder.join("wanted.config"), config::WANTED)?;
    let configure =
        format!("cd {INSIDE}; KCONFIG_ALLCONFIG=wanted.config make {arguments} allnoconfig");
    run::logged(
        toolbox.script(binds, &configure),
        "configure the debug kernel",
        "debug-kernel-config",
        &step,
    )?;
    check(folder)?;
    let build = format!("cd {INSIDE}; ARGUMENTS={arguments} MODULES={MODULES}; {SCRIPT}");
    run::logged(toolbox.script(binds, &build), asked, "debug-kernel", &step)?;
    // Make may have asked Kconfig again.
    check(folder)?;
    step.done();
    Ok(())
}

/// That the final configuration has all that was asked for.
fn check(folder: &Path) -> Result<()> {
    let path = folder.join(".config");
    let has =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let missing = config::missing(config::WANTED, &has);
    if missing.is_empty() {
        return Ok(());
    }
    let wrong = format!(
        "Kconfig did not take what xtask/src/debug/kernel.config asks for: {}",
        missing.join(", ")
    );
    Err(problem(
        "build the debug kernel",
        wrong,
        "see what these options depend on in this kernel, and name that too",
    ))
}
