/*
 * libcndev: what the virtual MLU cards of a machine are, how they feel, and who uses them.
 *
 * Calls may come from any thread. After a fork the child goes on by itself, unless the cards are embedded in the parent's process: then its calls
 * return CNDEV_ERROR_UNINITIALIZED.
 *
 * Structures that begin with `version` are filled as that version had them: the caller sets it to CNDEV_VERSION_1 to CNDEV_VERSION_6; any other
 * value is CNDEV_ERROR_UNSUPPORTED_API_VERSION. Null pointers are CNDEV_ERROR_INVALID_ARGUMENT, devices that are not there
 * CNDEV_ERROR_INVALID_DEVICE_ID, ports that are not there CNDEV_ERROR_INVALID_LINK, devices that no longer answer CNDEV_ERROR_IN_PROBLEM, and what the
 * card does not have CNDEV_ERROR_NOT_SUPPORTED. A call that fails leaves its results as they were, unless it says otherwise.
 */
#ifndef CNDEV_H_
#define CNDEV_H_

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef EXPORT
#define EXPORT __attribute__((visibility("default")))
#endif

#define CNDEV_ERR_MSG_LENGTH 512
#define CNDEV_HEALTH_SYSTEM_MAX_INCIDENTS 64
#define CNDEV_HOST_SN_LEN 128
#define CNDEV_IFACE_NAME_LEN 16
#define CNDEV_IP_ADDRESS_LEN 40
#define CNDEV_MAC_ADDRESS_LEN 6
#define CNDEV_MAX_CORE_COUNT 32
#define CNDEV_MLUINSTANCE_DEVICE_NODE_NAME_BUFFER_SIZE 100
#define CNDEV_MLUINSTANCE_PROFILE_NAME_BUFFER_SIZE 100
#define CNDEV_MLULINK_PORT 8
#define CNDEV_MLU_CLUSTER_FREQUENCY_COUNT 20
#define CNDEV_MLU_REMOTE_PORT_NAME_LEN 256
#define CNDEV_MPM_METRICS_GET_VERSION 1
#define CNDEV_MPM_METRIC_MAX 256
#define CNDEV_NAME_BUFFER_SIZE 200
#define CNDEV_TINYCOREMAXCOUNT 10
#define CNDEV_UUID_SIZE 37
#define CNDEV_VERSION_1 1
#define CNDEV_VERSION_2 2
#define CNDEV_VERSION_3 3
#define CNDEV_VERSION_4 4
#define CNDEV_VERSION_5 5
#define CNDEV_VERSION_6 6
#ifndef MLULINK_PORT
#define MLULINK_PORT 8
#endif
#ifndef TINYCOREMAXCOUNT
#define TINYCOREMAXCOUNT 10
#endif

/** All events, none, and those of Xids. */
#define cndevEventTypeAll (~0ULL)
#define cndevEventTypeNone 0ULL
#define cndevEventTypeXidError 1ULL

/** A device. */
typedef int32_t cndevDevice_t;
/** An MLU or sMLU instance. */
typedef int32_t cndevMluInstance_t;
/** A set of events to wait for. */
typedef struct cndevEventSet *cndevEventHandle;
/** A sample of a device. */
typedef struct cndevMpmSampleData *cndevMpmSample_t;

/** What calls return. */
typedef enum cndevRet_t {
  CNDEV_SUCCESS = 0,
  CNDEV_ERROR_NO_DRIVER = 1,
  CNDEV_ERROR_LOW_DRIVER_VERSION = 2,
  CNDEV_ERROR_UNSUPPORTED_API_VERSION = 3,
  CNDEV_ERROR_UNINITIALIZED = 4,
  CNDEV_ERROR_INVALID_ARGUMENT = 5,
  CNDEV_ERROR_INVALID_DEVICE_ID = 6,
  CNDEV_ERROR_UNKNOWN = 7,
  CNDEV_ERROR_MALLOC = 8,
  CNDEV_ERROR_INSUFFICIENT_SPACE = 9,
  CNDEV_ERROR_NOT_SUPPORTED = 10,
  CNDEV_ERROR_INVALID_LINK = 11,
  CNDEV_ERROR_NO_DEVICES = 12,
  CNDEV_ERROR_NO_PERMISSION = 13,
  CNDEV_ERROR_NOT_FOUND = 14,
  CNDEV_ERROR_IN_USE = 15,
  CNDEV_ERROR_DUPLICATE = 16,
  CNDEV_ERROR_TIMEOUT = 17,
  CNDEV_ERROR_IN_PROBLEM = 18
} cndevRet_t;

/** Types of devices. */
typedef enum cndevNameEnum_t {
  CNDEV_DEVICE_TYPE_MLU100 = 0,
  CNDEV_DEVICE_TYPE_MLU270 = 1,
  CNDEV_DEVICE_TYPE_MLU220_M2 = 16,
  CNDEV_DEVICE_TYPE_MLU220_EDGE = 17,
  CNDEV_DEVICE_TYPE_MLU220_EVB = 18,
  CNDEV_DEVICE_TYPE_MLU220_M2i = 19,
  CNDEV_DEVICE_TYPE_MLU290 = 20,
  CNDEV_DEVICE_TYPE_MLU370 = 23,
  CNDEV_DEVICE_TYPE_MLU365 = 24,
  CNDEV_DEVICE_TYPE_CE3226 = 25,
  CNDEV_DEVICE_TYPE_MLU590 = 26,
  CNDEV_DEVICE_TYPE_MLU585 = 27,
  CNDEV_DEVICE_TYPE_1V_2201 = 29,
  CNDEV_DEVICE_TYPE_MLU580 = 30,
  CNDEV_DEVICE_TYPE_MLU570 = 31,
  CNDEV_DEVICE_TYPE_1V_2202 = 32,
  MLU100 = 0,
  MLU270 = 1,
  MLU220_M2 = 16,
  MLU220_EDGE = 17,
  MLU220_EVB = 18,
  MLU220_M2i = 19,
  MLU290 = 20,
  MLU370 = 23,
  MLU365 = 24,
  CE3226 = 25,
  MLU590 = 26,
  MLU585 = 27,
  MLU580 = 30,
  MLU570 = 31
} cndevNameEnum_t;

/** How near two PCI functions are. */
typedef enum cndevTopologyRelationshipEnum_t {
  SELF = 0,
  INTERNAL = 1,
  SINGLE = 2,
  MULTIPLE = 3,
  HOST_BRIDGE = 4,
  CPU = 5,
  SYSTEM = 6
} cndevTopologyRelationshipEnum_t;

/** Line codes of MLU-Link. */
typedef enum cndevMLULinkSpeedEnum_t {
  SPEED_FMT_NRZ = 0,
  SPEED_FMT_PM4 = 1
} cndevMLULinkSpeedEnum_t;

/** Counters of an MLU-Link port. */
typedef enum cndevMLULinkCounterEnum_t {
  MLULINK_CNTR_RD_BYTE = 0,
  MLULINK_CNTR_RD_PKG = 1,
  MLULINK_CNTR_WR_BYTE = 2,
  MLULINK_CNTR_WR_PKG = 3,
  MLULINK_ERR_RPY = 4,
  MLULINK_ERR_FTL = 5,
  MLULINK_ERR_ECC_DBE = 6,
  MLULINK_ERR_CRC24 = 7,
  MLULINK_ERR_CRC32 = 8,
  MLULINK_ERR_CORR = 9,
  MLULINK_ERR_UNCORR = 10,
  MLULINK_ERR_READ_PACKAGE = 11,
  MLULINK_ERR_WRITE_PACKAGE = 12,
  MLULINK_ERR_ILLEGAL_ACCESS_PACKAGE = 13,
  MLULINK_CNTR_CNP_PKGS = 14,
  MLULINK_CNTR_PFC_PKGS = 15,
  MLULINK_COUNTER_COUNT = 16
} cndevMLULinkCounterEnum_t;

/** Off and on. */
typedef enum cndevEnableStatusEnum_t {
  CNDEV_FEATURE_DISABLED = 0,
  CNDEV_FEATURE_ENABLED = 1
} cndevEnableStatusEnum_t;

/** Profiles of MLU instances. */
typedef enum cndevMLUInstanceProfileEnum_t {
  CNDEV_MLUINSTANCE_PROFILE_1_SLICE = 0,
  CNDEV_MLUINSTANCE_PROFILE_1_SLICE_MLU_2_SLICE_VPU = 1,
  CNDEV_MLUINSTANCE_PROFILE_2_SLICE = 2,
  CNDEV_MLUINSTANCE_PROFILE_2_SLICE_MLU_1_SLICE_MEM = 3,
  CNDEV_MLUINSTANCE_PROFILE_3_SLICE = 4,
  CNDEV_MLUINSTANCE_PROFILE_4_SLICE = 5,
  CNDEV_MLUINSTANCE_PROFILE_5_SLICE = 6,
  CNDEV_MLUINSTANCE_PROFILE_6_SLICE = 7,
  CNDEV_MLUINSTANCE_PROFILE_1_SLICE_MLU_2_SLICE_MEM = 8,
  CNDEV_MLUINSTANCE_PROFILE_COUNT = 9
} cndevMLUInstanceProfileEnum_t;

/** Settings of a device. */
typedef enum cndevDeviceConfigsTypeEnum_t {
  CNDEV_DEVICE_CONFIGS_WATCHDOG_TIMER = 0,
  CNDEV_DEVICE_CONFIGS_FAST_ALLOC = 1,
  CNDEV_DEVICE_CONFIGS_COMPRESS_MEM = 2,
  CNDEV_DEVICE_CONFIGS_LINEAR_MEM = 3,
  CNDEV_DEVICE_CONFIGS_IPU_LLC_DATA_ALLOCATED = 4,
  CNDEV_DEVICE_CONFIGS_STOP_CODEC_XPU = 5,
  CNDEV_DEVICE_CONFIGS_PINNED_MEM_NUMA_MODE = 6
} cndevDeviceConfigsTypeEnum_t;

/** Health of a device. */
typedef enum cndevHealthStateEnum_t {
  CNDEV_HEALTH_STATE_DEVICE_IN_PROBLEM = 0,
  CNDEV_HEALTH_STATE_DEVICE_GOOD = 1
} cndevHealthStateEnum_t;

/** State of the driver. */
typedef enum cndevDriverHealthStateEnum_t {
  CNDEV_HEALTH_STATE_DRIVER_EARLY_INITED = 0,
  CNDEV_HEALTH_STATE_DRIVER_BRING_UP = 1,
  CNDEV_HEALTH_STATE_DRIVER_BOOTING = 2,
  CNDEV_HEALTH_STATE_DRIVER_LATEINIT = 3,
  CNDEV_HEALTH_STATE_DRIVER_RUNNING = 4,
  CNDEV_HEALTH_STATE_DRIVER_BOOT_ERROR = 5,
  CNDEV_HEALTH_STATE_DRIVER_RESET = 6,
  CNDEV_HEALTH_STATE_DRIVER_RESET_ERROR = 7,
  CNDEV_HEALTH_STATE_DRIVER_UNKNOWN = 8
} cndevDriverHealthStateEnum_t;

