//! Programs of several processes, and on a local server.

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options};

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
