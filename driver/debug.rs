// SPDX-License-Identifier: GPL-2.0

//! What debugfs shows of a chip: `/sys/kernel/debug/mlu/ADDRESS/`. See `docs/uapi.md`, section 13.

use kernel::{
    debugfs::{Dir, File, Writer},
    fmt,
    prelude::*,
    str::CString,
    sync::Arc,
};

use crate::{
    abi::{
        rpc::{self, Function, Process, SegmentKind, SegmentList, MAX_SEGMENTS},
        Wire,
    },
    attributes::text,
    card::Card,
    control::process_page,
    ext::pages::pinned_memory,
    rpc::Scope,
};

/// A file of the folder.
type Shown<T> = Pin<KBox<File<T>>>;

/// The files of a chip, until they are dropped. A kernel without debugfs does without.
pub(crate) struct Debug {
    _counters: Shown<Counters>,
    _queues: Shown<Queues>,
    _contexts: Shown<Contexts>,
    _segments: Shown<Segments>,
    _calls: Shown<Calls>,
}

impl Debug {
    /// Makes the chip's folder in `root`.
    pub(crate) fn new(root: &Dir, card: &Arc<Card>) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("{}", card.location()))?;
        let folder = root.subdir(&name);
        Ok(Self {
            _counters: file(&folder, c"counters", Counters(card.clone()))?,
            _queues: file(&folder, c"queues", Queues(card.clone()))?,
            _contexts: file(&folder, c"contexts", Contexts(card.clone()))?,
            _segments: file(&folder, c"segments", Segments(card.clone()))?,
            _calls: file(&folder, c"rpc", Calls(card.clone()))?,
        })
    }
}

fn file<T: Writer + Send + Sync + 'static>(
    folder: &Dir,
    name: &'static CStr,
    content: T,
) -> Result<Shown<T>> {
    KBox::pin_init(folder.read_only_file(name, content), GFP_KERNEL)
}

/// A name and a number a line.
struct Counters(Arc<Card>);

impl Writer for Counters {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0.counters, f)?;
        writeln!(f, "pinned_bytes {}", pinned_memory())
    }
}

/// A line a queue.
struct Queues(Arc<Card>);

impl Writer for Queues {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_queues(f)
    }
}

/// A line a context, as the firmware knows it.
struct Contexts(Arc<Card>);

impl Writer for Contexts {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut start = 0;
        loop {
            let (entries, total) = match process_page(&self.0, start) {
                Ok(page) => page,
                Err(e) => return writeln!(f, "the firmware does not tell: {e:?}"),
            };
            let mut count = 0;
            for bytes in entries.chunks_exact(core::mem::size_of::<Process>()) {
                count += 1;
                let Some(process) = Process::read_from(bytes) else {
                    continue;
                };
                writeln!(
                    f,
                    "{:#x} pid={} uid={} comm={} device_bytes={} host_bytes={} \
                     queues={} packets={} busy_ns={}",
                    process.context,
                    process.pid,
                    process.uid,
                    text(&process.comm),
                    process.memory,
                    process.host_memory,
                    process.queues,
                    process.packets,
                    process.busy_ns
                )?;
            }
            start += count;
            if count == 0 || start >= total {
                return Ok(());
            }
        }
    }
}

/// A line a segment of the address space of each context.
struct Segments(Arc<Card>);

impl Writer for Segments {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scopes = KVec::new();
        if self.0.context_scopes(&mut scopes).is_err() {
            return writeln!(f, "no memory");
        }
        for scope in scopes {
            let context = scope.handle();
            let mut from = 0;
            // A context that has ended meanwhile has no segments.
            while let Ok(page) = SegmentPage::ask(&self.0, scope, from) {
                for segment in page.entries() {
                    let kind = match SegmentKind::from_raw(segment.kind) {
                        Some(SegmentKind::Device) => "device",
                        Some(SegmentKind::Host) => "host",
                        Some(SegmentKind::Peer) => "peer",
                        None => "?",
                    };
                    let access = if segment.access & rpc::ACCESS_WRITE != 0 {
                        "rw"
                    } else {
                        "r"
                    };
                    writeln!(
                        f,
                        "{context:#x} {:#x} {:#x} {kind} {access} {}",
                        segment.va, segment.length, segment.allocation
                    )?;
                    from = segment.va.saturating_add(1);
                }
                if !page.more {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// One answer of the firmware about the segments of a context.
struct SegmentPage {
    bytes: KVec<u8>,
    more: bool,
}

impl SegmentPage {
    fn ask(card: &Card, scope: Scope, from: u64) -> Result<Self> {
        const HEAD: usize = core::mem::size_of::<SegmentList>();
        const ENTRY: usize = core::mem::size_of::<rpc::Segment>();
        let command = rpc::Segments { from };
        let mut bytes = KVec::with_capacity(MAX_SEGMENTS * ENTRY, GFP_KERNEL)?;
        let body = [command.as_bytes()];
        let more = card.call_with(Function::Segments, scope, &body, |body| {
            let list = SegmentList::read_from(body)?;
            let entries = &body[HEAD..];
            let count = list.count as usize;
            if count > MAX_SEGMENTS || entries.len() != count * ENTRY {
                return None;
            }
            bytes.extend_from_slice(entries, GFP_KERNEL).ok()?;
            // An empty page is the last one, whatever it says.
            Some(list.more != 0 && count > 0)
        })?;
        Ok(Self { bytes, more })
    }

    fn entries(&self) -> impl Iterator<Item = rpc::Segment> + '_ {
        self.bytes
            .chunks_exact(core::mem::size_of::<rpc::Segment>())
            .filter_map(rpc::Segment::read_from)
    }
}

/// The last calls of the firmware.
struct Calls(Arc<Card>);

impl Writer for Calls {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_calls(f)
    }
}
