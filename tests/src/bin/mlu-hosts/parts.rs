//! Parts of the ranks.

use vmlu::collective::Function;
use vmlu::{DataType, Status};
use vmlu_mpi::Cluster;

use crate::{bytes_of, value, Check, Rank};

const COUNT: u64 = 300_001;

impl Rank {
    /// That a cluster sums in the order of its ranks, which are these.
    fn sums(&self, what: &str, cluster: &Cluster, ranks: &[u32]) -> Check {
        let own = bytes_of((0..COUNT).map(|i| value(self.cluster.rank(), i)));
        let sum = |i: u64| {
            ranks
                .iter()
                .map(|rank| value(*rank, i))
                .reduce(|a, b| a + b)
        };
        let expected = bytes_of((0..COUNT).filter_map(sum));
        let (send, receive) = (self.holding(&own)?, self.room(4 * COUNT)?);
        let (f32, sum) = (DataType::F32, Function::Sum);
        cluster.all_reduce(&send, &receive, COUNT, f32, sum, &self.queue)?;
        self.expect(what, &receive, &expected)
    }

    pub fn parts(&self) -> Check {
        let (rank, size) = (self.cluster.rank(), self.cluster.size());
        let all: Vec<u32> = self.ranks().collect();
        // Every second rank of all hosts.
        let half = self.cluster.split(Some(rank % 2), rank)?;
        let half = half.ok_or("a rank with a color has no part")?;
        let ranks: Vec<u32> = self.ranks().filter(|r| r % 2 == rank % 2).collect();
        if (half.rank(), half.size()) != (rank / 2, ranks.len() as u32) {
            return Err(format!("rank {rank} is {} of {}", half.rank(), half.size()).into());
        }
        self.sums("a part", &half, &ranks)?;
        self.sums("all, beside a part", &self.cluster, &all)?;
        // A part of a part, in which one of them is not.
        let less = half.split((half.rank() > 0).then_some(7), 0)?;
        match (less, half.rank()) {
            (None, 0) => {}
            (Some(less), 1..) => self.sums("a part of a part", &less, &ranks[1..])?,
            _ => return Err("a rank without a color has a part".into()),
        }
        self.sums("the part still", &half, &ranks)?;
        drop(half);
        // In another order: hosts that follow each other the other way round.
        let hosts = self.cluster.hosts();
        let host = hosts.iter().rposition(|host| host.first <= rank);
        let key = hosts.len() - host.unwrap_or_default();
        let other = self.cluster.split(Some(0), key as u32)?;
        let other = other.ok_or("a rank with a color has no part")?;
        let ranks: Vec<u32> = hosts
            .iter()
            .rev()
            .flat_map(|host| host.first..host.first + host.ranks)
            .collect();
        self.sums("another order", &other, &ranks)?;
        // In one in which hosts are torn apart.
        if hosts.len() > 1 && hosts[0].ranks > 1 {
            let torn = self.cluster.split(Some(0), rank % hosts[0].ranks);
            let status = torn.err().map(|error| error.status());
            if status != Some(Status::InvalidArgument) {
                return Err(format!("a host torn apart gives {status:?}").into());
            }
        }
        if self.cluster.split(None, size)?.is_some() {
            return Err("a rank without a color has a part".into());
        }
        self.sums("all, at the end", &self.cluster, &all)
    }
}
