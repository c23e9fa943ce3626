// How the threads of a pool wait for one another; patches/sleep-while-waiting.patch calls it in ggml_barrier.
//
// On a machine that runs anything else a thread that spins keeps its core from the very thread it waits for. One that yields instead loses
// its turn to everybody, on newer kernels for a slice each time. So it spins for about as long as waking up would take and then
// sleeps, which frees its core for the late one. When they share a core, it sleeps at once: the scheduler parts them as soon as it can.
#pragma once

#if defined(__linux__)

#    include <limits.h>
#    include <linux/futex.h>
#    include <sched.h>
#    include <sys/syscall.h>
#    include <time.h>
#    include <unistd.h>

// About what waking up takes on a core that has gone to sleep.
#    define PL_SPIN_NANOSECONDS 20000

// Whether this thread last waited for one that ran on the same core.
static _Thread_local bool pl_crowded = false;

static inline int64_t pl_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline bool pl_spin_while(atomic_int * at, int value) {
    int64_t end = 0;
    while (true) {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(at, memory_order_relaxed) != value) {
                return false;
            }
            ggml_thread_cpu_relax();
        }
        const int64_t now = pl_nanoseconds();
        if (end == 0) {
            end = now + PL_SPIN_NANOSECONDS;
        } else if (now > end) {
            return true;
        }
    }
}

// Returns when the barrier was passed more often than `passed` times.
static inline void pl_wait_at_barrier(atomic_int * at, int passed, atomic_int * sleepers, atomic_int * last_cpu) {
    const int cpu = sched_getcpu();
    if (pl_crowded || pl_spin_while(at, passed)) {
        atomic_fetch_add(sleepers, 1);
        while (atomic_load(at) == passed) {
            syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, passed, NULL, NULL, 0);
        }
        atomic_fetch_sub(sleepers, 1);
    }
    pl_crowded = atomic_load_explicit(last_cpu, memory_order_relaxed) == cpu;
}

// Before and after the last thread of a pool lets the others pass.
static inline void pl_last_at_barrier(atomic_int * last_cpu) {
    atomic_store_explicit(last_cpu, sched_getcpu(), memory_order_relaxed);
}

static inline void pl_wake_at_barrier(atomic_int * at, atomic_int * sleepers) {
    if (atomic_load(sleepers) > 0) {
        syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

// How often a thread looks for the next graph before it sleeps.
static inline uint64_t pl_rounds(uint32_t poll) {
    return pl_crowded ? 0 : 256 * (uint64_t) poll;  // some tenths of a millisecond by default
}

#else

static inline void pl_wait_at_barrier(atomic_int * at, int passed, atomic_int * sleepers, atomic_int * last_cpu) {
    (void) sleepers;
    (void) last_cpu;
    for (int i = 0; atomic_load_explicit(at, memory_order_relaxed) == passed; i++) {
        if (i < 1024) {
            ggml_thread_cpu_relax();
        } else {
            sched_yield();
        }
    }
}

static inline void pl_last_at_barrier(atomic_int * last_cpu) {
    (void) last_cpu;
}

static inline void pl_wake_at_barrier(atomic_int * at, atomic_int * sleepers) {
    (void) at;
    (void) sleepers;
}

static inline uint64_t pl_rounds(uint32_t poll) {
    return 256 * (uint64_t) poll;
}

#endif
