//! The tests of the kernel's interface (`driver/tests/uapi/`), for cases that run them or build on their parts.

use anyhow::Result;
use xtask::vm::Vm;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../driver/tests/uapi/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "__main__.py",
    "affinity.py",
    "base.py",
    "binding.py",
    "dmabufs.py",
    "errors.py",
    "events.py",
    "faults.py",
    "graphs.py",
    "hostile.py",
    "information.py",
    "injected.py",
    "kexec.py",
    "killed.py",
    "memory.py",
    "observing.py",
    "peers.py",
    "processes.py",
    "queues.py",
    "recovering.py",
    "sleeping.py",
    "unload.py",
];

/// Where [`put`] puts them, as the guest sees it.
pub const FOLDER: &str = "/mlu/out/uapi";

/// Puts them into the machine's shared folder.
pub fn put(vm: &Vm) -> Result<()> {
    let folder = vm.out().join("uapi");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text)?;
    }
    let rules = include_str!("../../driver/udev/70-mlu.rules");
    std::fs::write(folder.join("70-mlu.rules"), rules)?;
    let document = include_str!("../../docs/uapi.md");
    std::fs::write(folder.join("uapi.md"), document)?;
    Ok(())
}
