/* Collectives of a process's ranks: one thread with groups, a thread a rank, and what is refused. Compiles as C and as C++. */
#include <cn_api.h>
#include <cncl.h>

#include <pthread.h>
#include <string.h>

#include "check.h"

enum { RANKS = 2, COUNT = 1000, BYTES = 1 << 16 };

static int devices[RANKS] = {0, 1};
static int numbers[RANKS] = {0, 1};

/* A rank of this process. */
struct rank {
  cnclComm_t comm;
  cnrtQueue_t queue;
  void *send, *receive;
  int number;
  cnclCliqueId id;
};

static struct rank ranks[RANKS];

DEFINE_NONE(cnclReduceOp_t)
DEFINE_NONE(cnclResult_t)
DEFINE_NONE(cnclCommPriority_t)

static void *at(void *base, size_t bytes) { return (char *)base + bytes; }

static void put(const struct rank *rank, void *to, const void *from, size_t bytes) {
  OK(cnrtSetDevice(devices[rank->number]));
  OK(cnrtMemcpy(to, (void *)(size_t)from, bytes, cnrtMemcpyHostToDev));
}

static void get(const struct rank *rank, void *to, void *from, size_t bytes) {
  OK(cnrtSetDevice(devices[rank->number]));
  OK(cnrtQueueSync(rank->queue));
  OK(cnclGetCommAsyncError(rank->comm));
  OK(cnrtMemcpy(to, from, bytes, cnrtMemcpyDevToHost));
}

static void open_all(void) {
  cnclComm_t comms[RANKS];
  OK(cnclInitComms(comms, RANKS, devices, numbers, RANKS, NULL));
  for (int i = 0; i < RANKS; i++) {
    struct rank *rank = &ranks[i];
    rank->comm = comms[i];
    rank->number = i;
    OK(cnrtSetDevice(devices[i]));
    OK(cnrtQueueCreate(&rank->queue));
    OK(cnrtMalloc(&rank->send, BYTES));
    OK(cnrtMalloc(&rank->receive, BYTES));
    int count = 0, number = -1, device = -1;
    OK(cnclGetCommCount(&count, rank->comm));
    OK(cnclGetCommRank(&number, rank->comm));
    OK(cnclGetCommDevice(&device, rank->comm));
    CHECK(count == RANKS && number == i && device == devices[i]);
  }
}

static void close_all(void) {
  cnclComm_t comms[RANKS];
  for (int i = 0; i < RANKS; i++) {
    comms[i] = ranks[i].comm;
    OK(cnrtSetDevice(devices[i]));
    OK(cnrtFree(ranks[i].send));
    OK(cnrtFree(ranks[i].receive));
    OK(cnrtQueueDestroy(ranks[i].queue));
  }
  OK(cnclDestroyComms(comms, RANKS));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclDestroyComms(comms, RANKS));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclFreeComm(comms[0]));
  int count = 0;
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclGetCommCount(&count, comms[0]));
}

/* The elements of a type, of small numbers that all of them have. */
static size_t encode(cnclDataType_t type, int value, void *to) {
  static const unsigned short halves[] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600};
  static const unsigned short brains[] = {0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0};
  float number = (float)value;
  long long wide = value;
  switch (type) {
    case cnclFloat16: memcpy(to, &halves[value], 2); return 2;
    case cnclBfloat16: memcpy(to, &brains[value], 2); return 2;
    case cnclFloat32: memcpy(to, &number, 4); return 4;
    case cnclInt8: case cnclUint8: memcpy(to, &wide, 1); return 1;
    case cnclInt16: case cnclUint16: memcpy(to, &wide, 2); return 2;
    case cnclInt32: case cnclUint32: memcpy(to, &wide, 4); return 4;
    case cnclInt64: case cnclUint64: memcpy(to, &wide, 8); return 8;
    case cnclInvalid: break;
  }
  CHECK(0);
  return 0;
}

/* Whether memory of a rank holds one number throughout. */
static void holds(const struct rank *rank, void *memory, cnclDataType_t type, int value, size_t count) {
  static unsigned char all[BYTES];
  unsigned char one[8];
  size_t size = encode(type, value, one);
  get(rank, all, memory, size * count);
  for (size_t i = 0; i < count; i++) CHECK(memcmp(all + i * size, one, size) == 0);
}

