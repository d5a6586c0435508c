/*
 * cnrt.h - the runtime interface of the virtual MLU, under the vendor's names.
 *
 * Names, numbers, layouts and argument lists are those of CNRT 6.14.1; the texts are this project's own. Programs link with -lcnrt.
 *
 * Every function returns a cnrtRet_t unless it says otherwise. A failure is also kept for the calling thread, see cnrtGetLastError. Handles are
 * checked: one that was destroyed gives cnrtErrorInvalidResourceHandle, as does anything that never was one. Where a queue is asked for, NULL
 * and cnrtQueuePerThread mean the calling thread's queue of its current device, cnrtQueueLegacy one that all threads of the process share.
 * In a process that was forked from one that had used a device, every call fails with cnrtErrorInit.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef __CNRT_H
#define __CNRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CNRT_MAJOR_VERSION 6
#define CNRT_MINOR_VERSION 14
#define CNRT_PATCH_VERSION 1
#ifndef CNRT_VERSION
#define CNRT_VERSION (CNRT_MAJOR_VERSION * 10000 + CNRT_MINOR_VERSION * 100 + CNRT_PATCH_VERSION)
#endif

/* The current version of a function whose structure has grown. */
#ifndef __CNRT_VERSION_INTERNAL
#define cnrtGetDeviceProperties cnrtGetDeviceProperties_V3
#endif

/* ---- Errors ---- */

/* How calls end; cnrtGetErrorStr has a sentence for each. */
typedef enum {
  cnrtSuccess = 0,
  cnrtErrorNotReady = 1,
  cnrtErrorInit = 100002,
  cnrtErrorNoDevice = 100004,
  cnrtErrorDeviceInvalid = 100005,
  cnrtErrorArgsInvalid = 100006,
  cnrtErrorSys = 100007,
  cnrtErrorSysNoMem = 100010,
  cnrtErrorInvalidResourceHandle = 100014,
  cnrtErrorIllegalState = 100015,
  cnrtErrorNotSupport = 100050,
  cnrtErrorOpsNotPermitted = 100051,
  cnrtErrorQueue = 100060,
  cnrtErrorNoMem = 100100,
  cnrtErrorAssert = 100128,
  cnrtErrorKernelTrap = 100132,
  cnrtErrorKernelUserTrap = 100133,
  cnrtErrorNotFound = 100301,
  cnrtErrorInvalidKernel = 100302,
  cnrtErrorUnsupportedKernelVersion = 100303,
  cnrtErrorNoKernel = 101312,
  cnrtErrorNoModule = 101315,
  cnrtErrorQueueCaptureUnsupported = 100360,
  cnrtErrorQueueCaptureInvalidated = 100361,
  cnrtErrorQueueCaptureWrongThread = 100362,
  cnrtErrorQueueCaptureMerged = 100363,
  cnrtErrorQueueCaptureUnjoined = 100364,
  cnrtErrorQueueCaptureIsolation = 100365,
  cnrtErrorQueueCaptureUnmatched = 100366,
  cnrtErrorTaskTopoEntityUpdateFailure = 100400,
  cnrtErrorSetOnActiveProcess = 632002,
  cnrtErrorDevice = 632006,
  cnrtErrorNoAttribute = 632009,
  cnrtErrorMemcpyDirectionInvalid = 632013,
  cnrtErrorBusy = 632014,
  cnrtErrorCndrvFuncCall = 632015,
  cnrtErrorCndevFuncCall = 632017,
  cnrtErrorNoCnrtContext = 632019,
  cnrtErrorCndrvFuncNotFound = 632020,
  cnrtErrorInvalidSymbol = 632100,
  cnrtErrorUnknown = 999991,
  cnrtErrorMax
} cnrtRet_t;

/* The name of a code, and a sentence about it; both live for ever. */
const char *cnrtGetErrorName(cnrtRet_t error);
const char *cnrtGetErrorStr(cnrtRet_t error);
/* The last failure of the calling thread: the first forgets it, the second does not. Calls that succeed leave it alone. */
cnrtRet_t cnrtGetLastError(void);
cnrtRet_t cnrtPeekAtLastError(void);

/* ---- Versions ---- */

/* The version of the driver interface that is followed, and that of this interface. */
cnrtRet_t cnrtDriverGetVersion(int *major, int *minor, int *patch);
cnrtRet_t cnrtGetLibVersion(int *major, int *minor, int *patch);

/* ---- Types ---- */

/* How many cores a kernel takes at a time. */
typedef enum {
  cnrtFuncTypeBlock = 1,
  cnrtFuncTypeBlock0 = cnrtFuncTypeBlock,
  cnrtFuncTypeBlock1 = cnrtFuncTypeBlock0 + 1,
  cnrtFuncTypeUnion1 = 4,
  cnrtFuncTypeUnion2 = 8,
  cnrtFuncTypeUnion4 = 16,
  cnrtFuncTypeUnion8 = 32,
  cnrtFuncTypeUnion16 = 64,
  cnrtFuncTypeMutable = -1,
  cnrtJobTypeBlock = cnrtFuncTypeBlock,
  cnrtJobTypeUnion1 = cnrtFuncTypeUnion1,
  cnrtJobTypeUnion2 = cnrtFuncTypeUnion2,
  cnrtJobTypeUnion4 = cnrtFuncTypeUnion4
} cnrtFunctionType_t;

typedef cnrtFunctionType_t cnrtJobType_t;

typedef enum { cnrtComputeModeDefault = 0, cnrtComputeModeExclusiveProcess = 1 } cnrtComputeMode_t;

/* Attributes of a device. Sizes are bytes unless the name is in the list: TotalConstMemorySize, LmemSizePerMcore, AvailableGlobalMemorySize,
 * TotalMemSize and MDRMemorySize are MiB; SramSizePerMcore is of a cluster; clocks are kHz, GmemBusWidth is bits. Those behind UnsupportedFlag
 * give cnrtErrorNoAttribute. */
