/* Two processes: one has memory and a notifier, the other gets handles of both through a pipe. */
#define _DEFAULT_SOURCE
#include <cnrt.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 1 << 20 };

struct message {
  cnrtIpcMemHandle memory;
  cnrtIpcNotifierHandle notifier;
};

static void give(int fd, const void *data, size_t bytes) { CHECK(write(fd, data, bytes) == (ssize_t)bytes); }
static void take(int fd, void *data, size_t bytes) { CHECK(read(fd, data, bytes) == (ssize_t)bytes); }

static void child(int in, int out) {
  struct message message;
  void *memory = NULL, *device = NULL;
  cnrtNotifier_t notifier = NULL;
  cnrtQueue_t queue = NULL;
  unsigned char got[16];
  char done = 1;
  take(in, &message, sizeof message);
  /* On the other chip. */
  OK(cnrtSetDevice(1));
  GIVES(cnrtErrorArgsInvalid, cnrtMapMemHandle(&memory, message.memory, 1));
  GIVES(cnrtErrorArgsInvalid, cnrtMapMemHandle(&memory, NULL, 0));
  OK(cnrtMapMemHandle(&memory, message.memory, 0));
  OK(cnrtIpcOpenNotifierHandle(&notifier, message.notifier));
  cnrtIpcNotifierHandle again;
  GIVES(cnrtErrorArgsInvalid, cnrtIpcGetNotifierHandle(&again, notifier));
  OK(cnrtQueueCreate(&queue));
  OK(cnrtMalloc(&device, BYTES));
  /* Waits on the card for what the parent has queued before the notifier. */
  OK(cnrtQueueWaitNotifier(notifier, queue, 0));
  OK(cnrtMemcpyAsync_V2(device, memory, BYTES, queue, cnrtMemcpyDevToDev));
  OK(cnrtQueueSync(queue));
  OK(cnrtWaitNotifier(notifier));
  OK(cnrtQueryNotifier(notifier));
  OK(cnrtMemcpy(got, (char *)device + BYTES - 16, 16, cnrtMemcpyDevToHost));
  for (int i = 0; i < 16; i++) CHECK(got[i] == 0x21);
  /* The other way round. */
  OK(cnrtMemsetAsync(memory, 0x43, BYTES, queue));
  OK(cnrtPlaceNotifier(notifier, queue));
  give(out, &done, 1);
  take(in, &done, 1);
  OK(cnrtQueueSync(queue));
  GIVES(cnrtErrorArgsInvalid, cnrtFree(memory));
  OK(cnrtUnMapMemHandle(memory));
  GIVES(cnrtErrorArgsInvalid, cnrtUnMapMemHandle(memory));
  OK(cnrtNotifierDestroy(notifier));
  exit(0);
}

int main(void) {
  int down[2], up[2];
  CHECK(pipe(down) == 0 && pipe(up) == 0);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) child(down[0], up[1]);
  struct message message;
  void *memory = NULL, *host = NULL;
  cnrtNotifier_t notifier = NULL, plain = NULL;
  cnrtQueue_t queue = NULL;
  unsigned char got[16];
  char done = 0;
  memset(&message, 0, sizeof message);
  OK(cnrtMalloc(&memory, BYTES));
  OK(cnrtHostMalloc(&host, 4096));
  OK(cnrtMemset(memory, 0, BYTES));
  OK(cnrtQueueCreate(&queue));
  OK(cnrtNotifierCreate(&plain));
  GIVES(cnrtErrorArgsInvalid, cnrtIpcGetNotifierHandle(&message.notifier, plain));
  OK(cnrtNotifierCreateWithFlags(&notifier, CNRT_NOTIFIER_INTERPROCESS | CNRT_NOTIFIER_DISABLE_TIMING_ALL));
  GIVES(cnrtErrorNotSupport, cnrtAcquireMemHandle(&message.memory, host));
  GIVES(cnrtErrorArgsInvalid, cnrtAcquireMemHandle(&message.memory, (char *)memory + 1));
  OK(cnrtAcquireMemHandle(&message.memory, memory));
  OK(cnrtIpcGetNotifierHandle(&message.notifier, notifier));
  OK(cnrtMemsetAsync(memory, 0x21, BYTES, queue));
  OK(cnrtPlaceNotifier(notifier, queue));
  give(down[1], &message, sizeof message);
  take(up[0], &done, 1);
  OK(cnrtQueueWaitNotifier(notifier, queue, 0));
  OK(cnrtMemcpyAsync(got, memory, 16, queue, cnrtMemcpyDevToHost));
  OK(cnrtQueueSync(queue));
  for (int i = 0; i < 16; i++) CHECK(got[i] == 0x43);
  OK(cnrtWaitNotifier(notifier));
  give(down[1], &done, 1);
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  OK(cnrtFree(memory));
  printf("all as it should be\n");
  return 0;
}
