//! What the commands of a queue need, kept until they have ended.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::{lock, QueueInner};

/// Something that lives at least as long as somebody holds it.
pub(crate) type Keep = Arc<dyn Any + Send + Sync>;

/// What is kept, each with the timeline value until which it is.
#[derive(Default)]
pub(super) struct Kept {
    items: Mutex<VecDeque<(u64, Keep)>>,
}

impl QueueInner {
    /// Keeps something until the command with this value has ended. What is not needed any more goes at the next call, or with the queue.
    pub(crate) fn keep_until(&self, value: u64, item: Keep) {
        let timeline = self.ring.timeline();
        let mut items = lock(&self.kept.items);
        match items.back_mut() {
            Some((until, last)) if Arc::ptr_eq(last, &item) => *until = value.max(*until),
            _ => items.push_back((value, item)),
        }
        if items.front().is_none_or(|(until, _)| *until > timeline) {
            return;
        }
        let mut ended = VecDeque::new();
        while let Some((until, _)) = items.front()
            && *until <= timeline
        {
            ended.extend(items.pop_front());
        }
        // Dropped without the lock: what ends may wait for the queue.
        drop(items);
    }
}
