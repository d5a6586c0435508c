//! `cnmon mim`, `cnmon smlu` and `cnmon roce`: what other cards have and this one has not, said as the vendor's library says it.

use vmlu::telemetry::{DeviceSnapshot, FabricChip};

use crate::text::{key, UNKNOWN};

/// Mode of both kinds of instances.
pub(crate) const MODE: &str = "Disable";

/// Kinds of instances into which cards can be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mim,
    Smlu,
}

impl Kind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mim => "MIM",
            Self::Smlu => "sMLU",
        }
    }
}

/// The instances of these cards.
pub(crate) fn render(cards: &[&DeviceSnapshot], kind: Kind) -> String {
    let mut out = String::new();
    for card in cards {
        out += &format!("Card {}\n", card.index);
        key(&mut out, 1, &format!("{} Mode", kind.name()), MODE);
        key(&mut out, 1, "Supported", "No");
        key(&mut out, 1, "Profiles", "0");
        key(&mut out, 1, "Instances", "0");
    }
    out + &format!("No {} instances found\n", kind.name())
}

/// What the ports of these cards speak.
pub(crate) fn roce(chips: &[&FabricChip]) -> String {
    let mut out = String::new();
    for chip in chips {
        out += &format!("Card {}\n", chip.index);
        let Some(ports) = &chip.ports else {
            key(&mut out, 1, "RoCE", UNKNOWN);
            continue;
        };
        for port in ports {
            out += &format!("    Port {}\n", port.port);
            key(&mut out, 2, "Mode", "MLU-Link");
            key(&mut out, 2, "Supported Modes", "MLU-Link");
            key(&mut out, 2, "RoCE", "Not Supported");
        }
    }
    out
}
