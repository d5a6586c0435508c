//! Registers of BAR0, 32 bits each, naturally aligned. See `docs/hardware.md`, section 3.
//!
//! Reserved offsets read zero and ignore writes. A card that is gone reads all ones.

/// `MLU0`: what [`ID`] reads on a live card.
pub const ID_VALUE: u32 = 0x3055_4c4d;
/// RO: [`ID_VALUE`].
pub const ID: u64 = 0x000;
/// RO: version of this register interface, [`HW_VERSION`].
pub const VERSION: u64 = 0x004;
/// Value of [`VERSION`]: major in the upper half, minor in the lower.
pub const HW_VERSION: u32 = 0x0001_0000;
/// RO: card model, see `model::CardModel::id`.
pub const MODEL: u64 = 0x008;
/// RO: index of this chip on its board.
pub const CHIP: u64 = 0x00c;
/// RO: lower half of the board's serial number.
pub const SERIAL_LO: u64 = 0x010;
/// RO: upper half of the board's serial number.
pub const SERIAL_HI: u64 = 0x014;
/// RO: bytes of device memory, lower half.
pub const MEMORY_LO: u64 = 0x018;
/// RO: bytes of device memory, upper half.
pub const MEMORY_HI: u64 = 0x01c;

/// WO: [`CONTROL_RESET`].
pub const CONTROL: u64 = 0x040;
/// Bit of [`CONTROL`]: resets the function. Complete when the write returns: [`STATUS`] then reads `Ready`.
pub const CONTROL_RESET: u32 = 1 << 0;
/// RO: the state of the card, a [`CardState`].
pub const STATUS: u64 = 0x044;
/// RO: why the firmware refused to boot, a `status::Status` code; 0 if it did not.
pub const BOOT_ERROR: u64 = 0x048;

/// RW: DMA address of the firmware image, lower half.
pub const FW_ADDR_LO: u64 = 0x050;
/// RW: DMA address of the firmware image, upper half.
pub const FW_ADDR_HI: u64 = 0x054;
/// RW: bytes of the firmware image; it is contiguous at its DMA address.
pub const FW_LENGTH: u64 = 0x058;
/// RW: DMA address of the RPC region (`rpc::REGION_SIZE` bytes), lower half. Set before [`BOOT`].
pub const RPC_ADDR_LO: u64 = 0x060;
/// RW: DMA address of the RPC region, upper half.
pub const RPC_ADDR_HI: u64 = 0x064;
/// WO: any write loads the image, checks it and starts the firmware; [`STATUS`] tells the result when the write returns.
pub const BOOT: u64 = 0x068;
/// WO: any write asks the firmware to look at the RPC command ring.
pub const RPC_DOORBELL: u64 = 0x06c;
/// RW: has no effect; for probing.
pub const SCRATCH: u64 = 0x070;

/// What [`STATUS`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CardState {
    /// Reset is done; waits for a firmware image.
    Ready = 1,
    /// The firmware runs and answers RPC.
    Running = 2,
    /// The firmware image was refused; see [`BOOT_ERROR`]. Reset to try again.
    BootFailed = 3,
    /// The firmware stopped after an internal error. Reset to go on.
    Halted = 4,
}

impl CardState {
    /// The state that a register value names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Ready),
            2 => Some(Self::Running),
            3 => Some(Self::BootFailed),
            4 => Some(Self::Halted),
            _ => None,
        }
    }
}
