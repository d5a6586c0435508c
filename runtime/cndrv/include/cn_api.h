/*
 * cn_api.h - the driver interface of the virtual MLU, under the vendor's names.
 *
 * Names, numbers, layouts and argument lists are those of CNDrv 2.15.5; the texts are this project's own. Programs link with -lcndrv. Queues,
 * notifiers and memory are those of the runtime interface (cnrt.h), which uses a device's shared context: a process may use both at once.
 *
 * Every function returns a CNresult; 0 is success. Before cnInit, or a first call of the runtime interface, calls fail with
 * CN_ERROR_NOT_INITIALIZED, as they do in a process that was forked from one that had used a device. Calls that need a context take the
 * calling thread's; without one they fail with CN_CONTEXT_ERROR_INVALID.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef CN_API_H_
#define CN_API_H_

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t cn_uint64_t;
typedef int64_t cn_int64_t;
typedef uint32_t cn_uint32_t;

#define CN_MAJOR_VERSION 2
#define CN_MINOR_VERSION 15
#define CN_PATCH_VERSION 5
#define CN_VERSION (CN_MAJOR_VERSION * 100000 + CN_MINOR_VERSION * 1000 + CN_PATCH_VERSION)

/* What the list of extra parameters of a launch is made of. */
#define CN_INVOKE_PARAM_END ((void *)0x0UL)
#define CN_INVOKE_PARAM_BUFFER_POINTER ((void *)0x1UL)
#define CN_INVOKE_PARAM_BUFFER_SIZE ((void *)0x2UL)

/* How calls end; cnGetErrorString has a sentence for each. */
typedef enum {
  CN_SUCCESS = 0,
  CN_ERROR_NOT_READY = 1,
  CN_ERROR_NOT_INITIALIZED = 100002,
  CN_ERROR_DEINITIALIZED = 100003,
  CN_ERROR_NO_DEVICE = 100004,
  CN_ERROR_INVALID_DEVICE = 100005,
  CN_ERROR_INVALID_VALUE = 100006,
  CN_ERROR_OPERATING_SYSTEM = 100007,
  CN_ERROR_SYSTEM_NOT_READY = 100008,
  CN_ERROR_SYSTEM_DRIVER_MISMATCH = 100009,
  CN_ERROR_SYSTEM_OUT_OF_MEMORY = 100010,
  CN_ERROR_INVALID_ADDRESS = 100011,
  CN_ERROR_FILE_NOT_FOUND = 100012,
  CN_ERROR_COMPAT_NOT_SUPPORT_ON_SYSTEM = 100013,
  CN_ERROR_INVALID_HANDLE = 100014,
  CN_ERROR_ILLEGAL_STATE = 100015,
  CN_ERROR_ECC_UNCORRECTABLE = 100016,
  CN_OPS_ERROR_NOT_SUPPORTED = 100050,
  CN_OPS_ERROR_NOT_PERMITTED = 100051,
  CN_OPS_ERROR_TIMEOUT = 100052,
  CN_OPS_ERROR_OUT_OF_RESOURCES = 100053,
  CN_QUEUE_ERROR_INVALID = 100060,
  CN_QUEUE_ERROR_OUT_OF_RESOURCES = 100061,
  CN_NOTIFIER_ERROR_INVALID = 100080,
  CN_NOTIFIER_ERROR_OUT_OF_RESOURCES = 100081,
  CN_MEMORY_ERROR_OUT_OF_MEMORY = 100100,
  CN_MEMORY_ERROR_OUT_OF_PROCESS_MAX_MEMORY = 100101,
  CN_MEMORY_ERROR_INVALID_ADDRESS = 100102,
  CN_INVOKE_ERROR_OUT_OF_RESOURCES = 100120,
  CN_INVOKE_ERROR_EXECUTED_TIMEOUT = 100121,
  CN_INVOKE_ERROR_TIMEOUT = 100122,
  CN_INVOKE_ERROR_ILLEGAL_INSTRUCTION = 100123,
  CN_INVOKE_ERROR_ADDRESS_SPACE = 100124,
  CN_INVOKE_NO_TINYCORE = 100125,
  CN_INVOKE_ERROR_INVALID_PC = 100126,
  CN_INVOKE_ERROR_ILLEGAL_OPERAND = 100127,
  CN_INVOKE_ERROR_ASSERT = 100128,
  CN_INVOKE_ERROR_MEMORY_MISALIGNED_ADDRESS = 100130,
  CN_INVOKE_ERROR_MEMORY_ILLEGAL_ADDRESS = 100131,
  CN_INVOKE_ERROR_KERNEL_TRAP = 100132,
  CN_INVOKE_ERROR_KERNEL_USER_TRAP = 100133,
  CN_INVOKE_ERROR_STACK_OVERFLOW = 100134,
  CN_INVOKE_ERROR_OUT_OF_RANGE_ADDRESS = 100135,
  CN_INVOKE_ERROR_NAN = 100136,
  CN_INVOKE_ERROR_POSITIVE_INF = 100137,
  CN_INVOKE_ERROR_NEGATIVE_INF = 100138,
  CN_INVOKE_ERROR = 100200,
  CN_CONTEXT_ERROR_INVALID = 100201,
  CN_CONTEXT_ERROR_OUT_OF_RESOURCES = 100202,
  CN_ERROR_INVALID_FATBIN = 100300,
  CN_ERROR_NOT_FOUND = 100301,
  CN_ERROR_INVALID_KERNEL = 100302,
  CN_FATBIN_ERROR_UNSUPPORTED_VERSION = 100303,
  CN_ERROR_QUEUE_CAPTURE_UNSUPPORTED = 100360,
  CN_ERROR_QUEUE_CAPTURE_INVALIDATED = 100361,
  CN_ERROR_QUEUE_CAPTURE_WRONG_THREAD = 100362,
  CN_ERROR_QUEUE_CAPTURE_MERGED = 100363,
  CN_ERROR_QUEUE_CAPTURE_UNJOINED = 100364,
  CN_ERROR_QUEUE_CAPTURE_ISOLATION = 100365,
  CN_ERROR_QUEUE_CAPTURE_UNMATCHED = 100366,
  CN_ERROR_TASK_TOPO_ENTITY_UPDATE_FAILURE = 100400,
  CN_FATBIN_ERROR_NO_KERNEL = 101312,
  CN_FATBIN_INVALID_IMAGE = 101313,
  CN_FATBIN_LIBCNBIN_NOT_FOUND = 101314,
  CN_FATBIN_INVALID_ARCH = 101315,
  CN_ERROR_UNKNOWN = 200000
} CNresult;

