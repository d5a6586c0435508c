// A peer of `mlu-bench compute`: the same operators in oneDNN.
//
// Lines on its input, one answer each:
//   prepare NUMBER OPERATOR…   `ready`, or `none REASON` where oneDNN does not have the operator
//   run NUMBER COUNT           seconds of so many executions, one after the other
// Operands lie as mlu-bench has them; filters of convolutions are put into the layout that oneDNN asks for beforehand.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <dnnl.h>

enum { MOST = 512, ROOM = 72 << 20 };

struct operation {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[4];
    int count;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static struct operation operations[MOST];

// What failed last in a `prepare`.
static const char *failed;
static int ok(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success && !failed)
        failed = what;
    return status == dnnl_success;
}

static dnnl_data_type_t type_of(const char *name)
{
    static const struct {
        const char *name;
        dnnl_data_type_t type;
    } names[] = { { "f32", dnnl_f32 }, { "f16", dnnl_f16 }, { "bf16", dnnl_bf16 },
                  { "u8", dnnl_u8 },   { "s8", dnnl_s8 },   { "s32", dnnl_s32 } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name))
            return names[i].type;
    return dnnl_data_type_undef;
}

// Operand `which` of a type: numbers of usual magnitudes, the same bits as mlu-bench has.
static void *operand(dnnl_data_type_t type, int which)
{
    static struct {
        dnnl_data_type_t type;
        uint32_t *memory[2];
    } kept[8];
    if (type == dnnl_u8)
        type = dnnl_s8;
    int at = 0;
    while (kept[at].memory[0] && kept[at].type != type)
        at++;
    if (!kept[at].memory[0]) {
        kept[at].type = type;
        for (int w = 0; w < 2; w++) {
            uint32_t *to = aligned_alloc(1 << 21, ROOM);
            for (uint32_t i = 0; i < ROOM / 4; i++) {
                uint32_t j = i & ((1 << 18) - 1);
                uint32_t noise = (j * 2654435761u) ^ j >> 7;
                to[i] = type == dnnl_f32    ? 0x3f000000 | noise >> 9
                        : type == dnnl_f16  ? 0x38003800 | (noise & 0x83ff83ff)
                        : type == dnnl_bf16 ? 0x3f003f00 | (noise & 0x807f807f)
                                            : noise;
            }
            kept[at].memory[w] = to;
        }
    }
    return kept[at].memory[which];
}

static void *result(void)
{
    static void *memory;
    if (!memory) {
        memory = aligned_alloc(1 << 21, ROOM);
        memset(memory, 0, ROOM);
    }
    return memory;
}

static dnnl_memory_desc_t strided(int rank, const dnnl_dim_t *dims, const dnnl_dim_t *strides, dnnl_data_type_t type)
{
    dnnl_memory_desc_t desc = NULL;
    ok(dnnl_memory_desc_create_with_strides(&desc, rank, dims, type, strides), "describing an operand");
    return desc;
}

static dnnl_memory_desc_t matrix(dnnl_dim_t rows, dnnl_dim_t columns, dnnl_data_type_t type)
{
    dnnl_dims_t dims = { rows, columns }, strides = { columns, 1 };
    return strided(2, dims, strides, type);
}

static void bind(struct operation *operation, int argument, const_dnnl_memory_desc_t desc, void *memory)
{
    dnnl_exec_arg_t *arg = &operation->args[operation->count++];
    arg->arg = argument;
    ok(dnnl_memory_create(&arg->memory, desc, engine, memory), "making an operand");
}

static void finish(struct operation *operation, dnnl_primitive_desc_t desc, dnnl_status_t status)
{
    if (ok(status, "describing the operator"))
        ok(dnnl_primitive_create(&operation->primitive, desc), "making the operator");
}

static void matmul(struct operation *operation, char **words)
{
    dnnl_data_type_t a = type_of(words[0]), b = type_of(words[1]), to = type_of(words[2]);
    dnnl_dim_t m = atoll(words[3]), n = atoll(words[4]), k = atoll(words[5]);
    dnnl_dims_t dims = { k, n }, rows = { n, 1 }, columns = { 1, k };
    dnnl_memory_desc_t x = matrix(m, k, a), w = strided(2, dims, strcmp(words[6], "nt") ? rows : columns, b);
    dnnl_memory_desc_t y = matrix(m, n, to);
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t made = dnnl_matmul_primitive_desc_create(&desc, engine, x, w, NULL, y, NULL);
    finish(operation, desc, made);
    bind(operation, DNNL_ARG_SRC, x, operand(a, 0));
    bind(operation, DNNL_ARG_WEIGHTS, w, operand(b, 1));
    bind(operation, DNNL_ARG_DST, y, result());
}

