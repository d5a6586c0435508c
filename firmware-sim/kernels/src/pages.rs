//! Where the keys of attention lie: one after the other, or on pages that a table names.

use vmlu_abi::Status;
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::number::TILE;
use super::sort::{room, sort, Pairs};
use super::view::View;
use super::walk::Pace;

/// The pages of each batch element: a checked copy of the table.
pub(super) struct Pages {
    /// By batch element, in order; empty without a table.
    table: Vec<Vec<u32>>,
    /// Keys of a page.
    page: usize,
}

impl Pages {
    /// Keys that lie one after the other.
    pub const NONE: &'static Self = &Self {
        table: Vec::new(),
        page: 1,
    };

    /// Reads what holds keys that count. `k` has the pages.
    pub fn read(
        operator: &str,
        operand: u16,
        (tensor, view): (&Tensor, &View<'_>),
        k: &Tensor,
        lengths: &[usize],
        env: &dyn Env,
    ) -> Result<Self, Fault> {
        let (pages, page) = (k.dims()[0], k.dims()[2] as usize);
        let [down, across] = [0, 1].map(|i| tensor.strides()[i] as isize);
        let mut pace = Pace::new(env);
        let mut raw = [0i32; TILE];
        let mut table = Vec::with_capacity(lengths.len());
        for (b, length) in lengths.iter().enumerate() {
            let count = length.div_ceil(page);
            let mut own = Vec::with_capacity(count);
            for start in (0..count).step_by(TILE) {
                let raw = &mut raw[..TILE.min(count - start)];
                let place = b as isize * down + start as isize * across;
                view.load(place, across, raw);
                for (i, p) in raw.iter().enumerate() {
                    let known = u32::try_from(*p).ok().filter(|p| u64::from(*p) < pages);
                    own.push(known.ok_or_else(|| {
                        let at = start + i;
                        let text =
                            format!("{operator}: table[{b}, {at}] is {p}, there are {pages} pages");
                        Fault::operand(Status::IndexOutOfRange, operand, tensor.address, text)
                    })?);
                }
                pace.did(raw.len())?;
            }
            pace.did(1)?;
            table.push(own);
        }
        Ok(Self { table, page })
    }

    /// Offset of a key's row in `k` or `v`, and keys that follow at the same distance, itself included.
    pub fn row(&self, strides: &[i64], b: usize, group: usize, key: usize) -> (isize, usize) {
        let at = |i: usize, index: usize| index as isize * strides[i] as isize;
        match self.table.get(b) {
            None => (at(0, b) + at(1, group) + at(2, key), usize::MAX),
            Some(table) => {
                let number = table.get(key / self.page).map_or(0, |p| *p as usize);
                (
                    at(0, number) + at(1, group) + at(2, key % self.page),
                    self.page - key % self.page,
                )
            }
        }
    }

    /// Who uses each page; `None` without a table.
    pub fn uses(&self, operator: &str, env: &dyn Env) -> Result<Option<Uses>, Fault> {
        if self.table.is_empty() {
            return Ok(None);
        }
        let count = self.table.iter().map(Vec::len).sum();
        let (mut pairs, mut spare) = (room(count, operator)?, room(count, operator)?);
        let mut pace = Pace::new(env);
        for (b, pages) in self.table.iter().enumerate() {
            // Both are below 2³²; there are at most `vmlu_ops::attention::MAX_BATCH` batch elements and entries.
            let entries = pages.iter().zip(0u32..);
            for (page, entry) in entries {
                pairs.push((u64::from(*page) << 32 | b as u64, entry));
                pace.did(1)?;
            }
        }
        sort(&mut pairs, &mut spare, &mut pace)?;
        Ok(Some(Uses {
            pairs,
            page: self.page,
        }))
    }
}

/// Entries of the table by page, and of a page by batch element and key.
pub(super) struct Uses {
    /// Pages above batch elements, and numbers of entries.
    pairs: Pairs,
    /// Keys of a page.
    page: usize,
}

impl Uses {
    /// Who uses a page: batch elements, and which key of theirs is the page's first.
    pub fn of(&self, page: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let start = self
            .pairs
            .partition_point(|p| ((p.0 >> 32) as usize) < page);
        let end = self.pairs.partition_point(|p| (p.0 >> 32) as usize <= page);
        let uses = self.pairs[start..end].iter();
        uses.map(|(both, entry)| (*both as u32 as usize, *entry as usize * self.page))
    }
}
