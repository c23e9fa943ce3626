// 2:4 sparse weights (s24.h) as floats: whole tensors for products of floats, and single rows.
#pragma once

#include "s24_device.cuh"

namespace pl {
namespace s24 {
namespace cuda {

__device__ inline void store(float & to, float x) { to = x; }
__device__ inline void store(half & to, float x) { to = __float2half(x); }
__device__ inline void store(__nv_bfloat16 & to, float x) { to = __float2bfloat16(x); }

// Rows of weights and where they go, in three dimensions. Without `ids` row i1 is row i1.
struct row_range {
    const char *    from;
    int64_t         row_bytes, matrix_bytes, sample_bytes;
    const int32_t * ids;
    int64_t         id_stride1, id_stride2, id_stride3; // int32
    int64_t         to_stride1, to_stride2, to_stride3; // values
    int64_t         groups, rows, matrices, samples;    // groups of 4 weights in a row
};

template <class T> struct alignas(4 * sizeof(T)) group_of { T values[4]; };

// A thread a group. VECTOR: all groups of `to` lie at addresses that their size divides.
template <class Block, class T, bool VECTOR> __global__ void __launch_bounds__(256) expand_rows(row_range r, T * to) {
    const int64_t g = (int64_t) blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= r.groups) {
        return;
    }
    const int k = 2 * (int) (g % (PL_S24_BLOCK / 4));
    for (int64_t matrix = blockIdx.z; matrix < r.matrices * r.samples; matrix += gridDim.z) {
        const int64_t i2 = matrix % r.matrices, i3 = matrix / r.matrices;
        for (int64_t i1 = blockIdx.y; i1 < r.rows; i1 += gridDim.y) {
            const int64_t row = r.ids ? r.ids[i1 * r.id_stride1 + i2 * r.id_stride2 + i3 * r.id_stride3] : i1;
            const char * from = r.from + row * r.row_bytes + i2 * r.matrix_bytes + i3 * r.sample_bytes;
            const Block & x = ((const Block *) from)[g / (PL_S24_BLOCK / 4)];
            const float d = scale(x, k / 32);
            const float first = (float) value(x, k) * d, second = (float) value(x, k + 1) * d;
            const int at_first = position(x.idx, k), at_second = position(x.idx, k + 1);
            group_of<T> group;
            for (int i = 0; i < 4; i++) {
                store(group.values[i], (i == at_first ? first : 0) + (i == at_second ? second : 0));
            }
            T * const out = to + i1 * r.to_stride1 + i2 * r.to_stride2 + i3 * r.to_stride3 + 4 * g;
            if constexpr (VECTOR) {
                *(group_of<T> *) out = group;
            } else {
                for (int i = 0; i < 4; i++) {
                    out[i] = group.values[i];
                }
            }
        }
    }
}

template <class Block, class T> void expand(const row_range & r, T * to, cudaStream_t stream) {
    if (r.groups == 0 || r.rows == 0 || r.matrices == 0 || r.samples == 0) {
        return;
    }
    const auto at_most = [](int64_t n) { return (unsigned) (n < 65535 ? n : 65535); };
    const dim3 grid((unsigned) ((r.groups + 255) / 256), at_most(r.rows), at_most(r.matrices * r.samples));
    const uint64_t size = 4 * sizeof(T);
    const bool vector = (uintptr_t) to % size == 0 && (uint64_t) (r.to_stride1 | r.to_stride2 | r.to_stride3) % 4 == 0;
    launch(vector ? expand_rows<Block, T, true> : expand_rows<Block, T, false>, grid, dim3(256), 0, stream, r, to);
}

// False for types that are not of s24.h.
template <class T> bool expand(ggml_type type, const row_range & r, T * to, cudaStream_t stream) {
    switch (type) {
        case GGML_TYPE_S24_Q4: expand<pl_block_s24_q4>(r, to, stream); return true;
        case GGML_TYPE_S24_Q8: expand<pl_block_s24_q8>(r, to, stream); return true;
        case GGML_TYPE_S24_T: expand<pl_block_s24_t>(r, to, stream); return true;
        default: return false;
    }
}

} // namespace cuda
} // namespace s24
} // namespace pl
