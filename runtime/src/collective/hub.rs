//! Where ranks meet: a thread of the process that made the identity. It tells each who is there, and all who all are.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use vmlu_abi::Status;

use super::line::{wait, Line, Listener};
use super::wire::{Arrival, Hello, News, Refusal};
use super::MAX_RANKS;

/// A connection that has begun a frame has so long to end it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most connections that have not said who they are.
const MAX_STRANGERS: usize = 64;

struct Guest {
    line: Line,
    hello: Option<Hello>,
    joined: Option<u32>,
}

struct Hub {
    listener: Listener,
    secret: [u8; 16],
    guests: Vec<Guest>,
    /// Whether all were told who all are.
    complete: bool,
}

/// Starts it. It ends when the clique stands, or with the process.
pub(super) fn start(listener: Listener, secret: [u8; 16]) -> io::Result<()> {
    let mut hub = Hub {
        listener,
        secret,
        guests: Vec::new(),
        complete: false,
    };
    let thread = std::thread::Builder::new().name("mlu-clique".into());
    thread.spawn(move || while hub.serve().is_ok_and(|goes_on| goes_on) {})?;
    Ok(())
}

impl Hub {
    /// Serves what there is; whether there is more to come.
    fn serve(&mut self) -> io::Result<bool> {
        let lines = self.guests.iter().map(|g| g.line.as_fd());
        let fds = std::iter::once(self.listener.as_fd()).chain(lines);
        let mut fds: Vec<_> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        wait(&mut fds, None)?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut place = 0;
        for ready in &ready[1..] {
            let stays = !ready || self.hear(place);
            if stays {
                place += 1;
            } else {
                self.leave(place)?;
            }
        }
        if ready[0]
            && let Ok(line) = self.listener.accept(Instant::now() + PATIENCE)
            && self.guests.len() < MAX_RANKS as usize + MAX_STRANGERS
        {
            self.guests.push(Guest {
                line,
                hello: None,
                joined: None,
            });
        }
        Ok(!self.step())
    }

    /// Takes in what one has to say; whether it stays.
    fn hear(&mut self, place: usize) -> bool {
        let deadline = Some(Instant::now() + PATIENCE);
        let Ok(said) = self.guests[place].line.receive::<Arrival>(deadline) else {
            return false;
        };
        let refused = match said {
            Arrival::Hello(hello) => {
                if let Some(refusal) = self.refuses(&hello) {
                    let _ = self.guests[place].line.send(&News::Refused(refusal));
                    return false;
                }
                self.guests[place].hello = Some(hello);
                self.tell_present();
                return true;
            }
            Arrival::Joined(row) if self.complete => {
                self.guests[place].joined = Some(row);
                return true;
            }
            Arrival::Refused(refusal) => refusal,
            Arrival::Joined(_) => return false,
        };
        self.tell(&News::Refused(refused));
        self.begin_again();
        false
    }

    /// Nobody is there any more: all were told why, and may come again.
    fn begin_again(&mut self) {
        self.complete = false;
        for guest in &mut self.guests {
            (guest.hello, guest.joined) = (None, None);
        }
    }

    /// Why one cannot come in.
    fn refuses(&self, hello: &Hello) -> Option<Refusal> {
        let refusal = |status, text: String| Some(Refusal::new(status, text));
        if hello.secret != self.secret {
            let text = "the identity's secret is another one".to_owned();
            return refusal(Status::NotPermitted, text);
        }
        if hello.size > MAX_RANKS || hello.rank >= hello.size {
            let text = format!("there is no rank {} of {}", hello.rank, hello.size);
            return refusal(Status::InvalidArgument, text);
        }
        if self.complete {
            return refusal(Status::BadState, "the clique is complete".to_owned());
        }
        for other in self.hellos() {
            if other.size != hello.size {
                let text = format!("{} ranks, others say {}", hello.size, other.size);
                return refusal(Status::InvalidArgument, text);
            }
            if other.rank == hello.rank {
                let text = format!("there is a rank {} already", hello.rank);
                return refusal(Status::InvalidArgument, text);
            }
            if (other.private || hello.private) && other.process != hello.process {
                let text = format!(
                    "ranks {} and {} are in two processes, and the chips of one are its own (MLU_TRANSPORT=embedded); a local server or \
                     the driver has chips for several processes",
                    other.rank, hello.rank
                );
                return refusal(Status::NotSupported, text);
            }
        }
        None
    }

    fn hellos(&self) -> impl Iterator<Item = &Hello> {
        self.guests.iter().filter_map(|g| g.hello.as_ref())
    }

    /// One has gone.
    fn leave(&mut self, place: usize) -> io::Result<()> {
        let gone = self.guests.remove(place);
        let Some(hello) = gone.hello else {
            return Ok(());
        };
        if self.complete {
            let text = format!("rank {} went while the ranks met", hello.rank);
            self.tell(&News::Refused(Refusal::new(Status::Dependency, text)));
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.tell_present();
        Ok(())
    }

    fn tell_present(&self) {
        let present = self.hellos().fold(0u32, |mask, h| mask | 1 << h.rank);
        self.tell(&News::Present(present));
    }

    fn tell(&self, news: &News) {
        for guest in self.guests.iter().filter(|g| g.hello.is_some()) {
            let _ = guest.line.send(news);
        }
    }

    /// Tells all what all know now; whether that was the last.
    fn step(&mut self) -> bool {
        let Some(size) = self.hellos().next().map(|h| h.size as usize) else {
            return false;
        };
        if self.hellos().count() < size {
            return false;
        }
        if !self.complete {
            self.complete = true;
            self.guests.retain(|g| g.hello.is_some());
            self.guests
                .sort_by_key(|g| g.hello.as_ref().map(|h| h.rank));
            let ranks = self.hellos().cloned().collect();
            self.tell(&News::Ranks(ranks));
        }
        let joined: Option<Vec<u32>> = self.guests.iter().map(|g| g.joined).collect();
        let Some(joined) = joined else {
            return false;
        };
        self.tell(&News::Joined(joined));
        true
    }
}
