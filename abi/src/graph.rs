//! Graphs: a sequence of commands that the card keeps, and that one packet runs. See `docs/hardware.md`, section 7.4.
//!
//! A graph's image is a [`GraphHead`], its [`Relocation`]s in ascending order of their offsets, and its packets, framed as in a ring. An
//! image is the same on every host and can be kept in a file: addresses that differ from run to run are parameters.

use super::Wire;

wire! {
    /// Head of an image.
    pub struct GraphHead : 32 {
        /// [`MAGIC`].
        pub magic: u32 = 0,
        /// [`VERSION`].
        pub version: u32 = 4,
        /// Bytes of the whole image, head included.
        pub length: u64 = 8,
        /// Packets.
        pub commands: u32 = 16,
        /// Parameters that a launch gives.
        pub parameters: u32 = 20,
        /// Relocations.
        pub relocations: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
    }

    /// A place in a packet's body where a parameter goes: the place becomes the parameter plus `addend`, wrapping.
    pub struct Relocation : 24 {
        /// Where, in bytes from the first packet on; a multiple of 4, in the body of one packet.
        pub offset: u32 = 0,
        /// Parameter, from 0 on.
        pub parameter: u32 = 4,
        /// Bytes of the place: 4 or 8. What does not fit 4 bytes is refused.
        pub width: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
        /// Added to the parameter.
        pub addend: u64 = 16,
    }
}

/// Value of [`GraphHead::magic`]: "MLUG".
pub const MAGIC: u32 = 0x4755_4c4d;
/// Version that [`GraphHead::version`] carries.
pub const VERSION: u32 = 1;
/// Most bytes of an image.
pub const MAX_IMAGE: u64 = 16 << 20;
/// Most parameters of a graph: those of a launch fit one packet.
pub const MAX_PARAMETERS: u32 = 500;
/// Most graphs of a context.
pub const MAX_GRAPHS: usize = 1024;
/// Most bytes of the images of all graphs of a chip.
pub const MAX_IMAGES: u64 = 256 << 20;
