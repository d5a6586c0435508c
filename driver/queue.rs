// SPDX-License-Identifier: GPL-2.0

//! Queues: their memory, their waiters. See `docs/hardware.md`, section 6.

use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        barrier, Arc, SpinLock, UniqueArc,
    },
};

use crate::{
    abi::{
        ioctl,
        pci::{doorbell_page, doorbell_slot, BAR_DOORBELL},
        queue::{
            ARM_NONE, MAX_RING_UNITS, MIN_RING_UNITS, PRIORITY_HIGH, STATUS_ERROR, STATUS_SIZE,
            STATUS_TIMELINE, UNIT,
        },
        rpc::{self, Function},
        status::Status,
    },
    card::Card,
    context::{new_offset, Area, Context, Inner},
    ext::{
        shared::Shared,
        vma::{Access, DevicePage, FileMapping},
        wait::{new_wait_queue, WaitQueue},
    },
    memory::CardMemory,
    rpc::{status_error, RpcError},
};

/// Largest share of a queue within its priority.
const MAX_WEIGHT: u32 = 1024;

/// A user-mode queue.
#[pin_data]
pub(crate) struct Queue {
    handle: u64,
    index: u32,
    context_index: u32,
    ring: CardMemory,
    status: CardMemory,
    /// The driver's alone: the value of which the card is to tell.
    arm: CardMemory,
    doorbell: Arc<DevicePage>,
    ring_offset: u64,
    status_offset: u64,
    doorbell_offset: u64,
    /// Why the queue works no more; 0 while it does.
    ended: Atomic<u32>,
    /// What stands in the arm word: the smallest value that somebody waits for.
    #[pin]
    armed: SpinLock<u64>,
    #[pin]
    waiters: WaitQueue,
}

/// How a wait ended.
pub(crate) struct Waited {
    /// Whether the value was reached, or why it will not be.
    pub(crate) result: Result,
    /// The timeline.
    pub(crate) timeline: u64,
    /// The queue's error.
    pub(crate) error: u32,
}

impl Queue {
    /// Index on the card.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Index of its context on the card.
    pub(crate) fn context_index(&self) -> u32 {
        self.context_index
    }

    /// Packets completed.
    fn timeline(&self) -> u64 {
        self.status
            .pages()
            .load64(STATUS_TIMELINE)
            .unwrap_or_default()
    }

    /// The error that the card reports, or the reason why the driver ended the queue.
    fn error(&self) -> u32 {
        match self.ended.load(Acquire) {
            0 => self.status.pages().load32(STATUS_ERROR).unwrap_or_default(),
            ended => ended,
        }
    }

    /// Whether a wait for `value` is over, and how. Does not sleep.
    fn look(&self, card: &Card, value: u64) -> Option<Result> {
        // In this order: the timeline may have moved on before the queue ended.
        let error = self.error();
        let alive = card.is_alive();
        if self.timeline() >= value {
            return Some(Ok(()));
        }
        if !alive {
            return Some(Err(ENODEV));
        }
        // Behind an ordinary error the timeline goes on, so that the wait ends by itself. A queue that was stopped stands still.
        match Status::from_raw(error) {
            Some(status) if stops(status) => Some(Err(status_error(status))),
            _ => None,
        }
    }

    /// Asks the card for an event once the timeline has reached `value`.
    fn arm(&self, value: u64) {
        let mut armed = self.armed.lock();
        if value < *armed {
            *armed = value;
            // The page is as large as a word.
            let _ = self.arm.pages().store64(0, value);
        }
        drop(armed);
        // The card writes the timeline, then reads the arm word; the caller reads the timeline after this.
        barrier::smp_mb(barrier::Full);
    }

    /// An event came: nothing is armed, and all waiters look, and arm again if they must.
    pub(crate) fn signal(&self) {
        let mut armed = self.armed.lock();
        *armed = ARM_NONE;
        let _ = self.arm.pages().store64(0, ARM_NONE);
        drop(armed);
        self.waiters.wake_all();
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&self) {
        self.waiters.wake_all();
    }

    /// Makes up for an event that did not come: a value that somebody waits for was reached.
    pub(crate) fn signal_if_reached(&self) {
        let armed = *self.armed.lock();
        if armed != ARM_NONE && (self.timeline() >= armed || self.error() != 0) {
            self.signal();
        }
    }

