//! Build files of programs: CMake and pkg-config.

use std::process::Command;

use crate::prefix::{prefix, run, scratch, source};

#[test]
fn cmake_finds_the_libraries() {
    let build = scratch("cmake");
    let output = Command::new("cmake")
        .arg("-S")
        .arg(source("cmake"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display()))
        .env("NEUWARE_HOME", prefix())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new("cmake")
        .arg("--build")
        .arg(&build)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for program in ["found", "by_home"] {
        let text = run(&build.join(program), &[]);
        assert_eq!(text, "2 devices\n", "{program}");
    }
}

#[test]
fn pkg_config_finds_the_libraries() {
    let Ok(output) = Command::new("pkg-config")
        .args(["--cflags", "--libs", "cnrt"])
        .env("PKG_CONFIG_PATH", prefix().join("lib64/pkgconfig"))
        .output()
    else {
        // Not every machine has it; the file is of plain text then.
        let text = std::fs::read_to_string(prefix().join("lib64/pkgconfig/cnrt.pc")).unwrap();
        assert!(text.contains("-lcnrt"), "{text}");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("-lcnrt") && text.contains("include"),
        "{text}"
    );
}
