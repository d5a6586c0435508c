//! The kernel tree: Debian's source with the configuration of the stock image, prepared so that modules in Rust can be
//! built against it and load into that image.
//!
//! The headers package lacks the crates' metadata (`rust/*.rmeta`). Built from the same source with the same compiler they
//! get the same hashes, so that the image's own `Module.symvers` fits.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::toolbox::Toolbox;

/// Where the tree is seen in the toolbox. Its build files name this path.
pub const INSIDE: &str = "/kernel";

/// Disk space that unpacking and preparing takes, in bytes.
const SPACE: u64 = 2_500_000_000;

/// Lines that make prints, about.
const LINES: u64 = 220;

/// What of the source no module of ours needs: other machines' code, sound, documents, the largest register headers.
const LEFT_OUT: &[&str] = &[
    "*/arch/*/boot/dts",
    "*/Documentation/*.rst",
    "*/Documentation/*.yaml",
    "*/Documentation/*.svg",
    "*/drivers/gpu/drm/amd/include/*.h",
    "*/drivers/net/*.c",
    "*/drivers/media/*.c",
    "*/drivers/staging/*.c",
    "*/drivers/scsi/*.c",
    "*/sound/*.c",
    "*/tools/testing/*",
    "*/tools/perf/*",
];

/// Name of the tree in the cache.
pub fn name(toolbox: &Toolbox) -> String {
    let rustc = toolbox.version_of("rustc").unwrap_or_default();
    let gcc = toolbox.version_of("gcc-14").unwrap_or_default();
    format!(
        "kernel-{}-{}",
        toolbox.kernel,
        cache::key(&[&rustc, &gcc, &LEFT_OUT.join(" ")])
    )
}

/// The tree that belongs to the toolbox, made if it is missing. Call with the cache's lock held.
pub fn ensure(toolbox: &Toolbox) -> Result<PathBuf> {
    let name = name(toolbox);
    if !cache::folder()?.join(&name).is_dir() {
        cache::need_space("make the kernel tree", SPACE)?;
    }
    cache::entry(&name, |folder| make(toolbox, folder))
}

/// Unpacks the kernel's source to `folder`, but for what is left out.
pub fn unpack(toolbox: &Toolbox, folder: &Path, left_out: &[&str]) -> Result<()> {
    let step = Step::start("kernel source");
    let archive = source_archive(toolbox)?;
    let left_out: String = left_out
        .iter()
        .map(|pattern| format!(" --exclude='{pattern}'"))
        .collect();
    let unpack = format!("tar -C {INSIDE} --strip-components=1{left_out} -xf /usr/src/{archive}");
    let binds: &[(&Path, &str)] = &[(folder, INSIDE)];
    run::logged(
        toolbox.script(binds, &unpack),
        "unpack the kernel source",
        "kernel-source",
        &step,
    )?;
    step.done();
    Ok(())
}

fn make(toolbox: &Toolbox, folder: &Path) -> Result<()> {
    unpack(toolbox, folder, LEFT_OUT)?;
    let binds: &[(&Path, &str)] = &[(folder, INSIDE)];
    let step = Step::with_length("kernel tree", LINES);
    let headers = format!("usr/src/linux-headers-{}", toolbox.kernel);
    fs::copy(
        toolbox.path(&headers).join(".config"),
        folder.join(".config"),
    )?;
    let make = format!(
        "cd {INSIDE}; make olddefconfig; make -j$(nproc) KERNELRELEASE={} prepare modules_prepare",
        toolbox.kernel
    );
    run::logged(
        toolbox.script(binds, &make),
        "prepare the kernel tree",
        "kernel-tree",
        &step,
    )?;
    fs::copy(
        toolbox.path(&headers).join("Module.symvers"),
        folder.join("Module.symvers"),
    )?;
    let config = fs::read_to_string(folder.join(".config"))?;
    if !config.lines().any(|line| line == "CONFIG_RUST=y") {
        let wrong =
            "Rust got switched off: the toolbox's rustc, bindgen and gcc do not suit this kernel";
        return Err(problem(
            "prepare the kernel tree",
            wrong,
            "run `cargo xtask update` for a newer kernel",
        ));
    }
    step.done();
    Ok(())
}

/// Name of the source archive: the one of the image's series.
fn source_archive(toolbox: &Toolbox) -> Result<String> {
    let series: Vec<_> = toolbox.kernel.split('.').take(2).collect();
    let name = format!("linux-source-{}.tar.xz", series.join("."));
    if toolbox.path("usr/src").join(&name).is_file() {
        return Ok(name);
    }
    let wrong = format!(
        "the toolbox has kernel {} but no /usr/src/{name}",
        toolbox.kernel
    );
    Err(problem(
        "unpack the kernel source",
        wrong,
        "run `cargo xtask update`",
    ))
}
