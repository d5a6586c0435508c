//! What a kernel sees of the card while it runs.

use vmlu_abi::status::NO_OPERAND;
use vmlu_abi::{Status, Wire};

use crate::bytes::Bytes;

/// How a kernel uses an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads.
    Read,
    /// Writes, and may read.
    Write,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind of failure.
    pub status: Status,
    /// Operand at fault, or `status::NO_OPERAND`.
    pub operand: u16,
    /// Address at fault, or 0.
    pub address: u64,
    /// What was broken, for people: the operator, the operand, the rule and the values.
    pub rule: String,
}

impl Fault {
    /// A fault that no operand in particular has.
    pub fn new(status: Status, rule: impl Into<String>) -> Self {
        Self {
            status,
            operand: NO_OPERAND,
            address: 0,
            rule: rule.into(),
        }
    }

    /// A fault of one operand.
    pub fn operand(status: Status, operand: u16, address: u64, rule: impl Into<String>) -> Self {
        Self {
            status,
            operand,
            address,
            rule: rule.into(),
        }
    }
}

/// The command was told to stop; its outputs are undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl From<Stopped> for Fault {
    fn from(_: Stopped) -> Self {
        Self::new(Status::Cancelled, "the command was cancelled")
    }
}

/// What a kernel may do besides arithmetic. Everything that it holds from here is valid until it returns.
pub trait Env: Sync {
    /// The bytes at `address`, which must lie within one allocation of the context and allow the access. `index` is the operand's number,
    /// for error records.
    fn operand(
        &self,
        index: u16,
        address: u64,
        length: u64,
        access: Access,
    ) -> Result<Bytes<'_>, Fault>;

    /// Fails once the command is to stop. Call it at least every millisecond of work, from every thread that works.
    fn check(&self) -> Result<(), Stopped>;

    /// Runs `task(0)` … `task(tasks - 1)`, on several cores if that helps, and returns when all have ended. Results must not depend on
    /// which thread runs what. `task` should call [`Env::check`] and return early once it fails.
    fn parallel(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Work that a command did: what the device clock and the counters are advanced by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Operations by rate class of the model; a multiply-add is two.
    pub operations: u64,
    /// Which rate applies to `operations`.
    pub class: RateClass,
    /// Bytes read from device memory.
    pub read: u64,
    /// Bytes written to device memory.
    pub written: u64,
}

/// Peak rate that bounds an operator, see `model::Rates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateClass {
    /// FP32 and everything that has no rate of its own.
    #[default]
    F32,
    /// FP16 and BF16.
    F16,
    /// INT16.
    I16,
    /// INT8.
    I8,
}

/// Takes a body that must be exactly a `T`.
pub fn body<T: Wire>(bytes: &[u8], operator: &str) -> Result<T, Fault> {
    if bytes.len() != size_of::<T>() {
        let rule = format!(
            "{operator}: the body has {} bytes, the operator defines {}",
            bytes.len(),
            size_of::<T>()
        );
        return Err(Fault::new(Status::TruncatedBody, rule));
    }
    T::read_from(bytes)
        .ok_or_else(|| Fault::new(Status::TruncatedBody, format!("{operator}: truncated body")))
}
