//! How the chips of a clique's ranks are joined, and which algorithm fits that.

use std::sync::atomic::{AtomicU8, Ordering};

use vmlu_abi::tensor::DataType;
use vmlu_ops::combine::Function;

use super::algorithm::{self, Algorithm, Shape};
use super::neighbours;
use super::plan::{bit, bits};

/// The algorithm of all all-reduces of a process, instead of the table's.
const FORCED: &str = "MLU_COLLECTIVE_ALGORITHM";
/// No algorithm's number: the table is asked.
const BY_TABLE: u8 = u8::MAX;

/// How ranks are joined by MLU-Link.
#[derive(Debug)]
pub(super) struct Topology {
    /// Groups of ranks that are fully joined inside, each in rank order; all ranks where they are not so.
    pub(super) groups: Vec<Vec<usize>>,
    pub(super) shape: Shape,
    /// All ranks, neighbours joined if there is a way round of joined ones.
    pub(super) ring: Vec<usize>,
    forced: AtomicU8,
}

impl Topology {
    /// Of the ranks that each rank is joined with, a bit each.
    pub(super) fn new(joined: &[u32]) -> Self {
        let size = joined.len();
        let closed: Vec<u32> = joined
            .iter()
            .enumerate()
            .map(|(i, j)| *j | bit(i))
            .collect();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for rank in 0..size {
            match groups.iter_mut().find(|g| closed[g[0]] == closed[rank]) {
                Some(group) => group.push(rank),
                None => groups.push(vec![rank]),
            }
        }
        let apart = groups.iter().all(|group| {
            let mask = bits(group);
            group.iter().all(|r| closed[*r] == mask)
        });
        let each = groups.first().map_or(0, Vec::len);
        let (shape, ring) = if apart && groups.len() == 1 {
            (Shape::Mesh, (0..size).collect())
        } else if apart && each > 1 && groups.iter().all(|g| g.len() == each) {
            (Shape::Groups, groups.concat())
        } else {
            (Shape::Sparse, neighbours::round(joined))
        };
        if !apart {
            // Neither a mesh nor meshes: everybody reaches everybody somehow.
            groups = vec![(0..size).collect()];
        }
        let forced = std::env::var(FORCED).ok().filter(|name| !name.is_empty());
        let forced = forced.and_then(|name| {
            let known = name.parse::<Algorithm>();
            known
                .map_err(|error| tracing::warn!("{FORCED}: {error}"))
                .ok()
        });
        Self {
            groups,
            shape,
            ring,
            forced: AtomicU8::new(forced.map_or(BY_TABLE, |a| a as u8)),
        }
    }

    /// One algorithm for all, or the table's.
    pub(super) fn force(&self, algorithm: Option<Algorithm>) {
        let raw = algorithm.map_or(BY_TABLE, |algorithm| algorithm as u8);
        self.forced.store(raw, Ordering::Relaxed);
    }

    /// How an all-reduce of so many bytes is done.
    pub(super) fn algorithm(&self, bytes: u64, dtype: DataType, function: Function) -> Algorithm {
        let forced = Algorithm::from_raw(self.forced.load(Ordering::Relaxed));
        let wanted =
            forced.unwrap_or_else(|| algorithm::choose(self.shape, self.ring.len(), bytes));
        // An average of averages would be rounded otherwise.
        let stepwise = function != Function::Average;
        let half = matches!(dtype, DataType::F16 | DataType::Bf16);
        match wanted {
            Algorithm::Hierarchical if self.shape != Shape::Groups || !stepwise => {
                Algorithm::Direct
            }
            // Half precision would be rounded at each step.
            Algorithm::Ring | Algorithm::Tree if half || !stepwise => Algorithm::Direct,
            wanted => wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(ranks: std::ops::Range<usize>) -> Vec<u32> {
        let all = ranks.clone().fold(0, |mask, rank| mask | bit(rank));
        ranks.map(|rank| all & !bit(rank)).collect()
    }

    #[test]
    fn shapes() {
        let topology = Topology::new(&mesh(0..4));
        assert_eq!((topology.shape, topology.groups.len()), (Shape::Mesh, 1));
        let two = Topology::new(&[mesh(0..4), mesh(4..8)].concat());
        assert_eq!((two.shape, two.groups.len()), (Shape::Groups, 2));
        // Meshes of different sizes, chips that nothing joins, and a line.
        let uneven = Topology::new(&[mesh(0..3), mesh(3..5)].concat());
        assert_eq!((uneven.shape, uneven.groups.len()), (Shape::Sparse, 2));
        assert_eq!(Topology::new(&[0, 0]).shape, Shape::Sparse);
        let line = Topology::new(&[0b10, 0b101, 0b10]);
        assert_eq!((line.shape, line.groups.len()), (Shape::Sparse, 1));
        assert_eq!(Topology::new(&[0]).shape, Shape::Mesh);
    }

    #[test]
    fn what_an_algorithm_cannot_do_goes_directly() {
        use Algorithm::*;
        let mesh = Topology::new(&mesh(0..4));
        let way = |dtype, function| mesh.algorithm(1 << 20, dtype, function);
        for (forced, plain, average, half) in [
            (Ring, Ring, Direct, Direct),
            (Tree, Tree, Direct, Direct),
            (Alone, Alone, Alone, Alone),
            (Hierarchical, Direct, Direct, Direct),
        ] {
            mesh.force(Some(forced));
            assert_eq!(way(DataType::F32, Function::Sum), plain);
            assert_eq!(way(DataType::F32, Function::Average), average);
            assert_eq!(way(DataType::Bf16, Function::Sum), half);
        }
        mesh.force(None);
        assert_eq!(way(DataType::F32, Function::Sum), Direct);
    }
}
