//! Connectionist temporal classification (Graves et al., 2006): `lossₙ = -log Σ` of the probabilities of all paths that spell the target.
//!
//! `x` is `[T, N, C]`, logarithms of probabilities. Targets are `[N, S]`, of which `target_lengths[n]` count, or `[…]`, one behind the other; `input_lengths[n]` steps of `x` count. The
//! lattice of example n has `2 · target_lengths[n] + 1` states: blanks with the target between them; `alpha[n, t, s]` is the logarithm of the probability of all
//! beginnings of paths that are in state s at step t, of what counts; the rest is not written. All is computed in f64. Lengths and targets out of range are faults, found before
//! anything is written. Without a path the loss is infinite, or with [`FLAG_ZERO_INFINITY`] 0. The mean is that over the examples of the loss over the target's length, at least 1.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::loss::Reduction;
use crate::nll;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

/// Infinite losses count as 0, and have no gradient.
pub const FLAG_ZERO_INFINITY: u32 = 1 << 0;
/// Most examples: the card keeps a copy of their lengths.
pub const MAX_BATCH: u64 = 1 << 20;
/// Longest target.
pub const MAX_TARGET: u64 = 1 << 20;
/// Most classes.
pub const MAX_CLASSES: u64 = 1 << 22;

descriptor! {
    /// Body of `opcode::CTC`.
    pub struct Ctc : 976 {
        /// Operand 0: `[T, N, C]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[N, S]`, or of one dimension; I32 or I64.
        pub targets: TensorDesc = 160,
        /// Operand 2: `[N]`, I32 or I64: at most T.
        pub input_lengths: TensorDesc = 320,
        /// Operand 3: `[N]`, I32 or I64: at most S, or in sum the targets that there are.
        pub target_lengths: TensorDesc = 480,
        /// Operand 4, written: of `x`'s type; `[N]` without a reduction, else without dimensions.
        pub loss: TensorDesc = 640,
        /// Operand 5, written: F64 `[N, T, L]`, L at least `2 · S + 1`, or 2 · the targets that there are + 1: what the gradient needs.
        pub alpha: TensorDesc = 800,
        /// The class that spells nothing.
        pub blank: u32 = 960,
        /// `FLAG_*`.
        pub flags: u32 = 964,
        /// A `loss::Reduction`, not `batch_mean`.
        pub reduction: u32 = 968,
        /// Zero.
        pub reserved: u32 = 972,
    }
}

/// The operands that the loss and its gradient share.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub targets: Tensor,
    /// Operand 2.
    pub input_lengths: Tensor,
    /// Operand 3.
    pub target_lengths: Tensor,
    /// Operand 5.
    pub alpha: Tensor,
    /// The class that spells nothing.
    pub blank: usize,
    /// Whether infinite losses count as 0.
    pub zero_infinity: bool,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

