// Runs ggml's CPU operators whose kernels this project replaces, over many shapes, and compares each result with sums in double
// over the very numbers that the operator reads. Prints one line per case: operator, shape, threads, largest error, and the largest
// error that rounding explains; KernelsTest judges.
#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void * allocate(size_t bytes) {
    void * p = calloc(1, bytes);
    if (p == NULL) {
        fprintf(stderr, "out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

static struct ggml_context * new_context(void) {
    struct ggml_init_params params = { 64 * ggml_tensor_overhead() + ggml_graph_overhead(), NULL, true };
    return ggml_init(params);
}

static void compute(ggml_backend_t backend, struct ggml_context * ctx, struct ggml_tensor * result) {
    struct ggml_cgraph * graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, result);
    if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) {
        fprintf(stderr, "the graph was not computed\n");
        exit(1);
    }
}

// Weights [k, m] in a type, activations [k, n]. The activations are rounded first to the type that the kernel itself rounds them to,
// Q8_0, so that only the order of additions differs.
static void mul_mat(ggml_backend_t backend, int threads, enum ggml_type type, int64_t m, int64_t n, int64_t k) {
    float * weights = allocate(m * k * sizeof(float)), * activations = allocate(n * k * sizeof(float));
    fill(weights, m * k);
    fill(activations, n * k);
    void * packed = allocate(m * ggml_row_size(type, k));
    ggml_quantize_chunk(type, weights, packed, 0, m, k, NULL);
    ggml_get_type_traits(type)->to_float(packed, weights, m * k);
    void * rounded = allocate(n * ggml_row_size(GGML_TYPE_Q8_0, k));
    ggml_quantize_chunk(GGML_TYPE_Q8_0, activations, rounded, 0, n, k, NULL);
    ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(rounded, activations, n * k);

    struct ggml_context * ctx = new_context();
    struct ggml_tensor * a = ggml_new_tensor_2d(ctx, type, k, m), * b = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, k, n);
    struct ggml_tensor * c = ggml_mul_mat(ctx, a, b);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, backend);
    ggml_backend_tensor_set(a, packed, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, activations, 0, ggml_nbytes(b));
    compute(backend, ctx, c);
    float * got = allocate(m * n * sizeof(float));
    ggml_backend_tensor_get(c, got, 0, ggml_nbytes(c));

    double error = 0, bound = 0;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) {
            double sum = 0, size = 0;
            for (int64_t x = 0; x < k; x++) {
                const double product = (double) weights[i * k + x] * activations[j * k + x];
                sum += product;
                size += fabs(product);
            }
            const double off = fabs(sum - got[j * m + i]);
            error = isnan(off) ? INFINITY : fmax(error, off);
            bound = fmax(bound, size * 1e-6);
        }
    }
    printf("mul_mat %s m=%d n=%d k=%d threads=%d %.3g %.3g\n", ggml_type_name(type), (int) m, (int) n, (int) k, threads, error, bound);
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    free(weights); free(activations); free(packed); free(rounded); free(got);
}

