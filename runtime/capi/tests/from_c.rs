//! What a C programmer does: compile against the header, link with the library, run on the embedded card.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folder of `libvmlu.so`. Cargo does not build a library for C along with its tests, so this does, once, in the same profile.
fn libraries() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().to_owned();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            profile => profile,
        };
        let out = run(Command::new(env!("CARGO"))
            .args(["build", "--offline", "--profile", profile, "--target-dir"])
            .arg(folder.parent().unwrap())
            .arg("--manifest-path")
            .arg(source("Cargo.toml")));
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(
            folder.join("libvmlu.so").exists(),
            "no libvmlu.so in {}",
            folder.display()
        );
        folder
    });
    &FOLDER
}

/// A file of this test.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vmlu-capi-{name}"))
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn compile(compiler: &str, standard: &str, source: &Path, program: &Path) {
    let libraries = libraries();
    let out = run(Command::new(compiler)
        .args([
            standard,
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Werror",
            "-O1",
            "-I",
        ])
        .arg(self::source("include"))
        .arg(source)
        .arg("-o")
        .arg(program)
        .arg("-L")
        .arg(libraries)
        .args(["-lvmlu", "-lm"])
        .arg(format!("-Wl,-rpath,{}", libraries.display())));
    assert!(
        out.status.success(),
        "{compiler} {standard}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn run_program(program: &Path) -> String {
    let out = run(Command::new(program).env("MLU_TRANSPORT", "embedded"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{:?}\n{text}{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

#[test]
fn the_example_compiles_and_computes() {
    let program = scratch("matmul");
    compile("cc", "-std=c11", &source("examples/matmul.c"), &program);
    let text = run_program(&program);
    let difference: f64 = text.trim().rsplit_once(": ").unwrap().1.parse().unwrap();
    assert!(
        text.starts_with("37 x 53 x 64: largest difference") && difference < 1e-5,
        "{text}"
    );
}

#[test]
fn every_function_refuses_what_it_cannot_do() {
    let program = scratch("refusals");
    compile("cc", "-std=c11", &source("tests/refusals.c"), &program);
    let text = run_program(&program);
    assert!(text.ends_with("all refused as they should be\n"), "{text}");
}

#[test]
fn the_header_is_also_cpp() {
    let unit = scratch("main.cpp");
    std::fs::write(
        &unit,
        "#include \"vmlu.h\"\nint main() { vmlu_card *card = nullptr; return vmlu_open(0, &card) == VMLU_OK ? vmlu_close(card) : 1; }\n",
    )
    .unwrap();
    let program = scratch("cpp");
    compile("c++", "-std=c++17", &unit, &program);
    run_program(&program);
}

#[test]
fn the_library_exports_its_ten_functions_alone() {
    let out = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(libraries().join("libvmlu.so")));
    let text = String::from_utf8(out.stdout).unwrap();
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    names.sort_unstable();
    let header = std::fs::read_to_string(source("include/vmlu.h")).unwrap();
    assert_eq!(names.len(), 10, "{names:?}");
    for name in names {
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is not in the header"
        );
    }
}
