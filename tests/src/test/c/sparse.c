// Every operator of ggml's CPU back end that takes quantised weights, on the 2:4 sparse types, against sums in double over the weights as
// they come back from the blocks; the quantisers' promises on several kinds of rows; and what must be refused. Prints one line per case:
// name, error, and the largest error that is allowed; SparseTypesTest judges.
#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "gguf.h"
#include "s24.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" // ggml_add1

static const enum ggml_type types[] = { GGML_TYPE_S24_Q4, GGML_TYPE_S24_Q8, GGML_TYPE_S24_T };

static uint64_t state;

static double uniform(void) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double) ((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static void fill(float * x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float) (2 * uniform() - 1);
    }
}

// Activations that Q8_S24 holds exactly: whole numbers up to 127 in every 32, 127 among them, times a power of two.
static void fill_whole(float * x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float) (i % 32 == 0 ? 127 : floor(255 * uniform()) - 127) / 64;
    }
}

static void * allocate(size_t bytes) {
    void * p = calloc(1, bytes);
    if (p == NULL) {
        fprintf(stderr, "out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

static void report(const char * what, enum ggml_type type, int threads, double error, double bound) {
    printf("%s %s threads=%d %.3g %.3g\n", what, ggml_type_name(type), threads, error, bound);
}

// A graph of one result over weights in a type and other inputs.
typedef struct {
    struct ggml_context * ctx;
    ggml_backend_t        backend;
    ggml_backend_buffer_t buffer;
} graph;

static graph begin(ggml_backend_t backend) {
    struct ggml_init_params params = { 64 * ggml_tensor_overhead() + ggml_graph_overhead(), NULL, true };
    return (graph) { ggml_init(params), backend, NULL };
}

static void place(graph * g) {
    g->buffer = ggml_backend_alloc_ctx_tensors(g->ctx, g->backend);
}

static void * compute(graph * g, struct ggml_tensor * result) {
    struct ggml_cgraph * nodes = ggml_new_graph(g->ctx);
    ggml_build_forward_expand(nodes, result);
    if (!ggml_backend_supports_op(g->backend, result) || ggml_backend_graph_compute(g->backend, nodes) != GGML_STATUS_SUCCESS) {
        fprintf(stderr, "%s was not computed\n", ggml_op_name(result->op));
        exit(1);
    }
    void * bytes = allocate(ggml_nbytes(result));
    ggml_backend_tensor_get(result, bytes, 0, ggml_nbytes(result));
    return bytes;
}

static void end(graph * g) {
    ggml_backend_buffer_free(g->buffer);
    ggml_free(g->ctx);
}

// Random weights in blocks, and what they are as floats.
static void * weights(enum ggml_type type, int64_t k, int64_t rows, float * values) {
    fill(values, k * rows);
    void * blocks = allocate(rows * ggml_row_size(type, k));
    ggml_quantize_chunk(type, values, blocks, 0, rows, k, NULL);
    ggml_get_type_traits(type)->to_float(blocks, values, k * rows);
    return blocks;
}

// [k, m, 2, 1] times [k, n, 4, 2]: matrices of weights serve several of activations.
static void mul_mat(ggml_backend_t backend, int threads, enum ggml_type type, int64_t m, int64_t n, int64_t k) {
    float * w = allocate(2 * m * k * sizeof(float)), * x = allocate(8 * n * k * sizeof(float));
    void * blocks = weights(type, k, 2 * m, w);
    fill_whole(x, 8 * n * k);
    graph g = begin(backend);
    struct ggml_tensor * a = ggml_new_tensor_3d(g.ctx, type, k, m, 2), * b = ggml_new_tensor_4d(g.ctx, GGML_TYPE_F32, k, n, 4, 2);
    struct ggml_tensor * c = ggml_mul_mat(g.ctx, a, b);
    place(&g);
    ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, x, 0, ggml_nbytes(b));
    float * got = compute(&g, c);
    double error = 0, bound = 0;
    for (int64_t i = 0; i < 8; i++) {
        for (int64_t j = 0; j < n; j++) {
            for (int64_t row = 0; row < m; row++) {
                double sum = 0, size = 0;
                for (int64_t at = 0; at < k; at++) {
                    const double product = (double) w[(i % 4 / 2 * m + row) * k + at] * x[(i * n + j) * k + at];
                    sum += product;
                    size += fabs(product);
                }
                const double off = fabs(sum - got[(i * n + j) * m + row]);
                error = isnan(off) ? INFINITY : fmax(error, off);
                bound = fmax(bound, size * 1e-6);
            }
        }
    }
    char what[64];
    snprintf(what, sizeof(what), "mul_mat m=%d n=%d k=%d", (int) m, (int) n, (int) k);
    report(what, type, threads, error, bound);
    end(&g);
    free(w); free(x); free(blocks); free(got);
}

// 5 experts, of which each of n tokens uses 2; one column of activations for both, or `apart` for each.
static void mul_mat_id(ggml_backend_t backend, int threads, enum ggml_type type, int64_t n, bool apart) {
    enum { K = 512, M = 37, EXPERTS = 5, USED = 2 };
    const int64_t columns = apart ? USED : 1;
    float * w = allocate(EXPERTS * M * K * sizeof(float)), * x = allocate(n * columns * K * sizeof(float));
    void * blocks = weights(type, K, EXPERTS * M, w);
    fill_whole(x, n * columns * K);
    int32_t * ids = allocate(n * USED * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) {
        ids[USED * i] = (int32_t) (uniform() * EXPERTS);
        ids[USED * i + 1] = (ids[USED * i] + 1 + (int32_t) (uniform() * (EXPERTS - 1))) % EXPERTS;
    }
    graph g = begin(backend);
    struct ggml_tensor * a = ggml_new_tensor_3d(g.ctx, type, K, M, EXPERTS), * b = ggml_new_tensor_3d(g.ctx, GGML_TYPE_F32, K, columns, n);
    struct ggml_tensor * which = ggml_new_tensor_2d(g.ctx, GGML_TYPE_I32, USED, n), * c = ggml_mul_mat_id(g.ctx, a, b, which);
    place(&g);
    ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, x, 0, ggml_nbytes(b));
    ggml_backend_tensor_set(which, ids, 0, ggml_nbytes(which));
    float * got = compute(&g, c);
    double error = 0, bound = 0;
    for (int64_t i = 0; i < n * USED; i++) {
        for (int64_t row = 0; row < M; row++) {
            double sum = 0, size = 0;
            for (int64_t at = 0; at < K; at++) {
                const double product = (double) w[(ids[i] * M + row) * K + at] * x[(apart ? i : i / USED) * K + at];
                sum += product;
                size += fabs(product);
            }
            const double off = fabs(sum - got[i * M + row]);
            error = isnan(off) ? INFINITY : fmax(error, off);
            bound = fmax(bound, size * 1e-6);
        }
    }
    report(n == 1 ? "mul_mat_id n=1" : apart ? "mul_mat_id apart" : "mul_mat_id", type, threads, error, bound);
    end(&g);
    free(w); free(x); free(blocks); free(ids); free(got);
}

static double difference(const float * a, const float * b, int64_t n) {
    double error = 0;
    for (int64_t i = 0; i < n; i++) {
        const double off = fabs((double) a[i] - b[i]);
        error = isnan(off) ? INFINITY : fmax(error, off);
    }
    return error;
}

static void get_rows(ggml_backend_t backend, int threads, enum ggml_type type) {
    enum { K = 768, ROWS = 11, N = 23 };
    float * w = allocate(ROWS * K * sizeof(float)), * wanted = allocate(N * K * sizeof(float));
    void * blocks = weights(type, K, ROWS, w);
    int32_t ids[N];
    for (int i = 0; i < N; i++) {
        ids[i] = (int32_t) (uniform() * ROWS);
        memcpy(wanted + i * K, w + ids[i] * K, K * sizeof(float));
    }
    graph g = begin(backend);
    struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, ROWS), * which = ggml_new_tensor_1d(g.ctx, GGML_TYPE_I32, N);
    struct ggml_tensor * c = ggml_get_rows(g.ctx, a, which);
    place(&g);
    ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(which, ids, 0, sizeof(ids));
    float * got = compute(&g, c);
    report("get_rows", type, threads, difference(got, wanted, N * K), 0);
    end(&g);
    free(w); free(wanted); free(blocks); free(got);
}

