//! Memory of devices and of the host, copies and fills.

use vmlu::queue::{Extent, Layout};
use vmlu_c_abi::copy::{self, Boxed, Direction};
use vmlu_c_abi::memory::{self, Kind};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{device, exports, ipc, In, Out, Ptr, Result};

use crate::device::live;
use crate::error::run;

/// `cnrtPos_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Pos {
    pub x: usize,
    pub y: usize,
    pub z: usize,
}

/// `cnrtPitchedPtr_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PitchedPtr {
    pub pitch: usize,
    pub ptr: Ptr,
    pub xsize: usize,
    pub ysize: usize,
}

/// `cnrtExtent_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ExtentParam {
    pub depth: usize,
    pub height: usize,
    pub width: usize,
}

/// `cnrtMemcpy3dParam_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Memcpy3dParam {
    pub dst: Ptr,
    pub dst_pos: Pos,
    pub dst_ptr: PitchedPtr,
    pub extent: ExtentParam,
    pub dir: i32,
    pub src: Ptr,
    pub src_pos: Pos,
    pub src_ptr: PitchedPtr,
}

/// `cnrtPointerAttributes_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PointerAttributes {
    pub kind: i32,
    pub device: i32,
    pub size: usize,
    pub device_pointer: Ptr,
    pub host_pointer: Ptr,
    pub cache_mode: i32,
    pub device_base: Ptr,
}

const _: () = assert!(
    size_of::<Memcpy3dParam>() == 160
        && std::mem::offset_of!(Memcpy3dParam, dst_pos) == 8
        && std::mem::offset_of!(Memcpy3dParam, dst_ptr) == 32
        && std::mem::offset_of!(Memcpy3dParam, extent) == 64
        && std::mem::offset_of!(Memcpy3dParam, dir) == 88
        && std::mem::offset_of!(Memcpy3dParam, src) == 96
        && std::mem::offset_of!(Memcpy3dParam, src_pos) == 104
        && std::mem::offset_of!(Memcpy3dParam, src_ptr) == 128
        && size_of::<PointerAttributes>() == 48
        && std::mem::offset_of!(PointerAttributes, device_base) == 40
);

const DEVICE: &[Kind] = &[Kind::Device, Kind::Constant, Kind::Pooled];

fn at(pointer: Ptr) -> u64 {
    pointer.addr() as u64
}

fn malloc(place: Out<Ptr>, bytes: usize, kind: Kind) -> Result<()> {
    place.check()?;
    let address = memory::alloc(&live()?, bytes as u64, kind)?;
    place.set(Ptr::at(address as usize))
}

fn memcpy_async(dst: Ptr, src: Ptr, bytes: usize, queue: Ptr, dir: i32) -> Result<()> {
    let direction = Direction::from_raw(dir)?;
    Queue::with(queue.addr(), |queue| {
        copy::copy_async(queue, at(dst), at(src), bytes as u64, direction)
    })
}

fn rows(address: Ptr, pitch: usize) -> Boxed {
    let layout = Layout::rows(0, pitch as u64);
    Boxed {
        address: at(address),
        layout,
    }
}

#[allow(clippy::too_many_arguments)]
fn memcpy_2d(
    queue: Option<&Queue>,
    (dst, dst_pitch): (Ptr, usize),
    (src, src_pitch): (Ptr, usize),
    width: usize,
    height: usize,
    dir: i32,
) -> Result<()> {
    let direction = Direction::from_raw(dir)?;
    if width > dst_pitch || width > src_pitch {
        return Err(vmlu_c_abi::Failure::INVALID_VALUE);
    }
    let extent = Extent {
        width: width as u64,
        height: height as u64,
        depth: 1,
    };
    copy::copy_box(
        queue,
        rows(dst, dst_pitch),
        rows(src, src_pitch),
        extent,
        direction,
    )
}

/// A side of a 3-D copy: its memory is the pitched one, or, without that, the plain one.
fn side(plain: Ptr, pos: Pos, pitched: PitchedPtr) -> Result<Boxed> {
    let overflow = vmlu_c_abi::Failure::INVALID_VALUE;
    let address = if pitched.ptr.is_null() {
        plain
    } else {
        pitched.ptr
    };
    let pitch = pitched.pitch as u64;
    let slice = pitch.checked_mul(pitched.ysize as u64).ok_or(overflow)?;
    let y = pitch.checked_mul(pos.y as u64);
    let z = slice.checked_mul(pos.z as u64);
    let offset = y
        .zip(z)
        .and_then(|(y, z)| y.checked_add(z)?.checked_add(pos.x as u64));
    let layout = Layout {
        offset: offset.ok_or(overflow)?,
        pitch,
        slice,
    };
    Ok(Boxed {
        address: at(address),
        layout,
    })
}