    /// Ends the queue: waiters get `status`.
    pub(crate) fn end(&self, status: Status) {
        let _ = self.ended.cmpxchg(0, status.raw(), Release);
        self.waiters.wake_all();
    }

    /// Waits until the timeline has reached `value`, at most until `deadline` (CLOCK_MONOTONIC, ns; `None` for ever).
    ///
    /// Fails only with `ERESTARTSYS`, after which the call can simply be made again.
    pub(crate) fn wait(&self, card: &Card, value: u64, deadline: Option<i64>) -> Result<Waited> {
        let result = match self.look(card, value) {
            Some(result) => result,
            None if deadline == Some(0) => Err(ETIME),
            None => {
                let ended = self.waiters.wait_interruptible(deadline, || {
                    self.look(card, value).or_else(|| {
                        self.arm(value);
                        self.look(card, value)
                    })
                });
                match ended {
                    Ok(result) => result,
                    Err(e) if e == ETIME => Err(ETIME),
                    Err(e) => return Err(e),
                }
            }
        };
        Ok(Waited {
            result,
            error: self.error(),
            timeline: self.timeline(),
        })
    }

    /// Takes the doorbell away from user space.
    pub(crate) fn revoke_doorbell(&self, file: &FileMapping) {
        self.doorbell.revoke(file, self.doorbell_offset);
    }

    /// Ends the card's mappings, when the card is known to leave them alone.
    pub(crate) fn detach(&self) {
        for memory in [&self.ring, &self.status, &self.arm] {
            memory.detach();
        }
    }

    fn add_areas(&self, inner: &mut Inner) -> Result {
        let ring = Area::Pages(self.ring.pages().clone(), Access::ReadWrite);
        let status = Area::Pages(self.status.pages().clone(), Access::Read);
        inner.add_area(self.ring_offset, ring)?;
        inner.add_area(self.status_offset, status)?;
        inner.add_area(self.doorbell_offset, Area::Device(self.doorbell.clone()))
    }

    fn remove_areas(&self, inner: &mut Inner) {
        inner.remove_area(self.ring_offset);
        inner.remove_area(self.status_offset);
        inner.revoke(self.doorbell_offset, &self.doorbell);
    }
}

/// Whether a queue with this error stands still.
fn stops(status: Status) -> bool {
    matches!(
        status,
        Status::FramingError
            | Status::QueueDestroyed
            | Status::ContextStopped
            | Status::DeviceReset
            | Status::DeviceLost
    )
}

impl Context {
    /// `QUEUE_CREATE`.
    pub(crate) fn queue_create(&self, arg: &mut ioctl::QueueCreate) -> Result {
        if arg.flags != 0
            || arg.reserved0 != 0
            || arg.reserved != [0; 4]
            || !arg.ring_units.is_power_of_two()
            || !(MIN_RING_UNITS..=MAX_RING_UNITS).contains(&arg.ring_units)
            || arg.priority > PRIORITY_HIGH
            || !(1..=MAX_WEIGHT).contains(&arg.weight)
        {
            return Err(EINVAL);
        }
        let card = self.card();
        let ring_length = arg.ring_units as usize * UNIT;
        let ring_offset = new_offset(ring_length as u64)?;
        let status_offset = new_offset(STATUS_SIZE as u64)?;
        let doorbell_offset = new_offset(PAGE_SIZE as u64)?;
        let place = UniqueArc::<Queue>::new_uninit(GFP_KERNEL)?;

        let mut inner = self.lock()?;
        let ring = CardMemory::contiguous(card, ring_length)?;
        let status = CardMemory::contiguous(card, STATUS_SIZE)?;
        let arm = CardMemory::contiguous(card, PAGE_SIZE)?;
        arm.pages().store64(0, ARM_NONE)?;
        let command = rpc::QueueCreate {
            ring: ring.pages().dma_address(),
            status: status.pages().dma_address(),
            arm: arm.pages().dma_address(),
            ring_units: arg.ring_units,
            priority: arg.priority,
            weight: arg.weight,
            vector: card.pick_vector(),
            flags: 0,
            doorbell: 0,
        };
        let made: rpc::QueueCreated = self.call(Function::QueueCreate, &command)?;
        // From here on the memory is freed only after the queue was destroyed on the card.
        let page = doorbell_page(made.index);
        let doorbell = DevicePage::new(card.pdev(), BAR_DOORBELL as u32, page)
            .inspect_err(|_| self.destroy_on_card(made.queue))?;
        let Ok(queue) = place.pin_init_with(pin_init!(Queue {
            handle: made.queue,
            index: made.index,
            context_index: self.index(),
            ring,
            status,
            arm,
            doorbell,
            ring_offset,
            status_offset,
            doorbell_offset,
            ended: Atomic::new(0),
            armed <- new_spinlock!(ARM_NONE),
            waiters <- new_wait_queue!("mlu_queue"),
        }));
        let queue: Arc<Queue> = queue.into();
        self.enter_queue(&mut inner, &queue)
            .inspect_err(|_| self.destroy_on_card(made.queue))?;

        arg.queue = queue.handle;
        arg.ring_offset = ring_offset;
        arg.status_offset = status_offset;
        arg.doorbell_offset = doorbell_offset;
        arg.kick_offset = self.kick_offset();
        arg.doorbell_slot = doorbell_slot(queue.index) as u32;
        Ok(())
    }