/** What can be wrong with a device. */
typedef enum cndevHealthError_t {
  CNDEV_FR_OK = 0,
  CNDEV_FR_UNKNOWN = 1,
  CNDEV_FR_INTERNAL = 2,
  CNDEV_FR_XID_ERROR = 3,
  CNDEV_FR_PCIE_REPLAY_RATE = 4,
  CNDEV_FR_PCIE_GENERATION = 5,
  CNDEV_FR_PCIE_WIDTH = 6,
  CNDEV_FR_LOW_BANDWIDTH = 7,
  CNDEV_FR_HIGH_LATENCY = 8,
  CNDEV_FR_MLULINK_DOWN = 9,
  CNDEV_FR_MLULINK_REPLAY = 10,
  CNDEV_FR_MLULINK_ERROR_THRESHOLD = 11,
  CNDEV_FR_MLULINK_CRC_ERROR_THRESHOLD = 12,
  CNDEV_FR_DIE2DIE_CRC_ERROR_THRESHOLD = 13,
  CNDEV_FR_SBE_VIOLATION = 14,
  CNDEV_FR_DBE_VIOLATION = 15,
  CNDEV_FR_SBE_THRESHOLD_VIOLATION = 16,
  CNDEV_FR_DBE_THRESHOLD_VIOLATION = 17,
  CNDEV_FR_ROW_REMAP_FAILURE = 18,
  CNDEV_FR_PENDING_ROW_REMAP = 19,
  CNDEV_FR_ADDRESSSWAP_FAILURE = 20,
  CNDEV_FR_PENDING_ADDRESSSWAP = 21,
  CNDEV_FR_REPAIR_FAILURE = 22,
  CNDEV_FR_PENDING_PAGE_REPAIR = 23,
  CNDEV_FR_PENDING_PAGE_RETIREMENTS = 24,
  CNDEV_FR_PAGE_REPAIR_RESOURCE_THRESHOLD = 25,
  CNDEV_FR_TEMP_VIOLATION = 26,
  CNDEV_FR_THERMAL_VIOLATION = 27,
  CNDEV_FR_DEVICE_COUNT_MISMATCH = 28,
  CNDEV_FR_DRIVER_ERROR = 29,
  CNDEV_FR_DEVSYS_ERROR = 30
} cndevHealthError_t;

/** How bad it is. */
typedef enum cndevHealthResult_t {
  CNDEV_HEALTH_RESULT_PASS = 0,
  CNDEV_HEALTH_RESULT_WARN = 10,
  CNDEV_HEALTH_RESULT_FAIL = 20
} cndevHealthResult_t;

/** Where it is. */
typedef enum cndevHealthSystem_t {
  CNDEV_HEALTH_SYSTEM_PCIE = 1,
  CNDEV_HEALTH_SYSTEM_NCS = 2,
  CNDEV_HEALTH_SYSTEM_PMU = 4,
  CNDEV_HEALTH_SYSTEM_MCU = 8,
  CNDEV_HEALTH_SYSTEM_MEM = 16,
  CNDEV_HEALTH_SYSTEM_THERMAL = 32,
  CNDEV_HEALTH_SYSTEM_POWER = 64,
  CNDEV_HEALTH_SYSTEM_DRIVER = 128
} cndevHealthSystem_t;

/** State of the link layer. */
typedef enum cndevMLULinkMACStateEnum_t {
  CNDEV_MLULINK_MAC_STATE_DOWN = 0,
  CNDEV_MLULINK_MAC_STATE_UP = 1,
  CNDEV_MLULINK_MAC_STATE_LLDP = 2,
  CNDEV_MLULINK_MAC_STATE_READY = 3
} cndevMLULinkMACStateEnum_t;

/** State of the serial transceivers. */
typedef enum cndevMLULinkSerdesStateEnum_t {
  CNDEV_MLULINK_SERDES_STATE_DISABLE = 0,
  CNDEV_MLULINK_SERDES_STATE_ENABLE = 1,
  CNDEV_MLULINK_SERDES_STATE_ONGOING = 2
} cndevMLULinkSerdesStateEnum_t;

/** Whether a cable is plugged in. */
typedef enum cndevMLULinkPresenceStateEnum_t {
  CNDEV_MLULINK_PRESENCE_STATE_ABSENT = 0,
  CNDEV_MLULINK_PRESENCE_STATE_PRESENT = 1,
  CNDEV_MLULINK_PRESENCE_STATE_UNIMPLEMENTED = 2
} cndevMLULinkPresenceStateEnum_t;

/** State of a quantity of an optical module. */
typedef enum cndevOpticalStatusEnum_t {
  CNDEV_MLULINK_OPTICAL_STATE_NORMAL = 0,
  CNDEV_MLULINK_OPTICAL_STATE_HIGHALARM = 1,
  CNDEV_MLULINK_OPTICAL_STATE_LOWALARM = 2,
  CNDEV_MLULINK_OPTICAL_STATE_HIGHWARN = 3,
  CNDEV_MLULINK_OPTICAL_STATE_LOWWARN = 4
} cndevOpticalStatusEnum_t;

/** What the processor of the device spends its time on. */
typedef enum cndevDeviceCpuStatUtilEnum_t {
  CNDEV_CPUSTATE_USER = 0,
  CNDEV_CPUSTATE_NICE = 1,
  CNDEV_CPUSTATE_SYSTEM = 2,
  CNDEV_CPUSTATE_SOFTIRQ = 3,
  CNDEV_CPUSTATE_IRQ = 4,
  CNDEV_CPUSTATE_IDLE = 5,
  CNDEV_CPUSTATE_IOWAIT = 6,
  CNDEV_CPUSTATE_MAX = 64
} cndevDeviceCpuStatUtilEnum_t;

/** Why a page was taken out of use. */
typedef enum cndevRetirePageCauseEnum_t {
  CNDEV_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS = 0,
  CNDEV_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR = 1
} cndevRetirePageCauseEnum_t;

/** How many spares a bank has left. */
typedef enum cndevRepairHistogramXlableEnum_t {
  CNDEV_AVAILABILITY_XLABLE_NONE = 0,
  CNDEV_AVAILABILITY_XLABLE_PARTIAL = 1,
  CNDEV_AVAILABILITY_XLABLE_MAX = 2,
  CNDEV_AVAILABILITY_XLABLE_ALL = 3
} cndevRepairHistogramXlableEnum_t;

/** What a port is used for. */
typedef enum cndevPortModeEnum_t {
  PORT_WORK_MODE_UNINITIALIZED = 0,
  PORT_WORK_MODE_ALL_SUPPORT = 1,
  PORT_WORK_MODE_MLULINK = 2,
  PORT_WORK_MODE_MLULINK_OVER_ROCE = 3
} cndevPortModeEnum_t;

/** Settings of MLU-Link over RoCE. */
typedef enum cndevMLULinkOverRoCEFieldEnum_t {
  CNDEV_MLULINK_FIELD_IP_VERSION = 0,
  CNDEV_MLULINK_FIELD_VLAN_TPID = 1,
  CNDEV_MLULINK_FIELD_VLAN_CFI = 2,
  CNDEV_MLULINK_FIELD_VLAN_VID = 3,
  CNDEV_MLULINK_FIELD_VLAN_EN = 4,
  CNDEV_MLULINK_FIELD_IP_TTL = 5,
  CNDEV_MLULINK_FIELD_FLOW_LABLE = 6,
  CNDEV_MLULINK_FIELD_HOP_LIMIT = 7,
  CNDEV_MLULINK_FIELD_PFC_XON_ENABLE = 8,
  CNDEV_MLULINK_FIELD_PFC_XOFF_ENABLE = 9,
  CNDEV_MLULINK_FIELD_PFC_XON_PERIOD = 10,
  CNDEV_MLULINK_FIELD_PFC_XOFF_PERIOD = 11,
  CNDEV_MLULINK_FIELD_PFC_PERIOD = 12,
  CNDEV_MLULINK_FIELD_PFC_EN = 13,
  CNDEV_MLULINK_FIELD_QOS_TRUST = 14,
  CNDEV_MLULINK_FIELD_VLAN_DOT1P = 15,
  CNDEV_MLULINK_FIELD_DATA_DOT1P = 16,
  CNDEV_MLULINK_FIELD_CTRL_DOT1P = 17,
  CNDEV_MLULINK_FIELD_RESP_DOT1P = 18,
  CNDEV_MLULINK_FIELD_TCP_DSCP = 19,
  CNDEV_MLULINK_FIELD_DATA_DSCP = 20,
  CNDEV_MLULINK_FIELD_CTRL_DSCP = 21,
  CNDEV_MLULINK_FIELD_RESP_DSCP = 22,
  CNDEV_MLULINK_FIELD_NUM = 23
} cndevMLULinkOverRoCEFieldEnum_t;

/** Who may use a device. */
typedef enum cndevComputeModeEnum_t {
  CNDEV_COMPUTEMODE_DEFAULT = 0,
  CNDEV_COMPUTEMODE_EXCLUSIVE = 1,
  CNDEV_COMPUTEMODE_PROHIBITED = 2,
  CNDEV_COMPUTEMODE_COUNT = 255
} cndevComputeModeEnum_t;

/** Indices of the quotas of an sMLU instance. */
typedef enum cndevSMluItemEnum_t {
  CNDEV_SMLU_MAX = 0,
  CNDEV_SMLU_USAGE = 1,
  CNDEV_SMLU_ITEM_COUNT = 2
} cndevSMluItemEnum_t;

/** Kinds of memory errors. */
typedef enum cndevMemEccTypeEnum_t {
  CNDEV_ECC_SBE = 0,
  CNDEV_ECC_DBE = 1,
  CNDEV_ECC_PARITY = 2,
  CNDEV_ECC_MAX_TYPE = 3
} cndevMemEccTypeEnum_t;

/** Clocks. */
typedef enum cndevClockType_t {
  CNDEV_CLOCK_IPU = 0
} cndevClockType_t;

/** Which member of `cndevValue_t` is valid. */
typedef enum cndevFieldValuesTypeNum_t {
  CNDEV_VALUE_TYPE_DOUBLE = 0,
  CNDEV_VALUE_TYPE_UNSIGNED_INT = 1,
  CNDEV_VALUE_TYPE_UNSIGNED_LONG = 2,
  CNDEV_VALUE_TYPE_UNSIGNED_LONG_LONG = 3,
  CNDEV_VALUE_TYPE_INT = 4,
  CNDEV_VALUE_TYPE_LONG = 5,
  CNDEV_VALUE_TYPE_LONG_LONG = 6
} cndevFieldValuesTypeNum_t;

