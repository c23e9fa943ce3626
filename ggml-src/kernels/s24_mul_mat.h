// What ggml-cpu calls for 2:4 sparse weights (s24.h). patches/s24-types.patch compiles it into ops.cpp, once for every processor
// generation.
#pragma once

#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "quants.h"
#include "s24_dot.h"
#include "s24_round.h"
#include "x86/s24_gemm.h"
#if defined(__AVX2__)
#include "x86/round_q8_K.h"
#endif

#include <algorithm>
#ifdef PL_S24_REFERENCE
#include <atomic>
#endif

namespace pl {
namespace s24 {

// Larger matrices are expected to come from memory, which rows_from_memory suits best; from a cache, rows that share the loads of
// activations take less time.
constexpr int64_t streamed = 256 * 1024;

// Rows begin .. end of the products, R at a time; column(j) is where the activations of column j lie.
template <int R, class Block, class Column>
void some_rows(const Block * x, int64_t stride, const columns & y, const Column & column, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += R) {
        for (int64_t j = 0; j < y.count; j++) {
            float * const c = y.result(j);
            if (row + R <= end) {
                rows<R>(x + row * stride, stride, column(j), y.blocks, c + row);
            } else {
                for (int64_t r = row; r < end; r++) {
                    rows<1>(x + r * stride, stride, column(j), y.blocks, c + r);
                }
            }
        }
    }
}

// Whether there are tiles for so many columns: their offsets, in bytes, are of 32 bits.
inline bool packs(int64_t columns, size_t bytes) {
#ifdef PL_S24_GEMM
    return columns >= least_gemm_columns && bytes <= INT32_MAX;
#else
    GGML_UNUSED(columns);
    GGML_UNUSED(bytes);
    return false;
#endif
}

// Rows begin .. end of a matrix of m, in the way that is fastest.
template <class Block> void product(const Block * x, size_t row_bytes, int64_t m, const columns & y, bool in_tiles, int64_t begin,
        int64_t end) {
    const int64_t stride = int64_t(row_bytes / sizeof(Block));
#ifdef PL_S24_GEMM
    const operands<Block> o = { x, stride, y };
    if (in_tiles && gemm<Block>(o).run(begin, end)) {
        return;
    }
#else
    GGML_UNUSED(in_tiles);
#endif
    const auto go = [&](const auto & column) {
        if (y.count == 1 && m * int64_t(row_bytes) >= streamed) {
            some_rows<rows_from_memory<Block>>(x, stride, y, column, begin, end);
        } else {
            some_rows<4>(x, stride, y, column, begin, end);
        }
    };
#ifdef PL_S24_AVX512
    const int64_t count = y.count < least_gemm_columns ? y.count * y.blocks : 0;
    column_block * const copies = (column_block *) scratch(size_t(count) * sizeof(column_block));
    if (count > 0 && copies != nullptr) {
        for (int64_t i = 0; i < count; i++) {
            copy(y[i / y.blocks][i % y.blocks], copies[i]);
        }
        go([&](int64_t j) { return copies + j * y.blocks; });
        return;
    }
#endif
    go([&](int64_t j) { return y[j]; });
}

template <class Block> void mul_mat(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * a = dst->src[0], * b = dst->src[1];
    const int64_t m = a->ne[1], n = b->ne[1], blocks = a->ne[0] / PL_S24_BLOCK, matrices = b->ne[2] * b->ne[3];
    const size_t column_bytes = size_t(blocks) * sizeof(pl_block_q8_s24);
    // Every thread begins with the chunk of its own number; ggml has set the next to the number of threads. Several columns are packed
    // for every chunk: a chunk for each thread then.
    const bool in_tiles = packs(n, 16 * column_bytes);
    const int64_t parts = in_tiles ? params->nth : 8 * params->nth;
    const int64_t rows_each = std::max<int64_t>(16, ((m + parts - 1) / parts + 7) / 8 * 8);
    const int64_t chunks = (m + rows_each - 1) / rows_each;
    for (int64_t chunk = params->ith; chunk < chunks * matrices; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t matrix = chunk / chunks, i2 = matrix % b->ne[2], i3 = matrix / b->ne[2];
        const char * weights = (const char *) a->data + i2 / (b->ne[2] / a->ne[2]) * a->nb[2] + i3 / (b->ne[3] / a->ne[3]) * a->nb[3];
        const columns y = { (const char *) params->wdata + size_t(matrix * n) * column_bytes,
            (char *) dst->data + i2 * dst->nb[2] + i3 * dst->nb[3], n, blocks, dst->nb[1] };
        const int64_t begin = chunk % chunks * rows_each;
        product((const Block *) weights, a->nb[1], m, y, in_tiles, begin, std::min(m, begin + rows_each));
    }
}

// One expert and its columns: a part of the rows for each thread.
template <class Block> void mul_mat_id(const ggml_compute_params * params, ggml_tensor * dst, int64_t expert, int64_t n,
        const int32_t * which) {
    const ggml_tensor * a = dst->src[0], * b = dst->src[1];
    const int64_t m = a->ne[1], each = ((m + params->nth - 1) / params->nth + 7) / 8 * 8, begin = params->ith * each;
    const columns y = { (const char *) params->wdata, (char *) dst->data, n, a->ne[0] / PL_S24_BLOCK, dst->nb[1], which, b->ne[1],
        dst->nb[2] };
    const bool in_tiles = packs(n, y.bytes() * size_t(b->ne[1] * b->ne[2]));
    product((const Block *) ((const char *) a->data + expert * a->nb[2]), a->nb[1], m, y, in_tiles, begin, std::min(m, begin + each));
}

// Whether a product is one of these. Where there is nothing but the reference, the first that is says so.
static bool is_ours(const ggml_compute_params * params, const ggml_tensor * dst) {
    const bool ours = !params->use_ref && dst->src[1]->type == GGML_TYPE_F32 && pl_s24(dst->src[0]->type);
#ifdef PL_S24_REFERENCE
    static std::atomic<bool> said;
    if (ours && !said.exchange(true)) {
        GGML_LOG_WARN("no kernels for this processor: 2:4 sparse weights go through the slow reference\n");
    }
#endif
    return ours;
}

} // namespace s24
} // namespace pl

