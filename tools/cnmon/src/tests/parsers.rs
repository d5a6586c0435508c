//! The pipelines and programs that read cnmon, run for real on its output: the shell calls a function that prints what `cnmon` with
//! these arguments printed.

use std::process::Command;

use super::*;

/// Runs a bash script in which `cnmon ARGUMENTS` prints what the views make of `seen`; for the lists of arguments that are given.
fn bash(seen: &Seen, commands: &[&[&str]], script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = String::new();
    for (number, arguments) in commands.iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, output(seen, arguments)).unwrap();
        cases += &format!("  '{}') cat {} ;;\n", arguments.join(" "), file.display());
    }
    let script = format!("set -o pipefail\ncnmon() {{\n case \"$*\" in\n{cases}  *) echo unexpected \"$*\"; return 9 ;;\n esac\n}}\n{script}");
    let out = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .output()
        .expect("bash");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && errors.is_empty(),
        "{script}\n{errors}"
    );
    String::from_utf8(out.stdout).unwrap()
}

fn on_table(seen: &Seen, script: &str) -> String {
    bash(seen, &[&[]], script)
}

#[test]
fn the_version_is_the_third_field_of_the_banner() {
    assert_eq!(
        on_table(&busy_board(), "cnmon | grep 'CNMON' | awk '{print $3}'"),
        "v5.10.13\n"
    );
}

#[test]
fn a_benchmark_harness_cuts_the_rows_of_cards() {
    let both = "paste <(cnmon |grep 'Default') <(cnmon |grep 'MLU' | head -n -1) | awk '{print $3,$4,$5,$9,$10,$11,$25}'";
    assert_eq!(
        on_table(&idle_board(), both),
        "32C 106 W/ 0 MiB/ 23374 0%\n39C 106 W/ 0 MiB/ 23374 0%\n"
    );
    let busy = on_table(&busy_board(), both);
    assert_eq!(
        busy.lines().next(),
        Some("78C 244 W/ 17320 MiB/ 23374 100%")
    );
    let other = "cnmon |grep 'Default'|awk '{print $3,$4,$9,$11,$14}'";
    assert_eq!(
        on_table(&busy_board(), other),
        "78C 244 17320 23374 N/A\n39C 106 1 20638 N/A\n"
    );
}

#[test]
fn an_environment_report_finds_the_driver() {
    let script = "cnmon | grep -oP 'Driver \\Kv\\d+\\.\\d+\\.\\d+'";
    assert_eq!(on_table(&idle_board(), script), "v5.10.13\n");
}

#[test]
fn lines_with_eight_fields_after_pid_are_processes() {
    let script = "cnmon | awk '/PID/ {seen=1; next} seen && NF==8 {print $2, $4, $5, $6, $7}'";
    assert_eq!(
        on_table(&busy_board(), script),
        "0 101934 /torch/venv3/pytorch_infer/bin/python 15829 MiB\n0 7 a 1491 MiB\n\
         1 4194304 ...hat/does/not/fit/in/the/column/digits 1 MiB\n"
    );
    assert_eq!(on_table(&idle_board(), script), "");
    // A monitor of one process.
    assert_eq!(
        on_table(
            &busy_board(),
            "cnmon | awk -v pid=101934 'pid==$4 {print $2, $6}'"
        ),
        "0 15829\n"
    );
}

#[test]
fn cards_are_counted_by_lines() {
    let list: &[&[&str]] = &[&["-l"]];
    assert_eq!(
        bash(
            &idle_board(),
            list,
            "cnmon -l | grep UUID | wc -l; cnmon -l | grep -c MLU"
        ),
        "2\n2\n"
    );
    assert_eq!(
        bash(
            &busy_board(),
            &[&["info"]],
            "cnmon info | grep \"Card\" | wc -l"
        ),
        "2\n"
    );
    assert_eq!(
        bash(&busy_board(), &[&["-c", "0"]], "cnmon -c 0 | grep -c X8"),
        "1\n"
    );
}

#[test]
fn the_version_stands_behind_a_colon() {
    assert_eq!(
        bash(
            &idle_board(),
            &[&["version"]],
            "cnmon version | head -n 1 | cut -d: -f2"
        ),
        " v5.10.13\n"
    );
}

#[test]
fn scripts_read_the_pci_address() {
    let script = "
        a=`cnmon info -c 1 | grep \"Domain ID\" | awk -F ': ' '{print $2}'`
        b=`cnmon info -c 1 | grep \"Bus num\" | awk -F ': ' '{print $2}'`
        c=`cnmon info -c 1 | grep \"Device     \" | tail -n 1 | awk -F ': ' '{print $2}'`
        d=`cnmon info -c 1 | grep \"Function\" | awk -F ': ' '{print $2}'`
        echo $a:$b:$c.$d
        cnmon info -c 1 | grep \"Current Speed\" | cut -d':' -f 2 | cut -d ' ' -f 2
        cnmon info -c 1 | grep \"Product Name \" | cut -d ':' -f 2";
    assert_eq!(
        bash(&idle_board(), &[&["info", "-c", "1"]], script),
        "0000:3d:00.0\n16\n MLU370-X8\n"
    );
}

