/* Ranks that are processes, as communication libraries have them: the identity goes from one to the others, each has a device. What is done with
 * sends and receives in groups is what such libraries make of them. */
#define _DEFAULT_SOURCE
#include <cncl.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { RANKS = 2, COUNT = 4096, BYTES = COUNT * 4 };

struct rank {
  int number, size;
  cnclComm_t comm;
  cnrtQueue_t queue;
  int *send, *receive; /* on the device: COUNT elements for each rank */
};

static int host[RANKS * COUNT];

/* Polls as libraries do, until all has ended. */
static void finish(const struct rank *rank) {
  for (;;) {
    cnclResult_t state = cnclGetCommAsyncError(rank->comm);
    if (state == CNCL_RET_SUCCESS) break;
    CHECK(state == CNCL_RET_ASYNC_IN_PROGRESS);
    usleep(100);
  }
  OK(cnrtQueueSync(rank->queue));
}

static void fill(const struct rank *rank, int value) {
  for (int r = 0; r < rank->size; r++)
    for (int i = 0; i < COUNT; i++) host[r * COUNT + i] = value + r;
  OK(cnrtMemcpy(rank->send, host, (size_t)rank->size * BYTES, cnrtMemcpyHostToDev));
  OK(cnrtMemset(rank->receive, 0, (size_t)rank->size * BYTES));
}

/* Whether part r of what was received holds one number. */
static void holds(const struct rank *rank, int r, int value) {
  finish(rank);
  OK(cnrtMemcpy(host, rank->receive + r * COUNT, BYTES, cnrtMemcpyDevToHost));
  for (int i = 0; i < COUNT; i++) CHECK(host[i] == value);
}

/* Bytes of a part. */
static void send(const struct rank *rank, int part, int peer) {
  OK(cnclSend(rank->send + part * COUNT, BYTES, cnclChar, peer, rank->comm, rank->queue));
}
static void receive(const struct rank *rank, int part, int peer) {
  OK(cnclRecv(rank->receive + part * COUNT, BYTES, cnclChar, peer, rank->comm, rank->queue));
}

static void work(const struct rank *rank) {
  int own = rank->number;
  fill(rank, 10 * own);
  OK(cnclAllReduce(rank->send, rank->receive, COUNT, cnclInt32, cnclSum, rank->comm, rank->queue));
  holds(rank, 0, 10);
  OK(cnclAllGather(rank->send, rank->receive, COUNT, cnclInt32, rank->comm, rank->queue));
  for (int r = 0; r < rank->size; r++) holds(rank, r, 10 * r);
  OK(cnclReduceScatter(rank->send, rank->receive, COUNT, cnclInt32, cnclMax, rank->comm, rank->queue));
  holds(rank, 0, 10 + own);
  OK(cnclBroadcast(rank->send, rank->receive, COUNT, cnclInt32, 1, rank->comm, rank->queue));
  holds(rank, 0, 10);
  OK(cnclReduce(rank->send, rank->receive, COUNT, cnclInt32, cnclMin, 0, rank->comm, rank->queue));
  holds(rank, 0, own == 0 ? 0 : 10);

  /* All to all, gather and scatter, also with itself. */
  OK(cnclGroupStart());
  for (int r = 0; r < rank->size; r++) {
    send(rank, r, r);
    receive(rank, r, r);
  }
  OK(cnclGroupEnd());
  for (int r = 0; r < rank->size; r++) holds(rank, r, 10 * r + own);
  fill(rank, 20 + 10 * own);
  OK(cnclGroupStart());
  for (int r = 0; own == 1 && r < rank->size; r++) receive(rank, r, r);
  send(rank, 0, 1);
  OK(cnclGroupEnd());
  for (int r = 0; own == 1 && r < rank->size; r++) holds(rank, r, 20 + 10 * r);
  OK(cnclGroupStart());
  for (int r = 0; own == 0 && r < rank->size; r++) send(rank, r, r);
  receive(rank, 0, 0);
  OK(cnclGroupEnd());
  holds(rank, 0, 20 + own);
}

/* `given` was made before the fork. */
static void child(int number, int in, int out, cnclCliqueId *given) {
  struct rank rank;
  cnclCliqueId id;
  memset(&rank, 0, sizeof rank);
  rank.number = number;
  rank.size = RANKS;
  if (number == 0) {
    OK(cnclGetCliqueId(&id));
    CHECK(write(out, &id, sizeof id) == (ssize_t)sizeof id);
  } else {
    CHECK(read(in, &id, sizeof id) == (ssize_t)sizeof id);
  }
  unsigned devices = 0;
  OK(cnrtGetDeviceCount(&devices));
  OK(cnrtSetDevice(number % (int)devices));
  int device = -1;
  OK(cnrtGetDevice(&device));
  OK(cnclInitComms(&rank.comm, 1, &device, &rank.number, RANKS, &id));
  OK(cnrtQueueCreate(&rank.queue));
  OK(cnrtMalloc((void **)&rank.send, RANKS * BYTES));
  OK(cnrtMalloc((void **)&rank.receive, RANKS * BYTES));
  for (int round = 0; round < 5; round++) work(&rank);
  OK(cnclDestroyComms(&rank.comm, 1));
  OK(cnclInitComms(&rank.comm, 1, &device, &rank.number, RANKS, given));
  work(&rank);
  /* One is gone without a word, when the other has seen the end of what they did together; the other is told. */
  char seen = 1;
  if (number == 1) {
    CHECK(read(in, &seen, 1) == 1);
    _exit(0);
  }
  CHECK(write(out, &seen, 1) == 1);
  GIVES(CNCL_RET_ASYNC_ERROR,
        cnclAllReduce(rank.send, rank.receive, COUNT, cnclInt32, cnclSum, rank.comm, rank.queue));
  GIVES(CNCL_RET_ASYNC_ERROR, cnclGetCommAsyncError(rank.comm));
  OK(cnclAbortComm(rank.comm));
  OK(cnclDestroyComms(&rank.comm, 1));
  OK(cnrtQueueSync(rank.queue));
  exit(0);
}

int main(void) {
  int way[2];
  cnclCliqueId id;
  CHECK(pipe(way) == 0);
  OK(cnclGetCliqueId(&id));
  for (int i = 0; i < RANKS; i++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child(i, way[0], way[1], &id);
  }
  for (int i = 0; i < RANKS; i++) {
    int status = 0;
    CHECK(wait(&status) > 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  printf("all as it should be\n");
  return 0;
}
