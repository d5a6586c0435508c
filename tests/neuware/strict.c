/* What a careless program is told: handles after their destruction and of other devices, places that are NULL, numbers that there are not, and
 * errors of other threads. Compiles as C and as C++. */
#include <cnrt.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 1 << 16 };

DEFINE_NONE(cnrtMemTransDir_t)
DEFINE_NONE(cnrtDeviceAttr_t)
DEFINE_NONE(cnrtQueueCaptureMode_t)
DEFINE_NONE(cnrtMemPoolAttr_t)
DEFINE_NONE(cnrtMemoryAccessFlags_t)
DEFINE_NONE(cnrtDeviceConfig_t)

/* A gate that holds a queue until somebody opens it. */
struct gate {
  int pipe[2];
};

static void wait_at_gate(void *data) {
  char byte;
  if (read(((struct gate *)data)->pipe[0], &byte, 1) != 1) abort();
}

static void open_gate(struct gate *gate) { CHECK(write(gate->pipe[1], "x", 1) == 1); }

/* What is not over yet is not ready, which is no failure of anything; destroyed while it waits, a handle is gone at once. */
static void unfinished(void) {
  struct gate gate;
  CHECK(pipe(gate.pipe) == 0);
  cnrtQueue_t queue = NULL, other = NULL;
  cnrtNotifier_t notifier = NULL;
  OK(cnrtQueueCreate(&queue));
  OK(cnrtQueueCreate(&other));
  OK(cnrtNotifierCreate(&notifier));
  OK(cnrtQueueQuery(queue));
  OK(cnrtQueryNotifier(notifier));
  OK(cnrtInvokeHostFunc(queue, wait_at_gate, &gate));
  OK(cnrtPlaceNotifier(notifier, queue));
  OK(cnrtQueueWaitNotifier(notifier, other, 0));
  GIVES(cnrtErrorNotReady, cnrtQueueQuery(queue));
  GIVES(cnrtErrorNotReady, cnrtGetLastError());
  GIVES(cnrtErrorNotReady, cnrtQueryNotifier(notifier));
  GIVES(cnrtErrorNotReady, cnrtQueueQuery(other));
  GIVES(cnrtErrorNotReady, cnrtPeekAtLastError());
  float ms = 0;
  GIVES(cnrtErrorNotReady, cnrtNotifierElapsedTime(notifier, notifier, &ms));
  open_gate(&gate);
  OK(cnrtWaitNotifier(notifier));
  OK(cnrtQueryNotifier(notifier));
  OK(cnrtQueueSync(other));
  OK(cnrtQueueQuery(queue));
  /* The failure is still the last one, as successes leave it alone. */
  GIVES(cnrtErrorNotReady, cnrtGetLastError());
  GIVES(cnrtSuccess, cnrtGetLastError());

  OK(cnrtInvokeHostFunc(queue, wait_at_gate, &gate));
  OK(cnrtPlaceNotifier(notifier, queue));
  OK(cnrtQueueDestroy(queue));
  OK(cnrtNotifierDestroy(notifier));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueQuery(queue));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueryNotifier(notifier));
  open_gate(&gate);
  OK(cnrtQueueDestroy(other));
  OK(cnrtSyncDevice());
}

