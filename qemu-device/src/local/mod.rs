//! The local server: chips without a virtual machine and without root, shared by processes over a Unix socket. See `abi::local` and
//! `docs/hardware.md`, section 15.
//!
//! Each connection has a thread, so that one that is slow, silent or hostile holds up nobody else. The threads share the chips, the
//! [`bells::Bells`] that tell processes of completions, and the [`kicks::Kicks`] that take their kicks.

mod bells;
mod connection;
mod context;
mod kicks;
mod lent;
mod quota;
mod socket;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{flock, FlockOperation};
use rustix::net::{accept_with, shutdown, Shutdown, SocketFlags};
use vmlu_abi::model::CardModel;
use vmlu_firmware::fabric::topology::Topology;
use vmlu_firmware::record::Record;

use crate::embedded::{EmbeddedCard, EmbeddedConfig};
use crate::lock::lock;
use bells::{Bells, Watchers};
use kicks::Kicks;
use lent::Ledger;
pub use quota::Quota;
use quota::Quotas;

/// Most connections at a time; who comes then is turned away.
pub const MAX_CONNECTIONS: usize = 2048;
/// Most connections of one user at a time, where several users share the server.
const MAX_OF_A_USER: usize = MAX_CONNECTIONS * 3 / 4;

/// What a local server serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket.
    pub path: PathBuf,
    /// Mode of the socket: who may connect.
    pub mode: u32,
    /// Chips.
    pub chips: u32,
    /// Card model.
    pub model: &'static CardModel,
    /// Serial numbers of the boards, in order; see [`EmbeddedConfig::serials`].
    pub serials: Vec<u64>,
    /// Whether faults may be injected.
    pub inject: bool,
    /// What each user may have of a chip.
    pub quota: Quota,
    /// What is linked with what; by default all chips of each four boards.
    pub topology: Option<Topology>,
}

/// What the threads of a server share.
struct Shared {
    card: Arc<EmbeddedCard>,
    bells: Vec<Arc<Bells>>,
    watchers: Arc<Watchers>,
    kicks: Kicks,
    ledger: Arc<Ledger>,
    /// Of each chip.
    quotas: Vec<Arc<Quotas>>,
    /// The telemetry page of each chip, as a file that can only be read.
    pages: Vec<OwnedFd>,
    guests: Mutex<Guests>,
    stopping: AtomicBool,
}

/// The connections.
#[derive(Default)]
struct Guests {
    next: u64,
    connections: HashMap<u64, Guest>,
}

struct Guest {
    socket: Arc<OwnedFd>,
    uid: u32,
}

impl Guests {
    /// Takes a connection in; `None` if there are too many, in all or of this user.
    fn enter(&mut self, socket: &Arc<OwnedFd>, uid: u32) -> Option<u64> {
        let of_user = self.connections.values().filter(|g| g.uid == uid).count();
        if self.connections.len() >= MAX_CONNECTIONS || of_user >= MAX_OF_A_USER {
            return None;
        }
        self.next += 1;
        let socket = socket.clone();
        self.connections.insert(self.next, Guest { socket, uid });
        Some(self.next)
    }
}

/// A server that listens.
pub struct LocalServer {
    shared: Arc<Shared>,
    listener: Arc<OwnedFd>,
    path: PathBuf,
    threads: Vec<JoinHandle<()>>,
    // Held as long as the server runs.
    lock: File,
}

impl LocalServer {
    /// Makes the chips and listens.
    pub fn start(options: &Options) -> io::Result<Self> {
        Self::start_with(options, &[])
    }

