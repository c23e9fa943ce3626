// Blocks of threads as a GPU runs them, on the host, for tests of what kernels compute. The threads of a block are coroutines, which go on
// in random order from one barrier to the next; shared memory begins as NaN; a barrier that not all reach ends the program.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

namespace on_cpu {

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

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

// Runs `body` in every thread of every block, one block after the other.
template <class F> void run_grid(dim3 all, dim3 size, size_t shared, F body) {
    grid = all;
    block b;
    b.size = size;
    b.threads.resize(size.x);
    b.exchanged.resize(64 * size.x);
    for (unsigned z = 0; z < all.z; z++) {
        for (unsigned y = 0; y < all.y; y++) {
            for (unsigned x = 0; x < all.x; x++) {
                b.index = dim3(x, y, z);
                b.all = {};
                b.warps.assign((size.x + 31) / 32, {});
                b.shared.assign(shared, 0xff); // NaN as float and as half
                run_block(b, body);
            }
        }
    }
}

} // namespace on_cpu
