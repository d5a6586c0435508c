//! Reads the chips of a transport.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmlu_abi::ioctl::DeviceInfo;
use vmlu_abi::model::{self, CardModel};
use vmlu_abi::telemetry::{throttle, Decaying, Telemetry};
use vmlu_abi::{setting, telemetry, Status};

use super::fabric::{self, FabricSnapshot};
use super::pcie::Place;
use super::snapshot::{
    Clocks, ComputeMode, Counters, DeviceHealth, DeviceSnapshot, DriverHealth, Ecc, Health,
    Incident, Link, Live, Memory, PciAddress, PcieLink, Power, ProcessUsage, Temperatures,
    Throttle, Transfers,
};
use super::{link, process};
use crate::error::{Error, Result};
use crate::transport::sys::monotonic_ns;
use crate::transport::{self, TelemetryPage, Transport};

/// Reads what there is to know about chips. Opens no context.
pub struct Monitor {
    transport: Arc<dyn Transport>,
    /// The telemetry pages that were asked for.
    pages: Mutex<HashMap<u32, Arc<TelemetryPage>>>,
    /// What the chips are that have said so: a chip whose page is fresh is not asked again.
    infos: Mutex<HashMap<u32, DeviceInfo>>,
    /// PCIe links, and when they were read.
    links: Mutex<HashMap<PciAddress, (Instant, PcieLink)>>,
    /// Where chips sit.
    places: Mutex<HashMap<u32, Place>>,
    /// The fabric as it was read last, and what the chips had written until then.
    fabric: Mutex<Option<(Vec<Stamp>, FabricSnapshot)>>,
}

/// Tells of a chip with nothing to do whether it wrote its telemetry since: number, address, sequence.
type Stamp = (u32, PciAddress, u64);

/// How long a PCIe link that was read is right: the kernel reads it from the function itself.
const LINK_AGE: Duration = Duration::from_secs(1);

/// Where sysfs has the PCI functions.
pub(super) const FUNCTIONS: &str = "/sys/bus/pci/devices";

/// How old a telemetry page may be, ns. An older one is right as long as the chip idles, but says neither whether the chip is still there
/// nor what heat has done since.
const FRESH_NS: u64 = 1_000_000_000;

impl Monitor {
    /// A monitor over the transport that [`transport::choose`] takes.
    pub fn open() -> Result<Self> {
        Ok(Self::new(transport::choose()?))
    }

