// Activations as Q8_K, what k-quants are multiplied with: upstream's reference in AVX2, bit for bit. Upstream has
// only the reference here, which takes as long as the products of a thousand rows.
#pragma once

#include "s24.h"

#include <cstring>
#include <immintrin.h>

namespace pl {

inline void round_block_q8_K(const float * x, pl_block_q8_K & y) {
    // the operand that may be NaN stands first: then the other one stays
    __m256 high[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() }, low[2] = { high[0], high[0] };
    for (int i = 0; i < 256; i += 16) {
        for (int j = 0; j < 2; j++) {
            const __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            high[j] = _mm256_max_ps(v, high[j]);
            low[j]  = _mm256_min_ps(v, low[j]);
        }
    }
    alignas(32) float most[8], least[8];
    _mm256_store_ps(most, _mm256_max_ps(high[0], high[1]));
    _mm256_store_ps(least, _mm256_min_ps(low[0], low[1]));
    float largest = 0, smallest = 0;
    for (int i = 0; i < 8; i++) {
        largest  = most[i] > largest ? most[i] : largest;
        smallest = least[i] < smallest ? least[i] : smallest;
    }
    float peak = largest > -smallest ? largest : smallest;
    if (largest == -smallest) {
        if (largest == 0) {
            memset(&y, 0, sizeof(y));
            return;
        }
        int first = 0; // both signs: the first one counts
        while (x[first] != largest && x[first] != smallest) {
            first++;
        }
        peak = x[first];
    }
    const float scale = -127.f / peak;
    const __m256 by = _mm256_set1_ps(scale);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); // undoes the interleaving of the packs
    for (int i = 0; i < 256; i += 32) {
        __m256i v[4];
        for (int j = 0; j < 4; j++) {
            v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(by, _mm256_loadu_ps(x + i + 8 * j)));
        }
        const __m256i a = _mm256_packs_epi32(v[0], v[1]), b = _mm256_packs_epi32(v[2], v[3]);
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
        _mm256_storeu_si256((__m256i *) (y.qs + i), bytes);
        // pairs, fours and eights within each lane, two lanes of 16 values
        const __m256i twos = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
        const __m256i fours = _mm256_madd_epi16(twos, _mm256_set1_epi16(1));
        __m256i sums = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0x4E));
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xB1));
        y.sums[i / 16]     = (int16_t) _mm256_extract_epi32(sums, 0);
        y.sums[i / 16 + 1] = (int16_t) _mm256_extract_epi32(sums, 4);
    }
    y.d = 1 / scale;
}

} // namespace pl
