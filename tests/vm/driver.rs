//! The kernel module: its interface, its firmware, the loss of its card.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use serde_json::json;
use xtask::vm::agent::Event;
use xtask::vm::config::Config;
use xtask::vm::Vm;

use crate::lab::{Case, Lab};
use crate::uapi;

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("kernel_interface", kernel_interface),
    ("machine_sleeps", machine_sleeps),
    ("fuzz", fuzz),
    ("bad_firmware", bad_firmware),
    ("other_releases", other_releases),
    ("unload_during_work", unload_during_work),
    ("next_kernel", next_kernel),
    ("server_killed", server_killed),
    ("killed_process", killed_process),
];

/// Puts a file into the machine's shared folder.
pub fn put(vm: &Vm, name: &str, text: &str) -> Result<()> {
    std::fs::write(vm.out().join(name), text)?;
    Ok(())
}

fn kernel_interface(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        cpus: 2,
        server_args: vec!["--inject".into()],
        ..Config::default()
    })?;
    uapi::put(&vm)?;
    let output = vm.exec_within("python3 /mlu/out/uapi --inject", Duration::from_secs(300))?;
    let dmesg = vm.ok("dmesg")?;
    ensure!(
        output.code == 0 && output.stdout.contains(" passed, 0 failed"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    check_log(&dmesg)
}

/// That the kernel has nothing to complain of.
pub fn check_log(log: &str) -> Result<()> {
    for word in ["BUG:", "WARNING:", "Oops", "hung task", "leaked"] {
        ensure!(!log.contains(word), "the kernel log has a {word}:\n{log}");
    }
    Ok(())
}

/// Random calls of several processes, for half a minute, or as many as `MLU_FUZZ_CALLS` says, from `MLU_FUZZ_SEED` (1) on; nothing stays pinned of
/// them.
fn fuzz(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        cpus: 2,
        ..Config::default()
    })?;
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let calls = number("MLU_FUZZ_CALLS");
    let seconds = if calls.is_some() { 4 * 3600 } else { 30 };
    let calls = calls.unwrap_or(u64::MAX);
    let seed = number("MLU_FUZZ_SEED").unwrap_or(1);
    let script = format!(
        "pinned() {{ cat /sys/kernel/debug/mlu/*/counters | grep pinned_bytes; }}; \
         before=$(pinned); MLU_FUZZ_SECONDS={seconds} MLU_FUZZ_CALLS={calls} MLU_FUZZ_SEED={seed} mlu-fuzz && [ \"$before\" = \"$(pinned)\" ] || {{ pinned; exit 1; }}"
    );
    let output = vm.exec_within(&script, Duration::from_secs(seconds + 60))?;
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    print!("{}", output.stdout);
    check_log(&vm.ok("dmesg")?)
}

/// The machine is suspended to memory and woken, with work on both chips. What it shares with the host by 9p does not survive that, for
/// virtio's transport of 9p has no resume: all that the script needs is copied first, and what it says goes to the console.
fn machine_sleeps(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config::default())?;
    uapi::put(&vm)?;
    let script = format!(
        "cp -r {} /tmp/uapi; \
         setsid env -i PATH=/usr/bin:/bin python3 /tmp/uapi/sleeping.py < /dev/null > /dev/console 2>&1 &",
        uapi::FOLDER
    );
    vm.ok(&script)?;
    // Somebody must press the button each time.
    let limit = Instant::now() + Duration::from_secs(120) * vm.slowness();
    let log = loop {
        let log = vm.kernel_log();
        if log.contains("sleeping: passed") {
            break log;
        }
        ensure!(
            !log.contains("sleeping: failed") && Instant::now() < limit,
            "{log}"
        );
        if vm.qmp("query-status", json!({}))?["status"] == "suspended" {
            // An error is no more than that something else has woken it in between.
            let _ = vm.qmp("system_wakeup", json!({}));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let woken = log.matches("Waking up from system sleep state S3").count();
    ensure!(woken == 2, "it slept {woken} times:\n{log}");
    check_log(&log)
}

/// What a killed process had is all free again, though its queues had work. (How soon is measured; the script prints it.)
fn killed_process(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config::default())?;
    uapi::put(&vm)?;
    let script = format!("python3 {}/killed.py 3", uapi::FOLDER);
    let output = vm.exec_within(&script, Duration::from_secs(90))?;
    println!("{}", output.stdout.trim());
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);
    Ok(())
}

/// A program that works on chip 1, whose firmware is of the interface before. With another word it does without what came since on chip 0.
const OLD: &str = r#"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, "/mlu/out/uapi")
from base import *
with Context("/dev/mlu1") as context:
    context.mem_alloc(VA, GRANULE)
    queue = Queue(context)
    assert queue.wait(queue.submit(FILL, fill(VA, GRANULE, 1, 8))) == (1, 0)
