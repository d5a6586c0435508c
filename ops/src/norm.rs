//! Normalisation: `out = (x - mean) · rstd · weight + bias` with `rstd = 1 / √(var + eps)`, mean and variance taken over a set of axes.
//!
//! Layer norm reduces the last axes, batch norm all but the channels, instance norm the spatial axes; group norm is instance norm of a view
//! whose channels are split in groups. In `rms` the mean is taken for 0, and `var` is the mean of squares. Weight and bias broadcast to `x`, and
//! may have any extent along any axis: that of the normalised axes for layer norm, of the channels for batch norm. Statistics are accumulated in
//! f64, the variance around the mean; the formula is `(x - mean) · (rstd · weight) + bias`, the last product and sum one fused multiply-add.
//!
//! `mean` and `rstd` are written by `standard` and `rms` if they are given (rms takes no mean): `x`'s axes with the reduced ones 1 or left out.
//! `inference` reads both: there `rstd` holds the variance, to which eps is still added. With `running_mean` and `running_var`, `standard` also
//! updates them: `r = r + momentum · (new - r)`, the variance over the count less one. Statistics, weight and bias have the type of `x` or F32.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::reduce::reduced_strides;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::NORM`.
    pub struct Norm : 1304 {
        /// Operand 0: floats.
        pub x: TensorDesc = 0,
        /// Operand 1, may be absent: broadcast to `x`.
        pub weight: TensorDesc = 160,
        /// Operand 2, may be absent: broadcast to `x`, of `weight`'s type.
        pub bias: TensorDesc = 320,
        /// Operand 3, written: of `x`'s type and shape; may be exactly `x`.
        pub out: TensorDesc = 480,
        /// Operand 4, may be absent (not for inference): written, for inference read.
        pub mean: TensorDesc = 640,
        /// Operand 5, may be absent (not for inference): written, for inference read, the variance then. Of `mean`'s type.
        pub rstd: TensorDesc = 800,
        /// Operand 6, read and written, may be absent; of `mean`'s shape.
        pub running_mean: TensorDesc = 960,
        /// Operand 7, read and written, absent if operand 6 is; of its type.
        pub running_var: TensorDesc = 1120,
        /// A [`Function`].
        pub function: u32 = 1280,
        /// Bit i: mean and variance are taken over axis i.
        pub axes: u32 = 1284,
        /// Added to the variance.
        pub eps: f64 = 1288,
        /// How far the running statistics move; 0 without them.
        pub momentum: f64 = 1296,
    }
}

functions! {
    /// Where mean and variance come from.
    pub enum Function {
        /// From `x`.
        Standard = 0, "standard";
        /// From `x`, the mean taken for 0.
        Rms = 1, "rms";
        /// Given.
        Inference = 2, "inference";
    }
}

/// A tensor per group of elements that share mean and variance, with its strides over the axes of `x`.
#[derive(Clone, Copy, Debug)]
pub struct Statistic {
    /// The tensor.
    pub tensor: Tensor,
    /// 0 for the reduced axes.
    pub strides: [i64; MAX_DIMS],
}

/// A tensor that broadcasts to `x`, with its strides over the axes of `x`.
#[derive(Clone, Copy, Debug)]
pub struct Factor {
    /// The tensor.
    pub tensor: Tensor,
    /// 0 where it repeats.
    pub strides: [i64; MAX_DIMS],
}

/// A checked [`Norm`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub weight: Option<Factor>,
    /// Operand 2.
    pub bias: Option<Factor>,
    /// Operand 3.
    pub out: Tensor,
    /// Operand 4.
    pub mean: Option<Statistic>,
    /// Operand 5.
    pub rstd: Option<Statistic>,
    /// Operands 6 and 7.
    pub running: Option<[Statistic; 2]>,
    /// Where mean and variance come from.
    pub function: Function,
    /// Bit i: axis i is reduced.
    pub axes: u32,
    /// Added to the variance.
    pub eps: f64,
    /// How far the running statistics move.
    pub momentum: f64,
}

/// Checks a statistic of `x`.
pub(crate) fn statistic(
    site: Site,
    desc: &TensorDesc,
    role: Role,
    x: &Tensor,
    axes: u32,
) -> Result<Option<Statistic>, RuleError> {
    let Some(tensor) = Tensor::check_optional(site, desc, role)? else {
        return Ok(None);
    };
    tensor.expect_type(site, &[x.dtype, DataType::F32])?;
    let strides = reduced_strides(site, x, &tensor, axes)?;
    Ok(Some(Statistic { tensor, strides }))
}

/// Checks a weight or bias.
pub(crate) fn factor(
    site: Site,
    desc: &TensorDesc,
    x: &Tensor,
) -> Result<Option<Factor>, RuleError> {
    let Some(tensor) = Tensor::check_optional(site, desc, Role::Input)? else {
        return Ok(None);
    };
    tensor.expect_type(site, &[x.dtype, DataType::F32])?;
    let strides = tensor.broadcast(site, x.dims())?;
    Ok(Some(Factor { tensor, strides }))
}

