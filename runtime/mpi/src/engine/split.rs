//! Parts of the ranks become clusters of their own.

use vmlu::collective::{Communicator, Memory};
use vmlu::{Buffer, Result};

use super::Engine;
use crate::layout::Layout;

/// What a rank says of how it wants to be split: whether it has a color, which, its key, and the number that it proposes for the parts.
const WORDS: usize = 4;
pub(crate) const BYTES: u64 = 4 * WORDS as u64;

/// A rank's part, of which a cluster is made.
pub(crate) struct Part {
    pub(crate) layout: Layout,
    /// The ranks of the host; none if it has one.
    pub(crate) comm: Option<Communicator>,
    /// Number of the cluster: no rank of it is in another one with this number.
    pub(crate) id: u32,
}

/// A rank's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    color: Option<u32>,
    key: u32,
    number: u32,
}

impl Wish {
    fn to_bytes(self) -> Vec<u8> {
        let color = self.color.unwrap_or_default();
        let words = [
            u32::from(self.color.is_some()),
            color,
            self.key,
            self.number,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| {
            let word = bytes[4 * i..].iter().take(4).rev();
            word.fold(0u32, |word, byte| word << 8 | u32::from(*byte))
        };
        Self {
            color: (word(0) != 0).then(|| word(1)),
            key: word(2),
            number: word(3),
        }
    }
}

/// The ranks of each color, by key, then rank; in the order of colors.
fn parts(wishes: &[Wish]) -> Vec<Vec<u32>> {
    let mut colors: Vec<u32> = wishes.iter().filter_map(|wish| wish.color).collect();
    colors.sort_unstable();
    colors.dedup();
    let of = |color: u32| {
        let all = (0..).zip(wishes);
        let mut ranks: Vec<(u32, u32)> = all
            .filter(|(_, wish)| wish.color == Some(color))
            .map(|(rank, wish)| (wish.key, rank))
            .collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, rank)| rank).collect()
    };
    colors.into_iter().map(of).collect()
}

impl Engine {
    /// This rank's part. The inner error is one of all ranks, which leaves the cluster as it is.
    pub(super) fn split(
        &mut self,
        color: Option<u32>,
        key: u32,
        room: &Buffer,
    ) -> Result<Result<Option<Part>>> {
        let own = Wish {
            color,
            key,
            number: self.carrier.propose(),
        };
        let (size, rank) = (u64::from(self.layout.size), u64::from(self.layout.rank));
        self.queue.write(room, BYTES * rank, &own.to_bytes())?;
        let place = Memory::from((room, BYTES * rank));
        self.all_gather(&place, &Memory::from(room), BYTES)?;
        let mut bytes = vec![0; (BYTES * size) as usize];
        self.queue.read(room, 0, &mut bytes)?;
        let wishes: Vec<Wish> = bytes.chunks(BYTES as usize).map(Wish::from_bytes).collect();
        let number = wishes.iter().map(|wish| wish.number).max();
        let id = match self.carrier.number(number.unwrap_or_default()) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let mut mine = None;
        for ranks in parts(&wishes) {
            let place = ranks.iter().position(|r| *r == self.layout.rank);
            // Of each part, so that all ranks see the same error.
            match self.layout.part(&ranks, place.unwrap_or_default() as u32) {
                Err(error) => return Ok(Err(error)),
                Ok(layout) if place.is_some() => mine = Some(layout),
                Ok(_) => {}
            }
        }
        let comm = match &self.comm {
            Some(comm) => comm.split(color, key)?,
            None => None,
        };
        Ok(Ok(mine.map(|layout| Part {
            layout,
            comm: comm.filter(|comm| comm.size() > 1),
            id,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_by_color_key_and_rank() {
        let wish = |color, key| Wish {
            color,
            key,
            number: 7,
        };
        let wishes = [
            wish(Some(9), 1),
            wish(None, 0),
            wish(Some(2), 5),
            wish(Some(9), 0),
            wish(Some(9), 1),
        ];
        assert_eq!(parts(&wishes), [vec![2], vec![3, 0, 4]]);
        for wish in wishes {
            assert_eq!(Wish::from_bytes(&wish.to_bytes()), wish);
        }
    }
}
