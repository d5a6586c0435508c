//! Collectives between hosts: MPI carries what goes from host to host, the fabric of each host what goes from chip to chip.
//!
//! `mpirun` starts the ranks, a process each. [`World::start`] starts MPI in each, and finds out who shares a host; [`Cluster::new`] makes the
//! ranks' contexts one communicator. A host's chips are of one device server or machine, whose ranks use the fabric among themselves
//! ([`vmlu::collective::Communicator`]); its first rank exchanges chunks with the hosts before and behind it, through pinned memory.
//!
//! - A collective stands in its queue as a wait for a timeline, which a thread of the rank advances when the result is there. So a call returns
//!   at once, and what follows on the queue waits on the card. Between hosts the host takes part: such a collective is not captured, a queue
//!   that is being captured refuses it (`Status::CaptureUnsupported`).
//! - Reductions are in the order of ranks, `f(… f(f(rank 0, rank 1), rank 2) …)`, F16 and BF16 in f32 and rounded once: the bits are the same
//!   however the ranks are spread over hosts, and the same as [`vmlu::collective::Communicator`]'s on one host whose chips are one group.
//! - A rank that fails, or a host that is lost, is an error of the other ranks: their queues fail with `Status::Dependency`, and
//!   [`Cluster::async_error`] says who is lost: a rank that finds out tells the others. That needs an MPI that reports failures instead of ending the job: OpenMPI 5 with
//!   `mpirun --with-ft ulfm`, and `--mca mpi_ft_detector true` for hosts that vanish from the network. Without it `mpirun` ends all ranks, or
//!   they give up after the timeout.
//!
//! MPI is loaded when [`World::start`] is called (`libmpi.so.40`, or what `MLU_MPI_LIBRARY` names); it must be OpenMPI.

mod carrier;
mod cluster;
mod engine;
mod exchange;
mod lane;
mod layout;
mod library;
mod operations;
mod world;

use vmlu::{Error, Result, Status};

pub use cluster::Cluster;
pub use layout::Host;
pub use world::World;

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    let call = "collective between hosts";
    Err(Error::new(call, Status::InvalidArgument, text))
}
