// SPDX-License-Identifier: GPL-2.0

//! `/dev/mluctl`: what monitors read, and fault injection. See `docs/uapi.md`.

use core::mem::size_of;

use kernel::{
    fs::File,
    prelude::*,
    sync::{poll::PollTable, Arc},
    uaccess::{UserPtr, UserSlice, UserSliceWriter},
};

use crate::{
    abi::{
        event::EventKind,
        ioctl as abi,
        rpc::{self, Function, Process, ProcessList, MAX_PROCESSES},
        setting::{Configure, EventLog, RetiredPages},
        Wire,
    },
    card::Card,
    ext::{chardev::FileOperations, task},
    ioctl::{read, update, write_bytes},
    nodes, peer,
    rpc::Scope,
    stream::{bit, Stream},
};

const HEAD: usize = core::mem::size_of::<ProcessList>();
const ENTRY: usize = core::mem::size_of::<Process>();

/// A chip's telemetry as of now.
pub(crate) fn telemetry(card: &Card, arg: &mut abi::TelemetryRead) -> Result {
    if arg.reserved != 0 {
        return Err(EINVAL);
    }
    arg.telemetry = card.telemetry()?;
    Ok(())
}

/// One answer of the firmware: the entries from `start` on, as bytes, and how many there are in
/// all.
pub(crate) fn process_page(card: &Card, start: u32) -> Result<(KVec<u8>, u32)> {
    let command = rpc::Processes { start, reserved: 0 };
    let mut entries = KVec::with_capacity(MAX_PROCESSES * ENTRY, GFP_KERNEL)?;
    let total = card.call_with(
        Function::Processes,
        Scope::CHIP,
        &[command.as_bytes()],
        |body| {
            let list = ProcessList::read_from(body)?;
            let bytes = &body[HEAD..];
            let count = list.count as usize;
            if count > MAX_PROCESSES || bytes.len() != count * ENTRY {
                return None;
            }
            entries.extend_from_slice(bytes, GFP_KERNEL).ok()?;
            Some(list.total)
        },
    )?;
    Ok((entries, total))
}

/// The contexts of a chip.
pub(crate) fn processes(card: &Card, arg: &mut abi::ProcessesRead) -> Result {
    if arg.reserved != 0 {
        return Err(EINVAL);
    }
    let room = arg.count as usize;
    let bytes = room.checked_mul(ENTRY).ok_or(EINVAL)?;
    let address = usize::try_from(arg.address)?;
    let mut writer = UserSlice::new(UserPtr::from_addr(address), bytes).writer();
    let mut written = 0;
    loop {
        let (entries, total) = process_page(card, written as u32)?;
        let count = (entries.len() / ENTRY).min(room - written);
        writer.write_slice(&entries[..count * ENTRY])?;
        written += count;
        arg.total = total;
        if count == 0 || written == room || written >= total as usize {
            break;
        }
    }
    arg.count = written as u32;
    Ok(())
}

/// A message that a monitor may send to the firmware as it is.
fn firmware(card: &Card, arg: &mut abi::FirmwareQuery) -> Result {
    if arg.reserved != [0; 2] {
        return Err(EINVAL);
    }
    let function = u16::try_from(arg.function)
        .ok()
        .and_then(Function::from_raw);
    let (function, length) = match function {
        Some(Function::RetiredPages) => (Function::RetiredPages, size_of::<RetiredPages>()),
        Some(Function::EventLog) => (Function::EventLog, size_of::<EventLog>()),
        Some(Function::Configure) if !task::is_admin() => return Err(EPERM),
        Some(Function::Configure) => (Function::Configure, size_of::<Configure>()),
        _ => return Err(EINVAL),
    };
    let mut request = [0; 16];
    for (to, word) in request.chunks_exact_mut(8).zip(arg.request) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    if request[length..].iter().any(|byte| *byte != 0) {
        return Err(EINVAL);
    }
    let mut answer = KVec::with_capacity(rpc::MAX_MESSAGE, GFP_KERNEL)?;
    card.call_with(function, Scope::CHIP, &[&request[..length]], |body| {
        answer.extend_from_slice(body, GFP_KERNEL).ok()
    })?;
    if answer.len() > arg.room as usize {
        return Err(ENOSPC);
    }
    let address = usize::try_from(arg.address)?;
    let mut writer = UserSlice::new(UserPtr::from_addr(address), answer.len()).writer();
    writer.write_slice(&answer)?;
    arg.length = answer.len() as u32;
    Ok(())
}

