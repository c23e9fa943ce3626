// Products of rows of 2:4 sparse weights (s24.h) with rounded activations: the reference, and what this processor generation has for it.
//
//   rows<R>(x, stride, y, blocks, sums)   sums[r] = row x + r * stride times y, for R rows of `blocks` blocks
//
// All pick the activations that kept weights meet by shuffles whose controls are the positions, so that a block of 256 weights takes 128
// products. Sums of products are exact in every instruction set and equal the reference's; sums of floats differ in their order.
#pragma once

#include "s24.h"

#include <cstddef>
#include <cstdint>

namespace pl {
namespace s24 {
namespace reference {

inline int position(const uint8_t * idx, int k) { return idx[k % 32] >> 2 * (k / 32) & 3; }

inline int value(const pl_block_s24_q4 & x, int k) { return (x.qs[k % 64] >> 4 * (k / 64) & 15) - 8; }
inline int value(const pl_block_s24_q8 & x, int k) { return x.qs[k]; }
inline int value(const pl_block_s24_t & x, int k) { return x.signs[k / 8] >> k % 8 & 1 ? -1 : 1; }

inline float scale(const pl_block_s24_q4 & x, int j) { return ggml_fp16_to_fp32(x.d[j]); }
inline float scale(const pl_block_s24_q8 & x, int j) { return ggml_fp16_to_fp32(x.d[j]); }
inline float scale(const pl_block_s24_t & x, int j) { return ggml_fp16_to_fp32(x.d) * (float) x.scale[j]; }

// The 32 weights from 32 g on times the activations there, without scales.
template <class Block> int32_t dot(const Block & x, const pl_block_q8_s24 & y, int g) {
    int32_t sum = 0;
    for (int k = 16 * g; k < 16 * g + 16; k++) {
        sum += value(x, k) * y.qs[k / 2 * 4 + position(x.idx, k)];
    }
    return sum;
}

template <int R, class Block> void rows(const Block * x, int64_t stride, const pl_block_q8_s24 * y, int64_t blocks, float * sums) {
    for (int r = 0; r < R; r++) {
        sums[r] = 0;
        for (int64_t b = 0; b < blocks; b++) {
            float sum = 0;
            for (int g = 0; g < 8; g++) {
                sum += (float) dot(x[r * stride + b], y[b], g) * (scale(x[r * stride + b], g / 2) * y[b].d[g % 2][g / 2]);
            }
            sums[r] += sum;
        }
    }
}

} // namespace reference

// Rows that are read together where they come from memory: one after the other is best for memory, several share the loads of activations.
template <class Block> constexpr int rows_from_memory = 1;

// Columns of activations of `blocks` blocks each, and where their products with the rows of a matrix go. Those that meet an expert
// (mul_mat_id) lie scattered: column j is number which[2 j] of what token which[2 j + 1] has, of `per_token` or one for all its experts.
struct columns {
    const char * from;
    char *       to;
    int64_t      count, blocks;
    size_t       to_next; // bytes from result to result, and with experts from token to token
    const int32_t * which     = nullptr;
    int64_t         per_token = 0;
    size_t          to_token  = 0;

    size_t bytes() const { return size_t(blocks) * sizeof(pl_block_q8_s24); }

    const pl_block_q8_s24 * operator[](int64_t j) const {
        const int64_t at = which ? which[2 * j] % per_token + which[2 * j + 1] * per_token : j;
        return (const pl_block_q8_s24 *) (from + size_t(at) * bytes());
    }

    float * result(int64_t j) const {
        return (float *) (to + (which ? size_t(which[2 * j]) * to_next + size_t(which[2 * j + 1]) * to_token : size_t(j) * to_next));
    }
};

} // namespace s24
} // namespace pl

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "x86/s24_rows.h"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "arm/s24_rows.h"
#else
#define PL_S24_REFERENCE
namespace pl {
namespace s24 {
using reference::rows;
}
} // namespace pl
#endif
