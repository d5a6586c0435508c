//! Kernel of `vmlu_ops::nms`. Boxes and scores are copied before anything is decided by them.

use std::sync::Mutex;

use vmlu_ops::nms::{Checked, Nms};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace};
use super::window::store_indices;

/// Images and classes whose boxes are kept before they are written.
const TOGETHER: usize = 16;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Nms>(body)?;
    let boxes = View::open(env, 0, &op.boxes, Access::Read)?;
    let scores = View::open(env, 1, &op.scores, Access::Read)?;
    let out = View::open(env, 2, &op.out, Access::Write)?;
    let count = match &op.count {
        Some(t) => Some(View::open(env, 3, t, Access::Write)?),
        None => None,
    };
    let rows = with_compute!(op.boxes.dtype, T => Job { op: &op, env, boxes: &boxes, scores: &scores, out: &out }.run::<T>()?);
    if let Some(count) = &count {
        count.store(0, 0, &[rows as i64]);
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    boxes: &'j View<'a>,
    scores: &'j View<'a>,
    out: &'j View<'a>,
}

/// Boxes by their sides: top, left, bottom, right, area, each a vector.
type Sides<T> = [Vec<T>; 5];

multiversion! {
    /// Marks boxes whose overlap with one is above a threshold.
    fn suppress<T: Float>(sides: &Sides<T>, from: usize, one: &[T], threshold: T, gone: &mut [u8]) {
        let n = gone.len();
        let [top, left, bottom, right, area] = sides.each_ref().map(|s| &s[from..from + n]);
        for i in 0..n {
            let zero = T::default();
            let high = if bottom[i] < one[2] { bottom[i] } else { one[2] };
            let low = if top[i] > one[0] { top[i] } else { one[0] };
            let wide = if right[i] < one[3] { right[i] } else { one[3] };
            let near = if left[i] > one[1] { left[i] } else { one[1] };
            let (h, w) = (high.sub(low), wide.sub(near));
            let h = if h > zero { h } else { zero };
            let w = if w > zero { w } else { zero };
            let both = h.mul(w);
            let union = area[i].add(one[4]).sub(both);
            gone[i] |= u8::from(both.div(union) > threshold);
        }
    }
}

impl Job<'_, '_> {
    /// Writes all rows and tells how many there are.
    fn run<T: Float>(&self) -> Result<usize, Fault> {
        let op = self.op;
        let (images, classes) = (op.boxes.dims()[0] as usize, op.scores.dims()[1] as usize);
        let most = op.out.dims()[0] as usize;
        let mut written = 0;
        let all = match op.boxes.dims()[1] {
            // However many images and classes there are of nothing.
            0 => 0,
            _ => images * classes,
        };
        let mut start = 0;
        while start < all && written < most {
            let group = TOGETHER.min(all - start);
            let kept: Mutex<Vec<Vec<u32>>> = Mutex::new(vec![Vec::new(); group]);
            split(self.env, group, 1, |range| {
                for i in range {
                    let (image, class) = ((start + i) / classes, (start + i) % classes);
                    let found = self.keep::<T>(image, class)?;
                    kept.lock().unwrap_or_else(|e| e.into_inner())[i] = found;
                }
                Ok(())
            })?;
            let kept = kept.into_inner().unwrap_or_else(|e| e.into_inner());
            for (i, found) in kept.iter().enumerate() {
                let (image, class) = ((start + i) / classes, (start + i) % classes);
                for number in found.iter().take(most - written) {
                    self.row(written, [image as i64, class as i64, i64::from(*number)]);
                    written += 1;
                }
            }
            start += group;
        }
        let mut pace = Pace::new(self.env);
        for row in written..most {
            self.row(row, [-1; 3]);
            pace.did(3)?;
        }
        Ok(written)
    }

