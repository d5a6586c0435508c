//! A random permutation of 0 … n - 1, the same on every host: `out[i] = π(i)`.
//!
//! π is a Feistel network on as many bits as n - 1 has, at least one, after Mitchell et al. (2022): `x = (l, r)`, r having the lower ⌈bits / 2⌉; for round k = 0 … 23,
//! for even k `l ^= F(r)`, for odd k `r ^= F(l)`, with the lower bits of `F(v) = mix(v ^ key[k])`; then, if bit 0 of `key[24]` is set, 0 and 1 change places, so that
//! odd permutations occur too. What is not below n goes through the network again, until it is. `mix(v)`: `v ^= v >> 32; v *= 0xd6e8feb86659fd93` twice, then
//! `v ^= v >> 32`, in 64 bits. `key[k]` are words 2k and 2k + 1 of the generator of `random`, the first the lower half: the command takes
//! [`BLOCKS`] blocks.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::random::Source;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

/// Rounds of the network.
pub const ROUNDS: usize = 24;
/// Blocks of the generator that a permutation takes.
pub const BLOCKS: u64 = (2 * (ROUNDS as u64 + 1)).div_ceil(4);

descriptor! {
    /// Body of `opcode::PERMUTATION`.
    pub struct Permutation : 352 {
        /// Operand 0, written: `[n]`, I32 or I64.
        pub out: TensorDesc = 0,
        /// Operand 1, read and written, may be absent: U64 `[2]`: seed and offset.
        pub state: TensorDesc = 160,
        /// Key; 0 with `state`.
        pub seed: u64 = 320,
        /// First block; 0 with `state`.
        pub offset: u64 = 328,
        /// Upper half of the counter.
        pub stream: u64 = 336,
        /// Zero.
        pub reserved: u64 = 344,
    }
}

/// A checked [`Permutation`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub out: Tensor,
    /// Where the keys come from.
    pub source: Source,
}

impl crate::Descriptor for Permutation {
    const INFO: Info = Info {
        opcode: opcode::PERMUTATION,
        name: "permutation",
        formula: "out = 0 … n - 1 in a random order",
        operands: &["out*", "state*?"],
        functions: &[],
        types: "i32, i64",
        backward: "none: random",
        cost: "200 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "permutation";
        let (so, ss) = (Site::new(NAME, 0, "out"), Site::new(NAME, 1, "state"));
        if self.reserved != 0 {
            let text = format_args!("a reserved field is {:#x}, must be 0", self.reserved);
            return Err(rule::error(NAME, text));
        }
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let source = Source::check(ss, &self.state, self.seed, self.offset, self.stream)?;
        out.expect_type(so, &INDICES)?;
        out.expect_rank(so, 1)?;
        if out.dtype == DataType::I32 && out.elements > 1 << 31 {
            return Err(so.error(format_args!(
                ".dims[0] is {}: I32 does not hold all of them",
                out.elements
            )));
        }
        if let Some(state) = &source.state {
            state.refuse_overlap(ss, &out, "out", false)?;
        }
        Ok(Checked { out, source })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let state = self.source.bytes();
        Cost {
            operations: self.out.elements.saturating_mul(200),
            read: state,
            written: self.out.footprint() + state,
            ..Cost::default()
        }
    }
}
