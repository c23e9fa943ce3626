// The 2:4 sparse block types of s24.h between floats and blocks, and the check of blocks. patches/s24-types.patch compiles it into
// ggml-base, at the end of ggml-quants.c. In C.
#pragma once

#include "ggml-impl.h"
#include "s24.h"

#include <float.h>
#include <math.h>
#include <string.h>

static_assert(sizeof(pl_block_s24_q4) == 104, "S24_Q4 has padding");
static_assert(sizeof(pl_block_s24_q8) == 168, "S24_Q8 has padding");
static_assert(sizeof(pl_block_s24_t) == 54, "S24_T has padding");
static_assert(sizeof(pl_block_q8_s24) == 288, "Q8_S24 has padding");
static_assert(sizeof(pl_block_q8_K) == sizeof(block_q8_K), "Q8_K has changed");

bool pl_type_known(int type) {
    return type >= 0 && (type < PL_UPSTREAM_TYPE_COUNT || (type >= PL_S24_FIRST && type < GGML_TYPE_COUNT));
}

static int pl_s24_position(const uint8_t * idx, int k) {
    return idx[k % 32] >> 2 * (k / 32) & 3;
}

static void pl_s24_put_position(uint8_t * idx, int k, int position) {
    idx[k % 32] |= (uint8_t) (position << 2 * (k / 32));
}

// Where the two weights of a group with the largest score are, the first of equals, in rising order. NaN loses against everything.
static void pl_s24_choose(const float * score, int * at) {
    int first = 0, second = -1;
    for (int i = 1; i < 4; i++) {
        if (score[i] > score[first] || (isnan(score[first]) && !isnan(score[i]))) {
            second = first;
            first = i;
        } else if (second < 0 || score[i] > score[second] || (isnan(score[second]) && !isnan(score[i]))) {
            second = i;
        }
    }
    at[0] = first < second ? first : second;
    at[1] = first < second ? second : first;
}

// The kept values of 64 weights, their positions, and how much an error of each counts.
static void pl_s24_keep(const float * x, const float * importance, float * kept, float * weight, int * position) {
    for (int g = 0; g < 16; g++) {
        float score[4];
        for (int i = 0; i < 4; i++) {
            score[i] = fabsf(x[4 * g + i]) * (importance ? sqrtf(importance[4 * g + i]) : 1.0f);
        }
        pl_s24_choose(score, position + 2 * g);
        for (int i = 0; i < 2; i++) {
            const int at = 4 * g + position[2 * g + i];
            kept[2 * g + i] = x[at];
            weight[2 * g + i] = importance ? importance[at] : 1.0f;
        }
    }
}

// The scale d for which d q, with q the nearest of low..high, comes closest to 32 values in weighted squares: some scales around the one
// that takes the largest value to the end of the range, each improved by least squares.
static float pl_s24_scale(const float * x, const float * weight, int low, int high, float step, int steps) {
    float largest = 0;
    for (int i = 0; i < 32; i++) {
        if (fabsf(x[i]) > fabsf(largest)) {
            largest = x[i];
        }
    }
    if (fabsf(largest) < FLT_MIN) {
        return 0;
    }
    // the range reaches further down where it is not even: the largest value goes there, by a negative scale if need be
    float best = 0;
    double gain = 0;
    for (int s = -steps; s <= steps; s++) {
        const float inverse = ((float) low + step * (float) s) / largest;
        double xq = 0, qq = 0;
        for (int i = 0; i < 32; i++) {
            const float q = fminf(fmaxf(roundf(x[i] * inverse), (float) low), (float) high);
            xq += (double) (weight[i] * x[i] * q);
            qq += (double) (weight[i] * q * q);
        }
        if (qq > 0 && xq * xq > gain * qq) {
            gain = xq * xq / qq;
            best = (float) (xq / qq);
        }
    }
    return best != 0 ? best : largest / (float) low; // all weights 0
}

