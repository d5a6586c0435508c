//! Tensor operands: making descriptors, and the rules that all operators share. See `docs/hardware.md`, section 7.3.

use core::fmt;

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};
use vmlu_abi::Wire;

use crate::rule::{RuleError, Site};

/// Describes a tensor with any strides, in elements. More than [`MAX_DIMS`] dimensions make a descriptor that every check refuses.
pub fn strided(dtype: DataType, address: u64, dims: &[u64], strides: &[i64]) -> TensorDesc {
    let mut desc = TensorDesc {
        address,
        dtype: dtype as u16,
        rank: u8::try_from(dims.len()).unwrap_or(u8::MAX),
        ..TensorDesc::zeroed()
    };
    for (i, dim) in dims.iter().take(MAX_DIMS).enumerate() {
        desc.dims[i] = *dim;
        desc.strides[i] = strides.get(i).copied().unwrap_or(0);
    }
    desc
}

/// Describes a contiguous tensor in row-major order. More than [`MAX_DIMS`] dimensions make a descriptor that every check refuses.
pub fn contiguous(dtype: DataType, address: u64, dims: &[u64]) -> TensorDesc {
    let mut strides = [0i64; MAX_DIMS];
    let mut next = 1i64;
    for i in (0..dims.len().min(MAX_DIMS)).rev() {
        strides[i] = next;
        let dim = i64::try_from(dims[i].max(1)).unwrap_or(i64::MAX);
        next = next.saturating_mul(dim);
    }
    strided(dtype, address, dims, &strides)
}

/// Swaps two axes; a descriptor that lacks one of them is returned unchanged.
pub fn transposed(mut desc: TensorDesc, i: usize, j: usize) -> TensorDesc {
    let rank = usize::from(desc.rank).min(MAX_DIMS);
    if i < rank && j < rank {
        desc.dims.swap(i, j);
        desc.strides.swap(i, j);
    }
    desc
}

/// The absence of an optional operand: all bytes zero.
pub fn absent() -> TensorDesc {
    TensorDesc::zeroed()
}

/// How an operator uses a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Only read; strides may be 0.
    Input,
    /// Written (and maybe read); no two elements may share memory.
    Output,
}

/// A tensor that has passed the rules all operators share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DataType,
    /// Device virtual address of element (0, …, 0).
    pub address: u64,
    /// Elements, 0 if a dimension is 0. `elements * size` fits in 63 bits.
    pub elements: u64,
    /// Lowest byte that an element occupies.
    pub start: u64,
    /// Bytes from `start` to behind the highest byte; 0 if there are no elements.
    pub bytes: u64,
    rank: u8,
    dims: [u64; MAX_DIMS],
    strides: [i64; MAX_DIMS],
}

/// Prints dimensions as `[2, 3]`.
pub(crate) struct Dims<'a>(pub &'a [u64]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Tensor {
    /// Checks a descriptor by the rules that all operators share.
    pub fn check(site: Site, desc: &TensorDesc, role: Role) -> Result<Self, RuleError> {
        let Some(dtype) = DataType::from_raw(desc.dtype) else {
            return Err(site.error(format_args!(".dtype is {}, no known type", desc.dtype)));
        };
        let rank = usize::from(desc.rank);
        if rank > MAX_DIMS {
            return Err(site.error(format_args!(".rank is {rank}, at most 8")));
        }
        if desc.flags != 0 {
            return Err(site.error(format_args!(".flags is {:#x}, must be 0", desc.flags)));
        }
        let quantised = [
            u64::from(desc.channel_axis),
            u64::from(desc.scale.to_bits()),
            u64::from(desc.offset as u32),
            desc.scales,
        ];
        if quantised.iter().any(|&v| v != 0) {
            return Err(site.error(" has quantisation fields, which must be 0 here"));
        }
        for i in rank..MAX_DIMS {
            if desc.dims[i] != 0 || desc.strides[i] != 0 {
                return Err(site.error(format_args!(
                    ".dims[{i}] or its stride is not 0, but the rank is {rank}"
                )));
            }
        }
        let size = dtype.size() as u64;
        if !desc.address.is_multiple_of(size) {
            return Err(site.error(format_args!(
                ".address {:#x} is not a multiple of {size}",
                desc.address
            )));
        }
        let mut tensor = Self {
            dtype,
            address: desc.address,
            elements: 0,
            start: desc.address,
            bytes: 0,
            rank: desc.rank,
            dims: desc.dims,
            strides: desc.strides,
        };
        tensor.measure(site)?;
        if role == Role::Output {
            tensor.refuse_self_overlap(site)?;
        }
        Ok(tensor)
    }

    /// As [`Tensor::check`], for an operand that may be absent.
    pub fn check_optional(
        site: Site,
        desc: &TensorDesc,
        role: Role,
    ) -> Result<Option<Self>, RuleError> {
        if desc.as_bytes().iter().all(|&b| b == 0) {
            return Ok(None);
        }
        Self::check(site, desc, role).map(Some)
    }

