//! `cargo xtask update`

use anyhow::Result;

use crate::progress::say;
use crate::toolbox::{make, recipe, Toolbox};
use crate::{cache, debug, guest, setup};

/// Make the toolbox anew, with the kernel and QEMU that Debian has now.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> Result<i32> {
    let old = Toolbox::find()?;
    {
        let _lock = cache::lock()?;
        let folder = cache::folder()?.join(recipe::name());
        let aside = folder.with_extension("old");
        cache::remove(&aside)?;
        if folder.is_dir() {
            std::fs::rename(&folder, &aside)?;
        }
        // Without network the old one stays in use.
        if let Err(error) = make::ensure() {
            if aside.is_dir() {
                std::fs::rename(&aside, &folder)?;
            }
            return Err(error.context("the old toolbox stays in use"));
        }
        cache::remove(&aside)?;
    }
    let (toolbox, tree) = setup::kernel()?;
    let _lock = cache::lock()?;
    // The guest's name follows the recipe and the kernel; its other packages may have changed too.
    cache::remove(&cache::folder()?.join(guest::name(&toolbox)?))?;
    guest::ensure(&toolbox)?;
    if let Some(old) = old.filter(|old| old.kernel != toolbox.kernel) {
        say(format!("kernel {} → {}", old.kernel, toolbox.kernel));
        let name = tree.file_name().unwrap_or_default().to_owned();
        let debug = debug::kernel::name(&toolbox);
        for entry in std::fs::read_dir(cache::folder()?)?.flatten() {
            let found = entry.file_name();
            let text = found.to_string_lossy();
            if (found != name && text.starts_with("kernel-"))
                || (text != debug && text.starts_with("debug-kernel-"))
            {
                cache::remove(&entry.path())?;
            }
        }
    }
    Ok(0)
}
