//! The cases of the vectors: a model, its inputs, and the outputs that it must have.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use prost::Message;
use vmlu::{DataType, Queue};

use crate::card::{self, Card};
use crate::graph;
use crate::proto::{ModelProto, TensorProto};
use crate::{unsupported, wrong, Result, Stop};

/// Runs all data sets of the case in a folder.
///
/// # Errors
///
/// [`Stop::Unsupported`] if the model has what is not there, [`Stop::Wrong`] if an output differs from the vectors.
pub fn run(queue: &Queue, folder: &Path) -> Result<()> {
    let model = ModelProto::decode(&*read(&folder.join("model.onnx"))?).map_err(damaged)?;
    let opset = model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let Some(graph) = model.graph else {
        return wrong("the model has no graph");
    };
    let values = graph.input.iter().chain(&graph.output);
    for value in values {
        let kind = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let Some(kind) = kind else {
            return unsupported("values that are no tensors");
        };
        card::data_type(kind.elem_type)?;
    }
    let card = Card::new(queue, opset.map_or(1, |o| o.version));
    for set in 0.. {
        let data = folder.join(format!("test_data_set_{set}"));
        if !data.is_dir() {
            if set == 0 {
                return wrong("there are no data");
            }
            break;
        }
        let mut inputs = Vec::new();
        for (i, value) in graph.input.iter().enumerate() {
            let tensor = tensor(&data.join(format!("input_{i}.pb")))?;
            inputs.push((value.name.clone(), card.constant(&tensor)?));
        }
        let outputs = graph::run(&card, &graph, inputs)?;
        for (i, output) in outputs.iter().enumerate() {
            let expected = tensor(&data.join(format!("output_{i}.pb")))?;
            compare(&card, output, &expected)
                .map_err(|e| Stop::Wrong(format!("set {set}, output {i}: {e}")))?;
        }
    }
    queue.sync()?;
    Ok(())
}

/// Names of all cases of the vectors, sorted.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn names(vectors: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(vectors)? {
        let entry = entry?;
        if entry.path().join("model.onnx").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Stop::Wrong(format!("{}: {e}", path.display())))
}

fn damaged(error: prost::DecodeError) -> Stop {
    Stop::Wrong(format!("damaged: {error}"))
}

fn tensor(path: &PathBuf) -> Result<TensorProto> {
    TensorProto::decode(&*read(path)?).map_err(damaged)
}

/// Differences that are allowed, as `numpy.testing.assert_allclose` has them: of the value, and absolute. ONNX's own runner takes the same for f32;
/// 16-bit floats have the card's bound.
fn tolerance(dtype: DataType) -> (f64, f64) {
    match dtype {
        DataType::F16 => (3e-3, 1e-3),
        DataType::Bf16 => (3e-3, 3e-3),
        DataType::F32 | DataType::F64 => (1e-3, 1e-7),
        _ => (0.0, 0.0),
    }
}

fn compare(card: &Card<'_>, output: &vmlu::Tensor, expected: &TensorProto) -> Result<()> {
    let dtype = card::data_type(expected.data_type)?;
    let dims: Vec<u64> = expected.dims.iter().map(|d| *d as u64).collect();
    if (output.dtype(), output.dims()) != (dtype, &dims[..]) {
        return wrong(format!(
            "{:?} {:?}, must be {dtype:?} {dims:?}",
            output.dtype(),
            output.dims()
        ));
    }
    let (found, mut want) = (card.read(output)?, card::bytes_of(expected)?);
    if card::packed(expected.data_type).is_some() {
        want = apart(&want, output.elements() as usize, dtype == DataType::I8);
    }
    let (found, want) = (numbers(dtype, &found), numbers(dtype, &want));
    let (relative, absolute) = tolerance(dtype);
    for (i, (f, w)) in found.iter().zip(&want).enumerate() {
        // Infinities are equal or far apart; a NaN is close to nothing.
        let same = f == w || (f.is_nan() && w.is_nan());
        let close = (f - w).abs() <= absolute + relative * w.abs();
        if !same && !close {
            return wrong(format!("element {i} is {f}, must be {w}"));
        }
    }
    Ok(())
}

/// Octets of two four-bit integers each, as octets of one.
fn apart(packed: &[u8], count: usize, signed: bool) -> Vec<u8> {
    let each = packed.iter().flat_map(|octet| [octet & 15, octet >> 4]);
    let wide = each.map(|v| if signed && v > 7 { v | 0xf0 } else { v });
    wide.take(count).collect()
}

/// Elements as f64; of 64-bit integers that it does not have exactly, the nearest.
pub(crate) fn numbers(dtype: DataType, bytes: &[u8]) -> Vec<f64> {
    macro_rules! each {
        ($t:ty) => {
            each!($t, |v| v as f64)
        };
        ($t:ty, $f:expr) => {
            bytes
                .chunks_exact(size_of::<$t>())
                .map(|c| <$t>::from_le_bytes(c.try_into().expect("a whole chunk")))
                .map($f)
                .collect()
        };
    }
    match dtype {
        DataType::F32 => each!(f32),
        DataType::F64 => each!(f64),
        DataType::F16 => each!(u16, |v| f16::from_bits(v).to_f64()),
        DataType::Bf16 => each!(u16, |v| bf16::from_bits(v).to_f64()),
        DataType::I8 => each!(i8),
        DataType::I16 => each!(i16),
        DataType::I32 => each!(i32),
        DataType::I64 => each!(i64),
        DataType::U8 | DataType::Bool => each!(u8),
        DataType::U16 => each!(u16),
        DataType::U32 => each!(u32),
        DataType::U64 => each!(u64),
    }
}