typedef enum {
  cnrtAttrComputeCapabilityMajor = 0x01,
  cnrtAttrComputeCapabilityMinor = 0x02,
  cnrtAttrSparseComputingSupported = 0x03,
  cnrtAttrFP16ComputingSupported = 0x04,
  cnrtAttrINT4ComputingSupported = 0x05,
  cnrtAttrINT8ComputingSupported = 0x06,
  cnrtAttrBF16ComputingSupported = 0x07,
  cnrtAttrTF32ComputingSupported = 0x08,
  cnrtAttrComputeMode = 0x09,
  cnrtAttrQueueSize = 0x101,
  cnrtAttrNotifierSize = 0x102,
  cnrtAttrSupportQueuePriorities = 0x103,
  cnrtAttrTinyCoreSupported = 0x104,
  cnrtAttrCodecJPEGSupported = 0x105,
  cnrtAttrCodecH264Supported = 0x106,
  cnrtAttrCodecH265Supported = 0x107,
  cnrtAttrAIIspCoreSupported = 0x108,
  cnrtAttrMultiCtxNotifierWaitSupported = 0x109,
  cnrtAttrIPCNotifierSupported = 0x10a,
  cnrtAttrMaxDimX = 0x201,
  cnrtAttrMaxDimY = 0x202,
  cnrtAttrMaxDimZ = 0x203,
  cnrtAttrMaxClusterCountPerUnionTask = 0x204,
  cnrtAttrClusterCount = 0x205,
  cnrtAttrMcorePerCluster = 0x206,
  cnrtAttrMaxQuadrantCount = 0x207,
  cnrtAttrMaxUnionTypePerQuadrant = 0x208,
  cnrtAttrMaxClusterPerUnionLimitTask = 0x209,
  cnrtAttrISAVersion = 0x20a,
  cnrtAttrIsMultipleTensorProcessor = 0x20b,
  cnrtAttrMaxL2CacheSize = 0x301,
  cnrtAttrNramSizePerMcore = 0x302,
  cnrtAttrWramSizePerMcore = 0x303,
  cnrtAttrTotalConstMemorySize = 0x304,
  cnrtAttrLmemSizePerMcore = 0x305,
  cnrtAttrSramSizePerMcore = 0x306,
  cnrtAttrGlobalMemoryNodeCount = 0x307,
  cnrtAttrMaxPersistingL2CacheSize = 0x309,
  cnrtAttrAvailableGlobalMemorySize = 0x312,
  cnrtAttrEccEnable = 0x401,
  cnrtAttrIpuClockRate = 0x402,
  cnrtAttrMemClockRate = 0x403,
  cnrtAttrGmemBusWidth = 0x404,
  cnrtAttrTotalMemSize = 0x405,
  cnrtAttrPciBusID = 0x406,
  cnrtAttrPciDeviceID = 0x407,
  cnrtAttrPciDomainID = 0x408,
  cnrtAttrMDRMemorySize = 0x409,
  cnrtAttrUnsupportedFlag = 0xffffff,
  cnrtAttrCanMapHostMemory,
  cnrtAttrCanSetQueueSize,
  cnrtAttrCanSetNotifierSize,
  cnrtAttrConcurrentKernels,
  cnrtAttrSupportUnifiedAddr,
  cnrtAttrSupportManagedMem,
  cnrtAttrSupportNativeAtomic,
  cnrtAttrSupportPageableMemAccess,
  cnrtAttrCanUseHostPointer,
  cnrtAttrSupportHostRegsiter,
  cnrtAttrCacheSize,
  cnrtAttrMaxNum
} cnrtDeviceAttr_t;

typedef enum {
  cnrtDevP2PAttrAccessSupported = 0,
  cnrtDevP2PAttrNativeAtomicSupported,
  cnrtDevP2PAttrMaxNum
} cnrtDeviceP2PAttr_t;

typedef enum { cnrtDevLimitStackSize = 0, cnrtDevLimitPrintfFifoSize, cnrtDevLimitMaxNum } cnrtDeviceLimit_t;

typedef enum {
  cnrtDeviceConfigReserved = 0,
  cnrtDeviceConfigPrintfFifoNum = 1,
  cnrtDeviceConfigMaxPersistingL2CacheSize = 2,
  cnrtDeviceConfigPrintfFifoSize = 3,
  cnrtDeviceConfigMaxNum
} cnrtDeviceConfig_t;

/* How threads wait for a device. */
typedef enum {
  cnrtDeviceScheduleSpin = 0,
  cnrtDeviceScheduleBlock = 1,
  cnrtDeviceScheduleYield = 2,
  cnrtDeviceScheduleAuto = 3,
  cnrtDeviceFlagsMaxNum
} cnrtDeviceFlags_t;

/* The direction of a copy; the last one takes it from the addresses. */
typedef enum {
  cnrtMemcpyHostToDev = 0,
  cnrtMemcpyDevToDev,
  cnrtMemcpyDevToHost,
  cnrtMemcpyHostToHost,
  cnrtMemcpyPeerToPeer,
  cnrtMemcpyNoDirection
} cnrtMemTransDir_t;

typedef enum { cnrtMemRangeAttributePreferredLocation = 0, cnrtMemRangeAttributeAccessedBy } cnrtMemRangeAttribute_t;

typedef enum { cnrtMemTypeUnregistered = 0, cnrtMemTypeHost, cnrtMemTypeDevice } cnrtMemType_t;

typedef enum {
  cnrtUvaNotSupport = -1,
  cnrtUvaUnknown = 0,
  cnrtUvaUnCached,
  cnrtUvaCached
} cnrtUvaCacheMode_t;

typedef enum { cnrtHostAllocDefault = 0, cnrtHostAllocMapped } cnrtHostAllocFlags_t;

/* What is known of a pointer. */
typedef struct {
  cnrtMemType_t type;
  int device;                /* -1 if it is no memory of this library */
  size_t size;               /* of the whole allocation */
  void *devicePointer;       /* where the device sees it */
  void *hostPointer;         /* where the host sees it; NULL if it does not */
  cnrtUvaCacheMode_t cacheMode;
  void *deviceBasePointer;   /* where the allocation begins */
} cnrtPointerAttributes_t;

struct cnrtUUID_st {
  char uuid[16];
};
typedef struct cnrtUUID_st cnrtUUID_t;

/* What a device is; each field is the attribute of its name. */
typedef struct cnrtDeviceProp_V3 {
  char name[256];
  int totalMem;
  int maxDim[3];
  int ipuClockRate;
  int memClockRate;
  int totalConstMem;
  int major;
  int minor;
  int ECCEnabled;
  int pciBusID;
  int pciDeviceID;
  int pciDomainID;
  int maxL2CacheSize;
  int persistingL2CacheMaxSize;
  int queuePrioritiesSupported;
  int sparseComputingSupported;
  int FP16ComputingSupported;
  int INT4ComputingSupported;
  int INT8ComputingSupported;
  int BF16ComputingSupported;
  int TF32ComputingSupported;
  int maxQueueSize;
  int maxNotifierSize;
  int tinyCoreSupported;
  int codecJPEGSupported;
  int codecH264Supported;
  int codecH265Supported;
  int maxClusterCountPerUnionTask;
  int clusterCount;
  int McorePerCluster;
  int maxQuadrantCount;
  int maxUnionTypePerQuadrant;
  int maxClusterPerUnionLimitTask;
  int ISAVersion;
  int isMultipleTensorProcessor;
  int NramSizePerMcore;
  int WramSizePerMcore;
  int LmemSizePerMcore;
  int SramSizePerMcore;
  int globalMemoryNodeCount;
  int cacheSize;
  int GmemBusWidth;
  int computeMode;
  int MDRMemorySize;
  int availableGlobalMemorySize;
  cnrtUUID_t uuid;
  uint64_t totalGlobalMemSize;
  int reserved[30];
} cnrtDeviceProp_t;

typedef struct {
  unsigned int x;
  unsigned int y;
  unsigned int z;
} cnrtDim3_t;

/* A 3-D copy: memory at a pitch, where in it the box begins, and the box. A pitched pointer that is NULL stands for `dst` or `src`. */
typedef struct {
  size_t x;
  size_t y;
  size_t z;
} cnrtPos_t;

typedef struct {
  size_t pitch;
  void *ptr;
  size_t xsize;
  size_t ysize; /* rows of a slice */
} cnrtPitchedPtr_t;

typedef struct {
  size_t depth;
  size_t height;
  size_t width;
} cnrtExtent_t;

typedef struct cnrtMemcpy3dParam_st {
  void *dst;
  cnrtPos_t dstPos;
  cnrtPitchedPtr_t dstPtr;
  cnrtExtent_t extent;
  cnrtMemTransDir_t dir;
  void *src;
  cnrtPos_t srcPos;
  cnrtPitchedPtr_t srcPtr;
} cnrtMemcpy3dParam_t;

typedef enum cnrtDataType {
  cnrtInvalid = 0x0,
  cnrtFloat16 = 0x12,
  cnrtFloat32 = 0x13,
  cnrtFloat64 = 0x14,
  cnrtInt4 = 0x20,
  cnrtInt8 = 0x21,
  cnrtInt16 = 0x22,
  cnrtInt32 = 0x23,
  cnrtInt64 = 0x24,
  cnrtAuto = 0x25,
  cnrtUInt8 = 0x31,
  cnrtUInt16 = 0x32,
  cnrtUInt32 = 0x33,
  cnrtFix8 = 0x41,
  cnrtQuant8 = 0x51,
  cnrtBool = 0x61
} cnrtDataType_t;