// Copies to floats and back, whole and of a view that skips rows.
static void copies(ggml_backend_t backend, int threads, enum ggml_type type) {
    enum { K = 512, ROWS = 9 };
    float * w = allocate(ROWS * K * sizeof(float)), * values = allocate(ROWS * K * sizeof(float));
    void * blocks = weights(type, K, ROWS, w);
    const size_t row = ggml_row_size(type, K);
    {
        graph g = begin(backend);
        struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, ROWS);
        struct ggml_tensor * c = ggml_cpy(g.ctx, a, ggml_new_tensor_2d(g.ctx, GGML_TYPE_F32, K, ROWS));
        place(&g);
        ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
        float * got = compute(&g, c);
        report("cpy to f32", type, threads, difference(got, w, ROWS * K), 0);
        end(&g);
        free(got);
    }
    {
        graph g = begin(backend);
        struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, ROWS);
        struct ggml_tensor * c = ggml_cont(g.ctx, ggml_view_2d(g.ctx, a, K, 4, 2 * row, row));
        place(&g);
        ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
        char * got = compute(&g, c);
        int wrong = 0;
        for (int i = 0; i < 4; i++) {
            wrong += memcmp(got + i * row, (char *) blocks + (2 * i + 1) * row, row) != 0;
        }
        report("cont of a view", type, threads, wrong, 0);
        end(&g);
        free(got);
    }
    fill(values, ROWS * K);
    ggml_quantize_chunk(type, values, blocks, 0, ROWS, K, NULL);
    {
        graph g = begin(backend);
        struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, GGML_TYPE_F32, K, ROWS);
        struct ggml_tensor * c = ggml_cpy(g.ctx, a, ggml_new_tensor_2d(g.ctx, type, K, ROWS));
        place(&g);
        ggml_backend_tensor_set(a, values, 0, ggml_nbytes(a));
        char * got = compute(&g, c);
        report("cpy from f32", type, threads, memcmp(got, blocks, ROWS * row) != 0, 0);
        end(&g);
        free(got);
    }
    {
        graph g = begin(backend);
        struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, ROWS), * b = ggml_new_tensor_2d(g.ctx, GGML_TYPE_F32, K, 2);
        struct ggml_tensor * at = ggml_new_tensor_1d(g.ctx, GGML_TYPE_I64, 2), * c = ggml_set_rows(g.ctx, a, b, at);
        place(&g);
        const int64_t where[2] = { 7, 3 };
        ggml_backend_tensor_set(b, values, 0, ggml_nbytes(b));
        ggml_backend_tensor_set(at, where, 0, sizeof(where));
        char * got = compute(&g, c);
        report("set_rows", type, threads, memcmp(got + 7 * row, blocks, row) != 0 || memcmp(got + 3 * row, (char *) blocks + row, row) != 0, 0);
        end(&g);
        free(got);
    }
    free(w); free(values); free(blocks);
}

