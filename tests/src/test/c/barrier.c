// barrier THREADS ROUNDS CORES: threads that pass a barrier as ggml's do, over ggml-src/hooks/barrier_wait.h; CORES 0 takes all, 1 makes
// them share one. In each round one comes late. Prints how often a thread was let through before all were there, how often threads gave
// their core away, and how often one found that it shared it with the one that it waited for.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static inline void ggml_thread_cpu_relax(void) {
    sched_getcpu();
}

#include "barrier_wait.h"

enum { MOST = 64 };

static struct {
    atomic_int n_barrier;
    atomic_int sleepers;
    atomic_int n_passed;
    atomic_int last_cpu;
} pool;

static int threads, rounds, cores;
static atomic_int arrived[MOST];
static atomic_int early, crowded;
static atomic_long switches;

static void barrier(void) {
    const int passed = atomic_load_explicit(&pool.n_passed, memory_order_relaxed);
    if (atomic_fetch_add(&pool.n_barrier, 1) == threads - 1) {
        atomic_store_explicit(&pool.n_barrier, 0, memory_order_relaxed);
        pl_last_at_barrier(&pool.last_cpu);
        atomic_fetch_add(&pool.n_passed, 1);
        pl_wake_at_barrier(&pool.n_passed, &pool.sleepers);
        return;
    }
    pl_wait_at_barrier(&pool.n_passed, passed, &pool.sleepers, &pool.last_cpu);
    if (atomic_load_explicit(&pool.n_passed, memory_order_relaxed) == passed) {
        atomic_fetch_add(&early, 1);
    }
}

static void * run(void * data) {
    const int self = (int) (intptr_t) data;
    if (cores > 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        sched_getaffinity(0, sizeof set, &set);
        for (int cpu = 0, left = cores; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &set) && left-- <= 0) {
                CPU_CLR(cpu, &set);
            }
        }
        sched_setaffinity(0, sizeof set, &set);
    }
    for (int round = 1; round <= rounds; round++) {
        if (round % threads == self && round % 8 == 0) {
            usleep(100);    // longer than anybody spins
        }
        atomic_store_explicit(&arrived[self], round, memory_order_relaxed);
        barrier();
        for (int i = 0; i < threads; i++) {
            if (atomic_load_explicit(&arrived[i], memory_order_relaxed) != round) {
                atomic_fetch_add(&early, 1);
            }
        }
        barrier();
        if (pl_crowded) {
            atomic_fetch_add(&crowded, 1);
        }
    }
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    atomic_fetch_add(&switches, usage.ru_nvcsw);
    return NULL;
}

int main(int count, char ** arguments) {
    if (count != 4 || (threads = atoi(arguments[1])) < 1 || threads > MOST) {
        return 2;
    }
    rounds = atoi(arguments[2]);
    cores = atoi(arguments[3]);
    pool.last_cpu = -1;
    pthread_t all[MOST];
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&all[i], NULL, run, (void *) (intptr_t) i) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(all[i], NULL);
    }
    printf("%d %ld %d\n", early, switches, crowded);
    return 0;
}
