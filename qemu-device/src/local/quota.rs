//! What a user may have of a chip at most, in all his contexts together. As the kernel driver's quotas (`docs/uapi.md`, section 14).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use vmlu_abi::pci::MAX_QUEUES;
use vmlu_abi::Status;

use super::context::Refusal;
use crate::lock::lock;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Queues.
    Queues,
    /// Device memory, bytes.
    Memory,
    /// Pinned host memory, bytes.
    Pinned,
}

const KINDS: usize = 3;

/// The most that each user but root may have of each chip; 0: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    /// Queues.
    pub queues: u64,
    /// Device memory, bytes.
    pub memory: u64,
    /// Pinned host memory, bytes.
    pub pinned: u64,
}

impl Quota {
    /// What is usual for a socket of a mode: where it lets other users in, none of them takes all of a chip's queues.
    pub fn of_mode(mode: u32) -> Self {
        let queues = match mode & 0o022 {
            0 => 0,
            _ => u64::from(MAX_QUEUES) * 3 / 4,
        };
        Self {
            queues,
            ..Self::default()
        }
    }

    fn limit(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Queues => self.queues,
            Kind::Memory => self.memory,
            Kind::Pinned => self.pinned,
        }
    }
}

/// What the users of a chip have, and its quotas.
pub struct Quotas {
    quota: Quota,
    /// By user; whoever has nothing is not there.
    users: Mutex<HashMap<u32, [u64; KINDS]>>,
}

impl Quotas {
    /// Nobody has anything yet.
    pub fn new(quota: Quota) -> Arc<Self> {
        Arc::new(Self {
            quota,
            users: Mutex::default(),
        })
    }

    /// Counts `amount` for a user. Without a limit, more than can be counted is not: there is not so much of anything, and the card says so.
    ///
    /// # Errors
    ///
    /// [`Status::OutOfResources`] if that is more than he may have.
    pub fn charge(self: &Arc<Self>, uid: u32, kind: Kind, amount: u64) -> Result<Charge, Refusal> {
        let limit = match self.quota.limit(kind) {
            _ if uid == 0 => u64::MAX,
            0 => u64::MAX,
            limit => limit,
        };
        let mut users = lock(&self.users);
        let used = users.get(&uid).map_or(0, |used| used[kind as usize]);
        let sum = used.checked_add(amount);
        if sum.is_none() && limit == u64::MAX {
            return Ok(Charge {
                quotas: self.clone(),
                uid,
                kind,
                amount: 0,
            });
        }
        let Some(sum) = sum.filter(|sum| *sum <= limit) else {
            let what = match kind {
                Kind::Queues => "queues",
                Kind::Memory => "bytes of device memory",
                Kind::Pinned => "bytes of pinned memory",
            };
            let text = format!(
                "{amount} more: user {uid} may have {limit} {what} of the chip, and has {used}"
            );
            return Err((Status::OutOfResources, text));
        };
        users.entry(uid).or_default()[kind as usize] = sum;
        Ok(Charge {
            quotas: self.clone(),
            uid,
            kind,
            amount,
        })
    }
}

/// Something that a user has, until it is dropped.
pub struct Charge {
    quotas: Arc<Quotas>,
    uid: u32,
    kind: Kind,
    amount: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut users = lock(&self.quotas.users);
        if let Some(used) = users.get_mut(&self.uid) {
            used[self.kind as usize] -= self.amount;
            if *used == [0; KINDS] {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_no_more_than_their_quotas() {
        let quotas = Quotas::new(Quota {
            queues: 3,
            memory: 1 << 20,
            pinned: 0,
        });
        let take = |uid, kind, amount| quotas.charge(uid, kind, amount).map_err(|(s, _)| s);
        let full = Some(Status::OutOfResources);
        let two = take(7, Kind::Queues, 2).unwrap();
        assert_eq!(take(7, Kind::Queues, 2).err(), full);
        let third = take(7, Kind::Queues, 1).unwrap();
        assert_eq!(take(7, Kind::Queues, 1).err(), full);
        // Kinds and users are counted apart; root, and what has no limit, are not limited.
        let others = [
            take(7, Kind::Memory, 1 << 20).unwrap(),
            take(8, Kind::Queues, 3).unwrap(),
            take(0, Kind::Queues, 1 << 40).unwrap(),
            take(7, Kind::Pinned, 1 << 50).unwrap(),
        ];
        assert_eq!(take(7, Kind::Memory, 1).err(), full);
        assert_eq!(take(8, Kind::Memory, u64::MAX).err(), full);
        drop(take(7, Kind::Pinned, u64::MAX).unwrap());
        drop(two);
        let again = take(7, Kind::Queues, 2).unwrap();
        assert_eq!(take(7, Kind::Queues, 1).err(), full);
        drop((third, others, again));
        assert!(lock(&quotas.users).is_empty());
    }

    #[test]
    fn sockets_that_let_others_in_have_a_quota_on_queues() {
        assert_eq!(Quota::of_mode(0o600).queues, 0);
        assert_eq!(Quota::of_mode(0o666).queues, 3072);
        assert_eq!(Quota::of_mode(0o660).queues, 3072);
    }
}
