// The CUDA kernels for 2:4 sparse blocks (ggml-src/kernels/cuda) against the scalar reference: on the host by cuda_on_cpu.h, or by nvcc on
// a GPU. Prints one line per case: operator, type, shape, largest error, and the largest error that rounding explains, which is 0 where all
// scales are 1. What a kernel must not write has to stay as it was: else the error is infinite.
//
//   s24_cuda SEED [REPEATS]
#include "s24_blocks.h"

#include "cuda/s24_rows.cuh"
#include "cuda/s24_tensor.cuh"
#include "cuda/s24_vector.cuh"

#include <string>

namespace {

using namespace pl::s24;

#ifdef __CUDACC__
void check(cudaError_t error, const char * call) {
    if (error != cudaSuccess) {
        fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
        exit(1);
    }
}
#define CHECK(call) check(call, #call)
#endif

// Memory of the device, exactly as long as what is in it.
template <class T> struct device {
    T *    data = nullptr;
    size_t size;

    explicit device(const std::vector<T> & from) : size(from.size()) {
#ifdef __CUDACC__
        CHECK(cudaMalloc((void **) &data, size * sizeof(T)));
        CHECK(cudaMemcpy(data, from.data(), size * sizeof(T), cudaMemcpyHostToDevice));
#else
        if (posix_memalign((void **) &data, 16, size * sizeof(T)) != 0) {
            exit(1);
        }
        memcpy(data, from.data(), size * sizeof(T));
#endif
    }
    device(const device &) = delete;
    ~device() {
#ifdef __CUDACC__
        cudaFree(data);
#else
        free(data);
#endif
    }
    std::vector<T> back() const {
        std::vector<T> result(size);
#ifdef __CUDACC__
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(result.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost));
#else
        memcpy(result.data(), data, size * sizeof(T));
#endif
        return result;
    }
};

template <ggml_type ID> struct has_id { static constexpr ggml_type id = ID; };
template <class Block> struct type_of;
template <> struct type_of<pl_block_s24_q4> : has_id<GGML_TYPE_S24_Q4> { static constexpr const char * name = "s24_q4"; };
template <> struct type_of<pl_block_s24_q8> : has_id<GGML_TYPE_S24_Q8> { static constexpr const char * name = "s24_q8"; };
template <> struct type_of<pl_block_s24_t> : has_id<GGML_TYPE_S24_T> { static constexpr const char * name = "s24_t"; };

int between(int low, int high) { return low + (int) random_below((uint32_t) (high - low + 1)); }
float random_float() { return (float) between(-1000, 1000) / 512; }

// The value of weight i of a row, and its size, which bounds what rounding may do.
template <class Block> double weight(const Block * row, int64_t i) {
    const Block & x = row[i / PL_S24_BLOCK];
    double sum = 0;
    for (int k = (int) (i % PL_S24_BLOCK) / 4 * 2, end = k + 2; k < end; k++) {
        if (reference::position(x.idx, k) == i % 4) {
            sum += (double) reference::value(x, k) * reference::scale(x, k / 32);
        }
    }
    return sum;
}

const float untouched = -12345.5f;
constexpr size_t margin = 64;

// Floats at [i3][i2][column][row] with gaps between columns, matrices and samples, all `untouched`.
struct output {
    int64_t rows, columns, matrices, samples, to_column, to_matrix, to_sample;
    device<float> floats;

    output(int64_t rows, int64_t columns, int64_t matrices, int64_t samples)
        : rows(rows), columns(columns), matrices(matrices), samples(samples), to_column(rows + between(0, 3)),
          to_matrix(to_column * columns + 1), to_sample(to_matrix * matrices + 2),
          floats(std::vector<float>((size_t) (to_sample * samples) + 2 * margin, untouched)) {}

    float * data() { return floats.data + margin; }