// Sums stay in the type: what is added is quantised again.
static void additions(ggml_backend_t backend, int threads, enum ggml_type type) {
    enum { K = 512, ROWS = 7 };
    float * w = allocate(ROWS * K * sizeof(float)), * x = allocate(ROWS * K * sizeof(float)), * sum = allocate(ROWS * K * sizeof(float));
    void * blocks = weights(type, K, ROWS, w), * wanted = allocate(ROWS * ggml_row_size(type, K));
    fill(x, ROWS * K);
    for (int one = 0; one < 2; one++) {
        for (int i = 0; i < ROWS * K; i++) {
            sum[i] = w[i] + x[one ? 0 : i];
        }
        ggml_quantize_chunk(type, sum, wanted, 0, ROWS, K, NULL);
        graph g = begin(backend);
        struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, ROWS);
        struct ggml_tensor * b = one ? ggml_new_tensor_1d(g.ctx, GGML_TYPE_F32, 1) : ggml_new_tensor_2d(g.ctx, GGML_TYPE_F32, K, ROWS);
        struct ggml_tensor * c = one ? ggml_add1(g.ctx, a, b) : ggml_add(g.ctx, a, b);
        place(&g);
        ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
        ggml_backend_tensor_set(b, x, 0, ggml_nbytes(b));
        char * got = compute(&g, c);
        report(one ? "add1" : "add", type, threads, memcmp(got, wanted, ggml_nbytes(c)) != 0, 0);
        end(&g);
        free(got);
    }
    free(w); free(x); free(sum); free(blocks); free(wanted);
}

