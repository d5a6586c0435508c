//! Metrics between two samples.

use std::collections::HashMap;
use std::ffi::{c_char, c_void, CStr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::call::Out;
use crate::codes::{Code, Outcome};
use crate::library::{library, lock};
use crate::types::*;

/// `CNDEV_MPM_METRIC_*`.
const IPU: i32 = 1;
const MLU: i32 = 2;
const TENSOR: i32 = 3;
const PCIE_TX: i32 = 20;
const PCIE_RX: i32 = 21;
const LINKS_TX: i32 = 60;
const LINKS_RX: i32 = 61;
const LINK_0_TX: i32 = 62;
const LINK_17_RX: i32 = 97;
/// `CNDEV_MPM_METRIC_MAX`, the room of a request.
const ROOM: usize = 256;
/// Bytes of a MiB.
const MIB: f64 = (1u64 << 20) as f64;

/// What a sample holds.
#[derive(Clone, Default)]
struct Sample {
    device: i32,
    at_ns: u64,
    busy_ns: u64,
    from_host: u64,
    to_host: u64,
    /// Bytes of each port: read, written.
    ports: Vec<(u64, u64)>,
}

/// The samples that there are; those without contents were not taken yet. Handles as those of events.
static SAMPLES: Mutex<Option<HashMap<usize, Option<Sample>>>> = Mutex::new(None);
static LAST: AtomicUsize = AtomicUsize::new(0);

fn sample(handle: *mut c_void) -> Outcome<Sample> {
    let samples = lock(&SAMPLES);
    let sample = samples.as_ref().and_then(|all| all.get(&handle.addr()));
    sample.cloned().flatten().ok_or(Code::InvalidArgument)
}

/// Short name, long name and unit of a metric.
fn names(metric: i32) -> [&'static CStr; 3] {
    match metric {
        IPU => [c"ipu_util", c"Utilisation of the IPU cores", c"%"],
        MLU => [c"mlu_util", c"Share of time with work", c"%"],
        TENSOR => [c"tensor_util", c"Utilisation of the tensor units", c"%"],
        PCIE_TX => [c"pcie_tx", c"Bytes to the host", c"MiB/s"],
        PCIE_RX => [c"pcie_rx", c"Bytes from the host", c"MiB/s"],
        LINKS_TX => [c"mlulink_tx", c"Bytes sent over all MLU-Links", c"MiB/s"],
        LINKS_RX => [
            c"mlulink_rx",
            c"Bytes received over all MLU-Links",
            c"MiB/s",
        ],
        _ if metric % 2 == 0 => [c"mlulink_port_tx", c"Bytes sent over an MLU-Link", c"MiB/s"],
        _ => [
            c"mlulink_port_rx",
            c"Bytes received over an MLU-Link",
            c"MiB/s",
        ],
    }
}

/// A metric between two samples.
fn value(metric: i32, a: &Sample, b: &Sample) -> Outcome<f64> {
    let elapsed = b.at_ns.saturating_sub(a.at_ns) as f64;
    if elapsed == 0.0 {
        return Ok(0.0);
    }
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / elapsed * 1e9 / MIB;
    let port = |index: usize, side: fn(&(u64, u64)) -> u64| {
        let both = a.ports.get(index).zip(b.ports.get(index));
        both.map(|(a, b)| rate(side(a), side(b)))
            .ok_or(Code::NotSupported)
    };
    let all = |side: fn(&(u64, u64)) -> u64| (0..a.ports.len()).map(|i| port(i, side)).sum();
    let (read, written) = (|p: &(u64, u64)| p.0, |p: &(u64, u64)| p.1);
    match metric {
        IPU | MLU => {
            let share = b.busy_ns.saturating_sub(a.busy_ns) as f64 / elapsed;
            Ok((share * 100.0).clamp(0.0, 100.0))
        }
        PCIE_TX => Ok(rate(a.to_host, b.to_host)),
        PCIE_RX => Ok(rate(a.from_host, b.from_host)),
        LINKS_TX => all(written),
        LINKS_RX => all(read),
        LINK_0_TX..=LINK_17_RX => {
            let index = ((metric - LINK_0_TX) / 2) as usize;
            port(index, if metric % 2 == 0 { written } else { read })
        }
        TENSOR => Err(Code::NotSupported),
        _ => Err(Code::InvalidArgument),
    }
}

exports! {
    fn cndevMpmQueryDeviceSupport(device: i32, support: Out<bool>) {
        let library = library()?;
        support.check()?;
        library.card(device)?;
        support.put(true)
    }

    fn cndevMpmSampleAlloc(place: Out<*mut c_void>) {
        library()?;
        place.check()?;
        let number = (LAST.fetch_add(1, Ordering::Relaxed) + 1) << 4;
        lock(&SAMPLES).get_or_insert_with(HashMap::new).insert(number, None);
        place.put(std::ptr::without_provenance_mut(number))
    }

    fn cndevMpmSampleFree(handle: *mut c_void) {
        let freed = lock(&SAMPLES).as_mut().and_then(|all| all.remove(&handle.addr()));
        freed.map(|_| ()).ok_or(Code::InvalidArgument)
    }

    fn cndevMpmSampleGet(handle: *mut c_void, device: i32) {
        let library = library()?;
        let known = lock(&SAMPLES).as_ref().is_some_and(|all| all.contains_key(&handle.addr()));
        if !known {
            return Err(Code::InvalidArgument);
        }
        let card = library.card(device)?;
        let t = library.telemetry(card)?;
        let ports = library.ports(card)?;
        let taken = Sample {
            device,
            at_ns: t.updated_ns,
            busy_ns: t.busy_ns,
            from_host: t.bytes_from_host,
            to_host: t.bytes_to_host,
            ports: ports.iter().map(|port| (port.read_bytes, port.written_bytes)).collect(),
        };
        if let Some(place) = lock(&SAMPLES).as_mut().and_then(|all| all.get_mut(&handle.addr())) {
            *place = Some(taken);
        }
        Ok(())
    }

    fn cndevMpmMetricsGet(request: Out<cndevMpmMetricsGet_t>) {
        library()?;
        let mut wanted = request.get()?;
        if wanted.version != 1 {
            return Err(Code::UnsupportedApiVersion);
        }
        let count = wanted.numMetrics as usize;
        if count > ROOM {
            return Err(Code::InvalidArgument);
        }
        let (a, b) = (sample(wanted.sample1)?, sample(wanted.sample2)?);
        if a.device != b.device {
            return Err(Code::InvalidArgument);
        }
        for metric in &mut wanted.metrics[..count] {
            let [short, long, unit] = names(metric.metricId).map(|text| text.as_ptr() as *const c_char);
            metric.metricInfo = cndevMpmMetricInfo_t {
                shortName: short,
                longName: long,
                unit,
            };
            match value(metric.metricId, &a, &b) {
                Ok(value) => (metric.ret, metric.value) = (0, value),
                Err(code) => (metric.ret, metric.value) = (code as i32, 0.0),
            }
        }
        request.put(wanted)
    }
}
