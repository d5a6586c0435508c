//! What wakes the waiters of a context of a local server: a socket that becomes readable. One waiter sleeps on it and wakes the others.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};

use super::arm::{lock, Signal};

/// The waiting end of a context's bell.
pub(super) struct Bell {
    ear: OwnedFd,
    /// Has the waiter at the socket look up.
    nudge: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    count: u64,
    /// Somebody sleeps at the socket.
    taken: bool,
    lost: bool,
}

impl Bell {
    pub(super) fn new(ear: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            ear,
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Sleeps at the socket, and takes what came; `true` if the other end is gone.
    fn listen(&self, limit: Duration) -> bool {
        let limit = Timespec {
            tv_sec: limit.as_secs() as _,
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [
            PollFd::new(&self.ear, PollFlags::IN),
            PollFd::new(&self.nudge, PollFlags::IN),
        ];
        let _ = poll(&mut fds, Some(&limit));
        let mut bytes = [0; 512];
        let _ = rustix::io::read(&self.nudge, &mut bytes[..8]);
        loop {
            match rustix::io::read(&self.ear, &mut bytes) {
                Ok(0) => return true,
                Ok(n) if n == bytes.len() => {}
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
    }
}

impl Signal for Bell {
    fn count(&self) -> u64 {
        lock(&self.state).count
    }

    fn sleep(&self, before: u64, limit: Duration) {
        let mut state = lock(&self.state);
        if state.count != before {
            return;
        }
        if state.taken {
            let _ = self.changed.wait_timeout(state, limit);
            return;
        }
        state.taken = true;
        drop(state);
        let lost = self.listen(limit);
        let mut state = lock(&self.state);
        state.taken = false;
        state.lost |= lost;
        // All look at their queues, and one of those who sleep on takes the socket.
        state.count += 1;
        self.changed.notify_all();
    }

    fn raise(&self) {
        let mut state = lock(&self.state);
        state.count += 1;
        self.changed.notify_all();
        if state.taken {
            let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
        }
    }

    fn lost(&self) -> bool {
        lock(&self.state).lost
    }
}
