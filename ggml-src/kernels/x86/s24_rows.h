// Products with 2:4 sparse weights (s24.h): AVX2, and AVX-512 with VBMI and VNNI. s24_dot.h includes it.
#pragma once

#include "s24.h"

#include <cstring>
#include <immintrin.h>

namespace pl {
namespace s24 {

inline float sum_of(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Fetches what is read later: of one stream 8 KB ahead, further than the processor's own prefetcher goes; of R streams, which are each as
// short as a row and give it little to go by, R rows ahead.
template <int R, class Block> void fetch(const Block * x, int64_t stride) {
    const char * const next = R == 1 ? (const char *) x + 8192 : (const char *) (x + R * stride);
    for (size_t at = 0; at < sizeof(Block); at += 64) {
        _mm_prefetch(next + at, _MM_HINT_T0);
    }
}

// The four scales of a block of weights, twice, as those of its activations stand.
inline __m256 twice(const uint16_t * halves) {
    int64_t four;
    memcpy(&four, halves, sizeof(four));
    return _mm256_cvtph_ps(_mm_set1_epi64x(four));
}

inline __m256 scales_of(const pl_block_s24_q4 & x) { return twice(x.d); }
inline __m256 scales_of(const pl_block_s24_q8 & x) { return twice(x.d); }

inline __m256 scales_of(const pl_block_s24_t & x) {
    int32_t four;
    memcpy(&four, x.scale, sizeof(four));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_set1_epi32(four))), _mm256_set1_ps(_cvtsh_ss(x.d)));
}

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define PL_S24_AVX512

// A byte permutation of 128 activations gives the 64 that as many kept values meet. vpdpbusd wants one unsigned side: values get +8 or
// +128, and a second product, of just that with the picked activations, takes it back.
//
// A block of a column that many rows meet is first copied to where no load crosses a line of the cache, with its scales as lanes want them.
struct alignas(64) column_block {
    int8_t qs[256];
    float  lanes[2][16];
    float  d[2][4];
};

// Scales d[2][4] as pl_block_q8_s24 has them, each over the 4 sums that it is for: of j = 0 and 1 or, from = 2, of 2 and 3.
inline __m512 spread(__m256 scales, int from) {
    const __m512i where = _mm512_add_epi32(_mm512_set_epi32(5, 5, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4, 0, 0, 0, 0), _mm512_set1_epi32(from));
    return _mm512_permutexvar_ps(where, _mm512_castps256_ps512(scales));
}

struct activations {
    __m512i q[4];
    __m256  d;
    __m512  lanes[2];

    explicit activations(const pl_block_q8_s24 & y) : d(_mm256_loadu_ps(y.d[0])), lanes { spread(d, 0), spread(d, 2) } {
        for (int i = 0; i < 4; i++) {
            q[i] = _mm512_loadu_si512(y.qs + 64 * i);
        }
    }

    explicit activations(const column_block & y)
        : d(_mm256_load_ps(y.d[0])), lanes { _mm512_load_ps(y.lanes[0]), _mm512_load_ps(y.lanes[1]) } {
        for (int i = 0; i < 4; i++) {
            q[i] = _mm512_load_si512(y.qs + 64 * i);
        }
    }
};

inline void copy(const pl_block_q8_s24 & y, column_block & to) {
    const activations a(y);
    for (int i = 0; i < 4; i++) {
        _mm512_store_si512(to.qs + 64 * i, a.q[i]);
    }
    _mm512_store_ps(to.lanes[0], a.lanes[0]);
    _mm512_store_ps(to.lanes[1], a.lanes[1]);
    _mm256_store_ps(to.d[0], a.d);
}

// Picks for kept values 0..63 and 64..127.
inline void pick(const uint8_t * idx, const activations & a, __m512i & low, __m512i & high) {
    const __m512i bits  = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) idx));
    const __m512i three = _mm512_set1_epi8(3);
    const __m512i pairs = _mm512_set_epi8(124, 124, 120, 120, 116, 116, 112, 112, 108, 108, 104, 104, 100, 100, 96, 96, 92, 92, 88, 88, 84, 84,
            80, 80, 76, 76, 72, 72, 68, 68, 64, 64, 60, 60, 56, 56, 52, 52, 48, 48, 44, 44, 40, 40, 36, 36, 32, 32, 28, 28, 24, 24, 20, 20, 16,
            16, 12, 12, 8, 8, 4, 4, 0, 0);
    const __m512i fields = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1); // fields 0 and 1 in its halves
    const int either     = 0xEA;                                                                // (a & b) | c
    const __m512i first  = _mm512_ternarylogic_epi32(_mm512_srlv_epi16(bits, fields), three, pairs, either);
    const __m512i second = _mm512_ternarylogic_epi32(_mm512_srlv_epi16(bits, _mm512_add_epi16(fields, _mm512_set1_epi16(4))), three, pairs, either);
    low  = _mm512_permutex2var_epi8(a.q[0], first, a.q[1]);
    high = _mm512_permutex2var_epi8(a.q[2], second, a.q[3]);
}

