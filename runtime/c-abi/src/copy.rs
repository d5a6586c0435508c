//! Copies and fills between any memories. What the card knows it copies itself; pageable memory goes through the runtime's staging.

use std::sync::Arc;

use rustix::mm::MsyncFlags;
use vmlu::abi::packet::{op, Fill};
use vmlu::abi::Wire;
use vmlu::queue::{Extent, Layout};

use crate::context::Live;
use crate::failure::{Failure, Result};
use crate::memory::{self, Block, Kind};
use crate::queue::Queue;

/// What a program says about a copy's direction, in C's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Host memory to device memory.
    ToDevice = 0,
    /// Within a device.
    OnDevice = 1,
    /// Device memory to host memory.
    ToHost = 2,
    /// Host memory to host memory.
    OnHost = 3,
    /// From a device to another.
    Peers = 4,
    /// As the addresses say.
    Any = 5,
}

impl Direction {
    /// The direction of a number.
    pub fn from_raw(raw: i32) -> Result<Self> {
        Ok(match raw {
            0 => Self::ToDevice,
            1 => Self::OnDevice,
            2 => Self::ToHost,
            3 => Self::OnHost,
            4 => Self::Peers,
            5 => Self::Any,
            _ => return Err(Failure::DIRECTION),
        })
    }

    /// Fails if the sides of a copy are not what it says.
    fn check(self, to: &Side, from: &Side) -> Result<()> {
        let sides = (to.is_device(), from.is_device());
        let right = match self {
            Self::ToDevice => sides == (true, false),
            Self::ToHost => sides == (false, true),
            Self::OnHost => sides == (false, false),
            Self::OnDevice | Self::Peers => sides == (true, true),
            Self::Any => true,
        };
        if right {
            Ok(())
        } else {
            Err(Failure::DIRECTION)
        }
    }
}

/// One side of a copy.
enum Side {
    Device(Arc<Block>),
    Pinned(Arc<Block>),
    Pageable,
}

impl Side {
    /// What memory a range is.
    ///
    /// # Errors
    ///
    /// [`Failure::DEVICE_ADDRESS`] if it leaves its allocation, or lies where memory was freed.
    fn of(address: u64, length: u64) -> Result<Self> {
        if address == 0 {
            return Err(Failure::INVALID_VALUE);
        }
        match memory::find(address) {
            Some(block) if length > block.length - (address - block.start) => {
                Err(Failure::DEVICE_ADDRESS)
            }
            Some(block) if block.is_host() => Ok(Self::Pinned(block)),
            Some(block) => Ok(Self::Device(block)),
            None if crate::context::is_reserved(address) => Err(Failure::DEVICE_ADDRESS),
            None if isize::try_from(length).is_err() || address.checked_add(length).is_none() => {
                Err(Failure::HOST_ADDRESS)
            }
            None => Ok(Self::Pageable),
        }
    }

    fn is_device(&self) -> bool {
        matches!(self, Self::Device(_))
    }

    /// Fails if it is pageable memory that is not there.
    fn check_mapped(&self, address: u64, length: u64) -> Result<()> {
        const PAGE: u64 = 4096;
        if !matches!(self, Self::Pageable) {
            return Ok(());
        }
        let start = address / PAGE * PAGE;
        let bytes = (address - start + length) as usize;
        let start = std::ptr::without_provenance_mut(start as usize);
        // SAFETY: an asynchronous `msync` changes nothing; it only says whether all of the range is mapped.
        unsafe { rustix::mm::msync(start, bytes, MsyncFlags::ASYNC) }
            .map_err(|_| Failure::HOST_ADDRESS)
    }

    /// As [`Side::of`], for the part of a range that lies in one mapping, and how long it is: ranges go on from a mapping to the next.
    fn part(address: u64, length: u64) -> Result<(Self, u64)> {
        match memory::find(address) {
            Some(block) if block.kind == Kind::Virtual => {
                let room = block.length - (address - block.start);
                Ok((Self::Device(block), length.min(room)))
            }
            _ => Ok((Self::of(address, length)?, length)),
        }
    }

    /// The context that has it, if it is device memory.
    fn live(&self) -> Option<&Arc<Live>> {
        match self {
            Self::Device(block) => Some(&block.live),
            Self::Pinned(_) | Self::Pageable => None,
        }
    }

    /// Whether a context's card reaches it at its address; device memory of others is mapped for it.
    fn reaches(&self, live: &Arc<Live>) -> Result<bool> {
        match self {
            Self::Device(block) => block.in_context(live).map(|_| true),
            Self::Pinned(block) => Ok(Arc::ptr_eq(&block.live, live)),
            Self::Pageable => Ok(false),
        }
    }
}

