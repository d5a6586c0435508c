//! The card as nodes use it: tensors in, tensors out.

use vmlu::abi::tensor::{reserved_type, TensorDesc};
use vmlu::abi::Wire;
use vmlu::operators::{
    ArgFunction, BinaryFunction, MatmulOptions, PutFunction, ReduceFunction, ScanFunction,
    SoftmaxFunction, TernaryFunction, UnaryFunction,
};
use vmlu::ops::cast::Cast;
use vmlu::ops::put::Put;
use vmlu::ops::range::{Function as RangeFunction, Range};
use vmlu::ops::take::{Take, FLAG_WRAP, NONE};
use vmlu::{DataType, Queue, Tensor};

use crate::case::numbers;
use crate::proto::TensorProto;
use crate::{unsupported, wrong, Result};

/// A queue, and what the model says of versions.
pub struct Card<'q> {
    /// The queue.
    pub queue: &'q Queue,
    /// Version of ONNX's operators.
    pub opset: i64,
}

/// The card's type for a number of `TensorProto.DataType`.
pub fn data_type(number: i32) -> Result<DataType> {
    Ok(match number {
        1 => DataType::F32,
        2 => DataType::U8,
        3 => DataType::I8,
        4 => DataType::U16,
        5 => DataType::I16,
        6 => DataType::I32,
        7 => DataType::I64,
        9 => DataType::Bool,
        10 => DataType::F16,
        11 => DataType::F64,
        12 => DataType::U32,
        13 => DataType::U64,
        16 => DataType::Bf16,
        // Here an octet each; see [`packed`].
        21 => DataType::U8,
        22 => DataType::I8,
        8 => return unsupported("strings"),
        14 | 15 => return unsupported("complex numbers"),
        17..=20 | 24 => return unsupported("8-bit floats"),
        23 | 25 | 26 => return unsupported("types of less than 8 bits"),
        _ => return unsupported(format!("element type {number}")),
    })
}

/// The card's type of four-bit integers for a number of `TensorProto.DataType`. Values of such a type have an octet an element in this evaluator; in
/// models and data, and where the card makes them, there are two in one.
pub fn packed(number: i32) -> Option<u16> {
    match number {
        21 => Some(reserved_type::U4),
        22 => Some(reserved_type::I4),
        _ => None,
    }
}

/// Elements of a tensor, as they lie in the card's memory.
pub fn bytes_of(tensor: &TensorProto) -> Result<Vec<u8>> {
    if let Some(raw) = &tensor.raw_data {
        return Ok(raw.clone());
    }
    let narrow = |size: usize| {
        let each = tensor.int32_data.iter();
        each.flat_map(|v| v.to_le_bytes()[..size].to_vec())
            .collect()
    };
    Ok(match data_type(tensor.data_type)? {
        DataType::F32 => tensor
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DataType::F64 => tensor
            .double_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DataType::I64 => tensor
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DataType::U64 => tensor
            .uint64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        DataType::U32 => {
            let each = tensor.uint64_data.iter();
            each.flat_map(|v| (*v as u32).to_le_bytes()).collect()
        }
        other => narrow(other.size()),
    })
}

/// Strides of a contiguous tensor.
pub fn strides(dims: &[u64]) -> Vec<i64> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i].max(1) as i64;
    }
    strides
}

/// The shape that shapes broadcast to.
pub fn broadcast(shapes: &[&[u64]]) -> Result<Vec<u64>> {
    let mut all: Vec<u64> = Vec::new();
    for dims in shapes {
        let (have, rank) = match vmlu::ops::tensor::broadcast_dims(&all, dims) {
            Ok(found) => found,
            Err(axis) => return wrong(format!("{all:?} and {dims:?} differ along axis {axis}")),
        };
        all = have[..rank].to_vec();
    }
    Ok(all)
}

/// An axis that may be counted from the end.
pub fn axis(value: i64, rank: usize) -> Result<usize> {
    let from_start = if value < 0 {
        value + rank as i64
    } else {
        value
    };
    if (0..rank.max(1) as i64).contains(&from_start) {
        return Ok(from_start as usize);
    }
    wrong(format!("axis {value} of {rank}"))
}

impl<'q> Card<'q> {
    /// A card with a queue.
    pub fn new(queue: &'q Queue, opset: i64) -> Self {
        Self { queue, opset }
    }

