// C = A^T B for Q8_0 weights and Q8_0 activations, of any number of columns: decoding, rows of many sequences in one batch, prompts. AVX-512
// VNNI.
//
// Upstream's kernel takes 256 bits at a time and adds up each product of blocks across lanes. Here a vector holds four values of each
// of 16 columns, so that nothing is ever added across lanes: activations are packed first (a transpose of dwords, 16 columns a
// tile), weights stay as they are in the file and are broadcast four at a time. vpdpbusd wants one unsigned side: weights get +128,
// which 128 times the sum of the column's block takes back; that sum is where the accumulator starts.
//
// Per 4 weights and 16 columns: one broadcast, one xor, one vpdpbusd; per block of 32 three more for the scales. Integer sums are
// exact; the order in which blocks are added differs from upstream's, so results differ from it in the last bits.
//
// Sixteen lanes are wasted on one column or few (decoding, drafts that are verified, some sequences in a batch). For those a vector holds
// two blocks of one row, and each pair of blocks is read once for all columns: from memory, a second column costs little more than the
// first. A column's sums are the same bits whatever columns stand beside it, up to five.
//
// patches/q8_0-gemm.patch calls it in ggml-cpu's sgemm.cpp, which is compiled once for every processor generation.
#pragma once

#include "ggml-quants.h"

#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

namespace pl {

class gemm_q8_0 {
    // One block of 32 values of 16 columns.
    struct alignas(64) packed {
        int8_t  q[8][16][4]; // [group of 4 values][column][value]
        int32_t start[16];   // -128 times the sum of the column's 32 values
        float   d[16];       // the column's scale
    };

    // Two neighbouring blocks of one column, dword by dword in turn: lane 2 i belongs to the first one, lane 2 i + 1 to the second.
    struct alignas(64) pair {
        int8_t  q[16][4];
        int32_t start[16]; // -128 times the sum of the lane's four values
    };

    static constexpr int64_t columns     = 16;
    static constexpr int64_t strip_bytes = 16 * 1024;  // rows of weights that stay in L1
    static constexpr int64_t panel_bytes = 640 * 1024; // packed columns that stay in L2

    const block_q8_0 * a; // [m][lda]
    const block_q8_0 * b; // [n][ldb]
    float * c;            // [n][ldc]
    const int64_t m, n, k, lda, ldb, ldc;

    // A thread's packed columns; grows, ends with the thread.
    static packed * scratch(size_t blocks) {
        return static_cast<packed *>(memory(blocks * sizeof(packed)));
    }

    static void * memory(size_t bytes) {
        struct buffer {
            std::unique_ptr<char[]> bytes;
            size_t size = 0;
        };
        static thread_local buffer mine;
        const size_t wanted = bytes + alignof(packed);
        if (mine.size < wanted) {
            mine.bytes.reset();
            mine.size = 0;
            mine.bytes.reset(new (std::nothrow) char[wanted]);
            if (mine.bytes == nullptr) {
                return nullptr;
            }
            mine.size = wanted;
        }
        const uintptr_t at = (uintptr_t(mine.bytes.get()) + alignof(packed) - 1) & ~uintptr_t(alignof(packed) - 1);
        return reinterpret_cast<void *>(at);
    }

    static __m512i two(const block_q8_0 * low, const block_q8_0 * high) {
        const __m256i first = _mm256_loadu_si256((const __m256i *) low->qs);
        return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm256_loadu_si256((const __m256i *) high->qs), 1);
    }

    // Dword i of lane l of each vector becomes dword j of lane l of vector i.
    static void transpose(__m512i & v0, __m512i & v1, __m512i & v2, __m512i & v3) {
        const __m512i a0 = _mm512_unpacklo_epi32(v0, v1), a1 = _mm512_unpackhi_epi32(v0, v1);
        const __m512i b0 = _mm512_unpacklo_epi32(v2, v3), b1 = _mm512_unpackhi_epi32(v2, v3);
        v0 = _mm512_unpacklo_epi64(a0, b0);
        v1 = _mm512_unpackhi_epi64(a0, b0);
        v2 = _mm512_unpacklo_epi64(a1, b1);
        v3 = _mm512_unpackhi_epi64(a1, b1);
    }

