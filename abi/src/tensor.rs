//! Tensors as the card sees them. See `docs/hardware.md`, section 7.3.

use super::Wire;

/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 8;

/// Element types. Names and widths as the field uses them; the numbers are this card's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum DataType {
    /// IEEE 754 binary32.
    F32 = 1,
    /// IEEE 754 binary16.
    F16 = 2,
    /// bfloat16.
    Bf16 = 3,
    /// IEEE 754 binary64.
    F64 = 4,
    /// Signed, 8 bits.
    I8 = 8,
    /// Signed, 16 bits.
    I16 = 9,
    /// Signed, 32 bits.
    I32 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// Unsigned, 8 bits.
    U8 = 12,
    /// Unsigned, 16 bits.
    U16 = 13,
    /// Unsigned, 32 bits.
    U32 = 14,
    /// Unsigned, 64 bits.
    U64 = 15,
    /// One byte, 0 or 1.
    Bool = 16,
}

/// Numbers of types that are no [`DataType`]: four-bit weights, which only operators for them take, and types that none takes yet.
pub mod reserved_type {
    /// Two binary16.
    pub const COMPLEX_F16: u16 = 32;
    /// Two binary32.
    pub const COMPLEX_F32: u16 = 33;
    /// 8-bit float, 4 exponent bits.
    pub const FP8_E4M3: u16 = 40;
    /// 8-bit float, 5 exponent bits.
    pub const FP8_E5M2: u16 = 41;
    /// Signed 4 bits, two an octet, the lower index in the lower half; strides count elements.
    pub const I4: u16 = 48;
    /// The vendor's 31-bit fixed point.
    pub const I31: u16 = 49;
    /// Unsigned 4 bits, as [`I4`].
    pub const U4: u16 = 50;
}

/// Bits of [`TensorDesc::flags`].
pub mod tensor_flag {
    /// Behind the per-channel scales stand as many offsets, i32.
    pub const OFFSETS: u8 = 1;
}

impl DataType {
    /// All element types.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Bool,
    ];

    /// The type that a raw number names, if it names one.
    pub const fn from_raw(value: u16) -> Option<Self> {
        let mut i = 0;
        while i < Self::ALL.len() {
            if Self::ALL[i] as u16 == value {
                return Some(Self::ALL[i]);
            }
            i += 1;
        }
        None
    }

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

wire! {
    /// A tensor operand. Dimensions and strides from `rank` on are zero.
    pub struct TensorDesc : 160 {
        /// Device virtual address of element (0, …, 0), a multiple of the element's size.
        pub address: u64 = 0,
        /// A [`DataType`].
        pub dtype: u16 = 8,
        /// Dimensions, 0 to 8; a tensor of rank 0 has one element.
        pub rank: u8 = 10,
        /// Bits of [`tensor_flag`].
        pub flags: u8 = 11,
        /// Axis of the per-channel scales; zero where there are none.
        pub channel_axis: u32 = 12,
        /// Scale of a tensor that is quantised as a whole: an element `q` stands for `scale · (q - offset)`. Zero where it is not.
        pub scale: f32 = 16,
        /// Offset (zero point) of a tensor that is quantised as a whole.
        pub offset: i32 = 20,
        /// Device virtual address of per-channel scales, f32; zero where there are none.
        pub scales: u64 = 24,
        /// Elements of each dimension.
        pub dims: [u64; 8] = 32,
        /// Distance in elements between neighbours of each dimension; 0 repeats (inputs only), negative walks back.
        pub strides: [i64; 8] = 96,
    }
}
