//! Queues and notifiers.

use vmlu_c_abi::host;
use vmlu_c_abi::notifier::Notifier;
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, Failure, Out, Ptr, Result};

use crate::context::live;
use crate::error::run;

fn queue(handle: Ptr) -> Result<std::sync::Arc<Queue>> {
    Queue::find(handle.addr())
}

fn notifier(handle: Ptr) -> Result<std::sync::Arc<Notifier>> {
    Notifier::find(handle.addr())
}

fn create(place: Out<Ptr>, flags: u32, priority: i32) -> Result<()> {
    place.check()?;
    if flags != 0 {
        return Err(Failure::INVALID_VALUE);
    }
    place.set(Ptr::at(Queue::create(&live()?, priority)?))
}

fn check_flags(flags: u32) -> Result<()> {
    match flags {
        0 => Ok(()),
        1 => Err(Failure::NOT_SUPPORTED),
        _ => Err(Failure::INVALID_VALUE),
    }
}

exports! { run;
    /// See the header.
    fn cnCreateQueue(place: Out<Ptr>, flags: u32) { create(place, flags, Queue::DEFAULT_PRIORITY) }

    /// See the header.
    fn cnCreateQueueWithPriority(place: Out<Ptr>, flags: u32, priority: i32) { create(place, flags, priority) }

    /// See the header.
    fn cnQueueGetPriority(handle: Ptr, priority: Out<i32>) {
        priority.check()?;
        priority.set(queue(handle)?.priority)
    }

    /// See the header.
    fn cnDestroyQueue(handle: Ptr) { Queue::destroy(handle.addr()) }

    /// See the header.
    fn cnQueryQueue(handle: Ptr) { queue(handle)?.query() }

    /// See the header.
    fn cnQueueSync(handle: Ptr) { queue(handle)?.sync() }

    /// See the header.
    fn cnQueueWaitNotifier(handle: Ptr, awaited: Ptr) {
        let queue = queue(handle)?;
        notifier(awaited)?.hold(&queue)
    }

    /// See the header.
    fn cnQueueWaitNotifierWithFlags(handle: Ptr, awaited: Ptr, flags: u32) {
        check_flags(flags)?;
        let queue = queue(handle)?;
        notifier(awaited)?.hold(&queue)
    }

    /// See the header.
    fn cnQueueGetContext(handle: Ptr, context: Out<Ptr>) {
        context.check()?;
        let queue = queue(handle)?;
        let of = queue.live.context.upgrade().ok_or(Failure::INVALID_CONTEXT)?;
        context.set(Ptr::at(of.handle()))
    }

    /// See the header.
    fn cnInvokeHostFunc(handle: Ptr, function: host::Function, data: Ptr) {
        let queue = queue(handle)?;
        host::invoke(&queue, function, data.0)
    }

    /// See the header.
    fn cnCreateNotifier(place: Out<Ptr>, flags: u32) {
        place.check()?;
        place.set(Ptr::at(Notifier::create(&live()?, flags)?))
    }

    /// See the header.
    fn cnDestroyNotifier(handle: Ptr) { Notifier::destroy(handle.addr()) }

    /// See the header.
    fn cnWaitNotifier(handle: Ptr) { notifier(handle)?.wait() }

    /// See the header.
    fn cnQueryNotifier(handle: Ptr) { notifier(handle)?.query() }

    /// See the header.
    fn cnPlaceNotifier(handle: Ptr, on: Ptr) {
        let queue = queue(on)?;
        notifier(handle)?.place(&queue)
    }

    /// See the header.
    fn cnPlaceNotifierWithFlags(handle: Ptr, on: Ptr, flags: u32) {
        check_flags(flags)?;
        let queue = queue(on)?;
        notifier(handle)?.place(&queue)
    }

    /// See the header.
    fn cnNotifierElapsedTime(ms: Out<f32>, start: Ptr, end: Ptr) {
        ms.check()?;
        let (start, end) = (notifier(start)?, notifier(end)?);
        ms.set(start.elapsed_ms(&end)?)
    }

    /// See the header.
    fn cnNotifierElapsedExecTime(ms: Out<f32>, start: Ptr, end: Ptr) {
        ms.check()?;
        let (start, end) = (notifier(start)?, notifier(end)?);
        ms.set(start.duration_us(&end)? / 1e3)
    }

    /// See the header.
    fn cnIpcGetNotifierHandle(place: Out<[u64; 8]>, handle: Ptr) {
        place.check()?;
        place.set([notifier(handle)?.export()?, 0, 0, 0, 0, 0, 0, 0])
    }

    /// See the header.
    fn cnIpcOpenNotifierHandle(place: Out<Ptr>, handle: IpcNotifierHandle) {
        place.check()?;
        place.set(Ptr::at(Notifier::open(&live()?, handle.res[0])?))
    }
}

/// `CNIpcNotifierHandle`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IpcNotifierHandle {
    pub res: [u64; 8],
}