fn memcpy_3d(queue: Option<&Queue>, param: In<Memcpy3dParam>) -> Result<()> {
    let p = param.get()?;
    let direction = Direction::from_raw(p.dir)?;
    let extent = Extent {
        width: p.extent.width as u64,
        height: p.extent.height as u64,
        depth: p.extent.depth as u64,
    };
    let to = side(p.dst, p.dst_pos, p.dst_ptr)?;
    let from = side(p.src, p.src_pos, p.src_ptr)?;
    copy::copy_box(queue, to, from, extent, direction)
}

/// Fails unless an address is of the device that the program says.
fn check_device(pointer: Ptr, ordinal: i32) -> Result<()> {
    let device = device::get(ordinal)?;
    match memory::find(at(pointer)) {
        Some(block) if !block.is_host() && block.live.ordinal != device.ordinal => {
            Err(vmlu_c_abi::Failure::INVALID_DEVICE)
        }
        _ => Ok(()),
    }
}

exports! { run;
    /// See the header.
    fn cnrtMalloc(place: Out<Ptr>, bytes: usize) { malloc(place, bytes, Kind::Device) }

    /// See the header.
    fn cnrtMallocConstant(place: Out<Ptr>, bytes: usize) { malloc(place, bytes, Kind::Constant) }

    /// See the header.
    fn cnrtFree(pointer: Ptr) {
        let _in_use = live()?;
        if pointer.is_null() { Ok(()) } else { memory::free(at(pointer), DEVICE) }
    }

    /// See the header.
    fn cnrtHostMalloc(place: Out<Ptr>, bytes: usize) {
        place.check()?;
        let address = memory::alloc_host(&live()?, bytes as u64)?;
        place.set(Ptr::at(address as usize))
    }

    /// See the header.
    fn cnrtFreeHost(pointer: Ptr) {
        if pointer.is_null() { Ok(()) } else { memory::free(at(pointer), &[Kind::Host]) }
    }

    /// See the header.
    fn cnrtMemcpy(dst: Ptr, src: Ptr, bytes: usize, dir: i32) {
        copy::copy(at(dst), at(src), bytes as u64, Direction::from_raw(dir)?)
    }

    /// See the header.
    fn cnrtMemcpyAsync(dst: Ptr, src: Ptr, bytes: usize, queue: Ptr, dir: i32) {
        memcpy_async(dst, src, bytes, queue, dir)
    }

    /// See the header.
    fn cnrtMemcpyAsync_V2(dst: Ptr, src: Ptr, bytes: usize, queue: Ptr, dir: i32) {
        memcpy_async(dst, src, bytes, queue, dir)
    }

    /// See the header.
    fn cnrtMemcpyAsync_V3(dst: Ptr, src: Ptr, bytes: usize, queue: Ptr, dir: i32) {
        memcpy_async(dst, src, bytes, queue, dir)
    }

    /// See the header.
    fn cnrtMemcpy2D(dst: Ptr, dpitch: usize, src: Ptr, spitch: usize, width: usize, height: usize, dir: i32) {
        memcpy_2d(None, (dst, dpitch), (src, spitch), width, height, dir)
    }

    /// See the header.
    fn cnrtMemcpy2DAsync(dst: Ptr, dpitch: usize, src: Ptr, spitch: usize, width: usize, height: usize, dir: i32, queue: Ptr) {
        Queue::with(queue.addr(), |queue| {
            memcpy_2d(Some(queue), (dst, dpitch), (src, spitch), width, height, dir)
        })
    }

    /// See the header.
    fn cnrtMemcpy3D(param: In<Memcpy3dParam>) { memcpy_3d(None, param) }

    /// See the header.
    fn cnrtMemcpy3DAsync(param: In<Memcpy3dParam>, queue: Ptr) {
        Queue::with(queue.addr(), |queue| memcpy_3d(Some(queue), param))
    }

    /// See the header.
    fn cnrtMemcpyPeer(dst: Ptr, dst_device: i32, src: Ptr, src_device: i32, bytes: usize) {
        check_device(dst, dst_device)?;
        check_device(src, src_device)?;
        copy::copy(at(dst), at(src), bytes as u64, Direction::Peers)
    }

    /// See the header.
    fn cnrtMemcpyPeerAsync(dst: Ptr, dst_device: i32, src: Ptr, src_device: i32, bytes: usize, queue: Ptr) {
        check_device(dst, dst_device)?;
        check_device(src, src_device)?;
        Queue::with(queue.addr(), |queue| {
            copy::copy_async(queue, at(dst), at(src), bytes as u64, Direction::Peers)
        })
    }

    /// See the header.
    fn cnrtMemset(pointer: Ptr, value: i32, bytes: usize) {
        copy::fill(None, at(pointer), u64::from(value as u8), 1, bytes as u64)
    }

    /// See the header.
    fn cnrtMemsetAsync(pointer: Ptr, value: i32, bytes: usize, queue: Ptr) {
        Queue::with(queue.addr(), |queue| {
            copy::fill(Some(queue), at(pointer), u64::from(value as u8), 1, bytes as u64)
        })
    }

    /// See the header.
    fn cnrtMemGetInfo(free: Out<usize>, total: Out<usize>) {
        free.check()?;
        total.check()?;
        let (free_bytes, total_bytes) = memory::info(&live()?)?;
        free.set(free_bytes as usize)?;
        total.set(total_bytes as usize)
    }

    /// An old name of [`cnrtMemGetInfo`].
    fn cnrtGetMemInfo(free: Out<usize>, total: Out<usize>) {
        free.check()?;
        total.check()?;
        let (free_bytes, total_bytes) = memory::info(&live()?)?;
        free.set(free_bytes as usize)?;
        total.set(total_bytes as usize)
    }

    /// See the header.
    fn cnrtPointerGetAttributes(place: Out<PointerAttributes>, pointer: Ptr) {
        place.check()?;
        if pointer.is_null() {
            return Err(vmlu_c_abi::Failure::INVALID_VALUE);
        }
        let unregistered = PointerAttributes {
            kind: 0,
            device: -1,
            size: 0,
            device_pointer: Ptr::NULL,
            host_pointer: pointer,
            cache_mode: 0,
            device_base: Ptr::NULL,
        };
        place.set(match memory::find(at(pointer)) {
            None => unregistered,
            Some(block) => PointerAttributes {
                kind: if block.is_host() { 1 } else { 2 },
                device: block.live.ordinal as i32,
                size: block.length as usize,
                device_pointer: pointer,
                host_pointer: if block.is_host() { pointer } else { Ptr::NULL },
                // The cache of device memory is the card's own.
                cache_mode: if block.is_host() { 2 } else { -1 },
                device_base: Ptr::at(block.start as usize),
            },
        })
    }

    /// See the header.
    fn cnrtMmap(_pointer: Ptr, host: Out<Ptr>, _size: usize) {
        host.check()?;
        Err(vmlu_c_abi::Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnrtMmapCached(_pointer: Ptr, host: Out<Ptr>, _size: usize) {
        host.check()?;
        Err(vmlu_c_abi::Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnrtMunmap(_host: Ptr, _size: usize) { Err(vmlu_c_abi::Failure::NOT_SUPPORTED) }

    /// See the header.
    fn cnrtMcacheOperation(_pointer: Ptr, host: Ptr, _size: usize, operation: i32) {
        match operation {
            1 | 2 if !host.is_null() => Err(vmlu_c_abi::Failure::NOT_SUPPORTED),
            _ => Err(vmlu_c_abi::Failure::INVALID_VALUE),
        }
    }

    /// See the header.
    fn cnrtAcquireMemHandle(place: Out<Ptr>, pointer: Ptr) {
        place.check()?;
        let block = memory::find(at(pointer)).filter(|b| b.start == at(pointer));
        let block = block.ok_or(vmlu_c_abi::Failure::INVALID_VALUE)?;
        place.set(Ptr::at(ipc::export_memory(&block)? as usize))
    }

    /// See the header.
    fn cnrtMapMemHandle(place: Out<Ptr>, handle: Ptr, flags: i32) {
        place.check()?;
        if flags != 0 {
            return Err(vmlu_c_abi::Failure::INVALID_VALUE);
        }
        let live = live()?;
        let token = ipc::open_memory(at(handle)).map_err(|_| vmlu_c_abi::Failure::INVALID_VALUE)?;
        let buffer = live.runtime.import_memory(&token, true)?;
        place.set(Ptr::at(memory::enter(&live, buffer, Kind::Imported) as usize))
    }

    /// See the header.
    fn cnrtUnMapMemHandle(pointer: Ptr) { memory::free(at(pointer), &[Kind::Imported]) }
}
