//! Graphs on a card.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use vmlu_abi::packet::{op, GraphLaunch};
use vmlu_abi::{Status, Wire};

use super::Graph;
use crate::collective::Script;
use crate::context::{Context, ContextInner};
use crate::error::{Error, Result};
use crate::memory::HostMemory;
use crate::queue::{Queue, QueueInner};

/// A graph that a card keeps. Cloning it gives another handle on the same one; it goes with its last handle, once the launches that were
/// submitted have ended.
#[derive(Clone)]
pub struct GraphExec {
    inner: Arc<ExecInner>,
}

struct ExecInner {
    context: Arc<ContextInner>,
    /// Of what the card runs: the graph, or the pieces between its collectives, of which some are empty.
    handles: Vec<Option<u64>>,
    parameters: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    graph: Arc<Graph>,
    /// The last launch on each queue since the graph became what it is.
    launches: Vec<Launch>,
    /// Graphs that it was before, with launches that may still run them.
    before: Vec<(Arc<Graph>, Vec<Launch>)>,
}

struct Launch {
    queue: Weak<QueueInner>,
    value: u64,
}

impl Launch {
    fn runs(&self) -> bool {
        let queue = self.queue.upgrade();
        queue.is_some_and(|queue| queue.timeline() < self.value)
    }
}

impl Graph {
    /// Puts the graph on the card of a context, which checks it.
    ///
    /// # Errors
    ///
    /// Those of the card for an image that it refuses, with `Status::OutOfResources` if it has no room for another graph.
    pub fn instantiate(&self, context: &Context) -> Result<GraphExec> {
        let inner = &context.inner;
        let create = |graph: &Graph| {
            with_image(inner, graph, |address, length| {
                inner.channel.graph_create(address, length)
            })
        };
        // Whatever was made goes again if something fails.
        let mut exec = ExecInner {
            context: inner.clone(),
            handles: Vec::new(),
            parameters: self.parameters(),
            state: Mutex::default(),
        };
        if self.meetings.is_empty() {
            exec.handles.push(Some(create(self)?));
        } else {
            for piece in self.pieces() {
                let handle = (piece.commands() > 0).then(|| create(&piece)).transpose()?;
                exec.handles.push(handle);
            }
        }
        let state = State {
            graph: Arc::new(self.clone()),
            launches: Vec::new(),
            before: Vec::new(),
        };
        exec.state = Mutex::new(state);
        Ok(GraphExec {
            inner: Arc::new(exec),
        })
    }
}

/// Calls `make` with the image of a graph in the context's memory.
fn with_image<T>(
    context: &Arc<ContextInner>,
    graph: &Graph,
    make: impl FnOnce(u64, u64) -> Result<T>,
) -> Result<T> {
    let image = graph.image();
    let mut memory = HostMemory::new(context, image.len() as u64)?;
    memory.write(0, &image);
    let made = make(memory.address(), image.len() as u64);
    // Only this call named it, and the card has made a copy.
    memory.free(context);
    made
}

impl GraphExec {
    /// Handle: names the graph in `packet::GraphLaunch`; of a graph with collectives its first piece, 0 if it has no commands.
    pub fn handle(&self) -> u64 {
        let mut handles = self.inner.handles.iter().flatten();
        handles.next().copied().unwrap_or_default()
    }

    /// Parameters that a launch gives.
    pub fn parameters(&self) -> usize {
        self.inner.parameters
    }

    /// Makes it another graph, with as many parameters, for launches that begin from here on. Those that were submitted and have not begun
    /// run the old or the new one.
    ///
    /// # Errors
    ///
    /// `Status::GraphUpdate` if the number of parameters differs, or one of the graphs has collectives; otherwise as [`Graph::instantiate`]. The graph stays as it was.
    pub fn update(&self, graph: &Graph) -> Result<()> {
        let inner = &self.inner;
        if graph.parameters() != inner.parameters {
            let text = format!(
                "the graph has {} parameters, the new one {}",
                inner.parameters,
                graph.parameters()
            );
            return Err(Error::new("update a graph", Status::GraphUpdate, text));
        }
        // What is dropped may wait for queues: outside of the lock.
        let mut ended = Vec::new();
        let mut state = inner.state();
        if graph.collectives() + state.graph.collectives() > 0 {
            let text = "a graph with collectives is not updated, but instantiated anew";
            return Err(Error::new("update a graph", Status::GraphUpdate, text));
        }
        let handle = self.handle();
        with_image(&inner.context, graph, |address, length| {
            let channel = &inner.context.channel;
            channel.graph_update(handle, address, length)
        })?;
        let old = std::mem::replace(&mut state.graph, Arc::new(graph.clone()));
        let launches = std::mem::take(&mut state.launches);
        state.before.push((old, launches));
        state.before.retain_mut(|(graph, launches)| {
            let runs = launches.iter().any(Launch::runs);
            if !runs {
                ended.push(graph.clone());
            }
            runs
        });
        drop(state);
        Ok(())
    }
}

