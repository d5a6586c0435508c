//! What the optimisers share: the parameters of a model, up to 64 of them in one command, each with its gradient and the optimiser's states.

use alloc::vec::Vec;
use core::mem::offset_of;

use vmlu_abi::tensor::DataType;

use crate::rule::{self, RuleError, Site};
use crate::tensor::{contiguous, Role, Tensor};

/// Most parameters of one command.
pub const MAX_PARTS: usize = 64;
/// Most states of a parameter.
pub const MAX_STATES: usize = 3;
/// Vectors of a parameter: operand `VECTORS · i + k` is vector k of parameter i.
pub const VECTORS: usize = 6;
/// The operand that gradients are divided by.
pub const SCALE: u16 = (MAX_PARTS * VECTORS) as u16;
/// The operand that tells whether to do nothing.
pub const SKIP: u16 = SCALE + 1;

/// Walk up the gradients.
pub const FLAG_MAXIMIZE: u32 = 1 << 0;

descriptor! {
    /// A parameter: addresses of vectors of `count` elements. Those that are not used are 0.
    pub struct Part : 56 {
        /// The weights, read and written.
        pub weight: u64 = 0,
        /// Their gradients.
        pub gradient: u64 = 8,
        /// The optimiser's states, read and written.
        pub states: [u64; 3] = 16,
        /// Where the new weights are written too, in another type.
        pub copy: u64 = 40,
        /// Elements of each.
        pub count: u64 = 48,
    }
}

/// Where addresses stand in a [`Part`].
pub const ADDRESSES: [usize; VECTORS] = {
    let states = offset_of!(Part, states);
    [
        offset_of!(Part, weight),
        offset_of!(Part, gradient),
        states,
        states + 8,
        states + 16,
        offset_of!(Part, copy),
    ]
};

/// The fields of a descriptor that all optimisers have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'d> {
    pub(crate) parts: &'d [Part; MAX_PARTS],
    pub(crate) count: u32,
    pub(crate) dtype: u32,
    pub(crate) gradient_type: u32,
    pub(crate) copy_type: u32,
    pub(crate) scale_address: u64,
    pub(crate) skip_address: u64,
    pub(crate) flags: u32,
    /// Flags that the optimiser knows.
    pub(crate) known: u32,
    /// Names of the states that it has.
    pub(crate) states: &'static [&'static str],
}

/// Checked parameters.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Each of them.
    pub each: Vec<Parameter>,
    /// Type of weights and states.
    pub dtype: DataType,
    /// Type of gradients.
    pub gradient_type: DataType,
    /// F32 scalar that gradients are divided by.
    pub scale: Option<Tensor>,
    /// F32 scalar: if it is not 0 the command does nothing.
    pub skip: Option<Tensor>,
    /// `FLAG_*`.
    pub flags: u32,
    states: usize,
}

/// A checked parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Weights.
    pub weight: Tensor,
    /// Their gradients.
    pub gradient: Tensor,
    /// States, as many as the optimiser has.
    pub states: [Option<Tensor>; MAX_STATES],
    /// Where the new weights go too.
    pub copy: Option<Tensor>,
}

/// A type by its number.
fn named(operator: &str, field: &str, raw: u32) -> Result<DataType, RuleError> {
    let dtype = u16::try_from(raw).ok().and_then(DataType::from_raw);
    let float = dtype.filter(|t| crate::tensor::is_float(*t));
    float.ok_or_else(|| {
        rule::error(
            operator,
            format_args!("{field} is {raw}, no type of floats"),
        )
    })
}

impl Fields<'_> {
    /// Checks them.
    pub(crate) fn check(&self, name: &'static str) -> Result<Parameters, RuleError> {
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
        if self.flags & !self.known != 0 {
            return fail(format_args!("flags {:#x} are unknown", self.flags));
        }
        let dtype = named(name, "dtype", self.dtype)?;
        let gradient_type = named(name, "gradient_type", self.gradient_type)?;
        if (dtype == DataType::F64) != (gradient_type == DataType::F64) {
            return fail(format_args!(
                "gradient_type is {gradient_type:?}, which does not go with {dtype:?}"
            ));
        }
        let copy_type = match self.copy_type {
            0 => None,
            raw => Some(named(name, "copy_type", raw)?),
        };
        if let Some(t) = copy_type.filter(|t| (*t == DataType::F64) != (dtype == DataType::F64)) {
            return fail(format_args!(
                "copy_type is {t:?}, which does not go with {dtype:?}"
            ));
        }
        let count = self.count as usize;
        if !(1..=MAX_PARTS).contains(&count) {
            return fail(format_args!("count is {count}, must be 1 to {MAX_PARTS}"));
        }
        let (used, rest) = self.parts.split_at(count);
        if rest.iter().any(|p| *p != vmlu_abi::Wire::zeroed()) {
            return fail(format_args!(
                "a parameter behind the {count} in use is not zero"
            ));
        }
        let mut each = Vec::with_capacity(count);
        for (i, part) in used.iter().enumerate() {
            each.push(self.part(name, i, part, dtype, gradient_type, copy_type)?);
        }
        let scalar = |operand, address: u64, text| match address {
            0 => Ok(None),
            _ => {
                let site = Site::new(name, operand, text);
                Tensor::check(site, &contiguous(DataType::F32, address, &[]), Role::Input).map(Some)
            }
        };
        let parameters = Parameters {
            each,
            dtype,
            gradient_type,
            scale: scalar(SCALE, self.scale_address, "scale")?,
            skip: scalar(SKIP, self.skip_address, "skip")?,
            flags: self.flags,
            states: self.states.len(),
        };
        parameters.refuse_overlaps(name)?;
        Ok(parameters)
    }

    fn part(
        &self,
        name: &'static str,
        index: usize,
        part: &Part,
        dtype: DataType,
        gradient_type: DataType,
        copy_type: Option<DataType>,
    ) -> Result<Parameter, RuleError> {
        let vector = |k: usize, text, wanted: bool, dtype, address: u64, role| {
            let site = Site::new(name, (VECTORS * index + k) as u16, text);
            if (address != 0) != wanted {
                let is = if wanted {
                    "is 0"
                } else {
                    "is not used, but not 0"
                };
                return Err(site.error(format_args!("[{index}] {is}")));
            }
            if !wanted {
                return Ok(None);
            }
            Tensor::check(site, &contiguous(dtype, address, &[part.count]), role).map(Some)
        };
        let weight = vector(0, "weight", true, dtype, part.weight, Role::Output)?;
        let gradient = vector(
            1,
            "gradient",
            true,
            gradient_type,
            part.gradient,
            Role::Input,
        )?;
        let mut states = [None; MAX_STATES];
        for (k, state) in states.iter_mut().enumerate() {
            let text = self.states.get(k).copied();
            let address = part.states[k];
            let site = text.unwrap_or("state");
            *state = vector(2 + k, site, text.is_some(), dtype, address, Role::Output)?;
        }
        let copy = vector(
            5,
            "copy",
            copy_type.is_some(),
            copy_type.unwrap_or(dtype),
            part.copy,
            Role::Output,
        )?;
        let (Some(weight), Some(gradient)) = (weight, gradient) else {
            return Err(rule::error(name, "weight or gradient is absent"));
        };
        Ok(Parameter {
            weight,
            gradient,
            states,
            copy,
        })
    }
}

