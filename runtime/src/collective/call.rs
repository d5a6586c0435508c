//! One rank's part of a collective: what it wants, and where its memory is.

use std::sync::Arc;

use vmlu_abi::tensor::DataType;
use vmlu_ops::combine::Function;

use super::algorithm::Algorithm;
use crate::context::ContextInner;
use crate::error::Result as Called;
use crate::memory::Buffer;
use crate::peer::MemoryHandle;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    AllReduce,
    Reduce,
    Broadcast,
    AllGather,
    ReduceScatter,
    AllToAll,
    Gather,
    Scatter,
    Barrier,
    Send,
    Receive,
}

impl Kind {
    /// Name, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all-reduce",
            Self::Reduce => "reduce",
            Self::Broadcast => "broadcast",
            Self::AllGather => "all-gather",
            Self::ReduceScatter => "reduce-scatter",
            Self::AllToAll => "all-to-all",
            Self::Gather => "gather",
            Self::Scatter => "scatter",
            Self::Barrier => "barrier",
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }

    /// The kind with a number, as processes name it to each other.
    pub(super) fn from_raw(raw: u8) -> Option<Self> {
        const ALL: [Kind; 11] = [
            Kind::AllReduce,
            Kind::Reduce,
            Kind::Broadcast,
            Kind::AllGather,
            Kind::ReduceScatter,
            Kind::AllToAll,
            Kind::Gather,
            Kind::Scatter,
            Kind::Barrier,
            Kind::Send,
            Kind::Receive,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == raw)
    }

    /// Whether it is between two ranks.
    pub(super) fn is_pair(self) -> bool {
        matches!(self, Self::Send | Self::Receive)
    }
}

/// Memory of a rank of this process, or of another one.
#[derive(Clone)]
pub(super) enum Held {
    Here(Buffer),
    There(MemoryHandle),
}

impl Held {
    fn len(&self) -> u64 {
        match self {
            Self::Here(buffer) => buffer.len(),
            Self::There(handle) => handle.length(),
        }
    }

    /// Whether both are the same allocation.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(a), Self::Here(b)) => a.is_same(b),
            (Self::There(a), Self::There(b)) => a == b,
            _ => false,
        }
    }

    /// What others map it by.
    pub(super) fn handle(&self) -> Called<MemoryHandle> {
        match self {
            Self::Here(buffer) => buffer.export(),
            Self::There(handle) => Ok(*handle),
        }
    }
}

/// A range of a rank's memory.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) memory: Held,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Part {
    /// Whether it is memory of a context of this process.
    pub(super) fn is_of(&self, context: &Arc<ContextInner>) -> bool {
        matches!(&self.memory, Held::Here(buffer) if Arc::ptr_eq(buffer.context(), context))
    }

    /// Whether the range lies within its allocation.
    pub(super) fn fits(&self) -> bool {
        self.offset
            .checked_add(self.bytes)
            .is_some_and(|end| end <= self.memory.len())
    }

    /// Whether both are of one allocation.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.memory.is_same(&other.memory)
    }

    /// Whether they share bytes.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.is_beside(other)
            && self.bytes > 0
            && other.bytes > 0
            && self.offset < other.offset.saturating_add(other.bytes)
            && other.offset < self.offset.saturating_add(self.bytes)
    }
}

/// One rank's part.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) function: Function,
    pub(super) dtype: DataType,
    /// The root, or the peer of a pair.
    pub(super) root: u32,
    /// Elements; the meaning is the operation's.
    pub(super) count: u64,
    /// How an all-reduce is done.
    pub(super) algorithm: Algorithm,
    pub(super) sends: Vec<Part>,
    pub(super) receives: Vec<Part>,
    /// Room for what must not be overwritten.
    pub(super) scratch: Option<Part>,
}

