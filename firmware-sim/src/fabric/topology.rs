//! What is joined to what: plain data, checked before a fabric is made of it.

use vmlu_abi::link::PortState;
use vmlu_abi::model::CardModel;

/// Boards whose chips are all linked with each other by default.
pub const GROUP: u32 = 4;

/// The chips of a server and the cables between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Chips, in the order of their numbers.
    pub places: Vec<Place>,
    /// Cables.
    pub cables: Vec<Cable>,
    /// Whether chips that no cable joins reach each other over PCIe.
    pub pcie: bool,
}

/// Where a chip sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Board, from 0 on.
    pub board: u32,
    /// Chip of the board, from 0 on.
    pub chip: u32,
    /// Host memory node that is near.
    pub node: u32,
}

/// A cable (or, between the chips of a board, a trace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cable {
    /// One end.
    pub a: End,
    /// The other.
    pub b: End,
    /// Its state when the server starts: `Up`, `Down` or `Degraded`.
    pub state: PortState,
}

/// A port of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Number of the chip.
    pub chip: usize,
    /// Port.
    pub port: u32,
}

impl Topology {
    /// Boards in groups of `group`, all chips of a group linked with each other, PCIe between groups. Chip `i` of a group of `n` has the
    /// link to chip `j` on port `(j - i - 1) mod n`.
    pub fn groups(model: &CardModel, boards: u32, group: u32) -> Self {
        let chips = model.chips_per_board;
        let places: Vec<Place> = (0..boards * chips)
            .map(|number| Place {
                board: number / chips,
                chip: number % chips,
                node: number / chips / GROUP,
            })
            .collect();
        let wide = (group.max(1) * chips) as usize;
        let mut cables = Vec::new();
        for start in (0..places.len()).step_by(wide) {
            let count = wide.min(places.len() - start);
            let port = |from: usize, to: usize| ((to + count - from - 1) % count) as u32;
            for a in 0..count {
                for b in a + 1..count {
                    let end = |chip: usize, to: usize| End {
                        chip: start + chip,
                        port: port(chip, to),
                    };
                    cables.push(Cable {
                        a: end(a, b),
                        b: end(b, a),
                        state: PortState::Up,
                    });
                }
            }
        }
        Self {
            places,
            cables,
            pcie: true,
        }
    }

    /// What is wrong with cable `index`, if something is.
    pub fn wrong(&self, model: &CardModel, index: usize) -> Option<String> {
        let cable = &self.cables[index];
        for end in [cable.a, cable.b] {
            if end.chip >= self.places.len() {
                return Some(format!(
                    "there is no chip {}, only {}",
                    end.chip,
                    self.places.len()
                ));
            }
            if end.port >= model.link_ports {
                return Some(format!(
                    "chip {} has no port {}: {} has ports 0 to {}",
                    end.chip,
                    end.port,
                    model.name,
                    model.link_ports.saturating_sub(1)
                ));
            }
        }
        if cable.a.chip == cable.b.chip {
            return Some(format!("chip {} is linked with itself", cable.a.chip));
        }
        let taken = self.cables[..index]
            .iter()
            .flat_map(|c| [c.a, c.b])
            .find(|end| *end == cable.a || *end == cable.b);
        if let Some(end) = taken {
            return Some(format!(
                "port {} of chip {} has a cable already",
                end.port, end.chip
            ));
        }
        (cable.state == PortState::Absent).then(|| "a cable is up, down or degraded".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    #[test]
    fn groups_are_full_meshes() {
        for boards in 1..=8 {
            let topology = Topology::groups(&MLU370_X8, boards, GROUP);
            assert_eq!(topology.places.len(), 2 * boards as usize);
            for index in 0..topology.cables.len() {
                assert_eq!(topology.wrong(&MLU370_X8, index), None);
            }
            let joined = |a: usize, b: usize| {
                topology
                    .cables
                    .iter()
                    .any(|c| [c.a.chip, c.b.chip] == [a, b] || [c.a.chip, c.b.chip] == [b, a])
            };
            for a in 0..topology.places.len() {
                for b in 0..topology.places.len() {
                    assert_eq!(joined(a, b), a != b && a / 8 == b / 8);
                }
            }
        }
    }

    #[test]
    fn wrong_cables_are_named() {
        let mut topology = Topology::groups(&MLU370_X8, 2, 1);
        let end = |chip, port| End { chip, port };
        let mut wrong = |a, b, state| {
            topology.cables.push(Cable { a, b, state });
            let index = topology.cables.len() - 1;
            let text = topology.wrong(&MLU370_X8, index);
            topology.cables.pop();
            text
        };
        let up = PortState::Up;
        assert_eq!(wrong(end(0, 1), end(2, 1), up), None);
        let wrongs = [
            (wrong(end(0, 1), end(4, 0), up), "no chip 4"),
            (wrong(end(0, 8), end(2, 0), up), "no port 8"),
            (wrong(end(1, 1), end(1, 2), up), "with itself"),
            (wrong(end(0, 0), end(2, 0), up), "has a cable already"),
            (wrong(end(0, 1), end(2, 1), PortState::Absent), "up, down"),
        ];
        for (said, expected) in wrongs {
            assert!(
                said.as_deref().is_some_and(|s| s.contains(expected)),
                "{said:?}"
            );
        }
    }
}
