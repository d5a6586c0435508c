//! Numbers of types and reductions.

use vmlu::collective::Function;
use vmlu::DataType;

use crate::error::{Code, Result};

/// The element type that a `cnclDataType_t` is.
pub(crate) fn data_type(number: i32) -> Result<DataType> {
    Ok(match number {
        0x10 => DataType::F16,
        0x11 => DataType::Bf16,
        0x12 => DataType::F32,
        0x20 => DataType::I8,
        0x21 => DataType::I16,
        0x22 => DataType::I32,
        0x23 => DataType::I64,
        0x30 => DataType::U8,
        0x31 => DataType::U16,
        0x32 => DataType::U32,
        0x33 => DataType::U64,
        _ => return Err(Code::ARGUMENTS),
    })
}

/// The reduction that a `cnclReduceOp_t` is.
pub(crate) fn function(number: i32) -> Result<Function> {
    Ok(match number {
        0 => Function::Sum,
        1 => Function::Product,
        2 => Function::Max,
        3 => Function::Min,
        _ => return Err(Code::ARGUMENTS),
    })
}
