//! The host's side of the agent in the guest: commands and their output.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Result};
use vmlu_agent::{Exec, Frame, Kind};

/// What a command ended with and wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal if it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What a running command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes on standard output.
    Stdout(Vec<u8>),
    /// Bytes on standard error.
    Stderr(Vec<u8>),
    /// The end, with the exit code.
    Exit(i32),
    /// It could not be started.
    Failed(String),
}

type Routes = Arc<Mutex<Option<HashMap<u32, Sender<Event>>>>>;

/// A connection to the agent. Commands may run at the same time.
pub struct Agent {
    write: Arc<Mutex<UnixStream>>,
    routes: Routes,
    hello: Mutex<Receiver<String>>,
    next: Mutex<u32>,
    slowness: u32,
}

impl Agent {
    /// Connects to the socket behind the agent's port. The agent need not run yet.
    ///
    /// Time limits of commands are multiplied by `slowness`.
    pub fn connect(path: &Path, slowness: u32) -> Result<Agent> {
        let stream = UnixStream::connect(path)?;
        let mut read = stream.try_clone()?;
        let routes: Routes = Arc::new(Mutex::new(Some(HashMap::new())));
        let (greet, hello) = mpsc::channel();
        let deliver = routes.clone();
        thread::spawn(move || {
            while let Ok(frame) = Frame::read(&mut read) {
                if frame.kind == Kind::Hello {
                    let _ = greet.send(String::from_utf8_lossy(&frame.payload).into_owned());
                } else if let Some(event) = event(&frame)
                    && let Some(routes) = &mut *deliver.lock().expect("no one panics with it")
                    && let Some(route) = routes.get(&frame.id)
                {
                    let last = matches!(event, Event::Exit(_) | Event::Failed(_));
                    let _ = route.send(event);
                    if last {
                        routes.remove(&frame.id);
                    }
                }
            }
            // The guest is gone: everyone who waits finds a closed channel.
            *deliver.lock().expect("no one panics with it") = None;
        });
        Ok(Agent {
            write: Arc::new(Mutex::new(stream)),
            routes,
            hello: Mutex::new(hello),
            next: Mutex::new(1),
            slowness,
        })
    }

    /// Waits until the agent is up; `false` after `timeout`, an error if the connection is gone.
    pub fn wait_hello(&self, timeout: Duration) -> Result<bool> {
        match self
            .hello
            .lock()
            .expect("no one panics with it")
            .recv_timeout(timeout)
        {
            Ok(_) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(anyhow!("the guest is gone")),
        }
    }

    /// Starts a command.
    pub fn start(&self, exec: &Exec) -> Result<Running> {
        let id = {
            let mut next = self.next.lock().expect("no one panics with it");
            *next += 1;
            *next
        };
        let (sender, events) = mpsc::channel();
        match &mut *self.routes.lock().expect("no one panics with it") {
            Some(routes) => _ = routes.insert(id, sender),
            None => bail!("the guest is gone"),
        }
        let running = Running {
            id,
            events,
            write: self.write.clone(),
            slowness: self.slowness,
        };
        running.send(Kind::Exec, exec.encode())?;
        Ok(running)
    }
}

fn event(frame: &Frame) -> Option<Event> {
    let payload = frame.payload.clone();
    Some(match frame.kind {
        Kind::Stdout => Event::Stdout(payload),
        Kind::Stderr => Event::Stderr(payload),
        Kind::Exit => Event::Exit(i32::from_le_bytes(payload.try_into().ok()?)),
        Kind::Failed => Event::Failed(String::from_utf8_lossy(&payload).into_owned()),
        _ => return None,
    })
}

/// A command that runs in the guest.
pub struct Running {
    id: u32,
    events: Receiver<Event>,
    write: Arc<Mutex<UnixStream>>,
    slowness: u32,
}

impl Running {
    /// Sends bytes to its standard input; no bytes end it.
    pub fn input(&self, bytes: &[u8]) -> Result<()> {
        self.sender().input(bytes)
    }

    /// Sends a signal to it and its children.
    pub fn signal(&self, signal: u8) -> Result<()> {
        self.send(Kind::Signal, [signal])
    }

    /// A handle that other threads can use for input.
    pub fn sender(&self) -> Input {
        Input {
            id: self.id,
            write: self.write.clone(),
        }
    }

    fn send(&self, kind: Kind, payload: impl Into<Vec<u8>>) -> Result<()> {
        send(&self.write, kind, self.id, payload)
    }

    /// What it says next; `None` if it says nothing for `timeout`, an error if the guest is gone.
    pub fn next(&self, timeout: Duration) -> Result<Option<Event>> {
        self.receive(timeout * self.slowness)
    }

    fn receive(&self, timeout: Duration) -> Result<Option<Event>> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(anyhow!("the guest is gone (see its kernel log)"))
            }
        }
    }

    /// Waits for the end and returns everything it wrote. After `timeout` it is killed.
    pub fn finish(self, timeout: Duration) -> Result<Output> {
        let timeout = timeout * self.slowness;
        let deadline = Instant::now() + timeout;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        loop {
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                Some(Event::Stdout(bytes)) => stdout.extend(bytes),
                Some(Event::Stderr(bytes)) => stderr.extend(bytes),
                Some(Event::Exit(code)) => {
                    return Ok(Output {
                        code,
                        stdout: text(&stdout),
                        stderr: text(&stderr),
                    })
                }
                Some(Event::Failed(why)) => bail!("the guest cannot start it: {why}"),
                None => {
                    self.signal(9)?;
                    bail!(
                        "it did not end within {} s; until then it wrote:\n{}{}",
                        timeout.as_secs(),
                        text(&stdout),
                        text(&stderr)
                    );
                }
            }
        }
    }
}

/// The input side of a command.
#[derive(Clone)]
pub struct Input {
    id: u32,
    write: Arc<Mutex<UnixStream>>,
}

impl Input {
    /// Sends bytes to its standard input; no bytes end it.
    pub fn input(&self, bytes: &[u8]) -> Result<()> {
        send(&self.write, Kind::Stdin, self.id, bytes)
    }

    /// Tells it the size of our terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let [r0, r1] = rows.to_le_bytes();
        let [c0, c1] = columns.to_le_bytes();
        send(&self.write, Kind::Resize, self.id, [r0, r1, c0, c1])
    }
}

fn send(write: &Mutex<UnixStream>, kind: Kind, id: u32, payload: impl Into<Vec<u8>>) -> Result<()> {
    let frame = Frame::new(kind, id, payload);
    Ok(frame.write(&mut *write.lock().expect("no one panics with it"))?)
}
