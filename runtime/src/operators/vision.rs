//! Operators of images. Their bodies are filled in by the caller: see the modules of [`vmlu_ops`] for what the fields mean.

use vmlu_ops::{pool, pool_backward};

use crate::error::Result;
use crate::queue::Queue;

impl Queue {
    /// The largest or the mean of each window; see [`pool::Pool`], whose body this takes.
    pub fn pool(&self, body: &pool::Pool) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::pool`].
    pub fn pool_backward(&self, body: &pool_backward::PoolBackward) -> Result<u64> {
        self.submit(body)
    }
}
