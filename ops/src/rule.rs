//! Broken rules.

use alloc::format;
use alloc::string::String;
use core::fmt;

use vmlu_abi::status::NO_OPERAND;
use vmlu_abi::tensor::DataType;

use crate::tensor::is_float;

/// A descriptor breaks a rule of its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Operand at fault in the order of the descriptor's tensors, or `status::NO_OPERAND`.
    pub operand: u16,
    /// Operator, operand, rule and values, as one sentence.
    pub rule: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)
    }
}

impl core::error::Error for RuleError {}

/// An operand of an operator, for the texts of broken rules.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The operator's name.
    pub operator: &'static str,
    /// Index of the operand.
    pub operand: u16,
    /// Name of the operand.
    pub name: &'static str,
}

impl Site {
    /// Names an operand.
    pub const fn new(operator: &'static str, operand: u16, name: &'static str) -> Self {
        Self {
            operator,
            operand,
            name,
        }
    }

    /// An error of this operand. `rule` goes on after "OPERATOR: OPERAND".
    pub fn error(&self, rule: impl fmt::Display) -> RuleError {
        RuleError {
            operand: self.operand,
            rule: format!("{}: {}{rule}", self.operator, self.name),
        }
    }
}

/// An error that no operand in particular has.
pub fn error(operator: &str, rule: impl fmt::Display) -> RuleError {
    RuleError {
        operand: NO_OPERAND,
        rule: format!("{operator}: {rule}"),
    }
}

/// Refuses reserved fields that are not zero.
pub(crate) fn reserved(operator: &str, values: &[u32]) -> Result<(), RuleError> {
    match values.iter().find(|&&v| v != 0) {
        None => Ok(()),
        Some(v) => Err(error(
            operator,
            format_args!("a reserved field is {v:#x}, must be 0"),
        )),
    }
}

/// The scalar parameters of a function of a family: those that it has not must be 0, and those of integers whole numbers of 53 bits.
pub(crate) fn parameters<const N: usize>(
    operator: &str,
    function: &str,
    count: usize,
    values: [f64; N],
    dtype: DataType,
) -> Result<(), RuleError> {
    for (i, &v) in values.iter().enumerate() {
        let name = ["alpha", "beta", "gamma"][i];
        // Written so that NaN and -0 fail too.
        if i >= count && v.to_bits() != 0 {
            let text = format_args!("{name} is {v}, but {function} has no such parameter");
            return Err(error(operator, text));
        }
        let whole = v.abs() <= (1u64 << 53) as f64 && (v as i64) as f64 == v;
        if i < count && !is_float(dtype) && !whole {
            let text = format_args!("{name} is {v}, but {dtype:?} needs a whole number");
            return Err(error(operator, text));
        }
    }
    Ok(())
}
