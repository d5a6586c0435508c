/*
 * Wrong calls: each is refused with its code and a text that names the call, and the card works on.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmlu.h"

static int failures;

static void expect(const char *what, vmlu_status got, vmlu_status want, const char *text)
{
    if (got != want || (want != VMLU_OK && strstr(vmlu_error_text(), text) == NULL)) {
        printf("%s: got %d (%s), wanted %d (%s)\n", what, (int)got, vmlu_error_text(), (int)want, text);
        failures++;
    }
}

#define EXPECT(call, want, text) expect(#call, call, want, text)

int main(void)
{
    vmlu_card *card = NULL, *other = NULL, *closed;
    void *a = NULL, *b = NULL, *foreign = NULL;
    float host[16] = {0};
    int i;

    if (vmlu_error_text()[0] != '\0') {
        printf("a text before any failure\n");
        failures++;
    }

    EXPECT(vmlu_open(0, NULL), VMLU_INVALID_ARGUMENT, "vmlu_open: ");
    if (vmlu_open(1000, &card) == VMLU_OK || card != NULL || strstr(vmlu_error_text(), "1000") == NULL) {
        printf("opened chip 1000: %s\n", vmlu_error_text());
        failures++;
    }
    EXPECT(vmlu_alloc(NULL, 64, &a), VMLU_INVALID_ARGUMENT, "vmlu_alloc: the card is null");
    EXPECT(vmlu_free(NULL, NULL), VMLU_INVALID_ARGUMENT, "vmlu_free: the card is null");
    EXPECT(vmlu_copy_to_device(NULL, NULL, host, 4), VMLU_INVALID_ARGUMENT, "the card is null");
    EXPECT(vmlu_copy_to_host(NULL, host, NULL, 4), VMLU_INVALID_ARGUMENT, "the card is null");
    EXPECT(vmlu_matmul_f32(NULL, 1, 1, 1, NULL, NULL, NULL), VMLU_INVALID_ARGUMENT, "the card is null");
    EXPECT(vmlu_binary_f32(NULL, VMLU_ADD, 1, NULL, NULL, NULL), VMLU_INVALID_ARGUMENT, "the card is null");
    EXPECT(vmlu_wait(NULL), VMLU_INVALID_ARGUMENT, "vmlu_wait: the card is null");
    EXPECT(vmlu_close(NULL), VMLU_OK, "");
    EXPECT(vmlu_close((vmlu_card *)host), VMLU_BAD_HANDLE, "vmlu_close: the card is not open");

    EXPECT(vmlu_open(0, &card), VMLU_OK, "");
    EXPECT(vmlu_open(0, &other), VMLU_OK, "");
    EXPECT(vmlu_alloc(card, 0, &a), VMLU_INVALID_ARGUMENT, "0 bytes");
    EXPECT(vmlu_alloc(card, 64, NULL), VMLU_INVALID_ARGUMENT, "is null");
    EXPECT(vmlu_alloc(card, (size_t)30 << 30, &a), VMLU_OUT_OF_DEVICE_MEMORY, "device memory");
    EXPECT(vmlu_alloc(card, sizeof host, &a), VMLU_OK, "");
    EXPECT(vmlu_alloc(card, sizeof host, &b), VMLU_OK, "");
    EXPECT(vmlu_alloc(other, sizeof host, &foreign), VMLU_OK, "");

    EXPECT(vmlu_free(card, host), VMLU_INVALID_ARGUMENT, "no memory of this card begins");
    EXPECT(vmlu_free(card, (char *)a + 4), VMLU_INVALID_ARGUMENT, "no memory of this card begins");
    EXPECT(vmlu_free(card, NULL), VMLU_OK, "");
    EXPECT(vmlu_copy_to_device(card, a, NULL, 4), VMLU_INVALID_ARGUMENT, "the host memory is null");
    EXPECT(vmlu_copy_to_device(card, NULL, host, 4), VMLU_ADDRESS_FAULT, "the device memory is null");
    EXPECT(vmlu_copy_to_device(card, NULL, NULL, 0), VMLU_OK, "");
    EXPECT(vmlu_copy_to_device(card, a, host, sizeof host + 1), VMLU_ADDRESS_FAULT, "needs 65 bytes");
    EXPECT(vmlu_copy_to_device(card, a, host, (size_t)-1), VMLU_INVALID_ARGUMENT, "more than any host memory");
    EXPECT(vmlu_copy_to_host(card, host, (char *)a + 60, 8), VMLU_ADDRESS_FAULT, "needs 8 bytes");
    EXPECT(vmlu_binary_f32(card, (vmlu_binary_op)6, 1, a, a, a), VMLU_INVALID_ARGUMENT, "operator 6");
    EXPECT(vmlu_binary_f32(card, VMLU_ADD, 17, a, a, a), VMLU_ADDRESS_FAULT, "needs 68 bytes");
    EXPECT(vmlu_binary_f32(card, VMLU_ADD, (size_t)-1, a, a, a), VMLU_INVALID_ARGUMENT, "larger than any memory");
    EXPECT(vmlu_binary_f32(card, VMLU_ADD, 1, a, host, a), VMLU_ADDRESS_FAULT, "b at");
    EXPECT(vmlu_matmul_f32(card, 5, 4, 4, a, b, b), VMLU_ADDRESS_FAULT, "a at");
    EXPECT(vmlu_matmul_f32(card, 2, 2, 2, a, b, a), VMLU_BAD_OPERAND, "matmul");

    /* Another card's memory is not this card's. */
    EXPECT(vmlu_copy_to_host(card, host, foreign, 4), VMLU_ADDRESS_FAULT, "");

    /* And after all that it computes. */
    for (i = 0; i < 16; i++)
        host[i] = (float)i;
    EXPECT(vmlu_copy_to_device(card, a, host, sizeof host), VMLU_OK, "");
    EXPECT(vmlu_binary_f32(card, VMLU_MUL, 16, a, a, b), VMLU_OK, "");
    EXPECT(vmlu_binary_f32(card, VMLU_SUB, 15, (char *)b + 4, b, a), VMLU_OK, "");
    EXPECT(vmlu_copy_to_host(card, host, a, 15 * sizeof host[0]), VMLU_OK, "");
    for (i = 0; i < 15; i++) {
        if (host[i] != (float)(2 * i + 1)) {
            printf("element %d is %g\n", i, (double)host[i]);
            failures++;
        }
    }
    EXPECT(vmlu_wait(card), VMLU_OK, "");
    EXPECT(vmlu_free(card, a), VMLU_OK, "");
    EXPECT(vmlu_free(card, a), VMLU_INVALID_ARGUMENT, "once");
    closed = card;
    EXPECT(vmlu_close(card), VMLU_OK, "");
    EXPECT(vmlu_wait(closed), VMLU_BAD_HANDLE, "is not open");
    EXPECT(vmlu_close(other), VMLU_OK, "");

    if (failures == 0)
        printf("all refused as they should be\n");
    return failures != 0;
}
