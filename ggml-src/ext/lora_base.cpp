// The adapter kernels for every processor; CMakeLists.txt gives the flags.
#define PL_LORA_NAMESPACE lora_base
#define PL_LORA_KERNELS lora_kernels_base
#include "lora.h" // kernels/
