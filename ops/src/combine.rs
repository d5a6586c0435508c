//! What collectives reduce with: several vectors become one, which is written to several places.
//!
//! `out = f(… f(f(in 0, in 1), in 2) …)`, element by element, always in this order, so that the result does not depend on who computes it.
//! The inputs and outputs are contiguous, and usually lie on different chips: a chip reads its part of everybody's vector and writes
//! everybody's result. F16 and BF16 are computed in f32 and rounded once; integers wrap around. The average is the sum divided by the
//! number of inputs; of integers it truncates.

use alloc::vec::Vec;

use vmlu_abi::tensor::DataType;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{contiguous, Role, Tensor};

/// Most inputs, and most outputs.
pub const MAX_PARTS: usize = 16;

descriptor! {
    /// Body of `opcode::COMBINE`.
    pub struct Combine : 288 {
        /// Operands 0 to 15: addresses of the inputs; those behind `input_count` are zero.
        pub inputs: [u64; 16] = 0,
        /// Operands 16 to 31, written: addresses of the outputs; those behind `output_count` are zero. An output may be exactly an input.
        pub outputs: [u64; 16] = 128,
        /// Elements of each.
        pub count: u64 = 256,
        /// Element type of all: any but Bool.
        pub dtype: u32 = 264,
        /// A [`Function`].
        pub function: u32 = 268,
        /// Inputs, 1 to 16.
        pub input_count: u32 = 272,
        /// Outputs, 1 to 16.
        pub output_count: u32 = 276,
        /// Zero.
        pub reserved: u64 = 280,
    }
}

functions! {
    /// How two elements become one.
    pub enum Function {
        /// `a + b`.
        Sum = 0, "sum";
        /// `a · b`.
        Product = 1, "product";
        /// The larger one; NaN if either is.
        Max = 2, "max";
        /// The smaller one; NaN if either is.
        Min = 3, "min";
        /// The sum divided by the number of inputs.
        Average = 4, "average";
    }
}

/// A checked [`Combine`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// The inputs, operands 0 on.
    pub inputs: Vec<Tensor>,
    /// The outputs, operands [`MAX_PARTS`] on.
    pub outputs: Vec<Tensor>,
    /// Element type.
    pub dtype: DataType,
    /// Elements of each.
    pub count: u64,
    /// How two become one.
    pub function: Function,
}

impl crate::Descriptor for Combine {
    const INFO: Info = Info {
        opcode: opcode::COMBINE,
        name: "combine",
        formula: "each out = f of all in, element by element, in order",
        operands: &["in 0 … in 15", "out 0* … out 15*"],
        functions: Function::ROWS,
        types: "all but bool",
        backward: "the same collective",
        cost: "1 per element of the inputs",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error("combine", text));
        if self.reserved != 0 {
            return fail(format_args!(
                "a reserved field is {:#x}, must be 0",
                self.reserved
            ));
        }
        let Some(function) = Function::from_raw(self.function) else {
            return fail(format_args!("function {} is unknown", self.function));
        };
        let dtype = u16::try_from(self.dtype).ok().and_then(DataType::from_raw);
        let Some(dtype) = dtype.filter(|t| *t != DataType::Bool) else {
            return fail(format_args!(
                "element type {} is not one that it takes",
                self.dtype
            ));
        };
        let inputs = parts("in", 0, &self.inputs, self.input_count, dtype, self.count)?;
        let first = MAX_PARTS as u16;
        let outputs = parts(
            "out",
            first,
            &self.outputs,
            self.output_count,
            dtype,
            self.count,
        )?;
        for (i, out) in outputs.iter().enumerate() {
            let apart = |other: &Tensor| {
                other.start >= out.start.saturating_add(out.bytes)
                    || out.start >= other.start.saturating_add(other.bytes)
            };
            let site = Site::new("combine", first + i as u16, "out");
            if !outputs[..i].iter().all(apart) {
                return Err(site.error(" overlaps another output"));
            }
            if !inputs.iter().all(|t| t.start == out.start || apart(t)) {
                return Err(site.error(" overlaps an input and is not exactly it"));
            }
        }
        Ok(Checked {
            inputs,
            outputs,
            dtype,
            count: self.count,
            function,
        })
    }
}

fn parts(
    name: &'static str,
    first: u16,
    addresses: &[u64; MAX_PARTS],
    count: u32,
    dtype: DataType,
    elements: u64,
) -> Result<Vec<Tensor>, RuleError> {
    let count = count as usize;
    if !(1..=MAX_PARTS).contains(&count) {
        let text = format_args!("{count} operands {name}, 1 to {MAX_PARTS} are wanted");
        return Err(rule::error("combine", text));
    }
    if addresses[count..].iter().any(|a| *a != 0) {
        let text = format_args!("an address behind the {count} operands {name} is not zero");
        return Err(rule::error("combine", text));
    }
    let role = if first == 0 {
        Role::Input
    } else {
        Role::Output
    };
    addresses[..count]
        .iter()
        .enumerate()
        .map(|(i, address)| {
            let site = Site::new("combine", first + i as u16, name);
            Tensor::check(site, &contiguous(dtype, *address, &[elements]), role)
        })
        .collect()
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let bytes =
            |tensors: &[Tensor]| tensors.iter().map(|t| t.bytes).fold(0, u64::saturating_add);
        Cost {
            operations: self.count.saturating_mul(self.inputs.len() as u64),
            read: bytes(&self.inputs),
            written: bytes(&self.outputs),
            ..Cost::default()
        }
    }
}
