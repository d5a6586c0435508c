//! Finds what the kernel complained of in its log.

use std::fmt;

/// Who reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// Accesses out of bounds, after free, of what was never mapped.
    Kasan,
    /// Lock order and lock use.
    Lockdep,
    /// Sleeping where that is forbidden.
    AtomicSleep,
    /// Memory that nothing points to any more.
    Kmemleak,
    /// Mappings for devices.
    DmaApi,
    /// Every other report: warnings, oopses, hung tasks.
    Kernel,
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Detector::Kasan => "KASAN",
            Detector::Lockdep => "lockdep",
            Detector::AtomicSleep => "atomic sleep",
            Detector::Kmemleak => "kmemleak",
            Detector::DmaApi => "DMA-API debug",
            Detector::Kernel => "kernel",
        })
    }
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who reported.
    pub detector: Detector,
    /// All of it, without the times.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "── {} ──\n{}", self.detector, self.text)
    }
}

/// Most lines of a report that has no end of its own.
const LINES: usize = 300;

/// Two lines of one report are never further apart, in seconds.
const PAUSE: f64 = 2.0;

/// What a line that begins a report holds, and whose it is. The first that fits counts.
const HEADS: &[(&str, Detector)] = &[
    ("BUG: KASAN: ", Detector::Kasan),
    (
        "BUG: sleeping function called from invalid context",
        Detector::AtomicSleep,
    ),
    ("BUG: scheduling while atomic", Detector::AtomicSleep),
    ("WARNING: possible ", Detector::Lockdep),
    ("WARNING: inconsistent lock state", Detector::Lockdep),
    ("WARNING: bad unlock balance detected", Detector::Lockdep),
    ("WARNING: held lock freed", Detector::Lockdep),
    ("WARNING: suspicious RCU usage", Detector::Lockdep),
    (
        "WARNING: lock held when returning to user space",
        Detector::Lockdep,
    ),
    ("-unsafe lock order detected", Detector::Lockdep),
    ("BUG: Invalid wait context", Detector::Lockdep),
    ("INFO: trying to register non-static key", Detector::Lockdep),
    ("BUG: MAX_", Detector::Lockdep),
    ("still has locks held", Detector::Lockdep),
    ("unreferenced object", Detector::Kmemleak),
    // It ends kmemleak; without "a scan area" it only looks at more.
    (
        "kmemleak: Cannot allocate a kmemleak_object",
        Detector::Kmemleak,
    ),
    ("Kernel memory leak detector disabled", Detector::Kmemleak),
    ("BUG: ", Detector::Kernel),
    // SLUB: `BUG kmalloc-32 (Not tainted): Poison overwritten`.
    ("BUG kmalloc", Detector::Kernel),
    ("kernel BUG at ", Detector::Kernel),
    ("WARNING: ", Detector::Kernel),
    ("Oops: ", Detector::Kernel),
    ("general protection fault", Detector::Kernel),
    ("Kernel panic - not syncing", Detector::Kernel),
    ("rust_kernel: panicked at", Detector::Kernel),
    ("refcount_t: ", Detector::Kernel),
    ("UBSAN: ", Detector::Kernel),
    ("ODEBUG: ", Detector::Kernel),
    ("list_add corruption", Detector::Kernel),
    ("list_del corruption", Detector::Kernel),
    ("page allocation failure: order:", Detector::Kernel),
    ("blocked for more than ", Detector::Kernel),
    ("detected stalls on CPUs", Detector::Kernel),
    ("self-detected stall on CPU", Detector::Kernel),
];

/// What a warning or a bug of the kernel begins with. Whose it is, and what it says, stands in the next lines.
const CUT_HERE: &str = "------------[ cut here ]------------";

/// Lines after [`CUT_HERE`] in which its owner shows.
const PREFACE: usize = 4;

/// The reports in a log as the console shows it.
pub fn reports(log: &str) -> Vec<Report> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    for line in log.lines() {
        let (time, text) = timed(line);
        if open
            .as_ref()
            .is_some_and(|report| !report.takes(time, text))
        {
            found.extend(open.take().map(Open::close));
        }
        if open.is_none() {
            let detector = match text {
                CUT_HERE => Some(Detector::Kernel),
                _ => detector(text),
            };
            open = detector.map(|detector| Open::new(detector, time));
        }
        if open.as_mut().is_some_and(|report| report.add(time, text)) {
            found.extend(open.take().map(Open::close));
        }
    }
    found.extend(open.map(Open::close));
    found
}

/// Whose report the line begins.
fn detector(text: &str) -> Option<Detector> {
    if let Some(rest) = text.strip_prefix("DMA-API: ") {
        // Two lines of every boot.
        let harmless = rest.starts_with("preallocated ") || rest.starts_with("debugging enabled");
        return (!harmless).then_some(Detector::DmaApi);
    }
    HEADS
        .iter()
        .find(|(head, _)| text.contains(head))
        .map(|(_, detector)| *detector)
}

/// A report that has begun.
struct Open {
    detector: Detector,
    lines: Vec<String>,
    last: Option<f64>,
}

impl Open {
    fn new(detector: Detector, time: Option<f64>) -> Open {
        Open {
            detector,
            lines: Vec::new(),
            last: time,
        }
    }

    /// Whether the line belongs to it.
    fn takes(&self, time: Option<f64>, text: &str) -> bool {
        let pause = match (self.last, time) {
            (Some(last), Some(time)) => time - last,
            _ => 0.0,
        };
        let foreign = text == CUT_HERE || (detector(text).is_some() && !self.in_preface());
        let indented = self.detector != Detector::Kmemleak || text.starts_with(' ');
        pause <= PAUSE && !foreign && indented && self.lines.len() < LINES
    }

    /// Whether what comes still says what happened.
    fn in_preface(&self) -> bool {
        self.lines.first().is_some_and(|line| line == CUT_HERE) && self.lines.len() < PREFACE
    }

    /// Takes the line; whether it is the last.
    fn add(&mut self, time: Option<f64>, text: &str) -> bool {
        if self.in_preface() && self.detector == Detector::Kernel {
            self.detector = detector(text).unwrap_or(self.detector);
        }
        self.lines.push(text.to_owned());
        self.last = time.or(self.last);
        match self.detector {
            Detector::Kasan => text.starts_with("=========="),
            Detector::Lockdep | Detector::AtomicSleep if text.trim() == "</TASK>" => true,
            _ => text.starts_with("---[ end trace") || text.starts_with("---[ end Kernel panic"),
        }
    }

    fn close(self) -> Report {
        Report {
            detector: self.detector,
            text: self.lines.join("\n"),
        }
    }
}

/// The time of a console line, and what follows it.
fn timed(line: &str) -> (Option<f64>, &str) {
    let line = line.trim_end();
    let split = || {
        let (time, text) = line.strip_prefix('[')?.split_once(']')?;
        let time: f64 = time.trim().parse().ok()?;
        Some((Some(time), text.strip_prefix(' ').unwrap_or(text)))
    };
    split().unwrap_or((None, line))
}

#[cfg(test)]
mod tests;
