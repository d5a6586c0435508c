//! `cargo xtask module`

use anyhow::Result;

use crate::flavour::Flavour;
use crate::problem::problem;
use crate::{driver_lint, module, setup};

/// Build the kernel module (mlu.ko).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also rustfmt, clippy and checkpatch with the kernel's settings
    #[arg(long)]
    lint: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<i32> {
    let (toolbox, tree) = setup::kernel()?;
    let module = module::build(module::Target {
        toolbox: &toolbox,
        tree: &tree,
        flavour: Flavour::Stock,
    })?;
    let module = module.ok_or_else(|| {
        problem(
            "build the kernel module",
            "driver/ has no Kbuild file",
            "write it",
        )
    })?;
    println!("{}", module.display());
    if !args.lint {
        return Ok(0);
    }
    let (_, failed) = driver_lint::run(&toolbox, &tree)?;
    Ok(i32::from(failed > 0))
}
