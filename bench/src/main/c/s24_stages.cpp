// What bounds products of 2:4 sparse weights with one column: the AVX-512 kernels with stages left out, in one run, in turn, medians.
//
//   lib=$(ggml-src/build)
//   c++ -std=c++17 -O3 -march=native -Iggml-src/kernels -I$lib/include bench/src/main/c/s24_stages.cpp -o stages
//       -pthread -L$lib/lib -lggml-cpu -lggml-base -Wl,-rpath,$lib/lib
//   ./stages ROWS LENGTH THREADS REPEATS [FILE]
//
//   loads          the block's bytes in the order in which the kernel asks for them, with its prefetches
//   decoding       and what is made of them: controls of the permutation, values, signs
//   no selection   everything, but products are with activations as they lie
//   no scales      everything, but sums stay whole numbers
//   everything     the kernel
//
// For the dense rivals: loads, and ggml's kernel as it is (not for Q8_0, whose kernel for one column can't be called from here). With
// FILE, weights that llama.cpp would map lie in that file, which is removed afterwards, so in pages of 4 KB; without it, and those of
// Q4_0 always, which are repacked, in pages of 2 MB. What each stage computes is compared with plain C++, but for the rivals. Prints
// time, bandwidth and nanoseconds a thread takes for 256 weights.
#include "s24_dot.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

#ifndef PL_S24_AVX512
#error "this needs AVX-512 with VBMI and VNNI: -march=native on a processor that has them"
#endif

extern "C" void ggml_gemv_q4_0_8x8_q8_0(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc);
extern "C" void ggml_vec_dot_tq2_0_q8_K(int n, float * s, size_t bs, const void * vx, size_t bx, const void * vy, size_t by, int nrc);

using namespace pl::s24;

namespace {

int64_t row_count, blocks;
int threads, repeats;
const char * file;
uint64_t state = 1;

uint64_t next_random() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

// Other threads wait for work, and spin.
class pool {
    std::vector<std::thread> others;
    std::atomic<int> round { 0 }, running { 0 };
    std::atomic<bool> over { false };
    std::function<void(int)> work;

public:
    pool() {
        for (int t = 1; t < threads; t++) {
            others.emplace_back([this, t] {
                for (int seen = 0; ; seen++) {
                    while (round == seen) {
                        if (over) {
                            return;
                        }
                    }
                    work(t);
                    running--;
                }
            });
        }
    }

    ~pool() {
        over = true;
        for (auto & other : others) {
            other.join();
        }
    }

    // Chunks of rows as ggml deals them out; seconds.
    double run(const std::function<void(int64_t, int64_t)> & rows) {
        const int64_t each = std::max<int64_t>(16, ((row_count + 8 * threads - 1) / (8 * threads) + 7) / 8 * 8);
        std::atomic<int64_t> next { threads };
        work = [&](int t) {
            for (int64_t chunk = t; chunk * each < row_count; chunk = next++) {
                rows(chunk * each, std::min(row_count, (chunk + 1) * each));
            }
        };
        running = threads - 1;
        const auto begin = std::chrono::steady_clock::now();
        round++;
        work(0);
        while (running > 0) {
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
};

char * memory(size_t bytes, bool mapped) {
    void * at;
    if (mapped && file) {
        const int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || ftruncate(fd, (off_t) bytes) != 0) {
            perror(file);
            exit(1);
        }
        at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        unlink(file);
    } else {
        const size_t huge = size_t(2) << 20;
        at = aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
        if (at) {
            madvise(at, bytes, MADV_HUGEPAGE);
        }
    }
    if (at == nullptr || at == MAP_FAILED) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t r = next_random();
        memcpy((char *) at + i, &r, std::min<size_t>(8, bytes - i));
    }
    return (char *) at;
}

struct stage {
    std::string name;
    std::function<void(int64_t, int64_t)> rows;
    std::vector<double> times = {};
};

// In turn, `repeats` times; what a cache holds is found there.
void measure(pool & all, const char * type, size_t bytes, std::vector<stage> & stages) {
    for (int r = -1; r < repeats; r++) {
        for (auto & s : stages) {
            const double seconds = all.run(s.rows);
            if (r >= 0) {
                s.times.push_back(seconds);
            }
        }
    }
    for (auto & s : stages) {
        std::sort(s.times.begin(), s.times.end());
        const double t = s.times[s.times.size() / 2];
        printf("%-7s %-13s %10.1f us %7.2f GB/s %7.2f ns\n", type, s.name.c_str(), 1e6 * t, 1e-9 * (double) bytes / t,
                1e9 * t * threads / double(row_count * blocks));
    }
}

void check(bool right, const char * type, const char * what) {
    if (!right) {
        fprintf(stderr, "%s, %s: not what plain C++ computes\n", type, what);
        exit(1);
    }
}

// Values as the products take them, apart.
struct unpacked {
    __m512i low, high;
};

unpacked values(const pl_block_s24_q4 & x) {
    const __m512i v = _mm512_loadu_si512(x.qs), nibble = _mm512_set1_epi8(15);
    return { _mm512_and_si512(v, nibble), _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble) };
}

