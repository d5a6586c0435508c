//! Topology files: what is linked with what, in TOML.
//!
//! ```toml
//! version = 1
//! # Boards whose chips are all linked with each other; 0 links nothing by itself. Default: 4, or 0 if there are links below.
//! group = 4
//! # Whether chips that no link joins reach each other over PCIe. Default: true.
//! pcie = true
//!
//! # Links one by one: "board.chip:port".
//! [[link]]
//! a = "0.0:7"
//! b = "4.0:7"
//! # up, down or degraded. Default: up.
//! state = "up"
//!
//! # Changes a link that is there, by one of its ends.
//! [[change]]
//! end = "0.1:3"
//! state = "down"
//!
//! # Host memory nodes. Default: a node each four boards.
//! [[node]]
//! boards = [0, 1, 2, 3, 4, 5, 6, 7]
//! ```

use std::fmt;

use serde::Deserialize;
use toml::Spanned;
use vmlu_abi::link::PortState;
use vmlu_abi::model::CardModel;
pub use vmlu_firmware::fabric::topology::Topology;
use vmlu_firmware::fabric::topology::{Cable, End, GROUP};

/// What is wrong with a topology file.
#[derive(Debug, PartialEq, Eq)]
pub struct TopologyError {
    /// Line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

impl std::error::Error for TopologyError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    group: Option<Spanned<u32>>,
    pcie: Option<bool>,
    #[serde(default)]
    link: Vec<Spanned<Link>>,
    #[serde(default)]
    change: Vec<Spanned<Change>>,
    #[serde(default)]
    node: Vec<Spanned<Node>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    a: Spanned<String>,
    b: Spanned<String>,
    #[serde(default)]
    state: State,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    end: Spanned<String>,
    state: State,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    boards: Vec<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Up,
    Down,
    Degraded,
}

impl From<State> for PortState {
    fn from(state: State) -> Self {
        match state {
            State::Up => Self::Up,
            State::Down => Self::Down,
            State::Degraded => Self::Degraded,
        }
    }
}

/// Reads a topology of so many chips.
pub fn parse(text: &str, model: &CardModel, chips: u32) -> Result<Topology, TopologyError> {
    let at = |offset: usize, said: String| TopologyError {
        line: text[..offset.min(text.len())].matches('\n').count() + 1,
        text: said,
    };
    let file: File = toml::from_str(text).map_err(|error| {
        at(
            error.span().map_or(0, |span| span.start),
            error.message().to_owned(),
        )
    })?;
    if *file.version.get_ref() != 1 {
        let said = format!("version {} is not known, 1 is", file.version.get_ref());
        return Err(at(file.version.span().start, said));
    }
    let boards = chips.div_ceil(model.chips_per_board);
    let group = match &file.group {
        Some(group) if *group.get_ref() > GROUP => {
            let said = format!(
                "a group of {} boards: the {} ports of a chip reach those of {GROUP}",
                group.get_ref(),
                model.link_ports
            );
            return Err(at(group.span().start, said));
        }
        Some(group) => *group.get_ref(),
        None if file.link.is_empty() => GROUP,
        None => 0,
    };
    let mut topology = Topology::groups(model, boards, group);
    if group == 0 {
        topology.cables.clear();
    }
    topology.places.truncate(chips as usize);
    let known = topology.places.len();
    topology
        .cables
        .retain(|c| c.a.chip < known && c.b.chip < known);
    topology.pcie = file.pcie.unwrap_or(true);

    let end = |name: &Spanned<String>| {
        parse_end(name.get_ref(), model).ok_or_else(|| {
            let said = format!(
                "{:?} is no end of a link: write board.chip:port, such as \"0.1:3\"",
                name.get_ref()
            );
            at(name.span().start, said)
        })
    };
    for link in &file.link {
        let Link { a, b, state } = link.get_ref();
        topology.cables.push(Cable {
            a: end(a)?,
            b: end(b)?,
            state: (*state).into(),
        });
        if let Some(wrong) = topology.wrong(model, topology.cables.len() - 1) {
            return Err(at(a.span().start, wrong));
        }
    }
    for change in &file.change {
        let wanted = end(&change.get_ref().end)?;
        let cable = topology
            .cables
            .iter_mut()
            .find(|c| c.a == wanted || c.b == wanted);
        let Some(cable) = cable else {
            let said = format!("no link ends at {}", change.get_ref().end.get_ref());
            return Err(at(change.get_ref().end.span().start, said));
        };
        cable.state = change.get_ref().state.into();
    }
    for (number, node) in file.node.iter().enumerate() {
        for board in &node.get_ref().boards {
            if *board >= boards {
                let said = format!("there is no board {board}, only {boards}");
                return Err(at(node.span().start, said));
            }
            let of_board = topology.places.iter_mut().filter(|p| p.board == *board);
            of_board.for_each(|place| place.node = number as u32);
        }
    }
    Ok(topology)
}

