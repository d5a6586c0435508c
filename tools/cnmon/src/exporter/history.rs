//! What the exporter remembers from one request to the next: for rates, for what processes had of a card, and for xids.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use vmlu::abi::event::EventKind;
use vmlu::abi::setting::LogEntry;
use vmlu::telemetry::{DeviceSnapshot, FabricSnapshot, Shares};

const MIB: f64 = (1u64 << 20) as f64;

/// What a card had counted when it was looked at.
#[derive(Clone, Debug, Default)]
struct Counts {
    busy_ns: u64,
    from_host: u64,
    to_host: u64,
    /// Bytes of each port: received, sent.
    ports: BTreeMap<u32, (u64, u64)>,
}

/// What a card did between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Share of time with work, percent.
    pub(super) busy_percent: f64,
    /// To the host, MiB/s.
    pub(super) pcie_tx: f64,
    /// From the host, MiB/s.
    pub(super) pcie_rx: f64,
    /// Port, and what it sent and received, MiB/s.
    pub(super) ports: Vec<(u32, f64, f64)>,
}

/// The past.
#[derive(Debug, Default)]
pub(crate) struct History {
    last: HashMap<u32, (Instant, Counts)>,
    rates: HashMap<u32, Rates>,
    shares: HashMap<u32, Shares>,
    divided: HashMap<u32, Vec<u32>>,
    /// How often a card reported an xid.
    xids: BTreeMap<(u32, u64), u64>,
}

impl History {
    /// Looks at the cards as they are at `now`; `events` is what their logs have had since the last time.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        cards: &[DeviceSnapshot],
        fabric: Option<&FabricSnapshot>,
        events: &[(u32, LogEntry)],
    ) {
        self.rates.clear();
        self.divided.clear();
        for card in cards {
            let Some(live) = &card.live else {
                // When it is back it counts anew.
                self.last.remove(&card.index);
                continue;
            };
            let ports = fabric.iter().flat_map(|fabric| &fabric.chips);
            let ports = ports.filter(|chip| chip.index == card.index);
            let counts = Counts {
                busy_ns: live.counters.busy_ns,
                from_host: live.counters.bytes_from_host,
                to_host: live.counters.bytes_to_host,
                ports: ports
                    .flat_map(|chip| chip.ports.iter().flatten())
                    .map(|p| (p.port, (p.counters.read_bytes, p.counters.written_bytes)))
                    .collect(),
            };
            if let Some((then, before)) = self.last.get(&card.index) {
                let seconds = now.saturating_duration_since(*then).as_secs_f64();
                if seconds > 0.0 {
                    self.rates
                        .insert(card.index, rates(before, &counts, seconds));
                }
            }
            self.last.insert(card.index, (now, counts));
            let used = live.utilisation_percent.round() as u32;
            let shares = self.shares.entry(card.index).or_default();
            self.divided
                .insert(card.index, shares.of(used, &card.processes));
        }
        for (card, entry) in events {
            if entry.kind == EventKind::Xid as u32 {
                *self.xids.entry((*card, entry.value)).or_default() += 1;
            }
        }
    }

    /// What a card did between the last two looks, if it was there at both.
    pub(super) fn rates(&self, card: u32) -> Option<&Rates> {
        self.rates.get(&card)
    }

    /// What the processes of a card had of it between the last two looks, percent, in their order.
    pub(super) fn shares(&self, card: u32) -> &[u32] {
        self.divided.get(&card).map_or(&[], Vec::as_slice)
    }

    /// The xids that a card reported, and how often.
    pub(super) fn xids(&self, card: u32) -> impl Iterator<Item = (u64, u64)> + '_ {
        let of_card = self.xids.range((card, 0)..=(card, u64::MAX));
        of_card.map(|((_, xid), count)| (*xid, *count))
    }
}

fn rates(before: &Counts, now: &Counts, seconds: f64) -> Rates {
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / MIB / seconds;
    let busy = now.busy_ns.saturating_sub(before.busy_ns) as f64 / 1e9;
    let port = |(port, (read, written)): (&u32, &(u64, u64))| {
        let (read_before, written_before) = before.ports.get(port)?;
        Some((
            *port,
            rate(*written_before, *written),
            rate(*read_before, *read),
        ))
    };
    Rates {
        busy_percent: (busy / seconds * 100.0).clamp(0.0, 100.0),
        pcie_tx: rate(before.to_host, now.to_host),
        pcie_rx: rate(before.from_host, now.from_host),
        ports: now.ports.iter().filter_map(port).collect(),
    }
}