    /// Element count and byte extent.
    fn measure(&mut self, site: Site) -> Result<(), RuleError> {
        let size = self.dtype.size() as i64;
        let product = self
            .dims()
            .iter()
            .try_fold(size, |p, d| p.checked_mul(i64::try_from(*d.max(&1)).ok()?))
            .ok_or_else(|| {
                site.error(format_args!(
                    ".dims {}: the product overflows",
                    Dims(self.dims())
                ))
            })?;
        let (mut low, mut high) = (0i64, 0i64);
        for (i, (&dim, &stride)) in self.dims().iter().zip(self.strides()).enumerate() {
            // The dimension fits in 63 bits, as the product does.
            let reach = (dim.max(1) as i64 - 1)
                .checked_mul(stride)
                .and_then(|r| r.checked_mul(size))
                .ok_or_else(|| {
                    site.error(format_args!(
                        ".strides[{i}] = {stride} times {dim} elements overflows"
                    ))
                })?;
            let sum = if reach < 0 { &mut low } else { &mut high };
            *sum = sum
                .checked_add(reach)
                .ok_or_else(|| site.error(".strides: the extent of the tensor overflows"))?;
        }
        if self.dims().contains(&0) {
            return Ok(());
        }
        let outside = || site.error(".strides: elements lie outside the 64-bit address space");
        let start = self.address.checked_add_signed(low).ok_or_else(outside)?;
        let end = self
            .address
            .checked_add_signed(high)
            .and_then(|e| e.checked_add(size as u64))
            .ok_or_else(outside)?;
        self.elements = (product / size) as u64;
        self.start = start;
        self.bytes = end - start;
        if i64::try_from(self.bytes).is_err() {
            return Err(outside());
        }
        Ok(())
    }

    /// A sufficient check that no two elements share memory: by ascending distance, each axis steps over all that the axes before it
    /// reach.
    fn refuse_self_overlap(&self, site: Site) -> Result<(), RuleError> {
        if self.elements == 0 {
            return Ok(());
        }
        let mut axes = [(0u64, 0u64, 0usize); MAX_DIMS];
        let mut count = 0;
        for (i, (&dim, &stride)) in self.dims().iter().zip(self.strides()).enumerate() {
            if dim > 1 {
                axes[count] = (stride.unsigned_abs(), dim, i);
                count += 1;
            }
        }
        let axes = &mut axes[..count];
        axes.sort_unstable();
        let mut extent = 1u64;
        for &(stride, dim, i) in axes.iter() {
            if stride < extent {
                return Err(site.error(format_args!(
                    ".strides[{i}] is {}, elements of an output would overlap",
                    self.strides[i]
                )));
            }
            // No overflow: `measure` has bounded the sum of the reaches.
            extent += (dim - 1) * stride;
        }
        Ok(())
    }

    /// `length` positions of an axis from `start` on; `None` if it has not so many.
    pub fn narrow(&self, axis: usize, start: u64, length: u64) -> Option<Self> {
        let dim = *self.dims().get(axis)?;
        if start.checked_add(length)? > dim {
            return None;
        }
        let mut part = *self;
        part.dims[axis] = length;
        (part.elements, part.bytes) = (0, 0);
        if length > 0 && self.elements > 0 {
            // Within the extent of the whole, which has been checked.
            let size = self.dtype.size() as i64;
            part.address = self
                .address
                .wrapping_add_signed(start as i64 * self.strides[axis] * size);
            part.measure(Site::new("narrow", 0, "tensor")).ok()?;
        }
        Some(part)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// Elements of each dimension.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank()]
    }

