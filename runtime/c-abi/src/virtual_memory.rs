//! Memory and addresses apart: physical memory, addresses that are set aside, and mappings between them.
//!
//! A mapping is there once access is granted. Copies and fills go on from one mapping to the next; a command of the card takes each operand from
//! one mapping.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmlu::memory::Reservation;
use vmlu::Buffer;

use crate::context::Live;
use crate::failure::{Failure, Result};
use crate::memory::{self, Kind};
use crate::table::Table;

/// Physical memory by its handles.
pub static PHYSICAL: Table<Physical> = Table::new(0x14);

/// Device memory without an address that programs use.
pub struct Physical {
    /// The context that it belongs to.
    pub live: Arc<Live>,
    /// Bytes.
    pub length: u64,
    buffer: Buffer,
}

/// Addresses of a context that are set aside, with what is mapped there.
struct Range {
    live: Arc<Live>,
    reservation: Reservation,
    mapped: BTreeMap<u64, Mapping>,
}

struct Mapping {
    physical: Arc<Physical>,
    handle: usize,
    /// Whether access was granted, and then whether it may be written.
    access: Option<bool>,
}

static RANGES: Mutex<BTreeMap<u64, Range>> = Mutex::new(BTreeMap::new());

fn ranges() -> MutexGuard<'static, BTreeMap<u64, Range>> {
    RANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of which physical memory, addresses and mappings are multiples.
pub fn granularity(live: &Live) -> u64 {
    live.runtime.info().info.granule.max(4096)
}

fn check_granules(live: &Live, numbers: &[u64]) -> Result<()> {
    let granule = granularity(live);
    match numbers.iter().all(|n| n.is_multiple_of(granule)) {
        true => Ok(()),
        false => Err(Failure::INVALID_VALUE),
    }
}

/// Allocates physical memory; its handle.
pub fn create(live: &Arc<Live>, length: u64) -> Result<usize> {
    check_granules(live, &[length])?;
    match length {
        0 => return Err(Failure::INVALID_VALUE),
        _ if length > live.runtime.info().info.memory_bytes => return Err(Failure::DEVICE_MEMORY),
        _ => {}
    }
    let physical = Physical {
        live: live.clone(),
        length,
        buffer: memory::allocate(live, length)?,
    };
    PHYSICAL
        .insert(Arc::new(physical))
        .ok_or(Failure::HOST_MEMORY)
}

/// Gives a handle up. The memory goes when nothing is mapped of it any more.
pub fn release(handle: usize) -> Result<()> {
    PHYSICAL
        .remove(handle)
        .map(drop)
        .ok_or(Failure::INVALID_VALUE)
}

/// Sets addresses aside; the first. A wanted start is a hint.
pub fn reserve(live: &Arc<Live>, length: u64, align: u64, start: u64) -> Result<u64> {
    check_granules(live, &[length, start])?;
    if align != 0 && !align.is_power_of_two() || length == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    let reservation =
        live.runtime
            .reserve(length, align)
            .map_err(|error| match Failure::from(error) {
                Failure { cn: 100_053, .. } => Failure::DEVICE_MEMORY,
                failure => failure,
            })?;
    let address = reservation.address();
    let range = Range {
        live: live.clone(),
        reservation,
        mapped: BTreeMap::new(),
    };
    ranges().insert(address, range);
    Ok(address)
}

/// Gives addresses back of which nothing is mapped.
pub fn unreserve(address: u64, length: u64) -> Result<()> {
    let mut ranges = ranges();
    let range = ranges.get(&address).ok_or(Failure::DEVICE_ADDRESS)?;
    if range.reservation.length() != length || !range.mapped.is_empty() {
        return Err(Failure::INVALID_VALUE);
    }
    let range = ranges.remove(&address);
    drop(ranges);
    drop(range);
    Ok(())
}

/// The range in which a span lies.
fn range(ranges: &mut BTreeMap<u64, Range>, address: u64, length: u64) -> Result<&mut Range> {
    let (start, range) = ranges
        .range_mut(..=address)
        .next_back()
        .ok_or(Failure::DEVICE_ADDRESS)?;
    let within = address - start;
    match range.reservation.length().checked_sub(within) {
        Some(room) if length <= room => Ok(range),
        _ => Err(Failure::DEVICE_ADDRESS),
    }
}

