//! Tensors in device memory.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};
use vmlu_abi::Status;

use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::queue::Queue;

/// A type of the host that tensors can hold.
pub trait Element: vmlu_abi::Wire {
    /// Its element type on the card.
    const TYPE: DataType;
}

macro_rules! elements {
    ($($t:ty = $d:ident),*) => { $( impl Element for $t { const TYPE: DataType = DataType::$d; } )* };
}
elements!(
    f32 = F32,
    f64 = F64,
    i8 = I8,
    i16 = I16,
    i32 = I32,
    i64 = I64,
    u8 = U8,
    u16 = U16,
    u32 = U32,
    u64 = U64
);

/// A tensor: a strided view of a device buffer, which it keeps alive.
#[derive(Clone)]
pub struct Tensor {
    buffer: Buffer,
    desc: TensorDesc,
}

impl Tensor {
    /// A contiguous tensor with undefined contents, in a buffer of its own.
    pub fn empty(queue: &Queue, dtype: DataType, dims: &[u64]) -> Result<Self> {
        if dims.len() > MAX_DIMS {
            let text = format!("{} dimensions, at most {MAX_DIMS}", dims.len());
            return Err(Error::new("make a tensor", Status::InvalidArgument, text));
        }
        let bytes = dims
            .iter()
            .try_fold(dtype.size() as u64, |n, d| n.checked_mul(*d))
            .ok_or_else(|| {
                Error::new(
                    "make a tensor",
                    Status::InvalidArgument,
                    format!("{dims:?} has more elements than a tensor can have"),
                )
            })?;
        let buffer = queue.context().alloc(bytes)?;
        let desc = vmlu_ops::tensor::contiguous(dtype, buffer.address(), dims);
        Ok(Self { buffer, desc })
    }

    /// A contiguous tensor of zeroes.
    pub fn zeros(queue: &Queue, dtype: DataType, dims: &[u64]) -> Result<Self> {
        let tensor = Self::empty(queue, dtype, dims)?;
        queue.fill(&tensor.buffer, 0, tensor.buffer.len(), 0)?;
        Ok(tensor)
    }

    /// A contiguous tensor with these contents.
    pub fn from_slice<T: Element>(queue: &Queue, data: &[T], dims: &[u64]) -> Result<Self> {
        let tensor = Self::empty(queue, T::TYPE, dims)?;
        tensor.write(queue, data)?;
        Ok(tensor)
    }

    /// Replaces the contents of a contiguous tensor, in row-major order.
    pub fn write<T: Element>(&self, queue: &Queue, data: &[T]) -> Result<u64> {
        self.expect::<T>("write a tensor", data.len())?;
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.as_bytes()).copied().collect();
        queue.write_address(self.desc.address, &bytes)
    }

    /// The contents of a contiguous tensor, in row-major order, after all that was submitted to the queue before.
    pub fn to_vec<T: Element>(&self, queue: &Queue) -> Result<Vec<T>> {
        self.expect::<T>("read a tensor", self.elements() as usize)?;
        let mut bytes = vec![0; self.elements() as usize * size_of::<T>()];
        queue.read_address(self.desc.address, &mut bytes)?;
        Ok(bytes
            .chunks_exact(size_of::<T>())
            .filter_map(T::read_from)
            .collect())
    }

    fn expect<T: Element>(&self, call: &'static str, elements: usize) -> Result<()> {
        let refuse = |text| Err(Error::new(call, Status::InvalidArgument, text));
        if self.desc.dtype != T::TYPE as u16 {
            return refuse(format!(
                "the tensor's type is {:?}, not {:?}",
                self.dtype(),
                T::TYPE
            ));
        }
        if self.elements() != elements as u64 {
            return refuse(format!(
                "the tensor {:?} has {} elements, not {elements}",
                self.dims(),
                self.elements()
            ));
        }
        let contiguous = vmlu_ops::tensor::contiguous(self.dtype(), self.desc.address, self.dims());
        if contiguous.strides != self.desc.strides && elements > 1 {
            return refuse(format!(
                "the tensor {:?} is not contiguous; copy it first",
                self.dims()
            ));
        }
        Ok(())
    }

    /// The same elements, quantised as a whole: `q` stands for `scale · (q - offset)`.
    pub fn quantised(&self, scale: f32, offset: i32) -> Self {
        let mut tensor = self.clone();
        tensor.desc.scale = scale;
        tensor.desc.offset = offset;
        tensor
    }

    /// The same elements, quantised with a scale for each position of an axis. `scales` is contiguous, and must be kept as long as commands
    /// use this tensor.
    pub fn quantised_channels(&self, axis: u32, scales: &Tensor) -> Self {
        let mut tensor = self.clone();
        tensor.desc.channel_axis = axis;
        tensor.desc.scales = scales.desc.address;
        tensor
    }

    /// Element type.
    pub fn dtype(&self) -> DataType {
        DataType::from_raw(self.desc.dtype).unwrap_or(DataType::F32)
    }

    /// Dimensions.
    pub fn dims(&self) -> &[u64] {
        &self.desc.dims[..usize::from(self.desc.rank)]
    }

    /// Elements.
    pub fn elements(&self) -> u64 {
        self.dims().iter().product()
    }

    /// As it stands in packets.
    pub fn desc(&self) -> &TensorDesc {
        &self.desc
    }

    /// The buffer that holds it.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The same elements with two axes swapped.
    pub fn transpose(&self, i: usize, j: usize) -> Result<Self> {
        let rank = self.dims().len();
        if i >= rank || j >= rank {
            let text = format!("axes {i} and {j} of a tensor of rank {rank}");
            return Err(Error::new(
                "transpose a tensor",
                Status::InvalidArgument,
                text,
            ));
        }
        Ok(Self {
            buffer: self.buffer.clone(),
            desc: vmlu_ops::tensor::transposed(self.desc, i, j),
        })
    }

    /// `length` positions of an axis, from `start` on.
    pub fn narrow(&self, axis: usize, start: u64, length: u64) -> Result<Self> {
        let fits = self
            .dims()
            .get(axis)
            .is_some_and(|d| start.checked_add(length).is_some_and(|end| end <= *d));
        if !fits {
            let text = format!(
                "{length} positions from {start} of axis {axis} of {:?}",
                self.dims()
            );
            return Err(Error::new("narrow a tensor", Status::InvalidArgument, text));
        }
        let mut desc = self.desc;
        let step = desc.strides[axis].wrapping_mul(self.dtype().size() as i64);
        desc.address = desc
            .address
            .wrapping_add_signed(step.wrapping_mul(start as i64));
        desc.dims[axis] = length;
        Ok(Self {
            buffer: self.buffer.clone(),
            desc,
        })
    }

    /// A view with other dimensions and strides, in elements, from the same first element.
    pub fn with_layout(&self, dims: &[u64], strides: &[i64]) -> Self {
        let desc = vmlu_ops::tensor::strided(self.dtype(), self.desc.address, dims, strides);
        Self {
            buffer: self.buffer.clone(),
            desc,
        }
    }
}