/// The queue that does what is waited for: of the calling thread, in its context if that has one of the sides, else in that of a side.
fn waiting(sides: [&Side; 2]) -> Result<Arc<Queue>> {
    let current = crate::context::current_or_first()?;
    let has = |live: &&Arc<Live>| {
        live.context
            .upgrade()
            .is_some_and(|c| Arc::ptr_eq(&c, &current))
    };
    let mut lives = sides.into_iter().filter_map(Side::live);
    match lives.clone().find(has).or_else(|| lives.next()) {
        Some(live) => Queue::of_thread(live),
        None => Queue::of_thread(&current.live()?),
    }
}

/// Host memory of the program, to be read.
fn source<'a>(address: u64, length: u64) -> &'a [u8] {
    // SAFETY: the program gave the range as the source of a copy: it is readable, and not written meanwhile. Its length was checked.
    unsafe {
        std::slice::from_raw_parts(
            std::ptr::with_exposed_provenance(address as usize),
            length as usize,
        )
    }
}

/// Host memory of the program, to be written.
fn target<'a>(address: u64, length: u64) -> &'a mut [u8] {
    // SAFETY: the program gave the range as the destination of a copy: it is writable, and not used meanwhile. Its length was checked.
    unsafe {
        std::slice::from_raw_parts_mut(
            std::ptr::with_exposed_provenance_mut(address as usize),
            length as usize,
        )
    }
}

/// Copies within host memory; the ranges may overlap.
fn within_host(to: u64, from: u64, length: u64) {
    let (to, from) = (
        std::ptr::with_exposed_provenance_mut::<u8>(to as usize),
        std::ptr::with_exposed_provenance::<u8>(from as usize),
    );
    // SAFETY: as for `source` and `target`.
    unsafe { std::ptr::copy(from, to, length as usize) };
}

/// Copies bytes, and waits for it.
pub fn copy(to: u64, from: u64, length: u64, direction: Direction) -> Result<()> {
    in_parts(to, from, length, direction, |to, from, length| {
        let queue = waiting([&to.1, &from.1])?;
        let value = submit(&queue, (to.0, &to.1), (from.0, &from.1), length, true)?;
        finish(&queue, value)
    })
}

/// Copies bytes behind what a queue has. Pageable memory is read before this returns, and written before it returns, too.
pub fn copy_async(
    queue: &Queue,
    to: u64,
    from: u64,
    length: u64,
    direction: Direction,
) -> Result<()> {
    in_parts(to, from, length, direction, |to, from, length| {
        submit(queue, (to.0, &to.1), (from.0, &from.1), length, false).map(drop)
    })
}

/// Calls `one` for each part of a copy whose sides lie in one allocation or mapping; usually there is one part.
fn in_parts(
    to: u64,
    from: u64,
    length: u64,
    direction: Direction,
    mut one: impl FnMut((u64, Side), (u64, Side), u64) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    while done < length {
        let (dst, src) = (to.wrapping_add(done), from.wrapping_add(done));
        let left = length - done;
        let (first, to_room) = Side::part(dst, left)?;
        let (second, from_room) = Side::part(src, left)?;
        direction.check(&first, &second)?;
        let part = to_room.min(from_room);
        first.check_mapped(dst, part)?;
        second.check_mapped(src, part)?;
        one((dst, first), (src, second), part)?;
        done += part;
    }
    Ok(())
}

fn finish(queue: &Queue, value: Option<u64>) -> Result<()> {
    match value {
        Some(value) => Ok(queue.runtime.wait(value)?),
        None => Ok(()),
    }
}

/// Submits a copy; the value to wait for, if it is not done.
fn submit(
    queue: &Queue,
    (to, dst): (u64, &Side),
    (from, src): (u64, &Side),
    length: u64,
    waits: bool,
) -> Result<Option<u64>> {
    let runtime = &queue.runtime;
    let reach = (dst.reaches(&queue.live)?, src.reaches(&queue.live)?);
    match (dst, src) {
        _ if reach == (true, true) => Ok(Some(runtime.copy(to, from, length)?)),
        (Side::Device(_), _) => Ok(Some(runtime.write_address(to, source(from, length))?)),
        (_, Side::Device(_)) => {
            runtime.read_address(from, target(to, length))?;
            Ok(None)
        }
        _ if waits => {
            runtime.sync()?;
            within_host(to, from, length);
            Ok(None)
        }
        _ => Ok(Some(
            runtime.host_fn(move || within_host(to, from, length))?,
        )),
    }
}

/// A box in memory: where it begins, and how its rows stand.
#[derive(Clone, Copy, Debug)]
pub struct Boxed {
    /// Where the memory begins.
    pub address: u64,
    /// How rows and slices stand in it.
    pub layout: Layout,
}

impl Boxed {
    /// Bytes from the start of the memory to the end of the box.
    fn span(&self, extent: Extent) -> Result<u64> {
        let Layout {
            offset,
            pitch,
            slice,
        } = self.layout;
        let last = (extent.height - 1)
            .checked_mul(pitch)
            .zip((extent.depth - 1).checked_mul(slice))
            .and_then(|(rows, slices)| rows.checked_add(slices)?.checked_add(extent.width));
        let end = last.and_then(|last| last.checked_add(offset));
        let narrow = extent.height > 1 && pitch < extent.width;
        let rows = extent.height.checked_mul(pitch);
        let shallow = extent.depth > 1 && rows.is_none_or(|rows| slice < rows);
        end.filter(|_| !narrow && !shallow)
            .ok_or(Failure::INVALID_VALUE)
    }
}

