//! A program that does on a card exactly what it is told, so that what monitors show can be compared with it.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use vmlu::operators::MatmulOptions;
use vmlu::peer::MemoryHandle;
use vmlu::transport::Transport;
use vmlu::{Buffer, Context, DataType, Queue, Tensor};

const MIB: u64 = 1 << 20;
/// Rows and columns of the matrices that work multiplies: a product takes long for a card, and not long for who waits for it.
const SIDE: u64 = 512;

/// What the program has on its card.
struct Load<'a> {
    card: &'a dyn Transport,
    queue: Queue,
    kept: Vec<Buffer>,
}

impl Load<'_> {
    /// Does what a line says; what is to be answered.
    fn command(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>()?;
        match (name, &numbers[..]) {
            ("memory", [mib]) => self.kept.push(self.queue.context().alloc(mib * MIB)?),
            ("write", [mib]) => {
                let to = self.queue.context().alloc(mib * MIB)?;
                self.queue.write(&to, 0, &vec![1; (mib * MIB) as usize])?;
                self.queue.sync()?;
            }
            ("read", [mib]) => {
                let from = self.queue.context().alloc(mib * MIB)?;
                let mut bytes = vec![0; (mib * MIB) as usize];
                self.queue.read(&from, 0, &mut bytes)?;
            }
            ("peer", [device, mib]) => self.to_peer(u32::try_from(*device)?, mib * MIB)?,
            ("work", [ms]) => return self.work(Duration::from_millis(*ms)),
            _ => return Err(format!("{line:?} is no command").into()),
        }
        Ok("done".into())
    }

    /// Copies that many bytes into the memory of another chip.
    fn to_peer(&self, device: u32, bytes: u64) -> Result<(), Box<dyn Error>> {
        let context = self.queue.context();
        let theirs = Context::open_on(self.card, device)?;
        let remote = theirs.alloc(bytes)?;
        let handle = MemoryHandle::from_bytes(remote.export()?.to_bytes());
        let (from, to) = (context.alloc(bytes)?, context.import_memory(&handle, true)?);
        self.queue.copy(to.address(), from.address(), bytes)?;
        self.queue.sync()?;
        Ok(())
    }

    /// Keeps the card at work for that long; answers how many products that were.
    fn work(&self, time: Duration) -> Result<String, Box<dyn Error>> {
        let matrix = || Tensor::zeros(&self.queue, DataType::F32, &[SIDE, SIDE]);
        let (a, b, out) = (matrix()?, matrix()?, matrix()?);
        let end = Instant::now() + time;
        let mut products = 0u64;
        while Instant::now() < end {
            // The next products wait while the last of these run.
            for _ in 0..4 {
                self.queue.matmul(&a, &b, &out, &MatmulOptions::default())?;
            }
            products += 4;
            self.queue.wait(self.queue.submitted() - 2)?;
        }
        self.queue.sync()?;
        Ok(format!("{products} products"))
    }
}

/// Opens a context on a chip, says `ready`, and does what the lines of its input say, one answer a line, until they end: `memory MIB`
/// allocates and keeps, `write MIB` and `read MIB` copy from the host and to it, `peer CHIP MIB` copies into another chip's memory, `work MS`
/// computes.
///
/// # Errors
///
/// If the chip cannot be opened, or a command cannot be done.
pub fn run(card: &dyn Transport, device: u32) -> Result<(), Box<dyn Error>> {
    let queue = Context::open_on(card, device)?.queue()?;
    let mut load = Load {
        card,
        queue,
        kept: Vec::new(),
    };
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let answer = load.command(&line?)?;
        writeln!(out, "{answer}")?;
    }
    Ok(())
}
