//! The structures of `include/cndev.h`, field for field, and proof that they lie as C lays them. Names are the header's, which describes
//! them.

#![allow(non_camel_case_types, non_snake_case)]

use std::ffi::{c_char, c_void};

/// Structures, and a proof of the size and of every offset.
macro_rules! layout {
    ($( $name:ident : $size:literal { $( $field:ident : $type:ty = $offset:literal, )* } )*) => { $(
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name { $( pub(crate) $field: $type, )* }

        const _: () = assert!(size_of::<$name>() == $size);
        $( const _: () = assert!(std::mem::offset_of!($name, $field) == $offset); )*

        // SAFETY: plain numbers, arrays of them and pointers: zero is a value of each.
        unsafe impl Plain for $name {}
    )* };
}

/// A structure of which all bytes may be zero.
///
/// # Safety
///
/// Zero bytes are a value of the type.
pub(crate) unsafe trait Plain: Copy {
    /// The structure with zero in all bytes.
    fn zeroed() -> Self {
        // SAFETY: zero bytes are a value, by the contract of the trait.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! plain {
    ($( $type:ty ),*) => { $(
        // SAFETY: zero is a value.
        unsafe impl Plain for $type {}
    )* };
}

plain!(
    i32,
    u32,
    u64,
    bool,
    c_char,
    *mut c_void,
    *mut cndevTopologyNode_t
);

/// A value of a field, as eight bytes that all members of the union share.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct cndevValue_t {
    bits: u64,
}

impl cndevValue_t {
    /// A signed number: right whether it is read as 32 or as 64 bits.
    pub(crate) fn signed(value: i64) -> Self {
        Self { bits: value as u64 }
    }

    /// An unsigned number.
    pub(crate) fn unsigned(value: u64) -> Self {
        Self { bits: value }
    }
}

