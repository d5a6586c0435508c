//! Builds `driver/` into `mlu.ko`, in the toolbox, against the kernel tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::kernel;
use crate::paths;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::stage;
use crate::toolbox::Toolbox;

/// File name of the module.
pub const NAME: &str = "mlu.ko";

/// Builds the module and returns its path, or `None` if the project has no driver. Only what changed is built.
pub fn build(toolbox: &Toolbox, tree: &Path) -> Result<Option<PathBuf>> {
    let driver = paths::project().join("driver");
    if !["Kbuild", "Makefile"]
        .iter()
        .any(|name| driver.join(name).is_file())
    {
        return Ok(None);
    }
    let step = Step::start("module");
    let folder = folder();
    stage(&folder)?;
    // A tree of another kernel leaves objects that make would take for current.
    let stamp = folder.join("kernel");
    let current = tree.display().to_string();
    if fs::read_to_string(&stamp).is_ok_and(|built| built != current) {
        clean(toolbox, tree, &folder, &step)?;
    }
    fs::write(&stamp, &current)?;
    let script = format!(
        "make -C {} M=/build/driver -j$(nproc) modules; \
         cd /build; strip --strip-debug -o {NAME}.new driver/{NAME}; cmp -s {NAME}.new {NAME} || mv {NAME}.new {NAME}",
        kernel::INSIDE
    );
    let binds: &[(&Path, &str)] = &[(tree, kernel::INSIDE), (&folder, "/build")];
    run::logged(
        toolbox.script(binds, &script),
        "build the kernel module",
        "module",
        &step,
    )?;
    let module = folder.join(NAME);
    if !module.is_file() {
        let wrong = format!("make made no driver/{NAME}");
        return Err(problem(
            "build the kernel module",
            wrong,
            "name the object `mlu` in driver/Kbuild (obj-m := mlu.o)",
        ));
    }
    step.done();
    Ok(Some(module))
}

/// Copies the sources. The driver compiles ../abi/src/lib.rs as its own: both lie side by side, away from the work tree.
pub fn stage(folder: &Path) -> Result<()> {
    for part in ["abi", "driver"] {
        stage::tree(&paths::project().join(part), &folder.join(part), &is_source)?;
    }
    Ok(())
}

/// The module as the build before made it.
pub fn built_before() -> Option<PathBuf> {
    let module = folder().join(NAME);
    module.is_file().then_some(module)
}

/// Where it is built.
pub fn folder() -> PathBuf {
    paths::target().join("module")
}

fn clean(toolbox: &Toolbox, tree: &Path, folder: &Path, step: &Step) -> Result<()> {
    let script = format!("make -C {} M=/build/driver clean", kernel::INSIDE);
    let binds: &[(&Path, &str)] = &[(tree, kernel::INSIDE), (folder, "/build")];
    run::logged(
        toolbox.script(binds, &script),
        "clean the kernel module",
        "module-clean",
        step,
    )
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    // Kbuild writes *.mod.c itself.
    (matches!(&*extension, "rs" | "c" | "h") && !name.ends_with(".mod.c"))
        || matches!(&*name, "Kbuild" | "Makefile")
}
