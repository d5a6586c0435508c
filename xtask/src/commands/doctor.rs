//! `cargo xtask doctor`

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::flavour::Flavour;
use crate::toolbox::{is_root, make, mirror, recipe, Toolbox};
use crate::vm::accel;
use crate::vm::config::Accel;
use crate::{cache, debug, guest, kernel, run};

/// Say what is present, missing and in use.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command. Ends with 1 if something hinders.
pub fn run(_: Args) -> Result<i32> {
    let mut report = Report { bad: false };
    report.machine()?;
    let toolbox = report.toolbox()?;
    if let Some(toolbox) = &toolbox {
        report.made(toolbox)?;
    }
    Ok(i32::from(report.bad))
}

struct Report {
    bad: bool,
}

impl Report {
    fn good(&self, what: &str, text: impl AsRef<str>) {
        println!("ok       {what:<16} {}", text.as_ref());
    }

    fn missing(&self, what: &str, text: impl AsRef<str>) {
        println!("missing  {what:<16} {}", text.as_ref());
    }

    fn bad(&mut self, what: &str, text: impl AsRef<str>) {
        self.bad = true;
        println!(
            "PROBLEM  {what:<16} {}",
            text.as_ref().replace('\n', "\n                         ")
        );
    }

    fn machine(&mut self) -> Result<()> {
        self.good("rust", version("rustc", "--version"));
        match (is_root(), make::user_namespaces()) {
            (true, _) => self.good("permissions", "root"),
            (false, Ok(())) => self.good("permissions", "a plain user with user namespaces"),
            (false, Err(error)) => self.bad("permissions", format!("{error}")),
        }
        let folder = cache::folder()?;
        let free = cache::free_bytes(&folder)? as f64 / 1e9;
        let text = format!(
            "{free:.1} GB free in {}; a first set-up takes 5",
            folder.display()
        );
        if free < 1.0 {
            self.bad("disk space", text)
        } else {
            self.good("disk space", text)
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        self.good("processors", cores.to_string());
        Ok(())
    }

    fn toolbox(&mut self) -> Result<Option<Toolbox>> {
        match Toolbox::find() {
            Ok(Some(toolbox)) => {
                self.good("toolbox", toolbox.path("").display().to_string());
                let package = |name| toolbox.version_of(name).unwrap_or_else(|| "?".into());
                self.good("  QEMU", package("qemu-system-x86"));
                self.good("  kernel", &toolbox.kernel);
                self.good("  rustc", package("rustc"));
                self.good("  libc", package("libc6"));
                return Ok(Some(toolbox));
            }
            Ok(None) => {
                self.missing(
                    "toolbox",
                    format!(
                        "{}; the next command makes it (1–2 minutes, network)",
                        recipe::name()
                    ),
                );
                match run::find("mmdebstrap") {
                    Some(path) => self.good("  mmdebstrap", path.display().to_string()),
                    None if is_root() => {
                        self.missing("  mmdebstrap", "will be installed with apt-get")
                    }
                    None => self.bad(
                        "  mmdebstrap",
                        "run: sudo apt-get install mmdebstrap uidmap",
                    ),
                }
                match mirror::find() {
                    Ok(uri) => self.good("  mirror", uri),
                    Err(error) => self.bad("  mirror", format!("{error}")),
                }
            }
            Err(error) => self.bad("toolbox", format!("{error}")),
        }
        Ok(None)
    }

    fn made(&mut self, toolbox: &Toolbox) -> Result<()> {
        let folder = cache::folder()?;
        let tree = folder.join(kernel::name(toolbox));
        self.entry("kernel tree", &tree, "2 minutes");
        let debug = folder.join(debug::kernel::name(toolbox));
        if debug.is_dir() {
            self.good("debug kernel", debug.display().to_string());
        }
        let guest_folder = folder.join(guest::name(toolbox)?);
        self.entry("guest", &guest_folder, "seconds");
        let module = Flavour::Stock.stage().join(crate::module::NAME);
        self.entry("module", &module, "seconds");
        if !guest_folder.is_dir() {
            self.missing("accelerator", "unknown until there is a guest");
            return Ok(());
        }
        let choice = accel::choose(Accel::Auto, toolbox, &guest::ensure(toolbox)?)?;
        self.good(
            "accelerator",
            format!("{}: {}", choice.name(), choice.reason),
        );
        Ok(())
    }

    fn entry(&self, what: &str, path: &Path, cost: &str) {
        if path.exists() {
            self.good(what, path.display().to_string());
        } else {
            self.missing(
                what,
                format!("the next command that needs it makes it ({cost})"),
            );
        }
    }
}

fn version(program: &str, flag: &str) -> String {
    let mut command = Command::new(program);
    command.arg(flag);
    run::output(command).map_or_else(|error| format!("{error}"), |text| text.trim().to_owned())
}