impl Parameters {
    /// All vectors with their operands' numbers, and whether they are written.
    pub fn vectors(&self) -> impl Iterator<Item = (u16, &Tensor, bool)> {
        let of = |(i, p)| {
            let p: &Parameter = p;
            let [a, b, c] = &p.states;
            let all = [
                Some((&p.weight, true)),
                Some((&p.gradient, false)),
                a.as_ref().map(|t| (t, true)),
                b.as_ref().map(|t| (t, true)),
                c.as_ref().map(|t| (t, true)),
                p.copy.as_ref().map(|t| (t, true)),
            ];
            let numbered = all.into_iter().enumerate();
            numbered.filter_map(move |(k, v)| v.map(|(t, w)| ((VECTORS * i + k) as u16, t, w)))
        };
        let scalars = [(SCALE, &self.scale), (SKIP, &self.skip)];
        let scalars = scalars.into_iter();
        let scalars = scalars.filter_map(|(k, t)| t.as_ref().map(|t| (k, t, false)));
        self.each.iter().enumerate().flat_map(of).chain(scalars)
    }

    /// What is written must not overlap anything else.
    fn refuse_overlaps(&self, name: &'static str) -> Result<(), RuleError> {
        let mut all: Vec<(u64, u64, u16, bool)> = self
            .vectors()
            .filter(|(_, t, _)| t.bytes > 0)
            .map(|(k, t, written)| (t.start, t.start + t.bytes, k, written))
            .collect();
        all.sort_unstable();
        // The furthest ends of what begins before, of all and of what is written.
        let (mut any, mut written) = ((0, 0), (0, 0));
        for (start, end, k, writes) in all {
            let (until, other) = if writes { any } else { written };
            if start < until {
                return Err(RuleError {
                    operand: k,
                    rule: alloc::format!(
                        "{name}: operand {k} overlaps operand {other}, but must not"
                    ),
                });
            }
            any = any.max((end, k));
            if writes {
                written = written.max((end, k));
            }
        }
        Ok(())
    }

    /// Elements of all weights.
    pub fn elements(&self) -> u64 {
        let counts = self.each.iter().map(|p| p.weight.elements);
        counts.fold(0, u64::saturating_add)
    }

    /// What the clock is charged, for some operations an element.
    pub(crate) fn cost(&self, each: u64) -> crate::Cost {
        let (mut read, mut written) = (0u64, 0u64);
        for (k, t, writes) in self.vectors() {
            let copy = usize::from(k) % VECTORS == VECTORS - 1;
            if !writes || !copy {
                read = read.saturating_add(t.bytes);
            }
            if writes {
                written = written.saturating_add(t.bytes);
            }
        }
        crate::Cost {
            operations: self.elements().saturating_mul(each),
            read,
            written,
            ..crate::Cost::default()
        }
    }

    /// States of each parameter.
    pub fn states(&self) -> usize {
        self.states
    }
}

/// Finite numbers only: the scalars of an optimiser.
pub(crate) fn finite(name: &str, values: &[(&str, f64)]) -> Result<(), RuleError> {
    match values.iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some((field, v)) => Err(rule::error(
            name,
            format_args!("{field} is {v}, must be finite"),
        )),
    }
}

/// Numbers from 0 up to 1, 1 excluded.
pub(crate) fn fractions(name: &str, values: &[(&str, f64)]) -> Result<(), RuleError> {
    match values.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
        None => Ok(()),
        Some((field, v)) => {
            let text = format_args!("{field} is {v}, must be at least 0 and below 1");
            Err(rule::error(name, text))
        }
    }
}

/// A step's number, from 1 on.
pub(crate) fn step(name: &str, step: u64) -> Result<(), RuleError> {
    match step {
        0 => Err(rule::error(name, "step is 0: the first is 1")),
        _ => Ok(()),
    }
}
