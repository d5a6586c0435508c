//! Chips inside this process: the same firmware and the same shared memory as in a virtual machine, without a bus.
//!
//! Messages go to the firmware by call, doorbells and device memory are mapped once, and a DMA address is the address of the memory in
//! this process, once it is registered.

use std::any::Any;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use vmlu_abi::ioctl::{DeviceInfo, UAPI_VERSION};
use vmlu_abi::model::CardModel;
use vmlu_abi::rpc::{self, Function, RpcHeader};
use vmlu_abi::{pci, Status, Wire};
use vmlu_firmware::fabric::topology::{Topology, GROUP};
use vmlu_firmware::fabric::{Fabric, Place};
use vmlu_firmware::firmware::Firmware;
use vmlu_firmware::hardware::{Hardware, HostPort, HostRange};
pub use vmlu_firmware::memory::shared::SharedMemory;
use vmlu_firmware::record::Record;

use crate::host::{HostRegion, HostTable, InsertError};

/// What an embedded card is made of.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Card model.
    pub model: &'static CardModel,
    /// Chips in all; a board has `model.chips_per_board` of them, the last may have fewer.
    pub chips: u32,
    /// Serial numbers of the boards, in order; boards behind the last have the numbers that follow it.
    pub serials: Vec<u64>,
    /// Whether faults may be injected.
    pub inject: bool,
    /// What is linked with what; by default all chips of each four boards.
    pub topology: Option<Topology>,
}

impl EmbeddedConfig {
    /// Serial number of a board.
    fn serial(&self, board: u32) -> u64 {
        let board = board as usize;
        self.serials.get(board).copied().unwrap_or_else(|| {
            let beyond = board + 1 - self.serials.len();
            let last = self.serials.last().copied().unwrap_or_default();
            last.wrapping_add(beyond as u64)
        })
    }
}

/// Why an embedded card could not be made.
#[derive(Debug)]
pub enum EmbeddedError {
    /// Memory for the chip with this number could not be made.
    Memory(u32, io::Error),
    /// The firmware of the chip with this number did not boot.
    Boot(u32, Status),
}

impl std::fmt::Display for EmbeddedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(chip, error) => write!(
                f,
                "make the memory of embedded chip {chip}: {error}; check the limits on address space (ulimit -v) and open files"
            ),
            Self::Boot(chip, status) => {
                write!(f, "boot the firmware of embedded chip {chip}: {}", status.text())
            }
        }
    }
}

impl std::error::Error for EmbeddedError {}

/// What is called when a chip raises an interrupt; the argument is the vector. It must not block.
pub type InterruptHook = Arc<dyn Fn(u32) + Send + Sync>;

/// The chip's way to this process's memory.
#[derive(Default)]
struct Port {
    table: HostTable,
    hook: RwLock<Option<InterruptHook>>,
}

impl HostPort for Port {
    fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange> {
        self.table.translate(address, length, write)
    }

    fn interrupt(&self, vector: u32) {
        let hook = self
            .hook
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hook) = hook {
            hook(vector);
        }
    }
}

/// One chip of an [`EmbeddedCard`].
pub struct EmbeddedChip {
    firmware: Arc<Firmware>,
    memory: Arc<SharedMemory>,
    doorbells: Arc<SharedMemory>,
    port: Arc<Port>,
    serial: u64,
    telemetry: Arc<SharedMemory>,
}

