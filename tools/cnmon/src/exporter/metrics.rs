//! The metrics, one line each: name, kind, help, value. Names, units and labels are those of the vendor's exporter; what the card does not have
//! is left out.

use vmlu::abi::setting::MAX_RETIRED;
use vmlu::telemetry::{DeviceSnapshot, LinkState, Live, PortSnapshot, ProcessUsage, VIRTUAL_BYTES};

/// A value that goes up and down.
pub(super) const GAUGE: &str = "gauge";
/// One that only grows.
pub(super) const COUNTER: &str = "counter";

/// A metric: how it is called, what it is, and its value of a card, a process or a port.
pub(super) struct Metric<F> {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) value: F,
}

/// A value of a card; `None` where it is not known.
type OfCard = fn(&DeviceSnapshot, &Live) -> Option<f64>;
/// A value of a process on a card.
type OfProcess = fn(&DeviceSnapshot, &ProcessUsage) -> f64;
/// A value of a port.
type OfPort = fn(&PortSnapshot) -> f64;

macro_rules! metrics {
    ($( $name:literal, $kind:expr, $help:literal, $value:expr; )*) => {
        &[ $( Metric { name: $name, kind: $kind, help: $help, value: $value } ),* ]
    };
}

pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Bytes of so many MiB.
fn bytes(mib: u64) -> f64 {
    (mib << 20) as f64
}

fn percent(part: f64, whole: f64) -> f64 {
    part * 100.0 / whole.max(1.0)
}

