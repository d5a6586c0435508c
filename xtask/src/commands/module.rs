//! `cargo xtask module`

use anyhow::Result;

use crate::problem::problem;
use crate::{module, setup};

/// Build the kernel module (mlu.ko).
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> Result<i32> {
    let (toolbox, tree) = setup::kernel()?;
    let module = module::build(&toolbox, &tree)?;
    let module = module.ok_or_else(|| {
        problem(
            "build the kernel module",
            "driver/ has no Kbuild file",
            "write it",
        )
    })?;
    println!("{}", module.display());
    Ok(0)
}