impl EmbeddedChip {
    fn new(
        config: &EmbeddedConfig,
        number: u32,
        image: &[u8],
        fabric: &Arc<Fabric>,
        record: Arc<Record>,
    ) -> Result<Self, EmbeddedError> {
        let model = config.model;
        let of_memory = |error| EmbeddedError::Memory(number, error);
        let memory = SharedMemory::new(&format!("mlu{number}-memory"), model.memory_bytes)
            .map_err(of_memory)?;
        let doorbells =
            SharedMemory::new(&format!("mlu{number}-doorbells"), pci::BAR_DOORBELL_SIZE)
                .map_err(of_memory)?;
        let telemetry = SharedMemory::new(&format!("mlu{number}-telemetry"), pci::PAGE_SIZE)
            .map_err(of_memory)?;
        let (memory, doorbells) = (Arc::new(memory), Arc::new(doorbells));
        let port = Arc::new(Port::default());
        let serial = config.serial(number / model.chips_per_board);
        let hardware = Hardware {
            served: vmlu_firmware::image::SERVED,
            model,
            chip: number % model.chips_per_board,
            serial,
            memory: memory.clone(),
            doorbells: doorbells.clone(),
            host: port.clone(),
            inject: config.inject,
            record,
            place: Place {
                fabric: fabric.clone(),
                number: number as usize,
            },
        };
        let firmware = Firmware::boot(hardware, image)
            .map_err(|status| EmbeddedError::Boot(number, status))?;
        let chip = Self {
            firmware,
            memory,
            doorbells,
            port,
            serial,
            telemetry: Arc::new(telemetry),
        };
        let refused = |status| EmbeddedError::Boot(number, status);
        let address = chip
            .register_shared(&chip.telemetry)
            .map_err(|_| refused(Status::AddressInUse))?;
        let page = rpc::TelemetryPage { address };
        chip.call(Function::TelemetryPage, 0, page.as_bytes())
            .map_err(refused)?;
        Ok(chip)
    }

    /// The firmware that runs on the chip: messages and kicks go to it.
    pub fn firmware(&self) -> &Arc<Firmware> {
        &self.firmware
    }

    /// Device memory.
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// The doorbell pages.
    pub fn doorbells(&self) -> &Arc<SharedMemory> {
        &self.doorbells
    }

    /// The telemetry page, which the chip keeps up to date.
    pub fn telemetry(&self) -> &Arc<SharedMemory> {
        &self.telemetry
    }

    /// Serial number of the chip's board.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Sends one message to the firmware and returns its answer; see `vmlu_abi::rpc`. May wait for milliseconds.
    pub fn rpc(&self, request: &[u8]) -> Vec<u8> {
        self.firmware.rpc(request)
    }

    /// As [`Self::rpc`], from a function and the body of its command to the body of the response.
    pub fn call(&self, function: Function, context: u64, body: &[u8]) -> Result<Vec<u8>, Status> {
        if self.firmware.is_gone() {
            return Err(Status::DeviceLost);
        }
        let header = RpcHeader {
            version: rpc::VERSION,
            function: function as u16,
            length: (size_of::<RpcHeader>() + body.len()) as u32,
            context,
            ..RpcHeader::zeroed()
        };
        let answer = self.rpc(&[header.as_bytes(), body].concat());
        let head = RpcHeader::read_from(&answer).ok_or(Status::Internal)?;
        match Status::from_raw(head.status) {
            Some(Status::Ok) => Ok(answer[size_of::<RpcHeader>()..].to_vec()),
            status => Err(status.unwrap_or(Status::Internal)),
        }
    }

    /// As [`Self::call`], with a body of a known type as the answer.
    pub fn ask<T: Wire>(&self, function: Function, context: u64, body: &[u8]) -> Result<T, Status> {
        T::read_from(&self.call(function, context, body)?).ok_or(Status::Internal)
    }

    /// Tells the chip to look at a context's doorbells.
    pub fn kick(&self, context_index: u32) {
        self.firmware.kick(context_index);
    }