/// Checks the set of axes and eps.
pub(crate) fn common(name: &str, x: &Tensor, axes: u32, eps: f64) -> Result<(), RuleError> {
    if axes >> x.rank() != 0 || axes == 0 {
        let text = format_args!("axes {axes:#b} must name some of the {} of x", x.rank());
        return Err(rule::error(name, text));
    }
    if eps.is_nan() || eps < 0.0 {
        return Err(rule::error(
            name,
            format_args!("eps is {eps}, must not be negative"),
        ));
    }
    Ok(())
}

impl crate::Descriptor for Norm {
    const INFO: Info = Info {
        opcode: opcode::NORM,
        name: "norm",
        formula: "out = (x - mean) / √(var + eps) · weight + bias",
        operands: &[
            "x",
            "weight?",
            "bias?",
            "out*",
            "mean*?",
            "rstd*?",
            "running_mean*?",
            "running_var*?",
        ],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; the small operands also f32",
        backward: "norm_backward",
        cost: "8 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "norm";
        let site = |i, name| Site::new(NAME, i, name);
        let (sx, so) = (site(0, "x"), site(3, "out"));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        x.expect_type(sx, &FLOATS)?;
        common(NAME, &x, self.axes, self.eps)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        out.expect_same_type(so, &x, "x")?;
        out.expect_dims(so, x.dims(), "x is")?;
        out.refuse_overlap(so, &x, "x", true)?;
        let weight = factor(site(1, "weight"), &self.weight, &x)?;
        let bias = factor(site(2, "bias"), &self.bias, &x)?;
        if let (Some(w), Some(b)) = (&weight, &bias) {
            b.tensor
                .expect_same_type(site(2, "bias"), &w.tensor, "weight")?;
        }
        let given = function == Function::Inference;
        let role = if given { Role::Input } else { Role::Output };
        let mean = statistic(site(4, "mean"), &self.mean, role, &x, self.axes)?;
        let rstd = statistic(site(5, "rstd"), &self.rstd, role, &x, self.axes)?;
        if given && mean.is_none() {
            return Err(site(4, "mean").error(" is absent, but inference reads it"));
        }
        if given && rstd.is_none() {
            return Err(site(5, "rstd").error(" is absent, but inference reads it"));
        }
        if function == Function::Rms && mean.is_some() {
            return Err(site(4, "mean").error(" is given, but rms has none"));
        }
        if let (Some(m), Some(r)) = (&mean, &rstd) {
            r.tensor
                .expect_same_type(site(5, "rstd"), &m.tensor, "mean")?;
        }
        let running = [
            statistic(
                site(6, "running_mean"),
                &self.running_mean,
                Role::Output,
                &x,
                self.axes,
            )?,
            statistic(
                site(7, "running_var"),
                &self.running_var,
                Role::Output,
                &x,
                self.axes,
            )?,
        ];
        let running = match running {
            [Some(m), Some(v)] if function == Function::Standard => {
                v.tensor
                    .expect_same_type(site(7, "running_var"), &m.tensor, "running_mean")?;
                Some([m, v])
            }
            [None, None] if self.momentum.to_bits() == 0 => None,
            [None, None] => {
                let text = format_args!(
                    "momentum is {}, but there is nothing running",
                    self.momentum
                );
                return Err(rule::error(NAME, text));
            }
            _ => {
                let text = " and running_var go together, and with standard only";
                return Err(site(6, "running_mean").error(text));
            }
        };
        // Every output must be apart from every other operand; only `out` may be exactly `x`.
        let stats = [mean, rstd, running.map(|r| r[0]), running.map(|r| r[1])];
        let factors = [weight, bias];
        let names = ["mean", "rstd", "running_mean", "running_var"];
        for f in factors.iter().flatten() {
            out.refuse_overlap(so, &f.tensor, "weight or bias", false)?;
        }
        for (i, stat) in stats.iter().enumerate() {
            let Some(stat) = stat else { continue };
            let s = site(4 + i as u16, names[i]);
            out.refuse_overlap(so, &stat.tensor, names[i], false)?;
            if given {
                continue;
            }
            stat.tensor.refuse_overlap(s, &x, "x", false)?;
            for f in factors.iter().flatten() {
                stat.tensor
                    .refuse_overlap(s, &f.tensor, "weight or bias", false)?;
            }
            for (j, other) in stats.iter().enumerate().take(i) {
                if let Some(other) = other {
                    stat.tensor
                        .refuse_overlap(s, &other.tensor, names[j], false)?;
                }
            }
        }
        Ok(Checked {
            x,
            weight,
            bias,
            out,
            mean,
            rstd,
            running,
            function,
            axes: self.axes,
            eps: self.eps,
            momentum: self.momentum,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let small = [self.weight, self.bias]
            .iter()
            .flatten()
            .fold(0, |s: u64, f| s.saturating_add(f.tensor.footprint()));
        let stats = [self.mean, self.rstd]
            .iter()
            .flatten()
            .fold(0, |s: u64, t| s.saturating_add(t.tensor.footprint()));
        Cost {
            operations: self.x.elements.saturating_mul(8),
            read: self.x.footprint().saturating_add(small),
            written: self.out.footprint().saturating_add(stats),
            ..Cost::default()
        }
    }
}
