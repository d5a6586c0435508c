//! MLU-Link.

use vmlu::abi::link::{Port, PortState};
use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::telemetry::{chip_number, chip_uuid};

use crate::call::{put_text, Out};
use crate::codes::{Code, Outcome};
use crate::library::{library, Card, Library};
use crate::types::*;

/// `PORT_WORK_MODE_MLULINK`.
const MODE_MLULINK: i32 = 2;
/// `SPEED_FMT_PM4`.
const FORMAT_PAM4: i32 = 1;

fn port(library: &Library, device: i32, link: i32) -> Outcome<Port> {
    let ports = library.ports(library.card(device)?)?;
    let index = usize::try_from(link).map_err(|_| Code::InvalidLink)?;
    ports.get(index).copied().ok_or(Code::InvalidLink)
}

fn state(port: &Port) -> PortState {
    PortState::from_raw(port.state).unwrap_or(PortState::Down)
}

fn runs(port: &Port) -> bool {
    matches!(state(port), PortState::Up | PortState::Degraded)
}

/// Changes or counts something at a port.
pub(crate) fn control(
    library: &Library,
    card: &Card,
    link: i32,
    action: LinkAction,
    value: u64,
) -> Outcome {
    let port = u32::try_from(link).map_err(|_| Code::InvalidLink)?;
    if port >= card.model.link_ports {
        return Err(Code::InvalidLink);
    }
    let control = LinkControl {
        port,
        action: action as u32,
        value,
        ..LinkControl::zeroed()
    };
    library.transport().link_control(card.number, &control)?;
    library.forget_ports();
    Ok(())
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetMLULinkPortNumber")]
pub extern "C" fn port_number(device: i32) -> i32 {
    let ports =
        library().and_then(|library| library.card(device).map(|card| card.model.link_ports));
    match ports {
        Ok(ports) => ports as i32,
        Err(code) => {
            crate::codes::finish(Err(code));
            -1
        }
    }
}

exports! {
    fn cndevGetMLULinkStatusV2(status: Out<cndevMLULinkStatusV2_t>, device: i32, link: i32) {
        let library = library()?;
        status.check()?;
        let port = port(&library, device, link)?;
        let (mac, serdes, presence) = match state(&port) {
            PortState::Absent => (0, 0, 0),
            PortState::Down => (0, 0, 1),
            PortState::Up | PortState::Degraded => (1, 1, 1),
        };
        status.put(cndevMLULinkStatusV2_t {
            macState: mac,
            serdesState: serdes,
            presenceState: presence,
            serdesProgress: if serdes == 1 { 100 } else { 0 },
            ..cndevMLULinkStatusV2_t::zeroed()
        })
    }

    fn cndevGetMLULinkState(inbound: Out<i32>, outbound: Out<i32>, device: i32, link: i32) {
        let library = library()?;
        inbound.check()?;
        outbound.check()?;
        let up = i32::from(runs(&port(&library, device, link)?));
        inbound.put(up)?;
        outbound.put(up)
    }

    fn cndevSetMLULinkState(enable: i32, device: i32, link: i32) {
        let library = library()?;
        let card = library.card(device)?;
        let action = match enable {
            0 => LinkAction::Down,
            1 => LinkAction::Up,
            _ => return Err(Code::InvalidArgument),
        };
        control(&library, card, link, action, 0)
    }

    fn cndevGetMLULinkSpeedInfo(speed: Out<cndevMLULinkSpeed_t>, device: i32, link: i32) {
        let library = library()?;
        speed.fill(|speed| {
            let port = port(&library, device, link)?;
            speed.speedValue = (port.rate as f64 * 8.0 / 1e9) as f32;
            speed.speedFormat = FORMAT_PAM4;
            Ok(())
        })
    }

    fn cndevGetMLULinkCapability(capability: Out<cndevMLULinkCapability_t>, device: i32, link: i32) {
        let library = library()?;
        capability.fill(|capability| {
            port(&library, device, link)?;
            capability.p2pTransfer = 1;
            Ok(())
        })
    }

    fn cndevGetMLULinkCounter(counter: Out<cndevMLULinkCounter_t>, device: i32, link: i32) {
        let library = library()?;
        counter.fill(|counter| {
            let port = port(&library, device, link)?;
            counter.cntrReadByte = port.read_bytes;
            counter.cntrReadPackage = port.read_packets;
            counter.cntrWriteByte = port.written_bytes;
            counter.cntrWritePackage = port.written_packets;
            counter.errReplay = port.replays;
            counter.errFatal = port.fatal;
            counter.errEccDouble = port.ecc_double;
            counter.errCRC24 = port.crc24;
            counter.errCRC32 = port.crc32;
            counter.errCorrected = port.corrected;
            counter.errUncorrected = port.uncorrected;
            counter.errIllegalAccess = port.illegal;
            Ok(())
        })
    }

    fn cndevGetMLULinkErrorCounter(counter: Out<cndevMLULinkErrorCounter_t>, device: i32, link: i32) {
        let library = library()?;
        counter.check()?;
        let port = port(&library, device, link)?;
        counter.put(cndevMLULinkErrorCounter_t {
            correctFecCnt: port.corrected,
            uncorrectFecCnt: port.uncorrected,
            rxBadFcsPkt: port.crc24.saturating_add(port.crc32),
            illegalAccessCnt: port.illegal,
            ..cndevMLULinkErrorCounter_t::zeroed()
        })
    }

    fn cndevGetMLULinkEventCounter(counter: Out<cndevMLULinkEventCounter_t>, device: i32, link: i32) {
        let library = library()?;
        counter.check()?;
        let port = port(&library, device, link)?;
        counter.put(cndevMLULinkEventCounter_t {
            linkDown: port.downs,
            replay: port.replays,
            ..cndevMLULinkEventCounter_t::zeroed()
        })
    }

    fn cndevGetMLULinkRemoteInfo(remote: Out<cndevMLULinkRemoteInfo_t>, device: i32, link: i32) {
        let library = library()?;
        remote.fill(|remote| {
            let port = port(&library, device, link)?;
            if state(&port) == PortState::Absent {
                return Err(Code::NotFound);
            }
            remote.mcSn = port.remote_serial;
            remote.baSn = port.remote_serial;
            remote.slotId = port.remote_number;
            remote.portId = port.remote_port;
            put_text(&mut remote.uuid, &chip_uuid(port.remote_serial, port.remote_chip));
            remote.ncsUUID64 = chip_number(port.remote_serial, port.remote_chip);
            Ok(())
        })
    }

    fn cndevGetMLULinkPortMode(mode: Out<cndevMLULinkPortMode_t>, device: i32, link: i32) {
        let library = library()?;
        mode.fill(|mode| {
            port(&library, device, link)?;
            mode.mode = MODE_MLULINK;
            mode.supportMode = MODE_MLULINK;
            Ok(())
        })
    }

    fn cndevGetMLULinkVersion(version: Out<cndevMLULinkVersion_t>, device: i32, link: i32) {
        let library = library()?;
        version.version()?;
        port(&library, device, link)?;
        Err(Code::NotSupported)
    }

    fn cndevGetMLULinkPPI(ppi: Out<cndevMLULinkPPI_t>, device: i32, link: i32) {
        let library = library()?;
        ppi.check()?;
        port(&library, device, link)?;
        Err(Code::NotSupported)
    }

    fn cndevGetOpticalInfo(optical: Out<cndevOpticalInfo_t>, device: i32, link: i32) {
        let library = library()?;
        optical.check()?;
        port(&library, device, link)?;
        Err(Code::NotSupported)
    }
}