// The sums of 4 products each, of values + offset and picked activations.
inline __m512i dots(__m512i values, __m512i offset, __m512i picked) {
    const __m512i zero = _mm512_setzero_si512();
    return _mm512_sub_epi32(_mm512_dpbusd_epi32(zero, values, picked), _mm512_dpbusd_epi32(zero, offset, picked));
}

inline __m512 add_scaled(__m512 sum, __m512i low, __m512i high, __m256 scales) {
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), spread(scales, 0), sum);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), spread(scales, 2), sum);
}

inline __m512 add(__m512 sum, const pl_block_s24_q4 & x, const activations & a) {
    __m512i low, high;
    pick(x.idx, a, low, high);
    const __m512i values = _mm512_loadu_si512(x.qs), nibble = _mm512_set1_epi8(15);
    const __m512i eight = _mm512_set1_epi8(8);
    return add_scaled(sum, dots(_mm512_and_si512(values, nibble), eight, low),
            dots(_mm512_and_si512(_mm512_srli_epi16(values, 4), nibble), eight, high), _mm256_mul_ps(scales_of(x), a.d));
}

inline __m512 add(__m512 sum, const pl_block_s24_q8 & x, const activations & a) {
    __m512i low, high;
    pick(x.idx, a, low, high);
    const __m512i flip = _mm512_set1_epi8(-128);
    return add_scaled(sum, dots(_mm512_xor_si512(_mm512_loadu_si512(x.qs), flip), flip, low),
            dots(_mm512_xor_si512(_mm512_loadu_si512(x.qs + 64), flip), flip, high), _mm256_mul_ps(scales_of(x), a.d));
}

// Scales are the unsigned side of the product here, activations with the weights' signs the other.
inline __m512 add(__m512 sum, const pl_block_s24_t & x, const activations & a) {
    __m512i low, high;
    pick(x.idx, a, low, high);
    uint64_t signs[2];
    uint32_t four;
    memcpy(signs, x.signs, sizeof(signs));
    memcpy(&four, x.scale, sizeof(four));
    const __m512i zero = _mm512_setzero_si512(), scales = _mm512_set1_epi32((int) four);
    const __m512i where = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi8(1), 1);
    low  = _mm512_mask_sub_epi8(low, signs[0], zero, low);
    high = _mm512_mask_sub_epi8(high, signs[1], zero, high);
    const __m512i dot_low = _mm512_dpbusd_epi32(zero, _mm512_shuffle_epi8(scales, where), low);
    const __m512i dot_high = _mm512_dpbusd_epi32(zero, _mm512_shuffle_epi8(scales, _mm512_add_epi8(where, _mm512_set1_epi8(2))), high);
    const __m512 of_half = _mm512_mul_ps(_mm512_cvtepi32_ps(dot_high), a.lanes[1]);
    const __m512 of_block = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot_low), a.lanes[0], of_half);
    return _mm512_fmadd_ps(of_block, _mm512_set1_ps(_cvtsh_ss(x.d)), sum);
}

// Y: pl_block_q8_s24 or column_block
template <int R, class Block, class Y> void rows(const Block * x, int64_t stride, const Y * y, int64_t blocks, float * sums) {
    __m512 sum[R];
    for (int r = 0; r < R; r++) {
        sum[r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; b++) {
        const activations a(y[b]);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            fetch<R>(x + r * stride + b, stride);
            sum[r] = add(sum[r], x[r * stride + b], a);
        }
    }
    for (int r = 0; r < R; r++) {
        const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum[r]), 1));
        sums[r] = sum_of(_mm256_add_ps(_mm512_castps512_ps256(sum[r]), high));
    }
}

#else

// A byte shuffle picks 8 of 16 activations. For 32 kept values, chunks 0 and 2 of their 64 activations lie in one register, 1 and 3 in
// another, so that two shuffles by the same positions and a blend do it.
struct picker {
    __m256i even, odd;

