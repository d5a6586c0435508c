//! What a rank keeps: mappings of its peers' memory, their timelines, and room of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use vmlu_abi::packet::{op, Copy, Wait, WaitAll};
use vmlu_abi::{Status, Wire};
use vmlu_ops::combine::{Combine, MAX_PARTS};
use vmlu_ops::Descriptor;

use super::call::{Call, Held, Part};
use super::plan::{Area, Place, Step};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::peer::MemoryHandle;
use crate::queue::{Queue, QueueInner};
use crate::timeline::{ImportedTimeline, TimelineToken};

/// Mappings that are kept before all are given up: so many, and so many bytes.
const MAX_IMPORTS: usize = 1024;
const MAX_BYTES: u64 = 32 << 30;
/// Least bytes of a rank's own room.
const SCRATCH: u64 = 64 << 10;

/// A rank's side of a communicator. Queues keep it until what uses it has ended.
pub(super) struct Member {
    pub(super) rank: u32,
    pub(super) size: u32,
    pub(super) context: Context,
    memory: Mutex<Mappings>,
    timelines: Mutex<HashMap<[u8; 32], ImportedTimeline>>,
    scratch: Mutex<Option<Buffer>>,
    /// The queue of the collective before, and its value.
    last: Mutex<Option<(Weak<QueueInner>, u64)>>,
}

#[derive(Default)]
struct Mappings {
    by_handle: HashMap<MemoryHandle, Buffer>,
    bytes: u64,
}

