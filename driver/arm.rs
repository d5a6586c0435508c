// SPDX-License-Identifier: GPL-2.0

//! Arms: who is to be told, once, that a queue's timeline has reached a value. See `docs/uapi.md`,
//! section 7.

use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode, RBTreeNodeReservation},
    sync::Arc,
};

use crate::{
    abi::{event::EventKind, ioctl, queue::ARM_NONE},
    ext::eventfd::EventFd,
    stream::{record, Stream},
};

/// What has become of a value that somebody waits for.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// Reached; with the timeline.
    Reached(u64),
    /// The queue has failed or ended; with the status code.
    Failed(u32),
}

/// Somebody who is to be told, at most once: by [`Self::fire`], which consumes it.
struct Arm {
    data: u64,
    /// Of the file that armed; counts its arms.
    stream: Arc<Stream>,
    /// Signalled instead of a record to the file.
    eventfd: Option<EventFd>,
}

impl Arm {
    fn new(stream: &Arc<Stream>, arg: &ioctl::QueueArm) -> Result<Self> {
        let eventfd = match arg.fd {
            -1 => None,
            fd => Some(EventFd::from_fd(fd)?),
        };
        if eventfd.is_none() {
            stream.prepare()?;
        }
        stream.take_arm()?;
        Ok(Self {
            data: arg.data,
            stream: stream.clone(),
            eventfd,
        })
    }

    /// Tells.
    fn fire(self, device: u32, queue: u64, outcome: Outcome) {
        match &self.eventfd {
            Some(eventfd) => eventfd.signal(),
            None => {
                let (kind, value) = match outcome {
                    Outcome::Reached(timeline) => (EventKind::Timeline, timeline),
                    Outcome::Failed(status) => (EventKind::QueueError, status.into()),
                };
                let mut record = record(kind, device, queue, value);
                record.data = self.data;
                self.stream.push(record);
            }
        }
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        self.stream.give_arm();
    }
}

/// Orders arms by their value, those of one value by their age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    value: u64,
    age: u64,
}

/// An [`Arm`] with room in a list.
pub(crate) struct NewArm {
    value: u64,
    arm: Arm,
    place: RBTreeNodeReservation<Key, Arm>,
}

impl NewArm {
    /// Makes what `arg` asks for in the name of a file. `EBADF` and `EINVAL`: `fd` is no eventfd;
    /// `ENOSPC`: the file has too many.
    pub(crate) fn new(stream: &Arc<Stream>, arg: &ioctl::QueueArm) -> Result<Self> {
        Ok(Self {
            value: arg.value,
            arm: Arm::new(stream, arg)?,
            place: RBTreeNodeReservation::new(GFP_KERNEL)?,
        })
    }
}

/// What stands in a queue's arm word, and who is to be told.
pub(crate) struct Armed {
    /// The smallest value that somebody waits for, sleeping threads included.
    pub(crate) word: u64,
    list: RBTree<Key, Arm>,
    age: u64,
}

impl Armed {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self {
            word: ARM_NONE,
            list: RBTree::new(),
            age: 0,
        }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, new: NewArm) {
        let key = Key {
            value: new.value,
            age: self.age,
        };
        self.age += 1;
        self.list.insert(new.place.into_node(key, new.arm));
    }

    /// The smallest value in the list.
    pub(crate) fn first(&self) -> u64 {
        self.list.keys().next().map_or(ARM_NONE, |key| key.value)
    }

    /// Takes the first out whose value has an outcome. Fire it when the lock is released: whoever
    /// takes it is the only one who has it.
    pub(crate) fn take_due(
        &mut self,
        outcome: impl FnOnce(u64) -> Option<Outcome>,
    ) -> Option<(Due, Outcome)> {
        let first = *self.list.keys().next()?;
        let outcome = outcome(first.value)?;
        Some((Due(self.list.remove_node(&first)?), outcome))
    }
}

/// An arm that is due.
pub(crate) struct Due(RBTreeNode<Key, Arm>);

impl Due {
    /// Tells who armed it. Under no lock, since memory is freed.
    pub(crate) fn fire(self, device: u32, queue: u64, outcome: Outcome) {
        let (_, arm) = self.0.to_key_value();
        arm.fire(device, queue, outcome);
    }
}

/// On the debug kernel, when the module is loaded.
#[kunit_tests(mlu_arm)]
mod tests {
    use super::*;
    use crate::abi::Wire;

    fn arm(armed: &mut Armed, stream: &Arc<Stream>, value: u64, data: u64) -> Result {
        let mut arg = ioctl::QueueArm::zeroed();
        (arg.value, arg.fd, arg.data) = (value, -1, data);
        armed.add(NewArm::new(stream, &arg)?);
        Ok(())
    }

    /// Takes out who waits for at most `timeline`, and tells.
    fn reached(armed: &mut Armed, timeline: u64) -> usize {
        let due = |value| (value <= timeline).then_some(Outcome::Reached(timeline));
        let mut count = 0;
        while let Some((due, outcome)) = armed.take_due(due) {
            due.fire(0, 0, outcome);
            count += 1;
        }
        count
    }

    #[test]
    fn the_smallest_value_comes_first() -> Result {
        let (mut armed, stream) = (Armed::new(), Stream::new()?);
        assert_eq!(armed.first(), ARM_NONE);
        for (value, data) in [(30, 0), (10, 1), (20, 2), (10, 3)] {
            arm(&mut armed, &stream, value, data)?;
        }
        assert_eq!(armed.first(), 10);
        assert_eq!(reached(&mut armed, 9), 0);
        assert_eq!(reached(&mut armed, 20), 3);
        assert_eq!(armed.first(), 30);
        assert_eq!(reached(&mut armed, u64::MAX), 1);
        assert_eq!(armed.first(), ARM_NONE);
        Ok(())
    }

    /// A file has so many arms at most, and those that fired or were dropped are given back.
    #[test]
    fn a_file_has_only_so_many() -> Result {
        let (mut armed, stream) = (Armed::new(), Stream::new()?);
        for value in 0..u64::from(ioctl::MAX_ARMS) {
            arm(&mut armed, &stream, value, 0)?;
        }
        assert_eq!(arm(&mut armed, &stream, 0, 0).err(), Some(ENOSPC));
        assert_eq!(reached(&mut armed, 0), 1);
        arm(&mut armed, &stream, 0, 0)?;
        drop(armed);
        assert_eq!(arm(&mut Armed::new(), &stream, 0, 0).err(), None);
        Ok(())
    }
}