// Puts an operand into the layout that the operator asks for.
static void prepared(struct operation *operation, int argument, dnnl_memory_desc_t from, const_dnnl_memory_desc_t to, void *memory)
{
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    bind(operation, argument, to, DNNL_MEMORY_ALLOCATE);
    if (failed || !ok(dnnl_memory_create(&source, from, engine, memory), "making a filter")
        || !ok(dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, NULL), "describing a layout")
        || !ok(dnnl_primitive_create(&reorder, desc), "making a layout"))
        return;
    dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, source }, { DNNL_ARG_TO, operation->args[operation->count - 1].memory } };
    ok(dnnl_primitive_execute(reorder, stream, 2, args), "changing a layout");
    dnnl_stream_wait(stream);
}

static dnnl_memory_desc_t map(dnnl_dim_t n, dnnl_dim_t c, dnnl_dim_t size, dnnl_data_type_t type)
{
    dnnl_dims_t dims = { n, c, size, size }, strides = { size * size * c, 1, size * c, c };
    return strided(4, dims, strides, type);
}

static void convolution(struct operation *operation, char **words)
{
    dnnl_data_type_t type = type_of(words[0]), to = type_of(words[1]);
    dnnl_dim_t c = atoll(words[2]), o = atoll(words[3]), size = atoll(words[4]), taps = atoll(words[5]), stride = atoll(words[6]);
    dnnl_dim_t out = (size - 1) / stride + 1, pad = taps / 2, end = (out - 1) * stride + taps - size - pad;
    dnnl_dims_t strides = { stride, stride }, dilation = { 0, 0 }, before = { pad, pad }, after = { end, end };
    dnnl_dims_t filter = { o, c, taps, taps };
    // Bytes: unsigned maps, as quantised networks have them behind an activation, and signed filters.
    dnnl_memory_desc_t x = map(1, c, size, type), y = map(1, o, out, to), w = map(o, c, taps, words[1][0] == 's' ? dnnl_s8 : type), any = NULL;
    if (words[1][0] == 's')
        type = dnnl_s8;
    ok(dnnl_memory_desc_create_with_tag(&any, 4, filter, type, dnnl_format_tag_any), "describing a filter");
    dnnl_primitive_desc_t forward = NULL, desc = NULL;
    int training = strcmp(words[7], "forward");
    if (!ok(dnnl_convolution_forward_primitive_desc_create(&forward, engine, training ? dnnl_forward_training : dnnl_forward_inference,
                dnnl_convolution_direct, x, any, NULL, y, strides, dilation, before, after, NULL), "describing the operator"))
        return;
    if (!training) {
        finish(operation, forward, dnnl_success);
        bind(operation, DNNL_ARG_SRC, x, operand(type_of(words[0]), 0));
        prepared(operation, DNNL_ARG_WEIGHTS, w, dnnl_primitive_desc_query_md(forward, dnnl_query_weights_md, 0), operand(type, 1));
        bind(operation, DNNL_ARG_DST, y, result());
    } else if (!strcmp(words[7], "data")) {
        dnnl_status_t made = dnnl_convolution_backward_data_primitive_desc_create(&desc, engine, dnnl_convolution_direct, x, any, y,
            strides, dilation, before, after, forward, NULL);
        finish(operation, desc, made);
        if (!desc)
            return;
        bind(operation, DNNL_ARG_DIFF_DST, y, operand(type, 0));
        prepared(operation, DNNL_ARG_WEIGHTS, w, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0), operand(type, 1));
        bind(operation, DNNL_ARG_DIFF_SRC, x, result());
    } else {
        dnnl_status_t made = dnnl_convolution_backward_weights_primitive_desc_create(&desc, engine, dnnl_convolution_direct, x, any, NULL, y,
            strides, dilation, before, after, forward, NULL);
        finish(operation, desc, made);
        if (!desc)
            return;
        bind(operation, DNNL_ARG_SRC, x, operand(type, 0));
        bind(operation, DNNL_ARG_DIFF_DST, y, operand(type, 1));
        bind(operation, DNNL_ARG_DIFF_WEIGHTS, dnnl_primitive_desc_query_md(desc, dnnl_query_diff_weights_md, 0), DNNL_MEMORY_ALLOCATE);
    }
}