static void fill(const struct rank *rank, void *memory, cnclDataType_t type, int value, size_t count) {
  static unsigned char all[BYTES];
  size_t size = 0;
  for (size_t i = 0; i < count; i++) size = encode(type, value, all + i * size);
  put(rank, memory, all, size * count);
}

/* Every type with every reduction, by one thread. */
static void reductions(void) {
  static const cnclDataType_t types[] = {cnclHalf,  cnclBfloat16, cnclFloat,  cnclChar,   cnclInt16, cnclInt,
                                         cnclInt64, cnclUint8,    cnclUint16, cnclUint32, cnclUint64};
  static const cnclReduceOp_t ops[] = {cnclSum, cnclProd, cnclMax, cnclMin};
  static const int results[] = {5, 6, 3, 2};
  for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
    for (int o = 0; o < 4; o++) {
      OK(cnclGroupStart());
      for (int i = 0; i < RANKS; i++) {
        struct rank *rank = &ranks[i];
        fill(rank, rank->send, types[t], 2 + i, COUNT);
        OK(cnclAllReduce(rank->send, rank->receive, COUNT, types[t], ops[o], rank->comm, rank->queue));
      }
      OK(cnclGroupEnd());
      for (int i = 0; i < RANKS; i++) holds(&ranks[i], ranks[i].receive, types[t], results[o], COUNT);
    }
  }
  struct rank *rank = ranks;
  GIVES(CNCL_RET_ERR_ARGUMENTS,
        cnclAllReduce(rank->send, rank->receive, COUNT, cnclInvalid, cnclSum, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS,
        cnclAllReduce(rank->send, rank->receive, COUNT, cnclFloat, NONE(cnclReduceOp_t), rank->comm, rank->queue));
}

/* The operations, by one thread. */
static void operations(void) {
  struct rank *first = &ranks[0], *second = &ranks[1];
  for (int i = 0; i < RANKS; i++) {
    fill(&ranks[i], ranks[i].send, cnclInt32, 1 + i, 2 * COUNT);
    fill(&ranks[i], ranks[i].receive, cnclInt32, 6, 2 * COUNT);
  }
  OK(cnclGroupStart());
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    OK(cnclReduce(ranks[i].send, i == 1 ? ranks[i].receive : NULL, COUNT, cnclInt32, cnclSum, 1, ranks[i].comm,
                  ranks[i].queue));
  OK(cnclGroupEnd());
  OK(cnclGroupEnd());
  holds(second, second->receive, cnclInt32, 3, COUNT);
  holds(first, first->receive, cnclInt32, 6, COUNT);

  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    OK(cnclBroadcast(i == 0 ? ranks[i].send : NULL, ranks[i].receive, COUNT, cnclInt32, 0, ranks[i].comm,
                     ranks[i].queue));
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++) holds(&ranks[i], ranks[i].receive, cnclInt32, 1, COUNT);

  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    OK(cnclAllGather(ranks[i].send, ranks[i].receive, COUNT, cnclInt32, ranks[i].comm, ranks[i].queue));
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++) {
    holds(&ranks[i], ranks[i].receive, cnclInt32, 1, COUNT);
    holds(&ranks[i], at(ranks[i].receive, 4 * COUNT), cnclInt32, 2, COUNT);
  }

  /* In place: the rank's part of what is reduced. Part j is 1 at rank 0 and 2 at rank 1. */
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++) {
    void *own = at(ranks[i].send, (size_t)i * 4 * COUNT);
    OK(cnclReduceScatter(ranks[i].send, own, COUNT, cnclInt32, cnclProd, ranks[i].comm, ranks[i].queue));
  }
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++) holds(&ranks[i], at(ranks[i].send, (size_t)i * 4 * COUNT), cnclInt32, 2, COUNT);

  /* Rank 0 has 3 | 4, rank 1 has 5 | 6. */
  for (int i = 0; i < RANKS; i++)
    for (int j = 0; j < RANKS; j++)
      fill(&ranks[i], at(ranks[i].send, (size_t)j * 4 * COUNT), cnclInt32, 3 + 2 * i + j, COUNT);
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    OK(cnclAlltoAll(ranks[i].send, ranks[i].receive, COUNT, cnclInt32, ranks[i].comm, ranks[i].queue));
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++)
    for (int j = 0; j < RANKS; j++)
      holds(&ranks[i], at(ranks[i].receive, (size_t)j * 4 * COUNT), cnclInt32, 3 + 2 * j + i, COUNT);

  /* Rank i sends i + j elements to rank j, of a type for each pair; rank 0 nothing to itself, from nowhere. */
  const void *sends[RANKS][RANKS];
  void *receives[RANKS][RANKS];
  uint32_t send_counts[RANKS][RANKS], receive_counts[RANKS][RANKS];
  cnclDataType_t send_types[RANKS][RANKS], receive_types[RANKS][RANKS];
  static const cnclDataType_t pairs[3] = {cnclChar, cnclInt16, cnclFloat};
  for (int i = 0; i < RANKS; i++)
    for (int j = 0; j < RANKS; j++) {
      sends[i][j] = i + j == 0 ? NULL : at(ranks[i].send, (size_t)j * 1024);
      receives[i][j] = i + j == 0 ? NULL : at(ranks[i].receive, (size_t)j * 1024);
      send_counts[i][j] = receive_counts[i][j] = (uint32_t)(i + j);
      send_types[i][j] = receive_types[i][j] = pairs[i + j];
      if (i + j > 0) fill(&ranks[i], at(ranks[i].send, (size_t)j * 1024), pairs[i + j], 1 + 2 * i + j, (size_t)(i + j));
    }
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    OK(cnclAlltoAllv(sends[i], send_counts[i], send_types[i], receives[i], receive_counts[i], receive_types[i],
                     ranks[i].comm, ranks[i].queue));
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++)
    for (int j = 0; j < RANKS; j++)
      if (i + j > 0) holds(&ranks[i], receives[i][j], pairs[i + j], 1 + 2 * j + i, (size_t)(i + j));
}

