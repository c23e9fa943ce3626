// Activations as Q8_S24 in Neon. s24_round.h includes it.
#pragma once

#include "s24.h"

#include <arm_neon.h>
#include <cstring>

namespace pl {
namespace s24 {

inline int16x8_t round_eight(const float * x, float by) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), by)), high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), by));
    return vqmovn_high_s32(vqmovn_s32(low), high);
}

inline void round(const float * x, pl_block_q8_s24 & y) {
    for (int g = 0; g < 8; g++, x += 32) {
        uint32x4_t bits = vdupq_n_u32(0);
        for (int i = 0; i < 32; i += 4) {
            bits = vmaxq_u32(bits, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffff)));
        }
        const uint32_t most = vmaxvq_u32(bits);
        float largest;
        memcpy(&largest, &most, sizeof(largest));
        const bool some = largest >= next_to_nothing; // not NaN
        const float inverse = some ? 127 / largest : 0;
        y.d[g % 2][g / 2] = (some ? largest / 127 : 0) + (largest - largest);
        for (int i = 0; i < 32; i += 16) {
            vst1q_s8(y.qs + 32 * g + i, vqmovn_high_s16(vqmovn_s16(round_eight(x + i, inverse)), round_eight(x + i + 8, inverse)));
        }
    }
}

} // namespace s24
} // namespace pl