/// What is checked of a [`Problem`].
pub(crate) struct Fields<'d> {
    pub(crate) tensors: [&'d TensorDesc; 4],
    pub(crate) alpha: (&'d TensorDesc, Role),
    pub(crate) blank: u32,
    pub(crate) flags: u32,
    pub(crate) reduction: u32,
}

impl Problem {
    /// Checks it.
    pub(crate) fn check(name: &'static str, fields: &Fields<'_>) -> Result<Self, RuleError> {
        let [sx, st, si, sl, sa] = [
            (0, "x"),
            (1, "targets"),
            (2, "input_lengths"),
            (3, "target_lengths"),
            (5, "alpha"),
        ]
        .map(|(i, text)| Site::new(name, i, text));
        if fields.flags & !FLAG_ZERO_INFINITY != 0 {
            let text = format_args!("flags {:#x} are unknown", fields.flags);
            return Err(rule::error(name, text));
        }
        let reduction = nll::mean_or_sum(name, fields.reduction)?;
        let [x, targets, inputs, lengths] = fields.tensors;
        let x = Tensor::check(sx, x, Role::Input)?;
        let targets = Tensor::check(st, targets, Role::Input)?;
        let input_lengths = Tensor::check(si, inputs, Role::Input)?;
        let target_lengths = Tensor::check(sl, lengths, Role::Input)?;
        let alpha = Tensor::check(sa, fields.alpha.0, fields.alpha.1)?;
        x.expect_type(sx, &FLOATS)?;
        x.expect_rank(sx, 3)?;
        let [steps, batch, classes] = [0, 1, 2].map(|i| x.dims()[i]);
        for (i, v, most) in [(1, batch, MAX_BATCH), (2, classes, MAX_CLASSES)] {
            if v > most {
                return Err(sx.error(format_args!(".dims[{i}] is {v}, at most {most}")));
            }
        }
        if u64::from(fields.blank) >= classes {
            let text = format_args!("blank is {}, there are {classes} classes", fields.blank);
            return Err(rule::error(name, text));
        }
        targets.expect_type(st, &INDICES)?;
        let longest = match targets.rank() {
            1 => targets.dims()[0],
            _ => {
                targets.expect_rank(st, 2)?;
                targets.expect_dims(st, &[batch, targets.dims()[1]], "x says")?;
                targets.dims()[1]
            }
        };
        // One behind the other there may be more, of which no example has more.
        if longest > MAX_TARGET * if targets.rank() == 1 { batch.max(1) } else { 1 } {
            let text = format_args!(" has examples of {longest}, at most {MAX_TARGET}");
            return Err(st.error(text));
        }
        for (site, t) in [(si, &input_lengths), (sl, &target_lengths)] {
            t.expect_type(site, &INDICES)?;
            t.expect_dims(site, &[batch], "x says")?;
        }
        alpha.expect_type(sa, &[DataType::F64])?;
        alpha.expect_rank(sa, 3)?;
        let states = alpha.dims()[2];
        alpha.expect_dims(sa, &[batch, steps, states], "x says")?;
        if targets.rank() == 2 && states < 2 * longest + 1 {
            return Err(sa.error(format_args!(
                ".dims[2] is {states}, at least {} are needed",
                2 * longest + 1
            )));
        }
        Ok(Self {
            x,
            targets,
            input_lengths,
            target_lengths,
            alpha,
            blank: fields.blank as usize,
            zero_infinity: fields.flags & FLAG_ZERO_INFINITY != 0,
            reduction,
        })
    }

    /// The inputs with their names.
    pub(crate) fn inputs(&self) -> [(&'static str, &Tensor); 4] {
        [
            ("x", &self.x),
            ("targets", &self.targets),
            ("input_lengths", &self.input_lengths),
            ("target_lengths", &self.target_lengths),
        ]
    }

    /// Bytes of the inputs.
    pub(crate) fn footprint(&self) -> u64 {
        let all = self.inputs().map(|(_, t)| t.footprint());
        all.into_iter().fold(0, u64::saturating_add)
    }
}

/// A checked [`Ctc`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The inputs and operand 5.
    pub of: Problem,
    /// Operand 4.
    pub loss: Tensor,
}

impl crate::Descriptor for Ctc {
    const INFO: Info = Info {
        opcode: opcode::CTC,
        name: "ctc",
        formula: "lossₙ = -log Σ of the probabilities of all paths that spell targetₙ",
        operands: &[
            "x",
            "targets",
            "input_lengths",
            "target_lengths",
            "loss*",
            "alpha*",
        ],
        functions: &[],
        types: "f32, f16, bf16, f64; targets and lengths i32, i64",
        backward: "ctc_backward",
        cost: "40 per state and step",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "ctc";
        rule::reserved(NAME, &[self.reserved])?;
        let of = Problem::check(
            NAME,
            &Fields {
                tensors: [
                    &self.x,
                    &self.targets,
                    &self.input_lengths,
                    &self.target_lengths,
                ],
                alpha: (&self.alpha, Role::Output),
                blank: self.blank,
                flags: self.flags,
                reduction: self.reduction,
            },
        )?;
        let (so, sa) = (Site::new(NAME, 4, "loss"), Site::new(NAME, 5, "alpha"));
        let loss = Tensor::check(so, &self.loss, Role::Output)?;
        loss.expect_same_type(so, &of.x, "x")?;
        expect_losses(so, &loss, &of)?;
        for (name, t) in of.inputs() {
            loss.refuse_overlap(so, t, name, false)?;
            of.alpha.refuse_overlap(sa, t, name, false)?;
        }
        of.alpha.refuse_overlap(sa, &loss, "loss", false)?;
        Ok(Checked { of, loss })
    }
}

/// A loss for each example, or one.
pub(crate) fn expect_losses(site: Site, loss: &Tensor, of: &Problem) -> Result<(), RuleError> {
    match of.reduction {
        Reduction::None => loss.expect_dims(site, &of.x.dims()[1..2], "x says"),
        _ => loss.expect_rank(site, 0),
    }
}

/// Distance of the losses of examples.
pub(crate) fn loss_stride(loss: &Tensor) -> i64 {
    let mut strides = [0; MAX_DIMS];
    strides[..loss.rank()].copy_from_slice(loss.strides());
    strides[0]
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.of.alpha.elements.saturating_mul(40),
            read: self.of.footprint(),
            written: self
                .loss
                .footprint()
                .saturating_add(self.of.alpha.footprint()),
            ..Cost::default()
        }
    }

    /// Distance of the losses of examples; 0 if there is one loss.
    pub fn loss_stride(&self) -> i64 {
        loss_stride(&self.loss)
    }
}