    /// A tensor without contents.
    pub fn empty(&self, dtype: DataType, dims: &[u64]) -> Result<Tensor> {
        if dims.len() > vmlu::abi::tensor::MAX_DIMS {
            return unsupported("more than 8 axes");
        }
        // Memory of no bytes is none; a tensor has an address all the same.
        if dims.contains(&0) {
            let room = Tensor::empty(self.queue, dtype, &[1])?;
            return Ok(room.with_layout(dims, &strides(dims)));
        }
        Ok(Tensor::empty(self.queue, dtype, dims)?)
    }

    /// A tensor with these bytes.
    pub fn tensor_of(&self, dtype: DataType, dims: &[u64], bytes: &[u8]) -> Result<Tensor> {
        let tensor = self.empty(dtype, dims)?;
        if bytes.len() as u64 != tensor.elements() * dtype.size() as u64 {
            return wrong(format!("{} bytes for {dtype:?} {dims:?}", bytes.len()));
        }
        if !bytes.is_empty() {
            self.queue.write_address(tensor.desc().address, bytes)?;
        }
        Ok(tensor)
    }

    /// A tensor of a model or of its data.
    pub fn constant(&self, tensor: &TensorProto) -> Result<Tensor> {
        let dims: Vec<u64> = tensor.dims.iter().map(|d| *d as u64).collect();
        let (dtype, bytes) = (data_type(tensor.data_type)?, bytes_of(tensor)?);
        let Some(packed) = packed(tensor.data_type) else {
            return self.tensor_of(dtype, &dims, &bytes);
        };
        let octets = self.tensor_of(DataType::U8, &[bytes.len() as u64], &bytes)?;
        let out = self.empty(dtype, &dims)?;
        self.cast_packed(&out, (packed, &octets), true)?;
        Ok(out)
    }

    /// Between a tensor and four-bit integers one after the other in octets: to the tensor if `apart`, else from it.
    fn cast_packed(&self, x: &Tensor, (packed, octets): (u16, &Tensor), apart: bool) -> Result<()> {
        let flat = self.reshape(x, &[x.elements()])?;
        let packed = TensorDesc {
            dtype: packed,
            dims: flat.desc().dims,
            ..*octets.desc()
        };
        let (x, out) = if apart {
            (packed, *flat.desc())
        } else {
            (*flat.desc(), packed)
        };
        self.queue.submit(&Cast {
            x,
            out,
            ..Wire::zeroed()
        })?;
        Ok(())
    }

    /// In another type, by its number of `TensorProto.DataType`.
    pub fn cast_to(&self, x: &Tensor, number: i32) -> Result<Tensor> {
        let dtype = data_type(number)?;
        let Some(packed) = packed(number) else {
            return self.cast(x, dtype);
        };
        // Of a number that is too large ONNX takes the low bits.
        let whole = if vmlu::ops::tensor::is_float(x.dtype()) {
            self.cast(x, DataType::I32)?
        } else {
            x.clone()
        };
        let octets = self.empty(DataType::U8, &[x.elements().div_ceil(2)])?;
        self.cast_packed(&whole, (packed, &octets), false)?;
        let out = self.empty(dtype, x.dims())?;
        self.cast_packed(&out, (packed, &octets), true)?;
        Ok(out)
    }