typedef enum cnrtDataType_V2 {
  cnrtUnknown = 0,
  cnrtDouble = 0x1,
  cnrtFloat = 0x2,
  cnrtHalf = 0x3,
  cnrtBfloat = 0x4,
  cnrtUlonglong = 0x11,
  cnrtUint = 0x12,
  cnrtUshort = 0x13,
  cnrtUchar = 0x14,
  cnrtLonglong = 0x21,
  cnrtInt = 0x22,
  cnrtShort = 0x23,
  cnrtChar = 0x24,
  cnrtBoolean = 0x31
} cnrtDataType_V2_t;

/* To nearest, ties to even; to zero; down; up; away from zero; to nearest, ties up. */
typedef enum cnrtRoundingMode {
  cnrtRounding_rn = 0,
  cnrtRounding_rz = 1,
  cnrtRounding_rd = 2,
  cnrtRounding_ru = 3,
  cnrtRounding_ro = 4,
  cnrtRounding_rm = 5,
  cnrtRounding_max
} cnrtRoundingMode_t;

struct cnrtQuantizedParam;
typedef struct cnrtQuantizedParam *cnrtQuantizedParam_t;

/* Names a notifier to other processes, and memory. */
#define CNRT_IPC_HANDLE_SIZE 8
#define CNRT_IPC_HANDLE_SIZE_BYTES (CNRT_IPC_HANDLE_SIZE * sizeof(uint64_t))
typedef struct cnrtIpcNotifierHandle_st {
  uint64_t res[CNRT_IPC_HANDLE_SIZE];
} cnrtIpcNotifierHandle_v1;
typedef cnrtIpcNotifierHandle_v1 cnrtIpcNotifierHandle;
typedef void *cnrtIpcMemHandle;

/* Queues and notifiers are those of the driver interface. */
#define cnrtQueue CNqueue_st
struct cnrtQueue;
typedef struct cnrtQueue *cnrtQueue_t;
#define cnrtQueuePerThread ((cnrtQueue_t)1)
#define cnrtQueueLegacy ((cnrtQueue_t)2)

#define cnrtNotifier CNnotifier_st
struct cnrtNotifier;
typedef struct cnrtNotifier *cnrtNotifier_t;

/* Flags of notifiers: no wall time, no time at all, for other processes (then without times). */
typedef enum cnrtNotifierFlags {
  CNRT_NOTIFIER_DEFAULT = 0x0,
  CNRT_NOTIFIER_DISABLE_TIMING_SW = 0x2,
  CNRT_NOTIFIER_DISABLE_TIMING = CNRT_NOTIFIER_DISABLE_TIMING_SW,
  CNRT_NOTIFIER_DISABLE_TIMING_ALL = 0x4,
  CNRT_NOTIFIER_INTERPROCESS = 0x8
} cnrtNotifierFlags_t;

typedef enum cnrtNotifierPlaceFlags {
  CNRT_NOTIFIER_PLACE_DEFAULT = 0x0,
  CNRT_NOTIFIER_PLACE_EXTERNAL
} cnrtNotifierPlaceFlags_t;

typedef enum cnrtNotifierWaitFlags {
  CNRT_NOTIFIER_WAIT_DEFAULT = 0x0,
  CNRT_NOTIFIER_WAIT_EXTERNAL
} cnrtNotifierWaitFlags_t;

typedef enum { CNRT_FLUSH_CACHE = 1, CNRT_INVALID_CACHE = 2 } cnrtCacheOps_t;

/* Hints for the L2 cache. They are kept, read back and copied; the virtual card has no use for them. */
typedef enum cnrtAccessProperty {
  cnrtAccessPolicyNormal = 0,
  cnrtAccessPolicyStreaming = 1,
  cnrtAccessPolicyPersisting = 2
} cnrtAccessProperty_t;

typedef struct cnrtAccessPolicyWindow {
  void *baseAddr;
  size_t numBytes;
  float hitRatio;
  enum cnrtAccessProperty hitProp;
  enum cnrtAccessProperty missProp;
} cnrtAccessPolicyWindow_t;

typedef enum cnrtInvokeAttrID {
  cnrtInvokeAttributeEmpty = 0,
  cnrtInvokeAttributeAccessPolicyWindow = 1
} cnrtInvokeAttrID_t;

typedef union cnrtInvokeAttrValue {
  char pad[64];
  cnrtAccessPolicyWindow_t accessPolicyWindow;
} cnrtInvokeAttrValue_t;

typedef cnrtInvokeAttrID_t cnrtQueueAttrID_t;
#define cnrtQueueAttributeAccessPolicyWindow cnrtInvokeAttributeAccessPolicyWindow
typedef cnrtInvokeAttrValue_t cnrtQueueAttrValue_t;
typedef cnrtInvokeAttrID_t cnrtKernelNodeAttr_t;
#define cnrtKernelNodeAttributeAccessPolicyWindow cnrtInvokeAttributeAccessPolicyWindow
typedef cnrtInvokeAttrValue_t cnrtKernelNodeAttrValue_t;

/* Pools of device memory that queues allocate and free in their order. */
typedef struct CNmemoryPool_st *cnrtMemPool_t;
typedef enum cnrtMemAllocationType {
  cnrtMemAllocationTypeInvalid = 0x0,
  cnrtMemAllocationTypeDefault = 0x1
} cnrtMemAllocationType_t;
typedef enum cnrtMemAllocationHandleType {
  cnrtMemHandleTypeNone = 0x0,
  cnrtMemHandleTypePosixFileDescriptor = 0x1
} cnrtMemAllocationHandleType_t;
typedef enum cnrtMemLocationType {
  cnrtMemLocationTypeInvalid = 0x0,
  cnrtMemLocationTypeDevice = 0x1
} cnrtMemLocationType_t;
typedef struct cnrtMemLocation {
  cnrtMemLocationType_t type;
  uint32_t id;
} cnrtMemLocation_t;
typedef struct cnrtMemPoolProps {
  cnrtMemAllocationType_t type;
  cnrtMemAllocationHandleType_t requestedHandleTypes;
  cnrtMemLocation_t location;
  size_t maxSize; /* 0: as much as the device has */
  unsigned char reserved[64];
} cnrtMemPoolProps_t;
typedef enum cnrtMemoryAccessFlags {
  cnrtMemAccessFlagsProtReadWrite = 0x0,
  cnrtMemAccessFlagsProtReadOnly = 0x1
} cnrtMemoryAccessFlags_t;
/* Who may use the memory of a pool. */
typedef struct cnrtMemAccessDesc {
  cnrtMemLocation_t location;
  cnrtMemoryAccessFlags_t flags;
} cnrtMemAccessDesc_t;
/* The first three are int, the others uint64_t; high-water marks can only be set to 0. */
typedef enum cnrtMemPoolAttr {
  cnrtMemPoolAttrReuseFollowNotifierDependencies = 0x1,
  cnrtMemPoolAttrReuseAllowOpportunistic,
  cnrtMemPoolAttrReuseAllowInternalDependencies,
  cnrtMemPoolAttrReleaseThreshold,
  cnrtMemPoolAttrReservedMemCurrent,
  cnrtMemPoolAttrReservedMemHigh,
  cnMemPoolAttrReservedMemHigh = cnrtMemPoolAttrReservedMemHigh,
  cnrtMemPoolAttrUsedMemCurrent,
  cnrtMemPoolAttrUsedMemHigh
} cnrtMemPoolAttr_t;

