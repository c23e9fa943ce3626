// Products with 2:4 sparse weights (s24.h): Neon, better with dotprod. s24_dot.h includes it.
#pragma once

#include "s24.h"

#include <arm_neon.h>
#include <cstring>

namespace pl {
namespace s24 {

// Adds sums of 4 products each.
inline int32x4_t add_dots(int32x4_t sum, int8x16_t a, int8x16_t b) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vpadalq_s16(vpadalq_s16(sum, low), high);
#endif
}

// A table look-up in 32 activations picks 16: kept values 16 H .. 16 H + 15 of the 32 that belong to weights 64 J ...
template <int J, int H> int8x16_t pick(const uint8_t * idx, const int8_t * q) {
    const uint8x16_t bytes = vld1q_u8(idx + 16 * H);
    const uint8x16_t bits  = J == 0 ? bytes : vshrq_n_u8(bytes, J == 0 ? 1 : 2 * J);
    static const uint8_t pairs[16] = { 0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28 };
    const int8x16x2_t table = { { vld1q_s8(q + 64 * J + 32 * H), vld1q_s8(q + 64 * J + 32 * H + 16) } };
    return vqtbl2q_s8(table, vorrq_u8(vandq_u8(bits, vdupq_n_u8(3)), vld1q_u8(pairs)));
}

template <int J, int H> int8x16_t values(const pl_block_s24_q4 & x) {
    const uint8x16_t bytes = vld1q_u8(x.qs + 32 * (J % 2) + 16 * H);
    const uint8x16_t nibble = J < 2 ? vandq_u8(bytes, vdupq_n_u8(15)) : vshrq_n_u8(bytes, 4);
    return vsubq_s8(vreinterpretq_s8_u8(nibble), vdupq_n_s8(8));
}

template <int J, int H> int8x16_t values(const pl_block_s24_q8 & x) {
    return vld1q_s8(x.qs + 32 * J + 16 * H);
}

template <int J, int H> int8x16_t values(const pl_block_s24_t & x) {
    static const uint8_t bits[16] = { 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128 };
    const uint8_t * signs = x.signs + 4 * J + 2 * H;
    const uint8x16_t minus = vtstq_u8(vcombine_u8(vdup_n_u8(signs[0]), vdup_n_u8(signs[1])), vld1q_u8(bits));
    return vreinterpretq_s8_u8(vorrq_u8(minus, vdupq_n_u8(1)));
}

inline float32x4_t floats_of(uint16x4_t halves) { return vcvt_f32_f16(vreinterpret_f16_u16(halves)); }

inline float32x4_t scales_of(const pl_block_s24_q4 & x) { return floats_of(vld1_u16(x.d)); }
inline float32x4_t scales_of(const pl_block_s24_q8 & x) { return floats_of(vld1_u16(x.d)); }

inline float32x4_t scales_of(const pl_block_s24_t & x) {
    uint32_t four;
    memcpy(&four, x.scale, sizeof(four));
    const uint16x4_t scales = vget_low_u16(vmovl_u8(vcreate_u8(four)));
    return vmulq_f32(vcvtq_f32_u32(vmovl_u16(scales)), floats_of(vdup_n_u16(x.d)));
}

template <int J, int H, class Block>
float32x4_t add_eighth(float32x4_t sum, const Block & x, const pl_block_q8_s24 & y, float32x4_t scales) {
    const int32x4_t dot = add_dots(vdupq_n_s32(0), values<J, H>(x), pick<J, H>(x.idx, y.qs));
    return vfmaq_laneq_f32(sum, vcvtq_f32_s32(dot), scales, J);
}

template <class Block> float32x4_t add(float32x4_t sum, const Block & x, const pl_block_q8_s24 & y) {
    const float32x4_t of_x = scales_of(x);
    const float32x4_t first = vmulq_f32(of_x, vld1q_f32(y.d[0])), second = vmulq_f32(of_x, vld1q_f32(y.d[1]));
    sum = add_eighth<0, 1>(add_eighth<0, 0>(sum, x, y, first), x, y, second);
    sum = add_eighth<1, 1>(add_eighth<1, 0>(sum, x, y, first), x, y, second);
    sum = add_eighth<2, 1>(add_eighth<2, 0>(sum, x, y, first), x, y, second);
    return add_eighth<3, 1>(add_eighth<3, 0>(sum, x, y, first), x, y, second);
}

template <int R, class Block> void rows(const Block * x, int64_t stride, const pl_block_q8_s24 * y, int64_t blocks, float * sums) {
    float32x4_t sum[R];
    for (int r = 0; r < R; r++) {
        sum[r] = vdupq_n_f32(0);
    }
    for (int64_t b = 0; b < blocks; b++) {
        for (int r = 0; r < R; r++) {
            sum[r] = add(sum[r], x[r * stride + b], y[b]);
        }
    }
    for (int r = 0; r < R; r++) {
        sums[r] = vaddvq_f32(sum[r]);
    }
}

} // namespace s24
} // namespace pl
