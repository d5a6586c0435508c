//! Copies of files that follow their originals.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// Copies `from` to `to` if size or time differ; keeps the time.
pub fn file(from: &Path, to: &Path) -> Result<bool> {
    let context = || format!("cannot copy {} to {}", from.display(), to.display());
    let source = fs::metadata(from).with_context(context)?;
    let same = |there: fs::Metadata| -> Option<bool> {
        Some(there.len() == source.len() && there.modified().ok()? == source.modified().ok()?)
    };
    if fs::metadata(to).ok().and_then(same) == Some(true) {
        return Ok(false);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(context)?;
    }
    // A guest may be running the old one: a new file, not new contents.
    let temporary = to.with_extension("new");
    fs::copy(from, &temporary).with_context(context)?;
    let modified = source.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    fs::File::options()
        .write(true)
        .open(&temporary)?
        .set_modified(modified)?;
    fs::rename(&temporary, to).with_context(context)?;
    Ok(true)
}

/// Writes `text` to `to` unless it is there already.
pub fn text(text: &str, to: &Path) -> Result<()> {
    if fs::read_to_string(to).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Makes `to` hold the files below `from` for which `wanted` holds. Files of `to` for which it holds too but which `from` does not have
/// are removed; others (what a build put there) stay.
pub fn tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    let mut kept = BTreeSet::new();
    copy_tree(from, from, to, wanted, &mut kept)?;
    prune(to, to, wanted, &kept)
}

fn copy_tree(
    base: &Path,
    folder: &Path,
    to: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    kept: &mut BTreeSet<std::path::PathBuf>,
) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let relative = path.strip_prefix(base).expect("it lies below").to_owned();
        if path.is_dir() {
            copy_tree(base, &path, to, wanted, kept)?;
        } else if wanted(&relative) {
            file(&path, &to.join(&relative))?;
            kept.insert(relative);
        }
    }
    Ok(())
}

fn prune(
    base: &Path,
    folder: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    kept: &BTreeSet<std::path::PathBuf>,
) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let relative = path.strip_prefix(base).expect("it lies below");
        if path.is_dir() {
            prune(base, &path, wanted, kept)?;
        } else if wanted(relative) && !kept.contains(relative) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