    /// A monitor over a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            pages: Mutex::default(),
            infos: Mutex::default(),
            links: Mutex::default(),
            places: Mutex::default(),
            fabric: Mutex::default(),
        }
    }

    /// The transport.
    pub fn transport_handle(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// What changes of a chip of a model, alone: where there is a telemetry page this asks nobody. `None` if the chip is lost. The power of the board is
    /// this chip's share; see [`Monitor::board_watts`].
    ///
    /// # Errors
    ///
    /// If there is no such chip, or the driver does not answer.
    pub fn live(&self, index: u32, model: Option<&CardModel>) -> Result<Option<Live>> {
        let telemetry = self.telemetry(index)?;
        Ok(telemetry.map(|t| live(&t, model)))
    }

    /// What the chips of these numbers, those of one board, draw together, W.
    ///
    /// # Errors
    ///
    /// As [`Monitor::live`].
    pub fn board_watts(&self, chips: &[u32]) -> Result<f64> {
        let mut watts = 0.0;
        for chip in chips {
            if let Some(t) = self.telemetry(*chip)? {
                watts += f64::from(t.power.value_milli) / 1e3;
            }
        }
        Ok(watts)
    }

    /// A chip's telemetry from its page if that is fresh, else from the chip; `None` if the chip is lost.
    ///
    /// # Errors
    ///
    /// As [`Monitor::live`].
    pub fn telemetry(&self, index: u32) -> Result<Option<Telemetry>> {
        let page = lock(&self.pages).get(&index).cloned();
        if let Some(read) = page.as_ref().and_then(|page| page.read()) {
            let now = monotonic_ns();
            if now.saturating_sub(read.updated_ns) < FRESH_NS {
                return Ok(Some(read.at(now)));
            }
        }
        let asked = lost_is_none(self.transport.telemetry(index))?;
        if let Some(t) = &asked {
            check_version(t)?;
        }
        // A page that has nothing to say may be that of a server that was replaced.
        if page.is_none_or(|page| page.read().is_none()) {
            match self
                .transport
                .telemetry_page(index)
                .filter(|_| asked.is_some())
            {
                Some(page) => lock(&self.pages).insert(index, Arc::new(page)),
                None => lock(&self.pages).remove(&index),
            };
        }
        Ok(asked)
    }

    /// Number of the newest entry of a chip's log; `None` if the chip is lost. From a page of any age if that is said to do, else as
    /// [`Monitor::telemetry`].
    pub(super) fn newest_event(&self, index: u32, any_age: bool) -> Result<Option<u64>> {
        let page = lock(&self.pages).get(&index).cloned();
        match page.filter(|_| any_age).and_then(|page| page.read()) {
            Some(read) => Ok(Some(read.events)),
            None => Ok(self.telemetry(index)?.map(|t| t.events)),
        }
    }

    /// Name of the transport: `embedded`, `local` or `kernel`.
    pub fn transport(&self) -> &'static str {
        self.transport.name()
    }

    /// What a chip is.
    fn info(&self, index: u32) -> Result<DeviceInfo> {
        let page = lock(&self.pages).get(&index).cloned();
        let written = page.and_then(|page| page.read()).map(|t| t.updated_ns);
        let fresh = written.is_some_and(|at| monotonic_ns().saturating_sub(at) < FRESH_NS);
        if let (true, Some(known)) = (fresh, lock(&self.infos).get(&index)) {
            return Ok(*known);
        }
        let info = self.transport.info(index)?;
        lock(&self.infos).insert(index, info);
        Ok(info)
    }

    /// The processes that have contexts on a chip, in order of their ids.
    ///
    /// # Errors
    ///
    /// As [`Monitor::live`], and if the chip is lost.
    pub fn processes(&self, index: u32) -> Result<Vec<ProcessUsage>> {
        let contexts = self.transport.processes(index)?;
        Ok(process::by_process(&contexts, Path::new("/proc")))
    }

    /// The PCIe link of a function, as of a second ago at most; of a transport without a bus nothing is known.
    pub fn pcie_link(&self, address: PciAddress) -> PcieLink {
        if self.transport.name() != "kernel" {
            return PcieLink::default();
        }
        let mut links = lock(&self.links);
        match links.get(&address) {
            Some((at, link)) if at.elapsed() < LINK_AGE => *link,
            _ => {
                let link = link::read(Path::new(FUNCTIONS), address);
                links.insert(address, (Instant::now(), link));
                link
            }
        }
    }

    /// How many packets the PCIe link of a function has sent again, if the kernel counts them.
    pub fn pcie_replays(&self, address: PciAddress) -> Option<u32> {
        match self.transport.name() {
            "kernel" => link::replays(Path::new(FUNCTIONS), address),
            _ => None,
        }
    }

    /// All chips, in order of their numbers. A chip that is lost is listed, without live data.
    ///
    /// # Errors
    ///
    /// If the driver does not answer, or speaks another version.
    pub fn devices(&self) -> Result<Vec<DeviceSnapshot>> {
        let mut devices = Vec::new();
        for index in self.transport.devices()? {
            if let Some(device) = self.device(index)? {
                devices.push(device);
            }
        }
        share_board_power(&mut devices);
        Ok(devices)
    }

    /// The ports of these chips and what is between them; `devices` is what [`Monitor::devices`] gave.
    ///
    /// # Errors
    ///
    /// If a chip that is not lost does not tell of its ports.
    pub fn fabric(&self, devices: &[DeviceSnapshot]) -> Result<FabricSnapshot> {
        let before = self.stamps(devices);
        if let (Some(now), Some((then, known))) = (&before, &*lock(&self.fabric))
            && now == then
        {
            return Ok(known.clone());
        }
        let ports = devices
            .iter()
            .map(|device| match device.live {
                None => Ok(None),
                Some(_) => lost_is_none(self.transport.link_ports(device.index)),
            })
            .collect::<Result<Vec<_>>>()?;
        let places: Vec<_> = devices.iter().map(|device| self.place(device)).collect();
        let read = fabric::snapshot(devices, ports, &places);
        // Each chip wrote its page once because it was asked; if that is all, its ports are what they are until it writes again.
        let after = self.stamps(devices);
        let quiet = before.zip(after).and_then(|(before, after)| {
            let mut pairs = before.iter().zip(&after);
            pairs.all(|(a, b)| b.2 == a.2 + 2).then_some(after)
        });
        *lock(&self.fabric) = quiet.map(|stamps| (stamps, read.clone()));
        Ok(read)
    }

    /// The stamps of these chips; `None` if one is lost, has work, or does not tell.
    fn stamps(&self, devices: &[DeviceSnapshot]) -> Option<Vec<Stamp>> {
        let stamp = |device: &DeviceSnapshot| {
            device.live.as_ref()?;
            let page = lock(&self.pages).get(&device.index).cloned();
            let t = match page {
                Some(page) => page.read()?,
                // The driver has the page.
                None if self.transport.name() == "kernel" => {
                    self.transport.telemetry(device.index).ok()?
                }
                None => return None,
            };
            (t.busy == 0).then_some((device.index, device.pci, t.sequence))
        };
        devices.iter().map(stamp).collect()
    }

    /// Where a chip sits: it does not move while it is there.
    fn place(&self, device: &DeviceSnapshot) -> Place {
        let mut places = lock(&self.places);
        match places.get(&device.index) {
            Some(place) if place.is_of(device.pci, device.numa_node) => place.clone(),
            _ => {
                let pci = (self.transport.name() == "kernel").then_some(Path::new(FUNCTIONS));
                let nodes = Path::new("/sys/devices/system/node");
                let place = Place::read(pci, nodes, device.pci, device.numa_node);
                places.insert(device.index, place.clone());
                place
            }
        }
    }

    /// `None` if the chip was unplugged since it was counted.
    fn device(&self, index: u32) -> Result<Option<DeviceSnapshot>> {
        let info = match self.info(index) {
            Ok(info) => info,
            Err(e) if matches!(e.status(), Status::DeviceLost | Status::BadHandle) => {
                return Ok(None)
            }
            Err(e) => return Err(e),
        };
        let telemetry = match info.alive {
            0 => None,
            _ => self.telemetry(index)?,
        };
        let contexts = match telemetry {
            Some(t) if t.contexts > 0 => {
                lost_is_none(self.transport.processes(index))?.unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let mut device = snapshot(index, &info, telemetry.as_ref());
        device.processes = process::by_process(&contexts, Path::new("/proc"));
        if self.transport.name() == "kernel" {
            let read = self.pcie_link(device.pci);
            device.pcie_link = PcieLink {
                current: read.current,
                max: read.max.or(device.pcie_link.max),
            };
        }
        Ok(Some(device))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn lost_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.status(), Status::DeviceLost | Status::DeviceReset) => Ok(None),
        Err(e) => Err(e),
    }
}

