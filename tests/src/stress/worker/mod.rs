//! What one owner does: a context with queues, and random work on them.

mod commands;
mod slot;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use vmlu::abi::packet::op;
use vmlu::abi::Status;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, PinnedBuffer};

use super::record::Life;
use super::{Options, Random};
use commands::{Place, RANGE};
use slot::{Slot, STUCK};

type Error = Box<dyn std::error::Error>;

/// How a life ends: after so many steps, or earlier when told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Steps.
    pub steps: u64,
    /// Whether all queues are emptied first and every packet accounted for; else the context is dropped with everything in flight.
    pub well: bool,
}

/// CLOCK_MONOTONIC, so much later than now, ns.
fn deadline(after: Duration) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 + after.as_nanos() as u64
}

/// Handles and numbers of packets of queues, for the thread that waits.
type Targets = Mutex<Vec<(u64, u64)>>;

/// Lives one life.
///
/// # Errors
///
/// If the card does something that it must not do, or a queue stands still that nothing holds up.
pub fn live(
    transport: &dyn Transport,
    options: &Options,
    seed: u64,
    life: &Life,
    end: End,
    stop: &AtomicBool,
) -> Result<(), Error> {
    life.began.store(1, Ordering::SeqCst);
    let mut owner = Owner::new(transport, options, seed, life)?;
    let targets = Targets::default();
    let waits = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let context = owner.context.clone();
    let outcome = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_around(&context, &targets, &done, seed, &waits));
        let outcome = owner.run(end, stop, &targets);
        done.store(true, Ordering::SeqCst);
        let waited = waiter.join().map_err(|_| "the waiter panicked")?;
        outcome.and(waited.map_err(Error::from))
    });
    outcome?;
    if end.well {
        owner.settle()?;
        life.ended.store(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Waits for random values of random queues, asleep for the most part, as other threads of a program do.
fn wait_around(
    context: &Context,
    targets: &Targets,
    done: &AtomicBool,
    seed: u64,
    waits: &AtomicU64,
) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x5eed);
    while !done.load(Ordering::SeqCst) {
        let target = {
            let targets = targets.lock().unwrap_or_else(|e| e.into_inner());
            match targets.len() as u64 {
                0 => None,
                n => Some(targets[random.below(n) as usize]),
            }
        };
        let Some((queue, packets)) = target else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let value = packets + random.below(3);
        let limit = deadline(Duration::from_micros(random.below(20_000)));
        match context.channel().queue_wait(queue, value, limit) {
            Ok(progress) if progress.timeline < value && progress.error == 0 => {
                return Err(format!("a wait for {value} ended with {progress:?}"));
            }
            Ok(_) => _ = waits.fetch_add(1, Ordering::Relaxed),
            Err(error) => match error.status() {
                Status::Timeout | Status::QueueDestroyed | Status::BadHandle => {}
                _ => return Err(format!("a wait for {value}: {error}")),
            },
        }
    }
    Ok(())
}

/// Queues that wait for each other in a circle, until one of them is destroyed.
struct Circle {
    victim: usize,
    steps: u64,
}

struct Owner<'a> {
    slots: Vec<Slot>,
    memory: Vec<(Buffer, PinnedBuffer)>,
    circle: Option<Circle>,
    random: Random,
    life: &'a Life,
    context: Context,
}

impl<'a> Owner<'a> {
    fn new(
        transport: &dyn Transport,
        options: &Options,
        seed: u64,
        life: &'a Life,
    ) -> Result<Self, Error> {
        let context = Context::open_on(transport, options.device)?;
        let mut random = Random::new(seed);
        // The pool of notifiers comes with the first.
        let _ = context.notifier()?;
        let slots = (0..options.queues)
            .map(|_| Self::queue(&context, &mut random))
            .collect::<Result<_, _>>()?;
        let memory = (0..3)
            .map(|_| Ok((context.alloc(RANGE)?, context.alloc_pinned(RANGE)?)))
            .collect::<vmlu::Result<_>>()?;
        Ok(Self {
            slots,
            memory,
            circle: None,
            random,
            life,
            context,
        })
    }

    fn queue(context: &Context, random: &mut Random) -> vmlu::Result<Slot> {
        let units = 128 << random.below(4);
        let priority = [3, 3, 3, 0, 5, 7][random.below(6) as usize];
        Slot::new(context, units, priority)
    }

    fn place(&mut self) -> Place {
        let (device, host) = &self.memory[self.random.below(self.memory.len() as u64) as usize];
        Place {
            device: device.address(),
            host: host.address(),
        }
    }

    fn run(&mut self, end: End, stop: &AtomicBool, targets: &Targets) -> Result<(), Error> {
        let mut moved = (Instant::now(), self.progress());
        for step in 0_u64.. {
            if stop.load(Ordering::SeqCst) || step == end.steps {
                break;
            }
            self.step()?;
            if step % 64 == 0 {
                *targets.lock().unwrap_or_else(|e| e.into_inner()) = self
                    .slots
                    .iter()
                    .map(|s| (s.producer.handle(), s.producer.packets()))
                    .collect();
                let now = self.progress();
                if now != moved.1 {
                    moved = (Instant::now(), now);
                } else if moved.0.elapsed() > STUCK {
                    return Err(format!("no queue has moved for {STUCK:?}").into());
                }
            }
        }
        Ok(())
    }

    /// Something that changes whenever a queue moves.
    fn progress(&self) -> u64 {
        let sum = self.slots.iter().map(|s| s.producer.timeline());
        sum.fold(
            self.life.submitted.load(Ordering::SeqCst),
            u64::wrapping_add,
        )
    }

