//! Health.

use std::ffi::c_char;

use vmlu::telemetry::Incident;

use crate::call::Out;
use crate::codes::Outcome;
use crate::library::{library, Card, Library};
use crate::types::*;

const GOOD: i32 = 1;
const DRIVER_RUNNING: i32 = 4;
const DRIVER_UNKNOWN: i32 = 8;
const PASS: i32 = 0;
const WARN: i32 = 10;
const FAIL: i32 = 20;

/// Where something is wrong, and its code: `cndevHealthSystem_t` and `cndevHealthError_t`.
fn numbers(incident: Incident) -> (i32, i32) {
    match incident {
        Incident::MemoryUncorrected => (16, 15),
        Incident::MemoryCorrected => (16, 14),
        Incident::RetirementPending => (16, 24),
        Incident::Hot => (32, 26),
        Incident::Overheated => (32, 27),
        Incident::Halted => (128, 3),
        Incident::LinkDown => (2, 9),
        Incident::LinkDegraded => (2, 7),
    }
}

/// A device that does not answer: `CNDEV_HEALTH_SYSTEM_DRIVER`, `CNDEV_FR_DEVSYS_ERROR`.
const LOST: (i32, i32) = (128, 30);

/// Whether a device answers and is well, whether it answers, and what is wrong with it.
struct Health {
    good: bool,
    answers: bool,
    incidents: Vec<((i32, i32), i32, &'static str)>,
}

fn health(library: &Library, card: &Card) -> Outcome<Health> {
    let live = library.monitor.live(card.number, Some(card.model))?;
    Ok(match live {
        None => Health {
            good: false,
            answers: false,
            incidents: vec![(LOST, FAIL, "the device does not answer")],
        },
        Some(live) => {
            let entry = |incident: &Incident| {
                let result = if incident.is_fatal() { FAIL } else { WARN };
                (numbers(*incident), result, incident.text())
            };
            Health {
                good: !live.incidents.iter().any(|incident| incident.is_fatal()),
                answers: true,
                incidents: live.incidents.iter().map(entry).collect(),
            }
        }
    })
}

exports! {
    fn cndevGetCardHealthState(state: Out<cndevCardHealthState_t>, device: i32) {
        let library = library()?;
        state.fill(|state| {
            let health = health(&library, library.card(device)?)?;
            state.health = i32::from(health.good);
            state.deviceState = if health.good { GOOD } else { 0 };
            state.driverState = if health.answers { DRIVER_RUNNING } else { DRIVER_UNKNOWN };
            Ok(())
        })
    }

    fn cndevGetCardHealthStateV2(state: Out<cndevCardHealthStateV2_t>, device: i32) {
        let library = library()?;
        state.check()?;
        let card = library.card(device)?;
        let health = health(&library, card)?;
        let mut all = cndevCardHealthStateV2_t {
            health: i32::from(health.good),
            deviceState: if health.good { GOOD } else { 0 },
            driverState: if health.answers { DRIVER_RUNNING } else { DRIVER_UNKNOWN },
            overallHealth: health.incidents.iter().map(|(_, result, _)| *result).max().unwrap_or(PASS),
            ..cndevCardHealthStateV2_t::zeroed()
        };
        let address = &card.first.pci;
        let bdf = address.domain << 16
            | u32::from(address.bus) << 8
            | u32::from(address.device) << 3
            | u32::from(address.function);
        for (place, ((system, code), result, text)) in all.incidents.iter_mut().zip(&health.incidents) {
            place.system = *system;
            place.health = *result;
            place.error.code = *code;
            place.error.device_id = card.number;
            place.error.bdf = bdf;
            place.error.category = *system as u32;
            place.error.severity = *result as u32;
            for (to, byte) in place.error.msg.iter_mut().zip(text.bytes()) {
                *to = byte as c_char;
            }
            all.incident_count += 1;
        }
        state.put(all)
    }

    fn cndevGetCardHeartbeatCount(count: Out<cndevCardHeartbeatCount_t>, device: i32) {
        let library = library()?;
        count.fill(|count| {
            let card = library.card(device)?;
            // Each answer of the firmware is a beat; a page would answer for a firmware that is dead.
            let t = library.transport().telemetry(card.number)?;
            count.heartbeatCount = t.rpcs as u32;
            Ok(())
        })
    }
}