typedef enum CNcomputemode_enum { CN_COMPUTEMODE_DEFAULT = 0, CN_COMPUTEMODE_EXCLUSIVE_PROCESS = 1 } CNcomputemode;

/* Attributes of a device; numbers and values are those of cnrtDeviceAttr_t. */
typedef enum CNdevice_attribute_enum {
  CN_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 0x01,
  CN_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 0x02,
  CN_DEVICE_ATTRIBUTE_SPARSE_COMPUTING_SUPPORTED = 0x03,
  CN_DEVICE_ATTRIBUTE_FP16_COMPUTING_SUPPORTED = 0x04,
  CN_DEVICE_ATTRIBUTE_INT4_COMPUTING_SUPPORTED = 0x05,
  CN_DEVICE_ATTRIBUTE_INT8_COMPUTING_SUPPORTED = 0x06,
  CN_DEVICE_ATTRIBUTE_BF16_COMPUTING_SUPPORTED = 0x07,
  CN_DEVICE_ATTRIBUTE_TF32_COMPUTING_SUPPORTED = 0x08,
  CN_DEVICE_ATTRIBUTE_COMPUTE_MODE = 0x09,
  CN_DEVICE_ATTRIBUTE_MAX_QUEUE_COUNT = 0x101,
  CN_DEVICE_ATTRIBUTE_MAX_NOTIFIER_COUNT = 0x102,
  CN_DEVICE_ATTRIBUTE_QUEUE_PRIORITIES_SUPPORTED = 0x103,
  CN_DEVICE_ATTRIBUTE_TINY_CORE_SUPPORTED = 0x104,
  CN_DEVICE_ATTRIBUTE_CODEC_JPEG_SUPPORTED = 0x105,
  CN_DEVICE_ATTRIBUTE_CODEC_H264_SUPPORTED = 0x106,
  CN_DEVICE_ATTRIBUTE_CODEC_H265_SUPPORTED = 0x107,
  CN_DEVICE_ATTRIBUTE_AIISP_CORE_SUPPORTED = 0x108,
  CN_DEVICE_ATTRIBUTE_MULTI_CTX_NOTIFIER_WAIT_SUPPORTED = 0x109,
  CN_DEVICE_ATTRIBUTE_IPCNOTIFIER_SUPPORTED = 0x10a,
  CN_DEVICE_ATTRIBUTE_MAX_BLOCK_TASK_DIM_X = 0x201,
  CN_DEVICE_ATTRIBUTE_MAX_BLOCK_TASK_DIM_Y = 0x202,
  CN_DEVICE_ATTRIBUTE_MAX_BLOCK_TASK_DIM_Z = 0x203,
  CN_DEVICE_ATTRIBUTE_MAX_CLUSTER_COUNT_PER_UNION_TASK = 0x204,
  CN_DEVICE_ATTRIBUTE_MAX_CLUSTER_COUNT = 0x205,
  CN_DEVICE_ATTRIBUTE_MAX_CORE_COUNT_PER_CLUSTER = 0x206,
  CN_DEVICE_ATTRIBUTE_MAX_QUADRANT_COUNT = 0x207,
  CN_DEVICE_ATTRIBUTE_MAX_UNION_TYPE_PER_QUADRANT = 0x208,
  CN_DEVICE_ATTRIBUTE_MAX_CLUSTERS_PER_UNION_LIMIT_TASK = 0x209,
  CN_DEVICE_ATTRIBUTE_MLU_ISA_VERSION = 0x20a,
  CN_DEVICE_ATTRIBUTE_IS_MULTIPLE_TENSOR_PROCESSOR = 0x20b,
  CN_DEVICE_ATTRIBUTE_IPCRESOURCE_PER_CTX = 0x20c,
  CN_DEVICE_ATTRIBUTE_MAX_L2_CACHE_SIZE = 0x301,
  CN_DEVICE_ATTRIBUTE_NRAM_SIZE_PER_CORE = 0x302,
  CN_DEVICE_ATTRIBUTE_NEURAL_RAM_SIZE_PER_CORE = CN_DEVICE_ATTRIBUTE_NRAM_SIZE_PER_CORE,
  CN_DEVICE_ATTRIBUTE_WEIGHT_RAM_SIZE_PER_CORE = 0x303,
  CN_DEVICE_ATTRIBUTE_TOTAL_CONST_MEMORY_SIZE = 0x304,
  CN_DEVICE_ATTRIBUTE_LOCAL_MEMORY_SIZE_PER_CORE = 0x305,
  CN_DEVICE_ATTRIBUTE_MAX_SHARED_RAM_SIZE_PER_CLUSTER = 0x306,
  CN_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_NODE_COUNT = 0x307,
  CN_DEVICE_ATTRIBUTE_CLUSTER_L1_CACHE_SUPPORTED = 0x308,
  CN_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE = 0x309,
  CN_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_SIZE_PER_UNION_TASK = 0x30A,
  CN_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED = 0x30B,
  CN_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED = 0x30C,
  CN_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED = 0x30D,
  CN_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM = 0x30E,
  CN_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 0x30F,
  CN_DEVICE_ATTRIBUTE_LINEAR_MAPPING_SUPPORTED = 0x310,
  CN_DEVICE_ATTRIBUTE_LINEAR_RECOMMEND_GRANULARITY = 0x311,
  CN_DEVICE_ATTRIBUTE_AVAILABLE_GLOBAL_MEMORY_SIZE = 0x312,
  CN_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED = 0x313,
  CN_DEVICE_ATTRIBUTE_ECC_ENABLED = 0x401,
  CN_DEVICE_ATTRIBUTE_CLUSTER_CLOCK_RATE = 0x402,
  CN_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 0x403,
  CN_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 0x404,
  CN_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_TOTAL_SIZE = 0x405,
  CN_DEVICE_ATTRIBUTE_PCI_BUS_ID = 0x406,
  CN_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 0x407,
  CN_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 0x408,
  CN_DEVICE_ATTRIBUTE_MDR_MEMORY_SIZE = 0x409,
  CN_DEVICE_ATTRIBUTE_PCI_MPS = 0x40A,
  CN_DEVICE_ATTRIBUTE_PCI_MRRS = 0x40B,
  CN_DEVICE_ATTRIBUTE_MAX
} CNdevice_attribute;

