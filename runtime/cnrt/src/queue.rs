//! Queues.

use vmlu_c_abi::host;
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, Out, Ptr, Result};

use crate::device::live;
use crate::error::run;

fn create(place: Out<Ptr>, priority: i32) -> Result<()> {
    place.check()?;
    place.set(Ptr::at(Queue::create(&live()?, priority)?))
}

exports! { run;
    /// See the header.
    fn cnrtQueueCreate(place: Out<Ptr>) { create(place, Queue::DEFAULT_PRIORITY) }

    /// An old name of [`cnrtQueueCreate`].
    fn cnrtCreateStream(place: Out<Ptr>) { create(place, Queue::DEFAULT_PRIORITY) }

    /// See the header.
    fn cnrtQueueCreateWithPriority(place: Out<Ptr>, _flags: u32, priority: i32) {
        create(place, priority)
    }

    /// See the header.
    fn cnrtQueueDestroy(queue: Ptr) { Queue::destroy(queue.addr()) }

    /// See the header.
    fn cnrtQueueSync(queue: Ptr) { Queue::find(queue.addr())?.sync() }

    /// See the header.
    fn cnrtQueueQuery(queue: Ptr) { Queue::find(queue.addr())?.query() }

    /// See the header.
    fn cnrtQueueGetPriority(queue: Ptr, priority: Out<i32>) {
        priority.check()?;
        priority.set(Queue::find(queue.addr())?.priority)
    }

    /// See the header.
    fn cnrtInvokeHostFunc(queue: Ptr, function: host::Function, data: Ptr) {
        let queue = Queue::find(queue.addr())?;
        host::invoke(&queue, function, data.0)
    }
}