/* What FlagCX makes of sends and receives: gather, scatter and all-to-all of bytes, to itself too. */
static void pairs(void) {
  size_t bytes = 4 * COUNT;
  for (int i = 0; i < RANKS; i++)
    for (int j = 0; j < RANKS; j++)
      fill(&ranks[i], at(ranks[i].send, (size_t)j * bytes), cnclInt32, 1 + 2 * i + j, COUNT);
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++)
    for (int r = 0; r < RANKS; r++) {
      OK(cnclSend(at(ranks[i].send, (size_t)r * bytes), bytes, cnclChar, r, ranks[i].comm, ranks[i].queue));
      OK(cnclRecv(at(ranks[i].receive, (size_t)r * bytes), bytes, cnclChar, r, ranks[i].comm, ranks[i].queue));
    }
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++)
    for (int r = 0; r < RANKS; r++)
      holds(&ranks[i], at(ranks[i].receive, (size_t)r * bytes), cnclInt32, 1 + 2 * r + i, COUNT);

  OK(cnclGroupStart());
  for (int r = 0; r < RANKS; r++)
    OK(cnclRecv(at(ranks[1].receive, (size_t)r * bytes), bytes, cnclChar, r, ranks[1].comm, ranks[1].queue));
  for (int i = 0; i < RANKS; i++) OK(cnclSend(ranks[i].send, bytes, cnclChar, 1, ranks[i].comm, ranks[i].queue));
  OK(cnclGroupEnd());
  for (int r = 0; r < RANKS; r++)
    holds(&ranks[1], at(ranks[1].receive, (size_t)r * bytes), cnclInt32, 1 + 2 * r, COUNT);
}

