// So much of CUDA on the host that the kernels of ggml-src/kernels/cuda run there, for tests of what they compute. The threads of a block
// are coroutines, which go on in random order from one barrier to the next; shared memory begins as NaN; a barrier that not all reach ends
// the program. mma.sp does what the PTX ISA says of mma.sp.m16n8k32 for F16: fragments of A, B and C, metadata and sparsity selector 0.
#pragma once

#include "ggml.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define PL_UNROLL

struct uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return { x, y, z, w }; }

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
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

namespace on_cpu {

struct barrier {
    unsigned arrived = 0, times = 0;
};

struct thread {
    dim3 index;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
    const barrier * waits = nullptr; // until it was passed more than `times` times
    unsigned times = 0;
};

struct block {
    dim3 index, size;
    std::vector<thread> threads;
    std::vector<barrier> warps;
    barrier all;
    std::vector<uint8_t> shared;
    std::vector<unsigned char> exchanged; // 64 bytes a thread
    ucontext_t scheduler;
};

inline block * current_block;
inline thread * current;
inline dim3 grid;
inline uint64_t order = 1; // what the order of threads is drawn from

inline void fail(const char * what) {
    fprintf(stderr, "block (%u, %u, %u), thread %u: %s\n", current_block->index.x, current_block->index.y, current_block->index.z,
            current != nullptr ? current->index.x : 0, what);
    exit(1);
}

inline void wait(barrier & b, unsigned count) {
    if (++b.arrived == count) {
        b.arrived = 0;
        b.times++;
        return;
    }
    current->waits = &b;
    current->times = b.times;
    swapcontext(&current->context, &current_block->scheduler);
}

inline unsigned lane() { return current->index.x % 32; }
inline void wait_warp() { wait(current_block->warps[current->index.x / 32], 32); }

// What all lanes of the warp gave.
template <class T> std::array<T, 32> exchange(const T & mine) {
    static_assert(sizeof(T) <= 64, "too large");
    auto & bytes = current_block->exchanged;
    memcpy(&bytes[64 * current->index.x], &mine, sizeof(T));
    wait_warp();
    std::array<T, 32> all;
    for (unsigned i = 0; i < 32; i++) {
        memcpy(&all[i], &bytes[64 * (current->index.x / 32 * 32 + i)], sizeof(T));
    }
    wait_warp();
    return all;
}

template <class F> struct trampoline {
    static inline F * body;
    static void enter() {
        (*body)();
        current->done = true;
        swapcontext(&current->context, &current_block->scheduler);
    }
};

template <class F> void run_block(block & b, F body) {
    constexpr size_t stack_bytes = 256 * 1024;
    trampoline<F>::body = &body;
    current_block = &b;
    size_t running = b.threads.size();
    for (unsigned i = 0; i < b.threads.size(); i++) {
        thread & t = b.threads[i];
        t.index = dim3(i, 0, 0);
        t.done = false;
        t.waits = nullptr;
        if (t.stack == nullptr) {
            t.stack.reset(new char[stack_bytes]);
        }
        getcontext(&t.context);
        t.context.uc_stack.ss_sp = t.stack.get();
        t.context.uc_stack.ss_size = stack_bytes;
        t.context.uc_link = nullptr;
        makecontext(&t.context, trampoline<F>::enter, 0);
    }
    while (running > 0) {
        bool moved = false;
        order = order * 6364136223846793005u + 1442695040888963407u;
        const size_t n = b.threads.size(), start = (size_t) (order >> 33) % n;
        const bool up = (order >> 32 & 1) != 0;
        for (size_t i = 0; i < n; i++) {
            thread & t = b.threads[(start + (up ? i : n - i)) % n];
            if (t.done || (t.waits != nullptr && t.waits->times == t.times)) {
                continue;
            }
            t.waits = nullptr;
            current = &t;
            swapcontext(&b.scheduler, &t.context);
            running -= t.done;
            moved = true;
        }
        if (!moved) {
            fail("a barrier that not all threads reach");
        }
    }
}

} // namespace on_cpu

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
    on_cpu::grid = grid;
    on_cpu::block b;
    b.size = size;
    b.threads.resize(size.x);
    b.exchanged.resize(64 * size.x);
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                b.index = dim3(x, y, z);
                b.all = {};
                b.warps.assign((size.x + 31) / 32, {});
                b.shared.assign(shared, 0xff); // NaN as float and as half
                on_cpu::run_block(b, [&] { kernel(arguments...); });
            }
        }
    }
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
