//! `cnmon -l` and `cnmon version`.

use vmlu::telemetry::DeviceSnapshot;

use crate::text::harmless;

/// One line a card: scripts count those with `MLU` and those with `UUID`.
pub(crate) fn render(cards: &[&DeviceSnapshot]) -> String {
    cards
        .iter()
        .map(|card| {
            format!(
                "Card {}: {} (UUID: {})\n",
                card.index,
                harmless(&card.name),
                card.uuid
            )
        })
        .collect()
}

/// The version behind a colon.
pub(crate) fn version(version: &str) -> String {
    format!("cnmon version: {}\n", harmless(version))
}