/// Copies a box, and waits for it if there is no queue.
///
/// # Errors
///
/// [`Failure::INVALID_VALUE`] if the box is empty, or its rows overlap; otherwise as [`copy`].
pub fn copy_box(
    queue: Option<&Queue>,
    to: Boxed,
    from: Boxed,
    extent: Extent,
    direction: Direction,
) -> Result<()> {
    if extent.width == 0 || extent.height == 0 || extent.depth == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    let spans = (to.span(extent)?, from.span(extent)?);
    let dst = Side::of(to.address, spans.0)?;
    let src = Side::of(from.address, spans.1)?;
    direction.check(&dst, &src)?;
    dst.check_mapped(to.address, spans.0)?;
    src.check_mapped(from.address, spans.1)?;
    let own;
    let (queue, waits) = match queue {
        Some(queue) => (queue, false),
        None => {
            own = waiting([&dst, &src])?;
            (&*own, true)
        }
    };
    let runtime = &queue.runtime;
    let reach = (dst.reaches(&queue.live)?, src.reaches(&queue.live)?);
    let value = match (&dst, &src) {
        _ if reach == (true, true) => {
            Some(runtime.copy_3d((to.address, to.layout), (from.address, from.layout), extent)?)
        }
        (Side::Device(block), _) => {
            let buffer = block.in_context(&queue.live)?;
            let layout = within(to, block);
            let bytes = source(from.address, spans.1);
            Some(runtime.write_box((&buffer, layout), (bytes, from.layout), extent)?)
        }
        (_, Side::Device(block)) => {
            let buffer = block.in_context(&queue.live)?;
            let layout = within(from, block);
            let bytes = target(to.address, spans.0);
            runtime.read_box((&buffer, layout), (bytes, to.layout), extent)?;
            None
        }
        _ if waits => {
            runtime.sync()?;
            rows_within_host(to, from, extent);
            None
        }
        _ => Some(runtime.host_fn(move || rows_within_host(to, from, extent))?),
    };
    if waits {
        finish(queue, value)
    } else {
        Ok(())
    }
}

/// The layout of a box counted from the start of its allocation.
fn within(place: Boxed, block: &Block) -> Layout {
    Layout {
        offset: place.layout.offset + (place.address - block.start),
        ..place.layout
    }
}

fn rows_within_host(to: Boxed, from: Boxed, extent: Extent) {
    let at = |side: &Boxed, y: u64, z: u64| {
        side.address + side.layout.offset + z * side.layout.slice + y * side.layout.pitch
    };
    for z in 0..extent.depth {
        for y in 0..extent.height {
            within_host(at(&to, y, z), at(&from, y, z), extent.width);
        }
    }
}

/// Fills device memory with `count` times a pattern of 1, 2 or 4 bytes, behind what a queue has; without a queue it is waited for.
///
/// # Errors
///
/// [`Failure::DEVICE_ADDRESS`] if the range is not device memory, [`Failure::INVALID_VALUE`] if it is not aligned to the pattern.
pub fn fill(queue: Option<&Queue>, to: u64, pattern: u64, width: u32, count: u64) -> Result<()> {
    // A power of two: a division would take longer than all the rest.
    if to == 0 || to & u64::from(width - 1) != 0 {
        return Err(Failure::INVALID_VALUE);
    }
    let length = count
        .checked_mul(u64::from(width))
        .ok_or(Failure::INVALID_VALUE)?;
    if let Some(queue) = queue
        && length > 0
        && memory::is_known(&queue.live, to, length)
    {
        let fill = Fill {
            dst: to,
            length,
            pattern,
            width,
            reserved: 0,
        };
        queue.runtime.submit_raw(op::FILL, fill.as_bytes())?;
        return Ok(());
    }
    let mut done = 0;
    while done < length {
        let at = to.wrapping_add(done);
        let block = memory::find_device(at).ok_or(Failure::DEVICE_ADDRESS)?;
        let room = block.length - (at - block.start);
        let left = length - done;
        if left > room && block.kind != Kind::Virtual {
            return Err(Failure::DEVICE_ADDRESS);
        }
        let fill = Fill {
            dst: at,
            length: left.min(room),
            pattern,
            width,
            reserved: 0,
        };
        done += fill.length;
        let own;
        let (on, waits) = match queue {
            Some(queue) => (queue, false),
            None => {
                own = Queue::of_thread(&block.live)?;
                (&*own, true)
            }
        };
        if !Arc::ptr_eq(&on.live, &block.live) {
            block.in_context(&on.live)?;
        }
        let value = on.runtime.submit_raw(op::FILL, fill.as_bytes())?;
        if waits {
            finish(on, Some(value))?;
        }
    }
    Ok(())
}
