// What the CUDA kernels for 2:4 sparse weights (s24.h) share. The same source is compiled for the host by tests/src/test/c/cuda_on_cpu.h,
// which runs the threads of a block as coroutines: so CUDA's own syntax for launches and dynamic shared memory stays in this file.
#pragma once

#include "s24.h"

#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "cuda_on_cpu.h"
#endif

namespace pl {
namespace s24 {
namespace cuda {

#ifdef __CUDACC__
// before each loop over an array that is to stay in registers
#define PL_UNROLL _Pragma("unroll")
#define PL_SHARED(name) extern __shared__ __align__(16) uint8_t name[]

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const A &... arguments) {
    if (shared > 48 * 1024) { // more than a kernel gets without asking
        (void) cudaFuncSetAttribute((const void *) kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int) shared);
    }
    kernel<<<grid, block, shared, stream>>>(arguments...);
}
#endif

template <class To, class From> __device__ inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

// 4 or 8 bytes of a block. Those of S24_T, 54 bytes long, lie at even addresses only.
template <class Word, class Block> __device__ inline Word load(const uint8_t * from) {
    if constexpr (sizeof(Block) % sizeof(Word) == 0) {
        return *(const Word *) from;
    } else {
        uint16_t part[sizeof(Word) / 2];
        for (size_t i = 0; i < sizeof(Word) / 2; i++) {
            part[i] = ((const uint16_t *) from)[i];
        }
        Word word;
        memcpy(&word, part, sizeof(word));
        return word;
    }
}

__device__ inline float from_half(uint16_t half_bits) { return __half2float(bits<half>(half_bits)); }

__device__ inline float scale(const pl_block_s24_q4 & x, int field) { return from_half(x.d[field]); }
__device__ inline float scale(const pl_block_s24_q8 & x, int field) { return from_half(x.d[field]); }
__device__ inline float scale(const pl_block_s24_t & x, int field) { return from_half(x.d) * (float) x.scale[field]; }

__device__ inline int value(const pl_block_s24_q4 & x, int k) { return (x.qs[k % 64] >> 4 * (k / 64) & 15) - 8; }
__device__ inline int value(const pl_block_s24_q8 & x, int k) { return x.qs[k]; }
__device__ inline int value(const pl_block_s24_t & x, int k) { return 1 - 2 * (x.signs[k / 8] >> k % 8 & 1); }

__device__ inline int position(const uint8_t * idx, int k) { return idx[k % 32] >> 2 * (k / 32) & 3; }

// Four signs, the low bits of `signs`, as bytes 1 and -1: the product spreads the bits to one a byte, no two of them on the same place.
__device__ inline uint32_t sign_bytes(uint32_t signs) { return (signs * 0x00204081u & 0x01010101u) * 0xfeu + 0x01010101u; }

// The largest word of which all rows are made, whatever their length.
template <class Block> struct words { using least = uint2; };
template <> struct words<pl_block_s24_t> { using least = uint16_t; };

} // namespace cuda
} // namespace s24
} // namespace pl
