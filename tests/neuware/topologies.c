/* Captures, task topologies, pools and casts of the runtime interface. Compiles as C and as C++. */
#include <cnrt.h>

#include <string.h>

#include "check.h"

enum { BYTES = 1 << 16 };

static void captures(void) {
  cnrtQueue_t queue = NULL, other = NULL;
  cnrtNotifier_t fork = NULL, join = NULL;
  cnrtTaskTopo_t topo = NULL, clone = NULL;
  cnrtTaskTopoEntity_t entity = NULL;
  enum cnrtQueueCaptureStatus status = cnrtQueueCaptureStatusNone;
  char *a = NULL, *b = NULL;
  unsigned char out[8];
  OK(cnrtQueueCreate(&queue));
  OK(cnrtQueueCreate(&other));
  OK(cnrtNotifierCreate(&fork));
  OK(cnrtNotifierCreate(&join));
  OK(cnrtMalloc((void **)&a, BYTES));
  OK(cnrtMalloc((void **)&b, BYTES));
  OK(cnrtMemset(a, 0, BYTES));
  OK(cnrtMemset(b, 0, BYTES));
  GIVES(cnrtErrorArgsInvalid, cnrtQueueBeginCapture(NULL, cnrtQueueCaptureModeRelaxed));
  GIVES(cnrtErrorNotSupport, cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeThreadLocal));
  GIVES(cnrtErrorIllegalState, cnrtQueueEndCapture(queue, &topo));
  OK(cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeGlobal));
  GIVES(cnrtErrorIllegalState, cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeGlobal));
  OK(cnrtQueueIsCapturing(queue, &status));
  CHECK(status == cnrtQueueCaptureStatusActive);
  OK(cnrtMemsetAsync(a, 5, BYTES, queue));
  OK(cnrtPlaceNotifier(fork, queue));
  OK(cnrtQueueWaitNotifier(fork, other, 0));
  OK(cnrtMemcpyAsync_V3(b, a, BYTES, other, cnrtMemcpyDevToDev));
  OK(cnrtPlaceNotifier(join, other));
  OK(cnrtQueueWaitNotifier(join, queue, 0));
  uint64_t id = 0;
  OK(cnrtQueueGetCaptureInfo(other, &status, &id, NULL, NULL, NULL));
  CHECK(status == cnrtQueueCaptureStatusActive && id != 0);
  OK(cnrtQueueEndCapture(queue, &topo));
  OK(cnrtMemcpy(out, b, 8, cnrtMemcpyDevToHost));
  CHECK(out[0] == 0);
  size_t count = 0;
  OK(cnrtTaskTopoGetNodes(topo, NULL, &count));
  CHECK(count == 2);
  cnrtTaskTopoNode_t nodes[3];
  cnrtTaskTopoNodeType_t type = cnrtTaskTopoNodeTypeEmpty;
  count = 3;
  OK(cnrtTaskTopoGetNodes(topo, nodes, &count));
  CHECK(count == 2 && nodes[2] == NULL);
  OK(cnrtTaskTopoNodeGetType(nodes[0], &type));
  CHECK(type == cnrtTaskTopoNodeTypeMemset);
  OK(cnrtTaskTopoNodeGetType(nodes[1], &type));
  CHECK(type == cnrtTaskTopoNodeTypeMemcpy);
  OK(cnrtTaskTopoInstantiate(&entity, topo, NULL, NULL, 0));
  OK(cnrtTaskTopoClone(&clone, topo));
  OK(cnrtTaskTopoDestroy(topo));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoDestroy(topo));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoNodeGetType(nodes[0], &type));
  for (int i = 0; i < 3; i++) {
    OK(cnrtMemset(b, 0, BYTES));
    OK(cnrtTaskTopoEntityInvoke(entity, other));
    OK(cnrtQueueSync(other));
    OK(cnrtMemcpy(out, b + BYTES - 8, 8, cnrtMemcpyDevToHost));
    CHECK(out[7] == 5);
  }
  /* The same shape with another value. */
  cnrtTaskTopoEntityUpdateResult_t result = cnrtTaskTopoEntityUpdateError;
  OK(cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeRelaxed));
  OK(cnrtMemsetAsync(a, 6, BYTES, queue));
  OK(cnrtMemcpyAsync(b, a, BYTES, queue, cnrtMemcpyDevToDev));
  OK(cnrtQueueEndCapture(queue, &topo));
  OK(cnrtTaskTopoEntityUpdate(entity, topo, NULL, &result));
  CHECK(result == cnrtTaskTopoEntityUpdateSuccess);
  OK(cnrtTaskTopoEntityInvoke(entity, queue));
  OK(cnrtQueueSync(queue));
  OK(cnrtMemcpy(out, b, 8, cnrtMemcpyDevToHost));
  CHECK(out[0] == 6);
  OK(cnrtTaskTopoDestroy(topo));
  OK(cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeRelaxed));
  OK(cnrtMemsetAsync(a, 6, BYTES, queue));
  OK(cnrtQueueEndCapture(queue, &topo));
  GIVES(cnrtErrorTaskTopoEntityUpdateFailure, cnrtTaskTopoEntityUpdate(entity, topo, NULL, &result));
  CHECK(result == cnrtTaskTopoEntityUpdateErrorTopologyChanged);
  OK(cnrtTaskTopoDestroy(topo));
  /* What cannot be captured spoils it. */
  OK(cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeRelaxed));
  GIVES(cnrtErrorQueueCaptureUnsupported, cnrtQueueSync(queue));
  OK(cnrtQueueIsCapturing(queue, &status));
  CHECK(status == cnrtQueueCaptureStatusInvalidated);
  GIVES(cnrtErrorQueueCaptureInvalidated, cnrtQueueEndCapture(queue, &topo));
  CHECK(topo == NULL);
  OK(cnrtTaskTopoEntityDestroy(entity));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoEntityInvoke(entity, queue));
  OK(cnrtTaskTopoDestroy(clone));
  OK(cnrtNotifierDestroy(fork));
  OK(cnrtNotifierDestroy(join));
  OK(cnrtQueueDestroy(queue));
  OK(cnrtQueueDestroy(other));
  OK(cnrtFree(a));
  OK(cnrtFree(b));
}

