//! Devices. A `CNdev` is the device's ordinal.

use std::ffi::c_char;

use vmlu_c_abi::device::{self, Device};
use vmlu_c_abi::ffi::set_text;
use vmlu_c_abi::{exports, info, Failure, Out, Result, Text};

use crate::error::run;

/// Writes a version.
pub(crate) fn set_version(version: [i32; 3], places: [Out<i32>; 3]) -> Result<()> {
    places.iter().try_for_each(|place| place.check())?;
    let mut pairs = places.into_iter().zip(version);
    pairs.try_for_each(|(place, number)| place.set(number))
}

/// The device of a `CNdev`.
pub(crate) fn get(device: u64) -> Result<&'static Device> {
    device::get(i32::try_from(device).map_err(|_| Failure::INVALID_DEVICE)?)
}

exports! { run;
    /// See the header.
    fn cnDriverGetVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        set_version([2, 15, 5], [major, minor, patch])
    }

    /// See the header.
    fn cnGetDriverVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        set_version(info::DRIVER_VERSION, [major, minor, patch])
    }

    /// See the header.
    fn cnDeviceGet(place: Out<u64>, ordinal: i32) {
        place.check()?;
        place.set(device::get(ordinal)?.ordinal as u64)
    }

    /// See the header.
    fn cnDeviceGetCount(count: Out<i32>) {
        count.check()?;
        count.set(device::all()?.len() as i32)
    }

    /// See the header.
    fn cnDeviceGetName(place: Out<c_char>, length: i32, device: u64) {
        set_text(place, usize::try_from(length).unwrap_or(0), &get(device)?.name())
    }

    /// See the header.
    fn cnDeviceTotalMem(bytes: Out<u64>, device: u64) {
        bytes.check()?;
        bytes.set(get(device)?.info.info.memory_bytes)
    }

    /// See the header.
    fn cnDeviceGetAttribute(value: Out<i32>, attribute: i32, device: u64) {
        value.check()?;
        value.set(info::attribute(get(device)?, attribute)?)
    }

    /// See the header.
    fn cnDeviceGetByPCIBusId(place: Out<u64>, bus: Text) {
        place.check()?;
        place.set(device::by_pci(&bus.get()?)?.ordinal as u64)
    }

    /// See the header.
    fn cnDeviceGetPCIBusId(place: Out<c_char>, length: i32, device: u64) {
        set_text(place, usize::try_from(length).unwrap_or(0), &get(device)?.pci())
    }

    /// See the header.
    fn cnDeviceGetUuid(place: Out<[u8; 16]>, device: u64) {
        place.check()?;
        place.set(get(device)?.info.info.uuid)
    }

    /// See the header.
    fn cnDeviceGetUuidStr(place: Out<c_char>, length: i32, device: u64) {
        set_text(place, usize::try_from(length).unwrap_or(0), &get(device)?.uuid())
    }

    /// See the header.
    fn cnDeviceGetByUuidStr(place: Out<u64>, uuid: Text) {
        place.check()?;
        let wanted = uuid.get()?;
        let found = device::all()?.iter().find(|d| d.uuid().eq_ignore_ascii_case(&wanted));
        place.set(found.ok_or(Failure::INVALID_DEVICE)?.ordinal as u64)
    }

    /// See the header.
    fn cnDeviceCanPeerAble(can_access: Out<i32>, from: u64, to: u64) {
        can_access.check()?;
        can_access.set(i32::from(info::reaches(get(from)?, get(to)?)?))
    }
}
