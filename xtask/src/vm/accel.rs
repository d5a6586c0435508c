//! KVM or TCG. `/dev/kvm` may exist and not run a real kernel, so the answer comes from trying.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::config::Accel;
use super::qemu;
use crate::cache;
use crate::guest::Guest;
use crate::problem::problem;
use crate::progress::Step;
use crate::run;
use crate::toolbox::Toolbox;

/// What is used, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    /// [`Accel::Kvm`] or [`Accel::Tcg`].
    pub accel: Accel,
    /// The reason, for people.
    pub reason: String,
}

impl Choice {
    /// `KVM` or `TCG`.
    pub fn name(&self) -> &'static str {
        if self.accel == Accel::Kvm {
            "KVM"
        } else {
            "TCG"
        }
    }
}

/// A kernel that runs on KVM says so long before, even if the machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Decides what `wanted` comes to on this machine.
pub fn choose(wanted: Accel, toolbox: &Toolbox, guest: &Guest) -> Result<Choice> {
    if wanted == Accel::Tcg {
        return Ok(Choice {
            accel: Accel::Tcg,
            reason: "asked for".into(),
        });
    }
    match unusable(toolbox, guest)? {
        None => Ok(Choice {
            accel: Accel::Kvm,
            reason: "it runs the guest's kernel (tried)".into(),
        }),
        Some(reason) if wanted == Accel::Auto => Ok(Choice {
            accel: Accel::Tcg,
            reason,
        }),
        Some(reason) => Err(problem(
            "use KVM",
            reason,
            "leave --accel kvm out: TCG does everything, slower",
        )),
    }
}

/// Why KVM cannot be used, if so. The trial's result is kept for this guest on this machine.
fn unusable(toolbox: &Toolbox, guest: &Guest) -> Result<Option<String>> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Some(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no /dev/kvm".into(),
            std::io::ErrorKind::PermissionDenied => {
                "/dev/kvm is not yours: join the group kvm to use it".into()
            }
            _ => format!("/dev/kvm: {error}"),
        }));
    }
    let record = record(guest)?;
    match fs::read_to_string(&record).as_deref() {
        Ok("ok") => return Ok(None),
        Ok(reason) if !reason.is_empty() => return Ok(Some(reason.to_owned())),
        _ => {}
    }
    let step = Step::start("trying KVM");
    let reason = boot(toolbox, guest)?;
    step.done_with(reason.as_deref().unwrap_or("it works"));
    fs::write(record, reason.as_deref().unwrap_or("ok"))?;
    Ok(reason)
}

/// File with the trial's result.
fn record(guest: &Guest) -> Result<PathBuf> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = text("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    let key = cache::key(&[&guest.key, &text("/proc/sys/kernel/osrelease"), cpu]);
    Ok(cache::folder()?.join(format!("kvm-{key}")))
}

/// Boots the kernel as far as its first program.
fn boot(toolbox: &Toolbox, guest: &Guest) -> Result<Option<String>> {
    let folder = super::run_folder()?;
    let (serial, log) = (folder.join("serial"), folder.join("log"));
    let mut command = qemu::base(
        toolbox,
        Accel::Kvm,
        qemu::Size {
            cpus: 1,
            memory: 512,
            nodes: 1,
        },
        guest,
        "quiet vmlu.probe",
        &serial,
    );
    let output = File::create(&log)?;
    command.stdout(output.try_clone()?).stderr(output);
    let mut child = run::spawn_tied(command)?;
    let end = Instant::now() + PATIENCE;
    let works = loop {
        if fs::read_to_string(&serial).is_ok_and(|text| text.contains("vmlu-probe-ok")) {
            break true;
        }
        let failed = fs::read_to_string(&log).is_ok_and(|text| text.contains("emulation failure"));
        if failed || child.try_wait()?.is_some() || Instant::now() > end {
            break false;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let _ = child.kill();
    let _ = child.wait();
    let said = fs::read_to_string(&log).unwrap_or_default();
    let said = said
        .lines()
        .find(|line| line.contains("emulation failure"))
        .or(said.lines().next());
    let said = said.unwrap_or("the kernel did not come up").to_owned();
    let _ = fs::remove_dir_all(&folder);
    Ok((!works).then(|| format!("/dev/kvm exists, but does not run the kernel: {said}")))
}