bool pl_s24_mul_mat(const ggml_compute_params * params, ggml_tensor * dst) {
    if (!pl::s24::is_ours(params, dst)) {
        return false;
    }
    switch (dst->src[0]->type) {
        case GGML_TYPE_S24_Q4: pl::s24::mul_mat<pl_block_s24_q4>(params, dst); return true;
        case GGML_TYPE_S24_Q8: pl::s24::mul_mat<pl_block_s24_q8>(params, dst); return true;
        case GGML_TYPE_S24_T: pl::s24::mul_mat<pl_block_s24_t>(params, dst); return true;
        default: return false;
    }
}

bool pl_s24_mul_mat_id(const ggml_compute_params * params, ggml_tensor * dst, int64_t expert, int64_t columns,
        const int32_t * which) {
    if (!pl::s24::is_ours(params, dst)) {
        return false;
    }
    switch (dst->src[0]->type) {
        case GGML_TYPE_S24_Q4: pl::s24::mul_mat_id<pl_block_s24_q4>(params, dst, expert, columns, which); return true;
        case GGML_TYPE_S24_Q8: pl::s24::mul_mat_id<pl_block_s24_q8>(params, dst, expert, columns, which); return true;
        case GGML_TYPE_S24_T: pl::s24::mul_mat_id<pl_block_s24_t>(params, dst, expert, columns, which); return true;
        default: return false;
    }
}

void pl_quantize_row_q8_s24(const float * from, void * to, int64_t k) {
    for (int64_t i = 0; i < k / PL_S24_BLOCK; i++) {
        pl::s24::round(from + i * PL_S24_BLOCK, ((pl_block_q8_s24 *) to)[i]);
    }
}

void pl_quantize_row_q8_K(const float * from, void * to, int64_t k) {
#if defined(__AVX2__)
    for (int64_t i = 0; i < k / 256; i++) {
        pl::round_block_q8_K(from + 256 * i, ((pl_block_q8_K *) to)[i]);
    }
#else
    quantize_row_q8_K(from, to, k);
#endif
}

#define PL_S24_VEC_DOT(name)                                                                                                    \
    void pl_vec_dot_s24_##name(int n, float * s, size_t, const void * vx, size_t, const void * vy, size_t, int) {               \
        pl::s24::rows<1>((const pl_block_s24_##name *) vx, 0, (const pl_block_q8_s24 *) vy, n / PL_S24_BLOCK, s);                 \
    }

PL_S24_VEC_DOT(q4)
PL_S24_VEC_DOT(q8)
PL_S24_VEC_DOT(t)
