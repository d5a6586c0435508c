//! What the processes of a clique tell each other. What comes in was sent by somebody who has the clique's identity, and is checked all the
//! same: a peer may be of another version.

use serde::{Deserialize, Serialize};
use vmlu_abi::tensor::DataType;
use vmlu_abi::Status;
use vmlu_ops::combine::Function;

use super::algorithm::Algorithm;
use super::board::Key;
use super::call::{Call, Held, Kind, Part};
use super::line::Endpoint;
use crate::error::Result;
use crate::peer::MemoryHandle;

/// A status with its reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    status: u32,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: Status, text: impl Into<String>) -> Self {
        Self {
            status: status.raw(),
            text: text.into(),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status::from_raw(self.status).unwrap_or(Status::Internal)
    }
}

/// Who a rank is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) secret: [u8; 16],
    pub(super) rank: u32,
    pub(super) size: u32,
    /// Names the rank's process.
    pub(super) process: [u8; 16],
    /// Where that listens.
    pub(super) endpoint: Endpoint,
    /// The chip: its board's serial number, and its index there.
    pub(super) serial: u64,
    pub(super) chip: u32,
    /// Whether no other process reaches the chip.
    pub(super) private: bool,
}

/// What a rank tells where ranks meet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Arrival {
    Hello(Hello),
    /// The ranks that it is joined with by MLU-Link, a bit each.
    Joined(u32),
    Refused(Refusal),
}

/// What it is told there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// The ranks that are there, a bit each.
    Present(u32),
    /// All ranks, which are there now.
    Ranks(Vec<Hello>),
    /// All ranks' [`Arrival::Joined`]: the clique stands.
    Joined(Vec<u32>),
    Refused(Refusal),
}

/// The first thing on a connection between two processes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) secret: [u8; 16],
    pub(super) process: [u8; 16],
}

/// A message, and the clique that it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) clique: u64,
    pub(super) message: Message,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// A rank makes a call.
    Call {
        key: Key,
        rank: u32,
        call: CallBody,
        /// The timeline of its queue, and what is to have been reached before.
        timeline: [u8; 32],
        begin: u64,
    },
    /// What ranks have reached when the phase before this one has ended.
    Ends {
        key: Key,
        phase: u32,
        ends: Vec<(u32, u64)>,
    },
    /// How a rank wants to be split.
    Split {
        turn: u64,
        rank: u32,
        color: Option<u32>,
        key: u32,
    },
    /// Nothing goes on.
    Broken(Refusal),
    /// A rank takes no part any more.
    Lost(u32, String),
}

/// A rank's call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CallBody {
    kind: u8,
    function: u32,
    dtype: u16,
    root: u32,
    count: u64,
    algorithm: u8,
    sends: Vec<PartBody>,
    receives: Vec<PartBody>,
    scratch: Option<PartBody>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartBody {
    handle: Vec<u8>,
    offset: u64,
    bytes: u64,
}

impl PartBody {
    fn of(part: &Part) -> Result<Self> {
        Ok(Self {
            handle: part.memory.handle()?.to_bytes().to_vec(),
            offset: part.offset,
            bytes: part.bytes,
        })
    }

    fn part(&self) -> Option<Part> {
        let handle = MemoryHandle::from_bytes(self.handle[..].try_into().ok()?);
        Some(Part {
            memory: Held::There(handle),
            offset: self.offset,
            bytes: self.bytes,
        })
    }
}

impl CallBody {
    /// As others take it.
    ///
    /// # Errors
    ///
    /// Memory that cannot be exported.
    pub(super) fn of(call: &Call) -> Result<Self> {
        let parts = |parts: &[Part]| parts.iter().map(PartBody::of).collect::<Result<Vec<_>>>();
        Ok(Self {
            kind: call.kind as u8,
            function: call.function as u32,
            dtype: call.dtype as u16,
            root: call.root,
            count: call.count,
            algorithm: call.algorithm as u8,
            sends: parts(&call.sends)?,
            receives: parts(&call.receives)?,
            scratch: call.scratch.as_ref().map(PartBody::of).transpose()?,
        })
    }

    /// The call; `None` if it is none.
    pub(super) fn call(&self) -> Option<Call> {
        let parts =
            |parts: &[PartBody]| parts.iter().map(PartBody::part).collect::<Option<Vec<_>>>();
        Some(Call {
            kind: Kind::from_raw(self.kind)?,
            function: Function::from_raw(self.function)?,
            dtype: DataType::from_raw(self.dtype)?,
            root: self.root,
            count: self.count,
            algorithm: Algorithm::from_raw(self.algorithm)?,
            sends: parts(&self.sends)?,
            receives: parts(&self.receives)?,
            scratch: match &self.scratch {
                Some(part) => Some(part.part()?),
                None => None,
            },
        })
    }
}
