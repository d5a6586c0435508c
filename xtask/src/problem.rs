//! Errors as people read them.

use std::fmt;

/// What was asked, what was wrong, what to do next.
#[derive(Debug, Clone)]
pub struct Problem {
    asked: String,
    wrong: String,
    next: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {}: {}\n  next: {}",
            self.asked, self.wrong, self.next
        )
    }
}

impl std::error::Error for Problem {}

/// An error in three parts; reads `cannot ASKED: WRONG`, and below it `next: NEXT`.
pub fn problem(
    asked: impl Into<String>,
    wrong: impl Into<String>,
    next: impl Into<String>,
) -> anyhow::Error {
    Problem {
        asked: asked.into(),
        wrong: wrong.into(),
        next: next.into(),
    }
    .into()
}