enum CN_memory_type { CN_MEMORYTYPE_UNKNOWN = 0, CN_MEMORYTYPE_HOST = 1, CN_MEMORYTYPE_DEVICE = 2 };

typedef enum CN_host_cache_type {
  CN_HOSTMEMORY_NOT_SUPPORT = -1,
  CN_HOSTMEMORY_CACHE_UNKNOWN = 0x0,
  CN_HOSTMEMORY_NONCACHE = 0x1,
  CN_HOSTMEMORY_CACHEABLE = 0x2
} CNHostMemCachingType;

typedef enum CNipcMemFlags { CN_IPC_MEM_DEFAULT = 0x0, CN_IPC_MEM_NEED_PEER_ACCESS = 0x2 } CNIpcMemFlags_t;

/* What is known of an address. Pointers, sizes and contexts are 64 bits wide, the others are int. */
typedef enum CNmem_attribute_enum {
  CN_MEM_ATTRIBUTE_TYPE = 0x1,
  CN_MEM_ATTRIBUTE_DEVICE_POINTER = 0x2,
  CN_MEM_ATTRIBUTE_HOST_POINTER = 0x3,
  CN_MEM_ATTRIBUTE_IS_CACHE_OPS = 0x4,
  CN_MEM_ATTRIBUTE_CACHE_OPS = 0x5,
  CN_MEM_ATTRIBUTE_CONTEXT = 0x6,
  CN_MEM_ATTRIBUTE_DEVICE_ORDINAL = 0x7,
  CN_MEM_ATTRIBUTE_RANGE_START_ADDR = 0x11,
  CN_MEM_ATTRIBUTE_RANGE_SIZE = 0x12,
  CN_MEM_ATTRIBUTE_MAPPING_TYPE = 0x13,
  CN_MEM_ATTRIBUTE_ACCESS_FLAGS = 0x13,
  CN_MEM_ATTRIBUTE_CACHE_CONFIG = 0x14,
  CN_MEM_ATTRIBUTE_HOST_CACHE_TYPE = 0x15,
  CN_MEM_ATTRIBUTE_MAPPED = 0x16,
  CN_MEM_ATTRIBUTE_ALLOWED_HANDLE_TYPES = 0x17,
  CN_MEM_ATTRIBUTE_ISLINEAR = 0x18,
  CN_MEM_ATTRIBUTE_IS_LEGACY_IPC_CAPABLE = 0x19,
  CN_MEM_ATTRIBUTE_MAX
} CNmem_attribute;

