// Random and extreme 2:4 sparse blocks (ggml-src/kernels/s24.h) for programs that hold kernels against their reference. With ggml-base's
// own conversions of halves, so that nothing of ggml is linked.
#pragma once

#include "s24_dot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" float ggml_fp16_to_fp32(ggml_fp16_t half) {
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const float size = exponent == 0 ? std::ldexp((float) mantissa, -24) : std::ldexp((float) (mantissa + 1024), exponent - 25);
    return half & 0x8000 ? -size : size;
}

extern "C" ggml_fp16_t ggml_fp32_to_fp16(float x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const float size = std::fabs(x);
    if (!(size < 65520)) {
        return (ggml_fp16_t) (sign | (std::isnan(x) ? 0x7e00 : 0x7c00));
    }
    const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
    return (ggml_fp16_t) (sign + ((exponent + 14) << 10) + (int) std::nearbyint(std::ldexp(size, 10 - exponent)));
}

extern "C" ggml_bf16_t ggml_fp32_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return { (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) }; // not for NaN
}

namespace {

uint64_t state;

uint32_t random_below(uint32_t n) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t) ((z ^ (z >> 31)) >> 32) % n;
}

enum kind { WHOLE, LARGEST, SMALLEST, MIXED, SCALED };
const char * const names[] = { "whole", "largest", "smallest", "mixed", "scaled" };

// One of three: a random value, the end of the range, or for MIXED either end.
int value(kind k, int low, int high) {
    switch (k) {
        case LARGEST: return high;
        case SMALLEST: return low;
        case MIXED: return random_below(2) ? low : high;
        default: return low + (int) random_below((uint32_t) (high - low + 1));
    }
}

uint16_t random_scale(kind k) {
    return k == SCALED ? (uint16_t) (0x2000 + random_below(0x1000) + 0x8000 * random_below(2)) : (uint16_t) 0x3c00; // 1
}

void positions(uint8_t * idx, bool equal) {
    memset(idx, 0, 32);
    for (int k = 0; k < PL_S24_KEPT; k += 2) {
        int first = (int) random_below(4), second = (int) random_below(4);
        while (first > second || (first == second && !equal)) {
            first = (int) random_below(4);
            second = (int) random_below(4);
        }
        idx[k % 32] |= (uint8_t) (first << 2 * (k / 32));
        idx[(k + 1) % 32] |= (uint8_t) (second << 2 * (k / 32));
    }
}

void fill(pl_block_s24_q4 & x, kind k) {
    positions(x.idx, false);
    for (auto & byte : x.qs) {
        byte = (uint8_t) ((value(k, -8, 7) + 8) | (value(k, -8, 7) + 8) << 4);
    }
    for (auto & d : x.d) {
        d = random_scale(k);
    }
}

void fill(pl_block_s24_q8 & x, kind k) {
    positions(x.idx, false);
    for (auto & q : x.qs) {
        q = (int8_t) value(k, -127, 127);
    }
    for (auto & d : x.d) {
        d = random_scale(k);
    }
}

void fill(pl_block_s24_t & x, kind k) {
    positions(x.idx, true);
    for (auto & byte : x.signs) {
        byte = (uint8_t) (k == LARGEST ? 0 : k == SMALLEST ? 255 : random_below(256));
    }
    for (auto & scale : x.scale) {
        scale = (uint8_t) (k == LARGEST || k == SMALLEST ? 127 : random_below(128));
    }
    x.d = random_scale(k);
}

[[maybe_unused]] void fill(pl_block_q8_s24 & y, kind k) {
    for (auto & q : y.qs) {
        q = (int8_t) value(k, -127, 127);
    }
    for (int g = 0; g < 8; g++) {
        y.d[g % 2][g / 2] = k == SCALED ? (float) (1 + random_below(1000)) / 1000 : 1;
    }
}

} // namespace
