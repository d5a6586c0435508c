//! One chip's firmware, from boot to shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmlu_abi::Status;
use vmlu_abi::event::{Event, EventKind};

use crate::core::Core;
use crate::hardware::Hardware;
use crate::scheduler::Scheduler;
use crate::{image, rpc};

/// A running firmware.
pub struct Firmware {
    core: Arc<Core>,
    version: [u8; 32],
}

impl Firmware {
    /// Checks the image and starts.
    pub fn boot(hardware: Hardware, image: &[u8]) -> Result<Arc<Self>, Status> {
        let header = image::check(image, hardware.model)?;
        let core = Arc::new(Core::new(hardware));
        Scheduler::get().register(&core);
        Ok(Arc::new(Self { core, version: header.version }))
    }

    /// Serves one RPC message; always answers. It may wait for commands to stop (up to 50 ms) or for the host to give memory.
    pub fn rpc(&self, request: &[u8]) -> Vec<u8> {
        self.core.live.counters.rpcs.fetch_add(1, Ordering::Relaxed);
        rpc::serve(&self.core, &self.version, request)
    }

    /// A kick of a context. Never blocks for long.
    pub fn kick(&self, context_index: u32) {
        self.core.live.counters.kicks.fetch_add(1, Ordering::Relaxed);
        if self.core.is_gone() {
            return;
        }
        let context = self.core.contexts.read().unwrap_or_else(|e| e.into_inner()).at(context_index);
        if let Some(context) = context {
            for queue in context.queues() {
                if queue.has_work() {
                    queue.kick();
                }
            }
        }
    }

    /// Posts an event on a vector's ring.
    pub fn post_event(&self, vector: u32, event: Event) {
        if let Some(kind) = EventKind::from_raw(event.kind) {
            self.core.events.post(vector, kind, event.object, event.value);
        }
    }

    /// The host takes a DMA range back: once this returns nothing touches it.
    pub fn revoke_host(&self, address: u64, length: u64) {
        self.core.events.revoke(address, length);
        self.core.live.revoke(address, length);
        let contexts = self.core.contexts.read().unwrap_or_else(|e| e.into_inner()).all();
        for context in contexts {
            for queue in context.queues().into_iter().filter(|q| q.touches(address, length)) {
                tracing::warn!(chip = self.core.hardware.chip, queue = queue.index, "the host took the queue's memory away");
                queue.destroy();
                // Nothing may hold on to its memory, so its handle names nothing from here on.
                context.queues.lock().unwrap_or_else(|e| e.into_inner()).retain(|q| q.handle != queue.handle);
                self.core.queues.write().unwrap_or_else(|e| e.into_inner()).remove(queue.handle);
            }
            let segments = context.space_mut().remove_host(address, length);
            let _ = context.retire(&self.core, segments);
        }
    }

    /// Ends everything; once this returns no host memory is touched and no interrupt is raised.
    pub fn shutdown(&self) {
        let contexts = self.core.contexts.read().unwrap_or_else(|e| e.into_inner()).all();
        for context in &contexts {
            context.queues().iter().for_each(|q| q.cancel());
        }
        for context in contexts {
            context.close(&self.core);
            self.core.contexts.write().unwrap_or_else(|e| e.into_inner()).remove(context.handle);
        }
        self.core.events.clear();
        let _ = self.core.live.set_page(0, None);
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
