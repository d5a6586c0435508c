//! Contexts: shared and own ones, and what a thread sets for its launches in one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use vmlu_c_abi::context::{self, Context, Live};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{device, exports, Failure, Out, Ptr, Result};

use crate::device::get;
use crate::error::run;

/// The calling thread's context.
pub(crate) fn current() -> Result<Arc<Context>> {
    context::current().ok_or(Failure::INVALID_CONTEXT)
}

/// The calling thread's context, in use.
pub(crate) fn live() -> Result<Arc<Live>> {
    current()?.live()
}

/// What a thread has set for its launches in a context.
#[derive(Clone, Copy)]
struct Launches {
    /// A bit for each cluster that they may use.
    clusters: u64,
    /// The largest `KernelClass`.
    limit: i32,
}

thread_local! {
    static LAUNCHES: RefCell<HashMap<usize, Launches>> = RefCell::default();
}

/// The largest `KernelClass` that takes this many clusters.
fn class_of(clusters: u32) -> i32 {
    match clusters {
        0 => 1,
        1 => 4,
        2..=3 => 8,
        4..=7 => 16,
        8..=15 => 32,
        _ => 64,
    }
}

fn launches(context: &Context) -> Result<Launches> {
    let device = &device::all()?[context.ordinal];
    let clusters = device.info.info.clusters;
    let default = Launches {
        clusters: u64::MAX >> (64 - clusters.clamp(1, 64)),
        limit: class_of(clusters.min(device.model.union_limit)),
    };
    Ok(LAUNCHES
        .try_with(|all| all.borrow().get(&context.handle()).copied())
        .ok()
        .flatten()
        .unwrap_or(default))
}

/// `CNctxConfigParamType`.
const VISIBLE_CLUSTER: i32 = 0;
const VISIBLE_CLUSTER_NUM: i32 = 1;
const UNION_LIMIT: i32 = 2;

fn get_config(context: Ptr, kind: i32, place: Out<u64>) -> Result<()> {
    let context = Context::find(context.addr())?;
    place.check()?;
    let launches = launches(&context)?;
    // A union of a number and a smaller one: the rest of it is left alone by C, and zero here.
    place.set(match kind {
        VISIBLE_CLUSTER => launches.clusters,
        VISIBLE_CLUSTER_NUM => u64::from(launches.clusters.count_ones()),
        UNION_LIMIT => launches.limit as u64,
        _ => return Err(Failure::INVALID_VALUE),
    })
}

fn set_config(context: Ptr, kind: i32, place: Out<u64>) -> Result<()> {
    let context = Context::find(context.addr())?;
    let value = place.get()?;
    let device = &device::all()?[context.ordinal];
    let all = u64::MAX >> (64 - device.info.info.clusters.clamp(1, 64));
    let mut launches = launches(&context)?;
    match kind {
        VISIBLE_CLUSTER if value & all != 0 => launches.clusters = value & all,
        UNION_LIMIT if [1, 4, 8, 16, 32, 64].contains(&(value as u32)) => {
            let most = class_of(device.info.info.clusters.min(device.model.union_limit));
            launches.limit = (value as u32 as i32).min(most);
        }
        _ => return Err(Failure::INVALID_VALUE),
    }
    let _ = LAUNCHES.try_with(|all| all.borrow_mut().insert(context.handle(), launches));
    Ok(())
}

/// `CNCtxConfig`: settings that are kept and read back.
fn setting(kind: i32, value: Option<i64>) -> Result<i64> {
    let context = current()?;
    let (default, most) = match kind {
        1 => (1024, i64::from(u32::MAX)),
        2 => (0, 0),
        3 => (1 << 20, 1 << 30),
        4 => (1, 64),
        _ => return Err(Failure::INVALID_VALUE),
    };
    let mut settings = context.settings.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(value) = value {
        if value < 0 || value == 0 && kind != 2 {
            return Err(Failure::INVALID_VALUE);
        }
        settings.insert(kind, value.min(most));
    }
    Ok(settings.get(&kind).copied().unwrap_or(default))
}

