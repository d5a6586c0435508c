//! The connections between the processes of a clique, and of the cliques that are split from it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::clique::Clique;
use super::line::{Endpoint, Line, Listener, STUCK};
use super::member::lock;
use super::wire::{Envelope, Greeting, Message};

/// Messages that are kept for a clique that does not stand here yet.
const MAX_KEPT: usize = 4096;

/// Connections of a process to all others.
pub(super) struct Mesh {
    /// By process; none to this one.
    lines: Vec<Option<Arc<Line>>>,
    cliques: Mutex<Cliques>,
}

#[derive(Default)]
struct Cliques {
    known: HashMap<u64, Weak<Clique>>,
    /// What came for cliques that do not stand here yet, and from which process.
    early: HashMap<u64, Vec<(usize, Message)>>,
    /// Processes whose connection has ended.
    gone: Vec<usize>,
}

impl Mesh {
    /// Connects to the processes that stand before this one, and is connected to by those behind it.
    pub(super) fn connect(
        secret: [u8; 16],
        me: usize,
        processes: &[([u8; 16], Endpoint)],
        listener: &Listener,
        deadline: Instant,
    ) -> io::Result<Arc<Self>> {
        let mut lines: Vec<Option<Arc<Line>>> = processes.iter().map(|_| None).collect();
        let greeting = Greeting {
            secret,
            process: processes[me].0,
        };
        for (place, (_, endpoint)) in processes[..me].iter().enumerate() {
            let line = Line::connect(endpoint, deadline)?;
            line.send(&greeting)?;
            lines[place] = Some(Arc::new(line));
        }
        while lines[me + 1..].iter().any(Option::is_none) {
            let line = listener.accept(deadline)?;
            // A stranger is not answered.
            let Ok(greeting) = line.receive::<Greeting>(Some(deadline)) else {
                continue;
            };
            let found = processes[me + 1..]
                .iter()
                .position(|(name, _)| *name == greeting.process);
            if let (Some(place), true) = (found, greeting.secret == secret) {
                lines[me + 1 + place] = Some(Arc::new(line));
            }
        }
        let mesh = Arc::new(Self {
            lines,
            cliques: Mutex::default(),
        });
        for (process, line) in mesh.lines.iter().enumerate() {
            if let Some(line) = line {
                let thread = || std::thread::Builder::new().name("mlu-peer".into());
                let out = line.clone();
                thread().spawn(move || out.carry())?;
                let (mesh, line) = (Arc::downgrade(&mesh), line.clone());
                thread().spawn(move || hear(&mesh, process, &line))?;
            }
        }
        Ok(mesh)
    }

    /// Tells a process something about a clique. One that is gone is found out by who receives from it.
    pub(super) fn tell(&self, process: usize, clique: u64, message: &Message) {
        let envelope = Envelope {
            clique,
            message: message.clone(),
        };
        if let Some(Some(line)) = self.lines.get(process)
            && let Err(error) = line.post(&envelope)
        {
            tracing::debug!("process {process} of a clique takes no message: {error}");
            line.shut();
        }
    }

    /// Waits until all others have been sent what they were told: a process that ends now leaves nothing unsaid.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + STUCK;
        let lines = self.lines.iter().flatten();
        lines.for_each(|line| line.flush(deadline));
    }

    /// Makes a clique known; it gets what came for it before.
    pub(super) fn add(&self, id: u64, clique: &Arc<Clique>) {
        let mut cliques = lock(&self.cliques);
        // Of one that has ended only the name is kept.
        let ended = cliques.known.values_mut().filter(|c| c.strong_count() == 0);
        ended.for_each(|c| *c = Weak::new());
        cliques.known.insert(id, Arc::downgrade(clique));
        // Under the lock, so that what comes now stays behind it.
        for (process, message) in cliques.early.remove(&id).unwrap_or_default() {
            clique.receive(process, message);
        }
        cliques.gone.iter().for_each(|p| clique.gone(*p));
    }

    fn take(&self, process: usize, envelope: Envelope) {
        let mut cliques = lock(&self.cliques);
        let known = cliques.known.get(&envelope.clique);
        match known.map(Weak::upgrade) {
            Some(Some(clique)) => {
                drop(cliques);
                clique.receive(process, envelope.message);
            }
            // It has ended here.
            Some(None) => {}
            None => {
                let early = cliques.early.entry(envelope.clique).or_default();
                if early.len() < MAX_KEPT {
                    early.push((process, envelope.message));
                }
            }
        }
    }

    fn lose(&self, process: usize) {
        let mut cliques = lock(&self.cliques);
        cliques.gone.push(process);
        let known: Vec<_> = cliques.known.values().filter_map(Weak::upgrade).collect();
        drop(cliques);
        known.iter().for_each(|clique| clique.gone(process));
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.lines.iter().flatten().for_each(|line| line.end());
    }
}

/// Takes what a process says, until it ends or this mesh does.
fn hear(mesh: &Weak<Mesh>, process: usize, line: &Line) {
    loop {
        let said = line.receive::<Envelope>(None);
        let Some(mesh) = mesh.upgrade() else {
            return;
        };
        match said {
            Ok(envelope) => mesh.take(process, envelope),
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    tracing::debug!("process {process} of a clique is lost: {error}");
                }
                line.shut();
                return mesh.lose(process);
            }
        }
    }
}