fn check_version(telemetry: &Telemetry) -> Result<()> {
    if telemetry.version == telemetry::VERSION {
        return Ok(());
    }
    Err(Error::new(
        "read telemetry",
        Status::VersionMismatch,
        format!(
            "the firmware writes version {}, this runtime reads version {}; install both from the same release",
            telemetry.version,
            telemetry::VERSION
        ),
    ))
}

fn snapshot(index: u32, info: &DeviceInfo, telemetry: Option<&Telemetry>) -> DeviceSnapshot {
    let chip = &info.info;
    let model = model::by_id(chip.model);
    let health = match telemetry {
        None => Health {
            device: DeviceHealth::Lost,
            driver: DriverHealth::Stopped,
        },
        Some(t) if t.healthy == 0 => Health {
            device: DeviceHealth::Problem,
            driver: DriverHealth::Running,
        },
        Some(_) => Health {
            device: DeviceHealth::Good,
            driver: DriverHealth::Running,
        },
    };
    let driver = text(&info.driver);
    DeviceSnapshot {
        index,
        name: text(&chip.name),
        uuid: uuid(&chip.uuid),
        serial: format!("{:016x}", chip.serial),
        chip: chip.chip,
        chips_per_board: chip.chips_per_board,
        pci: PciAddress {
            domain: info.pci_domain,
            bus: info.pci_bus,
            device: info.pci_device,
            function: info.pci_function,
        },
        pcie_link: PcieLink {
            current: None,
            max: model.map(|m| Link {
                generation: m.pcie_gen,
                lanes: m.pcie_lanes,
            }),
        },
        numa_node: info.numa_node,
        firmware_version: text(&chip.firmware),
        driver_version: if driver.is_empty() {
            concat!("v", env!("CARGO_PKG_VERSION")).into()
        } else {
            driver
        },
        clusters: chip.clusters,
        cores: chip.clusters.saturating_mul(chip.cores_per_cluster),
        health,
        compute_mode: telemetry.map_or(ComputeMode::Default, |t| compute_mode(t.compute_mode)),
        live: telemetry.map(|t| live(t, model)),
        processes: Vec::new(),
    }
}

