// The two thin products of a LoRA adapter, y += s B (A x), for rows that are picked from a batch. Compiled once per processor generation
// (ext/lora_*.cpp), which defines PL_LORA_NAMESPACE before it includes this file.
//
// Vectors are 16 floats in the compiler's own vector type, which it lowers to what the processor has. A dot product adds up in 16 lanes
// in the order of the elements and a row of y in the order of the ranks, whatever the tile: the result of a row does not depend on which
// other rows are in the batch. Weights are F32, F16, or any type of ggml with a way to floats, which is unpacked in pieces of 256.
#include "ggml.h"
#include "lora_kernels.h"

#include <cstring>

#if defined(__AVX__) && defined(__F16C__) || defined(__AVX512F__)
#    include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#    include <arm_neon.h>
#endif

namespace pl {
namespace PL_LORA_NAMESPACE {

constexpr int     LANES = 16;
constexpr int64_t PIECE = 256; // a multiple of the blocks of every type of ggml

#if defined(__GNUC__)
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
#else
struct vec {
    float v[LANES];
    vec operator*(const vec & o) const { vec r; for (int i = 0; i < LANES; i++) { r.v[i] = v[i] * o.v[i]; } return r; }
    vec & operator+=(const vec & o) { for (int i = 0; i < LANES; i++) { v[i] += o.v[i]; } return *this; }
};
#endif

static inline vec load(const float * p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float * p, vec v) { memcpy(p, &v, sizeof v); }

static inline vec spread(float x) {
    float all[LANES];
    for (int i = 0; i < LANES; i++) { all[i] = x; }
    return load(all);
}

static inline float sum(vec v) {
    float x[LANES];
    memcpy(x, &v, sizeof v);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) { x[i] += x[i + half]; }
    }
    return x[0];
}

static inline vec load(const ggml_fp16_t * p) {
#if defined(__AVX512F__)
    const __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
    vec r;
    memcpy(&r, &v, sizeof r);
    return r;
#elif defined(__AVX__) && defined(__F16C__)
    const __m256 v[2] = { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p + 1)) };
    vec r;
    memcpy(&r, v, sizeof r);
    return r;
#elif defined(__ARM_NEON) && defined(__aarch64__)
    float v[LANES];
    for (int i = 0; i < LANES; i += 4) { vst1q_f32(v + i, vcvt_f32_f16(vld1_f16((const __fp16 *) (p + i)))); }
    return load(v);
#else
    float v[LANES];
    ggml_fp16_to_fp32_row(p, v, LANES);
    return load(v);
#endif
}

// Up to 15 elements at p, followed by zeros.
template <typename T> static inline vec load_some(const T * p, int64_t n) {
    T all[LANES] = {};
    memcpy(all, p, n * sizeof(T));
    return load(all);
}

// R rows of weights against C rows of x, n elements each: sums[r][c] goes on.
template <int R, int C, typename T>
static inline void dot_tile(const T * const * w, const float * const * x, int64_t n, vec sums[R][C]) {
    vec acc[R][C];
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < C; c++) { acc[r][c] = sums[r][c]; }
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec b[C];
        for (int c = 0; c < C; c++) { b[c] = load(x[c] + i); }
        for (int r = 0; r < R; r++) {
            const vec a = load(w[r] + i);
            for (int c = 0; c < C; c++) { acc[r][c] += a * b[c]; }
        }
    }
    if (i < n) {
        for (int r = 0; r < R; r++) {
            const vec a = load_some(w[r] + i, n - i);
            for (int c = 0; c < C; c++) { acc[r][c] += a * load_some(x[c] + i, n - i); }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < C; c++) { sums[r][c] = acc[r][c]; }
    }
}

template <int R, int C> static void down_tile(const lora_matrix & a, int64_t row, const float * const * x, float * const * h, const float * scale) {
    vec sums[R][C] = {};
    const char * w[R];
    for (int r = 0; r < R; r++) { w[r] = (const char *) a.data + (row + r) * a.stride; }
    if (a.type == GGML_TYPE_F32) {
        dot_tile<R, C>((const float * const *) w, x, a.columns, sums);
    } else if (a.type == GGML_TYPE_F16) {
        dot_tile<R, C>((const ggml_fp16_t * const *) w, x, a.columns, sums);
    } else {
        float unpacked[R][PIECE];
        const float * piece[R];
        const float * part[C];
        for (int64_t i = 0; i < a.columns; i += PIECE) {
            const int64_t n = a.columns - i < PIECE ? a.columns - i : PIECE;
            for (int r = 0; r < R; r++) {
                a.to_float(w[r] + ggml_row_size((ggml_type) a.type, i), unpacked[r], n);
                piece[r] = unpacked[r];
            }
            for (int c = 0; c < C; c++) { part[c] = x[c] + i; }
            dot_tile<R, C>(piece, part, n, sums);
        }
    }
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < C; c++) { h[c][row + r] = scale[c] * sum(sums[r][c]); }
    }
}

template <int C> static void down_rows(const lora_matrix & a, int64_t r0, int64_t r1, const float * const * x, float * const * h, const float * scale) {
    int64_t row = r0;
    for (; row + 4 <= r1; row += 4) { down_tile<4, C>(a, row, x, h, scale); }
    for (; row < r1; row++) { down_tile<1, C>(a, row, x, h, scale); }
}

