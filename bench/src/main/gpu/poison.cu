// Ends this process's work on the current GPU by a failed assertion in a kernel: every later call fails, as on a device that is lost.
#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <cuda_runtime.h>

static __global__ void fail_always() { assert(false); }

extern "C" void pl_poison_device() {
    fail_always<<<1, 1>>>();
    fprintf(stderr, "poisoned: %s\n", cudaGetErrorString(cudaDeviceSynchronize()));
}
