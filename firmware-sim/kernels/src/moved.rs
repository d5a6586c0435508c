//! What deformable convolution and its gradients share: where moved taps are, and what they see.

use vmlu_abi::tensor::DataType;
use vmlu_ops::deform_conv::Look;
use vmlu_ops::tensor::Tensor;

use super::env::Fault;
use super::floats::Float;
use super::gemm::{Arith, Double, Feed, Single, F32, F64};
use super::number::TILE;
use super::view::View;
use super::walk::Pace;

/// A type with its products.
pub(super) trait Multiplied: Float {
    /// How it is multiplied.
    type Arith: Arith<Acc = Self>;
    /// How elements become words of that.
    type Feed: Feed<Word = <Self::Arith as Arith>::Word, Element = Self>;
}

impl Multiplied for f32 {
    type Arith = F32;
    type Feed = Single;
}

impl Multiplied for f64 {
    type Arith = F64;
    type Feed = Double;
}

/// Where an element of a tensor of four axes lies.
pub(super) fn at(tensor: &Tensor, index: [usize; 4]) -> isize {
    let strides = tensor.strides();
    (0..4)
        .map(|i| index[i] as isize * strides[i] as isize)
        .sum()
}

/// One element.
pub(super) fn load<T: Float>(dtype: DataType, view: &View<'_>, offset: isize) -> T {
    let mut one = [T::default()];
    T::load(dtype, view, offset, 1, &mut one);
    one[0]
}

/// Where a tap is: the elements around it along both axes, and their weights.
pub(super) struct Spot<T> {
    sides: [[(i64, T); 2]; 2],
    sizes: [i64; 2],
}

impl<T: Float> Spot<T> {
    /// Calls `each(offset, weight, slopes)` for those that are there, `steps` apart; slopes are how the weight changes with the place.
    #[inline]
    pub fn each(&self, steps: [isize; 2], mut each: impl FnMut(isize, T, [T; 2])) {
        let [rows, columns] = &self.sides;
        for (i, (y, a)) in rows.iter().enumerate() {
            for (j, (x, b)) in columns.iter().enumerate() {
                if (0..self.sizes[0]).contains(y) && (0..self.sizes[1]).contains(x) {
                    let signed = |v: T, second: usize| if second == 0 { v.neg() } else { v };
                    each(
                        *y as isize * steps[0] + *x as isize * steps[1],
                        a.mul(*b),
                        [signed(*b, i), signed(*a, j)],
                    );
                }
            }
        }
    }
}

