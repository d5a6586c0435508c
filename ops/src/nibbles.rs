//! Tensors of four-bit integers, I4 (-8 to 7) and U4 (0 to 15), two elements an octet, the one of the lower index in the lower half. Strides count
//! elements: that of one axis is 1, those of the others are even, and the address is that of an octet.

use vmlu_abi::tensor::{reserved_type, DataType, TensorDesc, MAX_DIMS};

use crate::rule::{RuleError, Site};
use crate::tensor::{Role, Tensor};

/// A checked tensor of four-bit integers.
#[derive(Clone, Copy, Debug)]
pub struct Nibbles {
    /// The octets, as U8: of the same axes, but half as many, rounded up, along `axis`.
    pub octets: Tensor,
    /// Whether elements have a sign.
    pub signed: bool,
    /// The axis along which neighbours share octets.
    pub axis: usize,
    rank: usize,
    dims: [u64; MAX_DIMS],
}

impl Nibbles {
    /// Whether a descriptor is one of such a tensor.
    pub fn is(desc: &TensorDesc) -> bool {
        matches!(desc.dtype, reserved_type::I4 | reserved_type::U4)
    }

    /// Checks a descriptor of such a tensor.
    pub fn check(site: Site, desc: &TensorDesc, role: Role) -> Result<Self, RuleError> {
        let (octets, axis) = octets(site, desc)?;
        Ok(Self {
            octets: Tensor::check(site, &octets, role)?,
            signed: desc.dtype == reserved_type::I4,
            axis,
            rank: usize::from(desc.rank),
            dims: desc.dims,
        })
    }

    /// Elements of each dimension.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank]
    }
}

/// The octets of such a tensor, not yet checked, and the axis along which neighbours share them.
pub(crate) fn octets(site: Site, desc: &TensorDesc) -> Result<(TensorDesc, usize), RuleError> {
    if !Nibbles::is(desc) {
        return Err(site.error(format_args!(
            ".dtype is {}, must be {} (I4) or {} (U4)",
            desc.dtype,
            reserved_type::I4,
            reserved_type::U4
        )));
    }
    let rank = usize::from(desc.rank);
    if !(1..=MAX_DIMS).contains(&rank) {
        return Err(site.error(format_args!(".rank is {rank}, must be 1 to {MAX_DIMS}")));
    }
    let (dims, strides) = (&desc.dims[..rank], &desc.strides[..rank]);
    // Of several such axes the last one; one that has no neighbours only if there is no other.
    let alone = |i: &usize| strides[*i] == 1 && dims[*i] > 1;
    let axis = (0..rank).rev().find(alone);
    let Some(axis) = axis.or_else(|| (0..rank).rev().find(|i| strides[*i] == 1)) else {
        return Err(site.error(format_args!(".strides are {strides:?}, one must be 1")));
    };
    let mut all = TensorDesc {
        dtype: DataType::U8 as u16,
        ..*desc
    };
    for i in (0..rank).filter(|i| *i != axis) {
        if dims[i] > 1 && strides[i] % 2 != 0 {
            return Err(site.error(format_args!(
                ".strides[{i}] is {}, must be even",
                strides[i]
            )));
        }
        all.strides[i] = strides[i] / 2;
    }
    all.dims[axis] = dims[axis].div_ceil(2);
    Ok((all, axis))
}
