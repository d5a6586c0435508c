//! A small evaluator of ONNX models on the virtual MLU: each node becomes commands of a queue. It serves the conformance vectors of the `onnx`
//! package, whose node cases have one operator each, or the few that a function is made of.
//!
//! What ONNX has and the card has not (strings, sequences, small floats …) is refused as [`Stop::Unsupported`]. Shapes, axes and attributes are
//! the host's business, elements the card's.

mod card;
pub mod case;
mod graph;
mod nodes;
mod proto;

use std::fmt;

/// Why a model was not evaluated to its end.
#[derive(Debug)]
pub enum Stop {
    /// Something that this evaluator or the card does not have.
    Unsupported(String),
    /// The card or the runtime refused a command.
    Card(vmlu::Error),
    /// The result is not that of the vectors, or the vectors are not what they should be.
    Wrong(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Card(error) => write!(f, "{error}"),
            Self::Wrong(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<vmlu::Error> for Stop {
    fn from(error: vmlu::Error) -> Self {
        Self::Card(error)
    }
}

/// A result, or why there is none.
pub type Result<T> = std::result::Result<T, Stop>;

/// Refuses what is not there.
fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(Stop::Unsupported(what.into()))
}

/// Refuses what must not be.
fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Stop::Wrong(what.into()))
}