static int pl_s24_round(float x, float d, int low, int high) {
    if (d == 0) {
        return 0;
    }
    const float q = roundf(x / d);
    return q > (float) low ? q < (float) high ? (int) q : high : low; // NaN: low
}

static void pl_s24_block_q4(const float * x, pl_block_s24_q4 * y, const float * importance) {
    memset(y, 0, sizeof(*y));
    for (int j = 0; j < 4; j++) {
        float kept[32], weight[32];
        int position[32];
        pl_s24_keep(x + 64 * j, importance ? importance + 64 * j : NULL, kept, weight, position);
        y->d[j] = GGML_FP32_TO_FP16(pl_s24_scale(kept, weight, -8, 7, 0.1f, 9));
        const float d = GGML_FP16_TO_FP32(y->d[j]);
        for (int i = 0; i < 32; i++) {
            const int k = 32 * j + i;
            y->qs[k % 64] |= (uint8_t) ((pl_s24_round(kept[i], d, -8, 7) + 8) << 4 * (k / 64));
            pl_s24_put_position(y->idx, k, position[i]);
        }
    }
}

static void pl_s24_block_q8(const float * x, pl_block_s24_q8 * y, const float * importance) {
    memset(y, 0, sizeof(*y));
    for (int j = 0; j < 4; j++) {
        float kept[32], weight[32];
        int position[32];
        pl_s24_keep(x + 64 * j, importance ? importance + 64 * j : NULL, kept, weight, position);
        y->d[j] = GGML_FP32_TO_FP16(fabsf(pl_s24_scale(kept, weight, -127, 127, 0, 0)));
        const float d = GGML_FP16_TO_FP32(y->d[j]);
        for (int i = 0; i < 32; i++) {
            const int k = 32 * j + i;
            y->qs[k] = (int8_t) pl_s24_round(kept[i], d, -127, 127);
            pl_s24_put_position(y->idx, k, position[i]);
        }
    }
}

// What a group of S24_T says: value[i] of +-1, +-2 and 0, and the two kept ones.
typedef struct {
    int8_t value[4];
    int    position[2];
    bool   negative[2];
} pl_s24_signs;

// The signs that come closest to 4 weights at scale a: two of them, one twice, or none.
static pl_s24_signs pl_s24_sign(const float * x, const float * importance, float a) {
    pl_s24_signs result;
    memset(&result, 0, sizeof(result));
    float score[4], twice = 0;
    int at[2], alone = -1;
    for (int i = 0; i < 4; i++) {
        const float weight = importance ? importance[i] : 1.0f, size = fabsf(x[i]);
        score[i] = weight * (2 * size - a); // how much less error than 0, in units of a
        const float both = weight * (4 * size - 4 * a);
        if (both > twice) {
            twice = both;
            alone = i;
        }
    }
    pl_s24_choose(score, at);
    const float pair = score[at[0]] + score[at[1]];
    if (pair > 0 && pair >= twice) {
        for (int i = 0; i < 2; i++) {
            result.position[i] = at[i];
            result.negative[i] = x[at[i]] < 0;
            result.value[at[i]] = result.negative[i] ? -1 : 1;
        }
    } else if (alone >= 0) {
        result.position[0] = result.position[1] = alone;
        result.negative[0] = result.negative[1] = x[alone] < 0;
        result.value[alone] = x[alone] < 0 ? -2 : 2;
    } else {
        result.negative[1] = true; // takes the other away
    }
    return result;
}

