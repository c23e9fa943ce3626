// How ggml-cuda gets floats of 2:4 sparse weights (patches/s24-cuda.patch). On HIP and MUSA it does not: the types are refused.
#pragma once

#include "ggml-cuda/common.cuh"
#include "s24.h"

#if !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
#define PL_S24_CUDA
#include "cuda/s24_rows.cuh"
#endif

namespace pl {
namespace s24 {
namespace cuda {

inline bool is_type(ggml_type type) { return pl_s24(type); }

template <class T> using convert_t = void (*)(const void * from, T * to, int64_t k, cudaStream_t stream);
template <class T> using convert_rows_t = void (*)(const void * from, T * to, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3,
        int64_t blocks1, int64_t blocks2, int64_t blocks3, cudaStream_t stream);

#ifdef PL_S24_CUDA
template <class Block, class T>
void convert_rows(const void * from, T * to, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3, int64_t blocks1, int64_t blocks2,
        int64_t blocks3, cudaStream_t stream) {
    const int64_t size = (int64_t) sizeof(Block);
    row_range r = {};
    r.from = (const char *) from;
    r.row_bytes = blocks1 * size, r.matrix_bytes = blocks2 * size, r.sample_bytes = blocks3 * size;
    r.to_stride1 = ne0, r.to_stride2 = ne0 * ne1, r.to_stride3 = ne0 * ne1 * ne2;
    r.groups = ne0 / 4, r.rows = ne1, r.matrices = ne2, r.samples = ne3;
    expand<Block>(r, to, stream);
}

template <class Block, class T> void convert(const void * from, T * to, int64_t k, cudaStream_t stream) {
    convert_rows<Block>(from, to, k, 1, 1, 1, 0, 0, 0, stream);
}

template <class T> convert_t<T> converter(ggml_type type) {
    switch (type) {
        case GGML_TYPE_S24_Q4: return convert<pl_block_s24_q4, T>;
        case GGML_TYPE_S24_Q8: return convert<pl_block_s24_q8, T>;
        case GGML_TYPE_S24_T: return convert<pl_block_s24_t, T>;
        default: return nullptr;
    }
}

template <class T> convert_rows_t<T> row_converter(ggml_type type) {
    switch (type) {
        case GGML_TYPE_S24_Q4: return convert_rows<pl_block_s24_q4, T>;
        case GGML_TYPE_S24_Q8: return convert_rows<pl_block_s24_q8, T>;
        case GGML_TYPE_S24_T: return convert_rows<pl_block_s24_t, T>;
        default: return nullptr;
    }
}

// The arguments of ggml-cuda's get_rows_cuda. True if it was done.
inline bool get_rows(const void * from, ggml_type type, const int32_t * ids, void * to, ggml_type to_type, int64_t ne00, size_t nb01,
        size_t nb02, size_t nb03, int64_t ne10, int64_t ne11, int64_t ne12, size_t nb10, size_t nb11, size_t nb12, size_t nb1, size_t nb2,
        size_t nb3, cudaStream_t stream) {
    if (!is_type(type)) {
        return false;
    }
    const auto int32s = [](size_t bytes) { return (int64_t) (bytes / sizeof(int32_t)); };
    const int64_t size = (int64_t) ggml_type_size(to_type);
    row_range r = {};
    r.from = (const char *) from;
    r.row_bytes = (int64_t) nb01, r.matrix_bytes = (int64_t) nb02, r.sample_bytes = (int64_t) nb03;
    r.ids = ids;
    r.id_stride1 = int32s(nb10), r.id_stride2 = int32s(nb11), r.id_stride3 = int32s(nb12);
    r.to_stride1 = (int64_t) nb1 / size, r.to_stride2 = (int64_t) nb2 / size, r.to_stride3 = (int64_t) nb3 / size;
    r.groups = ne00 / 4, r.rows = ne10, r.matrices = ne11, r.samples = ne12;
    switch (to_type) {
        case GGML_TYPE_F32: return expand(type, r, (float *) to, stream);
        case GGML_TYPE_F16: return expand(type, r, (half *) to, stream);
        case GGML_TYPE_BF16: return expand(type, r, (__nv_bfloat16 *) to, stream);
        default: return false;
    }
}
#else
template <class T> convert_t<T> converter(ggml_type) { return nullptr; }
template <class T> convert_rows_t<T> row_converter(ggml_type) { return nullptr; }
template <class... A> bool get_rows(const A &...) { return false; }
#endif

} // namespace cuda
} // namespace s24
} // namespace pl
