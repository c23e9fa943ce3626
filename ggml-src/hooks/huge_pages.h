// Large buffers (KV cache, repacked weights, compute) in pages of 2 MB where Linux gives them to those who ask. Small pages cost a
// miss of the TLB every 4 KB, and their scattered places in memory make one process slower than the next.
// patches/huge-pages.patch calls it in ggml_aligned_malloc, patches/unmap-huge-pages.patch in ggml_aligned_free.
//
// Each has a mapping of its own, which is gone when it is freed. In the C library's arenas the advice would outlive the buffer: whatever
// small block came to lie there next would hold 2 MB.
#pragma once

#if defined(__linux__) && !defined(GGML_USE_CPU_HBM)
#    define PL_HUGE_PAGES 1

#    include <stdbool.h>
#    include <stddef.h>
#    include <stdint.h>
#    include <sys/mman.h>

#    define PL_HUGE_PAGE ((size_t) 2 << 20)
#    define PL_HUGE_MARK 0x9e3779b97f4a7c15u

// Right before the buffer, in a page of its own.
struct pl_huge_mapping {
    uint64_t mark;   // the buffer's address ^ PL_HUGE_MARK
    void * start;
    size_t length;
};

// NULL where the ordinary way is as good, or there is no memory.
static inline void * pl_huge_alloc(size_t size) {
    if (size < 2 * PL_HUGE_PAGE || size > SIZE_MAX - PL_HUGE_PAGE) {
        return NULL;
    }
    const size_t length = size + PL_HUGE_PAGE;
    void * start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    const uintptr_t aligned = ((uintptr_t) start / PL_HUGE_PAGE + 1) * PL_HUGE_PAGE;  // above the start, so that there is room before it
    struct pl_huge_mapping * mapping = (struct pl_huge_mapping *) (aligned - sizeof(struct pl_huge_mapping));
    mapping->mark   = (uint64_t) aligned ^ PL_HUGE_MARK;
    mapping->start  = start;
    mapping->length = length;
    madvise((void *) aligned, size / PL_HUGE_PAGE * PL_HUGE_PAGE, MADV_HUGEPAGE);  // advice: where it isn't taken the pages stay small
    return (void *) aligned;
}

// Whether the buffer was one of these; it is freed then.
static inline bool pl_huge_free(void * buffer) {
    if (buffer == NULL || (uintptr_t) buffer % PL_HUGE_PAGE != 0) {
        return false;
    }
    struct pl_huge_mapping * mapping = (struct pl_huge_mapping *) ((char *) buffer - sizeof(struct pl_huge_mapping));
    if (mapping->mark != ((uint64_t) (uintptr_t) buffer ^ PL_HUGE_MARK)) {  // from malloc, whose own words lie there
        return false;
    }
    munmap(mapping->start, mapping->length);
    return true;
}

#endif
