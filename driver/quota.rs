// SPDX-License-Identifier: GPL-2.0

//! What a user may have of a chip at most. See `docs/uapi.md`, section 14.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

use crate::ext::task;

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Queues.
    Queues,
    /// Device memory, bytes.
    Memory,
    /// Host memory that the card may use, bytes.
    Pinned,
}

const KINDS: usize = 3;

/// What a user has. There is an entry only while he has anything.
struct User {
    uid: u32,
    used: [u64; KINDS],
}

/// Limits of a chip, and what its users have.
#[pin_data]
pub(crate) struct Quotas {
    /// 0: none.
    limits: [Atomic<u64>; KINDS],
    /// The innermost lock.
    #[pin]
    users: Mutex<KVec<User>>,
}

impl Quotas {
    /// Without limits.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                limits: [const { Atomic::new(0) }; KINDS],
                users <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// The most that a user may have; 0 if there is no limit.
    pub(crate) fn limit(&self, kind: Kind) -> u64 {
        self.limits[kind as usize].load(Relaxed)
    }

    /// Sets it. Who has more keeps it.
    pub(crate) fn set_limit(&self, kind: Kind, limit: u64) {
        self.limits[kind as usize].store(limit, Relaxed);
    }
}

/// Takes an entry out.
fn forget(users: &mut KVec<User>, at: usize) {
    let last = users.len() - 1;
    users.swap(at, last);
    users.pop();
}

/// Something that a user has, until it is dropped.
pub(crate) struct Charge {
    quotas: Arc<Quotas>,
    uid: u32,
    kind: Kind,
    amount: u64,
}

impl Charge {
    /// Counts `amount` for a user. `EDQUOT`: that would be more than he may have, and the caller
    /// has no `CAP_SYS_RESOURCE`.
    pub(crate) fn new(quotas: &Arc<Quotas>, uid: u32, kind: Kind, amount: u64) -> Result<Self> {
        let limit = match quotas.limit(kind) {
            0 => u64::MAX,
            _ if task::has_resources() => u64::MAX,
            limit => limit,
        };
        let mut users = quotas.users.lock();
        let at = match users.iter().position(|user| user.uid == uid) {
            Some(at) => at,
            None => {
                let used = [0; KINDS];
                users.push(User { uid, used }, GFP_KERNEL)?;
                users.len() - 1
            }
        };
        let used = &mut users[at].used;
        let sum = used[kind as usize].checked_add(amount);
        let sum = sum.filter(|sum| *sum <= limit);
        if let Some(sum) = sum {
            used[kind as usize] = sum;
        }
        let is_idle = *used == [0; KINDS];
        if is_idle {
            forget(&mut users, at);
        }
        drop(users);
        sum.map(|_| Self {
            quotas: quotas.clone(),
            uid,
            kind,
            amount,
        })
        .ok_or(EDQUOT)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut users = self.quotas.users.lock();
        let Some(at) = users.iter().position(|user| user.uid == self.uid) else {
            return;
        };
        let used = &mut users[at].used;
        used[self.kind as usize] = used[self.kind as usize].saturating_sub(self.amount);
        if *used == [0; KINDS] {
            forget(&mut users, at);
        }
    }
}

/// On the debug kernel, when the module is loaded.
#[kunit_tests(mlu_quota)]
mod tests {
    use super::*;

    const SOMEBODY: u32 = 1000;

    fn used(quotas: &Quotas, uid: u32) -> Option<[u64; KINDS]> {
        let users = quotas.users.lock();
        users
            .iter()
            .find(|user| user.uid == uid)
            .map(|user| user.used)
    }

    #[test]
    fn what_is_dropped_is_given_back() -> Result {
        let quotas = Quotas::new()?;
        let queue = Charge::new(&quotas, SOMEBODY, Kind::Queues, 1)?;
        let memory = Charge::new(&quotas, SOMEBODY, Kind::Memory, 4096)?;
        let others = Charge::new(&quotas, SOMEBODY + 1, Kind::Memory, 8192)?;
        assert_eq!(used(&quotas, SOMEBODY), Some([1, 4096, 0]));
        drop(queue);
        assert_eq!(used(&quotas, SOMEBODY), Some([0, 4096, 0]));
        drop(memory);
        // Nothing is kept of who has nothing, and nothing of others is touched.
        assert_eq!(used(&quotas, SOMEBODY), None);
        assert_eq!(used(&quotas, SOMEBODY + 1), Some([0, 8192, 0]));
        drop(others);
        assert!(quotas.users.lock().is_empty());
        Ok(())
    }

    #[test]
    fn sums_do_not_wrap() -> Result {
        let quotas = Quotas::new()?;
        let most = Charge::new(&quotas, SOMEBODY, Kind::Pinned, u64::MAX)?;
        let refused = Charge::new(&quotas, SOMEBODY, Kind::Pinned, 1);
        assert_eq!(refused.err(), Some(EDQUOT));
        assert_eq!(used(&quotas, SOMEBODY), Some([0, 0, u64::MAX]));
        drop(most);
        assert_eq!(used(&quotas, SOMEBODY), None);
        Ok(())
    }

    /// Who has nothing has no entry.
    #[test]
    fn nothing_is_kept_of_nothing() -> Result {
        let quotas = Quotas::new()?;
        let others = Charge::new(&quotas, SOMEBODY + 1, Kind::Pinned, 1)?;
        let nothing = Charge::new(&quotas, SOMEBODY, Kind::Pinned, 0)?;
        assert_eq!(used(&quotas, SOMEBODY), None);
        drop(nothing);
        assert_eq!(used(&quotas, SOMEBODY + 1), Some([0, 0, 1]));
        drop(others);
        Ok(())
    }
}
