//! Configuration space: all 4,096 bytes, with what each bit does on a write.
//!
//! Sources: PCI Local Bus Specification 3.0, chapter 6; PCI Power Management 1.2, chapter 3; PCI Express Base Specification 4.0,
//! chapter 7 (capability structures) and 6.6.2 (function level reset). Contents: `docs/hardware.md`, section 2.

use vmlu_abi::model::CardModel;
use vmlu_abi::pci;

/// Bytes of configuration space.
pub const SIZE: usize = 4096;

// Type 0 header.
const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x09;
const CACHE_LINE: usize = 0x0c;
const BARS: usize = 0x10;
const SUBSYSTEM_VENDOR: usize = 0x2c;
const SUBSYSTEM: usize = 0x2e;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;

/// Command: memory space, bus master, parity response, SERR#, INTx disable.
const COMMAND_WRITABLE: u16 = 0x0546;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Status: the error bits, cleared by writing 1.
const STATUS_CLEARED: u16 = 0xf900;

/// BAR: 64 bits wide.
const BAR_64: u32 = 0b100;
/// BAR: prefetchable.
const BAR_PREFETCHABLE: u32 = 0b1000;

// Power management.
const PM: usize = 0x40;
const PM_ID: u8 = 0x01;
/// Version 3, no PME, no D1 or D2.
const PM_CAPABILITIES: u16 = 0x0003;
const PM_CONTROL: usize = PM + 4;
/// No reset on the way from D3hot to D0.
const PM_NO_SOFT_RESET: u16 = 1 << 3;
const PM_STATE: u16 = 0b11;

// Message signalled interrupts: 64-bit, without mask bits.
const MSI: usize = 0x50;
const MSI_ID: u8 = 0x05;
const MSI_CONTROL: usize = MSI + 2;
const MSI_64: u16 = 1 << 7;
/// Enable, and how many vectors are enabled.
const MSI_WRITABLE: u16 = 0x0071;
const MSI_ADDRESS: usize = MSI + 4;
const MSI_ADDRESS_HIGH: usize = MSI + 8;
const MSI_DATA: usize = MSI + 12;

// MSI-X.
const MSIX: usize = 0x60;
const MSIX_ID: u8 = 0x11;
const MSIX_CONTROL: usize = MSIX + 2;
/// Enable and function mask.
const MSIX_WRITABLE: u16 = 0xc000;

// PCI Express, version 2, endpoint.
const EXPRESS: usize = 0x70;
const EXPRESS_ID: u8 = 0x10;
const EXPRESS_VERSION: u16 = 2;
const DEVICE_CAPABILITIES: usize = EXPRESS + 0x04;
/// Payload of 512 bytes, extended tags, role-based error reporting, function level reset.
const DEVICE_CAPABILITIES_VALUE: u32 = 0b010 | 1 << 5 | 1 << 15 | 1 << 28;
const DEVICE_CONTROL: usize = EXPRESS + 0x08;
/// Relaxed ordering, no snoop, read requests of 512 bytes.
const DEVICE_CONTROL_RESET: u16 = 0x2810;
const DEVICE_CONTROL_WRITABLE: u16 = 0x79ff;
/// Initiates a function level reset; always reads zero.
const DEVICE_CONTROL_FLR: u16 = 1 << 15;
const DEVICE_STATUS: usize = EXPRESS + 0x0a;
const DEVICE_STATUS_CLEARED: u16 = 0x000f;
const LINK_CAPABILITIES: usize = EXPRESS + 0x0c;
const LINK_CONTROL: usize = EXPRESS + 0x10;
/// Read completion boundary, common clock, extended synch, clock power management.
const LINK_CONTROL_WRITABLE: u16 = 0x01c8;
const LINK_STATUS: usize = EXPRESS + 0x12;
const LINK_SLOT_CLOCK: u16 = 1 << 12;
const DEVICE_CAPABILITIES_2: usize = EXPRESS + 0x24;
/// Completion timeout ranges A to D, and its disabling.
const DEVICE_CAPABILITIES_2_VALUE: u32 = 0x1f;
const DEVICE_CONTROL_2: usize = EXPRESS + 0x28;
const DEVICE_CONTROL_2_WRITABLE: u16 = 0x001f;
const LINK_CAPABILITIES_2: usize = EXPRESS + 0x2c;
const LINK_CONTROL_2: usize = EXPRESS + 0x30;
const LINK_CONTROL_2_WRITABLE: u16 = 0x000f;

