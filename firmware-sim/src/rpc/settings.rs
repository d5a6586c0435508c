//! Settings of the chip, its retired pages, and its log.

use vmlu_abi::rpc::{RpcHeader, MAX_MESSAGE};
use vmlu_abi::setting::{
    ComputeMode, Configure, EventList, EventLog, LogEntry, RetiredPage, RetiredPageList,
    RetiredPages, Setting,
};
use vmlu_abi::{Status, Wire};

use super::{refuse, Answer};
use crate::core::Core;

/// Entries of `size` bytes that fit a message behind a head.
const fn fitting(head: usize, size: usize) -> usize {
    (MAX_MESSAGE - size_of::<RpcHeader>() - head) / size
}

pub(super) fn configure(core: &Core, wanted: &Configure) -> Answer {
    if wanted.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let Some(setting) = Setting::from_raw(wanted.setting) else {
        return refuse(
            Status::InvalidArgument,
            format!("setting {}", wanted.setting),
        );
    };
    let model = core.hardware.model;
    let record = &core.hardware.record;
    let outside = |what: &str, from: u64, to: u64| {
        let text = format!("{what} {}; it must be 0, or {from} to {to}", wanted.value);
        refuse(Status::InvalidArgument, text)
    };
    let within = |from: u32, to: u32| {
        u32::try_from(wanted.value)
            .ok()
            .filter(|value| *value == 0 || (from..=to).contains(value))
    };
    match setting {
        Setting::PowerCap => {
            let (from, to) = (model.thermal.min_cap_mw, model.thermal.cap_mw);
            match within(from, to) {
                Some(value) => record.set(|s| s.power_cap_mw = value),
                None => return outside("a power cap in mW of", from.into(), to.into()),
            }
        }
        Setting::Clock => {
            let (from, to) = model.clock_range_khz;
            match within(from, to) {
                Some(value) => record.set(|s| s.clock_khz = value),
                None => return outside("a clock in kHz of", from.into(), to.into()),
            }
        }
        Setting::ComputeMode => {
            let mode = u32::try_from(wanted.value)
                .ok()
                .and_then(ComputeMode::from_raw);
            match mode {
                Some(mode) => record.set(|s| s.compute_mode = mode),
                None => return outside("compute mode", 0, 2),
            }
        }
        Setting::Ecc => match wanted.value {
            0 | 1 => record.set_ecc(wanted.value == 1),
            _ => return outside("ECC mode", 0, 1),
        },
        Setting::Restart => {
            if wanted.value != 0 {
                return outside("a restart with", 0, 0);
            }
            if !core.restart() {
                return refuse(Status::Busy, "the chip has contexts; end their processes");
            }
        }
    }
    core.update();
    Ok(Vec::new())
}

pub(super) fn retired_pages(core: &Core, wanted: &RetiredPages) -> Answer {
    if wanted.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let most = fitting(size_of::<RetiredPageList>(), size_of::<RetiredPage>());
    let (pages, total) = core.hardware.record.with_kept(|kept| {
        let rest = kept.retired.iter().skip(wanted.start as usize).take(most);
        let pages: Vec<_> = rest.map(|page| page.to_wire()).collect();
        (pages, kept.retired.len() as u32)
    });
    let head = RetiredPageList {
        count: pages.len() as u32,
        total,
    };
    Ok(list(head.as_bytes(), &pages))
}

pub(super) fn event_log(core: &Core, wanted: &EventLog) -> Answer {
    let most = fitting(size_of::<EventList>(), size_of::<LogEntry>());
    let (entries, lost, newest) = core.hardware.record.entries(wanted.after, most);
    let head = EventList {
        count: entries.len() as u32,
        lost: u32::try_from(lost).unwrap_or(u32::MAX),
        newest,
    };
    Ok(list(head.as_bytes(), &entries))
}

fn list<T: Wire>(head: &[u8], entries: &[T]) -> Vec<u8> {
    let mut body = head.to_vec();
    entries
        .iter()
        .for_each(|entry| body.extend_from_slice(entry.as_bytes()));
    body
}
