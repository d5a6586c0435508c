// SPDX-License-Identifier: GPL-2.0

//! Firmware RPC. See `docs/hardware.md`, section 5.
//!
//! One call is under way at a time. What the card answers is copied once and checked; an answer
//! that breaks the protocol costs the card.

use kernel::{dma::Coherent, prelude::*};

use crate::{
    abi::{
        regs,
        rpc::{
            Function, RpcHeader, COMMANDS, COMMAND_PRODUCED, MAX_MESSAGE, RESPONSES,
            RESPONSE_PRODUCED, SLOTS, VERSION,
        },
        status::Status,
        Wire,
    },
    card::Card,
    ext::{shared::Shared, trace, wait::now},
};

/// Time that the firmware has for an answer, ns.
const LIMIT: i64 = 5_000_000_000;
/// Time after which a sleeping caller looks whether the card still lives, ns.
const SLICE: i64 = 50_000_000;
/// The same before the first event ring is set, when no interrupt can come.
const SLICE_BOOT: i64 = 1_000_000;
/// Looks at the answer before a caller sleeps.
const SPINS: u32 = 200;

const HEADER: usize = core::mem::size_of::<RpcHeader>();

/// In whose name the firmware is called.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    handle: u64,
    /// The call is not made if the card was restarted since.
    epoch: Option<u32>,
}

impl Scope {
    /// In the chip's own.
    pub(crate) const CHIP: Self = Self {
        handle: 0,
        epoch: None,
    };

    /// In that of a context (or, 0, of one that is to be made) of an epoch of the card.
    pub(crate) const fn context(handle: u64, epoch: u32) -> Self {
        Self {
            handle,
            epoch: Some(epoch),
        }
    }

    /// The context's handle; 0 if there is none.
    pub(crate) const fn handle(self) -> u64 {
        self.handle
    }

