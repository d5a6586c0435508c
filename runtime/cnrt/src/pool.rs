//! Memory that queues allocate and free in their order, and the pools that it comes from.

use vmlu_c_abi::pool::{self, Pool};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{device, exports, Failure, In, Out, Ptr, Result};

use crate::error::run;

/// `cnrtMemLocation_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Location {
    pub kind: i32,
    pub id: u32,
}

/// `cnrtMemPoolProps_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PoolProps {
    pub kind: i32,
    pub handle_types: i32,
    pub location: Location,
    pub max_size: usize,
    pub reserved: [u8; 64],
}

/// `cnrtMemAccessDesc_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AccessDesc {
    pub location: Location,
    pub flags: i32,
}

const _: () = assert!(size_of::<PoolProps>() == 88 && size_of::<AccessDesc>() == 12);

/// Most entries of a list of accesses.
const MOST_ACCESSES: usize = 1024;

fn ordinal(location: Location) -> Result<usize> {
    let id = i32::try_from(location.id).map_err(|_| Failure::INVALID_DEVICE)?;
    match location.kind {
        1 => Ok(device::get(id)?.ordinal),
        _ => Err(Failure::INVALID_VALUE),
    }
}

/// `cnrtMemAccessFlagsProtReadWrite` and `cnrtMemAccessFlagsProtReadOnly`.
const READ_WRITE: i32 = 0;
const READ_ONLY: i32 = 1;

/// Fails unless the device at a location reaches a pool's memory.
fn check_access(pool: &Pool, location: Location) -> Result<()> {
    let from = ordinal(location)?;
    let devices = device::all()?;
    let here = from == pool.ordinal;
    match here || vmlu_c_abi::info::reaches(&devices[from], &devices[pool.ordinal])? {
        true => Ok(()),
        false => Err(Failure::NOT_SUPPORTED),
    }
}

/// Attributes that are `int`; the others are 64 bits wide.
fn is_narrow(number: i32) -> bool {
    matches!(number, 1..=3)
}

/// The place of an attribute, as wide as it is.
fn narrow(place: Ptr) -> Out<i32> {
    // SAFETY: C's place for the attribute, null or of its type, by the header.
    unsafe { Out::new(place.0.cast()) }
}

fn wide(place: Ptr) -> Out<u64> {
    // SAFETY: as for `narrow`.
    unsafe { Out::new(place.0.cast()) }
}

exports! { run;
    /// See the header.
    fn cnrtDeviceGetDefaultMemPool(place: Out<Ptr>, device: i32) {
        place.check()?;
        place.set(Ptr::at(pool::default_of(device::get(device)?.ordinal)?))
    }

    /// See the header.
    fn cnrtDeviceGetMemPool(place: Out<Ptr>, device: i32) {
        place.check()?;
        place.set(Ptr::at(pool::current_of(device::get(device)?.ordinal)?))
    }

    /// See the header.
    fn cnrtDeviceSetMemPool(device: i32, pool: Ptr) {
        pool::set_current(device::get(device)?.ordinal, pool.addr())
    }

    /// See the header.
    fn cnrtMemPoolCreate(place: Out<Ptr>, props: In<PoolProps>) {
        place.check()?;
        let props = props.get()?;
        if props.kind != 1 || props.reserved != [0; 64] {
            return Err(Failure::INVALID_VALUE);
        }
        if props.handle_types != 0 {
            return Err(Failure::NOT_SUPPORTED);
        }
        place.set(Ptr::at(Pool::create(ordinal(props.location)?, props.max_size as u64)?))
    }

    /// See the header.
    fn cnrtMemPoolDestroy(pool: Ptr) { Pool::destroy(pool.addr()) }

    /// See the header.
    fn cnrtMemPoolTrimTo(pool: Ptr, keep: usize) {
        Pool::find(pool.addr())?.trim(keep as u64);
        Ok(())
    }

    /// See the header.
    fn cnrtMemPoolGetAttribute(pool: Ptr, number: i32, place: Ptr) {
        let value = Pool::find(pool.addr())?.attribute(number)?;
        match is_narrow(number) {
            true => narrow(place).set(value as i32),
            false => wide(place).set(value),
        }
    }

    /// See the header.
    fn cnrtMemPoolSetAttribute(pool: Ptr, number: i32, place: Ptr) {
        let pool = Pool::find(pool.addr())?;
        let value = match is_narrow(number) {
            true => narrow(place).get()? as u64,
            false => wide(place).get()?,
        };
        pool.set_attribute(number, value)
    }

    /// See the header.
    fn cnrtMemPoolGetAccess(flags: Out<i32>, pool: Ptr, location: In<Location>) {
        flags.check()?;
        let pool = Pool::find(pool.addr())?;
        check_access(&pool, location.get()?)?;
        flags.set(READ_WRITE)
    }

    /// See the header.
    fn cnrtMemPoolSetAccess(pool: Ptr, list: In<AccessDesc>, count: usize) {
        let pool = Pool::find(pool.addr())?;
        if count > MOST_ACCESSES {
            return Err(Failure::INVALID_VALUE);
        }
        for index in 0..count {
            let AccessDesc { location, flags } = list.get_at(index)?;
            match flags {
                READ_WRITE => check_access(&pool, location)?,
                READ_ONLY => return Err(Failure::NOT_SUPPORTED),
                _ => return Err(Failure::INVALID_VALUE),
            }
        }
        Ok(())
    }

    /// See the header.
    fn cnrtMemAllocAsync(place: Out<Ptr>, bytes: usize, queue: Ptr) {
        place.check()?;
        let queue = Queue::find(queue.addr())?;
        let pool = Pool::find(pool::current_of(queue.live.ordinal)?)?;
        place.set(Ptr::at(pool.alloc(bytes as u64, &queue)? as usize))
    }

    /// See the header.
    fn cnrtMemAllocFromPoolAsync(place: Out<Ptr>, bytes: usize, pool: Ptr, queue: Ptr) {
        place.check()?;
        let queue = Queue::find(queue.addr())?;
        place.set(Ptr::at(Pool::find(pool.addr())?.alloc(bytes as u64, &queue)? as usize))
    }

    /// See the header.
    fn cnrtMemFreeAsync(pointer: Ptr, queue: Ptr) {
        let queue = Queue::find(queue.addr())?;
        pool::free(pointer.addr() as u64, &queue)
    }
}
