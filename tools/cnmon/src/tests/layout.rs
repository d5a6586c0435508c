//! What the views look like, to the byte.

use serde_json::{json, Value};
use vmlu::telemetry::{DeviceHealth, DriverHealth, Health, Memory};

use super::*;

#[test]
fn the_table_is_the_vendors() {
    assert_eq!(output(&idle_board(), &[]), SAMPLE_TABLE);
}

#[test]
fn every_line_of_every_table_is_80_columns() {
    let mut seen = busy_board();
    seen.cards[0].index = 15;
    seen.cards[0].name = "A name that is much too long".into();
    seen.cards[0].firmware_version = "v100.200.300-rc1".into();
    seen.cards[0].live.as_mut().unwrap().fan_percent = 100;
    seen.cards[0].live.as_mut().unwrap().temperature.chip_c = 104.0;
    seen.cards[0]
        .processes
        .push(process(u32::MAX, &["x\u{1b}[2Jy", "z"], 99_999_999));
    seen.cards[0].processes.push(process(1, &[], 0));
    seen.cards.push(lost(2));
    for line in output(&seen, &[]).lines().filter(|line| !line.is_empty()) {
        assert_eq!(line.chars().count(), 80, "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn a_busy_board() {
    let text = output(&busy_board(), &[]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[6..12],
        [
            "| 0     /   MLU370-X8    v1.1.6 |         0000:39:00.0 | 100%              N/A |",
            "|  0%   78C        244 W/ 250 W | 17320 MiB/ 23374 MiB | N/A           Default |",
            "+-------------------------------+----------------------+-----------------------+",
            "| 1     /   MLU370-X8    v1.1.6 |         0000:3D:00.0 | 0%                  3 |",
            "|  0%   39C        106 W/ 250 W |     1 MiB/ 20638 MiB | N/A           Default |",
            "+-------------------------------+----------------------+-----------------------+",
        ]
    );
    assert_eq!(
        lines[17..],
        [
            "|  0     /   101934  /torch/venv3/pytorch_infer/bin/python           15829 MiB |",
            "|  0     /   7       a                                                1491 MiB |",
            "|  1     /   4194304 ...hat/does/not/fit/in/the/column/digits            1 MiB |",
            "+------------------------------------------------------------------------------+",
        ]
    );
}

#[test]
fn one_card_is_a_smaller_table() {
    let whole: Vec<_> = SAMPLE_TABLE.split_inclusive('\n').collect();
    let one = [&whole[..6], &whole[9..]].concat().concat();
    assert_eq!(output(&idle_board(), &["-c", "1"]), one);
}

fn lost(index: u32) -> DeviceSnapshot {
    DeviceSnapshot {
        live: None,
        health: Health {
            device: DeviceHealth::Lost,
            driver: DriverHealth::Stopped,
        },
        ..card(index, 0x41, 0.0)
    }
}

#[test]
fn a_lost_card_keeps_its_fields() {
    let seen = Seen {
        transport: "kernel".into(),
        cards: vec![lost(0)],
        fabric: None,
    };
    let text = output(&seen, &[]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[6],
        "| 0     /   MLU370-X8    v1.1.6 |         0000:41:00.0 | N/A               N/A |"
    );
    assert_eq!(
        lines[7],
        "| N/A   N/A        N/A W/ N/A W |   N/A MiB/   N/A MiB | N/A           Default |"
    );
    let info = output(&seen, &["info"]);
    assert!(
        info.contains("        Device                     : Lost\n"),
        "{info}"
    );
    assert!(
        info.contains("        Chip                       : N/A\n"),
        "{info}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&output(&seen, &["--json"])).unwrap()["cards"][0]["live"],
        Value::Null
    );
}

/// `cnmon info` as a parser's test data has it.
const SAMPLE_INFO: &str = "\
================CNMON v5.10.22================
Card 0
    Product Name                   : MLU370-X4
    UUID                           : 77013006-2457-0000-0000-000000000000
    Driver                         : v5.10.22
    Health State                   :
        Device                     : Good
        Driver                     : Running
    Utilization                    :
        MLU Average                : 66 %
    Temperature                    :
        Board                      : 64 C
        Chip                       : 78 C
        Memory                     : 63 C
    Physical Memory Usage          :
        Total                      : 23308 MiB
        Used                       : 17320 MiB
        Free                       : 5988 MiB
    Power                          :
        Usage                      : 44 W
        Cap                        : 150 W
    PCI                            :
        Domain ID                  : 0000
        Bus num                    : 01
        Device                     : 00
        Function                   : 0
    Processes                      :
        Process                    : 0
            PID                    : 101934
            cmdline                : /torch/venv3/pytorch_infer/bin/python
            MLU Memory Usage       : 15829 MiB
";
/// The keys that we print besides.
const BESIDES: &str = "    Serial Number                  : 5400000000000001
    Firmware                       : v1.1.6
    Virtual Memory Usage           :
        Total                      : 1048576 MiB
        Used                       : 17336 MiB
    Device System Memory Usage     : N/A
    Fast Alloc Memory              : N/A
    Channel Memory Usage           : N/A
    Memory Bandwidth               : N/A
    DDR ECC Err Count              : N/A
    CRC Err Count                  : N/A
    Retired Pages                  :
        Single Bit ECC             : 0
        Double Bit ECC             : 0
        Pending                    : 0
    Row-Remapping                  : N/A
    Frequency                      :
        MLU                        : 1000 MHz
        DDR                        : 3200 MHz
    Performance Throttle           :
        Power Capping              : Active
        Thermal Slowdown           : Inactive
        Clock Setting              : Inactive
    Fan Speed                      : 0 %
    Compute Mode                   : Default
    MIM Mode                       : Disable
    sMLU Mode                      : Disable
        Max Speed                  : 16 GT/s
        Max Width                  : x16
        Current Speed              : 16 GT/s
        Current Width              : x16
    PCIe Throughput                :
        Read                       : 1234.5 MB/s
        Write                      : 0.2 MB/s
    Chassis                        : N/A
";

#[test]
fn the_report_is_the_vendors() {
    let mut card = card(0, 1, 78.0);
    card.name = "MLU370-X4".into();
    card.uuid = "77013006-2457-0000-0000-000000000000".into();
    card.driver_version = "v5.10.22".into();
    card.processes = vec![process(
        101_934,
        &["/torch/venv3/pytorch_infer/bin/python", "serve.py"],
        15829,
    )];
    card.processes[0].host_memory_bytes = 16 << 20;
    let live = card.live.as_mut().unwrap();
    live.throttle.power_cap = true;
    live.transfers.from_host_per_second = 1_234_500_000.0;
    live.transfers.to_host_per_second = 200_000.0;
    live.utilisation_percent = 66.0;
    (live.temperature.board_c, live.temperature.memory_c) = (64.0, 63.0);
    (live.power.board_w, live.power.cap_w) = (44.0, 150.0);
    live.memory = Memory {
        total_bytes: 23308 << 20,
        used_bytes: 17320 << 20,
    };
    let text = output(
        &Seen {
            transport: "kernel".into(),
            cards: vec![card],
            fabric: None,
        },
        &["info"],
    );
    // The vendor's lines stand there in the vendor's order, and the others are these.
    let mut sample = SAMPLE_INFO.lines().peekable();
    let besides: Vec<_> = text
        .lines()
        .filter(|line| sample.next_if_eq(line).is_none())
        .collect();
    assert_eq!(sample.next(), None, "{text}");
    assert_eq!(besides.join("\n") + "\n", BESIDES);
}

#[test]
fn sections_can_be_chosen() {
    let text = output(&busy_board(), &["info", "-c", "1", "-e", "-p"]);
    assert_eq!(
        text,
        "================CNMON v5.10.13================\n\
         Card 1\n\
         \x20   Product Name                   : MLU370-X8\n\
         \x20   UUID                           : 54000000-0000-0001-0000-000000000001\n\
         \x20   Driver                         : v5.10.13\n\
         \x20   Temperature                    :\n\
         \x20       Board                      : 32 C\n\
         \x20       Chip                       : 39 C\n\
         \x20       Memory                     : 34 C\n\
         \x20   Power                          :\n\
         \x20       Usage                      : 106 W\n\
         \x20       Cap                        : 250 W\n"
    );
    let long = output(
        &busy_board(),
        &[
            "info", "--card", "1", "--util", "--memory", "--type", "--driver",
        ],
    );
    assert_eq!(long, output(&busy_board(), &["info", "-c", "1", "-tmud"]));
    assert!(
        long.contains("    Virtual Memory Usage           :\n"),
        "{long}"
    );
    let of =
        |arguments: &[&str]| output(&idle_board(), &[&["info", "-c", "0"], arguments].concat());
    assert!(of(&["--bandwidth"]).ends_with("    Memory Bandwidth               : 307.2 GB/s\n"));
    assert_eq!(of(&["-t"]), of(&["-d"]));
}

#[test]
fn the_list_and_the_version() {
    assert_eq!(
        output(&idle_board(), &["-l"]),
        "Card 0: MLU370-X8 (UUID: 54000000-0000-0001-0000-000000000000)\n\
         Card 1: MLU370-X8 (UUID: 54000000-0000-0001-0000-000000000001)\n"
    );
    assert_eq!(
        output(&idle_board(), &["version"]),
        "cnmon version: v5.10.13\n"
    );
}

#[test]
fn what_is_not_there_is_said() {
    for arguments in [
        &["-c", "2"][..],
        &["-l", "-c", "2"],
        &["info", "-c", "2"],
        &["info", "-c", "2", "-m"],
    ] {
        let failure = cnmon(&idle_board(), arguments).unwrap_err();
        assert_eq!(failure.line, "Card 2 is not existed");
        assert!(
            failure.help.ends_with("the cards here are 0, 1"),
            "{}",
            failure.help
        );
    }
    let nothing = Seen {
        transport: "kernel".into(),
        cards: Vec::new(),
        fabric: None,
    };
    let failure = cnmon(&nothing, &[]).unwrap_err();
    assert!(
        failure.line.contains("no device") && failure.help.contains("is a board plugged in"),
        "{failure:?}"
    );
}

#[test]
fn programs_get_a_schema() {
    let report: Value =
        serde_json::from_str(&output(&busy_board(), &["--json", "-c", "0"])).unwrap();
    assert_eq!(report["schema"], "cnmon");
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["transport"], "kernel");
    assert_eq!(report["cards"].as_array().unwrap().len(), 1);
    let card = &report["cards"][0];
    assert_eq!(card["pci"], "0000:39:00.0");
    assert_eq!(
        card["health"],
        json!({ "device": "good", "driver": "running" })
    );
    assert_eq!(
        card["live"]["memory"],
        json!({ "total_bytes": 23374u64 << 20, "used_bytes": 17320u64 << 20 })
    );
    assert_eq!(
        card["processes"][0]["command_line"],
        json!(["/torch/venv3/pytorch_infer/bin/python", "train.py"])
    );

    let seen = busy_board();
    let info = crate::json::info(&seen.cards.iter().collect::<Vec<_>>());
    let card = &info["CnmonInfo"][0];
    assert_eq!(card["CardNum"], 0);
    assert_eq!(card["ProductName"], "MLU370-X8");
    assert_eq!(card["Utilization"], json!({ "MLUAverage": 100 }));
    assert_eq!(
        card["PhysicalMemUsage"],
        json!({ "Total": 23374, "Used": 17320, "Free": 6054 })
    );
    assert_eq!(card["Temperature"]["Chip"], 78);
    assert_eq!(card["PCI"]["CurrentSpeed"], "16 GT/s");
}
