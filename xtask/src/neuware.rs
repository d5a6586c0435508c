//! The prefix that programs for the vendor's software are built against: `NEUWARE_HOME`.
//!
//! All functions stand in one library, `libvmlu_neuware.so`, so that a process has one state, whichever libraries it loads. The libraries with the
//! vendor's names are made here: of the functions that a header declares, each leads to the one behind it. A function that is declared and not
//! there, or the other way round, fails the link.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::Built;
use crate::paths;
use crate::problem::problem;

/// A library with a vendor's name.
struct Library {
    /// `NAME` of `libNAME.so`; its crate is `runtime/NAME`.
    name: &'static str,
    /// Its header, in the crate's `include/`.
    header: &'static str,
    /// Version of the interface.
    version: &'static str,
    /// Libraries that its header or its programs need.
    requires: &'static [&'static str],
}

/// The libraries.
const LIBRARIES: &[Library] = &[
    Library {
        name: "cndev",
        header: "cndev.h",
        version: "6.0.0",
        requires: &[],
    },
    Library {
        name: "cndrv",
        header: "cn_api.h",
        version: "2.15.5",
        requires: &[],
    },
    Library {
        name: "cnrt",
        header: "cnrt.h",
        version: "6.14.1",
        requires: &["cndrv"],
    },
    Library {
        name: "cncl",
        header: "cncl.h",
        version: "1.25.0",
        requires: &["cnrt"],
    },
];

/// The library behind all of them.
const BEHIND: &str = "libvmlu_neuware.so";

/// Lays a prefix out: `include/`, `lib64/` with pkg-config files, `share/cmake/`, `bin/cnmon`. What is there is replaced file by file.
pub fn install(prefix: &Path, built: &Built) -> Result<()> {
    let (include, lib, bin) = (
        prefix.join("include"),
        prefix.join("lib64"),
        prefix.join("bin"),
    );
    for folder in [
        &include,
        &lib,
        &bin,
        &lib.join("pkgconfig"),
        &prefix.join("share/cmake/neuware"),
    ] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let behind = built.libraries.get(BEHIND).ok_or_else(|| {
        problem(
            "install the libraries",
            format!("the project builds no {BEHIND}"),
            "check runtime/neuware",
        )
    })?;
    put(behind, &lib.join(BEHIND))?;
    for library in LIBRARIES {
        let header = library.header();
        put(&header, &include.join(library.header))?;
        let text = fs::read_to_string(&header)?;
        library.link(&declared(&text), &lib)?;
        let pc = library.pkg_config(&absolute(prefix)?);
        fs::write(lib.join(format!("pkgconfig/{}.pc", library.name)), pc)?;
    }
    let cmake = prefix.join("share/cmake/neuware");
    fs::write(cmake.join("neuware-config.cmake"), cmake_config())?;
    fs::write(cmake.join("neuware-config-version.cmake"), CMAKE_VERSION)?;
    put(built.program("cnmon")?, &bin.join("cnmon"))
}

