//! `cargo xtask install`

use std::path::PathBuf;

use anyhow::Result;

use crate::progress::say;
use crate::{cargo, neuware};

/// Lay out libraries, headers and cnmon so that NEUWARE_HOME=DIR works.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: gets `include/`, `lib64/` and `bin/`
    #[arg(long, value_name = "DIR")]
    prefix: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<i32> {
    neuware::install(&args.prefix, &cargo::build()?)?;
    say(format!(
        "build against it with NEUWARE_HOME={}",
        args.prefix.display()
    ));
    Ok(0)
}
