//! The real program on a local server: what is linked with what, what crosses the links, and what goes wrong with them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use vmlu::abi::model::MLU370_X8;
use vmlu::transport::local::Local;
use vmlu::Context;
use vmlu_device::local::{LocalServer, Options, Quota};
use vmlu_device::topology::parse;

/// A server of so many chips with this topology, at a path in `folder`.
fn server(folder: &Path, chips: u32, topology: &str, inject: bool) -> LocalServer {
    let boards = u64::from(chips / 2);
    LocalServer::start(&Options {
        topology: Some(parse(topology, &MLU370_X8, chips).unwrap()),
        path: folder.join("mlu"),
        mode: 0o600,
        chips,
        model: &MLU370_X8,
        serials: (1..=boards)
            .map(|board| u64::from(MLU370_X8.board_id) << 56 | board)
            .collect(),
        inject,
        quota: Quota::default(),
    })
    .unwrap()
}

fn run(server: &LocalServer, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cnmon"))
        .args(arguments)
        .env(
            "MLU_TRANSPORT",
            format!("local:{}", server.path().display()),
        )
        .output()
        .expect("cnmon starts")
}

fn cnmon(server: &LocalServer, arguments: &[&str]) -> String {
    let out = run(server, arguments);
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{arguments:?}: {out:?}"
    );
    String::from_utf8(out.stdout).unwrap()
}

/// The cells of the matrix.
fn matrix(server: &LocalServer, chips: usize) -> Vec<Vec<String>> {
    let text = cnmon(server, &["topo", "-m"]);
    let rows = text.lines().skip(1).take(chips);
    rows.map(|row| {
        let cells = row.split_whitespace().skip(1).take(chips);
        cells.map(String::from).collect()
    })
    .collect()
}

/// A value of a port's counters.
fn counter(server: &LocalServer, card: u32, port: usize, name: &str) -> u64 {
    let text = cnmon(server, &["mlulink", "-c", &card.to_string(), "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    let value = &report["chips"][0]["ports"][port]["counters"][name];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}: {text}"))
}

#[test]
fn the_matrix_follows_the_topology() {
    let folder = tempfile::tempdir().unwrap();
    let sixteen = server(folder.path(), 16, "version = 1", false);
    let cells = matrix(&sixteen, 16);
    for (a, row) in cells.iter().enumerate() {
        for (b, cell) in row.iter().enumerate() {
            let expected = match (a == b, a / 8 == b / 8) {
                (true, _) => "X",
                (_, true) => "MLK",
                // Groups of four boards are on nodes of their own.
                _ => "SYS",
            };
            assert_eq!(cell, expected, "{a} {b}: {cells:?}");
        }
    }
    drop(sixteen);

    // Boards that nothing joins, the first two of three on one node.
    let apart = "version = 1\ngroup = 1\n[[node]]\nboards = [0, 1]\n[[node]]\nboards = [2]\n\
        [[change]]\nend = '1.0:0'\nstate = 'down'\n";
    let apart = server(folder.path(), 6, apart, false);
    let cells = matrix(&apart, 6);
    assert_eq!(cells[0], ["X", "MLK", "MUL", "MUL", "SYS", "SYS"]);
    assert_eq!(cells[2], ["MUL", "MUL", "X", "INT", "SYS", "SYS"]);
    let text = cnmon(&apart, &["topo"]);
    assert!(text.ends_with(" MLU2-MLU3\n"), "{text}");
}