// Advanced error reporting, version 2.
const AER: usize = 0x100;
const AER_ID: u16 = 0x0001;
const AER_UNCORRECTABLE: usize = AER + 0x04;
/// The uncorrectable errors that the specification defines.
const AER_UNCORRECTABLE_BITS: u32 = 0x03ff_f030;
const AER_UNCORRECTABLE_MASK: usize = AER + 0x08;
const AER_SEVERITY: usize = AER + 0x0c;
/// Which errors are fatal after reset.
const AER_SEVERITY_RESET: u32 = 0x0046_2030;
const AER_CORRECTABLE: usize = AER + 0x10;
const AER_CORRECTABLE_BITS: u32 = 0x0000_f1c1;
const AER_CORRECTABLE_MASK: usize = AER + 0x14;
/// Advisory non-fatal, internal and header log overflow errors are masked after reset.
const AER_CORRECTABLE_MASK_RESET: u32 = 0x0000_e000;
const AER_CONTROL: usize = AER + 0x18;
/// ECRC generation and checking can be enabled.
const AER_CONTROL_VALUE: u32 = 1 << 5 | 1 << 7;
const AER_CONTROL_WRITABLE: u32 = 1 << 6 | 1 << 8;

// Device serial number.
const SERIAL: usize = 0x150;
const SERIAL_ID: u16 = 0x0003;

/// What a write to configuration space set off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// A function level reset was asked for.
    pub function_reset: bool,
}

/// A chip's configuration space.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    /// Bits that take what is written.
    writable: Box<[u8; SIZE]>,
    /// Bits that are cleared by writing 1.
    cleared: Box<[u8; SIZE]>,
    power_on: Box<[u8; SIZE]>,
}

impl ConfigSpace {
    /// The configuration space of a chip at power-on, with or without MSI-X beside MSI.
    pub fn new(model: &CardModel, chip: u32, serial: u64, msix: bool) -> Self {
        let zero = || Box::new([0u8; SIZE]);
        let mut space = Self {
            bytes: zero(),
            writable: zero(),
            cleared: zero(),
            power_on: zero(),
        };
        space.header(model);
        space.power_management();
        space.interrupts(msix);
        space.express(model, chip);
        space.error_reporting();
        space.serial_number(serial);
        space.power_on = space.bytes.clone();
        space
    }

    fn header(&mut self, model: &CardModel) {
        self.put16(VENDOR, pci::VENDOR_ID);
        self.put16(DEVICE, model.pci_device);
        self.rw16(COMMAND, 0, COMMAND_WRITABLE);
        self.put16(STATUS, STATUS_CAPABILITIES);
        self.rw1c16(STATUS, STATUS_CLEARED);
        self.bytes[REVISION] = pci::REVISION;
        self.bytes[CLASS..CLASS + 3].copy_from_slice(&pci::CLASS_CODE.to_le_bytes()[..3]);
        self.writable[CACHE_LINE] = 0xff;
        self.bar32(pci::BAR_REGS, pci::BAR_REGS_SIZE);
        self.bar64(pci::BAR_DOORBELL, pci::BAR_DOORBELL_SIZE);
        self.bar64(pci::BAR_MEMORY, model.bar_memory_size());
        self.put16(SUBSYSTEM_VENDOR, pci::VENDOR_ID);
        self.put16(SUBSYSTEM, u16::from(model.board_id));
        self.bytes[CAPABILITIES] = PM as u8;
        self.writable[INTERRUPT_LINE] = 0xff;
    }

    fn bar32(&mut self, index: usize, size: u64) {
        self.rw32(BARS + 4 * index, 0, !(size - 1) as u32);
    }

