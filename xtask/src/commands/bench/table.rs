//! Rows as a table for people.

use serde_json::Value;

fn number(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(v) if v.abs() >= 100.0 => format!("{v:.0}"),
        Some(v) if v.abs() >= 0.1 || v == 0.0 => format!("{v:.2}"),
        Some(v) => format!("{v:.4}"),
    }
}

/// Prints rows.
pub fn print(rows: &[Value]) {
    println!(
        "{:<9} {:<42} {:>9} {:<5} {:>9} {:>9} {:>9} {:>7}",
        "transport", "figure", "value", "unit", "floor", "peer", "goal", "met"
    );
    for row in rows {
        let met = match row["ok"].as_bool() {
            None => "",
            Some(true) => "yes",
            Some(false) => "MISSED",
        };
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<9} {:<42} {:>9} {:<5} {:>9} {:>9} {:>9} {:>7}",
            text("transport"),
            text("name"),
            number(&row["value"]),
            text("unit"),
            number(&row["floor"]),
            number(&row["peer"]),
            number(&row["goal"]),
            met
        );
    }
    // Those that were measured have names.
    let measured = |row: &&Value| row["peers"].is_object();
    for row in rows.iter().filter(measured) {
        let others: Vec<String> = row["peers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name} {}", number(value)))
            .collect();
        let name = row["name"].as_str().unwrap_or_default();
        println!("{name}: {}", others.join(", "));
    }
    if rows
        .iter()
        .any(|row| row["peer"].is_number() && !measured(&row))
    {
        println!(
            "peers as published: NVMe over vfio-user in SPDK, a command at depth 1, and commands a second on one core and on ten"
        );
    }
}
