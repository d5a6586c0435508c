//! A queue's error: the record, and which values of the timeline errors took.

use std::collections::VecDeque;

use vmlu_abi::status::ErrorRecord;

/// Most spans that are remembered; a wait for a value of an older one finds no error.
const MAX_SPANS: usize = 32;

/// Timeline values that an error took, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
}

/// What is known of a queue's errors.
#[derive(Default)]
pub struct Errors {
    record: Option<ErrorRecord>,
    /// Whether the queue never goes on.
    stopped: bool,
    /// In order; the last one ends with `u64::MAX` while the error stands.
    spans: VecDeque<Span>,
}

impl Errors {
    /// The command with the timeline value `first` failed. The first error counts until it is cleared, or until one stops the queue.
    pub fn begin(&mut self, first: u64, record: ErrorRecord, stopped: bool) {
        if self.record.is_some() && (!stopped || self.stopped) {
            return;
        }
        self.stopped |= stopped;
        self.record = Some(record);
        match self.spans.back_mut() {
            Some(span) if span.last >= first - 1 => span.last = u64::MAX,
            _ => {
                if self.spans.len() == MAX_SPANS {
                    self.spans.pop_front();
                }
                self.spans.push_back(Span {
                    first,
                    last: u64::MAX,
                });
            }
        }
    }

    /// The record, if there is an error.
    pub fn record(&self) -> Option<ErrorRecord> {
        self.record
    }

    /// Clears the error after the command with the value `last`; `false` if there is none, or none that can be cleared.
    pub fn clear(&mut self, last: u64) -> bool {
        if self.stopped || self.record.take().is_none() {
            return false;
        }
        if let Some(span) = self.spans.back_mut() {
            span.last = last;
        }
        true
    }

    /// The command with this value is cancelled.
    pub fn cancel(&mut self, value: u64) {
        if let Some(span) = self.spans.back_mut() {
            span.last = span.last.max(value);
        }
    }

    /// Whether an error took the command with this value.
    pub fn took(&self, value: u64) -> bool {
        self.spans
            .iter()
            .any(|s| (s.first..=s.last).contains(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::Wire;

    #[test]
    fn errors_take_what_was_written_before_they_are_cleared() {
        let mut errors = Errors::default();
        let record = ErrorRecord {
            status: 7,
            ..ErrorRecord::zeroed()
        };
        assert!(!errors.clear(0) && !errors.took(1));
        errors.begin(5, record, false);
        assert!(!errors.took(4) && errors.took(5) && errors.took(1 << 40));
        assert!(errors.clear(6));
        errors.cancel(7);
        errors.cancel(8);
        assert!(errors.took(8) && !errors.took(9) && errors.record().is_none());
        errors.begin(9, record, false);
        errors.clear(9);
        assert_eq!(errors.spans, [Span { first: 5, last: 9 }]);
        for n in 10..200 {
            errors.begin(2 * n, record, false);
            errors.clear(2 * n);
        }
        assert!(errors.spans.len() == MAX_SPANS && errors.took(398) && !errors.took(397));
    }

    #[test]
    fn a_stopped_queue_stays_so() {
        let mut errors = Errors::default();
        errors.begin(1, ErrorRecord::zeroed(), false);
        errors.begin(2, ErrorRecord::zeroed(), true);
        assert!(!errors.clear(2) && errors.took(2));
    }
}
