//! One chip's firmware, from boot to shutdown.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use vmlu_abi::boot::ImageHeader;
use vmlu_abi::event::{Event, EventKind};
use vmlu_abi::Status;

use crate::context::Context;
use crate::core::Core;
use crate::hardware::Hardware;
use crate::scheduler::Scheduler;
use crate::{image, rpc};

/// A running firmware.
pub struct Firmware {
    core: Arc<Core>,
    image: ImageHeader,
}

impl Firmware {
    /// Checks the image and starts.
    pub fn boot(hardware: Hardware, image: &[u8]) -> Result<Arc<Self>, Status> {
        let image = image::check(image, hardware.model, &hardware.served)?;
        let core = Arc::new(Core::new(hardware));
        core.hardware
            .place
            .fabric
            .attach(core.hardware.place.number, &core);
        Scheduler::get().register(&core);
        Ok(Arc::new(Self { core, image }))
    }

    /// Serves one RPC message; always answers. It may wait for commands to stop (a few milliseconds, at most
    /// [`REVOKE_LIMIT`](crate::memory::space::REVOKE_LIMIT)) or for the host to give memory.
    pub fn rpc(&self, request: &[u8]) -> Vec<u8> {
        self.core.live.counters.rpcs.fetch_add(1, Ordering::Relaxed);
        rpc::serve(&self.core, &self.image, request)
    }

    /// A kick of a context. Never blocks for long.
    pub fn kick(&self, context_index: u32) {
        self.core
            .live
            .counters
            .kicks
            .fetch_add(1, Ordering::Relaxed);
        if self.core.is_gone() {
            return;
        }
        let context = self
            .core
            .contexts
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .at(context_index);
        if let Some(context) = context {
            context.kick();
        }
    }

    /// How many queues have their doorbells polled; the others cost nothing until they are kicked.
    pub fn polled_queues(&self) -> usize {
        Scheduler::get().polled(&self.core)
    }

    /// Posts an event on a vector's ring.
    pub fn post_event(&self, vector: u32, event: Event) {
        if let Some(kind) = EventKind::from_raw(event.kind) {
            self.core
                .events
                .post(vector, kind, event.object, event.value);
        }
    }

    /// The host takes a DMA range back: once this returns nothing touches it. [`crate::hardware::HostPort::translate`] must not give it any
    /// more when this is called.
    pub fn revoke_host(&self, address: u64, length: u64) {
        self.core.settle_host(false);
        self.core.events.revoke(address, length);
        self.core.live.revoke(address, length);
        let deadline = Context::deadline();
        let contexts = self
            .core
            .contexts
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .all();
        for context in contexts {
            context.revoke_host(&self.core, address, length, deadline);
        }
    }

    /// Ends everything; once this returns no host memory is touched and no interrupt is raised.
    pub fn shutdown(&self) {
        self.core.settle_host(true);
        self.core.close_all();
        self.core.silence(Context::deadline());
    }

    /// Whether the chip is as good as pulled out: its registers read all ones and it does nothing until it is reset.
    pub fn is_gone(&self) -> bool {
        self.core.is_gone()
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        self.shutdown();
    }
}