/* Two devices: what is of one is not of the other. */
static void other_devices(void) {
  void *here = NULL, *there = NULL;
  cnrtQueue_t queue = NULL;
  cnrtNotifier_t notifier = NULL;
  OK(cnrtSetDevice(1));
  OK(cnrtMalloc(&there, BYTES));
  OK(cnrtNotifierCreate(&notifier));
  OK(cnrtSetDevice(0));
  OK(cnrtMalloc(&here, BYTES));
  OK(cnrtQueueCreate(&queue));
  GIVES(cnrtErrorArgsInvalid, cnrtPlaceNotifier(notifier, queue));
  GIVES(cnrtErrorDeviceInvalid, cnrtMemcpyPeerAsync(there, 0, here, 0, BYTES, queue));
  GIVES(cnrtErrorDeviceInvalid, cnrtMemcpyPeerAsync(there, 2, here, 0, BYTES, queue));
  GIVES(cnrtErrorDeviceInvalid, cnrtMemcpyPeer(there, -1, here, 0, BYTES));
  GIVES(cnrtErrorMemcpyDirectionInvalid, cnrtMemcpy(there, here, BYTES, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorMemcpyDirectionInvalid, cnrtMemcpyAsync(there, here, BYTES, queue, cnrtMemcpyDevToHost));
  /* Memory is freed whichever device is current. */
  OK(cnrtFree(there));
  OK(cnrtSetDevice(1));
  OK(cnrtFree(here));
  OK(cnrtNotifierDestroy(notifier));
  OK(cnrtQueueDestroy(queue));
  OK(cnrtSetDevice(0));
  unsigned reaches = 0;
  GIVES(cnrtErrorDeviceInvalid, cnrtGetPeerAccessibility(&reaches, 0, 2));
  int device = 0;
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetByPCIBusId(&device, "no address"));
  GIVES(cnrtErrorDeviceInvalid, cnrtDeviceGetByPCIBusId(&device, "ffff:ff:1f.7"));
}