/** Fields that `cndevDeviceGetFieldValues` reads. */
typedef enum cndevFieldIdNum_t {
  cndevFieldECCCurrent = 0,
  cndevFieldECCPending = 1,
  cndevFieldSramECCSBEVolCount = 2,
  cndevFieldSramECCDBEVolCount = 3,
  cndevFieldDramECCSBEVolCount = 4,
  cndevFieldDramECCDBEVolCount = 5,
  cndevFieldCurrentPciSpeed = 6,
  cndevFieldCurrentPciWidth = 7,
  cndevFieldMLULinkPortNum = 8,
  cndevFieldMLULinkStatus = 9,
  cndevFieldRetiredPagesSBE = 10,
  cndevFieldRetiredPagesDBE = 11,
  cndevFieldRetiredPagesPending = 12,
  cndevFieldRemapedRowCorrect = 13,
  cndevFieldRemapedRowUnCorrect = 14,
  cndevFieldRemapedRowPending = 15,
  cndevFieldRemapedRowFailure = 16,
  cndevFieldPowerCurrent = 17,
  cndevFieldPowerCapping = 18,
  cndevFieldPowerCappingMinLimit = 19,
  cndevFieldPowerCappingMaxLimit = 20,
  cndevFieldPowerCappingDefaultLimit = 21,
  cndevFieldPhysicalMemoryTotal = 22,
  cndevFieldPhysicalMemoryUsed = 23,
  cndevFieldVirtualMemoryTotal = 24,
  cndevFieldVirtualMemoryUsed = 25,
  cndevFieldDDRDataWidth = 26,
  cndevFieldDDRBandWidth = 27,
  cndevFieldComputeMode = 28,
  cndevFieldPcieReplay = 29,
  cndevFieldOverTemperaturePowerOffTemp = 30,
  cndevFieldOverTemperaturePowerOffTimes = 31,
  cndevFieldOverTemperatureUnderClockTemp = 32,
  cndevFieldOverTemperatureUnderClockTimes = 33,
  cndevFieldTemperatureBoard = 34,
  cndevFieldTemperatureCluster = 35,
  cndevFieldTemperatureMemoryDie = 36,
  cndevFieldTemperatureChip = 37,
  cndevFieldTemperatureAirIn = 38,
  cndevFieldTemperatureAirOut = 39,
  cndevFieldTemperatureMemory = 40,
  cndevFieldTemperatureVI = 41,
  cndevFieldTemperatureCPU = 42,
  cndevFieldTemperatureISP = 43,
  cndevFieldCoreAverageUtilization = 44,
  cndevFieldCoreUtilization = 45,
  cndevFieldEncoderCount = 46,
  cndevFieldEncoderUtilization = 47,
  cndevFieldDecoderCount = 48,
  cndevFieldDecoderUtilization = 49,
  cndevFieldImageCodecCount = 50,
  cndevFieldImageCodecUtilization = 51,
  cndevFieldTemperatureSlowDown = 52,
  cndevFieldTemperatureShutDown = 53,
  cndevFieldReservedMemory = 54,
  cndevFieldGlobalMemory = 55,
  cndevFieldDramECCSBEAggregateCount = 56,
  cndevFieldDramECCDBEAggregateCount = 57,
  cndevFieldSramECCSBEAggregateCount = 58,
  cndevFieldSramECCDBEAggregateCount = 59,
  cndevFieldSramECCParityAggregateCount = 60,
  cndevFieldSramECCParityVolCount = 61,
  cndevFieldOAMModuleId = 62,
  cndevFieldMLULinkTxByte = 63,
  cndevFieldMLULinkRxByte = 64,
  cndevFieldTensorAverageUtilization = 65,
  cndevFieldMLUUtilization = 66,
  cndevFieldPCIeAuxiliaryPowerConnectorSenseState = 67,
  cndevFieldMLUMaxOperatingTemperature = 68,
  cndevFieldMemMaxOperatingTemperature = 69,
  cndevFieldMarginTemperature = 70,
  cndevFieldTotalEnergyConsumption = 71,
  cndevFieldPowerViolation = 72,
  cndevFieldThermalViolation = 73,
  cndevFieldBoardLimitViolation = 74,
  cndevFieldBaseClocksViolation = 75,
  cndevFieldNum = 200
} cndevFieldIdNum_t;

/** Metrics of `cndevMpmMetricsGet`. */
typedef enum cndevMpmMetricId_t {
  CNDEV_MPM_METRIC_IPU_UTIL = 1,
  CNDEV_MPM_METRIC_MLU_UTIL = 2,
  CNDEV_MPM_METRIC_TENSOR_UTIL = 3,
  CNDEV_MPM_METRIC_PCIE_TX_PER_SEC = 20,
  CNDEV_MPM_METRIC_PCIE_RX_PER_SEC = 21,
  CNDEV_MPM_METRIC_MLULINK_TOTAL_TX_PER_SEC = 60,
  CNDEV_MPM_METRIC_MLULINK_TOTAL_RX_PER_SEC = 61,
  CNDEV_MPM_METRIC_MLULINK_L0_TX_PER_SEC = 62,
  CNDEV_MPM_METRIC_MLULINK_L0_RX_PER_SEC = 63,
  CNDEV_MPM_METRIC_MLULINK_L1_TX_PER_SEC = 64,
  CNDEV_MPM_METRIC_MLULINK_L1_RX_PER_SEC = 65,
  CNDEV_MPM_METRIC_MLULINK_L2_TX_PER_SEC = 66,
  CNDEV_MPM_METRIC_MLULINK_L2_RX_PER_SEC = 67,
  CNDEV_MPM_METRIC_MLULINK_L3_TX_PER_SEC = 68,
  CNDEV_MPM_METRIC_MLULINK_L3_RX_PER_SEC = 69,
  CNDEV_MPM_METRIC_MLULINK_L4_TX_PER_SEC = 70,
  CNDEV_MPM_METRIC_MLULINK_L4_RX_PER_SEC = 71,
  CNDEV_MPM_METRIC_MLULINK_L5_TX_PER_SEC = 72,
  CNDEV_MPM_METRIC_MLULINK_L5_RX_PER_SEC = 73,
  CNDEV_MPM_METRIC_MLULINK_L6_TX_PER_SEC = 74,
  CNDEV_MPM_METRIC_MLULINK_L6_RX_PER_SEC = 75,
  CNDEV_MPM_METRIC_MLULINK_L7_TX_PER_SEC = 76,
  CNDEV_MPM_METRIC_MLULINK_L7_RX_PER_SEC = 77,
  CNDEV_MPM_METRIC_MLULINK_L8_TX_PER_SEC = 78,
  CNDEV_MPM_METRIC_MLULINK_L8_RX_PER_SEC = 79,
  CNDEV_MPM_METRIC_MLULINK_L9_TX_PER_SEC = 80,
  CNDEV_MPM_METRIC_MLULINK_L9_RX_PER_SEC = 81,
  CNDEV_MPM_METRIC_MLULINK_L10_TX_PER_SEC = 82,
  CNDEV_MPM_METRIC_MLULINK_L10_RX_PER_SEC = 83,
  CNDEV_MPM_METRIC_MLULINK_L11_TX_PER_SEC = 84,
  CNDEV_MPM_METRIC_MLULINK_L11_RX_PER_SEC = 85,
  CNDEV_MPM_METRIC_MLULINK_L12_TX_PER_SEC = 86,
  CNDEV_MPM_METRIC_MLULINK_L12_RX_PER_SEC = 87,
  CNDEV_MPM_METRIC_MLULINK_L13_TX_PER_SEC = 88,
  CNDEV_MPM_METRIC_MLULINK_L13_RX_PER_SEC = 89,
  CNDEV_MPM_METRIC_MLULINK_L14_TX_PER_SEC = 90,
  CNDEV_MPM_METRIC_MLULINK_L14_RX_PER_SEC = 91,
  CNDEV_MPM_METRIC_MLULINK_L15_TX_PER_SEC = 92,
  CNDEV_MPM_METRIC_MLULINK_L15_RX_PER_SEC = 93,
  CNDEV_MPM_METRIC_MLULINK_L16_TX_PER_SEC = 94,
  CNDEV_MPM_METRIC_MLULINK_L16_RX_PER_SEC = 95,
  CNDEV_MPM_METRIC_MLULINK_L17_TX_PER_SEC = 96,
  CNDEV_MPM_METRIC_MLULINK_L17_RX_PER_SEC = 97
} cndevMpmMetricId_t;

/** Memory addresses that were swapped for spare ones, with the spares that the banks have left. */
typedef struct cndevAddressSwapV2_t {
  uint32_t correctCounts;
  uint32_t uncorrectCounts;
  uint32_t histogramMax;
  uint32_t histogramHigh;
  uint32_t histogramPartial;
  uint32_t histogramLow;
  uint32_t histogramNone;
  uint32_t reserved[6];
} cndevAddressSwapV2_t;

/** Memory addresses that were swapped for spare ones; `histogram` counts banks by the spares left
 *  (`cndevRepairHistogramXlableEnum_t`). */
typedef struct cndevAddressSwap_t {
  int32_t version;
  uint32_t correctCounts;
  uint32_t uncorrectCounts;
  uint32_t histogram[3];
} cndevAddressSwap_t;

/** Processors near to a device: bit `n % 32` of word `cpuCount / 32 - n / 32`, so that the last word holds
 *  processors 0 to 31. */
typedef struct cndevAffinity_t {
  int32_t version;
  uint32_t cpuCount;
  uint32_t cpuAffinityBitMap[1024];
} cndevAffinity_t;

/** Memories of a chip by their errors, one for each of `cndevMemEccTypeEnum_t`, against a threshold. */
typedef struct cndevSramEccHistogram_t {
  struct {
    uint32_t max;
    uint32_t high;
    uint32_t partial;
    uint32_t low;
    uint32_t threshold;
    uint32_t defaultThreshold;
    uint32_t reserved[8];
  } histogram[CNDEV_ECC_MAX_TYPE];
} cndevSramEccHistogram_t;

/** The window on device memory (BAR4), bytes. */
typedef struct cndevBAR4Memory_t {
  uint64_t total_size;
  uint64_t used_size;
  uint64_t free_size;
} cndevBAR4Memory_t;

/** CRC errors between the dies of a chip. */
typedef struct cndevCRCInfo_t {
  int32_t version;
  uint64_t die2dieCRCError;
  uint64_t die2dieCRCErrorOverflow;
} cndevCRCInfo_t;

/** A PCI capability. */
typedef struct cndevCapabilityInfo_t {
  int32_t version;
  uint8_t id;
  uint16_t cap;
} cndevCapabilityInfo_t;

/** Clusters of a device. */
typedef struct cndevCardClusterCount_t {
  int32_t version;
  int32_t count;
} cndevCardClusterCount_t;

/** IPU cores of a device. */
typedef struct cndevCardCoreCount_t {
  int32_t version;
  int32_t count;
} cndevCardCoreCount_t;

/** Form of the card. */
typedef struct cndevCardForm_t {
  int32_t version;
  uint64_t device_form;
} cndevCardForm_t;

/** What is wrong, for people and for programs. */
typedef struct cndevDiagErrorDetail_t {
  char msg[512];
  uint32_t device_id;
  uint32_t bdf;
  cndevHealthError_t code;
  uint32_t category;
  uint32_t severity;
} cndevDiagErrorDetail_t;

/** One thing that is wrong with a device. */
typedef struct cndevIncidentInfo_t {
  cndevHealthSystem_t system;
  cndevHealthResult_t health;
  cndevDiagErrorDetail_t error;
} cndevIncidentInfo_t;

/** Health of a device with what is wrong: the first `incident_count` incidents are valid. */
typedef struct cndevCardHealthStateV2_t {
  int32_t health;
  cndevHealthStateEnum_t deviceState;
  cndevDriverHealthStateEnum_t driverState;
  cndevHealthResult_t overallHealth;
  uint32_t incident_count;
  cndevIncidentInfo_t incidents[64];
  uint32_t reserved[8];
} cndevCardHealthStateV2_t;

