/* What a program does with the runtime interface, and what it is told when it does it wrong. Compiles as C and as C++. */
#include <cnrt.h>

#include <pthread.h>
#include <string.h>

#include "check.h"

enum { BYTES = 1 << 20 };

static void devices(void) {
  unsigned count = 0;
  OK(cnrtGetDeviceCount(&count));
  CHECK(count == 2);
  int device = -1;
  OK(cnrtGetDevice(&device));
  CHECK(device == 0);
  OK(cnrtSetDevice(1));
  OK(cnrtGetDevice(&device));
  CHECK(device == 1);
  GIVES(cnrtErrorDeviceInvalid, cnrtSetDevice(2));
  GIVES(cnrtErrorDeviceInvalid, cnrtSetDevice(-1));
  GIVES(cnrtErrorDeviceInvalid, cnrtGetLastError());
  GIVES(cnrtSuccess, cnrtGetLastError());
  OK(cnrtSetDevice(0));
  GIVES(cnrtErrorArgsInvalid, cnrtGetDeviceCount(NULL));

  cnrtDeviceProp_t prop;
  OK(cnrtGetDeviceProperties(&prop, 0));
  CHECK(strcmp(prop.name, "MLU370-X8") == 0);
  CHECK(prop.clusterCount == 4 && prop.McorePerCluster == 4 && prop.ISAVersion == 372);
  CHECK(prop.NramSizePerMcore == 768 * 1024 && prop.WramSizePerMcore == 1024 * 1024);
  CHECK(prop.totalMem == 24576 && prop.totalGlobalMemSize == 0x600000000ull);
  int value = -1;
  OK(cnrtDeviceGetAttribute(&value, cnrtAttrMaxClusterPerUnionLimitTask, 0));
  CHECK(value == 4);
  GIVES(cnrtErrorNoAttribute, cnrtDeviceGetAttribute(&value, cnrtAttrUnsupportedFlag, 0));

  char bus[16];
  OK(cnrtDeviceGetPCIBusId(bus, sizeof bus, 1));
  OK(cnrtDeviceGetByPCIBusId(&device, bus));
  CHECK(device == 1);
  GIVES(cnrtErrorArgsInvalid, cnrtDeviceGetPCIBusId(bus, 4, 1));
  unsigned reaches = 0;
  OK(cnrtGetPeerAccessibility(&reaches, 0, 1));
  CHECK(reaches == 1);
  int least = 0, greatest = 0;
  OK(cnrtDeviceGetQueuePriorityRange(&least, &greatest));
  CHECK(least > greatest);
  int major = 0, minor = 0, patch = 0;
  OK(cnrtGetLibVersion(&major, &minor, &patch));
  CHECK(major * 10000 + minor * 100 + patch == CNRT_VERSION);
}

