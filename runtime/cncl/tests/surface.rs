//! Any calls in any order with any arguments, by one rank that is a clique of its own: each ends with a code of the interface, and nothing else
//! happens.

use proptest::prelude::*;
use vmlu_c_abi::{In, Out, Ptr};
use vmlu_cncl as c;
use vmlu_cnrt as rt;

/// What earlier calls have left: handles and addresses, good ones and stale ones.
struct World {
    words: Vec<usize>,
    numbers: [i32; 64],
    pointers: [Ptr; 2],
    counts: [u32; 2],
}

impl World {
    fn out(&mut self, i: usize) -> Out<Ptr> {
        let count = self.words.len();
        let place = match i % (count + 1) {
            0 => std::ptr::null_mut(),
            i => (&raw mut self.words[i - 1]).cast(),
        };
        // SAFETY: null, or an element of the vector, which is not moved; it is as large as a pointer.
        unsafe { Out::new(place) }
    }

    fn number<T: Copy>(&mut self, i: usize) -> Out<T> {
        let place = match i % 5 {
            0 => std::ptr::null_mut(),
            _ => self.numbers.as_mut_ptr().cast(),
        };
        // SAFETY: null, or 256 bytes, which nothing that these calls write exceeds.
        unsafe { Out::new(place) }
    }

    fn pointer(&self, i: usize) -> Ptr {
        let word = self.words[(i >> 3) % self.words.len()];
        match i % 8 {
            0 => Ptr::NULL,
            1 => Ptr::at(i >> 3 & 3),
            2 => Ptr::at(word.wrapping_add(16)),
            _ => Ptr::at(word),
        }
    }
}

/// A list that a call reads one element of.
fn list<T: Copy>(of: &[T]) -> In<T> {
    // SAFETY: the list outlives the call, which reads as many elements as there are ranks: one.
    unsafe { In::new(of.as_ptr()) }
}

fn call(world: &mut World, which: u8, a: usize, b: usize, n: usize, k: i32) -> i32 {
    let (p, q, comm) = (world.pointer(a), world.pointer(b), world.pointer(a ^ b));
    let queue = world.pointer(n);
    let (dtype, op, root) = (n as i32 & 0x33, k, k.min(1));
    match which % 28 {
        0 | 1 => {
            let (devices, ranks) = ([k & 3], [(k == 5).into()]);
            // SAFETY: null.
            let id = unsafe { In::new(std::ptr::null()) };
            c::cnclInitComms(world.out(a), 1, list(&devices), list(&ranks), 1, id)
        }
        2 => c::cnclFreeComm(p),
        3 => c::cnclDestroyComms(list(&[p]), k & 1),
        4 => c::cnclAbortComm(comm),
        5 => c::cnclGetCommCount(world.number(b), comm),
        6 => c::cnclGetCommRank(world.number(b), comm),
        7 => c::cnclGetCommDevice(world.number(b), comm),
        8 => c::cnclGetCommAsyncError(comm),
        // Each identity has a thread of its own until it is used: not a thousand of them.
        // SAFETY: null.
        9 => c::cnclGetCliqueId(unsafe { Out::new(std::ptr::null_mut()) }),
        10 => c::cnclSetCommConfig(comm, list(&[c::Config { priority: k << 4 }])),
        11 => c::cnclBcast(p, n, dtype, root, comm, queue),
        12 => c::cnclBroadcast(p, q, n, dtype, root, comm, queue),
        13 => c::cnclAllGather(p, q, n, dtype, comm, queue),
        14 => c::cnclReduce(p, q, n, dtype, op, root, comm, queue),
        15 => c::cnclAllReduce(p, q, n, dtype, op, comm, queue),
        16 => c::cnclReduceScatter(p, q, n, dtype, op, comm, queue),
        17 => c::cnclAlltoAll(p, q, n, dtype, comm, queue),
        18 => {
            world.pointers = [p, q];
            world.counts = [n as u32, b as u32 % 64];
            let (send, receive) = (list(&world.pointers[..1]), list(&world.pointers[1..]));
            let (counts, types) = (list(&world.counts), list(&[dtype]));
            c::cnclAlltoAllv(send, counts, types, receive, counts, types, comm, queue)
        }
        19 => c::cnclSend(p, n, dtype, root, comm, queue),
        20 => c::cnclRecv(q, n, dtype, root, comm, queue),
        21 => c::cnclGroupStart(),
        22 => c::cnclGroupEnd(),
        23 => rt::cnrtMalloc(world.out(a), n % 4096),
        24 => rt::cnrtFree(p),
        25 => rt::cnrtQueueCreate(world.out(b)),
        26 => rt::cnrtQueueDestroy(q),
        _ => rt::cnrtSetDevice(k & 1),
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..64,
        0usize..5000,
        Just(0),
        Just(usize::MAX),
        any::<usize>()
    ]
}

/// So many cases; others with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { default.cases } else { 300 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_calls_end_with_a_code(calls in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>(), size(), -2..8i32), 1..120)) {
        let mut world = World { words: vec![0; 16], numbers: [0; 64], pointers: [Ptr::NULL; 2], counts: [0; 2] };
        for (which, a, b, n, k) in calls {
            let code = call(&mut world, which, a, b, n, k);
            let known = c::Code::ALL.contains(&c::Code(code)) || which % 28 >= 23;
            prop_assert!(known, "call {} gives {code:#x}", which % 28);
        }
        // No group stays open for the next case, and what the calls left is gone.
        while c::cnclGroupEnd() != c::Code::NOT_INIT.0 {}
        for word in world.words {
            let _ = c::cnclFreeComm(Ptr::at(word | usize::from(word == 0)));
        }
        for device in 0..2 {
            prop_assert_eq!(rt::cnrtSetDevice(device), 0);
            prop_assert_eq!(rt::cnrtDeviceReset(), 0);
        }
    }
}