typedef struct CNtaskTopo_st *cnrtTaskTopo_t;
typedef struct CNtaskTopoNode_st *cnrtTaskTopoNode_t;
typedef struct CNtaskTopoEntity_st *cnrtTaskTopoEntity_t;

typedef enum cnrtQueueCaptureStatus {
  cnrtQueueCaptureStatusNone = 0,
  cnrtQueueCaptureStatusActive = 1,
  cnrtQueueCaptureStatusInvalidated = 2
} cnrtQueueCaptureStatus_t;
/* Who may end a capture: in the last mode any thread. The second is cnrtErrorNotSupport. */
typedef enum cnrtQueueCaptureMode {
  cnrtQueueCaptureModeGlobal = 0,
  cnrtQueueCaptureModeThreadLocal = 1,
  cnrtQueueCaptureModeRelaxed = 2
} cnrtQueueCaptureMode_t;
typedef enum cnrtUpdateQueueCaptureDependenciesFlags {
  cnrtQueueAddCaptureDependencies = 0,
  cnrtQueueSetCaptureDependencies = 1
} cnrtUpdateQueueCaptureDependenciesFlags_t;

/* A function of the program that a queue runs. It must not call this library. */
typedef void (*cnrtHostFn_t)(void *userData);

/* ---- Devices ---- */

/* Devices are numbered from 0; MLU_VISIBLE_DEVICES (numbers, commas between them) leaves out others. A thread without a device uses device 0.
 * Setting a device does not yet use it: the first call that needs it does, such as cnrtFree(NULL). */
cnrtRet_t cnrtGetDeviceCount(unsigned int *pCount);
cnrtRet_t cnrtGetDevice(int *pOrdinal);
cnrtRet_t cnrtSetDevice(int ordinal);
cnrtRet_t cnrtDeviceGetAttribute(int *pValue, cnrtDeviceAttr_t attr, int device);
cnrtRet_t cnrtGetDeviceProperties_V2(cnrtDeviceProp_t *prop, int device);
cnrtRet_t cnrtGetDeviceProperties_V3(cnrtDeviceProp_t *prop, int device);
#ifdef __CNRT_VERSION_INTERNAL
cnrtRet_t cnrtGetDeviceProperties(cnrtDeviceProp_t *prop, int device);
#endif
/* Ends the use of the current device by this process: its memory, queues and notifiers are gone, their handles name nothing. */
cnrtRet_t cnrtDeviceReset(void);
/* Waits for all queues of the current device; the error of one that failed. */
cnrtRet_t cnrtSyncDevice(void);
/* How threads wait for the current device; cnrtErrorSetOnActiveProcess once it is in use. */
cnrtRet_t cnrtGetDeviceFlag(uint32_t *pFlags);
cnrtRet_t cnrtSetDeviceFlag(uint32_t flags);
cnrtRet_t cnrtDeviceGetConfig(int64_t *pValue, cnrtDeviceConfig_t type);
cnrtRet_t cnrtDeviceSetConfig(cnrtDeviceConfig_t type, int64_t value);
cnrtRet_t cnrtDeviceQueryKernelMemoryUsage(size_t *pBytes);
/* 1 if a device reaches the memory of another directly, by MLU-Link or PCIe. */
cnrtRet_t cnrtGetPeerAccessibility(unsigned int *canAccess, int ordinal, int peerOrdinal);
/* domain:bus:device.function, 13 bytes with the zero at the end. Read back, domain and function may be missing. */
cnrtRet_t cnrtDeviceGetPCIBusId(char *pciBusId, int len, int device);
cnrtRet_t cnrtDeviceGetByPCIBusId(int *device, const char *pciBusId);
/* The least priority is the greatest number. */
cnrtRet_t cnrtDeviceGetQueuePriorityRange(int *pMinPriority, int *pMaxPriority);
cnrtRet_t cnrtDeviceResetPersistingL2Cache(void);

/* ---- Kernels and functions ---- */

/* The virtual card runs no device code: cnrtErrorNoKernel, or cnrtErrorNoModule for a kernel that a compiled module has registered. */
cnrtRet_t cnrtInvokeKernel(const void *kernel, cnrtDim3_t dim, cnrtFunctionType_t ktype, void **args, size_t reserved,
                           cnrtQueue_t queue);
/* Has a queue run a function of the program once what was queued before has ended. What is queued behind it waits for it. */
cnrtRet_t cnrtInvokeHostFunc(cnrtQueue_t queue, cnrtHostFn_t fn, void *userData);

/* ---- Memory ---- */

/* A pointer names one allocation in the whole process, whichever device has it. Freed memory is kept for the next allocation of its size, and
 * counts as free. Freeing waits for what the device's queues have. NULL frees nothing. */
cnrtRet_t cnrtMalloc(void **pPtr, size_t bytes);
cnrtRet_t cnrtMallocConstant(void **pPtr, size_t bytes);
cnrtRet_t cnrtFree(void *ptr);
/* Page-locked host memory, which the device copies from and to without staging. */
cnrtRet_t cnrtHostMalloc(void **pPtr, size_t bytes);
cnrtRet_t cnrtFreeHost(void *ptr);
cnrtRet_t cnrtMemGetInfo(size_t *free, size_t *total);
cnrtRet_t cnrtPointerGetAttributes(cnrtPointerAttributes_t *attr, const void *ptr);

/* Copies. A direction that the addresses do not have is cnrtErrorMemcpyDirectionInvalid, a range that leaves its allocation is
 * cnrtErrorArgsInvalid. 0 bytes are copied without a look at the addresses. Asynchronous copies from pageable host memory have read it when
 * they return; those to pageable host memory have written it. */
