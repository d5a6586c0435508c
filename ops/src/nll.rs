//! Negative log-likelihood: `lossᵢ = -weight[targetᵢ] · x[i, targetᵢ]`, and its mean or sum; the gradient too.
//!
//! `x` is `[N, C, …]`, logarithms of probabilities, the target `[N, …]`. A target outside 0 … C - 1 is a fault, found before anything is written; with [`FLAG_IGNORE`], what
//! has `ignore_target` has loss 0 and no weight. The mean is the sum over `total`, the sum of the weights, which forward writes and backward reads. Sums are f64. Backward writes
//! all of `x`'s gradient, operand 0: `-weight[targetᵢ] · upstreamᵢ` at the targets, over `total` for a mean, and 0 elsewhere.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::cross_entropy::check_ignore;
pub use crate::cross_entropy::FLAG_IGNORE;
use crate::loss::Reduction;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

descriptor! {
    /// Body of `opcode::NLL`.
    pub struct Nll : 824 {
        /// Operand 0: `[N, C, …]`, floats: read by `forward`, written, as the gradient, by `backward`.
        pub x: TensorDesc = 0,
        /// Operand 1: `[N, …]`, I32 or I64.
        pub target: TensorDesc = 160,
        /// Operand 2, may be absent: `[C]`, of `x`'s type.
        pub weight: TensorDesc = 320,
        /// Operand 3, written by `forward`: of `x`'s type, of the target's shape without a reduction, else without dimensions. Read by `backward`: the gradient of that.
        pub loss: TensorDesc = 480,
        /// Operand 4, without dimensions, of `x`'s type: the sum of the weights. `forward`, written, may be absent; `backward`, read, only for a mean.
        pub total: TensorDesc = 640,
        /// Target of what does not count; 0 without [`FLAG_IGNORE`].
        pub ignore_target: i64 = 800,
        /// `FLAG_*`.
        pub flags: u32 = 808,
        /// A `loss::Reduction`, not `batch_mean`.
        pub reduction: u32 = 812,
        /// A [`Function`].
        pub function: u32 = 816,
        /// Zero.
        pub reserved: u32 = 820,
    }
}

functions! {
    /// Which way.
    pub enum Function {
        /// The loss.
        Forward = 0, "forward";
        /// The gradient.
        Backward = 1, "backward";
    }
}

/// A checked [`Nll`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub target: Tensor,
    /// Operand 2.
    pub weight: Option<Tensor>,
    /// Operand 3, and its strides over the target.
    pub loss: (Tensor, [i64; MAX_DIMS]),
    /// Operand 4.
    pub total: Option<Tensor>,
    /// Target of what does not count.
    pub ignore: Option<i64>,
    /// What becomes of the losses.
    pub reduction: Reduction,
    /// Which way.
    pub function: Function,
}

