//! Each number is caused on a local server, and shown by the program.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{LocalServer, Options};

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

#[test]
fn prometheus_reads_over_http() {
    use std::io::{BufRead, BufReader, Read, Write};
    let lab = Lab::new();
    lab.say(&["inject", "link", "-c", "0", "-p", "0", "crc32", "-n", "6"]);
    lab.say(&["inject", "xid", "-c", "1", "9"]);
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    let context = vmlu::Context::open_on(&*transport, 1).unwrap();
    let _memory = context.alloc(64 << 20).unwrap();
    let own = std::process::id().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cnmon"))
        .args(["exporter", "--listen", "127.0.0.1:0"])
        .env("MLU_TRANSPORT", &lab.transport)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut said)
        .unwrap();
    let address = said
        .trim()
        .trim_start_matches("http://")
        .trim_end_matches("/metrics")
        .to_owned();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let metrics = get("/metrics");
    // Ports are not read again while no chip does anything; errors are something.
    let errors = |text: &str| {
        let body = text.split_once("\r\n\r\n").unwrap().1;
        scraped(body)(
            "mlu_mlulink_err_crc32_total",
            &[("mlu", "0"), ("link", "0")],
        )
    };
    assert_eq!(errors(&get("/metrics")), Some(6.0));
    lab.say(&["inject", "link", "-c", "0", "-p", "0", "crc32", "-n", "2"]);
    for _ in 0..2 {
        assert_eq!(errors(&get("/metrics")), Some(8.0));
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    assert!(get("/metrics?x=1").starts_with("HTTP/1.1 200"));
    child.kill().unwrap();
    child.wait().unwrap();
    let (head, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    let value = scraped(body);
    for (name, labels, expected) in [
        (
            "mlu_mlulink_err_crc32_total",
            &[("mlu", "0"), ("link", "0")][..],
            6.0,
        ),
        (
            "mlu_mlulink_err_crc32_total",
            &[("mlu", "0"), ("link", "1")],
            0.0,
        ),
        ("mlu_memory_used", &[("mlu", "1")], f64::from(64 << 20)),
        ("mlu_memory_used", &[("mlu", "0")], 0.0),
        ("mlu_compute_mode", &[("mlu", "0")], 0.0),
        (
            "mlu_process_physical_memory_used",
            &[("mlu", "1"), ("pid", &own)],
            f64::from(64 << 20),
        ),
        ("mlu_health", &[("mlu", "1"), ("unhealth_reason", "")], 1.0),
        ("mlu_last_xid_error", &[("mlu", "1"), ("xid", "")], 9.0),
        (
            "mlu_cluster_temperature",
            &[("mlu", "0"), ("cluster", "3")],
            39.0,
        ),
        ("mlu_ddr_band_width", &[("mlu", "0")], 307.2),
        ("mlu_machine_mlu_nums", &[("type", "mlu370")], 2.0),
    ] {
        assert_eq!(value(name, labels), Some(expected), "{name} {labels:?}");
    }
    // What did not happen is not there.
    assert_eq!(value("mlu_last_xid_error", &[("mlu", "0")]), None);
}

/// What a parser that knows nothing of the program reads: the value of the metric of a name that has these labels. Every family has a head of
/// its own and no other, and no value stands there twice.
fn scraped(body: &str) -> impl Fn(&str, &[(&str, &str)]) -> Option<f64> + '_ {
    use nom_openmetrics::{parser, MetricDescriptor, MetricType};
    let (rest, families) = parser::prometheus(body).unwrap();
    assert_eq!(rest, "");
    let mut names = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    for family in &families {
        let name = family.samples[0].name().to_owned();
        let [MetricDescriptor::Help { metric, help }, MetricDescriptor::Type {
            metric: typed,
            r#type,
        }] = &family.descriptors[..]
        else {
            panic!("{name}: {:?}", family.descriptors);
        };
        assert!(
            *metric == name && *typed == name && !help.is_empty(),
            "{name}"
        );
        assert!(
            matches!(r#type, MetricType::Counter | MetricType::Gauge),
            "{name}"
        );
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels().iter().map(|l| (l.name, &l.value)).collect();
            assert!(
                sample.name() == name && sample.number().is_finite(),
                "{sample:?}"
            );
            assert!(seen.insert(format!("{name} {labels:?}")), "{sample:?}");
        }
        assert!(names.insert(name));
    }
    move |name, wanted| {
        let samples = families.iter().flat_map(|family| &family.samples);
        let has = |labels: &[nom_openmetrics::Label<'_>]| {
            wanted.iter().all(|(name, value)| {
                labels
                    .iter()
                    .any(|l| (l.name, &*l.value) == (*name, *value))
            })
        };
        let mut found = samples.filter(|s| s.name() == name && has(s.labels()));
        let value = found.next().map(|sample| sample.number());
        assert!(found.next().is_none(), "{name} {wanted:?}");
        value
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
    let work = |what: &str, holds: &dyn Fn(&Lab) -> bool| {
        lab.until(what, |lab| {
            for _ in 0..32 {
                queue
                    .matmul(&a, &b, &out, &MatmulOptions::default())
                    .unwrap();
            }
            let shown = holds(lab);
            queue.sync().unwrap();
            shown
        });
    };
    work("it is busy", &|lab| {
        lab.field("1", "utilization.mlu") > 50.0
    });
    work("it draws more", &|lab| {
        lab.field("1", "power.draw") > idle[6] + 5.0
    });
    work("it warms up", &|lab| {
        lab.field("1", "temperature.chip") > heat
    });
    // A cap on the power holds the clock down.
    lab.say(&["set", "-c", "1", "--power-cap", "130"]);
    work("the cap lowers the clock", &|lab| {
        lab.field("1", "clocks.mlu") < 1000.0
    });
    work("it says why", &|lab| {
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