static void out_prod(ggml_backend_t backend, int threads, enum ggml_type type) {
    enum { K = 256, COLUMNS = 6, N = 5 };
    float * w = allocate(COLUMNS * K * sizeof(float)), x[COLUMNS * N];
    void * blocks = weights(type, K, COLUMNS, w);
    fill(x, COLUMNS * N);
    graph g = begin(backend);
    struct ggml_tensor * a = ggml_new_tensor_2d(g.ctx, type, K, COLUMNS), * b = ggml_new_tensor_2d(g.ctx, GGML_TYPE_F32, N, COLUMNS);
    struct ggml_tensor * c = ggml_out_prod(g.ctx, a, b);
    place(&g);
    ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, x, 0, ggml_nbytes(b));
    float * got = compute(&g, c);
    double error = 0;
    for (int j = 0; j < N; j++) {
        for (int i = 0; i < K; i++) {
            double sum = 0;
            for (int at = 0; at < COLUMNS; at++) {
                sum += (double) w[at * K + i] * x[at * N + j];
            }
            error = fmax(error, fabs(sum - got[j * K + i]));
        }
    }
    report("out_prod", type, threads, error, 1e-5);
    end(&g);
    free(w); free(blocks); free(got);
}

// Two of four at most, those with the largest magnitude or score, each within the format's error of what it was.
static void round_trip(enum ggml_type type, const char * what, const float * x, int64_t k, const float * importance) {
    float * y = allocate(k * sizeof(float));
    void * blocks = allocate(ggml_row_size(type, k));
    ggml_quantize_chunk(type, x, blocks, 0, 1, k, importance);
    ggml_get_type_traits(type)->to_float(blocks, y, k);
    int faults = !ggml_validate_row_data(type, blocks, ggml_row_size(type, k));
    double worst = 0; // error of a kept value in parts of its 64's largest
    for (int64_t from = 0; from < k; from += 64) {
        double largest = 0, error = 0, before = 0, after = 0;
        for (int64_t i = from; i < from + 64; i++) {
            largest = fmax(largest, fabs(x[i]));
            before += (importance ? importance[i] : 1.0) * x[i] * x[i];
            after += (importance ? importance[i] : 1.0) * (x[i] - y[i]) * (x[i] - y[i]);
        }
        for (int64_t g = from; g < from + 64; g += 4) {
            int kept = 0;
            double most_dropped = 0, least_kept = INFINITY;
            for (int64_t i = g; i < g + 4; i++) {
                const double score = fabs(x[i]) * (importance ? sqrt(importance[i]) : 1);
                if (y[i] != 0) {
                    kept++;
                    least_kept = fmin(least_kept, score);
                    error = fmax(error, fabs((double) x[i] - y[i]));
                } else {
                    most_dropped = fmax(most_dropped, score);
                }
            }
            // S24_T keeps what lowers the weighted error most, which is another order
            const bool ordered = type != GGML_TYPE_S24_T || importance == NULL;
            faults += kept > 2 || (kept == 2 && ordered && least_kept < most_dropped * 0.999999);
        }
        faults += !(after <= before * 1.001);
        worst = fmax(worst, largest > 0 ? error / largest : error);
    }
    // half a step of 127, and what rounding the scale moves the largest by; in 4 bits what is cut off where that lowers the sum
    const double bound = type == GGML_TYPE_S24_Q4 ? 0.25 : type == GGML_TYPE_S24_Q8 ? 1.25 / 254 : 1;
    char name[80];
    snprintf(name, sizeof(name), "round trip of %s", what);
    report(name, type, 1, faults > 0 ? INFINITY : worst, bound);
    free(y); free(blocks);
}

