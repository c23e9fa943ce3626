// Large buffers (KV cache, repacked weights, compute) in pages of 2 MB where Linux gives them to those who ask. Small pages cost a
// miss of the TLB every 4 KB, and their scattered places in memory make one process slower than the next.
// patches/huge-pages.patch calls it in ggml_aligned_malloc; what it gives is freed by free().
#pragma once

#if defined(__linux__) && !defined(GGML_USE_CPU_HBM)
#    define PL_HUGE_PAGES 1

#    include <stddef.h>
#    include <stdlib.h>
#    include <sys/mman.h>

// NULL where the ordinary way is as good, or there is no memory.
static inline void * pl_huge_alloc(size_t size) {
    const size_t page = (size_t) 2 << 20;
    void * memory = NULL;
    if (size < 2 * page || posix_memalign(&memory, page, size) != 0) {
        return NULL;
    }
    madvise(memory, size / page * page, MADV_HUGEPAGE); // advice: where it isn't taken the pages stay small
    return memory;
}

#endif
