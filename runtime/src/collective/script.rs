//! What ranks of this process do on a queue, one step after another: single calls, and launches of graphs that have collectives.

use std::collections::VecDeque;
use std::sync::Arc;

use vmlu_abi::Status;

use super::board::{Key, Ticket};
use super::call::{Call, Held, Kind};
use super::{group, Communicator, Inner, Memory};
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::queue::Queue;

/// A call on a queue.
#[derive(Clone)]
pub(super) struct Grouped {
    pub(super) communicator: Communicator,
    pub(super) call: Call,
    pub(super) queue: Queue,
}

/// Submits part of a graph; its value.
type Piece = Box<dyn FnOnce(&Queue) -> Result<u64>>;

enum Step {
    Piece(Piece),
    /// Calls that are made together.
    Calls(Vec<Grouped>),
}

/// Steps on a queue. The next begins when the calls of the one before have been made at all ranks.
pub(crate) struct Script {
    queue: Queue,
    steps: VecDeque<Step>,
    /// Of the last step that was submitted.
    value: u64,
}

impl Script {
    pub(crate) fn new(queue: &Queue) -> Self {
        Self {
            queue: queue.clone(),
            steps: VecDeque::new(),
            value: 0,
        }
    }

    pub(super) fn call(grouped: Grouped) -> Self {
        let mut script = Self::new(&grouped.queue);
        script.steps.push_back(Step::Calls(vec![grouped]));
        script
    }

    /// Adds what submits a part of a graph.
    pub(crate) fn piece(&mut self, submit: impl FnOnce(&Queue) -> Result<u64> + 'static) {
        self.steps.push_back(Step::Piece(Box::new(submit)));
    }

    /// Adds calls that were captured together.
    pub(crate) fn calls(&mut self, calls: Vec<Captured>) {
        let queue = &self.queue;
        let on = |captured: Captured| Grouped {
            communicator: captured.communicator,
            call: captured.call,
            queue: queue.clone(),
        };
        let calls = calls.into_iter().map(on).collect();
        self.steps.push_back(Step::Calls(calls));
    }

    /// Does it, or puts it off until the end of this thread's group; the value on the queue, 0 if it was put off.
    pub(crate) fn run(self) -> Result<u64> {
        match group::put_off(self) {
            None => Ok(0),
            Some(now) => {
                let mut scripts = [now];
                advance(&mut scripts)?;
                Ok(scripts[0].value)
            }
        }
    }

