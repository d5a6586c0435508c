/* What a program does with the driver interface, alone and beside the runtime interface. Compiles as C and as C++. */
#include <cn_api.h>
#include <cnrt.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 1 << 20 };

static void before_init(void) {
  int count = 0;
  CNcontext context = NULL;
  GIVES(CN_ERROR_NOT_INITIALIZED, cnDeviceGetCount(&count));
  GIVES(CN_ERROR_INVALID_VALUE, cnInit(1));
  OK(cnInit(0));
  OK(cnDeviceGetCount(&count));
  CHECK(count == 2);
  OK(cnCtxGetCurrent(&context));
  CHECK(context == NULL);
  CNaddr address = 0;
  GIVES(CN_CONTEXT_ERROR_INVALID, cnMalloc(&address, 16));
  const char *text = NULL;
  OK(cnGetErrorName(CN_CONTEXT_ERROR_INVALID, &text));
  CHECK(strcmp(text, "CN_CONTEXT_ERROR_INVALID") == 0);
  OK(cnGetErrorString((CNresult)77, &text));
  CHECK(text[0] != 0);
}

static void devices(void) {
  CNdev device = 9;
  char name[64], uuid[40], small[8];
  int value = 0;
  cn_uint64_t bytes = 0;
  OK(cnDeviceGet(&device, 1));
  CHECK(device == 1);
  GIVES(CN_ERROR_INVALID_DEVICE, cnDeviceGet(&device, 2));
  OK(cnDeviceGetName(name, sizeof name, 0));
  CHECK(strcmp(name, "MLU370-X8") == 0);
  GIVES(CN_ERROR_INVALID_VALUE, cnDeviceGetName(small, sizeof small, 0));
  OK(cnDeviceGetUuidStr(uuid, sizeof uuid, 1));
  CHECK(strlen(uuid) == 36);
  OK(cnDeviceGetByUuidStr(&device, uuid));
  CHECK(device == 1);
  OK(cnDeviceTotalMem(&bytes, 0));
  CHECK(bytes == 0x600000000ull);
  OK(cnDeviceGetAttribute(&value, CN_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED, 0));
  CHECK(value == 1);
  GIVES(CN_ERROR_INVALID_VALUE, cnDeviceGetAttribute(&value, (CNdevice_attribute)0x2ff, 0));
  OK(cnDeviceCanPeerAble(&value, 0, 1));
  CHECK(value == 1);
}

static void contexts(void) {
  CNcontext own = NULL, shared = NULL, current = NULL;
  unsigned flags = 9;
  int state = -1, tasks = -1;
  OK(cnSharedContextGetState(0, &flags, &state));
  CHECK(state == CN_CONTEXT_STATE_INACTIVE);
  OK(cnSharedContextAcquire(&shared, 0));
  OK(cnSharedContextGetState(0, &flags, &state));
  CHECK(state == CN_CONTEXT_STATE_ACTIVE);
  OK(cnCtxCreate(&own, CN_CTX_SCHED_SYNC_WAIT, 0));
  GIVES(CN_ERROR_INVALID_VALUE, cnCtxCreate(&current, 17, 0));
  OK(cnCtxGetCurrent(&current));
  CHECK(current == own && own != shared);
  OK(cnCtxGetFlags(&flags));
  CHECK(flags == CN_CTX_SCHED_SYNC_WAIT);
  CNctxConfigParam param;
  OK(cnGetCtxConfigParam(own, CN_CTX_CONFIG_VISIBLE_CLUSTER_NUM, &param));
  CHECK(param.visibleClusterNumber == 4);
  OK(cnGetCtxConfigParam(own, CN_CTX_CONFIG_UNION_LIMIT, &param));
  CHECK(param.unionLimit == CN_KERNEL_CLASS_UNION4);
  param.visibleCluster = 3;
  OK(cnSetCtxConfigParam(own, CN_CTX_CONFIG_VISIBLE_CLUSTER, &param));
  OK(cnGetCtxMaxParallelUnionTasks(own, CN_KERNEL_CLASS_BLOCK, &tasks));
  CHECK(tasks == 8);
  OK(cnGetCtxMaxParallelUnionTasks(own, CN_KERNEL_CLASS_UNION2, &tasks));
  CHECK(tasks == 1);
  GIVES(CN_ERROR_INVALID_VALUE, cnSetCtxConfigParam(own, CN_CTX_CONFIG_VISIBLE_CLUSTER_NUM, &param));
  CNaddr in_own = 0, in_shared = 0;
  OK(cnMalloc(&in_own, BYTES));
  OK(cnMemsetD32(in_own, 0x01020304, BYTES / 4));
  OK(cnCtxSetCurrent(shared));
  OK(cnMalloc(&in_shared, BYTES));
  OK(cnMemcpyPeer(in_shared, shared, in_own, own, BYTES));
  unsigned out[4] = {0, 0, 0, 0};
  OK(cnMemcpyDtoH(out, in_shared + BYTES - 16, 16));
  CHECK(out[0] == 0x01020304 && out[3] == 0x01020304);
  GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemcpyPeer(in_shared, own, in_own, own, BYTES));
  CNcontext of = NULL;
  OK(cnGetMemAttribute(&of, CN_MEM_ATTRIBUTE_CONTEXT, in_own));
  CHECK(of == own);
  OK(cnCtxDestroy(own));
  GIVES(CN_CONTEXT_ERROR_INVALID, cnCtxDestroy(own));
  GIVES(CN_CONTEXT_ERROR_INVALID, cnCtxSetCurrent(own));
  GIVES(CN_CONTEXT_ERROR_INVALID, cnCtxDestroy(shared));
  GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemcpyDtoH(out, in_own, 16));
  GIVES(CN_ERROR_INVALID_ADDRESS, cnMemcpy((CNaddr)out, in_own, 16));
  OK(cnFree(in_shared));
}

