/* Proof that the numbers and structures of cnrt.h are those that programs compiled before expect. It need only compile, as C11 and as C++17. */

#include "cnrt.h"
#include "../../../tests/neuware/proof.h"

/* cnrtRet_t */
IS(cnrtSuccess, 0);
IS(cnrtErrorNotReady, 1);
IS(cnrtErrorInit, 100002);
IS(cnrtErrorNoDevice, 100004);
IS(cnrtErrorDeviceInvalid, 100005);
IS(cnrtErrorArgsInvalid, 100006);
IS(cnrtErrorSys, 100007);
IS(cnrtErrorSysNoMem, 100010);
IS(cnrtErrorInvalidResourceHandle, 100014);
IS(cnrtErrorIllegalState, 100015);
IS(cnrtErrorNotSupport, 100050);
IS(cnrtErrorOpsNotPermitted, 100051);
IS(cnrtErrorQueue, 100060);
IS(cnrtErrorNoMem, 100100);
IS(cnrtErrorAssert, 100128);
IS(cnrtErrorKernelTrap, 100132);
IS(cnrtErrorKernelUserTrap, 100133);
IS(cnrtErrorNotFound, 100301);
IS(cnrtErrorInvalidKernel, 100302);
IS(cnrtErrorUnsupportedKernelVersion, 100303);
IS(cnrtErrorNoKernel, 101312);
IS(cnrtErrorNoModule, 101315);
IS(cnrtErrorQueueCaptureUnsupported, 100360);
IS(cnrtErrorQueueCaptureInvalidated, 100361);
IS(cnrtErrorQueueCaptureWrongThread, 100362);
IS(cnrtErrorQueueCaptureMerged, 100363);
IS(cnrtErrorQueueCaptureUnjoined, 100364);
IS(cnrtErrorQueueCaptureIsolation, 100365);
IS(cnrtErrorQueueCaptureUnmatched, 100366);
IS(cnrtErrorTaskTopoEntityUpdateFailure, 100400);
IS(cnrtErrorSetOnActiveProcess, 632002);
IS(cnrtErrorDevice, 632006);
IS(cnrtErrorNoAttribute, 632009);
IS(cnrtErrorMemcpyDirectionInvalid, 632013);
IS(cnrtErrorBusy, 632014);
IS(cnrtErrorCndrvFuncCall, 632015);
IS(cnrtErrorCndevFuncCall, 632017);
IS(cnrtErrorNoCnrtContext, 632019);
IS(cnrtErrorCndrvFuncNotFound, 632020);
IS(cnrtErrorInvalidSymbol, 632100);
IS(cnrtErrorUnknown, 999991);

/* old names */
IS(CNRT_RET_SUCCESS, 0);
IS(CNRT_MEM_TRANS_DIR_HOST2DEV, 0);
IS(CNRT_MEM_TRANS_DIR_DEV2DEV, 1);
IS(CNRT_MEM_TRANS_DIR_DEV2HOST, 2);
IS(CNRT_MEM_TRANS_DIR_HOST2HOST, 3);
IS(CNRT_MEM_TRANS_DIR_PEER2PEER, 4);
IS(CNRT_MEM_TRANS_DIR_NODIR, 5);
IS(CNRT_QUEUE_SYNC_SPIN, 0);
IS(CNRT_QUEUE_SYNC_BLOCK, 1);
IS(CNRT_QUEUE_SYNC_YIELD, 2);
IS(CNRT_FUNC_TYPE_BLOCK, 1);
IS(CNRT_FUNC_TYPE_UNION1, 4);
IS(CNRT_FUNC_TYPE_UNION2, 8);
IS(CNRT_FUNC_TYPE_UNION4, 16);
IS(CNRT_FUNC_TYPE_UNION8, 32);
IS(CNRT_FUNC_TYPE_UNION16, 64);
IS(CNRT_FUNC_TYPE_MUTABLE, -1);

