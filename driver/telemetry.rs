// SPDX-License-Identifier: GPL-2.0

//! Telemetry: a page of host memory that the card keeps up to date, read without asking the card.
//! See `docs/hardware.md`, section 10.

use kernel::{
    device::{Bound, Device},
    dma::Coherent,
    page::PAGE_SIZE,
    prelude::*,
    sync::barrier,
};

use crate::{
    abi::{
        rpc::{self, Function},
        telemetry::{Telemetry, VERSION},
    },
    card::Card,
    ext::{
        hwmon::{Quantity, Sensors},
        shared::Shared,
        wait::now,
    },
    rpc::Scope,
};

/// Looks at a page that the card is writing before it is given up: a card writes for less than a
/// microsecond.
const LOOKS: u32 = 10_000;

/// The page.
pub(crate) struct TelemetryPage {
    memory: Coherent<[u8]>,
    /// What the serving machine's clock is ahead of ours, ns.
    ahead: i64,
}

impl TelemetryPage {
    /// Makes the page.
    pub(crate) fn new(dev: &Device<Bound>) -> Result<Self> {
        Ok(Self {
            memory: Coherent::<u8>::zeroed_slice(dev, PAGE_SIZE, GFP_KERNEL)?,
            ahead: 0,
        })
    }

    /// Tells the card of the page.
    pub(crate) fn start(&mut self, card: &Card) -> Result {
        let before = now();
        let telemetry: Telemetry = card.call(Function::Telemetry, Scope::CHIP, &())?;
        let middle = before + (now() - before) / 2;
        let command = rpc::TelemetryPage {
            address: self.memory.dma_address(),
        };
        card.call::<_, ()>(Function::TelemetryPage, Scope::CHIP, &command)?;
        self.ahead = (telemetry.updated_ns as i64).wrapping_sub(middle);
        Ok(())
    }

    /// What it says, brought forward to now; `EIO` when the card has left it half-written.
    fn read(&self) -> Result<Telemetry> {
        for _ in 0..LOOKS {
            let before = self.memory.load64(0)?;
            let telemetry: Telemetry = self.memory.read(0)?;
            // The card writes an odd number, the page, then an even one.
            barrier::smp_mb(barrier::Full);
            if before % 2 == 0 && self.memory.load64(0)? == before {
                if telemetry.version != VERSION {
                    return Err(EIO);
                }
                return Ok(telemetry.at(now().wrapping_add(self.ahead) as u64));
            }
            core::hint::spin_loop();
        }
        Err(EIO)
    }
}

impl Card {
    /// Telemetry as of now. Counters of work are up to 10 ms late.
    pub(crate) fn telemetry(&self) -> Result<Telemetry> {
        if !self.is_alive() {
            return Err(ENODEV);
        }
        let page = self.telemetry_page.lock();
        page.as_ref().ok_or(ENODEV)?.read()
    }
}

impl Sensors for Card {
    fn read(&self, quantity: Quantity) -> Result<i64> {
        let now = self.telemetry()?;
        let micro = |milli: i64| milli.saturating_mul(1000);
        Ok(match quantity {
            Quantity::TemperatureChip => now.temp_chip.value_milli.into(),
            Quantity::TemperatureBoard => now.temp_board.value_milli.into(),
            Quantity::TemperatureMemory => now.temp_memory.value_milli.into(),
            Quantity::Power => micro(now.power.value_milli.into()),
            Quantity::PowerCap => micro(now.power_cap_mw.into()),
            Quantity::Energy => i64::try_from(now.energy_uj).unwrap_or(i64::MAX),
            Quantity::Fan => i64::from(now.fan_percent.min(100)) * 255 / 100,
        })
    }
}
