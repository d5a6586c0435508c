/* What a program is told once its device is lost: it says "ready", and goes on when a line comes in, which is after the loss. */
#include <cn_api.h>
#include <cncl.h>
#include <cnrt.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "check.h"

enum { BYTES = 1 << 20 };

static atomic_int entered, gone;
static cnrtQueue_t held, queue;

static void hold(void *argument) {
  (void)argument;
  entered = 1;
  while (!gone) {
  }
}

/* Waits since before the loss. */
static void *wait(void *argument) {
  (void)argument;
  GIVES(cnrtErrorDevice, cnrtQueueSync(held));
  GIVES(cnrtErrorDevice, cnrtGetLastError());
  return NULL;
}

int main(void) {
  void *memory = NULL, *other = NULL, *host = NULL;
  static char plain[BYTES];
  cnrtNotifier_t notifier = NULL;
  cnclComm_t comm = NULL;
  CNaddr address = 0;
  int device = 0, rank = 0;
  unsigned count = 0;
  OK(cnrtMalloc(&memory, BYTES));
  OK(cnrtHostMalloc(&host, BYTES));
  OK(cnrtQueueCreate(&queue));
  OK(cnrtQueueCreate(&held));
  OK(cnrtNotifierCreate(&notifier));
  OK(cnclInitComms(&comm, 1, &device, &rank, 1, NULL));
  OK(cnrtInvokeHostFunc(held, hold, NULL));
  OK(cnrtMemsetAsync(memory, 1, BYTES, held));
  OK(cnrtPlaceNotifier(notifier, held));
  while (!entered) {
  }
  pthread_t waiting;
  CHECK(pthread_create(&waiting, NULL, wait, NULL) == 0);
  printf("ready\n");
  fflush(stdout);
  CHECK(getchar() == '\n');
  CHECK(pthread_join(waiting, NULL) == 0);
  gone = 1;

  GIVES(cnrtErrorDevice, cnrtMalloc(&other, 64 << 20));
  GIVES(cnrtErrorDevice, cnrtPeekAtLastError());
  GIVES(cnrtErrorDevice, cnrtMemcpy(memory, plain, BYTES, cnrtMemcpyHostToDev));
  GIVES(cnrtErrorDevice, cnrtMemcpy(plain, memory, BYTES, cnrtMemcpyDevToHost));
  GIVES(cnrtErrorDevice, cnrtMemset(memory, 2, BYTES));
  /* An asynchronous call may only be told when it is waited for. */
  cnrtRet_t late = cnrtMemsetAsync(memory, 2, BYTES, queue);
  CHECK(late == cnrtSuccess || late == cnrtErrorDevice);
  GIVES(cnrtErrorDevice, cnrtQueueSync(queue));
  GIVES(cnrtErrorDevice, cnrtSyncDevice());
  GIVES(cnrtErrorDevice, cnrtWaitNotifier(notifier));
  GIVES(cnrtErrorDevice, cnrtQueueCreate(&(cnrtQueue_t){NULL}));
  GIVES(CN_ERROR_DEINITIALIZED, cnMalloc(&address, 64 << 20));
  cnclResult_t result = cnclAllReduce(memory, memory, 16, cnclFloat, cnclSum, comm, queue);
  CHECK(result == CNCL_RET_ERR_MLU_DEVICE || result == CNCL_RET_SUCCESS);
  CHECK(cnclGetCommAsyncError(comm) == CNCL_RET_ASYNC_ERROR);
  OK(cnrtGetDeviceCount(&count));
  CHECK(count == 2);
  /* What the program has can still be given back. */
  OK(cnclDestroyComms(&comm, 1));
  OK(cnrtNotifierDestroy(notifier));
  OK(cnrtQueueDestroy(queue));
  OK(cnrtQueueDestroy(held));
  OK(cnrtFree(memory));
  OK(cnrtFreeHost(host));
  OK(cnrtDeviceReset());
  printf("all as it should be\n");
  return 0;
}
