/* Proof that the numbers and structures of cncl.h are those that programs compiled before expect. It need only compile, as C11 and as C++17. */

#include "cncl.h"

#ifdef __cplusplus
#define PROOF(condition, text) static_assert(condition, text)
#else
#define PROOF(condition, text) _Static_assert(condition, text)
#endif
#define IS(name, value) PROOF((long long)(name) == (value), "number of " #name)
#define SIZE(type, size) PROOF(sizeof(type) == (size), "size of " #type)
#define AT(type, field, offset) PROOF(offsetof(type, field) == (offset), "place of " #type "." #field)

/* cnclResult_t */
IS(CNCL_RET_SUCCESS, 0);
IS(CNCL_RET_ERR_INTERNAL, 1);
IS(CNCL_RET_ERR_UNSUPPORTED, 0x11);
IS(CNCL_RET_ERR_NULL_POINTER, 0x21);
IS(CNCL_RET_ERR_BUILD_RING, 0x31);
IS(CNCL_RET_ERR_BUILD_TREE, 0x41);
IS(CNCL_RET_ERR_INIT, 0x51);
IS(CNCL_RET_ERR_NOT_INIT, 0x61);
IS(CNCL_RET_ERR_REINIT, 0x71);
IS(CNCL_RET_ERR_NO_ALGO, 0x81);
IS(CNCL_RET_ERR_INVALID_VERSION, 0x91);
IS(CNCL_RET_ERR_SYSTEM, 2);
IS(CNCL_RET_ERR_SYS_MALLOC, 0x12);
IS(CNCL_RET_ERR_SYS_SOCKET, 0x22);
IS(CNCL_RET_ERR_SYS_IBV, 0x32);
IS(CNCL_RET_ERR_MLU_RUNTIME, 3);
IS(CNCL_RET_ERR_CNRT_DEVICE, 0x13);
IS(CNCL_RET_ERR_CNRT_MEMCOPY, 0x23);
IS(CNCL_RET_ERR_CNRT_MALLOC, 0x33);
IS(CNCL_RET_ERR_MLU_DEVICE, 4);
IS(CNCL_RET_ERR_CNDEV_NODE, 0x14);
IS(CNCL_RET_ERR_CNDEV_RELATIONSHIP, 0x24);
IS(CNCL_RET_ERR_INNETWORK, 5);
IS(CNCL_RET_ERR_ARGUMENTS, 7);
IS(CNCL_RET_ERR_MLU_ALLOCATE, 8);
IS(CNCL_RET_ERR_DEALLOCATE, 0x18);
IS(CNCL_RET_ERR_IB_RECV_NOTREADY, 9);
IS(CNCL_RET_ASYNC_IN_PROGRESS, 6);
IS(CNCL_RET_ASYNC_ERROR, 0x16);
IS(CNCL_RET_ASYNC_UNKNOWN, 0x26);
IS(CNCL_RET_INTERNAL, 1);
IS(CNCL_RET_UNSUPPORTED, 0x11);
IS(CNCL_RET_NULL_POINTER, 0x21);
IS(CNCL_RET_BUILD_RING, 0x31);
IS(CNCL_RET_BUILD_TREE, 0x41);
IS(CNCL_RET_INIT, 0x51);
IS(CNCL_RET_NOT_INIT, 0x61);
IS(CNCL_RET_REINIT, 0x71);
IS(CNCL_RET_NO_ALGO, 0x81);
IS(CNCL_RET_INVALID_VERSION, 0x91);
IS(CNCL_RET_SYSTEM, 2);
IS(CNCL_RET_SYS_MALLOC, 0x12);
IS(CNCL_RET_SYS_SOCKET, 0x22);
IS(CNCL_RET_SYS_IBV, 0x32);
IS(CNCL_RET_MLU_RUNTIME, 3);
IS(CNCL_RET_CNRT_DEVICE, 0x13);
IS(CNCL_RET_CNRT_MEMCOPY, 0x23);
IS(CNCL_RET_CNRT_MALLOC, 0x33);
IS(CNCL_RET_MLU_DEVICE, 4);
IS(CNCL_RET_CNDEV_NODE, 0x14);
IS(CNCL_RET_CNDEV_RELATIONSHIP, 0x24);
IS(CNCL_RET_INNETWORK, 5);
IS(CNCL_RET_ARGUMENTS, 7);
IS(CNCL_RET_MLU_ALLOCATE, 8);
IS(CNCL_RET_DEALLOCATE, 0x18);
IS(CNCL_RET_IB_RECV_NOTREADY, 9);

/* cnclDataType_t */
IS(cnclInvalid, 0);
IS(cnclHalf, 0x10);
IS(cnclFloat16, 0x10);
IS(cnclBfloat16, 0x11);
IS(cnclFloat, 0x12);
IS(cnclFloat32, 0x12);
IS(cnclInt8, 0x20);
IS(cnclChar, 0x20);
IS(cnclInt16, 0x21);
IS(cnclInt32, 0x22);
IS(cnclInt, 0x22);
IS(cnclInt64, 0x23);
IS(cnclUint8, 0x30);
IS(cnclUint16, 0x31);
IS(cnclUint32, 0x32);
IS(cnclUint64, 0x33);

/* cnclReduceOp_t, cnclCommPriority_t */
IS(cnclSum, 0);
IS(cnclProd, 1);
IS(cnclMax, 2);
IS(cnclMin, 3);
IS(CNCL_PRIORITY_DEFAULT, 0);
IS(CNCL_PRIORITY_HIGH, 0x10);
IS(CNCL_PRIORITY_HIGH_FOR_ONCE, 0x11);

/* structures */
AT(cnclCliqueId, data, 0);
AT(cnclCliqueId, hash, 128);
SIZE(cnclCliqueId, 136);
SIZE(cnclCliqueId_t, 8);
SIZE(cnclComm_t, 8);
SIZE(cnclDataType_t, 4);
AT(cnclCommConfig, priority, 0);
SIZE(cnclCommConfig, 4);