layout! {
    cndevAddressSwap_t : 24 {
        version: i32 = 0,
        correctCounts: u32 = 4,
        uncorrectCounts: u32 = 8,
        histogram: [u32; 3] = 12,
    }
    cndevBAR4Memory_t : 24 {
        total_size: u64 = 0,
        used_size: u64 = 8,
        free_size: u64 = 16,
    }
    cndevCRCInfo_t : 24 {
        version: i32 = 0,
        die2dieCRCError: u64 = 8,
        die2dieCRCErrorOverflow: u64 = 16,
    }
    cndevCardClusterCount_t : 8 {
        version: i32 = 0,
        count: i32 = 4,
    }
    cndevCardCoreCount_t : 8 {
        version: i32 = 0,
        count: i32 = 4,
    }
    cndevDiagErrorDetail_t : 532 {
        msg: [c_char; 512] = 0,
        device_id: u32 = 512,
        bdf: u32 = 516,
        code: i32 = 520,
        category: u32 = 524,
        severity: u32 = 528,
    }
    cndevIncidentInfo_t : 540 {
        system: i32 = 0,
        health: i32 = 4,
        error: cndevDiagErrorDetail_t = 8,
    }
    cndevCardHealthStateV2_t : 34612 {
        health: i32 = 0,
        deviceState: i32 = 4,
        driverState: i32 = 8,
        overallHealth: i32 = 12,
        incident_count: u32 = 16,
        incidents: [cndevIncidentInfo_t; 64] = 20,
        reserved: [u32; 8] = 34580,
    }
    cndevCardHealthState_t : 16 {
        version: i32 = 0,
        health: i32 = 4,
        deviceState: i32 = 8,
        driverState: i32 = 12,
    }
    cndevCardHeartbeatCount_t : 8 {
        version: i32 = 0,
        heartbeatCount: u32 = 4,
    }
    cndevCardInfo_t : 8 {
        version: i32 = 0,
        number: u32 = 4,
    }
    cndevCardName_t : 8 {
        version: i32 = 0,
        id: i32 = 4,
    }
    cndevCardSN_t : 24 {
        version: i32 = 0,
        sn: u64 = 8,
        motherBoardSn: u64 = 16,
    }
    cndevCardVfState_t : 8 {
        version: i32 = 0,
        vfState: i32 = 4,
    }
    cndevNvmeSsdInfo_t : 56 {
        nvmeSn: [u8; 21] = 0,
        nvmeModel: [u8; 17] = 21,
        nvmeFw: [u8; 9] = 38,
        nvmeMfc: [u8; 9] = 47,
    }
    cndevIbInfo_t : 56 {
        ibSn: [u8; 25] = 0,
        ibModel: [u8; 17] = 25,
        ibFw: [u8; 5] = 42,
        ibMfc: [u8; 9] = 47,
    }
    cndevPsuInfo_t : 68 {
        psuSn: [u8; 17] = 0,
        psuModel: [u8; 17] = 17,
        psuFw: [u8; 17] = 34,
        psuMfc: [u8; 17] = 51,
    }
    cndevChassisInfoV2_t : 1568 {
        version: i32 = 0,
        chassisSn: u64 = 8,
        chassisProductDate: [c_char; 12] = 16,
        chassisProductName: [c_char; 13] = 28,
        chassisVendorName: [c_char; 17] = 41,
        nvmeSsdNum: u8 = 58,
        nvmeInfo: [cndevNvmeSsdInfo_t; 8] = 59,
        ibBoardNum: u8 = 507,
        ibInfo: [cndevIbInfo_t; 8] = 508,
        psuNum: u8 = 956,
        psuInfo: [cndevPsuInfo_t; 6] = 957,
        bmcIPVersion: u8 = 1365,
        bmcIP: [u8; 40] = 1366,
        chassisPartNumber: [c_char; 32] = 1406,
        reserved: [u64; 16] = 1440,
    }
    cndevComputeMode_t : 8 {
        version: i32 = 0,
        mode: i32 = 4,
    }
    cndevCurrentInfo_t : 76 {
        ipuCoreCurrent: i32 = 0,
        socCurrent: i32 = 4,
        hbmCurrent: i32 = 8,
        reserved: [i32; 16] = 12,
    }
    cndevCurrentPCIInfo_t : 12 {
        version: i32 = 0,
        currentSpeed: i32 = 4,
        currentWidth: i32 = 8,
    }
    cndevDDRInfo_t : 16 {
        version: i32 = 0,
        dataWidth: u32 = 4,
        bandWidth: u32 = 8,
        bandWidthDecimal: u32 = 12,
    }
    cndevDeviceCPUUtilizationV2_t : 2088 {
        version: i32 = 0,
        chipUtilization: u16 = 4,
        coreNumber: u8 = 6,
        coreUtilization: [u8; 32] = 7,
        coreStateUtilization: [[u8; 64]; 32] = 39,
    }
    cndevDeviceOsMemoryInfo_t : 40 {
        deviceSystemMemoryTotal: u32 = 0,
        deviceSystemMemoryUsed: u32 = 4,
        reserved: [u32; 8] = 8,
    }
    cndevDevicePowerInfo_t : 84 {
        usage: i32 = 0,
        cap: i32 = 4,
        machine: i32 = 8,
        tdp: i32 = 12,
        maxPower: i32 = 16,
        reserved: [i32; 16] = 20,
    }
    cndevECCInfo_t : 72 {
        version: i32 = 0,
        oneBitError: u64 = 8,
        multipleOneError: u64 = 16,
        multipleError: u64 = 24,
        multipleMultipleError: u64 = 32,
        correctedError: u64 = 40,
        uncorrectedError: u64 = 48,
        totalError: u64 = 56,
        addressForbiddenError: u64 = 64,
    }
    cndevEccMode_t : 8 {
        version: i32 = 0,
        mode: i32 = 4,
    }
    cndevEventData_t : 104 {
        version: u32 = 0,
        device: i32 = 4,
        eventData: u64 = 8,
        eventType: u64 = 16,
        timestamp: u64 = 24,
        computeInstanceId: u32 = 32,
        mluInstanceId: u32 = 36,
        reserved: [u64; 8] = 40,
    }
    cndevFanSpeedInfo_t : 124 {
        version: i32 = 0,
        fanSpeed: i32 = 4,
        chassisFanCount: i32 = 8,
        chassisFan: [i32; 28] = 12,
    }
    cndevFieldValue_t : 48 {
        fieldId: i32 = 0,
        ret: i32 = 4,
        value: cndevValue_t = 8,
        valueType: i32 = 16,
        latencyUsec: i64 = 24,
        timestamp: i64 = 32,
        scopeId: u32 = 40,
    }
    cndevFrequencyInfo_t : 68 {
        version: i32 = 0,
        boardFreq: i32 = 4,
        ddrFreq: i32 = 8,
        overtempDfsFlag: u8 = 12,
        fastDfsFlag: u8 = 13,
        mluClusterFreqCount: u16 = 14,
        mluClusterFreq: [u16; 20] = 16,
        boardDefaultFreq: i32 = 56,
        boardFreqArange: [i32; 2] = 60,
    }
    cndevImageCodecUtilization_t : 88 {
        version: i32 = 0,
        jpuCount: i32 = 4,
        jpuCodecUtilization: [i32; 20] = 8,
    }
    cndevLibVersionInfo_t : 16 {
        version: i32 = 0,
        libMajorVersion: u32 = 4,
        libMinorVersion: u32 = 8,
        libBuildVersion: u32 = 12,
    }
    cndevMLUFrequencyStatus_t : 8 {
        version: i32 = 0,
        mluFrequencyLockStatus: u8 = 4,
    }
    cndevMLULinkCapability_t : 12 {
        version: i32 = 0,
        p2pTransfer: u32 = 4,
        interlakenSerdes: u32 = 8,
    }
    cndevMLULinkCounter_t : 152 {
        version: i32 = 0,
        cntrReadByte: u64 = 8,
        cntrReadPackage: u64 = 16,
        cntrWriteByte: u64 = 24,
        cntrWritePackage: u64 = 32,
        errReplay: u64 = 40,
        errFatal: u64 = 48,
        errEccDouble: u64 = 56,
        errCRC24: u64 = 64,
        errCRC32: u64 = 72,
        errCorrected: u64 = 80,
        errUncorrected: u64 = 88,
        errReadPackage: u64 = 96,
        errWritePackage: u64 = 104,
        errIllegalAccess: u64 = 112,
        cntrCnpPackage: u64 = 120,
        cntrPfcPackage: u64 = 128,
        statQPInUsing: u64 = 136,
        statTaskAlive: u64 = 144,
    }
    cndevMLULinkErrorCounter_t : 128 {
        correctFecCnt: u64 = 0,
        uncorrectFecCnt: u64 = 8,
        rxBadFcsPkt: u64 = 16,
        txBadFcsPkt: u64 = 24,
        illegalAccessCnt: u64 = 32,
        reserved: [u64; 11] = 40,
    }
    cndevMLULinkEventCounter_t : 128 {
        linkDown: u64 = 0,
        replay: u64 = 8,
        replayFail: u64 = 16,
        reserved: [u64; 13] = 24,
    }
    cndevMLULinkPPI_t : 16 {
        ppi: [c_char; 16] = 0,
    }
    cndevMLULinkPortMode_t : 12 {
        version: i32 = 0,
        mode: i32 = 4,
        supportMode: i32 = 8,
    }
    cndevMLULinkRemoteInfo_t : 376 {
        version: i32 = 0,
        mcSn: u64 = 8,
        baSn: u64 = 16,
        slotId: u32 = 24,
        portId: u32 = 28,
        devIp: [u8; 16] = 32,
        uuid: [u8; 37] = 48,
        devIpVersion: u32 = 88,
        isIpValid: u32 = 92,
        connectType: i32 = 96,
        ncsUUID64: u64 = 104,
        mac_addr: [u8; 6] = 112,
        port_name: [c_char; 256] = 118,
    }
    cndevMLULinkSpeed_t : 12 {
        version: i32 = 0,
        speedValue: f32 = 4,
        speedFormat: i32 = 8,
    }
    cndevMLULinkStatusV2_t : 44 {
        macState: i32 = 0,
        serdesState: i32 = 4,
        presenceState: i32 = 8,
        serdesProgress: u32 = 12,
        reserved: [u32; 7] = 16,
    }
    cndevMLULinkVersion_t : 16 {
        version: i32 = 0,
        majorVersion: u32 = 4,
        minorVersion: u32 = 8,
        buildVersion: u32 = 12,
    }
    cndevMemEccCounter_t : 160 {
        version: i32 = 0,
        volatileSramEccSbeCounter: u32 = 4,
        volatileSramEccDbeCounter: u32 = 8,
        volatileSramEccParityCounter: u32 = 12,
        volatileDramEccSbeCounter: u32 = 16,
        volatileDramEccDbeCounter: u32 = 20,
        aggregateDramEccSbeCounter: u64 = 24,
        aggregateDramEccDbeCounter: u64 = 32,
        aggregateSramEccSbeCounter: u64 = 40,
        aggregateSramEccDbeCounter: u64 = 48,
        aggregateSramEccParityCounter: u64 = 56,
        aggregateSramEccThresholdExceeded: bool = 64,
        reserved: [u64; 11] = 72,
    }
    cndevMemoryInfoV2_t : 176 {
        physicalMemoryTotal: i64 = 0,
        physicalMemoryUsed: i64 = 8,
        reservedMemory: i64 = 16,
        virtualMemoryTotal: i64 = 24,
        virtualMemoryUsed: i64 = 32,
        globalMemory: u64 = 40,
        reserved: [u64; 16] = 48,
    }
    cndevMemoryInfo_t : 216 {
        version: i32 = 0,
        physicalMemoryTotal: i64 = 8,
        physicalMemoryUsed: i64 = 16,
        virtualMemoryTotal: i64 = 24,
        virtualMemoryUsed: i64 = 32,
        channelNumber: i64 = 40,
        channelMemoryUsed: [i64; 20] = 48,
        globalMemory: u64 = 208,
    }
    cndevMimMode_t : 8 {
        version: i32 = 0,
        mimMode: i32 = 4,
    }
    cndevMluInstancePlacement_t : 12 {
        version: i32 = 0,
        start: i32 = 4,
        size: i32 = 8,
    }
    cndevMluInstanceInfo_t : 1016 {
        version: i32 = 0,
        parentDevice: i32 = 4,
        instanceId: i32 = 8,
        profileId: i32 = 12,
        uuid: [u8; 37] = 16,
        domain: i32 = 56,
        bus: i32 = 60,
        device: i32 = 64,
        function: i32 = 68,
        placement: cndevMluInstancePlacement_t = 72,
        mluCoreCount: i32 = 84,
        vpuCount: i32 = 88,
        jpuCount: i32 = 92,
        gdmaCount: i32 = 96,
        memorySize: i32 = 100,
        profileName: [c_char; 100] = 104,
        devNodeName: [c_char; 100] = 204,
        ipcmDevNodeName: [c_char; 100] = 304,
        instanceName: [c_char; 100] = 404,
        reserved: [u32; 128] = 504,
    }
    cndevMluInstanceProfileInfo_t : 128 {
        version: i32 = 0,
        profileId: i32 = 4,
        mluCoreCount: i32 = 8,
        vpuCount: i32 = 12,
        jpuCount: i32 = 16,
        gdmaCount: i32 = 20,
        memorySize: i32 = 24,
        name: [c_char; 100] = 28,
    }
    cndevMpmMetricInfo_t : 24 {
        shortName: *const c_char = 0,
        longName: *const c_char = 8,
        unit: *const c_char = 16,
    }
    cndevMpmMetric_t : 40 {
        metricId: i32 = 0,
        ret: i32 = 4,
        value: f64 = 8,
        metricInfo: cndevMpmMetricInfo_t = 16,
    }
    cndevMpmMetricsGet_t : 10264 {
        version: u32 = 0,
        numMetrics: u32 = 4,
        sample1: *mut c_void = 8,
        sample2: *mut c_void = 16,
        metrics: [cndevMpmMetric_t; 256] = 24,
    }
    cndevNUMANodeId_t : 8 {
        version: i32 = 0,
        nodeId: i32 = 4,
    }
    cndevOpticalThres_t : 16 {
        high_alarm: f32 = 0,
        low_alarm: f32 = 4,
        high_warn: f32 = 8,
        low_warn: f32 = 12,
    }
    cndevOpticalInfo_t : 432 {
        qdd_idx: u8 = 0,
        split_idx: u8 = 1,
        present: u8 = 2,
        vendor_name: [c_char; 16] = 3,
        vendor_pn: [c_char; 16] = 19,
        vendor_sn: [c_char; 16] = 35,
        vendor_oui: [u8; 3] = 51,
        identifier: u8 = 54,
        wave_length: f32 = 56,
        manu_dc: [c_char; 8] = 60,
        temp: f32 = 68,
        temp_state: i32 = 72,
        temp_thresh: cndevOpticalThres_t = 76,
        volt: f32 = 92,
        volt_state: i32 = 96,
        volt_thresh: cndevOpticalThres_t = 100,
        valid_lane_num: i32 = 116,
        txpwr: [f32; 8] = 120,
        txpwr_state: [i32; 8] = 152,
        txpwr_thresh: cndevOpticalThres_t = 184,
        txbias: [f32; 8] = 200,
        txbias_state: [i32; 8] = 232,
        txbias_thresh: cndevOpticalThres_t = 264,
        rxpwr: [f32; 8] = 280,
        rxpwr_state: [i32; 8] = 312,
        rxpwr_thresh: cndevOpticalThres_t = 344,
        txlos_flag: u8 = 360,
        rxlos_flag: u8 = 361,
        reserved: [u64; 8] = 368,
    }
    cndevOverTemperatureInfo_t : 16 {
        version: i32 = 0,
        powerOffCounter: u32 = 4,
        underClockCounter: u32 = 8,
        powerOffTemp: i16 = 12,
        underClockTemp: i16 = 14,
    }
    cndevPCIInfo_t : 12 {
        version: i32 = 0,
        maxSpeed: i32 = 4,
        maxWidth: i32 = 8,
    }
    cndevPCIeInfoV2_t : 64 {
        subsystemId: u32 = 0,
        deviceId: u32 = 4,
        vendor: u16 = 8,
        subsystemVendor: u16 = 10,
        domain: u32 = 12,
        bus: u32 = 16,
        device: u32 = 20,
        function: u32 = 24,
        moduleId: u16 = 28,
        slotId: u16 = 30,
        reserved: [u32; 8] = 32,
    }
    cndevPCIethroughputV2_t : 104 {
        pcieRead: i64 = 0,
        pcieWrite: i64 = 8,
        pcieReadTotal: i64 = 16,
        pcieWriteTotal: i64 = 24,
        timestamp: u64 = 32,
        reserved: [i64; 8] = 40,
    }
    cndevParityError_t : 8 {
        version: i32 = 0,
        counter: i32 = 4,
    }
    cndevPcieReplayCounter_t : 8 {
        version: i32 = 0,
        counter: u32 = 4,
    }
    cndevPerformanceThrottleReason_t : 28 {
        version: i32 = 0,
        tdp: i32 = 4,
        powerSetting: i32 = 8,
        clockSetting: i32 = 12,
        frequencyLocked: i32 = 16,
        powerBrake: i32 = 20,
        thermalSlowdown: i32 = 24,
    }
    cndevPowerManagementLimitationRange_t : 12 {
        version: i32 = 0,
        minPowerLimit: u16 = 4,
        minPowerLimitDecimal: u16 = 6,
        maxPowerLimit: u16 = 8,
        maxPowerLimitDecimal: u16 = 10,
    }
    cndevPowerManagementLimitation_t : 8 {
        version: i32 = 0,
        powerLimit: u16 = 4,
        powerLimitDecimal: u16 = 6,
    }
    cndevProcessInfo_t : 24 {
        version: i32 = 0,
        pid: u32 = 4,
        physicalMemoryUsed: u64 = 8,
        virtualMemoryUsed: u64 = 16,
    }
    cndevProcessUtilization_t : 28 {
        version: i32 = 0,
        pid: u32 = 4,
        ipuUtil: u32 = 8,
        jpuUtil: u32 = 12,
        vpuDecUtil: u32 = 16,
        vpuEncUtil: u32 = 20,
        memUtil: u32 = 24,
    }
    cndevRemappedRowV2_t : 24 {
        version: i32 = 0,
        correctCounts: u32 = 4,
        uncorrectCounts: u32 = 8,
        histogram: [u32; 3] = 12,
    }
    cndevRemappedRow_t : 20 {
        version: i32 = 0,
        correctRows: u32 = 4,
        uncorrectRows: u32 = 8,
        pendingRows: u32 = 12,
        failedRows: u32 = 16,
    }
    cndevRepairStatus_t : 8 {
        version: i32 = 0,
        isRetirePending: bool = 4,
        isPending: bool = 5,
        isFailure: bool = 6,
    }
    cndevRetiredPageInfo_t : 4112 {
        version: i32 = 0,
        cause: i32 = 4,
        pageCount: u32 = 8,
        pageAddress: [u64; 512] = 16,
    }
    cndevRetiredPageOperation_t : 8 {
        version: i32 = 0,
        retirePageOption: i32 = 4,
    }
    cndevSMLUMode_t : 8 {
        version: i32 = 0,
        smluMode: i32 = 4,
    }
    cndevSMluInfo_t : 904 {
        version: i32 = 0,
        profileId: i32 = 4,
        instanceId: i32 = 8,
        uuid: [u8; 37] = 12,
        domain: i32 = 52,
        bus: i32 = 56,
        device: i32 = 60,
        function: i32 = 64,
        profileName: [c_char; 100] = 68,
        instanceName: [c_char; 100] = 168,
        devNodeName: [c_char; 100] = 268,
        mluQuota: [u32; 2] = 368,
        memorySize: [u64; 2] = 376,
        reserved: [u32; 128] = 392,
    }
    cndevSMluProfileIdInfo_t : 520 {
        version: i32 = 0,
        count: i32 = 4,
        profileId: [i32; 128] = 8,
    }
    cndevSMluProfileInfo_t : 144 {
        version: i32 = 0,
        profileId: i32 = 4,
        name: [c_char; 100] = 8,
        totalCapacity: u32 = 108,
        remainCapacity: u32 = 112,
        mluQuota: [u32; 2] = 116,
        memorySize: [u64; 2] = 128,
    }
    cndevSMluSet_t : 16 {
        version: i32 = 0,
        mluQuota: u32 = 4,
        memorySize: u64 = 8,
    }
    cndevTemperatureInfo_t : 148 {
        version: i32 = 0,
        board: i32 = 4,
        cluster: [i32; 20] = 8,
        memoryDie: [i32; 8] = 88,
        chip: i32 = 120,
        airInlet: i32 = 124,
        airOutlet: i32 = 128,
        memory: i32 = 132,
        videoInput: i32 = 136,
        cpu: i32 = 140,
        isp: i32 = 144,
    }
    cndevTinyCoreUtilization_t : 48 {
        version: i32 = 0,
        tinyCoreCount: i32 = 4,
        tinyCoreUtilization: [i32; 10] = 8,
    }
    cndevTopologyNodeCapInfo_t : 16 {
        next: *mut cndevTopologyNodeCapInfo_t = 0,
        id: u8 = 8,
        cap: u16 = 10,
    }
    cndevTopologyNode_t : 128 {
        virtualRootNode: i32 = 0,
        domain: i32 = 4,
        bus: i32 = 8,
        device: i32 = 12,
        function: i32 = 16,
        subsystemId: u32 = 20,
        deviceId: u32 = 24,
        vendor: u32 = 28,
        subsystemVendor: u32 = 32,
        deviceName: *const c_char = 40,
        classVal: u32 = 48,
        className: *const c_char = 56,
        firstCap: *mut cndevTopologyNodeCapInfo_t = 64,
        parent: *mut cndevTopologyNode_t = 72,
        left: *mut cndevTopologyNode_t = 80,
        right: *mut cndevTopologyNode_t = 88,
        child: *mut cndevTopologyNode_t = 96,
        linkSpeed: u32 = 104,
        isBridge: i32 = 108,
        isCardbus: i32 = 112,
        primaryBus: u8 = 116,
        secondaryBus: u8 = 117,
        subordinateBus: u8 = 118,
        acsCtrl: i32 = 120,
    }
    cndevTopologyRelationship_t : 8 {
        version: i32 = 0,
        relation: i32 = 4,
    }
    cndevUUID_t : 56 {
        version: i32 = 0,
        uuid: [u8; 37] = 4,
        ncsUUID64: u64 = 48,
    }
    cndevUtilizationInfo_t : 328 {
        version: i32 = 0,
        averageCoreUtilization: i32 = 4,
        coreUtilization: [i32; 80] = 8,
    }
    cndevVersionInfo_t : 28 {
        version: i32 = 0,
        mcuMajorVersion: u32 = 4,
        mcuMinorVersion: u32 = 8,
        mcuBuildVersion: u32 = 12,
        driverMajorVersion: u32 = 16,
        driverMinorVersion: u32 = 20,
        driverBuildVersion: u32 = 24,
    }
    cndevVideoCodecUtilization_t : 256 {
        version: i32 = 0,
        vpuCount: i32 = 4,
        vpuCodecUtilization: [i32; 20] = 8,
        encoderCount: i32 = 88,
        encoderUtilization: [i32; 20] = 92,
        decoderCount: i32 = 172,
        decoderUtilization: [i32; 20] = 176,
    }
    cndevVoltageInfo_t : 40 {
        ipuCoreVoltage: i16 = 0,
        socVoltage: i16 = 2,
        hbmVccVoltage: i16 = 4,
        hbmVddVoltage: i16 = 6,
        reserved: [i16; 16] = 8,
    }
}
