//! Kernel of `vmlu_ops::deform_conv_backward_data`: planes of `dx` gather from all positions; offsets and masks, some positions at a time, from all
//! channels. Both multiply `dy` with the filter for what they need.

use vmlu_ops::deform_conv_backward_data::{Checked, DeformConvBackwardData};
use vmlu_ops::matmul::K_BLOCK;
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::with_compute;
use super::gemm::{Feed, Private};
use super::moved::{at, filter, load, Moved, Multiplied};
use super::private_product::each_row;
use super::sampling::each_plane;
use super::view::View;
use super::walk::{split, Pace};

/// Positions that are multiplied at once.
const TOGETHER: usize = 64;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<DeformConvBackwardData>(body)?;
    let read = |i, t: &Tensor| View::open(env, i, t, Access::Read);
    let (dy, x) = (read(0, &op.dy)?, read(1, &op.x)?);
    let (w, offset) = (read(2, &op.w)?, read(3, &op.offset)?);
    let mask = op.mask.as_ref().map(|t| read(4, t)).transpose()?;
    let write = |i, t: &Option<Tensor>| match t {
        Some(t) => View::open(env, i, t, Access::Write).map(Some),
        None => Ok(None),
    };
    let dx = write(5, &op.dx)?;
    let (doffset, dmask) = (write(6, &op.doffset)?, write(7, &op.dmask)?);
    let moved = Moved {
        look: &op.look,
        x: (&x, &op.x),
        offset: (&offset, &op.offset),
        mask: mask.as_ref().zip(op.mask.as_ref()),
    };
    let job = Job {
        op: &op,
        env,
        moved: &moved,
        dy: &dy,
        doffset: doffset.as_ref().zip(op.doffset.as_ref()),
        dmask: dmask.as_ref().zip(op.dmask.as_ref()),
    };
    with_compute!(op.x.dtype, T => {
        let columns = job.columns::<T>(&w)?;
        if let (Some(view), Some(tensor)) = (&dx, &op.dx) {
            job.of_input::<T>(view, tensor, &columns)?;
        }
        let [offsets, masks] = [&op.doffset, &op.dmask].map(|t| t.map_or(0, |t| t.elements));
        if offsets + masks > 0 {
            job.of_places::<T>(&columns)?;
        }
    });
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    moved: &'j Moved<'j, 'a>,
    dy: &'j View<'a>,
    doffset: Option<(&'j View<'a>, &'j Tensor)>,
    dmask: Option<(&'j View<'a>, &'j Tensor)>,
}

impl Job<'_, '_> {
    fn of_group(&self) -> usize {
        self.op.w.dims()[0] as usize / self.op.look.groups
    }

    /// The filter with outputs innermost: of each group, channel and tap.
    fn columns<T: Multiplied>(&self, w: &View<'_>) -> Result<Vec<T>, Fault> {
        let of_group = self.of_group();
        let depth = self.op.look.own * self.op.look.taps();
        let mut columns = vec![T::default(); self.op.w.elements as usize];
        filter(w, &self.op.w, &mut Pace::new(self.env), |o, k, v| {
            let (group, o) = (o / of_group, o % of_group);
            columns[(group * depth + k) * of_group + o] = v;
        })?;
        Ok(columns)
    }

    /// `dy` of a group at some positions, outputs innermost.
    fn upstream<T: Multiplied>(
        &self,
        image: usize,
        group: usize,
        positions: std::ops::Range<usize>,
        pace: &mut Pace<'_>,
        to: &mut Vec<T>,
    ) -> Result<(), Fault> {
        let (dy, of_group) = (&self.op.dy, self.of_group());
        to.resize(positions.len() * of_group, T::default());
        let step = dy.strides()[1] as isize;
        for (position, row) in positions.zip(to.chunks_mut(of_group.max(1))) {
            let [r, c] = self.moved.place(position);
            for (i, part) in row.chunks_mut(super::number::TILE).enumerate() {
                let output = group * of_group + i * super::number::TILE;
                let from = at(dy, [image, output, r, c]);
                T::load(dy.dtype, self.dy, from, step, part);
                pace.did(part.len())?;
            }
        }
        Ok(())
    }

    /// Rows of outputs as a side of a product.
    fn side<'s, T: Multiplied>(&self, data: &'s [T], lines: usize) -> Private<'s, T::Feed> {
        Private {
            data,
            pitch: self.of_group(),
            lines,
            length: self.of_group(),
        }
    }

    fn of_input<T: Multiplied>(
        &self,
        view: &View<'_>,
        tensor: &Tensor,
        columns: &[T],
    ) -> Result<(), Fault> {
        let (look, of_group) = (&self.op.look, self.of_group());
        let (taps, positions) = (look.taps(), self.moved.positions());
        let wide = tensor.dims()[3] as isize;
        let words = (T::Feed::words(of_group), K_BLOCK as usize);
        each_plane::<T>(self.env, view, tensor, |image, channel, band, pace| {
            let (group, shared) = (channel / look.own, channel / self.moved.shared());
            let own = &columns[channel * taps * of_group..][..taps * of_group];
            let (mut up, mut change) = (Vec::<T>::new(), Vec::<T>::new());
            for first in (0..positions).step_by(TOGETHER) {
                let count = TOGETHER.min(positions - first);
                self.upstream(image, group, first..first + count, pace, &mut up)?;
                change.resize(count * taps, T::default());
                let (a, b) = (self.side(&up, count), self.side(own, taps));
                each_row::<T::Arith>(self.env, words, &a, &b, |row, some, sums| {
                    change[row * taps..][some].copy_from_slice(sums);
                })?;
                for i in 0..count {
                    let place = self.moved.place(first + i);
                    for tap in 0..taps {
                        pace.did(32)?;
                        let Some(spot) = self.moved.spot::<T>(image, shared, tap, place) else {
                            continue;
                        };
                        let factor: T = self.moved.factor(image, shared, tap, place);
                        let v = change[i * taps + tap].mul(factor);
                        spot.each([wide, 1], |offset, weight, _| {
                            band.add(offset, weight.mul(v));
                        });
                    }
                }
            }
            Ok(())
        })
    }

    fn of_places<T: Multiplied>(&self, columns: &[T]) -> Result<(), Fault> {
        let (op, look, of_group) = (self.op, &self.op.look, self.of_group());
        let (taps, own) = (look.taps(), look.own);
        let positions = self.moved.positions();
        let pieces = positions.div_ceil(TOGETHER);
        let words = (T::Feed::words(of_group), K_BLOCK as usize);
        let moved = look.offset_groups * taps;
        split(self.env, op.dy.dims()[0] as usize * pieces, 1, |range| {
            let mut pace = Pace::new(self.env);
            let (mut up, mut change) = (Vec::<T>::new(), Vec::<T>::new());
            // Of each group of channels and tap: down, across, and what the mask has.
            let mut sums: Vec<[T; 3]> = Vec::new();
            for index in range {
                let (image, first) = (index / pieces, index % pieces * TOGETHER);
                let count = TOGETHER.min(positions - first);
                sums.clear();
                sums.resize(moved * count, [T::default(); 3]);
                let groups = if own == 0 { 0 } else { look.groups };
                for group in 0..groups {
                    self.upstream(image, group, first..first + count, &mut pace, &mut up)?;
                    for c in 0..own {
                        let channel = group * own + c;
                        let shared = channel / self.moved.shared();
                        let filter = &columns[channel * taps * of_group..][..taps * of_group];
                        change.resize(count * taps, T::default());
                        let (a, b) = (self.side(&up, count), self.side(filter, taps));
                        each_row::<T::Arith>(self.env, words, &a, &b, |row, some, sums| {
                            change[row * taps..][some].copy_from_slice(sums);
                        })?;
                        self.channel(
                            (image, channel, shared),
                            first,
                            &change,
                            &mut sums,
                            &mut pace,
                        )?;
                    }
                }
                self.store_places(image, first, count, &sums, &mut pace)?;
            }
            Ok(())
        })
    }

    /// Adds what one channel has for the places of its taps.
    fn channel<T: Multiplied>(
        &self,
        (image, channel, shared): (usize, usize, usize),
        first: usize,
        change: &[T],
        sums: &mut [[T; 3]],
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let taps = self.op.look.taps();
        let count = change.len() / taps;
        let (view, tensor) = self.moved.x;
        let base = at(tensor, [image, channel, 0, 0]);
        for i in 0..count {
            let place = self.moved.place(first + i);
            for tap in 0..taps {
                pace.did(32)?;
                let Some(spot) = self.moved.spot::<T>(image, shared, tap, place) else {
                    continue;
                };
                let factor: T = self.moved.factor(image, shared, tap, place);
                let mut seen = [T::default(); 3];
                spot.each(self.moved.steps(), |offset, weight, slopes| {
                    let v: T = load(tensor.dtype, view, base + offset);
                    for (s, w) in seen.iter_mut().zip([slopes[0], slopes[1], weight]) {
                        *s = s.add(w.mul(v));
                    }
                });
                let up = change[i * taps + tap];
                let masked = up.mul(factor);
                let to = &mut sums[(shared * taps + tap) * count + i];
                for ((t, s), up) in to.iter_mut().zip(seen).zip([masked, masked, up]) {
                    *t = t.add(up.mul(s));
                }
            }
        }
        Ok(())
    }

    fn store_places<T: Multiplied>(
        &self,
        image: usize,
        first: usize,
        count: usize,
        sums: &[[T; 3]],
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        for (at_sum, [down, across, mask]) in sums.iter().enumerate() {
            let (number, i) = (at_sum / count, at_sum % count);
            let [r, c] = self.moved.place(first + i);
            if let Some((view, tensor)) = self.doffset {
                for (axis, v) in [down, across].into_iter().enumerate() {
                    let to = at(tensor, [image, 2 * number + axis, r, c]);
                    T::store(tensor.dtype, view, to, 1, &[*v]);
                }
            }
            if let Some((view, tensor)) = self.dmask {
                T::store(
                    tensor.dtype,
                    view,
                    at(tensor, [image, number, r, c]),
                    1,
                    &[*mask],
                );
            }
            pace.did(3)?;
        }
        Ok(())
    }
}