unpacked values(const pl_block_s24_q8 & x) {
    const __m512i flip = _mm512_set1_epi8(-128);
    return { _mm512_xor_si512(_mm512_loadu_si512(x.qs), flip), _mm512_xor_si512(_mm512_loadu_si512(x.qs + 64), flip) };
}

unpacked values(const pl_block_s24_t & x) {
    uint64_t signs[2];
    memcpy(signs, x.signs, sizeof(signs));
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
    return { _mm512_mask_sub_epi8(one, signs[0], zero, one), _mm512_mask_sub_epi8(one, signs[1], zero, one) };
}

// The same in plain C++, as bytes.
int unpacked_value(const pl_block_s24_q4 & x, int k) { return reference::value(x, k) + 8; }
int unpacked_value(const pl_block_s24_q8 & x, int k) { return reference::value(x, k) + 128; }
int unpacked_value(const pl_block_s24_t & x, int k) { return reference::value(x, k); }

__m512i dots_of(const pl_block_s24_q4 &, __m512i v, __m512i p) { return dots(v, _mm512_set1_epi8(8), p); }
__m512i dots_of(const pl_block_s24_q8 &, __m512i v, __m512i p) { return dots(v, _mm512_set1_epi8(-128), p); }
// the signs are with the activations
__m512i dots_of(const pl_block_s24_t &, __m512i, __m512i p) { return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), p); }

picked not_picked(const pl_block_s24_q4 &, const activations & a) { return { a.q[0], a.q[2] }; }
picked not_picked(const pl_block_s24_q8 &, const activations & a) { return { a.q[0], a.q[2] }; }
picked not_picked(const pl_block_s24_t & x, const activations & a) {
    uint64_t signs[2];
    memcpy(signs, x.signs, sizeof(signs));
    const __m512i zero = _mm512_setzero_si512();
    return { _mm512_mask_sub_epi8(a.q[0], signs[0], zero, a.q[0]), _mm512_mask_sub_epi8(a.q[2], signs[1], zero, a.q[2]) };
}

// Every byte of a block once, in the pieces and in the order of the kernel; XOR of them, of any width that is a multiple of 16 bits.
__m512i loads(__m512i sum, const pl_block_s24_q4 & x) {
    sum = _mm512_xor_si512(sum, _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *) x.idx)));
    sum = _mm512_xor_si512(sum, _mm512_loadu_si512(x.qs));
    return _mm512_xor_si512(sum, _mm512_zextsi128_si512(_mm_loadl_epi64((const __m128i *) x.d)));
}

__m512i loads(__m512i sum, const pl_block_s24_q8 & x) {
    sum = _mm512_xor_si512(sum, _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *) x.idx)));
    sum = _mm512_xor_si512(sum, _mm512_loadu_si512(x.qs));
    sum = _mm512_xor_si512(sum, _mm512_loadu_si512(x.qs + 64));
    return _mm512_xor_si512(sum, _mm512_zextsi128_si512(_mm_loadl_epi64((const __m128i *) x.d)));
}

__m512i loads(__m512i sum, const pl_block_s24_t & x) {
    sum = _mm512_xor_si512(sum, _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *) x.idx)));
    sum = _mm512_xor_si512(sum, _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *) x.signs)));
    sum = _mm512_xor_si512(sum, _mm512_zextsi128_si512(_mm_loadu_si32(x.scale)));
    return _mm512_xor_si512(sum, _mm512_zextsi128_si512(_mm_loadu_si16(&x.d)));
}

uint16_t folded(__m512i sum) {
    uint16_t words[32], all = 0;
    memcpy(words, &sum, sizeof(words));
    for (uint16_t w : words) {
        all ^= w;
    }
    return all;
}

float folded_floats(__m512 sum) {
    return sum_of(_mm256_add_ps(_mm512_castps512_ps256(sum), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1))));
}

// R rows as in the kernel; step(sum, x, b, r) is what is done with a block, end(row, sum) with a row's sum.
template <int R, class Sum, class Block, class Step, class End>
void walk(const Block * x, int64_t begin, int64_t end, const Step & step, const End & finish) {
    for (int64_t row = begin; row < end; row += R) {
        const Block * const from = x + row * blocks;
        Sum sums[R] = {};
        for (int64_t b = 0; b < blocks; b++) {
            fetch<R>(from, blocks, b);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                sums[r] = step(sums[r], from[r * blocks + b], b);
            }
        }
        for (int r = 0; r < R; r++) {
            finish(row + r, sums[r]);
        }
    }
}

