//! Each number is caused on a local server, and shown by the program.

mod exporter;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options, Quota};

struct Lab {
    _server: LocalServer,
    transport: String,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalServer::start(&Options {
            topology: None,
            path: folder.path().join("mlu"),
            mode: 0o600,
            chips: 2,
            model: &MLU370_X8,
            serials: vec![u64::from(MLU370_X8.board_id) << 56 | 7],
            inject: true,
            quota: Quota::default(),
        })
        .unwrap();
        let transport = format!("local:{}", server.path().display());
        Self {
            _server: server,
            transport,
            folder,
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cnmon"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("MLU_TRANSPORT", &self.transport)
            .output()
            .expect("cnmon starts")
    }

    fn say(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert!(out.status.success(), "{arguments:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// A field of a card, as a number.
    fn field(&self, card: &str, name: &str) -> f64 {
        let text = self.say(&[
            "--query",
            name,
            "--format",
            "csv,noheader,nounits",
            "-c",
            card,
        ]);
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {text}"))
    }

    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[test]
fn memory_errors_are_counted_retired_and_healed() {
    let lab = Lab::new();
    lab.say(&["inject", "ecc", "-c", "1", "-n", "4", "--offset", "65536"]);
    lab.say(&[
        "inject",
        "ecc",
        "-c",
        "1",
        "--uncorrectable",
        "--offset",
        "131072",
    ]);
    let ecc = lab.say(&["ecc", "-c", "1"]);
    for line in [
        "Corrected Errors               : 4",
        "Uncorrected Errors             : 1",
        "Retired Pages Pending          : 2",
    ] {
        assert!(ecc.contains(line), "{line}: {ecc}");
    }
    let info = lab.say(&["info", "-c", "1"]);
    assert!(
        info.contains("        Device                     : In Problem\n"),
        "{info}"
    );
    let doctor = lab.run(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        !doctor.status.success() && text.contains("problem  card 1"),
        "{text}"
    );
    let events = lab.say(&["events", "-c", "1"]);
    assert!(
        events.contains("Card 1 XID 3: uncorrectable memory error"),
        "{events}"
    );
    let line: serde_json::Value =
        serde_json::from_str(lab.say(&["events", "--json"]).lines().next().unwrap()).unwrap();
    assert_eq!(
        (&line["card"], &line["kind"], &line["value"]),
        (&1.into(), &"xid".into(), &3.into())
    );
    lab.say(&["reset", "-c", "1"]);
    let info = lab.say(&["info", "-c", "1"]);
    assert!(
        info.contains("        Device                     : Good\n"),
        "{info}"
    );
    assert_eq!(lab.field("1", "ecc.errors.uncorrected.aggregate"), 1.0);
    assert_eq!(lab.field("1", "retired_pages.pending"), 0.0);
    assert_eq!(
        lab.field("1", "memory.total"),
        23373.0,
        "two pages of 64 KiB are gone"
    );
}

#[test]
fn ecc_takes_a_part_of_the_memory_from_the_next_reset_on() {
    let lab = Lab::new();
    assert!(lab
        .say(&["ecc", "-c", "0", "--enable"])
        .contains("Pending Mode                   : Enable"));
    assert_eq!(lab.field("0", "memory.total"), 23374.0);
    lab.say(&["reset", "-c", "0"]);
    assert_eq!(lab.field("0", "memory.total"), 20638.0);
    let table = lab.say(&[]);
    assert!(
        table
            .lines()
            .any(|line| line.contains("0%                  0 |")),
        "{table}"
    );
}

#[test]
fn settings_have_their_effect() {
    let lab = Lab::new();
    let text = lab.say(&[
        "set",
        "-c",
        "0",
        "--power-cap",
        "150",
        "--clock",
        "500",
        "--compute-mode",
        "prohibited",
    ]);
    for line in [
        "Power Cap                      : 150 W",
        "Clock                          : 500 MHz",
        "Compute Mode                   : Prohibited",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    assert!(
        vmlu::Context::open_on(&*transport, 0).is_err(),
        "nobody may use the card"
    );
    lab.say(&[
        "set",
        "-c",
        "0",
        "--compute-mode",
        "default",
        "--clock",
        "0",
        "--power-cap",
        "0",
    ]);
    let context = vmlu::Context::open_on(&*transport, 0).unwrap();
    assert_eq!(lab.field("0", "clocks.mlu"), 1000.0);
    let out = lab.run(&["reset", "-c", "0"]);
    assert_eq!(out.status.code(), Some(1), "somebody uses it");
    drop(context);
    lab.until("the context ends", |lab| {
        lab.run(&["reset", "-c", "0"]).status.success()
    });
    assert_eq!(
        lab.run(&["set", "-c", "0", "--clock", "9000"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn heat_rises_slows_and_is_told_of() {
    let lab = Lab::new();
    let before = lab.field("0", "temperature.chip");
    lab.say(&["inject", "heat", "-c", "0", "200"]);
    lab.until("the chip warms", |lab| {
        lab.field("0", "temperature.chip") > before + 2.0
    });
    assert!(
        lab.field("1", "temperature.chip") < before + 2.0,
        "the other chip does not"
    );
    lab.say(&["inject", "heat", "-c", "0", "0"]);
    lab.say(&["inject", "xid", "-c", "1", "9"]);
    assert!(lab
        .say(&["events"])
        .contains("Card 1 XID 9: over-temperature"));
    assert_eq!(lab.field("1", "xid.last"), 9.0);
}

#[test]
fn what_is_recorded_can_be_replayed() {
    let lab = Lab::new();
    lab.say(&["record", "cards.jsonl", "-n", "3", "-i", "10"]);
    let text = lab.say(&["replay", "cards.jsonl", "-s", "1000"]);
    assert_eq!(text.matches("| CNMON ").count(), 3);
    assert_eq!(lab.run(&["replay", "nothing"]).status.code(), Some(1));
}

/// Tells a thread to end when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_a_program_does_is_seen() {
    use vmlu::{operators::MatmulOptions, DataType, Tensor};
    const MIB: f64 = (1u64 << 20) as f64;
    let lab = Lab::new();
    let names = [
        "memory.used",
        "memory.free",
        "pcie.rx.total",
        "pcie.tx.total",
        "energy",
        "processes",
        "power.draw",
    ];
    let look = |card: &str| names.map(|name| lab.field(card, name));
    let idle = look("1");
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    let context = vmlu::Context::open_on(&*transport, 1).unwrap();
    let queue = context.queue().unwrap();
    let buffer = context.alloc(64 << 20).unwrap();
    queue.write(&buffer, 0, &vec![1; 48 << 20]).unwrap();
    let mut back = vec![0; 16 << 20];
    queue.read(&buffer, 0, &mut back).unwrap();
    assert!(lab.field("1", "pcie.rx") > 0.0 && lab.field("1", "pcie.tx") > 0.0);
    let now = look("1");
    assert_eq!((now[0] - idle[0], idle[1] - now[1]), (64.0, 64.0));
    assert_eq!(now[2] - idle[2], 48.0 * MIB);
    assert_eq!(now[3] - idle[3], 16.0 * MIB);
    assert!(now[4] > idle[4] && now[5] == 1.0, "{idle:?} {now:?}");
    assert_eq!(look("0")[..4], [0.0, 23374.0, 0.0, 0.0]);

    let heat = lab.field("1", "temperature.chip");
    let matrix = || Tensor::zeros(&queue, DataType::F32, &[512, 512]).unwrap();
    let (a, b, out) = (matrix(), matrix(), matrix());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The queue has work all the time, however long the program takes to look.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    queue
                        .matmul(&a, &b, &out, &MatmulOptions::default())
                        .unwrap();
                }
                queue.sync().unwrap();
            }
        });
        let _over = Over(&over);
        lab.until("it is busy", |lab| lab.field("1", "utilization.mlu") > 50.0);
        lab.until("it draws more", |lab| {
            lab.field("1", "power.draw") > idle[6] + 5.0
        });
        lab.until("it warms up", |lab| {
            lab.field("1", "temperature.chip") > heat
        });
        // A cap on the power holds the clock down.
        lab.say(&["set", "-c", "1", "--power-cap", "130"]);
        lab.until("the cap lowers the clock", |lab| {
            lab.field("1", "clocks.mlu") < 1000.0
        });
        lab.until("it says why", |lab| {
            lab.say(&[
                "--query",
                "throttle.power_cap",
                "--format",
                "csv,noheader",
                "-c",
                "1",
            ]) == "Enabled\n"
        });
        assert!(lab.field("0", "utilization.mlu") < 5.0);
    });
    drop((a, b, out, buffer, queue, context));
    lab.until("memory and processes are gone", |lab| {
        (lab.field("1", "memory.used"), lab.field("1", "processes")) == (0.0, 0.0)
    });
}

#[test]
fn shells_and_readers_get_theirs() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            lab.say(&["completions", shell]).contains("exporter"),
            "{shell}"
        );
    }
    let man = lab.say(&["man"]);
    assert!(man.contains(".TH") && man.contains("watch"), "{man}");
    assert!(lab
        .say(&["--help-query"])
        .lines()
        .any(|line| line == "utilization.mlu"));
}