impl ExecInner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for ExecInner {
    fn drop(&mut self) {
        for handle in self.handles.iter().flatten() {
            if let Err(error) = self.context.channel.graph_destroy(*handle) {
                tracing::debug!("graph {handle:#x} was not destroyed: {error}");
            }
        }
    }
}

impl Queue {
    /// Runs a graph, behind what was submitted before; its timeline value. The value is reached when the graph's last command has ended.
    /// `parameters` are the values of the graph's parameters in the order of [`Param::index`](super::Param::index). On a queue that is being
    /// captured the graph's commands become part of the new graph.
    ///
    /// Collectives of the graph are called: the launch returns when all ranks have come to the last one, and 0 if it was put off in a
    /// [`group`](crate::collective::group).
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if the number of parameters is wrong, `Status::BadHandle` if the graph is on another context's card;
    /// those of collectives.
    pub fn launch(&self, exec: &GraphExec, parameters: &[u64]) -> Result<u64> {
        const CALL: &str = "launch a graph";
        let inner = &exec.inner;
        if !Arc::ptr_eq(&inner.context, self.inner.context()) {
            let text = "the graph belongs to another context than the queue";
            return Err(Error::new(CALL, Status::BadHandle, text));
        }
        if parameters.len() != inner.parameters {
            let text = format!(
                "{} parameters, the graph has {}",
                parameters.len(),
                inner.parameters
            );
            return Err(Error::new(CALL, Status::InvalidArgument, text));
        }
        let mut state = inner.state();
        if self.is_capturing() {
            let graph = state.graph.clone();
            drop(state);
            return self.capture_graph(&graph, parameters);
        }
        if !state.graph.meetings.is_empty() {
            let graph = state.graph.clone();
            drop(state);
            return self.launch_script(exec, &graph, parameters);
        }
        let value = self.submit_launch(exec.handle(), parameters)?;
        let this = |l: &&mut Launch| std::ptr::eq(l.queue.as_ptr(), Arc::as_ptr(&self.inner));
        match state.launches.iter_mut().find(this) {
            Some(launch) => launch.value = value,
            None => {
                state.launches.retain(Launch::runs);
                state.launches.push(Launch {
                    queue: Arc::downgrade(&self.inner),
                    value,
                });
            }
        }
        drop(state);
        self.inner.keep_until(value, inner.clone());
        Ok(value)
    }
}

impl Queue {
    fn submit_launch(&self, graph: u64, parameters: &[u64]) -> Result<u64> {
        let head = GraphLaunch {
            graph,
            parameters: parameters.len() as u32,
            reserved: 0,
        };
        self.submit_pieces(op::GRAPH_LAUNCH, &[head.as_bytes(), bytes_of(parameters)])
    }

    /// Launches a graph with collectives: its pieces, and its calls between them.
    fn launch_script(&self, exec: &GraphExec, graph: &Graph, parameters: &[u64]) -> Result<u64> {
        let mut script = Script::new(self);
        for (i, handle) in exec.inner.handles.iter().enumerate() {
            if let Some(handle) = *handle {
                let (inner, parameters) = (exec.inner.clone(), parameters.to_vec());
                script.piece(move |queue| {
                    let value = queue.submit_launch(handle, &parameters)?;
                    queue.inner.keep_until(value, inner);
                    Ok(value)
                });
            }
            if let Some(meeting) = graph.meetings.get(i) {
                script.calls(meeting.with(parameters)?);
            }
        }
        script.run()
    }
}

fn bytes_of(parameters: &[u64]) -> &[u8] {
    let length = size_of_val(parameters);
    // SAFETY: integers have no padding, bytes no alignment; the slice is borrowed for as long as what is made of it.
    unsafe { std::slice::from_raw_parts(parameters.as_ptr().cast(), length) }
}
