// Positions of kept weights as two 2-bit indices per group of four (S24_Q4, 3.25 bits per weight) against 3-bit pattern numbers (3 bits
// per weight with the same scales): products of rows with one column, in a cache or from memory. Compiled once per instruction set, with
// nothing of ggml:
//
//   c++ -std=c++17 -O3 -march=native -Iggml-src/kernels -Iggml-src/kernels/x86 -I<natives>/include bench/src/main/c/s24_codes.cpp -o codes
//   ./codes ROWS LENGTH THREADS REPEATS       (-march=haswell for AVX2)
//
// Both kernels compute the same and must agree to the bit. Prints medians and the ratio of times, patterns to indices.
#include "s24_dot.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

extern "C" float ggml_fp16_to_fp32(ggml_fp16_t half) { return _cvtsh_ss(half); }

namespace pl {
namespace s24 {

// Pattern g, of group g, is bits 3 g .. 3 g + 2: 0..5 for positions 01 02 03 12 13 23.
struct coded {
    uint8_t  qs[64];
    uint8_t  codes[24];
    uint16_t d[4];
};
static_assert(sizeof(coded) == 96, "padding");

inline __m256 scales_of(const coded & x) { return twice(x.d); }

constexpr uint8_t lower[8] = { 0, 0, 0, 1, 1, 2, 0, 0 }, upper[8] = { 1, 2, 3, 2, 3, 3, 0, 0 };

#ifdef PL_S24_AVX512

// For each of 64 kept values, whose 32 patterns take 12 bytes: which byte goes to its place, so that an eight of places holds the patterns
// of its eight values; how far the pattern is from the lowest bit there; 8 for the second of a group.
struct tables {
    uint8_t bytes[64], shifts[64], second[64];
    constexpr tables() : bytes(), shifts(), second() {
        for (int k = 0; k < 64; k++) {
            const int bit = k / 8 * 12;
            bytes[k]  = (uint8_t) (bit / 8 + k % 8);
            shifts[k] = (uint8_t) (bit % 8 + k % 8 / 2 * 3);
            second[k] = (uint8_t) (k % 2 * 8);
        }
    }
};
alignas(64) constexpr tables t;

// Controls for kept values 0..63 or, half = 1, 64..127: positions stand in the bits where those of indices do.
inline __m512i coded_selection(const uint8_t * codes, int half) {
    const __m512i packed = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *) (codes + 12 * half)));
    const __m512i eights = _mm512_permutexvar_epi8(_mm512_loadu_si512(t.bytes), packed);
    const __m512i bits   = _mm512_multishift_epi64_epi8(_mm512_loadu_si512(t.shifts), eights);
    const __m512i which  = _mm512_ternarylogic_epi32(bits, _mm512_set1_epi8(7), _mm512_loadu_si512(t.second), 0xEA); // (a & b) | c
    const __m512i places = _mm512_broadcast_i32x4(_mm_set_epi8(0, 0, 3, 3, 2, 3, 2, 1, 0, 0, 2, 1, 1, 0, 0, 0));
    const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi16((short) (2 * half)), _mm256_set1_epi16((short) (2 * half + 2)), 1);
    return _mm512_or_si512(_mm512_shuffle_epi8(_mm512_sllv_epi16(places, shifts), which), _mm512_load_si512(control.group[half]));
}

inline picked pick(const coded & x, const activations & a) {
    return { _mm512_permutex2var_epi8(a.q[0], coded_selection(x.codes, 0), a.q[1]),
        _mm512_permutex2var_epi8(a.q[2], coded_selection(x.codes, 1), a.q[3]) };
}

inline __m512 add(__m512 sum, const coded & x, const activations & a, const picked & p) {
    return add_nibbles(sum, x.qs, scales_of(x), a, p);
}

#else

// Shuffle controls of the 16 groups of quarter J, whose 6 bytes are multiplied until each pattern is at the top of its 16 bits.
template <int J> __m256i positions(const coded & x) {
    const __m256i bytes  = _mm256_broadcastsi128_si256(_mm_loadl_epi64((const __m128i *) (x.codes + 6 * J)));
    const __m256i where  = _mm256_set_epi8(6, 5, 6, 5, 5, 4, 5, 4, 5, 4, 4, 3, 4, 3, 4, 3, 3, 2, 3, 2, 2, 1, 2, 1, 2, 1, 1, 0, 1, 0, 1, 0);
    const __m256i factor = _mm256_set_epi16(1 << 8, 1 << 11, 1 << 6, 1 << 9, 1 << 12, 1 << 7, 1 << 10, 1 << 13, 1 << 8, 1 << 11, 1 << 6,
            1 << 9, 1 << 12, 1 << 7, 1 << 10, 1 << 13);
    const __m256i codes = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, where), factor), 13);
    const __m256i both  = _mm256_or_si256(codes, _mm256_or_si256(_mm256_slli_epi16(codes, 8), _mm256_set1_epi16(0x0800)));
    const __m256i table = _mm256_broadcastsi128_si256(_mm_set_epi8(0, 0, 3, 3, 2, 3, 2, 1, 0, 0, 2, 1, 1, 0, 0, 0));
    return _mm256_or_si256(_mm256_shuffle_epi8(table, both), _mm256_set1_epi64x(0x0C0C080804040000));
}