/* Handles and memory of each interface are those of the other. */
static void both(void) {
  cnrtQueue_t queue = NULL;
  CNcontext context = NULL, current = NULL;
  void *device = NULL;
  OK(cnrtSetDevice(0));
  OK(cnrtQueueCreate(&queue));
  OK(cnQueueGetContext(queue, &context));
  OK(cnCtxGetCurrent(&current));
  CHECK(context == current);
  OK(cnrtMalloc(&device, BYTES));
  OK(cnMemsetD8Async((CNaddr)device, 9, BYTES, queue));
  CNnotifier done = NULL;
  OK(cnCreateNotifier(&done, 0));
  OK(cnrtPlaceNotifier(done, queue));
  OK(cnWaitNotifier(done));
  unsigned char out[8];
  OK(cnMemcpyDtoHAsync_V2(out, (CNaddr)device, 8, queue));
  OK(cnrtQueueSync(queue));
  CHECK(out[7] == 9);
  CNaddr base = 0;
  cn_uint64_t bytes = 0;
  OK(cnMemGetAddressRange(&base, &bytes, (CNaddr)device + 100));
  CHECK(base == (CNaddr)device && bytes == BYTES);
  OK(cnDestroyNotifier(done));
  GIVES(CN_NOTIFIER_ERROR_INVALID, cnWaitNotifier(done));
  int fd = -1, exports = 0;
  const char *transport = getenv("MLU_TRANSPORT");
  OK(cnDeviceGetAttribute(&exports, CN_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0));
  CHECK(exports == (transport != NULL && strcmp(transport, "kernel") == 0));
  if (exports) {
    OK(cnMemGetHandleForAddressRange(&fd, (CNaddr)device + 4096, 8192, CN_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0));
    OK(cnMemsetD8Async((CNaddr)device + 8192, 7, 4096, queue));
    OK(cnrtQueueSync(queue));
    unsigned char *seen = (unsigned char *)mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(seen != MAP_FAILED && seen[0] == 9 && seen[4095] == 9 && seen[4096] == 7 && seen[8191] == 7);
    CHECK(munmap(seen, 8192) == 0 && close(fd) == 0);
  } else {
    GIVES(CN_OPS_ERROR_NOT_SUPPORTED,
          cnMemGetHandleForAddressRange(&fd, (CNaddr)device, 4096, CN_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0));
  }
  GIVES(CN_ERROR_INVALID_VALUE,
        cnMemGetHandleForAddressRange(&fd, (CNaddr)device, 4095, CN_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0));
  OK(cnDestroyQueue(queue));
  GIVES(CN_QUEUE_ERROR_INVALID, cnQueueSync(queue));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueSync(queue));
  OK(cnFree((CNaddr)device));
  CNmodule module = NULL;
  GIVES(CN_FATBIN_INVALID_IMAGE, cnModuleLoadFatBinary("no module", &module));
  GIVES(CN_ERROR_FILE_NOT_FOUND, cnModuleLoad("/nowhere", &module));
  GIVES(CN_ERROR_INVALID_KERNEL, cnInvokeKernel(NULL, 1, 1, 1, CN_KERNEL_CLASS_BLOCK, 0, NULL, NULL, NULL));
}