/* Memory mapped at reserved addresses, piece by piece, as allocators with segments that grow have it; and memory of another device. */
static void mapped(void) {
  enum { PIECES = 3 };
  CNaddr addresses[RANKS];
  cn_uint64_t granule = 0;
  CNmemAllocationProp prop;
  CNmemAccessDesc access;
  memset(&prop, 0, sizeof prop);
  memset(&access, 0, sizeof access);
  prop.type = CN_MEM_ALLOCATION_TYPE_DEFAULT;
  prop.location.type = CN_MEM_LOCATION_TYPE_DEVICE;
  OK(cnInit(0));
  for (int i = 0; i < RANKS; i++) {
    OK(cnrtSetDevice(devices[i]));
    prop.location.id = (cn_uint32_t)devices[i];
    access.location = prop.location;
    OK(cnMemGetAllocationGranularity(&granule, &prop, CN_MEM_ALLOC_GRANULARITY_MINIMUM));
    OK(cnMemAddressReserve(&addresses[i], PIECES * granule, 0, 0, 0));
    for (cn_uint64_t at = addresses[i]; at < addresses[i] + PIECES * granule; at += granule) {
      CNmemGenericAllocationHandle handle;
      OK(cnMemCreate(&handle, granule, &prop, 0));
      OK(cnMemMap(at, granule, 0, handle, 0));
      OK(cnMemSetAccess(at, granule, &access, 1));
      OK(cnMemRelease(handle));
    }
    OK(cnMemsetD8(addresses[i], (unsigned char)(i + 1), PIECES * granule));
  }
  /* In one piece, over all of them in place, and from there to plain memory. */
  static const int firsts[] = {3, 6}, lasts[RANKS][2] = {{1, 3}, {2, 3}};
  size_t counts[2];
  counts[0] = granule / 2;
  counts[1] = PIECES * granule;
  for (int round = 0; round < 2; round++) {
    OK(cnclGroupStart());
    for (int i = 0; i < RANKS; i++) {
      void *memory = (void *)(size_t)addresses[i];
      OK(cnclAllReduce(memory, memory, counts[round], cnclUint8, cnclSum, ranks[i].comm, ranks[i].queue));
    }
    OK(cnclGroupEnd());
    for (int i = 0; i < RANKS; i++) {
      holds(&ranks[i], (void *)(size_t)addresses[i], cnclUint8, firsts[round], granule / 2);
      void *last = (void *)(size_t)(addresses[i] + PIECES * granule - COUNT);
      holds(&ranks[i], last, cnclUint8, lasts[i][round], COUNT);
    }
  }
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++) {
    void *across = (void *)(size_t)(addresses[i] + granule - COUNT);
    OK(cnclAllGather(across, ranks[i].receive, 2 * COUNT, cnclUint8, ranks[i].comm, ranks[i].queue));
  }
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++) holds(&ranks[i], ranks[i].receive, cnclUint8, 3, 4 * COUNT);
  /* Rank 0 sends what rank 1's device has, and the other way round. */
  OK(cnclGroupStart());
  for (int i = 0; i < RANKS; i++) {
    void *foreign = at(ranks[1 - i].send, COUNT);
    fill(&ranks[1 - i], foreign, cnclUint8, 4 + i, COUNT);
    OK(cnclAllReduce(foreign, ranks[i].receive, COUNT, cnclUint8, cnclMax, ranks[i].comm, ranks[i].queue));
  }
  OK(cnclGroupEnd());
  for (int i = 0; i < RANKS; i++) holds(&ranks[i], ranks[i].receive, cnclUint8, 5, COUNT);
  /* Memory that may only be read takes no result. */
  OK(cnrtSetDevice(devices[0]));
  prop.location.id = (cn_uint32_t)devices[0];
  access.location = prop.location;
  access.accessFlags = CN_MEM_ACCESS_FLAGS_PROT_READONLY;
  OK(cnMemSetAccess(addresses[0], granule, &access, 1));
  void *locked = (void *)(size_t)addresses[0];
  GIVES(CNCL_RET_ERR_ARGUMENTS,
        cnclAllReduce(locked, locked, COUNT, cnclUint8, cnclSum, ranks[0].comm, ranks[0].queue));
  for (int i = 0; i < RANKS; i++) {
    OK(cnMemUnmap(addresses[i], PIECES * granule));
    OK(cnMemAddressFree(addresses[i], PIECES * granule));
  }
}

/* What a thread of a rank does: meets the others, and works in a queue that nobody made. */
static void *of_thread(void *argument) {
  struct rank *rank = (struct rank *)argument;
  int device = devices[rank->number];
  OK(cnrtSetDevice(device));
  OK(cnclInitComms(&rank->comm, 1, &device, &rank->number, RANKS, &rank->id));
  void *memory = NULL;
  OK(cnrtMalloc(&memory, BYTES));
  float values[COUNT];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < COUNT; i++) values[i] = (float)(rank->number + i);
    OK(cnrtMemcpy(memory, values, sizeof values, cnrtMemcpyHostToDev));
    OK(cnclAllReduce(memory, memory, COUNT, cnclFloat32, cnclSum, rank->comm, NULL));
    OK(cnclBcast(memory, COUNT, cnclFloat32, round % RANKS, rank->comm, cnrtQueuePerThread));
    OK(cnrtQueueSync(NULL));
    cnclResult_t state = cnclGetCommAsyncError(rank->comm);
    CHECK(state == CNCL_RET_SUCCESS || state == CNCL_RET_ASYNC_IN_PROGRESS);
    OK(cnrtMemcpy(values, memory, sizeof values, cnrtMemcpyDevToHost));
    for (int i = 0; i < COUNT; i++) CHECK(values[i] == (float)(1 + 2 * i));
  }
  OK(cnrtFree(memory));
  OK(cnclDestroyComms(&rank->comm, 1));
  return NULL;
}

