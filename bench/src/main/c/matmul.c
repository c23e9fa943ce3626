// How fast ggml's CPU back end multiplies weights of several types with columns of activations: one product in a graph, types in turn,
// medians. Weights lie where llama.cpp would put them: in repacked form where the back end offers one.
//
//   matmul ROWS LENGTH COLUMNS THREADS REPEATS TYPE...
//
// The type `read` stands for loading 4 bits per weight and doing nothing else: what memory or cache can give at most.
//
// Prints for each type: name, bits per weight, microseconds, 10^9 weights per second (dense count), GB of weights per second, and the
// ratio of time to that of the first type.
#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MAX_TYPES = 32, MAX_REPEATS = 10001 };

typedef struct {
    enum ggml_type        type; // GGML_TYPE_I8 for `read`
    bool                  repacked;
    struct ggml_context * ctx;
    struct ggml_cgraph *  graph;
    double                seconds[MAX_REPEATS];
} product;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static int by_size(const void * a, const void * b) {
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static enum ggml_type type_of(const char * name) {
    if (strcasecmp(name, "read") == 0) {
        return GGML_TYPE_I8;
    }
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * label = ggml_type_name((enum ggml_type) i);
        if (label != NULL && strcasecmp(label, name) == 0) {
            return (enum ggml_type) i;
        }
    }
    fprintf(stderr, "no type %s\n", name);
    exit(2);
}

typedef uint64_t vector __attribute__((vector_size(16)));

// Loads a part of the bytes in each thread.
static void load(struct ggml_tensor * result, const struct ggml_tensor * bytes, int thread, int threads, void * unused) {
    (void) result, (void) unused;
    const size_t vectors = ggml_nbytes(bytes) / sizeof(vector), each = vectors / (size_t) threads;
    const vector * const at = (const vector *) bytes->data + each * (size_t) thread;
    vector a = { 0 }, b = a, c = a, d = a;
    for (size_t i = 0; i + 4 <= each; i += 4) {
        a |= at[i];
        b |= at[i + 1];
        c |= at[i + 2];
        d |= at[i + 3];
    }
    a |= b | c | d;
    __asm__ volatile("" : : "m"(a)); // somebody might look at it
}

// Weights in the first of the back end's extra buffer types that can multiply them, else in its own.
static void place(product * p, ggml_backend_t backend, struct ggml_tensor * weights, struct ggml_tensor * result) {
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    ggml_backend_dev_get_extra_bufts_t extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * kind = extra ? extra(device) : NULL; kind != NULL && *kind != NULL; kind++) {
        weights->buffer = ggml_backend_buft_alloc_buffer(*kind, 0);
        const bool fits = ggml_backend_dev_supports_op(device, result);
        ggml_backend_buffer_free(weights->buffer);
        weights->buffer = NULL;
        if (fits) {
            ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(*kind, ggml_backend_buft_get_alloc_size(*kind, weights));
            ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            ggml_backend_tensor_alloc(buffer, weights, ggml_backend_buffer_get_base(buffer));
            p->repacked = true;
            break;
        }
    }
    ggml_backend_alloc_ctx_tensors(p->ctx, backend);
}

