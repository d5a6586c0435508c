//! Boards on different host memory nodes, and the links between them, over the driver.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use xtask::vm::agent::{Event, Running};
use xtask::vm::config::{Config, Join};
use xtask::vm::Vm;

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("boards_sit_on_their_nodes", boards_sit_on_their_nodes),
    ("topology_of_two_boards", topology_of_two_boards),
    ("wrong_topology", wrong_topology),
    ("two_machines_share_a_server", two_machines_share_a_server),
];

/// Two boards on two nodes; of the links between them, only one pair's.
const APART: &str = "version = 1\ngroup = 1\n[[node]]\nboards = [0]\n[[node]]\nboards = [1]\n\
    [[link]]\na = '0.0:5'\nb = '1.1:6'\n";

/// A machine of two boards with this topology.
fn boot(lab: &Lab, topology: &str, driver: bool) -> Result<Vm> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), topology)?;
    lab.boot(&Config {
        boards: 2,
        topology: Some(file.path().to_owned()),
        driver,
        server_args: vec!["--inject".into()],
        ..Config::default()
    })
}

fn boards_sit_on_their_nodes(lab: &Lab) -> Result<()> {
    let vm = boot(lab, APART, false)?;
    let script =
        "cd /sys/bus/pci/devices; for d in *; do read v < $d/vendor; [ $v = 0xcabc ] || continue; \
        echo $(cat $d/numa_node $d/local_cpulist); done; cat /sys/devices/system/node/online";
    let found = vm.ok(script)?;
    ensure!(found == "0 0\n0 0\n1 1\n1 1\n0-1\n", "{found}");
    Ok(())
}

fn topology_of_two_boards(lab: &Lab) -> Result<()> {
    let vm = boot(lab, APART, true)?;
    let cells = || -> Result<Vec<Vec<String>>> {
        let text = vm.ok("cnmon topo -m")?;
        let rows = text.lines().skip(1).take(4);
        Ok(rows
            .map(|row| row.split_whitespace().skip(1).map(String::from).collect())
            .collect())
    };
    let expected = [
        ["X", "MLK", "SYS", "MLK", "0", "0"],
        ["MLK", "X", "SYS", "SYS", "0", "0"],
        ["SYS", "SYS", "X", "MLK", "1", "1"],
        ["MLK", "SYS", "MLK", "X", "1", "1"],
    ];
    let found = cells()?;
    ensure!(found == expected, "{found:?}");

    let status = vm.ok("cnmon mlulink -c 0 -s")?;
    for line in [
        "Port 0 : Enable",
        "Port 1 : Not Connected",
        "Port 5 : Enable",
    ] {
        ensure!(words(&status).contains(line), "{status}");
    }
    let remote = words(&vm.ok("cnmon mlulink -c 3 -r")?);
    ensure!(remote.contains("Port 6 : Card 0 Port 5, "), "{remote}");

    vm.ok("cnmon inject link -c 3 -p 6 down && cnmon inject link -c 0 -p 0 crc32 -n 7")?;
    let found = cells()?;
    ensure!(found[0][..4] == ["X", "MLK", "SYS", "SYS"], "{found:?}");
    let status = words(&vm.ok("cnmon mlulink -c 0 -s -e")?);
    ensure!(status.contains("Port 5 : Disable"), "{status}");
    ensure!(
        status.contains("CRC32 : 7") && status.contains("Link Down : 1"),
        "{status}"
    );
    let denied = vm.exec(
        "setpriv --reuid 1000 --clear-groups --inh-caps=-all cnmon inject link -c 3 -p 6 up",
    )?;
    ensure!(denied.code == 1, "{denied:?}");
    let status = words(&vm.ok("cnmon mlulink -c 3 -s")?);
    ensure!(status.contains("Port 6 : Disable"), "{status}");
    Ok(())
}

/// Chips of one server in two machines: the links between them run, and collectives have ranks in both. When one machine goes the other's
/// ranks have an error, and its chips work on.
fn two_machines_share_a_server(lab: &Lab) -> Result<()> {
    let first = lab.boot(&Config {
        spare: 1,
        ..Config::default()
    })?;
    let second = lab.boot(&Config {
        join: Some(Join {
            folder: first.folder().to_owned(),
            board: 1,
        }),
        ..Config::default()
    })?;
    // The first machine knows by its ports that there are four chips.
    let remote = words(&first.ok("cnmon mlulink -c 0 -r")?);
    ensure!(remote.matches("Port").count() >= 3, "{remote}");
    let address = first.config().address();
    let ranks = |vm: &Vm, task: &str, id: &str, ranks: &str, size: u32| {
        let script = format!("exec mlu-processes ranks {task} {id} {ranks} {size}");
        vm.start(&format!("export MLU_TRANSPORT=kernel; {script}"))
    };
    let clique = || -> Result<(Running, String)> {
        let maker = first.start(&format!(
            "MLU_TRANSPORT=kernel MLU_COLLECTIVE_ADDRESS={address} exec mlu-processes clique"
        ))?;
        let id = line(&maker)?;
        Ok((maker, id))
    };
    let (maker, id) = clique()?;
    let all = [
        ranks(&first, "operations", &id, "0,1", 4)?,
        ranks(&second, "operations", &id, "2,3", 4)?,
    ];
    for running in all {
        running.input(&[])?;
        let output = running.finish(LONG)?;
        ensure!(output.code == 0, "{output:?}");
    }
    maker.input(&[])?;
    maker.finish(LONG)?;

    let (_maker, id) = clique()?;
    let stays = ranks(&first, "until-lost", &id, "0", 2)?;
    let goes = ranks(&second, "until-lost", &id, "1", 2)?;
    for running in [&stays, &goes] {
        ensure!(line(running)? == "works");
    }
    drop(goes);
    drop(second);
    let said = line(&stays)?;
    ensure!(
        said.contains("Dependency") && said.contains("rank 1"),
        "{said}"
    );
    drop(stays);
    let output = first.exec_within("MLU_TRANSPORT=kernel digits", LONG)?;
    ensure!(output.code == 0, "{output:?}");
    Ok(())
}

/// How long ranks may take under TCG on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// The next line of a program in the guest.
fn line(running: &Running) -> Result<String> {
    let end = Instant::now() + LONG;
    let (mut text, mut errors) = (String::new(), String::new());
    while Instant::now() < end {
        match running.next(Duration::from_millis(100))? {
            Some(Event::Stdout(bytes)) => text += &String::from_utf8_lossy(&bytes),
            Some(Event::Stderr(bytes)) => errors += &String::from_utf8_lossy(&bytes),
            Some(Event::Exit(code)) => bail!("it ended with {code}: {text}{errors}"),
            Some(Event::Failed(why)) => bail!("it did not start: {why}"),
            None => {}
        }
        if let Some((line, "")) = text.split_once('\n') {
            return Ok(line.to_owned());
        }
    }
    bail!("it said no line: {text}{errors}")
}

/// Text with single blanks.
fn words(text: &str) -> String {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

fn wrong_topology(lab: &Lab) -> Result<()> {
    let error = boot(lab, "version = 1\n[[node]]\nboards = [2]\n", false).err();
    let text = format!("{:#}", error.context("it booted")?);
    ensure!(text.contains(":2: there is no board 2, only 2"), "{text}");
    Ok(())
}
