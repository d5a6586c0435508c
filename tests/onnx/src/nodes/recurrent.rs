//! Recurrent layers, a step after the other.

use vmlu::operators::{BinaryFunction as B, UnaryFunction as U};
use vmlu::{DataType, Tensor};

use super::{Found, Node};
use crate::card::Card;
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let (gates, step): (u64, Step) = match &node.proto.op_type[..] {
        "RNN" => (1, simple),
        "GRU" => (3, gru),
        "LSTM" => (4, lstm),
        _ => return Ok(None),
    };
    if node.attribute("activations").is_some() || node.attribute("clip").is_some() {
        return unsupported("other activations than the usual ones");
    }
    let card = node.card;
    let batch_first = node.int("layout", 0) != 0;
    let turned = |t: &Tensor| -> Result<Tensor> {
        Ok(if batch_first {
            t.transpose(0, 1)?
        } else {
            t.clone()
        })
    };
    let x = turned(node.input(0)?)?;
    let (steps, batch) = (x.dims()[0], x.dims()[1]);
    let hidden = node.int("hidden_size", 0) as u64;
    let directions: &[bool] = match &node.text("direction", "forward")[..] {
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => &[false],
    };
    let lengths = node.given(4).map(|t| card.whole(t)).transpose()?;
    let count = directions.len() as u64;
    let all = card.full(x.dtype(), &[steps, count, batch, hidden], 0.0)?;
    let (mut last, mut last_cells) = (Vec::new(), Vec::new());
    for (d, backward) in directions.iter().enumerate() {
        let own = |t: &Tensor| -> Result<Tensor> {
            let dims = t.dims()[1..].to_vec();
            card.reshape(&t.narrow(0, d as u64, 1)?, &dims)
        };
        let state = |i: usize| -> Result<Tensor> {
            match node.given(i) {
                Some(t) => own(&turned(t)?),
                None => card.full(x.dtype(), &[batch, hidden], 0.0),
            }
        };
        let given = |i: usize| node.given(i).map(own).transpose();
        let layer = Layer {
            node,
            hidden,
            gates,
            input: own(node.input(1)?)?.transpose(0, 1)?,
            recurrent: own(node.input(2)?)?.transpose(0, 1)?,
            bias: given(3)?,
            peepholes: if gates == 4 { given(7)? } else { None },
        };
        let mut h = state(5)?;
        let mut c = if gates == 4 { state(6)? } else { h.clone() };
        for i in 0..steps {
            let t = if *backward { steps - 1 - i } else { i };
            let row = card.reshape(&x.narrow(0, t, 1)?, &[batch, x.dims()[2]])?;
            let (mut new_h, mut new_c) = step(&layer, &row, &h, &c)?;
            let mut shown = new_h.clone();
            if let Some(lengths) = &lengths {
                // Behind the end of an example its state stays, and the result is 0.
                let inside: Vec<u8> = lengths.iter().map(|l| u8::from((t as i64) < *l)).collect();
                let inside = card.tensor_of(DataType::Bool, &[batch, 1], &inside)?;
                let zero = card.scalar(x.dtype(), 0.0)?;
                shown = card.choose(&inside, &new_h, &zero)?;
                new_h = card.choose(&inside, &new_h, &h)?;
                new_c = card.choose(&inside, &new_c, &c)?;
            }
            let place = all.narrow(0, t, 1)?.narrow(1, d as u64, 1)?;
            let shown = card.reshape(&shown, &[1, 1, batch, hidden])?;
            card.queue.unary(U::Copy, &shown, &place)?;
            (h, c) = (new_h, new_c);
        }
        last.push(card.reshape(&h, &[1, batch, hidden])?);
        last_cells.push(card.reshape(&c, &[1, batch, hidden])?);
    }
    let all = if batch_first {
        card.permute(&all, &[2, 0, 1, 3])
    } else {
        all
    };
    let mut results = vec![all, turned(&card.concat(&last, 0)?)?];
    if gates == 4 {
        results.push(turned(&card.concat(&last_cells, 0)?)?);
    }
    Ok(Some(results))
}

/// One direction of a layer.
struct Layer<'l> {
    node: &'l Node<'l>,
    hidden: u64,
    gates: u64,
    /// `[input, gates · hidden]`.
    input: Tensor,
    /// `[hidden, gates · hidden]`.
    recurrent: Tensor,
    bias: Option<Tensor>,
    peepholes: Option<Tensor>,
}