    // wanted(row, column, i2, i3, &size) gives a sum and the sum of the sizes of its products.
    template <class F> void judge(const std::string & what, double precision, F wanted) {
        auto got = floats.back();
        double error = 0, bound = 0;
        for (int64_t i3 = 0; i3 < samples; i3++) {
            for (int64_t i2 = 0; i2 < matrices; i2++) {
                for (int64_t column = 0; column < columns; column++) {
                    for (int64_t row = 0; row < rows; row++) {
                        double size = 0;
                        float & x = got[margin + (size_t) (row + column * to_column + i2 * to_matrix + i3 * to_sample)];
                        const double off = std::fabs(x - wanted(row, column, i2, i3, &size));
                        error = std::isnan(off) ? INFINITY : std::fmax(error, off);
                        bound = std::fmax(bound, size * precision);
                        x = untouched;
                    }
                }
            }
        }
        for (const float x : got) {
            error = x == untouched ? error : INFINITY;
        }
        printf("%s %.3g %.3g\n", what.c_str(), error, bound);
    }
};

std::string shape(const char * operation, const char * type, kind weights, kind activations, int64_t rows, int64_t columns,
        int64_t blocks) {
    char text[200];
    snprintf(text, sizeof(text), "%s %s weights=%s activations=%s rows=%d columns=%d blocks=%d", operation, type, names[weights],
            names[activations], (int) rows, (int) columns, (int) blocks);
    return text;
}

// Rows of random blocks, some bytes apart from each other.
template <class Block> struct matrices_of {
    int64_t rows, blocks, row_bytes, matrix_bytes, sample_bytes;
    std::vector<char> bytes;

    matrices_of(kind k, int64_t rows, int64_t blocks, int64_t matrices, int64_t samples, int64_t gap)
        : rows(rows), blocks(blocks), row_bytes((blocks + gap) * (int64_t) sizeof(Block)), matrix_bytes(row_bytes * rows),
          sample_bytes(matrix_bytes * matrices), bytes((size_t) (sample_bytes * samples - gap * (int64_t) sizeof(Block))) {
        for (size_t i = 0; i < bytes.size() / sizeof(Block); i++) {
            Block block;
            fill(block, k);
            memcpy(&bytes[i * sizeof(Block)], &block, sizeof(block));
        }
    }
    std::vector<Block> row(int64_t i1, int64_t i2, int64_t i3) const {
        std::vector<Block> result((size_t) blocks);
        memcpy(result.data(), &bytes[(size_t) (i1 * row_bytes + i2 * matrix_bytes + i3 * sample_bytes)], result.size() * sizeof(Block));
        return result;
    }
};

// Columns as round_columns gives them.
struct rounded_columns {
    int64_t blocks;
    std::vector<uint8_t> bytes;

    rounded_columns(kind k, int64_t blocks, int64_t columns) : blocks(blocks), bytes((size_t) (cuda::rounded_bytes(blocks) * columns)) {
        for (int64_t c = 0; c < columns; c++) {
            for (int64_t i = 0; i < blocks * PL_S24_BLOCK; i++) {
                bytes[(size_t) q_at(c, i)] = (uint8_t) value(k, -127, 127);
            }
            for (int64_t i = 0; i < blocks * PL_S24_BLOCK; i += 32) {
                const float d = k == SCALED ? (float) (1 + random_below(1000)) / 1000 : 1;
                memcpy(&bytes[(size_t) d_at(c, i)], &d, sizeof(d));
            }
        }
    }
    rounded_columns(int64_t blocks, std::vector<uint8_t> bytes) : blocks(blocks), bytes(std::move(bytes)) {}

