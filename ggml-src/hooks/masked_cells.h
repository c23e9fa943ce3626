// Where the next cell stands that a query may see. In a cache that many sequences share most cells belong to others; looking at
// their mask one by one costs more than the attention itself. patches/masked-cells.patch jumps over them; results stay the same bits.
#pragma once

#include "ggml.h"

#include <cstdint>

#if defined(__SSE2__)
#    include <emmintrin.h>
#endif

namespace pl {

// The first index in [i, end) whose f16 mask value is not minus infinity, or end.
inline int64_t next_visible(const ggml_fp16_t * mask, int64_t i, int64_t end) {
    constexpr uint16_t minus_infinity = 0xFC00;
#if defined(__SSE2__) && defined(__GNUC__)
    const __m128i hidden = _mm_set1_epi16((short) minus_infinity);
    for (; i + 8 <= end; i += 8) {
        const __m128i  values = _mm_loadu_si128((const __m128i *) (mask + i));
        const unsigned seen   = 0xFFFFu & ~(unsigned) _mm_movemask_epi8(_mm_cmpeq_epi16(values, hidden));
        if (seen != 0) {
            return i + __builtin_ctz(seen) / 2;
        }
    }
#endif
    while (i < end && mask[i] == minus_infinity) {
        i++;
    }
    return i;
}

} // namespace pl
