//! Task topologies: graphs of nodes, captured from queues or built node by node, and what is made of them for a device.
//!
//! A captured topology is a graph of the runtime, which the card keeps; its nodes are the captured commands, each behind the one before. A topology
//! that was built is run node by node, in an order that satisfies its edges.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vmlu::abi::packet::op;
use vmlu::{Graph, GraphExec};

use crate::context::Live;
use crate::copy::{self, Direction};
use crate::failure::{Failure, Result};
use crate::host;
use crate::notifier::Notifier;
use crate::queue::Queue;
use crate::table::Table;

/// The topologies by their handles.
pub static TOPOS: Table<Topo> = Table::new(0x16);
/// Their nodes.
pub static NODES: Table<NodeRef> = Table::new(0x17);
/// What is made of them for a device.
pub static ENTITIES: Table<Entity> = Table::new(0x18);

/// A topology.
#[derive(Default)]
pub struct Topo {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// The capture that it is, if it is one.
    graph: Option<Arc<Graph>>,
    nodes: Vec<Node>,
    /// From a node to another.
    edges: Vec<(usize, usize)>,
    /// The handles of the nodes; 0 for those that have none yet.
    handles: Vec<usize>,
}

/// A node.
#[derive(Clone)]
pub enum Node {
    /// Nothing.
    Empty,
    /// A captured command that is no copy or fill.
    Command,
    /// A captured copy.
    CapturedCopy,
    /// A captured fill.
    CapturedFill,
    /// A function of the program.
    Host(host::Function, usize),
    /// A copy of bytes.
    Copy {
        /// Where to.
        to: u64,
        /// Where from.
        from: u64,
        /// Bytes.
        length: u64,
    },
    /// A fill.
    Fill {
        /// Where to.
        to: u64,
        /// The element.
        pattern: u64,
        /// Its bytes.
        width: u32,
        /// Elements.
        count: u64,
    },
    /// A topology, as it was when it was added.
    Topo(Arc<Topo>),
    /// A notifier is placed.
    Place(Arc<Notifier>),
    /// A notifier is waited for.
    Wait(Arc<Notifier>),
}

impl Node {
    /// Its type, in C's numbers.
    pub fn kind(&self) -> i32 {
        match self {
            Self::Empty => 0,
            Self::Command => 1,
            Self::Host(..) => 2,
            Self::Copy { .. } | Self::CapturedCopy => 3,
            Self::Fill { .. } | Self::CapturedFill => 4,
            Self::Topo(_) => 5,
            Self::Place(_) => 6,
            Self::Wait(_) => 7,
        }
    }
}

/// A node of a topology, as its handle names it.
pub struct NodeRef {
    topo: Weak<Topo>,
    index: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeRef {
    /// The node of a handle: its topology and its place in it.
    pub fn find(handle: usize) -> Result<(Arc<Topo>, usize)> {
        let node = NODES.find(handle).ok_or(Failure::INVALID_VALUE)?;
        let topo = node.topo.upgrade().ok_or(Failure::INVALID_VALUE)?;
        Ok((topo, node.index))
    }
}

impl Topo {
    /// Gives a topology a handle.
    pub fn insert(self) -> Result<usize> {
        TOPOS.insert(Arc::new(self)).ok_or(Failure::HOST_MEMORY)
    }