// With products a block behind the selection, as in the kernel.
template <int R, class Sum, class Block, class Pick, class Step, class End>
void walk_behind(const Block * x, const column_block * y, int64_t begin, int64_t end, const Pick & choose, const Step & step,
        const End & finish) {
    for (int64_t row = begin; row < end; row += R) {
        const Block * const from = x + row * blocks;
        Sum sums[R] = {};
        picked p[R];
        for (int r = 0; r < R; r++) {
            p[r] = choose(from[r * blocks], activations(y[0]));
        }
        for (int64_t b = 0; b + 1 < blocks; b++) {
            const activations a(y[b]), following(y[b + 1]);
            fetch<R>(from, blocks, b);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const picked q = choose(from[r * blocks + b + 1], following);
                sums[r] = step(sums[r], from[r * blocks + b], a, p[r]);
                p[r] = q;
            }
        }
        fetch<R>(from, blocks, blocks - 1);
        for (int r = 0; r < R; r++) {
            finish(row + r, step(sums[r], from[r * blocks + blocks - 1], activations(y[blocks - 1]), p[r]));
        }
    }
}

template <class Block> void fix_scales(Block & x) {
    for (auto & d : x.d) {
        d = uint16_t(0x2000 | (d & 0x3FF));
    }
}

void fix(pl_block_s24_q4 & x) { fix_scales(x); }

void fix(pl_block_s24_q8 & x) {
    fix_scales(x);
    for (auto & q : x.qs) {
        q = q == -128 ? 0 : q;
    }
}

void fix(pl_block_s24_t & x) {
    x.d = uint16_t(0x2000 | (x.d & 0x3FF));
    for (auto & s : x.scale) {
        s &= 127;
    }
}

template <class Block> void sparse(pool & all, const char * type) {
    constexpr int R = rows_from_memory<Block>;
    const size_t bytes = size_t(row_count * blocks) * sizeof(Block);
    Block * const x = (Block *) memory(bytes, true);
    for (int64_t i = 0; i < row_count * blocks; i++) {
        fix(x[i]);
    }
    std::vector<pl_block_q8_s24> y(static_cast<size_t>(blocks));
    std::vector<column_block> copies(y.size());
    for (size_t b = 0; b < y.size(); b++) {
        for (int g = 0; g < 8; g++) {
            y[b].d[g / 4][g % 4] = 0.5f + (float) (next_random() >> 40) * 0x1p-24f;
        }
        for (auto & q : y[b].qs) {
            q = int8_t(next_random() % 255 - 127);
        }
        copy(y[b], copies[b]);
    }
    const size_t n = size_t(row_count);
    std::vector<uint16_t> loaded(n), decoded(n);
    std::vector<float> unselected(n), got(n);
    std::vector<int32_t> unscaled(n);
    std::vector<stage> stages = {
        { "loads", [&](int64_t begin, int64_t end) {
            walk<R, __m512i>(x, begin, end, [](__m512i sum, const Block & block, int64_t) { return loads(sum, block); },
                    [&](int64_t row, __m512i sum) { loaded[size_t(row)] = folded(sum); });
        } },
        { "decoding", [&](int64_t begin, int64_t end) {
            walk<R, __m512i>(x, begin, end, [](__m512i sum, const Block & block, int64_t) {
                const selection w = selection_of(block.idx);
                const unpacked v = values(block);
                return _mm512_ternarylogic_epi32(_mm512_ternarylogic_epi32(sum, w.low, w.high, 0x96), v.low, v.high, 0x96); // XOR of three
            }, [&](int64_t row, __m512i sum) { decoded[size_t(row)] = folded(sum); });
        } },
        { "no selection", [&](int64_t begin, int64_t end) {
            walk_behind<R, __m512>(x, copies.data(), begin, end,
                    [](const Block & block, const activations & a) { return not_picked(block, a); },
                    [](__m512 sum, const Block & block, const activations & a, const picked & p) { return add(sum, block, a, p); },
                    [&](int64_t row, __m512 sum) { unselected[size_t(row)] = folded_floats(sum); });
        } },
        { "no scales", [&](int64_t begin, int64_t end) {
            walk_behind<R, __m512i>(x, copies.data(), begin, end,
                    [](const Block & block, const activations & a) { return pick(block, a); },
                    [](__m512i sum, const Block & block, const activations &, const picked & p) {
                        const unpacked v = values(block);
                        return _mm512_add_epi32(sum, _mm512_add_epi32(dots_of(block, v.low, p.low), dots_of(block, v.high, p.high)));
                    }, [&](int64_t row, __m512i sum) { unscaled[size_t(row)] = _mm512_reduce_add_epi32(sum); });
        } },
        { "everything", [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; row += R) {
                rows<R>(x + row * blocks, blocks, copies.data(), blocks, &got[size_t(row)]);
            }
        } },
    };
    measure(all, type, bytes, stages);
    for (int64_t row = 0; row < row_count; row += std::max<int64_t>(1, row_count / 200)) {
        uint16_t load = 0;
        uint8_t code = 0;
        int32_t whole = 0;
        double plain = 0, size = 0;
        for (int64_t b = 0; b < blocks; b++) {
            const Block & block = x[row * blocks + b];
            for (size_t i = 0; i < sizeof(Block); i += 2) {
                uint16_t w;
                memcpy(&w, (const char *) &block + i, 2);
                load ^= w;
            }
            for (int k = 0; k < PL_S24_KEPT; k++) {
                const int half = k / 64, at = k % 64, bits = block.idx[k % 32] >> 2 * half;
                code ^= uint8_t((bits & control.position[half][at]) | control.group[half][at]);
                code ^= uint8_t(unpacked_value(block, k));
                const double scale = (double) reference::scale(block, k / 32) * y[size_t(b)].d[k / 16 % 2][k / 32];
                const double product = scale * reference::value(block, k) * copies[size_t(b)].qs[128 * half + at];
                plain += product;
                size += std::fabs(product);
            }
            for (int g = 0; g < 8; g++) {
                whole += reference::dot(block, y[size_t(b)], g);
            }
        }
        float wanted;
        reference::rows<1>(x + row * blocks, blocks, y.data(), blocks, &wanted);
        const size_t r = size_t(row);
        check(loaded[r] == load, type, "loads");
        check(uint8_t(decoded[r] ^ decoded[r] >> 8) == code, type, "decoding");
        check(std::fabs(unselected[r] - plain) <= 1e-5 * size, type, "no selection");
        check(unscaled[r] == whole, type, "no scales");
        check(std::fabs(got[r] - wanted) <= 1e-5 * size, type, "everything");
    }
}

