//! One command: decoded from the private copy of its packet, checked, run.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use smallvec::SmallVec;
use vmlu_abi::graph::MAX_PARAMETERS;
use vmlu_abi::notifier::Notifier;
use vmlu_abi::packet::{
    self, op, Indirect, PacketHeader, FLAGS, FLAG_INDIRECT, MAX_INDIRECT, MAX_INLINE, MAX_WAITS,
    VERSION,
};
use vmlu_abi::rpc;
use vmlu_abi::{Status, Wire};

use super::replay::Replay;
use super::{copy, copy_strided, Queue, Timeline};
use crate::clock::{cost_ns, wall_ns};
use crate::inject::Hit;
use crate::kernels::env::{Access, Env, Fault, Stopped};
use crate::kernels::{self, Kernel};
use crate::memory::bytes::Bytes;
use crate::memory::peer::Load;
use crate::memory::space::{Segment, SegmentUse};
use crate::scheduler::Scheduler;

/// What a command that did not fail has to say.
pub enum Outcome {
    /// It ran.
    Done {
        /// Device time that it took, ns.
        device_ns: u64,
    },
    /// It waits for timelines: those that have not reached their values.
    Wait(Vec<Awaited>),
    /// It began a graph, whose commands are still to run.
    Graph,
}

/// A timeline that a command waits for.
pub struct Awaited {
    /// As the packet names it.
    pub handle: u64,
    /// The timeline.
    pub timeline: Arc<Timeline>,
    /// The value.
    pub value: u64,
}

impl Awaited {
    /// Whether the wait for it goes on as things are.
    pub(super) fn is_open(&self) -> bool {
        !self.timeline.has_ended() && self.timeline.value() < self.value
    }

    /// Whether the queue's context can still name it.
    pub(super) fn is_known(&self, queue: &Queue) -> bool {
        let named = queue.context.find_timeline(&queue.core, self.handle);
        named.is_some_and(|t| Arc::ptr_eq(&t, &self.timeline))
    }
}

/// How long a command may run before others are looked after, ns.
const LONG_NS: u64 = 200_000;

/// What a header and the length of its body say: the operator, if it is one, and the bytes of the body.
pub fn decode(
    header: &PacketHeader,
    padded: &[u8],
) -> Result<(Option<&'static Kernel>, usize), Fault> {
    let kernel = check_header(header)?;
    let length = body_length(header.opcode, kernel, padded)?;
    exact(padded, length)?;
    Ok((kernel, length))
}

fn check_header(header: &PacketHeader) -> Result<Option<&'static Kernel>, Fault> {
    if header.version != VERSION {
        return Err(Fault::new(
            Status::VersionMismatch,
            format!(
                "the packet has version {}, the card serves {VERSION}",
                header.version
            ),
        ));
    }
    if header.flags & !FLAGS != 0 {
        return Err(Fault::new(
            Status::ReservedNotZero,
            format!("the packet has unknown flags {:#x}", header.flags & !FLAGS),
        ));
    }
    Ok(kernels::find(header.opcode))
}

/// Bytes of an opcode's body, as far as the body that stands in `padded` says.
fn body_length(opcode: u16, kernel: Option<&Kernel>, padded: &[u8]) -> Result<usize, Fault> {
    Ok(match (opcode, kernel) {
        (_, Some(kernel)) => kernel.body,
        (op::NOP, _) => 0,
        (op::COPY, _) => size_of::<packet::Copy>(),
        (op::FILL, _) => size_of::<packet::Fill>(),
        (op::WRITE, _) => {
            let bytes = packet::WriteInline::read_from(padded).map_or(0, |w| w.length as usize);
            size_of::<packet::WriteInline>() + bytes.min(MAX_INLINE + 1)
        }
        (op::COPY_STRIDED, _) => size_of::<packet::CopyStrided>(),
        (op::WAIT, _) => size_of::<packet::Wait>(),
        (op::WAIT_ALL, _) => {
            let count = packet::WaitAll::read_from(padded).map_or(0, |w| w.count as usize);
            size_of::<packet::WaitAll>() + count.min(MAX_WAITS + 1) * size_of::<packet::Wait>()
        }
        (op::NOTIFY, _) => size_of::<packet::Notify>(),
        (op::GRAPH_LAUNCH, _) => {
            let parameters = packet::GraphLaunch::read_from(padded).map_or(0, |l| l.parameters);
            size_of::<packet::GraphLaunch>() + parameters.min(MAX_PARAMETERS + 1) as usize * 8
        }
        _ => {
            return Err(Fault::new(
                Status::UnknownOpcode,
                format!("the opcode {opcode:#06x} is unknown"),
            ))
        }
    })
}

