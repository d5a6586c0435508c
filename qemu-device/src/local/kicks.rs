//! Kicks: one thread that waits for the eventfds of all contexts, and looks now and then for what got lost.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use rustix::event::{epoll, eventfd, EventfdFlags, Timespec};

use super::bells::Bells;
use crate::embedded::EmbeddedCard;

/// How often lost interrupts and lost chips are looked for while there are contexts.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// What the stop eventfd is known as: no chip has this number.
const STOP: u64 = u64::MAX;

/// The kicks of all contexts.
pub struct Kicks {
    epoll: OwnedFd,
    stop: OwnedFd,
    contexts: AtomicUsize,
}

/// A context's place among the kicks, given up when dropped.
pub struct Kick {
    kicks: Arc<super::Shared>,
    /// What the process writes to.
    pub fd: OwnedFd,
}

impl Drop for Kick {
    fn drop(&mut self) {
        let kicks = &self.kicks.kicks;
        let _ = epoll::delete(&kicks.epoll, &self.fd);
        kicks.contexts.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kicks {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(STOP);
        epoll::add(&epoll, &stop, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            stop,
            contexts: AtomicUsize::new(0),
        })
    }

    /// Takes kicks of a context from now on.
    pub fn add(shared: &Arc<super::Shared>, device: u32, context_index: u32) -> io::Result<Kick> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(u64::from(device) << 32 | u64::from(context_index));
        // Edges: each write is one, and nobody reads. The client shares the descriptor's flags, so a read could block.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&shared.kicks.epoll, &fd, data, flags)?;
        if shared.kicks.contexts.fetch_add(1, Ordering::SeqCst) == 0 {
            // The thread may be waiting without an end; any event has it look again.
            let _ = rustix::io::write(&fd, &1u64.to_ne_bytes());
        }
        Ok(Kick {
            kicks: shared.clone(),
            fd,
        })
    }

    /// Passes kicks on until [`Self::stop`].
    pub fn run(&self, card: &EmbeddedCard, bells: &[Arc<Bells>]) {
        vmlu_firmware::scheduler::this_thread_passes_kicks_on();
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); 64];
        loop {
            let idle = self.contexts.load(Ordering::SeqCst) == 0;
            let limit = (!idle).then_some(&LOOK);
            let events = match epoll::wait(&self.epoll, &mut space, limit) {
                Ok((events, _)) => &*events,
                Err(rustix::io::Errno::INTR) => &[],
                Err(error) => {
                    tracing::error!("bug: cannot wait for kicks: {error}");
                    return;
                }
            };
            for event in events {
                let data = event.data.u64();
                if data == STOP {
                    return;
                }
                if let Some(chip) = card.chip((data >> 32) as u32) {
                    chip.kick(data as u32);
                }
            }
            if events.is_empty() && !idle {
                for (chip, bells) in card.chips().iter().zip(bells) {
                    bells.look();
                    if chip.firmware().is_gone() {
                        bells.hang_up();
                    }
                }
            }
        }
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}