// Eight rows of so many bytes each times a column.
using dense_product = std::function<void(const char * x, const char * y, int64_t row_bytes, float * results)>;

// `block` bytes hold `per_block` weights of a row.
void dense(pool & all, const char * type, int64_t block, int64_t per_block, bool mapped, const dense_product & product) {
    const int64_t row_bytes = blocks * 256 / per_block * block;
    const size_t bytes = size_t(row_count * row_bytes);
    char * const x = memory(bytes, mapped);
    std::vector<char> y(size_t(blocks) * 512);
    std::vector<float> got(static_cast<size_t>(row_count));
    std::vector<stage> stages = {
        { "loads", [&](int64_t begin, int64_t end) {
            __m512i a = _mm512_setzero_si512(), b = a;
            for (const char * at = x + begin * row_bytes; at + 128 <= x + end * row_bytes; at += 128) {
                a = _mm512_or_si512(a, _mm512_loadu_si512(at));
                b = _mm512_or_si512(b, _mm512_loadu_si512(at + 64));
            }
            got[size_t(begin)] = folded_floats(_mm512_castsi512_ps(_mm512_or_si512(a, b)));
        } },
    };
    if (product) {
        stages.push_back({ "everything", [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; row += 8) {
                product(x + row * row_bytes, y.data(), row_bytes, &got[size_t(row)]);
            }
        } });
    }
    measure(all, type, bytes, stages);
}

} // namespace

int main(int argc, char ** argv) {
    if (argc < 5 || argc > 6 || (row_count = atoll(argv[1]) / 8 * 8) < 8 || (blocks = atoll(argv[2]) / 256) < 1 ||
            (threads = atoi(argv[3])) < 1 || (repeats = atoi(argv[4])) < 1) {
        fprintf(stderr, "usage: stages ROWS LENGTH THREADS REPEATS [FILE]\n");
        return 2;
    }
    file = argc == 6 ? argv[5] : nullptr;
    const int length = int(256 * blocks);
    pool all;
    sparse<pl_block_s24_q4>(all, "s24_q4");
    dense(all, "q4_0", 18, 32, false, [&](const char * x, const char * y, int64_t, float * to) {
        ggml_gemv_q4_0_8x8_q8_0(length, to, 0, x, y, 1, 8);
    });
    sparse<pl_block_s24_q8>(all, "s24_q8");
    dense(all, "q8_0", 34, 32, true, nullptr);
    sparse<pl_block_s24_t>(all, "s24_t");
    dense(all, "tq2_0", 66, 256, true, [&](const char * x, const char * y, int64_t row, float * to) {
        for (int r = 0; r < 8; r++) {
            ggml_vec_dot_tq2_0_q8_K(length, to + r, 0, x + r * row, 0, y, 0, 1);
        }
    });
    return 0;
}
