//! Losses of an input and a target, element by element, and their mean or sum: `out = reduction(weight · f(x, target))`.
//!
//! Computed in f32 for F16 and BF16; sums are f64. `none` gives `out` `x`'s shape; the others a tensor without dimensions. Target and weights broadcast to `x`.
//! The mean of no elements is NaN.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::LOSS`.
    pub struct Loss : 824 {
        /// Operand 0: floats.
        pub x: TensorDesc = 0,
        /// Operand 1: of `x`'s type, broadcast to it.
        pub target: TensorDesc = 160,
        /// Operand 2, may be absent: factors of the loss, of `x`'s type, broadcast to it.
        pub weight: TensorDesc = 320,
        /// Operand 3, may be absent, `bce_logits` only: factors of what is lost where the target is 1, of `x`'s type, broadcast to it.
        pub positive: TensorDesc = 480,
        /// Operand 4, written: of `x`'s type; of its shape for `none`, without dimensions otherwise.
        pub out: TensorDesc = 640,
        /// Parameter of the function.
        pub alpha: f64 = 800,
        /// A [`Function`].
        pub function: u32 = 808,
        /// A [`Reduction`]: 0 none, 1 mean, 2 sum, 3 batch_mean: the sum over the extent of the first axis.
        pub reduction: u32 = 812,
        /// Zero.
        pub reserved: u64 = 816,
    }
}

functions! {
    /// What is lost. `d = x - target`, `t` the target.
    pub enum Function {
        /// `d²`.
        Mse = 0, "mse";
        /// `|d|`.
        L1 = 1, "l1";
        /// `d² / (2 alpha)` where `|d| < alpha`, else `|d| - alpha / 2`.
        SmoothL1 = 2, "smooth_l1";
        /// `d² / 2` where `|d| ≤ alpha`, else `alpha · (|d| - alpha / 2)`.
        Huber = 3, "huber";
        /// `-(t · log x + (1 - t) · log(1 - x))`, logarithms at least -100.
        Bce = 4, "bce";
        /// The same of `x`'s logistic function: `(1 - t) · x + (1 + (positive - 1) · t) · (log(1 + exp(-|x|)) + max(-x, 0))`.
        BceLogits = 5, "bce_logits";
        /// `t · log t - t · x`, the first term 0 where t is.
        Kl = 6, "kl";
        /// `exp(t) · (t - x)`: the target is a logarithm too.
        KlLog = 7, "kl_log";
        /// `log(1 + exp(-t · x))`.
        SoftMargin = 8, "soft_margin";
        /// `exp(x) - t · x`.
        Poisson = 9, "poisson";
    }
}

impl Function {
    /// Whether it has a parameter: a distance, not below 0, for `huber` above it.
    pub const fn has_distance(self) -> bool {
        matches!(self, Self::SmoothL1 | Self::Huber)
    }
}

functions! {
    /// What becomes of the losses.
    pub enum Reduction {
        /// They stay.
        None = 0, "none";
        /// Their mean.
        Mean = 1, "mean";
        /// Their sum.
        Sum = 2, "sum";
        /// Their sum over the extent of the first axis.
        BatchMean = 3, "batch_mean";
    }
}

impl Reduction {
    /// What the sum of the losses of some dimensions is multiplied with.
    pub fn factor(self, dims: &[u64]) -> f64 {
        match self {
            Self::None | Self::Sum => 1.0,
            Self::Mean => 1.0 / dims.iter().product::<u64>() as f64,
            Self::BatchMean => 1.0 / dims.first().copied().unwrap_or(1) as f64,
        }
    }
}

