//! QEMU's command line. QEMU comes from the toolbox and runs by the toolbox's loader, not in a chroot.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use super::config::{Accel, Config};
use super::topology;
use crate::guest::Guest;
use crate::run;
use crate::toolbox::{self, Toolbox};

/// Files of one machine.
#[derive(Debug, Clone)]
pub struct Files {
    /// Sockets; a short path, for theirs are limited to 107 bytes.
    pub run: PathBuf,
    /// Logs.
    pub logs: PathBuf,
    /// What the guest sees as `/mlu`.
    pub stage: PathBuf,
    /// What the guest sees as `/mlu/out`.
    pub out: PathBuf,
}

impl Files {
    /// The monitor's socket.
    pub fn qmp(&self) -> PathBuf {
        self.run.join("qmp")
    }

    /// The agent's socket.
    pub fn agent(&self) -> PathBuf {
        self.run.join("agent")
    }

    /// The kernel's log.
    pub fn kernel_log(&self) -> PathBuf {
        self.logs.join("kernel.log")
    }
}

/// What every machine has: processor, memory, kernel; no device that is not asked for.
pub fn base(
    toolbox: &Toolbox,
    accel: Accel,
    cpus: u32,
    memory: u64,
    guest: &Guest,
    append: &str,
    serial: &Path,
) -> Command {
    let words = toolbox.program(toolbox::QEMU);
    let mut command = run::tied_command(&words[0]);
    command.args(&words[1..]);
    command.env(
        "QEMU_MODULE_DIR",
        toolbox.path("usr/lib/x86_64-linux-gnu/qemu"),
    );
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(toolbox.path(folder));
    }
    // 46 address bits: with TCG's usual 40, the BARs of sixteen chips find no place.
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "max,host-phys-bits=on"),
        _ => ("tcg", "max,phys-bits=46"),
    };
    let memory = memory << 20;
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-cpu",
        cpu,
    ]);
    command.args([
        "-machine",
        &format!("q35,accel={accel},memory-backend=mem,smm=off,sata=off,i8042=off,vmport=off"),
    ]);
    command.args(["-smp", &cpus.to_string(), "-m", &format!("{memory}B")]);
    // Shared, so that the device server reaches it.
    let backend =
        json!({"qom-type": "memory-backend-memfd", "id": "mem", "size": memory, "share": true});
    command.args(["-object", &backend.to_string()]);
    command
        .arg("-kernel")
        .arg(&guest.vmlinuz)
        .arg("-initrd")
        .arg(&guest.initramfs);
    command.args(["-append", &format!("console=ttyS0 panic=-1 {append}")]);
    command.args(["-serial", &format!("file:{}", escaped(serial))]);
    command
}

/// The whole machine.
pub fn machine(
    toolbox: &Toolbox,
    accel: Accel,
    config: &Config,
    guest: &Guest,
    files: &Files,
) -> Command {
    // A busy machine lets ticks come late; the kernel must not take its clock for broken.
    let mut append = String::from("loglevel=7 tsc=reliable no_timer_check");
    if !config.driver {
        append.push_str(" vmlu.nodriver");
    }
    for word in &config.kernel_args {
        append.push(' ');
        append.push_str(word);
    }
    let mut command = base(
        toolbox,
        accel,
        config.cpus,
        config.memory,
        guest,
        &append,
        &files.kernel_log(),
    );
    let mut device = |device: Value| _ = command.args(["-device", &device.to_string()]);
    device(json!({"driver": "virtio-blk-pci", "drive": "root", "bus": "pcie.0"}));
    device(json!({"driver": "virtio-9p-pci", "fsdev": "mlu", "mount_tag": "mlu", "bus": "pcie.0"}));
    device(json!({"driver": "virtio-9p-pci", "fsdev": "out", "mount_tag": "out", "bus": "pcie.0"}));
    device(json!({"driver": "virtio-serial-pci", "id": "serial", "bus": "pcie.0"}));
    device(
        json!({"driver": "virtserialport", "bus": "serial.0", "chardev": "agent", "name": vmlu_agent::PORT}),
    );
    topology::devices(config, &files.run)
        .into_iter()
        .for_each(device);

    let root = json!({"driver": "file", "node-name": "root", "filename": guest.root, "read-only": true, "locking": "off"});
    command.args(["-blockdev", &root.to_string()]);
    let share = |id, path: &Path, more| {
        format!(
            "local,id={id},path={},security_model=none,multidevs=remap{more}",
            escaped(path)
        )
    };
    command.args(["-fsdev", &share("mlu", &files.stage, ",readonly=on")]);
    command.args(["-fsdev", &share("out", &files.out, "")]);
    command.args([
        "-chardev",
        &format!(
            "socket,id=agent,path={},server=on,wait=off",
            escaped(&files.agent())
        ),
    ]);
    command.args([
        "-qmp",
        &format!("unix:{},server=on,wait=off", escaped(&files.qmp())),
    ]);
    command.args(&config.qemu_args);
    command
}

/// QEMU separates options by commas; one that is meant is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
