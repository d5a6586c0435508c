//! What a virtual machine shall be like.

use std::path::PathBuf;

/// How the guest's processor is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM if it really runs the kernel, else TCG.
    Auto,
    /// The machine's own processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// What a virtual machine shall be like.
#[derive(Debug, Clone)]
pub struct Config {
    /// X8 boards, two chips each.
    pub boards: u32,
    /// Chips on root ports of their own, no switches.
    pub flat: bool,
    /// File that says what is linked with what, and which boards are near to which host memory node; `None`: groups of four boards, each
    /// on a node of its own.
    pub topology: Option<PathBuf>,
    /// Virtual processors; at least one a node.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// How to run.
    pub accel: Accel,
    /// Load `mlu.ko` at boot.
    pub driver: bool,
    /// Show the kernel's log on standard error as it comes.
    pub console: bool,
    /// Where the boards keep what survives: serial numbers, ECC counts. `None`: forgotten at the end.
    pub state: Option<PathBuf>,
    /// Boards that the device server has beyond those of this machine, for machines that join it.
    pub spare: u32,
    /// Boards of another machine's device server instead of one of its own.
    pub join: Option<Join>,
    /// Further arguments of `mlu-server`.
    pub server_args: Vec<String>,
    /// Further arguments of QEMU.
    pub qemu_args: Vec<String>,
    /// Further kernel parameters.
    pub kernel_args: Vec<String>,
}

/// Where a machine that shares a device server gets its boards from.
#[derive(Debug, Clone)]
pub struct Join {
    /// The folder of the machine that started the server: [`Vm::folder`](super::Vm::folder).
    pub folder: PathBuf,
    /// The server's board that is this machine's first.
    pub board: u32,
}

/// Chips on one X8 board.
pub const CHIPS_A_BOARD: u32 = 2;

/// Most boards of one machine.
pub const MAX_BOARDS: u32 = 8;

/// Boards of a host memory node, if no topology file says otherwise.
pub const BOARDS_A_NODE: u32 = 4;

/// Most host memory nodes of one machine.
pub const MAX_NODES: u32 = 8;

impl Default for Config {
    fn default() -> Self {
        Config {
            boards: 1,
            flat: false,
            topology: None,
            cpus: 1,
            memory: 2048,
            accel: Accel::Auto,
            driver: true,
            console: false,
            state: None,
            spare: 0,
            join: None,
            server_args: Vec::new(),
            qemu_args: Vec::new(),
            kernel_args: Vec::new(),
        }
    }
}

impl Config {
    /// Chips of all boards.
    pub fn chips(&self) -> u32 {
        self.boards * CHIPS_A_BOARD
    }

    /// Whether the machine is one of several with one device server. They have a network of their own.
    pub fn shares(&self) -> bool {
        self.spare > 0 || self.join.is_some()
    }

    /// The machine's address in the network of those that share a server, /24: of the server's first board that it has.
    pub fn address(&self) -> String {
        let board = self.join.as_ref().map_or(0, |join| join.board);
        format!("10.77.0.{}", board + 1)
    }
}
