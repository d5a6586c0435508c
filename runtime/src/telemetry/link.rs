//! The PCIe link of a chip, as sysfs knows it.

use std::path::Path;

use super::snapshot::{Link, PciAddress, PcieLink};

/// Reads the link of the function at `address` below `devices`, usually `/sys/bus/pci/devices`.
pub(super) fn read(devices: &Path, address: PciAddress) -> PcieLink {
    let folder = devices.join(address.to_string().to_lowercase());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    PcieLink {
        current: parse(&read("current_link_speed"), &read("current_link_width")),
        max: parse(&read("max_link_speed"), &read("max_link_width")),
    }
}

/// Packets that the link of a function sent again: what AER counts as the replay number's rollovers and the replay timer's timeouts.
pub(super) fn replays(devices: &Path, address: PciAddress) -> Option<u32> {
    let folder = devices.join(address.to_string().to_lowercase());
    let text = std::fs::read_to_string(folder.join("aer_dev_correctable")).ok()?;
    let count = |name: &str| -> Option<u32> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(count("Rollover")?.saturating_add(count("Timeout")?))
}

/// Link of a speed such as `16.0 GT/s PCIe` and a width such as `16`.
fn parse(speed: &str, width: &str) -> Option<Link> {
    let rate: f64 = speed.split_whitespace().next()?.parse().ok()?;
    let lanes: u32 = width.trim().parse().ok()?;
    // From generation to generation the rate doubles, but for the step from 5 to 8.
    let generation = [2.5, 5.0, 8.0, 16.0, 32.0, 64.0]
        .iter()
        .position(|known| *known == rate)? as u32
        + 1;
    (lanes > 0).then_some(Link { generation, lanes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_is_understood() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("0000:3d:00.0");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("current_link_speed", "8.0 GT/s PCIe\n"),
            ("current_link_width", "4\n"),
            ("max_link_speed", "16.0 GT/s PCIe\n"),
            ("max_link_width", "16\n"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let address = PciAddress {
            domain: 0,
            bus: 0x3d,
            device: 0,
            function: 0,
        };
        let link = read(sys.path(), address);
        assert_eq!(
            link.current,
            Some(Link {
                generation: 3,
                lanes: 4
            })
        );
        assert_eq!(
            link.max,
            Some(Link {
                generation: 4,
                lanes: 16
            })
        );
        assert_eq!(
            read(sys.path(), PciAddress { bus: 1, ..address }),
            PcieLink::default()
        );
        assert_eq!(parse("Unknown", "0"), None);
    }
}
