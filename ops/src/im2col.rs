//! Windows of an image side by side, as PyTorch's `unfold`: `out[n, c, taps, windows] = x[n, c, position of the tap of the window]`, 0 on the padding.
//!
//! `x` is `[images, channels, …]` with 1 to 3 spatial axes, `out` `[images, channels, taps…, windows…]` with as many windows along each as fit into the padded
//! input. Put together in other ways by strides, this is the matrix of a convolution: PyTorch's `[images, channels · taps, windows]`.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};
use crate::window::{self, Axes, Extents, Fields};

descriptor! {
    /// Body of `opcode::IM2COL`.
    pub struct Im2col : 384 {
        /// Operand 0: `[images, channels, …]`; all types.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `[images, channels, taps…, windows…]`, of `x`'s type.
        pub out: TensorDesc = 160,
        /// Taps of a window by spatial axis; zero behind the last, as in the next three.
        pub taps: [u32; 3] = 320,
        /// Steps of the window.
        pub stride: [u32; 3] = 332,
        /// Distances of its taps.
        pub dilation: [u32; 3] = 344,
        /// Padding before and behind each spatial axis.
        pub padding: [u32; 6] = 356,
        /// 0.
        pub reserved: u32 = 380,
    }
}

/// A checked [`Im2col`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// The windows.
    pub axes: Axes,
}

/// Checks what both ways share: `image` and `columns` go together.
pub(crate) fn windows(
    name: &'static str,
    (si, image): (Site, &Tensor),
    (sc, columns): (Site, &Tensor),
    fields: &Fields,
) -> Result<Axes, RuleError> {
    if !(3..=5).contains(&image.rank()) {
        return Err(si.error(format_args!(".rank is {}, must be 3 to 5", image.rank())));
    }
    let spatial = image.rank() - 2;
    columns.expect_rank(sc, 2 + 2 * spatial)?;
    let extents = Extents {
        input: (si, image),
        windows: (sc, &columns.dims()[2 + spatial..]),
        from: 2 + spatial,
    };
    let axes = window::check(name, &extents, Some(fields), false)?;
    for i in 0..2 + spatial {
        let want = match i {
            0 | 1 => image.dims()[i],
            _ => fields.taps[i - 2].into(),
        };
        if columns.dims()[i] != want {
            return Err(sc.error(format_args!(
                ".dims[{i}] is {}, must be {want}",
                columns.dims()[i]
            )));
        }
    }
    Ok(axes)
}

impl crate::Descriptor for Im2col {
    const INFO: Info = Info {
        opcode: opcode::IM2COL,
        name: "im2col",
        formula: "out = the elements of each window of x",
        operands: &["x", "out*"],
        functions: &[],
        types: "all",
        backward: "col2im",
        cost: "none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "im2col";
        let [sx, so] = [(0, "x"), (1, "out")].map(|(i, n)| Site::new(NAME, i, n));
        crate::rule::reserved(NAME, &[self.reserved])?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        out.expect_same_type(so, &x, "x")?;
        let fields = Fields {
            taps: self.taps,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
        };
        let axes = windows(NAME, (sx, &x), (so, &out), &fields)?;
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked { x, out, axes })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            read: self.out.footprint().min(self.x.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