    /// Distances in elements.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.rank()]
    }

    /// Bytes of memory that the elements occupy, each counted once however often a stride of 0 repeats it.
    pub fn footprint(&self) -> u64 {
        if self.elements == 0 {
            return 0;
        }
        let distinct = self.dims().iter().zip(self.strides());
        distinct
            .filter(|(_, s)| **s != 0)
            .fold(self.dtype.size() as u64, |p, (d, _)| p.saturating_mul(*d))
    }

    /// Demands a shape. `why` tells where the shape comes from.
    pub fn expect_dims(&self, site: Site, dims: &[u64], why: &str) -> Result<(), RuleError> {
        if self.rank() != dims.len() {
            return Err(site.error(format_args!(
                ".rank is {}, but {why} {}",
                self.rank,
                Dims(dims)
            )));
        }
        match (0..dims.len()).find(|&i| self.dims[i] != dims[i]) {
            None => Ok(()),
            Some(i) => Err(site.error(format_args!(
                ".dims[{i}] is {}, but {why} {}",
                self.dims[i],
                Dims(dims)
            ))),
        }
    }

    /// Demands a rank.
    pub fn expect_rank(&self, site: Site, rank: usize) -> Result<(), RuleError> {
        if self.rank() == rank {
            return Ok(());
        }
        Err(site.error(format_args!(".rank is {}, must be {rank}", self.rank)))
    }

    /// Demands one of some types.
    pub fn expect_type(&self, site: Site, types: &[DataType]) -> Result<(), RuleError> {
        if types.contains(&self.dtype) {
            return Ok(());
        }
        Err(site.error(format_args!(
            ".dtype is {:?}, must be one of {types:?}",
            self.dtype
        )))
    }

    /// Demands the type that another operand has.
    pub fn expect_same_type(
        &self,
        site: Site,
        other: &Self,
        other_name: &str,
    ) -> Result<(), RuleError> {
        if self.dtype == other.dtype {
            return Ok(());
        }
        Err(site.error(format_args!(
            ".dtype is {:?}, but {other_name}.dtype is {:?}",
            self.dtype, other.dtype
        )))
    }

    /// Strides with which the tensor is read as one of shape `dims`: axes are aligned at the last, axes of 1 or missing repeat.
    pub fn broadcast(&self, site: Site, dims: &[u64]) -> Result<[i64; MAX_DIMS], RuleError> {
        let mut strides = [0; MAX_DIMS];
        let Some(shift) = dims.len().checked_sub(self.rank()) else {
            return Err(site.error(format_args!(
                ".rank is {}, more than that of {}",
                self.rank,
                Dims(dims)
            )));
        };
        for (i, &dim) in self.dims().iter().enumerate() {
            if dim == dims[shift + i] {
                strides[shift + i] = if dim == 1 { 0 } else { self.strides[i] };
            } else if dim != 1 {
                return Err(site.error(format_args!(
                    ".dims[{i}] is {dim}, does not broadcast to {}",
                    Dims(dims)
                )));
            }
        }
        Ok(strides)
    }

    /// Refuses an output that overlaps an input, except as exactly the same tensor where `in_place` allows it.
    pub fn refuse_overlap(
        &self,
        site: Site,
        input: &Self,
        input_name: &str,
        in_place: bool,
    ) -> Result<(), RuleError> {
        let apart = self.bytes == 0
            || input.bytes == 0
            || self.start - self.start.min(input.start) >= input.bytes
            || input.start - self.start.min(input.start) >= self.bytes;
        if apart || (in_place && self.same_layout(input)) || self.interleaves(input) {
            return Ok(());
        }
        let rule = if in_place {
            "is not exactly it"
        } else {
            "must not"
        };
        Err(site.error(format_args!(" overlaps {input_name}, but {rule}")))
    }

    /// Whether both name the same elements in the same order.
    fn same_layout(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.address == other.address
            && self.dims() == other.dims()
            && (0..self.rank()).all(|i| self.dims[i] <= 1 || self.strides[i] == other.strides[i])
    }

    /// Whether both are column blocks of one larger array that have no column in common.
    fn interleaves(&self, other: &Self) -> bool {
        let (Some((pitch, mine)), Some((other_pitch, theirs))) = (self.block(), other.block())
        else {
            return false;
        };
        if pitch != other_pitch {
            return false;
        }
        // Where the other's column block begins, seen from the start of this one.
        let from = i128::from(other.start) - i128::from(self.start);
        let from = from.rem_euclid(i128::from(pitch)) as u64;
        mine <= from && theirs <= pitch - from
    }

    /// Largest distance between neighbours, and the extent of all other axes, in bytes.
    fn block(&self) -> Option<(u64, u64)> {
        let size = self.dtype.size() as u64;
        let axes = self.dims().iter().zip(self.strides());
        let (dim, pitch) = axes
            .filter(|(d, _)| **d > 1)
            .map(|(d, s)| (*d, s.unsigned_abs()))
            .max_by_key(|(_, s)| *s)?;
        let pitch_bytes = pitch.checked_mul(size)?;
        let extent = self
            .bytes
            .checked_sub((dim - 1).checked_mul(pitch_bytes)?)?;
        (pitch_bytes > 0).then_some((pitch_bytes, extent))
    }
}

/// Types with a fraction.
pub const FLOATS: [DataType; 4] = [DataType::F32, DataType::F16, DataType::Bf16, DataType::F64];
/// Types of indices and labels.
pub const INDICES: [DataType; 2] = [DataType::I32, DataType::I64];

/// Whether a type has a fraction.
pub fn is_float(dtype: DataType) -> bool {
    FLOATS.contains(&dtype)
}

/// The shape that two shapes broadcast to: aligned at the last axis, 1 repeats. `Err` has the axis (of the result) that differs.
pub fn broadcast_dims(a: &[u64], b: &[u64]) -> Result<([u64; MAX_DIMS], usize), usize> {
    let rank = a.len().max(b.len());
    let mut dims = [0; MAX_DIMS];
    for (i, dim) in dims.iter_mut().enumerate().take(rank) {
        let at = |d: &[u64]| (i + d.len()).checked_sub(rank).map_or(1, |j| d[j]);
        *dim = match (at(a), at(b)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(i),
        };
    }
    Ok((dims, rank))
}
