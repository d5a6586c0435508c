//! Eventfds that are signalled when queues reach values, where this process waits for its queues itself. A thread watches while some are
//! armed.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::arm::{lock, QueueWords, Signal, LOOK_NS};
use crate::error::{Error, Result};

/// What a channel has armed.
pub(super) struct Watcher<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    signal: Arc<S>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    /// A thread watches.
    watched: bool,
}

struct Armed {
    words: Arc<QueueWords>,
    value: u64,
    eventfd: OwnedFd,
}

impl<S: Signal + Send + Sync + 'static> Watcher<S> {
    /// A watcher that sleeps on `signal`, which comes for every queue of the channel.
    pub(super) fn new(signal: Arc<S>) -> Self {
        let state = Mutex::default();
        Self {
            shared: Arc::new(Shared { signal, state }),
        }
    }

    /// See `Channel::queue_arm`.
    pub(super) fn arm(
        &self,
        words: Arc<QueueWords>,
        value: u64,
        eventfd: BorrowedFd<'_>,
    ) -> Result<()> {
        const CALL: &str = "arm a queue";
        let eventfd = eventfd
            .try_clone_to_owned()
            .map_err(|e| Error::system(CALL, "cannot duplicate the eventfd", e))?;
        let mut state = lock(&self.shared.state);
        if !state.watched {
            let shared = self.shared.clone();
            std::thread::Builder::new()
                .name("mlu-arm".into())
                .spawn(move || shared.watch())
                .map_err(|e| Error::system(CALL, "cannot start a thread", e))?;
            state.watched = true;
        }
        words.want(value, &*self.shared.signal);
        state.armed.push(Armed {
            words,
            value,
            eventfd,
        });
        drop(state);
        // It may be over already, or become so before the watcher knows of it.
        self.shared.signal.raise();
        Ok(())
    }
}

impl<S: Signal> Shared<S> {
    fn watch(&self) {
        loop {
            let before = self.signal.count();
            let lost = self.signal.lost();
            let mut state = lock(&self.state);
            state.armed.retain(|armed| {
                let over = lost || armed.words.ends(armed.value);
                if over {
                    // Full already: whoever reads it sees that it was signalled.
                    let _ = rustix::io::write(&armed.eventfd, &1u64.to_ne_bytes());
                    armed.words.unwant(armed.value, &*self.signal);
                }
                !over
            });
            if state.armed.is_empty() {
                state.watched = false;
                return;
            }
            drop(state);
            self.signal.sleep(before, Duration::from_nanos(LOOK_NS));
        }
    }
}