    int64_t q_at(int64_t column, int64_t i) const {
        return column * cuda::rounded_bytes(blocks) + (i % 256 / 64 * blocks + i / 256) * 64 + i % 64;
    }
    int64_t d_at(int64_t column, int64_t i) const {
        return column * cuda::rounded_bytes(blocks) + blocks * 256 + ((i % 256 / 64 * blocks + i / 256) * 2 + i % 64 / 32) * 4;
    }
    float d(int64_t column, int64_t i) const {
        float result;
        memcpy(&result, &bytes[(size_t) d_at(column, i)], sizeof(result));
        return result;
    }
    double at(int64_t column, int64_t i) const { return (double) (int8_t) bytes[(size_t) q_at(column, i)] * d(column, i); }
};

// Sum over the kept values one by one: two at one position count both for the size.
template <class Block, class F> double product(const std::vector<Block> & row, F activation, double * size) {
    double sum = 0;
    for (size_t b = 0; b < row.size(); b++) {
        for (int k = 0; k < PL_S24_KEPT; k++) {
            const double one = (double) reference::value(row[b], k) * reference::scale(row[b], k / 32) *
                    activation((int64_t) b * PL_S24_BLOCK + k / 2 * 4 + reference::position(row[b].idx, k));
            sum += one;
            *size += std::fabs(one);
        }
    }
    return sum;
}

// Floats rounded to bytes.
void check_rounding() {
    const int64_t blocks = between(1, 5), columns = between(1, 3), matrices = between(1, 3), samples = between(1, 2);
    const int64_t stride1 = blocks * 256 + between(0, 2), stride2 = stride1 * columns + between(0, 2), stride3 = stride2 * matrices;
    std::vector<float> from((size_t) (stride3 * samples));
    for (size_t i = 0; i < from.size(); i++) {
        from[i] = i / 64 % 3 == 0 ? 0 : random_float() * (i % 61 == 0 ? 100 : 1);
    }
    const device<float> x(from);
    const int64_t all = columns * matrices * samples;
    const device<uint8_t> y(std::vector<uint8_t>((size_t) (cuda::rounded_bytes(blocks) * all), 0xff));
    cuda::round({ x.data, stride1, stride2, stride3, columns, matrices, samples, blocks }, y.data, nullptr);
    const rounded_columns got(blocks, y.back());
    double error = 0; // in steps of rounding
    for (int64_t c = 0; c < all; c++) {
        const int64_t start = c % columns * stride1 + c / columns % matrices * stride2 + c / columns / matrices * stride3;
        for (int64_t i = 0; i < blocks * 256; i++) {
            float largest = 0;
            for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
                largest = std::fmax(largest, std::fabs(from[(size_t) (start + j)]));
            }
            const double d = largest / 127.0, off = std::fabs(got.at(c, i) - from[(size_t) (start + i)]);
            error = std::fmax(error, d != 0 ? std::fmax(off / d, std::fabs(got.d(c, i) / d - 1) * 1e5)
                                            : off == 0 && got.d(c, i) == 0 ? 0 : INFINITY);
        }
    }
    printf("round columns=%d matrices=%d samples=%d blocks=%d %.3g 0.501\n", (int) columns, (int) matrices, (int) samples, (int) blocks,
            error);
}

template <class Block> void check_vector(kind weights, kind activations, int columns, int64_t rows, int64_t blocks, int64_t gap) {
    const int64_t ratio2 = between(1, 2), ratio3 = between(1, 2), matrices = between(1, 2), samples = between(1, 2);
    const matrices_of<Block> w(weights, rows, blocks, matrices, samples, gap);
    const rounded_columns x(activations, blocks, columns * matrices * ratio2 * samples * ratio3);
    output out(rows, columns, matrices * ratio2, samples * ratio3);
    const device<char> weight_bytes(w.bytes);
    const device<uint8_t> rounded(x.bytes);
    cuda::vector_product p = {};
    p.weights = weight_bytes.data;
    p.row_bytes = w.row_bytes, p.matrix_bytes = w.matrix_bytes, p.sample_bytes = w.sample_bytes;
    p.rows = (int) rows, p.blocks = (int) blocks, p.matrix_ratio = (int) ratio2, p.sample_ratio = (int) ratio3;
    p.rounded = rounded.data, p.columns = columns;
    p.to = out.data(), p.to_column = out.to_column, p.to_matrix = out.to_matrix, p.to_sample = out.to_sample;
    cuda::multiply(type_of<Block>::id, p, (int) out.matrices, (int) out.samples, nullptr);
    out.judge(shape("vector", type_of<Block>::name, weights, activations, rows, columns, blocks), weights == SCALED ? 2e-6 : 0,
            [&](int64_t row, int64_t column, int64_t i2, int64_t i3, double * size) {
                const int64_t c = (i3 * out.matrices + i2) * columns + column;
                return product(w.row(row, i2 / ratio2, i3 / ratio3), [&](int64_t i) { return x.at(c, i); }, size);
            });
}

