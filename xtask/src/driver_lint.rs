//! What a kernel maintainer runs over a driver before he reads it: the kernel's rustfmt, its lints of clippy, checkpatch. In the
//! toolbox, with the kernel tree's settings. (That the interface has no implicit padding, which pahole would look for, is asserted
//! where `abi/` defines its structures.)

use std::path::Path;

use anyhow::Result;

use crate::kernel;
use crate::module;
use crate::paths;
use crate::progress::Step;
use crate::run;
use crate::toolbox::Toolbox;

/// Types of checkpatch's messages that are not about this code: they are the form of every `TRACE_EVENT`.
const IGNORED: &str = "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT";

/// The checks: a name, and a script that fails if there is something to say.
fn checks() -> [(&'static str, String); 3] {
    let kernel = kernel::INSIDE;
    [
        (
            "driver: rustfmt",
            format!("rustfmt --edition 2021 --config-path {kernel}/.rustfmt.toml --check mlu_main.rs"),
        ),
        (
            "driver: checkpatch",
            format!(
                "perl {kernel}/scripts/checkpatch.pl --no-tree --strict --no-summary --terse --ignore {IGNORED} \
                 -f $(find . -name '*.rs' -o -name '*.[ch]' ! -name '*.mod.c')"
            ),
        ),
        (
            "driver: clippy",
            format!("make -C {kernel} M=/build/driver CLIPPY=1 KRUSTFLAGS=-Dwarnings KCFLAGS=-Werror modules"),
        ),
    ]
}

/// Runs all of them. Returns how many passed and how many failed; what failed has said why.
pub fn run(toolbox: &Toolbox, tree: &Path) -> Result<(u64, u64)> {
    let folder = paths::target().join("module-lint");
    module::stage(&folder)?;
    let binds: &[(&Path, &str)] = &[(tree, kernel::INSIDE), (&folder, "/build")];
    let (mut passed, mut failed) = (0, 0);
    for (name, script) in checks() {
        let step = Step::start(name);
        let script = format!("cd /build/driver; {script}");
        let log = name.replace(": ", "-");
        match run::logged(
            toolbox.script(binds, &script),
            &format!("pass {name}"),
            &log,
            &step,
        ) {
            Ok(()) => {
                passed += 1;
                step.done_with("passed");
            }
            Err(error) => {
                failed += 1;
                step.done_with("failed");
                eprintln!("{error:#}");
            }
        }
    }
    Ok((passed, failed))
}