typedef enum CNmoduleLoadingModeEnum { CN_MODULE_EAGER_LOADING = 1, CN_MODULE_LAZY_LOADING = 2 } CNmoduleLoadingMode;

typedef enum CNkernel_attribute_enum {
  CN_KERNEL_ATTRIBUTE_NRAM_SIZE_BYTES = 0,
  CN_KERNEL_ATTRIBUTE_NEURAL_RAM_SIZE_BYTES = CN_KERNEL_ATTRIBUTE_NRAM_SIZE_BYTES,
  CN_KERNEL_ATTRIBUTE_WEIGHT_RAM_SIZE_BYTES = 1,
  CN_KERNEL_ATTRIBUTE_SHARED_SIZE_BYTES = 2,
  CN_KERNEL_ATTRIBUTE_CONST_SIZE_BYTES = 3,
  CN_KERNEL_ATTRIBUTE_BINARY_VERSION = 4,
  CN_KERNEL_ATTRIBUTE_MAX
} CNkernel_attribute;

/* How threads wait. */
typedef enum CNCtxSchedEnum {
  CN_CTX_SCHED_SYNC_SPIN = 0,
  CN_CTX_SCHED_SYNC_WAIT,
  CN_CTX_SCHED_SYNC_YIELD,
  CN_CTX_SCHED_SYNC_AUTO,
  CN_CTX_SCHED_SYNC_NUM
} CNCtxSched;

typedef enum CNCtxConfigEnum {
  CN_CTX_CONFIG_RESERVED = 0,
  CN_CTX_CONFIG_PRINTF_MAX_NUM,
  CN_CTX_CONFIG_MAX_PERSISTING_L2_CACHE_SIZE,
  CN_CTX_CONFIG_PRINTF_FIFO_SIZE,
  CN_CTX_CONFIG_STACK_SIZE,
  CN_CTX_CONFIG_TYPE_NUM
} CNCtxConfig;

typedef enum CNCtxStateEnum { CN_CONTEXT_STATE_INACTIVE = 0, CN_CONTEXT_STATE_ACTIVE } CNCtxState;

/* How many clusters a kernel takes at a time; the number is that of cores. */
typedef enum cn_kernel_class {
  CN_KERNEL_CLASS_BLOCK = 1,
  CN_KERNEL_CLASS_UNION = 4,
  CN_KERNEL_CLASS_UNION2 = 8,
  CN_KERNEL_CLASS_UNION4 = 16,
  CN_KERNEL_CLASS_UNION8 = 32,
  CN_KERNEL_CLASS_UNION16 = 64,
  CN_KERNEL_CLASS_NONE = 0xFF
} KernelClass;

/* What a thread sets for its launches in a context: a bit for each cluster that they may use, how many those are (read only), the largest
 * class. */
typedef enum cn_ctx_config_type {
  CN_CTX_CONFIG_VISIBLE_CLUSTER = 0,
  CN_CTX_CONFIG_VISIBLE_CLUSTER_NUM,
  CN_CTX_CONFIG_UNION_LIMIT,
  CN_CTX_CONFIG_NUM
} CNctxConfigParamType;

typedef union cn_ctx_config_param {
  cn_uint64_t visibleCluster;
  cn_uint64_t visibleClusterNumber;
  KernelClass unionLimit;
} CNctxConfigParam;

typedef enum cn_cache_ops { CN_FLUSH_CACHE = 1, CN_INVALID_CACHE = 2 } CNCacheOps;

typedef enum CNNotifierFlags {
  CN_NOTIFIER_DEFAULT = 0x0,
  CN_NOTIFIER_DISABLE_TIMING_SW = 0x2,
  CN_NOTIFIER_DISABLE_TIMING = CN_NOTIFIER_DISABLE_TIMING_SW,
  CN_NOTIFIER_DISABLE_TIMING_ALL = 0x4,
  CN_NOTIFIER_INTERPROCESS = 0x8
} CNNotifierFlags_t;

typedef enum CNNotifierPlaceFlags { CN_NOTIFIER_PLACE_DEFAULT = 0x0, CN_NOTIFIER_PLACE_EXTERNAL } CNNotifierPlaceFlags;
typedef enum CNNotifierWaitFlags { CN_NOTIFIER_WAIT_DEFAULT = 0x0, CN_NOTIFIER_WAIT_EXTERNAL } CNNotifierWaitFlags;

#define CN_IPC_HANDLE_SIZE 8
#define CN_IPC_HANDLE_SIZE_BYTES (CN_IPC_HANDLE_SIZE * sizeof(cn_uint64_t))
typedef struct CNIpcNotifierHandle_st {
  cn_uint64_t res[CN_IPC_HANDLE_SIZE];
} CNIpcNotifierHandle_v1;
typedef CNIpcNotifierHandle_v1 CNIpcNotifierHandle;