fn parse_end(text: &str, model: &CardModel) -> Option<End> {
    let (board, rest) = text.split_once('.')?;
    let (chip, port) = rest.split_once(':')?;
    let (board, chip): (usize, usize) = (board.parse().ok()?, chip.parse().ok()?);
    let per_board = model.chips_per_board as usize;
    (chip < per_board).then_some(())?;
    Some(End {
        chip: board.checked_mul(per_board)?.checked_add(chip)?,
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    fn read(text: &str, chips: u32) -> Result<Topology, TopologyError> {
        parse(text, &MLU370_X8, chips)
    }

    #[test]
    fn nothing_said_is_the_default() {
        for boards in [1, 3, 8] {
            let read = read("version = 1", 2 * boards).unwrap();
            assert_eq!(read, Topology::groups(&MLU370_X8, boards, GROUP));
        }
    }

    #[test]
    fn a_pair_a_ring_and_a_link_that_is_down() {
        let pair = read("version = 1\ngroup = 1\npcie = false\n", 4).unwrap();
        assert_eq!((pair.cables.len(), pair.pcie), (2, false));
        let ring = "version = 1\n\
            [[link]]\na = '0.0:0'\nb = '0.1:1'\n[[link]]\na = '0.1:0'\nb = '1.0:1'\n\
            [[link]]\na = '1.0:0'\nb = '1.1:1'\n[[link]]\na = '1.1:0'\nb = '0.0:1'\nstate = 'degraded'\n";
        let ring = read(ring, 4).unwrap();
        assert_eq!(ring.cables.len(), 4);
        assert_eq!(ring.cables[3].state, PortState::Degraded);
        let down = read(
            "version = 1\n[[change]]\nend = '1.1:0'\nstate = 'down'\n",
            4,
        )
        .unwrap();
        let states: Vec<_> = down
            .cables
            .iter()
            .filter(|c| c.state == PortState::Down)
            .collect();
        assert_eq!((down.cables.len(), states.len()), (6, 1));
        let nodes = read(
            "version = 1\n[[node]]\nboards = [1]\n[[node]]\nboards = [0]\n",
            4,
        )
        .unwrap();
        assert_eq!(
            nodes.places.iter().map(|p| p.node).collect::<Vec<_>>(),
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("version = 2", 1, "version 2"),
            ("\nversion = 1\nboards = 3", 3, "unknown field"),
            ("version = 1\ngroup = 5", 2, "a group of 5"),
            (
                "version = 1\n\n[[link]]\na = '0.0'\nb = '1.0:0'",
                4,
                "no end of a link",
            ),
            (
                "version = 1\n[[link]]\na = '0.2:0'\nb = '1.0:0'",
                3,
                "no end of a link",
            ),
            (
                "version = 1\n[[link]]\na = '0.0:0'\nb = '9.0:0'",
                3,
                "no chip 18",
            ),
            (
                "version = 1\n[[link]]\na = '0.0:8'\nb = '1.0:0'",
                3,
                "no port 8",
            ),
            (
                "version = 1\ngroup = 1\n[[link]]\na = '0.0:0'\nb = '1.0:0'",
                4,
                "has a cable already",
            ),
            (
                "version = 1\n[[change]]\nend = '0.0:7'\nstate = 'down'",
                3,
                "no link ends",
            ),
            (
                "version = 1\n[[change]]\nend = '0.0:0'\nstate = 'off'",
                4,
                "unknown variant",
            ),
            ("version = 1\n[[node]]\nboards = [7]", 2, "no board 7"),
            ("version = ", 1, ""),
        ];
        for (text, line, expected) in cases {
            let error = read(text, 4).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.text.contains(expected), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in ".*", end in "[0-9]{1,20}\\.[0-9]{1,20}:[0-9]{1,20}") {
            let _ = read(&text, 4);
            let _ = read(&format!("version = 1\n[[link]]\na = '{end}'\nb = '{end}'"), 4);
        }
    }
}
