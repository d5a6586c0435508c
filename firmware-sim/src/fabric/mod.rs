//! The fabric: the ports of all chips of a server, and the ways between the chips.

mod port;
pub mod topology;

use std::sync::{Arc, Mutex, Weak};

use vmlu_abi::link::{self, PeerPath, PortState};
use vmlu_abi::model::CardModel;

use crate::core::Core;

use port::Port;
use topology::Topology;

/// The fabric of one server.
pub struct Fabric {
    model: &'static CardModel,
    chips: Vec<Chip>,
    pcie: bool,
}

struct Chip {
    serial: u64,
    chip: u32,
    ports: Vec<Arc<Port>>,
    core: Mutex<Weak<Core>>,
}

/// A chip's place in a fabric.
#[derive(Clone)]
pub struct Place {
    /// The fabric.
    pub fabric: Arc<Fabric>,
    /// Number of the chip in it.
    pub number: usize,
}

/// The way from one chip to another, for one command.
pub struct Route {
    path: PeerPath,
    /// Ports of the chip that uses the route, each with its other end.
    ports: Vec<(Arc<Port>, Arc<Port>)>,
    pcie_rate: u64,
}

/// A link went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkDown {
    /// Port of the chip that wanted to use it; `None` if there is no way at all.
    pub port: Option<u32>,
}

impl std::fmt::Display for LinkDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "the link of port {port} is down"),
            None => write!(f, "this chip has no way to that one"),
        }
    }
}

impl Fabric {
    /// The fabric of a topology, of which every cable was found right; `serials` gives each board's serial number.
    pub fn new(model: &'static CardModel, topology: &Topology, serials: &[u64]) -> Arc<Self> {
        // A board's bandwidth is that of its chips, and a chip's is shared by the ports to its peers in a full group.
        let peers = topology::GROUP * model.chips_per_board - 1;
        let rate =
            model.link_bandwidth / u64::from(model.chips_per_board) / u64::from(peers.max(1));
        let chips: Vec<Chip> = topology
            .places
            .iter()
            .map(|place| Chip {
                serial: serials.get(place.board as usize).copied().unwrap_or(0),
                chip: place.chip,
                ports: (0..model.link_ports)
                    .map(|port| Arc::new(Port::new(port, rate)))
                    .collect(),
                core: Mutex::new(Weak::new()),
            })
            .collect();
        for cable in &topology.cables {
            let ends = [cable.a, cable.b].map(|end| &chips[end.chip].ports[end.port as usize]);
            ends[0].plug(cable.b, cable.state);
            ends[1].plug(cable.a, cable.state);
        }
        Arc::new(Self {
            model,
            chips,
            pcie: topology.pcie,
        })
    }

    /// The fabric of a chip that is alone.
    pub fn alone(model: &'static CardModel, serial: u64, chip: u32) -> Place {
        let place = topology::Place {
            board: 0,
            chip,
            node: 0,
        };
        let topology = Topology {
            places: vec![place],
            cables: Vec::new(),
            pcie: false,
        };
        Place {
            fabric: Self::new(model, &topology, &[serial]),
            number: 0,
        }
    }

    /// Has changes of a chip's ports reported by its firmware from here on.
    pub fn attach(&self, number: usize, core: &Arc<Core>) {
        if let Some(chip) = self.chips.get(number) {
            *chip.core.lock().unwrap_or_else(|e| e.into_inner()) = Arc::downgrade(core);
        }
    }

    /// Number of the chip of a board.
    pub fn find(&self, serial: u64, chip: u32) -> Option<usize> {
        self.chips
            .iter()
            .position(|c| c.serial == serial && c.chip == chip)
    }

    /// The ports of a chip, as of now.
    pub fn ports(&self, number: usize) -> Vec<link::Port> {
        let ports = self.chips.get(number).map_or(&[][..], |c| &c.ports[..]);
        ports
            .iter()
            .map(|port| {
                let mut report = port.report();
                if let Some(end) = port.other() {
                    let remote = &self.chips[end.chip];
                    report.remote_serial = remote.serial;
                    report.remote_chip = remote.chip;
                    report.remote_port = end.port;
                    report.remote_number = end.chip as u32;
                }
                report
            })
            .collect()
    }

