//! All functions of the two common shapes with arbitrary versions, devices and ports, by their exported names: none crashes, writes beyond the largest
//! structure, or returns a code that there is not.

use proptest::prelude::*;

use vmlu_cndev as _;

/// Bytes of the largest structure, and of what lies behind it and must stay.
const LARGEST: usize = 34_612;
const BEHIND: usize = 4096;
/// What memory is filled with that nobody writes.
const FILL: u8 = 0xa5;

type OfDevice = unsafe extern "C" fn(*mut u8, i32) -> i32;
type OfPort = unsafe extern "C" fn(*mut u8, i32, i32) -> i32;

macro_rules! functions {
    (device: $($device:ident)*; port: $($port:ident)*;) => {
        // SAFETY: the functions are those of `include/cndev.h`, of the library that this program links.
        unsafe extern "C" {
            fn vmlu_cndevInit(reserved: i32) -> i32;
            $( fn $device(place: *mut u8, device: i32) -> i32; )*
            $( fn $port(place: *mut u8, device: i32, port: i32) -> i32; )*
        }
        const OF_DEVICE: &[OfDevice] = &[ $( $device ),* ];
        const OF_PORT: &[OfPort] = &[ $( $port ),* ];
    };
}

functions! {
    device:
    vmlu_cndevGetDeviceHandleByPciBusId
    vmlu_cndevGetDeviceHandleByUUID
    vmlu_cndevGetCardName
    vmlu_cndevGetCardSN
    vmlu_cndevGetUUID
    vmlu_cndevGetVersionInfo
    vmlu_cndevGetClusterCount
    vmlu_cndevGetCoreCount
    vmlu_cndevGetDDRInfo
    vmlu_cndevGetNUMANodeIdByDevId
    vmlu_cndevGetCardVfState
    vmlu_cndevGetChassisInfoV2
    vmlu_cndevGetPCIeInfoV2
    vmlu_cndevGetCurrentPCIInfo
    vmlu_cndevGetMaxPCIInfo
    vmlu_cndevGetPCIethroughputV2
    vmlu_cndevGetPcieReplayCounter
    vmlu_cndevGetBAR4MemoryInfo
    vmlu_cndevGetMemoryUsage
    vmlu_cndevGetMemoryUsageV2
    vmlu_cndevGetDeviceOsMemoryUsageV2
    vmlu_cndevGetECCInfo
    vmlu_cndevGetMemEccCounter
    vmlu_cndevGetRetiredPages
    vmlu_cndevGetRetiredPagesOperation
    vmlu_cndevGetRepairStatus
    vmlu_cndevGetAddressSwaps
    vmlu_cndevGetRemappedRows
    vmlu_cndevGetRemappedRowsV2
    vmlu_cndevGetParityError
    vmlu_cndevGetCRCInfo
    vmlu_cndevGetDeviceUtilizationInfo
    vmlu_cndevGetDeviceCPUUtilizationV2
    vmlu_cndevGetImageCodecUtilization
    vmlu_cndevGetVideoCodecUtilization
    vmlu_cndevGetTinyCoreUtilization
    vmlu_cndevGetComputeMode
    vmlu_cndevGetDevicePowerInfo
    vmlu_cndevGetPowerManagementLimitation
    vmlu_cndevGetPowerManagementDefaultLimitation
    vmlu_cndevGetPowerManagementLimitationRange
    vmlu_cndevGetTemperatureInfo
    vmlu_cndevGetOverTemperatureInfo
    vmlu_cndevGetFanSpeedInfo
    vmlu_cndevGetFrequencyInfo
    vmlu_cndevGetMLUFrequencyStatus
    vmlu_cndevGetPerformanceThrottleReason
    vmlu_cndevGetVoltageInfo
    vmlu_cndevGetCurrentInfo
    vmlu_cndevGetCardHealthState
    vmlu_cndevGetCardHealthStateV2
    vmlu_cndevGetCardHeartbeatCount
    vmlu_cndevGetSupportedEventTypes
    vmlu_cndevGetMimMode
    vmlu_cndevGetSMLUMode
    vmlu_cndevGetSMluProfileIdInfo
    ;
    port:
    vmlu_cndevGetMLULinkStatusV2
    vmlu_cndevGetMLULinkSpeedInfo
    vmlu_cndevGetMLULinkCapability
    vmlu_cndevGetMLULinkCounter
    vmlu_cndevGetMLULinkErrorCounter
    vmlu_cndevGetMLULinkEventCounter
    vmlu_cndevGetMLULinkRemoteInfo
    vmlu_cndevGetMLULinkPortMode
    vmlu_cndevGetMLULinkVersion
    vmlu_cndevGetMLULinkPPI
    vmlu_cndevGetOpticalInfo
    ;
}

/// Numbers that are likely to be right, and others.
fn number() -> impl Strategy<Value = i32> {
    prop_oneof![-2..12i32, any::<i32>()]
}

/// A place for any structure: aligned, filled, and with a version.
fn place(version: i32) -> Vec<u64> {
    let mut place = vec![u64::from_ne_bytes([FILL; 8]); (LARGEST + BEHIND).div_ceil(8)];
    let rest = place[0] >> 32 << 32;
    place[0] = rest | u64::from(version as u32);
    place
}

fn check(code: i32, place: &[u64]) -> Result<(), TestCaseError> {
    prop_assert!((0..=18).contains(&code), "{}", code);
    let behind = &place[LARGEST.div_ceil(8)..];
    prop_assert!(behind
        .iter()
        .all(|word| *word == u64::from_ne_bytes([FILL; 8])));
    Ok(())
}

/// So many cases; others with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { default.cases } else { 2000 },
        ..default
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn no_argument_does_harm(
        which in any::<prop::sample::Index>(),
        version in number(),
        device in number(),
        port in number(),
        null in prop::bool::weighted(0.1),
    ) {
        static START: std::sync::Once = std::sync::Once::new();
        START.call_once(|| {
            // SAFETY: this is the only test of the program, and nothing has read the environment yet.
            unsafe { std::env::set_var("MLU_TRANSPORT", "embedded") };
            // SAFETY: a number.
            assert_eq!(unsafe { vmlu_cndevInit(0) }, 0);
        });
        let mut room = place(version);
        let pointer = match null {
            true => std::ptr::null_mut(),
            false => room.as_mut_ptr().cast::<u8>(),
        };
        let index = which.index(OF_DEVICE.len() + OF_PORT.len());
        let code = match OF_DEVICE.get(index) {
            // SAFETY: the place is null, or has room for any structure.
            Some(function) => unsafe { function(pointer, device) },
            // SAFETY: as above.
            None => unsafe { OF_PORT[index - OF_DEVICE.len()](pointer, device, port) },
        };
        check(code, &room)?;
        if null {
            prop_assert_ne!(code, 0);
        }
    }
}
