//! `cnmon cdi`: the cards for container runtimes, as the Container Device Interface describes devices.

use serde_json::{json, Value};
use vmlu::telemetry::DeviceSnapshot;

/// Version of the specification that the file follows.
const VERSION: &str = "0.6.0";
/// Vendor and class of the devices.
const KIND: &str = "cambricon.com/mlu";

fn node(path: String) -> Value {
    json!({ "path": path, "type": "c", "permissions": "rw" })
}

/// The nodes of a card: the driver's name and the vendor's.
fn nodes(card: &DeviceSnapshot) -> Vec<Value> {
    let index = card.index;
    vec![
        node(format!("/dev/mlu{index}")),
        node(format!("/dev/cambricon_dev{index}")),
    ]
}

/// The specification: each card by its number and by its UUID, and all of them.
pub(crate) fn render(cards: &[&DeviceSnapshot]) -> String {
    let mut devices = Vec::new();
    for card in cards {
        for name in [card.index.to_string(), format!("MLU-{}", card.uuid)] {
            devices.push(json!({ "name": name, "containerEdits": { "deviceNodes": nodes(card) } }));
        }
    }
    let all: Vec<Value> = cards.iter().flat_map(|card| nodes(card)).collect();
    devices.push(json!({ "name": "all", "containerEdits": { "deviceNodes": all } }));
    let spec = json!({
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": devices,
        "containerEdits": {
            "deviceNodes": [node("/dev/mluctl".into()), node("/dev/cambricon_ctl".into())],
        },
    });
    format!("{spec:#}\n")
}
