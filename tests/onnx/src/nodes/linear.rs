//! Products of matrices, convolutions, contractions.

use vmlu::abi::Wire;
use vmlu::operators::{
    ArgFunction, BinaryFunction as B, MatmulOptions, PutFunction, ReduceFunction,
    UnaryFunction as U,
};
use vmlu::ops::conv::Conv;
use vmlu::ops::conv_backward_data::ConvBackwardData;
use vmlu::ops::deform_conv::DeformConv;
use vmlu::{DataType, Tensor};

use super::{is_float, one, Found, Node};
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    one(match &node.proto.op_type[..] {
        "MatMul" => {
            let (a, b) = (node.input(0)?, node.input(1)?);
            if is_float(a.dtype()) {
                card.matmul(a, b)?
            } else {
                whole_matmul(node, a, b)?
            }
        }
        "Gemm" => gemm(node)?,
        "Conv" => {
            let (x, w) = (node.input(0)?, node.input(1)?);
            convolution(node, x, w, node.given(2))?
        }
        "ConvTranspose" => transposed(node)?,
        "DeformConv" => deformed(node)?,
        "Einsum" => einsum(node)?,
        "Det" => determinant(node)?,
        _ => return Ok(None),
    })
}

/// Of integers that the card has no product of: exact in f64 as long as the sums are small.
fn whole_matmul(node: &Node<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let wide = |t| node.card.cast(t, vmlu::DataType::F64);
    let out = node.card.matmul(&wide(a)?, &wide(b)?)?;
    node.card.cast(&out, a.dtype())
}

fn gemm(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let turned = |i: usize, name: &str| -> Result<Tensor> {
        let x = node.input(i)?;
        Ok(if node.int(name, 0) != 0 {
            x.transpose(0, 1)?
        } else {
            x.clone()
        })
    };
    let (a, b) = (turned(0, "transA")?, turned(1, "transB")?);
    let out = card.empty(a.dtype(), &[a.dims()[0], b.dims()[1]])?;
    let bias = match node.given(2) {
        Some(c) => Some(card.affine(c, node.float("beta", 1.0), 0.0)?),
        None => None,
    };
    let options = MatmulOptions {
        alpha: node.float("alpha", 1.0),
        bias: bias.as_ref(),
        ..MatmulOptions::default()
    };
    card.queue.matmul(&a, &b, &out, &options)?;
    Ok(out)
}

/// How windows slide: taps, steps, distances, padding before and behind each axis.
pub(super) struct Slide {
    pub taps: Vec<u64>,
    pub stride: Vec<u64>,
    pub dilation: Vec<u64>,
    pub before: Vec<u64>,
    pub after: Vec<u64>,
}

fn three<const N: usize>(values: impl Iterator<Item = u64>) -> [u32; N] {
    let mut all = [0; N];
    for (a, v) in all.iter_mut().zip(values) {
        *a = v as u32;
    }
    all
}

impl Slide {
    /// What the attributes of a node say.
    pub(super) fn of(node: &Node<'_>, input: &[u64], taps: &[u64]) -> Result<Self> {
        let n = input.len();
        if n > 3 || n == 0 {
            return unsupported(format!("windows over {n} axes"));
        }
        let list = |name: &str, default: u64| -> Vec<u64> {
            let given = node.ints(name).filter(|g| !g.is_empty());
            given.map_or(vec![default; n], |g| g.iter().map(|v| *v as u64).collect())
        };
        let mut slide = Self {
            taps: taps.to_vec(),
            stride: list("strides", 1),
            dilation: list("dilations", 1),
            before: vec![0; n],
            after: vec![0; n],
        };
        let pads = node.ints("pads").unwrap_or_else(|| vec![0; 2 * n]);
        let mode = node.text("auto_pad", "NOTSET");
        for i in 0..n {
            let reach = (taps[i] - 1) * slide.dilation[i] + 1;
            let windows = input[i].div_ceil(slide.stride[i]);
            let needed = ((windows - 1) * slide.stride[i] + reach).saturating_sub(input[i]);
            (slide.before[i], slide.after[i]) = match &mode[..] {
                "SAME_UPPER" => (needed / 2, needed - needed / 2),
                "SAME_LOWER" => (needed - needed / 2, needed / 2),
                "VALID" => (0, 0),
                _ => (pads[i] as u64, pads[n + i] as u64),
            };
        }
        Ok(slide)
    }