static void memory(void) {
  void *device = NULL, *host = NULL;
  size_t before = 0, after = 0, total = 0;
  OK(cnrtMemGetInfo(&before, &total));
  OK(cnrtMalloc(&device, BYTES));
  OK(cnrtMemGetInfo(&after, &total));
  CHECK(before - after == BYTES);
  OK(cnrtHostMalloc(&host, BYTES));
  memset(host, 7, BYTES);
  unsigned char *plain = (unsigned char *)malloc(BYTES);
  CHECK(plain != NULL);
  memset(plain, 0, BYTES);

  cnrtPointerAttributes_t attributes;
  OK(cnrtPointerGetAttributes(&attributes, (char *)device + 5));
  CHECK(attributes.type == cnrtMemTypeDevice && attributes.device == 0 && attributes.size == BYTES);
  CHECK(attributes.deviceBasePointer == device && attributes.devicePointer == (char *)device + 5);
  OK(cnrtPointerGetAttributes(&attributes, host));
  CHECK(attributes.type == cnrtMemTypeHost && attributes.hostPointer == host);
  OK(cnrtPointerGetAttributes(&attributes, plain));
  CHECK(attributes.type == cnrtMemTypeUnregistered);

  OK(cnrtMemcpy(device, host, BYTES, cnrtMemcpyHostToDev));
  OK(cnrtMemcpy(plain, device, BYTES, CNRT_MEM_TRANS_DIR_DEV2HOST));
  CHECK(memcmp(plain, host, BYTES) == 0);
  OK(cnrtMemset(device, 0x5a, BYTES));
  OK(cnrtMemcpy(host, device, BYTES, cnrtMemcpyNoDirection));
  for (size_t i = 0; i < BYTES; i++) CHECK(((unsigned char *)host)[i] == 0x5a);
  OK(cnrtMemcpy(plain, host, BYTES, cnrtMemcpyHostToHost));
  CHECK(plain[BYTES - 1] == 0x5a);

  GIVES(cnrtErrorMemcpyDirectionInvalid, cnrtMemcpy(device, plain, 4, cnrtMemcpyDevToHost));
  GIVES(cnrtErrorMemcpyDirectionInvalid, cnrtMemcpy(device, plain, 4, (cnrtMemTransDir_t)7));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy(device, plain, BYTES + 1, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy(NULL, plain, 4, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy(device, (void *)0x1000, 4, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemset(plain, 0, 4));
  GIVES(cnrtErrorArgsInvalid, cnrtMalloc(NULL, 4));
  GIVES(cnrtErrorArgsInvalid, cnrtMalloc(&device, 0));
  void *much = NULL;
  GIVES(cnrtErrorNoMem, cnrtMalloc(&much, (size_t)1 << 46));
  GIVES(cnrtErrorNoMem, cnrtMalloc(&much, (size_t)-1));
  GIVES(cnrtErrorArgsInvalid, cnrtFree(host));
  GIVES(cnrtErrorArgsInvalid, cnrtFree((char *)device + 1));
  GIVES(cnrtErrorArgsInvalid, cnrtFreeHost(device));
  OK(cnrtFree(NULL));
  OK(cnrtFree(device));
  GIVES(cnrtErrorArgsInvalid, cnrtFree(device));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy(plain, device, 4, cnrtMemcpyNoDirection));
  OK(cnrtMemGetInfo(&after, &total));
  CHECK(before == after);
  OK(cnrtFreeHost(host));
  free(plain);
}

static void boxes(void) {
  enum { WIDTH = 96, HEIGHT = 40, DPITCH = 128, HPITCH = 112 };
  unsigned char in[HEIGHT * HPITCH], out[HEIGHT * HPITCH];
  for (size_t i = 0; i < sizeof in; i++) in[i] = (unsigned char)(i * 7);
  memset(out, 0, sizeof out);
  void *a = NULL, *b = NULL;
  OK(cnrtMalloc(&a, HEIGHT * DPITCH));
  OK(cnrtMalloc(&b, HEIGHT * DPITCH));
  OK(cnrtMemcpy2D(a, DPITCH, in, HPITCH, WIDTH, HEIGHT, cnrtMemcpyHostToDev));
  OK(cnrtMemcpy2DAsync(b, DPITCH, a, DPITCH, WIDTH, HEIGHT, cnrtMemcpyDevToDev, NULL));
  cnrtMemcpy3dParam_t p;
  memset(&p, 0, sizeof p);
  p.srcPtr.ptr = b;
  p.srcPtr.pitch = DPITCH;
  p.srcPtr.ysize = HEIGHT / 2;
  p.dstPtr.ptr = out;
  p.dstPtr.pitch = HPITCH;
  p.dstPtr.ysize = HEIGHT / 2;
  p.extent.width = WIDTH;
  p.extent.height = HEIGHT / 2;
  p.extent.depth = 2;
  p.dir = cnrtMemcpyDevToHost;
  OK(cnrtMemcpy3D(&p));
  for (int y = 0; y < HEIGHT; y++) {
    CHECK(memcmp(in + y * HPITCH, out + y * HPITCH, WIDTH) == 0);
    CHECK(out[y * HPITCH + WIDTH] == 0);
  }
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy2D(a, WIDTH - 1, in, HPITCH, WIDTH, HEIGHT, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy2D(a, DPITCH, in, HPITCH, 0, HEIGHT, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorArgsInvalid, cnrtMemcpy3D(NULL));
  OK(cnrtFree(a));
  OK(cnrtFree(b));
}

static void add_one(void *data) {
  ++*(int *)data;
  if (cnrtSyncDevice() != cnrtErrorOpsNotPermitted) *(int *)data = -1000;
}

static void queues(void) {
  cnrtQueue_t queue = NULL;
  cnrtNotifier_t start = NULL, end = NULL, plain = NULL;
  OK(cnrtQueueCreateWithPriority(&queue, 0, -100));
  int priority = -1, least = 0, greatest = 0, ran = 0;
  OK(cnrtDeviceGetQueuePriorityRange(&least, &greatest));
  OK(cnrtQueueGetPriority(queue, &priority));
  CHECK(priority == greatest);
  OK(cnrtNotifierCreate(&start));
  OK(cnrtNotifierCreate(&end));
  float time = -1;
  GIVES(cnrtErrorCndrvFuncCall, cnrtNotifierElapsedTime(start, end, &time));
  OK(cnrtQueryNotifier(start));
  void *device = NULL;
  OK(cnrtMalloc(&device, BYTES));
  OK(cnrtPlaceNotifier(start, queue));
  OK(cnrtMemsetAsync(device, 1, BYTES, queue));
  OK(cnrtInvokeHostFunc(queue, add_one, &ran));
  OK(cnrtPlaceNotifier(end, queue));
  OK(cnrtQueueWaitNotifier(end, NULL, CNRT_NOTIFIER_WAIT_DEFAULT));
  OK(cnrtQueueSync(NULL));
  CHECK(ran == 1);
  OK(cnrtQueueSync(queue));
  OK(cnrtQueueQuery(queue));
  OK(cnrtWaitNotifier(end));
  OK(cnrtNotifierElapsedTime(start, end, &time));
  CHECK(time >= 0);
  OK(cnrtNotifierDuration(start, end, &time));
  CHECK(time > 0);
  OK(cnrtNotifierCreateWithFlags(&plain, CNRT_NOTIFIER_DISABLE_TIMING_ALL));
  OK(cnrtPlaceNotifier(plain, cnrtQueueLegacy));
  OK(cnrtWaitNotifier(plain));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierElapsedTime(start, plain, &time));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierCreateWithFlags(&plain, CNRT_NOTIFIER_INTERPROCESS));
  GIVES(cnrtErrorArgsInvalid, cnrtNotifierCreateWithFlags(&plain, 0x40));
  GIVES(cnrtErrorArgsInvalid, cnrtInvokeHostFunc(queue, NULL, NULL));
  OK(cnrtNotifierDestroy(plain));
  OK(cnrtNotifierDestroy(start));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtWaitNotifier(start));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtNotifierDestroy(start));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtPlaceNotifier(NULL, queue));
  OK(cnrtNotifierDestroy(end));
  OK(cnrtQueueDestroy(queue));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueSync(queue));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueDestroy(queue));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueDestroy(cnrtQueuePerThread));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtMemsetAsync(device, 0, 4, (cnrtQueue_t)(void *)&ran));
  OK(cnrtFree(device));
  cnrtDim3_t dim = {1, 1, 1};
  GIVES(cnrtErrorNoKernel, cnrtInvokeKernel((const void *)&ran, dim, cnrtFuncTypeBlock, NULL, 0, NULL));
  GIVES(cnrtErrorArgsInvalid, cnrtInvokeKernel((const void *)&ran, dim, (cnrtFunctionType_t)3, NULL, 0, NULL));
}

