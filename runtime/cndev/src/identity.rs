//! What devices are.

use std::ffi::c_char;

use vmlu::telemetry::chip_number;

use crate::call::{put_text, Out, Text};
use crate::codes::{Code, Outcome};
use crate::library::{library, Card};
use crate::types::*;

/// `CNDEV_DEVICE_TYPE_MLU370`, and the names of all types.
const MLU370: i32 = 23;
const TYPES: [(i32, &std::ffi::CStr); 16] = [
    (0, c"MLU100"),
    (1, c"MLU270"),
    (16, c"MLU220_M2"),
    (17, c"MLU220_EDGE"),
    (18, c"MLU220_EVB"),
    (19, c"MLU220_M2i"),
    (20, c"MLU290"),
    (MLU370, c"MLU370"),
    (24, c"MLU365"),
    (25, c"CE3226"),
    (26, c"MLU590"),
    (27, c"MLU585"),
    (29, c"1V_2201"),
    (30, c"MLU580"),
    (31, c"MLU570"),
    (32, c"1V_2202"),
];

/// The type of a PCI device ID.
fn type_of(pci_device: u16) -> Option<i32> {
    Some(match pci_device {
        0x0100 => 0,
        0x0270 => 1,
        0x0290 => 20,
        0x0370 => MLU370,
        0x0365 => 24,
        0x0320 => 25,
        0x0590 => 26,
        0x0585 => 27,
        0x0580 => 30,
        0x0570 => 31,
        _ => return None,
    })
}

