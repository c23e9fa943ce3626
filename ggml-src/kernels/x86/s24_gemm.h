// Products of 2:4 sparse weights (s24.h) with several columns of activations: prompts, and rows of many sequences in one batch.
//
// AVX-512: weights are spread to dense bytes, some rows at a time, which pays from a few columns on: a vector then holds four values of
// each of 16 columns, as in gemm_q8_0.h, and nothing is ever added across lanes. Picking by index cannot do that: another permutation
// of all columns' activations would be needed for every four kept values of every row. vpdpbusd wants one unsigned side: activations
// get +128 when they are packed, and -128 times the sum of 32 weights, known when they are spread, is where each sum starts.
//
// AVX2: positions and values of a row are unpacked once for all columns; the products are those of one column.
#pragma once

#include "../s24_dot.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define PL_S24_GEMM

namespace pl {
namespace s24 {

// A thread's memory of at least this size at a multiple of 64, without contents; grows, ends with the thread. Null without memory.
inline char * scratch(size_t wanted) {
    struct buffer {
        std::unique_ptr<char[]> bytes;
        size_t size = 0;
    };
    static thread_local buffer mine;
    if (mine.size < wanted + 64) {
        mine.bytes.reset();
        mine.size = 0;
        mine.bytes.reset(new (std::nothrow) char[wanted + 64]);
        if (mine.bytes == nullptr) {
            return nullptr;
        }
        mine.size = wanted + 64;
    }
    return (char *) ((uintptr_t(mine.bytes.get()) + 63) & ~uintptr_t(63));
}

// Rows of weights, `stride` blocks from one to the next, times columns of activations.
template <class Block> struct operands {
    const Block *   a;
    int64_t         stride;
    const columns & y;
};

#ifdef PL_S24_AVX512

constexpr int64_t least_gemm_columns = 12; // below, column after column takes less than spreading and 16 columns of work

// Of quarter j, that is of 64 weights: the positions of its 32 kept values, and these, in the lower half of a register.
inline __m512i quarter_positions(const uint8_t * idx, int j) {
    const __m256i bits = _mm256_srl_epi16(_mm256_loadu_si256((const __m256i *) idx), _mm_cvtsi32_si128(2 * j));
    return _mm512_zextsi256_si512(_mm256_and_si256(bits, _mm256_set1_epi8(3)));
}

inline __m512i quarter_values(const pl_block_s24_q4 & x, int j) {
    const __m256i bytes = _mm256_srl_epi16(_mm256_loadu_si256((const __m256i *) (x.qs + 32 * (j % 2))), _mm_cvtsi32_si128(4 * (j / 2)));
    return _mm512_zextsi256_si512(_mm256_sub_epi8(_mm256_and_si256(bytes, _mm256_set1_epi8(15)), _mm256_set1_epi8(8)));
}

inline __m512i quarter_values(const pl_block_s24_q8 & x, int j) {
    return _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *) (x.qs + 32 * j)));
}

inline __m512i quarter_values(const pl_block_s24_t & x, int j) {
    uint32_t signs;
    memcpy(&signs, x.signs + 4 * j, sizeof(signs));
    return _mm512_zextsi256_si512(_mm256_mask_blend_epi8(signs, _mm256_set1_epi8(1), _mm256_set1_epi8(-1)));
}