    fn bar64(&mut self, index: usize, size: u64) {
        let mask = !(size - 1);
        let at = BARS + 4 * index;
        self.rw32(at, BAR_64 | BAR_PREFETCHABLE, mask as u32);
        self.rw32(at + 4, 0, (mask >> 32) as u32);
    }

    fn power_management(&mut self) {
        self.capability(PM, PM_ID, MSI);
        self.put16(PM + 2, PM_CAPABILITIES);
        self.rw16(PM_CONTROL, PM_NO_SOFT_RESET, PM_STATE);
    }

    fn interrupts(&mut self, msix: bool) {
        self.capability(MSI, MSI_ID, if msix { MSIX } else { EXPRESS });
        let log2 = pci::MAX_VECTORS.ilog2() as u16;
        self.rw16(MSI_CONTROL, MSI_64 | log2 << 1, MSI_WRITABLE);
        self.rw32(MSI_ADDRESS, 0, !0b11);
        self.rw32(MSI_ADDRESS_HIGH, 0, !0);
        self.rw16(MSI_DATA, 0, !0);

        if !msix {
            return;
        }
        self.capability(MSIX, MSIX_ID, EXPRESS);
        self.rw16(MSIX_CONTROL, pci::MAX_VECTORS as u16 - 1, MSIX_WRITABLE);
        self.put32(MSIX + 4, pci::MSIX_TABLE as u32 | pci::BAR_REGS as u32);
        self.put32(MSIX + 8, pci::MSIX_PBA as u32 | pci::BAR_REGS as u32);
    }

    fn express(&mut self, model: &CardModel, chip: u32) {
        let speed = model.pcie_gen & 0xf;
        let width = (model.pcie_lanes & 0x3f) << 4;
        self.capability(EXPRESS, EXPRESS_ID, 0);
        self.put16(EXPRESS + 2, EXPRESS_VERSION);
        self.put32(DEVICE_CAPABILITIES, DEVICE_CAPABILITIES_VALUE);
        self.rw16(
            DEVICE_CONTROL,
            DEVICE_CONTROL_RESET,
            DEVICE_CONTROL_WRITABLE,
        );
        self.rw1c16(DEVICE_STATUS, DEVICE_STATUS_CLEARED);
        self.put32(LINK_CAPABILITIES, speed | width | (chip & 0xff) << 24);
        self.rw16(LINK_CONTROL, 0, LINK_CONTROL_WRITABLE);
        self.put16(LINK_STATUS, (speed | width) as u16 | LINK_SLOT_CLOCK);
        self.put32(DEVICE_CAPABILITIES_2, DEVICE_CAPABILITIES_2_VALUE);
        self.rw16(DEVICE_CONTROL_2, 0, DEVICE_CONTROL_2_WRITABLE);
        // Supported speeds: one bit a generation, from bit 1 on.
        self.put32(LINK_CAPABILITIES_2, ((1 << speed) - 1) << 1);
        self.rw16(LINK_CONTROL_2, speed as u16, LINK_CONTROL_2_WRITABLE);
    }

    fn error_reporting(&mut self) {
        self.extended(AER, AER_ID, 2, SERIAL);
        self.rw1c32(AER_UNCORRECTABLE, AER_UNCORRECTABLE_BITS);
        self.rw32(AER_UNCORRECTABLE_MASK, 0, AER_UNCORRECTABLE_BITS);
        self.rw32(AER_SEVERITY, AER_SEVERITY_RESET, AER_UNCORRECTABLE_BITS);
        self.rw1c32(AER_CORRECTABLE, AER_CORRECTABLE_BITS);
        self.rw32(
            AER_CORRECTABLE_MASK,
            AER_CORRECTABLE_MASK_RESET,
            AER_CORRECTABLE_BITS,
        );
        self.rw32(AER_CONTROL, AER_CONTROL_VALUE, AER_CONTROL_WRITABLE);
    }

    fn serial_number(&mut self, serial: u64) {
        self.extended(SERIAL, SERIAL_ID, 1, 0);
        self.bytes[SERIAL + 4..SERIAL + 12].copy_from_slice(&serial.to_le_bytes());
    }

