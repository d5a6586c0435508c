//! Live telemetry: what the chip does over wall time, and a simple model of power and heat. See `docs/hardware.md`, section 10.

use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::sync::Mutex;

use vmlu_abi::model::CardModel;
use vmlu_abi::status::Xid;
use vmlu_abi::telemetry::{Decaying, Telemetry, VERSION};
use vmlu_abi::{Status, Wire};

use crate::clock::wall_ns;
use crate::hardware::HostRange;
use crate::memory::words::HostWords;

/// Time constant of the mean utilisation, ms.
const UTILISATION_TAU_MS: u32 = 500;

/// Counters that commands advance.
#[derive(Default)]
pub struct Counters {
    /// Packets completed.
    pub packets: AtomicU64,
    /// Packets failed or cancelled.
    pub packets_failed: AtomicU64,
    /// Bytes copied from the host.
    pub from_host: AtomicU64,
    /// Bytes copied to the host.
    pub to_host: AtomicU64,
    /// Bytes that operators moved in device memory.
    pub device: AtomicU64,
    /// Operations.
    pub operations: AtomicU64,
    /// Kicks.
    pub kicks: AtomicU64,
    /// RPCs.
    pub rpcs: AtomicU64,
    /// Correctable memory errors.
    pub ecc_corrected: AtomicU64,
    /// Uncorrectable memory errors.
    pub ecc_uncorrected: AtomicU64,
    /// Last xid.
    pub xid: AtomicU32,
    /// Number of xids.
    pub xids: AtomicU32,
}

impl Counters {
    /// Counts an xid.
    pub fn xid(&self, xid: Xid) {
        self.xid.store(xid as u32, Ordering::Relaxed);
        self.xids.fetch_add(1, Ordering::Relaxed);
    }
}

/// What only the firmware knows and telemetry shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Device clock, ns.
    pub device_ns: u64,
    /// Memory that programs can allocate, bytes.
    pub memory_total: u64,
    /// Memory allocated, bytes.
    pub memory_used: u64,
    /// Contexts.
    pub contexts: u32,
    /// Queues.
    pub queues: u32,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Heat injected, thousandths of a degree.
    pub heat_milli: i32,
}

/// The telemetry of a chip.
pub struct Live {
    model: &'static CardModel,
    /// Work done.
    pub counters: Counters,
    /// Wall time with work that has ended, ns.
    busy_ns: AtomicU64,
    /// Queues being served, and the wall time since which there are any.
    active: Mutex<(u32, u64)>,
    state: Mutex<State>,
}

struct State {
    /// Wall time of the last update, ns.
    at: u64,
    /// Busy time at the last update, ns.
    busy_ns: u64,
    utilisation: f64,
    power_mw: f64,
    board: f64,
    chip: f64,
    memory: f64,
    energy_uj: f64,
    page: Option<(HostWords, u64)>,
    sequence: u64,
}

impl Live {
    /// A chip that has been idle for long.
    pub fn new(model: &'static CardModel) -> Self {
        let thermal = &model.thermal;
        Self {
            model,
            counters: Counters::default(),
            busy_ns: AtomicU64::new(0),
            active: Mutex::new((0, 0)),
            state: Mutex::new(State {
                at: wall_ns(),
                busy_ns: 0,
                utilisation: 0.0,
                power_mw: f64::from(thermal.idle_mw / model.chips_per_board),
                board: f64::from(thermal.board_milli.0),
                chip: f64::from(thermal.chip_milli.0),
                memory: f64::from(thermal.memory_milli.0),
                energy_uj: 0.0,
                page: None,
                sequence: 0,
            }),
        }
    }

    /// A queue begins to be served at a wall time.
    pub fn begin(&self, wall: u64) {
        let mut active = self.active.lock().unwrap_or_else(|e| e.into_inner());
        if active.0 == 0 {
            active.1 = wall;
        }
        active.0 += 1;
    }

    /// A queue is no longer served since a wall time.
    pub fn end(&self, wall: u64) {
        let mut active = self.active.lock().unwrap_or_else(|e| e.into_inner());
        active.0 = active.0.saturating_sub(1);
        if active.0 == 0 {
            self.busy_ns
                .fetch_add(wall.saturating_sub(active.1), Ordering::Relaxed);
        }
    }

    /// Whether there is work, and the wall time with work until now, ns.
    fn busy(&self, now: u64) -> (bool, u64) {
        let active = self.active.lock().unwrap_or_else(|e| e.into_inner());
        let running = if active.0 > 0 {
            now.saturating_sub(active.1)
        } else {
            0
        };
        (active.0 > 0, self.busy_ns.load(Ordering::Relaxed) + running)
    }

    /// Sets, or takes away, the page that the card keeps up to date.
    pub fn set_page(&self, address: u64, range: Option<HostRange>) -> Result<(), Status> {
        let page = match range {
            None => None,
            Some(range) => Some((
                HostWords::new(range, size_of::<Telemetry>()).ok_or(Status::AddressFault)?,
                address,
            )),
        };
        self.state.lock().unwrap_or_else(|e| e.into_inner()).page = page;
        Ok(())
    }

    /// Whether there is a page.
    pub fn has_page(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.page.is_some()
    }

