//! Live telemetry: what the chip does over wall time, and a simple model of power and heat. See `docs/hardware.md`, section 10.

use std::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmlu_abi::model::CardModel;
use vmlu_abi::status::Xid;
use vmlu_abi::telemetry::{incident, throttle, Decaying, Telemetry, VERSION};
use vmlu_abi::{Status, Wire};

use crate::clock::wall_ns;
use crate::hardware::HostRange;
use crate::memory::words::HostWords;
use crate::record::{Record, Totals};

/// Time constant of the mean utilisation, ms.
const UTILISATION_TAU_MS: u32 = 500;
/// Time constant of the rates of transfers, ms.
const RATE_TAU_MS: u32 = 500;
/// How far below its limit the chip is before heat lowers the clock no longer, thousandths of a degree.
const HYSTERESIS_MILLI: f64 = 5_000.0;
/// What heat leaves of the clock.
const HOT_CLOCK: f64 = 0.5;

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
    /// Whether links are down, and whether links have fewer lanes than they should.
    pub links: (bool, bool),
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
    record: Arc<Record>,
    /// Thousandths of the model's clock that the chip runs at.
    clock_permille: AtomicU32,
    /// Whether it stopped because of heat.
    overheated: AtomicBool,
    /// Whether something halted since the reset.
    halted: AtomicBool,
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
    /// Transfers from the host and to it, MB/s.
    rates: [f64; 2],
    /// Bytes of transfers at the last update.
    moved: [u64; 2],
    /// Whether ECC is on.
    ecc: bool,
    /// Whether heat lowers the clock.
    hot: bool,
    page: Option<(HostWords, u64)>,
    sequence: u64,
}