/// Kinds of events of a chip itself, which every file may hear of.
const CARD_KINDS: u64 = bit(EventKind::ContextStopped)
    | bit(EventKind::Xid)
    | bit(EventKind::Link)
    | bit(EventKind::CardLost)
    | bit(EventKind::CardBack);
/// Kinds that a chip's file may ask for: also what happens to its own queues.
pub(crate) const CHIP_KINDS: u64 =
    CARD_KINDS | bit(EventKind::Timeline) | bit(EventKind::QueueError);

/// The kinds of events that a `SUBSCRIBE` asks for, of those that are `allowed`.
pub(crate) fn kinds(arg: &abi::Subscribe, allowed: u64) -> Result<u64> {
    if arg.flags != 0 || arg.kinds & !allowed != 0 {
        return Err(EINVAL);
    }
    Ok(arg.kinds)
}

/// An open control file.
pub(crate) struct ControlFile {
    stream: Arc<Stream>,
}

impl Drop for ControlFile {
    fn drop(&mut self) {
        // Taking out does not fail.
        let _ = nodes::subscribe(&self.stream, 0);
    }
}

fn chip(number: u32) -> Result<Arc<Card>> {
    nodes::chip(number).ok_or(ENODEV)
}

impl FileOperations for ControlFile {
    type Ptr = KBox<Self>;

    fn open(_minor: u32, _file: &File) -> Result<KBox<Self>> {
        let stream = Stream::new()?;
        Ok(KBox::new(Self { stream }, GFP_KERNEL)?)
    }

    fn ioctl(this: &Self, command: u32, at: usize) -> Result<isize> {
        match command {
            abi::INFO => update(at, |arg: &mut abi::DeviceInfo| {
                if arg.reserved0 != 0 || arg.reserved1 != [0; 2] {
                    return Err(EINVAL);
                }
                *arg = chip(arg.device)?.device_info();
                Ok(())
            }),
            abi::COUNT => update(at, |arg: &mut abi::DeviceCount| {
                arg.mask = nodes::chip_mask();
                arg.count = arg.mask.count_ones();
                Ok(())
            }),
            abi::TELEMETRY => update(at, |arg: &mut abi::TelemetryRead| {
                telemetry(&*chip(arg.device)?, arg)
            }),
            abi::PROCESSES => update(at, |arg: &mut abi::ProcessesRead| {
                processes(&*chip(arg.device)?, arg)
            }),
            abi::FIRMWARE => update(at, |arg: &mut abi::FirmwareQuery| {
                firmware(&*chip(arg.device)?, arg)
            }),
            abi::SUBSCRIBE => {
                let kinds = kinds(&read(at)?, CARD_KINDS)?;
                this.stream.prepare()?;
                nodes::subscribe(&this.stream, kinds)
            }
            abi::INJECT => {
                if !task::is_admin() {
                    return Err(EPERM);
                }
                let arg: abi::InjectFault = read(at)?;
                if arg.reserved != 0 {
                    return Err(EINVAL);
                }
                Ok(chip(arg.device)?.call::<_, ()>(Function::Inject, Scope::CHIP, &arg.inject)?)
            }
            abi::LINK_PORTS => {
                // Of what the caller has there only the number of the chip is read.
                let device: u32 = read(at)?;
                write_bytes(at, &peer::ports(&*chip(device)?, device)?)
            }
            abi::LINK_CONTROL => {
                if !task::is_admin() {
                    return Err(EPERM);
                }
                let arg: abi::LinkControl = read(at)?;
                peer::control(&*chip(arg.device)?, &arg)
            }
            abi::PEER_PATH => update(at, |arg: &mut abi::PeerPath| {
                peer::path(&*chip(arg.device)?, arg)
            }),
            _ => Err(ENOTTY),
        }?;
        Ok(0)
    }

    fn read(this: &Self, file: &File, to: UserSliceWriter) -> Result<usize> {
        this.stream.read(file, to, || true)
    }

    fn poll(this: &Self, file: &File, table: PollTable<'_>) -> u32 {
        this.stream.poll(file, table)
    }
}
