//! What programs for the vendor's software do: build against an installed prefix with their own compilers and build files, and run.

mod build;
mod prefix;
mod processes;
mod telemetry;

use std::process::Command;

use prefix::{compile, prefix, run, source, FLAGS};
use xtask::paths;

/// The libraries with the vendor's names.
const LIBRARIES: [&str; 4] = ["cnrt", "cndrv", "cndev", "cncl"];

#[test]
fn the_headers_compile_alone_in_both_languages() {
    for (compiler, standard) in [("cc", "-std=c11"), ("c++", "-std=c++17")] {
        for entry in std::fs::read_dir(prefix().join("include")).unwrap() {
            let header = entry.unwrap().path();
            let language = if compiler == "cc" { "c" } else { "c++" };
            let output = Command::new(compiler)
                .args([standard, "-fsyntax-only", "-x", language])
                .args(FLAGS)
                .arg(&header)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            // A header as the main file.
            assert!(
                output.status.success(),
                "{compiler} {}: {text}",
                header.display()
            );
        }
    }
}

#[test]
fn structures_and_numbers_are_those_of_programs_compiled_before() {
    for (compiler, standard, language) in [("cc", "-std=c11", "c"), ("c++", "-std=c++17", "c++")] {
        for library in LIBRARIES {
            let proof = paths::project().join(format!("runtime/{library}/tests/layout.c"));
            let output = Command::new(compiler)
                .args([standard, "-fsyntax-only", "-x", language])
                .args(FLAGS)
                .arg("-I")
                .arg(prefix().join("include"))
                .arg(&proof)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{compiler} {library}: {text}");
        }
    }
}

#[test]
fn libraries_export_their_functions_alone() {
    for library in LIBRARIES {
        let file = prefix().join(format!("lib64/lib{library}.so"));
        let output = Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(&file)
            .output()
            .unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        assert!(names.lines().count() > 0);
        for line in names.lines() {
            let name = line.split_whitespace().last().unwrap();
            let prefixes: &[&str] = match library {
                // And what compilers call.
                "cnrt" => &["cnrt", "bang", "__bang"],
                "cncl" => &["cncl"],
                _ => &["cn"],
            };
            assert!(prefixes.iter().any(|p| name.starts_with(p)), "{line}");
        }
        let output = Command::new("readelf")
            .arg("-d")
            .arg(&file)
            .output()
            .unwrap();
        let dynamic = String::from_utf8(output.stdout).unwrap();
        assert!(
            dynamic.contains(&format!("soname: [lib{library}.so]")),
            "{dynamic}"
        );
    }
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(prefix().join("lib64/libvmlu_neuware.so"))
        .output()
        .unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        assert!(
            line.split_whitespace().last().unwrap().starts_with("vmlu_"),
            "{line}"
        );
    }
}

/// Compiles a program as C and as C++, and runs both.
fn both_languages(name: &str) {
    for (compiler, standard) in [("cc", "-std=c11"), ("c++", "-std=c++17")] {
        let libraries = ["cncl", "cnrt", "cndrv"];
        let program = compile(compiler, standard, &source(name), &libraries);
        let text = run(&program, &[]);
        assert!(text.ends_with("all as it should be\n"), "{text}");
    }
}

#[test]
fn programs_use_the_runtime_interface() {
    both_languages("runtime.c");
}

#[test]
fn careless_programs_are_told() {
    both_languages("strict.c");
}

#[test]
fn programs_use_the_driver_interface() {
    both_languages("driver.c");
}

#[test]
fn programs_use_topologies_pools_and_casts() {
    both_languages("topologies.c");
}

#[test]
fn adaptors_of_communication_libraries_work() {
    let program = compile(
        "c++",
        "-std=c++17",
        &source("adaptor.cpp"),
        &["cncl", "cnrt"],
    );
    let text = run(&program, &[]);
    assert!(text.ends_with("all as it should be\n"), "{text}");
}

#[test]
fn programs_use_collectives() {
    both_languages("collectives.c");
}
