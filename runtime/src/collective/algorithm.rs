//! How an all-reduce is done: by the shape of the topology, the number of ranks and the size, as a table says that was measured.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The table: lines of a shape, a number of ranks, bytes, and an algorithm. `cargo xtask bench link --table` measures and writes it.
const TABLE: &str = include_str!("algorithm.txt");

/// How an all-reduce is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// One rank reads all and writes to all.
    Alone,
    /// Each rank reduces its slice of all, and writes it to all.
    Direct,
    /// Ranks reduce two by two, up a tree, and take the result down it.
    Tree,
    /// Slices go round a ring, from neighbour to neighbour: once to be reduced, once to be taken.
    Ring,
    /// Groups of chips that are joined inside reduce; then each slice is combined across groups.
    Hierarchical,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Alone,
        Self::Direct,
        Self::Tree,
        Self::Ring,
        Self::Hierarchical,
    ];

    /// Its name, as `MLU_COLLECTIVE_ALGORITHM` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Direct => "direct",
            Self::Tree => "tree",
            Self::Ring => "ring",
            Self::Hierarchical => "hierarchical",
        }
    }

    /// The one with a number, as processes name it to each other.
    pub(super) fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|all| *all as u8 == raw)
    }

    /// Whether each element is reduced in the order of ranks.
    pub fn keeps_order(self) -> bool {
        matches!(self, Self::Alone | Self::Direct)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|all| all.name() == text);
        found.ok_or_else(|| format!("{text:?} is no algorithm of an all-reduce"))
    }
}

/// What a topology looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everybody is joined with everybody.
    Mesh,
    /// Several meshes of one size, with PCIe between them.
    Groups,
    /// Anything else.
    Sparse,
}

impl Shape {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Mesh, Self::Groups, Self::Sparse];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Groups => "groups",
            Self::Sparse => "sparse",
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|all| all.name() == text);
        found.ok_or_else(|| format!("{text:?} is no shape of a topology"))
    }
}

struct Row {
    shape: Shape,
    /// From so many ranks on, and so many bytes.
    ranks: usize,
    bytes: u64,
    algorithm: Algorithm,
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let rows = lines.filter(|line| !line.trim().is_empty()).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [shape, ranks, bytes, algorithm] = words[..] else {
            return Err(format!("{line:?} has not four words"));
        };
        Ok(Row {
            shape: shape.parse()?,
            ranks: ranks.parse().map_err(|e| format!("{line:?}: {e}"))?,
            bytes: bytes.parse().map_err(|e| format!("{line:?}: {e}"))?,
            algorithm: algorithm.parse()?,
        })
    });
    rows.collect()
}

/// The algorithm that the table says: of the rows of the shape with the most ranks that are not more than there are, the one with the most
/// bytes.
pub(super) fn choose(shape: Shape, ranks: usize, bytes: u64) -> Algorithm {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    // A test parses it.
    let rows = ROWS.get_or_init(|| parse(TABLE).unwrap_or_default());
    let fit = rows
        .iter()
        .filter(|row| row.shape == shape && row.ranks <= ranks && row.bytes <= bytes);
    let best = fit.max_by_key(|row| (row.ranks, row.bytes));
    best.map_or(Algorithm::Direct, |row| row.algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_an_algorithm_for_everything() {
        let rows = parse(TABLE).unwrap();
        for shape in Shape::ALL {
            let of = |ranks| {
                let rows = rows.iter();
                rows.filter(move |row| row.shape == shape && row.ranks == ranks)
            };
            assert!(of(2).any(|row| row.bytes == 0), "{shape:?}");
            for row in rows.iter().filter(|row| row.shape == shape) {
                assert!(
                    of(row.ranks).any(|row| row.bytes == 0),
                    "{shape:?} {}",
                    row.ranks
                );
                assert_eq!(choose(shape, row.ranks, row.bytes), row.algorithm);
            }
        }
    }

    /// Between hosts elements are reduced in the order of ranks; a mesh gives the same bits.
    #[test]
    fn in_a_mesh_the_order_is_that_of_ranks() {
        let rows = parse(TABLE).unwrap();
        let mut mesh = rows.iter().filter(|row| row.shape == Shape::Mesh);
        assert!(mesh.all(|row| row.algorithm.keeps_order()));
    }

    #[test]
    fn names_and_numbers() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(Algorithm::from_raw(algorithm as u8), Some(algorithm));
        }
        assert_eq!(Algorithm::from_raw(5), None);
        assert!("fast".parse::<Algorithm>().is_err());
        assert!(parse("mesh 2 0").is_err() && parse("mesh two 0 ring").is_err());
    }
}
