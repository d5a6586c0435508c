//! The control socket: an operator's way to the chips from outside the virtual machine. One JSON object a line, one answer a line.
//!
//! | request | answer |
//! | --- | --- |
//! | `{"cmd":"status"}` | `{"ok":true,"version":1,"chips":[…]}`: state, counters, memory and interrupts of each chip |
//! | `{"cmd":"inject","chip":0,"fault":"hang","count":1,"skip":0,"value":0,"opcode":0,"context":0}` | `{"ok":true}`; all but `chip` and `fault` may be left out, `count` is 1 then |
//! | `{"cmd":"reset","chip":0}` | `{"ok":true}` |
//!
//! What goes wrong is answered `{"ok":false,"error":"…"}`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use vmlu_abi::rpc::{self, Fault, Function, Inject, RpcHeader};
use vmlu_abi::{Status, Wire};

use crate::card::interrupts::Kind;
use crate::card::{Card, ResetCause};
use crate::vfio::listen;

/// Version of the answers' form.
const VERSION: u32 = 1;
/// Most bytes of a request.
const MAX_REQUEST: u64 = 64 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The state of all chips.
    Status {},
    /// A fault, see `vmlu_abi::rpc::Inject`.
    Inject {
        /// Chip.
        chip: u32,
        /// Name of the fault, such as `hang` or `all_ones`.
        fault: String,
        /// How many times; 0 takes the fault away.
        #[serde(default = "one")]
        count: u32,
        /// Candidates that pass first.
        #[serde(default)]
        skip: u64,
        /// What the fault defines; a negative number is its two's complement.
        #[serde(default)]
        value: i64,
        /// Only commands of this opcode; 0 for all.
        #[serde(default)]
        opcode: u32,
        /// Only commands of this context; 0 for all.
        #[serde(default)]
        context: u64,
    },
    /// Resets a chip as a function level reset would.
    Reset {
        /// Chip.
        chip: u32,
    },
}

fn one() -> u32 {
    1
}

/// An answer.
#[derive(Debug, Serialize)]
struct Answer {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chips: Option<Vec<Chip>>,
}

/// A chip's state.
#[derive(Debug, Serialize)]
struct Chip {
    chip: u32,
    board: u32,
    serial: String,
    state: String,
    gone: bool,
    counters: serde_json::Map<String, serde_json::Value>,
    rpcs: u64,
    interrupts: u64,
    interrupts_latched: u64,
    vectors: u32,
    vector_kind: &'static str,
    guest_regions: usize,
    guest_bytes: u64,
    mappings: u64,
    maps_without_memory: u64,
    scrapped: u64,
}

/// Listens; each connection has a thread of its own.
pub fn start(path: &Path, cards: Vec<Arc<Card>>) -> Result<()> {
    let listener = listen(path)?;
    listener.set_nonblocking(false)?;
    let cards: Arc<[Arc<Card>]> = cards.into();
    std::thread::Builder::new()
        .name("mlu-control".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let cards = cards.clone();
                let served = std::thread::Builder::new()
                    .name("mlu-control".into())
                    .spawn(move || {
                        if let Err(error) = serve(&stream, &cards) {
                            tracing::debug!("control connection ended: {error}");
                        }
                    });
                if let Err(error) = served {
                    tracing::warn!("control connection refused: no thread for it: {error}");
                }
            }
        })?;
    Ok(())
}

fn serve(stream: &UnixStream, cards: &[Arc<Card>]) -> Result<()> {
    let mut lines = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if (&mut lines).take(MAX_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match handle(&line, cards) {
            Ok(chips) => Answer {
                ok: true,
                error: None,
                version: chips.as_ref().map(|_| VERSION),
                chips,
            },
            Err(error) => Answer {
                ok: false,
                error: Some(format!("{error:#}")),
                version: None,
                chips: None,
            },
        };
        writeln!(writer, "{}", serde_json::to_string(&answer)?)?;
    }
}