exports! { run;
    /// See the header.
    fn cnCtxCreate(place: Out<Ptr>, flags: u32, device: u64) {
        place.check()?;
        let context = Context::own(get(device)?.ordinal, flags)?;
        place.set(Ptr::at(context.handle()))?;
        context::set_current(Some(context));
        Ok(())
    }

    /// See the header.
    fn cnCtxDestroy(context: Ptr) { Context::find(context.addr())?.destroy() }

    /// See the header.
    fn cnCtxGetFlags(flags: Out<u32>) {
        flags.check()?;
        flags.set(current()?.flags())
    }

    /// See the header.
    fn cnCtxGetApiVersion(context: Ptr, version: Out<u32>) {
        version.check()?;
        if context.is_null() {
            current()?;
        } else {
            Context::find(context.addr())?;
        }
        version.set(21_505)
    }

    /// See the header.
    fn cnCtxGetCurrent(place: Out<Ptr>) {
        place.check()?;
        place.set(context::current().map_or(Ptr::NULL, |c| Ptr::at(c.handle())))
    }

    /// See the header.
    fn cnCtxSetCurrent(context: Ptr) {
        let context = match context.is_null() {
            true => None,
            false => Some(Context::find(context.addr())?),
        };
        context::set_current(context);
        Ok(())
    }

    /// See the header.
    fn cnCtxGetDevice(device: Out<u64>) {
        device.check()?;
        device.set(current()?.ordinal as u64)
    }

    /// See the header.
    fn cnCtxGetQueuePriorityRange(least: Out<i32>, greatest: Out<i32>) {
        current()?;
        least.set_if(Queue::LEAST);
        greatest.set_if(Queue::GREATEST);
        Ok(())
    }

    /// See the header.
    fn cnCtxGetConfig(value: Out<i64>, kind: i32) {
        value.check()?;
        value.set(setting(kind, None)?)
    }

    /// See the header.
    fn cnCtxSetConfig(kind: i32, value: i64) { setting(kind, Some(value)).map(drop) }

    /// See the header.
    fn cnGetCtxConfigParam(context: Ptr, kind: i32, place: Out<u64>) { get_config(context, kind, place) }

    /// See the header.
    fn cnGetCtxConfigParam_pt(context: Ptr, kind: i32, place: Out<u64>) { get_config(context, kind, place) }

    /// See the header.
    fn cnSetCtxConfigParam(context: Ptr, kind: i32, place: Out<u64>) { set_config(context, kind, place) }

    /// See the header.
    fn cnSetCtxConfigParam_pt(context: Ptr, kind: i32, place: Out<u64>) { set_config(context, kind, place) }

    /// See the header.
    fn cnGetCtxMaxParallelUnionTasks(context: Ptr, class: i32, number: Out<i32>) {
        let context = Context::find(context.addr())?;
        number.check()?;
        let launches = launches(&context)?;
        let clusters = launches.clusters.count_ones() as i32;
        let cores = device::all()?[context.ordinal].info.info.cores_per_cluster as i32;
        number.set(match class {
            1 => clusters * cores,
            4 | 8 | 16 | 32 | 64 if class > launches.limit => 0,
            4 | 8 | 16 | 32 | 64 => clusters / (class / 4),
            _ => return Err(Failure::INVALID_VALUE),
        })
    }

    /// See the header.
    fn cnCtxSync() { current()?.sync() }

    /// See the header.
    fn cnCtxResetPersistingL2Cache() { Err(Failure::NOT_SUPPORTED) }

    /// See the header.
    fn cnSharedContextGetState(device: u64, flags: Out<u32>, state: Out<i32>) {
        flags.check()?;
        state.check()?;
        let context = get(device)?.context();
        flags.set(context.flags())?;
        state.set(i32::from(context.is_active()))
    }

    /// See the header.
    fn cnSharedContextSetFlags(device: u64, flags: u32) { get(device)?.context().set_flags(flags) }

    /// See the header.
    fn cnSharedContextAcquire(place: Out<Ptr>, device: u64) {
        place.check()?;
        let context = get(device)?.context();
        context.acquire()?;
        place.set(Ptr::at(context.handle()))
    }

    /// See the header.
    fn cnSharedContextRelease(device: u64) { get(device)?.context().release() }

    /// See the header.
    fn cnSharedContextReset(device: u64) {
        get(device)?.context().end();
        Ok(())
    }
}
