//! Quantised tensors: integers that stand for numbers, an element `q` for `scale · (q - offset)`. See `docs/hardware.md`, section 7.3.

use vmlu_abi::tensor::{tensor_flag, DataType, TensorDesc};

use crate::rule::{RuleError, Site};
use crate::tensor::{contiguous, Role, Tensor};

/// Types that can be quantised.
pub const TYPES: [DataType; 3] = [DataType::I8, DataType::U8, DataType::I16];

/// What a quantised tensor's integers stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a command, on the stack: a checked descriptor is `Copy` and allocates nothing"
)]
pub enum Quant {
    /// One scale and offset for all.
    Tensor {
        /// Finite and above 0.
        scale: f32,
        /// A value of the tensor's type.
        offset: i32,
    },
    /// Those of each position of an axis, in device memory.
    Channels {
        /// The axis.
        axis: usize,
        /// `[positions]`, f32.
        scales: Tensor,
        /// `[positions]`, i32; all zero if there are none.
        offsets: Option<Tensor>,
    },
}

/// Least and largest value of a quantised type.
pub fn range(dtype: DataType) -> (i32, i32) {
    match dtype {
        DataType::U8 => (0, 255),
        DataType::I16 => (i32::from(i16::MIN), i32::from(i16::MAX)),
        _ => (-128, 127),
    }
}

/// Checks a descriptor of a tensor that may be quantised.
pub fn check(
    site: Site,
    desc: &TensorDesc,
    role: Role,
) -> Result<(Tensor, Option<Quant>), RuleError> {
    let plain = TensorDesc {
        flags: 0,
        channel_axis: 0,
        scale: 0.0,
        offset: 0,
        scales: 0,
        ..*desc
    };
    let tensor = Tensor::check(site, &plain, role)?;
    let fields = [
        u64::from(desc.channel_axis),
        u64::from(desc.scale.to_bits()),
        u64::from(desc.offset as u32),
        desc.scales,
        u64::from(desc.flags),
    ];
    if fields.iter().all(|f| *f == 0) {
        return Ok((tensor, None));
    }
    tensor.expect_type(site, &TYPES)?;
    if desc.flags & !tensor_flag::OFFSETS != 0 {
        return Err(site.error(format_args!(".flags is {:#x}, at most 1", desc.flags)));
    }
    if desc.scales == 0 {
        if desc.flags != 0 || desc.channel_axis != 0 {
            return Err(site.error(" has a channel axis or flags, but no per-channel scales"));
        }
        if !(desc.scale.is_finite() && desc.scale > 0.0) {
            return Err(site.error(format_args!(
                ".scale is {}, must be finite and above 0",
                desc.scale
            )));
        }
        let (least, most) = range(tensor.dtype);
        if !(least..=most).contains(&desc.offset) {
            return Err(site.error(format_args!(
                ".offset is {}, must be from {least} to {most}",
                desc.offset
            )));
        }
        let quant = Quant::Tensor {
            scale: desc.scale,
            offset: desc.offset,
        };
        return Ok((tensor, Some(quant)));
    }
    if desc.scale.to_bits() != 0 || desc.offset != 0 {
        return Err(site.error(" has a scale or an offset besides per-channel scales"));
    }
    let axis = desc.channel_axis as usize;
    let Some(&positions) = tensor.dims().get(axis) else {
        return Err(site.error(format_args!(
            ".channel_axis is {axis}, but the rank is {}",
            tensor.rank()
        )));
    };
    let row = |dtype, address| {
        Tensor::check(site, &contiguous(dtype, address, &[positions]), Role::Input)
    };
    let scales = row(DataType::F32, desc.scales)?;
    let offsets = match desc.flags & tensor_flag::OFFSETS {
        0 => None,
        // No overflow: the scales end within the address space.
        _ => Some(row(DataType::I32, desc.scales.wrapping_add(4 * positions))?),
    };
    let quant = Quant::Channels {
        axis,
        scales,
        offsets,
    };
    Ok((tensor, Some(quant)))
}

impl Quant {
    /// The tensors in device memory that belong to it.
    pub fn tables(&self) -> impl Iterator<Item = &Tensor> {
        let (scales, offsets) = match self {
            Self::Tensor { .. } => (None, None),
            Self::Channels {
                scales, offsets, ..
            } => (Some(scales), offsets.as_ref()),
        };
        scales.into_iter().chain(offsets)
    }

    /// Refuses an output that overlaps the tables.
    pub fn refuse_overlap(&self, site: Site, out: &Tensor) -> Result<(), RuleError> {
        self.tables()
            .try_for_each(|t| out.refuse_overlap(site, t, "scales or offsets", false))
    }
}
