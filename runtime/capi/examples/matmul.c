/*
 * Multiplies two matrices on the card, adds a third, and checks the result on the host.
 *
 *     cargo build --release -p vmlu-capi
 *     cc -std=c11 -I runtime/capi/include runtime/capi/examples/matmul.c -L target/release -lvmlu -Wl,-rpath,target/release -lm
 *     ./a.out
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmlu.h"

enum { M = 37, N = 53, K = 64 };

/* Ends the program if a call failed. */
static void check(vmlu_status status, const char *what)
{
    if (status != VMLU_OK) {
        fprintf(stderr, "%s: status %d: %s\n", what, (int)status, vmlu_error_text());
        exit(1);
    }
}

/* A small number that differs from place to place. */
static float value(int row, int column)
{
    return (float)((row * 7 + column * 13) % 17 - 8) / 8.0f;
}

int main(void)
{
    static float a[M][K], b[K][N], bias[M][N], out[M][N];
    vmlu_card *card = NULL;
    void *da = NULL, *db = NULL, *dbias = NULL, *dout = NULL;
    double worst = 0.0;
    int i, j, k;

    for (i = 0; i < M; i++)
        for (k = 0; k < K; k++)
            a[i][k] = value(i, k);
    for (k = 0; k < K; k++)
        for (j = 0; j < N; j++)
            b[k][j] = value(k, j + 3);
    for (i = 0; i < M; i++)
        for (j = 0; j < N; j++)
            bias[i][j] = value(i + 5, j);

    check(vmlu_open(0, &card), "open card 0");
    check(vmlu_alloc(card, sizeof a, &da), "allocate a");
    check(vmlu_alloc(card, sizeof b, &db), "allocate b");
    check(vmlu_alloc(card, sizeof bias, &dbias), "allocate bias");
    check(vmlu_alloc(card, sizeof out, &dout), "allocate out");
    check(vmlu_copy_to_device(card, da, a, sizeof a), "copy a");
    check(vmlu_copy_to_device(card, db, b, sizeof b), "copy b");
    check(vmlu_copy_to_device(card, dbias, bias, sizeof bias), "copy bias");

    check(vmlu_matmul_f32(card, M, N, K, da, db, dout), "multiply");
    check(vmlu_binary_f32(card, VMLU_ADD, (size_t)M * N, dout, dbias, dout), "add");
    check(vmlu_wait(card), "wait");

    check(vmlu_copy_to_host(card, out, dout, sizeof out), "copy out");
    check(vmlu_free(card, dout), "free out");
    check(vmlu_close(card), "close");

    for (i = 0; i < M; i++) {
        for (j = 0; j < N; j++) {
            double want = bias[i][j];
            for (k = 0; k < K; k++)
                want += (double)a[i][k] * b[k][j];
            if (!(fabs(out[i][j] - want) <= worst))
                worst = fabs(out[i][j] - want);
        }
    }
    printf("%d x %d x %d: largest difference from the host: %g\n", M, N, K, worst);
    return worst < 1e-4 ? 0 : 1;
}
