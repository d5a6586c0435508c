//! From the contexts that the firmware lists to the processes that people know.

use std::collections::BTreeMap;
use std::path::Path;

use vmlu_abi::rpc::Process;

use super::snapshot::ProcessUsage;

/// Adds up the contexts of each process, in order of process ids. `proc` is where procfs is mounted.
pub(super) fn by_process(contexts: &[Process], proc: &Path) -> Vec<ProcessUsage> {
    let mut processes = BTreeMap::new();
    for context in contexts {
        let entry = processes
            .entry(context.pid)
            .or_insert_with(|| ProcessUsage {
                pid: context.pid,
                uid: context.uid,
                command_line: command_line(context, proc),
                contexts: 0,
                queues: 0,
                memory_bytes: 0,
                host_memory_bytes: 0,
                busy_ns: 0,
                packets: 0,
            });
        entry.contexts += 1;
        entry.queues = entry.queues.saturating_add(context.queues);
        entry.memory_bytes = entry.memory_bytes.saturating_add(context.memory);
        entry.host_memory_bytes = entry.host_memory_bytes.saturating_add(context.host_memory);
        entry.busy_ns = entry.busy_ns.saturating_add(context.busy_ns);
        entry.packets = entry.packets.saturating_add(context.packets);
    }
    processes.into_values().collect()
}

/// The arguments of a process, or what it called itself when it opened the chip: it may have ended, or belong to somebody else.
fn command_line(context: &Process, proc: &Path) -> Vec<String> {
    let raw = std::fs::read(proc.join(context.pid.to_string()).join("cmdline")).unwrap_or_default();
    let arguments = split_zero_ended(&raw);
    if arguments.first().is_some_and(|program| !program.is_empty()) {
        return arguments;
    }
    split_zero_ended(&context.comm)
        .into_iter()
        .take(1)
        .filter(|comm| !comm.is_empty())
        .collect()
}

fn split_zero_ended(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|b| *b == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::Wire;

    fn context(pid: u32, memory: u64, name: &str) -> Process {
        let mut comm = [0; 32];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        Process {
            pid,
            memory,
            queues: 1,
            comm,
            ..Wire::zeroed()
        }
    }

    #[test]
    fn contexts_of_a_process_are_added_up() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        std::fs::write(
            proc.path().join("7/cmdline"),
            b"/usr/bin/python3\0train.py\0--lr\x000.1\0",
        )
        .unwrap();
        std::fs::create_dir(proc.path().join("9")).unwrap();
        std::fs::write(proc.path().join("9/cmdline"), b"").unwrap();
        let contexts = [
            context(9, 5, "kworker"),
            context(7, 1, "python3"),
            context(7, 2, "python3"),
            context(11, 3, "gone"),
            context(12, 0, ""),
        ];
        let processes = by_process(&contexts, proc.path());
        let seen: Vec<_> = processes
            .iter()
            .map(|p| (p.pid, p.program(), p.memory_bytes, p.contexts, p.queues))
            .collect();
        assert_eq!(
            seen,
            [
                (7, "/usr/bin/python3", 3, 2, 2),
                (9, "kworker", 5, 1, 1),
                (11, "gone", 3, 1, 1),
                (12, "", 0, 1, 1)
            ]
        );
        assert_eq!(
            processes[0].command_line,
            ["/usr/bin/python3", "train.py", "--lr", "0.1"]
        );
    }

    #[test]
    fn the_real_procfs_names_this_process() {
        let processes = by_process(&[context(std::process::id(), 0, "x")], Path::new("/proc"));
        let own: Vec<_> = std::env::args().collect();
        assert_eq!(processes[0].command_line, own);
    }
}