    /// As [`Self::start`], with what the chips remember; see [`EmbeddedCard::with_records`].
    pub fn start_with(options: &Options, records: &[Arc<Record>]) -> io::Result<Self> {
        let path = options.path.clone();
        let lock = socket::claim(&path)?;
        raise_file_limit();
        let config = EmbeddedConfig {
            model: options.model,
            chips: options.chips,
            serials: options.serials.clone(),
            inject: options.inject,
            topology: options.topology.clone(),
        };
        let card = EmbeddedCard::with_records(&config, records)
            .map_err(|e| io::Error::other(e.to_string()))?;
        let watchers = Arc::<Watchers>::default();
        let bells = (0..)
            .zip(card.chips())
            .map(|(device, chip)| Bells::new(chip, device, &watchers))
            .collect::<io::Result<_>>()?;
        let pages = card
            .chips()
            .iter()
            .map(|chip| read_only(chip.telemetry().as_fd()))
            .collect::<io::Result<_>>()?;
        let quotas = card.chips().iter().map(|_| Quotas::new(options.quota));
        let quotas = quotas.collect();
        let shared = Arc::new(Shared {
            card,
            pages,
            bells,
            watchers,
            kicks: Kicks::new()?,
            ledger: Ledger::new(),
            quotas,
            guests: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let listener = Arc::new(socket::listen(&path, options.mode)?);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run)
        };
        let (state, door) = (shared.clone(), listener.clone());
        let mut threads = vec![spawn(
            "mlu-accept",
            Box::new(move || accept(&state, &door)),
        )?];
        let state = shared.clone();
        threads.push(spawn(
            "mlu-kicks",
            Box::new(move || state.kicks.run(&state.card, &state.bells)),
        )?);
        Ok(Self {
            shared,
            listener,
            path,
            threads,
            lock,
        })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The chips.
    pub fn card(&self) -> &Arc<EmbeddedCard> {
        &self.shared.card
    }

    /// Connections that there are.
    pub fn connections(&self) -> usize {
        lock(&self.shared.guests).connections.len()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.stop();
        // Not by closing the file: a process that another thread is just starting has it, too, until it runs its program.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl LocalServer {
    fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = std::fs::remove_file(&self.path);
        let _ = shutdown(&*self.listener, Shutdown::Both);
        for guest in lock(&self.shared.guests).connections.values() {
            let _ = shutdown(&*guest.socket, Shutdown::Both);
        }
        self.shared.kicks.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Every connection gives back what it has; a request takes milliseconds.
        for _ in 0..1000 {
            if self.connections() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The file of a descriptor, opened anew so that it can only be read, and only be mapped to be read.
fn read_only(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use rustix::fs::{open, Mode, OFlags};
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn accept(shared: &Arc<Shared>, listener: &OwnedFd) {
    while !shared.stopping.load(Ordering::SeqCst) {
        let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => Arc::new(socket),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                // No descriptors are left, perhaps. They come back when somebody leaves.
                tracing::warn!("cannot accept a connection: {error}");
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let Some(peer) = socket::peer(&socket) else {
            continue;
        };
        let entered = lock(&shared.guests).enter(&socket, peer.uid);
        let Some(number) = entered else {
            tracing::warn!(
                "refused process {}: there are too many connections",
                peer.pid
            );
            continue;
        };
        let (state, guest) = (shared.clone(), socket.clone());
        let thread = std::thread::Builder::new()
            .name("mlu-client".into())
            .stack_size(512 << 10)
            .spawn(move || {
                connection::serve(&state, &guest, peer);
                lock(&state.guests).connections.remove(&number);
            });
        if let Err(error) = thread {
            tracing::warn!("no thread for a connection: {error}");
            lock(&shared.guests).connections.remove(&number);
        }
    }
}

/// Takes as many descriptors as the process may have: each connection, context and piece of memory needs some.
fn raise_file_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    /// As when another thread starts a program at that moment: until it runs, it has all files of this process.
    #[test]
    fn a_path_is_free_once_its_server_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            path: folder.path().join("mlu"),
            mode: 0o600,
            chips: 1,
            model: &MLU370_X8,
            serials: vec![u64::from(MLU370_X8.board_id) << 56 | 1],
            inject: false,
            quota: Quota::default(),
            topology: None,
        };
        let server = LocalServer::start(&options).unwrap();
        let _elsewhere = server.lock.try_clone().unwrap();
        drop(server);
        LocalServer::start(&options).unwrap();
    }
}