    explicit picker(const int8_t * q) {
        const __m256i first = _mm256_loadu_si256((const __m256i *) q), second = _mm256_loadu_si256((const __m256i *) (q + 32));
        even = _mm256_permute2x128_si256(first, second, 0x20);
        odd  = _mm256_permute2x128_si256(first, second, 0x31);
    }

    __m256i operator()(__m256i where) const {
        return _mm256_blend_epi32(_mm256_shuffle_epi8(even, where), _mm256_shuffle_epi8(odd, where), 0xCC);
    }
};

template <int J> __m256i positions(const uint8_t * idx) {
    const __m256i bits  = _mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256((const __m256i *) idx), 2 * J), _mm256_set1_epi8(3));
    const __m256i pairs = _mm256_set1_epi64x(0x0C0C080804040000);
    return _mm256_or_si256(bits, pairs);
}

template <int J> __m256i values(const pl_block_s24_q4 & x) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *) (x.qs + 32 * (J % 2)));
    return _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(bytes, 4 * (J / 2)), _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
}

template <int J> __m256i values(const pl_block_s24_q8 & x) {
    return _mm256_loadu_si256((const __m256i *) (x.qs + 32 * J));
}

// -1 where the sign is 1, else 1.
template <int J> __m256i values(const pl_block_s24_t & x) {
    int32_t signs;
    memcpy(&signs, x.signs + 4 * J, sizeof(signs));
    const __m256i which = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit   = _mm256_set1_epi64x((long long) 0x8040201008040201);
    const __m256i negative = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(signs), which), bit), bit);
    return _mm256_or_si256(negative, _mm256_set1_epi8(1));
}

// The unsigned side of the product, and the scales that are left: a scale of S24_T is that side itself.
template <int J, class Block> __m256i sizes(const Block &, __m256i values) { return _mm256_abs_epi8(values); }
template <int J> __m256i sizes(const pl_block_s24_t & x, __m256i) { return _mm256_set1_epi8((char) x.scale[J]); }

template <class Block> __m256 scales_left(const Block & x) { return scales_of(x); }
inline __m256 scales_left(const pl_block_s24_t & x) { return _mm256_set1_ps(_cvtsh_ss(x.d)); }

// Sums of 4 products each; the first side unsigned, at most 127.
inline __m256i dots(__m256i sizes, __m256i signed_side) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), sizes, signed_side);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(sizes, signed_side), _mm256_set1_epi16(1));
#endif
}

// Adds sums of quarter J, each with its scale of d[2][4]: the lower four are those of the first 32 activations.
template <int J> __m256 add_scaled(__m256 sum, __m256i dot, __m256 scales) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_permute_ps(scales, 0x55 * J), sum);
}

template <int J, class Block> __m256 add(__m256 sum, const Block & x, const picker & pick, __m256 scales) {
    const __m256i w = values<J>(x);
    return add_scaled<J>(sum, dots(sizes<J>(x, w), _mm256_sign_epi8(pick(positions<J>(x.idx)), w)), scales);
}

template <int J, int R, class Block>
void add_quarter(__m256 * sum, const Block * x, int64_t stride, const pl_block_q8_s24 & y, const __m256 * scales) {
    const picker pick(y.qs + 64 * J);
    for (int r = 0; r < R; r++) {
        sum[r] = add<J>(sum[r], x[r * stride], pick, scales[r]);
    }
}

template <int R, class Block> void rows(const Block * x, int64_t stride, const pl_block_q8_s24 * y, int64_t blocks, float * sums) {
    __m256 sum[R];
    for (int r = 0; r < R; r++) {
        sum[r] = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; b++) {
        const __m256 d = _mm256_loadu_ps(y[b].d[0]);
        __m256 scales[R];
        for (int r = 0; r < R; r++) {
            fetch<R>(x + r * stride + b, stride);
            scales[r] = _mm256_mul_ps(scales_left(x[r * stride + b]), d);
        }
        add_quarter<0, R>(sum, x + b, stride, y[b], scales);
        add_quarter<1, R>(sum, x + b, stride, y[b], scales);
        add_quarter<2, R>(sum, x + b, stride, y[b], scales);
        add_quarter<3, R>(sum, x + b, stride, y[b], scales);
    }
    for (int r = 0; r < R; r++) {
        sums[r] = sum_of(sum[r]);
    }
}

#endif

} // namespace s24
} // namespace pl
