//! Calls that are nearly right.

use std::ops::Range;
use std::os::fd::AsRawFd;

use vmlu::abi::ioctl as abi;
use vmlu::abi::queue::FLAG_HOST_TIMELINE;
use vmlu::abi::rpc::{MemoryImport, MemoryToken, Peer, TimelineToken, ACCESS_READ, ACCESS_WRITE};
use vmlu::abi::Wire;

use super::{Worker, ARENA, ENTRIES, PLACE};
use crate::fuzz::calls::CALLS;

impl Worker {
    /// A call of the control node; the bytes of the argument that must stay as they are.
    pub(super) fn control_call(&mut self) -> (u32, Range<usize>) {
        let device = self.random.mostly_below(2, 1 << 32) as u32;
        match self.random.below(8) {
            0 => self.put(abi::COUNT, &abi::DeviceCount::zeroed()),
            1 => self.put(
                abi::INFO,
                &abi::DeviceInfo {
                    device,
                    ..Wire::zeroed()
                },
            ),
            2 => self.put(
                abi::TELEMETRY,
                &abi::TelemetryRead {
                    device,
                    ..Wire::zeroed()
                },
            ),
            3 => self.put_processes(device),
            4 => {
                let kinds = self.random.next() & 0b1110_1000;
                self.put(abi::SUBSCRIBE, &abi::Subscribe { kinds, flags: 0 })
            }
            5 => {
                let wanted = abi::FirmwareQuery {
                    device,
                    function: 40 + self.random.below(3) as u32,
                    address: self.answer.as_ptr() as u64,
                    room: 4096,
                    ..Wire::zeroed()
                };
                self.put(abi::FIRMWARE, &wanted);
                (abi::FIRMWARE, 24..36)
            }
            6 => self.put(abi::LINK_PORTS, &device),
            _ => {
                // What takes rights that nobody here has.
                let number = [abi::INJECT, abi::LINK_CONTROL][self.random.below(2) as usize];
                self.put(number, &self.random.clone().next())
            }
        }
    }