template <class Block> class gemm {
    // 256 activations of 16 columns.
    struct alignas(64) packed {
        uint8_t q[64][16][4]; // [group of 4 values][column][value + 128]
        float   d[2][4][16];  // as pl_block_q8_s24 has them
    };

    // 256 weights of a row.
    struct dense {
        int8_t  w[256];
        int32_t start[8]; // -128 times the sum of 32
        float   scale[4];
    };

    static constexpr int64_t width       = 16;         // columns of a tile
    static constexpr int     R           = 8;          // rows that are spread and multiplied together
    static constexpr int64_t panel_bytes = 640 * 1024; // packed columns that stay in L2

    const operands<Block> & o;
    const int64_t k = o.y.blocks;

    void pack(packed * to, int64_t column) const {
        const __m512i flip = _mm512_set1_epi8(-128);
        // columns that are not there read another; nobody stores them
        const pl_block_q8_s24 * const first = o.y[column];
        alignas(64) int32_t offsets[width];
        for (int64_t j = 0; j < width; j++) {
            offsets[j] = int32_t((const char *) o.y[std::min(column + j, o.y.count - 1)] - (const char *) first);
        }
        const __m512i from = _mm512_load_si512(offsets);
        for (int64_t i = 0; i < k; i++) {
            const pl_block_q8_s24 * y = first + i;
            for (int g = 0; g < 64; g++) {
                _mm512_store_si512(to[i].q[g], _mm512_xor_si512(_mm512_i32gather_epi32(from, y->qs + 4 * g, 1), flip));
            }
            for (int g = 0; g < 8; g++) {
                _mm512_store_ps(to[i].d[g % 2][g / 2], _mm512_i32gather_ps(from, &y->d[g % 2][g / 2], 1));
            }
        }
    }

    static void spread(const Block & x, dense & to) {
        static const uint8_t count[64] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
            28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60,
            61, 62, 63 };
        const __m512i lanes = _mm512_loadu_si512(count), in_group = _mm512_and_si512(lanes, _mm512_set1_epi8(3));
        const __m512i first = _mm512_and_si512(_mm512_srli_epi16(lanes, 1), _mm512_set1_epi8(30)); // kept value of the lane's group
        const __m512i second = _mm512_or_si512(first, _mm512_set1_epi8(1));
        _mm_storeu_ps(to.scale, _mm256_castps256_ps128(scales_of(x)));
        for (int j = 0; j < 4; j++) {
            const __m512i values = quarter_values(x, j), positions = quarter_positions(x.idx, j);
            const __mmask64 at_first  = _mm512_cmpeq_epi8_mask(_mm512_permutexvar_epi8(first, positions), in_group);
            const __mmask64 at_second = _mm512_cmpeq_epi8_mask(_mm512_permutexvar_epi8(second, positions), in_group);
            const __m512i w = _mm512_add_epi8(_mm512_maskz_permutexvar_epi8(at_first, first, values),
                    _mm512_maskz_permutexvar_epi8(at_second, second, values));
            _mm512_storeu_si512(to.w + 64 * j, w);
            alignas(64) int32_t sums[16];
            _mm512_store_si512(sums, _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(-128), w)); // 128, read unsigned
            for (int h = 0; h < 2; h++) {
                int32_t sum = 0;
                for (int l = 8 * h; l < 8 * h + 8; l++) {
                    sum += sums[l];
                }
                to.start[2 * j + h] = -sum;
            }
        }
    }

    // Rows row .. row + count - 1 of the result for one tile.
    void rows(const packed * tile, const dense * w, int64_t row, int64_t count, int64_t column) const {
        __m512 sums[R];
        for (int r = 0; r < R; r++) {
            sums[r] = _mm512_setzero_ps();
        }
        for (int64_t i = 0; i < k; i++) {
            const packed & x = tile[i];
            for (int j = 0; j < 4; j++) {
                __m512 of_quarter[R];
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    __m512i dots[R];
                    for (int r = 0; r < R; r++) {
                        dots[r] = _mm512_set1_epi32(w[r * k + i].start[2 * j + h]);
                    }
#pragma GCC unroll 8
                    for (int g = 16 * j + 8 * h; g < 16 * j + 8 * h + 8; g++) {
                        const __m512i values = _mm512_load_si512(x.q[g]);
#pragma GCC unroll 8
                        for (int r = 0; r < R; r++) {
                            int32_t four;
                            memcpy(&four, w[r * k + i].w + 4 * g, sizeof(four));
                            dots[r] = _mm512_dpbusd_epi32(dots[r], values, _mm512_set1_epi32(four));
                        }
                    }
                    const __m512 d = _mm512_load_ps(x.d[h][j]);
                    for (int r = 0; r < R; r++) {
                        const __m512 dot = _mm512_cvtepi32_ps(dots[r]);
                        of_quarter[r] = h == 0 ? _mm512_mul_ps(dot, d) : _mm512_fmadd_ps(dot, d, of_quarter[r]);
                    }
                }
                for (int r = 0; r < R; r++) {
                    sums[r] = _mm512_fmadd_ps(of_quarter[r], _mm512_set1_ps(w[r * k + i].scale[j]), sums[r]);
                }
            }
        }
        alignas(64) float out[R][width];
        for (int r = 0; r < R; r++) {
            _mm512_store_ps(out[r], sums[r]);
        }
        for (int64_t j = 0; j < std::min(width, o.y.count - column); j++) {
            float * const c = o.y.result(column + j) + row;
            for (int64_t r = 0; r < count; r++) {
                c[r] = out[r][j];
            }
        }
    }

  public:
    explicit gemm(const operands<Block> & o) : o(o) {}

    // False without memory for packed columns.
    bool run(int64_t begin, int64_t end) const {
        const int64_t tiles = (o.y.count + width - 1) / width;
        const int64_t panel = std::min(tiles, std::max<int64_t>(2, panel_bytes / (k * int64_t(sizeof(packed)))));
        char * const memory = scratch(size_t(panel * k) * sizeof(packed) + size_t(R * k) * sizeof(dense));
        if (memory == nullptr) {
            return false;
        }
        packed * const tile = (packed *) memory;
        dense * const w     = (dense *) (tile + panel * k);
        for (int64_t first = 0; first < tiles && begin < end; first += panel) {
            const int64_t last = std::min(tiles, first + panel);
            for (int64_t t = first; t < last; t++) {
                pack(tile + (t - first) * k, t * width);
            }
            for (int64_t row = begin; row < end; row += R) {
                const int64_t count = std::min<int64_t>(R, end - row);
                for (int64_t r = 0; r < R; r++) {
                    for (int64_t i = 0; i < k; i++) {
                        spread(o.a[(row + std::min(r, count - 1)) * o.stride + i], w[r * k + i]);
                    }
                }
                for (int64_t t = first; t < last; t++) {
                    rows(tile + (t - first) * k, w, row, count, t * width);
                }
            }
        }
        return true;
    }
};

