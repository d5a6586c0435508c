//! libcndev as others use it: by name, by layout, and from a program of a registry.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options, Quota};
use xtask::{cache, paths};

use crate::prefix::{compile, prefix, source};

/// What is installed from the Python package index, by the machine's own configuration of pip.
const GPUSTACK: &str = "gpustack-runtime==0.2.6";

fn of_crate(file: &str) -> PathBuf {
    paths::project().join("runtime/cndev/tests").join(file)
}

/// A local server of two chips that take faults, and the value of MLU_TRANSPORT for it.
fn server(name: &str) -> (LocalServer, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = LocalServer::start(&Options {
        topology: None,
        path: folder.path().join(name),
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
fn an_exporter_finds_all_functions_by_name() {
    let program = compile("cc", "-std=c11", &source("exporter.c"), &["dl"]);
    let library = prefix().join("lib64/libcndev.so");
    let run = |transport: &str, more: &[&str]| {
        let output = Command::new(&program)
            .arg(&library)
            .arg(of_crate("symbols.txt"))
            .args(more)
            .env("MLU_TRANSPORT", transport)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{transport}: {text}{errors}");
    };
    run("embedded", &[]);
    let (_server, transport, _folder) = server("exporter");
    run(&transport, &["fork"]);
}

/// What the program in C says of a device: keys and numbers.
fn ask(monitor: &Path, transport: &str, device: &str) -> HashMap<String, i64> {
    let output = Command::new(monitor)
        .arg(device)
        .env("MLU_TRANSPORT", transport)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let (key, value) = line.split_once(' ').unwrap();
            (key.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_monitor_in_c_sees_what_is_done() {
    const MIB: i64 = 1 << 20;
    let monitor = compile("cc", "-std=c11", &source("monitor.c"), &["cndev"]);
    let (server, transport, _folder) = server("monitor");
    let look = |device: &str| ask(&monitor, &transport, device);
    let before = look("1");
    let card = vmlu::transport::local::Local::open(server.path()).unwrap();
    let context = vmlu::Context::open_on(&*card, 1).unwrap();
    let queue = context.queue().unwrap();
    let buffer = context.alloc(64 << 20).unwrap();
    queue.write(&buffer, 0, &vec![1; 24 << 20]).unwrap();
    queue.read(&buffer, 0, &mut vec![0; 8 << 20]).unwrap();
    let inject = |fault: vmlu::abi::rpc::Fault, value: u64| {
        let inject = vmlu::abi::rpc::Inject {
            fault: fault as u32,
            count: 1,
            value,
            ..vmlu::abi::Wire::zeroed()
        };
        vmlu::transport::Transport::inject(&*card, 1, &inject).unwrap();
    };
    inject(vmlu::abi::rpc::Fault::EccCorrected, 5);
    inject(vmlu::abi::rpc::Fault::EccUncorrected, 3 << 20);
    let now = look("1");
    for (key, more) in [
        ("memory.used", 64),
        ("pcie.read", 24 * MIB),
        ("pcie.write", 8 * MIB),
        ("ecc.corrected", 5),
        ("ecc.uncorrected", 1),
        ("ecc.corrected.total", 5),
        ("retired.uncorrected", 1),
        ("retired.pending", 1),
        ("health", -1),
    ] {
        assert_eq!(now[key] - before[key], more, "{key}");
    }
    assert_eq!(now[&format!("process.{}", std::process::id())], 64 << 10);
    let other = look("0");
    for key in [
        "memory.used",
        "pcie.read",
        "ecc.corrected",
        "retired.pending",
    ] {
        assert_eq!(other[key], 0, "{key}");
    }

    // It waits until something happens, and no longer than it was told to.
    let mut waiting = Waiting::start(&monitor, &transport, "60000");
    inject(vmlu::abi::rpc::Fault::Xid, 7);
    assert_eq!(waiting.line(), "device 1 xid 7");
    waiting.end();
    let mut waiting = Waiting::start(&monitor, &transport, "50");
    let said = waiting.line();
    assert!(!said.contains("xid"), "{said}");
    waiting.end();
}

/// The program in C, waiting for an event.
struct Waiting {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Waiting {
    fn start(monitor: &Path, transport: &str, limit: &str) -> Self {
        let mut child = Command::new(monitor)
            .args(["wait", limit])
            .env("MLU_TRANSPORT", transport)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut waiting = Self { child, lines };
        assert_eq!(waiting.line(), "waiting");
        waiting
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// How often it went to sleep.
    fn sleeps(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn monitors_that_wait_sleep_until_they_are_told() {
    let monitor = compile("cc", "-std=c11", &source("monitor.c"), &["cndev"]);
    let (server, transport, _folder) = server("sleepers");
    let mut all: Vec<_> = (0..3)
        .map(|_| Waiting::start(&monitor, &transport, "60000"))
        .collect();
    // They may still be on their way; then nothing wakes them.
    std::thread::sleep(Duration::from_millis(200));
    let before: Vec<_> = all.iter().map(Waiting::sleeps).collect();
    std::thread::sleep(Duration::from_millis(600));
    for (waiting, before) in all.iter().zip(before) {
        let woken = waiting.sleeps() - before;
        assert!(woken < 20, "woken {woken} times for nothing");
    }
    let card = vmlu::transport::local::Local::open(server.path()).unwrap();
    let inject = vmlu::abi::rpc::Inject {
        fault: vmlu::abi::rpc::Fault::Xid as u32,
        count: 1,
        value: 4,
        ..vmlu::abi::Wire::zeroed()
    };
    vmlu::transport::Transport::inject(&*card, 0, &inject).unwrap();
    for waiting in &mut all {
        assert_eq!(waiting.line(), "device 0 xid 4");
    }
    all.into_iter().for_each(Waiting::end);

    // Who waits when the server ends is told of that, or waits as long as it wanted; no longer.
    let mut waiting = Waiting::start(&monitor, &transport, "300");
    drop(server);
    let said = waiting.line();
    assert!(!said.contains("xid"), "{said}");
    let _ = waiting.child.wait();
}

/// The folder with the packages, made once.
fn packages() -> PathBuf {
    let python = Command::new("python3").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&python.stdout).into_owned();
    let name = format!("python-{}", cache::key(&[GPUSTACK, version.trim()]));
    let _lock = cache::lock().unwrap();
    cache::entry(&name, |folder| {
        let output = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(folder)
            .arg(GPUSTACK)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "pip install {GPUSTACK}: {text}");
        Ok(())
    })
    .unwrap()
}

#[test]
fn gpustack_detects_the_cards() {
    let packages = packages();
    let (server, transport, _folder) = server("gpustack");
    // What it shows is caused: memory in use, and a chip that is sick.
    let holder = vmlu::transport::local::Local::open(server.path()).unwrap();
    let context = vmlu::Context::open_on(&*holder, 0).unwrap();
    let _memory = context.alloc(64 << 20).unwrap();
    let inject = vmlu::abi::rpc::Inject {
        fault: vmlu::abi::rpc::Fault::EccUncorrected as u32,
        count: 1,
        ..vmlu::abi::Wire::zeroed()
    };
    vmlu::transport::Transport::inject(&*holder, 1, &inject).unwrap();
    let output = Command::new("python3")
        .arg(source("detect.py"))
        .env("PYTHONPATH", packages)
        .env("NEUWARE_HOME", prefix())
        .env("MLU_TRANSPORT", transport)
        .env("GPUSTACK_RUNTIME_DETECT", "cambricon")
        .env("GPUSTACK_RUNTIME_DETECT_NO_PCI_CHECK", "1")
        .env("GPUSTACK_RUNTIME_DETECT_NO_HEALTH_CHECK", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let line = text.lines().last().unwrap_or_default();
    let seen: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(seen.as_array().map(Vec::len), Some(2), "{seen}");
    for (index, device) in seen.as_array().unwrap().iter().enumerate() {
        assert_eq!(device["index"], index, "{device}");
        assert_eq!(device["name"], "MLU370-X8");
        assert_eq!(device["memory"], 23374);
        assert!(
            device["uuid"].as_str().unwrap().starts_with("MLU-54000000"),
            "{device}"
        );
        assert!(device["temperature"].as_f64().unwrap() > 20.0, "{device}");
        assert!(device["power_used"].as_f64().unwrap() > 50.0, "{device}");
    }
    assert_eq!(seen[0]["memory_used"], 64);
    assert_ne!(seen[0]["memory_status"], seen[1]["memory_status"], "{seen}");
}