cnrtRet_t cnrtMemcpy(void *dst, void *src, size_t bytes, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpyAsync(void *dst, void *src, size_t bytes, cnrtQueue_t queue, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpyAsync_V2(void *dst, void *src, size_t bytes, cnrtQueue_t queue, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpyAsync_V3(void *dst, void *src, size_t bytes, cnrtQueue_t queue, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpy2D(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width, size_t height,
                       cnrtMemTransDir_t direction);
cnrtRet_t cnrtMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width, size_t height,
                            cnrtMemTransDir_t direction, cnrtQueue_t queue);
cnrtRet_t cnrtMemcpy3D(const cnrtMemcpy3dParam_t *p);
cnrtRet_t cnrtMemcpy3DAsync(const cnrtMemcpy3dParam_t *p, cnrtQueue_t queue);
cnrtRet_t cnrtMemcpyPeer(void *dst, int dstDev, void *src, int srcDev, size_t bytes);
cnrtRet_t cnrtMemcpyPeerAsync(void *dst, int dstDev, void *src, int srcDev, size_t bytes, cnrtQueue_t queue);
cnrtRet_t cnrtMemset(void *ptr, int value, size_t bytes);
cnrtRet_t cnrtMemsetAsync(void *ptr, int value, size_t bytes, cnrtQueue_t queue);

/* Mapping device memory for the host: cnrtErrorNotSupport, as on any card behind PCIe. */
cnrtRet_t cnrtMmap(void *ptr, void **pHostPtr, size_t size);
cnrtRet_t cnrtMmapCached(void *ptr, void **pHostPtr, size_t size);
cnrtRet_t cnrtMunmap(void *hostPtr, size_t size);
cnrtRet_t cnrtMcacheOperation(void *ptr, void *hostPtr, size_t size, cnrtCacheOps_t ops);

/* ---- Memory in the order of queues ---- */

/* The address is there at once; the memory is used by what the queue has behind. Memory that was freed on a queue is given out again on it at
 * once, elsewhere once the queue has passed the place. What a pool keeps above its threshold goes back when a thread waits for a queue. */
cnrtRet_t cnrtMemAllocAsync(void **pPtr, size_t byteSize, cnrtQueue_t queue);
cnrtRet_t cnrtMemAllocFromPoolAsync(void **pPtr, size_t byteSize, cnrtMemPool_t pool, cnrtQueue_t hqueue);
cnrtRet_t cnrtMemFreeAsync(void *mluAddr, cnrtQueue_t hqueue);
cnrtRet_t cnrtMemPoolCreate(cnrtMemPool_t *pool, const cnrtMemPoolProps_t *poolProps);
/* The default pool of a device is not destroyed. */
cnrtRet_t cnrtMemPoolDestroy(cnrtMemPool_t pool);
cnrtRet_t cnrtMemPoolGetAccess(cnrtMemoryAccessFlags_t *flags, cnrtMemPool_t pool, cnrtMemLocation_t *location);
/* Devices that reach a pool's device may read and write its memory, and this cannot be taken from them: anything else is cnrtErrorNotSupport. */
cnrtRet_t cnrtMemPoolSetAccess(cnrtMemPool_t pool, const cnrtMemAccessDesc_t *descList, size_t count);
cnrtRet_t cnrtMemPoolGetAttribute(cnrtMemPool_t pool, cnrtMemPoolAttr_t attr, void *value);
cnrtRet_t cnrtMemPoolSetAttribute(cnrtMemPool_t pool, cnrtMemPoolAttr_t attr, void *value);
cnrtRet_t cnrtMemPoolTrimTo(cnrtMemPool_t pool, size_t minByteToKeep);
cnrtRet_t cnrtDeviceGetDefaultMemPool(cnrtMemPool_t *pool, int dev);
cnrtRet_t cnrtDeviceGetMemPool(cnrtMemPool_t *pool, int dev);
cnrtRet_t cnrtDeviceSetMemPool(int dev, cnrtMemPool_t pool);

/* ---- Symbols of device code: there is none, cnrtErrorInvalidSymbol ---- */

cnrtRet_t cnrtGetSymbolAddress(void **pPtr, const void *symbol);
cnrtRet_t cnrtGetSymbolSize(size_t *size, const void *symbol);
cnrtRet_t cnrtMemcpyFromSymbol(void *dst, const void *symbol, size_t bytes, size_t offset, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpyToSymbol(const void *symbol, const void *src, size_t bytes, size_t offset, cnrtMemTransDir_t dir);
cnrtRet_t cnrtMemcpyFromSymbolAsync(void *dst, const void *symbol, size_t bytes, size_t offset, cnrtMemTransDir_t dir,
                                    cnrtQueue_t queue);
cnrtRet_t cnrtMemcpyFromSymbolAsync_V2(void *dst, const void *symbol, size_t bytes, size_t offset,
                                       cnrtMemTransDir_t dir, cnrtQueue_t queue);
cnrtRet_t cnrtMemcpyToSymbolAsync(const void *symbol, const void *src, size_t bytes, size_t offset,
                                  cnrtMemTransDir_t dir, cnrtQueue_t queue);
cnrtRet_t cnrtMemcpyToSymbolAsync_V2(const void *symbol, const void *src, size_t bytes, size_t offset,
                                     cnrtMemTransDir_t dir, cnrtQueue_t queue);

/* ---- Queues ---- */

cnrtRet_t cnrtQueueCreate(cnrtQueue_t *pQueue);
/* A priority outside of the device's range becomes the nearest in it; flags are ignored. */
cnrtRet_t cnrtQueueCreateWithPriority(cnrtQueue_t *pQueue, unsigned int flags, int priority);
/* Does not wait: what was queued is allowed to end. */
cnrtRet_t cnrtQueueDestroy(cnrtQueue_t queue);
/* Waits; the error of the command that failed. A queue that has failed stays so, and what is queued behind is cancelled. */
cnrtRet_t cnrtQueueSync(cnrtQueue_t queue);
/* cnrtErrorNotReady while there is work. */
cnrtRet_t cnrtQueueQuery(cnrtQueue_t queue);
cnrtRet_t cnrtQueueGetPriority(cnrtQueue_t queue, int *priority);

cnrtRet_t cnrtQueueSetAttribute(cnrtQueue_t queue, cnrtQueueAttrID_t attr_id, const cnrtQueueAttrValue_t *value);
cnrtRet_t cnrtQueueGetAttribute(cnrtQueue_t queue, cnrtQueueAttrID_t attr_id, cnrtQueueAttrValue_t *value_out);
cnrtRet_t cnrtQueueCopyAttributes(cnrtQueue_t dst, cnrtQueue_t src);

/* ---- Captures ---- */

/* What is queued while a queue is captured is not run: it becomes a task topology. Queues that wait for a notifier of the capture join it, and
 * have to be joined back. Not NULL. Host functions, waits on the host and copies to pageable memory cannot be captured: they spoil it. */
cnrtRet_t cnrtQueueBeginCapture(cnrtQueue_t queue, enum cnrtQueueCaptureMode mode);
cnrtRet_t cnrtQueueEndCapture(cnrtQueue_t queue, cnrtTaskTopo_t *pTaskTopo);
cnrtRet_t cnrtQueueIsCapturing(cnrtQueue_t queue, enum cnrtQueueCaptureStatus *pStatus);
/* Gives status and number; the topology has no handle before the capture ends. */
cnrtRet_t cnrtQueueGetCaptureInfo(cnrtQueue_t queue, enum cnrtQueueCaptureStatus *pStatus, uint64_t *idOut,
                                  cnrtTaskTopo_t *pTaskTopo, const cnrtTaskTopoNode_t **pDependenciesOut,
                                  size_t *pNumDependencies);
/* Captured commands are in one order: cnrtErrorNotSupport. */
cnrtRet_t cnrtQueueUpdateCaptureDependencies(cnrtQueue_t queue, cnrtTaskTopoNode_t *dependencies,
                                             size_t numDependencies, unsigned int flags);
cnrtRet_t cnrtThreadExchangeQueueCaptureMode(cnrtQueueCaptureMode_t *mode);

/* ---- Notifiers ---- */

cnrtRet_t cnrtNotifierCreate(cnrtNotifier_t *pNotifier);
cnrtRet_t cnrtNotifierCreateWithFlags(cnrtNotifier_t *pNotifier, unsigned int flags);
cnrtRet_t cnrtNotifierDestroy(cnrtNotifier_t notifier);
/* Notifier and queue are of one device. Placing it again forgets the place before. */
cnrtRet_t cnrtPlaceNotifier(cnrtNotifier_t notifier, cnrtQueue_t queue);
cnrtRet_t cnrtPlaceNotifierWithFlags(cnrtNotifier_t notifier, cnrtQueue_t queue, unsigned int flags);
/* One that was never placed counts as reached. */
cnrtRet_t cnrtWaitNotifier(cnrtNotifier_t notifier);
cnrtRet_t cnrtQueryNotifier(cnrtNotifier_t notifier);
/* Has a queue wait on the device; the queue may be of another device. */
cnrtRet_t cnrtQueueWaitNotifier(cnrtNotifier_t notifier, cnrtQueue_t queue, unsigned int flag);
/* Wall time between two notifiers, ms; time for which the device ran commands between two notifiers of one queue, µs, by the card's clock. */
cnrtRet_t cnrtNotifierElapsedTime(cnrtNotifier_t start, cnrtNotifier_t end, float *ms);
cnrtRet_t cnrtNotifierDuration(cnrtNotifier_t start, cnrtNotifier_t end, float *us);

/* ---- Task topologies ---- */

/* Nodes and edges, captured or built. Lists give their length when there is no place for them, else as many as were asked for, NULL behind the
 * last. Nodes cannot be added to what was captured. */
typedef struct cnrtHostNodeParams_st {
  cnrtHostFn_t fn;
  void *userData;
} cnrtHostNodeParams_t;
typedef struct cnrtKernelNodeParams_st {
  void *func;
  cnrtDim3_t dim;
  cnrtFunctionType_t type;
  unsigned int reserve;
  void **kernelParams;
  void **extra;
} cnrtKernelNodeParams_t;
/* Of one row: `height` is 1. */
typedef struct cnrtMemsetParams {
  void *dst;
  size_t pitch;
  unsigned int value;
  unsigned int elementSize; /* 1, 2 or 4 bytes */
  size_t width;             /* elements */
  size_t height;
} cnrtMemsetParams_t;
typedef enum cnrtTaskTopoNodeType {
  cnrtTaskTopoNodeTypeEmpty = 0,
  cnrtTaskTopoNodeTypeKernel = 1, /* a captured operator, too */
  cnrtTaskTopoNodeTypeHost = 2,
  cnrtTaskTopoNodeTypeMemcpy = 3,
  cnrtTaskTopoNodeTypeMemset = 4,
  cnrtTaskTopoNodeTypeTaskTopo = 5,
  cnrtTaskTopoNodeTypeNotifierPlace = 6,
  cnrtTaskTopoNodeTypeNotifierWait = 7
} cnrtTaskTopoNodeType_t;
typedef enum cnrtTaskTopoEntityUpdateResult {
  cnrtTaskTopoEntityUpdateSuccess = 0x0,
  cnrtTaskTopoEntityUpdateError = 0x1,
  cnrtTaskTopoEntityUpdateErrorTopologyChanged = 0x2,
  cnrtTaskTopoEntityUpdateErrorNodeTypeChanged = 0x3,
  cnrtTaskTopoEntityUpdateErrorParametersChanged = 0x4,
  cnrtTaskTopoEntityUpdateErrorNotSupported = 0x5,
  cnrtTaskTopoEntityUpdateErrorUnsupportedFunctionChange = 0x6,
  cnrtTaskTopoEntityUpdateErrorAttributesChanged = 0x7
} cnrtTaskTopoEntityUpdateResult_t;
typedef enum cnrtTaskTopoDebugDotFlags {
  cnrtTaskTopoDebugDotFlagsVerbose = 1 << 0,
  cnrtTaskTopoDebugDotFlagsRuntimeTypes = 1 << 1,
  cnrtTaskTopoDebugDotFlagsHandles = 1 << 2,
  cnrtTaskTopoDebugDotFlagsKernelNodeParams = 1 << 3,
  cnrtTaskTopoDebugDotFlagsMemcpyNodeParams = 1 << 4,
  cnrtTaskTopoDebugDotFlagsMemsetNodeParams = 1 << 5,
  cnrtTaskTopoDebugDotFlagsHostNodeParams = 1 << 6,
  cnrtTaskTopoDebugDotFlagsKernelNodeAttribute = 1 << 7,
  cnrtTaskTopoDebugDotFlagsNotifierNodeParams = 1 << 8
} cnrtTaskTopoDebugDotFlags_t;

cnrtRet_t cnrtTaskTopoCreate(cnrtTaskTopo_t *pTaskTopo, unsigned int flags);
cnrtRet_t cnrtTaskTopoDestroy(cnrtTaskTopo_t taskTopo);
cnrtRet_t cnrtTaskTopoClone(cnrtTaskTopo_t *pTaskTopoClone, cnrtTaskTopo_t originalTaskTopo);
cnrtRet_t cnrtTaskTopoGetNodes(cnrtTaskTopo_t taskTopo, cnrtTaskTopoNode_t *pNode, size_t *numNodes);
cnrtRet_t cnrtTaskTopoGetRootNodes(cnrtTaskTopo_t taskTopo, cnrtTaskTopoNode_t *pRootNode, size_t *numRootNodes);
cnrtRet_t cnrtTaskTopoGetEdges(cnrtTaskTopo_t taskTopo, cnrtTaskTopoNode_t *from, cnrtTaskTopoNode_t *to,
                               size_t *numEdges);
cnrtRet_t cnrtTaskTopoNodeGetDependencies(cnrtTaskTopoNode_t node, cnrtTaskTopoNode_t *pDependencies,
                                          size_t *numDependencies);
cnrtRet_t cnrtTaskTopoNodeGetDependentNodes(cnrtTaskTopoNode_t node, cnrtTaskTopoNode_t *pDependentNodes,
                                            size_t *numDependentNodes);
cnrtRet_t cnrtTaskTopoNodeGetType(cnrtTaskTopoNode_t node, cnrtTaskTopoNodeType_t *pType);
cnrtRet_t cnrtTaskTopoAddDependencies(cnrtTaskTopo_t taskTopo, const cnrtTaskTopoNode_t *from,
                                      const cnrtTaskTopoNode_t *to, size_t numDependencies);
cnrtRet_t cnrtTaskTopoRemoveDependencies(cnrtTaskTopo_t taskTopo, const cnrtTaskTopoNode_t *from,
                                         const cnrtTaskTopoNode_t *to, size_t numDependencies);
cnrtRet_t cnrtTaskTopoAddEmptyNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                   const cnrtTaskTopoNode_t *dependencies, size_t numDependencies);
cnrtRet_t cnrtTaskTopoAddHostNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                  const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                  const cnrtHostNodeParams_t *nodeParams);
/* cnrtErrorNoKernel, see cnrtInvokeKernel. */
cnrtRet_t cnrtTaskTopoAddKernelNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                    const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                    const cnrtKernelNodeParams_t *nodeParams);
/* Of one row: height and depth are 1. */
cnrtRet_t cnrtTaskTopoAddMemcpyNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                    const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                    const cnrtMemcpy3dParam_t *copyParams);
cnrtRet_t cnrtTaskTopoAddMemsetNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                    const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                    const cnrtMemsetParams_t *copyParams);
cnrtRet_t cnrtTaskTopoAddChildTopoNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                       const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                       cnrtTaskTopo_t hChildTopo);
cnrtRet_t cnrtTaskTopoAddNotifierPlaceNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                           const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                           cnrtNotifier_t hNotifier);
cnrtRet_t cnrtTaskTopoAddNotifierWaitNode(cnrtTaskTopoNode_t *pNode, cnrtTaskTopo_t taskTopo,
                                          const cnrtTaskTopoNode_t *dependencies, size_t numDependencies,
                                          cnrtNotifier_t hNotifier);
