//! libcndev: the call that is asked for most, and all that an exporter asks for in one round over all cards.

use std::time::Instant;

use vmlu_cndev as _;

use crate::row::{Better, Row};

/// Most time that `cndevGetDeviceUtilizationInfo` may take, µs.
const UTILISATION_GOAL: f64 = 5.0;
/// Most time that an exporter's round over sixteen cards may take, ms.
const ROUND_GOAL: f64 = 5.0;
/// Ports of a card.
const PORTS: i32 = 8;
/// Room for any structure of the interface: the largest has 34,612 bytes.
const ROOM: usize = 40_000;
/// The newest version.
const VERSION: i32 = 6;

/// A structure that a function fills; it begins with the version where it has one.
#[repr(C, align(16))]
struct Room([i32; ROOM / 4]);

/// A function that fills a structure for a device.
type OfDevice = unsafe extern "C" fn(*mut Room, i32) -> i32;
/// A function that fills a structure for a port.
type OfPort = unsafe extern "C" fn(*mut Room, i32, i32) -> i32;

// SAFETY: the functions are those of `include/cndev.h`, of the library that this program links; `Room` has room for what they fill.
unsafe extern "C" {
    fn vmlu_cndevInit(reserved: i32) -> i32;
    fn vmlu_cndevRelease() -> i32;
    fn vmlu_cndevGetDeviceCount(place: *mut Room) -> i32;
    fn vmlu_cndevGetDeviceUtilizationInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetTemperatureInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetCardHealthState(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetCardHealthStateV2(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetMemoryUsageV2(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetDevicePowerInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetECCInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetMemEccCounter(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetFanSpeedInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetFrequencyInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetPCIeInfoV2(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetPCIethroughputV2(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetVersionInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetUUID(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetCardSN(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetComputeMode(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetOverTemperatureInfo(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetPerformanceThrottleReason(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetRepairStatus(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetRetiredPages(place: *mut Room, device: i32) -> i32;
    fn vmlu_cndevGetMLULinkStatusV2(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkSpeedInfo(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkCapability(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkCounter(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkErrorCounter(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkEventCounter(place: *mut Room, device: i32, port: i32) -> i32;
    fn vmlu_cndevGetMLULinkPortMode(place: *mut Room, device: i32, port: i32) -> i32;
}

/// What an exporter asks for of each card.
const OF_DEVICE: &[OfDevice] = &[
    vmlu_cndevGetDeviceUtilizationInfo,
    vmlu_cndevGetTemperatureInfo,
    vmlu_cndevGetCardHealthState,
    vmlu_cndevGetCardHealthStateV2,
    vmlu_cndevGetMemoryUsageV2,
    vmlu_cndevGetDevicePowerInfo,
    vmlu_cndevGetECCInfo,
    vmlu_cndevGetMemEccCounter,
    vmlu_cndevGetFanSpeedInfo,
    vmlu_cndevGetFrequencyInfo,
    vmlu_cndevGetPCIeInfoV2,
    vmlu_cndevGetPCIethroughputV2,
    vmlu_cndevGetVersionInfo,
    vmlu_cndevGetUUID,
    vmlu_cndevGetCardSN,
    vmlu_cndevGetComputeMode,
    vmlu_cndevGetOverTemperatureInfo,
    vmlu_cndevGetPerformanceThrottleReason,
    vmlu_cndevGetRepairStatus,
    vmlu_cndevGetRetiredPages,
];
/// What an exporter asks for of each port.
const OF_PORT: &[OfPort] = &[
    vmlu_cndevGetMLULinkStatusV2,
    vmlu_cndevGetMLULinkSpeedInfo,
    vmlu_cndevGetMLULinkCapability,
    vmlu_cndevGetMLULinkCounter,
    vmlu_cndevGetMLULinkErrorCounter,
    vmlu_cndevGetMLULinkEventCounter,
    vmlu_cndevGetMLULinkPortMode,
];

/// A structure of the newest version.
fn fresh(room: &mut Room) -> *mut Room {
    room.0[0] = VERSION;
    room.0[1] = 0;
    room
}

fn round(room: &mut Room, cards: i32) {
    for card in 0..cards {
        for function in OF_DEVICE {
            // SAFETY: the room holds what any function fills.
            assert_eq!(unsafe { function(fresh(room), card) }, 0);
        }
        for port in 0..PORTS {
            for function in OF_PORT {
                // SAFETY: as above.
                assert_eq!(unsafe { function(fresh(room), card, port) }, 0);
            }
        }
    }
}

/// The median of runs, in ns.
fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Measures over the transport that this process chooses.
pub fn run(transport: &str) -> Vec<Row> {
    let mut room = Box::new(Room([0; ROOM / 4]));
    // SAFETY: the functions take what the header says.
    assert_eq!(unsafe { vmlu_cndevInit(0) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { vmlu_cndevGetDeviceCount(fresh(&mut room)) }, 0);
    let cards = room.0[1];
    let calls = 1000;
    let one = median(31, || {
        for _ in 0..calls {
            // SAFETY: the room holds what the function fills.
            let code = unsafe { vmlu_cndevGetDeviceUtilizationInfo(fresh(&mut room), 0) };
            assert_eq!(code, 0);
        }
    });
    let all = median(31, || round(&mut room, cards));
    // SAFETY: as above.
    assert_eq!(unsafe { vmlu_cndevRelease() }, 0);
    let name = format!("an exporter's calls over {cards} cards");
    vec![
        Row::new(
            "abi",
            transport,
            "cndevGetDeviceUtilizationInfo",
            one / f64::from(calls) / 1e3,
            "µs",
        )
        .goal(Better::Lower, UTILISATION_GOAL),
        Row::new("abi", transport, &name, all / 1e6, "ms").goal(Better::Lower, ROUND_GOAL),
    ]
}
