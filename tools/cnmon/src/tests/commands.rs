//! The newer views on given cards.

use vmlu::telemetry::{Incident, Throttle};

use super::*;

#[test]
fn fields_come_as_comma_separated_values() {
    let seen = busy_board();
    let line = |arguments: &[&str]| output(&seen, arguments);
    assert_eq!(
        line(&[
            "--query",
            "index,name,utilization.mlu,memory.used",
            "--format",
            "csv,noheader"
        ]),
        "0, MLU370-X8, 100 %, 17320 MiB\n1, MLU370-X8, 0 %, 1 MiB\n"
    );
    assert_eq!(
        line(&["--query", "index,temperature.chip", "-c", "1"]),
        "index, temperature.chip [C]\n1, 39 C\n"
    );
    assert_eq!(
        line(&[
            "--query",
            "power.limit,ecc.mode.current",
            "--format",
            "csv,noheader,nounits"
        ]),
        "250.00, Disabled\n250.00, Enabled\n"
    );
    assert!(cnmon(&seen, &["--query", "index,nonsense"]).is_err());
    assert!(cnmon(&seen, &["--query", "index", "--format", "xml"]).is_err());
    // Every field has a value for a card that answers, but for those of a bus and a node that need not be there.
    for name in crate::query::names().lines() {
        let value = line(&["--query", name, "--format", "csv,noheader", "-c", "0"]);
        assert!(value != "N/A\n" || name == "numa_node", "{name}");
    }
}

#[test]
fn settings_and_errors_are_keys_and_values() {
    let mut seen = busy_board();
    let live = seen.cards[1].live.as_mut().unwrap();
    live.throttle = Throttle {
        locked: true,
        ..Throttle::default()
    };
    live.clocks.ipu_khz = 700_000;
    let text = output(&seen, &["set", "-c", "1"]);
    for line in [
        "Power Cap                      : 250 W",
        "Clock                          : 700 MHz",
        "Clock Lock                     : Enable",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = output(&seen, &["ecc"]);
    assert_eq!(text.matches("Card ").count(), 2);
    assert!(
        text.contains("Uncorrected Errors             : 3"),
        "{text}"
    );
}

#[test]
fn prometheus_gets_the_exporters_names_and_labels() {
    let seen = busy_board();
    let mut past = crate::exporter::History::default();
    past.look(std::time::Instant::now(), &seen.cards, None, &[]);
    let text = crate::exporter::render(&seen.cards, None, &past);
    let of = |name: &str| -> Vec<&str> {
        let head = format!("{name}{{");
        text.lines()
            .filter(|line| line.starts_with(&head))
            .collect()
    };
    let used = of("mlu_utilization");
    assert_eq!(used.len(), 2, "{text}");
    for part in [
        "mlu=\"0\"",
        "model=\"MLU370-X8\"",
        "sn=\"5400000000000001\"",
        "uuid=\"MLU-5",
        "driver=\"v5.10.13\"",
        "mcu=\"v1.1.6\"",
        "} 100",
    ] {
        assert!(used[0].contains(part), "{part}: {}", used[0]);
    }
    assert_eq!(of("mlu_core_utilization").len(), 32);
    let pcie = of("mlu_pcie_info");
    for part in [
        "pcie_id=\"0000:39:00.0\"",
        "pcie_speed=\"16GT/s\"",
        "pcie_width=\"16\"",
        "pcie_vendor=\"cabc\"",
        "pcie_device_id=\"370\"",
        "module_id=\"0\"",
        "} 1",
    ] {
        assert!(pcie[0].contains(part), "{part}: {}", pcie[0]);
    }
    assert!(of("mlu_process_physical_memory_used")[0].contains("pid=\"101934\""));
    // Each family once, and each line a name, labels and a number.
    let mut families: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .collect();
    let count = families.len();
    families.dedup();
    assert_eq!(families.len(), count);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(
            value.parse::<f64>().is_ok() && line.starts_with("mlu_"),
            "{line}"
        );
    }
}

