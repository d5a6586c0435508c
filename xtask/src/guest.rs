//! The guest's user space: an image of a part of the toolbox, and an initramfs that mounts it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::debug::kernel::DebugKernel;
use crate::paths;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::toolbox::Toolbox;

/// Modules that the initramfs loads; what they depend on comes by itself.
const MODULES: &[&str] = &["virtio_blk", "erofs", "overlay", "9pnet_virtio", "9p"];

/// What of the toolbox the guest does without: compilers, their libraries, sources, QEMU (regular expressions).
const LEFT_OUT: &[&str] = &[
    "^usr/src", "^usr/include", "^usr/lib/llvm", "^usr/lib/rustlib", "^usr/lib/gcc", "^usr/libexec/gcc", "^usr/lib/linux-kbuild",
    "^usr/share/(qemu|seabios|doc|man|locale|info|perl|bison|keymaps|OVMF|ovmf)", "^usr/lib/ipxe", "^usr/lib/x86_64-linux-gnu/qemu",
    "^usr/lib/x86_64-linux-gnu/(lib(LLVM|clang|rustc_driver|std-|asan|tsan|lsan|ubsan|hwasan|gtk|spice)|perl)", "\\.a$",
    "^usr/bin/(qemu-|clang|llvm|rust|cargo|bindgen|x86_64-linux-gnu-|ld\\.|lld)", "^var/(cache|lib/apt|lib/dpkg|log)", "^usr/lib/modules/[^/]*/(vmlinuz|System.map)",
    "^usr/lib/modules/[^/]*/kernel/(sound|drivers/(gpu|net/wireless|net/ethernet|media|staging|infiniband|scsi|isdn|iio|input|usb|video))",
    "^(kernel|build|proc|sys|dev|boot|run|tmp)/",
];

/// Disk space that making it takes, in bytes.
const SPACE: u64 = 700_000_000;

/// A guest that can be booted.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The read-only user space, an EROFS image.
    pub root: PathBuf,
    /// What it gets as `/lib/modules` beyond what the user space has.
    pub modules: Option<PathBuf>,
    /// Names this combination in the cache.
    pub key: String,
}

/// Name of the guest in the cache.
pub fn name(toolbox: &Toolbox) -> Result<String> {
    let init = fs::read_to_string(init_script())?;
    let box_name = crate::toolbox::recipe::name();
    let parts = [
        &*box_name,
        &toolbox.kernel,
        &init,
        &LEFT_OUT.join(" "),
        &MODULES.join(" "),
    ];
    Ok(format!("guest-{}", cache::key(&parts)))
}

/// The guest that belongs to the toolbox, made if it is missing. Call with the cache's lock held.
pub fn ensure(toolbox: &Toolbox) -> Result<Guest> {
    let name = name(toolbox)?;
    if !cache::folder()?.join(&name).is_dir() {
        cache::need_space("make the guest", SPACE)?;
    }
    let folder = cache::entry(&name, |folder| {
        let step = Step::start("guest");
        make_root(toolbox, &folder.join("root.erofs"), &step)?;
        make_initramfs(toolbox, &folder.join("initramfs"), MODULES)?;
        step.done();
        Ok(())
    })?;
    Ok(Guest {
        vmlinuz: toolbox.vmlinuz(),
        initramfs: folder.join("initramfs"),
        root: folder.join("root.erofs"),
        modules: None,
        key: name,
    })
}

/// The guest with the debug kernel, made if it is missing: the same user space behind an initramfs of its own, for that kernel has all
/// drivers built in. Call with the cache's lock held.
pub fn ensure_debug(toolbox: &Toolbox, kernel: &DebugKernel) -> Result<Guest> {
    let stock = ensure(toolbox)?;
    let name = format!("{}-debug", stock.key);
    let folder = cache::entry(&name, |folder| {
        make_initramfs(toolbox, &folder.join("initramfs"), &[])
    })?;
    Ok(Guest {
        vmlinuz: kernel.vmlinuz(),
        initramfs: folder.join("initramfs"),
        modules: Some(kernel.modules()),
        ..stock
    })
}