/// A command that stands ready.
pub(super) enum Ready {
    Combine(Box<Combine>),
    Copy(Copy),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Member {
    pub(super) fn new(context: &Context, rank: u32, size: u32) -> Self {
        Self {
            rank,
            size,
            context: context.clone(),
            memory: Mutex::default(),
            timelines: Mutex::default(),
            scratch: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Room of the rank's own, at least so many bytes.
    pub(super) fn scratch(&self, bytes: u64) -> Result<Buffer> {
        let mut slot = lock(&self.scratch);
        if let Some(buffer) = slot.as_ref().filter(|b| b.len() >= bytes) {
            return Ok(buffer.clone());
        }
        let wanted = bytes.max(SCRATCH).checked_next_power_of_two();
        let made = self.context.alloc(wanted.unwrap_or(bytes))?;
        let old = slot.replace(made.clone());
        drop(slot);
        drop(old);
        Ok(made)
    }

    /// Gives up all mappings if there are too many; between collectives, since addresses of the one that is made stay with it.
    pub(super) fn trim(&self) {
        let mut memory = lock(&self.memory);
        if memory.by_handle.len() >= MAX_IMPORTS || memory.bytes > MAX_BYTES {
            let old = std::mem::take(&mut *memory);
            drop(memory);
            drop(old);
        }
    }

    /// A part's first address, as this rank's chip sees it.
    fn address(&self, part: &Part) -> Result<u64> {
        if let Held::Here(buffer) = &part.memory
            && Arc::ptr_eq(buffer.context(), &self.context.inner)
        {
            return Ok(buffer.address() + part.offset);
        }
        let handle = part.memory.handle()?;
        let mut memory = lock(&self.memory);
        if let Some(mapped) = memory.by_handle.get(&handle) {
            return Ok(mapped.address() + part.offset);
        }
        let mapped = self.context.import_memory(&handle, true)?;
        let address = mapped.address();
        memory.bytes = memory.bytes.saturating_add(mapped.len());
        memory.by_handle.insert(handle, mapped);
        Ok(address + part.offset)
    }

    /// A peer's timeline, as this rank's queues name it.
    pub(super) fn timeline(&self, token: &TimelineToken) -> Result<u64> {
        let key = token.to_bytes();
        let mut timelines = lock(&self.timelines);
        if let Some(known) = timelines.get(&key) {
            return Ok(known.handle());
        }
        if timelines.len() >= MAX_IMPORTS {
            self.context.drain();
            timelines.clear();
        }
        let imported = self.context.import(token)?;
        let handle = imported.handle();
        timelines.insert(key, imported);
        Ok(handle)
    }

    /// A step as this rank's queue takes it; checked, so that it can be submitted.
    pub(super) fn ready(&self, step: &Step, calls: &[&Call]) -> Result<Ready> {
        let address = |place: &Place| {
            let call = calls[place.rank];
            let part = match place.area {
                Area::Send(i) => call.sends.get(i),
                Area::Receive(i) => call.receives.get(i),
                Area::Scratch => call.scratch.as_ref(),
            };
            match part {
                Some(part) => Ok(self.address(part)? + place.offset),
                None => Err(Error::new(
                    "collective",
                    Status::Internal,
                    format!("rank {} has no such part", place.rank),
                )),
            }
        };
        match step {
            Step::Copy { to, from, bytes } => Ok(Ready::Copy(Copy {
                dst: address(to)?,
                src: address(from)?,
                length: *bytes,
            })),
            Step::Combine {
                function,
                dtype,
                count,
                inputs,
                outputs,
            } => {
                let mut combine = Combine {
                    count: *count,
                    dtype: u32::from(*dtype as u16),
                    function: *function as u32,
                    input_count: inputs.len() as u32,
                    output_count: outputs.len() as u32,
                    ..Combine::zeroed()
                };
                for (slots, places) in [
                    (&mut combine.inputs, inputs),
                    (&mut combine.outputs, outputs),
                ] {
                    for (slot, place) in slots.iter_mut().zip(places.iter().take(MAX_PARTS)) {
                        *slot = address(place)?;
                    }
                }
                combine.check().map_err(|error| Error::Operator {
                    call: "combine",
                    operand: error.operand,
                    rule: error.rule,
                })?;
                Ok(Ready::Combine(Box::new(combine)))
            }
        }
    }

    /// The queue goes on after the communicator's collective before, if that was on another queue.
    pub(super) fn follow(&self, queue: &Queue) -> Result<()> {
        let last = lock(&self.last).clone();
        if let Some((last, value)) = last
            && !std::ptr::eq(last.as_ptr(), Arc::as_ptr(&queue.inner))
            && let Some(inner) = last.upgrade()
            && !inner.is_cleared(value)
        {
            queue.submit_wait(inner.handle(), value)?;
        }
        Ok(())
    }

    /// What failed of the last collective, or of what stood before it on its queue.
    pub(super) fn failed(&self) -> Option<Error> {
        let last = lock(&self.last).clone();
        let (queue, value) = last?;
        queue.upgrade()?.outcome(value).err()
    }

    /// A collective was submitted up to here: what this keeps is kept until then.
    pub(super) fn submitted(self: &Arc<Self>, queue: &Queue, value: u64) {
        *lock(&self.last) = Some((Arc::downgrade(&queue.inner), value));
        queue.inner.keep_until(value, self.clone());
    }
}

/// Submits what stands ready.
pub(super) fn submit(queue: &Queue, ready: &Ready) -> Result<u64> {
    match ready {
        Ready::Combine(combine) => queue.submit_raw(Combine::OPCODE, combine.as_bytes()),
        Ready::Copy(copy) => queue.submit_raw(op::COPY, copy.as_bytes()),
    }
}

/// Lets a queue wait for timelines, one or several.
pub(super) fn wait(queue: &Queue, waits: &[Wait]) -> Result<u64> {
    match waits {
        [] => Ok(queue.submitted()),
        [one] => queue.submit_raw(op::WAIT, one.as_bytes()),
        _ => {
            let head = WaitAll {
                count: waits.len() as u32,
                reserved: 0,
            };
            let mut body = Vec::with_capacity(8 + 16 * waits.len());
            body.extend_from_slice(head.as_bytes());
            waits
                .iter()
                .for_each(|w| body.extend_from_slice(w.as_bytes()));
            queue.submit_raw(op::WAIT_ALL, &body)
        }
    }
}