// Queries over a cache where each query sees a share of the cells, in no order; dk and dv values per head.
static void attention(ggml_backend_t backend, int threads, int64_t dk, int64_t dv, int64_t heads, int64_t key_heads, int64_t queries,
        int64_t cells, double share, bool slopes) {
    struct ggml_context * ctx = new_context();
    struct ggml_tensor * q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, dk, queries, heads);
    // as in llama.cpp's cache: the heads of a cell lie together, seen through a permuted view
    struct ggml_tensor * k = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, dk, key_heads, cells);
    struct ggml_tensor * v = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, dv, key_heads, cells);
    struct ggml_tensor * mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, cells, queries);
    const float scale = 1.0f / sqrtf((float) dk);
    struct ggml_tensor * out = ggml_flash_attn_ext(ctx, q, ggml_permute(ctx, k, 0, 2, 1, 3), ggml_permute(ctx, v, 0, 2, 1, 3), mask,
            scale, slopes ? 8.0f : 0.0f, 0.0f);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, backend);

    float * qs = allocate(ggml_nelements(q) * sizeof(float));
    fill(qs, ggml_nelements(q));
    for (int64_t i = 0; i < ggml_nelements(q); i++) {
        qs[i] *= 6;
    }
    ggml_backend_tensor_set(q, qs, 0, ggml_nbytes(q));
    ggml_fp16_t * ks = allocate(ggml_nbytes(k)), * vs = allocate(ggml_nbytes(v)), * ms = allocate(ggml_nbytes(mask));
    float * row = allocate((dk > dv ? dk : dv) * key_heads * cells * sizeof(float));
    fill(row, ggml_nelements(k));
    ggml_fp32_to_fp16_row(row, ks, ggml_nelements(k));
    fill(row, ggml_nelements(v));
    ggml_fp32_to_fp16_row(row, vs, ggml_nelements(v));
    for (int64_t i = 0; i < queries * cells; i++) {
        // some of the visible cells carry a bias; the last query of several sees nothing at all
        const bool seen = uniform() < share && (queries == 1 || i / cells < queries - 1);
        ms[i] = ggml_fp32_to_fp16(seen ? (uniform() < 0.1 ? (float) (-2 * uniform()) : 0.0f) : -INFINITY);
    }
    ggml_backend_tensor_set(k, ks, 0, ggml_nbytes(k));
    ggml_backend_tensor_set(v, vs, 0, ggml_nbytes(v));
    ggml_backend_tensor_set(mask, ms, 0, ggml_nbytes(mask));
    compute(backend, ctx, out);
    float * got = allocate(ggml_nbytes(out));
    ggml_backend_tensor_get(out, got, 0, ggml_nbytes(out));

    double * weights = allocate(cells * sizeof(double)), * sums = allocate(dv * sizeof(double));
    double error = 0;
    for (int64_t i = 0; i < queries; i++) {
        for (int64_t h = 0; h < heads; h++) {
            const int64_t kh = h / (heads / key_heads);
            const double slope = slopes ? pow(2, -8.0 * (double) (h + 1) / (double) heads) : 1;
            double top = -INFINITY, total = 0;
            for (int64_t c = 0; c < cells; c++) {
                double dot = 0;
                for (int64_t d = 0; d < dk; d++) {
                    dot += (double) qs[(h * queries + i) * dk + d] * ggml_fp16_to_fp32(ks[(c * key_heads + kh) * dk + d]);
                }
                weights[c] = dot * scale + slope * ggml_fp16_to_fp32(ms[i * cells + c]);
                top = fmax(top, weights[c]);
            }
            memset(sums, 0, dv * sizeof(double));
            for (int64_t c = 0; c < cells && top > -INFINITY; c++) {
                const double w = exp(weights[c] - top);
                total += w;
                for (int64_t d = 0; d < dv; d++) {
                    sums[d] += w * ggml_fp16_to_fp32(vs[(c * key_heads + kh) * dv + d]);
                }
            }
            for (int64_t d = 0; d < dv; d++) {
                const double off = fabs((total == 0 ? 0 : sums[d] / total) - got[(i * heads + h) * dv + d]);
                error = isnan(off) ? INFINITY : fmax(error, off);
            }
        }
    }
    // values are at most 1; F32 sums, and the F16 queries of upstream's own path where slopes ask for it
    printf("attention dk=%d dv=%d heads=%d/%d queries=%d cells=%d share=%.2f slopes=%d threads=%d %.3g %.3g\n", (int) dk, (int) dv,
            (int) heads, (int) key_heads, (int) queries, (int) cells, share, slopes, threads, error, slopes ? 1e-2 : 1e-5);
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    free(qs); free(ks); free(vs); free(ms); free(row); free(got); free(weights); free(sums);
}

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    ggml_backend_load_all();
    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    if (backend == NULL) {
        fprintf(stderr, "no CPU back end\n");
        return 1;
    }
    ggml_backend_set_n_threads_t set_threads = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), "ggml_backend_set_n_threads");
    for (int threads = 1; threads <= 3; threads++) {
        set_threads(backend, threads);
        const int columns[] = { 1, 2, 3, 4, 5, 6, 15, 16, 17, 31, 33, 70 };
        const int rows[] = { 1, 3, 4, 7, 8, 9, 64, 101 };
        for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
            for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
                mul_mat(backend, threads, GGML_TYPE_Q8_0, rows[j], columns[i], 32 * (1 + (int) (uniform() * 12)));
            }
        }
        mul_mat(backend, threads, GGML_TYPE_Q8_0, 40, 300, 4096); // several panels of columns
        const int queries[] = { 1, 2, 5, 16, 63, 64, 70 };
        const int cells[] = { 1, 15, 64, 65, 256, 511, 512, 700 };
        for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
            for (size_t j = 0; j < sizeof(cells) / sizeof(cells[0]); j++) {
                attention(backend, threads, 64, 64, 4, 2, queries[i], cells[j], uniform(), false);
            }
            attention(backend, threads, 128, 128, 6, 1, queries[i], 300, 0.5, false); // more heads than go together
            attention(backend, threads, 80, 80, 3, 3, queries[i], 530, 0.1, false);
            attention(backend, threads, 192, 128, 5, 1, queries[i], 600, 0.02, false);
            attention(backend, threads, 48, 16, 7, 7, queries[i], 100, 1, false);
        }
        attention(backend, threads, 64, 64, 4, 4, 3, 128, 0.5, true);
    }
    ggml_backend_free(backend);
    return 0;
}