    fn capability(&mut self, at: usize, id: u8, next: usize) {
        self.bytes[at] = id;
        self.bytes[at + 1] = next as u8;
    }

    fn extended(&mut self, at: usize, id: u16, version: u32, next: usize) {
        self.put32(at, u32::from(id) | version << 16 | (next as u32) << 20);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn rw16(&mut self, at: usize, value: u16, writable: u16) {
        self.put16(at, value);
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn rw32(&mut self, at: usize, value: u32, writable: u32) {
        self.put32(at, value);
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }

    fn rw1c16(&mut self, at: usize, bits: u16) {
        self.cleared[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    }

    fn rw1c32(&mut self, at: usize, bits: u32) {
        self.cleared[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    }

    /// Reads bytes; those outside the space are all ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = index(offset, i).map_or(0xff, |at| self.bytes[at]);
        }
    }

    /// Writes bytes, each bit as its register defines; those outside the space are ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut effect = Effect::default();
        for (i, &value) in data.iter().enumerate() {
            let Some(at) = index(offset, i) else { break };
            if at == PM_CONTROL && value & PM_STATE as u8 != 0 && value & PM_STATE as u8 != 3 {
                // D1 and D2 do not exist: the state stays as it is.
                continue;
            }
            let writable = self.writable[at];
            let kept = self.bytes[at] & !writable & !(self.cleared[at] & value);
            self.bytes[at] = kept | (value & writable);
            if at == DEVICE_CONTROL + 1 && value & (DEVICE_CONTROL_FLR >> 8) as u8 != 0 {
                effect.function_reset = true;
            }
        }
        effect
    }

    /// Back to the state of power-on.
    pub fn reset(&mut self) {
        self.bytes = self.power_on.clone();
    }
}

/// Index in the space of byte `i` of an access at `offset`.
fn index(offset: u64, i: usize) -> Option<usize> {
    usize::try_from(offset)
        .ok()?
        .checked_add(i)
        .filter(|at| *at < SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmlu_abi::model::MLU370_X8;

    const BOARD: u64 = 0x5412_3456_789a_bcde;

    fn space() -> ConfigSpace {
        ConfigSpace::new(&MLU370_X8, 1, BOARD, true)
    }

    fn get<const N: usize>(space: &ConfigSpace, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        space.read(at as u64, &mut bytes);
        bytes
    }

    fn get16(space: &ConfigSpace, at: usize) -> u16 {
        u16::from_le_bytes(get(space, at))
    }

    fn get32(space: &ConfigSpace, at: usize) -> u32 {
        u32::from_le_bytes(get(space, at))
    }

    #[test]
    fn identity() {
        let space = space();
        assert_eq!(get16(&space, 0), 0xcabc);
        assert_eq!(get16(&space, 2), 0x0370);
        assert_eq!(get32(&space, 8) >> 8, 0x12_0000);
        assert_eq!(get::<1>(&space, 0x0e), [0], "type 0, one function");
        assert_eq!(get::<1>(&space, 0x3d), [0], "no INTx");
    }

    fn capabilities(space: &ConfigSpace) -> Vec<u8> {
        let (mut at, mut ids) = (usize::from(get::<1>(space, 0x34)[0]), Vec::new());
        while at != 0 {
            ids.push(get::<1>(space, at)[0]);
            at = usize::from(get::<1>(space, at + 1)[0]);
            assert!(ids.len() < 48 && at.is_multiple_of(4));
        }
        ids
    }

    #[test]
    fn capability_lists_hold_what_they_should_and_end() {
        let space = space();
        assert_eq!(capabilities(&space), [0x01, 0x05, 0x11, 0x10]);
        let without = ConfigSpace::new(&MLU370_X8, 1, BOARD, false);
        assert_eq!(capabilities(&without), [0x01, 0x05, 0x10]);
        let (mut at, mut ids) = (0x100, Vec::new());
        while at != 0 {
            let head = get32(&space, at);
            ids.push(head & 0xffff);
            at = (head >> 20) as usize;
            assert!(ids.len() < 96 && at % 4 == 0);
        }
        assert_eq!(ids, [0x0001, 0x0003]);
        assert_eq!(u64::from_le_bytes(get(&space, SERIAL + 4)), BOARD);
    }

    #[test]
    fn bars_size_as_the_specification_asks() {
        let mut space = space();
        for (bar, size, flags) in [
            (0usize, pci::BAR_REGS_SIZE, 0u64),
            (2, pci::BAR_DOORBELL_SIZE, 0xc),
            (4, MLU370_X8.bar_memory_size(), 0xc),
        ] {
            let at = BARS + 4 * bar;
            space.write(at as u64, &[0xff; 8]);
            let low = u64::from(get32(&space, at));
            let value = if flags == 0 {
                low | 0xffff_ffff_0000_0000
            } else {
                low | u64::from(get32(&space, at + 4)) << 32
            };
            assert_eq!(value & 0xf, flags);
            assert_eq!((!(value & !0xf)).wrapping_add(1), size);
        }
    }

    #[test]
    fn link_is_gen4_x16() {
        let space = space();
        assert_eq!(get16(&space, LINK_STATUS) & 0x3ff, 16 << 4 | 4);
        assert_eq!(get32(&space, LINK_CAPABILITIES) & 0x3ff, 16 << 4 | 4);
        assert_eq!(get32(&space, LINK_CAPABILITIES_2), 0x1e);
    }

    #[test]
    fn function_reset_is_seen_in_any_access_size_and_reads_zero() {
        for (offset, data) in [
            (DEVICE_CONTROL, &[0x10u8, 0xa8][..]),
            (DEVICE_CONTROL + 1, &[0x80]),
            (DEVICE_CONTROL, &[0, 0x80, 0, 0]),
        ] {
            let mut space = space();
            assert!(space.write(offset as u64, data).function_reset);
            assert_eq!(get16(&space, DEVICE_CONTROL) & DEVICE_CONTROL_FLR, 0);
        }
        assert!(
            !space()
                .write(DEVICE_CONTROL as u64, &[0x10, 0x28])
                .function_reset
        );
    }

    #[test]
    fn error_bits_clear_by_one_only() {
        let mut space = space();
        space.bytes[STATUS + 1] = 0xf9;
        space.write(STATUS as u64, &[0, 0x09]);
        assert_eq!(get16(&space, STATUS), 0xf000 | STATUS_CAPABILITIES);
        space.write(STATUS as u64, &[0xff, 0xff]);
        assert_eq!(get16(&space, STATUS), STATUS_CAPABILITIES);
    }

    #[test]
    fn power_states_that_do_not_exist_are_ignored() {
        let mut space = space();
        space.write(PM_CONTROL as u64, &[3]);
        assert_eq!(get16(&space, PM_CONTROL) & PM_STATE, 3);
        space.write(PM_CONTROL as u64, &[1]);
        assert_eq!(get16(&space, PM_CONTROL) & PM_STATE, 3);
        space.write(PM_CONTROL as u64, &[0]);
        assert_eq!(get16(&space, PM_CONTROL), PM_NO_SOFT_RESET);
    }

    proptest! {
        #[test]
        fn no_access_changes_what_is_read_only(
            writes in proptest::collection::vec(
                (prop_oneof![0u64..SIZE as u64, any::<u64>()], proptest::collection::vec(any::<u8>(), 0..40)),
                0..60,
            ),
        ) {
            let fresh = space();
            let mut space = space();
            for (offset, data) in &writes {
                space.write(*offset, data);
                let mut back = data.clone();
                space.read(*offset, &mut back);
            }
            for at in 0..SIZE {
                let fixed = !(space.writable[at] | space.cleared[at]);
                prop_assert_eq!(space.bytes[at] & fixed, fresh.bytes[at] & fixed);
            }
            space.reset();
            prop_assert_eq!(&space.bytes[..], &fresh.bytes[..]);
        }
    }
}