/** Health of a device: `health` is 1 if all is well and 0 if not. */
typedef struct cndevCardHealthState_t {
  int32_t version;
  int32_t health;
  cndevHealthStateEnum_t deviceState;
  cndevDriverHealthStateEnum_t driverState;
} cndevCardHealthState_t;

/** How often the firmware has brought its state up to date; it grows while the firmware is alive. */
typedef struct cndevCardHeartbeatCount_t {
  int32_t version;
  uint32_t heartbeatCount;
} cndevCardHeartbeatCount_t;

/** Number of devices. */
typedef struct cndevCardInfo_t {
  int32_t version;
  uint32_t number;
} cndevCardInfo_t;

/** Type of a device. */
typedef struct cndevCardName_t {
  int32_t version;
  cndevNameEnum_t id;
} cndevCardName_t;

/** Part number of the card. */
typedef struct cndevCardPartNumber_t {
  int32_t version;
  char partNumber[32];
} cndevCardPartNumber_t;

/** Serial numbers of the card and of the board that carries it. */
typedef struct cndevCardSN_t {
  int32_t version;
  uint64_t sn;
  uint64_t motherBoardSn;
} cndevCardSN_t;

/** Bit mask of the virtual functions; 0 without SR-IOV. */
typedef struct cndevCardVfState_t {
  int32_t version;
  int32_t vfState;
} cndevCardVfState_t;

/** An NVMe drive of the chassis. */
typedef struct cndevNvmeSsdInfo_t {
  uint8_t nvmeSn[21];
  uint8_t nvmeModel[17];
  uint8_t nvmeFw[9];
  uint8_t nvmeMfc[9];
} cndevNvmeSsdInfo_t;

/** An InfiniBand board of the chassis. */
typedef struct cndevIbInfo_t {
  uint8_t ibSn[25];
  uint8_t ibModel[17];
  uint8_t ibFw[5];
  uint8_t ibMfc[9];
} cndevIbInfo_t;

/** A power supply of the chassis. */
typedef struct cndevPsuInfo_t {
  uint8_t psuSn[17];
  uint8_t psuModel[17];
  uint8_t psuFw[17];
  uint8_t psuMfc[17];
} cndevPsuInfo_t;

/** The chassis and what is built in. */
typedef struct cndevChassisInfoV2_t {
  int32_t version;
  uint64_t chassisSn;
  char chassisProductDate[12];
  char chassisProductName[13];
  char chassisVendorName[17];
  uint8_t nvmeSsdNum;
  cndevNvmeSsdInfo_t nvmeInfo[8];
  uint8_t ibBoardNum;
  cndevIbInfo_t ibInfo[8];
  uint8_t psuNum;
  cndevPsuInfo_t psuInfo[6];
  uint8_t bmcIPVersion;
  uint8_t bmcIP[40];
  char chassisPartNumber[32];
  uint64_t reserved[16];
} cndevChassisInfoV2_t;

/** The chassis and what is built in, before version 6. */
typedef struct cndevChassisInfo_t {
  int32_t version;
  uint64_t chassisSn;
  char chassisProductDate[12];
  char chassisPartNum[13];
  char chassisVendorName[17];
  uint8_t nvmeSsdNum;
  cndevNvmeSsdInfo_t nvmeInfo[8];
  uint8_t ibBoardNum;
  cndevIbInfo_t ibInfo[8];
  uint8_t psuNum;
  cndevPsuInfo_t psuInfo[6];
  uint8_t bmcIPVersion;
  uint8_t bmcIP[40];
} cndevChassisInfo_t;

/** Index of the chip on its board. */
typedef struct cndevChipId_t {
  int32_t version;
  uint8_t chipId;
} cndevChipId_t;

/** Turbo mode of the codecs. */
typedef struct cndevCodecTurbo_t {
  int32_t version;
  int32_t codecTurbo;
} cndevCodecTurbo_t;

/** Who may use a device. */
typedef struct cndevComputeMode_t {
  int32_t version;
  cndevComputeModeEnum_t mode;
} cndevComputeMode_t;

/** Currents, mA. */
typedef struct cndevCurrentInfo_t {
  int32_t ipuCoreCurrent;
  int32_t socCurrent;
  int32_t hbmCurrent;
  int32_t reserved[16];
} cndevCurrentInfo_t;

/** PCIe link as it runs: generation and lanes. */
typedef struct cndevCurrentPCIInfo_t {
  int32_t version;
  int32_t currentSpeed;
  int32_t currentWidth;
} cndevCurrentPCIInfo_t;

/** Device memory: bus width in bits, bandwidth in GB/s before and behind the point. */
typedef struct cndevDDRInfo_t {
  int32_t version;
  uint32_t dataWidth;
  uint32_t bandWidth;
  uint32_t bandWidthDecimal;
} cndevDDRInfo_t;

/** Sampling interval of the device processor, ms. */
typedef struct cndevDeviceCPUSamplingInterval_t {
  int32_t version;
  uint32_t samplingInterval;
} cndevDeviceCPUSamplingInterval_t;

/** Utilisation of the processor of the device, percent; states as in `cndevDeviceCpuStatUtilEnum_t`. */
typedef struct cndevDeviceCPUUtilizationV2_t {
  int32_t version;
  uint16_t chipUtilization;
  uint8_t coreNumber;
  uint8_t coreUtilization[32];
  uint8_t coreStateUtilization[32][64];
} cndevDeviceCPUUtilizationV2_t;

/** Memory of the operating system of the device, KB. */
typedef struct cndevDeviceOsMemoryInfo_t {
  uint32_t deviceSystemMemoryTotal;
  uint32_t deviceSystemMemoryUsed;
  uint32_t reserved[8];
} cndevDeviceOsMemoryInfo_t;

/** Power of the card, W. */
typedef struct cndevDevicePowerInfo_t {
  int32_t usage;
  int32_t cap;
  int32_t machine;
  int32_t tdp;
  int32_t maxPower;
  int32_t reserved[16];
} cndevDevicePowerInfo_t;

/** Arguments for containers. */
typedef struct cndevDockerParam_t {
  int32_t version;
  char dockerParam[200];
} cndevDockerParam_t;

/** Memory errors since the firmware booted. `addressForbiddenError` came with version 5. */
typedef struct cndevECCInfo_t {
  int32_t version;
  uint64_t oneBitError;
  uint64_t multipleOneError;
  uint64_t multipleError;
  uint64_t multipleMultipleError;
  uint64_t correctedError;
  uint64_t uncorrectedError;
  uint64_t totalError;
  uint64_t addressForbiddenError;
} cndevECCInfo_t;

/** Whether ECC is on. */
typedef struct cndevEccMode_t {
  int32_t version;
  cndevEnableStatusEnum_t mode;
} cndevEccMode_t;

/** An event: of an Xid, `eventData` is its number. `timestamp` is the wall-clock time in microseconds. */
typedef struct cndevEventData_t {
  uint32_t version;
  cndevDevice_t device;
  uint64_t eventData;
  uint64_t eventType;
  uint64_t timestamp;
  uint32_t computeInstanceId;
  uint32_t mluInstanceId;
  uint64_t reserved[8];
} cndevEventData_t;

/** Fans: percent of the full speed; -1 if the card has none. The chassis came with version 5. */
typedef struct cndevFanSpeedInfo_t {
  int32_t version;
  int32_t fanSpeed;
  int32_t chassisFanCount;
  int32_t chassisFan[28];
} cndevFanSpeedInfo_t;

/** Memory of the fast allocator, MB. */
typedef struct cndevFastAlloc_t {
  int32_t version;
  int32_t fastMemoryTotal;
  int32_t fastMemoryFree;
} cndevFastAlloc_t;

/** A value of a field. */
typedef union cndevValue_t {
  double dVal;
  uint32_t uiVal;
  unsigned long ulVal;
  unsigned long long ullVal;
  int32_t siVal;
  long slVal;
  long long sllVal;
} cndevValue_t;

/** One field to read: the caller sets `fieldId` and `scopeId` (cluster, core or link where the field has several),
 *  the library the rest. */
typedef struct cndevFieldValue_t {
  cndevFieldIdNum_t fieldId;
  cndevRet_t ret;
  cndevValue_t value;
  cndevFieldValuesTypeNum_t valueType;
  long long latencyUsec;
  long long timestamp;
  uint32_t scopeId;
} cndevFieldValue_t;

/** Clocks, MHz. What follows `fastDfsFlag` came with version 6. */
typedef struct cndevFrequencyInfo_t {
  int32_t version;
  int32_t boardFreq;
  int32_t ddrFreq;
  uint8_t overtempDfsFlag;
  uint8_t fastDfsFlag;
  uint16_t mluClusterFreqCount;
  uint16_t mluClusterFreq[20];
  int32_t boardDefaultFreq;
  int32_t boardFreqArange[2];
} cndevFrequencyInfo_t;

/** Utilisation of the JPEG units, percent. */
typedef struct cndevImageCodecUtilization_t {
  int32_t version;
  int32_t jpuCount;
  int32_t jpuCodecUtilization[20];
} cndevImageCodecUtilization_t;

/** Version of this library. */
typedef struct cndevLibVersionInfo_t {
  int32_t version;
  uint32_t libMajorVersion;
  uint32_t libMinorVersion;
  uint32_t libBuildVersion;
} cndevLibVersionInfo_t;

/** Speed of the PCIe link. */
typedef struct cndevLinkSpeed_t {
  int32_t version;
  int32_t linkSpeed;
} cndevLinkSpeed_t;

/** 1 if the clock is locked. */
typedef struct cndevMLUFrequencyStatus_t {
  int32_t version;
  uint8_t mluFrequencyLockStatus;
} cndevMLUFrequencyStatus_t;

/** Traffic of an MLU-Link port. */
typedef struct cndevMLULinkBasicCounter_t {
  uint64_t rxByte;
  uint64_t rxPkt;
  uint64_t txByte;
  uint64_t txPkt;
  uint64_t rxRocePkt;
  uint64_t txRocePkt;
  uint64_t timestamp;
  uint64_t reserved[25];
} cndevMLULinkBasicCounter_t;

/** What an MLU-Link port can do. */
typedef struct cndevMLULinkCapability_t {
  int32_t version;
  uint32_t p2pTransfer;
  uint32_t interlakenSerdes;
} cndevMLULinkCapability_t;

/** Congestion packets of an MLU-Link port. */
typedef struct cndevMLULinkCongestionCtrlCounter_t {
  uint64_t rxCnpPkt;
  uint64_t reserved[7];
} cndevMLULinkCongestionCtrlCounter_t;