/* cnrtFunctionType_t */
IS(cnrtFuncTypeBlock, 1);
IS(cnrtFuncTypeBlock0, 1);
IS(cnrtFuncTypeBlock1, 2);
IS(cnrtFuncTypeUnion1, 4);
IS(cnrtFuncTypeUnion2, 8);
IS(cnrtFuncTypeUnion4, 16);
IS(cnrtFuncTypeUnion8, 32);
IS(cnrtFuncTypeUnion16, 64);
IS(cnrtFuncTypeMutable, -1);

/* cnrtMemTransDir_t */
IS(cnrtMemcpyHostToDev, 0);
IS(cnrtMemcpyDevToDev, 1);
IS(cnrtMemcpyDevToHost, 2);
IS(cnrtMemcpyHostToHost, 3);
IS(cnrtMemcpyPeerToPeer, 4);
IS(cnrtMemcpyNoDirection, 5);

/* cnrtMemType_t, cnrtUvaCacheMode_t */
IS(cnrtMemTypeUnregistered, 0);
IS(cnrtMemTypeHost, 1);
IS(cnrtMemTypeDevice, 2);
IS(cnrtUvaNotSupport, -1);
IS(cnrtUvaUnknown, 0);
IS(cnrtUvaUnCached, 1);
IS(cnrtUvaCached, 2);

/* devices */
IS(cnrtComputeModeDefault, 0);
IS(cnrtComputeModeExclusiveProcess, 1);
IS(cnrtDeviceScheduleSpin, 0);
IS(cnrtDeviceScheduleBlock, 1);
IS(cnrtDeviceScheduleYield, 2);
IS(cnrtDeviceScheduleAuto, 3);
IS(cnrtDeviceConfigReserved, 0);
IS(cnrtDeviceConfigPrintfFifoNum, 1);
IS(cnrtDeviceConfigMaxPersistingL2CacheSize, 2);
IS(cnrtDeviceConfigPrintfFifoSize, 3);
IS(cnrtDevP2PAttrAccessSupported, 0);
IS(cnrtDevP2PAttrNativeAtomicSupported, 1);

/* notifiers */
IS(CNRT_NOTIFIER_DEFAULT, 0);
IS(CNRT_NOTIFIER_DISABLE_TIMING, 2);
IS(CNRT_NOTIFIER_DISABLE_TIMING_SW, 2);
IS(CNRT_NOTIFIER_DISABLE_TIMING_ALL, 4);
IS(CNRT_NOTIFIER_INTERPROCESS, 8);
IS(CNRT_NOTIFIER_PLACE_DEFAULT, 0);
IS(CNRT_NOTIFIER_PLACE_EXTERNAL, 1);
IS(CNRT_NOTIFIER_WAIT_DEFAULT, 0);
IS(CNRT_NOTIFIER_WAIT_EXTERNAL, 1);

/* caches, captures, attributes */
IS(CNRT_FLUSH_CACHE, 1);
IS(CNRT_INVALID_CACHE, 2);
IS(cnrtQueueCaptureStatusNone, 0);
IS(cnrtQueueCaptureStatusActive, 1);
IS(cnrtQueueCaptureStatusInvalidated, 2);
IS(cnrtQueueCaptureModeGlobal, 0);
IS(cnrtQueueCaptureModeThreadLocal, 1);
IS(cnrtQueueCaptureModeRelaxed, 2);
IS(cnrtQueueAddCaptureDependencies, 0);
IS(cnrtQueueSetCaptureDependencies, 1);
IS(cnrtInvokeAttributeEmpty, 0);
IS(cnrtInvokeAttributeAccessPolicyWindow, 1);