typedef struct CNqueue_st *CNqueue;
typedef struct CNnotifier_st *CNnotifier;
typedef cn_uint64_t CNaddr;
typedef struct CNipcMemHandle_st *CNIpcMemHandle;
typedef cn_uint64_t CNdev;
typedef struct CNcontext_st *CNcontext;
typedef struct CNkernel_st *CNkernel;
typedef struct CNmodule_st *CNmodule;
typedef cn_uint64_t CNmemGenericAllocationHandle;
typedef void (*CNhostFn)(void *userData);
typedef struct CNmemoryPool_st *CNmemoryPool;
typedef struct CNtaskTopo_st *CNtaskTopo;
typedef struct CNtaskTopoNode_st *CNtaskTopoNode;
typedef struct CNtaskTopoEntity_st *CNtaskTopoEntity;

/* The calling thread's queue of its context, as is NULL, and one that all threads share. */
#define CN_QUEUE_TYPE_PER_THREAD ((CNqueue)1)
#define CN_QUEUE_TYPE_LEGACY ((CNqueue)2)

typedef struct CNuuid_st {
  char uuid[16];
} CNuuid;

typedef struct {
  cn_uint64_t x;
  cn_uint64_t y;
  cn_uint64_t z;
} CNpos;

typedef struct {
  cn_uint64_t pitch;
  void *ptr;
  cn_uint64_t xsize;
  cn_uint64_t ysize;
} CNpitchedPtr;

typedef struct {
  cn_uint64_t depth;
  cn_uint64_t height;
  cn_uint64_t width;
} CNextent;

typedef struct CNmemcpy3dParam_st {
  void *dst;
  CNpos dstPos;
  CNpitchedPtr dstPtr;
  CNextent extent;
  cn_uint32_t dir;
  void *src;
  CNpos srcPos;
  CNpitchedPtr srcPtr;
} CNmemcpy3dParam;

typedef enum cn_mapping_type { CN_MEM_MAPPING_READWRITE = 0x0, CN_MEM_MAPPING_READONLY = 0x1 } CNMemoryMappingType;
typedef enum cn_memory_access_flags {
  CN_MEM_ACCESS_FLAGS_PROT_READWRITE = 0x0,
  CN_MEM_ACCESS_FLAGS_PROT_READONLY = 0x1
} CNMemoryAccessFlags;
typedef enum cn_caching_type {
  CN_MEM_NON_CACHEABLE = 0x0,
  CN_MEM_CACHEABLE_READONLY = 0x1,
  CN_MEM_CACHEABLE_WRITEONLY = 0x2,
  CN_MEM_CACHEABLE_READWRITE = 0x3
} CNMemoryCachingType;
typedef enum cn_caching_pinned { CN_MEM_CACHE_NON_PINNED = 0x0, CN_MEM_CACHE_PINNED = 0x1 } CNMemoryCachePinnedType;
typedef enum cn_mem_location_type {
  CN_MEM_LOCATION_TYPE_INVALID = 0x0,
  CN_MEM_LOCATION_TYPE_DEVICE = 0x1
} CNmemLocationType;
typedef enum cn_mem_allocation_comp_type {
  CN_MEM_ALLOCATION_COMP_NONE = 0x0,
  CN_MEM_ALLOCATION_COMP_GENERIC = 0x1
} CNmemAllocationCompType;
typedef enum cn_mem_allocation_security_type {
  CN_MEM_ALLOCATION_SECUR_NONE = 0x0,
  CN_MEM_ALLOCATION_SECUR_GENERIC = 0x1
} CNmemAllocationSecurType;
typedef enum cn_mem_allocation_type {
  CN_MEM_ALLOCATION_TYPE_INVALID = 0x0,
  CN_MEM_ALLOCATION_TYPE_DEFAULT = 0x1
} CNmemAllocationType;
typedef enum cn_mem_allocation_granularity {
  CN_MEM_ALLOC_GRANULARITY_MINIMUM = 0x0,
  CN_MEM_ALLOC_GRANULARITY_RECOMMENDED = 0x1
} CNmemAllocationGranularity;
typedef enum cn_mem_allocation_handle_type {
  CN_MEM_HANDLE_TYPE_NONE = 0x0,
  CN_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 0x1
} CNmemAllocationHandleType;

typedef struct cn_mem_location {
  CNmemLocationType type;
  cn_uint32_t id;
} CNmemLocation;

typedef struct cn_mem_access_desc {
  CNmemLocation location;
  CNMemoryAccessFlags accessFlags;
  CNMemoryCachingType cacheType;
  CNMemoryCachePinnedType pinnedType;
} CNmemAccessDesc;

typedef struct cn_mem_allocation_prop {
  CNmemAllocationType type;
  CNmemAllocationHandleType requestedHandleTypes;
  CNmemLocation location;
  struct {
    unsigned char compressionType;
    unsigned char securityType;
  } allocFlags;
} CNmemAllocationProp;

typedef enum cn_mem_range_handle_type {
  CN_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD = 0x1,
  CN_MEM_RANGE_HANDLE_TYPE_MAX = 0x7FFFFFFF
} CNmemRangeHandleType;

/* ---- Errors, versions ---- */

