//! A limit on log lines that a guest can cause.

use std::sync::Mutex;

use crate::clock::wall_ns;

/// Lines in one [`WINDOW_NS`].
const LINES: u32 = 20;
/// Length of a window, ns.
const WINDOW_NS: u64 = 1_000_000_000;

/// Lets a bounded number of lines a second through.
#[derive(Default)]
pub struct LogLimit {
    state: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    start: u64,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be written, and how many were not since the last one that was.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(wall_ns())
    }

    fn allow_at(&self, now: u64) -> Option<u64> {
        let mut window = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if now.saturating_sub(window.start) >= WINDOW_NS {
            window.start = now;
            window.lines = 0;
        }
        if window.lines == LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_counted() {
        let log = LogLimit::default();
        let now = 5 * WINDOW_NS;
        assert_eq!(
            (0..100).filter_map(|i| log.allow_at(now + i)).count(),
            LINES as usize
        );
        assert_eq!(log.allow_at(now + WINDOW_NS), Some(100 - u64::from(LINES)));
        assert_eq!(log.allow_at(now + WINDOW_NS), Some(0));
    }
}