/* cnrtMemPoolAttr_t */
IS(cnrtMemPoolAttrReuseFollowNotifierDependencies, 1);
IS(cnrtMemPoolAttrReuseAllowOpportunistic, 2);
IS(cnrtMemPoolAttrReuseAllowInternalDependencies, 3);
IS(cnrtMemPoolAttrReleaseThreshold, 4);
IS(cnrtMemPoolAttrReservedMemCurrent, 5);
IS(cnrtMemPoolAttrReservedMemHigh, 6);
IS(cnrtMemPoolAttrUsedMemCurrent, 7);
IS(cnrtMemPoolAttrUsedMemHigh, 8);

/* cnrtDataType_t */
IS(cnrtInvalid, 0);
IS(cnrtFloat16, 0x12);
IS(cnrtFloat32, 0x13);
IS(cnrtFloat64, 0x14);
IS(cnrtInt4, 0x20);
IS(cnrtInt8, 0x21);
IS(cnrtInt16, 0x22);
IS(cnrtInt32, 0x23);
IS(cnrtInt64, 0x24);
IS(cnrtAuto, 0x25);
IS(cnrtUInt8, 0x31);
IS(cnrtUInt16, 0x32);
IS(cnrtUInt32, 0x33);
IS(cnrtFix8, 0x41);
IS(cnrtQuant8, 0x51);
IS(cnrtBool, 0x61);

/* cnrtDataType_V2_t */
IS(cnrtUnknown, 0);
IS(cnrtDouble, 1);
IS(cnrtFloat, 2);
IS(cnrtHalf, 3);
IS(cnrtBfloat, 4);
IS(cnrtUlonglong, 0x11);
IS(cnrtUint, 0x12);
IS(cnrtUshort, 0x13);
IS(cnrtUchar, 0x14);
IS(cnrtLonglong, 0x21);
IS(cnrtInt, 0x22);
IS(cnrtShort, 0x23);
IS(cnrtChar, 0x24);
IS(cnrtBoolean, 0x31);

/* cnrtRoundingMode_t */
IS(cnrtRounding_rn, 0);
IS(cnrtRounding_rz, 1);
IS(cnrtRounding_rd, 2);
IS(cnrtRounding_ru, 3);
IS(cnrtRounding_ro, 4);
IS(cnrtRounding_rm, 5);

/* cnrtDeviceAttr_t */
IS(cnrtAttrComputeCapabilityMajor, 0x01);
IS(cnrtAttrComputeCapabilityMinor, 0x02);
IS(cnrtAttrSparseComputingSupported, 0x03);
IS(cnrtAttrFP16ComputingSupported, 0x04);
IS(cnrtAttrINT4ComputingSupported, 0x05);
IS(cnrtAttrINT8ComputingSupported, 0x06);
IS(cnrtAttrBF16ComputingSupported, 0x07);
IS(cnrtAttrTF32ComputingSupported, 0x08);
IS(cnrtAttrComputeMode, 0x09);
IS(cnrtAttrQueueSize, 0x101);
IS(cnrtAttrNotifierSize, 0x102);
IS(cnrtAttrSupportQueuePriorities, 0x103);
IS(cnrtAttrTinyCoreSupported, 0x104);
IS(cnrtAttrCodecJPEGSupported, 0x105);
IS(cnrtAttrCodecH264Supported, 0x106);
IS(cnrtAttrCodecH265Supported, 0x107);
IS(cnrtAttrAIIspCoreSupported, 0x108);
IS(cnrtAttrMultiCtxNotifierWaitSupported, 0x109);
IS(cnrtAttrIPCNotifierSupported, 0x10a);
IS(cnrtAttrMaxDimX, 0x201);
IS(cnrtAttrMaxDimY, 0x202);
IS(cnrtAttrMaxDimZ, 0x203);
IS(cnrtAttrMaxClusterCountPerUnionTask, 0x204);
IS(cnrtAttrClusterCount, 0x205);
IS(cnrtAttrMcorePerCluster, 0x206);
IS(cnrtAttrMaxQuadrantCount, 0x207);
IS(cnrtAttrMaxUnionTypePerQuadrant, 0x208);
IS(cnrtAttrMaxClusterPerUnionLimitTask, 0x209);
IS(cnrtAttrISAVersion, 0x20a);
IS(cnrtAttrIsMultipleTensorProcessor, 0x20b);
IS(cnrtAttrMaxL2CacheSize, 0x301);
IS(cnrtAttrNramSizePerMcore, 0x302);
IS(cnrtAttrWramSizePerMcore, 0x303);
IS(cnrtAttrTotalConstMemorySize, 0x304);
IS(cnrtAttrLmemSizePerMcore, 0x305);
IS(cnrtAttrSramSizePerMcore, 0x306);
IS(cnrtAttrGlobalMemoryNodeCount, 0x307);
IS(cnrtAttrMaxPersistingL2CacheSize, 0x309);
IS(cnrtAttrAvailableGlobalMemorySize, 0x312);
IS(cnrtAttrEccEnable, 0x401);
IS(cnrtAttrIpuClockRate, 0x402);
IS(cnrtAttrMemClockRate, 0x403);
IS(cnrtAttrGmemBusWidth, 0x404);
IS(cnrtAttrTotalMemSize, 0x405);
IS(cnrtAttrPciBusID, 0x406);
IS(cnrtAttrPciDeviceID, 0x407);
IS(cnrtAttrPciDomainID, 0x408);
IS(cnrtAttrMDRMemorySize, 0x409);
IS(cnrtAttrUnsupportedFlag, 0xffffff);