static void round_trips(enum ggml_type type) {
    enum { K = 1024 };
    float x[K], importance[K];
    fill(x, K);
    for (int i = 0; i < K; i++) {
        importance[i] = (float) exp(4 * uniform() - 2);
    }
    round_trip(type, "random", x, K, NULL);
    round_trip(type, "important", x, K, importance);
    for (int i = 0; i < K; i++) {
        x[i] = x[i] * x[i] * x[i];
        importance[i] = 0;
    }
    round_trip(type, "heavy tails", x, K, NULL);
    round_trip(type, "unimportant", x, K, importance);
    for (int i = 0; i < K; i++) {
        x[i] = i % 97 == 0 ? -60000.0f : 1e-3f * x[i];
    }
    round_trip(type, "outliers", x, K, NULL);
    for (int i = 0; i < K; i++) {
        x[i] = 0.25f;
    }
    round_trip(type, "a constant", x, K, NULL);
    for (int i = 0; i < K; i++) {
        x[i] = i % 2 ? -0.0f : 0.0f;
    }
    round_trip(type, "zeros", x, K, NULL);
    for (int i = 0; i < K; i++) {
        x[i] = (float) ((i * 7) % 5 - 2) * 1e-30f;
    }
    round_trip(type, "next to nothing", x, K, NULL);
}

static char last_line[256];

static void keep_line(enum ggml_log_level level, const char * text, void * user_data) {
    (void) level;
    (void) user_data;
    snprintf(last_line, sizeof(last_line), "%s", text);
}

// Prints 0 if a change of two bytes of the second of three sound blocks is refused, with a line in the log that says why.
static void refused(enum ggml_type type, const char * what, size_t offset, uint8_t first, uint8_t second) {
    float x[768];
    fill(x, 768);
    uint8_t blocks[3 * sizeof(pl_block_s24_q8)];
    const size_t block = ggml_type_size(type);
    ggml_quantize_chunk(type, x, blocks, 0, 1, 768, NULL);
    const bool before = ggml_validate_row_data(type, blocks, 3 * block);
    blocks[block + offset] = first;
    blocks[block + offset + 1] = second;
    last_line[0] = 0;
    const bool after = ggml_validate_row_data(type, blocks, 3 * block);
    char wanted[128];
    snprintf(wanted, sizeof(wanted), "%s block 1: ", ggml_type_name(type));
    report(what, type, 1, !before || after || strstr(last_line, wanted) == NULL || strstr(last_line, what) == NULL, 0);
}

static void refusals(void) {
    ggml_log_set(keep_line, NULL);
    refused(GGML_TYPE_S24_Q4, "do not rise", offsetof(pl_block_s24_q4, idx), 0xFF, 0xFF);
    refused(GGML_TYPE_S24_Q8, "do not rise", offsetof(pl_block_s24_q8, idx) + 30, 0x55, 0);
    refused(GGML_TYPE_S24_T, "do not rise", offsetof(pl_block_s24_t, idx), 0xFF, 0xAA);
    refused(GGML_TYPE_S24_Q4, "scale is not finite", offsetof(pl_block_s24_q4, d) + 6, 1, 0x7E);
    refused(GGML_TYPE_S24_Q8, "scale is not finite", offsetof(pl_block_s24_q8, d), 1, 0xFE);
    refused(GGML_TYPE_S24_T, "scale is not finite", offsetof(pl_block_s24_t, d), 0, 0x7C);
    refused(GGML_TYPE_S24_Q8, "value is -128", offsetof(pl_block_s24_q8, qs) + 76, 0, 0x80);
    refused(GGML_TYPE_S24_T, "scale is above 127", offsetof(pl_block_s24_t, scale) + 2, 0, 128);
    const uint8_t nothing[64] = { 0 };
    report("a number in the gap", GGML_TYPE_S24_Q4, 1, ggml_validate_row_data((enum ggml_type) 100, nothing, 64), 0);
}

// ggml-base's own
void quantize_row_q8_K_ref(const float * x, pl_block_q8_K * y, int64_t k);

