//! The example: it learns, and the embedded card and the one in the machine agree to the last bit.

use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("same_weights_as_embedded", same_weights_as_embedded),
    ("same_weights_on_two_chips", same_weights_on_two_chips),
];

fn same_weights_as_embedded(lab: &Lab) -> Result<()> {
    same_weights(lab, "", "")
}

/// By a process for each chip in the machine, by threads embedded.
fn same_weights_on_two_chips(lab: &Lab) -> Result<()> {
    same_weights(lab, "--chips 2 --epochs 8", "--processes")
}

fn same_weights(lab: &Lab, arguments: &str, more: &str) -> Result<()> {
    let program = lab.setup()?.built.program("digits")?;
    let embedded = Command::new(program)
        .args(arguments.split_whitespace())
        .env("MLU_TRANSPORT", "embedded")
        .output()?;
    ensure!(embedded.status.success(), "{embedded:?}");
    let embedded = String::from_utf8(embedded.stdout)?;
    let vm = lab.vm()?;
    let script = format!("MLU_TRANSPORT=kernel digits {arguments} {more}");
    let output = vm.exec_within(&script, Duration::from_secs(120))?;
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    for word in ["weights: ", "test accuracy: "] {
        let line = |text: &str| {
            text.lines()
                .find(|l| l.starts_with(word))
                .map(str::to_owned)
        };
        let here = line(&embedded).with_context(|| format!("no line {word}in {embedded}"))?;
        let there =
            line(&output.stdout).with_context(|| format!("no line {word}in {}", output.stdout))?;
        ensure!(
            here == there,
            "embedded says {here}, the machine says {there}"
        );
    }
    Ok(())
}
