// SPDX-License-Identifier: GPL-2.0

//! Attributes of `/sys/class/mlu/mlu*`: files of one value each. See `docs/uapi.md`, section 14.

use kernel::prelude::*;

use crate::{card::Card, ext::attributes::Attribute, quota::Kind};

/// Zero-padded text of the firmware, as far as it is printable.
pub(crate) fn text(bytes: &[u8]) -> &str {
    let end = bytes
        .iter()
        .position(|b| !b.is_ascii_graphic())
        .unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("?")
}

/// Whole per cents of thousandths, as a file shows them.
fn percent(milli: i32) -> i32 {
    milli.clamp(0, 100_000) / 1000
}

macro_rules! attributes {
    ($($name:literal: |$card:ident| ($($value:tt)*) $(= $quota:expr)?,)*) => {
        [$(Attribute::<Card>::new($name, |$card, page| page.emit(fmt!($($value)*)))
            $(.writable(|card: &Card, text| {
                card.quotas.set_limit($quota, text.parse().map_err(|_| EINVAL)?);
                Ok(())
            }))?),*]
    };
}

/// The attributes of a chip.
pub(crate) static ATTRIBUTES: [Attribute<Card>; 21] = attributes! {
    c"model": |card| ("{}", text(&card.info().name)),
    c"serial": |card| ("{:016x}", card.info().serial),
    c"uuid": |card| ("{:032x}", u128::from_be_bytes(card.info().uuid)),
    c"chip": |card| ("{}", card.info().chip),
    c"firmware_version": |card| ("{}", text(&card.info().firmware)),
    c"firmware_api": |card| ("{}", card.info().api_version),
    c"driver_version": |_card| ("{}", crate::VERSION),
    c"state": |card| ("{}", card.state_name()),
    c"memory_total": |card| ("{}", card.telemetry()?.memory_total),
    c"memory_used": |card| ("{}", card.telemetry()?.memory_used),
    c"busy_percent": |card| ("{}", percent(card.telemetry()?.utilisation.value_milli)),
    c"busy_ns": |card| ("{}", card.telemetry()?.busy_ns),
    c"contexts": |card| ("{}", card.telemetry()?.contexts),
    c"queues": |card| ("{}", card.telemetry()?.queues),
    c"ecc_corrected": |card| ("{}", card.telemetry()?.ecc_corrected),
    c"ecc_uncorrected": |card| ("{}", card.telemetry()?.ecc_uncorrected),
    c"xid": |card| ("{}", card.telemetry()?.xid),
    c"xid_count": |card| ("{}", card.telemetry()?.xid_count),
    c"quota_queues": |card| ("{}", card.quotas.limit(Kind::Queues)) = Kind::Queues,
    c"quota_memory": |card| ("{}", card.quotas.limit(Kind::Memory)) = Kind::Memory,
    c"quota_pinned": |card| ("{}", card.quotas.limit(Kind::Pinned)) = Kind::Pinned,
};
