//! Memory of devices and of the host, copies and fills.

use std::os::fd::IntoRawFd;

use vmlu::queue::{Extent, Layout};
use vmlu_c_abi::context::Context;
use vmlu_c_abi::copy::{self, Boxed, Direction};
use vmlu_c_abi::memory::{self, Kind};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, ipc, virtual_memory, Failure, In, Out, Ptr, Result};

use crate::context::{current, live};
use crate::error::run;

/// `CNmemcpy3dParam`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Memcpy3dParam {
    pub dst: Ptr,
    pub dst_pos: [u64; 3],
    pub dst_ptr: PitchedPtr,
    /// Depth, height, width.
    pub extent: [u64; 3],
    pub dir: u32,
    pub src: Ptr,
    pub src_pos: [u64; 3],
    pub src_ptr: PitchedPtr,
}

/// `CNpitchedPtr`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PitchedPtr {
    pub pitch: u64,
    pub ptr: Ptr,
    pub xsize: u64,
    pub ysize: u64,
}

const _: () = assert!(
    size_of::<Memcpy3dParam>() == 160
        && std::mem::offset_of!(Memcpy3dParam, dst_ptr) == 32
        && std::mem::offset_of!(Memcpy3dParam, src) == 96
        && std::mem::offset_of!(Memcpy3dParam, src_ptr) == 128
);

const DEVICE: &[Kind] = &[Kind::Device, Kind::Constant];

fn alloc(place: Out<u64>, bytes: u64, kind: Kind) -> Result<u64> {
    place.check()?;
    let address = memory::alloc(&live()?, bytes, kind)?;
    place.set(address)?;
    Ok(address)
}

/// The only memory node of a device.
fn check_node(node: i32) -> Result<()> {
    if node == 0 {
        Ok(())
    } else {
        Err(Failure::INVALID_VALUE)
    }
}

fn set_info(free: Out<u64>, total: Out<u64>) -> Result<()> {
    free.check()?;
    total.check()?;
    let (free_bytes, total_bytes) = memory::info(&live()?)?;
    free.set(free_bytes)?;
    total.set(total_bytes)
}

fn copy_now(to: u64, from: u64, bytes: u64, direction: Direction) -> Result<()> {
    current()?;
    copy::copy(to, from, bytes, direction)
}

fn copy_later(to: u64, from: u64, bytes: u64, queue: Ptr, direction: Direction) -> Result<()> {
    current()?;
    Queue::with(queue.addr(), |queue| {
        copy::copy_async(queue, to, from, bytes, direction)
    })
}

fn fill(queue: Option<Ptr>, to: u64, pattern: u64, width: u32, count: u64) -> Result<()> {
    current()?;
    let fill = |queue: Option<&Queue>| copy::fill(queue, to, pattern, width, count);
    match queue {
        Some(queue) => Queue::with(queue.addr(), |queue| fill(Some(queue))),
        None => fill(None),
    }
}

#[allow(clippy::too_many_arguments)]
fn rows(
    queue: Option<Ptr>,
    (to, to_pitch): (u64, u64),
    (from, from_pitch): (u64, u64),
    width: u64,
    height: u64,
    direction: Direction,
) -> Result<()> {
    current()?;
    if width > to_pitch || width > from_pitch {
        return Err(Failure::INVALID_VALUE);
    }
    let queue = queue.map(|queue| Queue::find(queue.addr())).transpose()?;
    let side = |address, pitch| Boxed {
        address,
        layout: Layout::rows(0, pitch),
    };
    let extent = Extent {
        width,
        height,
        depth: 1,
    };
    copy::copy_box(
        queue.as_deref(),
        side(to, to_pitch),
        side(from, from_pitch),
        extent,
        direction,
    )
}

fn boxes(queue: Option<Ptr>, param: In<Memcpy3dParam>, direction: Direction) -> Result<()> {
    current()?;
    let p = param.get()?;
    let queue = queue.map(|queue| Queue::find(queue.addr())).transpose()?;
    let side = |plain: Ptr, [x, y, z]: [u64; 3], pitched: PitchedPtr| {
        let address = if pitched.ptr.is_null() {
            plain
        } else {
            pitched.ptr
        };
        let slice = pitched.pitch.checked_mul(pitched.ysize)?;
        let offset = pitched
            .pitch
            .checked_mul(y)?
            .checked_add(slice.checked_mul(z)?)?
            .checked_add(x)?;
        let layout = Layout {
            offset,
            pitch: pitched.pitch,
            slice,
        };
        Some(Boxed {
            address: address.addr() as u64,
            layout,
        })
    };
    let to = side(p.dst, p.dst_pos, p.dst_ptr).ok_or(Failure::INVALID_VALUE)?;
    let from = side(p.src, p.src_pos, p.src_ptr).ok_or(Failure::INVALID_VALUE)?;
    let [depth, height, width] = p.extent;
    copy::copy_box(
        queue.as_deref(),
        to,
        from,
        Extent {
            width,
            height,
            depth,
        },
        direction,
    )
}

