//! `unsafe` of the kernel module: none outside `driver/kernel/`, and none there without its reason. Prints how many there are.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// Lines of a file, numbered, in which `unsafe` is said by code.
fn uses(text: &str) -> Vec<usize> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let says = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe")
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| says(&code(line)))
        .map(|(number, _)| number)
        .collect()
}

/// Whether a comment right above says why line `number` is sound, or what its callers must see to.
fn has_reason(lines: &[&str], number: usize) -> bool {
    // Foreign functions and callbacks are what they are, and of functions Clippy asks.
    let line = lines[number];
    if line.contains("unsafe extern \"C\"") || line.contains("unsafe fn") {
        return true;
    }
    let is_reason = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let above = lines[..number].iter().rev();
    // Above the statement, which may have begun a few lines before, and behind its comment and attributes.
    above
        .take_while(|line| !line.trim().is_empty())
        .take(12)
        .any(|line| is_reason(line))
}

#[test]
fn unsafe_is_in_few_places_and_argued() {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver");
    let mut files = Vec::new();
    sources(&driver, &mut files);
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    let (mut total, mut wrong) = (0, Vec::new());
    for file in &files {
        let text = fs::read_to_string(file).expect("text");
        let lines: Vec<_> = text.lines().collect();
        let name = file.strip_prefix(&driver).expect("in the driver");
        let found = uses(&text);
        if !found.is_empty() {
            println!("{:4} {}", found.len(), name.display());
        }
        total += found.len();
        for number in found {
            if !name.starts_with("kernel") {
                wrong.push(format!(
                    "{}:{}: outside kernel/",
                    name.display(),
                    number + 1
                ));
            } else if !has_reason(&lines, number) {
                wrong.push(format!(
                    "{}:{}: without a reason",
                    name.display(),
                    number + 1
                ));
            }
        }
    }
    println!("{total:4} in all");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
