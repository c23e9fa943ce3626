#pragma once

#include <cstdlib>

#if defined(__GLIBC__)
#    include <malloc.h>
#endif

namespace pl {

// After a context or a model is gone. glibc keeps freed blocks of up to 32 MB for later, in an arena for every few threads, so that a
// process which opens and closes engines would grow to the sum of what each arena has ever held. Others give back by themselves.
inline void give_back_memory() noexcept {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

} // namespace pl