/// Runs the packet's command. `padded` is everything behind the header; a graph that is launched is begun in `replay`.
pub(super) fn run(
    queue: &Arc<Queue>,
    header: &PacketHeader,
    padded: &[u8],
    busy_ns: u64,
    waited: bool,
    replay: &mut Replay,
) -> Result<Outcome, Fault> {
    let kernel = check_header(header)?;
    if header.opcode == op::NOP && header.flags == 0 && !queue.core.injector.is_armed() {
        exact(padded, 0)?;
        return Ok(Outcome::Done {
            device_ns: queue.core.hardware.model.launch_ns,
        });
    }
    let length = body_length(header.opcode, kernel, padded)?;
    let env = Command::new(queue, header.opcode);
    let indirect;
    let body = if header.flags & FLAG_INDIRECT != 0 {
        indirect = env.indirect(padded)?;
        &indirect[..]
    } else {
        exact(padded, length)?
    };
    let input = Input {
        opcode: header.opcode,
        kernel,
        body,
        busy_ns,
        waited,
    };
    execute(queue, &env, &input, Some(replay))
}

/// A command that was decoded.
pub(super) struct Input<'a> {
    /// Opcode.
    pub opcode: u16,
    /// The operator, if it is one.
    pub kernel: Option<&'static Kernel>,
    /// Body.
    pub body: &'a [u8],
    /// Device time of the queue's commands before it, ns.
    pub busy_ns: u64,
    /// Whether it is looked at again because it waits.
    pub waited: bool,
}

/// Runs a command that was decoded.
pub(super) fn execute(
    queue: &Arc<Queue>,
    env: &Command<'_>,
    input: &Input<'_>,
    replay: Option<&mut Replay>,
) -> Result<Outcome, Fault> {
    let &Input {
        opcode,
        kernel,
        body,
        ..
    } = input;
    // A wait that is looked at again is the same command.
    let hit = if input.waited {
        None
    } else {
        queue.core.injector.hit(opcode, queue.context.handle)
    };
    let done = |device_ns| Outcome::Done { device_ns };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if queue.core.live.is_overheated() {
            let text = "the chip reached its highest temperature";
            return Err(Fault::new(Status::Overheated, text));
        }
        if let Some(hit) = hit {
            suffer(env, hit)?;
        }
        match (opcode, kernel) {
            (_, Some(kernel)) => {
                let work = (kernel.run)(body, env)?;
                let counters = &queue.core.live.counters;
                counters
                    .operations
                    .fetch_add(work.operations, Ordering::Relaxed);
                counters
                    .device
                    .fetch_add(work.read.saturating_add(work.written), Ordering::Relaxed);
                let model = queue.core.hardware.model;
                Ok(done(queue.core.live.at_clock(cost_ns(model, &work))))
            }
            (op::COPY, _) => copy::copy(env, &kernels::env::body(body, "copy")?).map(done),
            (op::FILL, _) => copy::fill(env, &kernels::env::body(body, "fill")?).map(done),
            (op::WRITE, _) => copy::write(env, body).map(done),
            (op::COPY_STRIDED, _) => {
                copy_strided::copy(env, &kernels::env::body(body, "strided copy")?).map(done)
            }
            (op::WAIT, _) => {
                let one = wait(queue, &kernels::env::body(body, "wait")?, input.waited)?;
                Ok(waits(one.into_iter().collect()))
            }
            (op::WAIT_ALL, _) => wait_all(queue, body, input.waited).map(waits),
            (op::NOTIFY, _) => notify(queue, body, input.busy_ns, Status::Ok).map(|()| done(0)),
            (op::GRAPH_LAUNCH, _) => match replay {
                Some(replay) => launch(queue, body, replay),
                None => Err(Fault::new(Status::NotSupported, "a graph in a graph")),
            },
            _ => {
                exact(body, 0)?;
                Ok(done(queue.core.hardware.model.launch_ns))
            }
        }
    }));
    match outcome {
        Ok(Ok(Outcome::Done { device_ns })) => Ok(Outcome::Done {
            device_ns: device_ns.max(env.peers_ns()),
        }),
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(fault)) => Err(env.explain(fault)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let name = kernel.map_or("the command", |k| k.name);
            Err(Fault::new(
                Status::KernelPanic,
                format!("{name} panicked: {}", text.unwrap_or_default()),
            ))
        }
    }
}

