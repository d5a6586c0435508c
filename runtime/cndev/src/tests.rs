//! The functions on embedded cards, as C calls them. One test at a time has the library.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{Out, Text};
use crate::types::*;
use crate::versions::Versioned;
use crate::*;

mod faults;
mod strict;

/// The library in use, with two chips of one board that take faults.
struct InUse(#[allow(dead_code)] MutexGuard<'static, ()>);

fn in_use() -> InUse {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    static SET: std::sync::Once = std::sync::Once::new();
    // SAFETY: the environment is set before any thread of this program reads it: every test begins here, one at a time.
    SET.call_once(|| unsafe {
        std::env::set_var("MLU_TRANSPORT", "embedded");
        std::env::set_var("MLU_INJECT", "1");
    });
    assert_eq!(library::cndevInit(0), 0);
    InUse(one)
}

impl Drop for InUse {
    fn drop(&mut self) {
        assert_eq!(library::cndevRelease(), 0);
    }
}

fn new<T: Versioned>(version: i32) -> T {
    let mut value = T::zeroed();
    // SAFETY: a versioned structure begins with its version.
    unsafe { std::ptr::from_mut(&mut value).cast::<i32>().write(version) };
    value
}

/// What a function fills for the newest version.
fn ask<T: Versioned>(function: extern "C" fn(Out<T>, i32) -> i32, device: i32) -> T {
    let mut value = new::<T>(6);
    assert_eq!(function(Out::to(&mut value), device), 0);
    value
}

fn ask_plain<T: Plain>(function: extern "C" fn(Out<T>, i32) -> i32, device: i32) -> T {
    let mut value = T::zeroed();
    assert_eq!(function(Out::to(&mut value), device), 0);
    value
}

/// Waits until something becomes true.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn devices_say_what_they_are() {
    let _library = in_use();
    let mut count = new::<cndevCardInfo_t>(6);
    assert_eq!(identity::cndevGetDeviceCount(Out::to(&mut count)), 0);
    assert_eq!(count.number, 2);
    assert_eq!(ask(identity::cndevGetCardName, 0).id, 23);
    let serial = ask(identity::cndevGetCardSN, 1);
    assert_eq!((serial.sn >> 56, serial.sn), (0x54, serial.motherBoardSn));
    let uuid = ask(identity::cndevGetUUID, 1);
    let text = std::str::from_utf8(&uuid.uuid[..36]).unwrap();
    assert_eq!(uuid.uuid[36], 0);
    let mut handle = -1;
    for spelling in [text.to_owned(), format!("MLU-{}", text.to_uppercase())] {
        let spelling = std::ffi::CString::new(spelling).unwrap();
        let spelling = Text::of(Box::leak(spelling.into_boxed_c_str()));
        assert_eq!(
            identity::cndevGetDeviceHandleByUUID(spelling, Out::to(&mut handle)),
            0
        );
        assert_eq!(handle, 1);
    }
    assert_eq!(
        identity::cndevGetDeviceHandleByPciBusId(Text::of(c"0000:02:00.0"), Out::to(&mut handle)),
        0
    );
    assert_eq!(handle, 1);
    assert_eq!(library::card_name_of_device(0).get().unwrap(), "MLU370-X8");
    assert_eq!(identity::card_name_string(23).get().unwrap(), "MLU370");
    let versions = ask(identity::cndevGetVersionInfo, 0);
    assert_eq!(
        [
            versions.mcuMajorVersion,
            versions.mcuMinorVersion,
            versions.mcuBuildVersion
        ],
        [1, 1, 6]
    );
    assert_eq!(ask(identity::cndevGetCoreCount, 0).count, 16);
    assert_eq!(ask(identity::cndevGetClusterCount, 0).count, 4);
    let memory = ask(identity::cndevGetDDRInfo, 0);
    assert_eq!(
        (memory.dataWidth, memory.bandWidth, memory.bandWidthDecimal),
        (384, 307, 2)
    );
    let pci = ask_plain(identity::cndevGetPCIeInfoV2, 0);
    assert_eq!(
        (pci.vendor, pci.deviceId, pci.bus, pci.subsystemId),
        (0xcabc, 0x370, 1, 0x54)
    );
    // An embedded card is behind no bus.
    let mut link = new::<cndevCurrentPCIInfo_t>(6);
    assert_eq!(identity::cndevGetCurrentPCIInfo(Out::to(&mut link), 0), 10);
}

#[test]
fn memory_and_processes_show_what_is_allocated() {
    let _library = in_use();
    let before = ask_plain(memory::cndevGetMemoryUsageV2, 0);
    assert_eq!(
        (before.physicalMemoryTotal, before.globalMemory),
        (23374, 23374)
    );
    let context = vmlu::Context::open(0).unwrap();
    let memory = context.alloc(32 << 20).unwrap();
    let now = ask_plain(memory::cndevGetMemoryUsageV2, 0);
    assert_eq!(now.physicalMemoryUsed - before.physicalMemoryUsed, 32);
    let mut count = 0u32;
    assert_eq!(
        usage::cndevGetProcessInfo(Out::to(&mut count), Out::null(), 0),
        9
    );
    assert!(count >= 1);
    let mut list = vec![new::<cndevProcessInfo_t>(6); count as usize];
    assert_eq!(
        usage::cndevGetProcessInfo(Out::to(&mut count), Out::to(&mut list[0]), 0),
        0
    );
    let own = list.iter().find(|p| p.pid == std::process::id()).unwrap();
    assert!(own.physicalMemoryUsed >= 32 << 10 && own.version == 6);
    drop(memory);
    drop(context);
    until("the memory comes back", || {
        ask_plain(memory::cndevGetMemoryUsageV2, 0).physicalMemoryUsed == before.physicalMemoryUsed
    });
}

#[test]
fn every_function_of_the_header_is_defined() {
    let header = include_str!("../include/cndev.h");
    let sources = [
        include_str!("codes.rs"),
        include_str!("events.rs"),
        include_str!("fields.rs"),
        include_str!("health.rs"),
        include_str!("identity.rs"),
        include_str!("inject.rs"),
        include_str!("instances.rs"),
        include_str!("library.rs"),
        include_str!("links.rs"),
        include_str!("memory.rs"),
        include_str!("metrics.rs"),
        include_str!("power.rs"),
        include_str!("topology.rs"),
        include_str!("usage.rs"),
    ]
    .concat();
    let names: Vec<_> = include_str!("../tests/symbols.txt").lines().collect();
    assert!(names.len() > 110);
    for name in names {
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is not in the header"
        );
        let defined =
            sources.contains(&format!("fn {name}(")) || sources.contains(&format!("vmlu_{name}\""));
        assert!(defined, "{name} is not defined");
    }
}
