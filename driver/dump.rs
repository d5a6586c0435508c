// SPDX-License-Identifier: GPL-2.0

//! What is kept of a card that was lost, for people. See `docs/uapi.md`, section 8.

use core::fmt::Write;

use kernel::fmt;

use crate::{
    abi::regs,
    attributes::text,
    card::Card,
    ext::{coredump::Text, wait::now},
};

impl Card {
    /// Keeps queues, the packets that they were at, contexts and the last calls of the firmware.
    pub(crate) fn keep_dump(&self, reason: fmt::Arguments<'_>) {
        let mut dump = Text::new();
        // It may be cut short by its limit or for want of memory.
        let _ = self.write_dump(&mut dump, reason);
        dump.keep(self.device());
    }

    fn write_dump(&self, to: &mut Text, reason: fmt::Arguments<'_>) -> fmt::Result {
        let info = self.info();
        let time = now();
        writeln!(to, "**** MLU device coredump ****")?;
        writeln!(to, "version: 1")?;
        writeln!(to, "reason: {reason}")?;
        writeln!(
            to,
            "time: {}.{:06}",
            time / 1_000_000_000,
            time / 1000 % 1_000_000
        )?;
        writeln!(
            to,
            "card: {} chip {} of board {:#018x}",
            text(&info.name),
            info.chip,
            info.serial
        )?;
        writeln!(to, "firmware: {}", text(&info.firmware))?;
        writeln!(to, "driver: {}", crate::VERSION)?;
        if let Some((pid, comm)) = self.suspect() {
            writeln!(to, "last fault: pid {pid} ({})", text(&comm))?;
        }
        writeln!(to, "**** registers ****")?;
        for (name, register) in [
            ("ID", regs::ID),
            ("STATUS", regs::STATUS),
            ("BOOT_ERROR", regs::BOOT_ERROR),
        ] {
            writeln!(to, "{name}: {:#010x}", self.regs().read(register))?;
        }
        writeln!(to, "**** contexts ****")?;
        self.write_contexts(to)?;
        writeln!(to, "**** queues ****")?;
        self.write_queues(to)?;
        writeln!(to, "**** packets ****")?;
        self.write_packets(to)?;
        writeln!(to, "**** rpc ****")?;
        self.write_calls(to)
    }
}
