/*
 * cncl.h - collectives of the virtual MLU, under the vendor's names.
 *
 * Names, numbers, layouts and argument lists are those of CNCL 1.25.0; the texts are this project's own. Programs link with -lcncl -lcnrt.
 *
 * A communicator is one rank of a clique: a device that works together with others. Ranks are threads of a process, processes of a machine, or
 * one thread that groups its calls. What they call, they call in the same order at all ranks; a communicator is used by one thread at a time.
 *
 * A collective names device memory and a queue of the communicator's device. It returns when all ranks have made theirs and it stands in the
 * queues; the devices do the rest, in the order of the queues, and cnrtQueueSync waits for the result. Where a queue is asked for, NULL and
 * cnrtQueuePerThread mean the calling thread's queue of the communicator's device, cnrtQueueLegacy the one that threads share. Other ranks
 * are waited for 600 seconds, or as many as MLU_COLLECTIVE_TIMEOUT says; one that has died is noticed at once.
 *
 * What a rank sends may be what it receives: the same place, or for cnclAllGather and cnclReduceScatter the rank's part of the larger one.
 * Other overlaps are refused. A count of 0 elements at all ranks does nothing. F16 and BF16 are reduced in single precision, integers wrap
 * around.
 *
 * Every function returns a cnclResult_t unless it says otherwise: CNCL_RET_ERR_NULL_POINTER for a pointer that is NULL and may not be,
 * CNCL_RET_ERR_ARGUMENTS for a handle that was destroyed or never was one, for memory that is none of a device, and for what does not fit the
 * calls of other ranks. In a process that was forked from one that had used a device, every call fails with CNCL_RET_ERR_INIT.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef __CNCL_H
#define __CNCL_H

#include <stddef.h>
#include <stdint.h>

#include "cnrt.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CNCL_MAJOR_VERSION 1
#define CNCL_MINOR_VERSION 25
#define CNCL_PATCH_VERSION 0
#define CNCL_VERSION (CNCL_MAJOR_VERSION * 10000 + CNCL_MINOR_VERSION * 100 + CNCL_PATCH_VERSION)

/* Bytes of a clique's identity. */
#define CNCL_CLIQUE_ID_BYTES_SIZE 128

/* How calls end; cnclGetErrorStr has a sentence for each. The low four bits are a class, of which the one with no others set is the
 * general case. */