    /// Windows along an axis; rounded up if asked for, as far as one begins in the input or before it.
    pub(super) fn windows(&self, i: usize, input: u64, up: bool) -> u64 {
        let reach = (self.taps[i] - 1) * self.dilation[i] + 1;
        let room = (input + self.before[i] + self.after[i]).saturating_sub(reach);
        let down = room / self.stride[i] + 1;
        let next =
            !room.is_multiple_of(self.stride[i]) && down * self.stride[i] < input + self.before[i];
        down + u64::from(up && next)
    }

    /// Taps, as descriptors have them.
    pub(super) fn taps(&self) -> [u32; 3] {
        three(self.taps.iter().copied())
    }

    /// Steps.
    pub(super) fn stride(&self) -> [u32; 3] {
        three(self.stride.iter().copied())
    }

    /// Distances.
    pub(super) fn dilation(&self) -> [u32; 3] {
        three(self.dilation.iter().copied())
    }

    /// Padding.
    pub(super) fn padding(&self) -> [u32; 6] {
        three(
            self.before
                .iter()
                .zip(&self.after)
                .flat_map(|(b, a)| [*b, *a]),
        )
    }
}

/// A convolution with the attributes of a node.
pub(super) fn convolution(
    node: &Node<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let slide = Slide::of(node, &x.dims()[2..], &w.dims()[2..])?;
    let mut dims = vec![x.dims()[0], w.dims()[0]];
    dims.extend((0..slide.taps.len()).map(|i| slide.windows(i, x.dims()[2 + i], false)));
    let out = node.card.empty(x.dtype(), &dims)?;
    node.card.queue.submit(&Conv {
        x: *x.desc(),
        w: *w.desc(),
        out: *out.desc(),
        bias: bias.map_or(Wire::zeroed(), |b| *b.desc()),
        alpha: 1.0,
        beta: 0.0,
        stride: slide.stride(),
        dilation: slide.dilation(),
        padding: slide.padding(),
        groups: node.int("group", 1) as u32,
        activation: 0,
    })?;
    Ok(out)
}

/// Determinants of matrices, by elimination: the row with the largest element goes first, and one row and one column less are left.
fn determinant(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let (lead, n) = (&x.dims()[..rank - 2], x.dims()[rank - 1]);
    let batch = lead.iter().product();
    let mut rest = card.copy(&card.reshape(x, &[batch, n, n])?)?;
    let mut product = card.full(x.dtype(), &[batch, 1, 1], 1.0)?;
    let (zero, one) = (card.scalar(x.dtype(), 0.0)?, card.scalar(x.dtype(), 1.0)?);
    for left in (1..=n).rev() {
        let column = card.unary(U::Abs, &rest.narrow(2, 0, 1)?)?;
        let place = card.arg(ArgFunction::Max, &column, 1)?;
        let row = card.take(&rest, &[(1, &place)], &[(0, 0), (2, 2)], &[batch, 1, left])?;
        let pivot = row.narrow(2, 0, 1)?;
        product = card.binary(B::Mul, &product, &pivot)?;
        // The first row takes the place of the one that was picked, which changes the sign unless it was the first.
        let top = card.copy(&rest.narrow(1, 0, 1)?)?;
        card.put(
            PutFunction::Set,
            &rest,
            &top,
            &[(1, &place)],
            &[(0, 0), (2, 2)],
        )?;
        let moved = card.binary(B::NotEqual, &place, &card.scalar(DataType::I64, 0.0)?)?;
        let sign = card.choose(&moved, &card.scalar(x.dtype(), -1.0)?, &one)?;
        product = card.binary(B::Mul, &product, &sign)?;
        if left == 1 {
            break;
        }
        let below = rest.narrow(1, 1, left - 1)?;
        let factor = card.binary(B::Div, &below.narrow(2, 0, 1)?, &pivot)?;
        // Without a pivot there is nothing to eliminate.
        let none = card.binary(B::Equal, &pivot, &zero)?;
        let factor = card.choose(&none, &zero, &factor)?;
        let change = card.binary(B::Mul, &factor, &row.narrow(2, 1, left - 1)?)?;
        rest = card.binary(B::Sub, &below.narrow(2, 1, left - 1)?, &change)?;
    }
    card.reshape(&product, lead)
}