/// Maps physical memory, all of it, where nothing is mapped.
pub fn map(address: u64, length: u64, offset: u64, handle: usize) -> Result<()> {
    let physical = PHYSICAL.find(handle).ok_or(Failure::INVALID_VALUE)?;
    check_granules(&physical.live, &[address, length])?;
    if offset != 0 || length != physical.length {
        return Err(Failure::INVALID_VALUE);
    }
    let mut ranges = ranges();
    let range = range(&mut ranges, address, length)?;
    let below = range.mapped.range(..address + length).next_back();
    if below.is_some_and(|(start, m)| start + m.physical.length > address) {
        return Err(Failure::INVALID_VALUE);
    }
    let mapping = Mapping {
        physical,
        handle,
        access: None,
    };
    range.mapped.insert(address, mapping);
    Ok(())
}

/// Grants access to a span that is mapped wholly, to read or also to write.
///
/// # Errors
///
/// [`Failure::DEVICE_ADDRESS`] if not all of it is mapped, or it ends within a mapping.
pub fn set_access(address: u64, length: u64, writable: bool) -> Result<()> {
    let mut ranges = ranges();
    let range = range(&mut ranges, address, length)?;
    let mut at = address;
    while at < address + length {
        let mapping = range.mapped.get(&at).ok_or(Failure::DEVICE_ADDRESS)?;
        at += mapping.physical.length;
    }
    if at != address + length || length == 0 {
        return Err(Failure::DEVICE_ADDRESS);
    }
    for (at, mapping) in range.mapped.range_mut(address..address + length) {
        if mapping.access == Some(writable) {
            continue;
        }
        if mapping.access.take().is_some() {
            memory::free(*at, &[Kind::Virtual])?;
        }
        let origin = &mapping.physical.buffer;
        let mapped = range.live.runtime.map_at(origin, *at, writable)?;
        memory::enter_mapping(&range.live, mapped, (origin, &mapping.physical.live));
        mapping.access = Some(writable);
    }
    Ok(())
}

/// Whether the mapping at an address may be read, and written.
pub fn access(address: u64) -> Result<bool> {
    let mut ranges = ranges();
    let range = range(&mut ranges, address, 1)?;
    let (start, mapping) = range
        .mapped
        .range(..=address)
        .next_back()
        .ok_or(Failure::DEVICE_ADDRESS)?;
    match mapping.access {
        Some(writable) if address - start < mapping.physical.length => Ok(writable),
        _ => Err(Failure::DEVICE_ADDRESS),
    }
}

/// The handle of what is mapped at an address. It is given once more, to be released once more.
pub fn retain(address: u64) -> Result<usize> {
    let mut ranges = ranges();
    let range = range(&mut ranges, address, 1)?;
    let (start, mapping) = range
        .mapped
        .range_mut(..=address)
        .next_back()
        .ok_or(Failure::DEVICE_ADDRESS)?;
    if address - start >= mapping.physical.length {
        return Err(Failure::DEVICE_ADDRESS);
    }
    if PHYSICAL.find(mapping.handle).is_none() {
        let again = PHYSICAL.insert(mapping.physical.clone());
        mapping.handle = again.ok_or(Failure::HOST_MEMORY)?;
    }
    Ok(mapping.handle)
}

/// Takes whole mappings away, once what uses them has ended.
pub fn unmap(address: u64, length: u64) -> Result<()> {
    let mut ranges = ranges();
    let range = range(&mut ranges, address, length)?;
    let mut at = address;
    while at < address + length {
        let mapping = range.mapped.get(&at).ok_or(Failure::DEVICE_ADDRESS)?;
        at += mapping.physical.length;
    }
    if at != address + length || length == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    let starts: Vec<u64> = range
        .mapped
        .range(address..address + length)
        .map(|(start, _)| *start)
        .collect();
    for start in starts {
        if let Some(mapping) = range.mapped.remove(&start)
            && mapping.access.is_some()
        {
            memory::free(start, &[Kind::Virtual])?;
        }
    }
    Ok(())
}

/// Takes all of a context away, to be dropped without a lock.
pub(crate) fn forget(live: &Arc<Live>) -> (Vec<Arc<Physical>>, Vec<impl Sized + use<>>) {
    let physical = PHYSICAL.remove_if(|p| Arc::ptr_eq(&p.live, live));
    let mut ranges = ranges();
    let gone: Vec<u64> = ranges
        .iter()
        .filter(|(_, range)| Arc::ptr_eq(&range.live, live))
        .map(|(start, _)| *start)
        .collect();
    let gone = gone
        .iter()
        .filter_map(|start| ranges.remove(start))
        .collect();
    (physical, gone)
}
