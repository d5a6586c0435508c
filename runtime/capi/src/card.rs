//! Open cards. C holds a number for each, in the shape of a pointer, so a handle that is none, or no more, is told apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use runtime::abi::tensor::TensorDesc;
use runtime::abi::Wire;
use runtime::operators::BinaryFunction;
use runtime::ops::{binary, matmul, tensor};
use runtime::{Buffer, Context, DataType, Error, Queue, Result, Status};

use crate::error::invalid;

/// An open card: a context with one queue.
pub(crate) struct Card {
    /// Device memory by address.
    memory: Mutex<BTreeMap<u64, Buffer>>,
    queue: Queue,
    context: Context,
}

/// The cards that are open, and the number of the next one.
#[derive(Default)]
struct Open {
    cards: HashMap<usize, Arc<Card>>,
    last: usize,
}

static OPEN: LazyLock<RwLock<Open>> = LazyLock::new(RwLock::default);

/// Opens a card and gives it a handle, which is never 0.
pub(crate) fn open(device: u32) -> Result<usize> {
    let context = Context::open(device)?;
    let queue = context.queue()?;
    let card = Arc::new(Card {
        memory: Mutex::default(),
        queue,
        context,
    });
    let mut open = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    // Numbers of closed cards do not come back, so an old handle never names a new card.
    open.last += 1;
    let handle = open.last;
    open.cards.insert(handle, card);
    Ok(handle)
}

/// The card of a handle.
pub(crate) fn find(call: &'static str, handle: usize) -> Result<Arc<Card>> {
    let card = OPEN
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .cards
        .get(&handle)
        .cloned();
    card.ok_or_else(|| no_card(call, handle))
}

/// Takes a card out of use. It ends once calls of other threads have returned.
pub(crate) fn close(call: &'static str, handle: usize) -> Result<()> {
    let card = OPEN
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .cards
        .remove(&handle);
    card.map(drop).ok_or_else(|| no_card(call, handle))
}

fn no_card(call: &'static str, handle: usize) -> Error {
    match handle {
        0 => invalid(call, "the card is null; open one with vmlu_open"),
        _ => Error::new(
            call,
            Status::BadHandle,
            "the card is not open: it was closed, or never was one",
        ),
    }
}

impl Card {
    fn memory(&self) -> MutexGuard<'_, BTreeMap<u64, Buffer>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates device memory: its address.
    pub(crate) fn alloc(&self, call: &'static str, bytes: usize) -> Result<u64> {
        if bytes == 0 {
            return Err(invalid(call, "0 bytes; allocate at least one"));
        }
        let buffer = self.context.alloc(bytes as u64)?;
        let address = buffer.address();
        self.memory().insert(address, buffer);
        Ok(address)
    }

    /// Frees device memory by the address that [`Card::alloc`] gave.
    pub(crate) fn free(&self, call: &'static str, address: u64) -> Result<()> {
        let buffer = self.memory().remove(&address);
        buffer.map(drop).ok_or_else(|| {
            invalid(call, format!("no memory of this card begins at {address:#x}; free what vmlu_alloc gave, once"))
        })
    }

    /// Fails unless the range lies within one allocation.
    fn check(&self, call: &'static str, what: &str, address: u64, bytes: u64) -> Result<()> {
        let memory = self.memory();
        let Some((start, buffer)) = memory.range(..=address).next_back() else {
            let text = format!("{what} at {address:#x} is not device memory of this card");
            return Err(Error::new(call, Status::AddressFault, text));
        };
        let room = buffer.len().saturating_sub(address - start);
        if bytes <= room {
            return Ok(());
        }
        let text = format!(
            "{what} at {address:#x} needs {bytes} bytes; the nearest memory, {} bytes at {start:#x}, has {room} from there on",
            buffer.len()
        );
        Err(Error::new(call, Status::AddressFault, text))
    }

    /// Copies to device memory.
    pub(crate) fn write(&self, call: &'static str, address: u64, from: &[u8]) -> Result<()> {
        self.check(call, "the destination", address, from.len() as u64)?;
        self.queue.write_address(address, from).map(drop)
    }

    /// Copies from device memory, after all that was queued before.
    pub(crate) fn read(&self, call: &'static str, to: &mut [u8], address: u64) -> Result<()> {
        self.check(call, "the source", address, to.len() as u64)?;
        let result = self.queue.read_address(address, to);
        self.told(result)
    }

    /// Waits for all that was queued.
    pub(crate) fn wait(&self) -> Result<()> {
        let result = self.queue.sync();
        self.told(result)
    }

    /// Lets the queue run again after the error of a command, which the caller is told now.
    fn told(&self, result: Result<()>) -> Result<()> {
        if let Err(Error::Command { .. }) = result {
            self.queue.clear_error()?;
        }
        result
    }

    /// Queues `c = a · b`.
    pub(crate) fn matmul(
        &self,
        call: &'static str,
        dims: [usize; 3],
        operands: [u64; 3],
    ) -> Result<()> {
        let [m, n, k] = dims.map(|d| d as u64);
        let [a, b, c] = operands;
        let body = matmul::Matmul {
            a: self.operand(call, "a", a, &[m, k])?,
            b: self.operand(call, "b", b, &[k, n])?,
            out: self.operand(call, "c", c, &[m, n])?,
            bias: tensor::absent(),
            alpha: 1.0,
            ..matmul::Matmul::zeroed()
        };
        self.queue.submit(&body).map(drop)
    }

    /// Queues `out = function(a, b)`.
    pub(crate) fn binary(
        &self,
        call: &'static str,
        function: BinaryFunction,
        count: usize,
        operands: [u64; 3],
    ) -> Result<()> {
        let dims = [count as u64];
        let [a, b, out] = operands;
        let body = binary::Binary {
            a: self.operand(call, "a", a, &dims)?,
            b: self.operand(call, "b", b, &dims)?,
            out: self.operand(call, "out", out, &dims)?,
            function: function.raw(),
            ..binary::Binary::zeroed()
        };
        self.queue.submit(&body).map(drop)
    }

    /// Dense floats in device memory.
    fn operand(
        &self,
        call: &'static str,
        what: &str,
        address: u64,
        dims: &[u64],
    ) -> Result<TensorDesc> {
        let bytes = dims
            .iter()
            .try_fold(size_of::<f32>() as u64, |n, d| n.checked_mul(*d));
        let bytes = bytes.ok_or_else(|| {
            invalid(
                call,
                format!("{what} of {dims:?} floats is larger than any memory"),
            )
        })?;
        self.check(call, what, address, bytes)?;
        Ok(tensor::contiguous(DataType::F32, address, dims))
    }
}