    /// The topology of a capture.
    pub fn captured(graph: Graph) -> Self {
        let kind = |i| match graph.opcode(i) {
            Some(op::COPY | op::COPY_STRIDED | op::WRITE) => Node::CapturedCopy,
            Some(op::FILL) => Node::CapturedFill,
            _ => Node::Command,
        };
        let nodes: Vec<Node> = (0..graph.commands()).map(kind).collect();
        let edges = (1..nodes.len()).map(|i| (i - 1, i)).collect();
        let state = State {
            graph: Some(Arc::new(graph)),
            handles: vec![0; nodes.len()],
            nodes,
            edges,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The topology of a handle.
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        TOPOS.find(handle).ok_or(Failure::INVALID_VALUE)
    }

    /// Destroys a topology with its nodes. What was made of it stays.
    pub fn destroy(handle: usize) -> Result<()> {
        let topo = TOPOS.remove(handle).ok_or(Failure::INVALID_VALUE)?;
        for node in std::mem::take(&mut lock(&topo.state).handles) {
            NODES.remove(node);
        }
        Ok(())
    }

    /// A copy without handles of its nodes.
    pub fn copied(&self) -> Self {
        let mut state = lock(&self.state).clone();
        state.handles = vec![0; state.nodes.len()];
        Self {
            state: Mutex::new(state),
        }
    }

    /// Adds a node behind others; its handle.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] if one of the others is twice there, or of another topology; [`Failure::NOT_SUPPORTED`] for a captured topology.
    pub fn add(self: &Arc<Self>, node: Node, behind: &[usize]) -> Result<usize> {
        let before = self.indices(behind)?;
        let mut state = lock(&self.state);
        if state.graph.is_some() {
            return Err(Failure::NOT_SUPPORTED);
        }
        let index = state.nodes.len();
        let handle = NODES.insert(Arc::new(NodeRef {
            topo: Arc::downgrade(self),
            index,
        }));
        let handle = handle.ok_or(Failure::HOST_MEMORY)?;
        state.nodes.push(node);
        state.handles.push(handle);
        state.edges.extend(before.into_iter().map(|b| (b, index)));
        Ok(handle)
    }

    /// The places of nodes of this topology, each once.
    fn indices(self: &Arc<Self>, handles: &[usize]) -> Result<Vec<usize>> {
        let mut indices = Vec::new();
        for handle in handles {
            let (topo, index) = NodeRef::find(*handle)?;
            if !Arc::ptr_eq(&topo, self) || indices.contains(&index) {
                return Err(Failure::INVALID_VALUE);
            }
            indices.push(index);
        }
        Ok(indices)
    }

    /// Adds or removes edges.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] if an edge is there already, or is not there, or leads from a node to itself.
    pub fn connect(self: &Arc<Self>, edges: &[(usize, usize)], add: bool) -> Result<()> {
        let mut wanted = Vec::new();
        for (from, to) in edges {
            let (from, to) = (self.indices(&[*from])?[0], self.indices(&[*to])?[0]);
            wanted.push((from, to));
        }
        let mut state = lock(&self.state);
        if state.graph.is_some() {
            return Err(Failure::NOT_SUPPORTED);
        }
        for edge in &wanted {
            if state.edges.contains(edge) == add || edge.0 == edge.1 {
                return Err(Failure::INVALID_VALUE);
            }
        }
        match add {
            true => state.edges.extend(wanted),
            false => state.edges.retain(|edge| !wanted.contains(edge)),
        }
        Ok(())
    }

    /// A node.
    pub fn node(&self, index: usize) -> Result<Node> {
        let node = lock(&self.state).nodes.get(index).cloned();
        node.ok_or(Failure::INVALID_VALUE)
    }

    /// The handles of nodes that satisfy a condition on their place and the edges.
    fn handles(
        self: &Arc<Self>,
        wanted: impl Fn(usize, &[(usize, usize)]) -> bool,
    ) -> Result<Vec<usize>> {
        let mut state = lock(&self.state);
        let chosen: Vec<usize> = (0..state.nodes.len())
            .filter(|i| wanted(*i, &state.edges))
            .collect();
        chosen
            .into_iter()
            .map(|index| {
                if state.handles[index] == 0 {
                    let node = NodeRef {
                        topo: Arc::downgrade(self),
                        index,
                    };
                    let handle = NODES.insert(Arc::new(node));
                    state.handles[index] = handle.ok_or(Failure::HOST_MEMORY)?;
                }
                Ok(state.handles[index])
            })
            .collect()
    }

    /// All nodes.
    pub fn nodes(self: &Arc<Self>) -> Result<Vec<usize>> {
        self.handles(|_, _| true)
    }

    /// Nodes that are behind no others.
    pub fn roots(self: &Arc<Self>) -> Result<Vec<usize>> {
        self.handles(|i, edges| edges.iter().all(|(_, to)| *to != i))
    }

    /// The nodes before a node, or behind it.
    pub fn neighbours(self: &Arc<Self>, index: usize, before: bool) -> Result<Vec<usize>> {
        self.handles(|i, edges| match before {
            true => edges.contains(&(i, index)),
            false => edges.contains(&(index, i)),
        })
    }

    /// The edges.
    pub fn edges(self: &Arc<Self>) -> Result<Vec<(usize, usize)>> {
        let handles = self.nodes()?;
        let state = lock(&self.state);
        let edges = state.edges.iter();
        Ok(edges.map(|(a, b)| (handles[*a], handles[*b])).collect())
    }

    /// What is to be done, in an order that satisfies the edges.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] if they go round in a circle.
    fn steps(&self, live: &Arc<Live>) -> Result<Vec<Step>> {
        let state = lock(&self.state).clone();
        if let Some(graph) = state.graph {
            let exec = match graph.commands() + graph.collectives() {
                0 => None,
                _ => Some(graph.instantiate(&live.runtime)?),
            };
            return Ok(vec![Step::Graph(exec, graph)]);
        }
        let mut waits = vec![0; state.nodes.len()];
        state.edges.iter().for_each(|(_, to)| waits[*to] += 1);
        let mut done = vec![false; state.nodes.len()];
        let mut steps = Vec::new();
        for _ in 0..state.nodes.len() {
            let ready = (0..waits.len()).find(|i| waits[*i] == 0 && !done[*i]);
            let next = ready.ok_or(Failure::INVALID_VALUE)?;
            done[next] = true;
            let behind = state.edges.iter().filter(|(from, _)| *from == next);
            behind.for_each(|(_, to)| waits[*to] -= 1);
            match &state.nodes[next] {
                Node::Topo(child) => steps.extend(child.steps(live)?),
                node => steps.push(Step::Node(node.clone())),
            }
        }
        Ok(steps)
    }

    /// As a picture in the language of Graphviz.
    pub fn dot(&self) -> String {
        const NAMES: [&str; 8] = [
            "empty", "command", "host", "copy", "fill", "topology", "place", "wait",
        ];
        let state = lock(&self.state);
        let mut text = String::from("digraph topology {\n");
        for (i, node) in state.nodes.iter().enumerate() {
            let name = NAMES[node.kind() as usize];
            let opcode = state.graph.as_ref().and_then(|graph| graph.opcode(i));
            let opcode = opcode.map_or(String::new(), |o| format!(" {o:#06x}"));
            text.push_str(&format!("  n{i} [label=\"{i}: {name}{opcode}\"];\n"));
        }
        for (from, to) in &state.edges {
            text.push_str(&format!("  n{from} -> n{to};\n"));
        }
        text.push_str("}\n");
        text
    }
}

/// What is made of a topology for a device.
pub struct Entity {
    /// The context that it belongs to.
    pub live: Arc<Live>,
    steps: Mutex<Vec<Step>>,
}

#[derive(Clone)]
enum Step {
    /// A graph on the card; `None` if it is empty.
    Graph(Option<GraphExec>, Arc<Graph>),
    Node(Node),
}

impl Step {
    /// In what a step differs from another beyond what an update can change: C's number, 0 for nothing.
    fn differs(&self, other: &Self) -> i32 {
        const TOPOLOGY: i32 = 2;
        const NODE_TYPE: i32 = 3;
        match (self, other) {
            (Self::Graph(_, a), Self::Graph(_, b))
                if (a.commands(), a.collectives()) != (b.commands(), b.collectives()) =>
            {
                TOPOLOGY
            }
            (Self::Graph(_, a), Self::Graph(_, b)) => {
                let same = (0..a.commands()).all(|i| a.opcode(i) == b.opcode(i));
                if same {
                    0
                } else {
                    NODE_TYPE
                }
            }
            (Self::Node(a), Self::Node(b)) if a.kind() == b.kind() => 0,
            (Self::Node(_), Self::Node(_)) => NODE_TYPE,
            _ => TOPOLOGY,
        }
    }
}

impl Entity {
    /// Makes an entity of a topology; its handle.
    pub fn create(topo: &Topo, live: &Arc<Live>) -> Result<usize> {
        let entity = Self {
            live: live.clone(),
            steps: Mutex::new(topo.steps(live)?),
        };
        ENTITIES
            .insert(Arc::new(entity))
            .ok_or(Failure::HOST_MEMORY)
    }

