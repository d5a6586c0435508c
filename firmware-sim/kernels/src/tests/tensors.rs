//! Random tensors of any layout, and access to their elements one by one.

use half::{bf16, f16};
use vmlu_abi::tensor::{DataType, TensorDesc};
use vmlu_ops::tensor::strided;

use crate::testing::Arena;

/// A small random number generator.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Between -2 and 2.
    pub fn value(&mut self) -> f64 {
        (self.next() >> 40) as f64 / (1u64 << 22) as f64 - 2.0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Dimensions of a small tensor, rarely empty.
    pub fn dims(&mut self, ranks: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let rank = ranks.start() + self.below(ranks.end() - ranks.start() + 1);
        (0..rank)
            .map(|_| {
                if self.below(40) == 0 {
                    0
                } else {
                    1 + self.below(7)
                }
            })
            .collect()
    }
}

/// A tensor in an arena.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub dtype: DataType,
    pub dims: Vec<u64>,
    pub strides: Vec<i64>,
    pub address: u64,
}

impl Tensor {
    /// A tensor with a random order of axes, gaps, and negative strides, filled with random values.
    pub fn random(rng: &mut Rng, arena: &mut Arena, dtype: DataType, dims: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..dims.len()).collect();
        if rng.below(2) == 0 {
            for i in (1..order.len()).rev() {
                order.swap(i, rng.below(i as u64 + 1) as usize);
            }
        }
        let gaps = rng.below(2) == 0;
        let mut strides = vec![0i64; dims.len()];
        let (mut next, mut low) = (1i64, 0i64);
        for &axis in order.iter().rev() {
            let stride = if gaps {
                next + rng.below(3) as i64
            } else {
                next
            };
            let reach = stride * (dims[axis].max(1) as i64 - 1);
            next = stride + reach;
            if rng.below(5) == 0 {
                strides[axis] = -stride;
                low += reach;
            } else {
                strides[axis] = stride;
            }
        }
        let size = dtype.size();
        let start = arena.reserve((next as usize + 1) * size);
        let tensor = Self {
            dtype,
            dims: dims.to_vec(),
            strides,
            address: start + (low as usize * size) as u64,
        };
        for index in tensor.indices() {
            let value = rng.value();
            tensor.set(arena, &index, value);
        }
        tensor
    }

    /// An input that is read as one of shape `dims`: some axes are 1, missing, or have stride 0.
    pub fn random_broadcast(
        rng: &mut Rng,
        arena: &mut Arena,
        dtype: DataType,
        dims: &[u64],
    ) -> Self {
        let skip = if rng.below(3) == 0 {
            rng.below(dims.len() as u64 + 1) as usize
        } else {
            0
        };
        let shape: Vec<u64> = dims[skip..]
            .iter()
            .map(|d| if rng.below(4) == 0 { 1 } else { *d })
            .collect();
        let mut tensor = Self::random(rng, arena, dtype, &shape);
        for (dim, stride) in shape.iter().zip(&mut tensor.strides) {
            if *dim > 1 && rng.below(8) == 0 {
                *stride = 0;
            }
        }
        tensor
    }

    pub fn desc(&self) -> TensorDesc {
        strided(self.dtype, self.address, &self.dims, &self.strides)
    }

    /// All indices, in row-major order.
    pub fn indices(&self) -> Vec<Vec<u64>> {
        indices(&self.dims)
    }

    pub fn element(&self, index: &[u64]) -> u64 {
        let offset: i64 = index
            .iter()
            .zip(&self.strides)
            .map(|(i, s)| *i as i64 * s)
            .sum();
        self.address
            .wrapping_add_signed(offset * self.dtype.size() as i64)
    }

    /// The index that a broadcast to a shape reads at `index`.
    pub fn broadcast(&self, index: &[u64]) -> Vec<u64> {
        let shift = index.len() - self.dims.len();
        let own = self.dims.iter().zip(&index[shift..]);
        own.map(|(d, i)| if *d == 1 { 0 } else { *i }).collect()
    }

    /// The element that a broadcast to a shape reads at `index`.
    pub fn get_broadcast(&self, arena: &Arena, index: &[u64]) -> f64 {
        self.get(arena, &self.broadcast(index))
    }

    pub fn get(&self, arena: &Arena, index: &[u64]) -> f64 {
        let at = self.element(index);
        match self.dtype {
            DataType::F32 => arena.get::<f32>(at, 1)[0].into(),
            DataType::F64 => arena.get::<f64>(at, 1)[0],
            DataType::F16 => f16::from_bits(arena.get(at, 1)[0]).into(),
            DataType::Bf16 => bf16::from_bits(arena.get(at, 1)[0]).into(),
            _ => self.get_whole(arena, index) as f64,
        }
    }

    pub fn get_whole(&self, arena: &Arena, index: &[u64]) -> i128 {
        let at = self.element(index);
        match self.dtype {
            DataType::I8 => arena.get::<i8>(at, 1)[0].into(),
            DataType::I16 => arena.get::<i16>(at, 1)[0].into(),
            DataType::I32 => arena.get::<i32>(at, 1)[0].into(),
            DataType::I64 => arena.get::<i64>(at, 1)[0].into(),
            DataType::U8 | DataType::Bool => arena.get::<u8>(at, 1)[0].into(),
            DataType::U16 => arena.get::<u16>(at, 1)[0].into(),
            DataType::U32 => arena.get::<u32>(at, 1)[0].into(),
            DataType::U64 => arena.get::<u64>(at, 1)[0].into(),
            other => panic!("{other:?} has a fraction"),
        }
    }

    /// Sets an element; integers take five times the value.
    pub fn set(&self, arena: &mut Arena, index: &[u64], value: f64) {
        let at = self.element(index);
        let whole = (value * 5.0) as i64;
        match self.dtype {
            DataType::F32 => arena.set(at, &[value as f32]),
            DataType::F64 => arena.set(at, &[value]),
            DataType::F16 => arena.set(at, &[f16::from_f64(value).to_bits()]),
            DataType::Bf16 => arena.set(at, &[bf16::from_f64(value).to_bits()]),
            DataType::I8 => arena.set(at, &[whole as i8]),
            DataType::I16 => arena.set(at, &[whole as i16]),
            DataType::I32 => arena.set(at, &[whole as i32]),
            DataType::I64 => arena.set(at, &[whole]),
            DataType::U8 => arena.set(at, &[whole as u8]),
            DataType::U16 => arena.set(at, &[whole as u16]),
            DataType::U32 => arena.set(at, &[whole as u32]),
            DataType::U64 => arena.set(at, &[whole as u64]),
            DataType::Bool => arena.set(at, &[(whole & 1) as u8]),
        }
    }

    /// Relative precision of the type.
    pub fn epsilon(&self) -> f64 {
        match self.dtype {
            DataType::F32 => 1.0 / (1u64 << 23) as f64,
            DataType::F64 => f64::EPSILON,
            DataType::F16 => 1.0 / 1024.0,
            DataType::Bf16 => 1.0 / 128.0,
            _ => 0.0,
        }
    }

    /// The least magnitude that rounds to infinity.
    pub fn overflow(&self) -> f64 {
        match self.dtype {
            DataType::F32 => 2f64.powi(128) * (1.0 - 2f64.powi(-25)),
            DataType::F16 => 65520.0,
            DataType::Bf16 => 2f64.powi(128) * (1.0 - 2f64.powi(-9)),
            _ => f64::INFINITY,
        }
    }

    /// Fails unless an element is `want` within `tolerance` (plus the type's rounding); NaN and infinities must be the same.
    #[track_caller]
    pub fn expect(&self, arena: &Arena, index: &[u64], want: f64, tolerance: f64) {
        let got = self.get(arena, index);
        let denormal = if self.dtype == DataType::F16 {
            2f64.powi(-24)
        } else {
            0.0
        };
        let close = (got - want).abs() <= tolerance + denormal + want.abs() * self.epsilon();
        // What rounds to beyond the type's largest number is infinite.
        let beyond = want.abs() + tolerance >= self.overflow();
        let infinite = got.is_infinite() && beyond && got.signum() == want.signum();
        assert!(
            close || infinite || got == want || (got.is_nan() && want.is_nan()),
            "{index:?} of {:?}: got {got}, want {want} ± {tolerance}",
            self.dims
        );
    }
}

