//! Turns away who connects to a chip that is taken.
//!
//! A chip serves one hypervisor. A second one would wait in the socket's backlog for ever and hang without a word; so one thread watches
//! the sockets of the chips that are taken, and accepts and closes what waits there.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::net::sockopt::socket_peercred;

use crate::lock::lock;

/// How long a connection waits at least before it is turned away: the first hypervisor may just be leaving.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same while the first hypervisor has not said a word: the connection that waits could be its own, not yet accepted.
const SILENT_PATIENCE: Duration = Duration::from_secs(5);
/// How often a waiting connection is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Who sits at a chip.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Nobody: whoever waits will be served.
    None,
    /// Somebody who has not spoken yet.
    Silent,
    /// Somebody who talks to the chip.
    Talking,
}

struct State {
    guest: Guest,
    /// Since when somebody else has been seen waiting.
    waiting: Option<Instant>,
}

/// A chip's place at the door.
pub struct Seat {
    number: u32,
    listener: Arc<UnixListener>,
    wake: Arc<OwnedFd>,
    // Held while a connection is turned away, so that none is once `free` has returned.
    state: Mutex<State>,
}

impl Seat {
    /// The chip is about to accept a connection.
    pub fn taken(&self) {
        self.set(Guest::Silent);
    }

    /// The connection is in use.
    pub fn talks(&self) {
        let mut state = lock(&self.state);
        if state.guest == Guest::Silent {
            state.guest = Guest::Talking;
        }
    }

    /// The chip is free again. No connection is turned away after this.
    pub fn free(&self) {
        self.set(Guest::None);
    }

    fn set(&self, guest: Guest) {
        *lock(&self.state) = State {
            guest,
            waiting: None,
        };
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Looks at the socket of a taken chip while somebody waits there (`ready`).
    fn look(&self, ready: bool) {
        let mut state = lock(&self.state);
        if !ready || state.guest == Guest::None {
            state.waiting = None;
            return;
        }
        let since = *state.waiting.get_or_insert_with(Instant::now);
        let patience = match state.guest {
            Guest::Talking => PATIENCE,
            _ => SILENT_PATIENCE,
        };
        if since.elapsed() < patience {
            return;
        }
        state.waiting = None;
        if let Ok((stream, _)) = self.listener.accept() {
            let who = socket_peercred(&stream)
                .map(|peer| format!("process {}", peer.pid.as_raw_nonzero()))
                .unwrap_or_else(|_| "a process".into());
            tracing::warn!(
                "chip {}: refused {who}: another hypervisor uses this chip; give each virtual machine chips of its own",
                self.number
            );
        }
    }
}

/// Watches the sockets of all chips.
pub struct Door {
    seats: Mutex<Vec<Arc<Seat>>>,
    wake: Arc<OwnedFd>,
}

impl Door {
    /// Starts the watch.
    pub fn open() -> std::io::Result<Arc<Self>> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let door = Arc::new(Self {
            seats: Mutex::default(),
            wake,
        });
        let watch = door.clone();
        std::thread::Builder::new()
            .name("mlu-door".into())
            .spawn(move || watch.run())?;
        Ok(door)
    }

    /// Adds a chip.
    pub fn seat(&self, number: u32, listener: Arc<UnixListener>) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            number,
            listener,
            wake: self.wake.clone(),
            state: Mutex::new(State {
                guest: Guest::None,
                waiting: None,
            }),
        });
        lock(&self.seats).push(seat.clone());
        seat
    }

    /// Sleeps until somebody waits at a chip that is taken; looks again and again only while somebody does.
    fn run(&self) {
        let mut busy = false;
        loop {
            let taken: Vec<_> = lock(&self.seats)
                .iter()
                .filter(|seat| lock(&seat.state).guest != Guest::None)
                .cloned()
                .collect();
            let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
            fds.extend(
                taken
                    .iter()
                    .map(|seat| PollFd::new(&*seat.listener, PollFlags::IN)),
            );
            let at_once = busy.then(Timespec::default);
            if poll(&mut fds, at_once.as_ref()).is_err() {
                std::thread::sleep(LOOK);
                continue;
            }
            busy = false;
            for (seat, fd) in taken.iter().zip(&fds[1..]) {
                let ready = fd.revents().contains(PollFlags::IN);
                seat.look(ready);
                busy |= ready;
            }
            let mut woken = [0u8; 8];
            let _ = rustix::io::read(&*self.wake, &mut woken);
            if busy {
                std::thread::sleep(LOOK);
            }
        }
    }
}
