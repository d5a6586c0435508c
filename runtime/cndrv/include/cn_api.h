/*
 * cn_api.h - the driver interface of the virtual MLU, under the vendor's names.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef CN_API_H_
#define CN_API_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CN_SUCCESS = 0 } CNresult;

CNresult cnInit(unsigned int flags);

#ifdef __cplusplus
}
#endif

#endif /* CN_API_H_ */