/* An entity of the current device; it lives on when the topology is destroyed. */
cnrtRet_t cnrtTaskTopoInstantiate(cnrtTaskTopoEntity_t *entity, cnrtTaskTopo_t taskTopo,
                                  cnrtTaskTopoNode_t *pErrorNode, char *logBuffer, size_t bufferSize);
cnrtRet_t cnrtTaskTopoEntityInvoke(cnrtTaskTopoEntity_t entity, cnrtQueue_t queue);
cnrtRet_t cnrtTaskTopoEntityDestroy(cnrtTaskTopoEntity_t entity);
/* A topology of the same shape: as many nodes, of the same types. */
cnrtRet_t cnrtTaskTopoEntityUpdate(cnrtTaskTopoEntity_t entity, cnrtTaskTopo_t topo, cnrtTaskTopoNode_t *pErrorNode_out,
                                   cnrtTaskTopoEntityUpdateResult_t *updateResult_out);
cnrtRet_t cnrtTaskTopoUpload(cnrtTaskTopoEntity_t entity, cnrtQueue_t queue);
cnrtRet_t cnrtTaskTopoDebugDotPrint(cnrtTaskTopo_t taskTopo, const char *path, unsigned int flags);

/* ---- Casts of host memory ---- */

/* A quantised number is round(x * scale / 2^pos) + offset. Numbers that a type does not have become its nearest end. Without a mode, ties go
 * up. NULL for no quantisation. */