/// [`op::GRAPH_LAUNCH`]: begins the graph in `replay`.
fn launch(queue: &Queue, body: &[u8], replay: &mut Replay) -> Result<Outcome, Fault> {
    let Some(launch) = packet::GraphLaunch::read_from(body) else {
        return Err(Fault::new(
            Status::TruncatedBody,
            "graph launch: truncated body",
        ));
    };
    let parameters = &body[size_of::<packet::GraphLaunch>()..];
    if launch.reserved != 0 {
        return Err(Fault::new(
            Status::ReservedNotZero,
            "graph launch: padding is not zero",
        ));
    }
    if parameters.len() as u64 != u64::from(launch.parameters) * 8 {
        let text = format!(
            "graph launch: {} parameters announced, {} bytes of them in the packet",
            launch.parameters,
            parameters.len()
        );
        return Err(Fault::new(Status::BadLength, text));
    }
    let Some(image) = queue.context.graph_image(launch.graph) else {
        let text = format!(
            "graph launch: there is no graph {:#x} in this context",
            launch.graph
        );
        return Err(Fault::new(Status::BadHandle, text));
    };
    replay.begin(image, parameters)?;
    Ok(Outcome::Graph)
}

/// The body and nothing else: as long as it must be, in as few units as it needs, zero behind it.
fn exact(padded: &[u8], length: usize) -> Result<&[u8], Fault> {
    let Some(body) = padded.get(..length) else {
        let text = format!(
            "the packet carries {} bytes of body, its opcode defines {length}",
            padded.len()
        );
        return Err(Fault::new(Status::TruncatedBody, text));
    };
    if let Some(at) = padded[length..].iter().position(|b| *b != 0) {
        return Err(Fault::new(
            Status::ReservedNotZero,
            format!("byte {} behind the packet's body is not zero", length + at),
        ));
    }
    Ok(body)
}

fn take<T: Wire>(padded: &[u8], length: usize) -> Result<T, Fault> {
    T::read_from(exact(padded, length)?)
        .ok_or_else(|| Fault::new(Status::TruncatedBody, "the packet's body is truncated"))
}

/// What a wait for these timelines says.
fn waits(left: Vec<Awaited>) -> Outcome {
    if left.is_empty() {
        Outcome::Done { device_ns: 0 }
    } else {
        Outcome::Wait(left)
    }
}