    /// A call of the file of a chip; the bytes of the argument that must stay as they are.
    pub(super) fn chip_call(&mut self, at: usize) -> (u32, Range<usize>) {
        let queues: Vec<u64> = self.chips[at]
            .queues
            .iter()
            .map(|queue| queue.queue)
            .collect();
        let (graphs, imported) = (
            self.chips[at].graphs.clone(),
            self.chips[at].timelines.clone(),
        );
        let access = 1 + self.random.below(3) as u32;
        let va = self.address();
        match CALLS[self.random.below(CALLS.len() as u64) as usize].1 {
            abi::PROCESSES => self.put_processes(0),
            abi::SUBSCRIBE => {
                let kinds = self.random.next() & 0b1110_1110;
                self.put(abi::SUBSCRIBE, &abi::Subscribe { kinds, flags: 0 })
            }
            abi::PEER_PATH => {
                let peer = Peer {
                    serial: self.interesting(),
                    chip: self.random.below(3) as u32,
                    reserved: 0,
                };
                self.put(
                    abi::PEER_PATH,
                    &abi::PeerPath {
                        peer,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::MEM_ALLOC => {
                let length = 1 + self.random.mostly_below(PLACE, 1 << 44);
                self.put(
                    abi::MEM_ALLOC,
                    &abi::MemAlloc {
                        va,
                        length,
                        ..Wire::zeroed()
                    },
                )
            }
            number @ (abi::MEM_FREE | abi::HOST_FREE) => {
                self.put(number, &abi::MemFree { va, flags: 0 })
            }
            abi::HOST_ALLOC => {
                let length = 4096 * (1 + self.random.mostly_below(PLACE / 4096, 1 << 32));
                self.put(
                    abi::HOST_ALLOC,
                    &abi::HostAlloc {
                        va,
                        length,
                        access,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::MEM_MAP => self.put(
                abi::MEM_MAP,
                &abi::MemMap {
                    va,
                    ..Wire::zeroed()
                },
            ),
            abi::HOST_REGISTER => {
                let pages = ARENA as u64 / 4096;
                let first = self.random.below(pages);
                let wanted = abi::HostRegister {
                    address: self.arena.address() as u64 + first * 4096,
                    length: (1 + self.random.below(pages - first)) * 4096,
                    va,
                    access,
                    ..Wire::zeroed()
                };
                self.put(abi::HOST_REGISTER, &wanted);
                // Nothing else of this process is for the card.
                (abi::HOST_REGISTER, 0..16)
            }
            abi::NOTIFIER_POOL => {
                let count = self.random.mostly_below(128, 1 << 32) as u32;
                self.put(
                    abi::NOTIFIER_POOL,
                    &abi::NotifierPool {
                        va,
                        count,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::MEM_EXPORT => self.put(
                abi::MEM_EXPORT,
                &abi::MemExport {
                    va,
                    ..Wire::zeroed()
                },
            ),
            abi::MEM_IMPORT => {
                let known = self.memory.len() as u64;
                let token = match known {
                    0 => MemoryToken::zeroed(),
                    _ => self.memory[self.random.below(known) as usize],
                };
                let import = MemoryImport {
                    va,
                    access: access & ACCESS_WRITE | ACCESS_READ,
                    token,
                    ..Wire::zeroed()
                };
                self.put(abi::MEM_IMPORT, &abi::MemImport { import })
            }
            abi::DMABUF_EXPORT => {
                let pages = 1 + self.random.mostly_below(PLACE / 4096, 1 << 40);
                let wanted = abi::DmabufExport {
                    va,
                    offset: self.random.mostly_below(2, 1 << 40) * 4096,
                    length: pages * 4096,
                    ..Wire::zeroed()
                };
                self.put(abi::DMABUF_EXPORT, &wanted)
            }
            abi::DMABUF_IMPORT => {
                let fd = match self.dmabufs.len() as u64 {
                    0 => -1,
                    count => self.dmabufs[self.random.below(count) as usize].as_raw_fd(),
                };
                let fd = [fd, fd, fd, self.event.as_raw_fd()][self.random.below(4) as usize];
                self.put(
                    abi::DMABUF_IMPORT,
                    &abi::DmabufImport {
                        va,
                        fd,
                        access,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::QUEUE_CREATE => {
                let host = self.random.once_in(4);
                let wanted = abi::QueueCreate {
                    ring_units: if host { 0 } else { 128 << self.random.below(4) },
                    priority: self.random.mostly_below(8, 1 << 32) as u32,
                    weight: 1 + self.random.mostly_below(1024, 1 << 31) as u32,
                    flags: if host { FLAG_HOST_TIMELINE as u32 } else { 0 },
                    ..Wire::zeroed()
                };
                self.put(abi::QUEUE_CREATE, &wanted)
            }
            abi::QUEUE_DESTROY => {
                let queue = self.pick(&queues);
                self.put(abi::QUEUE_DESTROY, &abi::QueueDestroy { queue, flags: 0 })
            }
            abi::QUEUE_WAIT => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
                let wanted = abi::QueueWait {
                    queue: self.pick(&queues),
                    value: self.random.mostly_below(4, u64::MAX >> 12),
                    deadline_ns: match self.random.below(4) {
                        0 if self.endless => u64::MAX,
                        1 => now + self.random.below(3_000_000),
                        _ => 0,
                    },
                    ..Wire::zeroed()
                };
                self.put(abi::QUEUE_WAIT, &wanted);
                // A spoilt deadline could be a century ahead.
                (abi::QUEUE_WAIT, if self.endless { 0..0 } else { 16..24 })
            }
            abi::QUEUE_ERROR => {
                let (queue, clear) = (self.pick(&queues), self.random.below(2) as u32);
                self.put(
                    abi::QUEUE_ERROR,
                    &abi::QueueErrorRead {
                        queue,
                        clear,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::QUEUE_ARM => {
                let wanted = abi::QueueArm {
                    queue: self.pick(&queues),
                    value: self.random.mostly_below(8, u64::MAX >> 12),
                    fd: [-1, self.event.as_raw_fd()][self.random.below(2) as usize],
                    data: self.random.next(),
                    ..Wire::zeroed()
                };
                self.put(abi::QUEUE_ARM, &wanted)
            }
            number @ (abi::GRAPH_CREATE | abi::GRAPH_UPDATE) => {
                let graph = if number == abi::GRAPH_CREATE {
                    0
                } else {
                    self.pick(&graphs)
                };
                let length = 32 + self.random.mostly_below(4096, 1 << 40);
                self.put(
                    number,
                    &abi::GraphImage {
                        graph,
                        address: va,
                        length,
                        flags: 0,
                    },
                )
            }
            abi::GRAPH_DESTROY => {
                let graph = self.pick(&graphs);
                self.put(abi::GRAPH_DESTROY, &abi::GraphDestroy { graph, flags: 0 })
            }
            abi::TIMELINE_EXPORT => {
                let queue = self.pick(&queues);
                self.put(
                    abi::TIMELINE_EXPORT,
                    &abi::TimelineExport {
                        queue,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::TIMELINE_IMPORT => {
                let known = self.timelines.len() as u64;
                let token = match known {
                    0 => TimelineToken::zeroed(),
                    _ => self.timelines[self.random.below(known) as usize],
                };
                self.put(
                    abi::TIMELINE_IMPORT,
                    &abi::TimelineImport {
                        token,
                        ..Wire::zeroed()
                    },
                )
            }
            abi::TIMELINE_RELEASE => {
                let timeline = self.pick(&imported);
                self.put(
                    abi::TIMELINE_RELEASE,
                    &abi::TimelineRelease { timeline, flags: 0 },
                )
            }
            abi::TIMELINE_READ => {
                let any = if self.random.once_in(2) {
                    imported
                } else {
                    queues
                };
                let timeline = self.pick(&any);
                self.put(
                    abi::TIMELINE_READ,
                    &abi::TimelineRead {
                        timeline,
                        ..Wire::zeroed()
                    },
                )
            }
            // Those without an input, and those of the other node.
            number => self.put(number, &0u64),
        }
    }

    /// Makes a structure the argument.
    fn put<T: Wire>(&mut self, number: u32, value: &T) -> (u32, Range<usize>) {
        self.argument[..2048].fill(0);
        value.write_to(&mut self.argument[..]);
        (number, 0..0)
    }

    fn put_processes(&mut self, device: u32) -> (u32, Range<usize>) {
        let wanted = abi::ProcessesRead {
            device,
            count: self.random.below(ENTRIES as u64) as u32,
            address: self.answer.as_ptr() as u64,
            ..Wire::zeroed()
        };
        self.put(abi::PROCESSES, &wanted);
        (abi::PROCESSES, 4..16)
    }
}