    /// The context's epoch.
    pub(crate) const fn epoch(self) -> Option<u32> {
        self.epoch
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RpcError {
    /// The firmware said no.
    Refused(Status),
    /// The card is lost, or the driver is being unbound.
    Lost,
    /// The call could not be made.
    Local(Error),
}

impl From<RpcError> for Error {
    fn from(e: RpcError) -> Self {
        match e {
            RpcError::Refused(status) => status_error(status),
            RpcError::Lost => ENODEV,
            RpcError::Local(e) => e,
        }
    }
}

impl From<Error> for RpcError {
    fn from(e: Error) -> Self {
        Self::Local(e)
    }
}

/// The errno for a status.
pub(crate) fn status_error(status: Status) -> Error {
    Error::from_errno(-status.errno())
}

/// The RPC region and its counters.
pub(crate) struct RpcChannel {
    region: Coherent<[u8]>,
    /// Of the card, in which the region was given to it.
    epoch: u32,
    /// Commands written.
    produced: u64,
    message: KBox<[u8; MAX_MESSAGE]>,
}

impl RpcChannel {
    /// Takes over the region that was named at boot.
    pub(crate) fn new(region: Coherent<[u8]>, epoch: u32) -> Result<Self> {
        Ok(Self {
            region,
            epoch,
            produced: 0,
            message: KBox::new([0; MAX_MESSAGE], GFP_KERNEL)?,
        })
    }

    fn slot(base: usize, number: u64) -> usize {
        base + (number % u64::from(SLOTS)) as usize * MAX_MESSAGE
    }

    /// Writes a command; `body` are the parts of its body.
    fn send(&mut self, function: Function, context: u64, body: &[&[u8]]) -> Result {
        let mut length = HEADER;
        for part in body {
            let end = length.checked_add(part.len()).ok_or(EINVAL)?;
            self.message
                .get_mut(length..end)
                .ok_or(EINVAL)?
                .copy_from_slice(part);
            length = end;
        }
        let header = RpcHeader {
            version: VERSION,
            function: function as u16,
            length: length as u32,
            sequence: self.produced,
            context,
            status: 0,
            reserved: 0,
        };
        header.write_to(&mut self.message[..]);
        let slot = Self::slot(COMMANDS, self.produced);
        self.region.copy_in(slot, &self.message[..length])?;
        self.produced += 1;
        self.region.store64(COMMAND_PRODUCED, self.produced)
    }

    /// Whether the last command was answered.
    fn answered(&self) -> bool {
        self.region.load64(RESPONSE_PRODUCED).unwrap_or(0) >= self.produced
    }

    /// Takes the answer to the last command. `Err` names the rule that it breaks.
    fn receive(
        &mut self,
        function: Function,
        context: u64,
    ) -> Result<Result<&[u8], Status>, &'static str> {
        const OUTSIDE: &str = "the RPC region is too small";
        if self.region.load64(RESPONSE_PRODUCED).unwrap_or(0) != self.produced {
            return Err("the firmware answered commands that were not sent");
        }
        let slot = Self::slot(RESPONSES, self.produced - 1);
        let header: RpcHeader = self.region.read(slot).map_err(|_| OUTSIDE)?;
        let length = header.length as usize;
        if !(HEADER..=MAX_MESSAGE).contains(&length) {
            return Err("a response has an impossible length");
        }
        if header.version != VERSION {
            return Err("a response has an unknown version");
        }
        if header.function != function as u16
            || header.sequence != self.produced - 1
            || header.context != context
        {
            return Err("a response answers another command");
        }
        let body = &mut self.message[HEADER..length];
        self.region
            .copy_out(slot + HEADER, body)
            .map_err(|_| OUTSIDE)?;
        match Status::from_raw(header.status) {
            Some(Status::Ok) => Ok(Ok(body)),
            Some(status) => Ok(Err(status)),
            None => Err("a response has an unknown status"),
        }
    }
}

impl Card {
    /// Calls the firmware; `response` gets the body of the answer and must be quick.
    pub(crate) fn call_with<R>(
        &self,
        function: Function,
        scope: Scope,
        body: &[&[u8]],
        response: impl FnOnce(&[u8]) -> Option<R>,
    ) -> Result<R, RpcError> {
        let context = scope.handle;
        let mut guard = self.rpc.lock();
        if !self.is_callable() {
            return Err(RpcError::Lost);
        }
        let channel = Option::as_mut(&mut *guard).ok_or(RpcError::Lost)?;
        if scope.epoch.is_some_and(|epoch| epoch != channel.epoch) {
            return Err(RpcError::Lost);
        }
        channel.send(function, context, body)?;
        self.rpc_trace.lock().begin(function, context);
        self.regs().write(regs::RPC_DOORBELL, 1);
        let waited = self.await_answer(channel, function);
        let answer = waited.map(|()| channel.receive(function, context));
        let status = match &answer {
            Ok(Ok(Ok(_))) => Ok(Status::Ok),
            Ok(Ok(Err(status))) => Ok(*status),
            Ok(Err(_)) => Err(EPROTO),
            Err(_) => Err(ENODEV),
        };
        let took = self.rpc_trace.lock().end(status);
        let code = status.map_or_else(|e| e.to_errno(), |status| status.raw() as i32);
        trace::rpc(self.number(), function as u16, context, code, took);
        match answer? {
            Ok(Ok(body)) => {
                let result = response(body);
                if result.is_none() {
                    self.fail(fmt!("{function:?} was answered with a malformed body"));
                }
                result.ok_or(RpcError::Lost)
            }
            Ok(Err(status)) => Err(RpcError::Refused(status)),
            Err(rule) => {
                self.fail(fmt!("{function:?}: {rule}"));
                Err(RpcError::Lost)
            }
        }
    }

    /// Calls the firmware with a command of fixed size and takes an answer of fixed size.
    pub(crate) fn call<C: Wire, R: Wire>(
        &self,
        function: Function,
        scope: Scope,
        command: &C,
    ) -> Result<R, RpcError> {
        self.call_with(function, scope, &[command.as_bytes()], |body| {
            (body.len() == core::mem::size_of::<R>()).then(|| R::read_from(body))?
        })
    }

    fn await_answer(&self, channel: &RpcChannel, function: Function) -> Result<(), RpcError> {
        for _ in 0..SPINS {
            if channel.answered() {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        let limit = now() + LIMIT;
        let slice = if self.has_events() { SLICE } else { SLICE_BOOT };
        loop {
            let until = limit.min(now() + slice);
            let ended = self.rpc_event.wait(Some(until), || {
                if channel.answered() {
                    Some(Ok(()))
                } else if !self.is_callable() {
                    Some(Err(RpcError::Lost))
                } else {
                    None
                }
            });
            if let Ok(result) = ended {
                return result;
            }
            if channel.answered() {
                if self.has_events() {
                    self.counters.rescued_call();
                }
                return Ok(());
            }
            if !self.check_alive() {
                return Err(RpcError::Lost);
            }
            if now() >= limit {
                self.fail(fmt!(
                    "the firmware did not answer {function:?} within {} s",
                    LIMIT / 1_000_000_000
                ));
                return Err(RpcError::Lost);
            }
        }
    }
}