impl Live {
    /// A chip that has been idle for long. `ecc` is whether ECC is on.
    pub fn new(model: &'static CardModel, record: Arc<Record>, ecc: bool) -> Self {
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
                rates: [0.0; 2],
                moved: [0; 2],
                ecc,
                hot: false,
                page: None,
                sequence: 0,
            }),
            record,
            clock_permille: AtomicU32::new(1000),
            overheated: AtomicBool::new(false),
            halted: AtomicBool::new(false),
        }
    }

    /// Begins anew as after a reset: what counts from there on is cleared, temperatures are not.
    pub fn restart(&self, ecc: bool) {
        let counters = &self.counters;
        for counter in [&counters.ecc_corrected, &counters.ecc_uncorrected] {
            counter.store(0, Ordering::Relaxed);
        }
        counters.xid.store(0, Ordering::Relaxed);
        counters.xids.store(0, Ordering::Relaxed);
        self.halted.store(false, Ordering::Relaxed);
        self.overheated.store(false, Ordering::Relaxed);
        self.state.lock().unwrap_or_else(|e| e.into_inner()).ecc = ecc;
    }

    /// Whether the chip stopped because of heat: no command runs until a reset.
    pub fn is_overheated(&self) -> bool {
        self.overheated.load(Ordering::Relaxed)
    }

    /// Something halted.
    pub fn halted(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    /// What a command of the model's clock costs at the clock of now.
    pub fn at_clock(&self, cost_ns: u64) -> u64 {
        match self.clock_permille.load(Ordering::Relaxed) {
            0 | 1000 => cost_ns,
            permille => cost_ns.saturating_mul(1000) / u64::from(permille),
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
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let before = std::mem::replace(&mut state.page, page);
        if let (Some((words, _)), None) = (before, &state.page) {
            // Who still looks there sees that nothing is said any more.
            state.sequence += 2;
            let nothing = Telemetry {
                sequence: state.sequence,
                ..Telemetry::zeroed()
            };
            write_page(&words, &nothing);
        }
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

    /// Brings the model up to now, writes the page if there is one, and tells the state, and whether the chip has just got too hot.
    pub fn update(&self, gauges: &Gauges) -> (Telemetry, bool) {
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
        let settings = self.record.settings();
        let cap_mw = match settings.power_cap_mw {
            0 => thermal.cap_mw,
            cap => cap,
        };
        let throttled = self.throttle(state, settings.clock_khz, cap_mw, load);
        let speed = f64::from(throttled.permille) / 1000.0;
        self.clock_permille
            .store(throttled.permille, Ordering::Relaxed);
        let between = |range: (f64, f64), load: f64| range.0 + (range.1 - range.0) * load;
        let power = |load: f64| {
            between(
                (
                    f64::from(thermal.idle_mw) / chips,
                    f64::from(thermal.full_mw) / chips,
                ),
                load * speed,
            )
        };
        let heat = |range: (i32, i32), load: f64| {
            between((f64::from(range.0), f64::from(range.1)), load * speed)
                + f64::from(gauges.heat_milli)
        };
        let approach = |value: &mut f64, target: f64, tau_ms: u32| {
            *value = target + (*value - target) * (-elapsed / (f64::from(tau_ms) * 1e6)).exp();
        };
        approach(&mut state.utilisation, load * 100_000.0, UTILISATION_TAU_MS);
        approach(&mut state.power_mw, power(load), thermal.power_tau_ms);
        for (value, range) in [
            (&mut state.board, thermal.board_milli),
            (&mut state.chip, thermal.chip_milli),
            (&mut state.memory, thermal.memory_milli),
        ] {
            approach(value, heat(range, load), thermal.tau_ms);
        }
        let moved = [&self.counters.from_host, &self.counters.to_host];
        for (direction, counter) in moved.into_iter().enumerate() {
            let bytes = counter.load(Ordering::Relaxed);
            let more = bytes.wrapping_sub(state.moved[direction]) as f64;
            // Bytes each ns are GB/s.
            let rate = if elapsed > 0.0 {
                more / elapsed * 1e3
            } else {
                0.0
            };
            approach(&mut state.rates[direction], rate, RATE_TAU_MS);
            state.moved[direction] = bytes;
        }
        let (totals, too_hot) = self.account(state, &throttled, elapsed);
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
        let (corrected, uncorrected, retired, worn, pending) = self.record.with_kept(|kept| {
            let pages = &kept.retired;
            (
                kept.corrected,
                kept.uncorrected,
                pages.len(),
                pages.iter().filter(|page| !page.uncorrected).count(),
                pages.iter().filter(|page| page.pending).count(),
            )
        });
        let incidents = [
            (
                read(&counters.ecc_uncorrected) > 0,
                incident::MEMORY_UNCORRECTED,
            ),
            (
                read(&counters.ecc_corrected) > 0,
                incident::MEMORY_CORRECTED,
            ),
            (pending > 0, incident::RETIREMENT_PENDING),
            (state.hot, incident::HOT),
            (self.is_overheated(), incident::OVERHEATED),
            (self.halted.load(Ordering::Relaxed), incident::HALTED),
            (gauges.links.0, incident::LINK_DOWN),
            (gauges.links.1, incident::LINK_DEGRADED),
        ];
        let incidents = incidents
            .iter()
            .fold(0, |all, (there, bit)| if *there { all | bit } else { all });
        let rate = |direction: usize| decaying(state.rates[direction] * 1e3, 0.0, RATE_TAU_MS);
        let telemetry = Telemetry {
            version: VERSION,
            size: size_of::<Telemetry>() as u32,
            updated_ns: now,
            device_ns: gauges.device_ns,
            busy_ns,
            busy: u32::from(busy),
            healthy: u32::from(incidents & incident::FATAL == 0),
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
            energy_uj: totals.energy_uj as u64,
            power_cap_mw: cap_mw,
            clock_khz: throttled.clock_khz,
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
            retired_pages: retired as u64,
            ecc_corrected_total: corrected,
            ecc_uncorrected_total: uncorrected,
            from_host_rate: rate(0),
            to_host_rate: rate(1),
            incidents,
            throttle: throttled.reasons,
            slowdowns: totals.slowdowns,
            shutdowns: totals.shutdowns,
            power_capped_ns: totals.power_capped_ns,
            heat_slowed_ns: totals.heat_slowed_ns,
            ecc_mode: u8::from(state.ecc),
            ecc_pending: u8::from(self.record.with_kept(|kept| kept.ecc)),
            compute_mode: settings.compute_mode as u8,
            clock_locked: u8::from(settings.clock_khz != 0),
            retired_corrected: worn as u32,
            retired_pending: pending as u32,
            resets: totals.boots.saturating_sub(1),
            events: self.record.newest(),
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
        let telemetry = Telemetry {
            sequence: state.sequence,
            ..telemetry
        };
        (telemetry, too_hot)
    }

    /// The clock of now, and what holds it down.
    fn throttle(&self, state: &State, locked_khz: u32, cap_mw: u32, load: f64) -> Throttled {
        let thermal = &self.model.thermal;
        let full = f64::from(self.model.clock_khz);
        let mut clock = full;
        let mut reasons = 0;
        if locked_khz != 0 {
            clock = f64::from(locked_khz);
            reasons |= throttle::LOCKED;
        }
        if state.hot || self.is_overheated() {
            reasons |= throttle::HEAT;
            clock = clock.min(full * HOT_CLOCK);
        }
        // The power above that of an idle board goes with load and clock.
        let span = f64::from(thermal.full_mw - thermal.idle_mw);
        let allowed = f64::from(cap_mw.saturating_sub(thermal.idle_mw)) / span * full / load;
        if load > 0.0 && allowed < clock {
            reasons |= throttle::POWER_CAP;
            clock = allowed;
        }
        let (lowest, highest) = self.model.clock_range_khz;
        let clock = clock.clamp(f64::from(lowest), f64::from(highest));
        Throttled {
            clock_khz: clock.round() as u32,
            permille: (clock * 1000.0 / full).round() as u32,
            reasons,
        }
    }

    /// Adds up what runs on over resets, and looks at the limits of heat; whether one of them was passed just now.
    fn account(&self, state: &mut State, throttled: &Throttled, elapsed: f64) -> (Totals, bool) {
        let thermal = &self.model.thermal;
        let mut totals = self.record.totals.lock().unwrap_or_else(|e| e.into_inner());
        totals.energy_uj += state.power_mw * elapsed / 1e6;
        if throttled.reasons & throttle::POWER_CAP != 0 {
            totals.power_capped_ns += elapsed as u64;
        }
        if throttled.reasons & throttle::HEAT != 0 {
            totals.heat_slowed_ns += elapsed as u64;
        }
        let slowdown = f64::from(thermal.slowdown_milli);
        let was_hot = state.hot;
        state.hot = state.chip >= slowdown || was_hot && state.chip > slowdown - HYSTERESIS_MILLI;
        let stops = state.chip >= f64::from(thermal.shutdown_milli)
            && !self.overheated.swap(true, Ordering::Relaxed);
        totals.slowdowns += u32::from(state.hot && !was_hot);
        totals.shutdowns += u32::from(stops);
        (*totals, (state.hot && !was_hot) || stops)
    }
}

/// What [`Live::throttle`] finds.
struct Throttled {
    clock_khz: u32,
    permille: u32,
    reasons: u32,
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
        let live = Live::new(&MLU370_X8, Arc::default(), false);
        let (idle, _) = live.update(&Gauges::default());
        live.begin(wall_ns());
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (loaded, _) = live.update(&Gauges::default());
        live.end(wall_ns());
        assert_eq!((idle.busy, loaded.busy), (0, 1));
        assert!(loaded.utilisation.value_milli > 30_000, "{loaded:?}");
        assert!(loaded.power.value_milli > idle.power.value_milli + 10_000);
        assert!(loaded.temp_chip.value_milli > idle.temp_chip.value_milli);
        assert!(loaded.busy_ns >= 290_000_000 && loaded.energy_uj > 0);
    }

    /// The state after the update `ms` from the last one, as if so much time had passed.
    fn after(live: &Live, ms: u64, gauges: &Gauges) -> (Telemetry, bool) {
        {
            let mut state = live.state.lock().unwrap();
            state.at = state.at.saturating_sub(ms * 1_000_000);
        }
        {
            let mut active = live.active.lock().unwrap();
            active.1 = active.1.saturating_sub(ms * 1_000_000);
        }
        live.update(gauges)
    }

    #[test]
    fn heat_lowers_the_clock_and_then_stops_the_chip() {
        let record = Arc::new(Record::default());
        let live = Live::new(&MLU370_X8, record.clone(), false);
        let hot = |degrees| Gauges {
            heat_milli: degrees * 1000,
            ..Gauges::default()
        };
        assert_eq!(after(&live, 600_000, &hot(50)).0.throttle, 0);
        let (_, told) = after(&live, 600_000, &hot(60));
        assert!(told, "the chip is told of once");
        let (slow, told) = after(&live, 1_000, &hot(60));
        assert!(
            !told && slow.healthy == 1 && slow.incidents == incident::HOT,
            "{slow:?}"
        );
        assert_eq!((slow.throttle, slow.slowdowns), (throttle::HEAT, 1));
        assert_eq!(slow.clock_khz, MLU370_X8.clock_khz / 2);
        assert!(slow.heat_slowed_ns >= 1_000_000_000);
        assert_eq!(live.at_clock(10), 20);
        assert!(after(&live, 600_000, &hot(80)).1 && live.is_overheated());
        let (cool, _) = after(&live, 600_000, &hot(0));
        assert_eq!((cool.healthy, cool.shutdowns), (0, 1), "until a reset");
        live.restart(false);
        let (again, _) = after(&live, 1, &hot(0));
        assert_eq!((again.healthy, again.throttle, again.shutdowns), (1, 0, 1));
    }

    #[test]
    fn a_power_cap_holds_a_loaded_chip_down() {
        let record = Arc::new(Record::default());
        let live = Live::new(&MLU370_X8, record.clone(), false);
        record.set(|settings| settings.power_cap_mw = 175_000);
        live.begin(wall_ns() - 60_000_000_000);
        let mut last = Telemetry::zeroed();
        for _ in 0..30 {
            last = after(&live, 1_000, &Gauges::default()).0;
        }
        live.end(wall_ns());
        assert_eq!(last.throttle, throttle::POWER_CAP);
        assert!(last.power.value_milli <= 88_000, "{last:?}");
        assert!(last.clock_khz < 600_000 && last.power_capped_ns > 20_000_000_000);
        let (idle, _) = after(&live, 60_000, &Gauges::default());
        assert_eq!((idle.throttle, idle.power_cap_mw), (0, 175_000));
    }
}
