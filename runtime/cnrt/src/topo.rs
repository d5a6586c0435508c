//! Captures of queues, and task topologies.

use std::ffi::c_char;
use std::sync::Arc;

use vmlu::graph::CaptureStatus;
use vmlu_c_abi::ffi::set_text;
use vmlu_c_abi::host;
use vmlu_c_abi::notifier::Notifier;
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::topo::{Entity, Node, NodeRef, Topo};
use vmlu_c_abi::{exports, Failure, In, Out, Ptr, Result, Text};

use crate::device::live;
use crate::error::run;
use crate::memory::Memcpy3dParam;

/// `cnrtHostNodeParams_t`.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HostNodeParams {
    pub function: host::Function,
    pub data: Ptr,
}

/// `cnrtMemsetParams_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct MemsetParams {
    pub dst: Ptr,
    pub pitch: usize,
    pub value: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
}

/// Capture modes: any thread may end it in the last one.
const GLOBAL: i32 = 0;
const THREAD_LOCAL: i32 = 1;
const RELAXED: i32 = 2;

thread_local! {
    static MODE: std::cell::Cell<i32> = const { std::cell::Cell::new(GLOBAL) };
}

fn check_mode(mode: i32) -> Result<()> {
    match mode {
        GLOBAL | RELAXED => Ok(()),
        THREAD_LOCAL => Err(Failure::NOT_SUPPORTED),
        _ => Err(Failure::INVALID_VALUE),
    }
}

fn capture_status(queue: &Queue) -> i32 {
    match queue.runtime().capture_status() {
        CaptureStatus::None => 0,
        CaptureStatus::Active => 1,
        CaptureStatus::Invalidated => 2,
    }
}

/// Writes a list as these functions do: its length if there is no place, else what fits, and null behind it.
fn set_list(list: &[usize], place: Out<Ptr>, count: Out<usize>) -> Result<()> {
    let room = count.get()?;
    if place.is_null() {
        return count.set(list.len());
    }
    for i in 0..room {
        place.set_at(i, list.get(i).map_or(Ptr::NULL, |handle| Ptr::at(*handle)));
    }
    count.set(list.len().min(room))
}

fn list(place: In<Ptr>, count: usize) -> Result<Vec<usize>> {
    (0..count).map(|i| Ok(place.get_at(i)?.addr())).collect()
}

fn add(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, node: Node) -> Result<()> {
    place.check()?;
    let topo = Topo::find(topo.addr())?;
    place.set(Ptr::at(topo.add(node, &list(behind, count)?)?))
}

/// A copy of one row.
fn copy_node(param: In<Memcpy3dParam>) -> Result<Node> {
    let p = param.get()?;
    let side =
        |plain: Ptr, pitched: Ptr| if pitched.is_null() { plain } else { pitched }.addr() as u64;
    if p.extent.height != 1 || p.extent.depth != 1 || p.extent.width == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    Ok(Node::Copy {
        to: side(p.dst, p.dst_ptr.ptr),
        from: side(p.src, p.src_ptr.ptr),
        length: p.extent.width as u64,
    })
}

fn fill_node(params: In<MemsetParams>) -> Result<Node> {
    let p = params.get()?;
    let mask = match p.element {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => return Err(Failure::INVALID_VALUE),
    };
    if p.height != 1 || p.width == 0 || p.dst.is_null() {
        return Err(Failure::INVALID_VALUE);
    }
    Ok(Node::Fill {
        to: p.dst.addr() as u64,
        pattern: u64::from(p.value & mask),
        width: p.element,
        count: p.width as u64,
    })
}

fn connect(topo: Ptr, from: In<Ptr>, to: In<Ptr>, count: usize, adds: bool) -> Result<()> {
    let topo: Arc<Topo> = Topo::find(topo.addr())?;
    let edges: Vec<_> = list(from, count)?
        .into_iter()
        .zip(list(to, count)?)
        .collect();
    topo.connect(&edges, adds)
}