    /// Takes the page away if a DMA range touches it.
    pub fn revoke(&self, address: u64, length: u64) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let touched = |at: u64| {
            at < address.saturating_add(length) && address < at + size_of::<Telemetry>() as u64
        };
        if state.page.as_ref().is_some_and(|(_, at)| touched(*at)) {
            state.page = None;
        }
    }

    /// Brings the model up to now, writes the page if there is one, and tells the state.
    pub fn update(&self, gauges: &Gauges) -> Telemetry {
        let now = wall_ns();
        let (busy, busy_ns) = self.busy(now);
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let state = &mut *state;
        let thermal = &self.model.thermal;
        let chips = f64::from(self.model.chips_per_board);
        let elapsed = now.saturating_sub(state.at) as f64;
        let load = if elapsed > 0.0 {
            ((busy_ns.saturating_sub(state.busy_ns)) as f64 / elapsed).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let between = |range: (f64, f64), load: f64| range.0 + (range.1 - range.0) * load;
        let power = |load| {
            between(
                (
                    f64::from(thermal.idle_mw) / chips,
                    f64::from(thermal.full_mw) / chips,
                ),
                load,
            )
        };
        let heat = |range: (i32, i32), load| {
            between((f64::from(range.0), f64::from(range.1)), load) + f64::from(gauges.heat_milli)
        };
        let approach = |value: &mut f64, target: f64, tau_ms: u32| {
            *value = target + (*value - target) * (-elapsed / (f64::from(tau_ms) * 1e6)).exp();
        };
        approach(&mut state.utilisation, load * 100_000.0, UTILISATION_TAU_MS);
        approach(&mut state.power_mw, power(load), thermal.power_tau_ms);
        approach(
            &mut state.board,
            heat(thermal.board_milli, load),
            thermal.tau_ms,
        );
        approach(
            &mut state.chip,
            heat(thermal.chip_milli, load),
            thermal.tau_ms,
        );
        approach(
            &mut state.memory,
            heat(thermal.memory_milli, load),
            thermal.tau_ms,
        );
        state.energy_uj += state.power_mw * elapsed / 1e6;
        state.at = now;
        state.busy_ns = busy_ns;

        let ahead = if busy { 1.0 } else { 0.0 };
        let decaying = |value: f64, target: f64, tau_ms| Decaying {
            value_milli: value.round() as i32,
            target_milli: target.round() as i32,
            tau_ms,
            reserved: 0,
        };
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let telemetry = Telemetry {
            version: VERSION,
            size: size_of::<Telemetry>() as u32,
            updated_ns: now,
            device_ns: gauges.device_ns,
            busy_ns,
            busy: u32::from(busy),
            healthy: 1,
            utilisation: decaying(state.utilisation, ahead * 100_000.0, UTILISATION_TAU_MS),
            power: decaying(state.power_mw, power(ahead), thermal.power_tau_ms),
            temp_board: decaying(
                state.board,
                heat(thermal.board_milli, ahead),
                thermal.tau_ms,
            ),
            temp_chip: decaying(state.chip, heat(thermal.chip_milli, ahead), thermal.tau_ms),
            temp_memory: decaying(
                state.memory,
                heat(thermal.memory_milli, ahead),
                thermal.tau_ms,
            ),
            energy_uj: state.energy_uj as u64,
            power_cap_mw: thermal.cap_mw,
            clock_khz: self.model.clock_khz,
            memory_clock_khz: self.model.memory_clock_khz,
            fan_percent: thermal.fan_percent,
            memory_total: gauges.memory_total,
            memory_used: gauges.memory_used,
            contexts: gauges.contexts,
            queues: gauges.queues,
            packets: read(&counters.packets),
            packets_failed: read(&counters.packets_failed),
            bytes_from_host: read(&counters.from_host),
            bytes_to_host: read(&counters.to_host),
            bytes_device: read(&counters.device),
            operations: read(&counters.operations),
            ecc_corrected: read(&counters.ecc_corrected),
            ecc_uncorrected: read(&counters.ecc_uncorrected),
            xid: counters.xid.load(Ordering::Relaxed),
            xid_count: counters.xids.load(Ordering::Relaxed),
            kicks: read(&counters.kicks),
            interrupts: gauges.interrupts,
            rpcs: read(&counters.rpcs),
            ..Telemetry::zeroed()
        };
        if let Some((page, _)) = &state.page {
            state.sequence += 2;
            write_page(
                page,
                &Telemetry {
                    sequence: state.sequence,
                    ..telemetry
                },
            );
        }
        Telemetry {
            sequence: state.sequence,
            ..telemetry
        }
    }
}

/// Writes the page between an odd and an even sequence, so that a reader can tell a torn copy.
fn write_page(page: &HostWords, telemetry: &Telemetry) {
    page.u64(0).store(telemetry.sequence - 1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if let Some(body) = page.bytes().slice(8, size_of::<Telemetry>() - 8) {
        body.copy_from(&telemetry.as_bytes()[8..]);
    }
    fence(Ordering::SeqCst);
    page.u64(0).store(telemetry.sequence, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    #[test]
    fn load_shows_in_utilisation_power_and_heat() {
        let live = Live::new(&MLU370_X8);
        let idle = live.update(&Gauges::default());
        live.begin(wall_ns());
        std::thread::sleep(std::time::Duration::from_millis(300));
        let loaded = live.update(&Gauges::default());
        live.end(wall_ns());
        assert_eq!((idle.busy, loaded.busy), (0, 1));
        assert!(loaded.utilisation.value_milli > 30_000, "{loaded:?}");
        assert!(loaded.power.value_milli > idle.power.value_milli + 10_000);
        assert!(loaded.temp_chip.value_milli > idle.temp_chip.value_milli);
        assert!(loaded.busy_ns >= 290_000_000 && loaded.energy_uj > 0);
    }
}
