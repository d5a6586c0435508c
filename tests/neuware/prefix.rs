//! The prefix that all tests use, and how they compile and run programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use xtask::{cargo, neuware, paths};

/// All warnings, as errors.
pub const FLAGS: [&str; 6] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Werror",
    "-O1",
];

/// An installed prefix, made once.
pub fn prefix() -> &'static Path {
    static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| {
        // Cargo does not build a library for C along with tests.
        let built = cargo::command()
            .args([
                "build",
                "--release",
                "--offline",
                "-p",
                "vmlu-neuware",
                "-p",
                "cnmon",
            ])
            .status()
            .unwrap();
        assert!(built.success());
        let prefix = scratch("prefix");
        neuware::install(&prefix, &cargo::built_before().unwrap()).unwrap();
        prefix
    });
    &PREFIX
}

/// A file or folder of these tests.
pub fn scratch(name: &str) -> PathBuf {
    let folder = paths::target().join("neuware-tests");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// A source file of these tests.
pub fn source(name: &str) -> PathBuf {
    paths::project().join("tests/neuware").join(name)
}

/// Compiles a program against the prefix.
pub fn compile(compiler: &str, standard: &str, source: &Path, libraries: &[&str]) -> PathBuf {
    let stem = source.file_stem().unwrap().to_str().unwrap();
    let program = scratch(&format!("{stem}-{}", standard.trim_start_matches("-std=")));
    let lib = prefix().join("lib64");
    let mut command = Command::new(compiler);
    command
        .arg(standard)
        .args(FLAGS)
        .arg("-I")
        .arg(prefix().join("include"));
    if compiler == "c++" {
        command.args(["-x", "c++"]);
    }
    command
        .arg(source)
        .args(["-x", "none"])
        .arg("-o")
        .arg(&program);
    command
        .arg("-L")
        .arg(&lib)
        .arg(format!("-Wl,-rpath,{}", lib.display()));
    for library in libraries {
        command.arg(format!("-l{library}"));
    }
    let output = command.args(["-lpthread", "-lm"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {standard}: {text}");
    program
}

/// Runs a program on the embedded card; what it prints.
pub fn run(program: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command
        .env("MLU_TRANSPORT", "embedded")
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}\n{text}{errors}",
        output.status
    );
    text
}