/// [`op::WAIT`]: what is still awaited, if the value was not reached.
fn wait(queue: &Arc<Queue>, wait: &packet::Wait, waited: bool) -> Result<Option<Awaited>, Fault> {
    let gone = if waited {
        Status::Dependency
    } else {
        Status::BadHandle
    };
    let target = queue.context.find_timeline(&queue.core, wait.queue);
    let Some(target) = target else {
        let text = format!(
            "wait: the timeline {:#x} does not exist in this context",
            wait.queue
        );
        return Err(Fault::new(gone, text));
    };
    // The end first: a value that is read after it is the last one.
    let ended = target.has_ended();
    let value = target.value();
    if value < wait.value {
        if Arc::ptr_eq(&target, queue.shared_timeline()) {
            return Err(Fault::new(
                Status::InvalidArgument,
                format!("wait: the queue waits for its own value {}", wait.value),
            ));
        }
        if ended {
            let text = format!(
                "wait: the queue {:#x} has ended at {value}, before the value {}",
                wait.queue, wait.value
            );
            return Err(Fault::new(Status::Dependency, text));
        }
        return Ok(Some(Awaited {
            handle: wait.queue,
            timeline: target,
            value: wait.value,
        }));
    }
    if target.failed_at(wait.value) {
        let text = format!(
            "wait: command {} of queue {:#x} failed",
            wait.value, wait.queue
        );
        return Err(Fault::new(Status::Dependency, text));
    }
    Ok(None)
}

/// [`op::WAIT_ALL`]: looks at all timelines each time, so that the failure of one is seen while another is still awaited.
fn wait_all(queue: &Arc<Queue>, body: &[u8], waited: bool) -> Result<Vec<Awaited>, Fault> {
    let head = packet::WaitAll::read_from(body);
    let waits = body.get(size_of::<packet::WaitAll>()..);
    let (Some(head), Some(waits)) = (head, waits) else {
        return Err(Fault::new(Status::TruncatedBody, "wait: truncated body"));
    };
    if head.reserved != 0 {
        return Err(Fault::new(
            Status::ReservedNotZero,
            "wait: padding is not zero",
        ));
    }
    let count = head.count as usize;
    if !(1..=MAX_WAITS).contains(&count) || waits.len() != count * size_of::<packet::Wait>() {
        let text = format!(
            "wait: {count} timelines in {} bytes, 1 to {MAX_WAITS} are allowed",
            waits.len()
        );
        return Err(Fault::new(Status::InvalidArgument, text));
    }
    let mut left = Vec::new();
    for one in waits.chunks_exact(size_of::<packet::Wait>()) {
        left.extend(wait(queue, &kernels::env::body(one, "wait")?, waited)?);
    }
    Ok(left)
}

/// Writes the notifier of a packet that an error took, if the packet is well-formed.
pub fn notify_cancelled(
    queue: &Queue,
    header: &PacketHeader,
    padded: &[u8],
    busy_ns: u64,
    status: Status,
) -> Result<(), Fault> {
    if header.version != VERSION || header.flags != 0 {
        return Err(Fault::new(Status::Cancelled, "notify: not a plain packet"));
    }
    notify(
        queue,
        exact(padded, size_of::<packet::Notify>())?,
        busy_ns,
        status,
    )
}

/// Writes a notifier of the context's pool.
pub fn notify(queue: &Queue, body: &[u8], busy_ns: u64, status: Status) -> Result<(), Fault> {
    let Some(notify) = packet::Notify::read_from(body) else {
        return Err(Fault::new(Status::TruncatedBody, "notify: truncated body"));
    };
    let notifier = Notifier {
        value: notify.value,
        error: status.raw(),
        device_ns: queue.core.clock.now(),
        busy_ns,
        wall_ns: wall_ns(),
    };
    queue.context.write_notifier(notify.index, &notifier)
}

/// Commands that hang by injection.
static HANGING: AtomicU32 = AtomicU32::new(0);

/// One of them.
struct Hanging;

impl Hanging {
    fn new() -> Self {
        HANGING.fetch_add(1, Ordering::Relaxed);
        Self
    }