    /// Whole numbers as a vector.
    pub fn integers(&self, values: &[i64]) -> Result<Tensor> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor_of(DataType::I64, &[values.len() as u64], &bytes)
    }

    /// A scalar of a type.
    pub fn scalar(&self, dtype: DataType, value: f64) -> Result<Tensor> {
        let wide = self.tensor_of(DataType::F64, &[], &value.to_le_bytes())?;
        self.cast(&wide, dtype)
    }

    /// A tensor of one value.
    pub fn full(&self, dtype: DataType, dims: &[u64], value: f64) -> Result<Tensor> {
        self.copy(&self.expand(&self.scalar(dtype, value)?, dims)?)
    }

    /// The bytes of a tensor, in row-major order.
    pub fn read(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let tensor = self.contiguous(tensor)?;
        let mut bytes = vec![0; tensor.elements() as usize * tensor.dtype().size()];
        if !bytes.is_empty() {
            self.queue.read_address(tensor.desc().address, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The elements of a tensor as numbers.
    pub fn numbers(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        Ok(numbers(tensor.dtype(), &self.read(tensor)?))
    }

    /// The elements of a tensor as whole numbers.
    pub fn whole(&self, tensor: &Tensor) -> Result<Vec<i64>> {
        let wide = self.cast(tensor, DataType::I64)?;
        let bytes = self.read(&wide)?;
        let each = bytes.chunks_exact(8);
        Ok(each
            .map(|c| i64::from_le_bytes(c.try_into().expect("a whole chunk")))
            .collect())
    }

    /// A copy in a layout of its own.
    pub fn copy(&self, x: &Tensor) -> Result<Tensor> {
        self.unary(UnaryFunction::Copy, x)
    }

    /// The same elements, contiguous.
    pub fn contiguous(&self, x: &Tensor) -> Result<Tensor> {
        let own = &x.desc().strides[..x.dims().len()];
        let want = strides(x.dims());
        let same = (0..own.len()).all(|i| x.dims()[i] == 1 || own[i] == want[i]);
        if same {
            return Ok(x.with_layout(x.dims(), &want));
        }
        self.copy(x)
    }

    /// The same elements in another shape.
    pub fn reshape(&self, x: &Tensor, dims: &[u64]) -> Result<Tensor> {
        if dims.iter().product::<u64>() != x.elements() {
            return wrong(format!("{:?} is no shape of {dims:?}", x.dims()));
        }
        if dims.len() > vmlu::abi::tensor::MAX_DIMS {
            return unsupported("more than 8 axes");
        }
        Ok(self.contiguous(x)?.with_layout(dims, &strides(dims)))
    }

    /// The same elements with axes in another order.
    pub fn permute(&self, x: &Tensor, order: &[usize]) -> Tensor {
        let (dims, own) = (x.dims(), &x.desc().strides);
        let new: Vec<u64> = order.iter().map(|i| dims[*i]).collect();
        let strides: Vec<i64> = order.iter().map(|i| own[*i]).collect();
        x.with_layout(&new, &strides)
    }

    /// The same elements repeated to a shape.
    pub fn expand(&self, x: &Tensor, dims: &[u64]) -> Result<Tensor> {
        let Some(shift) = dims.len().checked_sub(x.dims().len()) else {
            return wrong(format!("{:?} does not broadcast to {dims:?}", x.dims()));
        };
        let mut strides = vec![0; dims.len()];
        for (i, d) in x.dims().iter().enumerate() {
            if *d == dims[shift + i] {
                strides[shift + i] = x.desc().strides[i];
            } else if *d != 1 {
                return wrong(format!("{:?} does not broadcast to {dims:?}", x.dims()));
            }
        }
        Ok(x.with_layout(dims, &strides))
    }

    /// Every `step`th element of an axis, `length` of them, from `start` on; the step may be negative.
    pub fn slice(
        &self,
        x: &Tensor,
        axis: usize,
        start: u64,
        step: i64,
        length: u64,
    ) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let mut strides = x.desc().strides[..dims.len()].to_vec();
        let first = if length > 0 {
            x.narrow(axis, start, 1)?
        } else {
            x.clone()
        };
        dims[axis] = length;
        strides[axis] *= step;
        Ok(first.with_layout(&dims, &strides))
    }

    /// An axis of one element more.
    pub fn unsqueeze(&self, x: &Tensor, axis: usize) -> Tensor {
        let mut dims = x.dims().to_vec();
        let mut strides = x.desc().strides[..dims.len()].to_vec();
        dims.insert(axis, 1);
        strides.insert(axis, 0);
        x.with_layout(&dims, &strides)
    }

    /// `f(x)`.
    pub fn unary(&self, function: UnaryFunction, x: &Tensor) -> Result<Tensor> {
        self.unary_with(function, [0.0; 3], x)
    }

    /// `f(x)` with parameters.
    pub fn unary_with(
        &self,
        function: UnaryFunction,
        parameters: [f64; 3],
        x: &Tensor,
    ) -> Result<Tensor> {
        use UnaryFunction::{IsFinite, IsInf, IsNan, IsNegInf, IsPosInf, LogicalNot, SignBit};
        let test = matches!(
            function,
            IsFinite | IsInf | IsNan | IsNegInf | IsPosInf | LogicalNot | SignBit
        );
        let dtype = if test { DataType::Bool } else { x.dtype() };
        let out = self.empty(dtype, x.dims())?;
        self.queue.unary_with(function, parameters, x, &out)?;
        Ok(out)
    }

    /// `f(a, b)`.
    pub fn binary(&self, function: BinaryFunction, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.binary_with(function, [0.0; 3], a, b)
    }

    /// `f(a, b)` with parameters.
    pub fn binary_with(
        &self,
        function: BinaryFunction,
        parameters: [f64; 3],
        a: &Tensor,
        b: &Tensor,
    ) -> Result<Tensor> {
        let dims = broadcast(&[a.dims(), b.dims()])?;
        let dtype = if (16..32).contains(&function.raw()) {
            DataType::Bool
        } else {
            a.dtype()
        };
        let out = self.empty(dtype, &dims)?;
        self.queue.binary_with(function, parameters, a, b, &out)?;
        Ok(out)
    }

    /// `a` where `mask`, else `b`.
    pub fn choose(&self, mask: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let dims = broadcast(&[mask.dims(), a.dims(), b.dims()])?;
        let out = self.empty(a.dtype(), &dims)?;
        self.queue
            .ternary(TernaryFunction::Where, 0.0, [mask, a, b], &out)?;
        Ok(out)
    }

    /// `alpha · x + beta`.
    pub fn affine(&self, x: &Tensor, alpha: f64, beta: f64) -> Result<Tensor> {
        let out = self.empty(x.dtype(), x.dims())?;
        self.queue.affine(x, &out, alpha, beta)?;
        Ok(out)
    }

    /// In another type.
    pub fn cast(&self, x: &Tensor, dtype: DataType) -> Result<Tensor> {
        if x.dtype() == dtype {
            return Ok(x.clone());
        }
        let out = self.empty(dtype, x.dims())?;
        self.queue.cast(x, &out)?;
        Ok(out)
    }

    /// The type that a quantised value is clamped to.
    pub fn saturate(&self, x: &Tensor, dtype: DataType) -> Result<Tensor> {
        let (low, high) = match dtype {
            DataType::I8 => (-128.0, 127.0),
            DataType::U8 => (0.0, 255.0),
            DataType::I16 => (-32768.0, 32767.0),
            DataType::U16 => (0.0, 65535.0),
            _ => return unsupported(format!("quantised values of {dtype:?}")),
        };
        let x = self.unary_with(UnaryFunction::Clamp, [low, high, 0.0], x)?;
        self.cast(&x, dtype)
    }

    /// Reduces axes, which stay with one element if `keep`.
    pub fn reduce(
        &self,
        function: ReduceFunction,
        x: &Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let mut mask = 0;
        for a in axes {
            dims[*a] = 1;
            mask |= 1 << a;
        }
        let dtype = match function {
            ReduceFunction::Any | ReduceFunction::All => DataType::Bool,
            ReduceFunction::CountNonzero => DataType::I64,
            _ => x.dtype(),
        };
        let out = self.empty(dtype, &dims)?;
        self.queue.reduce(function, x, mask, &out)?;
        if keep {
            return Ok(out);
        }
        let kept: Vec<u64> = (0..dims.len())
            .filter(|i| mask >> i & 1 == 0)
            .map(|i| dims[i])
            .collect();
        self.reshape(&out, &kept)
    }

    /// Index of the extreme along an axis, which stays with one element.
    pub fn arg(&self, function: ArgFunction, x: &Tensor, axis: usize) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        dims[axis] = 1;
        let out = self.empty(DataType::I64, &dims)?;
        self.queue.arg_reduce(function, x, axis as u32, &out)?;
        Ok(out)
    }

    /// Softmax along an axis.
    pub fn softmax(&self, function: SoftmaxFunction, x: &Tensor, axis: usize) -> Result<Tensor> {
        let out = self.empty(x.dtype(), x.dims())?;
        self.queue.softmax(function, x, axis as u32, &out)?;
        Ok(out)
    }

    /// Running sum or product; exclusive ones leave the element itself out.
    pub fn scan(
        &self,
        function: ScanFunction,
        x: &Tensor,
        axis: usize,
        exclusive: bool,
        out: &Tensor,
    ) -> Result<()> {
        self.queue.submit(&vmlu::ops::scan::Scan {
            x: *x.desc(),
            out: *out.desc(),
            function: function.raw(),
            axis: axis as u32,
            flags: if exclusive {
                vmlu::ops::scan::FLAG_EXCLUSIVE
            } else {
                0
            },
            ..Wire::zeroed()
        })?;
        Ok(())
    }

    /// Product of matrices, as numpy's `matmul`, into a type.
    pub fn matmul_into(&self, a: &Tensor, b: &Tensor, dtype: DataType) -> Result<Tensor> {
        let (one_a, one_b) = (a.dims().len() == 1, b.dims().len() == 1);
        let a = if one_a {
            self.unsqueeze(a, 0)
        } else {
            a.clone()
        };
        let b = if one_b {
            self.unsqueeze(b, 1)
        } else {
            b.clone()
        };
        let (m, n) = (a.dims()[a.dims().len() - 2], b.dims()[b.dims().len() - 1]);
        let batch = |t: &Tensor| t.dims()[..t.dims().len() - 2].to_vec();
        let mut dims = broadcast(&[&batch(&a), &batch(&b)])?;
        dims.extend([m, n]);
        let out = self.empty(dtype, &dims)?;
        self.queue.matmul(&a, &b, &out, &MatmulOptions::default())?;
        if one_b {
            dims.pop();
        }
        if one_a {
            dims.remove(dims.len() - 1 - usize::from(!one_b));
        }
        self.reshape(&out, &dims)
    }

    /// Product of matrices.
    pub fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.matmul_into(a, b, a.dtype())
    }

    /// Whole numbers from `start` on, `step` apart, of a type.
    pub fn range(&self, dtype: DataType, start: f64, step: f64, count: u64) -> Result<Tensor> {
        let out = self.empty(dtype, &[count])?;
        self.queue.range(&Range {
            out: *out.desc(),
            alpha: start,
            beta: step,
            function: RangeFunction::Arange.raw(),
            ..Wire::zeroed()
        })?;
        Ok(out)
    }

    /// `0, 1, …` along an axis, shaped to broadcast.
    pub fn positions(&self, dims: &[u64], axis: usize) -> Result<Tensor> {
        let mut shape = vec![1; dims.len()];
        shape[axis] = dims[axis];
        self.reshape(&self.range(DataType::I64, 0.0, 1.0, dims[axis])?, &shape)
    }

    /// The body of a `take` from `x` to `out` by indices of some axes; `map` gives the axis of `out` of each other axis of `x`.
    pub fn take(
        &self,
        x: &Tensor,
        indices: &[(usize, &Tensor)],
        map: &[(usize, usize)],
        dims: &[u64],
    ) -> Result<Tensor> {
        let out = self.empty(x.dtype(), dims)?;
        let mut body = Take {
            x: *x.desc(),
            out: *out.desc(),
            axes: [NONE; 8],
            map: [NONE; 8],
            flags: FLAG_WRAP,
            ..Wire::zeroed()
        };
        for (k, (axis, index)) in indices.iter().enumerate() {
            body.axes[k] = *axis as u8;
            body.indices[k] = *index.desc();
        }
        for (from, to) in map {
            body.map[*from] = *to as u8;
        }
        self.queue.take(&body)?;
        Ok(out)
    }

    /// As [`Card::take`], written into `out`: `x` has the shape of the positions.
    pub fn put(
        &self,
        function: PutFunction,
        out: &Tensor,
        x: &Tensor,
        indices: &[(usize, &Tensor)],
        map: &[(usize, usize)],
    ) -> Result<()> {
        let mut body = Put {
            x: *x.desc(),
            out: *out.desc(),
            axes: [NONE; 8],
            map: [NONE; 8],
            rank: x.dims().len() as u32,
            function: function.raw(),
            flags: FLAG_WRAP,
            ..Wire::zeroed()
        };
        body.dims[..x.dims().len()].copy_from_slice(x.dims());
        for (k, (axis, index)) in indices.iter().enumerate() {
            body.axes[k] = *axis as u8;
            body.indices[k] = *index.desc();
        }
        for (from, to) in map {
            body.map[*from] = *to as u8;
        }
        self.queue.put(&body)?;
        Ok(())
    }

    /// Tensors joined along an axis.
    pub fn concat(&self, parts: &[Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = parts.first() else {
            return wrong("nothing to join");
        };
        let mut dims = first.dims().to_vec();
        dims[axis] = parts.iter().map(|p| p.dims()[axis]).sum();
        let out = self.empty(first.dtype(), &dims)?;
        let mut start = 0;
        for group in parts.chunks(16) {
            let length = group.iter().map(|p| p.dims()[axis]).sum();
            let group: Vec<&Tensor> = group.iter().collect();
            self.queue
                .concat(&group, axis as u32, &out.narrow(axis, start, length)?)?;
            start += length;
        }
        Ok(out)
    }
}
