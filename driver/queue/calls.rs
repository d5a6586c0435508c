// SPDX-License-Identifier: GPL-2.0

//! The calls of the interface that are about queues.

use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{atomic::Atomic, Arc, UniqueArc},
};

use super::Queue;
use crate::{
    abi::{
        ioctl,
        pci::{doorbell_page, doorbell_slot, BAR_DOORBELL, MAX_QUEUES},
        queue::{
            ARM_NONE, FLAG_HOST_TIMELINE, MAX_RING_UNITS, MIN_RING_UNITS, PRIORITY_HIGH,
            STATUS_SIZE, UNIT,
        },
        rpc::{self, Function},
        status::Status,
    },
    arm::{Armed, NewArm},
    context::{new_offset, Context, Inner},
    ext::{
        shared::Shared,
        trace::{self, QueueTrace},
        vma::DeviceRange,
        wait::new_wait_queue,
    },
    memory::CardMemory,
    quota::Kind,
    rpc::RpcError,
};

/// Largest share of a queue within its priority.
const MAX_WEIGHT: u32 = 1024;

impl Context {
    /// `QUEUE_CREATE`.
    pub(crate) fn queue_create(&self, arg: &mut ioctl::QueueCreate) -> Result {
        let flags = u64::from(arg.flags);
        let has_ring = flags & FLAG_HOST_TIMELINE == 0;
        let units_fit = if has_ring {
            arg.ring_units.is_power_of_two()
                && (MIN_RING_UNITS..=MAX_RING_UNITS).contains(&arg.ring_units)
        } else {
            arg.ring_units == 0
        };
        if flags & !FLAG_HOST_TIMELINE != 0
            || arg.reserved0 != 0
            || arg.reserved != [0; 4]
            || !units_fit
            || arg.priority > PRIORITY_HIGH
            || !(1..=MAX_WEIGHT).contains(&arg.weight)
        {
            return Err(EINVAL);
        }
        let card = self.card();
        let ring_length = arg.ring_units as usize * UNIT;
        let ring_offset = if has_ring {
            new_offset(ring_length as u64)?
        } else {
            0
        };
        let status_offset = new_offset(STATUS_SIZE as u64)?;
        let doorbell_offset = new_offset(PAGE_SIZE as u64)?;
        let charge = self.charge(Kind::Queues, 1)?;
        let place = UniqueArc::<Queue>::new_uninit(GFP_KERNEL)?;

        let mut inner = self.lock()?;
        let ring = has_ring
            .then(|| CardMemory::contiguous(card, ring_length))
            .transpose()?;
        let status = CardMemory::contiguous(card, STATUS_SIZE)?;
        let arm = CardMemory::contiguous(card, PAGE_SIZE)?;
        arm.pages().store64(0, ARM_NONE)?;
        let command = rpc::QueueCreate {
            ring: ring.as_ref().map_or(0, |ring| ring.pages().dma_address()),
            status: status.pages().dma_address(),
            arm: arm.pages().dma_address(),
            ring_units: arg.ring_units,
            priority: arg.priority,
            weight: arg.weight,
            vector: card.pick_vector(),
            flags,
            doorbell: 0,
        };
        let made: rpc::QueueCreated = self.call(Function::QueueCreate, &command)?;
        if made.index >= MAX_QUEUES {
            card.fail(fmt!("QueueCreate gave an impossible queue"));
            return Err(ENODEV);
        }
        // From here on the memory is freed only after the queue was destroyed on the card.
        let page = doorbell_page(made.index);
        let doorbell = DeviceRange::new(card.pdev(), BAR_DOORBELL as u32, page, PAGE_SIZE)
            .inspect_err(|_| self.destroy_on_card(made.queue))?;
        let Ok(queue) = place.pin_init_with(pin_init!(Queue {
            handle: made.queue,
            index: made.index,
            context_index: self.index(),
            pid: self.caller().pid,
            stream: self.stream().clone(),
            ring,
            status,
            arm,
            doorbell,
            _charge: charge,
            ring_offset,
            status_offset,
            doorbell_offset,
            ended: Atomic::new(0),
            armed <- new_spinlock!(Armed::new()),
            waiters <- new_wait_queue!("mlu_queue"),
            signals: Atomic::new(0),
            rescues: Atomic::new(0),
            seen_error: Atomic::new(0),
            suspected: Atomic::new(0),
        }));
        let queue: Arc<Queue> = queue.into();
        self.enter_queue(&mut inner, &queue)
            .inspect_err(|_| self.destroy_on_card(made.queue))?;

        trace::queue(
            QueueTrace::Create,
            card.number(),
            queue.handle,
            queue.index.into(),
            0,
        );
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
            self.card().remove_queue(queue);
        }
        entered
    }

    /// Destroys a queue on the card. If the firmware does not do it, the card may not go on, since
    /// the queue's memory is about to be freed.
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
        self.card().remove_queue(&queue);
        self.destroy_on_card(arg.queue);
        queue.end(self.card(), Status::QueueDestroyed);
        // A waiter may hold the queue a little longer; the card does not use it any more.
        queue.detach();
        Ok(())
    }

    /// `QUEUE_WAIT`. The outputs are valid unless the call fails with `ERESTARTSYS` or before it
    /// waits.
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

    /// `QUEUE_ARM`.
    pub(crate) fn queue_arm(&self, arg: &ioctl::QueueArm) -> Result {
        if arg.flags != 0 || arg.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let queue = self.queue(arg.queue)?;
        let new = NewArm::new(self.stream(), arg)?;
        queue.armed.lock().add(new);
        // At once, if it is due.
        queue.settle(self.card(), false);
        Ok(())
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