/* cnrtDeviceProp_t */
AT(cnrtDeviceProp_t, name, 0);
AT(cnrtDeviceProp_t, totalMem, 256);
AT(cnrtDeviceProp_t, maxDim, 260);
AT(cnrtDeviceProp_t, ipuClockRate, 272);
AT(cnrtDeviceProp_t, memClockRate, 276);
AT(cnrtDeviceProp_t, totalConstMem, 280);
AT(cnrtDeviceProp_t, major, 284);
AT(cnrtDeviceProp_t, minor, 288);
AT(cnrtDeviceProp_t, ECCEnabled, 292);
AT(cnrtDeviceProp_t, pciBusID, 296);
AT(cnrtDeviceProp_t, pciDeviceID, 300);
AT(cnrtDeviceProp_t, pciDomainID, 304);
AT(cnrtDeviceProp_t, maxL2CacheSize, 308);
AT(cnrtDeviceProp_t, persistingL2CacheMaxSize, 312);
AT(cnrtDeviceProp_t, queuePrioritiesSupported, 316);
AT(cnrtDeviceProp_t, sparseComputingSupported, 320);
AT(cnrtDeviceProp_t, FP16ComputingSupported, 324);
AT(cnrtDeviceProp_t, INT4ComputingSupported, 328);
AT(cnrtDeviceProp_t, INT8ComputingSupported, 332);
AT(cnrtDeviceProp_t, BF16ComputingSupported, 336);
AT(cnrtDeviceProp_t, TF32ComputingSupported, 340);
AT(cnrtDeviceProp_t, maxQueueSize, 344);
AT(cnrtDeviceProp_t, maxNotifierSize, 348);
AT(cnrtDeviceProp_t, tinyCoreSupported, 352);
AT(cnrtDeviceProp_t, codecJPEGSupported, 356);
AT(cnrtDeviceProp_t, codecH264Supported, 360);
AT(cnrtDeviceProp_t, codecH265Supported, 364);
AT(cnrtDeviceProp_t, maxClusterCountPerUnionTask, 368);
AT(cnrtDeviceProp_t, clusterCount, 372);
AT(cnrtDeviceProp_t, McorePerCluster, 376);
AT(cnrtDeviceProp_t, maxQuadrantCount, 380);
AT(cnrtDeviceProp_t, maxUnionTypePerQuadrant, 384);
AT(cnrtDeviceProp_t, maxClusterPerUnionLimitTask, 388);
AT(cnrtDeviceProp_t, ISAVersion, 392);
AT(cnrtDeviceProp_t, isMultipleTensorProcessor, 396);
AT(cnrtDeviceProp_t, NramSizePerMcore, 400);
AT(cnrtDeviceProp_t, WramSizePerMcore, 404);
AT(cnrtDeviceProp_t, LmemSizePerMcore, 408);
AT(cnrtDeviceProp_t, SramSizePerMcore, 412);
AT(cnrtDeviceProp_t, globalMemoryNodeCount, 416);
AT(cnrtDeviceProp_t, cacheSize, 420);
AT(cnrtDeviceProp_t, GmemBusWidth, 424);
AT(cnrtDeviceProp_t, computeMode, 428);
AT(cnrtDeviceProp_t, MDRMemorySize, 432);
AT(cnrtDeviceProp_t, availableGlobalMemorySize, 436);
AT(cnrtDeviceProp_t, uuid, 440);
AT(cnrtDeviceProp_t, totalGlobalMemSize, 456);
AT(cnrtDeviceProp_t, reserved, 464);
SIZE(cnrtDeviceProp_t, 584);