    fn row(&self, row: usize, values: [i64; 3]) {
        let [down, across] = [0, 1].map(|i| self.op.out.strides()[i] as isize);
        let to = row as isize * down;
        store_indices(self.out, self.op.out.dtype, to, across, &values);
    }

    /// The sides of some boxes of an image.
    fn sides<T: Float>(
        &self,
        image: usize,
        order: &[u32],
        pace: &mut Pace<'_>,
    ) -> Result<Sides<T>, Fault> {
        let (tensor, strides) = (&self.op.boxes, self.op.boxes.strides());
        let mut sides: Sides<T> = std::array::from_fn(|_| Vec::with_capacity(order.len()));
        for number in order {
            let from =
                image as isize * strides[0] as isize + *number as isize * strides[1] as isize;
            let mut four = [T::default(); 4];
            T::load(
                tensor.dtype,
                self.boxes,
                from,
                strides[2] as isize,
                &mut four,
            );
            let [a, b, c, d] = four;
            let half = T::of(0.5);
            let (a, b, c, d) = if self.op.centre {
                // Centre of columns, of rows, width, height.
                let (w, h) = (c.mul(half), d.mul(half));
                (b.sub(h), a.sub(w), b.add(h), a.add(w))
            } else {
                let (low, high) = if a > c { (c, a) } else { (a, c) };
                let (near, wide) = if b > d { (d, b) } else { (b, d) };
                (low, near, high, wide)
            };
            let area = c.sub(a).mul(d.sub(b));
            for (side, v) in sides.iter_mut().zip([a, b, c, d, area]) {
                side.push(v);
            }
            pace.did(8)?;
        }
        Ok(sides)
    }

    /// Numbers of the boxes of one class that stay, by falling score.
    fn keep<T: Float>(&self, image: usize, class: usize) -> Result<Vec<u32>, Fault> {
        let op = self.op;
        let mut pace = Pace::new(self.env);
        let (strides, number) = (op.scores.strides(), op.boxes.dims()[1] as usize);
        let base = image as isize * strides[0] as isize + class as isize * strides[1] as isize;
        let mut scores = vec![T::default(); number];
        for (i, part) in scores.chunks_mut(TILE).enumerate() {
            let from = base + (i * TILE) as isize * strides[2] as isize;
            T::load(
                op.scores.dtype,
                self.scores,
                from,
                strides[2] as isize,
                part,
            );
            pace.did(part.len())?;
        }
        let (threshold, any) = (op.score_threshold, op.score_threshold == f64::NEG_INFINITY);
        let passes = |v: &T| any || v.real() > threshold;
        let mut order: Vec<u32> = (0..number as u32)
            .filter(|i| passes(&scores[*i as usize]))
            .collect();
        // Whole numbers in the order of the scores, NaN above all.
        let key = |i: &u32| {
            let v = scores[*i as usize].real();
            let v = if v == 0.0 { 0.0 } else { v };
            let bits = if v.is_nan() {
                i64::MAX
            } else {
                v.to_bits() as i64
            };
            (
                std::cmp::Reverse(bits ^ (((bits >> 63) as u64) >> 1) as i64),
                *i,
            )
        };
        order.sort_unstable_by_key(key);
        pace.did(order.len())?;
        let sides = self.sides::<T>(image, &order, &mut pace)?;
        let mut gone = vec![0u8; order.len()];
        let mut kept = Vec::new();
        let limit = op.limit.min(op.out.dims()[0]);
        for i in 0..order.len() {
            if kept.len() as u64 >= limit {
                break;
            }
            pace.did(1)?;
            if gone[i] != 0 {
                continue;
            }
            kept.push(order[i]);
            let one = sides.each_ref().map(|s| s[i]);
            for start in (i + 1..order.len()).step_by(TILE) {
                let part = &mut gone[start..order.len().min(start + TILE)];
                let count = part.len();
                suppress(&sides, start, &one, T::of(op.overlap_threshold), part);
                pace.did(count)?;
            }
        }
        Ok(kept)
    }
}