/// Copies a file, so that who has the old one open or loaded keeps it.
fn put(from: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    fs::copy(from, &part)
        .and_then(|_| fs::rename(&part, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(fs::canonicalize(path)?)
}

impl Library {
    fn header(&self) -> PathBuf {
        paths::project()
            .join("runtime")
            .join(self.name)
            .join("include")
            .join(self.header)
    }

    /// Makes `libNAME.so` of its functions' names.
    fn link(&self, functions: &[String], lib: &Path) -> Result<()> {
        let file = format!("lib{}.so", self.name);
        let work = paths::target().join("neuware");
        fs::create_dir_all(&work)?;
        let source = work.join(format!("{}.S", self.name));
        let script = work.join(format!("{}.map", self.name));
        fs::write(&source, assembly(functions))?;
        let names = functions.join("; ");
        fs::write(&script, format!("{{ global: {names}; local: *; }};\n"))?;
        // Named for this process, so that two that install at once do not write into one file.
        let part = lib.join(format!(".{file}.{}", std::process::id()));
        let mut command = Command::new("cc");
        command
            .args(["-shared", "-nostdlib", "-Wl,-z,defs", "-Wl,-z,noexecstack"])
            .arg(format!("-Wl,-soname,{file}"))
            .arg("-Wl,-rpath,$ORIGIN")
            .arg(format!("-Wl,--version-script={}", script.display()))
            .arg(&source)
            .arg("-L")
            .arg(lib)
            .arg("-lvmlu_neuware")
            .arg("-o")
            .arg(&part);
        let output = command.output().context("cannot run cc")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(problem(
                format!("link {file}"),
                format!("the linker says:\n{text}"),
                format!(
                    "compare {} with the functions of runtime/{}",
                    self.header, self.name
                ),
            ));
        }
        fs::rename(&part, lib.join(&file))?;
        Ok(())
    }

    fn pkg_config(&self, prefix: &Path) -> String {
        let requires = self.requires.join(", ");
        let (name, version) = (self.name, self.version);
        format!(
            "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib64\n\n\
             Name: {name}\nDescription: lib{name} of the virtual MLU\nVersion: {version}\nRequires: {requires}\n\
             Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -l{name}\n",
            prefix.display()
        )
    }
}

/// Functions that lead to those behind them, whatever their arguments.
fn assembly(functions: &[String]) -> String {
    let mut text = String::from("    .text\n");
    for name in functions {
        let jump = if cfg!(target_arch = "aarch64") {
            format!(
                "    bti c\n    adrp x16, :got:vmlu_{name}\n    ldr x16, [x16, #:got_lo12:vmlu_{name}]\n    br x16"
            )
        } else {
            format!("    endbr64\n    jmp *vmlu_{name}@GOTPCREL(%rip)")
        };
        let _ = writeln!(
            text,
            "    .globl {name}\n    .type {name}, %function\n    .balign 16\n{name}:\n{jump}\n    .size {name}, . - {name}"
        );
    }
    text.push_str("    .section .note.GNU-stack,\"\",%progbits\n");
    text
}

/// The functions that a header declares.
fn declared(header: &str) -> Vec<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    let mut plain = String::new();
    let mut directive = false;
    for line in code.lines() {
        directive |= line.trim_start().starts_with('#');
        if !directive {
            plain.push_str(line);
            plain.push('\n');
        }
        directive &= line.ends_with('\\');
    }
    let mut names: Vec<String> = plain
        .split([';', '{', '}'])
        .filter(|piece| !piece.trim_start().starts_with("typedef"))
        .filter_map(|piece| {
            let (before, _) = piece.split_once('(')?;
            let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_')? + 1;
            Some(before[start..].to_owned())
        })
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

const CMAKE_VERSION: &str = "set(PACKAGE_VERSION 1.0.0)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n";

/// Targets `neuware::NAME`, and the variables that build files of the vendor's software set themselves.
fn cmake_config() -> String {
    let mut text = String::from(
        "# The libraries of the virtual MLU under the vendor's names.\n\
         get_filename_component(NEUWARE_HOME \"${CMAKE_CURRENT_LIST_DIR}/../../..\" ABSOLUTE)\n\
         set(NEUWARE_INCLUDE_DIR \"${NEUWARE_HOME}/include\")\n\
         set(NEUWARE_LIB_DIR \"${NEUWARE_HOME}/lib64\")\n",
    );
    for Library { name, requires, .. } in LIBRARIES {
        let requires: Vec<_> = requires.iter().map(|r| format!("neuware::{r}")).collect();
        let _ = writeln!(
            text,
            "if(NOT TARGET neuware::{name})\n  add_library(neuware::{name} SHARED IMPORTED)\n  set_target_properties(neuware::{name} PROPERTIES\n    \
             IMPORTED_LOCATION \"${{NEUWARE_LIB_DIR}}/lib{name}.so\"\n    IMPORTED_SONAME \"lib{name}.so\"\n    \
             INTERFACE_INCLUDE_DIRECTORIES \"${{NEUWARE_INCLUDE_DIR}}\"\n    INTERFACE_LINK_LIBRARIES \"{}\")\nendif()",
            requires.join(";")
        );
    }
    text.push_str("set(neuware_FOUND TRUE)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_in_headers() {
        let header = "#define A(x) \\\n  f(x)\nextern \"C\" {\ntypedef void (*fn_t)(int);\nenum { X = 1 };\n\
                      int one(int a, /* b( */ int b);\nconst char *two(void);\nvoid **__three(\n  void *x);\nstruct S { int x; };\n}\n";
        assert_eq!(declared(header), ["__three", "one", "two"]);
    }

    #[test]
    fn every_header_declares_functions_of_its_own() {
        let mut all = Vec::new();
        for library in LIBRARIES {
            let functions = declared(&fs::read_to_string(library.header()).unwrap());
            assert!(!functions.is_empty(), "{}", library.name);
            all.extend(functions);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a function is declared by two headers");
    }
}