/* Calls that were captured become part of a topology: each launch of it makes them anew, by all ranks. */
static void *captures(void *argument) {
  enum { LAUNCHES = 4 };
  struct rank *rank = (struct rank *)argument;
  int device = devices[rank->number], values[COUNT];
  void *memory = NULL;
  cnrtQueue_t queue = NULL;
  cnrtTaskTopo_t topo = NULL;
  cnrtTaskTopoEntity_t entity = NULL;
  OK(cnrtSetDevice(device));
  OK(cnclInitComms(&rank->comm, 1, &device, &rank->number, RANKS, &rank->id));
  OK(cnrtQueueCreate(&queue));
  OK(cnrtMalloc(&memory, BYTES));
  for (int i = 0; i < COUNT; i++) values[i] = 1 + rank->number + i;
  OK(cnrtMemcpy(memory, values, sizeof values, cnrtMemcpyHostToDev));
  OK(cnrtQueueBeginCapture(queue, cnrtQueueCaptureModeRelaxed));
  OK(cnclAllReduce(memory, memory, COUNT, cnclInt32, cnclSum, rank->comm, queue));
  OK(cnrtMemcpyAsync(at(memory, BYTES / 2), memory, sizeof values, queue, cnrtMemcpyDevToDev));
  OK(cnclBcast(at(memory, BYTES / 2), COUNT, cnclInt32, 1, rank->comm, queue));
  OK(cnrtQueueEndCapture(queue, &topo));
  /* Nothing has run. */
  OK(cnrtQueueSync(queue));
  OK(cnrtMemcpy(values, memory, sizeof values, cnrtMemcpyDevToHost));
  CHECK(values[0] == 1 + rank->number && values[9] == 10 + rank->number);
  OK(cnrtTaskTopoInstantiate(&entity, topo, NULL, NULL, 0));
  OK(cnrtTaskTopoDestroy(topo));
  for (int launch = 1; launch <= LAUNCHES; launch++) {
    OK(cnrtTaskTopoEntityInvoke(entity, queue));
    OK(cnrtQueueSync(queue));
    OK(cnrtMemcpy(values, at(memory, BYTES / 2), sizeof values, cnrtMemcpyDevToHost));
    for (int i = 0; i < COUNT; i++) CHECK(values[i] == (3 + 2 * i) << (launch - 1));
  }
  OK(cnclGetCommAsyncError(rank->comm));
  OK(cnrtTaskTopoEntityDestroy(entity));
  OK(cnrtFree(memory));
  OK(cnrtQueueDestroy(queue));
  OK(cnclDestroyComms(&rank->comm, 1));
  return NULL;
}

/* Has a thread for each rank of a new clique do something. */
static void threads(void *(*work)(void *)) {
  struct rank of[RANKS];
  pthread_t running[RANKS];
  cnclCliqueId id;
  memset(&id, 0, sizeof id);
  OK(cnclGetCliqueId(&id));
  for (int i = 0; i < RANKS; i++) {
    memset(&of[i], 0, sizeof of[i]);
    of[i].number = i;
    /* As programs that pass the bytes on, and no more. */
    memcpy(of[i].id.data, id.data, CNCL_CLIQUE_ID_BYTES_SIZE);
    CHECK(pthread_create(&running[i], NULL, work, &of[i]) == 0);
  }
  for (int i = 0; i < RANKS; i++) CHECK(pthread_join(running[i], NULL) == 0);
  /* It is complete. */
  cnclComm_t comm;
  CHECK(cnclInitComms(&comm, 1, devices, numbers, RANKS, &id) != CNCL_RET_SUCCESS);
}