impl crate::Descriptor for Nll {
    const INFO: Info = Info {
        opcode: opcode::NLL,
        name: "nll",
        formula: "lossᵢ = -weight[targetᵢ] · x[i, targetᵢ]",
        operands: &["x*", "target", "weight?", "loss*", "total*?"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; targets i32, i64",
        backward: "itself: backward",
        cost: "4 per target",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "nll";
        let [sx, st, sw, sl, so] = [
            (0, "x"),
            (1, "target"),
            (2, "weight"),
            (3, "loss"),
            (4, "total"),
        ]
        .map(|(i, name)| Site::new(NAME, i, name));
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let reduction = mean_or_sum(NAME, self.reduction)?;
        let ignore = check_ignore(NAME, "ignore_target", self.flags, self.ignore_target)?;
        let (reads, writes) = match function {
            Function::Forward => (Role::Input, Role::Output),
            Function::Backward => (Role::Output, Role::Input),
        };
        let x = Tensor::check(sx, &self.x, reads)?;
        let target = Tensor::check(st, &self.target, Role::Input)?;
        let weight = Tensor::check_optional(sw, &self.weight, Role::Input)?;
        let loss = Tensor::check(sl, &self.loss, writes)?;
        let total = Tensor::check_optional(so, &self.total, writes)?;
        x.expect_type(sx, &FLOATS)?;
        target.expect_type(st, &INDICES)?;
        expect_rows(st, &target, sx, &x)?;
        check_weight(sw, weight.as_ref(), &x)?;
        loss.expect_same_type(sl, &x, "x")?;
        match reduction {
            Reduction::None => loss.expect_dims(sl, target.dims(), "target is")?,
            _ => loss.expect_rank(sl, 0)?,
        }
        let strides = loss.broadcast(sl, target.dims())?;
        check_total(
            so,
            total.as_ref(),
            &x,
            reduction,
            function == Function::Backward,
        )?;
        let inputs = [
            Some(("target", &target)),
            weight.as_ref().map(|w| ("weight", w)),
        ];
        for (name, t) in inputs.into_iter().flatten() {
            match function {
                Function::Forward => {
                    loss.refuse_overlap(sl, t, name, false)?;
                    if let Some(total) = &total {
                        total.refuse_overlap(so, t, name, false)?;
                    }
                }
                Function::Backward => x.refuse_overlap(sx, t, name, false)?,
            }
        }
        loss.refuse_overlap(sl, &x, "x", false)?;
        if let Some(total) = &total {
            total.refuse_overlap(so, &x, "x", false)?;
            if function == Function::Forward {
                total.refuse_overlap(so, &loss, "loss", false)?;
            }
        }
        Ok(Checked {
            x,
            target,
            weight,
            loss: (loss, strides),
            total,
            ignore,
            reduction,
            function,
        })
    }
}

/// A reduction of losses that have weights.
pub(crate) fn mean_or_sum(name: &str, raw: u32) -> Result<Reduction, RuleError> {
    let known = Reduction::from_raw(raw).filter(|r| *r != Reduction::BatchMean);
    known.ok_or_else(|| rule::error(name, format_args!("reduction {raw} is unknown")))
}

/// The target has the dimensions of `x` but for the second, the classes.
pub(crate) fn expect_rows(
    site: Site,
    target: &Tensor,
    sx: Site,
    x: &Tensor,
) -> Result<(), RuleError> {
    if x.rank() < 2 {
        return Err(sx.error(format_args!(".rank is {}, must be at least 2", x.rank())));
    }
    let mut dims = [0; MAX_DIMS];
    dims[0] = x.dims()[0];
    dims[1..x.rank() - 1].copy_from_slice(&x.dims()[2..]);
    target.expect_dims(site, &dims[..x.rank() - 1], "the rows are")
}

/// A weight for each class.
pub(crate) fn check_weight(
    site: Site,
    weight: Option<&Tensor>,
    x: &Tensor,
) -> Result<(), RuleError> {
    if let Some(w) = weight {
        w.expect_same_type(site, x, "x")?;
        w.expect_dims(site, &x.dims()[1..2], "the classes are")?;
    }
    Ok(())
}

/// The sum of the weights.
pub(crate) fn check_total(
    site: Site,
    total: Option<&Tensor>,
    x: &Tensor,
    reduction: Reduction,
    backward: bool,
) -> Result<(), RuleError> {
    let wanted = reduction == Reduction::Mean;
    match total {
        Some(_) if backward && !wanted => Err(site.error(" is given, but there is no mean")),
        None if backward && wanted => Err(site.error(" is absent, but the loss is a mean")),
        Some(t) => {
            t.expect_same_type(site, x, "x")?;
            t.expect_rank(site, 0)
        }
        None => Ok(()),
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let targets = self.target.elements;
        let size = self.x.dtype.size() as u64;
        let picked = targets.saturating_mul(size);
        let weight = self.weight.map_or(0, |w| w.footprint());
        let loss = self.loss.0.footprint();
        let (read, written) = match self.function {
            Function::Forward => (picked, loss),
            Function::Backward => (loss, self.x.footprint()),
        };
        Cost {
            operations: targets.saturating_mul(4),
            read: read
                .saturating_add(self.target.footprint())
                .saturating_add(weight),
            written,
            ..Cost::default()
        }
    }
}