/// From the input of a step and both states to the next.
type Step = fn(&Layer<'_>, &Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)>;

impl Layer<'_> {
    fn card(&self) -> &Card<'_> {
        self.node.card
    }

    /// What the input adds to all gates, and what the state does.
    fn products(&self, x: &Tensor, h: &Tensor) -> Result<[Tensor; 2]> {
        let card = self.card();
        let mut all = [
            card.matmul(x, &self.input)?,
            card.matmul(h, &self.recurrent)?,
        ];
        if let Some(bias) = &self.bias {
            let width = self.gates * self.hidden;
            for (i, product) in all.iter_mut().enumerate() {
                let bias = bias.narrow(0, i as u64 * width, width)?;
                *product = card.binary(B::Add, product, &bias)?;
            }
        }
        Ok(all)
    }

    /// Columns of a gate.
    fn gate(&self, x: &Tensor, number: u64) -> Result<Tensor> {
        Ok(x.narrow(1, number * self.hidden, self.hidden)?)
    }

    /// What a gate sees of the cells.
    fn peep(&self, sum: Tensor, number: u64, cells: &Tensor) -> Result<Tensor> {
        let Some(peepholes) = &self.peepholes else {
            return Ok(sum);
        };
        let own = peepholes.narrow(0, number * self.hidden, self.hidden)?;
        let seen = self.card().binary(B::Mul, &own, cells)?;
        self.card().binary(B::Add, &sum, &seen)
    }
}

fn simple(layer: &Layer<'_>, x: &Tensor, h: &Tensor, _: &Tensor) -> Result<(Tensor, Tensor)> {
    let card = layer.card();
    let [of_x, of_h] = layer.products(x, h)?;
    let next = card.unary(U::Tanh, &card.binary(B::Add, &of_x, &of_h)?)?;
    Ok((next.clone(), next))
}

fn gru(layer: &Layer<'_>, x: &Tensor, h: &Tensor, _: &Tensor) -> Result<(Tensor, Tensor)> {
    let card = layer.card();
    let [of_x, of_h] = layer.products(x, h)?;
    let gate = |i| -> Result<Tensor> {
        let sum = card.binary(B::Add, &layer.gate(&of_x, i)?, &layer.gate(&of_h, i)?)?;
        card.unary(U::Sigmoid, &sum)
    };
    let (update, reset) = (gate(0)?, gate(1)?);
    let recurrent = if layer.node.int("linear_before_reset", 0) != 0 {
        card.binary(B::Mul, &reset, &layer.gate(&of_h, 2)?)?
    } else {
        let [_, of_h] = layer.products(x, &card.binary(B::Mul, &reset, h)?)?;
        layer.gate(&of_h, 2)?
    };
    let new = card.unary(
        U::Tanh,
        &card.binary(B::Add, &layer.gate(&of_x, 2)?, &recurrent)?,
    )?;
    let kept = card.binary(B::Mul, &update, h)?;
    let fresh = card.binary(B::Mul, &card.affine(&update, -1.0, 1.0)?, &new)?;
    let next = card.binary(B::Add, &fresh, &kept)?;
    Ok((next.clone(), next))
}

fn lstm(layer: &Layer<'_>, x: &Tensor, h: &Tensor, c: &Tensor) -> Result<(Tensor, Tensor)> {
    let card = layer.card();
    let [of_x, of_h] = layer.products(x, h)?;
    let all = card.binary(B::Add, &of_x, &of_h)?;
    let sigmoid = |i, number, cells: &Tensor| -> Result<Tensor> {
        card.unary(
            U::Sigmoid,
            &layer.peep(layer.gate(&all, i)?, number, cells)?,
        )
    };
    // Gates are input, output, forget, cell; so are the peepholes but for the last.
    let (input, forget) = (sigmoid(0, 0, c)?, sigmoid(2, 2, c)?);
    let new = card.unary(U::Tanh, &layer.gate(&all, 3)?)?;
    let cells = card.binary(
        B::Add,
        &card.binary(B::Mul, &forget, c)?,
        &card.binary(B::Mul, &input, &new)?,
    )?;
    let output = sigmoid(1, 1, &cells)?;
    let next = card.binary(B::Mul, &output, &card.unary(U::Tanh, &cells)?)?;
    Ok((next, cells))
}
