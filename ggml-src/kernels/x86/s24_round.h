// Activations as Q8_S24 in AVX2. s24_round.h includes it.
#pragma once

#include "s24.h"

#include <immintrin.h>

namespace pl {
namespace s24 {

inline __m256i most_of_pairs(__m256i a, __m256i b) { return _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)); }

// The largest of each of four vectors' lanes, in the lower and in the upper half.
inline __m256i most_of_four(const __m256i * v) {
    const __m256i a = most_of_pairs(v[0], v[1]), b = most_of_pairs(v[2], v[3]);
    return _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

inline void round(const float * x, pl_block_q8_s24 & y) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most[8]; // of the first 32 of each 64, then of the second
    for (int g = 0; g < 8; g++) {
        const float * const from = x + g % 4 * 64 + g / 4 * 32;
        most[g] = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            most[g] = _mm256_max_epi32(most[g], _mm256_and_si256(_mm256_loadu_si256((const __m256i *) (from + 8 * i)), magnitude));
        }
    }
    const __m256i first = most_of_four(most), second = most_of_four(most + 4);
    const __m256 largest = _mm256_castsi256_ps(_mm256_max_epi32(_mm256_permute2x128_si256(first, second, 0x20),
            _mm256_permute2x128_si256(first, second, 0x31)));
    const __m256 some = _mm256_cmp_ps(largest, _mm256_set1_ps(next_to_nothing), _CMP_GE_OQ);
    const __m256 d = _mm256_and_ps(some, _mm256_div_ps(largest, _mm256_set1_ps(127)));
    _mm256_storeu_ps(y.d[0], _mm256_add_ps(d, _mm256_sub_ps(largest, largest)));
    alignas(32) float inverse[8];
    _mm256_store_ps(inverse, _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(127), largest)));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); // undoes the interleaving of the packs
    for (int g = 0; g < 8; g++) {
        const int at = g % 4 * 64 + g / 4 * 32;
        const __m256 by = _mm256_set1_ps(inverse[g]);
        __m256i v[4];
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(by, _mm256_loadu_ps(x + at + 8 * i)));
        }
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        // what is not finite would be -128
        _mm256_storeu_si256((__m256i *) (y.qs + at), _mm256_permutevar8x32_epi32(_mm256_max_epi8(bytes, _mm256_set1_epi8(-127)), order));
    }
}

} // namespace s24
} // namespace pl
