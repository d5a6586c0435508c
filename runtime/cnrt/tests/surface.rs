//! Any calls in any order with any arguments: each ends with a code of the interface, and nothing else happens.

use proptest::prelude::*;
use vmlu_c_abi::{failure, In, Out, Ptr, Text};
use vmlu_cnrt as c;

/// Places that calls write to, and what earlier calls have left there: handles and addresses, good ones and stale ones.
struct World {
    words: Vec<usize>,
    host: Vec<u8>,
    text: [std::ffi::c_char; 64],
    access: c::AccessDesc,
}

/// How many calls there are to choose from.
const CALLS: u8 = 64;

/// A shape that a launch may have.
const DIM: c::Dim3 = c::Dim3 { x: 1, y: 1, z: 1 };

/// Bytes of the host memory that copies may touch.
const HOST: usize = 8192;

impl World {
    fn new() -> Self {
        Self {
            words: vec![0; 24],
            host: vec![0; HOST],
            text: [0; 64],
            access: c::AccessDesc {
                location: c::Location { kind: 1, id: 0 },
                flags: 0,
            },
        }
    }

    /// A place for a handle or address, or null.
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
        let place = self.out(i);
        let place = match place.is_null() {
            true => std::ptr::null_mut(),
            // A slot of its own, so that numbers do not become handles too often.
            false => self.text.as_mut_ptr().cast(),
        };
        // SAFETY: null, or 64 bytes, which no number of these calls exceeds.
        unsafe { Out::new(place) }
    }

    /// One node, or none.
    fn nodes(&mut self, i: usize) -> In<Ptr> {
        let place = match self.out(i).is_null() {
            true => std::ptr::null(),
            false => (&raw const self.words[i % self.words.len()]).cast(),
        };
        // SAFETY: null, or an element of the vector, as large as a pointer; one is asked for at most.
        unsafe { In::new(place) }
    }

    fn access(&mut self, i: usize) -> In<c::AccessDesc> {
        self.access.location.id = (i % 3) as u32;
        self.access.flags = (i >> 2) as i32 % 3;
        // SAFETY: a field of this, which outlives the call; one element is asked for at most.
        unsafe { In::new(&raw const self.access) }
    }

    /// A handle, an address, a small number, or host memory.
    fn pointer(&mut self, i: usize) -> Ptr {
        match i % 8 {
            0 => Ptr::NULL,
            1 => Ptr::at(i >> 3 & 3),
            2 => Ptr::at(self.words[(i >> 3) % self.words.len()].wrapping_add(16)),
            3 => Ptr(self.host.as_mut_ptr().cast()),
            _ => Ptr::at(self.words[(i >> 3) % self.words.len()]),
        }
    }
}

