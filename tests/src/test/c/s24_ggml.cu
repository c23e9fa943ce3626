// What ggml-cuda calls (ggml-src/kernels/cuda/s24_ggml.cuh), so that a compiler sees all of it; never run.
#include "cuda/s24_ggml.cuh"

using namespace pl::s24::cuda;

bool compute(ggml_backend_cuda_context & context, ggml_tensor * dst) {
    return supports(dst) && (mul_mat(context, dst->src[0], dst->src[1], dst) || mul_mat_id(context, dst));
}

bool rows(const ggml_tensor * a, const ggml_tensor * ids, ggml_tensor * dst, cudaStream_t stream) {
    return get_rows(a->data, a->type, (const int32_t *) ids->data, dst->data, dst->type, a->ne[0], a->nb[1], a->nb[2], a->nb[3], ids->ne[0],
            ids->ne[1], ids->ne[2], ids->nb[0], ids->nb[1], ids->nb[2], dst->nb[1], dst->nb[2], dst->nb[3], stream);
}

bool converts(ggml_type type) {
    return converter<float>(type) && converter<half>(type) && converter<nv_bfloat16>(type) && row_converter<float>(type) &&
           row_converter<half>(type) && row_converter<nv_bfloat16>(type);
}
