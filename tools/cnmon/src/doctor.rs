//! `cnmon doctor`: what keeps the cards from being used, and what to do.

use std::path::Path;

use vmlu::telemetry::{DeviceHealth, DeviceSnapshot, FabricSnapshot};

/// A finding: how bad, and what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Ok,
    Warning,
    Problem,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Findings {
    lines: Vec<(Mark, String)>,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Findings {
    fn add(&mut self, mark: Mark, text: impl Into<String>) {
        self.lines.push((mark, text.into()));
    }

    /// Whether anything keeps a card from being used.
    pub(crate) fn is_bad(&self) -> bool {
        self.lines.iter().any(|(mark, _)| *mark == Mark::Problem)
    }

    /// The findings as text.
    pub(crate) fn render(&self) -> String {
        let line = |(mark, text): &(Mark, String)| format!("{:<8} {text}\n", mark.text());
        self.lines.iter().map(line).collect()
    }
}

/// Looks at the machine.
pub(crate) fn machine(findings: &mut Findings, transport: Result<&str, &str>, own: &str) {
    match transport {
        Ok(name) => findings.add(
            Mark::Ok,
            format!("cnmon {own} reaches the cards: transport {name}"),
        ),
        Err(cause) => findings.add(
            Mark::Problem,
            format!("the cards cannot be reached: {cause}"),
        ),
    }
    if matches!(transport, Ok("kernel") | Err(_)) {
        let control = Path::new("/dev/mluctl");
        match control.exists() {
            true => findings.add(Mark::Ok, "/dev/mluctl is there: the driver is loaded"),
            false => findings.add(
                Mark::Problem,
                "/dev/mluctl is not there: load the driver (`modprobe mlu`), or choose MLU_TRANSPORT=embedded or local:PATH",
            ),
        }
    }
}

/// Looks at the cards.
pub(crate) fn cards(
    findings: &mut Findings,
    cards: &[DeviceSnapshot],
    fabric: Option<&FabricSnapshot>,
    own: &str,
) {
    if cards.is_empty() {
        findings.add(
            Mark::Problem,
            "there are no cards: is a board plugged in (`lspci -d cabc:`)?",
        );
    }
    for card in cards {
        let name = format!("card {} ({}, {})", card.index, card.name, card.pci);
        if card.driver_version != own {
            let driver = &card.driver_version;
            findings.add(
                Mark::Warning,
                format!("{name}: its driver is {driver}, cnmon is {own}; install one release"),
            );
        }
        match (&card.live, card.health.device) {
            (None, _) => findings.add(
                Mark::Problem,
                format!("{name} does not answer; reset or replug it, then see `dmesg`"),
            ),
            (Some(live), health) => {
                for incident in &live.incidents {
                    let mark = if incident.is_fatal() {
                        Mark::Problem
                    } else {
                        Mark::Warning
                    };
                    findings.add(mark, format!("{name}: {}", incident.text()));
                }
                if health == DeviceHealth::Good {
                    findings.add(Mark::Ok, format!("{name} is healthy"));
                }
            }
        }
        let link = card.pcie_link;
        if let Some((current, max)) = link.current.zip(link.max)
            && current != max
        {
            findings.add(
                Mark::Warning,
                format!(
                    "{name}: PCIe runs at generation {} x{}, not {} x{}",
                    current.generation, current.lanes, max.generation, max.lanes
                ),
            );
        }
    }
    let links = fabric
        .iter()
        .flat_map(|f| &f.chips)
        .flat_map(|chip| chip.ports.iter().flatten());
    let up = links.filter(|port| port.state.runs()).count();
    findings.add(Mark::Ok, format!("{up} MLU-Link ports run"));
}
