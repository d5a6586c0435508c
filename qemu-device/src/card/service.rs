//! RPC: takes commands from the region that the driver named, has the firmware serve them, and writes the responses. See
//! `docs/hardware.md`, section 5.
//!
//! One thread each time the firmware boots, so that neither a trapped access nor the firmware of a later boot waits for a command. No lock
//! is held while the firmware works, and no host memory either: the region is translated anew for every access.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use vmlu_abi::event::{Event, EventKind};
use vmlu_abi::rpc::{self, RpcHeader};
use vmlu_abi::{Status, Wire};
use vmlu_firmware::firmware::Firmware;
use vmlu_firmware::hardware::HostRange;

use super::dma::DmaMap;
use crate::lock::lock;

/// Vector on which RPC events go out.
const VECTOR: u32 = 0;

#[derive(Default)]
struct Signal {
    /// The driver rang; nobody has looked yet.
    rung: bool,
    stop: bool,
}

/// What the card and its service thread share.
struct Shared {
    chip: u32,
    firmware: Arc<Firmware>,
    dma: Arc<DmaMap>,
    /// DMA address of the region.
    region: u64,
    signal: Mutex<Signal>,
    wake: Condvar,
    /// Whether the region may be accessed; the lock is held for each access and never while the firmware works.
    open: Mutex<bool>,
    halted: AtomicBool,
    served: Arc<AtomicU64>,
}

/// The RPC service of one boot.
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Starts to serve the region at a DMA address. `served` counts commands.
    pub fn start(
        chip: u32,
        firmware: Arc<Firmware>,
        dma: Arc<DmaMap>,
        region: u64,
        served: Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            chip,
            firmware,
            dma,
            region,
            signal: Mutex::default(),
            wake: Condvar::new(),
            open: Mutex::new(true),
            halted: AtomicBool::new(false),
            served,
        });
        let mine = shared.clone();
        std::thread::Builder::new()
            .name(format!("mlu{chip}-rpc"))
            .spawn(move || mine.run())?;
        Ok(Self { shared })
    }

    /// Has the thread look at the command ring. Never blocks.
    pub fn ring(&self) {
        lock(&self.shared.signal).rung = true;
        self.shared.wake.notify_one();
    }

    /// Whether serving ended because of a damaged ring or an internal error.
    pub fn is_halted(&self) -> bool {
        self.shared.halted.load(Ordering::Acquire)
    }

    /// Ends the service: once this returns, the region is not touched. A command that the firmware is working on gets no response.
    pub fn stop(&self) {
        *lock(&self.shared.open) = false;
        lock(&self.shared.signal).stop = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command that was copied from the region.
struct Command {
    bytes: [u8; rpc::MAX_MESSAGE],
    number: u64,
}

impl Shared {
    fn run(&self) {
        let mut taken = 0u64;
        while self.wait() {
            loop {
                match self.take(taken) {
                    Ok(Some(command)) => {
                        taken = taken.wrapping_add(1);
                        let Some(response) = self.serve(&command) else {
                            return self.halt("the firmware panicked while it served a command");
                        };
                        if !self.answer(command.number, &response) {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(reason) => return self.halt(&reason),
                }
            }
        }
    }

    /// Sleeps until the driver rings; `false` when the service ends.
    fn wait(&self) -> bool {
        let mut signal = lock(&self.signal);
        while !signal.rung && !signal.stop {
            signal = self
                .wake
                .wait(signal)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        signal.rung = false;
        !signal.stop
    }

    fn halt(&self, reason: &str) {
        tracing::error!(
            "chip {}: RPC stopped: {reason}; reset the card to go on",
            self.chip
        );
        self.halted.store(true, Ordering::Release);
    }

    /// The region, if it is still mapped. Call with `open` held.
    fn region(&self) -> Option<Region> {
        Region::new(
            self.dma
                .translate(self.region, rpc::REGION_SIZE as u64, true)?,
        )
    }

    /// Copies the next command, if there is one.
    fn take(&self, taken: u64) -> Result<Option<Box<Command>>, String> {
        let open = lock(&self.open);
        if !*open {
            return Ok(None);
        }
        let region = self
            .region()
            .ok_or("the RPC region is not mapped any more")?;
        let produced = region.word(rpc::COMMAND_PRODUCED).load(Ordering::Acquire);
        let waiting = produced.wrapping_sub(taken);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > u64::from(rpc::SLOTS) {
            return Err(format!(
                "the driver says it has written {produced} commands, {taken} were taken, and there are {} slots",
                rpc::SLOTS
            ));
        }
        let mut command = Box::new(Command {
            bytes: [0; rpc::MAX_MESSAGE],
            number: taken,
        });
        region.read(rpc::COMMANDS + slot(taken), &mut command.bytes);
        region
            .word(rpc::COMMAND_CONSUMED)
            .store(taken.wrapping_add(1), Ordering::Release);
        Ok(Some(command))
    }

    /// Has the firmware serve a command; `None` if it panicked.
    fn serve(&self, command: &Command) -> Option<Vec<u8>> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let header = RpcHeader::read_from(&command.bytes)?;
        let length = header.length as usize;
        if !(size_of::<RpcHeader>()..=rpc::MAX_MESSAGE).contains(&length) {
            return Some(refusal(header, Status::BadLength));
        }
        let request = &command.bytes[..length];
        let response = catch_unwind(AssertUnwindSafe(|| self.firmware.rpc(request))).ok()?;
        if !(size_of::<RpcHeader>()..=rpc::MAX_MESSAGE).contains(&response.len()) {
            return Some(refusal(header, Status::Internal));
        }
        Some(response)
    }

    /// Writes the response to command `number` and tells the driver; `false` when the service has ended.
    fn answer(&self, number: u64, response: &[u8]) -> bool {
        let written = number.wrapping_add(1);
        {
            let open = lock(&self.open);
            if !*open {
                return false;
            }
            let Some(region) = self.region() else {
                self.halt("the RPC region is not mapped any more");
                return false;
            };
            region.write(rpc::RESPONSES + slot(number), response);
            region
                .word(rpc::RESPONSE_PRODUCED)
                .store(written, Ordering::Release);
        }
        let mut event = Event::zeroed();
        event.kind = EventKind::Rpc as u32;
        event.value = written;
        self.firmware.post_event(VECTOR, event);
        true
    }
}

/// Offset of a message's slot among the slots of its direction.
fn slot(number: u64) -> usize {
    (number % u64::from(rpc::SLOTS)) as usize * rpc::MAX_MESSAGE
}

/// A response without a body.
fn refusal(mut header: RpcHeader, status: Status) -> Vec<u8> {
    header.length = size_of::<RpcHeader>() as u32;
    header.status = status.raw();
    header.reserved = 0;
    header.as_bytes().to_vec()
}

/// The RPC region while it is accessed.
struct Region(HostRange);

impl Region {
    fn new(range: HostRange) -> Option<Self> {
        let fits = range.length >= rpc::REGION_SIZE && range.pointer.align_offset(8) == 0;
        fits.then_some(Self(range))
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= rpc::REGION_SIZE);
        // SAFETY: aligned and inside the range, which `self` keeps mapped; the word is only accessed atomically.
        unsafe { AtomicU64::from_ptr(self.0.pointer.add(offset).cast()) }
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= rpc::REGION_SIZE);
        // SAFETY: inside the range, which `self` keeps mapped; `to` is private memory.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.pointer.add(offset), to.as_mut_ptr(), to.len());
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= rpc::REGION_SIZE);
        // SAFETY: inside the range, which `self` keeps mapped and which is writable; `from` is private memory.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.0.pointer.add(offset), from.len());
        }
    }
}