template <class Block> void check_experts(kind k, int64_t rows, int64_t blocks) {
    const int64_t experts = between(1, 5), used = between(1, 3), tokens = between(1, 8);
    const int64_t each = random_below(2) ? 1 : used, stride = used + between(0, 2);
    const matrices_of<Block> w(k, rows, blocks, experts, 1, 0);
    const rounded_columns x(k, blocks, each * tokens);
    std::vector<int32_t> ids((size_t) (stride * tokens));
    for (auto & id : ids) {
        id = between(0, (int) experts - 1);
    }
    output out(rows, 1, used, tokens);
    const device<char> weight_bytes(w.bytes);
    const device<uint8_t> rounded(x.bytes);
    const device<int32_t> chosen(ids);
    cuda::vector_product p = {};
    p.weights = weight_bytes.data;
    p.row_bytes = w.row_bytes, p.matrix_bytes = w.matrix_bytes, p.sample_bytes = w.sample_bytes;
    p.rows = (int) rows, p.blocks = (int) blocks, p.matrix_ratio = p.sample_ratio = 1;
    p.rounded = rounded.data, p.columns = (int) each;
    p.experts = chosen.data, p.expert_stride = stride;
    p.to = out.data(), p.to_column = out.to_column, p.to_matrix = out.to_matrix, p.to_sample = out.to_sample;
    cuda::multiply(type_of<Block>::id, p, (int) used, (int) tokens, nullptr);
    out.judge(shape("experts", type_of<Block>::name, k, k, rows, used * tokens, blocks), k == SCALED ? 2e-6 : 0,
            [&](int64_t row, int64_t, int64_t i2, int64_t i3, double * size) {
                const auto weights = w.row(row, ids[(size_t) (i2 + i3 * stride)], 0);
                return product(weights, [&](int64_t i) { return x.at(i3 * each + i2 % each, i); }, size);
            });
}

template <class Block> void check_tensor(kind weights, kind activations, int columns, int64_t rows, int64_t blocks) {
    const int64_t ratio2 = between(1, 2), matrices = columns > 32 ? 1 : between(1, 2), samples = 1;
    const int64_t all = columns * matrices * ratio2;
    const matrices_of<Block> w(weights, rows, blocks, matrices, samples, between(0, 1));
    std::vector<half> x((size_t) (all * blocks * PL_S24_BLOCK));
    std::vector<float> values(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        const uint16_t bits = ggml_fp32_to_fp16(activations == SCALED ? random_float() : (float) value(activations, -127, 127));
        memcpy(&x[i], &bits, sizeof(bits));
        values[i] = ggml_fp16_to_fp32(bits);
    }
    output out(rows, columns, matrices * ratio2, samples);
    const device<char> weight_bytes(w.bytes);
    const device<half> halves(x);
    cuda::tensor_product p = {};
    p.weights = weight_bytes.data;
    p.row_bytes = w.row_bytes, p.matrix_bytes = w.matrix_bytes, p.sample_bytes = w.sample_bytes;
    p.rows = (int) rows, p.blocks = (int) blocks, p.columns = columns;
    p.matrices = (int) out.matrices, p.matrix_ratio = (int) ratio2, p.sample_ratio = 1;
    p.activations = halves.data;
    p.to = out.data(), p.to_column = out.to_column, p.to_matrix = out.to_matrix, p.to_sample = out.to_sample;
    cuda::multiply_with_tensor_cores(type_of<Block>::id, p, 1, nullptr);
    // weights in F16 are off by at most half a unit of their 11 bits, sums in F32 by less
    out.judge(shape("tensor", type_of<Block>::name, weights, activations, rows, columns, blocks), weights == SCALED ? 0.6 / 1024 : 0,
            [&](int64_t row, int64_t column, int64_t i2, int64_t, double * size) {
                const float * const c = &values[(size_t) ((i2 * columns + column) * blocks * PL_S24_BLOCK)];
                return product(w.row(row, i2 / ratio2, 0), [&](int64_t i) { return c[i]; }, size);
            });
}

