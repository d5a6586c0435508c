//! MPI, as a process has it.

use std::sync::Arc;
use std::time::Duration;

use vmlu::{Context, Result};

use crate::carrier::{Carrier, Order, Ticket, Way};
use crate::lane::MEET;
use crate::layout::{Host, Layout};

/// MPI, as a process has it.
pub struct World {
    pub(crate) layout: Layout,
    pub(crate) carrier: Arc<Carrier>,
}

impl World {
    /// Starts MPI; all ranks that `mpirun` has started do, once.
    ///
    /// # Errors
    ///
    /// `Status::NotSupported` if there is no OpenMPI, or it does not start; `Status::InvalidArgument` if the ranks of a host do not follow each
    /// other.
    pub fn start() -> Result<Self> {
        let (carrier, started) = Carrier::start()?;
        Ok(Self {
            layout: Layout::new(started)?,
            carrier: Arc::new(carrier),
        })
    }

    /// This rank.
    pub fn rank(&self) -> u32 {
        self.layout.rank
    }

    /// Ranks.
    pub fn size(&self) -> u32 {
        self.layout.size
    }

    /// The hosts, in the order of their ranks.
    pub fn hosts(&self) -> &[Host] {
        &self.layout.hosts
    }

    /// Number of this rank among those of its host: by default, its chip.
    pub fn local_rank(&self) -> u32 {
        self.layout.local()
    }

    /// Has a rank of this host send 128 bytes to the others of it.
    pub(crate) fn share(
        &self,
        context: &Context,
        bytes: &mut [u8; 128],
        patience: Duration,
    ) -> Result<()> {
        let host = &self.layout.hosts[self.layout.host()];
        let memory = context.alloc_pinned(128)?;
        memory.write(0, bytes);
        let ways: Vec<Way> = match self.local_rank() {
            0 => (1..host.ranks).map(|i| Way::To(host.first + i)).collect(),
            _ => vec![Way::From(host.first)],
        };
        let order = |way: Way| {
            let ticket = Ticket::default();
            self.carrier.order(Order {
                way,
                tag: MEET,
                memory: memory.clone(),
                bytes: bytes.len(),
                after: Vec::new(),
                ticket: ticket.clone(),
                patience,
            });
            ticket
        };
        let tickets: Vec<Ticket> = ways.into_iter().map(order).collect();
        tickets.iter().try_for_each(Ticket::wait)?;
        memory.read(0, bytes);
        Ok(())
    }
}
