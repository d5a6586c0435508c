//! Floating types of computation, with the types in memory that are computed in them. Kernels that use this are compiled twice, not once for each
//! type in memory.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;

use super::math::Real;
use super::number::Storage;
use super::view::View;

/// f32, which also stands for the 16-bit types, or f64.
pub trait Float: Real {
    /// Loads a row of at most [`super::number::TILE`] elements of a type that is computed in this.
    fn load(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, to: &mut [Self]);
    /// Stores one.
    fn store(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, from: &[Self]);
    /// Rounds to a type and back.
    fn rounded(dtype: DataType, values: &mut [Self]);
}

impl Float for f32 {
    fn load(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, to: &mut [f32]) {
        match dtype {
            DataType::F16 => <f16 as Storage>::load(view, offset, stride, to),
            DataType::Bf16 => <bf16 as Storage>::load(view, offset, stride, to),
            DataType::F32 => view.load(offset, stride, to),
            other => unreachable!("{other:?} is not computed in f32"),
        }
    }

    fn store(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, from: &[f32]) {
        match dtype {
            DataType::F16 => <f16 as Storage>::store(view, offset, stride, from),
            DataType::Bf16 => <bf16 as Storage>::store(view, offset, stride, from),
            DataType::F32 => view.store(offset, stride, from),
            other => unreachable!("{other:?} is not computed in f32"),
        }
    }

    fn rounded(dtype: DataType, values: &mut [f32]) {
        match dtype {
            DataType::F16 => values
                .iter_mut()
                .for_each(|v| *v = f16::widen(f16::narrow(*v))),
            DataType::Bf16 => values
                .iter_mut()
                .for_each(|v| *v = bf16::widen(bf16::narrow(*v))),
            _ => {}
        }
    }
}

impl Float for f64 {
    fn load(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, to: &mut [f64]) {
        assert_eq!(dtype, DataType::F64);
        view.load(offset, stride, to);
    }

    fn store(dtype: DataType, view: &View<'_>, offset: isize, stride: isize, from: &[f64]) {
        assert_eq!(dtype, DataType::F64);
        view.store(offset, stride, from);
    }

    fn rounded(_: DataType, _: &mut [f64]) {}
}

/// Runs `$body` with `$t` as the [`Float`] that a type is computed in.
macro_rules! with_compute {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            vmlu_abi::tensor::DataType::F64 => {
                type $t = f64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(crate) use with_compute;
