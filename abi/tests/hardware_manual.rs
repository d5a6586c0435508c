//! `docs/hardware.md` says the same as the definitions: each name and number stands in it, in the row that is checked here.

use vmlu_abi::event::EventKind;
use vmlu_abi::link::PortState;
use vmlu_abi::packet::{self, op};
use vmlu_abi::regs::{self, CardState};
use vmlu_abi::rpc::{Fault, Function};
use vmlu_abi::status::Xid;
use vmlu_abi::tensor::DataType;
use vmlu_abi::{
    boot, event, graph, model, notifier, pci, queue, rpc, status, telemetry, tensor, Status,
};

const MANUAL: &str = include_str!("../../docs/hardware.md");

/// Fails, with all rows that are missing, unless each is the start of a line of the manual.
fn contains_rows(rows: impl IntoIterator<Item = String>) {
    let missing: Vec<String> = rows
        .into_iter()
        .filter(|row| !MANUAL.lines().any(|line| line.starts_with(row.as_str())))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/hardware.md lacks these rows:\n{}",
        missing.join("\n")
    );
}

/// The text of a section, by its number.
fn section(number: u32) -> &'static str {
    let from = MANUAL
        .find(&format!("\n## {number} "))
        .unwrap_or_else(|| panic!("docs/hardware.md has no section {number}"));
    let rest = &MANUAL[from + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// Fails unless a section says each of these, lines joined.
fn contains(number: u32, texts: &[String]) {
    let section = section(number)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for text in texts {
        assert!(
            section.contains(text.as_str()),
            "section {number} of docs/hardware.md does not say {text:?}"
        );
    }
}

/// A number as the manual writes it: 69,632.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn sections_are_those_that_the_code_cites() {
    let titles: Vec<&str> = MANUAL
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    assert_eq!(titles.len(), 16);
    for (i, title) in titles.iter().enumerate() {
        assert!(title.starts_with(&format!("## {} ", i + 1)), "{title}");
    }
    for title in [
        "### 7.1 Frame",
        "### 7.2 Opcodes",
        "### 7.3 Tensors",
        "### 7.4 Graphs",
    ] {
        assert!(section(7).contains(title));
    }
}

#[test]
fn status_table() {
    let errno = |number: i32| match number {
        0 => "0".to_owned(),
        1 => "1 EPERM".to_owned(),
        2 => "2 ENOENT".to_owned(),
        5 => "5 EIO".to_owned(),
        8 => "8 ENOEXEC".to_owned(),
        11 => "11 EAGAIN".to_owned(),
        12 => "12 ENOMEM".to_owned(),
        14 => "14 EFAULT".to_owned(),
        16 => "16 EBUSY".to_owned(),
        17 => "17 EEXIST".to_owned(),
        19 => "19 ENODEV".to_owned(),
        22 => "22 EINVAL".to_owned(),
        28 => "28 ENOSPC".to_owned(),
        43 => "43 EIDRM".to_owned(),
        67 => "67 ENOLINK".to_owned(),
        71 => "71 EPROTO".to_owned(),
        74 => "74 EBADMSG".to_owned(),
        77 => "77 EBADFD".to_owned(),
        84 => "84 EILSEQ".to_owned(),
        95 => "95 EOPNOTSUPP".to_owned(),
        110 => "110 ETIMEDOUT".to_owned(),
        125 => "125 ECANCELED".to_owned(),
        other => panic!("give errno {other} its name here"),
    };
    contains_rows(Status::ALL.iter().map(|s| {
        format!(
            "| {} | `{}` | {} | {} | {} |",
            s.raw(),
            s.name(),
            errno(s.errno()),
            s.cnrt(),
            s.text()
        )
    }));
}

#[test]
fn xids_and_what_is_reported_for_them() {
    use Xid::*;
    let all = [
        Software,
        Mcu,
        Ecc,
        Rpc,
        IllegalAccess,
        Crc,
        MluLink,
        Memory,
        OverTemperature,
        Halt,
    ];
    contains_rows(
        all.iter()
            .map(|xid| format!("| {} | `{xid:?}` |", *xid as u32)),
    );
    for status in Status::ALL {
        let row = format!("| {} | `{:?}` |", status.xid() as u32, status.xid());
        let line = MANUAL.lines().find(|l| l.starts_with(&row)).unwrap();
        let named = line.contains(&format!("`{}`", status.name()));
        assert_eq!(
            named,
            status.xid() != Software,
            "{line} should name the statuses of this xid: {}",
            status.name()
        );
    }
}

#[test]
fn registers_and_states() {
    macro_rules! rows {
        ($($name:ident),*) => { [ $( format!("| {:#05x} | `{}` |", regs::$name, stringify!($name)) ),* ] };
    }
    contains_rows(rows![
        ID,
        VERSION,
        MODEL,
        CHIP,
        SERIAL_LO,
        SERIAL_HI,
        MEMORY_LO,
        MEMORY_HI,
        CONTROL,
        STATUS,
        BOOT_ERROR,
        FW_ADDR_LO,
        FW_ADDR_HI,
        FW_LENGTH,
        RPC_ADDR_LO,
        RPC_ADDR_HI,
        BOOT,
        RPC_DOORBELL,
        SCRATCH
    ]);
    let states = (0..64)
        .filter_map(CardState::from_raw)
        .map(|s| format!("| {} | `{s:?}` |", s as u32));
    contains_rows(states);
    contains(
        3,
        &[
            format!("{:#x}", regs::ID_VALUE),
            format!("upper half ({})", regs::HW_VERSION >> 16),
        ],
    );
}

