//! cnmon over the driver: what it shows is caused, and what it changes takes effect.

use anyhow::{ensure, Result};
use xtask::vm::config::Config;
use xtask::vm::Vm;

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[("cnmon_shows_and_changes", shows_and_changes)];

/// Output of a command with single blanks.
fn say(vm: &Vm, command: &str) -> Result<String> {
    let text = vm.ok(command)?;
    let lines = text.lines();
    Ok(lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect())
}

fn shows_and_changes(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        server_args: vec!["--inject".into()],
        ..Config::default()
    })?;
    vm.ok("cnmon inject ecc -c 1 --uncorrectable --offset 65536 && cnmon inject ecc -c 1 -n 2 --offset 1048576")?;
    let ecc = say(&vm, "cnmon ecc -c 1")?;
    for line in [
        "Uncorrected Errors : 1",
        "Corrected Errors : 2",
        "Retired Pages Pending : 2",
    ] {
        ensure!(ecc.contains(line), "{line}: {ecc}");
    }
    let events = say(&vm, "cnmon events")?;
    ensure!(
        events.contains("Card 1 XID 3: uncorrectable memory error"),
        "{events}"
    );
    let info = say(&vm, "cnmon info -c 1")?;
    ensure!(info.contains("Device : In Problem"), "{info}");
    let sick = vm.exec("cnmon doctor")?;
    ensure!(sick.code == 1, "{sick:?}");

    let set = say(&vm, "cnmon set -c 0 --power-cap 150 --clock 600")?;
    ensure!(
        set.contains("Power Cap : 150 W") && set.contains("Clock : 600 MHz"),
        "{set}"
    );
    let denied = vm.exec(
        "setpriv --reuid 1000 --clear-groups --inh-caps=-all cnmon set -c 0 --power-cap 200",
    )?;
    ensure!(denied.code == 1, "{denied:?}");
    let cap = vm.ok("cnmon --query power.limit --format csv,noheader,nounits -c 0")?;
    ensure!(cap == "150.00\n", "{cap}");

    vm.ok("cnmon ecc -c 1 --enable && cnmon reset -c 1")?;
    let total = vm.ok(
        "cnmon --query memory.total,health,retired_pages.count --format csv,noheader,nounits -c 1",
    )?;
    ensure!(total == "20637, Good, 2\n", "{total}");

    let metrics = say(&vm, "cnmon exporter --once")?;
    ensure!(
        metrics.contains("mlu_aggr_dram_ecc_dbe_count{driver="),
        "{metrics}"
    );
    // Each node that a container would get is there.
    vm.ok("for n in $(cnmon cdi | grep -o '/dev/[a-z_0-9]*' | sort -u); do test -c $n || exit 1; done")?;
    Ok(())
}
