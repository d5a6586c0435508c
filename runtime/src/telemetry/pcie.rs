//! Where a chip sits in the PCIe tree of the machine, as sysfs knows it.

use std::path::Path;

use super::fabric::Level;
use super::snapshot::PciAddress;

/// The place of a chip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The root complex, the bridges from there on, and the function itself; empty where there is no PCIe.
    path: Vec<String>,
    /// Its address.
    address: PciAddress,
    /// NUMA node; -1 if it belongs to none.
    node: i32,
    /// Processors that are near, as a list.
    pub(super) processors: Option<String>,
}

impl Place {
    /// Reads the place of the function at `address` below `devices`; without PCIe only its node's processors below `nodes`.
    pub(super) fn read(
        devices: Option<&Path>,
        nodes: &Path,
        address: PciAddress,
        node: i32,
    ) -> Self {
        let list = |file: &Path| {
            let text = std::fs::read_to_string(file).ok()?;
            Some(text.trim().to_owned()).filter(|list| !list.is_empty())
        };
        let of_node = || list(&nodes.join(format!("node{node}")).join("cpulist"));
        let Some(devices) = devices else {
            return Self {
                path: Vec::new(),
                address,
                node,
                processors: of_node(),
            };
        };
        let folder = devices.join(address.to_string().to_lowercase());
        let whole = std::fs::canonicalize(&folder).unwrap_or_default();
        let path = whole
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .skip_while(|part| !part.starts_with("pci"))
            .collect();
        Self {
            path,
            address,
            node,
            processors: list(&folder.join("local_cpulist")).or_else(of_node),
        }
    }

    /// Whether it is the place of the function at an address, on a node.
    pub(super) fn is_of(&self, address: PciAddress, node: i32) -> bool {
        (self.address, self.node) == (address, node)
    }

    /// How near a chip at another place is, on another board. Without PCIe the chips of a node count as behind the switches of one host
    /// bridge, as in the servers that hold such boards.
    pub(super) fn level(&self, other: &Self) -> Level {
        let same = self
            .path
            .iter()
            .zip(&other.path)
            .take_while(|(a, b)| a == b);
        match same.count() {
            _ if self.node != other.node => Level::System,
            _ if self.path.is_empty() && other.path.is_empty() => Level::Multiple,
            0 => Level::Cpu,
            1 => Level::HostBridge,
            // Below the upstream port that both have: a downstream port and the function, or more switches.
            shared if self.path.len().max(other.path.len()) - shared <= 2 => Level::Single,
            _ => Level::Multiple,
        }
    }
}

/// How near two PCI functions of this machine are, as sysfs knows it.
pub fn pci_level(a: PciAddress, b: PciAddress) -> Level {
    if a == b {
        return Level::Same;
    }
    let devices = Path::new(super::monitor::FUNCTIONS);
    let place = |address: PciAddress| {
        let folder = devices.join(address.to_string().to_lowercase());
        let node = std::fs::read_to_string(folder.join("numa_node")).unwrap_or_default();
        let node = node.trim().parse().unwrap_or(-1);
        Place::read(
            Some(devices),
            Path::new("/sys/devices/system/node"),
            address,
            node,
        )
    };
    place(a).level(&place(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn place(path: &str, node: i32) -> Place {
        Place {
            path: path.split('/').map(String::from).collect(),
            address: PciAddress::default(),
            node,
            processors: None,
        }
    }

    #[test]
    fn levels_follow_the_tree() {
        // Root port, first switch, its port, the board's switch, its port, the chip.
        let chip = place(
            "pci0000:40/40:00.0/41:00.0/42:00.0/43:00.0/44:00.0/45:00.0",
            0,
        );
        let cases = [
            (
                "pci0000:40/40:00.0/41:00.0/42:00.0/43:00.0/44:01.0/46:00.0",
                0,
                Level::Single,
            ),
            (
                "pci0000:40/40:00.0/41:00.0/42:01.0/47:00.0/48:00.0/49:00.0",
                0,
                Level::Multiple,
            ),
            (
                "pci0000:40/40:01.0/51:00.0/52:00.0/53:00.0",
                0,
                Level::HostBridge,
            ),
            ("pci0000:80/80:00.0/81:00.0/82:00.0/83:00.0", 0, Level::Cpu),
            (
                "pci0000:80/80:00.0/81:00.0/82:00.0/83:00.0",
                1,
                Level::System,
            ),
        ];
        for (path, node, level) in cases {
            let other = place(path, node);
            assert_eq!(
                (chip.level(&other), other.level(&chip)),
                (level, level),
                "{path}"
            );
        }
    }

    #[test]
    fn sysfs_is_understood() {
        let sys = tempfile::tempdir().unwrap();
        let real = sys
            .path()
            .join("devices/pci0000:40/0000:40:00.0/0000:41:00.0");
        let devices = sys.path().join("bus");
        std::fs::create_dir_all(&real).unwrap();
        std::fs::create_dir(&devices).unwrap();
        symlink(&real, devices.join("0000:41:00.0")).unwrap();
        std::fs::write(real.join("local_cpulist"), "0-3,8\n").unwrap();
        let address = PciAddress {
            bus: 0x41,
            ..PciAddress::default()
        };
        let read = Place::read(Some(&devices), sys.path(), address, 1);
        assert_eq!(read.path, ["pci0000:40", "0000:40:00.0", "0000:41:00.0"]);
        assert_eq!(read.processors.as_deref(), Some("0-3,8"));
        // A node without processors, then one with them; neither has PCIe.
        std::fs::create_dir(sys.path().join("node1")).unwrap();
        std::fs::write(sys.path().join("node1/cpulist"), "\n").unwrap();
        assert_eq!(Place::read(None, sys.path(), address, 1).processors, None);
        std::fs::write(sys.path().join("node1/cpulist"), "4-7\n").unwrap();
        let read = Place::read(None, sys.path(), address, 1);
        assert_eq!(read.processors.as_deref(), Some("4-7"));
        let near = Place::read(None, sys.path(), address, 1);
        assert_eq!(read.level(&near), Level::Multiple);
        let far = Place::read(None, sys.path(), address, 0);
        assert_eq!(read.level(&far), Level::System);
    }
}