/// The operands that a loss and its gradient share, with strides over `x`.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub target: (Tensor, [i64; MAX_DIMS]),
    /// Operand 2.
    pub weight: Option<(Tensor, [i64; MAX_DIMS])>,
    /// Operand 3.
    pub positive: Option<(Tensor, [i64; MAX_DIMS])>,
    /// Parameter.
    pub alpha: f64,
    /// What is lost.
    pub function: Function,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl Operands {
    /// Checks them.
    pub(crate) fn check(
        name: &'static str,
        [x, target, weight, positive]: [&TensorDesc; 4],
        alpha: f64,
        function: u32,
        reduction: u32,
    ) -> Result<Self, RuleError> {
        let [sx, st, sw, sp] = [(0, "x"), (1, "target"), (2, "weight"), (3, "positive")]
            .map(|(i, text)| Site::new(name, i, text));
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
        let Some(f) = Function::from_raw(function) else {
            return fail(format_args!("function {function} is unknown"));
        };
        let Some(reduction) = Reduction::from_raw(reduction) else {
            return fail(format_args!("reduction {reduction} is unknown"));
        };
        let distance = alpha >= 0.0 && alpha.is_finite() && (alpha > 0.0 || f != Function::Huber);
        if f.has_distance() && !distance {
            return fail(format_args!(
                "alpha is {alpha}, no distance for {}",
                f.name()
            ));
        }
        if !f.has_distance() && alpha.to_bits() != 0 {
            return fail(format_args!(
                "alpha is {alpha}, but {} has no such parameter",
                f.name()
            ));
        }
        let x = Tensor::check(sx, x, Role::Input)?;
        x.expect_type(sx, &FLOATS)?;
        let broadcast = |site: Site, t: Option<Tensor>| match t {
            None => Ok(None),
            Some(t) => {
                t.expect_same_type(site, &x, "x")?;
                let strides = t.broadcast(site, x.dims())?;
                Ok(Some((t, strides)))
            }
        };
        let target = Tensor::check(st, target, Role::Input)?;
        let target_strides = {
            target.expect_same_type(st, &x, "x")?;
            target.broadcast(st, x.dims())?
        };
        let weight = broadcast(sw, Tensor::check_optional(sw, weight, Role::Input)?)?;
        let positive = broadcast(sp, Tensor::check_optional(sp, positive, Role::Input)?)?;
        if positive.is_some() && f != Function::BceLogits {
            return Err(sp.error(format_args!(" is given, but {} has none", f.name())));
        }
        if reduction == Reduction::BatchMean && x.rank() == 0 {
            return Err(sx.error(".rank is 0: there is no first axis"));
        }
        Ok(Self {
            x,
            target: (target, target_strides),
            weight,
            positive,
            alpha,
            function: f,
            reduction,
        })
    }

    /// All of them with their names.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let optional = |t: &Option<(Tensor, [i64; 8])>| t.is_some();
        let all = [
            Some(("x", &self.x)),
            Some(("target", &self.target.0)),
            optional(&self.weight)
                .then(|| ("weight", &self.weight.as_ref().unwrap_or(&self.target).0)),
            optional(&self.positive).then(|| {
                (
                    "positive",
                    &self.positive.as_ref().unwrap_or(&self.target).0,
                )
            }),
        ];
        all.into_iter().flatten()
    }

    /// Bytes of all of them.
    pub(crate) fn footprint(&self) -> u64 {
        self.each()
            .fold(0, |n, (_, t)| n.saturating_add(t.footprint()))
    }
}

/// A checked [`Loss`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operands 0 to 3, and what is computed of them.
    pub of: Operands,
    /// Operand 4.
    pub out: Tensor,
}

impl crate::Descriptor for Loss {
    const INFO: Info = Info {
        opcode: opcode::LOSS,
        name: "loss",
        formula: "out = reduction of weight · f(x, target)",
        operands: &["x", "target", "weight?", "positive?", "out*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "loss_backward",
        cost: "4 per element, 16 from bce on",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "loss";
        if self.reserved != 0 {
            let text = format_args!("a reserved field is {:#x}, must be 0", self.reserved);
            return Err(rule::error(NAME, text));
        }
        let so = Site::new(NAME, 4, "out");
        let of = Operands::check(
            NAME,
            [&self.x, &self.target, &self.weight, &self.positive],
            self.alpha,
            self.function,
            self.reduction,
        )?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        out.expect_same_type(so, &of.x, "x")?;
        match of.reduction {
            Reduction::None => out.expect_dims(so, of.x.dims(), "x is")?,
            _ => out.expect_rank(so, 0)?,
        }
        for (name, t) in of.each() {
            out.refuse_overlap(so, t, name, of.reduction == Reduction::None)?;
        }
        Ok(Checked { of, out })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = if self.of.function.raw() < 4 { 4 } else { 16 };
        Cost {
            operations: self.of.x.elements.saturating_mul(each),
            read: self.of.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