/// Fails unless device memory belongs to a context.
fn check_context(address: u64, context: Ptr) -> Result<()> {
    let context = Context::find(context.addr())?;
    match memory::find(address) {
        Some(block) if block.live.context.as_ptr() != std::sync::Arc::as_ptr(&context) => {
            Err(Failure::DEVICE_ADDRESS)
        }
        _ => Ok(()),
    }
}

/// Writes an attribute of memory, as wide as C has it.
fn attribute(place: Ptr, number: i32, address: u64) -> Result<()> {
    if place.is_null() {
        return Err(Failure::INVALID_VALUE);
    }
    let block = memory::find(address).ok_or(Failure::INVALID_VALUE)?;
    let host = block.is_host();
    let int = |value: i32| {
        // SAFETY: the place is C's, not null, and of the attribute's type, by the header.
        unsafe { Out::<i32>::new(place.0.cast()) }.set(value)
    };
    let long = |value: u64| {
        // SAFETY: as above.
        unsafe { Out::<u64>::new(place.0.cast()) }.set(value)
    };
    match number {
        0x1 => int(if host { 1 } else { 2 }),
        0x2 => long(address),
        0x3 => long(if host { address } else { 0 }),
        // Caches are coherent: nothing to be done for them.
        0x4 => int(0),
        0x6 => long(block.live.context.upgrade().map_or(0, |c| c.handle()) as u64),
        0x7 => int(block.live.ordinal as i32),
        0x11 => long(block.start),
        0x12 => long(block.length),
        0x13 => int(match block.kind {
            Kind::Virtual => i32::from(!virtual_memory::access(address)?),
            _ => 0,
        }),
        0x14 => int(3),
        0x15 => int(if host { 2 } else { 0 }),
        0x16 => int(1),
        0x17 => int(0),
        0x18 => int(i32::from(!host)),
        0x19 => int(i32::from(matches!(
            block.kind,
            Kind::Device | Kind::Constant
        ))),
        _ => Err(Failure::INVALID_VALUE),
    }
}

