//! One chip as a PCI function, whatever carries the accesses to it: registers, configuration space, interrupts, guest memory, boot and reset.
//!
//! Everything that comes in here may come from a hostile guest: any offset, length and value is answered, nothing panics, and no call waits
//! for the firmware longer than a boot (some 20 ms) or a reset (milliseconds; about 1 s at most) takes.

pub mod config;
pub mod dma;
pub mod interrupts;
mod registers;
mod service;

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use vmlu_abi::model::CardModel;
use vmlu_abi::regs::CardState;
use vmlu_abi::{pci, Status};
use vmlu_firmware::fabric::{Fabric, Place};
use vmlu_firmware::firmware::Firmware;
use vmlu_firmware::hardware::{Hardware, HostPort, HostRange};
use vmlu_firmware::memory::shared::SharedMemory;
use vmlu_firmware::record::Record;

use self::config::ConfigSpace;
use self::dma::{DmaMap, Mapped};
use self::interrupts::Interrupts;
use self::registers::{Action, Registers};
use self::service::Service;
use crate::lock::{lock, read, write};

/// Which chip a [`Card`] is.
#[derive(Clone)]
pub struct Identity {
    /// Number of the chip in this server.
    pub number: u32,
    /// Card model.
    pub model: &'static CardModel,
    /// Index of the chip on its board.
    pub chip: u32,
    /// Serial number of the board.
    pub serial: u64,
    /// Whether faults may be injected.
    pub inject: bool,
    /// Interfaces of the firmware images that it takes.
    pub served: RangeInclusive<u32>,
    /// Whether MSI-X is offered beside MSI.
    pub msix: bool,
    /// The fabric of the server.
    pub fabric: Arc<Fabric>,
    /// What the chip remembers over resets.
    pub record: Arc<Record>,
}

/// What a reset came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// Function level reset: a write to the PCI Express capability.
    Function,
    /// The bus or the whole machine was reset.
    Bus,
    /// The driver wrote the control register. Configuration space stays as it is.
    Register,
    /// An operator asked for it.
    Operator,
    /// The hypervisor is gone.
    Disconnect,
}

impl ResetCause {
    fn text(self) -> &'static str {
        match self {
            Self::Function => "function level reset",
            Self::Bus => "bus reset",
            Self::Register => "reset by the driver",
            Self::Operator => "reset by the operator",
            Self::Disconnect => "reset because the hypervisor is gone",
        }
    }
}