/** Traffic of an MLU-Link port over RoCE. */
typedef struct cndevMLULinkCounterExt_t {
  uint64_t rxPfcOkPkt;
  uint64_t rxPfc0Pkt;
  uint64_t rxPfc1Pkt;
  uint64_t rxPfc2Pkt;
  uint64_t rxPfc3Pkt;
  uint64_t rxPfc4Pkt;
  uint64_t rxPfc5Pkt;
  uint64_t rxPfc6Pkt;
  uint64_t rxPfc7Pkt;
  uint64_t txPfcOkPkt;
  uint64_t txPfc0Pkt;
  uint64_t txPfc1Pkt;
  uint64_t txPfc2Pkt;
  uint64_t txPfc3Pkt;
  uint64_t txPfc4Pkt;
  uint64_t txPfc5Pkt;
  uint64_t txPfc6Pkt;
  uint64_t txPfc7Pkt;
  uint64_t rxRocePkt;
  uint64_t txRocePkt;
  uint64_t roceVerificationErrPkt;
  uint64_t reserved[64];
} cndevMLULinkCounterExt_t;

/** Traffic and errors of an MLU-Link port since the server of the card started. What follows `errUncorrected` came
 *  with version 6. */
typedef struct cndevMLULinkCounter_t {
  int32_t version;
  uint64_t cntrReadByte;
  uint64_t cntrReadPackage;
  uint64_t cntrWriteByte;
  uint64_t cntrWritePackage;
  uint64_t errReplay;
  uint64_t errFatal;
  uint64_t errEccDouble;
  uint64_t errCRC24;
  uint64_t errCRC32;
  uint64_t errCorrected;
  uint64_t errUncorrected;
  uint64_t errReadPackage;
  uint64_t errWritePackage;
  uint64_t errIllegalAccess;
  uint64_t cntrCnpPackage;
  uint64_t cntrPfcPackage;
  uint64_t statQPInUsing;
  uint64_t statTaskAlive;
} cndevMLULinkCounter_t;

/** Serial numbers of what is at the other ends of the MLU-Link ports. */
typedef struct cndevMLULinkDevSN_t {
  int32_t version;
  uint64_t mlulinkMcSn[8];
  uint64_t mlulinkBaSn[8];
} cndevMLULinkDevSN_t;

/** Errors of an MLU-Link port. */
typedef struct cndevMLULinkErrorCounter_t {
  uint64_t correctFecCnt;
  uint64_t uncorrectFecCnt;
  uint64_t rxBadFcsPkt;
  uint64_t txBadFcsPkt;
  uint64_t illegalAccessCnt;
  uint64_t reserved[11];
} cndevMLULinkErrorCounter_t;

/** Events of an MLU-Link port. */
typedef struct cndevMLULinkEventCounter_t {
  uint64_t linkDown;
  uint64_t replay;
  uint64_t replayFail;
  uint64_t reserved[13];
} cndevMLULinkEventCounter_t;

/** Flow-control packets of an MLU-Link port. */
typedef struct cndevMLULinkFlowCtrlCounter_t {
  uint64_t rxPfcPkt;
  uint64_t rxPfc0Pkt;
  uint64_t rxPfc1Pkt;
  uint64_t rxPfc2Pkt;
  uint64_t rxPfc3Pkt;
  uint64_t rxPfc4Pkt;
  uint64_t rxPfc5Pkt;
  uint64_t rxPfc6Pkt;
  uint64_t rxPfc7Pkt;
  uint64_t txPfcPkt;
  uint64_t txPfc0Pkt;
  uint64_t txPfc1Pkt;
  uint64_t txPfc2Pkt;
  uint64_t txPfc3Pkt;
  uint64_t txPfc4Pkt;
  uint64_t txPfc5Pkt;
  uint64_t txPfc6Pkt;
  uint64_t txPfc7Pkt;
  uint64_t reserved[14];
} cndevMLULinkFlowCtrlCounter_t;

/** Serial number of the host at the other end. */
typedef struct cndevMLULinkHostSN_t {
  char sn[128];
} cndevMLULinkHostSN_t;

/** Management address of the other end. */
typedef struct cndevMLULinkMgmtAddr_t {
  uint32_t ip_version;
  struct in_addr ip_addr;
  struct in6_addr ipv6_addr;
} cndevMLULinkMgmtAddr_t;

/** Ordering part number of the other end. */
typedef struct cndevMLULinkOPN_t {
  char opn[16];
} cndevMLULinkOPN_t;

/** A setting of MLU-Link over RoCE. */
typedef struct cndevMLULinkOverRoCECtrl_t {
  int32_t version;
  cndevMLULinkOverRoCEFieldEnum_t field;
  uint32_t value;
} cndevMLULinkOverRoCECtrl_t;

/** Port of the other end as its switch names it. */
typedef struct cndevMLULinkPPI_t {
  char ppi[16];
} cndevMLULinkPPI_t;

/** Address of an MLU-Link port over RoCE. */
typedef struct cndevMLULinkPortIP_t {
  int32_t version;
  uint8_t ipVersion;
  char ip[40];
} cndevMLULinkPortIP_t;

/** What an MLU-Link port is used for, and can be. */
typedef struct cndevMLULinkPortMode_t {
  int32_t version;
  cndevPortModeEnum_t mode;
  cndevPortModeEnum_t supportMode;
} cndevMLULinkPortMode_t;

/** What is at the other end of an MLU-Link. `mac_addr` and `port_name` came with version 6. */
typedef struct cndevMLULinkRemoteInfo_t {
  int32_t version;
  uint64_t mcSn;
  uint64_t baSn;
  uint32_t slotId;
  uint32_t portId;
  uint8_t devIp[16];
  uint8_t uuid[37];
  uint32_t devIpVersion;
  uint32_t isIpValid;
  int32_t connectType;
  uint64_t ncsUUID64;
  uint8_t mac_addr[6];
  char port_name[256];
} cndevMLULinkRemoteInfo_t;

/** A counter of an MLU-Link port to clear. */
typedef struct cndevMLULinkSetCounter_t {
  int32_t version;
  cndevMLULinkCounterEnum_t setCounter;
} cndevMLULinkSetCounter_t;

/** Speed of an MLU-Link port, Gbit/s in one direction. */
typedef struct cndevMLULinkSpeed_t {
  int32_t version;
  float speedValue;
  cndevMLULinkSpeedEnum_t speedFormat;
} cndevMLULinkSpeed_t;

/** State of an MLU-Link port. */
typedef struct cndevMLULinkStatusV2_t {
  cndevMLULinkMACStateEnum_t macState;
  cndevMLULinkSerdesStateEnum_t serdesState;
  cndevMLULinkPresenceStateEnum_t presenceState;
  uint32_t serdesProgress;
  uint32_t reserved[7];
} cndevMLULinkStatusV2_t;

/** Queue pairs and tasks of an MLU-Link port over RoCE. */
typedef struct cndevMLULinkTaskStatsCounter_t {
  uint64_t qpInUsing;
  uint64_t taskAlive;
  uint64_t reserved[14];
} cndevMLULinkTaskStatsCounter_t;

/** Version of an MLU-Link port. */
typedef struct cndevMLULinkVersion_t {
  int32_t version;
  uint32_t majorVersion;
  uint32_t minorVersion;
  uint32_t buildVersion;
} cndevMLULinkVersion_t;

/** Memory errors: volatile ones since the firmware booted, aggregate ones since the card was made. */
typedef struct cndevMemEccCounter_t {
  int32_t version;
  uint32_t volatileSramEccSbeCounter;
  uint32_t volatileSramEccDbeCounter;
  uint32_t volatileSramEccParityCounter;
  uint32_t volatileDramEccSbeCounter;
  uint32_t volatileDramEccDbeCounter;
  uint64_t aggregateDramEccSbeCounter;
  uint64_t aggregateDramEccDbeCounter;
  uint64_t aggregateSramEccSbeCounter;
  uint64_t aggregateSramEccDbeCounter;
  uint64_t aggregateSramEccParityCounter;
  bool aggregateSramEccThresholdExceeded;
  uint64_t reserved[11];
} cndevMemEccCounter_t;

/** Memory of a device, MB. */
typedef struct cndevMemoryInfoV2_t {
  int64_t physicalMemoryTotal;
  int64_t physicalMemoryUsed;
  int64_t reservedMemory;
  int64_t virtualMemoryTotal;
  int64_t virtualMemoryUsed;
  uint64_t globalMemory;
  uint64_t reserved[16];
} cndevMemoryInfoV2_t;

/** Memory of a device, MB. `globalMemory` came with version 6. */
typedef struct cndevMemoryInfo_t {
  int32_t version;
  int64_t physicalMemoryTotal;
  int64_t physicalMemoryUsed;
  int64_t virtualMemoryTotal;
  int64_t virtualMemoryUsed;
  int64_t channelNumber;
  int64_t channelMemoryUsed[20];
  uint64_t globalMemory;
} cndevMemoryInfo_t;

/** Whether the device is divided into MLU instances. */
typedef struct cndevMimMode_t {
  int32_t version;
  cndevEnableStatusEnum_t mimMode;
} cndevMimMode_t;

/** Place of an MLU instance. */
typedef struct cndevMluInstancePlacement_t {
  int32_t version;
  int32_t start;
  int32_t size;
} cndevMluInstancePlacement_t;

/** An MLU instance. */
typedef struct cndevMluInstanceInfo_t {
  int32_t version;
  cndevDevice_t parentDevice;
  int32_t instanceId;
  int32_t profileId;
  uint8_t uuid[37];
  int32_t domain;
  int32_t bus;
  int32_t device;
  int32_t function;
  cndevMluInstancePlacement_t placement;
  int32_t mluCoreCount;
  int32_t vpuCount;
  int32_t jpuCount;
  int32_t gdmaCount;
  int32_t memorySize;
  char profileName[100];
  char devNodeName[100];
  char ipcmDevNodeName[100];
  char instanceName[100];
  uint32_t reserved[128];
} cndevMluInstanceInfo_t;

/** A profile of MLU instances. */
typedef struct cndevMluInstanceProfileInfo_t {
  int32_t version;
  int32_t profileId;
  int32_t mluCoreCount;
  int32_t vpuCount;
  int32_t jpuCount;
  int32_t gdmaCount;
  int32_t memorySize;
  char name[100];
} cndevMluInstanceProfileInfo_t;

/** Names and unit of a metric. */
typedef struct cndevMpmMetricInfo_t {
  char *shortName;
  char *longName;
  char *unit;
} cndevMpmMetricInfo_t;

/** A metric between two samples: the caller sets `metricId`. */
typedef struct cndevMpmMetric_t {
  cndevMpmMetricId_t metricId;
  cndevRet_t ret;
  double value;
  cndevMpmMetricInfo_t metricInfo;
} cndevMpmMetric_t;

/** Metrics to compute from two samples of one device, `sample1` the earlier. */
typedef struct cndevMpmMetricsGet_t {
  uint32_t version;
  uint32_t numMetrics;
  cndevMpmSample_t sample1;
  cndevMpmSample_t sample2;
  cndevMpmMetric_t metrics[256];
} cndevMpmMetricsGet_t;

/** NUMA node of a device; -1 if it has none. */
typedef struct cndevNUMANodeId_t {
  int32_t version;
  int32_t nodeId;
} cndevNUMANodeId_t;

/** Thresholds of a quantity of an optical module. */
typedef struct cndevOpticalThres_t {
  float high_alarm;
  float low_alarm;
  float high_warn;
  float low_warn;
} cndevOpticalThres_t;