/* other structures */
AT(cnrtPointerAttributes_t, type, 0);
AT(cnrtPointerAttributes_t, device, 4);
AT(cnrtPointerAttributes_t, size, 8);
AT(cnrtPointerAttributes_t, devicePointer, 16);
AT(cnrtPointerAttributes_t, hostPointer, 24);
AT(cnrtPointerAttributes_t, cacheMode, 32);
AT(cnrtPointerAttributes_t, deviceBasePointer, 40);
SIZE(cnrtPointerAttributes_t, 48);
AT(cnrtDim3_t, x, 0);
AT(cnrtDim3_t, y, 4);
AT(cnrtDim3_t, z, 8);
SIZE(cnrtDim3_t, 12);
AT(cnrtPos_t, x, 0);
AT(cnrtPos_t, y, 8);
AT(cnrtPos_t, z, 16);
SIZE(cnrtPos_t, 24);
AT(cnrtPitchedPtr_t, pitch, 0);
AT(cnrtPitchedPtr_t, ptr, 8);
AT(cnrtPitchedPtr_t, xsize, 16);
AT(cnrtPitchedPtr_t, ysize, 24);
SIZE(cnrtPitchedPtr_t, 32);
AT(cnrtExtent_t, depth, 0);
AT(cnrtExtent_t, height, 8);
AT(cnrtExtent_t, width, 16);
SIZE(cnrtExtent_t, 24);
AT(cnrtMemcpy3dParam_t, dst, 0);
AT(cnrtMemcpy3dParam_t, dstPos, 8);
AT(cnrtMemcpy3dParam_t, dstPtr, 32);
AT(cnrtMemcpy3dParam_t, extent, 64);
AT(cnrtMemcpy3dParam_t, dir, 88);
AT(cnrtMemcpy3dParam_t, src, 96);
AT(cnrtMemcpy3dParam_t, srcPos, 104);
AT(cnrtMemcpy3dParam_t, srcPtr, 128);
SIZE(cnrtMemcpy3dParam_t, 160);
AT(cnrtIpcNotifierHandle, res, 0);
SIZE(cnrtIpcNotifierHandle, 64);
AT(cnrtMemPoolProps_t, type, 0);
AT(cnrtMemPoolProps_t, requestedHandleTypes, 4);
AT(cnrtMemPoolProps_t, location, 8);
AT(cnrtMemPoolProps_t, maxSize, 16);
AT(cnrtMemPoolProps_t, reserved, 24);
SIZE(cnrtMemPoolProps_t, 88);
SIZE(cnrtIpcMemHandle, 8);
SIZE(cnrtUUID_t, 16);
AT(cnrtMemAccessDesc_t, location, 0);
AT(cnrtMemAccessDesc_t, flags, 8);
SIZE(cnrtMemAccessDesc_t, 12);
