//! `cnmon set`, `cnmon ecc` and `cnmon reset`: what can be changed.

use vmlu::abi::setting::{ComputeMode, Configure, Setting};
use vmlu::abi::Wire;
use vmlu::telemetry::{DeviceSnapshot, Live};
use vmlu::transport::Transport;

use crate::cli::{EccOptions, Failure, Mode, SetOptions, Switch};
use crate::instances::{self, Kind};
use crate::query::compute_mode;
use crate::text::{self, UNKNOWN};

fn configure(
    transport: &dyn Transport,
    card: u32,
    setting: Setting,
    value: u64,
) -> Result<(), Failure> {
    let configure = Configure {
        setting: setting as u32,
        value,
        ..Configure::zeroed()
    };
    let done = transport.configure(card, &configure);
    done.map_err(|error| Failure::not_set(&error))
}

/// Does what `cnmon set` asks for.
pub(crate) fn set(
    transport: &dyn Transport,
    options: &SetOptions,
    cards: &[&DeviceSnapshot],
) -> Result<(), Failure> {
    // Off is what they are.
    for (kind, wanted) in [(Kind::Mim, options.mim), (Kind::Smlu, options.smlu)] {
        if wanted == Some(Switch::On) {
            return Err(Failure::no_instances(kind.name()));
        }
    }
    for card in cards.iter().map(|card| card.index) {
        if let Some(watts) = options.power_cap {
            configure(transport, card, Setting::PowerCap, watts * 1000)?;
        }
        if let Some(mhz) = options.clock {
            configure(transport, card, Setting::Clock, mhz * 1000)?;
        }
        if let Some(mode) = options.compute_mode {
            let mode = match mode {
                Mode::Default => ComputeMode::Default,
                Mode::Exclusive => ComputeMode::Exclusive,
                Mode::Prohibited => ComputeMode::Prohibited,
            };
            configure(transport, card, Setting::ComputeMode, mode as u64)?;
        }
    }
    Ok(())
}

/// Does what `cnmon ecc` asks for.
pub(crate) fn set_ecc(
    transport: &dyn Transport,
    options: &EccOptions,
    cards: &[&DeviceSnapshot],
) -> Result<(), Failure> {
    if options.enable || options.disable {
        for card in cards {
            let on = u64::from(options.enable);
            configure(transport, card.index, Setting::Ecc, on)?;
        }
    }
    Ok(())
}

/// Does what `cnmon reset` asks for.
pub(crate) fn reset(transport: &dyn Transport, card: u32) -> Result<(), Failure> {
    configure(transport, card, Setting::Restart, 0)
}

/// A line: its key, and what stands behind the colon.
type KeyValue<'a> = (&'a str, fn(&Live) -> String);

fn lines(out: &mut String, card: &DeviceSnapshot, lines: &[KeyValue<'_>]) {
    *out += &format!("Card {}\n", card.index);
    for (key, value) in lines {
        let value = card.live.as_ref().map_or(UNKNOWN.to_owned(), value);
        text::key(out, 1, key, &value);
    }
}

fn on(value: bool) -> String {
    if value { "Enable" } else { "Disable" }.into()
}

/// The settings of these cards.
pub(crate) fn render(cards: &[&DeviceSnapshot]) -> String {
    let mut out = String::new();
    for card in cards {
        lines(
            &mut out,
            card,
            &[
                ("Power Cap", |l| format!("{:.0} W", l.power.cap_w)),
                ("Power Cap Range", |l| {
                    format!(
                        "{:.0} W - {:.0} W",
                        l.power.min_cap_w, l.power.default_cap_w
                    )
                }),
                ("Clock", |l| format!("{} MHz", l.clocks.ipu_khz / 1000)),
                ("Clock Range", |l| {
                    format!(
                        "{} MHz - {} MHz",
                        l.clocks.min_ipu_khz / 1000,
                        l.clocks.max_ipu_khz / 1000
                    )
                }),
                ("Clock Lock", |l| on(l.throttle.locked)),
            ],
        );
        let mode = compute_mode(card.compute_mode);
        text::key(&mut out, 1, "Compute Mode", mode);
        text::key(&mut out, 1, "MIM Mode", instances::MODE);
        text::key(&mut out, 1, "sMLU Mode", instances::MODE);
    }
    out
}

/// ECC of these cards.
pub(crate) fn render_ecc(cards: &[&DeviceSnapshot]) -> String {
    let mut out = String::new();
    for card in cards {
        lines(
            &mut out,
            card,
            &[
                ("Current Mode", |l| on(l.ecc.enabled)),
                ("Pending Mode", |l| on(l.ecc.pending)),
                ("Corrected Errors", |l| l.ecc.corrected.to_string()),
                ("Uncorrected Errors", |l| l.ecc.uncorrected.to_string()),
                ("Corrected Errors Total", |l| {
                    l.ecc.corrected_total.to_string()
                }),
                ("Uncorrected Errors Total", |l| {
                    l.ecc.uncorrected_total.to_string()
                }),
                ("Retired Pages", |l| l.ecc.retired_pages.to_string()),
                ("Retired Pages Pending", |l| {
                    l.ecc.retired_pending.to_string()
                }),
            ],
        );
    }
    out
}