    /// Enters a queue into the tables. On failure nothing of it is left there.
    fn enter_queue(&self, inner: &mut Inner, queue: &Arc<Queue>) -> Result {
        self.card().add_queue(queue.clone())?;
        let entered = inner
            .queues
            .try_create_and_insert(queue.handle, queue.clone(), GFP_KERNEL)
            .and_then(|_| queue.add_areas(inner));
        if entered.is_err() {
            inner.queues.remove(&queue.handle);
            queue.remove_areas(inner);
            self.card().remove_queue(queue.index);
        }
        entered
    }

    /// Destroys a queue on the card. If the firmware does not do it, the card may not go on, since the queue's memory is about to be freed.
    fn destroy_on_card(&self, handle: u64) {
        let command = rpc::QueueDestroy { queue: handle };
        match self.call::<_, ()>(Function::QueueDestroy, &command) {
            Ok(()) | Err(RpcError::Lost) => {}
            Err(e) => self
                .card()
                .fail(fmt!("QueueDestroy of queue {handle:#x} failed: {e:?}")),
        }
    }

    /// `QUEUE_DESTROY`.
    pub(crate) fn queue_destroy(&self, arg: &ioctl::QueueDestroy) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let mut inner = self.lock()?;
        let queue = inner.queues.remove(&arg.queue).ok_or(ENOENT)?;
        queue.remove_areas(&mut inner);
        // Before the card gives the index to another queue.
        self.card().remove_queue(queue.index);
        self.destroy_on_card(arg.queue);
        queue.end(Status::QueueDestroyed);
        // A waiter may hold the queue a little longer; the card does not use it any more.
        queue.detach();
        Ok(())
    }

    /// `QUEUE_WAIT`. The outputs are valid unless the call fails with `ERESTARTSYS` or before it waits.
    pub(crate) fn queue_wait(&self, arg: &mut ioctl::QueueWait) -> Result<Result> {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let deadline = match i64::try_from(arg.deadline_ns) {
            Ok(deadline) => Some(deadline),
            Err(_) if arg.deadline_ns == u64::MAX => None,
            Err(_) => return Err(EINVAL),
        };
        let queue = self.queue(arg.queue)?;
        let waited = queue.wait(self.card(), arg.value, deadline)?;
        arg.timeline = waited.timeline;
        arg.error = waited.error;
        Ok(waited.result)
    }

    /// `QUEUE_ERROR`.
    pub(crate) fn queue_error(&self, arg: &mut ioctl::QueueErrorRead) -> Result {
        if arg.clear > 1 || arg.reserved != 0 {
            return Err(EINVAL);
        }
        let queue = self.queue(arg.queue)?;
        let command = rpc::QueueError {
            queue: queue.handle,
            clear: arg.clear,
            reserved: 0,
        };
        arg.record = self.call(Function::QueueError, &command)?;
        Ok(())
    }
}
