//! Fields: one number each.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vmlu::abi::link::PortState;
use vmlu::abi::telemetry::Telemetry;

use crate::call::Out;
use crate::codes::{Code, Outcome};
use crate::library::{library, Card, Library};
use crate::types::*;
use crate::usage::percent;

/// Most fields of a call.
const MOST: i32 = 1024;
/// Fields that there are: `cndevFieldNum`.
const FIELDS: i32 = 200;
/// `CNDEV_VALUE_TYPE_*`.
const UNSIGNED_LONG_LONG: i32 = 3;
const INT: i32 = 4;

/// Wall-clock time, µs since 1970.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |time| time.as_micros() as u64)
}

/// A value: small ones are signed, as programs read them.
enum Value {
    Small(i64),
    Large(u64),
}

fn heat(milli: i32) -> Value {
    Value::Small((f64::from(milli) / 1e3).round() as i64)
}

/// Checks an index that a field needs.
fn within(index: u32, count: u32) -> Outcome {
    if index < count {
        Ok(())
    } else {
        Err(Code::InvalidArgument)
    }
}

fn read(library: &Library, card: &Card, field: i32, scope: u32, t: &Telemetry) -> Outcome<Value> {
    use Value::{Large, Small};
    let model = card.model;
    let port = || {
        let ports = library.ports(card)?;
        ports.get(scope as usize).copied().ok_or(Code::InvalidLink)
    };
    let mb = |bytes: u64| Small((bytes >> 20) as i64);
    let used = || Small(t.memory_used.div_ceil(1 << 20) as i64);
    Ok(match field {
        0 => Small(t.ecc_mode.into()),
        1 => Small(t.ecc_pending.into()),
        4 => Large(t.ecc_corrected),
        5 => Large(t.ecc_uncorrected),
        6 | 7 => {
            let link = library
                .monitor
                .pcie_link(card.first.pci)
                .current
                .ok_or(Code::NotSupported)?;
            Small(i64::from(if field == 6 {
                link.generation
            } else {
                link.lanes
            }))
        }
        8 => Small(model.link_ports.into()),
        9 => {
            let state = PortState::from_raw(port()?.state);
            Small(i64::from(matches!(
                state,
                Some(PortState::Up | PortState::Degraded)
            )))
        }
        10 => Small(t.retired_corrected.into()),
        11 => Large(t.retired_pages.saturating_sub(t.retired_corrected.into())),
        12 => Small(t.retired_pending.into()),
        17 => Small(library.monitor.board_watts(&card.board)?.round() as i64),
        18 => Small(i64::from(t.power_cap_mw / 1000)),
        19 => Small(i64::from(model.thermal.min_cap_mw / 1000)),
        20 | 21 => Small(i64::from(model.thermal.cap_mw / 1000)),
        22 | 55 => mb(t.memory_total),
        23 => used(),
        24 => Small(1 << 20),
        25 => used(),
        26 => Small(model.memory_bus_bits.into()),
        27 => Small((model.memory_bandwidth / 1_000_000_000) as i64),
        28 => Small(t.compute_mode.into()),
        29 => Small(
            library
                .monitor
                .pcie_replays(card.first.pci)
                .ok_or(Code::NotSupported)?
                .into(),
        ),
        30 | 53 => heat(model.thermal.shutdown_milli),
        31 => Small(t.shutdowns.into()),
        32 | 52 | 68 => heat(model.thermal.slowdown_milli),
        33 => Small(t.slowdowns.into()),
        34 => heat(t.temp_board.value_milli),
        35 => {
            within(scope, model.clusters)?;
            heat(t.temp_chip.value_milli)
        }
        37 => heat(t.temp_chip.value_milli),
        40 => heat(t.temp_memory.value_milli),
        44 | 66 => Small(percent(t.utilisation.value_milli).into()),
        45 => {
            within(scope, model.cores())?;
            Small(percent(t.utilisation.value_milli).into())
        }
        54 => mb(model.memory_bytes.saturating_sub(t.memory_total)),
        56 => Large(t.ecc_corrected_total),
        57 => Large(t.ecc_uncorrected_total),
        62 => Small(card.info.info.chip.into()),
        63 => Large(port()?.written_bytes),
        64 => Large(port()?.read_bytes),
        70 => heat(model.thermal.slowdown_milli - t.temp_chip.value_milli),
        // Millijoules.
        71 => Large(t.energy_uj / 1000),
        // Microseconds.
        72 => Large(t.power_capped_ns / 1000),
        73 => Large(t.heat_slowed_ns / 1000),
        _ if (0..FIELDS).contains(&field) => return Err(Code::NotSupported),
        _ => return Err(Code::InvalidArgument),
    })
}

exports! {
    fn cndevDeviceGetFieldValues(device: i32, count: i32, fields: Out<cndevFieldValue_t>) {
        let library = library()?;
        fields.check()?;
        let card = library.card(device)?;
        if !(1..=MOST).contains(&count) {
            return Err(Code::InvalidArgument);
        }
        let t = library.telemetry(card)?;
        for index in 0..count as usize {
            let begin = Instant::now();
            let place = fields.at(index);
            let mut field = place.get()?;
            let (ret, kind, value) = match read(&library, card, field.fieldId, field.scopeId, &t) {
                Ok(Value::Small(value)) => (0, INT, cndevValue_t::signed(value)),
                Ok(Value::Large(value)) => (0, UNSIGNED_LONG_LONG, cndevValue_t::unsigned(value)),
                Err(code) => (code as i32, INT, cndevValue_t::signed(0)),
            };
            (field.ret, field.valueType, field.value) = (ret, kind, value);
            field.latencyUsec = begin.elapsed().as_micros() as i64;
            field.timestamp = now_us() as i64;
            place.put(field)?;
        }
        Ok(())
    }
}
