/* A process that used a device forks: the child has nothing, is told so by every call, and ends as it should. */
#define _DEFAULT_SOURCE
#include <cn_api.h>
#include <cnrt.h>

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

int main(void) {
  void *device = NULL;
  cnrtQueue_t queue = NULL;
  OK(cnrtMalloc(&device, 4096));
  OK(cnrtQueueCreate(&queue));
  OK(cnrtMemset(device, 1, 4096));
  OK(cnrtMemsetAsync(device, 1, 4096, queue));
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    unsigned count = 0;
    CNcontext context = NULL;
    GIVES(cnrtErrorInit, cnrtGetDeviceCount(&count));
    GIVES(cnrtErrorInit, cnrtMemset(device, 2, 4096));
    GIVES(cnrtErrorInit, cnrtQueueSync(queue));
    GIVES(cnrtErrorInit, cnrtFree(device));
    GIVES(cnrtErrorInit, cnrtGetLastError());
    GIVES(CN_ERROR_NOT_INITIALIZED, cnCtxGetCurrent(&context));
    exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  OK(cnrtQueueSync(queue));
  OK(cnrtQueueDestroy(queue));
  OK(cnrtFree(device));
  printf("all as it should be\n");
  return 0;
}