/** An optical module of an MLU-Link port. */
typedef struct cndevOpticalInfo_t {
  uint8_t qdd_idx;
  uint8_t split_idx;
  uint8_t present;
  char vendor_name[16];
  char vendor_pn[16];
  char vendor_sn[16];
  uint8_t vendor_oui[3];
  uint8_t identifier;
  float wave_length;
  char manu_dc[8];
  float temp;
  cndevOpticalStatusEnum_t temp_state;
  cndevOpticalThres_t temp_thresh;
  float volt;
  cndevOpticalStatusEnum_t volt_state;
  cndevOpticalThres_t volt_thresh;
  int32_t valid_lane_num;
  float txpwr[8];
  cndevOpticalStatusEnum_t txpwr_state[8];
  cndevOpticalThres_t txpwr_thresh;
  float txbias[8];
  cndevOpticalStatusEnum_t txbias_state[8];
  cndevOpticalThres_t txbias_thresh;
  float rxpwr[8];
  cndevOpticalStatusEnum_t rxpwr_state[8];
  cndevOpticalThres_t rxpwr_thresh;
  uint8_t txlos_flag;
  uint8_t rxlos_flag;
  uint64_t reserved[8];
} cndevOpticalInfo_t;

/** How often the card was too hot, and the limits in degrees Celsius. */
typedef struct cndevOverTemperatureInfo_t {
  int32_t version;
  uint32_t powerOffCounter;
  uint32_t underClockCounter;
  int16_t powerOffTemp;
  int16_t underClockTemp;
} cndevOverTemperatureInfo_t;

/** PCIe link at its best: generation and lanes. */
typedef struct cndevPCIInfo_t {
  int32_t version;
  int32_t maxSpeed;
  int32_t maxWidth;
} cndevPCIInfo_t;

/** Version of the PCIe firmware. */
typedef struct cndevPCIeFirmwareVersion_t {
  int32_t version;
  uint16_t pcieReversion;
  uint16_t pcieBuildID;
  uint16_t pcieEngineeringId;
} cndevPCIeFirmwareVersion_t;

/** PCI identity and address of a device. */
typedef struct cndevPCIeInfoV2_t {
  uint32_t subsystemId;
  uint32_t deviceId;
  uint16_t vendor;
  uint16_t subsystemVendor;
  uint32_t domain;
  uint32_t bus;
  uint32_t device;
  uint32_t function;
  uint16_t moduleId;
  uint16_t slotId;
  uint32_t reserved[8];
} cndevPCIeInfoV2_t;

/** Bytes over PCIe: per second over the last second, and in all. Read is from the host to the card. */
typedef struct cndevPCIethroughputV2_t {
  int64_t pcieRead;
  int64_t pcieWrite;
  int64_t pcieReadTotal;
  int64_t pcieWriteTotal;
  uint64_t timestamp;
  int64_t reserved[8];
} cndevPCIethroughputV2_t;

/** Parity errors. */
typedef struct cndevParityError_t {
  int32_t version;
  int32_t counter;
} cndevParityError_t;

/** Packets that the PCIe link sent again. */
typedef struct cndevPcieReplayCounter_t {
  int32_t version;
  uint32_t counter;
} cndevPcieReplayCounter_t;

/** What holds the clock down. */
typedef struct cndevPerformanceThrottleReason_t {
  int32_t version;
  cndevEnableStatusEnum_t tdp;
  cndevEnableStatusEnum_t powerSetting;
  cndevEnableStatusEnum_t clockSetting;
  cndevEnableStatusEnum_t frequencyLocked;
  cndevEnableStatusEnum_t powerBrake;
  cndevEnableStatusEnum_t thermalSlowdown;
} cndevPerformanceThrottleReason_t;

/** Lowest and highest power cap, W and hundredths. */
typedef struct cndevPowerManagementLimitationRange_t {
  int32_t version;
  uint16_t minPowerLimit;
  uint16_t minPowerLimitDecimal;
  uint16_t maxPowerLimit;
  uint16_t maxPowerLimitDecimal;
} cndevPowerManagementLimitationRange_t;

/** Power cap, W and hundredths. */
typedef struct cndevPowerManagementLimitation_t {
  int32_t version;
  uint16_t powerLimit;
  uint16_t powerLimitDecimal;
} cndevPowerManagementLimitation_t;

/** A process and its memory on a device, KiB. */
typedef struct cndevProcessInfo_t {
  int32_t version;
  uint32_t pid;
  uint64_t physicalMemoryUsed;
  uint64_t virtualMemoryUsed;
} cndevProcessInfo_t;

/** A process and its share of a device since a point in time, percent. */
typedef struct cndevProcessUtilizationInfo_t {
  uint32_t pid;
  uint32_t ipuUtil;
  uint32_t jpuUtil;
  uint32_t vpuDecUtil;
  uint32_t vpuEncUtil;
  uint32_t memUtil;
  uint64_t timestamp;
} cndevProcessUtilizationInfo_t;

/** A process and its share of a device, percent. */
typedef struct cndevProcessUtilization_t {
  int32_t version;
  uint32_t pid;
  uint32_t ipuUtil;
  uint32_t jpuUtil;
  uint32_t vpuDecUtil;
  uint32_t vpuEncUtil;
  uint32_t memUtil;
} cndevProcessUtilization_t;

/** Memory rows that were replaced; `histogram` as of `cndevAddressSwap_t`. */
typedef struct cndevRemappedRowV2_t {
  int32_t version;
  uint32_t correctCounts;
  uint32_t uncorrectCounts;
  uint32_t histogram[3];
} cndevRemappedRowV2_t;

/** Memory rows that were replaced. */
typedef struct cndevRemappedRow_t {
  int32_t version;
  uint32_t correctRows;
  uint32_t uncorrectRows;
  uint32_t pendingRows;
  uint32_t failedRows;
} cndevRemappedRow_t;

/** Whether repairs of the memory wait for a reset, or failed. */
typedef struct cndevRepairStatus_t {
  int32_t version;
  bool isRetirePending;
  bool isPending;
  bool isFailure;
} cndevRepairStatus_t;

/** Pages taken out of use: the caller sets `cause`. */
typedef struct cndevRetiredPageInfo_t {
  int32_t version;
  cndevRetirePageCauseEnum_t cause;
  uint32_t pageCount;
  uint64_t pageAddress[512];
} cndevRetiredPageInfo_t;

/** Whether pages are taken out of use. */
typedef struct cndevRetiredPageOperation_t {
  int32_t version;
  cndevEnableStatusEnum_t retirePageOption;
} cndevRetiredPageOperation_t;

/** Whether pages wait for a reset to be taken out of use, or could not be. */
typedef struct cndevRetiredPageStatus_t {
  int32_t version;
  uint32_t isPending;
  uint32_t isFailure;
} cndevRetiredPageStatus_t;

/** Whether the device is shared by sMLU instances. */
typedef struct cndevSMLUMode_t {
  int32_t version;
  cndevEnableStatusEnum_t smluMode;
} cndevSMLUMode_t;

/** An sMLU instance. */
typedef struct cndevSMluInfo_t {
  int32_t version;
  int32_t profileId;
  int32_t instanceId;
  uint8_t uuid[37];
  int32_t domain;
  int32_t bus;
  int32_t device;
  int32_t function;
  char profileName[100];
  char instanceName[100];
  char devNodeName[100];
  uint32_t mluQuota[2];
  uint64_t memorySize[2];
  uint32_t reserved[128];
} cndevSMluInfo_t;

/** Profiles of sMLU instances. */
typedef struct cndevSMluProfileIdInfo_t {
  int32_t version;
  int32_t count;
  int32_t profileId[128];
} cndevSMluProfileIdInfo_t;

/** A profile of sMLU instances. */
typedef struct cndevSMluProfileInfo_t {
  int32_t version;
  int32_t profileId;
  char name[100];
  uint32_t totalCapacity;
  uint32_t remainCapacity;
  uint32_t mluQuota[2];
  uint64_t memorySize[2];
} cndevSMluProfileInfo_t;

/** Share of a device for a profile: percent and bytes. */
typedef struct cndevSMluSet_t {
  int32_t version;
  uint32_t mluQuota;
  uint64_t memorySize;
} cndevSMluSet_t;

/** Whether SR-IOV is on. */
typedef struct cndevSRIOVMode_t {
  int32_t version;
  cndevEnableStatusEnum_t sriovMode;
} cndevSRIOVMode_t;

/** Utilisation of the scalers, percent. */
typedef struct cndevScalerUtilization_t {
  int32_t version;
  int32_t scalerCount;
  int32_t scalerUtilization[20];
} cndevScalerUtilization_t;

/** Temperatures, degrees Celsius; 0 where there is no sensor. What follows `chip` came with version 5, `isp` with
 *  6. */
typedef struct cndevTemperatureInfo_t {
  int32_t version;
  int32_t board;
  int32_t cluster[20];
  int32_t memoryDie[8];
  int32_t chip;
  int32_t airInlet;
  int32_t airOutlet;
  int32_t memory;
  int32_t videoInput;
  int32_t cpu;
  int32_t isp;
} cndevTemperatureInfo_t;

/** Utilisation of the tiny cores, percent. */
typedef struct cndevTinyCoreUtilization_t {
  int32_t version;
  int32_t tinyCoreCount;
  int32_t tinyCoreUtilization[10];
} cndevTinyCoreUtilization_t;

/** A PCI capability of a node. */
typedef struct cndevTopologyNodeCapInfo_t {
  struct cndevTopologyNodeCapInfo_t *next;
  uint8_t id;
  uint16_t cap;
} cndevTopologyNodeCapInfo_t;

/** A PCI function in the tree of the machine. `left` and `right` are neighbours on one bus, `child` is the first
 *  behind a bridge. */
typedef struct cndevTopologyNode_t {
  int32_t virtualRootNode;
  int32_t domain;
  int32_t bus;
  int32_t device;
  int32_t function;
  uint32_t subsystemId;
  uint32_t deviceId;
  uint32_t vendor;
  uint32_t subsystemVendor;
  const char *deviceName;
  uint32_t classVal;
  const char *className;
  struct cndevTopologyNodeCapInfo_t *firstCap;
  struct cndevTopologyNode_t *parent;
  struct cndevTopologyNode_t *left;
  struct cndevTopologyNode_t *right;
  struct cndevTopologyNode_t *child;
  uint32_t linkSpeed;
  int32_t isBridge;
  int32_t isCardbus;
  uint8_t primaryBus;
  uint8_t secondaryBus;
  uint8_t subordinateBus;
  int32_t acsCtrl;
} cndevTopologyNode_t;

/** How near two nodes are. */
typedef struct cndevTopologyRelationship_t {
  int32_t version;
  cndevTopologyRelationshipEnum_t relation;
} cndevTopologyRelationship_t;

/** Universally unique identifier as text: 8-4-4-4-12 hexadecimal digits. */
typedef struct cndevUUID_t {
  int32_t version;
  uint8_t uuid[37];
  uint64_t ncsUUID64;
} cndevUUID_t;

/** Utilisation of the IPU cores over the last second, percent. */
typedef struct cndevUtilizationInfo_t {
  int32_t version;
  int32_t averageCoreUtilization;
  int32_t coreUtilization[80];
} cndevUtilizationInfo_t;

