// Products of rows of 2:4 sparse blocks as this compiler's flags make them, against the reference in C++ (ggml-src/kernels/s24_dot.h).
// Prints one line per case: type, kind of blocks, rows, columns, blocks, largest error, and the largest error that rounding explains, which is 0
// where all scales are 1: sums are whole numbers then that a float holds. Links with nothing of ggml, so that it also runs on an emulator.
#include "s24_dot.h"
#include "x86/s24_gemm.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

// ggml-base's own
extern "C" float ggml_fp16_to_fp32(ggml_fp16_t half) {
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const float size = exponent == 0 ? std::ldexp((float) mantissa, -24) : std::ldexp((float) (mantissa + 1024), exponent - 25);
    return half & 0x8000 ? -size : size;
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

uint16_t half(kind k) {
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
        d = half(k);
    }
}

void fill(pl_block_s24_q8 & x, kind k) {
    positions(x.idx, false);
    for (auto & q : x.qs) {
        q = (int8_t) value(k, -127, 127);
    }
    for (auto & d : x.d) {
        d = half(k);
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
    x.d = half(k);
}

void fill(pl_block_q8_K & y, kind k) {
    for (auto & q : y.qs) {
        q = (int8_t) value(k, -127, 127);
    }
    y.d = k == SCALED ? (float) (1 + random_below(1000)) / 1000 : 1;
}

// Rows and columns of blocks, and their product as a kernel made it: got[column * rows + row].
template <class Block> struct example {
    kind weights, activations;
    int64_t rows, columns, blocks;
    std::vector<Block> x;
    std::vector<pl_block_q8_K> y;
    std::vector<float> got;

    example(kind weights, kind activations, int64_t rows, int64_t columns, int64_t blocks)
        : weights(weights), activations(activations), rows(rows), columns(columns), blocks(blocks), x((size_t) (rows * blocks)),
          y((size_t) (columns * blocks)), got((size_t) (rows * columns)) {
        for (auto & block : x) {
            fill(block, weights);
        }
        for (auto & block : y) {
            fill(block, activations);
        }
    }

    void judge(const char * type) const {
        double error = 0, bound = 0;
        for (int64_t i = 0; i < rows * columns; i++) {
            const Block * const row = &x[(size_t) (i % rows * blocks)];
            const pl_block_q8_K * const column = &y[(size_t) (i / rows * blocks)];
            float wanted;
            pl::s24::reference::rows<1>(row, blocks, column, blocks, &wanted);
            double size = 0;
            for (int64_t b = 0; b < blocks; b++) {
                for (int k = 0; k < PL_S24_KEPT; k++) {
                    const int at = k / 2 * 4 + pl::s24::reference::position(row[b].idx, k);
                    size += std::fabs((double) pl::s24::reference::value(row[b], k) * column[b].qs[at] *
                            pl::s24::reference::scale(row[b], k / 32) * column[b].d);
                }
            }
            const double off = std::fabs((double) got[(size_t) i] - wanted);
            error = std::isnan(off) ? INFINITY : std::fmax(error, off);
            bound = std::fmax(bound, weights == SCALED ? size * 1e-6 : 0);
        }
        printf("%s weights=%s activations=%s rows=%d columns=%d blocks=%d %.3g %.3g\n", type, names[weights], names[activations], (int) rows,
                (int) columns, (int) blocks, error, bound);
    }
};

template <int R, class Block> void check_rows(const char * type, kind weights, kind activations, int64_t blocks) {
    example<Block> e(weights, activations, R, 1, blocks);
    pl::s24::rows<R>(e.x.data(), blocks, e.y.data(), blocks, e.got.data());
    e.judge(type);
}

// Row after row for all columns, or tiles of both where this processor generation has them.
template <class Block> void check_columns(const char * type, kind weights, kind activations, int64_t rows, int64_t columns, int64_t blocks) {
    example<Block> e(weights, activations, rows, columns, blocks);
#ifdef PL_S24_GEMM
    const pl::s24::operands<Block> o = { e.x.data(), e.y.data(), e.got.data(), columns, blocks, blocks, rows };
    if (!pl::s24::gemm<Block>(o).run(0, rows)) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
#else
    for (int64_t i = 0; i < rows * columns; i++) {
        pl::s24::rows<1>(&e.x[(size_t) (i % rows * blocks)], blocks, &e.y[(size_t) (i / rows * blocks)], blocks, &e.got[(size_t) i]);
    }
#endif
    e.judge(type);
}

template <class Block> void check(const char * type) {
    for (kind weights : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
        for (kind activations : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
            if ((weights == SCALED) != (activations == SCALED)) {
                continue;
            }
            for (int64_t blocks = 1; blocks <= 5; blocks++) {
                check_rows<1, Block>(type, weights, activations, blocks);
                check_rows<4, Block>(type, weights, activations, blocks);
            }
            for (int64_t columns : { 1, 3, 4, 15, 16, 17, 40 }) {
                for (int64_t rows : { 1, 7, 8, 9, 20 }) {
                    check_columns<Block>(type, weights, activations, rows, columns, 1 + random_below(4));
                }
            }
        }
    }
}

} // namespace

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
    check<pl_block_s24_q4>("s24_q4");
    check<pl_block_s24_q8>("s24_q8");
    check<pl_block_s24_t>("s24_t");
    return 0;
}
