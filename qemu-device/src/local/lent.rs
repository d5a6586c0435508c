//! Memory that is lent to processes: sealed files, mapped here once, within limits that hold for the whole server.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use vmlu_abi::Status;
use vmlu_firmware::memory::shared::SharedMemory;

use crate::embedded::{EmbeddedCard, EmbeddedChip};
use crate::lock::lock;

/// Most pieces of memory of the server: each is a mapping, of which a process has 65,530.
const MAX_PIECES: u64 = 32_768;

/// Counts what is lent.
pub struct Ledger {
    lent: Mutex<Sum>,
    most_bytes: u64,
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    pieces: u64,
}

impl Ledger {
    /// Nothing is lent yet; half of the machine's memory may be.
    pub fn new() -> Arc<Self> {
        let info = rustix::system::sysinfo();
        let total = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
        Arc::new(Self {
            lent: Mutex::default(),
            most_bytes: total / 2,
        })
    }

    fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, (Status, String)> {
        let mut lent = lock(&self.lent);
        if lent.pieces >= MAX_PIECES {
            let text = format!("the server has lent {MAX_PIECES} pieces of memory: free some, or allocate larger ones");
            return Err((Status::OutOfResources, text));
        }
        if bytes > self.most_bytes.saturating_sub(lent.bytes) {
            let text = format!(
                "{bytes} bytes; the server lends {} at most, and {} are taken",
                self.most_bytes, lent.bytes
            );
            return Err((Status::OutOfHostMemory, text));
        }
        lent.bytes += bytes;
        lent.pieces += 1;
        Ok(Charge {
            ledger: self.clone(),
            bytes,
        })
    }
}

struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut lent = lock(&self.ledger.lent);
        lent.bytes -= self.bytes;
        lent.pieces -= 1;
    }
}

/// A piece of memory that a process and a chip share. Dropping it takes it from the chip, and gives its pages back even if the process
/// keeps the file.
pub struct Lent {
    card: Arc<EmbeddedCard>,
    device: u32,
    memory: Arc<SharedMemory>,
    /// DMA address.
    pub address: u64,
    _charge: Charge,
}

impl Lent {
    /// Makes zeroed memory of whole pages, and lends it to a chip too.
    pub fn new(
        card: &Arc<EmbeddedCard>,
        ledger: &Arc<Ledger>,
        device: u32,
        bytes: u64,
        writable: bool,
    ) -> Result<Self, (Status, String)> {
        let charge = ledger.charge(bytes)?;
        let chip = card
            .chip(device)
            .ok_or((Status::BadHandle, format!("there is no chip {device}")))?;
        let host = |what: &str, e: std::io::Error| {
            let text = format!("cannot {what} {bytes} bytes of host memory: {e}");
            (Status::OutOfHostMemory, text)
        };
        let memory = SharedMemory::new("mlu-lent", bytes).map_err(|e| host("map", e))?;
        // Now, where it can fail; later a page that is not there would kill whoever touches it.
        memory.populate(0, bytes).map_err(|e| host("take", e))?;
        let memory = Arc::new(memory);
        // SAFETY: the table keeps the memory alive, and `SharedMemory` hands out no references except to atomics.
        let address =
            unsafe { chip.register(memory.base(), memory.len(), writable, memory.clone()) }
                .map_err(|e| (Status::Internal, format!("{e:?}")))?;
        Ok(Self {
            card: card.clone(),
            device,
            memory,
            address,
            _charge: charge,
        })
    }

    /// The memory.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// The file, for the process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    fn chip(&self) -> Option<&EmbeddedChip> {
        self.card.chip(self.device)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = self.memory.len() as u64;
        if let Some(chip) = self.chip() {
            chip.unregister(self.address, bytes);
        }
        // Pages that the process touches from now on are its own.
        let _ = self.memory.discard(0, bytes);
    }
}
