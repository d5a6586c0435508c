//! The stress test on a card that processes share: owners are processes, which are killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu::transport::Transport;

use super::account::{Account, CLEAN_UP};
use super::record::{Record, LIVES};
use super::worker::{live, End};
use super::{Options, Random};

type Error = Box<dyn std::error::Error>;

/// How long an owner that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs it: `program` started as `program owner RECORD NUMBER SEED` calls [`owner`]. A line about the run.
///
/// # Errors
///
/// If something is wrong, with the seed.
pub fn run(
    transport: &dyn Transport,
    options: &Options,
    program: &Path,
    environment: &[(&str, String)],
    record: PathBuf,
) -> Result<String, Error> {
    let account = Account::open(transport, options.device)?;
    let mut run = Run {
        lives: Record::create(&record)?,
        record,
        program,
        environment,
        options,
        next: 0,
    };
    let mut random = Random::new(options.seed);
    let mut owners = (0..options.owners)
        .map(|_| run.start())
        .collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let (mut slowest, mut kills) = (Duration::ZERO, 0);
    while start.elapsed() < options.duration && run.next < LIVES {
        std::thread::sleep(Duration::from_millis(random.below(400)));
        let victim = random.below(owners.len() as u64) as usize;
        let pid = owners[victim].process.id();
        owners[victim].kill()?;
        let killed = Instant::now();
        while transport
            .processes(options.device)?
            .iter()
            .any(|p| p.pid == pid)
        {
            if killed.elapsed() > CLEAN_UP {
                return Err(format!("a killed process is there after {CLEAN_UP:?}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(killed.elapsed());
        kills += 1;
        owners[victim] = run.start()?;
    }
    for owner in &mut owners {
        owner.process.stdin = None;
    }
    for owner in &mut owners {
        owner.end()?;
    }
    let line = account.close(transport, options.device, &run.lives)?;
    let slowest = slowest.as_micros() as f64 / 1e3;
    Ok(format!(
        "{line}; {kills} kills, the slowest clean-up took {slowest:.1} ms"
    ))
}

struct Run<'a> {
    lives: Record,
    record: PathBuf,
    program: &'a Path,
    environment: &'a [(&'a str, String)],
    options: &'a Options,
    next: usize,
}

impl Run<'_> {
    /// Starts an owner and waits until it works.
    fn start(&mut self) -> Result<Owner, Error> {
        let (number, options) = (self.next, self.options);
        self.next += 1;
        let seed = options.seed.wrapping_add(number as u64);
        let numbers = [
            number as u64,
            seed,
            options.queues as u64,
            options.device.into(),
        ];
        let mut process = Command::new(self.program)
            .arg("owner")
            .arg(&self.record)
            .args(numbers.map(|n| n.to_string()))
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let mut owner = Owner { process };
        match line.trim() {
            "ready" => Ok(owner),
            _ => Err(format!("owner {number} did not start: {}", owner.said()).into()),
        }
    }
}

struct Owner {
    process: Child,
}

impl Owner {
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Kills it; it must not have ended by itself.
    fn kill(&mut self) -> Result<(), Error> {
        if let Some(status) = self.process.try_wait()? {
            return Err(format!("an owner ended with {status}: {}", self.said()).into());
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Waits until it ends well.
    fn end(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!("an owner ended with {status}: {}", self.said()).into())
                }
                None if start.elapsed() > PATIENCE => {
                    return Err(format!("an owner does not end within {PATIENCE:?}").into())
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an owner's process does: lives until its standard input ends.
pub fn owner(
    transport: &dyn Transport,
    record: &Path,
    [number, seed, queues, device]: [u64; 4],
) -> Result<(), Error> {
    let record = Record::open(record)?;
    let life = record
        .lives()
        .get(number as usize)
        .ok_or("no room for this life")?;
    let options = Options {
        seed,
        duration: Duration::MAX,
        owners: 1,
        queues: queues as usize,
        device: device as u32,
    };
    writeln!(std::io::stdout(), "ready")?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::SeqCst);
        });
        let end = End {
            steps: u64::MAX,
            well: true,
        };
        let result = live(transport, &options, seed, life, end, &stop);
        if let Err(error) = &result {
            // The other thread waits for the end of the input.
            eprintln!("{error}");
            std::process::exit(1);
        }
        result
    })
}
