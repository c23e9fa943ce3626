// The adapter kernels for x86-64-v4; CMakeLists.txt gives the flags.
#if defined(__x86_64__)
#define PL_LORA_NAMESPACE lora_v4
#define PL_LORA_KERNELS lora_kernels_v4
#include "lora.h" // kernels/
#endif
