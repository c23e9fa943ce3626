// What lora.h offers to ext/adapters.cpp, for each processor generation.
#pragma once

#include "ggml.h"

#include <cstddef>
#include <cstdint>

namespace pl {

// Rows of `columns` weights, `stride` bytes apart.
struct lora_matrix {
    const void *    data;
    size_t          stride;
    int64_t         columns;
    int32_t         type;     // enum ggml_type
    ggml_to_float_t to_float; // for types other than F32 and F16
};

struct lora_kernels {
    // h_j[r] = scale_j * sum_i A[r][i] x_j[i] for n rows j, and r in [r0, r1)
    void (*down)(const lora_matrix & a, int64_t r0, int64_t r1, const float * const * x, float * const * h, const float * scale, int64_t n);
    // y_j[o] += sum_r h_j[r] B[r][o] for n rows j, and o in [o0, o1), which begins at a multiple of 256 unless B is F32 or F16
    void (*up)(const lora_matrix & b, int64_t rank, const float * const * h, float * const * y, int64_t n, int64_t o0, int64_t o1);
};

// For this machine.
const lora_kernels & lora_kernels_of_this_machine();

} // namespace pl