#else

constexpr int64_t least_gemm_columns = 4; // below, unpacking takes longer than it saves

template <class Block> struct unpacked {
    __m256i at[4]; // shuffle controls
    __m256i w[4];
    __m256  scales; // the four, twice
};

template <class Block> class gemm {
    using row_block = unpacked<Block>;

    const operands<Block> & o;
    const int64_t k = o.y.blocks;

    template <int J> static void unpack(const Block & x, row_block & to) {
        to.at[J] = positions<J>(x.idx);
        to.w[J]  = values<J>(x);
    }

    template <int J, int C>
    static void add_quarter(__m256 * sums, const row_block & x, const pl_block_q8_s24 * const * y, int64_t i, const __m256 * scales) {
        const __m256i size = _mm256_abs_epi8(x.w[J]);
        for (int c = 0; c < C; c++) {
            const picker pick(y[c][i].qs + 64 * J);
            sums[c] = add_scaled<J>(sums[c], dots(size, _mm256_sign_epi8(pick(x.at[J]), x.w[J])), scales[c]);
        }
    }

    // One row and C columns.
    template <int C> void cells(const row_block * x, int64_t row, int64_t column) const {
        const pl_block_q8_s24 * y[C];
        __m256 sums[C];
        for (int c = 0; c < C; c++) {
            y[c]    = o.y[column + c];
            sums[c] = _mm256_setzero_ps();
        }
        for (int64_t i = 0; i < k; i++) {
            __m256 scales[C];
            for (int c = 0; c < C; c++) {
                scales[c] = _mm256_mul_ps(x[i].scales, _mm256_loadu_ps(y[c][i].d[0]));
            }
            add_quarter<0, C>(sums, x[i], y, i, scales);
            add_quarter<1, C>(sums, x[i], y, i, scales);
            add_quarter<2, C>(sums, x[i], y, i, scales);
            add_quarter<3, C>(sums, x[i], y, i, scales);
        }
        for (int c = 0; c < C; c++) {
            o.y.result(column + c)[row] = sum_of(sums[c]);
        }
    }

  public:
    explicit gemm(const operands<Block> & o) : o(o) {}

    bool run(int64_t begin, int64_t end) const {
        // columns that stay in L2 while rows go by
        const int64_t panel = std::max<int64_t>(4, 512 * 1024 / (k * int64_t(sizeof(pl_block_q8_s24))) / 4 * 4);
        row_block * const x = (row_block *) scratch(size_t(k) * sizeof(row_block));
        if (x == nullptr) {
            return false;
        }
        for (int64_t first = 0; first < o.y.count; first += panel) {
            const int64_t last = std::min(o.y.count, first + panel);
            for (int64_t row = begin; row < end; row++) {
                for (int64_t i = 0; i < k; i++) {
                    const Block & block = o.a[row * o.stride + i];
                    unpack<0>(block, x[i]);
                    unpack<1>(block, x[i]);
                    unpack<2>(block, x[i]);
                    unpack<3>(block, x[i]);
                    x[i].scales = scales_of(block);
                }
                int64_t column = first;
                for (; column + 4 <= last; column += 4) {
                    cells<4>(x, row, column);
                }
                for (; column < last; column++) {
                    cells<1>(x, row, column);
                }
            }
        }
        return true;
    }
};

#endif

} // namespace s24
} // namespace pl

#endif
