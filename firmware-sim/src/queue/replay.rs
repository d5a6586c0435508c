//! A graph that a queue runs: one packet of the queue, many commands. It is run in slices, so that quantum and priorities hold as between
//! packets; where it stands is kept in the queue's cursor.

use std::sync::Arc;

use vmlu_abi::packet::{op, PacketHeader};
use vmlu_abi::{Status, Wire};

use super::command::{self, Command, Input, Outcome};
use super::step::Step;
use super::{Cursor, Queue};
use crate::graph::{in_command, Image};
use crate::kernels::env::Fault;

/// Empty commands that count as one slice: a few hundred nanoseconds.
const SLICE: u32 = 256;
/// Empty commands that one notifier counts for.
const NOTIFY_SHARE: u32 = 16;

/// Where a graph stands. Its buffers are kept from launch to launch.
#[derive(Default)]
pub(super) struct Replay {
    /// `None` while no graph runs.
    image: Option<Arc<Image>>,
    parameters: Vec<u64>,
    /// Index of the next command.
    next: usize,
    /// The body of the command that runs, if it has parameters.
    scratch: Vec<u8>,
}

impl Replay {
    /// Whether a graph runs.
    pub(super) fn is_running(&self) -> bool {
        self.image.is_some()
    }

    /// Begins a graph with the parameters that stand in a packet.
    pub(super) fn begin(&mut self, image: Arc<Image>, parameters: &[u8]) -> Result<(), Fault> {
        self.parameters.clear();
        self.parameters
            .extend(parameters.chunks_exact(8).filter_map(u64::read_from));
        image.check(&self.parameters)?;
        self.next = 0;
        self.image = Some(image);
        Ok(())
    }
}

impl Queue {
    /// Runs a part of the graph that the packet at the cursor has begun.
    pub(super) fn replay(self: &Arc<Self>, cursor: &mut Cursor) -> Step {
        let Some(image) = cursor.replay.image.take() else {
            return Step::Done { long: false };
        };
        // Nothing of the launch is fetched again: its head stands in the private copy.
        let launch = PacketHeader::read_from(&cursor.packet[..]).unwrap_or_else(Wire::zeroed);
        match self.run_slice(cursor, &image) {
            Ok(false) => {
                cursor.replay.image = Some(image);
                return Step::Done { long: true };
            }
            Ok(true) => self.completed(),
            Err(fault) => {
                let index = cursor.replay.next;
                let header = image
                    .commands()
                    .get(index)
                    .map_or(launch, |c| PacketHeader {
                        opcode: c.opcode,
                        correlation: c.correlation,
                        ..launch
                    });
                let fault = in_command(index as u32, fault);
                if !self.faulted(cursor.consumed, &header, &fault) {
                    return Step::Stopped;
                }
            }
        }
        drop(image);
        let timeline = self.advance(cursor, u64::from(launch.units));
        self.publish(cursor, timeline);
        Step::Done { long: true }
    }

    /// Runs some commands: up to one that may have taken a while, or [`SLICE`] empty ones. `true` after the last.
    fn run_slice(self: &Arc<Self>, cursor: &mut Cursor, image: &Image) -> Result<bool, Fault> {
        let empty_ns = self.core.hardware.model.launch_ns;
        let armed = self.core.injector.is_armed();
        let Cursor {
            replay, busy_ns, ..
        } = cursor;
        let mut device_ns = 0;
        let mut quick = 0;
        let result = loop {
            let Some(command) = image.commands().get(replay.next) else {
                break Ok(true);
            };
            if quick >= SLICE {
                break Ok(false);
            }
            if command.opcode == op::NOP && !armed {
                device_ns += empty_ns;
                quick += 1;
                replay.next += 1;
                continue;
            }
            // Clock and busy time are brought up to date before whatever may look at them.
            self.pass(busy_ns, &mut device_ns);
            let input = Input {
                opcode: command.opcode,
                kernel: command.kernel,
                body: image.body(command, &replay.parameters, &mut replay.scratch),
                busy_ns: *busy_ns,
                waited: false,
            };
            let env = Command::new(self, command.opcode);
            match command::execute(self, &env, &input, None) {
                Ok(Outcome::Done { device_ns: took }) => device_ns += took,
                Ok(_) => break Err(Fault::new(Status::Internal, "not a command of a graph")),
                Err(fault) => break Err(fault),
            }
            replay.next += 1;
            quick += if command.opcode == op::NOTIFY {
                NOTIFY_SHARE
            } else {
                SLICE
            };
        };
        self.pass(busy_ns, &mut device_ns);
        result
    }

    /// Lets device time pass.
    fn pass(&self, busy_ns: &mut u64, device_ns: &mut u64) {
        if *device_ns > 0 {
            *busy_ns = busy_ns.wrapping_add(*device_ns);
            self.core.clock.advance(*device_ns);
            *device_ns = 0;
        }
    }
}