/* A sentence, and the name; both live for ever. */
CNresult cnGetErrorString(CNresult error, const char **pStr);
CNresult cnGetErrorName(CNresult error, const char **pStr);
CNresult cnInit(unsigned int flags);
/* The interface that the driver serves; this interface; the driver. */
CNresult cnDriverGetVersion(int *major, int *minor, int *patch);
CNresult cnGetLibVersion(int *major, int *minor, int *patch);
CNresult cnGetDriverVersion(int *major, int *minor, int *patch);

/* ---- Devices ---- */

CNresult cnDeviceGet(CNdev *pdev, int ordinal);
CNresult cnDeviceGetCount(int *pcount);
CNresult cnDeviceGetName(char *name, unsigned int len, CNdev dev);
CNresult cnDeviceTotalMem(cn_uint64_t *pbytes, CNdev dev);
CNresult cnDeviceGetAttribute(int *pi, CNdevice_attribute attrib, CNdev dev);
CNresult cnDeviceGetByPCIBusId(CNdev *dev, const char *pciBusId);
CNresult cnDeviceGetPCIBusId(char *pciBusId, int len, CNdev dev);
CNresult cnDeviceGetUuid(CNuuid *uuid, CNdev dev);
/* 36 characters and a zero. */
CNresult cnDeviceGetUuidStr(char *uuid_str, int len, CNdev dev);
CNresult cnDeviceGetByUuidStr(CNdev *dev, const char *uuid_str);
CNresult cnDeviceCanPeerAble(int *canPeer, CNdev devSrc, CNdev devDst);

/* ---- Contexts ---- */

/* A context of its own, which becomes the calling thread's. Destroying it takes all that belongs to it. */
CNresult cnCtxCreate(CNcontext *pcontext, unsigned int flags, CNdev dev);
CNresult cnCtxDestroy(CNcontext context);
CNresult cnCtxGetFlags(unsigned int *pflags);
CNresult cnCtxGetApiVersion(CNcontext context, unsigned int *pversion);
CNresult cnCtxGetCurrent(CNcontext *pcontext);
CNresult cnCtxSetCurrent(CNcontext context);
CNresult cnCtxGetDevice(CNdev *pdev);
CNresult cnCtxGetQueuePriorityRange(int *pminPriority, int *pmaxPriority);
CNresult cnCtxGetConfig(long long int *pconfig, CNCtxConfig type);
CNresult cnCtxSetConfig(CNCtxConfig type, long long int config);
CNresult cnCtxSync(void);
CNresult cnCtxResetPersistingL2Cache(void);
/* How many kernels of a class run at once with what the calling thread has set; 0 if the class is above the limit. */
CNresult cnGetCtxMaxParallelUnionTasks(CNcontext context, KernelClass c, int *number);
CNresult cnSetCtxConfigParam(CNcontext context, CNctxConfigParamType type, CNctxConfigParam *param);
CNresult cnGetCtxConfigParam(CNcontext context, CNctxConfigParamType type, CNctxConfigParam *param);
CNresult cnSetCtxConfigParam_pt(CNcontext context, CNctxConfigParamType type, CNctxConfigParam *param);
CNresult cnGetCtxConfigParam_pt(CNcontext context, CNctxConfigParamType type, CNctxConfigParam *param);
#define cnSetCtxConfigParam cnSetCtxConfigParam_pt
#define cnGetCtxConfigParam cnGetCtxConfigParam_pt

/* The context of a device that all of the process share. It is in use from the first acquire, or the first call of the runtime interface that
 * needs it, until the last release or a reset. */
CNresult cnSharedContextGetState(CNdev dev, unsigned int *flags, int *state);
CNresult cnSharedContextSetFlags(CNdev dev, unsigned int flags);
CNresult cnSharedContextAcquire(CNcontext *pctx, CNdev dev);
CNresult cnSharedContextRelease(CNdev dev);
CNresult cnSharedContextReset(CNdev dev);

/* ---- Memory ---- */

CNresult cnMemGetInfo(cn_uint64_t *pfreeBytes, cn_uint64_t *ptotalBytes);
CNresult cnMemGetNodeInfo(cn_uint64_t *pfreeBytes, cn_uint64_t *ptotalBytes, int node);
CNresult cnMalloc(CNaddr *pmluAddr, cn_uint64_t bytes);
CNresult cnMallocSecurity(CNaddr *pmluAddr, cn_uint64_t bytes);
CNresult cnMallocNode(CNaddr *pmluAddr, cn_uint64_t bytes, int node);
CNresult cnZmalloc(CNaddr *pmluAddr, cn_uint64_t bytes);
CNresult cnZmallocNode(CNaddr *pmluAddr, cn_uint64_t bytes, int node);
CNresult cnMallocConstant(CNaddr *pmluAddr, cn_uint64_t bytes);
CNresult cnMallocNodeConstant(CNaddr *pmluAddr, cn_uint64_t bytes, int node);
CNresult cnMallocFrameBuffer(CNaddr *pmluAddr, cn_uint64_t bytes, int node);
CNresult cnMallocPeerAble(CNaddr *pmluAddr, cn_uint64_t bytes);
CNresult cnFree(CNaddr mluAddr);
CNresult cnMemMerge(CNaddr *pmergeAddr, unsigned int count, const CNaddr *mluAddrs);
CNresult cnMemGetAddressRange(CNaddr *pbaseAddr, cn_uint64_t *pbytes, const CNaddr mluAddr);
CNresult cnMallocHost(void **paddr, cn_uint64_t bytes);
CNresult cnFreeHost(void *addr);

