//! Any calls in any order with any arguments: each ends with a code of the interface, and nothing else happens.

use proptest::prelude::*;
use vmlu_c_abi::{In, Out, Ptr};
use vmlu_cndrv as c;

/// Words that calls write to, and what earlier calls have left there: handles and addresses, good ones and stale ones.
struct World {
    words: Vec<u64>,
    host: Vec<u8>,
    numbers: [u64; 16],
    prop: c::AllocationProp,
    access: c::AccessDesc,
}

/// Bytes of the host memory that copies may touch.
const HOST: u64 = 8192;

impl World {
    fn new() -> Self {
        let location = c::Location { kind: 1, id: 0 };
        Self {
            words: vec![0; 24],
            host: vec![0; HOST as usize],
            numbers: [0; 16],
            prop: c::AllocationProp {
                kind: 1,
                handle_types: 0,
                location,
                compression: 0,
                security: 0,
            },
            access: c::AccessDesc {
                location,
                flags: 0,
                cache: 0,
                pinned: 0,
            },
        }
    }

    /// A place for a handle or address, or null.
    fn out<T: Copy>(&mut self, i: u64) -> Out<T> {
        let count = self.words.len();
        let place = match i as usize % (count + 1) {
            0 => std::ptr::null_mut(),
            i => (&raw mut self.words[i - 1]).cast(),
        };
        // SAFETY: null, or an element of the vector, which is not moved; handles and addresses are as large as it.
        unsafe { Out::new(place) }
    }

    /// A place for a number, or null: not where handles are, so that numbers do not become handles too often.
    fn number<T: Copy>(&mut self, i: u64) -> Out<T> {
        let place = match i % 9 {
            0 => std::ptr::null_mut(),
            _ => self.numbers.as_mut_ptr().cast(),
        };
        // SAFETY: null, or 128 bytes, which no number of these calls exceeds.
        unsafe { Out::new(place) }
    }

    fn prop(&mut self, i: u64) -> In<c::AllocationProp> {
        self.prop.location.id = (i % 3) as u32;
        let place = if i.is_multiple_of(11) {
            std::ptr::null()
        } else {
            &raw const self.prop
        };
        // SAFETY: null, or a field of this, which outlives the call.
        unsafe { In::new(place) }
    }

    fn access(&mut self, i: u64) -> In<c::AccessDesc> {
        self.access.location.id = (i % 3) as u32;
        self.access.flags = (i >> 2) as i32 % 3;
        // SAFETY: a field of this, which outlives the call; one element is asked for at most.
        unsafe { In::new(&raw const self.access) }
    }

    /// A handle, an address, or a small number.
    fn word(&self, i: u64) -> u64 {
        let word = self.words[(i >> 3) as usize % self.words.len()];
        match i % 8 {
            0 => 0,
            1 => i >> 3 & 3,
            2 => word.wrapping_add(16),
            3 => word.wrapping_add(4096),
            _ => word,
        }
    }

    fn pointer(&self, i: u64) -> Ptr {
        Ptr::at(self.word(i) as usize)
    }

    /// Host memory, or what is none.
    fn memory(&mut self, i: u64) -> Ptr {
        match i % 4 {
            0 => self.pointer(i >> 2),
            _ => Ptr(self.host.as_mut_ptr().cast()),
        }
    }
}