static void peers(void) {
  char *a = NULL, *b = NULL;
  unsigned char out[64];
  OK(cnrtSetDevice(0));
  OK(cnrtMalloc((void **)&a, BYTES));
  OK(cnrtMemset(a, 3, BYTES));
  OK(cnrtSetDevice(1));
  OK(cnrtMalloc((void **)&b, BYTES));
  OK(cnrtMemcpyPeer(b, 1, a, 0, BYTES));
  OK(cnrtMemcpy(out, b + BYTES - 64, 64, cnrtMemcpyDevToHost));
  for (int i = 0; i < 64; i++) CHECK(out[i] == 3);
  GIVES(cnrtErrorDeviceInvalid, cnrtMemcpyPeer(b, 0, a, 1, BYTES));
  /* A queue of one device waits for one of the other. */
  cnrtQueue_t on_b = NULL, on_a = NULL;
  cnrtNotifier_t done = NULL;
  OK(cnrtQueueCreate(&on_b));
  OK(cnrtSetDevice(0));
  OK(cnrtQueueCreate(&on_a));
  OK(cnrtNotifierCreate(&done));
  for (int i = 0; i < 50; i++) {
    OK(cnrtMemsetAsync(a, i, BYTES, on_a));
    OK(cnrtPlaceNotifier(done, on_a));
    OK(cnrtQueueWaitNotifier(done, on_b, 0));
    OK(cnrtMemcpyPeerAsync(b, 1, a, 0, BYTES, on_b));
    OK(cnrtQueueSync(on_b));
    OK(cnrtMemcpy(out, b + 1000, 64, cnrtMemcpyDevToHost));
    CHECK(out[0] == i && out[63] == i);
  }
  OK(cnrtNotifierDestroy(done));
  OK(cnrtQueueDestroy(on_a));
  OK(cnrtQueueDestroy(on_b));
  OK(cnrtFree(a));
  OK(cnrtFree(b));
}