// The scale for 64 weights: from some multiples of the mean of the kept ones, signs and least squares in turn.
static float pl_s24_sign_scale(const float * x, const float * importance) {
    float mean = 0;
    for (int g = 0; g < 16; g++) {
        float size[4];
        int at[2];
        for (int i = 0; i < 4; i++) {
            size[i] = fabsf(x[4 * g + i]);
        }
        pl_s24_choose(size, at);
        mean += (size[at[0]] + size[at[1]]) / 32;
    }
    float best = 0;
    double gain = 0;
    for (int start = 0; start < 4 && mean > FLT_MIN; start++) {
        float a = mean * (0.7f + 0.25f * (float) start);
        for (int turn = 0; turn < 4; turn++) {
            double xc = 0, cc = 0;
            for (int g = 0; g < 16; g++) {
                const float * w = importance ? importance + 4 * g : NULL;
                const pl_s24_signs s = pl_s24_sign(x + 4 * g, w, a);
                for (int i = 0; i < 4; i++) {
                    const float weight = w ? w[i] : 1;
                    xc += (double) (weight * x[4 * g + i] * (float) s.value[i]);
                    cc += (double) (weight * (float) (s.value[i] * s.value[i]));
                }
            }
            if (!(cc > 0 && xc > 0)) {
                break;
            }
            a = (float) (xc / cc);
            if (xc * xc > gain * cc) {
                gain = xc * xc / cc;
                best = a;
            }
        }
    }
    return best;
}

static void pl_s24_block_t(const float * x, pl_block_s24_t * y, const float * importance) {
    memset(y, 0, sizeof(*y));
    float total = 0;
    for (int i = 0; importance != NULL && i < PL_S24_BLOCK; i++) {
        total += importance[i];
    }
    importance = total > 0 ? importance : NULL;
    float a[4], largest = 0;
    for (int j = 0; j < 4; j++) {
        a[j] = pl_s24_sign_scale(x + 64 * j, importance ? importance + 64 * j : NULL);
        largest = fmaxf(largest, a[j]);
    }
    y->d = GGML_FP32_TO_FP16(largest / 127);
    const float d = GGML_FP16_TO_FP32(y->d);
    for (int j = 0; j < 4; j++) {
        y->scale[j] = (uint8_t) pl_s24_round(a[j], d, 0, 127);
        for (int g = 0; g < 16; g++) {
            const int at = 64 * j + 4 * g;
            const pl_s24_signs s = pl_s24_sign(x + at, importance ? importance + at : NULL, d * y->scale[j]);
            for (int i = 0; i < 2; i++) {
                const int k = at / 2 + i;
                pl_s24_put_position(y->idx, k, s.position[i]);
                y->signs[k / 8] |= (uint8_t) (s.negative[i] << k % 8);
            }
        }
    }
}

#define PL_S24_ROWS(name)                                                                                                           \
    size_t pl_quantize_s24_##name(const float * from, void * to, int64_t rows, int64_t columns, const float * importance) {         \
        pl_block_s24_##name * y = (pl_block_s24_##name *) to;                                                                       \
        const int64_t blocks = columns / PL_S24_BLOCK;                                                                              \
        for (int64_t i = 0; i < rows * blocks; i++) {                                                                               \
            pl_s24_block_##name(from + i * PL_S24_BLOCK, y + i, importance ? importance + i % blocks * PL_S24_BLOCK : NULL);        \
        }                                                                                                                           \
        return (size_t) (rows * blocks) * sizeof(*y);                                                                               \
    }                                                                                                                               \
    void pl_quantize_row_s24_##name(const float * from, void * to, int64_t k) {                                                     \
        pl_quantize_s24_##name(from, to, 1, k, NULL);                                                                               \
    }

PL_S24_ROWS(q4)
PL_S24_ROWS(q8)
PL_S24_ROWS(t)

void pl_dequantize_row_s24_q4(const void * from, float * to, int64_t k) {
    const pl_block_s24_q4 * x = (const pl_block_s24_q4 *) from;
    memset(to, 0, (size_t) k * sizeof(float));
    for (int64_t b = 0; b < k / PL_S24_BLOCK; b++, x++, to += PL_S24_BLOCK) {
        for (int i = 0; i < PL_S24_KEPT; i++) {
            to[i / 2 * 4 + pl_s24_position(x->idx, i)] = (float) ((x->qs[i % 64] >> 4 * (i / 64) & 15) - 8) * GGML_FP16_TO_FP32(x->d[i / 32]);
        }
    }
}