/// The three numbers of a version such as `v1.1.6`.
pub(crate) fn version_numbers(text: &str) -> [u32; 3] {
    let mut numbers = text.trim_start_matches('v').split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

fn find(wanted: impl Fn(&Card) -> bool) -> Outcome<i32> {
    let library = library()?;
    let card = library.cards.iter().find(|card| wanted(card));
    card.map(|card| card.handle).ok_or(Code::NotFound)
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetCardNameString")]
pub extern "C" fn card_name_string(kind: i32) -> Text {
    let known = TYPES.iter().find(|(number, _)| *number == kind);
    Text::of(known.map_or(c"Unknown", |(_, name)| name))
}

exports! {
    fn cndevGetDeviceCount(cards: Out<cndevCardInfo_t>) {
        let library = library()?;
        cards.fill(|info| {
            info.number = library.cards.len() as u32;
            Ok(())
        })
    }

    fn cndevGetDeviceHandleByIndex(index: i32, handle: Out<i32>) {
        let library = library()?;
        handle.check()?;
        handle.put(library.card(index)?.handle)
    }

    fn cndevGetDeviceHandleByPciBusId(address: Text, handle: Out<i32>) {
        library()?;
        handle.check()?;
        let address = address.get()?.to_lowercase();
        // A domain of zero may be left out.
        let whole = match address.matches(':').count() {
            1 => format!("0000:{address}"),
            _ => address,
        };
        handle.put(find(|card| card.first.pci.to_string().to_lowercase() == whole)?)
    }

    fn cndevGetDeviceHandleByUUID(uuid: Text, handle: Out<i32>) {
        library()?;
        handle.check()?;
        let uuid = uuid.get()?.to_lowercase();
        let bare = uuid.strip_prefix("mlu-").unwrap_or(&uuid);
        handle.put(find(|card| card.first.uuid == bare)?)
    }

    fn cndevGetCardName(name: Out<cndevCardName_t>, device: i32) {
        let library = library()?;
        name.fill(|name| {
            name.id = type_of(library.card(device)?.model.pci_device).ok_or(Code::Unknown)?;
            Ok(())
        })
    }

    fn cndevGetCardSN(numbers: Out<cndevCardSN_t>, device: i32) {
        let library = library()?;
        numbers.fill(|numbers| {
            let serial = library.card(device)?.info.info.serial;
            numbers.sn = serial;
            numbers.motherBoardSn = serial;
            Ok(())
        })
    }

    fn cndevGetUUID(uuid: Out<cndevUUID_t>, device: i32) {
        let library = library()?;
        uuid.fill(|uuid| {
            let card = library.card(device)?;
            put_text(&mut uuid.uuid, &card.first.uuid);
            uuid.ncsUUID64 = chip_number(card.info.info.serial, card.info.info.chip);
            Ok(())
        })
    }

    fn cndevGetVersionInfo(versions: Out<cndevVersionInfo_t>, device: i32) {
        let library = library()?;
        versions.fill(|versions| {
            let card = library.card(device)?;
            let firmware = version_numbers(&card.first.firmware_version);
            let driver = version_numbers(&card.first.driver_version);
            [versions.mcuMajorVersion, versions.mcuMinorVersion, versions.mcuBuildVersion] = firmware;
            [versions.driverMajorVersion, versions.driverMinorVersion, versions.driverBuildVersion] = driver;
            Ok(())
        })
    }

    fn cndevGetLibVersion(version: Out<cndevLibVersionInfo_t>) {
        library()?;
        version.fill(|version| {
            let numbers = version_numbers(env!("CARGO_PKG_VERSION"));
            [version.libMajorVersion, version.libMinorVersion, version.libBuildVersion] = numbers;
            Ok(())
        })
    }

    fn cndevGetClusterCount(clusters: Out<cndevCardClusterCount_t>, device: i32) {
        let library = library()?;
        clusters.fill(|clusters| {
            clusters.count = library.card(device)?.model.clusters as i32;
            Ok(())
        })
    }

    fn cndevGetCoreCount(cores: Out<cndevCardCoreCount_t>, device: i32) {
        let library = library()?;
        cores.fill(|cores| {
            cores.count = library.card(device)?.model.cores() as i32;
            Ok(())
        })
    }

    fn cndevGetComputeCapability(major: Out<u32>, minor: Out<u32>, device: i32) {
        let library = library()?;
        major.check()?;
        minor.check()?;
        let capability = library.card(device)?.model.compute_capability;
        major.put(capability.0)?;
        minor.put(capability.1)
    }

    fn cndevGetDDRInfo(memory: Out<cndevDDRInfo_t>, device: i32) {
        let library = library()?;
        memory.fill(|memory| {
            let model = library.card(device)?.model;
            memory.dataWidth = model.memory_bus_bits;
            // Tenths of a GB/s.
            let tenths = (model.memory_bandwidth / 100_000_000) as u32;
            (memory.bandWidth, memory.bandWidthDecimal) = (tenths / 10, tenths % 10);
            Ok(())
        })
    }

    fn cndevGetNUMANodeIdByDevId(node: Out<cndevNUMANodeId_t>, device: i32) {
        let library = library()?;
        node.fill(|node| {
            node.nodeId = library.card(device)?.info.numa_node;
            Ok(())
        })
    }

    fn cndevGetCardVfState(state: Out<cndevCardVfState_t>, device: i32) {
        let library = library()?;
        // There is no SR-IOV, so there are no virtual functions.
        state.fill(|_| library.card(device).map(|_| ()))
    }

    fn cndevDeviceGetConfigs(value: Out<u64>, kind: i32, device: i32) {
        let library = library()?;
        value.check()?;
        library.card(device)?;
        match kind {
            0..=6 => Err(Code::NotSupported),
            _ => Err(Code::InvalidArgument),
        }
    }

    fn cndevGetPCIeInfoV2(info: Out<cndevPCIeInfoV2_t>, device: i32) {
        let library = library()?;
        info.check()?;
        let card = library.card(device)?;
        let vendor = card.info.pci_vendor_id;
        info.put(cndevPCIeInfoV2_t {
            subsystemId: card.model.board_id.into(),
            deviceId: card.info.pci_device_id.into(),
            vendor,
            subsystemVendor: vendor,
            domain: card.info.pci_domain,
            bus: card.info.pci_bus.into(),
            device: card.info.pci_device.into(),
            function: card.info.pci_function.into(),
            moduleId: card.info.info.chip as u16,
            slotId: card.number as u16,
            ..cndevPCIeInfoV2_t::zeroed()
        })
    }

    fn cndevGetPCIeBusId(address: Out<c_char>, length: i32, device: i32) {
        let library = library()?;
        address.check()?;
        let text = library.card(device)?.first.pci.to_string().to_lowercase();
        if usize::try_from(length).map_err(|_| Code::InvalidArgument)? <= text.len() {
            return Err(Code::InsufficientSpace);
        }
        for (index, byte) in text.bytes().chain([0]).enumerate() {
            address.at(index).put(byte as c_char)?;
        }
        Ok(())
    }

    fn cndevGetMaxPCIInfo(link: Out<cndevPCIInfo_t>, device: i32) {
        let library = library()?;
        link.fill(|link| {
            let max = library.card(device)?.first.pcie_link.max.ok_or(Code::NotSupported)?;
            (link.maxSpeed, link.maxWidth) = (max.generation as i32, max.lanes as i32);
            Ok(())
        })
    }

    fn cndevGetCurrentPCIInfo(link: Out<cndevCurrentPCIInfo_t>, device: i32) {
        let library = library()?;
        link.fill(|link| {
            let current = library.monitor.pcie_link(library.card(device)?.first.pci).current;
            let current = current.ok_or(Code::NotSupported)?;
            (link.currentSpeed, link.currentWidth) = (current.generation as i32, current.lanes as i32);
            Ok(())
        })
    }

    fn cndevGetPcieReplayCounter(counter: Out<cndevPcieReplayCounter_t>, device: i32) {
        let library = library()?;
        counter.fill(|counter| {
            let card = library.card(device)?;
            counter.counter = library.monitor.pcie_replays(card.first.pci).ok_or(Code::NotSupported)?;
            Ok(())
        })
    }
}

not_there! {
    fn cndevGetChassisInfoV2(cndevChassisInfoV2_t);
}
