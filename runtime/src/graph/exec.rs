//! Graphs on a card.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use vmlu_abi::packet::{op, GraphLaunch};
use vmlu_abi::{Status, Wire};

use super::Graph;
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
    handle: u64,
    parameters: usize,
    state: Mutex<State>,
}

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
        let handle = with_image(inner, self, |address, length| {
            inner.channel.graph_create(address, length)
        })?;
        let state = State {
            graph: Arc::new(self.clone()),
            launches: Vec::new(),
            before: Vec::new(),
        };
        let exec = ExecInner {
            context: inner.clone(),
            handle,
            parameters: self.parameters(),
            state: Mutex::new(state),
        };
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
    /// Handle: names the graph in `packet::GraphLaunch`.
    pub fn handle(&self) -> u64 {
        self.inner.handle
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
    /// `Status::GraphUpdate` if the number of parameters differs; otherwise as [`Graph::instantiate`]. The graph stays as it was.
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
        with_image(&inner.context, graph, |address, length| {
            let channel = &inner.context.channel;
            channel.graph_update(inner.handle, address, length)
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
        if let Err(error) = self.context.channel.graph_destroy(self.handle) {
            tracing::debug!("graph {:#x} was not destroyed: {error}", self.handle);
        }
    }
}

impl Queue {
    /// Runs a graph, behind what was submitted before; its timeline value. The value is reached when the graph's last command has ended.
    /// `parameters` are the values of the graph's parameters in the order of [`Param::index`](super::Param::index). On a queue that is being
    /// captured the graph's commands become part of the new graph.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if the number of parameters is wrong, `Status::BadHandle` if the graph is on another context's card.
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
        let head = GraphLaunch {
            graph: inner.handle,
            parameters: parameters.len() as u32,
            reserved: 0,
        };
        let value =
            self.submit_pieces(op::GRAPH_LAUNCH, &[head.as_bytes(), bytes_of(parameters)])?;
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

fn bytes_of(parameters: &[u64]) -> &[u8] {
    let length = size_of_val(parameters);
    // SAFETY: integers have no padding, bytes no alignment; the slice is borrowed for as long as what is made of it.
    unsafe { std::slice::from_raw_parts(parameters.as_ptr().cast(), length) }
}
