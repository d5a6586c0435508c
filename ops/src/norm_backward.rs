//! Gradient of normalisation: of its input, weight and bias, from the gradient `dy` of its result, its input, and the mean and rstd that it wrote.
//!
//! With `n = (x - mean) · rstd` and `g = dy · weight`: `dx = rstd · (g - mean(g) - n · mean(g · n))`, the means over `axes`; for `rms` without `mean(g)`,
//! and `mean` absent; for `inference` `dx = rstd · g`, and `rstd` holds the variance, to which eps is added. `dweight = Σ dy · n` and
//! `dbias = Σ dy`, over the axes along which `dweight`'s extent is 1 or missing. Sums are accumulated in f64.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::norm::{common, factor, statistic, Factor, Function, Statistic};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::NORM_BACKWARD`.
    pub struct NormBackward : 1296 {
        /// Operand 0: floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: of `dy`'s type and shape.
        pub x: TensorDesc = 160,
        /// Operand 2, may be absent: broadcast to `x`.
        pub weight: TensorDesc = 320,
        /// Operand 3: as norm wrote it; absent for rms.
        pub mean: TensorDesc = 480,
        /// Operand 4: as norm wrote it; for inference the variance.
        pub rstd: TensorDesc = 640,
        /// Operand 5, written, may be absent: of `x`'s type and shape; may be exactly `dy`, if operands 6 and 7 are absent.
        pub dx: TensorDesc = 800,
        /// Operand 6, written, may be absent: broadcasts to `x`.
        pub dweight: TensorDesc = 960,
        /// Operand 7, written, may be absent: broadcasts to `x`.
        pub dbias: TensorDesc = 1120,
        /// A function of norm.
        pub function: u32 = 1280,
        /// Bit i: mean and variance were taken over axis i.
        pub axes: u32 = 1284,
        /// Added to the variance in inference; else 0.
        pub eps: f64 = 1288,
    }
}

/// A checked [`NormBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub x: Tensor,
    /// Operand 2.
    pub weight: Option<Factor>,
    /// Operand 3.
    pub mean: Option<Statistic>,
    /// Operand 4.
    pub rstd: Statistic,
    /// Operand 5.
    pub dx: Option<Tensor>,
    /// Operands 6 and 7.
    pub sums: [Option<Factor>; 2],
    /// Where mean and variance came from.
    pub function: Function,
    /// Bit i: axis i was reduced.
    pub axes: u32,
    /// Added to the variance.
    pub eps: f64,
}

impl crate::Descriptor for NormBackward {
    const INFO: Info = Info {
        opcode: opcode::NORM_BACKWARD,
        name: "norm_backward",
        formula: "dx, dweight, dbias = gradients of norm",
        operands: &[
            "dy",
            "x",
            "weight?",
            "mean?",
            "rstd",
            "dx*?",
            "dweight*?",
            "dbias*?",
        ],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; the small operands also f32",
        backward: "by binary and reduce",
        cost: "16 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "norm_backward";
        let site = |i, name| Site::new(NAME, i, name);
        let (sg, sx) = (site(0, "dy"), site(1, "x"));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let dy = Tensor::check(sg, &self.dy, Role::Input)?;
        dy.expect_type(sg, &FLOATS)?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        x.expect_same_type(sx, &dy, "dy")?;
        x.expect_dims(sx, dy.dims(), "dy is")?;
        common(NAME, &x, self.axes, self.eps)?;
        if function != Function::Inference && self.eps.to_bits() != 0 {
            let text = format_args!("eps is {}, but only inference adds it", self.eps);
            return Err(rule::error(NAME, text));
        }
        let weight = factor(site(2, "weight"), &self.weight, &x)?;
        let mean = statistic(site(3, "mean"), &self.mean, Role::Input, &x, self.axes)?;
        let rstd = statistic(site(4, "rstd"), &self.rstd, Role::Input, &x, self.axes)?;
        let Some(rstd) = rstd else {
            return Err(site(4, "rstd").error(" is absent"));
        };
        match (&mean, function) {
            (None, Function::Standard | Function::Inference) => {
                return Err(site(3, "mean").error(" is absent"));
            }
            (Some(_), Function::Rms) => {
                return Err(site(3, "mean").error(" is given, but rms has none"));
            }
            (Some(m), _) => rstd
                .tensor
                .expect_same_type(site(4, "rstd"), &m.tensor, "mean")?,
            (None, Function::Rms) => {}
        }
        let so = site(5, "dx");
        let dx = Tensor::check_optional(so, &self.dx, Role::Output)?;
        if let Some(dx) = &dx {
            dx.expect_same_type(so, &x, "x")?;
            dx.expect_dims(so, x.dims(), "x is")?;
        }
        let mut sums = [None; 2];
        for (i, (desc, name)) in [(&self.dweight, "dweight"), (&self.dbias, "dbias")]
            .into_iter()
            .enumerate()
        {
            let s = site(6 + i as u16, name);
            sums[i] = factor(s, desc, &x)?;
            // Its own elements must be apart.
            Tensor::check_optional(s, desc, Role::Output)?;
        }
        if let [Some(a), Some(b)] = &sums {
            b.tensor
                .expect_same_type(site(7, "dbias"), &a.tensor, "dweight")?;
            b.tensor
                .expect_dims(site(7, "dbias"), a.tensor.dims(), "dweight is")?;
            b.tensor
                .refuse_overlap(site(7, "dbias"), &a.tensor, "dweight", false)?;
        }
        let outputs = [
            (so, dx),
            (site(6, "dweight"), sums[0].map(|f| f.tensor)),
            (site(7, "dbias"), sums[1].map(|f| f.tensor)),
        ];
        let inputs = [
            ("dy", Some(dy)),
            ("x", Some(x)),
            ("weight", weight.map(|f| f.tensor)),
            ("mean", mean.map(|m| m.tensor)),
            ("rstd", Some(rstd.tensor)),
        ];
        for (i, (s, out)) in outputs.iter().enumerate() {
            let Some(out) = out else { continue };
            for (name, input) in &inputs {
                let exactly = i == 0 && *name == "dy" && sums.iter().all(Option::is_none);
                if let Some(input) = input {
                    out.refuse_overlap(*s, input, name, exactly)?;
                }
            }
            if let (true, Some(dx)) = (i > 0, &dx) {
                out.refuse_overlap(*s, dx, "dx", false)?;
            }
        }
        Ok(Checked {
            dy,
            x,
            weight,
            mean,
            rstd,
            dx,
            sums,
            function,
            axes: self.axes,
            eps: self.eps,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let written = self.dx.map_or(0, |t| t.footprint());
        let sums = self
            .sums
            .iter()
            .flatten()
            .fold(0, |s: u64, f| s.saturating_add(f.tensor.footprint()));
        Cost {
            operations: self.x.elements.saturating_mul(16),
            read: self.x.footprint().saturating_add(self.dy.footprint()),
            written: written.saturating_add(sums),
            ..Cost::default()
        }
    }
}
