//! Runtime of the virtual MLU: devices, contexts, memory, queues, notifiers, operators and telemetry, the same over every transport.
//!
//! ```no_run
//! use vmlu::{Context, DataType, Tensor, operators::MatmulOptions};
//!
//! # fn main() -> vmlu::Result<()> {
//! let context = Context::open(0)?;
//! let queue = context.queue()?;
//! let a = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
//! let b = Tensor::zeros(&queue, DataType::F32, &[2, 2])?;
//! queue.matmul(&a, &a.transpose(0, 1)?, &b, &MatmulOptions::default())?;
//! assert_eq!(b.to_vec::<f32>(&queue)?, [5.0, 11.0, 11.0, 25.0]);
//! # Ok(())
//! # }
//! ```

mod address;
pub mod collective;
pub mod context;
mod dmabuf;
pub mod error;
pub mod graph;
pub mod hold;
pub mod memory;
pub mod notifier;
pub mod operators;
pub mod peer;
pub mod queue;
mod staging;
pub mod telemetry;
pub mod tensor;
pub mod timeline;
pub mod transport;

pub use context::{devices, Context};
pub use error::{Error, Result};
pub use graph::{Graph, GraphBuilder, GraphExec, Param};
pub use memory::{Buffer, PinnedBuffer};
pub use notifier::Notifier;
pub use peer::MemoryHandle;
pub use queue::{Batch, Queue};
pub use tensor::{Element, Tensor};
pub use timeline::{HostTimeline, ImportedTimeline, TimelineToken};
pub use vmlu_abi as abi;
pub use vmlu_abi::tensor::DataType;
pub use vmlu_abi::Status;
pub use vmlu_ops as ops;
