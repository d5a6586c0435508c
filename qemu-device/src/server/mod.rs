//! The device server: one process that is all chips of a machine.

pub mod control;
pub mod state;

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use rustix::fs::{flock, FlockOperation};
use vmlu_abi::model::CardModel;
use vmlu_abi::pci;
use vmlu_firmware::fabric::topology::{Topology, GROUP};
use vmlu_firmware::fabric::Fabric;

use crate::card::{Card, Identity};
use crate::vfio::door::Door;
use crate::vfio::{summary, Served};

/// Most chips of one server.
pub const MAX_CHIPS: u32 = 16;

/// What a server serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the sockets; made with mode 0700 if it is not there.
    pub folder: PathBuf,
    /// Folder of the boards' persistent state.
    pub state: PathBuf,
    /// Chips.
    pub chips: u32,
    /// Card model.
    pub model: &'static CardModel,
    /// Serial numbers of the boards, in order; boards without one keep theirs, or get one.
    pub serials: Vec<u64>,
    /// Whether faults may be injected.
    pub inject: bool,
    /// Interfaces of the firmware images that the cards take.
    pub served: RangeInclusive<u32>,
    /// Whether MSI-X is offered beside MSI. QEMU 11.1 dies when it unplugs a chip with MSI-X.
    pub msix: bool,
    /// What is linked with what; by default all chips of each four boards.
    pub topology: Option<Topology>,
}

/// Name of a chip's socket in the server's folder.
pub fn socket_name(chip: u32) -> String {
    format!("chip{chip}.sock")
}

/// Name of the control socket in the server's folder.
pub const CONTROL_SOCKET: &str = "control.sock";

/// A server that listens for all of its chips.
pub struct Server {
    chips: Vec<Served>,
    control: PathBuf,
    // The lock on the folder, for as long as the server runs.
    _lock: File,
}

impl Server {
    /// Makes the chips and listens.
    pub fn start(options: &Options) -> Result<Self> {
        if !(1..=MAX_CHIPS).contains(&options.chips) {
            bail!(
                "serve {} chips: one server has 1 to {MAX_CHIPS}",
                options.chips
            );
        }
        let folder = &options.folder;
        make_folder(folder)?;
        let lock = claim(folder)?;
        let per_board = options.model.chips_per_board;
        let boards = options.chips.div_ceil(per_board);
        let serials = state::serials(&options.state, options.model, boards, &options.serials)?;

        let records = state::records(&options.state, options.model, options.chips)?;
        let topology = match &options.topology {
            Some(topology) => topology.clone(),
            None => Topology::groups(options.model, boards, GROUP),
        };
        let fabric = Fabric::new(options.model, &topology, &serials);
        let door = Door::open().context("start the watch on the sockets")?;
        let mut chips = Vec::new();
        for number in 0..options.chips {
            let identity = Identity {
                number,
                model: options.model,
                chip: number % per_board,
                serial: serials[(number / per_board) as usize],
                inject: options.inject,
                served: options.served.clone(),
                msix: options.msix,
                fabric: fabric.clone(),
                record: records[number as usize].clone(),
            };
            let path = folder.join(socket_name(number));
            let card = Card::new(identity)
                .with_context(|| format!("make the memory of chip {number}: check the limits on address space and open files"))?;
            let served = Served::start(card, &path, &door)
                .with_context(|| format!("listen on {}", path.display()))?;
            chips.push(served);
        }
        let control = folder.join(CONTROL_SOCKET);
        let cards = chips.iter().map(|served| served.card().clone()).collect();
        control::start(&control, cards)
            .with_context(|| format!("listen on {}", control.display()))?;
        tracing::info!(
            "{} chips of {} ({} boards) in {}; fault injection is {}",
            options.chips,
            options.model.name,
            boards,
            folder.display(),
            if options.inject { "on" } else { "off" },
        );
        for (board, serial) in serials.iter().enumerate() {
            tracing::info!("board {board}: serial number {serial:016x}");
        }
        Ok(Self {
            chips,
            control,
            _lock: lock,
        })
    }

    /// The chips.
    pub fn cards(&self) -> impl Iterator<Item = &Arc<Card>> {
        self.chips.iter().map(Served::card)
    }

    /// Logs the counters of all chips.
    pub fn log_counters(&self) {
        self.cards().for_each(|card| summary(card));
    }

    /// Stops all chips and removes the sockets.
    pub fn stop(self) {
        self.log_counters();
        for served in self.chips {
            served.stop();
        }
        let _ = std::fs::remove_file(&self.control);
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make the folder {}", folder.display()))
}

/// Takes the folder for this process: two servers in one folder would take each other's sockets away.
fn claim(folder: &Path) -> Result<File> {
    let path = folder.join("server.lock");
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let who = std::fs::read_to_string(&path).unwrap_or_default();
        bail!(
            "serve in {}: another server (process {}) does so; stop it or choose another --dir",
            folder.display(),
            who.trim(),
        );
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The serial number of a board: its upper byte names the product.
pub fn check_serial(model: &CardModel, serial: u64) -> Result<u64> {
    if (serial >> 56) as u8 != model.board_id {
        bail!(
            "use {serial:016x} as a serial number: that of a board {} begins with {:02x}, such as {:016x}",
            model.name,
            model.board_id,
            u64::from(model.board_id) << 56 | serial & (u64::MAX >> 8),
        );
    }
    Ok(serial)
}

const _: () = assert!(pci::MAX_VECTORS <= 32);
