//! The real program on a real card, the embedded one, and without any.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options, Quota};

fn run(transport: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cnmon"))
        .args(arguments)
        .current_dir(folder)
        .env("MLU_TRANSPORT", transport)
        .output()
        .expect("cnmon starts")
}

/// Standard output of `cnmon` on the embedded card.
fn embedded(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = run("embedded", folder.path(), arguments);
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{arguments:?}: {out:?}"
    );
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_table_of_an_idle_card() {
    let text = embedded(&[]);
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    assert!(
        text.contains(&format!("| CNMON {version} "))
            && text.contains(&format!("Driver {version} |")),
        "{text}"
    );
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.contains("Default"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(!rows.is_empty(), "{text}");
    for row in rows {
        assert_eq!(row.len(), 16, "{row:?}");
        assert_eq!((row[6], row[9], row[10]), ("W", "MiB/", "23374"), "{row:?}");
        let watts: u32 = row[3].parse().unwrap();
        assert!((1..=250).contains(&watts) && row[5] == "250", "{row:?}");
    }
    assert!(text.contains("MLU370-X8    v1.1.6"), "{text}");
    assert!(text.contains("|  No running processes found "), "{text}");
    assert_eq!(
        embedded(&["version"]),
        format!("cnmon version: {version}\n")
    );
}

#[test]
fn cards_are_told_apart() {
    let list = embedded(&["-l"]);
    let uuids: Vec<_> = list
        .lines()
        .map(|line| line.split_once("UUID: ").unwrap().1.to_owned())
        .collect();
    let mut different = uuids.clone();
    different.dedup();
    assert_eq!(uuids, different);
    assert!(
        uuids
            .iter()
            .all(|uuid| uuid.len() == 37 && uuid.starts_with("54")),
        "{uuids:?}"
    );
    assert_eq!(embedded(&["info"]).matches("\nCard ").count(), uuids.len());
}

#[test]
fn json_is_written_where_it_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = run("embedded", folder.path(), &["info", "-e", "-m", "-u", "-j"]);
    assert!(out.status.success(), "{out:?}");
    let text = std::fs::read_to_string(folder.path().join("cnmon_info.json")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(info["CnmonInfo"][0]["ProductName"], "MLU370-X8");
    assert_eq!(info["CnmonInfo"][0]["PhysicalMemUsage"]["Total"], 23374);
    let report: serde_json::Value = serde_json::from_str(&embedded(&["--json"])).unwrap();
    assert_eq!(
        (&report["transport"], &report["schema_version"]),
        (&"embedded".into(), &1.into())
    );
}

#[test]
fn without_a_driver_people_are_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = vec![("nonsense", "MLU_TRANSPORT=nonsense")];
    // On a machine with the driver, such as the VM, this is no error.
    if !Path::new("/dev/mluctl").exists() {
        cases.push(("kernel", "/dev/mluctl does not exist; is mlu.ko loaded"));
    }
    for (transport, cause) in cases {
        let out = run(transport, folder.path(), &[]);
        assert_eq!(out.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "there is no device\n");
        let help = String::from_utf8_lossy(&out.stderr);
        assert!(
            help.starts_with("cnmon: no device found: ") && help.contains(cause),
            "{help}"
        );
        assert_eq!(
            run(transport, folder.path(), &["version"]).status.code(),
            Some(0)
        );
    }
}

#[test]
fn exit_codes_tell_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = run("embedded", folder.path(), &["-c", "99"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&missing.stdout),
        "Card 99 is not existed\n"
    );
    // Nothing but a number is a card, a mode is on or off, and a command that is misspelt is guessed.
    for wrong in [
        &["dmon"][..],
        &["-c", "first"],
        &["info", "-c", "-1"],
        &["set", "-smlu", "maybe"],
        &["mlulink", "--sideways"],
    ] {
        let out = run("embedded", folder.path(), wrong);
        let help = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{wrong:?}");
        assert!(
            help.starts_with("error: ") && help.contains("--help"),
            "{help}"
        );
    }
    let out = run("embedded", folder.path(), &["mlulnk"]);
    let help = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(help.contains("'mlulink'"), "{help}");
    let refused = run(
        "embedded",
        folder.path(),
        &["set", "-c", "0", "-smlu", "on"],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&refused.stdout),
        "sMLU is not supported\n"
    );
    let off = run(
        "embedded",
        folder.path(),
        &["set", "-c", "0", "-smlu", "off"],
    );
    assert!(off.status.success(), "{off:?}");
}

#[test]
fn it_starts_fast() {
    let times = (0..9).map(|_| {
        let start = Instant::now();
        embedded(&[]);
        start.elapsed()
    });
    let best = times.min().unwrap();
    // 10 ms on an idle machine; the limit leaves room for a loaded one.
    assert!(best < Duration::from_millis(50), "{best:?}");
}

/// Says that this program is to hold memory, not to test.
const HOLD: &str = "CNMON_TEST_HOLD";

/// Another process with 32 MiB of device memory: this program again, at the test below.
fn holder(transport: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes_of_a_local_server", "--nocapture"])
        .env("MLU_TRANSPORT", transport)
        .env(HOLD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line == "held"));
    child
}

#[test]
fn processes_of_a_local_server() {
    if std::env::var_os(HOLD).is_some() {
        let context = vmlu::Context::open(0).unwrap();
        let _memory = context.alloc(32 << 20).unwrap();
        println!("\nheld");
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = LocalServer::start(&Options {
        topology: None,
        path: folder.path().join("mlu"),
        mode: 0o600,
        chips: 2,
        model: &MLU370_X8,
        serials: vec![u64::from(MLU370_X8.board_id) << 56 | 1],
        inject: false,
        quota: Quota::default(),
    })
    .unwrap();
    let transport = format!("local:{}", server.path().display());
    let mut children = [holder(&transport), holder(&transport)];
    let out = run(&transport, folder.path(), &[]);
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    for child in &mut children {
        let pid = child.id().to_string();
        let line = text
            .lines()
            .find(|line| line.split_whitespace().any(|word| word == pid))
            .unwrap_or_else(|| panic!("process {pid} is not listed: {text}"));
        assert!(line.contains(" 32 MiB"), "{line}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    let text = String::from_utf8(run(&transport, folder.path(), &[]).stdout).unwrap();
    assert!(text.contains("No running processes found"), "{text}");

    drop(server);
    let out = run(&transport, folder.path(), &[]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("mlu-server --local"), "{text}");
}