cnrtRet_t cnrtCreateQuantizedParam(cnrtQuantizedParam_t *param, int pos, float scale, int offset);
cnrtRet_t cnrtCreateQuantizedParamByChannel(cnrtQuantizedParam_t *param, int *poses, float *scales, float *offsets,
                                            int dimNum, int *dimValues, int channelDim);
cnrtRet_t cnrtDestroyQuantizedParam(cnrtQuantizedParam_t param);
cnrtRet_t cnrtCastDataType(void *src, cnrtDataType_t srcDataType, void *dst, cnrtDataType_t dstDataType, int count,
                           cnrtQuantizedParam_t param);
cnrtRet_t cnrtCastDataType_V2(const void *src, cnrtDataType_V2_t srcDataType, void *dst, cnrtDataType_V2_t dstDataType,
                              int count, cnrtQuantizedParam_t param, cnrtRoundingMode_t roundingMode);
/* Axis i of the result is axis dimOrder[i] of the source. */
cnrtRet_t cnrtTransOrderAndCast(void *src, cnrtDataType_t srcDataType, void *dst, cnrtDataType_t dstDataType,
                                cnrtQuantizedParam_t param, int dimNum, int dimValues[], int dimOrder[]);

/* ---- Between processes ---- */

/* A handle of an allocation of device memory leads to it while its owner has it; it is 8 bytes, to be passed on by whatever way. Mapped memory
 * is unmapped, not freed. Page-locked host memory has no handle (cnrtErrorNotSupport). */
cnrtRet_t cnrtAcquireMemHandle(cnrtIpcMemHandle *handle, void *ptr);
cnrtRet_t cnrtMapMemHandle(void **ptr, cnrtIpcMemHandle handle, int flags);
cnrtRet_t cnrtUnMapMemHandle(void *ptr);
/* Of a notifier with CNRT_NOTIFIER_INTERPROCESS. Whichever process placed it last, waiting and asking are about that place. */
cnrtRet_t cnrtIpcGetNotifierHandle(cnrtIpcNotifierHandle *handle, cnrtNotifier_t notifier);
cnrtRet_t cnrtIpcOpenNotifierHandle(cnrtNotifier_t *notifier, cnrtIpcNotifierHandle handle);

/* ---- Profiling: nothing to start or stop ---- */

cnrtRet_t cnrtProfilerStart(void);
cnrtRet_t cnrtProfilerStop(void);

/* ---- Names of older versions ---- */

cnrtRet_t cnrtInit(unsigned int flags);
cnrtRet_t cnrtGetLastErr(void);
cnrtRet_t cnrtCreateStream(cnrtQueue_t *pQueue);
cnrtRet_t cnrtGetMemInfo(size_t *free, size_t *total);
/* Buffers of parameters for launches, which fail as cnrtInvokeKernel does. */
typedef struct cnrtKernelParamsBuffer *cnrtKernelParamsBuffer_t;
typedef struct cnrtKernelInitParam *cnrtKernelInitParam_t;
cnrtRet_t cnrtGetKernelParamsBuffer(cnrtKernelParamsBuffer_t *params);
cnrtRet_t cnrtKernelParamsBufferAddParam(cnrtKernelParamsBuffer_t params, void *data, size_t bytes);
cnrtRet_t cnrtDestroyKernelParamsBuffer(cnrtKernelParamsBuffer_t params);
cnrtRet_t cnrtCreateKernelInitParam(cnrtKernelInitParam_t *param);
cnrtRet_t cnrtDestroyKernelInitParam(cnrtKernelInitParam_t param);
cnrtRet_t cnrtInvokeKernel_V2(const void *function, cnrtDim3_t dim, cnrtKernelParamsBuffer_t params,
                              cnrtFunctionType_t type, cnrtQueue_t queue);
cnrtRet_t cnrtInvokeKernel_V3(const void *function, cnrtKernelInitParam_t init_param, cnrtDim3_t dim,
                              cnrtKernelParamsBuffer_t params, cnrtFunctionType_t type, cnrtQueue_t queue, void *extra);
/* Offline models: cnrtErrorNotSupport. */
typedef struct cnrtModel *cnrtModel_t;
typedef struct cnrtFunction *cnrtFunction_t;
cnrtRet_t cnrtCopyFunction(cnrtFunction_t *dst, cnrtFunction_t src);
cnrtRet_t cnrtQueryModelParallelism(cnrtModel_t model, int *modelParallelism);
cnrtRet_t cnrtQueryModelStackSize(cnrtModel_t model, uint64_t *size);

/* ---- What compiled programs call by themselves ---- */

void **__bangRegisterFatBinary(void *fatbin);
void __bangUnregisterFatBinary(void **handle);
void __bangRegisterFunction(void **handle, const char *hostFun, char *deviceFun, const char *deviceName, int limit,
                            void *taskId, void *taskDim, cnrtDim3_t *dim, cnrtDim3_t *kind, int *size);
void __bangRegisterVar(void **handle, char *hostVar, char *deviceAddress, const char *deviceName, int ext, int size,
                       int constant, int global);

/* What older compilers made of a launch: its shape, its arguments, and the launch, which ends as that of cnrtInvokeKernel. */
cnrtRet_t bangConfigureCall(cnrtDim3_t dim, cnrtFunctionType_t ktype, cnrtQueue_t queue);
cnrtRet_t bangSetupArgument(const void *arg, size_t size, size_t offset);
cnrtRet_t bangLaunch(const void *func);