    /// Sets, replaces or takes away what is called when the chip raises an interrupt.
    pub fn set_interrupt_hook(&self, hook: Option<InterruptHook>) {
        *self
            .port
            .hook
            .write()
            .unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Lends the chip a range of this process's memory; the DMA address that is returned is the pointer's value. `keep` is held until the
    /// range is taken back and the chip has let go of it.
    ///
    /// # Safety
    ///
    /// The range must stay valid for reads (and for writes, if `writable`) until [`Self::unregister`] returns, and no Rust reference to
    /// it may exist meanwhile, except to atomics.
    pub unsafe fn register(
        &self,
        pointer: *mut u8,
        length: usize,
        writable: bool,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Result<u64, InsertError> {
        let address = pointer as u64;
        let region = HostRegion {
            address,
            length: length as u64,
            pointer,
            writable,
            keep,
        };
        // SAFETY: the caller keeps the range valid until `unregister`, which waits for the firmware to let go.
        unsafe { self.port.table.insert(region)? };
        Ok(address)
    }

    /// Lends the chip all of a shared memory; see [`Self::register`].
    pub fn register_shared(&self, memory: &Arc<SharedMemory>) -> Result<u64, InsertError> {
        // SAFETY: the table keeps the memory alive, and `SharedMemory` hands out no references except to atomics.
        unsafe { self.register(memory.base(), memory.len(), true, memory.clone()) }
    }

    /// Takes registered memory back: every registered range that touches `address..address + length`. Once this returns the chip
    /// does not touch it.
    pub fn unregister(&self, address: u64, length: u64) {
        for region in self.port.table.remove(address, length) {
            self.firmware.revoke_host(region.address, region.length);
        }
    }
}

impl Drop for EmbeddedChip {
    fn drop(&mut self) {
        self.set_interrupt_hook(None);
        self.firmware.shutdown();
    }
}

/// Chips inside this process.
pub struct EmbeddedCard {
    model: &'static CardModel,
    chips: Vec<EmbeddedChip>,
    topology: Topology,
}

impl EmbeddedCard {
    /// Makes the chips and boots their firmware. Device memory takes host memory only as it is used.
    pub fn new(config: &EmbeddedConfig) -> Result<Arc<Self>, EmbeddedError> {
        Self::with_records(config, &[])
    }

    /// As [`Self::new`], with what the chips remember, in their order; chips behind the last remember nothing.
    pub fn with_records(
        config: &EmbeddedConfig,
        records: &[Arc<Record>],
    ) -> Result<Arc<Self>, EmbeddedError> {
        let image = vmlu_firmware::image::build();
        let boards = config.chips.div_ceil(config.model.chips_per_board);
        let serials: Vec<u64> = (0..boards).map(|board| config.serial(board)).collect();
        let topology = match &config.topology {
            Some(topology) => topology.clone(),
            None => Topology::groups(config.model, boards, GROUP),
        };
        let fabric = Fabric::new(config.model, &topology, &serials);
        let chips = (0..config.chips)
            .map(|number| {
                let record = records.get(number as usize).cloned().unwrap_or_default();
                EmbeddedChip::new(config, number, &image, &fabric, record)
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            model: config.model,
            chips,
            topology,
        }))
    }

    /// Card model.
    pub fn model(&self) -> &'static CardModel {
        self.model
    }

    /// The chips, in order.
    pub fn chips(&self) -> &[EmbeddedChip] {
        &self.chips
    }

    /// What a chip is. There is no bus: the address is stable, and no two chips share it. The host memory node is the topology's, which
    /// the machine need not have.
    pub fn device_info(&self, number: u32) -> Result<DeviceInfo, Status> {
        let chip = self.chip(number).ok_or(Status::BadHandle)?;
        let place = self.topology.places.get(number as usize);
        let mut driver = [0; 32];
        let version = concat!("v", env!("CARGO_PKG_VERSION")).as_bytes();
        driver[..version.len()].copy_from_slice(version);
        Ok(DeviceInfo {
            device: number,
            uapi_version: UAPI_VERSION,
            pci_bus: number as u8 + 1,
            pci_vendor_id: pci::VENDOR_ID,
            pci_device_id: self.model.pci_device,
            numa_node: place.map_or(-1, |place| place.node as i32),
            vectors: pci::MAX_VECTORS,
            alive: u32::from(!chip.firmware().is_gone()),
            driver,
            info: chip.ask(Function::Info, 0, &[])?,
            ..DeviceInfo::zeroed()
        })
    }

    /// The chip with this number.
    pub fn chip(&self, number: u32) -> Option<&EmbeddedChip> {
        self.chips.get(usize::try_from(number).ok()?)
    }
}