#[test]
fn messages_events_and_faults() {
    contains_rows(
        (0..1024)
            .filter_map(Function::from_raw)
            .map(|f| format!("| {} | `{f:?}` |", f as u16)),
    );
    contains_rows(
        (0..1024)
            .filter_map(EventKind::from_raw)
            .map(|k| format!("| {} | `{k:?}` |", k as u32)),
    );
    contains_rows(
        (0..1024)
            .filter_map(Fault::from_raw)
            .map(|f| format!("| {} | `{f:?}` |", f as u32)),
    );
    contains_rows(
        (0..64)
            .filter_map(PortState::from_raw)
            .map(|s| format!("| {} | `{s:?}` |", s as u32)),
    );
    contains(
        5,
        &[
            grouped(rpc::REGION_SIZE as u64),
            grouped(rpc::COMMANDS as u64),
            grouped(rpc::RESPONSES as u64),
            format!("({})", rpc::MAX_PIECES),
            format!("{} imports", grouped(queue::MAX_IMPORTS as u64)),
            format!("bit {} of such a handle", queue::IMPORTED.trailing_zeros()),
        ],
    );
    contains(
        9,
        &[
            format!(
                "{} to {}",
                event::MIN_ENTRIES,
                grouped(event::MAX_ENTRIES.into())
            ),
            format!("header of {} bytes", event::RING_ENTRIES),
        ],
    );
}

#[test]
fn packets_and_types() {
    macro_rules! opcodes {
        ($($name:ident),*) => { [ $( format!("| {:#06x} | `{}` |", op::$name, stringify!($name)) ),* ] };
    }
    contains_rows(opcodes![
        NOP,
        COPY,
        FILL,
        WRITE,
        COPY_STRIDED,
        WAIT,
        NOTIFY,
        GRAPH_LAUNCH
    ]);
    use packet::range::*;
    let ranges = [
        CONTROL, COPY, SYNC, OPERATOR, COLLECTIVE, LAUNCH, GRAPH, TRACE, TEST,
    ];
    contains_rows(
        ranges
            .iter()
            .map(|(first, last)| format!("| {first:#06x}–{last:#06x} |")),
    );
    contains_rows(
        DataType::ALL
            .iter()
            .map(|t| format!("| {} | `{t:?}` | {} |", *t as u16, t.size())),
    );
    contains(
        7,
        &[
            format!("up to {} bytes", grouped(packet::MAX_INLINE as u64)),
            format!("{} KiB long", packet::MAX_INDIRECT >> 10),
            format!("descriptors of {} bytes", size_of::<tensor::TensorDesc>()),
            format!("head of {} bytes", size_of::<graph::GraphHead>()),
            format!("relocations of {},", size_of::<graph::Relocation>()),
            format!("{:#x} (\"MLUG\")", graph::MAGIC),
            format!("up to {} MiB", graph::MAX_IMAGE >> 20),
            format!("up to {} |", graph::MAX_PARAMETERS),
            format!("{} graphs of a context", grouped(graph::MAX_GRAPHS as u64)),
            format!("{} MiB of images", graph::MAX_IMAGES >> 20),
        ],
    );
}

#[test]
fn queues_notifiers_and_structures() {
    let words = [
        (queue::STATUS_CONSUMED, "consumed"),
        (queue::STATUS_TIMELINE, "timeline"),
        (queue::STATUS_ERROR, "error"),
        (queue::STATUS_ASLEEP, "asleep"),
    ];
    contains_rows(words.map(|(offset, name)| format!("| {offset} | `{name}`, u")));
    contains(
        6,
        &[
            format!(
                "{} to {} units of {} bytes",
                queue::MIN_RING_UNITS,
                grouped(queue::MAX_RING_UNITS.into()),
                queue::UNIT
            ),
            format!(
                "Priority ({} to {}, {} by default)",
                queue::PRIORITY_LOW,
                queue::PRIORITY_HIGH,
                queue::PRIORITY_DEFAULT
            ),
        ],
    );
    contains(
        8,
        &[
            format!("entry of {} bytes", size_of::<notifier::Notifier>()),
            grouped(notifier::MAX_NOTIFIERS.into()),
        ],
    );
    contains(
        10,
        &[format!("({} bytes", size_of::<telemetry::Telemetry>())],
    );
    contains(
        11,
        &[
            format!("{} bytes, kept", size_of::<status::ErrorRecord>()),
            format!("{:#x} if none", status::NO_OPERAND),
        ],
    );
    contains(
        4,
        &[
            format!("header of {} bytes", size_of::<boot::ImageHeader>()),
            boot::IMAGE_NAME.to_owned(),
            format!("1 to {} MiB", boot::MAX_IMAGE >> 20),
        ],
    );
}

#[test]
fn models_and_bars() {
    let x8 = &model::MLU370_X8;
    contains(
        1,
        &[
            x8.name.to_owned(),
            format!("{:#010x}", x8.id),
            format!("{} GiB", x8.memory_bytes >> 30),
            format!("{} MiB of it", grouped(x8.memory_available >> 20)),
            format!("FP32 {},", x8.rates.f32 / 1_000_000_000_000),
            format!("INT8 {} TOPS", x8.rates.i8 / 1_000_000_000_000),
        ],
    );
    contains(
        2,
        &[
            format!("{:#x}, {:#06x}", pci::VENDOR_ID, x8.pci_device),
            format!("{:#x}", pci::CLASS_CODE),
            format!("BAR0 + {:#x}", pci::MSIX_TABLE),
            format!("{} contexts", grouped(pci::MAX_CONTEXTS.into())),
            format!("{} queues", grouped(pci::MAX_QUEUES.into())),
            format!("{} MiB", pci::BAR_REGS_SIZE >> 20),
            format!("{} GiB for the X8", x8.bar_memory_size() >> 30),
        ],
    );
}