    /// Between two looks at the cancel flag: 0.2 ms, and where many hang up to 10 ms.
    fn pause(&self) -> Duration {
        let others = u64::from(HANGING.load(Ordering::Relaxed)).saturating_sub(1);
        Duration::from_micros(200 + (50 * others).min(9_800))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        HANGING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets an injected fault happen to a command.
fn suffer(env: &Command<'_>, hit: Hit) -> Result<(), Fault> {
    match hit.fault {
        rpc::Fault::Hang => {
            if hit.value > 0 {
                env.limit(hit.value.saturating_mul(1_000_000));
            }
            // Many that hang look less often each, so that they cost no more together.
            let hanging = Hanging::new();
            loop {
                env.check()?;
                std::thread::sleep(hanging.pause());
            }
        }
        // Not `panic!`: the hook would print a report of what was asked for.
        rpc::Fault::Panic => resume_unwind(Box::new("an injected panic")),
        rpc::Fault::Fail => {
            let status = u32::try_from(hit.value)
                .ok()
                .and_then(Status::from_raw)
                .filter(|s| *s != Status::Ok);
            Err(Fault::new(
                status.unwrap_or(Status::Injected),
                "an injected failure",
            ))
        }
        rpc::Fault::Ecc => {
            env.queue.core.memory_error(None);
            Err(Fault::new(
                Status::EccUncorrected,
                "an injected uncorrectable memory error",
            ))
        }
        rpc::Fault::Delay => {
            let end = wall_ns().saturating_add(hit.value.saturating_mul(1000));
            while wall_ns() < end {
                env.check()?;
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        }
        rpc::Fault::DropInterrupt
        | rpc::Fault::AllOnes
        | rpc::Fault::Heat
        | rpc::Fault::BadAnswer
        | rpc::Fault::BadEvent
        | rpc::Fault::Refuse
        | rpc::Fault::EccCorrected
        | rpc::Fault::EccUncorrected
        | rpc::Fault::Xid => Ok(()),
    }
}

/// Segments in use; those of most commands need no allocation.
type Held = SmallVec<[SegmentUse; 4]>;

/// A command while it runs: what kernels see as their [`Env`].
pub struct Command<'a> {
    /// The queue that it came from.
    pub queue: &'a Queue,
    opcode: u16,
    started: u64,
    deadline: std::sync::atomic::AtomicU64,
    /// Status code of the reason for which it was stopped, first come.
    reason: AtomicU32,
    /// Segments that it uses; they stay mapped until it ends.
    held: Mutex<Held>,
}

impl<'a> Command<'a> {
    /// A command that begins now.
    pub(super) fn new(queue: &'a Queue, opcode: u16) -> Self {
        let started = wall_ns();
        let deadline = started.saturating_add(queue.core.watchdog_ns).into();
        Self {
            queue,
            opcode,
            started,
            deadline,
            reason: AtomicU32::new(0),
            held: Mutex::default(),
        }
    }

    /// A private copy of the body that an indirect packet names.
    fn indirect(&self, padded: &[u8]) -> Result<Vec<u8>, Fault> {
        let place: Indirect = take(padded, size_of::<Indirect>())?;
        if place.length > MAX_INDIRECT {
            let text = format!(
                "an indirect body of {} bytes, at most {MAX_INDIRECT} are allowed",
                place.length
            );
            return Err(Fault::new(Status::InvalidArgument, text));
        }
        let mut bytes = vec![0; place.length as usize];
        self.operand(
            vmlu_abi::status::NO_OPERAND,
            place.address,
            place.length,
            Access::Read,
        )?
        .copy_to(&mut bytes);
        Ok(bytes)
    }

    fn limit(&self, ns: u64) {
        self.deadline
            .store(self.started.saturating_add(ns), Ordering::Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The segment of a range, held until the command ends.
    pub fn segment(
        &self,
        operand: u16,
        address: u64,
        length: u64,
        access: Access,
    ) -> Result<Arc<Segment>, Fault> {
        let space = self.queue.context.space();
        match space
            .find(address, length, access == Access::Write)
            .and_then(|s| s.hold(address))
        {
            Ok(held) => {
                held.count(length, access == Access::Write);
                let segment = held.segment().clone();
                self.held().push(held);
                Ok(segment)
            }
            Err(error) => Err(Fault::operand(error.status, operand, address, error.text)),
        }
    }

    /// Device time that the command's bytes took to and from other chips, ns; 0 if there were none. The links to several chips work at
    /// once.
    fn peers_ns(&self) -> u64 {
        let mut loads: Vec<Load> = Vec::new();
        for load in self.held().iter().filter_map(|held| held.load()) {
            match loads.iter_mut().find(|l| l.peer == load.peer) {
                Some(known) => known.add(&load),
                None => loads.push(load),
            }
        }
        let longest = loads.iter().map(Load::ns).max();
        longest.map_or(0, |ns| {
            ns.saturating_add(self.queue.core.hardware.model.launch_ns)
        })
    }

    fn stop(&self, reason: Status) -> Stopped {
        let _ = self
            .reason
            .compare_exchange(0, reason.raw(), Ordering::Relaxed, Ordering::Relaxed);
        Stopped
    }

    /// Says why the command was stopped, if it was.
    fn explain(&self, fault: Fault) -> Fault {
        let reason =
            Status::from_raw(self.reason.load(Ordering::Relaxed)).filter(|s| *s != Status::Ok);
        let (Status::Cancelled, Some(reason)) = (fault.status, reason) else {
            return fault;
        };
        let text = match reason {
            Status::Watchdog => format!(
                "opcode {:#06x} ran for {} ms",
                self.opcode,
                wall_ns().saturating_sub(self.started) / 1_000_000
            ),
            Status::AddressFault => format!(
                "opcode {:#06x}: its memory was freed while it ran",
                self.opcode
            ),
            other => other.text().to_owned(),
        };
        Fault {
            status: reason,
            rule: text,
            ..fault
        }
    }
}

impl Env for Command<'_> {
    fn operand(
        &self,
        index: u16,
        address: u64,
        length: u64,
        access: Access,
    ) -> Result<Bytes<'_>, Fault> {
        if length == 0 {
            // SAFETY: no byte of an empty range is ever accessed.
            return Ok(unsafe { Bytes::new(std::ptr::dangling_mut(), 0, true) });
        }
        let segment = self.segment(index, address, length, access)?;
        let run = segment
            .run(address - segment.va, length)
            .filter(|r| r.len() as u64 == length);
        let Some(run) = run else {
            let text = format!("{address:#x} + {length:#x} is host memory in pieces: copy it to device memory first");
            return Err(Fault::operand(Status::OperandFault, index, address, text));
        };
        // SAFETY: `held` keeps the segment, and so its mapping, until the command is dropped, which `self` outlives.
        Ok(unsafe {
            Bytes::new(
                run.as_ptr().cast_mut(),
                run.len(),
                run.as_mut_ptr().is_some(),
            )
        })
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.queue.is_cancelled() {
            return Err(self.stop(Status::QueueDestroyed));
        }
        if self.queue.core.is_gone() {
            return Err(self.stop(Status::DeviceLost));
        }
        let stopped = self.held().iter().find_map(|s| s.stopped());
        if let Some(reason) = stopped {
            return Err(self.stop(reason));
        }
        let now = wall_ns();
        if now > self.deadline.load(Ordering::Relaxed) {
            return Err(self.stop(Status::Watchdog));
        }
        if now.saturating_sub(self.started) > LONG_NS {
            Scheduler::get().look_after_others();
        }
        Ok(())
    }

    fn parallel(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        Scheduler::get().parallel(tasks, task);
    }
}