int main(int argc, char ** argv) {
    if (argc < 7 || argc > 6 + MAX_TYPES) {
        fprintf(stderr, "usage: matmul ROWS LENGTH COLUMNS THREADS REPEATS TYPE...\n");
        return 2;
    }
    const int64_t m = atoll(argv[1]), k = atoll(argv[2]), n = atoll(argv[3]);
    const int threads = atoi(argv[4]), repeats = atoi(argv[5]), count = argc - 6;
    if (m < 1 || k < 1 || n < 1 || threads < 1 || repeats < 1 || repeats > MAX_REPEATS) {
        fprintf(stderr, "numbers must be positive, repeats at most %d\n", MAX_REPEATS);
        return 2;
    }
    ggml_backend_load_all();
    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    ggml_backend_cpu_set_n_threads(backend, threads);
    struct ggml_threadpool_params pool = ggml_threadpool_params_default(threads); // else every product starts threads of its own
    ggml_backend_cpu_set_threadpool(backend, ggml_threadpool_new(&pool));
    // of the weights the first 64 rows again and again: quantising takes long
    const int64_t some = m < 64 ? m : 64;
    float * values = malloc((size_t) (some * k) * sizeof(float)), * columns = malloc((size_t) (n * k) * sizeof(float));
    for (int64_t i = 0; i < some * k; i++) {
        values[i] = (float) rand() / (float) RAND_MAX - 0.5f;
    }
    for (int64_t i = 0; i < n * k; i++) {
        columns[i] = (float) rand() / (float) RAND_MAX - 0.5f;
    }
    float * importance = malloc((size_t) k * sizeof(float));
    for (int64_t i = 0; i < k; i++) {
        importance[i] = 1;
    }
    product * products = calloc((size_t) count, sizeof(product));
    for (int i = 0; i < count; i++) {
        product * p = products + i;
        p->type = type_of(argv[6 + i]);
        p->ctx = ggml_init((struct ggml_init_params) { 8 * ggml_tensor_overhead() + ggml_graph_overhead(), NULL, true });
        p->graph = ggml_new_graph(p->ctx);
        if (p->type == GGML_TYPE_I8) {
            struct ggml_tensor * bytes = ggml_new_tensor_1d(p->ctx, p->type, m * k / 2);
            ggml_build_forward_expand(p->graph, ggml_map_custom1_inplace(p->ctx, bytes, load, threads, NULL));
            ggml_backend_alloc_ctx_tensors(p->ctx, backend);
            ggml_backend_tensor_memset(bytes, 1, 0, ggml_nbytes(bytes));
            continue;
        }
        struct ggml_tensor * a = ggml_new_tensor_2d(p->ctx, p->type, k, m), * b = ggml_new_tensor_2d(p->ctx, GGML_TYPE_F32, k, n);
        struct ggml_tensor * c = ggml_mul_mat(p->ctx, a, b);
        place(p, backend, a, c);
        void * blocks = malloc(ggml_nbytes(a));
        ggml_quantize_chunk(p->type, values, blocks, 0, some, k, importance);
        const size_t row = ggml_row_size(p->type, k);
        for (int64_t r = some; r < m; r++) {
            memcpy((char *) blocks + (size_t) r * row, (char *) blocks + (size_t) (r % some) * row, row);
        }
        ggml_backend_tensor_set(a, blocks, 0, ggml_nbytes(a));
        free(blocks);
        ggml_backend_tensor_set(b, columns, 0, ggml_nbytes(b));
        ggml_build_forward_expand(p->graph, c);
    }
    for (int r = -2; r < repeats; r++) {
        for (int i = 0; i < count; i++) {
            const bool small = m * k < 1 << 22; // twice, so that the second time finds the weights in the cache
            for (int times = small ? 2 : 1; times > 0; times--) {
                const double start = now();
                if (ggml_backend_graph_compute(backend, products[i].graph) != GGML_STATUS_SUCCESS) {
                    fprintf(stderr, "%s was not computed\n", ggml_type_name(products[i].type));
                    return 1;
                }
                products[i].seconds[r < 0 ? 0 : r] = now() - start;
            }
        }
    }
    double first = 0;
    for (int i = 0; i < count; i++) {
        product * p = products + i;
        qsort(p->seconds, (size_t) repeats, sizeof(double), by_size);
        const bool reads = p->type == GGML_TYPE_I8;
        const double median = p->seconds[repeats / 2], bytes = (double) m * (reads ? (double) k / 2 : (double) ggml_row_size(p->type, k));
        first = i == 0 ? median : first;
        printf("%-8s%c %7.4f bpw %10.1f us %8.2f Gweights/s %7.2f GB/s %6.3f\n", reads ? "read" : ggml_type_name(p->type),
                p->repacked ? '*' : ' ', 8 * bytes / (double) (m * k), 1e6 * median, 1e-9 * (double) (m * k * n) / median,
                1e-9 * bytes / median, median / first);
    }
    return 0;
}
