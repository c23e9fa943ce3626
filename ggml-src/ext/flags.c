/* Callbacks that read and write struct pl_flags instead of calling Java. The other side uses volatile accesses. */
#include "panama_llama.h"

bool pl_abort_callback(void * flags) {
    return ((volatile struct pl_flags *) flags)->cancel != 0;
}

bool pl_progress_callback(float progress, void * flags) {
    volatile struct pl_flags * shared = flags;
    shared->progress = progress;
    return shared->cancel == 0;
}
