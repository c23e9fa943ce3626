// Room at the end of a vector, doubling it. Upstream asks for exactly what it needs next, byte token after byte token, which copies
// the whole vector every time; patches/spm-bytes.patch calls this before.
#pragma once

#include <cstddef>
#include <vector>

namespace pl {

template <typename T> void grow(std::vector<T> & vector, size_t more) {
    if (vector.capacity() - vector.size() < more) {
        vector.reserve(2 * vector.size() + more);
    }
}

} // namespace pl