    /// How a chip reaches another's memory, as things are now.
    pub fn path(&self, from: usize, to: usize) -> PeerPath {
        self.route(from, to).map_or(PeerPath::None, |r| r.path)
    }

    /// The way from a chip to another: the links that join them, all that are up, else PCIe if the topology has it.
    pub fn route(&self, from: usize, to: usize) -> Result<Route, LinkDown> {
        let route = |path, ports| {
            Ok(Route {
                path,
                ports,
                pcie_rate: self.model.pcie_bandwidth,
            })
        };
        let (Some(chip), true) = (self.chips.get(from), to < self.chips.len()) else {
            return Err(LinkDown { port: None });
        };
        if from == to {
            return route(PeerPath::Same, Vec::new());
        }
        let joined: Vec<_> = chip
            .ports
            .iter()
            .filter_map(|port| port.other().filter(|end| end.chip == to).map(|e| (port, e)))
            .collect();
        let up: Vec<_> = joined
            .iter()
            .filter(|(port, _)| port.runs())
            .map(|(port, end)| {
                let other = &self.chips[to].ports[end.port as usize];
                ((*port).clone(), other.clone())
            })
            .collect();
        match joined.first() {
            Some(_) if !up.is_empty() => route(PeerPath::Link, up),
            // A dead link does not turn into another way behind the program's back.
            Some((port, _)) => Err(LinkDown {
                port: Some(port.index),
            }),
            None if self.pcie => route(PeerPath::Pcie, Vec::new()),
            None => Err(LinkDown { port: None }),
        }
    }

    /// Changes the state of a link, at both of its ends; `false` if the port does not exist or has no cable. `lanes` counts where the state
    /// is `Degraded`.
    pub fn set_state(&self, number: usize, port: u32, state: PortState, lanes: u32) -> bool {
        let Some(near) = self
            .chips
            .get(number)
            .and_then(|c| c.ports.get(port as usize))
        else {
            return false;
        };
        let Some(end) = near.other() else {
            return false;
        };
        let far = &self.chips[end.chip].ports[end.port as usize];
        for (chip, port) in [(number, near), (end.chip, far)] {
            if port.set(state, lanes) {
                self.tell(chip, port);
            }
        }
        true
    }

    /// Counts errors of a port; `false` if it does not exist.
    pub fn count_errors(
        &self,
        number: usize,
        port: u32,
        kind: port::ErrorKind,
        count: u64,
    ) -> bool {
        let port = self
            .chips
            .get(number)
            .and_then(|c| c.ports.get(port as usize));
        port.is_some_and(|p| {
            p.count_errors(kind, count);
            true
        })
    }

    /// Whether a chip has links with a cable that are down, and whether it has any with fewer lanes than they should have.
    pub fn impaired(&self, number: usize) -> (bool, bool) {
        let ports = self.chips.get(number).map_or(&[][..], |chip| &chip.ports);
        let any = |state| {
            ports
                .iter()
                .any(|port| port.other().is_some() && port.report().state == state as u32)
        };
        (any(PortState::Down), any(PortState::Degraded))
    }

    fn tell(&self, number: usize, port: &Port) {
        let core = self.chips[number]
            .core
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .upgrade();
        if let Some(core) = core {
            let state = port.report().state;
            core.link_changed(port.index, state);
        }
    }
}

pub use port::ErrorKind;

impl Route {
    /// How it goes.
    pub fn path(&self) -> PeerPath {
        self.path
    }

    /// Bytes/s in one direction.
    pub fn rate(&self) -> u64 {
        match self.path {
            PeerPath::Link => self.ports.iter().map(|(near, _)| near.rate()).sum(),
            _ => self.pcie_rate,
        }
    }

