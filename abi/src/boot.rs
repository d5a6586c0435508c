//! The firmware image. See `docs/hardware.md`, section 4.

use super::Wire;

/// `MLUFWIMG`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MLUFWIMG");
/// The firmware interface (RPC, packets) that this tree speaks. Card and driver take images of this one and of the one before. What has come
/// with which: `rpc::Function::since`.
pub const API_VERSION: u32 = 2;
/// The oldest firmware interface that is taken.
pub const OLDEST_API: u32 = API_VERSION - 1;
/// The largest image that a card takes, in bytes.
pub const MAX_IMAGE: usize = 4 << 20;
/// Where the driver looks for the image, relative to the firmware folder.
pub const IMAGE_NAME: &str = "mlu/mlu370.img";
/// Bytes of the version text in the header.
pub const VERSION_TEXT: usize = 32;
/// Card models that one image can list.
pub const MAX_MODELS: usize = 8;

wire! {
    /// Head of a firmware image; the payload follows at once.
    pub struct ImageHeader : 160 {
        /// [`MAGIC`].
        pub magic: u64 = 0,
        /// Bytes of this header.
        pub header_length: u32 = 8,
        /// [`API_VERSION`] of the interface that the image offers.
        pub api_version: u32 = 12,
        /// Feature bits; none is defined, so all are zero.
        pub features: u64 = 16,
        /// Bytes of the payload.
        pub payload_length: u64 = 24,
        /// SHA-256 of the header, with this field zero, and the payload.
        pub digest: [u8; 32] = 32,
        /// Firmware version for people, such as `v1.1.6`, zero-padded.
        pub version: [u8; 32] = 64,
        /// `model::CardModel::id` of each model that the image supports; unused entries are zero.
        pub models: [u32; 8] = 96,
        /// Zero.
        pub reserved: [u8; 32] = 128,
    }
}