/// What the transposed convolution writes may be larger than what a convolution would have read: `output_padding`.
fn transposed(node: &Node<'_>) -> Result<Tensor> {
    let (card, x, w) = (node.card, node.input(0)?, node.input(1)?);
    let n = x.dims().len() - 2;
    let groups = node.int("group", 1) as u64;
    let taps = &w.dims()[2..];
    let mut slide = Slide::of(node, &x.dims()[2..], taps)?;
    let extra = node.ints("output_padding").unwrap_or_else(|| vec![0; n]);
    let mode = node.text("auto_pad", "NOTSET");
    let shape = node.ints("output_shape");
    let mut dims = vec![x.dims()[0], w.dims()[1] * groups];
    for i in 0..n {
        let reach = (taps[i] - 1) * slide.dilation[i] + 1;
        let full = slide.stride[i] * (x.dims()[2 + i] - 1) + reach + extra[i] as u64;
        let same = mode.starts_with("SAME");
        let want = match &shape {
            Some(s) => Some(s[s.len() - n + i] as u64),
            None if same => Some(x.dims()[2 + i] * slide.stride[i]),
            None => None,
        };
        if let Some(want) = want {
            let total = full.saturating_sub(want);
            let small = total / 2;
            (slide.before[i], slide.after[i]) = if mode == "SAME_UPPER" {
                (small, total - small)
            } else {
                (total - small, small)
            };
            dims.push(want);
        } else {
            dims.push(full - slide.before[i] - slide.after[i]);
        }
    }
    // The gradient wants a result that the convolution fits exactly: padding behind makes up for what is missing, and rows that it does not
    // reach are cut off after.
    let mut whole = dims.clone();
    for i in 0..n {
        let reach = (taps[i] - 1) * slide.dilation[i] + 1;
        let needed = slide.stride[i] * (x.dims()[2 + i] - 1) + reach;
        slide.after[i] = 0;
        whole[2 + i] = dims[2 + i].max(needed.saturating_sub(slide.before[i]));
        if whole[2 + i] + slide.before[i] - needed >= slide.stride[i] {
            return unsupported("output padding of a step or more");
        }
    }
    let out = card.empty(x.dtype(), &whole)?;
    card.queue.submit(&ConvBackwardData {
        dy: *x.desc(),
        w: *w.desc(),
        dx: *out.desc(),
        bias: node.given(2).map_or(Wire::zeroed(), |b| *b.desc()),
        alpha: 1.0,
        beta: 0.0,
        stride: slide.stride(),
        dilation: slide.dilation(),
        padding: slide.padding(),
        groups: groups as u32,
        activation: 0,
    })?;
    let mut part = out;
    for i in 0..n {
        part = part.narrow(2 + i, 0, dims[2 + i])?;
    }
    Ok(part)
}