answer = ctypes.create_string_buffer(4096)
for function in 41, 42:
    ask = lambda chip: control(FIRMWARE, "IIQQQIIQQ", chip, function, 0, 0, ctypes.addressof(answer), 4096, 0, 0, 0)
    if "alone" not in sys.argv: ask(0)
    fails(errno.EOPNOTSUPP, ask, 1)
"#;

/// Each kind of damage is refused with its own sentence, and the other chip goes on; an image of the interface before works but for what has come
/// since; a good image then works.
fn bad_firmware(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    uapi::put(&vm)?;
    put(&vm, "old.py", OLD)?;
    let script = r#"
        set -e
        chip=$(basename $(realpath /sys/class/mlu/mlu1/device))
        image=/lib/firmware/mlu/mlu370.img
        restore() { mv $image.good $image 2>/dev/null; echo $chip > /sys/bus/pci/drivers/mlu/bind; }
        echo $chip > /sys/bus/pci/drivers/mlu/unbind
        cp -L $image $image.good
        trap restore EXIT
        for damage in magic api ancient digest truncated huge none; do
            rm -f $image
            [ $damage = none ] || firmware-image $image $damage
            echo == $damage > /dev/kmsg
            if echo $chip > /sys/bus/pci/drivers/mlu/bind 2>/dev/null; then echo "bound with $damage"; exit 1; fi
            [ ! -e /dev/mlu1 ] && [ -c /dev/mlu0 ]
        done
        # That of the interface before works, but for what has come since.
        firmware-image $image before
        echo $chip > /sys/bus/pci/drivers/mlu/bind
        [ $(cat /sys/class/mlu/mlu0/firmware_api) = 2 ] && [ $(cat /sys/class/mlu/mlu1/firmware_api) = 1 ]
        python3 /mlu/out/old.py
        echo $chip > /sys/bus/pci/drivers/mlu/unbind
        trap - EXIT
        restore
        [ -c /dev/mlu1 ]
        dmesg | sed -n '/== magic/,$p'
    "#;
    let log = vm.ok(script)?;
    for sentence in [
        "wrong magic",
        "unsupported interface version",
        "its digest does not match",
        "wrong length",
        "bytes, not 1 to",
        "put the image into /lib/firmware/mlu",
    ] {
        ensure!(log.contains(sentence), "no “{sentence}” in\n{log}");
    }
    Ok(())
}

/// A card of the release before refuses this one's image and works with its own; firmware older still is refused by the driver.
fn other_releases(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config {
        server_args: vec!["--firmware-api".into(), "0-1".into()],
        ..Config::default()
    })?;
    uapi::put(&vm)?;
    put(&vm, "old.py", OLD)?;
    let script = r#"
        set -e
        image=/lib/firmware/mlu/mlu370.img
        load() { rmmod mlu; firmware-image /tmp/image $1; rm -f $image; mv /tmp/image $image; echo == $1 > /dev/kmsg; insmod /mlu/mlu.ko; }
        echo == boot; ls /dev | grep -c '^mlu[0-9]' || true
        dmesg | grep -c 'unsupported interface version'
        load before
        cat /sys/class/mlu/mlu0/firmware_api /sys/class/mlu/mlu1/firmware_api
        python3 /mlu/out/old.py alone
        cnmon > /dev/null
        MLU_TRANSPORT=kernel mlu-suite telemetry::identity memory::round_trips queues::timeline queues::notifiers graphs::replay peers::memory_in_place
        load ancient
        ls /dev | grep -c '^mlu[0-9]' || true
        dmesg | sed -n '/== ancient/,$p'
    "#;
    let log = vm.ok(script)?;
    ensure!(log.contains("== boot\n0\n2\n1\n1\n"), "{log}");
    let told = "the firmware speaks interface 0, the driver 1 and 2; update the older one";
    ensure!(log.matches(told).count() == 2, "{log}");
    ensure!(
        log.matches("\n0\n").count() == 2,
        "a chip is there that the driver refuses:\n{log}"
    );
    Ok(())
}

/// A program that waits for work of a chip without an end, and says how the wait ended.
pub const WORK: &str = r#"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, "/mlu/out/uapi")
from base import *
context = Context()
context.mem_alloc(VA, 1 << 26)
queue = Queue(context, 8192)
for _ in range(8000): queue.put(FILL, fill(VA, 1 << 26, 0, 8))
queue.ring_bell()
print("working", flush=True)
try: queue.wait(1 << 40, deadline=MAX64)
except OSError as e: print(errno.errorcode[e.errno], flush=True)
"#;