    /// Submits up to and with the next calls, which are then posted.
    fn step(&mut self, posted: &mut Vec<Posted>, script: usize) -> Result<()> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Piece(submit) => self.value = submit(&self.queue)?,
                Step::Calls(calls) => {
                    for call in calls {
                        posted.push(post(call, script)?);
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Does several together.
pub(super) fn make(scripts: Vec<Script>) -> Result<()> {
    let calls: Vec<&Grouped> = scripts
        .iter()
        .flat_map(|script| &script.steps)
        .filter_map(|step| match step {
            Step::Calls(calls) => Some(calls),
            Step::Piece(_) => None,
        })
        .flatten()
        .collect();
    check_own(&calls)?;
    let mut scripts = capture(scripts)?;
    advance(&mut scripts)
}

/// Does scripts, those of one queue one after another.
fn advance(scripts: &mut [Script]) -> Result<()> {
    loop {
        let mut posted = Vec::new();
        let mut busy: Vec<Queue> = Vec::new();
        for (number, script) in scripts.iter_mut().enumerate() {
            let same = |queue: &Queue| Arc::ptr_eq(&queue.inner, &script.queue.inner);
            if script.steps.is_empty() || busy.iter().any(same) {
                continue;
            }
            script.step(&mut posted, number)?;
            if !script.steps.is_empty() {
                busy.push(script.queue.clone());
            }
        }
        let mut failed = None;
        for call in posted {
            let script = call.script;
            match call.finish() {
                Ok(value) => scripts[script].value = value,
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if scripts.iter().all(|script| script.steps.is_empty()) {
            return Ok(());
        }
    }
}

/// Captures the calls whose queues are being captured, those of one capture together; the others.
fn capture(scripts: Vec<Script>) -> Result<Vec<Script>> {
    let mut rest = Vec::new();
    let mut captures: Vec<(u64, Vec<Grouped>)> = Vec::new();
    for mut script in scripts {
        let id = script.queue.capture_id();
        match (id, script.steps.pop_front()) {
            (Some(id), Some(Step::Calls(calls))) => match captures.iter_mut().find(|c| c.0 == id) {
                Some((_, known)) => known.extend(calls),
                None => captures.push((id, calls)),
            },
            (_, step) => {
                step.into_iter().for_each(|s| script.steps.push_front(s));
                rest.push(script);
            }
        }
    }
    for (_, calls) in captures {
        captured(calls)?;
    }
    Ok(rest)
}

/// Captures calls together; the value of the last one.
pub(super) fn captured(calls: Vec<Grouped>) -> Result<u64> {
    let queues: Vec<Queue> = calls.iter().map(|call| call.queue.clone()).collect();
    let calls = calls.into_iter().map(|grouped| Captured {
        communicator: grouped.communicator,
        call: grouped.call,
    });
    Queue::capture_collectives(&queues, calls.collect())
}

/// A call of a graph: each launch makes it.
#[derive(Clone)]
pub(crate) struct Captured {
    communicator: Communicator,
    call: Call,
}

impl Captured {
    /// Addresses of what it sends, then of what it receives.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        let parts = self.call.sends.iter().chain(&self.call.receives);
        parts.map(|part| match &part.memory {
            Held::Here(buffer) => buffer.address() + part.offset,
            Held::There(_) => 0,
        })
    }

    /// The call with other memory in some places, as [`Captured::addresses`] counts them; checked.
    pub(crate) fn with(&self, places: impl Iterator<Item = (usize, u64)>) -> Result<Self> {
        let mut new = self.clone();
        let call = &mut new.call;
        for (place, address) in places {
            let mut parts = call.sends.iter_mut().chain(&mut call.receives);
            if let Some(part) = parts.nth(place) {
                let Memory { buffer, offset } = Memory::at(self.communicator.context(), address)?;
                (part.memory, part.offset) = (Held::Here(buffer), offset);
            }
        }
        let (rank, size) = (self.communicator.rank(), self.communicator.size());
        call.check(rank, size)
            .map_err(|text| Error::new(call.kind.name(), Status::InvalidArgument, text))?;
        Ok(new)
    }

    /// The buffers that stand in it.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        let parts = self.call.sends.iter().chain(&self.call.receives);
        parts.filter_map(|part| match &part.memory {
            Held::Here(buffer) => Some(buffer),
            Held::There(_) => None,
        })
    }
}

/// A call that was posted.
struct Posted {
    communicator: Communicator,
    kind: Kind,
    key: Key,
    ticket: Ticket,
    script: usize,
}

impl Posted {
    fn finish(self) -> Result<u64> {
        let clique = &self.communicator.inner.clique;
        clique.finish(self.kind, self.key, &self.ticket)
    }
}

fn post(grouped: Grouped, script: usize) -> Result<Posted> {
    let Grouped {
        communicator,
        call,
        queue,
    } = grouped;
    let kind = call.kind;
    let Inner { member, clique } = &*communicator.inner;
    let (key, ticket) = clique.post(member, call, &queue)?;
    Ok(Posted {
        communicator,
        kind,
        key,
        ticket,
        script,
    })
}

/// What ranks send to themselves they receive in the same group, or nobody would.
fn check_own(calls: &[&Grouped]) -> Result<()> {
    let own = |grouped: &&&Grouped| {
        grouped.call.kind.is_pair() && grouped.call.root == grouped.communicator.rank()
    };
    let mut open: Vec<(*const Inner, i64)> = Vec::new();
    for Grouped {
        communicator, call, ..
    } in calls.iter().filter(own)
    {
        let rank = Arc::as_ptr(&communicator.inner);
        let step = if call.kind == Kind::Send { 1 } else { -1 };
        match open.iter_mut().find(|(known, _)| *known == rank) {
            Some((_, count)) => *count += step,
            None => open.push((rank, step)),
        }
    }
    if open.iter().all(|(_, count)| *count == 0) {
        return Ok(());
    }
    let text = "a rank sends to itself what it does not receive in the same group";
    Err(Error::new("end a group", Status::InvalidArgument, text))
}