static void refusals(void) {
  struct rank *rank = ranks;
  cnclComm_t comm = NULL;
  cnclCliqueId none;
  int number = 0, two[2] = {0, 0}, wrong = 7;
  void *host = NULL;
  memset(&none, 0x5a, sizeof none);
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclGetCliqueId(NULL));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclInitComms(NULL, 1, devices, numbers, 1, NULL));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclInitComms(&comm, 1, NULL, numbers, 1, NULL));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclInitComms(&comm, 1, devices, NULL, 1, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, 0, devices, numbers, 1, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, -1, devices, numbers, 1, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, 1, devices, numbers, 2, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, 2, devices, two, 2, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, 1, devices, &wrong, 2, &none));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclInitComms(&comm, 1, devices, numbers, 1, &none));
  GIVES(CNCL_RET_ERR_CNRT_DEVICE, cnclInitComms(&comm, 1, &wrong, numbers, 1, NULL));
  GIVES(CNCL_RET_ERR_UNSUPPORTED, cnclInitComms(&comm, 1, devices, numbers, 17, &none));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclGetCommCount(&number, NULL));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclGetCommCount(NULL, rank->comm));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclDestroyComms(NULL, 1));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclFreeComm(NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclFreeComm((cnclComm_t)(void *)rank->queue));
  GIVES(CNCL_RET_ERR_NOT_INIT, cnclGroupEnd());

  OK(cnrtSetDevice(0));
  OK(cnrtHostMalloc(&host, 4096));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclBcast(NULL, 1, cnclInt8, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(&number, 1, cnclInt8, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(host, 1, cnclInt8, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, 1, cnclInt8, RANKS, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, 1, cnclInt8, -1, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, BYTES + 1, cnclInt8, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, SIZE_MAX, cnclInt64, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclAllGather(rank->send, rank->receive, SIZE_MAX / 2, cnclInt8, rank->comm, NULL));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, 1, cnclInt8, 0, rank->comm, ranks[1].queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclBcast(rank->send, 1, cnclInt8, 0, (cnclComm_t)(void *)rank, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS,
        cnclAllReduce(rank->send, at(rank->send, 4), 8, cnclInt32, cnclSum, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclSend(rank->send, 4, cnclInt8, 0, rank->comm, rank->queue));
  GIVES(CNCL_RET_ERR_NULL_POINTER,
        cnclAlltoAllv(NULL, NULL, NULL, NULL, NULL, NULL, rank->comm, rank->queue));
  /* Nothing is something. */
  OK(cnclAllReduce(NULL, NULL, 0, cnclFloat, cnclSum, rank->comm, rank->queue));
  OK(cnrtFreeHost(host));

  cnclCommConfig config = {CNCL_PRIORITY_HIGH};
  OK(cnclSetCommConfig(rank->comm, &config));
  config.priority = NONE(cnclCommPriority_t);
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclSetCommConfig(rank->comm, &config));
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclSetCommConfig(rank->comm, NULL));
  int major = 0, minor = 0, patch = 0;
  OK(cnclGetLibVersion(&major, &minor, &patch));
  CHECK(major * 10000 + minor * 100 + patch == CNCL_VERSION);
  GIVES(CNCL_RET_ERR_NULL_POINTER, cnclGetLibVersion(&major, NULL, &patch));
  CHECK(strstr(cnclGetErrorStr(CNCL_RET_ERR_ARGUMENTS), "CNCL_RET_ERR_ARGUMENTS") != NULL);
  CHECK(cnclGetErrorStr(NONE(cnclResult_t)) != NULL);
}

/* A call that waits for a rank that never makes its own. */
static void *alone(void *argument) {
  struct rank *rank = (struct rank *)argument;
  GIVES(CNCL_RET_ASYNC_ERROR,
        cnclAllReduce(rank->send, rank->receive, COUNT, cnclFloat, cnclSum, rank->comm, rank->queue));
  return NULL;
}

static void aborts(void) {
  open_all();
  pthread_t waiting;
  CHECK(pthread_create(&waiting, NULL, alone, &ranks[0]) == 0);
  OK(cnclAbortComm(ranks[1].comm));
  CHECK(pthread_join(waiting, NULL) == 0);
  for (int i = 0; i < RANKS; i++) {
    struct rank *rank = &ranks[i];
    GIVES(CNCL_RET_ASYNC_ERROR, cnclGetCommAsyncError(rank->comm));
    GIVES(CNCL_RET_ASYNC_ERROR, cnclBcast(rank->send, COUNT, cnclInt8, 0, rank->comm, rank->queue));
  }
  GIVES(CNCL_RET_ERR_ARGUMENTS, cnclAbortComm(ranks[1].comm));
  close_all();
}

int main(void) {
  open_all();
  reductions();
  operations();
  pairs();
  mapped();
  refusals();
  threads(of_thread);
  threads(captures);
  /* What went wrong above has spoiled nothing. */
  operations();
  close_all();
  aborts();
  open_all();
  operations();
  close_all();
  printf("all as it should be\n");
  return 0;
}