impl Call {
    /// Bytes of `count` elements.
    pub(super) fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.dtype.size() as u64)
    }

    /// Why it is not a call that `rank` of `size` can make.
    pub(super) fn check(&self, rank: u32, size: u32) -> Result<(), String> {
        let name = self.kind.name();
        if self.dtype == DataType::Bool {
            return Err(format!("{name}: elements of type Bool are not taken"));
        }
        if self.root >= size {
            return Err(format!("{name}: there is no rank {} of {size}", self.root));
        }
        let total = self
            .count
            .checked_mul(self.dtype.size() as u64)
            .and_then(|b| b.checked_mul(u64::from(size)));
        let Some(all) = total else {
            return Err(format!("{name}: {} elements are too many", self.count));
        };
        let one = self.bytes();
        let is_root = rank == self.root;
        let wanted: [Option<u64>; 2] = match self.kind {
            Kind::AllReduce => [Some(one), Some(one)],
            Kind::Reduce => [Some(one), is_root.then_some(one)],
            Kind::Broadcast => [is_root.then_some(one), Some(one)],
            Kind::AllGather => [Some(one), Some(all)],
            Kind::ReduceScatter => [Some(all), Some(one)],
            Kind::Gather => [Some(one), is_root.then_some(all)],
            Kind::Scatter => [is_root.then_some(all), Some(one)],
            Kind::Send => [Some(one), None],
            Kind::Receive => [None, Some(one)],
            Kind::Barrier => [None, None],
            Kind::AllToAll => {
                let whole = |parts: &[Part]| parts.len() == size as usize;
                if !whole(&self.sends) || !whole(&self.receives) {
                    return Err(format!("{name}: a part for each of {size} ranks is wanted"));
                }
                return self.check_parts();
            }
        };
        for (parts, wanted) in [&self.sends, &self.receives].into_iter().zip(wanted) {
            let there = match &parts[..] {
                [] => None,
                [part] => Some(part.bytes),
                _ => return Err(format!("{name}: several parts")),
            };
            if there != wanted {
                return Err(format!("{name}: {there:?} bytes where {wanted:?} are due"));
            }
        }
        if let ([send], [receive]) = (&self.sends[..], &self.receives[..])
            && send.overlaps(receive)
        {
            let place = one * u64::from(rank);
            let in_place = match self.kind {
                Kind::AllGather | Kind::Gather => {
                    receive.offset.checked_add(place) == Some(send.offset)
                }
                Kind::ReduceScatter | Kind::Scatter => {
                    send.offset.checked_add(place) == Some(receive.offset)
                }
                _ => send.offset == receive.offset,
            };
            if !in_place {
                return Err(format!(
                    "{name}: what is sent overlaps what is received, and is not in place"
                ));
            }
        }
        self.check_parts()
    }

    fn check_parts(&self) -> Result<(), String> {
        let name = self.kind.name();
        let size = self.dtype.size() as u64;
        let all = self.sends.iter().chain(&self.receives).chain(&self.scratch);
        for part in all {
            if !part.fits() {
                return Err(format!(
                    "{name}: {} bytes at offset {} do not fit their buffer",
                    part.bytes, part.offset
                ));
            }
            if self.kind != Kind::AllToAll && !part.offset.is_multiple_of(size) {
                return Err(format!(
                    "{name}: offset {} is not a multiple of the element's {size} bytes",
                    part.offset
                ));
            }
        }
        for (i, part) in self.receives.iter().enumerate() {
            if self.receives[..i].iter().any(|other| other.overlaps(part)) {
                return Err(format!("{name}: what is received overlaps itself"));
            }
        }
        if self.kind == Kind::AllToAll {
            let staged = self.scratch.as_ref().map(|s| s.bytes);
            let sent = self
                .sends
                .iter()
                .try_fold(0u64, |n, p| n.checked_add(p.bytes));
            if self.is_in_place() && (staged.is_none() || staged < sent) {
                return Err(format!(
                    "{name}: there is no room to set aside what is sent"
                ));
            }
        }
        Ok(())
    }

    /// Whether something that is sent is overwritten by something that is received.
    pub(super) fn is_in_place(&self) -> bool {
        self.sends
            .iter()
            .any(|s| self.receives.iter().any(|r| s.overlaps(r)))
    }

    /// Why it does not belong to another rank's call.
    pub(super) fn agrees(&self, other: &Self) -> Result<(), String> {
        if self.algorithm != other.algorithm {
            let (mine, theirs) = (self.algorithm, other.algorithm);
            return Err(format!("{mine} and {theirs} are their algorithms"));
        }
        let mine = (self.kind, self.function, self.dtype, self.root, self.count);
        let theirs = (
            other.kind,
            other.function,
            other.dtype,
            other.root,
            other.count,
        );
        if mine == theirs {
            return Ok(());
        }
        let text = |(kind, function, dtype, root, count): (Kind, Function, DataType, u32, u64)| {
            format!(
                "{} of {count} {dtype:?}, {function:?}, root {root}",
                kind.name()
            )
        };
        Err(format!("{} and {}", text(mine), text(theirs)))
    }
}
