//! A machine without a hypervisor: the server in this process, and a client that does what QEMU and a driver do.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};
use rustix::fs::{memfd_create, MemfdFlags};
use tempfile::TempDir;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::regs::{self, CardState};
use vmlu_abi::rpc::{self, Function, RpcHeader};
use vmlu_abi::{Status, Wire};
use vmlu_device::server::{Options, Server};

/// Where the guest's memory begins, and its bytes.
pub const RAM: u64 = 0x1_0000_0000;
pub const RAM_SIZE: u64 = 16 << 20;
/// What stands where in it.
pub const RPC: u64 = 0x10_0000;
pub const IMAGE: u64 = 0x20_0000;
pub const EVENTS: u64 = 0x80_0000;
pub const FREE: u64 = 0x90_0000;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in a folder of its own.
pub struct Host {
    pub folder: TempDir,
    pub server: Option<Server>,
}

impl Host {
    pub fn new(chips: u32, inject: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&options(folder.path(), chips, inject)).unwrap();
        Self {
            folder,
            server: Some(server),
        }
    }

    pub fn socket(&self, chip: u32) -> std::path::PathBuf {
        self.folder.path().join(format!("chip{chip}.sock"))
    }

    pub fn card(&self, chip: usize) -> &vmlu_device::card::Card {
        self.server.as_ref().unwrap().cards().nth(chip).unwrap()
    }

    pub fn guest(&self, chip: u32) -> Guest {
        Guest::connect(&self.socket(chip))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

pub fn options(folder: &Path, chips: u32, inject: bool) -> Options {
    Options {
        topology: None,
        folder: folder.to_owned(),
        state: folder.join("state"),
        chips,
        model: &MLU370_X8,
        serials: vec![0x5400_0000_0000_0042],
        inject,
        msix: true,
        served: vmlu_firmware::image::SERVED,
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A hypervisor with one chip, and the driver in its guest.
pub struct Guest {
    pub client: Client,
    pub memory: File,
    produced: u64,
}

impl Guest {
    /// Connects, without memory.
    pub fn connect(socket: &Path) -> Self {
        let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(RAM_SIZE).unwrap();
        Self {
            client: Client::new(socket).unwrap(),
            memory,
            produced: 0,
        }
    }

    /// Gives the chip the guest's memory.
    pub fn map(&mut self) {
        self.client
            .dma_map(0, RAM, RAM_SIZE, self.memory.as_raw_fd())
            .unwrap();
    }

    pub fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.client
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, offset, &mut data)
            .unwrap();
        data
    }

    pub fn set_config(&mut self, offset: u64, data: &[u8]) {
        self.client
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, offset, data)
            .unwrap();
    }

    /// A function level reset.
    pub fn function_reset(&mut self) {
        self.set_config(0x78, &0xa810u16.to_le_bytes());
    }

    pub fn register(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(0, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn set_register(&mut self, offset: u64, value: u32) {
        self.client
            .region_write(0, offset, &value.to_le_bytes())
            .unwrap();
    }

    pub fn state(&mut self) -> Option<CardState> {
        CardState::from_raw(self.register(regs::STATUS))
    }

    pub fn write(&self, offset: u64, data: &[u8]) {
        self.memory.write_all_at(data, offset).unwrap();
    }

    pub fn word(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.memory.read_exact_at(&mut data, offset).unwrap();
        u64::from_le_bytes(data)
    }

    /// Boots an image, as the driver does.
    pub fn boot_image(&mut self, image: &[u8], length: u32) -> Option<CardState> {
        self.write(IMAGE, image);
        self.write(RPC, &[0; rpc::COMMANDS]);
        self.produced = 0;
        for (low, high, address) in [
            (regs::FW_ADDR_LO, regs::FW_ADDR_HI, RAM + IMAGE),
            (regs::RPC_ADDR_LO, regs::RPC_ADDR_HI, RAM + RPC),
        ] {
            self.set_register(low, address as u32);
            self.set_register(high, (address >> 32) as u32);
        }
        self.set_register(regs::FW_LENGTH, length);
        self.set_register(regs::BOOT, 1);
        self.state()
    }

    /// Boots the real image.
    pub fn boot(&mut self) {
        let image = vmlu_firmware::image::build();
        let state = self.boot_image(&image, image.len() as u32);
        assert_eq!(
            state,
            Some(CardState::Running),
            "error {}",
            self.register(regs::BOOT_ERROR)
        );
    }

    /// Writes a command into the next slot and rings.
    pub fn send(&mut self, function: Function, context: u64, body: &[u8]) -> u64 {
        let mut header = RpcHeader::zeroed();
        header.version = rpc::VERSION;
        header.function = function as u16;
        header.length = (size_of::<RpcHeader>() + body.len()) as u32;
        header.sequence = self.produced + 1000;
        header.context = context;
        let mut message = header.as_bytes().to_vec();
        message.extend_from_slice(body);
        self.send_raw(&message)
    }

    /// The same with any bytes.
    pub fn send_raw(&mut self, message: &[u8]) -> u64 {
        let number = self.produced;
        let slot = number % u64::from(rpc::SLOTS) * rpc::MAX_MESSAGE as u64;
        self.write(RPC + rpc::COMMANDS as u64 + slot, message);
        self.produced += 1;
        self.set_produced(self.produced);
        number
    }

    pub fn set_produced(&mut self, produced: u64) {
        self.write(RPC + rpc::COMMAND_PRODUCED as u64, &produced.to_le_bytes());
        self.set_register(regs::RPC_DOORBELL, 1);
    }

    /// Waits for the response to a command.
    pub fn response(&self, number: u64) -> (RpcHeader, Vec<u8>) {
        eventually("a response", || {
            self.word(RPC + rpc::RESPONSE_PRODUCED as u64) > number
        });
        let slot = number % u64::from(rpc::SLOTS) * rpc::MAX_MESSAGE as u64;
        let mut message = vec![0; rpc::MAX_MESSAGE];
        self.memory
            .read_exact_at(&mut message, RPC + rpc::RESPONSES as u64 + slot)
            .unwrap();
        let header = RpcHeader::read_from(&message).unwrap();
        message.truncate(header.length as usize);
        (header, message.split_off(size_of::<RpcHeader>()))
    }

    /// A command that works; its response's body.
    pub fn call(&mut self, function: Function, context: u64, body: &[u8]) -> Vec<u8> {
        let number = self.send(function, context, body);
        let (header, body) = self.response(number);
        assert_eq!(
            Status::from_raw(header.status),
            Some(Status::Ok),
            "{function:?}"
        );
        assert_eq!(
            (header.sequence, header.function),
            (number + 1000, function as u16)
        );
        body
    }

    /// Enables an MSI-X vector as QEMU does: first without a descriptor, then with one.
    pub fn vector(&mut self, vector: u32) -> OwnedFd {
        let ours = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        let index = VFIO_PCI_MSIX_IRQ_INDEX;
        self.client.set_irqs(index, flags, vector, 1, &[]).unwrap();
        self.client
            .set_irqs(index, flags, vector, 1, &[ours.as_raw_fd()])
            .unwrap();
        ours
    }

    pub fn disable_vectors(&mut self) {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, 0, &[])
            .unwrap();
    }
}

/// What was signalled on an event descriptor since the last look.
pub fn signalled(fd: &OwnedFd) -> u64 {
    let mut data = [0; 8];
    match rustix::io::read(fd, &mut data) {
        Ok(_) => u64::from_ne_bytes(data),
        Err(_) => 0,
    }
}