macro_rules! counters {
    ($( $(#[$m:meta])* $name:ident ),* $(,)?) => {
        /// Accesses that reached the card by a trap, and what became of them, since the server started.
        #[derive(Debug, Default)]
        pub struct Counters { $( $(#[$m])* pub $name: AtomicU64 ),* }

        impl Counters {
            /// Names and values.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![ $( (stringify!($name), self.$name.load(Ordering::Relaxed)) ),* ]
            }
        }
    };
}

counters! {
    /// Reads of configuration space.
    config_reads,
    /// Writes of configuration space.
    config_writes,
    /// Reads of registers.
    register_reads,
    /// Writes of registers, kicks not counted.
    register_writes,
    /// Writes to kick pages.
    kicks,
    /// Trapped accesses to the doorbell and memory windows, which are normally mapped.
    window_accesses,
    /// Boots of the firmware, failed ones included.
    boots,
    /// Resets of any cause.
    resets,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The firmware's way to the host, for one boot.
struct Port {
    dma: Arc<DmaMap>,
    interrupts: Arc<Interrupts>,
    /// Cleared by the reset that ends the boot: the firmware of an earlier boot reaches nothing.
    alive: AtomicBool,
}

impl HostPort for Port {
    fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange> {
        if !self.alive.load(Ordering::Acquire) {
            return None;
        }
        self.dma.translate(address, length, write)
    }

    fn interrupt(&self, vector: u32) {
        if self.alive.load(Ordering::Acquire) {
            self.interrupts.raise(vector);
        }
    }
}

/// What exists while the firmware runs.
struct Running {
    firmware: Arc<Firmware>,
    service: Service,
    port: Arc<Port>,
}

/// One chip as a PCI function.
pub struct Card {
    identity: Identity,
    memory: Arc<SharedMemory>,
    doorbells: Arc<SharedMemory>,
    dma: Arc<DmaMap>,
    interrupts: Arc<Interrupts>,
    counters: Counters,
    rpcs: Arc<AtomicU64>,
    config: Mutex<ConfigSpace>,
    // Held during boot and reset, which therefore happen one at a time. Taken before `running`.
    registers: Mutex<Registers>,
    running: RwLock<Option<Running>>,
}

impl Card {
    /// Makes a chip in the state of power-on.
    pub fn new(identity: Identity) -> io::Result<Arc<Self>> {
        let Identity {
            number,
            model,
            chip,
            serial,
            ..
        } = identity;
        let memory = SharedMemory::new(&format!("mlu{number}-memory"), model.memory_bytes)?;
        let doorbells =
            SharedMemory::new(&format!("mlu{number}-doorbells"), pci::BAR_DOORBELL_SIZE)?;
        Ok(Arc::new(Self {
            identity: identity.clone(),
            memory: Arc::new(memory),
            doorbells: Arc::new(doorbells),
            dma: Arc::new(DmaMap::new()),
            interrupts: Arc::new(Interrupts::new()),
            counters: Counters::default(),
            rpcs: Arc::default(),
            config: Mutex::new(ConfigSpace::new(model, chip, serial, identity.msix)),
            registers: Mutex::new(Registers::new(model, chip, serial)),
            running: RwLock::new(None),
        }))
    }

    /// Which chip it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Device memory: what stands behind BAR4.
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// Doorbell pages: what stands behind BAR2.
    pub fn doorbells(&self) -> &Arc<SharedMemory> {
        &self.doorbells
    }

    /// Interrupts.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// RPC commands taken since the server started.
    pub fn rpcs(&self) -> u64 {
        self.rpcs.load(Ordering::Relaxed)
    }

    /// Guest memory.
    pub fn dma(&self) -> &DmaMap {
        &self.dma
    }

    /// The firmware, while it runs.
    pub fn firmware(&self) -> Option<Arc<Firmware>> {
        read(&self.running).as_ref().map(|r| r.firmware.clone())
    }

    /// The state that `STATUS` reads.
    pub fn state(&self) -> CardState {
        let registers = lock(&self.registers);
        self.state_of(&registers)
    }

    fn state_of(&self, registers: &Registers) -> CardState {
        match read(&self.running).as_ref() {
            Some(running) if running.service.is_halted() => CardState::Halted,
            _ => registers.state,
        }
    }

    /// Whether the card behaves as if it were pulled out.
    pub fn is_gone(&self) -> bool {
        read(&self.running)
            .as_ref()
            .is_some_and(|r| r.firmware.is_gone())
    }

    /// Reads configuration space; bytes outside are all ones.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        count(&self.counters.config_reads);
        lock(&self.config).read(offset, data);
    }

    /// Writes configuration space; bytes outside are ignored.
    pub fn config_write(&self, offset: u64, data: &[u8]) {
        count(&self.counters.config_writes);
        let effect = lock(&self.config).write(offset, data);
        if effect.function_reset {
            self.reset(ResetCause::Function);
        }
    }

    /// Reads a BAR; bytes where nothing is are all ones.
    pub fn bar_read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        match bar {
            pci::BAR_REGS => self.registers_read(offset, data),
            pci::BAR_DOORBELL => self.window_read(&self.doorbells, offset, data),
            pci::BAR_MEMORY => self.window_read(&self.memory, offset, data),
            _ => data.fill(0xff),
        }
    }

    /// Writes a BAR; bytes where nothing is are ignored.
    pub fn bar_write(&self, bar: usize, offset: u64, data: &[u8]) {
        match bar {
            pci::BAR_REGS => self.registers_write(offset, data),
            pci::BAR_DOORBELL => self.window_write(&self.doorbells, offset, data),
            pci::BAR_MEMORY => self.window_write(&self.memory, offset, data),
            _ => {}
        }
    }

    fn window_read(&self, memory: &SharedMemory, offset: u64, data: &mut [u8]) {
        count(&self.counters.window_accesses);
        let done = memory
            .bytes(offset, data.len() as u64)
            .is_some_and(|bytes| bytes.copy_to(data));
        if !done {
            data.fill(0xff);
        }
    }

    fn window_write(&self, memory: &SharedMemory, offset: u64, data: &[u8]) {
        count(&self.counters.window_accesses);
        if let Some(bytes) = memory.bytes(offset, data.len() as u64) {
            bytes.copy_from(data);
        }
    }

    fn registers_read(&self, offset: u64, data: &mut [u8]) {
        count(&self.counters.register_reads);
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > pci::BAR_REGS_SIZE) || self.is_gone() {
            return data.fill(0xff);
        }
        let mut word = (u64::MAX, [0u8; 4]);
        for (at, byte) in (offset..).zip(data) {
            let aligned = at & !3;
            if word.0 != aligned {
                word = (aligned, self.register(aligned).to_le_bytes());
            }
            *byte = word.1[(at & 3) as usize];
        }
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            vmlu_abi::regs::STATUS => self.state() as u32,
            pci::MSIX_PBA => self.interrupts.pending(),
            _ => lock(&self.registers).read(offset),
        }
    }

    fn registers_write(&self, offset: u64, data: &[u8]) {
        let inside = offset
            .checked_add(data.len() as u64)
            .is_some_and(|end| end <= pci::BAR_REGS_SIZE);
        if !inside {
            return;
        }
        if offset >= pci::KICK_BASE {
            count(&self.counters.kicks);
            let context = (offset - pci::KICK_BASE) / pci::PAGE_SIZE;
            if let Some(running) = read(&self.running).as_ref() {
                running.firmware.kick(context as u32);
            }
            return;
        }
        count(&self.counters.register_writes);
        if self.is_gone() {
            return;
        }
        if !offset.is_multiple_of(4) || !data.len().is_multiple_of(4) {
            tracing::debug!("chip {}: write of {} bytes at register {offset:#x} ignored: registers take aligned 32-bit words", self.identity.number, data.len());
            return;
        }
        for (at, word) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let action = lock(&self.registers).write(at, value);
            match action {
                Action::None => {}
                Action::Reset => self.reset(ResetCause::Register),
                Action::Boot => self.boot(),
                Action::Rpc => {
                    if let Some(running) = read(&self.running).as_ref() {
                        running.service.ring();
                    }
                }
            }
        }
    }

    /// Loads the image that the registers name and starts the firmware.
    fn boot(&self) {
        let mut registers = lock(&self.registers);
        let number = self.identity.number;
        if registers.state != CardState::Ready {
            tracing::warn!(
                "chip {number}: boot ignored: the card is {:?}; reset it first",
                registers.state
            );
            return;
        }
        count(&self.counters.boots);
        let begin = Instant::now();
        match self.try_boot(&registers) {
            Ok(running) => {
                *write(&self.running) = Some(running);
                registers.state = CardState::Running;
                tracing::info!(
                    "chip {number}: firmware runs (boot took {:.1} ms)",
                    milliseconds(begin)
                );
            }
            Err(status) => {
                registers.state = CardState::BootFailed;
                registers.boot_error = status.raw();
                tracing::warn!("chip {number}: boot failed: {}", status.text());
            }
        }
    }

    fn try_boot(&self, registers: &Registers) -> Result<Running, Status> {
        let (address, length) = registers.image()?;
        // Copied once, then checked: the guest may change its memory at any time.
        let mut image = vec![0; length];
        if !self.dma.read(address, &mut image) {
            return Err(Status::AddressFault);
        }
        let region = registers.rpc_region()?;
        let bytes = vmlu_abi::rpc::REGION_SIZE as u64;
        if self.dma.translate(region, bytes, true).is_none() {
            return Err(Status::AddressFault);
        }
        let Identity {
            number,
            model,
            chip,
            serial,
            inject,
            ref served,
            ref fabric,
            ref record,
            ..
        } = self.identity;
        let port = Arc::new(Port {
            dma: self.dma.clone(),
            interrupts: self.interrupts.clone(),
            alive: AtomicBool::new(true),
        });
        let hardware = Hardware {
            model,
            chip,
            serial,
            memory: self.memory.clone(),
            doorbells: self.doorbells.clone(),
            host: port.clone(),
            inject,
            served: served.clone(),
            record: record.clone(),
            place: Place {
                fabric: fabric.clone(),
                number: number as usize,
            },
        };
        let firmware = catch_unwind(AssertUnwindSafe(|| Firmware::boot(hardware, &image)))
            .map_err(|_| Status::Internal)??;
        let (of_service, rpcs) = (firmware.clone(), self.rpcs.clone());
        match Service::start(number, of_service, self.dma.clone(), region, rpcs) {
            Ok(service) => Ok(Running {
                firmware,
                service,
                port,
            }),
            Err(error) => {
                tracing::error!("chip {number}: cannot start a thread for RPC: {error}");
                firmware.shutdown();
                Err(Status::OutOfResources)
            }
        }
    }

    /// Resets the chip to its state of power-on, from whatever cause. Once it returns, no guest memory is touched and no interrupt raised.
    pub fn reset(&self, cause: ResetCause) {
        let begin = Instant::now();
        let number = self.identity.number;
        let mut registers = lock(&self.registers);
        count(&self.counters.resets);
        let running = write(&self.running).take();
        let was_running = running.is_some();
        if let Some(running) = running {
            running.service.stop();
            if catch_unwind(AssertUnwindSafe(|| running.firmware.shutdown())).is_err() {
                tracing::error!("chip {number}: the firmware panicked while it shut down");
            }
            running.port.alive.store(false, Ordering::Release);
        }
        self.interrupts.reset();
        if let Err(error) = self.doorbells.discard(0, pci::BAR_DOORBELL_SIZE) {
            tracing::error!("chip {number}: cannot clear the doorbells: {error}");
        }
        if cause != ResetCause::Register {
            lock(&self.config).reset();
        }
        registers.reset();
        let took = milliseconds(begin);
        if was_running {
            tracing::info!("chip {number}: {} (took {took:.1} ms)", cause.text());
        } else {
            tracing::debug!("chip {number}: {} (took {took:.1} ms)", cause.text());
        }
    }

    /// Maps guest memory for the card.
    pub fn dma_map(
        &self,
        address: u64,
        size: u64,
        file: Option<(File, u64)>,
        readable: bool,
        writable: bool,
    ) {
        let number = self.identity.number;
        match self.dma.map(address, size, file, readable, writable) {
            Mapped::Yes => tracing::debug!(
                "chip {number}: memory {address:#x}+{size:#x} mapped (writable: {writable})"
            ),
            Mapped::NotMemory => {
                tracing::trace!("chip {number}: window {address:#x}+{size:#x} ignored")
            }
            Mapped::Refused(reason) => {
                tracing::warn!("chip {number}: memory {address:#x}+{size:#x} is out of the card's reach: {reason}");
            }
        }
    }

    /// Takes guest memory back: all that touches the range, or everything. Once it returns the card does not touch it.
    pub fn dma_unmap(&self, address: u64, size: u64, everything: bool) {
        let number = self.identity.number;
        let firmware = self.firmware();
        let revoke = |address, length| {
            let Some(firmware) = &firmware else { return };
            if catch_unwind(AssertUnwindSafe(|| firmware.revoke_host(address, length))).is_err() {
                tracing::error!("chip {number}: the firmware panicked while it gave memory back");
            }
        };
        let (taken, scrapped) = if everything {
            self.dma.clear(revoke)
        } else {
            self.dma.unmap(address, size, revoke)
        };
        if scrapped > 0 {
            tracing::error!("chip {number}: {scrapped} of {taken} regions at {address:#x}+{size:#x} were still held when the host took them back; scratch pages took their place. This is a bug of the firmware");
        } else if taken > 0 {
            tracing::debug!("chip {number}: memory {address:#x}+{size:#x} taken back");
        }
    }

    /// The hypervisor is gone: resets the chip, lets go of all that was the guest's, and clears device memory for the next one.
    pub fn disconnect(&self) {
        self.reset(ResetCause::Disconnect);
        let (_, scrapped) = self.dma.clear(|_, _| ());
        if scrapped > 0 {
            tracing::error!("chip {}: {scrapped} regions were still held after a reset; scratch pages took their place. This is a bug of the firmware", self.identity.number);
        }
        self.interrupts.disconnect();
        if let Err(error) = self.memory.discard(0, self.identity.model.memory_bytes) {
            tracing::error!(
                "chip {}: cannot clear device memory: {error}",
                self.identity.number
            );
        }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
