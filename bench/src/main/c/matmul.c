// How fast ggml's CPU back end multiplies weights of several types with columns of activations: one product in a graph, types in turn,
// medians. Weights lie where llama.cpp would put them: in repacked form where the back end offers one.
//
//   matmul ROWS LENGTH COLUMNS THREADS REPEATS TYPE...
//   matmul 1b COLUMNS THREADS REPEATS TYPE...
//
// The second multiplies with all matrices of a model of the shape of Llama 3.2 1B (or 3b) and 32000 tokens, one after the other: what a
// token takes but for attention, norms and the like.
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

enum { MAX_TYPES = 32, MAX_REPEATS = 10001, MAX_MATRICES = 256 };

typedef struct {
    int64_t rows, length;
} matrix;

static matrix matrices[MAX_MATRICES];
static int    matrix_count;

static void add_matrix(int64_t rows, int64_t length) {
    matrices[matrix_count++] = (matrix) { rows, length };
}

static void add_model(int layers, int64_t width, int64_t key_value_width, int64_t feed_forward, int64_t tokens) {
    for (int i = 0; i < layers; i++) {
        add_matrix(width, width);
        add_matrix(key_value_width, width);
        add_matrix(key_value_width, width);
        add_matrix(width, width);
        add_matrix(feed_forward, width);
        add_matrix(feed_forward, width);
        add_matrix(width, feed_forward);
    }
    add_matrix(tokens, width);
}

typedef struct {
    enum ggml_type        type; // GGML_TYPE_I8 for `read`
    bool                  repacked;
    struct ggml_context * ctx;
    struct ggml_cgraph *  graph;
    double                bytes; // of weights
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
}

// A matrix of some rows again and again: quantising takes long.
static void fill(struct ggml_tensor * weights, const float * values, int64_t some, const float * importance) {
    const int64_t k = weights->ne[0], m = weights->ne[1];
    some = m < some ? m : some;
    char * blocks = malloc(ggml_nbytes(weights));
    ggml_quantize_chunk(weights->type, values, blocks, 0, some, k, importance);
    const size_t row = ggml_row_size(weights->type, k);
    for (int64_t r = some; r < m; r++) {
        memcpy(blocks + (size_t) r * row, blocks + (size_t) (r % some) * row, row);
    }
    ggml_backend_tensor_set(weights, blocks, 0, ggml_nbytes(weights));
    free(blocks);
}

// Without a line for every matrix that is repacked.
static void log_warnings(enum ggml_log_level level, const char * text, void * unused) {
    (void) unused;
    if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT) {
        fputs(text, stderr);
    }
}

int main(int argc, char ** argv) {
    const bool model = argc > 1 && (strcmp(argv[1], "1b") == 0 || strcmp(argv[1], "3b") == 0);
    const int first_number = model ? 2 : 3, first_type = first_number + 3, count = argc - first_type;
    if (count < 1 || count > MAX_TYPES) {
        fprintf(stderr, "usage: matmul ROWS LENGTH COLUMNS THREADS REPEATS TYPE...\n       matmul 1b|3b COLUMNS THREADS REPEATS TYPE...\n");
        return 2;
    }
    if (!model) {
        add_matrix(atoll(argv[1]), atoll(argv[2]));
    } else if (argv[1][0] == '1') {
        add_model(16, 2048, 512, 8192, 32000);
    } else {
        add_model(28, 3072, 1024, 8192, 32000);
    }
    const int64_t n = atoll(argv[first_number]);
    const int threads = atoi(argv[first_number + 1]), repeats = atoi(argv[first_number + 2]);
    if (matrices[0].rows < 1 || matrices[0].length < 1 || n < 1 || threads < 1 || repeats < 1 || repeats > MAX_REPEATS) {
        fprintf(stderr, "numbers must be positive, repeats at most %d\n", MAX_REPEATS);
        return 2;
    }
    int64_t weight_count = 0, k = 0;
    for (int i = 0; i < matrix_count; i++) {
        weight_count += matrices[i].rows * matrices[i].length;
        k = matrices[i].length > k ? matrices[i].length : k;
    }
    ggml_log_set(log_warnings, NULL);
    ggml_backend_load_all();
    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    ggml_backend_cpu_set_n_threads(backend, threads);
    struct ggml_threadpool_params pool = ggml_threadpool_params_default(threads); // else every product starts threads of its own
    ggml_backend_cpu_set_threadpool(backend, ggml_threadpool_new(&pool));
    const int64_t some = 64;
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
        p->type = type_of(argv[first_type + i]);
        const size_t tensors = 4 * (size_t) matrix_count + 4;
        p->ctx = ggml_init((struct ggml_init_params) { tensors * ggml_tensor_overhead() + ggml_graph_overhead(), NULL, true });
        p->graph = ggml_new_graph(p->ctx);
        if (p->type == GGML_TYPE_I8) {
            struct ggml_tensor * bytes = ggml_new_tensor_1d(p->ctx, p->type, weight_count / 2);
            ggml_build_forward_expand(p->graph, ggml_map_custom1_inplace(p->ctx, bytes, load, threads, NULL));
            ggml_backend_alloc_ctx_tensors(p->ctx, backend);
            ggml_backend_tensor_memset(bytes, 1, 0, ggml_nbytes(bytes));
            continue;
        }
        struct ggml_tensor * inputs[MAX_MATRICES], * weights[MAX_MATRICES];
        for (int x = 0; x < matrix_count; x++) {
            const int64_t length = matrices[x].length;
            int same = 0;
            while (same < x && matrices[same].length != length) {
                same++;
            }
            inputs[x] = same < x ? inputs[same] : ggml_new_tensor_2d(p->ctx, GGML_TYPE_F32, length, n);
            weights[x] = ggml_new_tensor_2d(p->ctx, p->type, length, matrices[x].rows);
            struct ggml_tensor * result = ggml_mul_mat(p->ctx, weights[x], inputs[x]);
            place(p, backend, weights[x], result);
            ggml_build_forward_expand(p->graph, result);
            p->bytes += (double) ggml_nbytes(weights[x]);
        }
        ggml_backend_alloc_ctx_tensors(p->ctx, backend);
        for (int x = 0; x < matrix_count; x++) {
            fill(weights[x], values, some, importance);
            ggml_backend_tensor_set(inputs[x], columns, 0, ggml_nbytes(inputs[x]));
        }
    }
    for (int r = -2; r < repeats; r++) {
        for (int i = 0; i < count; i++) {
            const bool small = weight_count < 1 << 22; // twice, so that the second time finds the weights in the cache
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
        const double median = p->seconds[repeats / 2], bytes = reads ? (double) weight_count / 2 : p->bytes;
        first = i == 0 ? median : first;
        printf("%-8s%c %7.4f bpw %10.1f us %8.2f Gweights/s %7.2f GB/s %6.3f\n", reads ? "read" : ggml_type_name(p->type),
                p->repacked ? '*' : ' ', 8 * bytes / (double) weight_count, 1e6 * median, 1e-9 * (double) (weight_count * n) / median,
                1e-9 * bytes / median, median / first);
    }
    return 0;
}