fn compute_mode(raw: u8) -> ComputeMode {
    match setting::ComputeMode::from_raw(raw.into()) {
        Some(setting::ComputeMode::Exclusive) => ComputeMode::Exclusive,
        Some(setting::ComputeMode::Prohibited) => ComputeMode::Prohibited,
        Some(setting::ComputeMode::Default) | None => ComputeMode::Default,
    }
}

/// The live part, as of `updated_ns`.
fn live(t: &Telemetry, model: Option<&CardModel>) -> Live {
    let now = |quantity: &Decaying| f64::from(quantity.value_milli) / 1e3;
    let chip_w = now(&t.power);
    let watts = |of: fn(&CardModel) -> u32| model.map_or(0.0, |m| f64::from(of(m)) / 1e3);
    let (min_ipu_khz, max_ipu_khz) = model.map_or((0, 0), |m| m.clock_range_khz);
    Live {
        utilisation_percent: now(&t.utilisation).clamp(0.0, 100.0),
        temperature: Temperatures {
            board_c: now(&t.temp_board),
            chip_c: now(&t.temp_chip),
            memory_c: now(&t.temp_memory),
        },
        power: Power {
            board_w: chip_w,
            chip_w,
            cap_w: f64::from(t.power_cap_mw) / 1e3,
            default_cap_w: watts(|m| m.thermal.cap_mw),
            min_cap_w: watts(|m| m.thermal.min_cap_mw),
            energy_j: t.energy_uj as f64 / 1e6,
        },
        memory: Memory {
            total_bytes: t.memory_total,
            used_bytes: t.memory_used,
        },
        clocks: Clocks {
            ipu_khz: t.clock_khz,
            memory_khz: t.memory_clock_khz,
            default_ipu_khz: model.map_or(0, |m| m.clock_khz),
            min_ipu_khz,
            max_ipu_khz,
        },
        fan_percent: t.fan_percent,
        ecc: Ecc {
            enabled: t.ecc_mode != 0,
            pending: t.ecc_pending != 0,
            corrected: t.ecc_corrected,
            uncorrected: t.ecc_uncorrected,
            corrected_total: t.ecc_corrected_total,
            uncorrected_total: t.ecc_uncorrected_total,
            retired_pages: t.retired_pages,
            retired_corrected: t.retired_corrected.into(),
            retired_pending: t.retired_pending.into(),
        },
        transfers: Transfers {
            from_host_per_second: now(&t.from_host_rate).max(0.0) * 1e6,
            to_host_per_second: now(&t.to_host_rate).max(0.0) * 1e6,
        },
        throttle: Throttle {
            power_cap: t.throttle & throttle::POWER_CAP != 0,
            heat: t.throttle & throttle::HEAT != 0,
            locked: t.throttle & throttle::LOCKED != 0,
            slowdowns: t.slowdowns,
            shutdowns: t.shutdowns,
            power_capped_ns: t.power_capped_ns,
            heat_slowed_ns: t.heat_slowed_ns,
        },
        incidents: Incident::of(t.incidents),
        counters: Counters {
            device_ns: t.device_ns,
            busy_ns: t.busy_ns,
            contexts: t.contexts,
            queues: t.queues,
            packets: t.packets,
            packets_failed: t.packets_failed,
            bytes_from_host: t.bytes_from_host,
            bytes_to_host: t.bytes_to_host,
            bytes_device: t.bytes_device,
            operations: t.operations,
            xid: t.xid,
            xid_count: t.xid_count,
            kicks: t.kicks,
            interrupts: t.interrupts,
            rpcs: t.rpcs,
            resets: t.resets,
            events: t.events,
        },
    }
}

