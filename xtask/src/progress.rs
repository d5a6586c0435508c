//! Progress of long steps, on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::{stderr, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Turns all progress off (`--quiet`).
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Prints one line on standard error, unless quiet.
pub fn say(text: impl AsRef<str>) {
    if !QUIET.load(Ordering::Relaxed) {
        eprintln!("{}", text.as_ref());
    }
}

/// A step that may take long. Ends with [`Step::done`]; dropping it without says that it failed.
pub struct Step {
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
    finished: bool,
}

impl Step {
    /// A step of unknown length.
    pub fn start(label: impl Into<String>) -> Step {
        Step::begin(label.into(), None)
    }

    /// A step of about `length` ticks (see [`Step::tick`]).
    pub fn with_length(label: impl Into<String>, length: u64) -> Step {
        Step::begin(label.into(), Some(length))
    }

    fn begin(label: String, length: Option<u64>) -> Step {
        let quiet = QUIET.load(Ordering::Relaxed);
        let terminal = stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let (bar, template) = match length {
                Some(length) => (
                    ProgressBar::new(length),
                    "{spinner} {prefix:<28} [{bar:24}] {percent:>3} % {elapsed:>4} {wide_msg:.dim}",
                ),
                None => (
                    ProgressBar::new_spinner(),
                    "{spinner} {prefix:<28} {elapsed:>4} {wide_msg:.dim}",
                ),
            };
            let style =
                ProgressStyle::with_template(template).expect("the template is constant and right");
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if !quiet && !terminal {
            eprintln!("{label} …");
        }
        Step {
            label,
            started: Instant::now(),
            bar,
            finished: false,
        }
    }

    /// Shows what the step does at the moment and moves the bar on by one.
    pub fn tick(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            let end = bar.length().unwrap_or(u64::MAX);
            // The length is a guess: the bar never claims the end before it.
            if bar.position() + 1 < end {
                bar.inc(1);
            }
        }
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the step and shows its time.
    pub fn done(self) {
        self.done_with("");
    }

    /// Ends the step and shows its time and a note.
    pub fn done_with(mut self, note: &str) {
        self.finished = true;
        let separator = if note.is_empty() { "" } else { ": " };
        self.end(&format!("{}{separator}{note}", self.label));
    }

    fn end(&self, text: &str) {
        let time = format!("{:.1} s", self.started.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("{text} ({time})");
            }
            None if !QUIET.load(Ordering::Relaxed) => eprintln!("{text} ({time})"),
            None => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.end(&format!("{}: failed", self.label));
        }
    }
}
