//! libcndev as others use it: by name, by layout, and from a program of a registry.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options};
use xtask::toolbox::Toolbox;
use xtask::{cache, paths};

use crate::prefix::{compile, prefix, scratch, source};

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
    let wait = |limit: &str| {
        let mut child = Command::new(&monitor)
            .args(["wait", limit])
            .env("MLU_TRANSPORT", &transport)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "waiting");
        (child, lines)
    };
    let (mut child, mut lines) = wait("60000");
    inject(vmlu::abi::rpc::Fault::Xid, 7);
    assert_eq!(lines.next().unwrap().unwrap(), "device 1 xid 7");
    assert!(child.wait().unwrap().success());
    let (mut child, mut lines) = wait("50");
    let said = lines.next().unwrap().unwrap();
    assert!(!said.contains("xid"), "{said}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn bindgen_reads_the_headers() {
    let toolbox = Toolbox::find()
        .unwrap()
        .expect("the toolbox is there: cargo xtask doctor");
    let include = prefix().join("include");
    for entry in std::fs::read_dir(&include).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let script = format!("bindgen --rust-target 1.82 /mnt/{name} -- -I/mnt");
        let output = toolbox
            .script(&[(&include, "/mnt")], &script)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        // It proves the layouts that it found.
        let file = scratch(&format!("{}.rs", name.replace('.', "_")));
        std::fs::write(&file, &output.stdout).unwrap();
        let compiled = Command::new("rustc")
            .args([
                "--edition",
                "2021",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
                "-A",
                "warnings",
                "-o",
            ])
            .arg(file.with_extension("rmeta"))
            .arg(&file)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{name}: {errors}");
    }
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