#[test]
fn containers_get_the_nodes_of_their_cards() {
    let text = output(&busy_board(), &["cdi"]);
    let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&spec["cdiVersion"], &spec["kind"]),
        (&"0.6.0".into(), &"cambricon.com/mlu".into())
    );
    let devices = spec["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 5);
    assert_eq!(
        devices[2]["containerEdits"]["deviceNodes"][1]["path"],
        "/dev/cambricon_dev1"
    );
    assert_eq!(
        devices[4]["containerEdits"]["deviceNodes"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let mut seen = idle_board();
    let look = |seen: &Seen| {
        let mut findings = crate::doctor::Findings::default();
        crate::doctor::cards(&mut findings, &seen.cards, None, "v5.10.13");
        (findings.is_bad(), findings.render())
    };
    let (bad, text) = look(&seen);
    assert!(!bad && text.contains("ok       card 1"), "{text}");
    seen.cards[0].live.as_mut().unwrap().incidents =
        vec![Incident::MemoryUncorrected, Incident::LinkDown];
    seen.cards[1].live = None;
    let (bad, text) = look(&seen);
    assert!(
        bad && text.contains("problem  card 0") && text.contains("warning  card 0"),
        "{text}"
    );
    assert!(
        text.contains("card 1 (MLU370-X8, 0000:3D:00.0) does not answer"),
        "{text}"
    );
}

#[test]
fn a_recording_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cards.jsonl");
    let samples =
        [busy_board(), idle_board()].map(|seen| crate::record::Sample::now("local", seen.cards));
    let mut to = std::fs::File::create(&file).unwrap();
    for sample in &samples {
        sample.write(&mut to).unwrap();
    }
    let read = crate::record::read(&file).unwrap();
    assert_eq!(read.len(), 2);
    for (before, after) in samples.iter().zip(&read) {
        assert_eq!(
            (&before.cards, before.time_us),
            (&after.cards, after.time_us)
        );
    }
    std::fs::write(&file, "{}\n").unwrap();
    assert!(crate::record::read(&file).is_err());
}

#[test]
fn what_other_cards_have_is_said_not_to_be_there() {
    let seen = busy_board();
    for (command, name) in [("mim", "MIM"), ("smlu", "sMLU")] {
        let text = output(&seen, &[command, "-c", "1"]);
        assert!(
            text.starts_with("Card 1\n") && text.ends_with(&format!("No {name} instances found\n")),
            "{text}"
        );
        let mode = format!("    {:<31}: Disable\n", format!("{name} Mode"));
        assert!(text.contains(&mode), "{text}");
        assert!(output(&seen, &["info", "-c", "0"]).contains(&mode));
        assert!(output(&seen, &["set"]).contains(&mode));
        let json: serde_json::Value =
            serde_json::from_str(&output(&seen, &[command, "--json"])).unwrap();
        assert_eq!(json["cards"][1]["instances"], serde_json::json!([]));
        assert!(cnmon(&seen, &[command, "-c", "9"]).is_err());
    }
}

#[test]
fn the_vendors_one_dash_is_understood() {
    let parse = |arguments: &[&str]| {
        let all = arguments
            .iter()
            .map(|text| crate::cli::two_dashes(text.into()));
        Cli::try_parse_from(std::iter::once("cnmon".into()).chain(all))
    };
    let cli = parse(&["set", "-c", "0", "-smlu", "on", "-mim", "off"]).unwrap();
    let Some(crate::cli::Command::Set(options)) = cli.command else {
        panic!("{cli:?}");
    };
    assert_eq!(options.card, Some(0));
    assert_eq!(options.smlu, Some(crate::cli::Switch::On));
    assert_eq!(options.mim, Some(crate::cli::Switch::Off));
    assert!(parse(&["set", "-smlu", "maybe"]).is_err());
    assert!(parse(&["info", "-tmud"]).is_ok());
}

/// Every command and every option says what it is for.
#[test]
fn everything_has_help() {
    use clap::CommandFactory;
    fn look(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {argument}");
        }
        for inner in command.get_subcommands() {
            look(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    let command = Cli::command();
    command.clone().debug_assert();
    look(&command, "cnmon");
}