    /// The entity of a handle.
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        ENTITIES.find(handle).ok_or(Failure::INVALID_VALUE)
    }

    /// Destroys an entity; launches that were made end.
    pub fn destroy(handle: usize) -> Result<()> {
        ENTITIES
            .remove(handle)
            .map(drop)
            .ok_or(Failure::INVALID_VALUE)
    }

    /// Runs it behind what a queue of its context has.
    pub fn invoke(&self, queue: &Queue) -> Result<()> {
        if !Arc::ptr_eq(&self.live, &queue.live) {
            return Err(Failure::INVALID_VALUE);
        }
        // Held, so that two threads' launches do not mix on a queue.
        let steps = lock(&self.steps);
        for step in steps.iter() {
            match step {
                Step::Graph(None, _) | Step::Node(Node::Empty) => {}
                Step::Graph(Some(exec), _) => drop(queue.runtime.launch(exec, &[])?),
                Step::Node(Node::Host(function, data)) => {
                    let data = std::ptr::with_exposed_provenance_mut(*data);
                    host::invoke(queue, *function, data)?;
                }
                Step::Node(Node::Copy { to, from, length }) => {
                    copy::copy_async(queue, *to, *from, *length, Direction::Any)?;
                }
                Step::Node(Node::Fill {
                    to,
                    pattern,
                    width,
                    count,
                }) => copy::fill(Some(queue), *to, *pattern, *width, *count)?,
                Step::Node(Node::Place(notifier)) => notifier.place(queue)?,
                Step::Node(Node::Wait(notifier)) => notifier.hold(queue)?,
                // They stand in graphs, or were taken apart.
                Step::Node(
                    Node::Command | Node::CapturedCopy | Node::CapturedFill | Node::Topo(_),
                ) => {}
            }
        }
        Ok(())
    }

    /// Makes it another topology of the same shape, for launches that come.
    ///
    /// # Errors
    ///
    /// [`Failure::TOPO_UPDATE`] with C's number for the difference, if the shape differs; it stays as it was then.
    pub fn update(&self, topo: &Topo) -> std::result::Result<(), (Failure, i32)> {
        let new = topo.steps(&self.live).map_err(|failure| (failure, 1))?;
        let mut steps = lock(&self.steps);
        if steps.len() != new.len() {
            return Err((Failure::TOPO_UPDATE, 2));
        }
        for (old, new) in steps.iter().zip(&new) {
            match old.differs(new) {
                0 => {}
                difference => return Err((Failure::TOPO_UPDATE, difference)),
            }
        }
        *steps = new;
        Ok(())
    }
}

/// Takes all of a context from the table, to be dropped without a lock.
pub(crate) fn forget(live: &Arc<Live>) -> Vec<Arc<Entity>> {
    ENTITIES.remove_if(|entity| Arc::ptr_eq(&entity.live, live))
}