/// Metrics of a card.
pub(super) const CARD: &[Metric<OfCard>] = metrics! {
    "utilization", GAUGE, "Utilisation of the card, percent", |_, l| Some(l.utilisation_percent.round());
    "activity", GAUGE, "Share of time in which the card had work, percent", |_, l| Some(l.utilisation_percent.round());
    "temperature", GAUGE, "Board temperature, celsius", |_, l| Some(l.temperature.board_c.round());
    "chip_temperature", GAUGE, "Chip temperature, celsius", |_, l| Some(l.temperature.chip_c.round());
    "memory_temperature", GAUGE, "Memory temperature, celsius", |_, l| Some(l.temperature.memory_c.round());
    "memory_total", GAUGE, "Memory, bytes", |_, l| Some(bytes(l.memory.total_mib()));
    "memory_used", GAUGE, "Memory in use, bytes", |_, l| Some(bytes(l.memory.used_mib()));
    "memory_free", GAUGE, "Memory that is free, bytes", |_, l| Some(bytes(l.memory.free_mib()));
    "memory_reserved", GAUGE, "Memory that programs cannot use, bytes",
        |c, l| c.model().map(|m| m.memory_bytes.saturating_sub(l.memory.total_bytes) as f64);
    "memory_utilization", GAUGE, "Memory in use, percent",
        |_, l| Some(percent(l.memory.used_mib() as f64, l.memory.total_mib() as f64));
    "virtual_memory_total", GAUGE, "Address space, bytes", |_, _| Some(VIRTUAL_BYTES as f64);
    "virtual_memory_used", GAUGE, "Address space in use, bytes", |c, _| Some(c.virtual_used_bytes() as f64);
    "virtual_memory_free", GAUGE, "Address space that is free, bytes",
        |c, _| Some(VIRTUAL_BYTES.saturating_sub(c.virtual_used_bytes()) as f64);
    "ddr_data_width", GAUGE, "Width of the memory's bus, bits", |c, _| c.model().map(|m| m.memory_bus_bits.into());
    "ddr_band_width", GAUGE, "Bandwidth of the memory, bytes a ns", |c, _| c.model().map(|m| m.memory_bandwidth as f64 / 1e9);
    "power_usage", GAUGE, "Power of the board, watts", |_, l| Some(l.power.board_w.round());
    "power_current_limit", GAUGE, "Power cap, watts", |_, l| Some(l.power.cap_w);
    "power_default_limit", GAUGE, "Power cap if none is set, watts", |_, l| Some(l.power.default_cap_w);
    "power_min_limit", GAUGE, "Lowest power cap, watts", |_, l| Some(l.power.min_cap_w);
    "power_max_limit", GAUGE, "Highest power cap, watts", |_, l| Some(l.power.default_cap_w);
    "fan_speed", GAUGE, "Fan, percent", |_, l| Some(l.fan_percent.into());
    "frequency", GAUGE, "Clock, MHz", |_, l| Some(f64::from(l.clocks.ipu_khz / 1000));
    "default_frequency", GAUGE, "Clock if nothing holds it down, MHz", |_, l| Some(f64::from(l.clocks.default_ipu_khz / 1000));
    "ddr_frequency", GAUGE, "Memory clock, MHz", |_, l| Some(f64::from(l.clocks.memory_khz / 1000));
    "frequency_status", GAUGE, "Whether the clock is locked", |_, l| Some(flag(l.throttle.locked));
    "thermal_slow_down", GAUGE, "Whether heat lowers the clock", |_, l| Some(flag(l.throttle.heat));
    "over_temp_under_clock_total", COUNTER, "How often heat lowered the clock", |_, l| Some(l.throttle.slowdowns.into());
    "over_temp_under_clock_threshold", GAUGE, "Temperature at which heat lowers the clock, celsius",
        |c, _| c.model().map(|m| f64::from(m.thermal.slowdown_milli) / 1e3);
    "over_temp_power_off_total", COUNTER, "How often heat stopped the chip", |_, l| Some(l.throttle.shutdowns.into());
    "over_temp_power_off_threshold", GAUGE, "Temperature at which heat stops the chip, celsius",
        |c, _| c.model().map(|m| f64::from(m.thermal.shutdown_milli) / 1e3);
    "pcie_read_throughput", GAUGE, "From the host, bytes a second", |_, l| Some(l.transfers.from_host_per_second.round());
    "pcie_write_throughput", GAUGE, "To the host, bytes a second", |_, l| Some(l.transfers.to_host_per_second.round());
    "pcie_current_speed", GAUGE, "Generation that the PCIe link runs at", |c, _| c.pcie_link.current.map(|l| l.generation.into());
    "pcie_current_width", GAUGE, "Lanes that the PCIe link runs on", |c, _| c.pcie_link.current.map(|l| l.lanes.into());
    "pcie_max_speed", GAUGE, "Highest generation of the PCIe link", |c, _| c.pcie_link.max.map(|l| l.generation.into());
    "pcie_max_width", GAUGE, "Most lanes of the PCIe link", |c, _| c.pcie_link.max.map(|l| l.lanes.into());
    "ecc_corrected_error_total", COUNTER, "Corrected memory errors", |_, l| Some(l.ecc.corrected as f64);
    "ecc_uncorrected_error_total", COUNTER, "Uncorrected memory errors", |_, l| Some(l.ecc.uncorrected as f64);
    "ecc_one_bit_error_total", COUNTER, "Memory errors of one bit", |_, l| Some(l.ecc.corrected as f64);
    "ecc_multiple_error_total", COUNTER, "Memory errors of several bits", |_, l| Some(l.ecc.uncorrected as f64);
    "ecc_error_total", COUNTER, "Memory errors", |_, l| Some(l.ecc.corrected.saturating_add(l.ecc.uncorrected) as f64);
    "ecc_current_mode", GAUGE, "Whether ECC is on", |_, l| Some(flag(l.ecc.enabled));
    "ecc_pending_mode", GAUGE, "Whether ECC will be on after a reset", |_, l| Some(flag(l.ecc.pending));
    "dram_ecc_sbe_count", COUNTER, "Corrected memory errors since the reset", |_, l| Some(l.ecc.corrected as f64);
    "dram_ecc_dbe_count", COUNTER, "Uncorrected memory errors since the reset", |_, l| Some(l.ecc.uncorrected as f64);
    "aggr_dram_ecc_sbe_count", COUNTER, "Corrected memory errors since the board was made", |_, l| Some(l.ecc.corrected_total as f64);
    "aggr_dram_ecc_dbe_count", COUNTER, "Uncorrected memory errors since the board was made", |_, l| Some(l.ecc.uncorrected_total as f64);
    "single_bit_retired_page_count", COUNTER, "Pages retired for corrected errors", |_, l| Some(l.ecc.retired_corrected as f64);
    "double_bit_retired_page_count", COUNTER, "Pages retired for uncorrected errors",
        |_, l| Some(l.ecc.retired_pages.saturating_sub(l.ecc.retired_corrected) as f64);
    "retired_pages_operation_status", GAUGE, "Whether pages are retired", |_, _| Some(1.0);
    "repair_retire_pending", GAUGE, "Whether pages wait for a reset", |_, l| Some(flag(l.ecc.retired_pending > 0));
    "repair_pending", GAUGE, "Whether a repair waits for a reset", |_, l| Some(flag(l.ecc.retired_pending > 0));
    "repair_failure", GAUGE, "Whether no more pages can be retired", |_, l| Some(flag(l.ecc.retired_pages >= MAX_RETIRED as u64));
    "compute_mode", GAUGE, "Compute mode: 0 default, 1 exclusive, 2 prohibited", |c, _| Some(c.compute_mode as u32 as f64);
    "virtual_mode", GAUGE, "0: the card is not divided", |_, _| Some(0.0);
    "numa_node_id", GAUGE, "NUMA node", |c, _| Some(c.numa_node.into());
};

