//! Which ranks there are, and on which hosts.

use vmlu::{Error, Result, Status};

use crate::carrier::Started;
use crate::refuse;

/// Of errors.
pub(crate) const START: &str = "start MPI";

/// A host, and its ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As it calls itself.
    pub name: String,
    /// Its first rank.
    pub first: u32,
    /// Number of its ranks, which follow each other.
    pub ranks: u32,
}

/// Where the ranks are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) hosts: Vec<Host>,
    /// Each rank's number for MPI.
    pub(crate) world: Vec<u32>,
}

impl Layout {
    /// Of all ranks.
    pub(crate) fn new(started: Started) -> Result<Self> {
        let Started {
            rank, size, seen, ..
        } = started;
        let mut hosts: Vec<Host> = Vec::new();
        for (rank, (first, name)) in (0..).zip(seen.first.into_iter().zip(seen.names)) {
            match hosts.last_mut() {
                Some(host) if host.first == first => host.ranks += 1,
                _ if first == rank => hosts.push(Host {
                    name,
                    first,
                    ranks: 1,
                }),
                _ => {
                    let text = format!(
                        "rank {rank} is on the host of rank {first}, and others are between them: start with `mpirun --map-by slot`"
                    );
                    return Err(Error::new(START, Status::InvalidArgument, text));
                }
            }
        }
        Ok(Self {
            rank,
            size,
            hosts,
            world: (0..size).collect(),
        })
    }

    /// Of some of the ranks, in an order of their own; `place` is this rank's among them.
    pub(crate) fn part(&self, ranks: &[u32], place: u32) -> Result<Self> {
        let mut hosts: Vec<Host> = Vec::new();
        let mut seen: Vec<usize> = Vec::new();
        for (rank, old) in (0..).zip(ranks) {
            let number = self.host_of(*old);
            let name = &self.hosts[number].name;
            match hosts.last_mut() {
                Some(host) if seen.last() == Some(&number) => host.ranks += 1,
                _ if seen.contains(&number) => {
                    return refuse(format!(
                        "ranks of {name} would not follow each other: order them by host"
                    ));
                }
                _ => hosts.push(Host {
                    name: name.clone(),
                    first: rank,
                    ranks: 1,
                }),
            }
            seen.push(number);
        }
        Ok(Self {
            rank: place,
            size: ranks.len() as u32,
            hosts,
            world: ranks
                .iter()
                .map(|rank| self.world[*rank as usize])
                .collect(),
        })
    }

    /// The ranks of a host.
    pub(crate) fn ranks_of(&self, host: usize) -> std::ops::Range<u32> {
        let host = &self.hosts[host];
        host.first..host.first + host.ranks
    }

    /// Whether a rank is on this host.
    pub(crate) fn is_near(&self, rank: u32) -> bool {
        self.ranks_of(self.host()).contains(&rank)
    }

    pub(crate) fn host_of(&self, rank: u32) -> usize {
        let behind = self.hosts.iter().position(|host| host.first > rank);
        behind.unwrap_or(self.hosts.len()) - 1
    }

    pub(crate) fn host(&self) -> usize {
        self.host_of(self.rank)
    }

    pub(crate) fn is_last_host(&self) -> bool {
        self.host() + 1 == self.hosts.len()
    }

    /// Number of the rank among those of its host.
    pub(crate) fn local(&self) -> u32 {
        self.rank - self.hosts[self.host()].first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Seen;

    fn layout(rank: u32, first: &[u32]) -> Result<Layout> {
        Layout::new(Started {
            rank,
            size: first.len() as u32,
            tags: 32767,
            seen: Seen {
                first: first.to_vec(),
                names: first.iter().map(|f| format!("host{f}")).collect(),
            },
        })
    }

    #[test]
    fn ranks_know_their_hosts() {
        let layout = layout(3, &[0, 0, 2, 2, 2, 5]).unwrap();
        let hosts: Vec<(u32, u32)> = layout.hosts.iter().map(|h| (h.first, h.ranks)).collect();
        assert_eq!(hosts, [(0, 2), (2, 3), (5, 1)]);
        assert_eq!((layout.host(), layout.local()), (1, 1));
        assert!(!layout.is_last_host());
        let of: Vec<usize> = (0..6).map(|rank| layout.host_of(rank)).collect();
        assert_eq!(of, [0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn ranks_of_a_host_follow_each_other() {
        let error = layout(0, &[0, 1, 0, 1]).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.to_string().contains("--map-by slot"), "{error}");
    }

    #[test]
    fn a_part_of_the_ranks() {
        let layout = layout(3, &[0, 0, 2, 2, 2, 5]).unwrap();
        let part = layout.part(&[5, 1, 3, 4], 2).unwrap();
        assert_eq!((part.rank, part.size), (2, 4));
        assert_eq!(part.world, [5, 1, 3, 4]);
        let hosts: Vec<(&str, u32, u32)> = part
            .hosts
            .iter()
            .map(|host| (host.name.as_str(), host.first, host.ranks))
            .collect();
        assert_eq!(hosts, [("host5", 0, 1), ("host0", 1, 1), ("host2", 2, 2)]);
        assert_eq!((part.host(), part.local()), (2, 0));
        assert!(part.is_near(3) && !part.is_near(1));
        // A part of the part.
        let less = part.part(&[3, 0], 0).unwrap();
        assert_eq!((less.world, less.hosts.len()), (vec![4, 5], 2));
        let error = layout.part(&[2, 0, 3], 0).unwrap_err();
        assert!(error.to_string().contains("host2"), "{error}");
    }
}