/// All indices of a shape, in row-major order.
pub fn indices(dims: &[u64]) -> Vec<Vec<u64>> {
    let mut all = vec![vec![]];
    for &dim in dims {
        all = all
            .into_iter()
            .flat_map(|i: Vec<u64>| (0..dim).map(move |j| [&i[..], &[j]].concat()))
            .collect();
    }
    all
}

/// Fails if anything but the elements of some tensors differs from an earlier snapshot.
#[track_caller]
pub fn expect_only(arena: &Arena, mut before: Vec<u8>, written: &[&Tensor]) {
    let after = arena.snapshot();
    for tensor in written {
        for index in tensor.indices() {
            let at = (tensor.element(&index) - crate::testing::BASE) as usize;
            let size = tensor.dtype.size();
            before[at..at + size].copy_from_slice(&after[at..at + size]);
        }
    }
    let stray = before.iter().zip(&after).position(|(b, a)| b != a);
    assert_eq!(stray, None, "the kernel wrote outside its outputs");
}

/// Fails unless an element is as near `want` as a bound demands; `scale` is the largest of the operands.
#[track_caller]
pub fn expect_bound(
    tensor: &Tensor,
    arena: &Arena,
    index: &[u64],
    want: f64,
    bound: vmlu_ops::accuracy::Accuracy,
    scale: f64,
    what: &str,
) {
    use vmlu_ops::accuracy::Accuracy;
    let got = tensor.get(arena, index);
    // What is too large for the type is infinite.
    let largest = match tensor.dtype {
        DataType::F16 => 65520.0,
        DataType::F32 | DataType::Bf16 => f64::from(f32::MAX),
        _ => f64::INFINITY,
    };
    let smallest = match tensor.dtype {
        DataType::F16 => 2f64.powi(-24),
        DataType::F32 => 2f64.powi(-149),
        DataType::Bf16 => 2f64.powi(-133),
        _ => f64::from_bits(1),
    };
    let tolerance = match bound {
        // Exactly the value of the type.
        Accuracy::Exact => 0.5 * tensor.epsilon() * want.abs() * 1.000_001,
        Accuracy::Units(n) => n * (tensor.epsilon() * want.abs() + smallest) * 1.000_001,
        Accuracy::Cancelling(n) => {
            n * (tensor.epsilon()
                * want
                    .abs()
                    .max(if scale.is_finite() { scale } else { 0.0 })
                    .max(1.0))
        }
    };
    let overflow = want.abs() >= largest * (1.0 - tensor.epsilon()) && got.abs() >= largest * 0.98;
    let same = got == want || (got.is_nan() && want.is_nan());
    assert!(
        same || (got - want).abs() <= tolerance || (overflow && got.signum() == want.signum()),
        "{what} {:?}: got {got:e}, want {want:e} ± {tolerance:e} ({bound:?})",
        tensor.dtype
    );
}
