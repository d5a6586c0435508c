//! Reads the chips of a transport.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use vmlu_abi::ioctl::DeviceInfo;
use vmlu_abi::model;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{telemetry, Status};

use super::decay::value_at;
use super::fabric::{self, FabricSnapshot};
use super::snapshot::{
    Clocks, ComputeMode, Counters, DeviceHealth, DeviceSnapshot, DriverHealth, Ecc, Health, Link,
    Live, Memory, PciAddress, PcieLink, Power, Temperatures,
};
use super::{link, process};
use crate::error::{Error, Result};
use crate::transport::{self, Transport};

/// Reads what there is to know about chips. Opens no context.
pub struct Monitor {
    transport: Arc<dyn Transport>,
}

impl Monitor {
    /// A monitor over the transport that [`transport::choose`] takes.
    pub fn open() -> Result<Self> {
        Ok(Self::new(transport::choose()?))
    }

    /// A monitor over a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Name of the transport: `embedded`, `local` or `kernel`.
    pub fn transport(&self) -> &'static str {
        self.transport.name()
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
        let ports = devices
            .iter()
            .map(|device| match device.live {
                None => Ok(None),
                Some(_) => lost_is_none(self.transport.link_ports(device.index)),
            })
            .collect::<Result<Vec<_>>>()?;
        let pci = (self.transport.name() == "kernel").then_some(Path::new("/sys/bus/pci/devices"));
        let nodes = Path::new("/sys/devices/system/node");
        Ok(fabric::snapshot(devices, ports, pci, nodes))
    }

    /// `None` if the chip was unplugged since it was counted.
    fn device(&self, index: u32) -> Result<Option<DeviceSnapshot>> {
        let info = match self.transport.info(index) {
            Ok(info) => info,
            Err(e) if matches!(e.status(), Status::DeviceLost | Status::BadHandle) => {
                return Ok(None)
            }
            Err(e) => return Err(e),
        };
        let telemetry = match info.alive {
            0 => None,
            _ => lost_is_none(self.transport.telemetry(index))?,
        };
        if let Some(t) = &telemetry {
            check_version(t)?;
        }
        let contexts = match telemetry {
            None => Vec::new(),
            Some(_) => lost_is_none(self.transport.processes(index))?.unwrap_or_default(),
        };
        let mut device = snapshot(index, &info, telemetry.as_ref());
        device.processes = process::by_process(&contexts, Path::new("/proc"));
        if self.transport.name() == "kernel" {
            let read = link::read(Path::new("/sys/bus/pci/devices"), device.pci);
            device.pcie_link = PcieLink {
                current: read.current,
                max: read.max.or(device.pcie_link.max),
            };
        }
        Ok(Some(device))
    }
}

fn lost_is_none<T>(result: Result<T>) -> Result<Option<T>> {
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
        compute_mode: ComputeMode::Default,
        live: telemetry.map(|t| {
            live(
                t,
                model.is_some_and(|m| chip.memory_available == m.memory_available_ecc),
            )
        }),
        processes: Vec::new(),
    }
}

/// The live part. A snapshot of the card is as of `updated_ns`; that clock is the serving machine's and need not be ours.
fn live(t: &Telemetry, ecc: bool) -> Live {
    let now = |quantity| value_at(quantity, t.updated_ns, t.updated_ns);
    let chip_w = now(&t.power);
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
            energy_j: t.energy_uj as f64 / 1e6,
        },
        memory: Memory {
            total_bytes: t.memory_total,
            used_bytes: t.memory_used,
        },
        clocks: Clocks {
            ipu_khz: t.clock_khz,
            memory_khz: t.memory_clock_khz,
        },
        fan_percent: t.fan_percent,
        ecc: Ecc {
            enabled: ecc,
            corrected: t.ecc_corrected,
            uncorrected: t.ecc_uncorrected,
            retired_pages: t.retired_pages,
        },
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
    use vmlu_abi::telemetry::Decaying;
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