template <int J> __m256i values(const coded & x) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *) (x.qs + 32 * (J % 2)));
    return _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(bytes, 4 * (J / 2)), _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
}

template <int J> __m256 add(__m256 sum, const coded & x, const picker & pick, __m256 scales) {
    const __m256i w = values<J>(x);
    return add_scaled<J>(sum, dots(_mm256_abs_epi8(w), _mm256_sign_epi8(pick(positions<J>(x)), w)), scales);
}

#endif

} // namespace s24
} // namespace pl

using namespace pl::s24;

static int64_t rows_count, blocks;
static int threads;

// The products of all rows, a part in each thread; seconds.
template <class Block> double run(const std::vector<Block> & x, const std::vector<pl_block_q8_s24> & y, std::vector<float> & to) {
    std::atomic<int> ready(0), running(threads);
    std::atomic<bool> go(false);
    const int64_t each = (rows_count + threads - 1) / threads;
    std::vector<std::thread> others;
    auto part = [&](int t) {
        ready++;
        while (!go) {
        }
        for (int64_t r = t * each; r < std::min(rows_count, (t + 1) * each); r++) {
            rows<1>(&x[size_t(r * blocks)], blocks, y.data(), blocks, &to[size_t(r)]);
        }
        running--;
    };
    for (int t = 1; t < threads; t++) {
        others.emplace_back(part, t);
    }
    while (ready < threads - 1) {
    }
    const auto begin = std::chrono::steady_clock::now();
    go = true;
    part(0);
    while (running > 0) {
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (auto & other : others) {
        other.join();
    }
    return seconds;
}

static double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

int main(int argc, char ** argv) {
    if (argc != 5 || (rows_count = atoll(argv[1])) < 1 || (blocks = atoll(argv[2]) / 256) < 1 || (threads = atoi(argv[3])) < 1 ||
            atoi(argv[4]) < 1) {
        fprintf(stderr, "usage: codes ROWS LENGTH THREADS REPEATS\n");
        return 2;
    }
    std::vector<pl_block_s24_q4> indices(size_t(rows_count * blocks));
    std::vector<coded> patterns(indices.size());
    std::vector<pl_block_q8_s24> y(static_cast<size_t>(blocks));
    for (size_t b = 0; b < indices.size(); b++) {
        memset(&indices[b], 0, sizeof(indices[b]));
        for (auto & byte : indices[b].qs) {
            byte = uint8_t(rand() >> 8);
        }
        for (auto & d : indices[b].d) {
            d = 0x3000;
        }
        memcpy(patterns[b].qs, indices[b].qs, sizeof(patterns[b].qs));
        memcpy(patterns[b].d, indices[b].d, sizeof(patterns[b].d));
        memset(patterns[b].codes, 0, sizeof(patterns[b].codes));
        for (int g = 0; g < 64; g++) {
            const int code = (rand() >> 8) % 6;
            for (int bit = 0; bit < 3; bit++) {
                patterns[b].codes[(3 * g + bit) / 8] |= uint8_t((code >> bit & 1) << (3 * g + bit) % 8);
            }
            indices[b].idx[2 * g % 32] |= uint8_t(lower[code] << 2 * (g / 16));
            indices[b].idx[2 * g % 32 + 1] |= uint8_t(upper[code] << 2 * (g / 16));
        }
    }
    for (auto & block : y) {
        for (auto & four : block.d) {
            std::fill_n(four, 4, 1.0f);
        }
        for (auto & q : block.qs) {
            q = int8_t((rand() >> 8) % 255 - 127);
        }
    }
    std::vector<float> a(static_cast<size_t>(rows_count)), b(a.size());
    std::vector<double> by_index, by_pattern;
    for (int r = -2; r < atoi(argv[4]); r++) {
        const bool cached = indices.size() * sizeof(indices[0]) < 512 * 1024; // the second time finds them in the cache
        double seconds[2] = { 0, 0 };
        for (int times = cached ? 2 : 1; times > 0; times--) {
            seconds[0] = run(indices, y, a);
        }
        for (int times = cached ? 2 : 1; times > 0; times--) {
            seconds[1] = run(patterns, y, b);
        }
        if (r >= 0) {
            by_index.push_back(seconds[0]);
            by_pattern.push_back(seconds[1]);
        }
    }
    if (memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0) {
        fprintf(stderr, "the two do not agree\n");
        return 1;
    }
    const double index = median(by_index), pattern = median(by_pattern), bytes = (double) indices.size();
    printf("indices %10.1f us %6.2f GB/s, patterns %10.1f us %6.2f GB/s, ratio %.3f\n", 1e6 * index,
            1e-9 * bytes * sizeof(indices[0]) / index, 1e6 * pattern, 1e-9 * bytes * sizeof(coded) / pattern, pattern / index);
    return 0;
}
