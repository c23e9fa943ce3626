// How ggml-cuda multiplies 2:4 sparse weights (patches/s24-cuda.patch). On HIP and MUSA it does not: the types are refused.
#pragma once

#include "cuda/s24_ggml_rows.cuh"

#ifdef PL_S24_CUDA
#include "cuda/s24_tensor.cuh"
#include "cuda/s24_vector.cuh"
#endif

namespace pl {
namespace s24 {
namespace cuda {

#ifdef PL_S24_CUDA
// With at most VECTOR_COLUMNS columns, or as many tokens with experts.
inline void multiply_vectors_of(ggml_backend_cuda_context & context, const ggml_tensor * a, const ggml_tensor * b,
        const ggml_tensor * experts, ggml_tensor * dst) {
    const int64_t blocks = a->ne[0] / PL_S24_BLOCK, size = (int64_t) sizeof(float);
    ggml_cuda_pool_alloc<uint8_t> rounded(context.pool(), (size_t) (rounded_bytes(blocks) * ggml_nrows(b)));
    const column_range columns = { (const float *) b->data, (int64_t) b->nb[1] / size, (int64_t) b->nb[2] / size, (int64_t) b->nb[3] / size,
        b->ne[1], b->ne[2], b->ne[3], blocks };
    round(columns, rounded.get(), context.stream());
    vector_product p = {};
    p.weights = (const char *) a->data;
    p.row_bytes = (int64_t) a->nb[1], p.matrix_bytes = (int64_t) a->nb[2], p.sample_bytes = (int64_t) a->nb[3];
    p.rows = (int) a->ne[1], p.blocks = (int) blocks;
    p.rounded = rounded.get(), p.columns = (int) b->ne[1];
    p.to = (float *) dst->data;
    if (experts != nullptr) {
        p.matrix_ratio = p.sample_ratio = 1;
        p.experts = (const int32_t *) experts->data, p.expert_stride = (int64_t) experts->nb[1] / (int64_t) sizeof(int32_t);
        p.to_matrix = (int64_t) dst->nb[1] / size, p.to_sample = (int64_t) dst->nb[2] / size;
        multiply(a->type, p, (int) dst->ne[1], (int) dst->ne[2], context.stream());
    } else {
        p.matrix_ratio = (int) (b->ne[2] / a->ne[2]), p.sample_ratio = (int) (b->ne[3] / a->ne[3]);
        p.to_column = (int64_t) dst->nb[1] / size, p.to_matrix = (int64_t) dst->nb[2] / size, p.to_sample = (int64_t) dst->nb[3] / size;
        multiply(a->type, p, (int) b->ne[2], (int) b->ne[3], context.stream());
    }
    CUDA_CHECK(cudaGetLastError());
}

inline void multiply_tiles_of(ggml_backend_cuda_context & context, const ggml_tensor * a, const ggml_tensor * b, ggml_tensor * dst) {
    const int64_t size = (int64_t) sizeof(float);
    ggml_cuda_pool_alloc<half> halves(context.pool(), (size_t) ggml_nelements(b));
    const half_columns columns = { (const float *) b->data, (int64_t) b->nb[1] / size, (int64_t) b->nb[2] / size, (int64_t) b->nb[3] / size,
        b->ne[1], b->ne[2], b->ne[3], b->ne[0] };
    to_half(columns, halves.get(), context.stream());
    tensor_product p = {};
    p.weights = (const char *) a->data;
    p.row_bytes = (int64_t) a->nb[1], p.matrix_bytes = (int64_t) a->nb[2], p.sample_bytes = (int64_t) a->nb[3];
    p.rows = (int) a->ne[1], p.blocks = (int) (a->ne[0] / PL_S24_BLOCK), p.columns = (int) b->ne[1];
    p.matrices = (int) b->ne[2], p.matrix_ratio = (int) (b->ne[2] / a->ne[2]), p.sample_ratio = (int) (b->ne[3] / a->ne[3]);
    p.activations = halves.get();
    p.to = (float *) dst->data;
    p.to_column = (int64_t) dst->nb[1] / size, p.to_matrix = (int64_t) dst->nb[2] / size, p.to_sample = (int64_t) dst->nb[3] / size;
    multiply_with_tensor_cores(a->type, p, (int) b->ne[3], context.stream());
    CUDA_CHECK(cudaGetLastError());
}

// True if it was done; false where ggml-cuda should multiply dequantised weights.
inline bool mul_mat(ggml_backend_cuda_context & context, const ggml_tensor * a, const ggml_tensor * b, ggml_tensor * dst) {
    if (!is_type(a->type) || b->type != GGML_TYPE_F32 || dst->type != GGML_TYPE_F32 || b->ne[2] > 65535 || b->ne[2] * b->ne[3] > 65535) {
        return false;
    }
    if (b->ne[1] <= VECTOR_COLUMNS) {
        multiply_vectors_of(context, a, b, nullptr, dst);
        return true;
    }
    const int cc = ggml_cuda_info().devices[context.device].cc;
    if (ggml_cuda_highest_compiled_arch(cc) < GGML_CUDA_CC_AMPERE || dst->op_params[0] == GGML_PREC_F32 ||
            getenv("PANAMA_LLAMA_NO_SPARSE_TENSOR_CORES") != nullptr) {
        return false;
    }
    multiply_tiles_of(context, a, b, dst);
    return true;
}

// The same for mul_mat_id, where ggml-cuda otherwise sorts the tokens by experts and calls mul_mat for each.
inline bool mul_mat_id(ggml_backend_cuda_context & context, ggml_tensor * dst) {
    const ggml_tensor * a = dst->src[0], * b = dst->src[1];
    if (!is_type(a->type) || b->type != GGML_TYPE_F32 || dst->type != GGML_TYPE_F32 || dst->ne[2] > VECTOR_COLUMNS) {
        return false;
    }
    multiply_vectors_of(context, a, b, dst->src[2], dst);
    return true;
}

// Whether mul_mat, mul_mat_id and get_rows of weights of these types run, given that their shapes do.
inline bool supports(const ggml_tensor * op) {
    return op->op == GGML_OP_GET_ROWS || (op->src[1]->type == GGML_TYPE_F32 && op->type == GGML_TYPE_F32);
}
#else
template <class... A> bool mul_mat(const A &...) { return false; }
template <class... A> bool mul_mat_id(const A &...) { return false; }
inline bool supports(const ggml_tensor *) { return false; }
#endif

} // namespace cuda
} // namespace s24
} // namespace pl
