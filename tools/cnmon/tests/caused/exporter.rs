//! `cnmon exporter` over HTTP, read by a parser that knows nothing of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use vmlu::{operators::MatmulOptions, DataType, Tensor};

use super::Lab;

/// The exporter, at a port that is free.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    fn start(lab: &Lab) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cnmon"))
            .args(["exporter", "--listen", "127.0.0.1:0"])
            .env("MLU_TRANSPORT", &lab.transport)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        let address = said.trim().trim_start_matches("http://");
        let address = address.trim_end_matches("/metrics").to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn metrics(&self) -> String {
        let text = self.get("/metrics");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_reads_over_http() {
    let lab = Lab::new();
    lab.say(&["inject", "link", "-c", "0", "-p", "0", "crc32", "-n", "6"]);
    lab.say(&["inject", "xid", "-c", "1", "9"]);
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    let context = vmlu::Context::open_on(&*transport, 1).unwrap();
    let _memory = context.alloc(64 << 20).unwrap();
    let own = std::process::id().to_string();
    let exporter = Exporter::start(&lab);
    let get = |path: &str| exporter.get(path);
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
fn what_happens_between_requests_is_seen() {
    let lab = Lab::new();
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    let context = vmlu::Context::open_on(&*transport, 1).unwrap();
    let queue = context.queue().unwrap();
    let buffer = context.alloc(64 << 20).unwrap();
    let matrix = || Tensor::zeros(&queue, DataType::F32, &[512, 512]).unwrap();
    let (a, b, out) = (matrix(), matrix(), matrix());
    queue.sync().unwrap();
    lab.say(&["inject", "xid", "-c", "1", "9"]);

    let exporter = Exporter::start(&lab);
    let first = exporter.metrics();
    let before = scraped(&first);
    let labels = [
        ("mlu", "1"),
        ("xid", "0x0000000000000009"),
        ("xid_base_10", "9"),
        ("xid_mlu_instance_id", "-1"),
    ];
    assert_eq!(before("mlu_xid_error_count", &labels), Some(1.0));
    assert_eq!(before("mlu_xid_error_count", &[("mlu", "0")]), None);
    // There are no rates before there is a past.
    assert_eq!(before("mlu_mpm_pcie_rx_bandwidth", &[("mlu", "1")]), None);

    lab.say(&["inject", "xid", "-c", "1", "9"]);
    lab.say(&["inject", "xid", "-c", "1", "5"]);
    queue.write(&buffer, 0, &vec![1; 48 << 20]).unwrap();
    queue.read(&buffer, 0, &mut vec![0; 16 << 20]).unwrap();
    for _ in 0..64 {
        let options = MatmulOptions::default();
        queue.matmul(&a, &b, &out, &options).unwrap();
    }
    queue.sync().unwrap();
    let second = exporter.metrics();
    let now = scraped(&second);
    assert_eq!(now("mlu_xid_error_count", &labels), Some(2.0));
    let other = [("mlu", "1"), ("xid_base_10", "5")];
    assert_eq!(now("mlu_xid_error_count", &other), Some(1.0));
    // Both rates are of the same time.
    let rate = |name: &str, card: &str| now(name, &[("mlu", card)]).unwrap();
    let (received, sent) = (
        rate("mlu_mpm_pcie_rx_bandwidth", "1"),
        rate("mlu_mpm_pcie_tx_bandwidth", "1"),
    );
    assert!(
        (received / sent - 3.0).abs() < 1e-6,
        "{received} {sent} MiB/s"
    );
    assert_eq!(rate("mlu_mpm_pcie_rx_bandwidth", "0"), 0.0);
    assert!(rate("mlu_mpm_ipu_utilization", "1") > 0.0);
    assert_eq!(rate("mlu_mpm_mlu_utilization", "0"), 0.0);
    // Its only process has all that the card is used.
    let own = std::process::id().to_string();
    let mine = [("mlu", "1"), ("pid", own.as_str())];
    let used = rate("mlu_utilization", "1");
    assert!(used > 0.0);
    assert_eq!(now("mlu_process_ipu_utilization", &mine), Some(used));
    let beats = ("mlu_heartbeat_count", [("mlu", "1")]);
    assert!(now(beats.0, &beats.1).unwrap() > before(beats.0, &beats.1).unwrap());
    // Nothing of it is true of the time after.
    let third = exporter.metrics();
    let later = scraped(&third);
    assert_eq!(
        later("mlu_mpm_pcie_rx_bandwidth", &[("mlu", "1")]),
        Some(0.0)
    );
    assert_eq!(later("mlu_xid_error_count", &labels), Some(2.0));
}

#[test]
fn what_crosses_links_and_who_is_at_their_ends_is_seen() {
    const MIB: u64 = 1 << 20;
    let lab = Lab::new();
    let transport = vmlu::transport::local::Local::open(lab.path().join("mlu")).unwrap();
    let near = vmlu::Context::open_on(&*transport, 0).unwrap();
    let far = vmlu::Context::open_on(&*transport, 1).unwrap();
    let owned = far.alloc(8 * MIB).unwrap();
    let mapped = near.import_memory(&owned.export().unwrap(), true).unwrap();
    let own = near.alloc(8 * MIB).unwrap();
    let exporter = Exporter::start(&lab);
    exporter.metrics();
    let queue = near.queue().unwrap();
    queue
        .copy(mapped.address(), own.address(), 8 * MIB)
        .unwrap();
    queue
        .copy(own.address(), mapped.address(), 2 * MIB)
        .unwrap();
    queue.sync().unwrap();
    let text = exporter.metrics();
    let value = scraped(&text);
    for (sends, port) in [("0", &[("link", "0")][..]), ("0", &[])] {
        let name = |way: &str| match port {
            [] => format!("mlu_mpm_mlulink_total_{way}_bandwidth"),
            _ => format!("mlu_mpm_mlulink_{way}_bandwidth"),
        };
        let labels = [&[("mlu", sends)], port].concat();
        let (tx, rx) = (
            value(&name("tx"), &labels).unwrap(),
            value(&name("rx"), &labels).unwrap(),
        );
        assert!((tx / rx - 4.0).abs() < 1e-6, "{port:?}: {tx} {rx} MiB/s");
    }
    // The other end is the other chip of the board.
    let uuid = |card: &str| {
        let text = lab.say(&["--query", "uuid", "--format", "csv,noheader", "-c", card]);
        text.trim().to_owned()
    };
    let serial = (u64::from(vmlu::abi::model::MLU370_X8.board_id) << 56 | 7).to_string();
    for (card, other) in [("0", "1"), ("1", "0")] {
        let uuid = uuid(other);
        let uuid = uuid.trim_start_matches("MLU-");
        let labels = [
            ("mlu", card),
            ("link", "0"),
            ("remote_slot_id", other),
            ("remote_port_id", "0"),
            ("remote_uuid", uuid),
            ("remote_mc_sn", &serial),
        ];
        assert_eq!(value("mlu_mlulink_remote_info", &labels), Some(1.0));
        let port = [("mlu", card), ("link", "0")];
        assert_eq!(value("mlu_mlulink_connect_type", &port), Some(0.0));
        // Nothing is plugged into the others.
        let port = [("mlu", card), ("link", "1")];
        assert_eq!(value("mlu_mlulink_connect_type", &port), None);
    }
    let version = [("mlu", "0"), ("compute_capability", "3.0")];
    assert_eq!(value("mlu_version", &version), Some(1.0));
    // There is no bus here.
    assert_eq!(value("mlu_pcie_info", &[("mlu", "0")]), None);
}