/// Every operand spread over all letters, multiplied, and summed over those that the result has not.
fn einsum(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let equation: String = node
        .text("equation", "")
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (equation, None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    // The axes of an ellipsis get letters of their own.
    let mut wide = 0;
    for (i, term) in terms.iter().enumerate() {
        if term.contains("...") {
            wide = wide.max(node.input(i)?.dims().len() + 3 - term.len());
        }
    }
    let dots = |rank: usize| -> Vec<char> {
        (wide - rank..wide)
            .map(|i| char::from(b'0' + i as u8))
            .collect()
    };
    let letters = |term: &str, rank: usize| -> Vec<char> {
        let own = if term.contains("...") {
            dots(rank + 3 - term.len())
        } else {
            Vec::new()
        };
        let (a, b) = term.split_once("...").unwrap_or((term, ""));
        a.chars().chain(own).chain(b.chars()).collect()
    };
    let mut operands = Vec::new();
    let mut sizes: Vec<(char, u64)> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let x = node.input(i)?;
        let own = letters(term, x.dims().len());
        for (c, d) in own.iter().zip(x.dims()) {
            match sizes.iter_mut().find(|(l, _)| l == c) {
                Some((_, size)) => *size = (*size).max(*d),
                None => sizes.push((*c, *d)),
            }
        }
        operands.push((x, own));
    }
    let result: Vec<char> = match &right {
        Some(right) => letters(right, wide + right.len().saturating_sub(3)),
        None => {
            let all: Vec<char> = operands.iter().flat_map(|(_, o)| o.clone()).collect();
            let mut once: Vec<char> = all
                .iter()
                .copied()
                .filter(|c| c.is_ascii_digit() || all.iter().filter(|o| *o == c).count() == 1)
                .collect();
            once.sort_unstable();
            once.dedup();
            once
        }
    };
    let mut order = result.clone();
    order.extend(
        sizes
            .iter()
            .map(|(c, _)| *c)
            .filter(|c| !result.contains(c)),
    );
    let dims: Vec<u64> = order
        .iter()
        .map(|c| sizes.iter().find(|(l, _)| l == c).map_or(1, |(_, d)| *d))
        .collect();
    let mut product: Option<Tensor> = None;
    for (x, own) in operands {
        let mut strides = vec![0; order.len()];
        for (axis, c) in own.iter().enumerate() {
            let Some(at) = order.iter().position(|o| o == c) else {
                return wrong("an unknown letter");
            };
            if x.dims()[axis] > 1 {
                // A letter twice walks the diagonal.
                strides[at] += x.desc().strides[axis];
            }
        }
        let spread = x.with_layout(&dims, &strides);
        product = Some(match product {
            Some(p) => card.binary(B::Mul, &p, &spread)?,
            None => card.copy(&spread)?,
        });
    }
    let Some(product) = product else {
        return wrong("no operands");
    };
    let gone: Vec<usize> = (result.len()..order.len()).collect();
    if gone.is_empty() {
        return Ok(product);
    }
    card.reduce(ReduceFunction::Sum, &product, &gone, false)
}

/// A convolution whose taps are moved.
fn deformed(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let (x, w, offset) = (node.input(0)?, node.input(1)?, node.input(2)?);
    if x.dims().len() != 4 {
        return unsupported("deformable convolution of other than two axes");
    }
    let slide = Slide::of(node, &x.dims()[2..], &w.dims()[2..])?;
    let mut dims = vec![x.dims()[0], w.dims()[0]];
    dims.extend((0..2).map(|i| slide.windows(i, x.dims()[2 + i], false)));
    let out = card.empty(x.dtype(), &dims)?;
    let given = |i: usize| node.given(i).map_or(Wire::zeroed(), |t| *t.desc());
    let two = |v: [u32; 3]| [v[0], v[1]];
    let padding = slide.padding();
    card.queue.deform_conv(&DeformConv {
        x: *x.desc(),
        w: *w.desc(),
        offset: *offset.desc(),
        bias: given(3),
        mask: given(4),
        out: *out.desc(),
        stride: two(slide.stride()),
        dilation: two(slide.dilation()),
        padding: [padding[0], padding[1], padding[2], padding[3]],
        groups: node.int("group", 1) as u32,
        offset_groups: node.int("offset_group", 1) as u32,
        reserved: 0,
    })?;
    Ok(out)
}
