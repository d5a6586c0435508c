//! Faults for tests, where the server of the cards lets them be injected.

use vmlu::abi::rpc::{Fault, Inject, LinkAction};
use vmlu::abi::status::Xid;
use vmlu::abi::Wire;

use crate::codes::{Code, Outcome};
use crate::library::{library, Card, Library};
use crate::links;

fn inject(library: &Library, card: &Card, fault: Fault, set: impl FnOnce(&mut Inject)) -> Outcome {
    let mut inject = Inject {
        fault: fault as u32,
        count: 1,
        ..Inject::zeroed()
    };
    set(&mut inject);
    Ok(library.transport().inject(card.number, &inject)?)
}

exports! {
    fn cndevInjectEventError(kind: u64, data: u64, device: i32) {
        let library = library()?;
        let card = library.card(device)?;
        if kind != 1 {
            return Err(Code::NotSupported);
        }
        if u32::try_from(data).ok().and_then(Xid::from_raw).is_none() {
            return Err(Code::InvalidArgument);
        }
        inject(&library, card, Fault::Xid, |inject| inject.value = data)
    }

    fn cndevInjectEccError(count: u64, uncorrectable: i32, address: u64, device: i32) {
        let library = library()?;
        let card = library.card(device)?;
        if count == 0 || address >= card.model.memory_bytes {
            return Err(Code::InvalidArgument);
        }
        match uncorrectable {
            0 => inject(&library, card, Fault::EccCorrected, |inject| {
                inject.value = count;
                inject.skip = address;
                inject.opcode = 1;
            }),
            _ => inject(&library, card, Fault::EccUncorrected, |inject| inject.value = address),
        }
    }

    fn cndevInjectHeat(milli: i32, device: i32) {
        let library = library()?;
        let card = library.card(device)?;
        inject(&library, card, Fault::Heat, |inject| {
            inject.value = i64::from(milli) as u64;
            inject.count = u32::from(milli != 0);
        })
    }

    fn cndevInjectMLULinkError(counter: i32, count: u64, device: i32, link: i32) {
        let library = library()?;
        let card = library.card(device)?;
        // Numbers of `cndevMLULinkCounterEnum_t`.
        let action = match counter {
            4 => LinkAction::Replay,
            6 => LinkAction::EccDouble,
            7 => LinkAction::Crc24,
            8 => LinkAction::Crc32,
            9 => LinkAction::Corrected,
            10 => LinkAction::Uncorrected,
            13 => LinkAction::Illegal,
            _ => return Err(Code::InvalidArgument),
        };
        links::control(&library, card, link, action, count)
    }
}
