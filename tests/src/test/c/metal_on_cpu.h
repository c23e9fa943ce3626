// So much of Metal on the host (threads_on_cpu.h) that ggml-src/kernels/metal compiles and runs there. Address spaces and attributes say
// nothing here. Include it after all others: its names are short.
#pragma once

#include "ggml.h"
#include "threads_on_cpu.h"

struct half {
    uint16_t bits;
    half() = default;
    half(float x) : bits(ggml_fp32_to_fp16(x)) {}
    operator float() const { return ggml_fp16_to_fp32(bits); }
};

template <class T, int N> struct vector_of {
    T values[N];
    T & operator[](int i) { return values[i]; }
    const T & operator[](int i) const { return values[i]; }
};
template <class T> struct matrix_of {
    vector_of<T, 4> columns[4];
    matrix_of() = default;
    template <class U> explicit matrix_of(const matrix_of<U> & from) {
        for (int i = 0; i < 16; i++) {
            columns[i / 4][i % 4] = (T) from.columns[i / 4][i % 4];
        }
    }
    vector_of<T, 4> & operator[](int i) { return columns[i]; }
};
using float4 = vector_of<float, 4>;
using float4x4 = matrix_of<float>;
using half4x4 = matrix_of<half>;
using uint3 = on_cpu::dim3;
using ushort = unsigned short;
using uint = unsigned;

inline float simd_sum(float x) {
    float sum = 0;
    for (const float each : on_cpu::exchange(x)) {
        sum += each;
    }
    return sum;
}

// of ggml-metal-impl.h
#define N_R0_S24 2
#define N_SG_S24 2
struct ggml_metal_kargs_mul_mv {
    int32_t  ne00, ne01, ne02;
    uint64_t nb00, nb01, nb02, nb03;
    int32_t  ne10, ne11, ne12;
    uint64_t nb10, nb11, nb12, nb13;
    int32_t  ne0, ne1, nr0;
    int16_t  r2, r3;
};

#define device
#define thread
#define threadgroup
#define constant const
#define kernel
