//! A process of the fuzzer.

mod arguments;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};
use vmlu::abi::ioctl as abi;
use vmlu::abi::packet::{op, PacketHeader};
use vmlu::abi::rpc::{MemoryToken, TimelineToken};
use vmlu::abi::Wire;

use super::calls::{self, Documented};
use super::sys::{self, Mapping, Pointer, NOWHERE, ROOM};
use super::Error;
use crate::stress::Random;

/// Where the device addresses begin that are tried.
const BASE: u64 = 0x6000_0000_0000;
/// Bytes of one place for an allocation, of which there are [`PLACES`].
const PLACE: u64 = 4 << 20;
const PLACES: u64 = 8;
/// Bytes of the process's own memory that the card may use.
const ARENA: usize = 1 << 20;
/// Files of chips that are open at once.
const MOST_FILES: usize = 3;
/// Things of a kind that a file may have.
const MOST: usize = 12;
/// Entries of `PROCESSES` that are asked for at most: as many contexts as a chip can have.
const ENTRIES: usize = 1024;

/// An open chip, and what was made on it.
struct Chip {
    // In this order: a mapping keeps the file alive.
    maps: Vec<Mapping>,
    /// Offset and bytes of what can be mapped, and whether it may be written.
    areas: Vec<(u64, usize, bool)>,
    queues: Vec<abi::QueueCreate>,
    graphs: Vec<u64>,
    timelines: Vec<u64>,
    file: File,
}

struct Worker {
    random: Random,
    documented: Documented,
    chips: Vec<Chip>,
    control: File,
    event: OwnedFd,
    memory: Vec<MemoryToken>,
    dmabufs: Vec<OwnedFd>,
    timelines: Vec<TimelineToken>,
    /// Answers of `PROCESSES` and `FIRMWARE`.
    answer: Vec<u64>,
    /// Memory that the card may use.
    arena: Mapping,
    argument: Box<[u8; ROOM]>,
    /// Waits without an end are ended by signals.
    endless: bool,
    calls: u64,
}

/// Makes random calls for a while, or until there were `most`; returns how many.
///
/// # Errors
///
/// If a call answers something that the document does not name.
pub fn work(number: u64, seed: u64, duration: Duration, most: u64) -> Result<u64, Error> {
    let restart = number % 2 == 1;
    sys::take_signals(restart)?;
    let mut worker = Worker {
        random: Random::new(seed),
        documented: Documented::read(),
        chips: Vec::new(),
        control: sys::open(Path::new("/dev/mluctl"))?,
        event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        memory: Vec::new(),
        dmabufs: Vec::new(),
        timelines: Vec::new(),
        answer: vec![0; ENTRIES * 12],
        arena: Mapping::memory(ARENA)?,
        argument: Box::new([0; ROOM]),
        endless: !restart,
        calls: 0,
    };
    let end = Instant::now() + duration;
    while Instant::now() < end && worker.calls < most {
        for _ in 0..64 {
            worker.step()?;
        }
    }
    Ok(worker.calls)
}

