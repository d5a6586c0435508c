//! Parts joined along an axis, or an array cut into parts: `concat` writes the whole from the parts, `split` the parts from the whole. Bits are moved.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

/// Most parts of one command.
pub const MAX_PARTS: usize = 16;

descriptor! {
    /// Body of `opcode::CONCAT`.
    pub struct Concat : 2736 {
        /// Operand 0, written by `concat`: any type.
        pub whole: TensorDesc = 0,
        /// Operands 1 to 16, written by `split`: of the whole's type, and shape but for the axis; their extents along it add up to the whole's.
        pub parts: [TensorDesc; 16] = 160,
        /// Parts in use; the rest are absent.
        pub count: u32 = 2720,
        /// The axis.
        pub axis: u32 = 2724,
        /// A [`Function`].
        pub function: u32 = 2728,
        /// Zero.
        pub reserved: u32 = 2732,
    }
}

functions! {
    /// Which way.
    pub enum Function {
        /// The whole from the parts.
        Concat = 0, "concat";
        /// The parts from the whole.
        Split = 1, "split";
    }
}

/// A checked [`Concat`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Each part, and where it lies in the whole.
    pub parts: [Option<(Tensor, Tensor)>; MAX_PARTS],
    /// Which way.
    pub function: Function,
    whole: Tensor,
}

impl crate::Descriptor for Concat {
    const INFO: Info = Info {
        opcode: opcode::CONCAT,
        name: "concat",
        formula: "whole = parts side by side, or the other way",
        operands: &[
            "whole*", "part*", "part*?", "part*?", "part*?", "part*?", "part*?", "part*?",
            "part*?", "part*?", "part*?", "part*?", "part*?", "part*?", "part*?", "part*?",
            "part*?",
        ],
        functions: Function::ROWS,
        types: "all",
        backward: "concat, the other way",
        cost: "none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "concat";
        let sw = Site::new(NAME, 0, "whole");
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let (from, to) = match function {
            Function::Concat => (Role::Input, Role::Output),
            Function::Split => (Role::Output, Role::Input),
        };
        let whole = Tensor::check(sw, &self.whole, to)?;
        let (axis, count) = (self.axis as usize, self.count as usize);
        if axis >= whole.rank() {
            return Err(sw.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                whole.rank()
            )));
        }
        if count == 0 || count > MAX_PARTS {
            return Err(rule::error(
                NAME,
                format_args!("count is {count}, must be 1 to {MAX_PARTS}"),
            ));
        }
        let mut parts = [None; MAX_PARTS];
        let mut at = 0u64;
        for (i, desc) in self.parts.iter().enumerate() {
            let s = Site::new(NAME, 1 + i as u16, "part");
            let part = Tensor::check_optional(s, desc, from)?;
            let Some(part) = part else {
                if i < count {
                    return Err(s.error(format_args!(" is absent, but count is {count}")));
                }
                continue;
            };
            if i >= count {
                return Err(s.error(format_args!(" is given, but count is {count}")));
            }
            part.expect_same_type(s, &whole, "whole")?;
            part.expect_rank(s, whole.rank())?;
            let length = part.dims()[axis];
            let mut dims = [0; vmlu_abi::tensor::MAX_DIMS];
            dims[..whole.rank()].copy_from_slice(whole.dims());
            dims[axis] = length;
            part.expect_dims(s, &dims[..whole.rank()], "the whole demands")?;
            let Some(place) = whole.narrow(axis, at, length) else {
                return Err(s.error(format_args!(
                    ".dims[{axis}] is {length}, the whole has only {} left",
                    whole.dims()[axis] - at
                )));
            };
            at += length;
            match function {
                Function::Concat => whole.refuse_overlap(sw, &part, "a part", false)?,
                Function::Split => part.refuse_overlap(s, &whole, "whole", false)?,
            }
            if function == Function::Split {
                for (other, _) in parts.iter().flatten() {
                    part.refuse_overlap(s, other, "another part", false)?;
                }
            }
            parts[i] = Some((part, place));
        }
        if at != whole.dims()[axis] {
            return Err(sw.error(format_args!(
                ".dims[{axis}] is {}, but the parts have {at}",
                whole.dims()[axis]
            )));
        }
        Ok(Checked {
            parts,
            function,
            whole,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let parts = self
            .parts
            .iter()
            .flatten()
            .fold(0, |s: u64, (p, _)| s.saturating_add(p.footprint()));
        let (read, written) = match self.function {
            Function::Concat => (parts, self.whole.footprint()),
            Function::Split => (self.whole.footprint(), parts),
        };
        Cost {
            read,
            written,
            ..Cost::default()
        }
    }
}