/// Metrics of a process on a card.
pub(super) const PROCESS: &[Metric<OfProcess>] = metrics! {
    "process_physical_memory_used", GAUGE, "Memory of a process, bytes", |_, p| p.memory_bytes as f64;
    "process_virtual_memory_used", GAUGE, "Address space of a process, bytes",
        |_, p| p.memory_bytes.saturating_add(p.host_memory_bytes) as f64;
    "process_memory_utilization", GAUGE, "Memory of a process, percent of the card's", |c, p| {
        let total = c.live.as_ref().map_or(0, |live| live.memory.total_bytes);
        percent(p.memory_bytes as f64, total as f64)
    };
};

/// Metrics of a port of a card.
pub(super) const PORT: &[Metric<OfPort>] = metrics! {
    "mlulink_status", GAUGE, "Whether the link runs", |p| flag(p.state.runs());
    "mlulink_serdes_status", GAUGE, "Whether the lanes run", |p| flag(p.state.runs());
    "mlulink_cable_status", GAUGE, "Whether a cable is plugged in", |p| flag(p.state != LinkState::Absent);
    "mlulink_inbound_state", GAUGE, "Whether commands come in", |p| flag(p.state.runs());
    "mlulink_outbound_state", GAUGE, "Whether commands go out", |p| flag(p.state.runs());
    "mlulink_port_mode", GAUGE, "2: the port speaks MLU-Link", |_| 2.0;
    "mlulink_p2p_transfer_capability", GAUGE, "Whether chips reach each other's memory", |_| 1.0;
    "mlulink_speed", GAUGE, "Speed, Gbit/s", |p| p.bytes_per_second as f64 * 8.0 / 1e9;
    "mlulink_speed_format", GAUGE, "1: PAM4", |_| 1.0;
    "mlulink_cntr_read_byte_total", COUNTER, "Bytes received", |p| p.counters.read_bytes as f64;
    "mlulink_cntr_read_package_total", COUNTER, "Packets received", |p| p.counters.read_packets as f64;
    "mlulink_cntr_write_byte_total", COUNTER, "Bytes sent", |p| p.counters.written_bytes as f64;
    "mlulink_cntr_write_package_total", COUNTER, "Packets sent", |p| p.counters.written_packets as f64;
    "mlulink_err_replay_total", COUNTER, "Packets sent again", |p| p.counters.replays as f64;
    "mlulink_err_fatal_total", COUNTER, "Errors that took the link down", |p| p.counters.fatal as f64;
    "mlulink_err_ecc_double_total", COUNTER, "Double-bit errors", |p| p.counters.ecc_double as f64;
    "mlulink_err_crc24_total", COUNTER, "CRC24 errors", |p| p.counters.crc24 as f64;
    "mlulink_err_crc32_total", COUNTER, "CRC32 errors", |p| p.counters.crc32 as f64;
    "mlulink_err_corrected_total", COUNTER, "Corrected errors", |p| p.counters.corrected as f64;
    "mlulink_err_uncorrected_total", COUNTER, "Uncorrected errors", |p| p.counters.uncorrected as f64;
    "mlulink_rx_bad_fcs_packet_total", COUNTER, "Packets received with a wrong sum",
        |p| p.counters.crc24.saturating_add(p.counters.crc32) as f64;
    "mlulink_illegal_access", COUNTER, "Accesses that the other end refused", |p| p.counters.illegal as f64;
    "mlulink_link_down_total", COUNTER, "How often the link went down", |p| p.counters.downs as f64;
};
