//! Device symbols, of which there are none without device code; attributes of queues; and names of older versions that lead nowhere any more.

use std::sync::{Arc, Mutex};

use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::table::Table;
use vmlu_c_abi::{exports, Failure, In, Out, Ptr, Result};

use crate::error::run;
use crate::launch::{launch, Dim3};

/// Buffers of kernel parameters, as older versions pass them.
static BUFFERS: Table<Mutex<Vec<u8>>> = Table::new(0x1a);
/// What older versions make for a kernel before its first launch.
static INITIALS: Table<()> = Table::new(0x1b);

/// `cnrtQueueAttrValue_t`: only the hints for the cache are there.
fn check_attribute(id: i32) -> Result<()> {
    match id {
        1 => Ok(()),
        0 => Err(Failure::NOT_SUPPORTED),
        _ => Err(Failure::INVALID_VALUE),
    }
}

fn attribute(queue: &Queue) -> std::sync::MutexGuard<'_, [u8; 64]> {
    queue.attribute.lock().unwrap_or_else(|e| e.into_inner())
}

fn buffer(handle: Ptr) -> Result<Arc<Mutex<Vec<u8>>>> {
    BUFFERS.find(handle.addr()).ok_or(Failure::INVALID_VALUE)
}

/// No address is a device symbol.
fn symbol(symbol: Ptr) -> Result<()> {
    match symbol.is_null() {
        true => Err(Failure::INVALID_VALUE),
        false => Err(Failure::INVALID_SYMBOL),
    }
}

exports! { run;
    /// See the header.
    fn cnrtGetSymbolAddress(place: Out<Ptr>, name: Ptr) {
        place.check()?;
        symbol(name)
    }

    /// See the header.
    fn cnrtGetSymbolSize(place: Out<usize>, name: Ptr) {
        place.check()?;
        symbol(name)
    }

    /// See the header.
    fn cnrtMemcpyFromSymbol(_dst: Ptr, name: Ptr, _bytes: usize, _offset: usize, _dir: i32) { symbol(name) }

    /// See the header.
    fn cnrtMemcpyToSymbol(name: Ptr, _src: Ptr, _bytes: usize, _offset: usize, _dir: i32) { symbol(name) }

    /// See the header.
    fn cnrtMemcpyFromSymbolAsync(_dst: Ptr, name: Ptr, _bytes: usize, _offset: usize, _dir: i32, _queue: Ptr) { symbol(name) }

    /// See the header.
    fn cnrtMemcpyFromSymbolAsync_V2(_dst: Ptr, name: Ptr, _bytes: usize, _offset: usize, _dir: i32, _queue: Ptr) { symbol(name) }

    /// See the header.
    fn cnrtMemcpyToSymbolAsync(name: Ptr, _src: Ptr, _bytes: usize, _offset: usize, _dir: i32, _queue: Ptr) { symbol(name) }

    /// See the header.
    fn cnrtMemcpyToSymbolAsync_V2(name: Ptr, _src: Ptr, _bytes: usize, _offset: usize, _dir: i32, _queue: Ptr) { symbol(name) }

    /// See the header.
    fn cnrtQueueSetAttribute(queue: Ptr, id: i32, value: In<[u8; 64]>) {
        check_attribute(id)?;
        let queue = Queue::find(queue.addr())?;
        *attribute(&queue) = value.get()?;
        Ok(())
    }

    /// See the header.
    fn cnrtQueueGetAttribute(queue: Ptr, id: i32, value: Out<[u8; 64]>) {
        check_attribute(id)?;
        value.check()?;
        let queue = Queue::find(queue.addr())?;
        let kept = *attribute(&queue);
        value.set(kept)
    }

    /// See the header.
    fn cnrtQueueCopyAttributes(dst: Ptr, src: Ptr) {
        let (dst, src) = (Queue::find(dst.addr())?, Queue::find(src.addr())?);
        let kept = *attribute(&src);
        *attribute(&dst) = kept;
        Ok(())
    }

    /// See the header.
    fn cnrtGetKernelParamsBuffer(place: Out<Ptr>) {
        place.check()?;
        let handle = BUFFERS.insert(Arc::default()).ok_or(Failure::HOST_MEMORY)?;
        place.set(Ptr::at(handle))
    }

    /// See the header.
    fn cnrtKernelParamsBufferAddParam(handle: Ptr, data: In<u8>, bytes: usize) {
        let buffer = buffer(handle)?;
        let mut buffer = buffer.lock().unwrap_or_else(|e| e.into_inner());
        if buffer.len().saturating_add(bytes) > 64 << 10 {
            return Err(Failure::INVALID_VALUE);
        }
        let bytes: Vec<u8> = (0..bytes).map(|i| data.get_at(i)).collect::<Result<_>>()?;
        buffer.extend(bytes);
        Ok(())
    }

    /// See the header.
    fn cnrtDestroyKernelParamsBuffer(handle: Ptr) {
        BUFFERS.remove(handle.addr()).map(drop).ok_or(Failure::INVALID_VALUE)
    }

    /// See the header.
    fn cnrtCreateKernelInitParam(place: Out<Ptr>) {
        place.check()?;
        place.set(Ptr::at(INITIALS.insert(Arc::new(())).ok_or(Failure::HOST_MEMORY)?))
    }

    /// See the header.
    fn cnrtDestroyKernelInitParam(handle: Ptr) {
        INITIALS.remove(handle.addr()).map(drop).ok_or(Failure::INVALID_VALUE)
    }

    /// See the header.
    fn cnrtInvokeKernel_V2(kernel: Ptr, dim: Dim3, params: Ptr, kind: i32, queue: Ptr) {
        buffer(params)?;
        launch(kernel, dim, kind, queue)
    }

    /// See the header.
    fn cnrtInvokeKernel_V3(kernel: Ptr, initial: Ptr, dim: Dim3, params: Ptr, kind: i32, queue: Ptr, _extra: Ptr) {
        INITIALS.find(initial.addr()).ok_or(Failure::INVALID_VALUE)?;
        buffer(params)?;
        launch(kernel, dim, kind, queue)
    }

    /// See the header.
    fn cnrtCopyFunction(place: Out<Ptr>, _function: Ptr) {
        place.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnrtQueryModelParallelism(_model: Ptr, place: Out<i32>) {
        place.check()?;
        Err(Failure::NOT_SUPPORTED)
    }

    /// See the header.
    fn cnrtQueryModelStackSize(_model: Ptr, place: Out<u64>) {
        place.check()?;
        Err(Failure::NOT_SUPPORTED)
    }
}