    void pack(packed * to, int64_t column) const {
        static const block_q8_0 zero = {};
        const block_q8_0 * from[columns];
        int64_t step[columns];
        for (int64_t j = 0; j < columns; j++) {
            const bool there = column + j < n;
            from[j] = there ? b + (column + j) * ldb : &zero;
            step[j] = there ? 1 : 0;
        }
        for (int64_t i = 0; i < k; i++) {
            packed & out = to[i];
            __m512i v[8];
            for (int j = 0; j < 4; j++) {
                v[j]     = two(from[j] + i * step[j], from[4 + j] + i * step[4 + j]);
                v[4 + j] = two(from[8 + j] + i * step[8 + j], from[12 + j] + i * step[12 + j]);
            }
            transpose(v[0], v[1], v[2], v[3]);
            transpose(v[4], v[5], v[6], v[7]);
            __m512i sum = _mm512_setzero_si512();
            const __m512i minus128 = _mm512_set1_epi8(-128); // 128 to vpdpbusd, which reads it unsigned
            for (int g = 0; g < 4; g++) {
                const __m512i low  = _mm512_shuffle_i32x4(v[g], v[4 + g], 0x88); // lanes 0 and 2: the first four groups
                const __m512i high = _mm512_shuffle_i32x4(v[g], v[4 + g], 0xDD);
                _mm512_store_si512(out.q[g], low);
                _mm512_store_si512(out.q[4 + g], high);
                sum = _mm512_dpbusd_epi32(sum, minus128, low);
                sum = _mm512_dpbusd_epi32(sum, minus128, high);
            }
            _mm512_store_si512(out.start, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
            alignas(32) uint16_t d[columns];
            for (int64_t j = 0; j < columns; j++) {
                memcpy(&d[j], &from[j][i * step[j]].d, sizeof(uint16_t));
            }
            _mm512_store_ps(out.d, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *) d)));
        }
    }

    static __m512 scale(const block_q8_0 & block) {
        uint16_t d;
        memcpy(&d, &block.d, sizeof(d));
        return _mm512_cvtph_ps(_mm256_set1_epi16((short) d));
    }

    // Rows row.. of the result for one tile.
    template <int R> void rows(const packed * tile, int64_t row, int64_t column) const {
        const block_q8_0 * w = a + row * lda;
        __m512 sums[R];
        for (int r = 0; r < R; r++) {
            sums[r] = _mm512_setzero_ps();
        }
        const __m512i flip = _mm512_set1_epi8(-128);
        for (int64_t i = 0; i < k; i++) {
            const packed & x = tile[i];
            __m512i dots[R];
            for (int r = 0; r < R; r++) {
                dots[r] = _mm512_load_si512(x.start);
            }
#pragma GCC unroll 8
            for (int g = 0; g < 8; g++) {
                const __m512i values = _mm512_load_si512(x.q[g]);
#pragma GCC unroll 8
                for (int r = 0; r < R; r++) {
                    int32_t four;
                    memcpy(&four, w[r * lda + i].qs + 4 * g, sizeof(four));
                    dots[r] = _mm512_dpbusd_epi32(dots[r], _mm512_xor_si512(_mm512_set1_epi32(four), flip), values);
                }
            }
            const __m512 d = _mm512_load_ps(x.d);
            for (int r = 0; r < R; r++) {
                sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r]), _mm512_mul_ps(scale(w[r * lda + i]), d), sums[r]);
            }
        }
        store(sums, row, column);
    }

    template <int R> void store(const __m512 (&sums)[R], int64_t row, int64_t column) const {
        const int64_t count = std::min(columns, n - column);
        if constexpr (R % 4 == 0) {
            for (int r = 0; r < R; r += 4) {
                __m512i v[4];
                for (int j = 0; j < 4; j++) {
                    v[j] = _mm512_castps_si512(sums[r + j]);
                }
                transpose(v[0], v[1], v[2], v[3]); // lane l of v[j]: four rows of column 4 l + j
                alignas(64) float out[4][4][4];
                for (int j = 0; j < 4; j++) {
                    _mm512_store_si512(out[j], v[j]);
                }
                for (int64_t j = 0; j < count; j++) {
                    memcpy(c + (column + j) * ldc + row + r, out[j % 4][j / 4], sizeof(out[0][0]));
                }
            }
        } else {
            for (int r = 0; r < R; r++) {
                alignas(64) float out[columns];
                _mm512_store_ps(out, sums[r]);
                for (int64_t j = 0; j < count; j++) {
                    c[(column + j) * ldc + row + r] = out[j];
                }
            }
        }
    }

    void some_rows(const packed * tile, int64_t column, int64_t begin, int64_t end) const {
        int64_t row = begin;
        for (; row + 8 <= end; row += 8) {
            rows<8>(tile, row, column);
        }
        if (row + 4 <= end) {
            rows<4>(tile, row, column);
            row += 4;
        }
        for (; row < end; row++) {
            rows<1>(tile, row, column);
        }
    }

    // Without memory for packed columns.
    void slowly(int64_t begin, int64_t end) const {
        for (int64_t j = 0; j < n; j++) {
            for (int64_t row = begin; row < end; row++) {
                float sum = 0;
                for (int64_t i = 0; i < k; i++) {
                    const block_q8_0 & x = a[row * lda + i], & y = b[j * ldb + i];
                    int32_t dot = 0;
                    for (int v = 0; v < QK8_0; v++) {
                        dot += x.qs[v] * y.qs[v];
                    }
                    sum += float(dot) * _cvtsh_ss(x.d) * _cvtsh_ss(y.d);
                }
                c[j * ldc + row] = sum;
            }
        }
    }

    static __m512i in_turn(const block_q8_0 * block, const block_q8_0 * next) {
        const __m512i lanes = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        return _mm512_permutexvar_epi32(lanes, two(block, next));
    }

    // The scales of both, in turn.
    static __m512 scales(const block_q8_0 * block, const block_q8_0 * next) {
        uint16_t low, high;
        memcpy(&low, &block->d, sizeof(low));
        memcpy(&high, &next->d, sizeof(high));
        return _mm512_cvtph_ps(_mm256_set1_epi32((int) (low | (uint32_t) high << 16)));
    }

    // [pair][column], and as many scales of two blocks. An odd block has a partner of zeros.
    void pack_few(pair * to, float (* d)[2]) const {
        static const block_q8_0 zero = {};
        const __m512i minus128 = _mm512_set1_epi8(-128);
        for (int64_t i = 0; i < k; i += 2) {
            for (int64_t j = 0; j < n; j++) {
                const block_q8_0 * block = b + j * ldb + i, * next = i + 1 < k ? block + 1 : &zero;
                const __m512i values = in_turn(block, next);
                _mm512_store_si512(to->q, values);
                const __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), minus128, values);
                _mm512_store_si512(to->start, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
                _mm_storel_pi((__m64 *) *d, _mm512_castps512_ps128(scales(block, next)));
                to++;
                d++;
            }
        }
    }

    // R rows times N columns.
    template <int R, int N> void tile(const pair * x, const float (* d)[2], int64_t row) const {
        static const block_q8_0 zero = {};
        const block_q8_0 * w = a + row * lda;
        __m512 sums[R][N];
        for (int r = 0; r < R; r++) {
            for (int j = 0; j < N; j++) {
                sums[r][j] = _mm512_setzero_ps();
            }
        }
        const __m512i flip = _mm512_set1_epi8(-128);
        for (int64_t i = 0; i < k; i += 2, x += N, d += N) {
            __m512i values[R];
            __m512 scale[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                const block_q8_0 * block = w + r * lda + i, * next = i + 1 < k ? block + 1 : &zero;
                _mm_prefetch((const char *) (block + R * lda), _MM_HINT_T0); // the next rows
                values[r] = _mm512_xor_si512(in_turn(block, next), flip);
                scale[r]  = scales(block, next);
            }
#pragma GCC unroll 5
            for (int j = 0; j < N; j++) {
                const __m512i start = _mm512_load_si512(x[j].start), q = _mm512_load_si512(x[j].q);
                const __m512 both = _mm512_broadcast_f32x2(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *) d[j])));
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) {
                    const __m512 dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, values[r], q));
                    sums[r][j] = _mm512_fmadd_ps(dot, _mm512_mul_ps(scale[r], both), sums[r][j]);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            for (int j = 0; j < N; j++) {
                c[j * ldc + row + r] = _mm512_reduce_add_ps(sums[r][j]);
            }
        }
    }

    template <int N> void few(const pair * x, const float (* d)[2], int64_t begin, int64_t end) const {
        int64_t row = begin;
        for (; N > 1 && row + 4 <= end; row += 4) { // one column waits for memory, which one row after the other reads fastest
            tile<4, N>(x, d, row);
        }
        for (; row < end; row++) {
            tile<1, N>(x, d, row);
        }
    }

    void run_few(int64_t begin, int64_t end) const {
        const int64_t pairs = (k + 1) / 2 * n;
        char * const where = static_cast<char *>(memory(pairs * (sizeof(pair) + sizeof(float[2]))));
        if (where == nullptr) {
            return slowly(begin, end);
        }
        pair * const x = reinterpret_cast<pair *>(where);
        float (* const d)[2] = reinterpret_cast<float (*)[2]>(where + pairs * sizeof(pair));
        if (begin < end) {
            pack_few(x, d);
        }
        switch (n) {
            case 1: return few<1>(x, d, begin, end);
            case 2: return few<2>(x, d, begin, end);
            case 3: return few<3>(x, d, begin, end);
            case 4: return few<4>(x, d, begin, end);
            case 5: return few<5>(x, d, begin, end);
        }
    }

    static constexpr int64_t most_few = 5; // their sums for four rows are what registers hold

  public:
    gemm_q8_0(int64_t m, int64_t n, int64_t k, const block_q8_0 * a, int64_t lda, const block_q8_0 * b, int64_t ldb, float * c, int64_t ldc)
        : a(a), b(b), c(c), m(m), n(n), k(k), lda(lda), ldb(ldb), ldc(ldc) {}

    // The rows of thread ith of nth.
    void run(int ith, int nth) const {
        const int64_t tiles  = (n + columns - 1) / columns;
        const int64_t panel  = std::min(tiles, std::max<int64_t>(2, panel_bytes / (k * int64_t(sizeof(packed)))));
        const int64_t groups = (m + 3) / 4;
        const int64_t begin = std::min(m, groups * ith / nth * 4), end = std::min(m, groups * (ith + 1) / nth * 4);
        if (n <= most_few) {
            return run_few(begin, end);
        }
        packed * const where = scratch(panel * k);
        if (where == nullptr) {
            return slowly(begin, end);
        }
        for (int64_t first = 0; first < tiles && begin < end; first += panel) {
            const int64_t last = std::min(tiles, first + panel);
            for (int64_t t = first; t < last; t++) {
                pack(where + (t - first) * k, t * columns);
            }
            const int64_t near  = std::max<int64_t>(8, strip_bytes / (k * int64_t(sizeof(block_q8_0))) / 8 * 8);
            const int64_t strip = last - first == 1 ? end - begin : near;
            for (int64_t row = begin; row < end; row += strip) {
                for (int64_t t = first; t < last; t++) {
                    some_rows(where + (t - first) * k, t * columns, row, std::min(end, row + strip));
                }
            }
        }
    }
};

// True if it was done; false where this is not compiled for such a processor.
inline bool mul_mat_q8_0(int64_t m, int64_t n, int64_t k, const void * a, int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc,
        int ith, int nth) {
    gemm_q8_0(m, n, k, (const block_q8_0 *) a, lda, (const block_q8_0 *) b, ldb, (float *) c, ldc).run(ith, nth);
    return true;
}

} // namespace pl

#else

namespace pl {

inline bool mul_mat_q8_0(int64_t, int64_t, int64_t, const void *, int64_t, const void *, int64_t, void *, int64_t, int, int) {
    return false;
}

} // namespace pl

#endif