float from_bf16(uint16_t bits) {
    const uint32_t wide = (uint32_t) bits << 16;
    float result;
    memcpy(&result, &wide, sizeof(result));
    return result;
}

template <class T> uint16_t bits_of(const T & x) {
    uint16_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

float number(float x) { return x; }
float number(half x) { return ggml_fp16_to_fp32(bits_of(x)); }
float number(__nv_bfloat16 x) { return from_bf16(bits_of(x)); }

float rounded_to(float x, const float *) { return x; }
float rounded_to(float x, const half *) { return ggml_fp16_to_fp32(ggml_fp32_to_fp16(x)); }
float rounded_to(float x, const __nv_bfloat16 *) { return from_bf16(ggml_fp32_to_bf16(x).bits); }

// Rows by their numbers, or all of them; to places that a group of 4 divides, or not.
template <class Block, class T> void check_expand(const char * what, bool by_number, bool aligned) {
    const int64_t rows = between(1, 9), blocks = between(1, 5), matrices = between(1, 2), samples = between(1, 2);
    const int64_t wanted = by_number ? between(1, 12) : rows, length = blocks * PL_S24_BLOCK;
    const matrices_of<Block> w(SCALED, rows, blocks, matrices, samples, between(0, 1));
    std::vector<int32_t> ids((size_t) (wanted * matrices * samples));
    for (auto & id : ids) {
        id = between(0, (int) rows - 1);
    }
    const int64_t stride1 = length + (aligned ? 4 : 1), stride2 = stride1 * wanted, stride3 = stride2 * matrices;
    std::vector<T> empty((size_t) (stride3 * samples) + margin);
    memset((void *) empty.data(), 0x7f, empty.size() * sizeof(T));
    const device<char> weight_bytes(w.bytes);
    const device<int32_t> chosen(ids);
    const device<T> to(empty);
    cuda::row_range r = {};
    r.from = weight_bytes.data;
    r.row_bytes = w.row_bytes, r.matrix_bytes = w.matrix_bytes, r.sample_bytes = w.sample_bytes;
    r.ids = by_number ? chosen.data : nullptr;
    r.id_stride1 = 1, r.id_stride2 = wanted, r.id_stride3 = wanted * matrices;
    r.to_stride1 = stride1, r.to_stride2 = stride2, r.to_stride3 = stride3;
    r.groups = length / 4, r.rows = wanted, r.matrices = matrices, r.samples = samples;
    cuda::expand(type_of<Block>::id, r, to.data, nullptr);
    auto got = to.back();
    double error = 0;
    for (int64_t i3 = 0; i3 < samples; i3++) {
        for (int64_t i2 = 0; i2 < matrices; i2++) {
            for (int64_t i1 = 0; i1 < wanted; i1++) {
                const auto row = w.row(by_number ? ids[(size_t) (i1 + i2 * wanted + i3 * wanted * matrices)] : i1, i2, i3);
                for (int64_t i = 0; i < length; i++) {
                    T & x = got[(size_t) (i + i1 * stride1 + i2 * stride2 + i3 * stride3)];
                    const double off = std::fabs(number(x) - rounded_to((float) weight(row.data(), i), (const T *) nullptr));
                    error = std::isnan(off) ? INFINITY : std::fmax(error, off);
                    memset((void *) &x, 0x7f, sizeof(T));
                }
            }
        }
    }
    if (memcmp(got.data(), empty.data(), got.size() * sizeof(T)) != 0) {
        error = INFINITY;
    }
    printf("%s %s %s %s rows=%d blocks=%d %.3g 0\n", by_number ? "get_rows" : "expand", type_of<Block>::name, what,
            aligned ? "aligned" : "unaligned", (int) wanted, (int) blocks, error);
}

template <class Block> void check_type() {
    for (kind weights : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
        for (kind activations : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
            if ((weights == SCALED) != (activations == SCALED)) {
                continue;
            }
            for (int columns = 1; columns <= cuda::VECTOR_COLUMNS; columns++) {
                check_vector<Block>(weights, activations, columns, between(1, 12), weights == SCALED ? 8 * between(1, 2) : 8, 0);
            }
            // rows that are not whole words of 16 bytes; without scales few blocks, so that F32 holds the sums
            check_vector<Block>(weights, activations, 1, between(1, 12), between(1, weights == SCALED ? 17 : 8), between(0, 1));
            check_vector<Block>(weights, activations, between(2, 8), between(1, 12), between(1, weights == SCALED ? 17 : 8), between(0, 1));
            check_tensor<Block>(weights, activations, between(1, 32), between(1, 140), between(1, 2));
        }
        check_experts<Block>(weights, between(1, 20), between(1, 8));
    }
    for (int columns : { 33, 128, 129 }) {
        check_tensor<Block>(WHOLE, WHOLE, columns, between(1, 128), 1);
    }
    check_tensor<Block>(SCALED, SCALED, between(33, 128), between(128, 140), 2);
    for (bool by_number : { false, true }) {
        for (bool aligned : { false, true }) {
            check_expand<Block, float>("f32", by_number, aligned);
            check_expand<Block, half>("f16", by_number, aligned);
            check_expand<Block, __nv_bfloat16>("bf16", by_number, aligned);
        }
    }
}

void check_halves() {
    const int64_t blocks = between(1, 3), columns = between(1, 3), matrices = between(1, 2), length = blocks * 256, stride1 = length + 1;
    std::vector<float> from((size_t) (stride1 * columns * matrices));
    for (auto & x : from) {
        x = random_float();
    }
    const device<float> x(from);
    const device<half> to(std::vector<half>((size_t) (length * columns * matrices)));
    cuda::to_half({ x.data, stride1, stride1 * columns, stride1 * columns * matrices, columns, matrices, 1, length }, to.data, nullptr);
    const auto got = to.back();
    double error = 0;
    for (int64_t c = 0; c < columns * matrices; c++) {
        for (int64_t i = 0; i < length; i++) {
            const float wanted = rounded_to(from[(size_t) (c * stride1 + i)], (const half *) nullptr);
            error = std::fmax(error, std::fabs(number(got[(size_t) (c * length + i)]) - wanted));
        }
    }
    printf("to_half columns=%d matrices=%d blocks=%d %.3g 0\n", (int) columns, (int) matrices, (int) blocks, error);
}

} // namespace

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
#ifndef __CUDACC__
    on_cpu::order = state;
#endif
    for (int repeats = argc > 2 ? atoi(argv[2]) : 1; repeats > 0; repeats--) {
        for (int i = 0; i < 8; i++) {
            check_rounding();
            check_halves();
        }
        check_type<pl_block_s24_q4>();
        check_type<pl_block_s24_q8>();
        check_type<pl_block_s24_t>();
    }
    return 0;
}