exports! { run;
    /// See the header.
    fn cnrtQueueBeginCapture(queue: Ptr, mode: i32) {
        check_mode(mode)?;
        if queue.is_null() {
            return Err(Failure::INVALID_VALUE);
        }
        let queue = Queue::find(queue.addr())?;
        queue.runtime().begin_capture()?;
        let owner = (mode != RELAXED).then(|| std::thread::current().id());
        *queue.capturer.lock().unwrap_or_else(|e| e.into_inner()) = owner;
        Ok(())
    }

    /// See the header.
    fn cnrtQueueEndCapture(queue: Ptr, place: Out<Ptr>) {
        place.check()?;
        let queue = Queue::find(queue.addr())?;
        let owner = *queue.capturer.lock().unwrap_or_else(|e| e.into_inner());
        let foreign = owner.is_some_and(|owner| owner != std::thread::current().id());
        if foreign && capture_status(&queue) != 0 {
            return Err(Failure::CAPTURE_THREAD);
        }
        place.set(Ptr::NULL)?;
        let graph = queue.runtime().end_capture()?;
        place.set(Ptr::at(Topo::captured(graph).insert()?))
    }

    /// See the header.
    fn cnrtQueueIsCapturing(queue: Ptr, status: Out<i32>) {
        status.check()?;
        let queue = Queue::find(queue.addr())?;
        status.set(capture_status(&queue))
    }

    /// See the header.
    fn cnrtQueueGetCaptureInfo(queue: Ptr, status: Out<i32>, id: Out<u64>, topo: Out<Ptr>, nodes: Out<Ptr>, count: Out<usize>) {
        status.check()?;
        let queue = Queue::find(queue.addr())?;
        status.set(capture_status(&queue))?;
        id.set_if(queue.runtime().capture_id().unwrap_or(0));
        topo.set_if(Ptr::NULL);
        nodes.set_if(Ptr::NULL);
        count.set_if(0);
        Ok(())
    }

    /// See the header.
    fn cnrtQueueUpdateCaptureDependencies(queue: Ptr, _nodes: In<Ptr>, _count: usize, flags: u32) {
        let queue = Queue::find(queue.addr())?;
        match (flags, capture_status(&queue)) {
            (0 | 1, 0) => Err(Failure::ILLEGAL_STATE),
            (0 | 1, _) => Err(Failure::NOT_SUPPORTED),
            _ => Err(Failure::INVALID_VALUE),
        }
    }

    /// See the header.
    fn cnrtThreadExchangeQueueCaptureMode(mode: Out<i32>) {
        let new = mode.get()?;
        check_mode(new)?;
        mode.set(MODE.replace(new))
    }

    /// See the header.
    fn cnrtTaskTopoCreate(place: Out<Ptr>, flags: u32) {
        place.check()?;
        match flags {
            0 => place.set(Ptr::at(Topo::default().insert()?)),
            _ => Err(Failure::INVALID_VALUE),
        }
    }

    /// See the header.
    fn cnrtTaskTopoDestroy(topo: Ptr) { Topo::destroy(topo.addr()) }

    /// See the header.
    fn cnrtTaskTopoClone(place: Out<Ptr>, topo: Ptr) {
        place.check()?;
        let copy = Topo::find(topo.addr())?.copied();
        place.set(Ptr::at(copy.insert()?))
    }

    /// See the header.
    fn cnrtTaskTopoGetNodes(topo: Ptr, place: Out<Ptr>, count: Out<usize>) {
        set_list(&Topo::find(topo.addr())?.nodes()?, place, count)
    }

    /// See the header.
    fn cnrtTaskTopoGetRootNodes(topo: Ptr, place: Out<Ptr>, count: Out<usize>) {
        set_list(&Topo::find(topo.addr())?.roots()?, place, count)
    }

    /// See the header.
    fn cnrtTaskTopoGetEdges(topo: Ptr, from: Out<Ptr>, to: Out<Ptr>, count: Out<usize>) {
        let edges = Topo::find(topo.addr())?.edges()?;
        if from.is_null() != to.is_null() {
            return Err(Failure::INVALID_VALUE);
        }
        let (starts, ends): (Vec<_>, Vec<_>) = edges.into_iter().unzip();
        let room = count.get()?;
        set_list(&starts, from, count)?;
        if !to.is_null() {
            count.set(room)?;
        }
        set_list(&ends, to, count)
    }

    /// See the header.
    fn cnrtTaskTopoNodeGetDependencies(node: Ptr, place: Out<Ptr>, count: Out<usize>) {
        let (topo, index) = NodeRef::find(node.addr())?;
        set_list(&topo.neighbours(index, true)?, place, count)
    }

    /// See the header.
    fn cnrtTaskTopoNodeGetDependentNodes(node: Ptr, place: Out<Ptr>, count: Out<usize>) {
        let (topo, index) = NodeRef::find(node.addr())?;
        set_list(&topo.neighbours(index, false)?, place, count)
    }

    /// See the header.
    fn cnrtTaskTopoNodeGetType(node: Ptr, kind: Out<i32>) {
        kind.check()?;
        let (topo, index) = NodeRef::find(node.addr())?;
        kind.set(topo.node(index)?.kind())
    }

    /// See the header.
    fn cnrtTaskTopoAddDependencies(topo: Ptr, from: In<Ptr>, to: In<Ptr>, count: usize) {
        connect(topo, from, to, count, true)
    }

    /// See the header.
    fn cnrtTaskTopoRemoveDependencies(topo: Ptr, from: In<Ptr>, to: In<Ptr>, count: usize) {
        connect(topo, from, to, count, false)
    }

    /// See the header.
    fn cnrtTaskTopoAddEmptyNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize) {
        add(place, topo, behind, count, Node::Empty)
    }

    /// See the header.
    fn cnrtTaskTopoAddHostNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, params: In<HostNodeParams>) {
        let params = params.get()?;
        let function = params.function.ok_or(Failure::INVALID_VALUE)?;
        let data = params.data.0.expose_provenance();
        add(place, topo, behind, count, Node::Host(Some(function), data))
    }

    /// See the header.
    fn cnrtTaskTopoAddKernelNode(place: Out<Ptr>, topo: Ptr, _behind: In<Ptr>, _count: usize, params: Ptr) {
        place.check()?;
        Topo::find(topo.addr())?;
        match params.is_null() {
            true => Err(Failure::INVALID_VALUE),
            false => Err(Failure::NO_KERNEL),
        }
    }

    /// See the header.
    fn cnrtTaskTopoAddMemcpyNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, params: In<Memcpy3dParam>) {
        add(place, topo, behind, count, copy_node(params)?)
    }

    /// See the header.
    fn cnrtTaskTopoAddMemsetNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, params: In<MemsetParams>) {
        add(place, topo, behind, count, fill_node(params)?)
    }

    /// See the header.
    fn cnrtTaskTopoAddChildTopoNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, child: Ptr) {
        let child = Topo::find(child.addr())?.copied();
        add(place, topo, behind, count, Node::Topo(Arc::new(child)))
    }

    /// See the header.
    fn cnrtTaskTopoAddNotifierPlaceNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, notifier: Ptr) {
        add(place, topo, behind, count, Node::Place(Notifier::find(notifier.addr())?))
    }

    /// See the header.
    fn cnrtTaskTopoAddNotifierWaitNode(place: Out<Ptr>, topo: Ptr, behind: In<Ptr>, count: usize, notifier: Ptr) {
        add(place, topo, behind, count, Node::Wait(Notifier::find(notifier.addr())?))
    }

    /// See the header.
    fn cnrtTaskTopoInstantiate(place: Out<Ptr>, topo: Ptr, error_node: Out<Ptr>, log: Out<c_char>, room: usize) {
        place.check()?;
        error_node.set_if(Ptr::NULL);
        if !log.is_null() && room > 0 {
            set_text(log, room, "")?;
        }
        let topo = Topo::find(topo.addr())?;
        match Entity::create(&topo, &live()?) {
            Ok(handle) => place.set(Ptr::at(handle)),
            Err(failure) => {
                let text = "the nodes wait for each other in a circle, or the device has no room";
                if !log.is_null() && room > text.len() {
                    set_text(log, room, text)?;
                }
                Err(failure)
            }
        }
    }

    /// See the header.
    fn cnrtTaskTopoEntityInvoke(entity: Ptr, queue: Ptr) {
        let entity = Entity::find(entity.addr())?;
        let queue = Queue::find(queue.addr())?;
        entity.invoke(&queue)
    }

    /// See the header.
    fn cnrtTaskTopoUpload(entity: Ptr, queue: Ptr) {
        Entity::find(entity.addr())?;
        Queue::find(queue.addr()).map(drop)
    }

    /// See the header.
    fn cnrtTaskTopoEntityDestroy(entity: Ptr) { Entity::destroy(entity.addr()) }

    /// See the header.
    fn cnrtTaskTopoEntityUpdate(entity: Ptr, topo: Ptr, error_node: Out<Ptr>, result: Out<i32>) {
        let (entity, topo) = (Entity::find(entity.addr())?, Topo::find(topo.addr())?);
        error_node.set_if(Ptr::NULL);
        match entity.update(&topo) {
            Ok(()) => {
                result.set_if(0);
                Ok(())
            }
            Err((failure, difference)) => {
                result.set_if(difference);
                Err(failure)
            }
        }
    }

    /// See the header.
    fn cnrtTaskTopoDebugDotPrint(topo: Ptr, path: Text, _flags: u32) {
        let topo = Topo::find(topo.addr())?;
        std::fs::write(path.get()?, topo.dot()).map_err(|_| Failure::OPERATING_SYSTEM)
    }
}