    fn step(&mut self) -> Result<(), Error> {
        if let Some(circle) = &mut self.circle {
            circle.steps = circle.steps.saturating_sub(1);
            if circle.steps == 0 {
                self.break_circle()?;
            }
        }
        let at = self.random.below(self.slots.len() as u64) as usize;
        let place = self.place();
        let (slot, random, life) = (&mut self.slots[at], &mut self.random, self.life);
        if slot.producer.error() != 0 && random.once_in(4) {
            match slot.damaged {
                true => self.replace(at)?,
                false => slot.clear(&self.context, life)?,
            }
            return Ok(());
        }
        match random.below(1000) {
            0..400 => {
                let count = 1 + random.below(24);
                let burst: Vec<_> = (0..count).map(|_| commands::good(random, &place)).collect();
                slot.submit(life, &burst, random.once_in(3));
            }
            400..650 => {
                let nops = vec![(op::NOP, Vec::new()); 1 + random.below(48) as usize];
                slot.submit(life, &nops, random.once_in(2));
            }
            650..780 => self.wait_for_other(at),
            780..820 => {
                let notify = commands::notify(random);
                slot.submit(life, &[notify], false);
            }
            820..850 => {
                let bad = commands::bad(random, &place);
                slot.submit(life, &[bad], false);
            }
            850..855 => slot.damage(),
            855..885 => self.replace(at)?,
            885..890 => self.circle(at),
            890..930 => {
                let (handle, value) = (slot.producer.handle(), slot.producer.packets());
                let limit = deadline(Duration::from_micros(random.below(3000)));
                match self.context.channel().queue_wait(handle, value, limit) {
                    Err(error) if error.status() != Status::Timeout => return Err(error.into()),
                    _ => {}
                }
            }
            930..935 => {
                let which = random.below(self.memory.len() as u64) as usize;
                // Under commands that use it, perhaps.
                self.memory.remove(which);
                let fresh = (
                    self.context.alloc(RANGE)?,
                    self.context.alloc_pinned(RANGE)?,
                );
                self.memory.push(fresh);
            }
            935..945 => std::thread::sleep(Duration::from_micros(random.below(3000))),
            _ => {}
        }
        Ok(())
    }

    /// Lets a queue wait for one before it, for a value that may be one to come.
    fn wait_for_other(&mut self, at: usize) {
        let other = self.random.below(at as u64 + 1) as usize;
        if other == at {
            return;
        }
        let packets = self.slots[other].producer.packets();
        let ahead = self.random.once_in(8) && !self.slots[other].damaged;
        let value = if ahead {
            packets + 1 + self.random.below(3)
        } else {
            self.random.below(packets + 1)
        };
        let wait = commands::wait(self.slots[other].producer.handle(), value);
        if self.slots[at].submit(self.life, &[wait], false) == 1 {
            let target = &mut self.slots[other];
            target.wanted = target.wanted.max(value);
        }
    }

    /// Makes two queues wait for each other.
    fn circle(&mut self, at: usize) {
        let other = self.random.below(self.slots.len() as u64) as usize;
        let free = |slot: &Slot| slot.producer.has_room(4) && !slot.damaged;
        if self.circle.is_some()
            || at == other
            || !free(&self.slots[at])
            || !free(&self.slots[other])
        {
            return;
        }
        let value = |slot: &Slot| slot.producer.packets() + 2;
        let values = [at, other].map(|i| value(&self.slots[i]));
        let nop = (op::NOP, Vec::new());
        for (i, of, value) in [(at, other, values[1]), (other, at, values[0])] {
            let wait = commands::wait(self.slots[of].producer.handle(), value);
            self.slots[i].submit(self.life, &[wait, nop.clone()], false);
        }
        self.circle = Some(Circle {
            victim: [at, other][self.random.below(2) as usize],
            steps: 1 + self.random.below(2000),
        });
    }

    fn break_circle(&mut self) -> Result<(), Error> {
        match self.circle.take() {
            Some(circle) => self.replace(circle.victim),
            None => Ok(()),
        }
    }

    /// Destroys a queue, whatever it has to do, and makes another in its place.
    fn replace(&mut self, at: usize) -> Result<(), Error> {
        let fresh = Self::queue(&self.context, &mut self.random)?;
        let old = std::mem::replace(&mut self.slots[at], fresh);
        old.destroy(&self.context, self.life)
    }

    /// Empties all queues, and destroys them.
    fn settle(mut self) -> Result<(), Error> {
        self.break_circle()?;
        // In ascending order: each waits only for those before it, and for no value that does not come.
        for i in 0..self.slots.len() {
            let slot = &mut self.slots[i];
            while !slot.damaged && slot.producer.packets() < slot.wanted {
                if slot.submit(self.life, &[(op::NOP, Vec::new())], false) == 0 {
                    slot.drain(&self.context)?;
                }
            }
            slot.drain(&self.context)?;
        }
        for slot in self.slots.drain(..) {
            let (timeline, packets) = (slot.producer.timeline(), slot.producer.packets());
            if timeline > packets || timeline < packets && !slot.damaged {
                return Err(format!("{packets} packets, and the timeline is at {timeline}").into());
            }
            slot.destroy(&self.context, self.life)?;
        }
        let read = |word: &AtomicU64| word.load(Ordering::SeqCst);
        let life = self.life;
        if read(&life.intended) != read(&life.submitted) {
            return Err("a packet was begun and not submitted".into());
        }
        Ok(())
    }
}