/* Memory of other processes: a handle leads to its allocation while the owner has it. */
CNresult cnIpcGetMemHandle(CNIpcMemHandle *pHandle, CNaddr addr);
CNresult cnIpcOpenMemHandle(CNaddr *pdptr, CNIpcMemHandle handle, unsigned int flag);
CNresult cnIpcCloseMemHandle(CNaddr dptr);

/* Copies; see cnrt.h. Those without a direction in their name take it from the addresses. */
CNresult cnMemcpy(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes);
CNresult cnMemcpyPeer(CNaddr dstAddr, CNcontext dstCtx, CNaddr srcAddr, CNcontext srcCtx, cn_uint64_t bytes);
CNresult cnMemcpyHtoD(CNaddr dstAddr, const void *srcAddr, cn_uint64_t bytes);
CNresult cnMemcpyDtoH(void *dstAddr, CNaddr srcAddr, cn_uint64_t bytes);
CNresult cnMemcpyDtoD(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes);
CNresult cnMemcpyDtoD2D(CNaddr dstAddr, cn_uint64_t dpitch, CNaddr srcAddr, cn_uint64_t spitch, cn_uint64_t width,
                        cn_uint64_t height);
CNresult cnMemcpyDtoD3D(CNmemcpy3dParam *p);
CNresult cnMemcpy2D(CNaddr dst_addr, cn_uint64_t dpitch, CNaddr src_addr, cn_uint64_t spitch, cn_uint64_t width,
                    cn_uint64_t height);
CNresult cnMemcpy2DAsync(CNaddr dst_addr, cn_uint64_t dpitch, CNaddr src_addr, cn_uint64_t spitch, cn_uint64_t width,
                         cn_uint64_t height, CNqueue hqueue);
