//! The packet frame: what stands in a queue's ring. See `docs/hardware.md`, section 7.
//!
//! A packet is 1 to 64 units of 64 bytes: a [`PacketHeader`], the body that its opcode defines, and zeroes up to the last unit's end.
//! With [`FLAG_INDIRECT`] the body is an [`Indirect`] that names the real body in the context's memory.

use super::Wire;

wire! {
    /// First bytes of every packet.
    pub struct PacketHeader : 16 {
        /// What to do; see [`op`] and the ranges in [`range`].
        pub opcode: u16 = 0,
        /// Version of the frame and of the opcode's body: 1.
        pub version: u8 = 2,
        /// Units of the packet, 1 to 64.
        pub units: u8 = 3,
        /// `FLAG_*`; unknown bits are refused.
        pub flags: u32 = 4,
        /// The submitter's mark: reported in error records and traces, otherwise without meaning.
        pub correlation: u64 = 8,
    }

    /// Body of an indirect packet.
    pub struct Indirect : 16 {
        /// Device virtual address of the body.
        pub address: u64 = 0,
        /// Bytes of the body, at most [`MAX_INDIRECT`].
        pub length: u64 = 8,
    }

    /// Body of [`op::COPY`]: contiguous bytes from one range of the context's address space to another. The ranges may be any mix of
    /// device and host memory and must not overlap.
    pub struct Copy : 24 {
        /// Device virtual address to write.
        pub dst: u64 = 0,
        /// Device virtual address to read.
        pub src: u64 = 8,
        /// Bytes.
        pub length: u64 = 16,
    }

    /// Body of [`op::FILL`]: repeats a pattern over a range.
    pub struct Fill : 32 {
        /// Device virtual address to write, a multiple of `width`.
        pub dst: u64 = 0,
        /// Bytes, a multiple of `width`.
        pub length: u64 = 8,
        /// The pattern in its low `width` bytes; the rest is zero.
        pub pattern: u64 = 16,
        /// Bytes of the pattern: 1, 2, 4 or 8.
        pub width: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
    }

    /// Body of [`op::WRITE`]: up to [`MAX_INLINE`] bytes that stand in the packet itself, written to memory.
    pub struct WriteInline : 16 {
        /// Device virtual address to write.
        pub dst: u64 = 0,
        /// Bytes that follow this body.
        pub length: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Body of [`op::COPY_STRIDED`]: a box of rows. Row `y` of slice `z` begins at `z * slice + y * pitch` behind each address. All that
    /// the box spans on a side lies in one allocation. Rows that overlap have undefined contents.
    pub struct CopyStrided : 72 {
        /// Device virtual address of the first row to write.
        pub dst: u64 = 0,
        /// Device virtual address of the first row to read.
        pub src: u64 = 8,
        /// Bytes of a row.
        pub width: u64 = 16,
        /// Rows of a slice.
        pub height: u64 = 24,
        /// Slices.
        pub depth: u64 = 32,
        /// Bytes from a row to the next where it is written, at least `width` if there are several.
        pub dst_pitch: u64 = 40,
        /// Bytes from a slice to the next where it is written, at least `height * dst_pitch` if there are several.
        pub dst_slice: u64 = 48,
        /// Bytes from a row to the next where it is read.
        pub src_pitch: u64 = 56,
        /// Bytes from a slice to the next where it is read.
        pub src_slice: u64 = 64,
    }

    /// Body of [`op::WAIT`]: the queue goes on once another timeline has reached a value.
    pub struct Wait : 16 {
        /// Queue or host timeline of the same context, as `rpc::QueueCreated::queue` gave it, or an imported timeline.
        pub queue: u64 = 0,
        /// Timeline value to wait for.
        pub value: u64 = 8,
    }

    /// Body of [`op::WAIT_ALL`]; `count` times [`Wait`] follows. The queue goes on once all of these timelines have reached their values.
    pub struct WaitAll : 8 {
        /// Waits that follow, 1 to [`MAX_WAITS`].
        pub count: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Body of [`op::NOTIFY`]: records a notifier, see `notifier::Notifier`.
    pub struct Notify : 8 {
        /// Index in the context's pool.
        pub index: u32 = 0,
        /// What the notifier's `value` becomes.
        pub value: u32 = 4,
    }

    /// Body of [`op::GRAPH_LAUNCH`]; `parameters` values of 8 bytes follow. Runs the graph's commands in order; the timeline advances by
    /// one when the last has ended.
    pub struct GraphLaunch : 16 {
        /// Graph, as `rpc::GraphCreated::graph` gave it.
        pub graph: u64 = 0,
        /// Parameters that follow: as many as the graph has.
        pub parameters: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }
}

/// Version that [`PacketHeader::version`] carries.
pub const VERSION: u8 = 1;
/// The body stands in memory, not in the packet.
pub const FLAG_INDIRECT: u32 = 1 << 0;
/// All defined flags.
pub const FLAGS: u32 = FLAG_INDIRECT;
/// Most timelines of an [`op::WAIT_ALL`].
pub const MAX_WAITS: usize = 64;
/// Most bytes of an indirect body.
pub const MAX_INDIRECT: u64 = 64 << 10;
/// Most bytes that [`op::WRITE`] carries.
pub const MAX_INLINE: usize =
    64 * 64 - core::mem::size_of::<PacketHeader>() - core::mem::size_of::<WriteInline>();
/// Most bytes of a body that stands in its packet.
pub const MAX_BODY: usize = 64 * 64 - core::mem::size_of::<PacketHeader>();

/// Opcodes outside the operators; those stand in `ops`.
pub mod op {
    /// Does nothing; advances the timeline. No body.
    pub const NOP: u16 = 0x0001;
    /// [`super::Copy`].
    pub const COPY: u16 = 0x0100;
    /// [`super::Fill`].
    pub const FILL: u16 = 0x0101;
    /// [`super::WriteInline`].
    pub const WRITE: u16 = 0x0102;
    /// [`super::CopyStrided`].
    pub const COPY_STRIDED: u16 = 0x0103;
    /// [`super::Wait`].
    pub const WAIT: u16 = 0x0200;
    /// [`super::WaitAll`] and its waits.
    pub const WAIT_ALL: u16 = 0x0202;
    /// [`super::Notify`].
    pub const NOTIFY: u16 = 0x0201;
    /// [`super::GraphLaunch`] and its parameters.
    pub const GRAPH_LAUNCH: u16 = 0x6000;
}

/// Opcode ranges, first and last. An opcode of a range without a definition is refused as unknown.
pub mod range {
    /// Control.
    pub const CONTROL: (u16, u16) = (0x0000, 0x00ff);
    /// Copies and fills.
    pub const COPY: (u16, u16) = (0x0100, 0x01ff);
    /// Waits, signals, notifiers.
    pub const SYNC: (u16, u16) = (0x0200, 0x02ff);
    /// Operators; defined in `ops`.
    pub const OPERATOR: (u16, u16) = (0x1000, 0x3fff);
    /// Collectives and links.
    pub const COLLECTIVE: (u16, u16) = (0x4000, 0x4fff);
    /// Kernel launch: code object, entry, dim3, class, cluster mask, parameters.
    pub const LAUNCH: (u16, u16) = (0x5000, 0x50ff);
    /// Graphs.
    pub const GRAPH: (u16, u16) = (0x6000, 0x60ff);
    /// Traces.
    pub const TRACE: (u16, u16) = (0x7000, 0x70ff);
    /// Vendor tests.
    pub const TEST: (u16, u16) = (0xff00, 0xffff);
}

/// Units that a packet with this many body bytes takes; `None` when they do not fit one packet.
pub const fn units_for(body: usize) -> Option<u8> {
    if body > MAX_BODY {
        return None;
    }
    Some((core::mem::size_of::<PacketHeader>() + body).div_ceil(64) as u8)
}