static void count_up(void *data) { ++*(int *)data; }

static void built(void) {
  cnrtTaskTopo_t topo = NULL, child = NULL;
  cnrtTaskTopoNode_t fill = NULL, copy = NULL, host = NULL, inner = NULL, edges_from[8], edges_to[8];
  cnrtTaskTopoEntity_t entity = NULL;
  char *a = NULL;
  unsigned out[4] = {0, 0, 0, 0};
  int ran = 0;
  OK(cnrtMalloc((void **)&a, BYTES));
  OK(cnrtTaskTopoCreate(&topo, 0));
  OK(cnrtTaskTopoCreate(&child, 0));
  cnrtMemsetParams_t params;
  memset(&params, 0, sizeof params);
  params.dst = a;
  params.value = 0xabcd1234;
  params.elementSize = 4;
  params.width = BYTES / 4;
  params.height = 1;
  cnrtHostNodeParams_t function = {count_up, &ran};
  cnrtMemcpy3dParam_t back;
  memset(&back, 0, sizeof back);
  back.src = a;
  back.dst = out;
  back.extent.width = sizeof out;
  back.extent.height = 1;
  back.extent.depth = 1;
  OK(cnrtTaskTopoAddHostNode(&inner, child, NULL, 0, &function));
  /* Added in the wrong order, put right by edges. */
  OK(cnrtTaskTopoAddMemcpyNode(&copy, topo, NULL, 0, &back));
  OK(cnrtTaskTopoAddMemsetNode(&fill, topo, NULL, 0, &params));
  OK(cnrtTaskTopoAddDependencies(topo, &fill, &copy, 1));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoAddDependencies(topo, &fill, &copy, 1));
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoAddDependencies(topo, &inner, &copy, 1));
  OK(cnrtTaskTopoAddChildTopoNode(&host, topo, &copy, 1, child));
  GIVES(cnrtErrorNoKernel, cnrtTaskTopoAddKernelNode(&inner, topo, NULL, 0, (const cnrtKernelNodeParams_t *)&params));
  size_t count = 8;
  OK(cnrtTaskTopoGetEdges(topo, edges_from, edges_to, &count));
  CHECK(count == 2 && edges_from[0] == fill && edges_to[0] == copy && edges_from[2] == NULL);
  count = 8;
  OK(cnrtTaskTopoGetRootNodes(topo, edges_from, &count));
  CHECK(count == 1 && edges_from[0] == fill);
  OK(cnrtTaskTopoInstantiate(&entity, topo, NULL, NULL, 0));
  OK(cnrtTaskTopoEntityInvoke(entity, NULL));
  OK(cnrtQueueSync(NULL));
  CHECK(ran == 1 && out[3] == 0xabcd1234);
  OK(cnrtTaskTopoAddDependencies(topo, &host, &fill, 1));
  cnrtTaskTopoEntity_t round = NULL;
  char log[128];
  GIVES(cnrtErrorArgsInvalid, cnrtTaskTopoInstantiate(&round, topo, NULL, log, sizeof log));
  CHECK(log[0] != 0);
  OK(cnrtTaskTopoEntityDestroy(entity));
  OK(cnrtTaskTopoDestroy(topo));
  OK(cnrtTaskTopoDestroy(child));
  OK(cnrtFree(a));
}