/** Versions of the board firmware and of the driver. */
typedef struct cndevVersionInfo_t {
  int32_t version;
  uint32_t mcuMajorVersion;
  uint32_t mcuMinorVersion;
  uint32_t mcuBuildVersion;
  uint32_t driverMajorVersion;
  uint32_t driverMinorVersion;
  uint32_t driverBuildVersion;
} cndevVersionInfo_t;

/** Utilisation of the video units, percent. What follows `vpuCodecUtilization` came with version 6. */
typedef struct cndevVideoCodecUtilization_t {
  int32_t version;
  int32_t vpuCount;
  int32_t vpuCodecUtilization[20];
  int32_t encoderCount;
  int32_t encoderUtilization[20];
  int32_t decoderCount;
  int32_t decoderUtilization[20];
} cndevVideoCodecUtilization_t;

/** Voltages, mV. */
typedef struct cndevVoltageInfo_t {
  int16_t ipuCoreVoltage;
  int16_t socVoltage;
  int16_t hbmVccVoltage;
  int16_t hbmVddVoltage;
  int16_t reserved[16];
} cndevVoltageInfo_t;

/** Another spelling of `cndevFieldValue_t`, which programs use. */
typedef cndevFieldValue_t cndevFieldVaule_t;

/* The library. */

/** Starts the library; `reserved` is 0. Each call wants a `cndevRelease`. */
EXPORT cndevRet_t cndevInit(int32_t reserved);

/** Undoes one `cndevInit`; the last one ends the library, and with it topology nodes and event handles. */
EXPORT cndevRet_t cndevRelease(void);

/** What a code means, in English; never NULL. */
EXPORT const char *cndevGetErrorString(cndevRet_t errorId);

/** The code of this thread's last call that failed; CNDEV_SUCCESS if none has. */
EXPORT cndevRet_t cndevGetLastError(void);

/** Ends the program with a message unless the code is CNDEV_SUCCESS. */
EXPORT void cndevCheckErrors(cndevRet_t errorId);

/** Version of this library. */
EXPORT cndevRet_t cndevGetLibVersion(cndevLibVersionInfo_t *libVerInfo);

/* Devices. */

/** How many devices there are. */
EXPORT cndevRet_t cndevGetDeviceCount(cndevCardInfo_t *cardNum);

/** The device with a number, from 0 on. */
EXPORT cndevRet_t cndevGetDeviceHandleByIndex(int32_t index, cndevDevice_t *handle);

/** The device at an address such as `0000:39:00.0`, in any case of letters. */
EXPORT cndevRet_t cndevGetDeviceHandleByPciBusId(const char *pciBusId, cndevDevice_t *handle);

/** The device with a UUID, with or without `MLU-` in front. */
EXPORT cndevRet_t cndevGetDeviceHandleByUUID(const char *uuid, cndevDevice_t *handle);

/** Type of a device. */
EXPORT cndevRet_t cndevGetCardName(cndevCardName_t *cardName, cndevDevice_t device);

/** Name of a type, such as `MLU370`. */
EXPORT const char *cndevGetCardNameString(cndevNameEnum_t cardName);

/** Name of the product, such as `MLU370-X8`; empty if there is no such device. */
EXPORT const char *cndevGetCardNameStringByDevId(cndevDevice_t device);

/** As `cndevGetCardNameStringByDevId`. */
EXPORT const char *cndevGetCardNameByDevId(cndevDevice_t device);

/** Serial numbers. Devices of one board share them. */
EXPORT cndevRet_t cndevGetCardSN(cndevCardSN_t *cardSN, cndevDevice_t device);

/** Universally unique identifier of a device. */
EXPORT cndevRet_t cndevGetUUID(cndevUUID_t *uuidInfo, cndevDevice_t device);

/** Versions of firmware and driver. */
EXPORT cndevRet_t cndevGetVersionInfo(cndevVersionInfo_t *versInfo, cndevDevice_t device);

/** Clusters. */
EXPORT cndevRet_t cndevGetClusterCount(cndevCardClusterCount_t *clusCount, cndevDevice_t device);

/** IPU cores. */
EXPORT cndevRet_t cndevGetCoreCount(cndevCardCoreCount_t *cardCoreCount, cndevDevice_t device);

/** Compute capability. */
EXPORT cndevRet_t cndevGetComputeCapability(uint32_t *major, uint32_t *minor, cndevDevice_t device);

/** Bus width and bandwidth of the memory. */
EXPORT cndevRet_t cndevGetDDRInfo(cndevDDRInfo_t *ddrInfo, cndevDevice_t device);

/** NUMA node. */
EXPORT cndevRet_t cndevGetNUMANodeIdByDevId(cndevNUMANodeId_t *numaNodeId, cndevDevice_t device);

/** Virtual functions. */
EXPORT cndevRet_t cndevGetCardVfState(cndevCardVfState_t *vfstate, cndevDevice_t device);

/** The chassis. */
EXPORT cndevRet_t cndevGetChassisInfoV2(cndevChassisInfoV2_t *chassisinfo, cndevDevice_t device);

/** A setting of the device. */
EXPORT cndevRet_t cndevDeviceGetConfigs(
    unsigned long long *value, cndevDeviceConfigsTypeEnum_t type, cndevDevice_t device);

/** Reads fields; each has a code of its own in `ret`. */
EXPORT cndevRet_t cndevDeviceGetFieldValues(cndevDevice_t device, int32_t valueCount, cndevFieldValue_t *value);

/* PCIe. */

/** Identity and address. */
EXPORT cndevRet_t cndevGetPCIeInfoV2(cndevPCIeInfoV2_t *deviceInfo, cndevDevice_t device);

/** The address as text, such as `0000:39:00.0`. */
EXPORT cndevRet_t cndevGetPCIeBusId(char *pciBusId, int32_t length, cndevDevice_t device);

/** The link as it runs; not without a bus. */
EXPORT cndevRet_t cndevGetCurrentPCIInfo(cndevCurrentPCIInfo_t *currentPCIInfo, cndevDevice_t device);

/** The link at its best. */
EXPORT cndevRet_t cndevGetMaxPCIInfo(cndevPCIInfo_t *maxPCIInfo, cndevDevice_t device);

/** What copies move. */
EXPORT cndevRet_t cndevGetPCIethroughputV2(cndevPCIethroughputV2_t *pciethroughput, cndevDevice_t device);

/** Packets that were sent again; where the kernel counts them. */
EXPORT cndevRet_t cndevGetPcieReplayCounter(cndevPcieReplayCounter_t *count, cndevDevice_t device);

/** The window on device memory; not without a bus. */
EXPORT cndevRet_t cndevGetBAR4MemoryInfo(cndevBAR4Memory_t *bar4Memory, cndevDevice_t device);

/* Memory. */

/** Memory of a device. */
EXPORT cndevRet_t cndevGetMemoryUsage(cndevMemoryInfo_t *memInfo, cndevDevice_t device);

/** Memory of a device. */
EXPORT cndevRet_t cndevGetMemoryUsageV2(cndevMemoryInfoV2_t *memInfo, cndevDevice_t device);

/** Memory of the device's own operating system. */
EXPORT cndevRet_t cndevGetDeviceOsMemoryUsageV2(cndevDeviceOsMemoryInfo_t *mem, cndevDevice_t device);

/** Memory errors since the firmware booted. */
EXPORT cndevRet_t cndevGetECCInfo(cndevECCInfo_t *eccInfo, cndevDevice_t device);

/** Whether ECC is on, and will be after the next reset. */
EXPORT cndevRet_t cndevGetEccMode(cndevEccMode_t *currentMode, cndevEccMode_t *pendingMode, cndevDevice_t device);

/** Memory errors since the firmware booted and since the board was made. */
EXPORT cndevRet_t cndevGetMemEccCounter(cndevMemEccCounter_t *eccCounter, cndevDevice_t device);

/** Pages that were taken out of use for `cause`. */
EXPORT cndevRet_t cndevGetRetiredPages(cndevRetiredPageInfo_t *retirepage, cndevDevice_t device);

/** Whether pages are taken out of use. */
EXPORT cndevRet_t cndevGetRetiredPagesOperation(cndevRetiredPageOperation_t *operation, cndevDevice_t device);

/** Whether pages wait for a reset. */
EXPORT cndevRet_t cndevGetRepairStatus(cndevRepairStatus_t *status, cndevDevice_t device);

/** Addresses that were swapped. */
EXPORT cndevRet_t cndevGetAddressSwaps(cndevAddressSwap_t *swaps, cndevDevice_t device);

/** Rows that were replaced. */
EXPORT cndevRet_t cndevGetRemappedRows(cndevRemappedRow_t *rows, cndevDevice_t device);

/** Rows that were replaced. */
EXPORT cndevRet_t cndevGetRemappedRowsV2(cndevRemappedRowV2_t *rows, cndevDevice_t device);

/** Parity errors. */
EXPORT cndevRet_t cndevGetParityError(cndevParityError_t *error, cndevDevice_t handle);

/** CRC errors between dies. */
EXPORT cndevRet_t cndevGetCRCInfo(cndevCRCInfo_t *crcInfo, cndevDevice_t device);

/* Utilisation and processes. */

/** Utilisation of the IPU cores. Where there is a telemetry page, the device is not asked. */
EXPORT cndevRet_t cndevGetDeviceUtilizationInfo(cndevUtilizationInfo_t *utilInfo, cndevDevice_t device);

/** Utilisation of the device's own processor. */
EXPORT cndevRet_t cndevGetDeviceCPUUtilizationV2(cndevDeviceCPUUtilizationV2_t *util, cndevDevice_t device);

/** Utilisation of the JPEG units. */
EXPORT cndevRet_t cndevGetImageCodecUtilization(cndevImageCodecUtilization_t *jpuutil, cndevDevice_t device);

/** Utilisation of the video units. */
EXPORT cndevRet_t cndevGetVideoCodecUtilization(cndevVideoCodecUtilization_t *vpuutil, cndevDevice_t device);

/** Utilisation of the tiny cores. */
EXPORT cndevRet_t cndevGetTinyCoreUtilization(cndevTinyCoreUtilization_t *util, cndevDevice_t device);

/** Processes that use a device. `infoCount` says for how many there is room and then how many there are;
 *  CNDEV_ERROR_INSUFFICIENT_SPACE if those are more. `procInfo` may be NULL if there is room for 0; else the first
 *  element says the version. */
EXPORT cndevRet_t cndevGetProcessInfo(uint32_t *infoCount, cndevProcessInfo_t *procInfo, cndevDevice_t device);

/** What processes take of a device since this library last looked; counts as in `cndevGetProcessInfo`. */
EXPORT cndevRet_t cndevGetProcessUtilization(
    uint32_t *processCount, cndevProcessUtilization_t *processUtil, cndevDevice_t device);

/** Who may use a device. */
EXPORT cndevRet_t cndevGetComputeMode(cndevComputeMode_t *mode, cndevDevice_t device);

/* Power, heat, clocks. */

/** Power of the board. */
EXPORT cndevRet_t cndevGetDevicePowerInfo(cndevDevicePowerInfo_t *powerInfo, cndevDevice_t device);

