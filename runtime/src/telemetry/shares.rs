//! How a chip's utilisation divides among its processes.

use std::collections::HashMap;

use super::snapshot::ProcessUsage;

/// Divides what a chip is used among its processes, as their commands ran since this was last asked.
#[derive(Debug, Default)]
pub struct Shares {
    /// Time for which the commands of each process had run, ns.
    ran: HashMap<u32, u64>,
}

impl Shares {
    /// The share of each process of the chip's utilisation, percent, in their order; the shares do not exceed the utilisation. The first
    /// time, and of a process that is new, all that it ever ran counts.
    pub fn of(&mut self, utilisation_percent: u32, processes: &[ProcessUsage]) -> Vec<u32> {
        let before = |pid| self.ran.get(&pid).copied().unwrap_or(0);
        let ran: Vec<u64> = processes
            .iter()
            .map(|process| process.busy_ns.saturating_sub(before(process.pid)))
            .collect();
        self.ran = processes.iter().map(|p| (p.pid, p.busy_ns)).collect();
        let sum: u128 = ran.iter().map(|ran| u128::from(*ran)).sum();
        let share = |ran: u64| u128::from(ran) * u128::from(utilisation_percent) / sum.max(1);
        ran.into_iter().map(|ran| share(ran) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, busy_ns: u64) -> ProcessUsage {
        ProcessUsage {
            pid,
            uid: 0,
            command_line: Vec::new(),
            contexts: 1,
            queues: 1,
            memory_bytes: 0,
            host_memory_bytes: 0,
            busy_ns,
            packets: 0,
        }
    }

    #[test]
    fn utilisation_is_divided_as_commands_ran() {
        let mut shares = Shares::default();
        assert_eq!(shares.of(80, &[process(1, 300), process(2, 100)]), [60, 20]);
        // Since then only the second one has run, and a third.
        let now = [process(1, 300), process(2, 200), process(3, 300)];
        assert_eq!(shares.of(100, &now), [0, 25, 75]);
        assert_eq!(shares.of(100, &now), [0, 0, 0]);
        // The number of a process that has ended may be given again.
        assert_eq!(shares.of(50, &[process(3, 100)]), [0]);
        assert_eq!(shares.of(50, &[process(3, 110)]), [50]);
        assert_eq!(shares.of(50, &[]), [0; 0]);
        assert_eq!(
            shares.of(100, &[process(4, u64::MAX), process(5, u64::MAX)]),
            [50, 50]
        );
    }
}