impl Worker {
    fn step(&mut self) -> Result<(), Error> {
        if self.chips.is_empty() || self.chips.len() < MOST_FILES && self.random.once_in(64) {
            self.open()?;
        }
        let at = self.random.below(self.chips.len() as u64) as usize;
        match self.random.below(100) {
            0 if self.random.once_in(8) => drop(self.chips.swap_remove(at)),
            0..9 => self.map(at),
            9..14 => {
                let maps = &mut self.chips[at].maps;
                if !maps.is_empty() {
                    maps.swap_remove(self.random.below(maps.len() as u64) as usize);
                }
            }
            14..30 => self.touch(at),
            30..34 => {
                // Nothing there, or records: both are fine.
                let mut records = [0; 200];
                let length = self.random.below(200) as usize;
                let _ = (&self.chips[at].file).read(&mut records[..length]);
            }
            34..44 => self.ask_control()?,
            _ => self.ask_chip(at)?,
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Error> {
        let number = self.random.below(2);
        let path = format!("/dev/mlu{number}");
        let path = Path::new(&path);
        let path = if path.exists() {
            path
        } else {
            Path::new("/dev/mlu0")
        };
        let file = sys::open(path).map_err(|e| format!("open {}: {e}", path.display()))?;
        self.chips.push(Chip {
            maps: Vec::new(),
            areas: Vec::new(),
            queues: Vec::new(),
            graphs: Vec::new(),
            timelines: Vec::new(),
            file,
        });
        Ok(())
    }

    /// One of a list, or something else.
    fn pick(&mut self, from: &[u64]) -> u64 {
        if from.is_empty() || self.random.once_in(16) {
            return self.interesting();
        }
        from[self.random.below(from.len() as u64) as usize]
    }

    fn interesting(&mut self) -> u64 {
        let bit = self.random.below(64);
        let choice = [
            0,
            1,
            u64::MAX,
            1 << bit,
            (1 << bit) - 1,
            u64::MAX << bit,
            self.random.next(),
            BASE,
        ];
        choice[self.random.below(choice.len() as u64) as usize]
    }

    fn address(&mut self) -> u64 {
        let place = BASE + self.random.below(PLACES) * PLACE;
        if self.random.once_in(8) {
            place + self.random.below(PLACE / 4096) * 4096
        } else {
            place
        }
    }

    fn map(&mut self, at: usize) {
        let chip = &mut self.chips[at];
        if chip.maps.len() >= MOST || chip.areas.is_empty() {
            return;
        }
        let (mut offset, mut length, mut writable) =
            chip.areas[self.random.below(chip.areas.len() as u64) as usize];
        let mut private = false;
        match self.random.below(24) {
            0 => offset += 4096,
            1 => length += 4096,
            2 => offset = self.random.below(1 << 40) * 4096,
            3 => writable = true,
            4 => private = true,
            5 => length = 4096 * (1 + self.random.below(8) as usize),
            _ => {}
        }
        if let Ok(map) = Mapping::new(&chip.file, offset, length, writable, private) {
            chip.maps.push(map);
        }
    }

    /// Writes to a ring, a doorbell or memory, mostly what could be a packet.
    fn touch(&mut self, at: usize) {
        let Self { random, chips, .. } = self;
        let maps = &chips[at].maps;
        if maps.is_empty() {
            return;
        }
        let map = &maps[random.below(maps.len() as u64) as usize];
        for _ in 0..1 + random.below(4) {
            let at = random.below(map.words() as u64 / 8) as usize * 8;
            let header = PacketHeader {
                opcode: [op::NOP, op::FILL, op::COPY, op::WAIT, random.next() as u16]
                    [random.below(5) as usize],
                version: 1,
                units: random.mostly_below(2, 256) as u8,
                flags: 0,
                correlation: random.next(),
            };
            for (word, bytes) in header.as_bytes().chunks_exact(8).enumerate() {
                let value = bytes
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u64::from(*byte));
                map.touch(at + word, value);
            }
            map.touch(at + 2, BASE + random.below(PLACES) * PLACE);
            map.touch(at + 3, BASE + random.below(PLACES) * PLACE);
            map.touch(at + 4, random.mostly_below(1 << 16, 1 << 40));
        }
        // A doorbell, if this is one; a little ahead, or anywhere.
        let word = random.below(map.words() as u64) as usize;
        map.touch(word, random.mostly_below(64, u64::MAX >> 12));
    }

    fn ask_control(&mut self) -> Result<(), Error> {
        let (number, guarded) = self.control_call();
        let number = self.spoil(number, guarded);
        let pointer = self.pointer();
        let result = sys::ioctl(&self.control, number, &mut self.argument, pointer);
        self.judge(number, pointer, result)
    }

    fn ask_chip(&mut self, at: usize) -> Result<(), Error> {
        let (number, guarded) = self.chip_call(at);
        // No more of a kind than there is room for.
        let chip = &self.chips[at];
        let full = match number {
            abi::QUEUE_CREATE => chip.queues.len() >= MOST,
            abi::GRAPH_CREATE => chip.graphs.len() >= MOST,
            abi::TIMELINE_IMPORT => chip.timelines.len() >= MOST,
            _ => false,
        };
        if full {
            return Ok(());
        }
        let number = self.spoil(number, guarded);
        let pointer = self.pointer();
        let sent = u64::read_from(&self.argument[..]).unwrap_or_default();
        // What is destroyed or freed raises SIGBUS from then on.
        let chip = &mut self.chips[at];
        match number {
            abi::QUEUE_DESTROY => {
                if let Some(queue) = chip.queues.iter().find(|queue| queue.queue == sent) {
                    chip.areas.retain(|area| area.0 != queue.doorbell_offset);
                    chip.maps.clear();
                }
            }
            abi::MEM_FREE => chip.maps.clear(),
            _ => {}
        }
        let file = &self.chips[at].file;
        let result = match number {
            abi::DMABUF_EXPORT => {
                sys::export_dmabuf(file, &mut self.argument, pointer).map(|made| {
                    if let Some(fd) = made {
                        remember(&mut self.dmabufs, fd, &mut self.random);
                    }
                })
            }
            _ => sys::ioctl(file, number, &mut self.argument, pointer),
        };
        if result.is_ok() && pointer == Pointer::Right {
            self.learn(at, number, sent);
        }
        // The calls of the control node are unknown here.
        let is_foreign = matches!(
            number,
            abi::COUNT | abi::INJECT | abi::LINK_CONTROL | abi::FIRMWARE
        );
        self.judge(if is_foreign { 0 } else { number }, pointer, result)
    }

    /// Makes one thing wrong, now and then, but not in the bytes that are `guarded`; returns the number to use.
    fn spoil(&mut self, number: u32, guarded: std::ops::Range<usize>) -> u32 {
        let size = (number >> 16 & 0x3fff) as usize;
        match self.random.below(24) {
            0..4 => {
                let at = self.random.below(size as u64) as usize;
                if !guarded.contains(&at) {
                    self.argument[at] ^= 1 << self.random.below(8);
                }
                number
            }
            4..7 if size >= 8 => {
                let at = self.random.below(size as u64 / 8) as usize * 8;
                if guarded.is_empty() || at + 8 <= guarded.start || at >= guarded.end {
                    let value = self.interesting();
                    self.argument[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
                number
            }
            // Never one of the calls with an address inside, whose bytes would not be as they expect.
            7 => match self.random.below(3) {
                0 => number ^ 1 << 30,
                1 => number ^ 1 << (16 + self.random.below(14)),
                _ => number ^ 0x100,
            },
            _ => number,
        }
    }

    fn pointer(&mut self) -> Pointer {
        if self.random.once_in(32) {
            let at = self.random.below(NOWHERE.len() as u64);
            Pointer::Wrong(NOWHERE[at as usize])
        } else {
            Pointer::Right
        }
    }

    /// Whether the document allows the answer.
    fn judge(
        &mut self,
        number: u32,
        pointer: Pointer,
        result: Result<(), i32>,
    ) -> Result<(), Error> {
        self.calls += 1;
        let right = match result {
            Ok(()) => pointer == Pointer::Right,
            Err(libc::EFAULT) if pointer != Pointer::Right => true,
            Err(error) => self.documented.allows(number, error),
        };
        if right {
            return Ok(());
        }
        let bytes = &self.argument[..(number >> 16 & 0x3fff) as usize];
        let answer = match result {
            Ok(()) => "success".to_owned(),
            Err(error) => std::io::Error::from_raw_os_error(error).to_string(),
        };
        Err(format!(
            "{} ({number:#x}) at {pointer:?} answers {answer}; argument {bytes:02x?}",
            calls::name(number)
        )
        .into())
    }

    /// Remembers what was made, forgets what was destroyed. `sent` are the first bytes of what the call said.
    fn learn(&mut self, at: usize, number: u32, sent: u64) {
        let chip = &mut self.chips[at];
        let bytes = &self.argument[..];
        match number {
            abi::HOST_ALLOC => {
                if let Some(made) = abi::HostAlloc::read_from(bytes) {
                    chip.areas
                        .push((made.mmap_offset, made.length as usize, true));
                }
            }
            abi::MEM_MAP => {
                if let Some(made) = abi::MemMap::read_from(bytes) {
                    chip.areas
                        .push((made.mmap_offset, made.length as usize, true));
                }
            }
            abi::QUEUE_CREATE => {
                let Some(made) = abi::QueueCreate::read_from(bytes) else {
                    return;
                };
                chip.areas.extend([
                    (made.ring_offset, made.ring_units as usize * 64, true),
                    (made.status_offset, 4096, false),
                ]);
                chip.areas.extend([
                    (made.doorbell_offset, 4096, true),
                    (made.kick_offset, 4096, true),
                ]);
                chip.queues.push(made);
            }
            abi::QUEUE_DESTROY => chip.queues.retain(|queue| queue.queue != sent),
            abi::GRAPH_CREATE => chip.graphs.push(u64::read_from(bytes).unwrap_or_default()),
            abi::GRAPH_DESTROY => chip.graphs.retain(|graph| *graph != sent),
            abi::TIMELINE_IMPORT => {
                if let Some(made) = abi::TimelineImport::read_from(bytes) {
                    chip.timelines.push(made.timeline);
                }
            }
            abi::TIMELINE_RELEASE => chip.timelines.retain(|timeline| *timeline != sent),
            abi::TIMELINE_EXPORT => {
                if let Some(made) = abi::TimelineExport::read_from(bytes) {
                    remember(&mut self.timelines, made.token, &mut self.random);
                }
            }
            abi::MEM_EXPORT => {
                if let Some(made) = abi::MemExport::read_from(bytes) {
                    remember(&mut self.memory, made.token, &mut self.random);
                }
            }
            _ => {}
        }
        // The oldest that can be mapped are likely gone.
        if chip.areas.len() > 4 * MOST {
            chip.areas.drain(..MOST);
        }
    }
}

/// Adds to a list that stays short.
fn remember<T>(list: &mut Vec<T>, item: T, random: &mut Random) {
    if list.len() < MOST {
        list.push(item);
    } else {
        list[random.below(MOST as u64) as usize] = item;
    }
}