/// Gives each chip the power of its board: the sum over the chips with its serial number.
fn share_board_power(devices: &mut [DeviceSnapshot]) {
    let mut boards: HashMap<String, f64> = HashMap::new();
    for device in &*devices {
        if let Some(live) = &device.live {
            *boards.entry(device.serial.clone()).or_default() += live.power.chip_w;
        }
    }
    for device in devices {
        if let Some(live) = &mut device.live {
            live.power.board_w = boards
                .get(&device.serial)
                .copied()
                .unwrap_or(live.power.chip_w);
        }
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-")
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vmlu_abi::link::Port;
    use vmlu_abi::rpc::{Inject, LinkControl, Peer, PeerWay, Process};
    use vmlu_abi::Wire;

    use crate::transport::Channel;

    /// Chips whose answers are given.
    struct Given(Vec<(DeviceInfo, std::result::Result<Telemetry, Status>)>);

    impl Transport for Given {
        fn name(&self) -> &'static str {
            "given"
        }
        fn devices(&self) -> Result<Vec<u32>> {
            Ok((0..=self.0.len() as u32).collect()) // one more than there are: unplugged meanwhile
        }
        fn info(&self, device: u32) -> Result<DeviceInfo> {
            let gone = || Error::new("info", Status::DeviceLost, "gone");
            self.0
                .get(device as usize)
                .map(|(info, _)| *info)
                .ok_or_else(gone)
        }
        fn telemetry(&self, device: u32) -> Result<Telemetry> {
            self.0[device as usize]
                .1
                .map_err(|status| Error::new("telemetry", status, "asked for"))
        }
        fn processes(&self, _: u32) -> Result<Vec<Process>> {
            Ok(vec![Process {
                pid: u32::MAX,
                memory: 3 << 20,
                comm: padded("digits"),
                ..Wire::zeroed()
            }])
        }
        fn inject(&self, _: u32, _: &Inject) -> Result<()> {
            unreachable!("a monitor does not inject")
        }
        fn link_ports(&self, _: u32) -> Result<Vec<Port>> {
            Ok(Vec::new())
        }
        fn link_control(&self, _: u32, _: &LinkControl) -> Result<()> {
            unreachable!("a monitor controls no link")
        }
        fn peer_path(&self, _: u32, _: &Peer) -> Result<PeerWay> {
            Ok(PeerWay::zeroed())
        }
        fn open(&self, _: u32) -> Result<Arc<dyn Channel>> {
            unreachable!("a monitor opens no context")
        }
    }

    fn padded<const N: usize>(text: &str) -> [u8; N] {
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    fn info(serial: u64, alive: u32) -> DeviceInfo {
        let mut info = DeviceInfo {
            pci_bus: 0x39,
            alive,
            driver: padded("v5.10.13"),
            ..DeviceInfo::zeroed()
        };
        info.info.serial = serial;
        info.info.name = padded("MLU370-X8");
        info.info.model = model::MLU370_X8.id;
        info.info.memory_available = model::MLU370_X8.memory_available_ecc;
        info.info.uuid = std::array::from_fn(|i| i as u8 * 0x11);
        info
    }

    fn drawing(milliwatt: i32) -> Telemetry {
        let constant = |milli| Decaying {
            value_milli: milli,
            target_milli: 0,
            tau_ms: 100,
            reserved: 0,
        };
        Telemetry {
            version: telemetry::VERSION,
            healthy: 1,
            updated_ns: 5,
            power: constant(milliwatt),
            utilisation: constant(100_001),
            power_cap_mw: 250_000,
            ecc_uncorrected: 2,
            ecc_mode: 1,
            contexts: 1,
            ..Telemetry::zeroed()
        }
    }

    #[test]
    fn chips_of_a_board_show_its_power() {
        let chips = vec![
            (info(1, 1), Ok(drawing(50_000))),
            (info(2, 1), Ok(drawing(60_000))),
            (info(1, 1), Ok(drawing(7_500))),
        ];
        let devices = Monitor::new(Arc::new(Given(chips))).devices().unwrap();
        let power: Vec<_> = devices
            .iter()
            .map(|d| d.live.as_ref().unwrap().power)
            .collect();
        assert_eq!(
            [power[0].board_w, power[1].board_w, power[2].board_w],
            [57.5, 60.0, 57.5]
        );
        assert_eq!(power[2].chip_w, 7.5);
        let live = devices[0].live.as_ref().unwrap();
        assert_eq!(live.utilisation_percent, 100.0);
        assert!(live.ecc.enabled && live.ecc.uncorrected == 2);
        assert_eq!(devices[0].uuid, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(devices[0].serial, "0000000000000001");
        assert_eq!(devices[0].pci.to_string(), "0000:39:00.0");
        assert_eq!(devices[0].driver_version, "v5.10.13");
        assert_eq!(devices[0].processes[0].program(), "digits");
        assert_eq!(
            devices[0].pcie_link,
            PcieLink {
                current: None,
                max: Some(Link {
                    generation: 4,
                    lanes: 16
                })
            }
        );
    }

    #[test]
    fn a_lost_chip_is_listed_without_data() {
        let chips = vec![
            (info(1, 0), Ok(drawing(1))),
            (info(1, 1), Err(Status::DeviceLost)),
            (
                info(1, 1),
                Ok(Telemetry {
                    healthy: 0,
                    ..drawing(9_000)
                }),
            ),
        ];
        let devices = Monitor::new(Arc::new(Given(chips))).devices().unwrap();
        let health: Vec<_> = devices.iter().map(|d| d.health.device).collect();
        assert_eq!(
            health,
            [
                DeviceHealth::Lost,
                DeviceHealth::Lost,
                DeviceHealth::Problem
            ]
        );
        assert!(
            devices[0].live.is_none()
                && devices[1].live.is_none()
                && devices[0].processes.is_empty()
        );
        assert_eq!(devices[2].live.as_ref().unwrap().power.board_w, 9.0);
    }

    #[test]
    fn other_errors_are_errors() {
        let devices =
            |telemetry| Monitor::new(Arc::new(Given(vec![(info(1, 1), telemetry)]))).devices();
        assert_eq!(
            devices(Err(Status::Internal)).unwrap_err().status(),
            Status::Internal
        );
        let newer = Telemetry {
            version: telemetry::VERSION + 1,
            ..drawing(0)
        };
        assert_eq!(
            devices(Ok(newer)).unwrap_err().status(),
            Status::VersionMismatch
        );
    }
}