#define CNRT_RET_SUCCESS cnrtSuccess
#define CNRT_RET_WARNING_FAKE_DEVICE ((cnrtRet_t)1)
#define CNRT_RET_ERR_NOT_READY ((cnrtRet_t)632006)
#define CNRT_RET_ERR_INVALID ((cnrtRet_t)632007)
#define CNRT_RET_ERR_NOMEM ((cnrtRet_t)632008)
#define CNRT_RET_ERR_NODEV ((cnrtRet_t)632009)
#define CNRT_RET_ERR_SYS ((cnrtRet_t)632011)
#define CNRT_RET_ERR_ACCES ((cnrtRet_t)632012)
#define CNRT_RET_ERR_ACCESS ((cnrtRet_t)632012)
#define CNRT_RET_ERR_FAULT ((cnrtRet_t)632013)
#define CNRT_RET_ERR_BUSY ((cnrtRet_t)632014)
#define CNRT_RET_ERR_NORES ((cnrtRet_t)632019)
#define CNRT_RET_ERR_UNSUPPORTED ((cnrtRet_t)632020)
#define CNRT_RET_ERR_INVALID_POINTER ((cnrtRet_t)632021)
#define CNRT_RET_ERR_NO_EXIST ((cnrtRet_t)632022)
#define CNRT_RET_ERR_BROKEN ((cnrtRet_t)632023)
#define CNRT_RET_ERR_INIT ((cnrtRet_t)632024)
#define CNRT_RET_ERR_QUEUE ((cnrtRet_t)632025)
#define CNRT_RET_ERR_OUT_RANGE ((cnrtRet_t)632026)
#define CNRT_RET_ERR_FUNC_CALL ((cnrtRet_t)632028)
#define CNRT_RET_ERR_UNHANDLED ((cnrtRet_t)632029)
#define CNRT_RET_ERR_INVALID_TYPE ((cnrtRet_t)632030)
#define CNRT_RET_ERR_INVALID_OP ((cnrtRet_t)632031)
#define CNRT_RET_ERR_RESHAPE ((cnrtRet_t)632035)
#define CNRT_RET_ERR_MEMCPY ((cnrtRet_t)632036)
#define CNRT_RET_ERR_ENCRYPT ((cnrtRet_t)632037)
#define CNRT_RET_ERR_INVALID_DATADESC ((cnrtRet_t)632038)
#define CNRT_RET_ERR_MAP ((cnrtRet_t)632039)
#define CNRT_RET_ERR_UNMAP ((cnrtRet_t)632040)
#define CNRT_RET_ERR_CACHE ((cnrtRet_t)632041)
#define CNRT_RET_ERR_FIND_DEV_ADDR ((cnrtRet_t)632042)
#define CNRT_RET_ERR_KERNEL_VERSION_TOO_HIGH ((cnrtRet_t)632043)
#define CNRT_RET_ERR_CNDRV_FUNC_CALL ((cnrtRet_t)632046)
#define CNRT_RET_ERR_CNDEV_FUNC_CALL ((cnrtRet_t)632047)
#define CNRT_RET_ERR_IO ((cnrtRet_t)632048)
#define CNRT_RET_ERR_TIMEOUT ((cnrtRet_t)632049)
#define CNRT_RET_ERR_NOSYS ((cnrtRet_t)632050)
#define CNRT_RET_ERR_AGAIN ((cnrtRet_t)632051)
#define CNRT_RET_ERR_EXIST ((cnrtRet_t)632052)
#define CNRT_RET_ERR_MATH_OVERFLOW ((cnrtRet_t)632053)
#define CNRT_RET_ERR_MLU ((cnrtRet_t)632054)
#define CNRT_RET_ERR_ONCHIP_CORE ((cnrtRet_t)632055)
#define CNRT_RET_ERR_GET_MEM_RANGE ((cnrtRet_t)632056)
#define CNRT_RET_ERR_GET_MEM_INFO ((cnrtRet_t)632057)
#define CNRT_RET_ERR_EVENT ((cnrtRet_t)632058)
#define CNRT_RET_ERR_NOTIFIER ((cnrtRet_t)632059)
#define CNRT_RET_ERR_GET_IMP_DEV ((cnrtRet_t)632060)
#define CNRT_RET_ERR_LOAD_MODULE ((cnrtRet_t)632061)
#define CNRT_RET_ERR_UNKNOWN ((cnrtRet_t)999991)
#define CNRT_RET_ERR_MAX ((cnrtRet_t)999992)

#define CNRT_QUEUE_SYNC_SPIN ((cnrtDeviceFlags_t)0)
#define CNRT_QUEUE_SYNC_BLOCK ((cnrtDeviceFlags_t)1)
#define CNRT_QUEUE_SYNC_YIELD ((cnrtDeviceFlags_t)2)

#define CNRT_FUNC_TYPE_BLOCK ((cnrtFunctionType_t)1)
#define CNRT_FUNC_TYPE_BLOCK0 ((cnrtFunctionType_t)1)
#define CNRT_FUNC_TYPE_BLOCK1 ((cnrtFunctionType_t)2)
#define CNRT_FUNC_TYPE_UNION1 ((cnrtFunctionType_t)4)
#define CNRT_FUNC_TYPE_UNION2 ((cnrtFunctionType_t)8)
#define CNRT_FUNC_TYPE_UNION4 ((cnrtFunctionType_t)16)
#define CNRT_FUNC_TYPE_UNION8 ((cnrtFunctionType_t)32)
#define CNRT_FUNC_TYPE_UNION16 ((cnrtFunctionType_t)64)
#define CNRT_FUNC_TYPE_MUTABLE ((cnrtFunctionType_t)-1)
#define CNRT_JOB_TYPE_BLOCK ((cnrtFunctionType_t)CNRT_FUNC_TYPE_BLOCK)
#define CNRT_JOB_TYPE_UNION1 ((cnrtFunctionType_t)CNRT_FUNC_TYPE_UNION1)
#define CNRT_JOB_TYPE_UNION2 ((cnrtFunctionType_t)CNRT_FUNC_TYPE_UNION2)
#define CNRT_JOB_TYPE_UNION4 ((cnrtFunctionType_t)CNRT_FUNC_TYPE_UNION4)

#define CNRT_MEM_TRANS_DIR_HOST2DEV ((cnrtMemTransDir_t)0)
#define CNRT_MEM_TRANS_DIR_DEV2DEV ((cnrtMemTransDir_t)1)
#define CNRT_MEM_TRANS_DIR_DEV2HOST ((cnrtMemTransDir_t)2)
#define CNRT_MEM_TRANS_DIR_HOST2HOST ((cnrtMemTransDir_t)3)
#define CNRT_MEM_TRANS_DIR_PEER2PEER ((cnrtMemTransDir_t)4)
#define CNRT_MEM_TRANS_DIR_NODIR ((cnrtMemTransDir_t)5)

#define CNRT_INVALID ((cnrtDataType_t)0x0)
#define CNRT_FLOAT16 ((cnrtDataType_t)0x12)
#define CNRT_FLOAT32 ((cnrtDataType_t)0x13)
#define CNRT_FLOAT64 ((cnrtDataType_t)0x14)
#define CNRT_INT4 ((cnrtDataType_t)0x20)
#define CNRT_INT8 ((cnrtDataType_t)0x21)
#define CNRT_INT16 ((cnrtDataType_t)0x22)
#define CNRT_INT32 ((cnrtDataType_t)0x23)
#define CNRT_INT64 ((cnrtDataType_t)0x24)
#define CNRT_AUTO ((cnrtDataType_t)0x25)
#define CNRT_UINT8 ((cnrtDataType_t)0x31)
#define CNRT_UINT16 ((cnrtDataType_t)0x32)
#define CNRT_UINT32 ((cnrtDataType_t)0x33)
#define CNRT_FIX8 ((cnrtDataType_t)0x41)
#define CNRT_QUANT8 ((cnrtDataType_t)0x51)
#define CNRT_BOOL ((cnrtDataType_t)0x61)

#ifdef __cplusplus
}
#endif

/* Ends the program with a message if a call fails. */
#ifndef CNRT_CHECK
#include <stdio.h>
#include <stdlib.h>
#ifndef CNRT_CHECK_PRINT_CHANNEL
#define CNRT_CHECK_PRINT_CHANNEL stdout
#endif
#ifndef CNRT_CHECK_ERROR_BEHAVIOR
#define CNRT_CHECK_ERROR_BEHAVIOR(ret) exit(-1)
#endif
#define CNRT_CHECK(val)                                                                                           \
  do {                                                                                                            \
    cnrtRet_t cnrtCheckRet_ = (val);                                                                              \
    if (cnrtCheckRet_ != cnrtSuccess) {                                                                           \
      fprintf(CNRT_CHECK_PRINT_CHANNEL, "%s:%d: %s: %s (%d)\n", __FILE__, __LINE__, #val,                         \
              cnrtGetErrorStr(cnrtCheckRet_), (int)cnrtCheckRet_);                                                \
      fflush(CNRT_CHECK_PRINT_CHANNEL);                                                                           \
      CNRT_CHECK_ERROR_BEHAVIOR(cnrtCheckRet_);                                                                   \
    }                                                                                                             \
  } while (0)
#endif

#endif /* __CNRT_H */