void pl_dequantize_row_s24_q8(const void * from, float * to, int64_t k) {
    const pl_block_s24_q8 * x = (const pl_block_s24_q8 *) from;
    memset(to, 0, (size_t) k * sizeof(float));
    for (int64_t b = 0; b < k / PL_S24_BLOCK; b++, x++, to += PL_S24_BLOCK) {
        for (int i = 0; i < PL_S24_KEPT; i++) {
            to[i / 2 * 4 + pl_s24_position(x->idx, i)] = (float) x->qs[i] * GGML_FP16_TO_FP32(x->d[i / 32]);
        }
    }
}

void pl_dequantize_row_s24_t(const void * from, float * to, int64_t k) {
    const pl_block_s24_t * x = (const pl_block_s24_t *) from;
    memset(to, 0, (size_t) k * sizeof(float));
    for (int64_t b = 0; b < k / PL_S24_BLOCK; b++, x++, to += PL_S24_BLOCK) {
        for (int i = 0; i < PL_S24_KEPT; i++) {
            const float size = (float) x->scale[i / 32] * GGML_FP16_TO_FP32(x->d);
            to[i / 2 * 4 + pl_s24_position(x->idx, i)] += x->signs[i / 8] >> i % 8 & 1 ? -size : size;
        }
    }
}

static bool pl_s24_finite(uint16_t half) {
    return (half & 0x7c00) != 0x7c00;
}

// What is wrong with the positions; NULL if nothing.
static const char * pl_s24_positions_fault(const uint8_t * idx, bool equal) {
    for (int k = 0; k < PL_S24_KEPT; k += 2) {
        const int first = pl_s24_position(idx, k), second = pl_s24_position(idx, k + 1);
        if (first > second || (first == second && !equal)) {
            return "two positions in a group of 4 do not rise";
        }
    }
    return NULL;
}

static const char * pl_s24_scales_fault(const uint16_t * d) {
    for (int j = 0; j < 4; j++) {
        if (!pl_s24_finite(d[j])) {
            return "a scale is not finite";
        }
    }
    return NULL;
}

static const char * pl_s24_fault_q4(const pl_block_s24_q4 * x) {
    const char * fault = pl_s24_positions_fault(x->idx, false);
    return fault ? fault : pl_s24_scales_fault(x->d);
}

static const char * pl_s24_fault_q8(const pl_block_s24_q8 * x) {
    for (int k = 0; k < PL_S24_KEPT; k++) {
        if (x->qs[k] == -128) {
            return "a value is -128";
        }
    }
    const char * fault = pl_s24_positions_fault(x->idx, false);
    return fault ? fault : pl_s24_scales_fault(x->d);
}

static const char * pl_s24_fault_t(const pl_block_s24_t * x) {
    for (int j = 0; j < 4; j++) {
        if (x->scale[j] > 127) {
            return "a scale is above 127";
        }
    }
    const char * fault = pl_s24_positions_fault(x->idx, true);
    return fault ? fault : pl_s24_finite(x->d) ? NULL : "a scale is not finite";
}

bool pl_s24_validate(enum ggml_type type, const void * data, size_t blocks) {
    for (size_t b = 0; b < blocks; b++) {
        const char * fault = type == GGML_TYPE_S24_Q4 ? pl_s24_fault_q4((const pl_block_s24_q4 *) data + b)
                           : type == GGML_TYPE_S24_Q8 ? pl_s24_fault_q8((const pl_block_s24_q8 *) data + b)
                                                      : pl_s24_fault_t((const pl_block_s24_t *) data + b);
        if (fault != NULL) {
            GGML_LOG_ERROR("%s: %s block %zu: %s\n", __func__, ggml_type_name(type), b, fault);
            return false;
        }
    }
    return true;
}
