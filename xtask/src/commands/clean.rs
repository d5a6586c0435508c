//! `cargo xtask clean`

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::flavour::Flavour;
use crate::progress::Step;
use crate::{cache, paths};

/// Remove what building and booting left; --all: also the toolbox, kernel tree and guest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also everything in the cache folder, and cargo's target folder
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<i32> {
    for folder in [
        Flavour::Stock.stage(),
        Flavour::Debug.stage(),
        Flavour::Stock.module_folder(),
        Flavour::Debug.module_folder(),
        paths::out(),
        paths::logs(),
    ] {
        remove(&folder)?;
    }
    if args.all {
        let _lock = cache::lock()?;
        let folder = cache::folder()?;
        for entry in fs::read_dir(&folder)?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                remove(&path)?
            } else {
                fs::remove_file(&path)?
            }
        }
        // Empty now, unless somebody put something in: then it is theirs.
        let _ = fs::remove_dir(&folder);
        remove(&paths::target())?;
    }
    Ok(0)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        let step = Step::start(format!("removing {}", folder.display()));
        cache::remove(folder)?;
        step.done();
    }
    Ok(())
}