typedef enum {
  CNCL_RET_SUCCESS = 0,
  CNCL_RET_ERR_INTERNAL = 0x1,
  CNCL_RET_ERR_UNSUPPORTED = 0x11,
  CNCL_RET_ERR_NULL_POINTER = 0x21,
  CNCL_RET_ERR_BUILD_RING = 0x31,
  CNCL_RET_ERR_BUILD_TREE = 0x41,
  CNCL_RET_ERR_INIT = 0x51,
  CNCL_RET_ERR_NOT_INIT = 0x61,
  CNCL_RET_ERR_REINIT = 0x71,
  CNCL_RET_ERR_NO_ALGO = 0x81,
  CNCL_RET_ERR_INVALID_VERSION = 0x91,
  CNCL_RET_ERR_SYSTEM = 0x2,
  CNCL_RET_ERR_SYS_MALLOC = 0x12,
  CNCL_RET_ERR_SYS_SOCKET = 0x22,
  CNCL_RET_ERR_SYS_IBV = 0x32,
  CNCL_RET_ERR_MLU_RUNTIME = 0x3,
  CNCL_RET_ERR_CNRT_DEVICE = 0x13,
  CNCL_RET_ERR_CNRT_MEMCOPY = 0x23,
  CNCL_RET_ERR_CNRT_MALLOC = 0x33,
  CNCL_RET_ERR_MLU_DEVICE = 0x4,
  CNCL_RET_ERR_CNDEV_NODE = 0x14,
  CNCL_RET_ERR_CNDEV_RELATIONSHIP = 0x24,
  CNCL_RET_ERR_INNETWORK = 0x5, /* also 0x15, 0x25 and 0x35; this library gives none of them */
  CNCL_RET_ASYNC_IN_PROGRESS = 0x6,
  CNCL_RET_ASYNC_ERROR = 0x16,
  CNCL_RET_ASYNC_UNKNOWN = 0x26,
  CNCL_RET_ERR_ARGUMENTS = 0x7,
  CNCL_RET_ERR_MLU_ALLOCATE = 0x8,
  CNCL_RET_ERR_DEALLOCATE = 0x18,
  CNCL_RET_ERR_IB_RECV_NOTREADY = 0x9,
  /* The same numbers by their short names. */
  CNCL_RET_INTERNAL = CNCL_RET_ERR_INTERNAL,
  CNCL_RET_UNSUPPORTED = CNCL_RET_ERR_UNSUPPORTED,
  CNCL_RET_NULL_POINTER = CNCL_RET_ERR_NULL_POINTER,
  CNCL_RET_BUILD_RING = CNCL_RET_ERR_BUILD_RING,
  CNCL_RET_BUILD_TREE = CNCL_RET_ERR_BUILD_TREE,
  CNCL_RET_INIT = CNCL_RET_ERR_INIT,
  CNCL_RET_NOT_INIT = CNCL_RET_ERR_NOT_INIT,
  CNCL_RET_REINIT = CNCL_RET_ERR_REINIT,
  CNCL_RET_NO_ALGO = CNCL_RET_ERR_NO_ALGO,
  CNCL_RET_INVALID_VERSION = CNCL_RET_ERR_INVALID_VERSION,
  CNCL_RET_SYSTEM = CNCL_RET_ERR_SYSTEM,
  CNCL_RET_SYS_MALLOC = CNCL_RET_ERR_SYS_MALLOC,
  CNCL_RET_SYS_SOCKET = CNCL_RET_ERR_SYS_SOCKET,
  CNCL_RET_SYS_IBV = CNCL_RET_ERR_SYS_IBV,
  CNCL_RET_MLU_RUNTIME = CNCL_RET_ERR_MLU_RUNTIME,
  CNCL_RET_CNRT_DEVICE = CNCL_RET_ERR_CNRT_DEVICE,
  CNCL_RET_CNRT_MEMCOPY = CNCL_RET_ERR_CNRT_MEMCOPY,
  CNCL_RET_CNRT_MALLOC = CNCL_RET_ERR_CNRT_MALLOC,
  CNCL_RET_MLU_DEVICE = CNCL_RET_ERR_MLU_DEVICE,
  CNCL_RET_CNDEV_NODE = CNCL_RET_ERR_CNDEV_NODE,
  CNCL_RET_CNDEV_RELATIONSHIP = CNCL_RET_ERR_CNDEV_RELATIONSHIP,
  CNCL_RET_INNETWORK = CNCL_RET_ERR_INNETWORK,
  CNCL_RET_ARGUMENTS = CNCL_RET_ERR_ARGUMENTS,
  CNCL_RET_MLU_ALLOCATE = CNCL_RET_ERR_MLU_ALLOCATE,
  CNCL_RET_DEALLOCATE = CNCL_RET_ERR_DEALLOCATE,
  CNCL_RET_IB_RECV_NOTREADY = CNCL_RET_ERR_IB_RECV_NOTREADY
} cnclResult_t;

/* A sentence about a code, which lives for ever. */
const char *cnclGetErrorStr(cnclResult_t result);
/* The version of this interface. */
cnclResult_t cnclGetLibVersion(int *major, int *minor, int *patch);

/* Types of elements. */
typedef enum {
  cnclInvalid = 0,
  cnclHalf = 0x10,
  cnclFloat16 = 0x10,
  cnclBfloat16 = 0x11,
  cnclFloat = 0x12,
  cnclFloat32 = 0x12,
  cnclInt8 = 0x20,
  cnclChar = 0x20,
  cnclInt16 = 0x21,
  cnclInt32 = 0x22,
  cnclInt = 0x22,
  cnclInt64 = 0x23,
  cnclUint8 = 0x30,
  cnclUint16 = 0x31,
  cnclUint32 = 0x32,
  cnclUint64 = 0x33
} cnclDataType_t;

/* Reductions. */
typedef enum { cnclSum = 0, cnclProd = 1, cnclMax = 2, cnclMin = 3 } cnclReduceOp_t;

/* Identity of a clique. Who has the data can join; the hash is a number of the data for tables, which is not looked at. */
typedef struct {
  char data[CNCL_CLIQUE_ID_BYTES_SIZE];
  uint64_t hash;
} cnclCliqueId;
typedef cnclCliqueId *cnclCliqueId_t;

/* A communicator. */
struct cnclComm;
typedef struct cnclComm *cnclComm_t;

/* How much a communicator's work matters. */
typedef enum {
  CNCL_PRIORITY_DEFAULT = 0,
  CNCL_PRIORITY_HIGH = 0x10,
  CNCL_PRIORITY_HIGH_FOR_ONCE = 0x11
} cnclCommPriority_t;

typedef struct {
  cnclCommPriority_t priority;
} cnclCommConfig;
typedef cnclCommConfig cnclCommConfig_t;

/* ---- Communicators ---- */

/* Makes an identity, to be passed on to those that are to take part. The process has to live until all have joined. It uses no device: a
 * process may call this before it forks its ranks. */
