//! What the toolbox holds. Changing anything here makes a new toolbox.

use crate::cache;

/// The Debian release.
pub const SUITE: &str = "trixie";

/// Where the kernel and QEMU come from.
pub const BACKPORTS: &str = "trixie-backports";

/// Packages of [`SUITE`]. rustc must be its, not the backported one: Debian builds the kernel with it.
pub const PACKAGES: &[&str] = &[
    // Kernel and module
    "gcc",
    "make",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "pahole",
    "perl",
    "kmod",
    "cpio",
    "patch",
    "rsync",
    "xz-utils",
    "zstd",
    "rustc",
    "rust-src",
    "rustfmt",
    "rust-clippy",
    "bindgen",
    "clang",
    "lld",
    "llvm",
    "libclang-19-dev",
    // Guest
    "busybox-static",
    "erofs-utils",
    "udev",
    "python3",
    "procps",
    "strace",
    "pciutils",
    "iproute2",
];

/// Packages of [`BACKPORTS`]; the kernel's image and modules are added by version (see [`IMAGE_HOOK`]).
pub const BACKPORTED: &[&str] = &["linux-headers-amd64", "linux-source", "qemu-system-x86"];

/// Installs the kernel image that belongs to the headers. Not `linux-image-…`: its scripts would make an initramfs.
pub const IMAGE_HOOK: &str = "version=$(ls -d /usr/src/linux-headers-*-amd64 | sed s,.*/linux-headers-,,); \
    apt-get install -y --no-install-recommends -t trixie-backports linux-binary-$version linux-modules-$version";

/// Files of packages that are left out.
pub const EXCLUDED: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/qemu/*-palcode*",
];

/// Folders where others are mounted when something runs in the toolbox.
pub const MOUNT_POINTS: &[&str] = &["kernel", "build"];

/// Disk space that making it takes, in bytes.
pub const SPACE: u64 = 3_500_000_000;

/// Lines that mmdebstrap prints, about.
pub const LINES: u64 = 315;

/// Name of the toolbox in the cache.
pub fn name() -> String {
    let (packages, backported) = (PACKAGES.join(" "), BACKPORTED.join(" "));
    let parts = [
        SUITE,
        BACKPORTS,
        &packages,
        &backported,
        IMAGE_HOOK,
        &EXCLUDED.join(" "),
        &MOUNT_POINTS.join(" "),
    ];
    format!("toolbox-{}", cache::key(&parts))
}