    /// Whether the way still stands.
    pub fn check(&self) -> Result<(), LinkDown> {
        match self.ports.iter().find(|(near, _)| !near.runs()) {
            Some((near, _)) => Err(LinkDown {
                port: Some(near.index),
            }),
            None => Ok(()),
        }
    }

    /// Counts bytes that the chip which uses the route read and wrote at the other end.
    pub fn count(&self, read: u64, written: u64) {
        let ports = self.ports.len() as u64;
        for (i, (near, far)) in self.ports.iter().enumerate() {
            // The first ports carry what does not divide.
            let part = |bytes: u64| bytes / ports + u64::from((i as u64) < bytes % ports);
            near.count(part(read), part(written));
            far.count(part(written), part(read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::{Cable, End, GROUP};
    use vmlu_abi::model::MLU370_X8;

    fn fabric(boards: u32) -> Arc<Fabric> {
        let serials: Vec<u64> = (1..=u64::from(boards)).collect();
        Fabric::new(
            &MLU370_X8,
            &Topology::groups(&MLU370_X8, boards, GROUP),
            &serials,
        )
    }

    #[test]
    fn paths_follow_the_groups() {
        let fabric = fabric(8);
        assert_eq!(fabric.path(0, 0), PeerPath::Same);
        assert_eq!(fabric.path(0, 7), PeerPath::Link);
        assert_eq!(fabric.path(0, 8), PeerPath::Pcie);
        assert_eq!(fabric.path(0, 16), PeerPath::None);
        // All of a chip's links together are half of the board's bandwidth.
        let sum: u64 = (1..8).map(|to| fabric.route(0, to).unwrap().rate()).sum();
        assert!(sum.abs_diff(100_000_000_000) < 100, "{sum}");
    }

    #[test]
    fn what_one_end_sends_the_other_receives() {
        let fabric = fabric(1);
        fabric.route(0, 1).unwrap().count(1000, 257);
        let (near, far) = (fabric.ports(0)[0], fabric.ports(1)[0]);
        assert_eq!((near.read_bytes, near.written_bytes), (1000, 257));
        assert_eq!((near.read_packets, near.written_packets), (4, 2));
        assert_eq!((far.read_bytes, far.written_bytes), (257, 1000));
        assert_eq!(
            (near.remote_serial, near.remote_chip, far.remote_chip),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_dead_link_is_no_way() {
        let fabric = fabric(2);
        let route = fabric.route(0, 3).unwrap();
        assert!(fabric.set_state(0, 2, PortState::Down, 0));
        assert_eq!(route.check(), Err(LinkDown { port: Some(2) }));
        assert_eq!(fabric.route(3, 0).err(), Some(LinkDown { port: Some(0) }));
        assert_eq!(fabric.ports(3)[0].downs, 1);
        assert!(fabric.set_state(3, 0, PortState::Degraded, 1));
        let (slow, fast) = (
            fabric.route(0, 3).unwrap().rate(),
            fabric.route(0, 1).unwrap().rate(),
        );
        assert_eq!(slow, fast / 4);
        assert!(!fabric.set_state(0, 7, PortState::Up, 4), "no cable");
        assert!(!fabric.set_state(0, 8, PortState::Up, 4), "no port");
    }

    #[test]
    fn parallel_cables_share() {
        let cable = |port| Cable {
            a: End { chip: 0, port },
            b: End { chip: 1, port },
            state: PortState::Up,
        };
        let mut topology = Topology::groups(&MLU370_X8, 1, 1);
        topology.cables = (0..3).map(cable).collect();
        let fabric = Fabric::new(&MLU370_X8, &topology, &[1]);
        let route = fabric.route(0, 1).unwrap();
        route.count(10, 0);
        let read: Vec<u64> = fabric.ports(0)[..3].iter().map(|p| p.read_bytes).collect();
        assert_eq!(read, [4, 3, 3]);
        // One of three dies: commands that use it end, later ones take the others.
        assert!(fabric.set_state(1, 1, PortState::Down, 0));
        assert!(route.check().is_err());
        assert_eq!(fabric.route(0, 1).unwrap().ports.len(), 2);
    }
}