fn init_script() -> PathBuf {
    paths::project().join("guest/initramfs-init")
}

fn make_root(toolbox: &Toolbox, image: &Path, step: &Step) -> Result<()> {
    let mut command = toolbox.command("usr/bin/mkfs.erofs");
    command.args(["--all-root", "--quiet"]);
    command.args(
        LEFT_OUT
            .iter()
            .map(|pattern| format!("--exclude-regex={pattern}")),
    );
    command.arg(image).arg(toolbox.path(""));
    run::logged(command, "make the guest's user space", "guest", step)
}

/// Writes the initramfs: busybox, the first program, these modules. Uncompressed, which boots faster.
fn make_initramfs(toolbox: &Toolbox, path: &Path, modules: &[&str]) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["bin", "dev", "modules"] {
        archive.entry(folder, 0o040755, &[])?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.entry(
        "bin/busybox",
        0o100755,
        &fs::read(toolbox.path("usr/bin/busybox"))?,
    )?;
    archive.entry("init", 0o100755, &fs::read(init_script())?)?;
    let mut order = String::new();
    for module in with_dependencies(toolbox, modules)? {
        let name = Path::new(&module)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let name = name.trim_end_matches(".xz");
        let file = toolbox.path(&format!("usr/lib/modules/{}/{module}", toolbox.kernel));
        archive.entry(
            &format!("modules/{name}"),
            0o100644,
            &decompressed(toolbox, &file)?,
        )?;
        order.push_str(name);
        order.push('\n');
    }
    archive.entry("modules/order", 0o100644, order.as_bytes())?;
    archive.finish()
}

/// `modules` and what they need, in the order of loading, as paths in the module folder.
fn with_dependencies(toolbox: &Toolbox, modules: &[&str]) -> Result<Vec<String>> {
    let table = fs::read_to_string(
        toolbox.path(&format!("usr/lib/modules/{}/modules.dep", toolbox.kernel)),
    )?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for module in modules {
        let suffix = format!("/{module}.ko");
        let line = table.lines().find_map(|line| {
            let (path, needs) = line.split_once(':')?;
            path.trim_end_matches(".xz")
                .ends_with(&suffix)
                .then_some((path, needs))
        });
        let (path, needs) = line.ok_or_else(|| {
            let wrong = format!("kernel {} has no module {module}", toolbox.kernel);
            problem(
                "make the guest's initramfs",
                wrong,
                "take MODULES in xtask/src/guest.rs up to this kernel",
            )
        })?;
        // modules.dep lists what must come first last.
        for module in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(module.to_owned()) {
                order.push(module.to_owned());
            }
        }
    }
    Ok(order)
}

fn decompressed(toolbox: &Toolbox, file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let mut command: Command = toolbox.command("usr/bin/xz");
    let output = command
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()?;
    if !output.status.success() {
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(problem(
            "decompress a module",
            wrong,
            "remove the toolbox (`cargo xtask clean --all`)",
        ));
    }
    Ok(output.stdout)
}

/// A cpio archive of the kind that the kernel reads ("newc").
struct Archive<W: Write> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn new(to: W) -> Self {
        Archive { to, inode: 0 }
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.write(name, mode, data, (0, 0))
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        self.write(name, 0o020600, &[], (major, minor))
    }

    fn write(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        self.inode += 1;
        let (size, length) = (u32::try_from(data.len())?, name.len() as u32 + 1);
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, length, 0,
        ];
        let mut head = String::from("070701");
        fields
            .iter()
            .for_each(|field| head.push_str(&format!("{field:08x}")));
        head.push_str(name);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(data)
    }

    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(4) - bytes.len();
        Ok(self.to.write_all(&[0; 3][..rest])?)
    }

    fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.to.flush()?)
    }
}
