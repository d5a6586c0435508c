// SPDX-License-Identifier: GPL-2.0

//! What a chip says of itself in the vendor's place:
//! `/proc/driver/cambricon/mlus/ADDRESS/information`. Scripts and containers look there.

use kernel::{
    fmt,
    seq_file::{seq_print, SeqFile},
};

use crate::{
    abi::{
        ioctl::VENDOR_NODE,
        model,
        pci::{BAR_DOORBELL, BAR_MEMORY, BAR_REGS},
    },
    attributes::text,
    card::Card,
    ext::{pci::link, procfs::Show},
};

impl Show for Card {
    fn show(&self, to: &SeqFile) {
        let (info, at) = (self.info(), self.location());
        let firmware = text(&info.firmware);
        let (major, minor) = self.vendor_number();
        seq_print!(to, "Device name: {}\n", text(&info.name));
        seq_print!(
            to,
            "Device inode path: /dev/{VENDOR_NODE}{}\n",
            self.number()
        );
        seq_print!(to, "Device Major: {major}\n");
        seq_print!(to, "Device Minor: {minor}\n");
        seq_print!(to, "Driver Version: {}\n", crate::VERSION);
        seq_print!(to, "MCU Version: {firmware}\n");
        seq_print!(to, "Board Serial Number: SN/{:x}\n", info.serial);
        seq_print!(to, "MLU Firmware Version: {firmware}\n");
        seq_print!(to, "PCIe Firmware Version: FV/{firmware}\n");
        let clock = model::by_id(info.model).map_or(0, |model| model.clock_khz / 1000);
        seq_print!(to, "IPU Freq: {clock}MHz\n");
        seq_print!(
            to,
            "Interrupt Mode: {}\n",
            if self.has_msix() { "MSIX" } else { "MSI" }
        );
        seq_print!(
            to,
            "Bus Location: {:x}_{:x}_{:x}\n",
            at.bus,
            at.device,
            at.function
        );
        seq_print!(to, "Bus Type: PCIE\n");
        let (speed, width) = link(self.pdev());
        seq_print!(to, "LnkSta: Speed {}, Width x{width}\n", Speed(speed));
        for bar in [BAR_REGS, BAR_DOORBELL, BAR_MEMORY] {
            let bar = bar as u32;
            let (Ok(start), Ok(length)) = (
                self.pdev().resource_start(bar),
                self.pdev().resource_len(bar),
            ) else {
                continue;
            };
            seq_print!(
                to,
                "Region {bar}: Memory at {start:x} [size={}]\n",
                Size(length)
            );
        }
    }
}

/// A link speed by its code.
struct Speed(u16);

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "2.5GT/s",
            2 => "5.0GT/s",
            3 => "8.0GT/s",
            4 => "16.0GT/s",
            5 => "32.0GT/s",
            _ => "unknown",
        })
    }
}

/// Bytes as lspci writes them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{}G", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{}M", bytes >> 20),
            bytes => write!(f, "{}K", bytes >> 10),
        }
    }
}