// Activations rounded for k-quants are bit for bit those of upstream's reference; prints the blocks that are not.
static void rounding(void) {
    enum { BLOCKS = 4000 };
    static float x[BLOCKS * 256];
    static pl_block_q8_K got[BLOCKS], wanted[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
        const float size = (float) exp(40 * uniform() - 20);
        for (int i = 0; i < 256; i++) {
            const float whole = (float) (floor(9 * uniform()) - 4); // both signs of the largest, and ties in rounding
            x[256 * b + i] = b % 4 == 0 ? whole : b % 4 == 1 ? size * whole / 3 : b % 4 == 2 ? size * (float) (2 * uniform() - 1) : 0;
        }
        x[256 * b + (int) (256 * uniform())] = b % 4 == 3 && b % 8 == 3 ? -size : x[256 * b];
    }
    ggml_get_type_traits_cpu(GGML_TYPE_Q8_K)->from_float(x, got, BLOCKS * 256);
    quantize_row_q8_K_ref(x, wanted, BLOCKS * 256);
    int wrong = 0;
    for (int b = 0; b < BLOCKS; b++) {
        wrong += memcmp(got + b, wanted + b, sizeof(got[b])) != 0;
    }
    report("rounding of activations", GGML_TYPE_Q8_K, 1, wrong, 0);
}

// A GGUF file whose one tensor has this type number: 1 if ggml reads it.
static int read_with_type(const char * folder, uint32_t number) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/type.gguf", folder);
    struct ggml_init_params params = { 2 * ggml_tensor_overhead(), NULL, true };
    struct ggml_context * ctx = ggml_init(params);
    struct ggml_tensor * t = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, 256);
    ggml_set_name(t, "wanted");
    struct gguf_context * gguf = gguf_init_empty();
    gguf_add_tensor(gguf, t);
    gguf_write_to_file(gguf, path, true);
    gguf_free(gguf);
    ggml_free(ctx);
    FILE * file = fopen(path, "r+b");
    char bytes[512];
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    for (size_t i = 0; i + 6 < size; i++) {
        if (memcmp(bytes + i, "wanted", 6) == 0) {
            fseek(file, (long) (i + 6 + 4 + 8), SEEK_SET); // dimensions, the one length
            fwrite(&number, sizeof(number), 1, file);
        }
    }
    fseek(file, 0, SEEK_END);
    static const char data[4096];
    fwrite(data, 1, sizeof(data), file);
    fclose(file);
    gguf = gguf_init_from_file(path, (struct gguf_init_params) { true, NULL });
    const int read = gguf != NULL;
    if (read) {
        gguf_free(gguf);
    }
    return read;
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: sparse SEED FOLDER\n");
        return 2;
    }
    state = strtoull(argv[1], NULL, 10);
    ggml_backend_load_all();
    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    if (backend == NULL) {
        fprintf(stderr, "no CPU back end\n");
        return 1;
    }
    ggml_backend_set_n_threads_t set_threads = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), "ggml_backend_set_n_threads");
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (int threads = 1; threads <= 3; threads++) {
            set_threads(backend, threads);
            const int columns[] = { 1, 2, 3, 7, 16, 17, 33, 70 };
            const int rows[] = { 1, 3, 4, 9, 64, 101 };
            for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
                for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
                    mul_mat(backend, threads, types[t], rows[j], columns[i], 256 * (1 + (int) (uniform() * 4)));
                }
            }
            mul_mat(backend, threads, types[t], 40, 200, 4096);
            mul_mat_id(backend, threads, types[t], 1, false);
            mul_mat_id(backend, threads, types[t], 40, false);
            mul_mat_id(backend, threads, types[t], 120, true);
            get_rows(backend, threads, types[t]);
            copies(backend, threads, types[t]);
            additions(backend, threads, types[t]);
            out_prod(backend, threads, types[t]);
        }
        round_trips(types[t]);
        report("read from a file", types[t], 1, !read_with_type(argv[2], types[t]), 0);
    }
    rounding();
    refusals();
    const uint32_t gap[] = { PL_UPSTREAM_TYPE_COUNT, 100, 199, GGML_TYPE_COUNT, 0x80000000u };
    for (size_t i = 0; i < sizeof(gap) / sizeof(gap[0]); i++) {
        report("read a number in the gap", GGML_TYPE_S24_Q4, 1, read_with_type(argv[2], gap[i]), 0);
    }
    ggml_backend_free(backend);
    return 0;
}
