//! The register file of BAR0. See `docs/hardware.md`, section 3.

use vmlu_abi::model::CardModel;
use vmlu_abi::regs::{self, CardState};
use vmlu_abi::{boot, Status};

/// What a register write sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing beyond the register.
    None,
    /// Reset the function.
    Reset,
    /// Load the image and start the firmware.
    Boot,
    /// Look at the RPC command ring.
    Rpc,
}

/// Registers of one chip.
#[derive(Debug)]
pub struct Registers {
    model: &'static CardModel,
    chip: u32,
    serial: u64,
    /// What `STATUS` reads.
    pub state: CardState,
    /// What `BOOT_ERROR` reads.
    pub boot_error: u32,
    image_address: u64,
    image_length: u32,
    rpc_address: u64,
    scratch: u32,
}

impl Registers {
    /// Registers at power-on.
    pub fn new(model: &'static CardModel, chip: u32, serial: u64) -> Self {
        Self {
            model,
            chip,
            serial,
            state: CardState::Ready,
            boot_error: 0,
            image_address: 0,
            image_length: 0,
            rpc_address: 0,
            scratch: 0,
        }
    }

    /// Back to the state of power-on.
    pub fn reset(&mut self) {
        *self = Self::new(self.model, self.chip, self.serial);
    }

    /// Reads the 32-bit register at a byte offset, a multiple of 4. Reserved offsets read zero.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            regs::ID => regs::ID_VALUE,
            regs::VERSION => regs::HW_VERSION,
            regs::MODEL => self.model.id,
            regs::CHIP => self.chip,
            regs::SERIAL_LO => self.serial as u32,
            regs::SERIAL_HI => (self.serial >> 32) as u32,
            regs::MEMORY_LO => self.model.memory_bytes as u32,
            regs::MEMORY_HI => (self.model.memory_bytes >> 32) as u32,
            regs::STATUS => self.state as u32,
            regs::BOOT_ERROR => self.boot_error,
            regs::FW_ADDR_LO => self.image_address as u32,
            regs::FW_ADDR_HI => (self.image_address >> 32) as u32,
            regs::FW_LENGTH => self.image_length,
            regs::RPC_ADDR_LO => self.rpc_address as u32,
            regs::RPC_ADDR_HI => (self.rpc_address >> 32) as u32,
            regs::SCRATCH => self.scratch,
            _ => 0,
        }
    }

    /// Writes the 32-bit register at a byte offset, a multiple of 4. Reserved and read-only offsets ignore it.
    pub fn write(&mut self, offset: u64, value: u32) -> Action {
        match offset {
            regs::CONTROL if value & regs::CONTROL_RESET != 0 => return Action::Reset,
            regs::FW_ADDR_LO => set_low(&mut self.image_address, value),
            regs::FW_ADDR_HI => set_high(&mut self.image_address, value),
            regs::FW_LENGTH => self.image_length = value,
            regs::RPC_ADDR_LO => set_low(&mut self.rpc_address, value),
            regs::RPC_ADDR_HI => set_high(&mut self.rpc_address, value),
            regs::SCRATCH => self.scratch = value,
            regs::BOOT => return Action::Boot,
            regs::RPC_DOORBELL => return Action::Rpc,
            _ => {}
        }
        Action::None
    }

    /// DMA address and bytes of the image that the driver named, if its length is possible at all.
    pub fn image(&self) -> Result<(u64, usize), Status> {
        let length = self.image_length as usize;
        if length == 0 || length > boot::MAX_IMAGE {
            return Err(Status::ImageLength);
        }
        Ok((self.image_address, length))
    }

    /// DMA address of the RPC region, if it is aligned to a page.
    pub fn rpc_region(&self) -> Result<u64, Status> {
        if !self.rpc_address.is_multiple_of(vmlu_abi::pci::PAGE_SIZE) {
            return Err(Status::InvalidArgument);
        }
        Ok(self.rpc_address)
    }
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}