/// The taps of an operator.
pub(super) struct Moved<'m, 'a> {
    pub look: &'m Look,
    pub x: (&'m View<'a>, &'m Tensor),
    pub offset: (&'m View<'a>, &'m Tensor),
    pub mask: Option<(&'m View<'a>, &'m Tensor)>,
}

impl Moved<'_, '_> {
    /// Channels that share offsets.
    pub fn shared(&self) -> usize {
        (self.x.1.dims()[1] as usize / self.look.offset_groups).max(1)
    }

    /// Positions of an image.
    pub fn positions(&self) -> usize {
        self.look.axes[1].output as usize * self.look.axes[2].output as usize
    }

    /// Row and column of a position.
    pub fn place(&self, position: usize) -> [usize; 2] {
        let columns = self.look.axes[2].output as usize;
        [position / columns, position % columns]
    }

    /// Steps along the two axes of an image.
    pub fn steps(&self) -> [isize; 2] {
        [2, 3].map(|i| self.x.1.strides()[i] as isize)
    }

    /// Where a tap of a group of channels is at a position; `None` outside.
    pub fn spot<T: Float>(
        &self,
        image: usize,
        group: usize,
        tap: usize,
        place: [usize; 2],
    ) -> Option<Spot<T>> {
        let axes = [&self.look.axes[1], &self.look.axes[2]];
        let (view, tensor) = self.offset;
        let across = axes[1].taps as usize;
        let taps = [tap / across, tap % across];
        let number = group * self.look.taps() + tap;
        let mut sides = [[(0i64, T::default()); 2]; 2];
        for (axis, a) in axes.into_iter().enumerate() {
            let window = place[axis] as i64;
            let own = window * a.stride - a.before + taps[axis] as i64 * a.dilation;
            let index = [image, 2 * number + axis, place[0], place[1]];
            let far: T = load(tensor.dtype, view, at(tensor, index));
            let place = T::of(own as f64).add(far);
            // Written so that NaN is outside too.
            let inside = place > T::of(-1.0) && place < T::of(a.input as f64);
            if !inside {
                return None;
            }
            let floor = place.floor();
            let (low, fraction) = (floor.to_i64(), place.sub(floor));
            sides[axis] = [(low, T::ONE.sub(fraction)), (low + 1, fraction)];
        }
        Some(Spot {
            sides,
            sizes: axes.map(|a| a.input),
        })
    }

    /// How much a tap of a group of channels counts at a position.
    pub fn factor<T: Float>(&self, image: usize, group: usize, tap: usize, place: [usize; 2]) -> T {
        match self.mask {
            Some((view, tensor)) => {
                let number = group * self.look.taps() + tap;
                let index = [image, number, place[0], place[1]];
                load(tensor.dtype, view, at(tensor, index))
            }
            None => T::ONE,
        }
    }

    /// What a tap sees of a channel, not yet masked.
    pub fn seen<T: Float>(&self, image: usize, channel: usize, spot: &Spot<T>) -> T {
        let (view, tensor) = self.x;
        let base = at(tensor, [image, channel, 0, 0]);
        let mut sum = T::default();
        spot.each(self.steps(), |offset, weight, _| {
            let v: T = load(tensor.dtype, view, base + offset);
            sum = sum.add(weight.mul(v));
        });
        sum
    }

    /// Calls `put(position, channel, tap, value)` with what the taps of some channels see at some positions, masked. Channels are counted from the first.
    pub fn gather<T: Float>(
        &self,
        image: usize,
        channels: std::ops::Range<usize>,
        positions: std::ops::Range<usize>,
        pace: &mut Pace<'_>,
        mut put: impl FnMut(usize, usize, usize, T),
    ) -> Result<(), Fault> {
        let shared = self.shared();
        for (i, position) in positions.enumerate() {
            let place = self.place(position);
            for tap in 0..self.look.taps() {
                let mut placed = usize::MAX;
                let (mut spot, mut factor) = (None, T::ONE);
                for (c, channel) in channels.clone().enumerate() {
                    if placed != channel / shared {
                        placed = channel / shared;
                        spot = self.spot::<T>(image, placed, tap, place);
                        factor = self.factor(image, placed, tap, place);
                        pace.did(32)?;
                    }
                    let seen = match &spot {
                        Some(spot) => self.seen(image, channel, spot).mul(factor),
                        None => T::default(),
                    };
                    put(i, c, tap, seen);
                    pace.did(8)?;
                }
            }
        }
        Ok(())
    }
}

/// Calls `put(output, depth, value)` with the elements of a filter.
pub(super) fn filter<T: Float>(
    view: &View<'_>,
    tensor: &Tensor,
    pace: &mut Pace<'_>,
    mut put: impl FnMut(usize, usize, T),
) -> Result<(), Fault> {
    let [outputs, own, down, across] = [0, 1, 2, 3].map(|i| tensor.dims()[i] as usize);
    let step = tensor.strides()[3] as isize;
    let mut row = [T::default(); TILE];
    for number in 0..outputs * own * down {
        let index = [number / (own * down), number / down % own, number % down, 0];
        for start in (0..across).step_by(TILE) {
            let row = &mut row[..TILE.min(across - start)];
            let from = at(tensor, index) + start as isize * step;
            T::load(tensor.dtype, view, from, step, row);
            for (i, v) in row.iter().enumerate() {
                put(index[0], number % (own * down) * across + start + i, *v);
            }
        }
        pace.did(across)?;
    }
    Ok(())
}