cnclResult_t cnclGetCliqueId(cnclCliqueId_t clique_id);
/*
 * Joins a clique of nrank ranks with num_comm of them: comms[i] is rank rank_list[i], on device dev_list[i]. Returns when all ranks are there.
 * Without an identity (NULL) all ranks are in this call: num_comm is nrank. At most 16 ranks, else CNCL_RET_ERR_UNSUPPORTED, as if devices
 * cannot reach each other; CNCL_RET_ERR_SYSTEM if a rank does not come in time, CNCL_RET_ERR_CNRT_DEVICE if there is no such device.
 */
cnclResult_t cnclInitComms(cnclComm_t *comms, int num_comm, const int *dev_list, const int *rank_list, int nrank,
                           const cnclCliqueId_t clique_id);
/* Leaves: what stands in queues goes on, what other ranks call later fails there. The second is the first for one. */
cnclResult_t cnclDestroyComms(cnclComm_t *comms, int num_comm);
cnclResult_t cnclFreeComm(cnclComm_t comm);
/* Ends the clique: calls that wait for other ranks, at any rank, and later ones fail with CNCL_RET_ASYNC_ERROR. What the communicator holds is
 * freed; its handle may still be destroyed. From any thread. */
cnclResult_t cnclAbortComm(cnclComm_t comm);
/* Ranks of the clique, this rank, and the number of its device. */
cnclResult_t cnclGetCommCount(int *count, cnclComm_t comm);
cnclResult_t cnclGetCommRank(int *rank, cnclComm_t comm);
cnclResult_t cnclGetCommDevice(int *device, cnclComm_t comm);
/* How the communicator's collectives have fared: CNCL_RET_SUCCESS if all have ended, CNCL_RET_ASYNC_IN_PROGRESS if not yet,
 * CNCL_RET_ASYNC_ERROR if one failed, its queue is in error, or the clique is of no use any more. Does not wait. */
cnclResult_t cnclGetCommAsyncError(cnclComm_t comm);
/* Checks the configuration. It changes nothing: the commands of a collective have the priority of their queue. */
cnclResult_t cnclSetCommConfig(cnclComm_t comm, const cnclCommConfig *config);

/* ---- Collectives ---- */

/* The root's memory at every rank: in place, and out of place, where other ranks' sendbuf is not looked at. */
cnclResult_t cnclBcast(void *buff, size_t count, cnclDataType_t datatype, int root, cnclComm_t comm, cnrtQueue_t queue);
cnclResult_t cnclBroadcast(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype, int root,
                           cnclComm_t comm, cnrtQueue_t queue);
/* All ranks' count elements, one after another, at every rank. */
cnclResult_t cnclAllGather(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype, cnclComm_t comm,
                           cnrtQueue_t queue);
/* The reduction of all ranks' memory, at the root; other ranks' recvbuf is not looked at. */
cnclResult_t cnclReduce(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype, cnclReduceOp_t op,
                        int root, cnclComm_t comm, cnrtQueue_t queue);
/* The same at every rank, with the same bits. */
cnclResult_t cnclAllReduce(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype,
                           cnclReduceOp_t op, cnclComm_t comm, cnrtQueue_t queue);
/* A part of it at each rank: count elements of a reduction of count times ranks. */
cnclResult_t cnclReduceScatter(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype,
                               cnclReduceOp_t op, cnclComm_t comm, cnrtQueue_t queue);
/* Part j of rank i's sendbuf becomes part i of rank j's recvbuf; parts of count elements. */
cnclResult_t cnclAlltoAll(const void *sendbuf, void *recvbuf, size_t count, cnclDataType_t datatype, cnclComm_t comm,
                          cnrtQueue_t queue);
/* The same with memory, count and type of each part on its own: rank i's part j is as many bytes as what rank j receives from i. The lists
 * have an element for each rank and may go when the call returns. */
cnclResult_t cnclAlltoAllv(const void **sendbufs, uint32_t *sendcounts, cnclDataType_t *sendtypes, void **recvbufs,
                           uint32_t *recvcounts, cnclDataType_t *recvtypes, cnclComm_t comm, cnrtQueue_t queue);

/* Between two ranks: as many bytes on both sides. A rank may send to itself in a group in which it receives too. */
cnclResult_t cnclSend(void *buff, size_t count, cnclDataType_t datatype, int dest, cnclComm_t comm, cnrtQueue_t queue);
cnclResult_t cnclRecv(void *buff, size_t count, cnclDataType_t datatype, int source, cnclComm_t comm,
                      cnrtQueue_t queue);

/*
 * What the calling thread calls between these two takes effect together when the outermost group ends, for several ranks of this thread, and
 * for sends and receives that would wait for each other. The second gives the first error; CNCL_RET_ERR_NOT_INIT if no group was begun.
 */
cnclResult_t cnclGroupStart(void);
cnclResult_t cnclGroupEnd(void);

#ifdef __cplusplus
}
#endif

#endif /* __CNCL_H */