CNresult cnMemcpy3D(CNmemcpy3dParam *p);
CNresult cnMemcpy3DAsync(const CNmemcpy3dParam *p, CNqueue hqueue);
CNresult cnMemcpyAsync(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyAsync_V2(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyAsync_V3(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyPeerAsync(CNaddr dstAddr, CNcontext dstCtx, CNaddr srcAddr, CNcontext srcCtx, cn_uint64_t bytes,
                           CNqueue hqueue);
CNresult cnMemcpyHtoDAsync(CNaddr dstAddr, const void *srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyHtoDAsync_V2(CNaddr dstAddr, const void *srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyDtoHAsync(void *dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyDtoHAsync_V2(void *dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);
CNresult cnMemcpyDtoDAsync(CNaddr dstAddr, CNaddr srcAddr, cn_uint64_t bytes, CNqueue hqueue);

/* Fills with elements of 1, 2 or 4 bytes; the address is a multiple of the element's. */
CNresult cnMemsetD8(CNaddr mluAddr, unsigned char value, cn_uint64_t count);
CNresult cnMemsetD16(CNaddr mluAddr, unsigned short value, cn_uint64_t count);
CNresult cnMemsetD32(CNaddr mluAddr, unsigned int value, cn_uint64_t count);
CNresult cnMemsetD8Async(CNaddr mluAddr, unsigned char value, cn_uint64_t count, CNqueue hqueue);
CNresult cnMemsetD16Async(CNaddr mluAddr, unsigned short value, cn_uint64_t count, CNqueue hqueue);
CNresult cnMemsetD32Async(CNaddr mluAddr, unsigned int value, cn_uint64_t count, CNqueue hqueue);

CNresult cnGetMemAttribute(void *pi, CNmem_attribute attr, CNaddr ptr);
CNresult cnGetMemAttributes(unsigned int numAttributes, CNmem_attribute *attributes, void **data, CNaddr ptr);
CNresult cnSetMemAttribute(cn_uint64_t value, CNmem_attribute attr, CNaddr ptr);

/* Mapping device memory for the host, and its caches: CN_OPS_ERROR_NOT_SUPPORTED, as on any card behind PCIe. */
CNresult cnMmap(CNaddr mluAddr, void **phostAddr, cn_uint64_t size);
CNresult cnMmapCached(CNaddr mluAddr, void **phostAddr, cn_uint64_t size);
CNresult cnMunmap(void *hostAddr, cn_uint64_t size);
CNresult cnCacheOperation(CNaddr mluAddr, void *hostAddr, cn_uint64_t size, CNCacheOps ops);

/* A dma-buf, where CN_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED is 1. */
CNresult cnMemGetHandleForAddressRange(void *handle, CNaddr dptr, size_t size, CNmemRangeHandleType handleType,
                                       cn_uint64_t flags);

/* ---- Virtual memory ---- */

/* Physical memory, addresses and mappings are whole granules. A mapping is of a whole handle, and is used once access was set; physical memory
 * goes when its handle was released and nothing is mapped of it. Copies and fills may go over several mappings. */
CNresult cnMemGetAllocationGranularity(cn_uint64_t *granularity, CNmemAllocationProp *prop,
                                       CNmemAllocationGranularity options);
CNresult cnMemCreate(CNmemGenericAllocationHandle *phandle, cn_uint64_t size, CNmemAllocationProp *prop,
                     cn_uint64_t flags);
CNresult cnMemRelease(CNmemGenericAllocationHandle handle);
CNresult cnMemAddressReserve(CNaddr *pmluAddr, cn_uint64_t size, cn_uint64_t alignment, CNaddr start, cn_uint64_t flags);
CNresult cnMemAddressFree(CNaddr mluAddr, cn_uint64_t size);
CNresult cnMemMap(CNaddr mluAddr, cn_uint64_t size, cn_uint64_t offset, CNmemGenericAllocationHandle handle,
                  cn_uint64_t flags);
CNresult cnMemSetAccess(CNaddr mluAddr, cn_uint64_t size, CNmemAccessDesc *desc, cn_uint64_t count);
CNresult cnMemUnmap(CNaddr mluAddr, cn_uint64_t size);
CNresult cnMemGetAccess(CNmemAccessDesc *desc, const CNmemLocation *location, void *ptr);
CNresult cnMemRetainAllocationHandle(CNmemGenericAllocationHandle *handle, CNaddr addr);
CNresult cnMemGetAllocationPropertiesFromHandle(CNmemAllocationProp *prop, CNmemGenericAllocationHandle handle);

/* ---- Queues ---- */

CNresult cnCreateQueue(CNqueue *phqueue, unsigned int flags);
CNresult cnCreateQueueWithPriority(CNqueue *phqueue, unsigned int flags, int priority);
CNresult cnQueueGetPriority(CNqueue hqueue, int *priority);
CNresult cnDestroyQueue(CNqueue hqueue);
CNresult cnQueryQueue(CNqueue hqueue);
CNresult cnQueueSync(CNqueue hqueue);
CNresult cnQueueWaitNotifier(CNqueue hqueue, CNnotifier hnotifier);
CNresult cnQueueWaitNotifierWithFlags(CNqueue hqueue, CNnotifier hnotifier, unsigned int flags);
CNresult cnQueueGetContext(CNqueue hqueue, CNcontext *pctx);
CNresult cnInvokeHostFunc(CNqueue queue, CNhostFn fn, void *userData);

/* ---- Notifiers ---- */

CNresult cnCreateNotifier(CNnotifier *phnotifier, unsigned int flags);
CNresult cnDestroyNotifier(CNnotifier hnotifier);
CNresult cnWaitNotifier(CNnotifier hnotifier);
CNresult cnQueryNotifier(CNnotifier hnotifier);
CNresult cnPlaceNotifier(CNnotifier hnotifier, CNqueue hqueue);
CNresult cnPlaceNotifierWithFlags(CNnotifier hnotifier, CNqueue hqueue, unsigned int flags);
/* Wall time, and time for which the device ran, both ms. */
CNresult cnNotifierElapsedTime(float *pMilliseconds, CNnotifier hstart, CNnotifier hend);
CNresult cnNotifierElapsedExecTime(float *pMilliseconds, CNnotifier hstart, CNnotifier hend);
CNresult cnIpcGetNotifierHandle(CNIpcNotifierHandle *phandle, CNnotifier hnotifier);
CNresult cnIpcOpenNotifierHandle(CNnotifier *phnotifier, CNIpcNotifierHandle handle);

/* ---- Modules and kernels ---- */

/* The virtual card runs no device code: any module is CN_FATBIN_INVALID_IMAGE, any kernel CN_ERROR_INVALID_KERNEL. */
CNresult cnModuleLoadFatBinary(const void *fatBin, CNmodule *phmod);
CNresult cnModuleLoad(const char *fname, CNmodule *phmod);
CNresult cnModuleUnload(CNmodule hmod);
CNresult cnModuleQueryMemoryUsage(const char *path, size_t *pbytes);
CNresult cnModuleQueryFatBinaryMemoryUsage(const void *fatbin, size_t *pbytes);
CNresult cnModuleGetKernel(CNmodule hmod, const char *name, CNkernel *phkernel);
CNresult cnModuleGetSymbol(CNmodule hmod, const char *name, CNaddr *pdptr, cn_uint64_t *pbytes);
CNresult cnKernelGetAttribute(cn_int64_t *pi, CNkernel_attribute attrib, CNkernel hkernel);
CNresult cnModuleGetLoadingMode(CNmoduleLoadingMode *mode);
CNresult cnInvokeKernel(CNkernel hkernel, unsigned int dimx, unsigned int dimy, unsigned int dimz, KernelClass c,
                        unsigned int reserve, CNqueue hqueue, void **kernelParams, void **extra);

#ifdef __cplusplus
}
#endif

#endif /* CN_API_H_ */
