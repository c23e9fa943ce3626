// What ggml-cpu calls for 2:4 sparse weights (s24.h). patches/s24-types.patch compiles it into ops.cpp, once for every processor
// generation.
#pragma once

#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "quants.h"
#include "s24_dot.h"
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

// Rows begin .. end of the product of m rows of weights with n columns of activations.
template <class Block> void some_rows(const char * weights, size_t stride, const char * columns, size_t column_bytes, float * to, int64_t ldc, int64_t n,
        int64_t blocks, int64_t begin, int64_t end) {
    const Block * const x = (const Block *) weights;
    const int64_t lda = int64_t(stride / sizeof(Block));
    constexpr int R = 4;
    for (int64_t row = begin; row < end; row += R) {
        for (int64_t j = 0; j < n; j++) {
            const pl_block_q8_K * const y = (const pl_block_q8_K *) (columns + j * column_bytes);
            float * const c = to + j * ldc + row;
            if (row + R <= end) {
                rows<R>(x + row * lda, lda, y, blocks, c);
            } else {
                for (int64_t r = row; r < end; r++) {
                    rows<1>(x + r * lda, lda, y, blocks, to + j * ldc + r);
                }
            }
        }
    }
}

template <class Block> void mul_mat(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * a = dst->src[0], * b = dst->src[1];
    const int64_t m = a->ne[1], n = b->ne[1], blocks = a->ne[0] / PL_S24_BLOCK, matrices = b->ne[2] * b->ne[3];
    const size_t column_bytes = size_t(blocks) * sizeof(pl_block_q8_K);
    // Every thread begins with the chunk of its own number; ggml has set the next to the number of threads. Several columns are packed
    // for every chunk: a chunk for each thread then.
#ifdef PL_S24_GEMM
    const bool packs = n >= least_gemm_columns;
#else
    const bool packs = false;
#endif
    const int64_t parts = packs ? params->nth : 8 * params->nth;
    const int64_t rows_each = std::max<int64_t>(16, ((m + parts - 1) / parts + 7) / 8 * 8);
    const int64_t chunks = (m + rows_each - 1) / rows_each;
    for (int64_t chunk = params->ith; chunk < chunks * matrices; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t matrix = chunk / chunks, i2 = matrix % b->ne[2], i3 = matrix / b->ne[2];
        const char * weights = (const char *) a->data + i2 / (b->ne[2] / a->ne[2]) * a->nb[2] + i3 / (b->ne[3] / a->ne[3]) * a->nb[3];
        const char * columns = (const char *) params->wdata + matrix * n * column_bytes;
        float * to = (float *) ((char *) dst->data + i2 * dst->nb[2] + i3 * dst->nb[3]);
        const int64_t begin = chunk % chunks * rows_each, end = std::min(m, begin + rows_each), ldc = int64_t(dst->nb[1] / sizeof(float));
#ifdef PL_S24_GEMM
        const operands<Block> o = { (const Block *) weights, (const pl_block_q8_K *) columns, to, n, blocks, int64_t(a->nb[1] / sizeof(Block)), ldc };
        if (packs && gemm<Block>(o).run(begin, end)) {
            continue;
        }
#endif
        some_rows<Block>(weights, a->nb[1], columns, column_bytes, to, ldc, n, blocks, begin, end);
    }
}

} // namespace s24
} // namespace pl

bool pl_s24_mul_mat(const ggml_compute_params * params, ggml_tensor * dst) {
    if (params->use_ref || dst->src[1]->type != GGML_TYPE_F32) {
        return false;
    }
#ifdef PL_S24_REFERENCE
    static std::atomic<bool> said;
    if (dst->src[0]->type >= GGML_TYPE_S24_Q4 && !said.exchange(true)) {
        GGML_LOG_WARN("%s: no kernels for this processor: 2:4 sparse weights go through the slow reference\n", __func__);
    }
#endif
    switch (dst->src[0]->type) {
        case GGML_TYPE_S24_Q4: pl::s24::mul_mat<pl_block_s24_q4>(params, dst); return true;
        case GGML_TYPE_S24_Q8: pl::s24::mul_mat<pl_block_s24_q8>(params, dst); return true;
        case GGML_TYPE_S24_T: pl::s24::mul_mat<pl_block_s24_t>(params, dst); return true;
        default: return false;
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
        pl::s24::rows<1>((const pl_block_s24_##name *) vx, 0, (const pl_block_q8_K *) vy, n / PL_S24_BLOCK, s);                 \
    }

PL_S24_VEC_DOT(q4)
PL_S24_VEC_DOT(q8)
PL_S24_VEC_DOT(t)
