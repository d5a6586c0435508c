//! Notifiers.

use vmlu_c_abi::notifier::Notifier;
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, Failure, Out, Ptr, Result};

use crate::device::live;
use crate::error::run;

fn create(place: Out<Ptr>, flags: u32) -> Result<()> {
    place.check()?;
    place.set(Ptr::at(Notifier::create(&live()?, flags)?))
}

fn place(notifier: Ptr, queue: Ptr) -> Result<()> {
    let notifier = Notifier::find(notifier.addr())?;
    Queue::with(queue.addr(), |queue| notifier.place(queue))
}

/// Flag: the place or wait is a node of its own in a capture.
const EXTERNAL: u32 = 1;

fn check_flags(flags: u32) -> Result<()> {
    match flags {
        0 => Ok(()),
        EXTERNAL => Err(Failure::NOT_SUPPORTED),
        _ => Err(Failure::INVALID_VALUE),
    }
}

fn time(
    start: Ptr,
    end: Ptr,
    place: Out<f32>,
    of: impl FnOnce(&Notifier, &Notifier) -> Result<f32>,
) -> Result<()> {
    place.check()?;
    let (start, end) = (Notifier::find(start.addr())?, Notifier::find(end.addr())?);
    place.set(of(&start, &end)?)
}

exports! { run;
    /// See the header.
    fn cnrtNotifierCreate(place: Out<Ptr>) { create(place, 0) }

    /// See the header.
    fn cnrtNotifierCreateWithFlags(place: Out<Ptr>, flags: u32) { create(place, flags) }

    /// See the header.
    fn cnrtNotifierDestroy(notifier: Ptr) { Notifier::destroy(notifier.addr()) }

    /// See the header.
    fn cnrtPlaceNotifier(notifier: Ptr, queue: Ptr) { place(notifier, queue) }

    /// See the header.
    fn cnrtPlaceNotifierWithFlags(notifier: Ptr, queue: Ptr, flags: u32) {
        check_flags(flags)?;
        place(notifier, queue)
    }

    /// See the header.
    fn cnrtWaitNotifier(notifier: Ptr) { Notifier::find(notifier.addr())?.wait() }

    /// See the header.
    fn cnrtQueryNotifier(notifier: Ptr) { Notifier::find(notifier.addr())?.query() }

    /// See the header.
    fn cnrtQueueWaitNotifier(notifier: Ptr, queue: Ptr, flags: u32) {
        check_flags(flags)?;
        let notifier = Notifier::find(notifier.addr())?;
        Queue::with(queue.addr(), |queue| notifier.hold(queue))
    }

    /// See the header.
    fn cnrtNotifierElapsedTime(start: Ptr, end: Ptr, ms: Out<f32>) {
        time(start, end, ms, Notifier::elapsed_ms)
    }

    /// See the header.
    fn cnrtNotifierDuration(start: Ptr, end: Ptr, us: Out<f32>) {
        time(start, end, us, Notifier::duration_us)
    }

    /// See the header.
    fn cnrtIpcGetNotifierHandle(place: Out<IpcNotifierHandle>, notifier: Ptr) {
        place.check()?;
        let handle = Notifier::find(notifier.addr())?.export()?;
        place.set(IpcNotifierHandle { res: [handle, 0, 0, 0, 0, 0, 0, 0] })
    }

    /// See the header.
    fn cnrtIpcOpenNotifierHandle(place: Out<Ptr>, handle: IpcNotifierHandle) {
        place.check()?;
        place.set(Ptr::at(Notifier::open(&live()?, handle.res[0])?))
    }
}

/// `cnrtIpcNotifierHandle`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IpcNotifierHandle {
    pub res: [u64; 8],
}