static void virtual_memory(void) {
  enum { PARTS = 3 };
  CNmemAllocationProp prop;
  memset(&prop, 0, sizeof prop);
  prop.type = CN_MEM_ALLOCATION_TYPE_DEFAULT;
  prop.location.type = CN_MEM_LOCATION_TYPE_DEVICE;
  cn_uint64_t granule = 0, freed = 0, before = 0, total = 0;
  OK(cnMemGetAllocationGranularity(&granule, &prop, CN_MEM_ALLOC_GRANULARITY_RECOMMENDED));
  CHECK(granule > 0);
  OK(cnMemGetInfo(&before, &total));
  CNaddr range = 0;
  OK(cnMemAddressReserve(&range, PARTS * granule, 0, 0, 0));
  CNmemGenericAllocationHandle handles[PARTS], again = 0;
  CNmemAccessDesc access;
  memset(&access, 0, sizeof access);
  access.location = prop.location;
  for (int i = 0; i < PARTS; i++) {
    CNaddr at = range + (cn_uint64_t)i * granule;
    OK(cnMemCreate(&handles[i], granule, &prop, 0));
    GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemSetAccess(at, granule, &access, 1));
    OK(cnMemMap(at, granule, 0, handles[i], 0));
    GIVES(CN_ERROR_INVALID_VALUE, cnMemMap(at, granule, 0, handles[i], 0));
    GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemsetD8(at, 1, 16));
    OK(cnMemSetAccess(at, granule, &access, 1));
  }
  /* A fill and a copy over all mappings. */
  size_t all = (size_t)(PARTS * granule);
  unsigned char *host = (unsigned char *)malloc(all);
  CHECK(host != NULL);
  OK(cnMemsetD8(range, 0x6b, all));
  OK(cnMemcpyDtoH(host, range, all));
  for (size_t i = 0; i < all; i++) CHECK(host[i] == 0x6b);
  for (size_t i = 0; i < all; i++) host[i] = (unsigned char)(i >> 9);
  OK(cnMemcpyHtoD(range, host, all));
  memset(host, 0, all);
  OK(cnMemcpyDtoH(host, range + 1, all - 1));
  for (size_t i = 0; i + 1 < all; i++) CHECK(host[i] == (unsigned char)((i + 1) >> 9));
  GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemcpyDtoH(host, range + 1, all));
  OK(cnMemRetainAllocationHandle(&again, range + granule + 5));
  CHECK(again == handles[1]);
  /* Memory lives while it is mapped, and comes back at another address with what it had. */
  for (int i = 0; i < PARTS; i++) OK(cnMemRelease(handles[i]));
  GIVES(CN_ERROR_INVALID_VALUE, cnMemRelease(handles[0]));
  OK(cnMemcpyDtoH(host, range, 16));
  OK(cnMemRetainAllocationHandle(&again, range));
  GIVES(CN_ERROR_INVALID_VALUE, cnMemAddressFree(range, all));
  OK(cnMemUnmap(range, all));
  GIVES(CN_MEMORY_ERROR_INVALID_ADDRESS, cnMemcpyDtoH(host, range, 16));
  CNaddr other = 0;
  OK(cnMemAddressReserve(&other, granule, 4 * granule, 0, 0));
  CHECK(other % (4 * granule) == 0);
  OK(cnMemMap(other, granule, 0, again, 0));
  access.accessFlags = CN_MEM_ACCESS_FLAGS_PROT_READONLY;
  OK(cnMemSetAccess(other, granule, &access, 1));
  memset(host, 0xff, 16);
  OK(cnMemcpyDtoH(host, other + 512, 16));
  CHECK(host[0] == 1);
  OK(cnMemUnmap(other, granule));
  OK(cnMemRelease(again));
  OK(cnMemAddressFree(other, granule));
  OK(cnMemAddressFree(range, all));
  OK(cnMemGetInfo(&freed, &total));
  CHECK(freed == before);
  free(host);
}

int main(void) {
  before_init();
  devices();
  contexts();
  both();
  virtual_memory();
  OK(cnSharedContextRelease(0));
  GIVES(CN_CONTEXT_ERROR_INVALID, cnSharedContextRelease(0));
  printf("all as it should be\n");
  return 0;
}
