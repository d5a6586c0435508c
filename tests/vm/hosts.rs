//! Ranks on several hosts: network namespaces of this machine with OpenMPI between them, no virtual machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use xtask::hosts::{Hosts, Plan};
use xtask::paths;

use crate::lab::{Case, Lab};

/// The cases of this file.
pub const CASES: &[Case] = &[
    ("same_weights_on_one_two_and_four", same_weights),
    ("operations", operations),
    ("operations_of_a_user", operations_of_a_user),
    ("ranks_disagree", ranks_disagree),
    ("a_host_is_lost", a_host_is_lost),
];

/// No case takes longer, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(150);
/// Nor does anybody take longer to notice that a host is lost.
const NOTICE: Duration = Duration::from_secs(45);

/// A folder for a case in the target folder.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = paths::target().join("hosts-out").join(name);
    if folder.is_dir() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// `mpirun` under way; what it started ends with the value.
struct Job {
    process: std::process::Child,
    folder: PathBuf,
}

impl Job {
    fn start(plan: &Plan<'_>, folder: &Path) -> Result<Self> {
        let mut command = Hosts::ensure()?.command(plan)?;
        let log = fs::File::create(folder.join("mpirun"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?);
        let process = command
            .stderr(log)
            .spawn()
            .context("unshare does not start")?;
        Ok(Self {
            process,
            folder: folder.to_owned(),
        })
    }

    /// What a rank has said.
    fn said(&self, rank: u32) -> String {
        fs::read_to_string(self.folder.join(format!("rank.{rank}"))).unwrap_or_default()
    }

    fn report(&self, ranks: u32) -> String {
        let launcher = fs::read_to_string(self.folder.join("mpirun")).unwrap_or_default();
        let said = (0..ranks).map(|rank| format!("\nrank {rank}: {}", self.said(rank)));
        said.fold(format!("mpirun: {launcher}"), |all, one| all + &one)
    }

    /// Waits until something is so.
    fn until(&self, limit: Duration, ranks: u32, so: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !so(self) {
            ensure!(start.elapsed() < limit, "{}", self.report(ranks));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until all ranks have ended well.
    fn end(mut self, ranks: u32) -> Result<()> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(start.elapsed() < LONG, "{}", self.report(ranks));
            std::thread::sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "{status}: {}", self.report(ranks));
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Training ends with the same weights, to the last bit, on four chips of one host by threads, and over MPI however they are spread.
fn same_weights(lab: &Lab) -> Result<()> {
    const EPOCHS: &str = "6";
    let folder = folder("weights")?;
    let program = lab.setup()?.built.program("digits")?;
    let alone = folder.join("threads");
    let output = Command::new(program)
        .args(["--chips", "4", "--epochs", EPOCHS, "--weights"])
        .arg(&alone)
        .env("MLU_TRANSPORT", "embedded")
        .env("MLU_CHIPS", "4")
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let alone = fs::read(&alone)?;
    for (hosts, ranks) in [(1, 4), (2, 2), (4, 1)] {
        let name = format!("weights-{hosts}");
        let arguments = [
            "--mpi",
            "--epochs",
            EPOCHS,
            "--weights",
            &format!("/build/hosts-out/weights/{name}"),
        ];
        let plan = Plan {
            hosts,
            ranks,
            program,
            arguments: &arguments.map(String::from),
            folder: Some(&folder),
            as_user: false,
        };
        let job = Job::start(&plan, &folder)?;
        job.end(hosts * ranks)?;
        let said = fs::read_to_string(folder.join("rank.0"))?;
        ensure!(said.contains("all 4 chips have the same weights"), "{said}");
        let weights = fs::read(folder.join(&name))?;
        ensure!(
            weights == alone,
            "{hosts} hosts have other weights than one host's threads: {said}"
        );
    }
    Ok(())
}

/// Every operation and type, on hosts of several ranks and of one.
fn operations(lab: &Lab) -> Result<()> {
    for (hosts, ranks) in [(3, 2), (4, 1), (1, 2)] {
        all_operations(lab, (hosts, ranks), false)?;
    }
    Ok(())
}

/// The same by somebody who has no rights but in a namespace of the own.
fn operations_of_a_user(lab: &Lab) -> Result<()> {
    all_operations(lab, (2, 2), true)
}

fn all_operations(lab: &Lab, (hosts, ranks): (u32, u32), as_user: bool) -> Result<()> {
    let folder = folder("operations")?;
    let plan = Plan {
        hosts,
        ranks,
        program: lab.setup()?.built.program("mlu-hosts")?,
        arguments: &["operations".to_owned()],
        folder: Some(&folder),
        as_user,
    };
    let job = Job::start(&plan, &folder)?;
    job.end(hosts * ranks)?;
    for rank in 0..hosts * ranks {
        let said = fs::read_to_string(folder.join(format!("rank.{rank}")))?;
        ensure!(said == "done\n", "rank {rank} of {hosts} hosts: {said}");
    }
    Ok(())
}

/// A rank that takes more than another sends is an error at all, which says how much.
fn ranks_disagree(lab: &Lab) -> Result<()> {
    let folder = folder("disagree")?;
    let plan = Plan {
        hosts: 3,
        ranks: 1,
        program: lab.setup()?.built.program("mlu-hosts")?,
        arguments: &["disagree".to_owned()],
        folder: Some(&folder),
        as_user: false,
    };
    let job = Job::start(&plan, &folder)?;
    let text = "rank 0 on host1 sends 8 bytes where 16 are received";
    let know = |job: &Job| (0..3).all(|rank| job.said(rank).contains(text));
    job.until(NOTICE, 3, know)
}

/// A host whose network is gone is an error at every rank elsewhere.
fn a_host_is_lost(lab: &Lab) -> Result<()> {
    let folder = folder("lost")?;
    let plan = Plan {
        hosts: 4,
        ranks: 1,
        program: lab.setup()?.built.program("mlu-hosts")?,
        arguments: &["until-lost".to_owned()],
        folder: Some(&folder),
        as_user: false,
    };
    let job = Job::start(&plan, &folder)?;
    let works = |job: &Job| (0..4).all(|rank| job.said(rank).contains("works"));
    job.until(LONG, 4, works)?;
    fs::write(folder.join("cut.new"), "3")?;
    fs::rename(folder.join("cut.new"), folder.join("cut"))?;
    let know = |job: &Job| {
        [0, 1, 3]
            .iter()
            .all(|rank| job.said(*rank).contains("error: "))
    };
    job.until(NOTICE, 4, know)?;
    // Those that it had to do with find out, and tell the others.
    let names = |rank: &u32| job.said(*rank).contains("rank 2 on host3");
    ensure!([0, 1, 3].iter().all(names), "{}", job.report(4));
    Ok(())
}
