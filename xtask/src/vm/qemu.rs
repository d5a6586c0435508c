//! QEMU's command line. QEMU comes from the toolbox and runs by the toolbox's loader, not in a chroot.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use super::config::{Accel, Config};
use super::{share, topology};
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

/// Processors and memory of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// Host memory nodes, each with a socket.
    pub nodes: u32,
}

/// What every machine has: processor, memory, kernel; no device that is not asked for.
pub fn base(
    toolbox: &Toolbox,
    accel: Accel,
    size: Size,
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
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-cpu",
        cpu,
    ]);
    let machine = format!("q35,accel={accel},smm=off,sata=off,i8042=off,vmport=off");
    // Shared, so that the device server reaches it.
    let backend = |id: &str, mebibytes: u64| {
        json!({"qom-type": "memory-backend-memfd", "id": id, "size": mebibytes << 20, "share": true})
            .to_string()
    };
    let Size {
        cpus,
        memory,
        nodes,
    } = size;
    if nodes <= 1 {
        command.args(["-machine", &format!("{machine},memory-backend=mem")]);
        command.args(["-smp", &cpus.to_string(), "-m", &format!("{memory}M")]);
        command.args(["-object", &backend("mem", memory)]);
    } else {
        // Sockets are alike.
        let each = cpus.div_ceil(nodes);
        let part = memory / u64::from(nodes);
        command.args(["-machine", &machine]);
        command.args(["-smp", &format!("{},sockets={nodes}", each * nodes)]);
        command.args(["-m", &format!("{}M", part * u64::from(nodes))]);
        for node in 0..nodes {
            command.args(["-object", &backend(&format!("mem{node}"), part)]);
            let (first, last) = (node * each, (node + 1) * each - 1);
            let numa = format!("node,nodeid={node},memdev=mem{node},cpus={first}-{last}");
            command.args(["-numa", &numa]);
        }
    }
    command
        .arg("-kernel")
        .arg(&guest.vmlinuz)
        .arg("-initrd")
        .arg(&guest.initramfs);
    command.args(["-append", &format!("console=ttyS0 panic=-1 {append}")]);
    command.args(["-serial", &format!("file:{}", escaped(serial))]);
    command
}

/// The whole machine; `nodes` is the host memory node of each board.
pub fn machine(
    toolbox: &Toolbox,
    accel: Accel,
    config: &Config,
    nodes: &[u32],
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
        Size {
            cpus: config.cpus,
            memory: config.memory,
            nodes: nodes.iter().max().map_or(1, |node| node + 1),
        },
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
    topology::devices(config, nodes, &files.run)
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
    command.args(share::network(config, &files.run));
    command.args(&config.qemu_args);
    command
}

/// QEMU separates options by commas; one that is meant is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
