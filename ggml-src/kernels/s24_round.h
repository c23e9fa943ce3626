// Activations as Q8_S24 (s24.h): the reference, and what this processor generation has for it, which is the same bit for bit.
//
//   round(x, y)   256 floats to a block: each 32 with the scale that takes the largest of them to 127
//
// Where one of 32 is NaN or infinite their scale is NaN, and so is every product with them; their values are any then. Where all are
// next to nothing they become zeros.
#pragma once

#include "s24.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace pl {
namespace s24 {

constexpr float next_to_nothing = 1e-35f; // 127 / x is finite from here on, x / 127 no denormal number

namespace reference {

inline void round(const float * x, pl_block_q8_s24 & y) {
    for (int g = 0; g < 8; g++, x += 32) {
        // the bits of the largest magnitude: those of NaN are above those of infinity
        uint32_t most = 0;
        for (int i = 0; i < 32; i++) {
            uint32_t bits;
            memcpy(&bits, x + i, sizeof(bits));
            bits &= 0x7fffffff;
            most = bits > most ? bits : most;
        }
        float largest;
        memcpy(&largest, &most, sizeof(largest));
        const bool some = largest >= next_to_nothing && largest <= 3.4028235e38f;
        const float inverse = some ? 127 / largest : 0;
        y.d[g % 2][g / 2] = (some ? largest / 127 : 0) + (largest - largest); // NaN for infinity too
        for (int i = 0; i < 32; i++) {
            y.qs[32 * g + i] = (int8_t) (some ? std::lrint(x[i] * inverse) : 0);
        }
    }
}

} // namespace reference
} // namespace s24
} // namespace pl

#if defined(__AVX2__)
#include "x86/s24_round.h"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "arm/s24_round.h"
#else
namespace pl {
namespace s24 {
using reference::round;
}
} // namespace pl
#endif
