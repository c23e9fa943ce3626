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

// Fetches what is read later, as much as block b of R rows: of one row 8 KB ahead, further than the processor's own prefetcher goes, and
// into the L2 cache (Zen 4: 25 GB/s; into the L1, whose few miss buffers that likely fills, 17); of R rows the R after them, in the order
// in which they lie in memory.
template <int R, class Block> void fetch(const Block * x, int64_t stride, int64_t b) {
    const char * const next = R == 1 ? (const char *) (x + b) + 8192 : (const char *) (x + R * (stride + b));
    for (size_t at = 0; at < R * sizeof(Block); at += 64) {
        _mm_prefetch(next + at, R == 1 ? _MM_HINT_T1 : _MM_HINT_T0);
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

// The shorter the rows, the more of them (Zen 4).
template <> constexpr int rows_from_memory<pl_block_s24_q4> = 2;
template <> constexpr int rows_from_memory<pl_block_s24_t> = 4;

// A byte permutation of 128 activations gives the 64 that as many kept values meet. Its controls are index bytes as they are, but for one
// shift of the second half: activations are put where the bits of a field point to. Of field 0 those are bits 0 and 1, so that its 64
// activations stand as ever; of fields 1 and 2 (shifted) bits 2 and 3, of field 3 (shifted) bits 4 and 5. The group's number fills the
// bits between, bit 6 chooses the half of the table.
//
// vpdpbusd wants one unsigned side: values get +8 or +128, and a second product, of just that with the picked activations, takes it back.
//
// A block of a column that many rows meet is first copied to where no load crosses a line of the cache, in that order, with its scales as
// lanes want them.
struct alignas(64) column_block {
    int8_t qs[256];
    float  lanes[16];
    float  d[2][4];
};

// Scales d[2][4] as pl_block_q8_s24 has them, each over the 4 sums that it is for: of j = 0 and 1 or, from = 2, of 2 and 3.
inline __m512 spread(__m256 scales, int from) {
    const __m512i where = _mm512_add_epi32(_mm512_set_epi32(5, 5, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4, 0, 0, 0, 0), _mm512_set1_epi32(from));
    return _mm512_permutexvar_ps(where, _mm512_castps256_ps512(scales));
}

// The same over the sums of pairs.
inline __m512 spread_over_pairs(__m256 scales) {
    const __m512i where = _mm512_set_epi32(7, 7, 5, 5, 3, 3, 1, 1, 6, 6, 4, 4, 2, 2, 0, 0);
    return _mm512_permutexvar_ps(where, _mm512_castps256_ps512(scales));
}

struct activations {
    __m512i q[4];
    __m256  d;
    __m512  lanes;

    explicit activations(const pl_block_q8_s24 & y) : d(_mm256_loadu_ps(y.d[0])), lanes(spread_over_pairs(d)) {
        const __m512i in_fours = _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
        const __m512i fours    = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        q[0] = _mm512_loadu_si512(y.qs);
        q[1] = _mm512_shuffle_epi8(_mm512_loadu_si512(y.qs + 64), in_fours);
        q[2] = _mm512_shuffle_epi8(_mm512_loadu_si512(y.qs + 128), in_fours);
        q[3] = _mm512_permutexvar_epi32(fours, _mm512_shuffle_epi8(_mm512_loadu_si512(y.qs + 192), in_fours));
    }

    explicit activations(const column_block & y) : d(_mm256_load_ps(y.d[0])), lanes(_mm512_load_ps(y.lanes)) {
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
    _mm512_store_ps(to.lanes, a.lanes);
    _mm256_store_ps(to.d[0], a.d);
}

// Activations for kept values 0..63 and 64..127.
struct picked {
    __m512i low, high;
};

// For kept values 0..63 and 64..127: which bits of an index byte are the position, and the other bits of the control, by the group.
struct controls {
    uint8_t position[2][64], group[2][64];

    constexpr controls() : position(), group() {
        for (int k = 0; k < 64; k++) {
            const int g = k % 32 / 2, apart = g % 4 | g / 4 << 4;
            position[0][k] = uint8_t(k < 32 ? 0x03 : 0x0C);
            position[1][k] = uint8_t(k < 32 ? 0x0C : 0x30);
            group[0][k]    = uint8_t(k < 32 ? g << 2 : apart | 64);
            group[1][k]    = uint8_t(k < 32 ? apart : g | 64);
        }
    }
};
alignas(64) constexpr controls control;

// Controls of the permutations that pick them.
struct selection {
    __m512i low, high;
};

inline selection selection_of(const uint8_t * idx) {
    const int either = 0xEA; // (a & b) | c
    const __m512i bits = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) idx));
    return { _mm512_ternarylogic_epi32(bits, _mm512_load_si512(control.position[0]), _mm512_load_si512(control.group[0]), either),
            _mm512_ternarylogic_epi32(_mm512_srli_epi16(bits, 2), _mm512_load_si512(control.position[1]),
                    _mm512_load_si512(control.group[1]), either) };
}

inline picked pick(const uint8_t * idx, const activations & a) {
    const selection s = selection_of(idx);
    return { _mm512_permutex2var_epi8(a.q[0], s.low, a.q[1]), _mm512_permutex2var_epi8(a.q[2], s.high, a.q[3]) };
}

