//! Programs of several processes, and on a local server.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options, Quota};

use crate::prefix::{compile, run, scratch, source};

/// A local server of two chips, and the value of MLU_TRANSPORT for it.
fn server() -> (LocalServer, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = LocalServer::start(&Options {
        topology: None,
        path: folder.path().join("abi"),
        mode: 0o600,
        chips: 2,
        model: &MLU370_X8,
        serials: vec![u64::from(MLU370_X8.board_id) << 56 | 0x42],
        inject: true,
        quota: Quota::default(),
    })
    .unwrap();
    let transport = format!("local:{}", server.path().display());
    (server, transport, folder)
}

#[test]
fn processes_hand_memory_and_notifiers_to_each_other() {
    let (_server, transport, _folder) = server();
    let file = source("processes.c");
    let program = compile("cc", "-std=c11", &file, &["cnrt", "cndrv"]);
    let text = run(&program, &[("MLU_TRANSPORT", &transport)]);
    assert!(text.ends_with("all as it should be\n"), "{text}");
}

#[test]
fn processes_are_ranks_of_a_clique() {
    let (_server, transport, _folder) = server();
    let program = compile("cc", "-std=c11", &source("ranks.c"), &["cncl", "cnrt"]);
    let text = run(&program, &[("MLU_TRANSPORT", &transport)]);
    assert!(text.ends_with("all as it should be\n"), "{text}");
}

#[test]
fn programs_are_told_that_the_device_is_lost() {
    let (server, transport, _folder) = server();
    let libraries = ["cncl", "cnrt", "cndrv"];
    let program = compile("cc", "-std=c11", &source("loss.c"), &libraries);
    let mut child = Command::new(&program)
        .env("MLU_TRANSPORT", &transport)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    drop(server);
    writeln!(child.stdin.take().unwrap()).unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
    assert_eq!(line, "all as it should be\n");
}

#[test]
fn a_forked_child_is_told() {
    let file = source("forked.c");
    let program = compile("cc", "-std=c11", &file, &["cnrt", "cndrv"]);
    let text = run(&program, &[]);
    assert!(text.ends_with("all as it should be\n"), "{text}");
}

#[test]
fn programs_run_on_a_local_server() {
    let (_server, transport, _folder) = server();
    std::fs::copy(source("check.h"), scratch("check.h")).unwrap();
    for name in ["runtime.c", "driver.c", "topologies.c", "collectives.c"] {
        // Files of their own: other tests compile the same sources.
        let copy = scratch(&format!("local-{name}"));
        std::fs::copy(source(name), &copy).unwrap();
        let program = compile("cc", "-std=c11", &copy, &["cncl", "cnrt", "cndrv"]);
        let text = run(&program, &[("MLU_TRANSPORT", &transport)]);
        assert!(text.ends_with("all as it should be\n"), "{name}: {text}");
    }
}