fn handle(line: &str, cards: &[Arc<Card>]) -> Result<Option<Vec<Chip>>> {
    let request = serde_json::from_str(line)
        .context("read the request: it must be one JSON object with a known \"cmd\"")?;
    match request {
        Request::Status {} => return Ok(Some(cards.iter().map(|card| status(card)).collect())),
        Request::Reset { chip } => find(cards, chip)?.reset(ResetCause::Operator),
        Request::Inject {
            chip,
            fault,
            count,
            skip,
            value,
            opcode,
            context,
        } => {
            let mut command = Inject::zeroed();
            command.fault = fault_number(&fault)? as u32;
            command.count = count;
            command.skip = skip;
            command.value = value as u64;
            command.opcode = opcode;
            command.context = context;
            inject(find(cards, chip)?, &command)?;
        }
    }
    Ok(None)
}

fn find(cards: &[Arc<Card>], chip: u32) -> Result<&Card> {
    match cards.get(chip as usize) {
        Some(card) => Ok(card),
        None => bail!("find chip {chip}: there are chips 0 to {}", cards.len() - 1),
    }
}

/// Names of the faults.
const FAULTS: [(&str, Fault); 14] = [
    ("hang", Fault::Hang),
    ("panic", Fault::Panic),
    ("fail", Fault::Fail),
    ("ecc", Fault::Ecc),
    ("delay", Fault::Delay),
    ("drop_interrupt", Fault::DropInterrupt),
    ("all_ones", Fault::AllOnes),
    ("heat", Fault::Heat),
    ("ecc_corrected", Fault::EccCorrected),
    ("ecc_uncorrected", Fault::EccUncorrected),
    ("xid", Fault::Xid),
    ("bad_answer", Fault::BadAnswer),
    ("bad_event", Fault::BadEvent),
    ("refuse", Fault::Refuse),
];

fn fault_number(name: &str) -> Result<Fault> {
    match FAULTS.iter().find(|(known, _)| *known == name) {
        Some((_, fault)) => Ok(*fault),
        None => {
            let known: Vec<_> = FAULTS.iter().map(|(name, _)| *name).collect();
            bail!(
                "inject {name:?}: there is no such fault; there are {}",
                known.join(", ")
            )
        }
    }
}

fn inject(card: &Card, command: &Inject) -> Result<()> {
    let Some(firmware) = card.firmware() else {
        bail!("inject a fault: the firmware does not run; load the driver in the guest first");
    };
    let mut header = RpcHeader::zeroed();
    header.version = rpc::VERSION;
    header.function = Function::Inject as u16;
    header.length = (size_of::<RpcHeader>() + size_of::<Inject>()) as u32;
    let mut message = header.as_bytes().to_vec();
    message.extend_from_slice(command.as_bytes());
    let response = firmware.rpc(&message);
    let status = RpcHeader::read_from(&response).and_then(|header| Status::from_raw(header.status));
    match status {
        Some(Status::Ok) => Ok(()),
        Some(Status::NotPermitted) => {
            bail!("inject a fault: this server does not allow it; start it with --inject")
        }
        Some(status) => bail!("inject a fault: {}", status.text()),
        None => bail!("inject a fault: the firmware's answer makes no sense"),
    }
}

fn status(card: &Card) -> Chip {
    let identity = card.identity();
    let (interrupts, interrupts_latched) = card.interrupts().counts();
    let (kind, vectors) = card.interrupts().enabled();
    let (guest_regions, guest_bytes) = card.dma().size();
    let (maps_without_memory, scrapped) = card.dma().counts();
    Chip {
        chip: identity.number,
        board: identity.number / identity.model.chips_per_board,
        serial: format!("{:016x}", identity.serial),
        state: format!("{:?}", card.state()),
        gone: card.is_gone(),
        counters: card
            .counters()
            .values()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
        rpcs: card.rpcs(),
        interrupts,
        interrupts_latched,
        vectors,
        vector_kind: match kind {
            Some(Kind::MsiX) => "MSI-X",
            Some(Kind::Msi) => "MSI",
            None => "none",
        },
        guest_regions,
        guest_bytes,
        mappings: card.dma().mappings(),
        maps_without_memory,
        scrapped,
    }
}
