//! What a call may answer, by the document.

use std::collections::HashMap;

use vmlu::abi::ioctl as abi;

/// Every call of the interface.
pub const CALLS: &[(&str, u32)] = &[
    ("INFO", abi::INFO),
    ("COUNT", abi::COUNT),
    ("TELEMETRY", abi::TELEMETRY),
    ("PROCESSES", abi::PROCESSES),
    ("INJECT", abi::INJECT),
    ("SUBSCRIBE", abi::SUBSCRIBE),
    ("LINK_PORTS", abi::LINK_PORTS),
    ("LINK_CONTROL", abi::LINK_CONTROL),
    ("PEER_PATH", abi::PEER_PATH),
    ("FIRMWARE", abi::FIRMWARE),
    ("MEM_ALLOC", abi::MEM_ALLOC),
    ("MEM_FREE", abi::MEM_FREE),
    ("HOST_ALLOC", abi::HOST_ALLOC),
    ("HOST_FREE", abi::HOST_FREE),
    ("HOST_REGISTER", abi::HOST_REGISTER),
    ("DMABUF_EXPORT", abi::DMABUF_EXPORT),
    ("DMABUF_IMPORT", abi::DMABUF_IMPORT),
    ("MEM_MAP", abi::MEM_MAP),
    ("NOTIFIER_POOL", abi::NOTIFIER_POOL),
    ("MEM_EXPORT", abi::MEM_EXPORT),
    ("MEM_IMPORT", abi::MEM_IMPORT),
    ("QUEUE_CREATE", abi::QUEUE_CREATE),
    ("QUEUE_DESTROY", abi::QUEUE_DESTROY),
    ("QUEUE_WAIT", abi::QUEUE_WAIT),
    ("QUEUE_ERROR", abi::QUEUE_ERROR),
    ("QUEUE_ARM", abi::QUEUE_ARM),
    ("GRAPH_CREATE", abi::GRAPH_CREATE),
    ("GRAPH_DESTROY", abi::GRAPH_DESTROY),
    ("GRAPH_UPDATE", abi::GRAPH_UPDATE),
    ("TIMELINE_EXPORT", abi::TIMELINE_EXPORT),
    ("TIMELINE_IMPORT", abi::TIMELINE_IMPORT),
    ("TIMELINE_RELEASE", abi::TIMELINE_RELEASE),
    ("TIMELINE_READ", abi::TIMELINE_READ),
];

/// Errors of all calls that are due to their surroundings.
const EVERYWHERE: &[i32] = &[libc::ENOMEM];

const NAMES: &[(&str, i32)] = &[
    ("EACCES", libc::EACCES),
    ("EBADF", libc::EBADF),
    ("EBUSY", libc::EBUSY),
    ("EDQUOT", libc::EDQUOT),
    ("EEXIST", libc::EEXIST),
    ("EFAULT", libc::EFAULT),
    ("EIDRM", libc::EIDRM),
    ("EILSEQ", libc::EILSEQ),
    ("EINTR", libc::EINTR),
    ("EINVAL", libc::EINVAL),
    ("EMFILE", libc::EMFILE),
    ("ENODEV", libc::ENODEV),
    ("ENOENT", libc::ENOENT),
    ("ENOMEM", libc::ENOMEM),
    ("ENOSPC", libc::ENOSPC),
    ("EOPNOTSUPP", libc::EOPNOTSUPP),
    ("EPERM", libc::EPERM),
    ("EPROTO", libc::EPROTO),
    ("ETIME", libc::ETIME),
];

/// What each call may answer, by its number.
pub struct Documented(HashMap<u32, Vec<i32>>);

impl Documented {
    /// Reads the table of `docs/uapi.md`, section 15.
    ///
    /// # Panics
    ///
    /// If a call has no row there, or a row an unknown error.
    pub fn read() -> Self {
        let document = include_str!("../../../docs/uapi.md");
        let section = document
            .split("\n## 15.")
            .nth(1)
            .expect("there is a section 15");
        let mut rows = HashMap::new();
        for line in section.lines().take_while(|line| !line.starts_with("## ")) {
            let mut words = line.split('`').skip(1).step_by(2);
            let Some(name) = words.next().filter(|_| line.starts_with("| `")) else {
                continue;
            };
            let errors = words.filter(|word| is_error(word)).map(number).collect();
            rows.insert(name, errors);
        }
        let calls = CALLS.iter().map(|&(name, number)| {
            let errors = rows.remove(name);
            (
                number,
                errors.unwrap_or_else(|| panic!("{name} has no row")),
            )
        });
        Self(calls.collect())
    }

    /// Whether the call with this number may answer so, when nothing is wrong with its pointer.
    pub fn allows(&self, call: u32, error: i32) -> bool {
        match self.0.get(&call) {
            Some(errors) => errors.contains(&error) || EVERYWHERE.contains(&error),
            None => error == libc::ENOTTY,
        }
    }
}

/// Names of errors are in capitals, begin with an E, and are no names of calls.
fn is_error(word: &str) -> bool {
    word.starts_with('E') && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn number(name: &str) -> i32 {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("{name} is not known here"))
        .1
}

/// Name of the call with a number.
pub fn name(call: u32) -> &'static str {
    let found = CALLS.iter().find(|(_, number)| *number == call);
    found.map_or("?", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_errors() {
        let documented = Documented::read();
        assert!(documented.allows(abi::MEM_ALLOC, libc::EEXIST));
        assert!(!documented.allows(abi::MEM_ALLOC, libc::ENOENT));
        assert!(!documented.allows(abi::COUNT, libc::EINVAL));
        assert!(documented.allows(0, libc::ENOTTY));
    }

    /// Each call, by the numbers that the description for syzkaller has, on the node that it says.
    #[test]
    fn syzkaller_has_every_call() {
        let description = include_str!("../../../driver/tests/syzkaller/dev_mlu.txt");
        let mut described = HashMap::new();
        for line in description
            .lines()
            .filter_map(|line| line.strip_prefix("ioctl$MLU"))
        {
            let (name, rest) = line.split_once('(').expect("arguments");
            let name = name.trim_start_matches("CTL").trim_start_matches('_');
            let number = rest
                .split("const[0x")
                .nth(1)
                .and_then(|rest| rest.split(']').next());
            let number =
                u32::from_str_radix(number.expect("a number"), 16).expect("in hexadecimal");
            let earlier = described.insert(name, number);
            assert!(
                earlier.is_none_or(|earlier| earlier == number),
                "{name} has two numbers"
            );
        }
        let calls: HashMap<_, _> = CALLS.iter().copied().collect();
        assert_eq!(described, calls);
    }
}
