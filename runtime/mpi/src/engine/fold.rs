//! Reductions: chunks go up the hosts, and come back.

use vmlu::abi::Wire;
use vmlu::collective::{Function, Memory};
use vmlu::ops::binary::{self, Binary};
use vmlu::ops::cast::Cast;
use vmlu::ops::combine::Combine;
use vmlu::ops::tensor::contiguous;
use vmlu::{DataType, Result};

use super::{chunks, pass, Chunk, Engine, Fold};
use crate::carrier::After;
use crate::lane::SLOTS;

/// F16 and BF16 go over as f32, so that they are rounded once, wherever a host ends.
fn wire(dtype: DataType) -> DataType {
    match dtype {
        DataType::F16 | DataType::Bf16 => DataType::F32,
        other => other,
    }
}

/// A number in a type, as the card has it.
fn number(n: u32, dtype: DataType) -> Vec<u8> {
    match dtype {
        DataType::F32 => (n as f32).to_le_bytes().to_vec(),
        DataType::F64 => f64::from(n).to_le_bytes().to_vec(),
        other => u64::from(n).to_le_bytes()[..other.size()].to_vec(),
    }
}

impl Engine {
    fn cast(&self, from: (&Memory, DataType), to: (&Memory, DataType), count: u64) -> Result<()> {
        let tensor =
            |(memory, dtype): (&Memory, DataType)| contiguous(dtype, memory.address(), &[count]);
        self.queue.submit(&Cast {
            x: tensor(from),
            out: tensor(to),
            ..Cast::zeroed()
        })?;
        Ok(())
    }

    /// `all[0] = f(all[0], all[1])`.
    fn combine(&self, all: [u64; 2], count: u64, dtype: DataType, f: Function) -> Result<()> {
        let mut combine = Combine {
            count,
            dtype: u32::from(dtype as u16),
            function: f as u32,
            input_count: 2,
            output_count: 1,
            ..Combine::zeroed()
        };
        combine.inputs[..2].copy_from_slice(&all);
        combine.outputs[0] = all[0];
        self.queue.submit(&combine)?;
        Ok(())
    }

    fn divide(&self, sum: &Memory, count: u64, dtype: DataType) -> Result<()> {
        let divisor = &self.room.divisor;
        self.queue
            .write(divisor, 0, &number(self.layout.size, dtype))?;
        let sum = contiguous(dtype, sum.address(), &[count]);
        self.queue.submit(&Binary {
            a: sum,
            b: contiguous(dtype, divisor.address(), &[1]),
            out: sum,
            function: binary::Function::Div as u32,
            ..Binary::zeroed()
        })?;
        Ok(())
    }

    /// Host by host, and back.
    pub(super) fn fold(&mut self, fold: &Fold) -> Result<()> {
        let size = wire(fold.dtype).size() as u64;
        let chunks = chunks(fold.count, size);
        let bytes = || chunks.iter().map(|(_, count)| count * size);
        if let Some(previous) = &mut self.previous {
            previous.from.expect(bytes());
        }
        if let Some(next) = &mut self.next {
            next.from.expect(bytes());
        }
        // As many chunks are on their way as it takes to go through all hosts and back, or as there are slots for.
        let lag = (2 * self.layout.hosts.len()).min(2 * SLOTS);
        for step in 0..chunks.len() + lag {
            if let Some(chunk) = chunks.get(step) {
                self.up(fold, *chunk)?;
            }
            if let Some(chunk) = step.checked_sub(lag).and_then(|i| chunks.get(i)) {
                self.back(fold, *chunk)?;
            }
        }
        Ok(())
    }

    /// Where a chunk's result goes: in the type that goes over, and in the end if that is another place.
    fn target(&self, fold: &Fold, (first, _): Chunk) -> (Memory, Option<Memory>) {
        let result = Memory::from(&self.room.result);
        let size = fold.dtype.size() as u64;
        let end = fold.receive.as_ref().map(|to| to.after(first * size));
        match end {
            Some(end) if wire(fold.dtype) == fold.dtype => (end, None),
            end => (result, end),
        }
    }

    /// A chunk is reduced with what comes from the host before, and goes on.
    fn up(&mut self, fold: &Fold, chunk: Chunk) -> Result<()> {
        let (first, count) = chunk;
        let dtype = wire(fold.dtype);
        let bytes = count * dtype.size() as u64;
        let function = match fold.function {
            Function::Average => Function::Sum,
            other => other,
        };
        let mut own = fold.send.after(first * fold.dtype.size() as u64);
        if dtype != fold.dtype {
            let wide = Memory::from(&self.room.own);
            self.cast((&own, fold.dtype), (&wide, dtype), count)?;
            own = wide;
        }
        if let Some(previous) = &mut self.previous {
            let before = Memory::from(&self.room.before);
            let arrived = previous.from.take()?;
            let copied = self
                .queue
                .copy(before.address(), arrived.address(), bytes)?;
            let after = vec![After::Command(self.queue.clone(), copied)];
            previous.from.done(arrived, after);
            self.combine([before.address(), own.address()], count, dtype, function)?;
            own = before;
        }
        let first_rank = self.is_first();
        if !self.layout.is_last_host() {
            let mut with = own;
            if let Some(comm) = &self.comm {
                let send = with;
                with = Memory::from(&self.room.with);
                let to = first_rank.then(|| with.clone());
                comm.reduce(send, to, (count, dtype), function, 0, &self.queue)?;
            }
            if let Some(next) = &mut self.next {
                next.to.send(&self.queue, with.address(), bytes)?;
            }
            return Ok(());
        }
        let (target, _) = self.target(fold, chunk);
        match &self.comm {
            // Not by an all-reduce, whose order may follow the fabric.
            Some(comm) => {
                let to = first_rank.then(|| target.clone());
                comm.reduce(own, to, (count, dtype), function, 0, &self.queue)?;
            }
            None => self.copy(&target, &own, bytes)?,
        }
        if first_rank && fold.function == Function::Average {
            self.divide(&target, count, dtype)?;
        }
        if let Some(previous) = &mut self.previous {
            previous.to.send(&self.queue, target.address(), bytes)?;
        }
        self.inside(fold, chunk)
    }

    /// A chunk's result comes from the host behind.
    fn back(&mut self, fold: &Fold, chunk: Chunk) -> Result<()> {
        if self.layout.is_last_host() {
            return Ok(());
        }
        let bytes = chunk.1 * wire(fold.dtype).size() as u64;
        let (target, _) = self.target(fold, chunk);
        if let Some(next) = &mut self.next {
            pass(
                &mut next.from,
                self.previous.as_mut().map(|p| &mut p.to),
                (&self.queue, &target, bytes),
            )?;
        }
        self.inside(fold, chunk)
    }

    /// The first rank's result is the others' too.
    fn inside(&self, fold: &Fold, chunk: Chunk) -> Result<()> {
        let (target, end) = self.target(fold, chunk);
        let dtype = wire(fold.dtype);
        if let Some(comm) = &self.comm {
            let from = self.is_first().then(|| target.clone());
            comm.broadcast(from, target.clone(), (chunk.1, dtype), 0, &self.queue)?;
        }
        match end {
            Some(end) => self.cast((&target, dtype), (&end, fold.dtype), chunk.1),
            None => Ok(()),
        }
    }
}
