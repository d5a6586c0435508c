//! A queue that waits for timelines: how it blocks, and how queues are found that wait for each other.
//!
//! A queue blocks by entering itself with each timeline that it waits for, a full fence, and a last look at them: whoever advances, ends or
//! releases a timeline does that first, and looks for queues that wait then.
//!
//! **Circles.** A queue that waits for a value of its own by way of others never goes on, and nor do they. Each queue that blocks follows what
//! it waits for, from blocked queue to blocked queue; the one that blocks last finds the whole circle. What it found is looked at once more
//! behind it: a queue that is still blocked in the same place, with the value not reached, was so all the time in between. So there
//! was a moment at which all of the circle waited, and since values only change when queues go on, it will for ever.

use std::collections::HashSet;
use std::sync::atomic::{fence, Ordering};
use std::sync::{Arc, Mutex};

use vmlu_abi::Status;

use super::command::Awaited;
use super::{lock, Queue, State, Timeline};
use crate::kernels::env::Fault;

/// Most times that a queue follows what it waits for while others move.
const MAX_WALKS: usize = 100;
/// Most timelines that it looks at on these ways together: some milliseconds. A circle that lies behind more than that is not found.
const MAX_LOOKS: usize = 1 << 16;

/// The number of a queue's wait, and what it waits for.
#[derive(Default)]
pub(super) struct Blocked(Mutex<(u64, Vec<Edge>)>);

/// A value of a timeline that has to come.
#[derive(Clone)]
struct Edge {
    timeline: Arc<Timeline>,
    value: u64,
}

impl Edge {
    fn is_open(&self) -> bool {
        !self.timeline.has_ended() && self.timeline.value() < self.value
    }
}

/// How an attempt to block ended.
pub(super) enum Blocking {
    /// The queue is blocked; whoever wakes it hands it to the scheduler.
    Blocked,
    /// Something has changed: it is to look again.
    Changed,
    /// It would wait for itself.
    Circle(Fault),
}

/// A queue on the way through what is awaited.
struct Stop {
    queue: Arc<Queue>,
    wait: u64,
    edge: Edge,
    /// The stop before it; `None`: the queue where the way began.
    before: Option<usize>,
}

impl Stop {
    /// Whether its queue is still where it was found.
    fn stands(&self) -> bool {
        self.queue.state() == State::Blocked
            && lock(&self.queue.blocked.0).0 == self.wait
            && self.edge.is_open()
    }
}

impl Queue {
    /// Moves on from `Running` until one of these timelines has changed. Only the worker that owns the queue calls it.
    pub(super) fn block(self: &Arc<Self>, awaited: Vec<Awaited>) -> Blocking {
        self.timeline.waits(self);
        {
            let mut blocked = lock(&self.blocked.0);
            let edges = awaited.iter().map(|a| Edge {
                timeline: a.timeline.clone(),
                value: a.value,
            });
            *blocked = (blocked.0.wrapping_add(1), edges.collect());
        }
        self.front.life.leave(State::Blocked);
        for one in &awaited {
            one.timeline.wake_at(one.value, self);
        }
        fence(Ordering::SeqCst);
        // What changed meanwhile has perhaps woken nobody.
        let changed = self.is_cancelled()
            || awaited.iter().any(|a| !a.is_open())
            || awaited.iter().any(|a| !a.is_known(self));
        if changed {
            // Unless a waker has taken the queue already.
            return if self.change(State::Blocked, State::Running) {
                Blocking::Changed
            } else {
                Blocking::Blocked
            };
        }
        match self.circle() {
            Some(fault) if self.change(State::Blocked, State::Running) => Blocking::Circle(fault),
            _ => Blocking::Blocked,
        }
    }

    /// Looks whether this blocked queue waits for itself.
    fn circle(self: &Arc<Self>) -> Option<Fault> {
        let waits_too = |timeline: &Timeline| {
            let queue = timeline.waiting_queue();
            queue.is_some_and(|q| q.state() == State::Blocked)
        };
        // Mostly it is not, and this is all.
        if !lock(&self.blocked.0)
            .1
            .iter()
            .any(|e| waits_too(&e.timeline))
        {
            return None;
        }
        // Each time around another queue has moved.
        let mut looks = 0;
        let mut ways = (0..MAX_WALKS).map_while(|_| {
            let goes_on = looks < MAX_LOOKS && !self.is_cancelled();
            goes_on.then(|| self.walk(&mut looks))
        });
        ways.find_map(|way| way).flatten()
    }

    /// Follows what is awaited; `None` if what was found has changed meanwhile, `Some(None)` if there is no circle.
    fn walk(self: &Arc<Self>, looks: &mut usize) -> Option<Option<Fault>> {
        let mut stops: Vec<Stop> = Vec::new();
        let mut seen = HashSet::from([Arc::as_ptr(self)]);
        let mut follow = vec![(self.clone(), None)];
        while let Some((queue, before)) = follow.pop() {
            if queue.state() != State::Blocked {
                continue;
            }
            let (wait, edges) = lock(&queue.blocked.0).clone();
            *looks += edges.len();
            if *looks >= MAX_LOOKS {
                return Some(None);
            }
            for edge in edges.into_iter().filter(Edge::is_open) {
                let Some(next) = edge.timeline.waiting_queue() else {
                    continue;
                };
                let back = Arc::ptr_eq(&next, self);
                if !back && !seen.insert(Arc::as_ptr(&next)) {
                    continue;
                }
                stops.push(Stop {
                    queue: queue.clone(),
                    wait,
                    edge,
                    before,
                });
                let last = stops.len() - 1;
                if back {
                    let way = way_to(&stops, last);
                    return way.iter().all(|s| s.stands()).then(|| Some(refusal(&way)));
                }
                follow.push((next, Some(last)));
            }
        }
        Some(None)
    }

    /// The wait that it was blocked in is over.
    pub(super) fn unblocked(&self) {
        lock(&self.blocked.0).1.clear();
    }
}

/// The stops up to one, the last one first.
fn way_to(stops: &[Stop], last: usize) -> Vec<&Stop> {
    let mut way = Vec::new();
    let mut at = Some(last);
    while let Some(stop) = at.and_then(|i| stops.get(i)) {
        way.push(stop);
        at = stop.before;
    }
    way
}

fn refusal(way: &[&Stop]) -> Fault {
    let (own, via) = (way.last(), way.first());
    let text = format!(
        "wait: queue {:#x} waits for its own value {} by way of queue {:#x} ({} queues wait for each other)",
        own.map_or(0, |s| s.queue.handle),
        via.map_or(0, |s| s.edge.value),
        via.map_or(0, |s| s.queue.handle),
        way.len()
    );
    Fault::new(Status::InvalidArgument, text)
}