fn call(world: &mut World, which: u8, a: usize, b: usize, n: usize, k: i32) -> i32 {
    let (p, q) = (world.pointer(a), world.pointer(b));
    let small = n % (HOST + 1);
    match which % CALLS {
        0 => c::cnrtMalloc(world.out(a), n),
        1 => c::cnrtMallocConstant(world.out(a), small),
        2 => c::cnrtFree(p),
        3 => c::cnrtHostMalloc(world.out(a), small),
        4 => c::cnrtFreeHost(p),
        5 => c::cnrtMemcpy(p, q, small, k),
        6 => c::cnrtMemcpyAsync_V3(p, q, small, world.pointer(n), k),
        7 => c::cnrtMemset(p, k, n),
        8 => c::cnrtMemsetAsync(p, k, n, q),
        9 => c::cnrtQueueCreate(world.out(a)),
        10 => c::cnrtQueueCreateWithPriority(world.out(a), n as u32, k),
        11 => c::cnrtQueueDestroy(p),
        12 => c::cnrtQueueSync(p),
        13 => c::cnrtQueueQuery(p),
        14 => c::cnrtQueueGetPriority(p, world.number(b)),
        15 => c::cnrtNotifierCreateWithFlags(world.out(a), n as u32 % 20),
        16 => c::cnrtNotifierDestroy(p),
        17 => c::cnrtPlaceNotifier(p, q),
        18 => c::cnrtWaitNotifier(p),
        19 => c::cnrtQueryNotifier(p),
        20 => c::cnrtQueueWaitNotifier(p, q, n as u32 % 3),
        21 => c::cnrtNotifierElapsedTime(p, q, world.number(n)),
        22 => c::cnrtNotifierDuration(p, q, world.number(n)),
        23 => c::cnrtSetDevice(k),
        24 => c::cnrtGetDevice(world.number(a)),
        25 => c::cnrtDeviceGetAttribute(world.number(a), n as i32 % 0x500, k),
        26 => c::cnrtPointerGetAttributes(world.number(a), p),
        27 => c::cnrtMemGetInfo(world.number(a), world.number(a)),
        28 => c::cnrtGetPeerAccessibility(world.number(a), k, n as i32 % 4),
        29 => c::cnrtMemcpy2D(p, small % 64, q, small % 48, n % 50, b % 40, k),
        30 => c::cnrtMemcpyPeer(p, k, q, n as i32 % 3, small),
        31 => c::cnrtQueueBeginCapture(p, k % 4),
        32 => c::cnrtQueueEndCapture(p, world.out(b)),
        33 => c::cnrtQueueIsCapturing(p, world.number(b)),
        34 => c::cnrtTaskTopoCreate(world.out(a), n as u32 % 2),
        35 => c::cnrtTaskTopoDestroy(p),
        // SAFETY: null.
        36 => c::cnrtTaskTopoInstantiate(
            world.out(a),
            p,
            unsafe { Out::new(std::ptr::null_mut()) },
            world.number(b),
            n % 64,
        ),
        37 => c::cnrtTaskTopoEntityInvoke(p, q),
        38 => c::cnrtTaskTopoEntityDestroy(p),
        39 => c::cnrtMemAllocAsync(world.out(a), n, q),
        40 => c::cnrtMemFreeAsync(p, q),
        41 => c::cnrtMemPoolTrimTo(p, n),
        42 => c::cnrtAcquireMemHandle(world.out(a), p),
        43 => c::cnrtMapMemHandle(world.out(a), p, k % 2),
        44 => c::cnrtDeviceGetDefaultMemPool(world.out(a), k),
        45 => c::cnrtDeviceSetMemPool(k, p),
        46 => c::cnrtMemPoolGetAttribute(p, k, Ptr(world.text.as_mut_ptr().cast())),
        47 => c::cnrtMemPoolSetAttribute(p, k, Ptr(world.text.as_mut_ptr().cast())),
        48 => c::cnrtMemPoolSetAccess(p, world.access(b), n % 2),
        49 => c::cnrtMemPoolDestroy(p),
        50 => c::cnrtMemAllocFromPoolAsync(world.out(a), n, p, q),
        51 => c::cnrtTaskTopoClone(world.out(a), p),
        52 => c::cnrtTaskTopoAddEmptyNode(world.out(a), p, world.nodes(b), n % 2),
        53 => c::cnrtTaskTopoAddChildTopoNode(world.out(a), p, world.nodes(b), n % 2, q),
        54 => c::cnrtTaskTopoAddNotifierPlaceNode(world.out(a), p, world.nodes(b), n % 2, q),
        55 => c::cnrtTaskTopoAddDependencies(p, world.nodes(a), world.nodes(b), n % 2),
        56 => c::cnrtTaskTopoNodeGetType(p, world.number(b)),
        57 => c::cnrtTaskTopoEntityUpdate(p, q, world.out(n), world.number(b)),
        58 => c::cnrtMemcpyPeerAsync(p, k, q, n as i32 % 3, small, world.pointer(n)),
        59 => c::cnrtQueueCopyAttributes(p, q),
        60 => c::bangConfigureCall(DIM, k, q),
        61 => c::bangLaunch(p),
        62 => c::cnrtGetKernelParamsBuffer(world.out(a)),
        _ => c::cnrtDestroyKernelParamsBuffer(p),
    }
}

/// Sizes around what matters: nothing, a granule, the device's memory, the most there is.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..70_000,
        Just(0),
        Just(0x6_0000_0000),
        Just(usize::MAX),
        any::<usize>()
    ]
}

/// So many cases; others with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { default.cases } else { 400 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_calls_end_with_a_code(calls in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>(), size(), -2..8i32), 1..120)) {
        let mut world = World::new();
        for (which, a, b, n, k) in calls {
            let before = c::cnrtGetLastError();
            prop_assert!(before == 0 || failure::CNRT.contains(&before) || before == 999_991);
            let code = call(&mut world, which, a, b, n, k);
            prop_assert!(code == 0 || failure::CNRT.contains(&code), "call {} gives {code}", which % CALLS);
            prop_assert_eq!(c::cnrtPeekAtLastError(), code);
        }
        // What the calls left is gone with the devices' reset.
        for device in 0..2 {
            prop_assert_eq!(c::cnrtSetDevice(device), 0);
            prop_assert_eq!(c::cnrtDeviceReset(), 0);
        }
    }
}

#[test]
fn texts_and_structures_may_be_null() {
    // SAFETY: null.
    let (text, attributes) = unsafe { (Text::new(std::ptr::null()), In::new(std::ptr::null())) };
    let mut world = World::new();
    assert_eq!(c::cnrtDeviceGetByPCIBusId(world.number(1), text), 100_006);
    assert_eq!(c::cnrtMemPoolCreate(world.out(1), attributes), 100_006);
}