/* Every call that writes says so if it has no place for it, and does nothing. */
static void nulls(void) {
  cnrtQueue_t queue = NULL;
  cnrtNotifier_t notifier = NULL;
  void *device = NULL;
  int number = 0;
  OK(cnrtQueueCreate(&queue));
  OK(cnrtNotifierCreate(&notifier));
  OK(cnrtMalloc(&device, BYTES));
  GIVES(cnrtErrorArgsInvalid, cnrtGetDevice(NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtGetDeviceProperties(NULL, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetAttribute(NULL, cnrtAttrClusterCount, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtGetDeviceFlag(NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetConfig(NULL, cnrtDeviceConfigPrintfFifoNum));
  GIVES(cnrtErrorArgsInvalid, cnrtGetPeerAccessibility(NULL, 0, 1));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetPCIBusId(NULL, 16, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetByPCIBusId(NULL, "0000:01:00.0"));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetByPCIBusId(&number, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtHostMalloc(NULL, BYTES));
  GIVES(cnrtErrorArgsInvalid, cnrtMallocConstant(NULL, BYTES));
  GIVES(cnrtErrorArgsInvalid, cnrtMemAllocAsync(NULL, BYTES, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemGetInfo(NULL, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtPointerGetAttributes(NULL, device));
  GIVES(cnrtErrorArgsInvalid, cnrtQueueCreate(NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtQueueGetPriority(queue, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierCreate(NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierElapsedTime(notifier, notifier, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierDuration(notifier, notifier, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtQueueIsCapturing(queue, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoCreate(NULL, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtAcquireMemHandle(NULL, device));
  GIVES(cnrtErrorArgsInvalid, cnrtMapMemHandle(NULL, NULL, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtMemPoolCreate(NULL, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetDefaultMemPool(NULL, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtThreadExchangeQueueCaptureMode(NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy2D(NULL, 8, device, 8, 8, 8, cnrtMemcpyDevToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy3DAsync(NULL, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemsetAsync(NULL, 0, 8, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtGetLibVersion(&number, NULL, &number));
  OK(cnrtFree(device));
  OK(cnrtNotifierDestroy(notifier));
  OK(cnrtQueueDestroy(queue));
}

/* Numbers that there are not, and sizes that nothing has. */
static void numbers(void) {
  void *device = NULL, *wrong = NULL;
  cnrtQueue_t queue = NULL;
  cnrtMemPool_t pool = NULL;
  cnrtTaskTopo_t topo = NULL;
  int value = 0;
  OK(cnrtQueueCreate(&queue));
  OK(cnrtMalloc(&device, BYTES));
  char host[64];
  GIVES(cnrtErrorMemcpyDirectionInvalid, cnrtMemcpyAsync(device, host, 64, queue, NONE(cnrtMemTransDir_t)));
  GIVES(cnrtErrorMemcpyDirectionInvalid,
        cnrtMemcpy2D(device, 8, host, 8, 8, 8, NONE(cnrtMemTransDir_t)));
  GIVES(cnrtErrorNoAttribute, cnrtDeviceGetAttribute(&value, NONE(cnrtDeviceAttr_t), 0));
  GIVES(cnrtErrorDeviceInvalid, cnrtDeviceGetAttribute(&value, cnrtAttrClusterCount, 7));
  GIVES(cnrtErrorArgsInvalid, cnrtQueueBeginCapture(queue, NONE(cnrtQueueCaptureMode_t)));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoCreate(&topo, 1));
  int64_t config = 0;
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetConfig(&config, NONE(cnrtDeviceConfig_t)));
  OK(cnrtDeviceGetDefaultMemPool(&pool, 0));
  uint64_t wide = 0;
  GIVES(cnrtErrorArgsInvalid, cnrtMemPoolGetAttribute(pool, NONE(cnrtMemPoolAttr_t), &wide));
  cnrtMemAccessDesc_t access;
  memset(&access, 0, sizeof access);
  access.location.type = cnrtMemLocationTypeDevice;
  access.location.id = 1;
  access.flags = cnrtMemAccessFlagsProtReadWrite;
  OK(cnrtMemPoolSetAccess(pool, &access, 1));
  OK(cnrtMemPoolSetAccess(pool, NULL, 0));
  GIVES(cnrtErrorArgsInvalid, cnrtMemPoolSetAccess(pool, NULL, 1));
  access.flags = cnrtMemAccessFlagsProtReadOnly;
  GIVES(cnrtErrorNotSupport, cnrtMemPoolSetAccess(pool, &access, 1));
  access.flags = NONE(cnrtMemoryAccessFlags_t);
  GIVES(cnrtErrorArgsInvalid, cnrtMemPoolSetAccess(pool, &access, 1));
  access.location.id = 5;
  access.flags = cnrtMemAccessFlagsProtReadWrite;
  GIVES(cnrtErrorDeviceInvalid, cnrtMemPoolSetAccess(pool, &access, 1));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtMemPoolSetAccess((cnrtMemPool_t)(void *)host, &access, 1));
  GIVES(cnrtErrorNoMem, cnrtMemAllocAsync(&wrong, (size_t)1 << 50, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemsetAsync(device, 0, BYTES + 1, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemsetAsync(device, 0, (size_t)-1, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpyAsync(device, host, (size_t)-1, queue, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid,
        cnrtMemcpy2D(device, (size_t)-1, host, (size_t)-1, 2, 3, cnrtMemcpyHostToDev));
  OK(cnrtMemsetAsync(device, 0, 0, queue));
  OK(cnrtMemcpyAsync(device, host, 0, queue, cnrtMemcpyHostToDev));
  OK(cnrtQueueSync(queue));
  OK(cnrtFree(device));
  OK(cnrtQueueDestroy(queue));
  /* Nothing of all this has a failed device behind it. */
  OK(cnrtSyncDevice());
  CHECK(cnrtGetErrorStr((cnrtRet_t)424242) != NULL && cnrtGetErrorName((cnrtRet_t)77) != NULL);
}

/* A launch as older compilers make it. */
static void launches(void) {
  cnrtDim3_t dim = {4, 1, 1};
  float argument = 1;
  GIVES(cnrtErrorArgsInvalid, bangLaunch((const void *)&argument));
  GIVES(cnrtErrorArgsInvalid, bangSetupArgument(&argument, sizeof argument, 0));
  OK(bangConfigureCall(dim, cnrtFuncTypeUnion1, NULL));
  OK(bangSetupArgument(&argument, sizeof argument, 0));
  GIVES(cnrtErrorArgsInvalid, bangSetupArgument(NULL, 4, 4));
  GIVES(cnrtErrorArgsInvalid, bangSetupArgument(&argument, (size_t)-1, 4));
  GIVES(cnrtErrorNoKernel, bangLaunch((const void *)&argument));
  GIVES(cnrtErrorArgsInvalid, bangLaunch((const void *)&argument));
}

/* Threads: a device, a last error and a default queue each. */
static void *thread(void *data) {
  struct gate *gate = (struct gate *)data;
  int device = -1;
  GIVES(cnrtSuccess, cnrtPeekAtLastError());
  OK(cnrtGetDevice(&device));
  CHECK(device == 0);
  GIVES(cnrtErrorDeviceInvalid, cnrtSetDevice(9));
  OK(cnrtSetDevice(1));
  OK(cnrtSetDevice(0));
  /* The other thread's default queue is held; this one's is not, nor is the one that threads share. */
  OK(cnrtQueueSync(cnrtQueuePerThread));
  OK(cnrtQueueSync(NULL));
  OK(cnrtQueueSync(cnrtQueueLegacy));
  OK(cnrtQueueQuery(cnrtQueuePerThread));
  open_gate(gate);
  return NULL;
}

static void threads(void) {
  struct gate gate;
  CHECK(pipe(gate.pipe) == 0);
  pthread_t other;
  OK(cnrtSetDevice(0));
  OK(cnrtInvokeHostFunc(cnrtQueuePerThread, wait_at_gate, &gate));
  GIVES(cnrtErrorNotReady, cnrtQueueQuery(NULL));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtWaitNotifier(NULL));
  CHECK(pthread_create(&other, NULL, thread, &gate) == 0);
  CHECK(pthread_join(other, NULL) == 0);
  GIVES(cnrtErrorInvalidResourceHandle, cnrtGetLastError());
  OK(cnrtQueueSync(NULL));
}

/* Handles that one thread uses while another destroys them, again and again: a call works, or is told that there is nothing. */
enum { ROUNDS = 100, USERS = 3 };
static cnrtQueue_t shared;
static void *memory;
static int ends;

static void *user(void *data) {
  long used = 0;
  (void)data;
  while (!__atomic_load_n(&ends, __ATOMIC_ACQUIRE)) {
    cnrtQueue_t queue = __atomic_load_n(&shared, __ATOMIC_ACQUIRE);
    cnrtRet_t code = cnrtMemsetAsync(memory, 1, 4, queue);
    CHECK(code == cnrtSuccess || code == cnrtErrorInvalidResourceHandle);
    if (code == cnrtSuccess && ++used % 64 == 0) {
      code = cnrtQueueSync(queue);
      CHECK(code == cnrtSuccess || code == cnrtErrorInvalidResourceHandle);
    }
  }
  return NULL;
}

static void races(void) {
  pthread_t all[USERS];
  OK(cnrtMalloc(&memory, BYTES));
  OK(cnrtQueueCreate(&shared));
  for (int i = 0; i < USERS; i++) CHECK(pthread_create(&all[i], NULL, user, NULL) == 0);
  for (int i = 0; i < ROUNDS; i++) {
    cnrtQueue_t before = shared, next = NULL;
    OK(cnrtQueueCreate(&next));
    __atomic_store_n(&shared, next, __ATOMIC_RELEASE);
    OK(cnrtQueueDestroy(before));
    GIVES(cnrtErrorInvalidResourceHandle, cnrtMemsetAsync(memory, 1, 4, before));
    OK(cnrtMemsetAsync(memory, 1, 4, next));
  }
  __atomic_store_n(&ends, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < USERS; i++) CHECK(pthread_join(all[i], NULL) == 0);
  OK(cnrtQueueSync(shared));
  OK(cnrtQueueDestroy(shared));
  OK(cnrtFree(memory));
}

int main(void) {
  unfinished();
  other_devices();
  nulls();
  numbers();
  launches();
  threads();
  races();
  printf("all as it should be\n");
  return 0;
}
