// What adapters.cpp and adapters_device.cpp both know about adapters.
#pragma once

#include "lora_kernels.h"

#include "ggml.h"

#include <cstdint>
#include <cstring>

namespace pl {

// One adapted matrix of one adapter; weights belong to Java.
struct part {
    lora_matrix a {};        // [rank] rows of the input's width; of an embedding [n_vocab] rows of rank
    lora_matrix b {};        // [rank] rows of the output's width
    int64_t     rank    = 0; // 0: this adapter leaves the matrix alone
    int64_t     experts = 1;
    float       scale   = 1; // alpha / rank

    lora_matrix a_of(int64_t expert) const { return at(a, expert * rank); }
    lora_matrix b_of(int64_t expert) const { return at(b, expert * rank); }

    static lora_matrix at(const lora_matrix & m, int64_t row) {
        lora_matrix r = m;
        r.data = (const char *) m.data + row * m.stride;
        return r;
    }
};

// An adapter of a set.
struct member {
    int32_t slot;
    float   scale;
};

// The first n weights of a row.
inline void to_floats(const lora_matrix & m, int64_t row, int64_t n, float * out) {
    const char * from = (const char *) m.data + row * m.stride;
    if (m.type == GGML_TYPE_F32) {
        memcpy(out, from, n * sizeof(float));
    } else {
        m.to_float(from, out, n);
    }
}

} // namespace pl
