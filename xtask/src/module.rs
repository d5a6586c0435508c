//! Builds `driver/` into `mlu.ko`, in the toolbox, against the kernel tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::flavour::Flavour;
use crate::kernel;
use crate::paths;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::stage;
use crate::toolbox::Toolbox;

/// File name of the module.
pub const NAME: &str = "mlu.ko";

/// A kernel to build modules for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Where compilers and tools are.
    pub toolbox: &'a Toolbox,
    /// The kernel's tree.
    pub tree: &'a Path,
    /// Which kernel it is.
    pub flavour: Flavour,
}

/// Builds the module and returns its path, or `None` if the project has no driver. Only what changed is built.
pub fn build(target: Target) -> Result<Option<PathBuf>> {
    let driver = paths::project().join("driver");
    if !["Kbuild", "Makefile"]
        .iter()
        .any(|name| driver.join(name).is_file())
    {
        return Ok(None);
    }
    target
        .module(&target.flavour.module_folder(), &sources(), NAME)
        .map(Some)
}

/// The driver compiles ../abi/src/lib.rs as its own: both lie side by side, away from the work tree.
fn sources() -> [(PathBuf, &'static str); 2] {
    ["abi", "driver"].map(|part| (paths::project().join(part), part))
}

/// Copies the sources to `folder`.
pub fn stage(folder: &Path) -> Result<()> {
    stage_all(&sources(), folder)
}

fn stage_all(sources: &[(PathBuf, &str)], folder: &Path) -> Result<()> {
    for (source, part) in sources {
        stage::tree(source, &folder.join(part), &is_source)?;
    }
    Ok(())
}

impl Target<'_> {
    /// Builds the module `name` in `folder` from `sources`, folders that lie side by side there. The last has the Kbuild file.
    pub fn module(
        &self,
        folder: &Path,
        sources: &[(PathBuf, &str)],
        name: &str,
    ) -> Result<PathBuf> {
        let step = Step::start(format!("module {name}"));
        stage_all(sources, folder)?;
        let main = sources.last().map_or("", |(_, part)| part);
        let object = Path::new(name).with_extension("o");
        // A tree of another kernel leaves objects that make would take for current.
        let stamp = folder.join("kernel");
        let current = self.tree.display().to_string();
        let make = format!(
            "make -C {} {} M=/build/{main}",
            kernel::INSIDE,
            self.flavour.make_arguments()
        );
        if fs::read_to_string(&stamp).is_ok_and(|built| built != current) {
            self.run(
                &format!("{make} clean"),
                folder,
                "clean the kernel module",
                "module-clean",
                &step,
            )?;
        }
        fs::write(&stamp, &current)?;
        let script = format!(
            "{make} -j$(nproc) modules; \
             cd /build; strip --strip-debug -o {name}.new {main}/{name}; cmp -s {name}.new {name} || mv {name}.new {name}"
        );
        self.run(&script, folder, "build the kernel module", "module", &step)?;
        let module = folder.join(name);
        if !module.is_file() {
            return Err(problem(
                "build the kernel module",
                format!("make made no {main}/{name}"),
                format!(
                    "name the object in {main}/Kbuild (obj-m := {})",
                    object.display()
                ),
            ));
        }
        step.done();
        Ok(module)
    }

    fn run(&self, script: &str, folder: &Path, asked: &str, log: &str, step: &Step) -> Result<()> {
        let binds: &[(&Path, &str)] = &[(self.tree, kernel::INSIDE), (folder, "/build")];
        run::logged(self.toolbox.script(binds, script), asked, log, step)
    }
}

/// The module as the build before made it.
pub fn built_before(flavour: Flavour) -> Option<PathBuf> {
    let module = flavour.module_folder().join(NAME);
    module.is_file().then_some(module)
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    // Kbuild writes *.mod.c itself.
    (matches!(&*extension, "rs" | "c" | "h") && !name.ends_with(".mod.c"))
        || matches!(&*name, "Kbuild" | "Makefile")
}