// h_j[r] = s_j * sum_i A[r][i] x_j[i] for r in [r0, r1)
static void down(const lora_matrix & a, int64_t r0, int64_t r1, const float * const * x, float * const * h, const float * scale, int64_t n) {
    int64_t j = 0;
    for (; j + 6 <= n; j += 6) { down_rows<6>(a, r0, r1, x + j, h + j, scale + j); }
    for (; j + 2 <= n; j += 2) { down_rows<2>(a, r0, r1, x + j, h + j, scale + j); }
    for (; j < n; j++) { down_rows<1>(a, r0, r1, x + j, h + j, scale + j); }
}

// V vectors of columns for C rows of y; w points to the column of rank 0 in elements of T, whose rows are `step` bytes apart.
template <int V, int C, typename T>
static inline void up_tile(const char * w, size_t step, int64_t rank, const float * const * h, float * const * y, int64_t o) {
    vec acc[C][V];
    for (int c = 0; c < C; c++) {
        for (int v = 0; v < V; v++) { acc[c][v] = load(y[c] + o + v * LANES); }
    }
    for (int64_t r = 0; r < rank; r++, w += step) {
        vec b[V];
        for (int v = 0; v < V; v++) { b[v] = load((const T *) w + v * LANES); }
        for (int c = 0; c < C; c++) {
            const vec s = spread(h[c][r]);
            for (int v = 0; v < V; v++) { acc[c][v] += s * b[v]; }
        }
    }
    for (int c = 0; c < C; c++) {
        for (int v = 0; v < V; v++) { store(y[c] + o + v * LANES, acc[c][v]); }
    }
}

// Fewer than LANES columns.
template <typename T>
static inline void up_some(const char * w, size_t step, int64_t rank, const float * h, float * y, int64_t n) {
    vec acc = load_some(y, n);
    for (int64_t r = 0; r < rank; r++, w += step) { acc += spread(h[r]) * load_some((const T *) w, n); }
    memcpy(y, &acc, n * sizeof(float));
}

// Columns [o0, o1) of C rows of y; w points to column o0 of rank 0.
template <int C, typename T>
static inline void up_rows(const char * w, size_t step, int64_t rank, const float * const * h, float * const * y, int64_t o0, int64_t o1) {
    int64_t o = o0;
    for (; o + 4 * LANES <= o1; o += 4 * LANES) { up_tile<4, C, T>(w + (o - o0) * sizeof(T), step, rank, h, y, o); }
    for (; o + LANES <= o1; o += LANES) { up_tile<1, C, T>(w + (o - o0) * sizeof(T), step, rank, h, y, o); }
    if (o < o1) {
        for (int c = 0; c < C; c++) { up_some<T>(w + (o - o0) * sizeof(T), step, rank, h[c], y[c] + o, o1 - o); }
    }
}

// Rows outside, columns inside: y is what does not fit a cache, and is read and written in its order.
template <typename T>
static void up_span(const char * w, size_t step, int64_t rank, const float * const * h, float * const * y, int64_t n, int64_t o0, int64_t o1) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) { up_rows<4, T>(w, step, rank, h + j, y + j, o0, o1); }
    for (; j < n; j++) { up_rows<1, T>(w, step, rank, h + j, y + j, o0, o1); }
}

// y_j[o] += sum_r h_j[r] B[r][o] for o in [o0, o1), which begins at a multiple of PIECE unless the type is a float
static void up(const lora_matrix & b, int64_t rank, const float * const * h, float * const * y, int64_t n, int64_t o0, int64_t o1) {
    const char * w = (const char *) b.data;
    if (b.type == GGML_TYPE_F32) {
        up_span<float>(w + o0 * sizeof(float), b.stride, rank, h, y, n, o0, o1);
    } else if (b.type == GGML_TYPE_F16) {
        up_span<ggml_fp16_t>(w + o0 * sizeof(ggml_fp16_t), b.stride, rank, h, y, n, o0, o1);
    } else {
        constexpr int64_t RANKS = 16;
        float unpacked[RANKS][PIECE];
        for (int64_t o = o0; o < o1; o += PIECE) {
            const int64_t columns = o1 - o < PIECE ? o1 - o : PIECE;
            for (int64_t r = 0; r < rank; r += RANKS) {
                const int64_t ranks = rank - r < RANKS ? rank - r : RANKS;
                for (int64_t k = 0; k < ranks; k++) {
                    b.to_float(w + (r + k) * b.stride + ggml_row_size((ggml_type) b.type, o), unpacked[k], columns);
                }
                for (int64_t j = 0; j < n; j++) {
                    const float * part = h[j] + r;
                    up_span<float>((const char *) unpacked, sizeof unpacked[0], ranks, &part, y + j, 1, o, o + columns);
                }
            }
        }
    }
}

} // namespace PL_LORA_NAMESPACE

extern const lora_kernels PL_LORA_KERNELS;
const lora_kernels PL_LORA_KERNELS = { PL_LORA_NAMESPACE::down, PL_LORA_NAMESPACE::up };

} // namespace pl
