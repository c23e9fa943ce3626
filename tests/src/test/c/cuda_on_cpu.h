// So much of CUDA on the host (threads_on_cpu.h) that the kernels of ggml-src/kernels/cuda run there. mma.sp does what the PTX ISA says of
// mma.sp.m16n8k32 for F16: fragments of A, B and C, metadata and sparsity selector 0.
#pragma once

#include "ggml.h"
#include "threads_on_cpu.h"

#include <cmath>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define PL_UNROLL

struct uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return { x, y, z, w }; }

using on_cpu::dim3;
typedef void * cudaStream_t;

struct half { uint16_t bits; };
struct half2 { half x, y; };
struct __nv_bfloat16 { uint16_t bits; };
inline float __half2float(half x) {
    static const std::vector<float> all = [] {
        std::vector<float> floats(65536);
        for (size_t i = 0; i < floats.size(); i++) {
            floats[i] = ggml_fp16_to_fp32((ggml_fp16_t) i);
        }
        return floats;
    }();
    return all[x.bits];
}
inline half __float2half(float x) { return { ggml_fp32_to_fp16(x) }; }
inline __nv_bfloat16 __float2bfloat16(float x) { return { ggml_fp32_to_bf16(x).bits }; }
inline half2 __half2half2(half x) { return { x, x }; }
inline half2 __hsub2(half2 a, half2 b) {
    return { __float2half(__half2float(a.x) - __half2float(b.x)), __float2half(__half2float(a.y) - __half2float(b.y)) };
}
inline half2 __hmul2(half2 a, half2 b) {
    return { __float2half(__half2float(a.x) * __half2float(b.x)), __float2half(__half2float(a.y) * __half2float(b.y)) };
}

inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
    const uint64_t bytes = (uint64_t) y << 32 | x;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        result |= (uint32_t) (bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    }
    return result;
}

inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) {
        sum += (int8_t) ((uint32_t) a >> i) * (int8_t) ((uint32_t) b >> i);
    }
    return sum;
}

#define threadIdx (on_cpu::current->index)
#define blockIdx (on_cpu::current_block->index)
#define blockDim (on_cpu::current_block->size)
#define gridDim (on_cpu::grid)
#define PL_SHARED(name) uint8_t * const name = on_cpu::current_block->shared.data()

inline void __syncthreads() { on_cpu::wait(on_cpu::current_block->all, on_cpu::current_block->size.x); }
inline void __syncwarp() { on_cpu::wait_warp(); }
inline float __shfl_xor_sync(uint32_t, float x, int mask) { return on_cpu::exchange(x)[on_cpu::lane() ^ (unsigned) mask]; }

namespace pl {
namespace s24 {
namespace cuda {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 size, size_t shared, cudaStream_t, const A &... arguments) {
    on_cpu::run_grid(grid, size, shared, [&] { kernel(arguments...); });
}

template <class Word> void copy_later(void * shared, const void * from) { memcpy(shared, from, sizeof(Word)); }
inline void await_copies() {}

inline void mma_sp(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata) {
    struct operands {
        uint32_t a[4], b[4], metadata;
    } mine;
    memcpy(mine.a, a, sizeof(a));
    memcpy(mine.b, b, sizeof(b));
    mine.metadata = metadata;
    const auto all = on_cpu::exchange(mine);
    const auto at = [](uint32_t pair, int i) { return __half2float(half { (uint16_t) (pair >> 16 * i) }); };
    for (int i = 0; i < 4; i++) {
        const int row = (int) on_cpu::lane() / 4 + i / 2 * 8, column = (int) on_cpu::lane() % 4 * 2 + i % 2;
        for (int kept = 0; kept < 16; kept++) {
            // value `kept` of the row: pairs lie over the lanes of the row's group, first those of weights 0..15
            const uint32_t pair = all[(size_t) (row % 8 * 4 + kept / 2 % 4)].a[row / 8 + kept / 8 * 2];
            const uint32_t where = all[(size_t) (row % 8 * 4 + kept / 8)].metadata >> (row / 8 * 16);
            const uint32_t position = where >> 2 * (kept % 8) & 3;
            if (kept % 2 == 1 && (where >> 2 * (kept % 8 - 1) & 3) >= position) {
                on_cpu::fail("positions in the metadata of mma.sp do not rise");
            }
            const int k = kept / 2 * 4 + (int) position;
            c[i] += at(pair, kept % 2) * at(all[(size_t) (column * 4 + k % 8 / 2)].b[k / 8], k % 2);
        }
    }
}

} // namespace cuda
} // namespace s24
} // namespace pl