static void *thread(void *data) {
  (void)data;
  OK(cnrtSetDevice(1));
  for (int i = 0; i < 200; i++) {
    void *device = NULL;
    cnrtQueue_t queue = NULL;
    unsigned out = 0;
    OK(cnrtMalloc(&device, 4096));
    OK(cnrtQueueCreate(&queue));
    OK(cnrtMemsetAsync(device, i, 4096, queue));
    OK(cnrtMemcpyAsync_V3(&out, device, sizeof out, queue, cnrtMemcpyDevToHost));
    OK(cnrtQueueSync(queue));
    CHECK((out & 0xff) == (unsigned)i);
    OK(cnrtMemset(device, 0, 4096));
    OK(cnrtQueueDestroy(queue));
    OK(cnrtFree(device));
  }
  return NULL;
}

static void threads(void) {
  pthread_t all[8];
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&all[i], NULL, thread, NULL) == 0);
  for (int i = 0; i < 8; i++) CHECK(pthread_join(all[i], NULL) == 0);
}

static void reset(void) {
  void *device = NULL;
  cnrtQueue_t queue = NULL;
  OK(cnrtSetDevice(0));
  OK(cnrtMalloc(&device, BYTES));
  OK(cnrtQueueCreate(&queue));
  GIVES(cnrtErrorSetOnActiveProcess, cnrtSetDeviceFlag(cnrtDeviceScheduleBlock));
  OK(cnrtDeviceReset());
  OK(cnrtSetDeviceFlag(cnrtDeviceScheduleBlock));
  GIVES(cnrtErrorArgsInvalid, cnrtFree(device));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtQueueSync(queue));
  OK(cnrtMalloc(&device, BYTES));
  OK(cnrtFree(device));
}

int main(void) {
  devices();
  memory();
  boxes();
  queues();
  peers();
  threads();
  reset();
  printf("all as it should be\n");
  return 0;
}