fn call(world: &mut World, which: u8, a: u64, b: u64, n: u64, k: i32) -> i32 {
    let (p, q) = (world.pointer(a), world.pointer(b));
    let (x, y) = (world.word(a), world.word(b));
    let small = n % (HOST + 1);
    match which % 56 {
        0 => c::cnMalloc(world.out(a), n),
        1 => c::cnZmalloc(world.out(a), small),
        2 => c::cnMallocConstant(world.out(a), small),
        3 => c::cnMallocNode(world.out(a), small, k),
        4 => c::cnFree(x),
        5 => c::cnMallocHost(world.out(a), small),
        6 => c::cnFreeHost(p),
        7 => c::cnMemcpy(x, y, small),
        8 => c::cnMemcpyHtoD(x, world.memory(b), small),
        9 => c::cnMemcpyDtoH(world.memory(a), y, small),
        10 => c::cnMemcpyDtoD(x, y, n),
        11 => c::cnMemcpyAsync_V2(x, y, small, world.pointer(n)),
        12 => c::cnMemcpyPeer(x, world.pointer(n), y, q, small),
        13 => c::cnMemcpy2D(x, small % 64, y, small % 48, n % 50, b % 40),
        14 => c::cnMemsetD8(x, k as u8, n),
        15 => c::cnMemsetD16(x, k as u16, small),
        16 => c::cnMemsetD32Async(x, k as u32, small, q),
        17 => c::cnCreateQueue(world.out(a), n as u32 % 2),
        18 => c::cnCreateQueueWithPriority(world.out(a), 0, k),
        19 => c::cnDestroyQueue(p),
        20 => c::cnQueueSync(p),
        21 => c::cnQueryQueue(p),
        22 => c::cnQueueGetContext(p, world.out(b)),
        23 => c::cnCreateNotifier(world.out(a), n as u32 % 20),
        24 => c::cnDestroyNotifier(p),
        25 => c::cnPlaceNotifier(p, q),
        26 => c::cnWaitNotifier(p),
        27 => c::cnQueryNotifier(p),
        28 => c::cnQueueWaitNotifier(p, q),
        29 => c::cnNotifierElapsedTime(world.number(n), p, q),
        30 => c::cnNotifierElapsedExecTime(world.number(n), p, q),
        31 => c::cnCtxCreate(world.out(a), n as u32 % 6, b % 3),
        32 => c::cnCtxDestroy(p),
        33 => c::cnCtxGetCurrent(world.out(a)),
        34 => c::cnCtxSetCurrent(p),
        35 => c::cnCtxGetDevice(world.number(a)),
        36 => c::cnCtxSync(),
        37 => c::cnSharedContextAcquire(world.out(a), b % 3),
        38 => c::cnSharedContextRelease(b % 3),
        39 => c::cnSharedContextReset(b % 3),
        40 => c::cnSharedContextGetState(b % 3, world.number(a), world.number(n)),
        41 => c::cnGetCtxConfigParam(p, k, world.number(b)),
        42 => c::cnSetCtxConfigParam(p, k, world.number(b)),
        43 => c::cnGetCtxMaxParallelUnionTasks(p, n as i32 % 70, world.number(b)),
        44 => c::cnDeviceGetAttribute(world.number(a), n as i32 % 0x500, b % 3),
        45 => c::cnMemGetInfo(world.number(a), world.number(a)),
        46 => c::cnMemGetAddressRange(world.number(a), world.number(b), x),
        47 => c::cnMemGetHandleForAddressRange(world.number(a), x, small as usize, 1, 0),
        48 => c::cnMemCreate(world.out(a), n, world.prop(b), 0),
        49 => c::cnMemRelease(x),
        50 => c::cnMemAddressReserve(world.out(a), n, b % 3 * 4096, 0, 0),
        51 => c::cnMemAddressFree(x, n),
        52 => c::cnMemMap(x, n, 0, y, 0),
        53 => c::cnMemSetAccess(x, n, world.access(b), 1),
        54 => c::cnMemUnmap(x, n),
        _ => c::cnMemRetainAllocationHandle(world.out(a), x),
    }
}

/// Sizes around what matters: nothing, granules, the device's memory, the most there is.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..70_000,
        Just(0),
        Just(0x20_0000),
        Just(0x20_0000),
        Just(0x6_0000_0000),
        Just(u64::MAX),
        any::<u64>()
    ]
}

/// Whether a number is one of `CNresult`: those that have a name.
fn is_code(code: i32) -> bool {
    let mut name = std::ptr::null();
    // SAFETY: a place of this frame.
    let place = unsafe { Out::new(&raw mut name) };
    c::cnGetErrorName(code, place) == 0
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
    fn any_calls_end_with_a_code(calls in prop::collection::vec((any::<u8>(), any::<u64>(), any::<u64>(), size(), -2..8i32), 1..120)) {
        let mut world = World::new();
        prop_assert_eq!(c::cnInit(0), 0);
        for (which, a, b, n, k) in calls {
            let code = call(&mut world, which, a, b, n, k);
            prop_assert!(is_code(code), "call {} gives {code}", which % 56);
        }
        // What the calls left is gone with its contexts.
        for word in world.words {
            let _ = c::cnCtxDestroy(Ptr::at(word as usize));
        }
        for device in 0..2 {
            prop_assert_eq!(c::cnSharedContextReset(device), 0);
        }
    }
}
