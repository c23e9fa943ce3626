// Runs the adapter kernels (ggml-src/kernels/lora.h), compiled with the flags of one processor generation, over many shapes and types, and
// compares them with sums in double over the very numbers that they read. Prints one line per case: kernel, shape, largest error, and the
// largest error that rounding explains. A row whose result depends on its neighbours in a tile ends the program with 1.
#define PL_LORA_NAMESPACE tested
#define PL_LORA_KERNELS kernels
#include "lora.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

static uint64_t state;

static double uniform() {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return 2 * ((double) ((z ^ (z >> 31)) >> 11) * 0x1p-53) - 1;
}

struct matrix {
    std::vector<char>  bytes;
    std::vector<float> floats; // what the bytes stand for
    pl::lora_matrix    m;

    matrix(ggml_type type, int64_t rows, int64_t columns) : bytes(ggml_row_size(type, columns) * rows), floats(rows * columns) {
        std::vector<float> x(rows * columns);
        for (float & v : x) { v = (float) uniform(); }
        ggml_quantize_chunk(type, x.data(), bytes.data(), 0, rows, columns, nullptr);
        const ggml_to_float_t to_float = ggml_get_type_traits(type)->to_float;
        m = { bytes.data(), ggml_row_size(type, columns), columns, type, to_float };
        for (int64_t r = 0; r < rows; r++) {
            const char * row = bytes.data() + r * m.stride;
            if (type == GGML_TYPE_F32) {
                memcpy(&floats[r * columns], row, columns * sizeof(float));
            } else {
                to_float(row, &floats[r * columns], columns);
            }
        }
    }
};

struct rows {
    std::vector<float>         values;
    std::vector<float *>       at;
    std::vector<const float *> from;

    rows(int64_t n, int64_t width) : values(n * width) {
        for (float & v : values) { v = (float) uniform(); }
        for (int64_t i = 0; i < n; i++) {
            at.push_back(&values[i * width]);
            from.push_back(&values[i * width]);
        }
    }
};

static void report(const char * kernel, ggml_type type, int64_t rank, int64_t width, int64_t n, double error, double allowed) {
    printf("%s %s rank %d width %d rows %d %.3g %.3g\n", kernel, ggml_type_name(type), (int) rank, (int) width, (int) n, error, allowed);
}

static void same(const rows & one, const rows & other, const char * kernel) {
    if (memcmp(one.values.data(), other.values.data(), one.values.size() * sizeof(float)) != 0) {
        fprintf(stderr, "%s: a row's result depends on the rows beside it\n", kernel);
        exit(1);
    }
}

static void check_down(ggml_type type, int64_t rank, int64_t in, int64_t n) {
    const matrix a(type, rank, in);
    const rows x(n, in);
    rows h(n, rank), alone(n, rank);
    std::vector<float> scale(n);
    for (float & s : scale) { s = (float) uniform(); }
    pl::kernels.down(a.m, 0, rank, x.from.data(), h.at.data(), scale.data(), n);
    for (int64_t j = 0; j < n; j++) {
        for (int64_t r = 0; r < rank; r++) { pl::kernels.down(a.m, r, r + 1, &x.from[j], &alone.at[j], &scale[j], 1); }
    }
    same(h, alone, "down");
    double error = 0, size = 0;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t r = 0; r < rank; r++) {
            double sum = 0, all = 0;
            for (int64_t i = 0; i < in; i++) {
                const double product = (double) a.floats[r * in + i] * x.from[j][i];
                sum += product;
                all += std::fabs(product);
            }
            error = std::fmax(error, std::fabs(scale[j] * sum - h.at[j][r]));
            size = std::fmax(size, std::fabs(scale[j]) * all);
        }
    }
    report("down", type, rank, in, n, error, size * (in / 16 + 8) * 0x1p-24);
}

static void check_up(ggml_type type, int64_t rank, int64_t out, int64_t n) {
    const matrix b(type, rank, out);
    const rows h(n, rank);
    rows y(n, out);
    const rows before = y;
    rows alone = y;
    for (int64_t j = 0; j < n; j++) { // copies point to where they came from
        y.at[j] = &y.values[j * out];
        alone.at[j] = &alone.values[j * out];
    }
    pl::kernels.up(b.m, rank, h.from.data(), y.at.data(), n, 0, out);
    for (int64_t j = 0; j < n; j++) {
        for (int64_t o = 0; o < out; o += 256) {
            pl::kernels.up(b.m, rank, &h.from[j], &alone.at[j], 1, o, out - o < 256 ? out : o + 256);
        }
    }
    same(y, alone, "up");
    double error = 0, size = 0;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t o = 0; o < out; o++) {
            double sum = before.values[j * out + o], all = std::fabs(sum);
            for (int64_t r = 0; r < rank; r++) {
                const double product = (double) h.from[j][r] * b.floats[r * out + o];
                sum += product;
                all += std::fabs(product);
            }
            error = std::fmax(error, std::fabs(sum - y.at[j][o]));
            size = std::fmax(size, all);
        }
    }
    report("up", type, rank, out, n, error, size * (rank + 2) * 0x1p-24);
}

int main(int argc, char ** argv) {
    if (argc != 2) {
        fprintf(stderr, "lora SEED\n");
        return 1;
    }
    state = strtoull(argv[1], nullptr, 10);
    const int64_t ranks[] = { 1, 3, 4, 5, 16, 17 };
    const int64_t counts[] = { 1, 2, 3, 5, 6, 7, 13 };
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
        const bool blocks = ggml_blck_size(type) > 1;
        const std::vector<int64_t> widths = blocks ? std::vector<int64_t> { 32, 96, 256, 288, 544 }
                                                   : std::vector<int64_t> { 1, 15, 16, 33, 64, 79, 256, 300, 529 };
        for (int64_t width : widths) {
            for (int64_t rank : ranks) {
                for (int64_t n : counts) {
                    check_down(type, rank, width, n);
                    check_up(type, rank, width, n);
                }
            }
        }
    }
    return 0;
}