static void pools(void) {
  cnrtMemPool_t pool = NULL, current = NULL;
  cnrtMemPoolProps_t props;
  cnrtQueue_t queue = NULL;
  void *a = NULL, *b = NULL;
  uint64_t value = 0;
  memset(&props, 0, sizeof props);
  props.type = cnrtMemAllocationTypeDefault;
  props.location.type = cnrtMemLocationTypeDevice;
  props.maxSize = 1 << 20;
  OK(cnrtQueueCreate(&queue));
  OK(cnrtMemPoolCreate(&pool, &props));
  OK(cnrtMemAllocFromPoolAsync(&a, BYTES, pool, queue));
  OK(cnrtMemsetAsync(a, 1, BYTES, queue));
  OK(cnrtMemPoolGetAttribute(pool, cnrtMemPoolAttrUsedMemCurrent, &value));
  CHECK(value == BYTES);
  OK(cnrtMemFreeAsync(a, queue));
  GIVES(cnrtErrorArgsInvalid, cnrtMemFreeAsync(a, queue));
  OK(cnrtMemAllocFromPoolAsync(&b, BYTES, pool, queue));
  CHECK(a == b);
  GIVES(cnrtErrorNoMem, cnrtMemAllocFromPoolAsync(&a, 1 << 20, pool, queue));
  OK(cnrtFree(b));
  OK(cnrtQueueSync(queue));
  OK(cnrtMemPoolGetAttribute(pool, cnrtMemPoolAttrReservedMemCurrent, &value));
  CHECK(value == 0);
  OK(cnrtDeviceGetMemPool(&current, 0));
  GIVES(cnrtErrorOpsNotPermitted, cnrtMemPoolDestroy(current));
  OK(cnrtDeviceSetMemPool(0, pool));
  OK(cnrtMemAllocAsync(&a, 100, queue));
  OK(cnrtMemPoolGetAttribute(pool, cnrtMemPoolAttrUsedMemCurrent, &value));
  CHECK(value == 100);
  OK(cnrtMemFreeAsync(a, queue));
  OK(cnrtMemPoolDestroy(pool));
  GIVES(cnrtErrorInvalidResourceHandle, cnrtMemPoolTrimTo(pool, 0));
  OK(cnrtDeviceGetMemPool(&current, 0));
  CHECK(current != pool);
  OK(cnrtQueueDestroy(queue));
}

static void casts(void) {
  float in[4] = {1.0f, -2.5f, 100.25f, 70000.0f};
  uint16_t half[4];
  signed char small[4];
  float back[4];
  cnrtQuantizedParam_t param = NULL;
  OK(cnrtCastDataType_V2(in, cnrtFloat, half, cnrtHalf, 4, NULL, cnrtRounding_rn));
  CHECK(half[0] == 0x3c00 && half[1] == 0xc100);
  OK(cnrtCastDataType(half, cnrtFloat16, back, CNRT_FLOAT32, 3, NULL));
  CHECK(back[2] == 100.25f);
  OK(cnrtCastDataType_V2(in, cnrtFloat, small, cnrtChar, 4, NULL, cnrtRounding_rz));
  CHECK(small[1] == -2 && small[2] == 100 && small[3] == 127);
  OK(cnrtCreateQuantizedParam(&param, 1, 2.0f, 3));
  OK(cnrtCastDataType_V2(in, cnrtFloat, small, cnrtChar, 3, param, cnrtRounding_rn));
  CHECK(small[0] == 4 && small[1] == 1 && small[2] == 103);
  OK(cnrtCastDataType_V2(small, cnrtChar, back, cnrtFloat, 3, param, cnrtRounding_rn));
  CHECK(back[0] == 1.0f && back[1] == -2.0f);
  GIVES(cnrtErrorArgsInvalid, cnrtCastDataType_V2(in, cnrtFloat, small, cnrtUnknown, 3, NULL, cnrtRounding_rn));
  GIVES(cnrtErrorArgsInvalid, cnrtCastDataType_V2(in, cnrtFloat, small, cnrtChar, 3, NULL, cnrtRounding_max));
  GIVES(cnrtErrorArgsInvalid, cnrtCastDataType_V2(NULL, cnrtFloat, small, cnrtChar, 3, NULL, cnrtRounding_rn));
  GIVES(cnrtErrorArgsInvalid, cnrtCastDataType_V2(in, cnrtFloat, small, cnrtChar, -1, NULL, cnrtRounding_rn));
  OK(cnrtDestroyQuantizedParam(param));
  GIVES(cnrtErrorArgsInvalid, cnrtDestroyQuantizedParam(param));
  int dims[2] = {2, 2}, order[2] = {1, 0};
  OK(cnrtTransOrderAndCast(in, cnrtFloat32, back, cnrtFloat32, NULL, 2, dims, order));
  CHECK(back[1] == 100.25f && back[2] == -2.5f);
  void *address = NULL;
  GIVES(cnrtErrorInvalidSymbol, cnrtGetSymbolAddress(&address, in));
}

int main(void) {
  captures();
  built();
  pools();
  casts();
  printf("all as it should be\n");
  return 0;
}
