//! Physical memory, reserved addresses, and mappings between them.

use vmlu_c_abi::context::Live;
use vmlu_c_abi::virtual_memory as vm;
use vmlu_c_abi::{exports, Failure, In, Out, Result};

use crate::context::live;
use crate::device::get;
use crate::error::run;

/// `CNmemLocation`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Location {
    pub kind: i32,
    pub id: u32,
}

/// `CNmemAllocationProp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AllocationProp {
    pub kind: i32,
    pub handle_types: i32,
    pub location: Location,
    pub compression: u8,
    pub security: u8,
}

/// `CNmemAccessDesc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AccessDesc {
    pub location: Location,
    pub flags: i32,
    pub cache: i32,
    pub pinned: i32,
}

const _: () = assert!(size_of::<AllocationProp>() == 20 && size_of::<AccessDesc>() == 20);

/// The shared context of a location's device, in use.
fn of(location: Location) -> Result<std::sync::Arc<Live>> {
    if location.kind != 1 {
        return Err(Failure::INVALID_VALUE);
    }
    let device = get(u64::from(location.id))?;
    // The calling thread's context, if it is of that device.
    match vmlu_c_abi::context::current().filter(|c| c.ordinal == device.ordinal) {
        Some(context) => context.live(),
        None => device.context().live(),
    }
}

fn check(prop: In<AllocationProp>) -> Result<AllocationProp> {
    let prop = prop.get()?;
    match prop {
        AllocationProp {
            kind: 1,
            handle_types: 0,
            security: 0,
            ..
        } => Ok(prop),
        AllocationProp { kind: 1, .. } => Err(Failure::NOT_SUPPORTED),
        _ => Err(Failure::INVALID_VALUE),
    }
}

exports! { run;
    /// See the header.
    fn cnMemGetAllocationGranularity(place: Out<u64>, prop: In<AllocationProp>, option: i32) {
        place.check()?;
        let granule = vm::granularity(&*of(check(prop)?.location)?);
        place.set(match option {
            0 => granule,
            1 => granule.max(2 << 20),
            _ => return Err(Failure::INVALID_VALUE),
        })
    }

    /// See the header.
    fn cnMemCreate(place: Out<u64>, bytes: u64, prop: In<AllocationProp>, flags: u64) {
        place.check()?;
        let prop = check(prop)?;
        if flags != 0 {
            return Err(Failure::INVALID_VALUE);
        }
        place.set(vm::create(&of(prop.location)?, bytes)? as u64)
    }

    /// See the header.
    fn cnMemRelease(handle: u64) { vm::release(handle as usize) }

    /// See the header.
    fn cnMemAddressReserve(place: Out<u64>, bytes: u64, align: u64, start: u64, flags: u64) {
        place.check()?;
        if flags != 0 {
            return Err(Failure::INVALID_VALUE);
        }
        place.set(vm::reserve(&live()?, bytes, align, start)?)
    }

    /// See the header.
    fn cnMemAddressFree(address: u64, bytes: u64) { vm::unreserve(address, bytes) }

    /// See the header.
    fn cnMemMap(address: u64, bytes: u64, offset: u64, handle: u64, flags: u64) {
        if flags != 0 {
            return Err(Failure::INVALID_VALUE);
        }
        vm::map(address, bytes, offset, handle as usize)
    }

    /// See the header.
    fn cnMemSetAccess(address: u64, bytes: u64, desc: In<AccessDesc>, count: u64) {
        let desc = desc.get()?;
        if count != 1 || !matches!(desc.flags, 0 | 1) {
            return Err(Failure::INVALID_VALUE);
        }
        of(desc.location)?;
        vm::set_access(address, bytes, desc.flags == 0)
    }

    /// See the header.
    fn cnMemUnmap(address: u64, bytes: u64) { vm::unmap(address, bytes) }

    /// See the header.
    fn cnMemGetAccess(place: Out<AccessDesc>, location: In<Location>, address: vmlu_c_abi::Ptr) {
        place.check()?;
        let location = location.get()?;
        of(location)?;
        let writable = vm::access(address.addr() as u64)?;
        place.set(AccessDesc { location, flags: i32::from(!writable), cache: 3, pinned: 0 })
    }

    /// See the header.
    fn cnMemRetainAllocationHandle(place: Out<u64>, address: u64) {
        place.check()?;
        place.set(vm::retain(address)? as u64)
    }

    /// See the header.
    fn cnMemGetAllocationPropertiesFromHandle(place: Out<AllocationProp>, handle: u64) {
        place.check()?;
        let physical = vm::PHYSICAL.find(handle as usize).ok_or(Failure::INVALID_VALUE)?;
        let location = Location { kind: 1, id: physical.live.ordinal as u32 };
        place.set(AllocationProp { kind: 1, handle_types: 0, location, compression: 0, security: 0 })
    }
}
