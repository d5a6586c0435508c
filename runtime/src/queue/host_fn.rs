//! Host functions: functions of this process that run between the commands of a queue.
//!
//! A queue has a host timeline and a thread for them, made with the first one. A function stands in the queue as a wait for the timeline's
//! next value; the thread runs it once the command before the wait has ended, and then signals the value. So what follows waits on the
//! card, and a queue without host functions pays nothing.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{mpsc, Arc, Mutex};
use std::time::Duration;

use vmlu_abi::status::{ErrorRecord, RULE_TEXT};
use vmlu_abi::Status;

use super::errors::{stops, Cleared};
use super::{lock, Queue};
use crate::context::ContextInner;
use crate::error::{Error, Result};
use crate::timeline::HostTimeline;

type Function = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The queue whose host functions this thread runs: the address of its `Shared`.
    static SERVED: Cell<usize> = const { Cell::new(0) };
}

/// The host functions of a queue.
pub(super) struct HostFunctions {
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
}

/// What the thread needs. It does not keep the queue: that one may end while functions are waiting.
struct Shared {
    context: Arc<ContextInner>,
    queue: u64,
    cleared: Arc<Cleared>,
    /// The function that panicked last: the value of its wait, and what it said.
    panicked: Mutex<Option<(u64, String)>>,
}

struct Worker {
    jobs: mpsc::Sender<Job>,
    timeline: HostTimeline,
    next: u64,
}

struct Job {
    /// Timeline value of the wait that stands for the function.
    wait: u64,
    timeline: HostTimeline,
    signal: u64,
    run: Function,
}

impl HostFunctions {
    pub(super) fn new(context: Arc<ContextInner>, queue: u64, cleared: Arc<Cleared>) -> Self {
        let shared = Shared {
            context,
            queue,
            cleared,
            panicked: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            worker: Mutex::default(),
        }
    }

    /// Fails on the thread of the queue's own host functions: what waits there for the queue waits for itself.
    pub(super) fn check_thread(&self, call: &'static str) -> Result<()> {
        if SERVED.get() != Arc::as_ptr(&self.shared) as usize {
            return Ok(());
        }
        let text = "a host function waits for its own queue, which waits for the function";
        Err(Error::new(call, Status::BadState, text))
    }

    /// The record with the reason in it if a host function's panic is behind it.
    pub(super) fn explained(&self, mut record: ErrorRecord) -> ErrorRecord {
        if record.status != 0
            && let Some((wait, said)) = &*lock(&self.shared.panicked)
            && *wait == record.value
        {
            // `BadHandle` where the card had not looked at the wait when its timeline ended.
            record.status = Status::Dependency.raw();
            let text = format!("a host function panicked: {said}");
            let end = text.len().min(RULE_TEXT - 1);
            record.rule = [0; RULE_TEXT];
            record.rule[..end].copy_from_slice(&text.as_bytes()[..end]);
        }
        record
    }
}

impl Queue {
    /// Has a function of this process run once all commands that were submitted before have ended; those that follow wait for it on the
    /// card. Functions of a queue run one after another, in their order, on a thread of the runtime. Returns the timeline value that is
    /// reached when the function has ended.
    ///
    /// - A function that stands behind a failed command is like a command there: it is dropped without being run, also if the error is
    ///   cleared afterwards.
    /// - A function that panics fails its place in the queue with `Status::Dependency`, and with that what follows, until the error is
    ///   cleared. The panic goes no further; the error record's rule has its message.
    /// - A function must not wait for its own queue (`Status::BadState`), nor for others that wait for it. It should not free memory, which
    ///   waits for all queues of the context: for its own it does not, and commands behind it that use the memory fail.
    /// - When the queue's last handle is dropped, functions that are waiting run first. What does not come to an end (section
    ///   [`Context::drain`](crate::Context::drain)) is dropped without being run.
    pub fn host_fn(&self, function: impl FnOnce() + Send + 'static) -> Result<u64> {
        self.refuse_capture("submit a host function")?;
        let host = &self.inner.host;
        // Held while the wait is submitted, so that the values have the order of the waits. The thread never takes it.
        let mut slot = lock(&host.worker);
        if slot.as_ref().is_none_or(|w| w.timeline.has_ended()) {
            let timeline = self.context().host_timeline()?;
            match &mut *slot {
                Some(worker) => (worker.timeline, worker.next) = (timeline, 0),
                None => *slot = Some(host.shared.start(timeline)?),
            }
        }
        let Some(worker) = &mut *slot else {
            let text = "no thread for host functions";
            return Err(Error::new("submit a host function", Status::Internal, text));
        };
        let wait = self.wait_for_timeline(&worker.timeline, worker.next + 1)?;
        worker.next += 1;
        let job = Job {
            wait,
            timeline: worker.timeline.clone(),
            signal: worker.next,
            run: Box::new(function),
        };
        // The thread only ends when the sender does.
        let _ = worker.jobs.send(job);
        Ok(wait)
    }
}

impl Shared {
    fn start(self: &Arc<Self>, timeline: HostTimeline) -> Result<Worker> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let shared = self.clone();
        std::thread::Builder::new()
            .name("mlu-host-fn".into())
            .spawn(move || {
                SERVED.set(Arc::as_ptr(&shared) as usize);
                for job in inbox {
                    shared.serve(job);
                }
            })
            .map_err(|e| Error::system("submit a host function", "cannot start a thread", e))?;
        Ok(Worker {
            jobs,
            timeline,
            next: 0,
        })
    }

    fn serve(&self, job: Job) {
        let due = self.is_due(job.wait);
        let run = job.run;
        let ended = catch_unwind(AssertUnwindSafe(|| if due { run() } else { drop(run) }));
        match ended {
            // What is dropped has a wait that is cancelled already, or about to be.
            Ok(()) if !due => {}
            Ok(()) => {
                let _ = job.timeline.signal(job.signal);
            }
            Err(panic) => {
                let said = panic
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                *lock(&self.panicked) = Some((job.wait, said));
                // The wait, and with it the queue, ends with `Dependency`.
                job.timeline.end();
                // What a panic carries may panic when it is dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
    }

    /// Waits until the command before a wait has ended; whether the function is to run.
    fn is_due(&self, wait: u64) -> bool {
        let channel = &self.context.channel;
        loop {
            let Ok(progress) = channel.queue_wait(self.queue, wait - 1, u64::MAX) else {
                return false;
            };
            if progress.error != 0 {
                let Ok(record) = channel.queue_error(self.queue, false) else {
                    return false;
                };
                if record.status != 0 && record.value <= wait {
                    return false;
                }
            }
            if progress.timeline >= wait - 1 {
                return self.cleared.took(wait).is_none();
            }
            if Status::from_raw(progress.error).is_some_and(stops) {
                return false;
            }
            // The card is about to cancel what is left.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
