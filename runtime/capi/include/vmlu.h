/*
 * C interface of the virtual MLU runtime: ten functions to open a card, move data, run operators and wait.
 *
 * Link with -lvmlu. The card is the one that the kernel driver serves (/dev/mluctl), or one inside the process where there is
 * no driver; the environment variable MLU_TRANSPORT (embedded or kernel) chooses.
 *
 * Device memory is named by ordinary pointers, which the host must not dereference. Matrices and vectors are dense, row-major
 * and of 32-bit floats.
 *
 * Operators return as soon as they are queued and run in the order in which they were queued. vmlu_wait waits for all of them;
 * copies keep that order too. Every function may be called from any thread. A card that was closed, and memory that was freed,
 * are told apart from others and refused.
 *
 * Functions return VMLU_OK or the reason of the failure; vmlu_error_text tells what was asked, what was wrong and what to do.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef VMLU_H
#define VMLU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a call ended: VMLU_OK, one of these, or another code of the status table in docs/hardware.md, section 11. */
typedef enum vmlu_status {
    VMLU_OK = 0,
    VMLU_INVALID_ARGUMENT = 2,
    VMLU_BAD_HANDLE = 7,
    VMLU_OUT_OF_DEVICE_MEMORY = 8,
    VMLU_OUT_OF_HOST_MEMORY = 9,
    VMLU_ADDRESS_FAULT = 11,
    VMLU_NOT_SUPPORTED = 15,
    VMLU_BAD_OPERAND = 34,
    VMLU_DEVICE_LOST = 68,
    VMLU_INTERNAL = 255
} vmlu_status;

/* Operators of two operands, element by element. */
typedef enum vmlu_binary_op {
    VMLU_ADD = 0,
    VMLU_SUB = 1,
    VMLU_MUL = 2,
    VMLU_DIV = 3,
    VMLU_MAX = 4,
    VMLU_MIN = 5
} vmlu_binary_op;

/* An open card: an address space of its own and a queue. */
typedef struct vmlu_card vmlu_card;

/* Opens the chip with this number, counted from 0; cnmon -l lists them. Close it with vmlu_close. */
vmlu_status vmlu_open(uint32_t device, vmlu_card **card);

/* Closes a card, once the work that was queued has ended, and frees all of its memory. A null card is no error. */
vmlu_status vmlu_close(vmlu_card *card);

/* Allocates device memory; more than 0 bytes. Its contents are undefined. */
vmlu_status vmlu_alloc(vmlu_card *card, size_t bytes, void **memory);

/* Frees device memory, by the pointer that vmlu_alloc gave, once the work that was queued before has ended. Null is no error. */
vmlu_status vmlu_free(vmlu_card *card, void *memory);

/* Copies from the host to device memory; the host memory may be reused when the call returns. */
vmlu_status vmlu_copy_to_device(vmlu_card *card, void *device, const void *host, size_t bytes);

/* Copies from device memory to the host, after all that was queued before, and waits for it: fails as vmlu_wait does. */
vmlu_status vmlu_copy_to_host(vmlu_card *card, void *host, const void *device, size_t bytes);

/* Queues c = a * b: a has m rows of k floats, b has k rows of n, c has m rows of n. c overlaps neither a nor b. */
vmlu_status vmlu_matmul_f32(vmlu_card *card, size_t m, size_t n, size_t k, const void *a, const void *b, void *c);

/* Queues out[i] = op(a[i], b[i]) for count floats. out may be a or b. */
vmlu_status vmlu_binary_f32(vmlu_card *card, vmlu_binary_op op, size_t count, const void *a, const void *b, void *out);

/* Waits until all that was queued has ended. If a command failed, tells so once: those queued after it until now are not run, and
 * the card then works on. */
vmlu_status vmlu_wait(vmlu_card *card);

/* What went wrong in this thread's last call that failed; empty if none did. Valid until this thread's next call that fails. */
const char *vmlu_error_text(void);

#ifdef __cplusplus
}
#endif

#endif /* VMLU_H */