#[test]
fn scripts_ask_whether_ecc_is_on() {
    let script = "
        ecc_status=`cnmon info | grep \"DDR ECC Err Count\" | uniq | awk -F \":\" '{print $2}'`
        if [ $ecc_status == \"N/A\" ]; then echo OFF; else echo ON; fi";
    assert_eq!(bash(&idle_board(), &[&["info"]], script), "OFF\n");
    let mut seen = busy_board();
    seen.cards.remove(0);
    assert_eq!(bash(&seen, &[&["info"]], script), "ON\n");
}

/// What an experiment tracker in Python does, with its regular expressions, on `cnmon info` and one option.
#[test]
fn a_tracker_reads_blocks() {
    let script = r#"
import re, sys
card, block, found = None, None, {}
for line in sys.stdin.read().lower().splitlines():
    if m := re.match(r"card\D*(\d+)", line):
        card = m.group(1)
    elif m := re.match(r"\s{4}(\S[^:]*?)\s*:\s*$", line):
        block = m.group(1)
    elif m := re.search(r"mlu average\s*:\s*(\d+)\s*%", line):
        found[card, "util"] = m.group(1)
    elif m := re.search(r"(used|total|chip|usage)\s*:\s*(\d+)\s*(mib|c|w)\s*$", line):
        found[card, block, m.group(1)] = m.group(2)
for key in sorted(found, key=str):
    print(*key, found[key])
"#;
    let run = |option: &str| {
        let command = format!("cnmon info {option} | python3 -c '{script}'");
        bash(&busy_board(), &[&["info", option]], &command)
    };
    assert_eq!(
        run("-m"),
        "0 physical memory usage total 23374\n0 physical memory usage used 17320\n\
        0 virtual memory usage total 1048576\n0 virtual memory usage used 17320\n\
        1 physical memory usage total 20638\n1 physical memory usage used 1\n\
        1 virtual memory usage total 1048576\n1 virtual memory usage used 1\n"
    );
    assert_eq!(run("-u"), "0 util 100\n1 util 0\n");
    assert_eq!(run("-e"), "0 temperature chip 78\n1 temperature chip 39\n");
    assert_eq!(run("-p"), "0 power usage 244\n1 power usage 106\n");
}

/// Another tracker takes `cnmon info -m` for the list of cards: their names, the driver, their memory in whole GiB, in this order; and
/// the line two below a block's head for the memory in use.
#[test]
fn a_tracker_lists_the_cards_by_their_memory() {
    let script = r#"
import sys
lines = sys.stdin.read().splitlines()
cards = {}
for words in (line.split() for line in lines[1:]):
    if words[0] == "Card":
        card = cards.setdefault(words[-1], [])
    elif words[0] == "Product" or (words[0] == "Driver" and len(card) == 1):
        card.append(words[-1])
    elif words[0] == "Total" and len(card) == 2:
        card.append(int(words[-2]) // 1024)
for number, card in cards.items():
    print(number, *card)
for at, line in enumerate(lines):
    if "physical memory usage" in line.lower():
        print(lines[at + 2].split(":")[-1].replace("MiB", "").strip())
"#;
    let command = format!("cnmon info -m | python3 -c '{script}'");
    assert_eq!(
        bash(&busy_board(), &[&["info", "-m"]], &command),
        "0 MLU370-X8 v5.10.13 22\n1 MLU370-X8 v5.10.13 20\n17320\n1\n"
    );
}

/// A benchmark reads the processes of `cnmon all` with a regular expression, and takes a row that it does not understand for an error.
#[test]
fn all_is_a_table_whose_rows_are_understood() {
    let script = r#"
import re, sys
rows = sys.stdin.read().split("Processes:")[1].splitlines()
for row in rows:
    if row.startswith("|") and "PID" not in row and set(row) - set("|="):
        print(*re.match(r"^\|\s*(\d+)\s+\S+\s+(\d+)\s+.+?\s+[\d,]+\s+MiB\s*\|\s*$", row).groups())
"#;
    let command = format!("cnmon all | python3 -c '{script}'");
    assert_eq!(
        bash(&busy_board(), &[&["all"]], &command),
        "0 101934\n0 7\n1 4194304\n"
    );
    assert_eq!(output(&idle_board(), &["all"]), SAMPLE_TABLE);
}

/// A monitor of operators takes each line with `MLU` and one colon for a key and its value.
#[test]
fn a_monitor_asks_with_long_options() {
    let arguments: &[&str] = &["info", "--card", "0", "--bandwidth", "--util", "--memory"];
    let script = format!(
        "cnmon {} | grep MLU | awk -F: 'NF == 2 {{print $1 $2}}' | xargs -n 10",
        arguments.join(" ")
    );
    assert_eq!(
        bash(&busy_board(), &[arguments], &script),
        "Product Name MLU370-X8 MLU Average 100 %\n"
    );
}