exports! { run;
    /// See the header.
    fn cnMemGetInfo(free: Out<u64>, total: Out<u64>) { set_info(free, total) }

    /// See the header.
    fn cnMemGetNodeInfo(free: Out<u64>, total: Out<u64>, node: i32) {
        check_node(node)?;
        set_info(free, total)
    }

    /// See the header.
    fn cnMalloc(place: Out<u64>, bytes: u64) { alloc(place, bytes, Kind::Device).map(drop) }

    /// See the header.
    fn cnMallocSecurity(place: Out<u64>, _bytes: u64) {
        place.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnMallocNode(place: Out<u64>, bytes: u64, node: i32) {
        check_node(node)?;
        alloc(place, bytes, Kind::Device).map(drop)
    }

    /// See the header.
    fn cnZmalloc(place: Out<u64>, bytes: u64) {
        let address = alloc(place, bytes, Kind::Device)?;
        copy::fill(None, address, 0, 1, bytes)
    }

    /// See the header.
    fn cnZmallocNode(place: Out<u64>, bytes: u64, node: i32) {
        check_node(node)?;
        let address = alloc(place, bytes, Kind::Device)?;
        copy::fill(None, address, 0, 1, bytes)
    }

    /// See the header.
    fn cnMallocConstant(place: Out<u64>, bytes: u64) { alloc(place, bytes, Kind::Constant).map(drop) }

    /// See the header.
    fn cnMallocNodeConstant(place: Out<u64>, bytes: u64, node: i32) {
        check_node(node)?;
        alloc(place, bytes, Kind::Constant).map(drop)
    }

    /// See the header.
    fn cnMallocFrameBuffer(place: Out<u64>, bytes: u64, node: i32) {
        check_node(node)?;
        alloc(place, bytes, Kind::Device).map(drop)
    }

    /// See the header.
    fn cnMallocPeerAble(place: Out<u64>, bytes: u64) { alloc(place, bytes, Kind::Device).map(drop) }

    /// See the header.
    fn cnFree(address: u64) {
        current()?;
        memory::free(address, DEVICE)
    }

    /// See the header.
    fn cnMemMerge(place: Out<u64>, _count: u32, _addresses: In<u64>) {
        place.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnMemGetAddressRange(base: Out<u64>, bytes: Out<u64>, address: u64) {
        let block = memory::find(address).filter(|b| !b.is_host());
        let block = block.ok_or(Failure::DEVICE_ADDRESS)?;
        base.set_if(block.start);
        bytes.set_if(block.length);
        Ok(())
    }

    /// See the header.
    fn cnMallocHost(place: Out<Ptr>, bytes: u64) {
        place.check()?;
        let address = memory::alloc_host(&live()?, bytes)?;
        place.set(Ptr::at(address as usize))
    }

    /// See the header.
    fn cnFreeHost(pointer: Ptr) {
        current()?;
        memory::free(pointer.addr() as u64, &[Kind::Host]).map_err(|_| Failure::INVALID_VALUE)
    }

    /// See the header.
    fn cnIpcGetMemHandle(place: Out<Ptr>, address: u64) {
        place.check()?;
        let block = memory::find(address).filter(|b| b.start == address);
        let block = block.ok_or(Failure::DEVICE_ADDRESS)?;
        place.set(Ptr::at(ipc::export_memory(&block)? as usize))
    }

    /// See the header.
    fn cnIpcOpenMemHandle(place: Out<u64>, handle: Ptr, flags: u32) {
        place.check()?;
        if flags & !2 != 0 {
            return Err(Failure::INVALID_VALUE);
        }
        let live = live()?;
        let buffer = live.runtime.import_memory(&ipc::open_memory(handle.addr() as u64)?, true)?;
        place.set(memory::enter(&live, buffer, Kind::Imported))
    }

    /// See the header.
    fn cnIpcCloseMemHandle(address: u64) { memory::free(address, &[Kind::Imported]) }

    /// See the header.
    fn cnMemcpy(to: u64, from: u64, bytes: u64) { copy_now(to, from, bytes, Direction::Any) }

    /// See the header.
    fn cnMemcpyPeer(to: u64, to_context: Ptr, from: u64, from_context: Ptr, bytes: u64) {
        check_context(to, to_context)?;
        check_context(from, from_context)?;
        copy_now(to, from, bytes, Direction::Peers)
    }

    /// See the header.
    fn cnMemcpyHtoD(to: u64, from: Ptr, bytes: u64) {
        copy_now(to, from.addr() as u64, bytes, Direction::ToDevice)
    }

    /// See the header.
    fn cnMemcpyDtoH(to: Ptr, from: u64, bytes: u64) {
        copy_now(to.addr() as u64, from, bytes, Direction::ToHost)
    }

    /// See the header.
    fn cnMemcpyDtoD(to: u64, from: u64, bytes: u64) { copy_now(to, from, bytes, Direction::OnDevice) }

    /// See the header.
    fn cnMemcpyDtoD2D(to: u64, to_pitch: u64, from: u64, from_pitch: u64, width: u64, height: u64) {
        rows(None, (to, to_pitch), (from, from_pitch), width, height, Direction::OnDevice)
    }

    /// See the header.
    fn cnMemcpyDtoD3D(param: In<Memcpy3dParam>) { boxes(None, param, Direction::OnDevice) }

    /// See the header.
    fn cnMemcpy2D(to: u64, to_pitch: u64, from: u64, from_pitch: u64, width: u64, height: u64) {
        rows(None, (to, to_pitch), (from, from_pitch), width, height, Direction::Any)
    }

    /// See the header.
    fn cnMemcpy2DAsync(to: u64, to_pitch: u64, from: u64, from_pitch: u64, width: u64, height: u64, queue: Ptr) {
        rows(Some(queue), (to, to_pitch), (from, from_pitch), width, height, Direction::Any)
    }

    /// See the header.
    fn cnMemcpy3D(param: In<Memcpy3dParam>) { boxes(None, param, Direction::Any) }

    /// See the header.
    fn cnMemcpy3DAsync(param: In<Memcpy3dParam>, queue: Ptr) { boxes(Some(queue), param, Direction::Any) }

    /// See the header.
    fn cnMemcpyAsync(to: u64, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to, from, bytes, queue, Direction::Any)
    }

    /// See the header.
    fn cnMemcpyAsync_V2(to: u64, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to, from, bytes, queue, Direction::Any)
    }

    /// See the header.
    fn cnMemcpyAsync_V3(to: u64, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to, from, bytes, queue, Direction::Any)
    }

    /// See the header.
    fn cnMemcpyPeerAsync(to: u64, to_context: Ptr, from: u64, from_context: Ptr, bytes: u64, queue: Ptr) {
        check_context(to, to_context)?;
        check_context(from, from_context)?;
        copy_later(to, from, bytes, queue, Direction::Peers)
    }

    /// See the header.
    fn cnMemcpyHtoDAsync(to: u64, from: Ptr, bytes: u64, queue: Ptr) {
        copy_later(to, from.addr() as u64, bytes, queue, Direction::ToDevice)
    }

    /// See the header.
    fn cnMemcpyHtoDAsync_V2(to: u64, from: Ptr, bytes: u64, queue: Ptr) {
        copy_later(to, from.addr() as u64, bytes, queue, Direction::ToDevice)
    }

    /// See the header.
    fn cnMemcpyDtoHAsync(to: Ptr, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to.addr() as u64, from, bytes, queue, Direction::ToHost)
    }

    /// See the header.
    fn cnMemcpyDtoHAsync_V2(to: Ptr, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to.addr() as u64, from, bytes, queue, Direction::ToHost)
    }

    /// See the header.
    fn cnMemcpyDtoDAsync(to: u64, from: u64, bytes: u64, queue: Ptr) {
        copy_later(to, from, bytes, queue, Direction::OnDevice)
    }

    /// See the header.
    fn cnMemsetD8(to: u64, value: u8, count: u64) { fill(None, to, value.into(), 1, count) }

    /// See the header.
    fn cnMemsetD16(to: u64, value: u16, count: u64) { fill(None, to, value.into(), 2, count) }

    /// See the header.
    fn cnMemsetD32(to: u64, value: u32, count: u64) { fill(None, to, value.into(), 4, count) }

    /// See the header.
    fn cnMemsetD8Async(to: u64, value: u8, count: u64, queue: Ptr) { fill(Some(queue), to, value.into(), 1, count) }

    /// See the header.
    fn cnMemsetD16Async(to: u64, value: u16, count: u64, queue: Ptr) { fill(Some(queue), to, value.into(), 2, count) }

    /// See the header.
    fn cnMemsetD32Async(to: u64, value: u32, count: u64, queue: Ptr) { fill(Some(queue), to, value.into(), 4, count) }

    /// See the header.
    fn cnGetMemAttribute(place: Ptr, number: i32, address: u64) { attribute(place, number, address) }

    /// See the header.
    fn cnGetMemAttributes(count: u32, numbers: In<i32>, places: In<Ptr>, address: u64) {
        for i in 0..count as usize {
            attribute(places.get_at(i)?, numbers.get_at(i)?, address)?;
        }
        Ok(())
    }

    /// See the header.
    fn cnSetMemAttribute(_value: u64, _number: i32, address: u64) {
        memory::find(address).ok_or(Failure::DEVICE_ADDRESS)?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnMmap(_address: u64, host: Out<Ptr>, _bytes: u64) {
        host.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnMmapCached(_address: u64, host: Out<Ptr>, _bytes: u64) {
        host.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnMunmap(_host: Ptr, _bytes: u64) { Err(Failure::NOT_SUPPORTED) }

    /// See the header.
    fn cnCacheOperation(_address: u64, _host: Ptr, _bytes: u64, _operation: i32) { Err(Failure::NOT_SUPPORTED) }

    /// See the header.
    fn cnMemGetHandleForAddressRange(place: Out<i32>, address: u64, bytes: usize, kind: i32, flags: u64) {
        place.check()?;
        let page = 4096;
        let aligned = address.is_multiple_of(page) && (bytes as u64).is_multiple_of(page) && bytes != 0;
        if kind != 1 || flags != 0 || !aligned {
            return Err(Failure::INVALID_VALUE);
        }
        let block = memory::find(address).filter(|b| !b.is_host());
        let block = block.ok_or(Failure::DEVICE_ADDRESS)?;
        if bytes as u64 > block.length.next_multiple_of(page) - (address - block.start) {
            return Err(Failure::DEVICE_ADDRESS);
        }
        let from = address - block.start;
        // Where CN_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED is 1. The descriptor is the caller's.
        place.set(block.export_dmabuf(from..from + bytes as u64)?.into_raw_fd())
    }
}