fn unload_during_work(lab: &Lab) -> Result<()> {
    let vm = lab.vm()?;
    uapi::put(&vm)?;
    put(&vm, "work.py", WORK)?;
    let script = r#"
        python3 /mlu/out/work.py > /tmp/work.log 2>&1 & work=$!
        for i in $(seq 50); do grep -q working /tmp/work.log && break; sleep 0.1; done
        grep -q working /tmp/work.log || { cat /tmp/work.log; exit 1; }
        rmmod mlu 2>/dev/null && { echo "unloaded under a program"; exit 1; }
        chip=$(basename $(realpath /sys/class/mlu/mlu0/device))
        echo $chip > /sys/bus/pci/drivers/mlu/unbind || exit 1
        wait $work
        tail -n 1 /tmp/work.log
        rmmod mlu || exit 1
        ls /dev | grep -e mlu -e cambricon && exit 1
        insmod /mlu/mlu.ko && [ -c /dev/mlu0 ] && cnmon >/dev/null
    "#;
    let output = vm.exec_within(script, Duration::from_secs(30))?;
    ensure!(
        output.code == 0 && output.stdout.ends_with("ENODEV\n"),
        "{output:?}"
    );
    Ok(())
}

/// Another kernel takes over in the middle of work, without a reset of the machine: the card leaves its memory alone, and works for it.
fn next_kernel(lab: &Lab) -> Result<()> {
    let vm = lab.boot(&Config::default())?;
    uapi::put(&vm)?;
    put(&vm, "work.py", WORK)?;
    let guest = &lab.setup()?.guest;
    std::fs::copy(&guest.vmlinuz, vm.out().join("vmlinuz"))?;
    std::fs::copy(&guest.initramfs, vm.out().join("initramfs"))?;
    let script = format!(
        "python3 /mlu/out/work.py > /tmp/work.log 2>&1 & \
         for i in $(seq 50); do grep -q working /tmp/work.log && break; sleep 0.1; done; grep working /tmp/work.log && \
         python3 {}/kexec.py /mlu/out/vmlinuz /mlu/out/initramfs",
        uapi::FOLDER
    );
    let _running = vm.start(&script)?;
    vm.wait_again("start another kernel")?;
    let log = vm.kernel_log();
    ensure!(
        log.contains("card lost: the machine shuts down")
            && log.matches("Linux version").count() == 2,
        "{log}"
    );
    // The memory of the kernel before is free now: whoever wrote to it would be seen here.
    vm.ok(&format!(
        "python3 {} memory copy queues churn",
        uapi::FOLDER
    ))?;
    check_log(&vm.ok("dmesg")?)
}

/// Every waiter gets its error within a second, calls fail at once, and the module can be unloaded.
fn server_killed(lab: &Lab) -> Result<()> {
    survive(|| lab.boot(&Config::default()), kill_server)
}

/// Runs `test`, in which the device server dies, on a machine of its own.
pub fn survive(boot: impl Fn() -> Result<Vm>, test: impl Fn(&Vm) -> Result<()>) -> Result<()> {
    /// What QEMU 11.1 says when a message was half sent as its server died: it sets an error twice, and ends itself. Rare, and nothing
    /// that the guest, the driver or the server could keep from happening.
    const QEMU_BUG: &str = "error_setv: Assertion";
    for _ in 0..3 {
        let vm = boot()?;
        let result = test(&vm);
        let said = std::fs::read_to_string(vm.logs().join("qemu.log")).unwrap_or_default();
        if result.is_ok() || !said.contains(QEMU_BUG) {
            return result;
        }
    }
    bail!("QEMU ended itself three times when its server died: {QEMU_BUG}")
}

fn kill_server(vm: &Vm) -> Result<()> {
    uapi::put(vm)?;
    put(vm, "work.py", WORK)?;
    let script = r#"
        python3 /mlu/out/work.py & work=$!
        wait $work
        [ ! -c /dev/mlu0 ] || python3 -c 'open("/dev/mlu0", "r+b", buffering=0)' 2>&1 | tail -n 1
        timeout $((5 * ${VMLU_SLOW:-1})) rmmod mlu || { echo "rmmod failed: $?"; exit 1; }
        timeout $((10 * ${VMLU_SLOW:-1})) insmod /mlu/mlu.ko; ls /dev | grep -e '^mlu[0-9]' && exit 1
        dmesg | tail -n 6
    "#;
    let work = vm.start(script)?;
    let mut output = String::new();
    let mut killed = None;
    let mut took = None;
    loop {
        match work.next(Duration::from_secs(30))? {
            Some(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                output.push_str(&String::from_utf8_lossy(&bytes))
            }
            Some(Event::Exit(_)) => break,
            Some(Event::Failed(why)) => bail!("the guest cannot start it: {why}"),
            None => bail!("nothing more for 30 s after: {output}"),
        }
        if killed.is_none() && output.contains("working") {
            std::thread::sleep(Duration::from_millis(300));
            vm.server()?.kill();
            killed = Some(Instant::now());
        }
        if took.is_none() && output.contains("ENODEV") {
            took = killed.map(|killed| killed.elapsed());
        }
    }
    let took = took.unwrap_or(Duration::MAX);
    ensure!(
        took < Duration::from_secs(1) * vm.slowness(),
        "the waiter ended after {took:?}: {output}"
    );
    ensure!(
        output.contains("card lost") && output.contains("is its device server running?"),
        "{output}"
    );
    Ok(())
}
