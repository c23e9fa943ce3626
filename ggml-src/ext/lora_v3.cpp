// The adapter kernels for x86-64-v3; CMakeLists.txt gives the flags.
#if defined(__x86_64__)
#define PL_LORA_NAMESPACE lora_v3
#define PL_LORA_KERNELS lora_kernels_v3
#include "lora.h" // kernels/
#endif
