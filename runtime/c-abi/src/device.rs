//! The devices of the process: the chips of its transport, in the order of their numbers, as far as `MLU_VISIBLE_DEVICES` names them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vmlu::abi::ioctl::DeviceInfo;
use vmlu::abi::model::{self, CardModel};
use vmlu::abi::telemetry::Telemetry;
use vmlu::transport::{self, TelemetryPage, Transport};

use crate::call::watch_forks;
use crate::context::Context;
use crate::failure::{Failure, Result};

/// A device.
pub struct Device {
    /// What C calls it: its place in the list.
    pub ordinal: usize,
    /// Its number for the transport.
    pub number: u32,
    /// What it is.
    pub info: DeviceInfo,
    /// Its product.
    pub model: &'static CardModel,
    /// The way to it.
    pub transport: Arc<dyn Transport>,
    context: Arc<Context>,
    page: OnceLock<Option<TelemetryPage>>,
}

impl Device {
    /// The context that all of the process share, in use or not.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the card says of itself now: from the page that it keeps, or else by asking it.
    pub fn telemetry(&self) -> Result<Telemetry> {
        let page = self
            .page
            .get_or_init(|| self.transport.telemetry_page(self.number));
        match page.as_ref().and_then(TelemetryPage::read) {
            Some(telemetry) => Ok(telemetry),
            None => Ok(self.transport.telemetry(self.number)?),
        }
    }

    /// UUID, as 8-4-4-4-12 hexadecimal digits.
    pub fn uuid(&self) -> String {
        let mut text = String::new();
        for (i, byte) in self.info.info.uuid.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    /// PCI address, as `domain:bus:device.function` in hexadecimal digits.
    pub fn pci(&self) -> String {
        let DeviceInfo {
            pci_domain,
            pci_bus,
            pci_device,
            pci_function,
            ..
        } = self.info;
        format!("{pci_domain:04x}:{pci_bus:02x}:{pci_device:02x}.{pci_function:x}")
    }

    /// Name of the product.
    pub fn name(&self) -> String {
        let name = &self.info.info.name;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    }
}

static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();

/// Whether a call has asked for devices, and there are some.
pub fn is_initialised() -> bool {
    DEVICES.get().is_some_and(|devices| !devices.is_empty())
}

/// All devices; none is no error.
pub fn all() -> Result<&'static [Device]> {
    static MAKING: Mutex<()> = Mutex::new(());
    if let Some(devices) = DEVICES.get() {
        return Ok(devices);
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if DEVICES.get().is_none() {
        watch_forks();
        let transport = transport::choose()?;
        let mut devices = Vec::new();
        for number in visible(&transport.devices()?) {
            let info = transport.info(number)?;
            let ordinal = devices.len();
            devices.push(Device {
                ordinal,
                number,
                model: model::by_id(info.info.model).unwrap_or(&model::MLU370_X8),
                info,
                transport: transport.clone(),
                context: Context::shared(ordinal)?,
                page: OnceLock::new(),
            });
        }
        let _ = DEVICES.set(devices);
    }
    Ok(DEVICES.get().map_or(&[], Vec::as_slice))
}

/// A device by its ordinal.
pub fn get(ordinal: i32) -> Result<&'static Device> {
    let devices = all()?;
    if devices.is_empty() {
        return Err(Failure::NO_DEVICE);
    }
    usize::try_from(ordinal)
        .ok()
        .and_then(|ordinal| devices.get(ordinal))
        .ok_or(Failure::INVALID_DEVICE)
}

/// A device by its PCI address, with or without domain and function.
pub fn by_pci(text: &str) -> Result<&'static Device> {
    let wanted = pci(text).ok_or(Failure::INVALID_VALUE)?;
    let here = |d: &Device| {
        let i = &d.info;
        (
            i.pci_domain,
            u32::from(i.pci_bus),
            u32::from(i.pci_device),
            u32::from(i.pci_function),
        )
    };
    all()?
        .iter()
        .find(|device| here(device) == wanted)
        .ok_or(Failure::INVALID_DEVICE)
}

/// Domain, bus, device and function of `[domain:]bus:device[.function]`.
fn pci(text: &str) -> Option<(u32, u32, u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (place, function) = match text.split_once('.') {
        Some((place, function)) => (place, hex(function)?),
        None => (text, 0),
    };
    let parts: Vec<u32> = place.split(':').map(hex).collect::<Option<_>>()?;
    match parts[..] {
        [bus, device] => Some((0, bus, device, function)),
        [domain, bus, device] => Some((domain, bus, device, function)),
        _ => None,
    }
}

/// The devices that `MLU_VISIBLE_DEVICES` leaves, in its order: numbers with commas between them, up to the first that names none.
fn visible(numbers: &[u32]) -> Vec<u32> {
    let Ok(wanted) = std::env::var("MLU_VISIBLE_DEVICES") else {
        return numbers.to_vec();
    };
    let chosen = wanted.split(',').map_while(|place| {
        let place: usize = place.trim().parse().ok()?;
        numbers.get(place).copied()
    });
    let mut list = Vec::new();
    for number in chosen {
        if !list.contains(&number) {
            list.push(number);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::pci;

    #[test]
    fn pci_addresses_are_read_in_all_forms() {
        assert_eq!(pci("0000:0a:00.1"), Some((0, 10, 0, 1)));
        assert_eq!(pci("1:0a:1f"), Some((1, 10, 31, 0)));
        assert_eq!(pci("0A:00.0"), Some((0, 10, 0, 0)));
        for wrong in ["", "0", "a:b:c:d", "0:x", "0:0.", "::"] {
            assert_eq!(pci(wrong), None, "{wrong}");
        }
    }
}