#[test]
fn ports_count_what_crosses_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), 4, "version = 1", false);
    let local = Local::open(server.path()).unwrap();
    let (near, far) = (
        Context::open_on(&*local, 0).unwrap(),
        Context::open_on(&*local, 3).unwrap(),
    );
    let owned = far.alloc(1 << 20).unwrap();
    let mapped = near.import_memory(&owned.export().unwrap(), true).unwrap();
    let own = near.alloc(1 << 20).unwrap();
    let queue = near.queue().unwrap();
    queue
        .copy(mapped.address(), own.address(), 1 << 20)
        .unwrap();
    queue.copy(own.address(), mapped.address(), 1000).unwrap();
    queue.sync().unwrap();
    // Chip 0 of a group of four reaches chip 3 by port 2, which ends at port 0.
    let remote = cnmon(&server, &["mlulink", "-c", "0", "-r"]);
    assert!(
        remote.contains("Port 2                     : Card 3 Port 0, 14.3 GB/s, 4 of 4 lanes"),
        "{remote}"
    );
    for (card, port, read, written) in [(0, 2, 1000, 1 << 20), (3, 0, 1 << 20, 1000), (0, 0, 0, 0)]
    {
        let counted = [
            counter(&server, card, port, "read_bytes"),
            counter(&server, card, port, "written_bytes"),
            counter(&server, card, port, "read_packets"),
            counter(&server, card, port, "written_packets"),
        ];
        let packets = |bytes: u64| bytes.div_ceil(256);
        assert_eq!(
            counted,
            [read, written, packets(read), packets(written)],
            "{card} {port}"
        );
    }
    let text = cnmon(&server, &["mlulink", "-c", "3", "-t"]);
    assert!(
        text.contains("Read Bytes             : 1048576\n"),
        "{text}"
    );
}

#[test]
fn links_are_taken_down_and_errors_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), 2, "version = 1", true);
    let status = |card: &str| cnmon(&server, &["mlulink", "-c", card, "-s"]);
    assert!(status("0").contains("Port 0                     : Enable\n"));
    assert_eq!(status("0").matches("Not Connected").count(), 7);

    let link = |arguments: &[&str]| {
        cnmon(
            &server,
            &[&["inject", "link", "-c", "0", "-p", "0"], arguments].concat(),
        )
    };
    let said = link(&["degrade", "--lanes", "1"]);
    assert!(
        said.starts_with("Card 0 Port 0 is degraded, to Card 1 Port 0, 3.6 GB/s, 1 of 4"),
        "{said}"
    );
    assert!(status("1").contains(": Enable\n"), "a slow link runs");
    link(&["down"]);
    for card in ["0", "1"] {
        assert!(status(card).contains("Port 0                     : Disable\n"));
    }
    assert_eq!(matrix(&server, 2)[0], ["X", "INT"]);
    assert_eq!(counter(&server, 1, 0, "downs"), 1);
    link(&["up"]);
    assert_eq!(matrix(&server, 2)[0], ["X", "MLK"]);

    let kinds = [
        ("replay", "replays"),
        ("crc24", "crc24"),
        ("crc32", "crc32"),
        ("ecc", "ecc_double"),
        ("corrected", "corrected"),
        ("uncorrected", "uncorrected"),
        ("illegal", "illegal"),
    ];
    for (count, (fault, name)) in kinds.iter().enumerate() {
        assert_eq!(counter(&server, 0, 0, name), 0);
        link(&[fault, "-n", &(count + 2).to_string()]);
        assert_eq!(counter(&server, 0, 0, name), count as u64 + 2, "{name}");
    }
    let text = cnmon(&server, &["mlulink", "-c", "0", "-e"]);
    assert!(text.contains("CRC32                  : 4\n"), "{text}");
}

#[test]
fn what_cannot_be_injected_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |server: &LocalServer, arguments: &[&str], cause: &str| {
        let out = run(server, &[&["inject", "link"], arguments].concat());
        let help = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{help}");
        assert!(help.contains(cause), "{help}");
        String::from_utf8(out.stdout).unwrap()
    };
    let closed = server(folder.path(), 2, "version = 1", false);
    let said = refused(&closed, &["-c", "0", "-p", "0", "down"], "NotPermitted");
    assert_eq!(said, "the fault was not injected\n");
    refused(
        &closed,
        &["-c", "0", "-p", "0", "crc24"],
        "started with --inject",
    );
    assert!(cnmon(&closed, &["mlulink", "-s"]).contains(": Enable\n"));
    drop(closed);
    let open = server(folder.path(), 2, "version = 1", true);
    refused(&open, &["-c", "0", "-p", "7", "down"], "InvalidArgument");
    refused(&open, &["-c", "0", "-p", "8", "crc24"], "InvalidArgument");
    let said = refused(
        &open,
        &["-c", "9", "-p", "0", "down"],
        "the cards here are 0, 1",
    );
    assert_eq!(said, "Card 9 is not existed\n");
    let out = run(
        &open,
        &[
            "inject", "link", "-c", "0", "-p", "0", "degrade", "--lanes", "4",
        ],
    );
    assert_eq!(out.status.code(), Some(2));
}