/** The power cap. */
EXPORT cndevRet_t cndevGetPowerManagementLimitation(
    cndevPowerManagementLimitation_t *limitation, cndevDevice_t device);

/** The power cap if none is set. */
EXPORT cndevRet_t cndevGetPowerManagementDefaultLimitation(
    cndevPowerManagementLimitation_t *defaultLimitation, cndevDevice_t device);

/** Power caps that can be set. */
EXPORT cndevRet_t cndevGetPowerManagementLimitationRange(
    cndevPowerManagementLimitationRange_t *limit, cndevDevice_t device);

/** Temperatures. */
EXPORT cndevRet_t cndevGetTemperatureInfo(cndevTemperatureInfo_t *tempInfo, cndevDevice_t device);

/** Limits of the temperature, and how often they were passed. */
EXPORT cndevRet_t cndevGetOverTemperatureInfo(cndevOverTemperatureInfo_t *tempInfo, cndevDevice_t device);

/** Fans. */
EXPORT cndevRet_t cndevGetFanSpeedInfo(cndevFanSpeedInfo_t *fanInfo, cndevDevice_t device);

/** Clocks. */
EXPORT cndevRet_t cndevGetFrequencyInfo(cndevFrequencyInfo_t *freqInfo, cndevDevice_t device);

/** Whether the clock is locked. Version 0 is taken as 1, since programs leave it so. */
EXPORT cndevRet_t cndevGetMLUFrequencyStatus(cndevMLUFrequencyStatus_t *status, cndevDevice_t device);

/** What holds the clock down. */
EXPORT cndevRet_t cndevGetPerformanceThrottleReason(cndevPerformanceThrottleReason_t *reason, cndevDevice_t device);

/** Voltages. */
EXPORT cndevRet_t cndevGetVoltageInfo(cndevVoltageInfo_t *voltage, cndevDevice_t device);

/** Currents. */
EXPORT cndevRet_t cndevGetCurrentInfo(cndevCurrentInfo_t *current, cndevDevice_t device);

/* Health and events. */

/** Health of a device. */
EXPORT cndevRet_t cndevGetCardHealthState(cndevCardHealthState_t *cardHealthState, cndevDevice_t device);

/** Health of a device, with what is wrong. */
EXPORT cndevRet_t cndevGetCardHealthStateV2(cndevCardHealthStateV2_t *cardHealthState, cndevDevice_t device);

/** Grows as long as the firmware is alive. */
EXPORT cndevRet_t cndevGetCardHeartbeatCount(cndevCardHeartbeatCount_t *cardHeartbeatCount, cndevDevice_t device);

/** Events that a device can report. */
EXPORT cndevRet_t cndevGetSupportedEventTypes(unsigned long long *eventTypes, cndevDevice_t device);

/** Makes a set of events to wait for. */
EXPORT cndevRet_t cndevEventHandleCreate(cndevEventHandle *handle);

/** Ends it; who waits comes back with CNDEV_ERROR_INVALID_ARGUMENT. */
EXPORT cndevRet_t cndevEventHandleDestroy(cndevEventHandle handle);

/** Adds events of a device, from now on; `cndevEventTypeNone` takes them out. */
EXPORT cndevRet_t cndevRegisterEvents(cndevEventHandle handle, unsigned long long eventTypes, cndevDevice_t device);

/** Waits for the next event, at most `timeout` ms, for ever if negative; CNDEV_ERROR_TIMEOUT if none comes. */
EXPORT cndevRet_t cndevEventWait(cndevEventHandle handle, cndevEventData_t *eventData, int32_t timeout);

/* MLU-Link and topology. */

/** Ports of a device; -1 if there is no such device. */
EXPORT int32_t cndevGetMLULinkPortNumber(cndevDevice_t device);

/** State of a port. */
EXPORT cndevRet_t cndevGetMLULinkStatusV2(cndevMLULinkStatusV2_t *status, cndevDevice_t device, int32_t link);

/** Whether a port takes commands in and sends them out. */
EXPORT cndevRet_t cndevGetMLULinkState(
    int32_t *ib_cmd_info, int32_t *ob_cmd_info, cndevDevice_t device, int32_t link);

/** Takes a link up or down; where faults may be injected, and for root or the user who runs the server of the
 *  cards. */
EXPORT cndevRet_t cndevSetMLULinkState(cndevEnableStatusEnum_t state, cndevDevice_t device, int32_t link);

/** Speed of a port. */
EXPORT cndevRet_t cndevGetMLULinkSpeedInfo(cndevMLULinkSpeed_t *speed, cndevDevice_t device, int32_t link);

/** What a port can do. */
EXPORT cndevRet_t cndevGetMLULinkCapability(cndevMLULinkCapability_t *capability, cndevDevice_t device, int32_t link);

/** Traffic and errors of a port. */
EXPORT cndevRet_t cndevGetMLULinkCounter(cndevMLULinkCounter_t *count, cndevDevice_t device, int32_t link);

/** Errors of a port. */
EXPORT cndevRet_t cndevGetMLULinkErrorCounter(
    cndevMLULinkErrorCounter_t *counter, cndevDevice_t device, int32_t link);

/** Events of a port. */
EXPORT cndevRet_t cndevGetMLULinkEventCounter(
    cndevMLULinkEventCounter_t *counter, cndevDevice_t device, int32_t link);

/** The other end of a port; CNDEV_ERROR_NOT_FOUND without a cable. */
EXPORT cndevRet_t cndevGetMLULinkRemoteInfo(cndevMLULinkRemoteInfo_t *remoteinfo, cndevDevice_t device, int32_t link);

/** What a port is used for. */
EXPORT cndevRet_t cndevGetMLULinkPortMode(cndevMLULinkPortMode_t *mode, cndevDevice_t device, int32_t port);

/** Version of a port. */
EXPORT cndevRet_t cndevGetMLULinkVersion(cndevMLULinkVersion_t *version, cndevDevice_t device, int32_t link);

/** The other end as its switch names it. */
EXPORT cndevRet_t cndevGetMLULinkPPI(cndevMLULinkPPI_t *ppi, cndevDevice_t device, int32_t link);

/** The optical module of a port. */
EXPORT cndevRet_t cndevGetOpticalInfo(cndevOpticalInfo_t *optical, cndevDevice_t device, int32_t link);

/** The PCI function at an address. The node belongs to the library. */
EXPORT cndevRet_t cndevGetNodeByBDF(
    int32_t version, cndevTopologyNode_t **treeNode, uint32_t domain, uint32_t bus, uint32_t device, uint32_t function);

/** How near two nodes are. */
EXPORT cndevRet_t cndevTopologyGetRelationshipByNode(
    cndevTopologyRelationship_t *relationship, cndevTopologyNode_t *node1, cndevTopologyNode_t *node2);

/* Instances. */

/** Whether a device is divided into MLU instances. */
EXPORT cndevRet_t cndevGetMimMode(cndevMimMode_t *mode, cndevDevice_t device);

/** MLU instances of a device. */
EXPORT cndevRet_t cndevGetAllMluInstanceInfo(int32_t *count, cndevMluInstanceInfo_t *miInfo, cndevDevice_t device);

/** An MLU instance. */
EXPORT cndevRet_t cndevGetMluInstanceById(cndevMluInstance_t *miHandle, int32_t instanceId, cndevDevice_t device);

/** A profile of MLU instances. */
EXPORT cndevRet_t cndevGetMluInstanceProfileInfo(
    cndevMluInstanceProfileInfo_t *profileInfo, int32_t profile, cndevDevice_t device);

/** How many instances of a profile fit. */
EXPORT cndevRet_t cndevGetMaxMluInstanceCount(int32_t *count, int32_t profileId, cndevDevice_t device);

/** Whether a device is shared by sMLU instances. */
EXPORT cndevRet_t cndevGetSMLUMode(cndevSMLUMode_t *mode, cndevDevice_t device);

/** sMLU instances of a device. */
EXPORT cndevRet_t cndevGetAllSMluInstanceInfo(int32_t *count, cndevSMluInfo_t *miInfo, cndevDevice_t device);

/** An sMLU instance. */
EXPORT cndevRet_t cndevGetSMluInstanceInfo(cndevSMluInfo_t *miInfo, cndevMluInstance_t miHandle);

/** Profiles of sMLU instances. */
EXPORT cndevRet_t cndevGetSMluProfileIdInfo(cndevSMluProfileIdInfo_t *profileId, cndevDevice_t device);

/** A profile of sMLU instances. */
EXPORT cndevRet_t cndevGetSMluProfileInfo(cndevSMluProfileInfo_t *profileInfo, int32_t profile, cndevDevice_t device);

/** Makes a profile of sMLU instances. */
EXPORT cndevRet_t cndevCreateSMluProfileInfo(cndevSMluSet_t *profileInfo, int32_t *profileId, cndevDevice_t device);

/** Ends a profile. */
EXPORT cndevRet_t cndevDestroySMluProfileInfo(int32_t profileId, cndevDevice_t device);

/** Makes an sMLU instance. */
EXPORT cndevRet_t cndevCreateSMluInstanceByProfileId(
    cndevMluInstance_t *miHandle, uint32_t profileId, cndevDevice_t device, char *instanceName);

/** Ends an sMLU instance. */
EXPORT cndevRet_t cndevDestroySMluInstanceByHandle(cndevMluInstance_t miHandle);

/* Metrics between two samples. */

/** Whether a device can be sampled. */
EXPORT cndevRet_t cndevMpmQueryDeviceSupport(cndevDevice_t device, bool *mpmSupport);

/** Makes room for a sample. */
EXPORT cndevRet_t cndevMpmSampleAlloc(cndevMpmSample_t *sample);

/** Frees a sample. */
EXPORT cndevRet_t cndevMpmSampleFree(cndevMpmSample_t sample);

/** Takes a sample. */
EXPORT cndevRet_t cndevMpmSampleGet(cndevMpmSample_t sample, cndevDevice_t device);

/** Computes metrics from two samples. */
EXPORT cndevRet_t cndevMpmMetricsGet(cndevMpmMetricsGet_t *metricsGet);

/* Faults for tests: of this library alone, where faults may be injected. */

/** Makes the firmware report an event: `cndevEventTypeXidError` with the number of an Xid, 1 to 10. */
EXPORT cndevRet_t cndevInjectEventError(
    unsigned long long eventType, unsigned long long eventData, cndevDevice_t device);

/** Memory errors at an offset of device memory: `count` correctable ones, or one that is not. */
EXPORT cndevRet_t cndevInjectEccError(
    unsigned long long count, int32_t uncorrectable, unsigned long long address, cndevDevice_t device);

/** Adds heat to what the chip's temperature approaches; 0 takes it away. */
EXPORT cndevRet_t cndevInjectHeat(int32_t milliCelsius, cndevDevice_t device);

/** Errors of a port: one of MLULINK_ERR_RPY to MLULINK_ERR_UNCORR but for MLULINK_ERR_FTL, or
 *  MLULINK_ERR_ILLEGAL_ACCESS_PACKAGE. */
EXPORT cndevRet_t cndevInjectMLULinkError(
    cndevMLULinkCounterEnum_t counter, unsigned long long count, cndevDevice_t device, int32_t link);

#ifdef __cplusplus
}
#endif

#endif
