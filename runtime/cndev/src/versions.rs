//! How large structures were in each version of the interface.

use crate::types::*;

/// The newest version.
const NEWEST: i32 = 6;

/// A structure that begins with its version.
pub(crate) trait Versioned: Plain {
    /// What versions before the newest had of it, the oldest first: up to a version so many bytes. It has grown at its end alone.
    const EARLIER: &'static [(i32, usize)];

    /// Bytes in a version; `None` if there is no such version.
    fn bytes(version: i32) -> Option<usize> {
        if !(1..=NEWEST).contains(&version) {
            return None;
        }
        let earlier = Self::EARLIER.iter().find(|(last, _)| version <= *last);
        Some(earlier.map_or(size_of::<Self>(), |(_, bytes)| *bytes))
    }
}

macro_rules! versioned {
    ($( $name:ident $([ $( $last:literal : $bytes:literal ),* ])? ; )*) => { $(
        impl Versioned for $name {
            const EARLIER: &'static [(i32, usize)] = &[ $( $( ($last, $bytes) ),* )? ];
        }
    )* };
}

versioned! {
    cndevAddressSwap_t;
    cndevCRCInfo_t;
    cndevCardClusterCount_t;
    cndevCardCoreCount_t;
    cndevCardHealthState_t [5: 8];
    cndevCardHeartbeatCount_t;
    cndevCardInfo_t;
    cndevCardName_t;
    cndevCardSN_t;
    cndevCardVfState_t;
    cndevChassisInfoV2_t;
    cndevComputeMode_t;
    cndevCurrentPCIInfo_t;
    cndevDDRInfo_t;
    cndevDeviceCPUUtilizationV2_t;
    cndevECCInfo_t [4: 64];
    cndevEccMode_t;
    cndevFanSpeedInfo_t [4: 8, 5: 60];
    cndevFrequencyInfo_t [5: 14];
    cndevImageCodecUtilization_t;
    cndevLibVersionInfo_t;
    cndevMLUFrequencyStatus_t;
    cndevMLULinkCapability_t;
    cndevMLULinkCounter_t [5: 96];
    cndevMLULinkPortMode_t;
    cndevMLULinkRemoteInfo_t [5: 112];
    cndevMLULinkSpeed_t;
    cndevMLULinkVersion_t;
    cndevMemEccCounter_t;
    cndevMemoryInfo_t [5: 208];
    cndevMimMode_t;
    cndevMluInstanceInfo_t;
    cndevMluInstanceProfileInfo_t;
    cndevNUMANodeId_t;
    cndevOverTemperatureInfo_t;
    cndevPCIInfo_t;
    cndevParityError_t;
    cndevPcieReplayCounter_t;
    cndevPerformanceThrottleReason_t;
    cndevPowerManagementLimitationRange_t;
    cndevPowerManagementLimitation_t;
    cndevProcessInfo_t;
    cndevProcessUtilization_t;
    cndevRemappedRowV2_t;
    cndevRemappedRow_t;
    cndevRepairStatus_t;
    cndevRetiredPageInfo_t;
    cndevRetiredPageOperation_t;
    cndevSMLUMode_t;
    cndevSMluInfo_t;
    cndevSMluProfileIdInfo_t;
    cndevSMluProfileInfo_t;
    cndevSMluSet_t;
    cndevTemperatureInfo_t [4: 124, 5: 144];
    cndevTinyCoreUtilization_t;
    cndevTopologyRelationship_t;
    cndevUUID_t [4: 44];
    cndevUtilizationInfo_t;
    cndevVersionInfo_t;
    cndevVideoCodecUtilization_t [5: 88];
}