inline picked pick(const pl_block_s24_q4 & x, const activations & a) { return pick(x.idx, a); }
inline picked pick(const pl_block_s24_q8 & x, const activations & a) { return pick(x.idx, a); }

// With the weights' signs.
inline picked pick(const pl_block_s24_t & x, const activations & a) {
    const picked p = pick(x.idx, a);
    uint64_t signs[2];
    memcpy(signs, x.signs, sizeof(signs));
    const __m512i zero = _mm512_setzero_si512();
    return { _mm512_mask_sub_epi8(p.low, signs[0], zero, p.low), _mm512_mask_sub_epi8(p.high, signs[1], zero, p.high) };
}

// The sums of 4 products each, of values + offset and picked activations.
inline __m512i dots(__m512i values, __m512i offset, __m512i picked) {
    const __m512i zero = _mm512_setzero_si512();
    return _mm512_sub_epi32(_mm512_dpbusd_epi32(zero, values, picked), _mm512_dpbusd_epi32(zero, offset, picked));
}

// Sums of pairs of neighbours, each times a factor, where sums fit into 16 bits: one conversion to floats instead of two. In every 128 bits
// first those of `low`, then those of `high`.
inline __m512 pairs(__m512i low, __m512i high, __m512i factors) {
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(_mm512_packs_epi32(low, high), factors));
}

// 4-bit values as S24_Q4 has them, and the scales of weights.
inline __m512 add_nibbles(__m512 sum, const uint8_t * qs, __m256 scales, const activations & a, const picked & p) {
    const __m512i values = _mm512_loadu_si512(qs), nibble = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
    const __m512i low = dots(_mm512_and_si512(values, nibble), eight, p.low);
    const __m512i high = dots(_mm512_and_si512(_mm512_srli_epi16(values, 4), nibble), eight, p.high);
    return _mm512_fmadd_ps(pairs(low, high, _mm512_set1_epi16(1)), spread_over_pairs(_mm256_mul_ps(scales, a.d)), sum);
}

inline __m512 add(__m512 sum, const pl_block_s24_q4 & x, const activations & a, const picked & p) {
    return add_nibbles(sum, x.qs, scales_of(x), a, p);
}

inline __m512 add(__m512 sum, const pl_block_s24_q8 & x, const activations & a, const picked & p) {
    const __m512i flip = _mm512_set1_epi8(-128);
    const __m512i low = dots(_mm512_xor_si512(_mm512_loadu_si512(x.qs), flip), flip, p.low);
    const __m512i high = dots(_mm512_xor_si512(_mm512_loadu_si512(x.qs + 64), flip), flip, p.high);
    const __m256 scales = _mm256_mul_ps(scales_of(x), a.d);
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), spread(scales, 0), sum);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), spread(scales, 2), sum);
}

inline __m512 add(__m512 sum, const pl_block_s24_t & x, const activations & a, const picked & p) {
    uint32_t four;
    memcpy(&four, x.scale, sizeof(four));
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
    const __m512i where = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set1_epi64x((long long) 0x8000800080008000)),
            _mm256_set1_epi64x((long long) 0x8001800180018001), 1); // bytes 0 and 1 as 16 bits; in the upper halves 2 and 3
    const __m512i scales = _mm512_shuffle_epi8(_mm512_set1_epi32((int) four),
            _mm512_add_epi8(where, _mm512_broadcast_i32x4(_mm_set_epi64x(0x0002000200020002, 0))));
    const __m512 of_block = pairs(_mm512_dpbusd_epi32(zero, one, p.low), _mm512_dpbusd_epi32(zero, one, p.high), scales);
    return _mm512_fmadd_ps(_mm512_mul_ps(of_block, a.lanes), _mm512_cvtph_ps(_mm256_set1_epi16((short) x.d)), sum);
}

// Y: pl_block_q8_s24 or column_block. Activations are picked a block ahead of the products with them: one block's steps each wait for the
// step before, and the processor does not look far enough ahead to fill those waits with the next block's. Inlined, so that constants
// stay in registers from one short row to the next.
template <int R, class Block, class Y>
__attribute__((always_inline)) inline void rows(const Block * x, int64_t stride, const Y * y, int64_t blocks, float * sums) {
    __m512 sum[R];
    picked p[R];
    for (int r = 0; r < R; r++) {
        sum[r] = _mm512_setzero_ps();
        p[r] = pick(x[r * stride], activations(y[0]));
    }
    for (int64_t b = 0; b + 1 < blocks; b++) {
        const activations a(y[b]), next(y[b + 1]);
        fetch<R>(x, stride, b);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const picked following = pick(x[r * stride + b + 1], next);
            sum[r] = add(sum[r], x[r * stride + b], a, p[r]);
            p[r] = following;
        }
    }
    fetch<R>(x, stride, blocks - 1);
    const activations a(y[blocks - 1]);
    for (int r = 0; r < R; r++) {
        sum[r] = add(sum[r], x[r * stride + blocks - 1], a, p[r]);
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
        fetch<R>(x, stride, b);
        for (int r = 0; r < R; r++) {
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
