//! Builds the project's own programs with cargo.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;
use crate::problem::problem;

/// What a build made.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Programs and examples by name.
    pub programs: BTreeMap<String, PathBuf>,
    /// Shared libraries by file name.
    pub libraries: BTreeMap<String, PathBuf>,
}

impl Built {
    /// The program `name`, or an error that says who should have it.
    pub fn program(&self, name: &str) -> Result<&PathBuf> {
        self.programs.get(name).ok_or_else(|| {
            let wrong = format!("the project builds no program `{name}`");
            problem(
                format!("use {name}"),
                wrong,
                "check the [[bin]] and [[example]] entries of its package",
            )
        })
    }
}

/// Cargo, the same that runs us.
pub fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(paths::project());
    // Set by `cargo run` for us; for the children it would only cause rebuilding.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// Builds every program, example and shared library of the project, in release.
///
/// Always the whole workspace: cargo gives shared dependencies the features that the *selected* packages ask for, so that another selection
/// would build them again.
pub fn build() -> Result<Built> {
    let mut command = command();
    command.args([
        "build",
        "--release",
        "--workspace",
        "--lib",
        "--bins",
        "--examples",
    ]);
    command.args(["--message-format=json-render-diagnostics"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().expect("it is piped");
    let built = read_messages(stdout)?;
    if !child.wait()?.success() {
        return Err(problem(
            "build the project",
            "cargo reported errors (above)",
            "repair them, or go back to a commit that builds",
        ));
    }
    Ok(built)
}

/// What the build before made, as far as it is still there.
pub fn built_before() -> Result<Built> {
    let mut built = Built::default();
    for folder in ["release", "release/examples"] {
        let Ok(entries) = std::fs::read_dir(paths::target().join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.extension().is_some_and(|extension| extension == "so") {
                built.libraries.insert(name, path);
            } else if path.is_file() && path.extension().is_none() && !name.starts_with('.') {
                built.programs.insert(name, path);
            }
        }
    }
    Ok(built)
}

fn read_messages(from: impl std::io::Read) -> Result<Built> {
    let mut built = Built::default();
    for message in serde_json::Deserializer::from_reader(from).into_iter::<Value>() {
        let message = message.context("cargo's messages cannot be read")?;
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let ours = message["manifest_path"]
            .as_str()
            .is_some_and(|path| path.starts_with(&*paths::project().to_string_lossy()));
        if !ours {
            continue;
        }
        if let (Some(path), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) {
            built.programs.insert(name.to_owned(), path.into());
        }
        for path in message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let path = PathBuf::from(path);
            if path.extension().is_some_and(|extension| extension == "so") {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                built.libraries.insert(name, path);
            }
        }
    }
    Ok(built)
}
