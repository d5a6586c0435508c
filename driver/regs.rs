// SPDX-License-Identifier: GPL-2.0

//! The registers of BAR0. See `docs/hardware.md`, section 3; the offsets stand in
//! `abi/src/regs.rs`.

use kernel::{device::Bound, io::Io, pci, prelude::*};

use crate::{
    abi::{
        pci::{BAR_REGS, BAR_REGS_SIZE},
        regs::{self, CardState},
    },
    ext::wait::now,
};

/// How long a reset may take, ns.
const RESET_LIMIT: i64 = 5_000_000;

/// The registers; they read all ones, and ignore writes, once the driver is unbound.
pub(crate) struct Registers {
    bar: pci::DevresBar<{ BAR_REGS_SIZE as usize }>,
}

impl Registers {
    /// Maps them.
    pub(crate) fn new(pdev: &pci::Device<Bound>) -> Result<Self> {
        let bar = pdev.iomap_region_sized::<{ BAR_REGS_SIZE as usize }>(BAR_REGS as u32, c"mlu")?;
        Ok(Self {
            bar: bar.into_devres()?,
        })
    }

    /// Reads a register.
    pub(crate) fn read(&self, register: u64) -> u32 {
        match self.bar.try_access() {
            Some(bar) => (&*bar).try_read32(register as usize).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }

    /// Writes a register.
    pub(crate) fn write(&self, register: u64, value: u32) {
        if let Some(bar) = self.bar.try_access() {
            // Register offsets are constants within the BAR.
            let _ = (&*bar).try_write32(value, register as usize);
        }
    }

    /// Reads two registers as one number.
    pub(crate) fn read64(&self, low: u64, high: u64) -> u64 {
        u64::from(self.read(high)) << 32 | u64::from(self.read(low))
    }

    /// Writes a number to two registers.
    pub(crate) fn write64(&self, low: u64, high: u64, value: u64) {
        self.write(low, value as u32);
        self.write(high, (value >> 32) as u32);
    }

    /// Whether the card is there at all.
    pub(crate) fn present(&self) -> bool {
        self.read(regs::ID) == regs::ID_VALUE
    }

    /// The state of the card; `None` when it is gone or says nonsense.
    pub(crate) fn state(&self) -> Option<CardState> {
        CardState::from_raw(self.read(regs::STATUS))
    }

    /// Resets the function; `true` if it is ready within 5 ms. It then uses no host memory.
    pub(crate) fn reset(&self) -> bool {
        self.write(regs::CONTROL, regs::CONTROL_RESET);
        let limit = now() + RESET_LIMIT;
        loop {
            if self.state() == Some(CardState::Ready) {
                return true;
            }
            if now() > limit || !self.present() {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}