// Operators of a matrix of f32: their names are mlu-bench's.
static void of_matrix(struct operation *operation, const char *name, char **words)
{
    dnnl_dim_t rows = atoll(words[0]), columns = atoll(words[1]);
    dnnl_memory_desc_t x = matrix(rows, columns, dnnl_f32), y = matrix(rows, columns, dnnl_f32);
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t made;
    if (!strcmp(name, "softmax")) {
        made = dnnl_softmax_forward_primitive_desc_create(&desc, engine, dnnl_forward_inference, dnnl_softmax_accurate, x, y, 1, NULL);
    } else if (!strcmp(name, "layer_norm")) {
        made = dnnl_layer_normalization_forward_primitive_desc_create(&desc, engine, dnnl_forward_inference, x, y, NULL, 1e-5f,
            dnnl_use_scale | dnnl_use_shift, NULL);
    } else if (!strcmp(name, "gelu")) {
        made = dnnl_eltwise_forward_primitive_desc_create(&desc, engine, dnnl_forward_inference, dnnl_eltwise_gelu_erf, x, y, 0, 0, NULL);
    } else if (!strcmp(name, "add")) {
        made = dnnl_binary_primitive_desc_create(&desc, engine, dnnl_binary_add, x, x, y, NULL);
    } else if (!strcmp(name, "sum")) {
        y = matrix(rows, 1, dnnl_f32);
        made = dnnl_reduction_primitive_desc_create(&desc, engine, dnnl_reduction_sum, x, y, 0, 0, NULL);
    } else {
        if (!strcmp(name, "transpose")) {
            dnnl_dims_t dims = { rows, columns }, strides = { 1, rows };
            y = strided(2, dims, strides, dnnl_f32);
        } else {
            y = matrix(rows, columns, type_of(words[2]));
        }
        made = dnnl_reorder_primitive_desc_create(&desc, x, engine, y, engine, NULL);
    }
    finish(operation, desc, made);
    if (!strcmp(name, "add")) {
        bind(operation, DNNL_ARG_SRC_0, x, operand(dnnl_f32, 0));
        bind(operation, DNNL_ARG_SRC_1, x, operand(dnnl_f32, 1));
    } else {
        bind(operation, DNNL_ARG_SRC, x, operand(dnnl_f32, 0));
    }
    bind(operation, DNNL_ARG_DST, y, result());
    if (!strcmp(name, "layer_norm")) {
        dnnl_dims_t dims = { columns }, strides = { 1 };
        dnnl_memory_desc_t line = strided(1, dims, strides, dnnl_f32);
        bind(operation, DNNL_ARG_SCALE, line, operand(dnnl_f32, 1));
        bind(operation, DNNL_ARG_SHIFT, line, operand(dnnl_f32, 1));
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int execute(struct operation *operation, long count)
{
    for (long i = 0; i < count; i++)
        if (dnnl_primitive_execute(operation->primitive, stream, operation->count, operation->args) != dnnl_success)
            return 0;
    return dnnl_stream_wait(stream) == dnnl_success;
}

int main(void)
{
    char line[256], *words[16];
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success || dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) {
        fprintf(stderr, "oneDNN has no engine for this processor\n");
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        memset(words, 0, sizeof words);
        int count = 0;
        for (char *word = strtok(line, " \n"); word && count < 15; word = strtok(NULL, " \n"))
            words[count++] = word;
        int number = count > 1 ? atoi(words[1]) : -1;
        if (count < 3 || number < 0 || number >= MOST) {
            printf("none bad line\n");
        } else if (!strcmp(words[0], "prepare")) {
            struct operation *operation = &operations[number];
            failed = NULL;
            memset(operation, 0, sizeof *operation);
            // What is missing at the end of a line reads as an empty word.
            for (int i = count; i < 16; i++)
                words[i] = "";
            if (!strcmp(words[2], "matmul"))
                matmul(operation, words + 3);
            else if (!strcmp(words[2], "conv"))
                convolution(operation, words + 3);
            else if (strstr(" softmax layer_norm gelu add sum transpose cast ", words[2]))
                of_matrix(operation, words[2], words + 3);
            else
                failed = "no such operator";
            if (!failed && !execute(operation, 1))
                failed = "running it";
            if (failed)
                printf("none %s\n", failed);
            else
                printf("ready\n");
        } else {
            double start = now();
            int done = execute(&operations[number], atol(words[2]));
            printf("%.9f\n", done ? now() - start : -1.0);
        }
        fflush(stdout);
    }
    return 0;
}
