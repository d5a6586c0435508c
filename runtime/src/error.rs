//! Errors of the runtime: what was asked, what was wrong, what to do next.

use vmlu_abi::status::ErrorRecord;
use vmlu_abi::Status;

/// Result of a runtime call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a runtime call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The card, its firmware or the driver refused a request.
    #[error("{call}: {reason} ({name}: {text})", name = .status.name(), text = .status.text())]
    Status {
        /// What was asked.
        call: &'static str,
        /// The code.
        status: Status,
        /// The argument and the cause.
        reason: String,
    },
    /// The operating system refused a request.
    #[error("{call}: {reason}: {source}")]
    System {
        /// What was asked.
        call: &'static str,
        /// The argument, and what to do.
        reason: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command of a queue failed.
    #[error("{call}: command {value} of the queue failed with {name}: {rule}", value = .record.value, name = status_name(.record.status), rule = rule_text(.record))]
    Command {
        /// What was asked.
        call: &'static str,
        /// What the card recorded.
        record: Box<ErrorRecord>,
    },
    /// An operator's arguments break one of its rules; nothing was submitted.
    #[error("{call}: {rule}")]
    Operator {
        /// The operator.
        call: &'static str,
        /// Which operand it is about; 0xffff for none.
        operand: u16,
        /// The rule and the values.
        rule: String,
    },
}

impl Error {
    /// A refusal with its cause.
    pub fn new(call: &'static str, status: Status, reason: impl Into<String>) -> Self {
        Self::Status {
            call,
            status,
            reason: reason.into(),
        }
    }

    /// A failed system call.
    pub fn system(call: &'static str, reason: impl Into<String>, source: std::io::Error) -> Self {
        Self::System {
            call,
            reason: reason.into(),
            source,
        }
    }

    /// The status code; what an operating-system error comes closest to.
    pub fn status(&self) -> Status {
        match self {
            Self::Status { status, .. } => *status,
            Self::Command { record, .. } => {
                Status::from_raw(record.status).unwrap_or(Status::Internal)
            }
            Self::Operator { .. } => Status::BadOperand,
            Self::System { source, .. } => from_errno(source.raw_os_error().unwrap_or(0)),
        }
    }
}

/// The status that an errno of the driver comes closest to.
pub fn from_errno(errno: i32) -> Status {
    match errno {
        libc::EAGAIN => Status::NotReady,
        libc::EINVAL => Status::InvalidArgument,
        libc::ENOENT | libc::EBADF => Status::BadHandle,
        libc::ENOMEM => Status::OutOfDeviceMemory,
        libc::ENOSPC | libc::EDQUOT => Status::OutOfResources,
        libc::EFAULT => Status::AddressFault,
        libc::EEXIST => Status::AddressInUse,
        libc::EBUSY => Status::Busy,
        libc::EPERM | libc::EACCES => Status::NotPermitted,
        libc::EOPNOTSUPP | libc::ENOTTY => Status::NotSupported,
        libc::ETIME | libc::ETIMEDOUT => Status::Timeout,
        libc::EILSEQ => Status::FramingError,
        libc::EIDRM => Status::QueueDestroyed,
        libc::ECANCELED => Status::ContextStopped,
        libc::ENODEV | libc::ENXIO => Status::DeviceLost,
        _ => Status::Internal,
    }
}

fn status_name(raw: u32) -> &'static str {
    Status::from_raw(raw).map_or("an unknown status", Status::name)
}

/// The text of an error record's rule.
pub fn rule_text(record: &ErrorRecord) -> String {
    let end = record
        .rule
        .iter()
        .position(|b| *b == 0)
        .unwrap_or(record.rule.len());
    let text = String::from_utf8_lossy(&record.rule[..end]).into_owned();
    if text.is_empty() {
        Status::from_raw(record.status).map_or(String::new(), |s| s.text().to_owned())
    } else {
        text
    }
}
