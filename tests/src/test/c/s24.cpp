// Products of rows of 2:4 sparse blocks as this compiler's flags make them, against the reference in C++ (ggml-src/kernels/s24_dot.h).
// Prints one line per case: type, kind of blocks, rows, columns, blocks, largest error, and the largest error that rounding explains, which is 0
// where all scales are 1: sums are whole numbers then that a float holds. Then one line per kind of activations: blocks that are rounded
// otherwise than by the reference, and 0. Links with nothing of ggml, so that it also runs on an emulator.
#include "s24_blocks.h"
#include "s24_round.h"
#include "x86/s24_gemm.h"

#include <memory>

namespace {

// Rows and columns of blocks, and their product as a kernel made it: got[column * rows + row].
template <class Block> struct example {
    kind weights, activations;
    int64_t rows, columns, blocks;
    std::vector<Block> x;
    std::vector<pl_block_q8_s24> y;
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
            const pl_block_q8_s24 * const column = &y[(size_t) (i / rows * blocks)];
            float wanted;
            pl::s24::reference::rows<1>(row, blocks, column, blocks, &wanted);
            double size = 0;
            for (int64_t b = 0; b < blocks; b++) {
                for (int k = 0; k < PL_S24_KEPT; k++) {
                    const int at = k / 2 * 4 + pl::s24::reference::position(row[b].idx, k);
                    size += std::fabs((double) pl::s24::reference::value(row[b], k) * column[b].qs[at] *
                            pl::s24::reference::scale(row[b], k / 32) * column[b].d[k / 16 % 2][k / 32]);
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
#ifdef PL_S24_AVX512
    const auto copies = std::make_unique<pl::s24::column_block[]>((size_t) blocks);
    for (int64_t b = 0; b < blocks; b++) {
        pl::s24::copy(e.y[(size_t) b], copies[(size_t) b]);
    }
    std::vector<float> same(R);
    pl::s24::rows<R>(e.x.data(), blocks, copies.get(), blocks, same.data());
    if (same != e.got) {
        e.got.assign(R, NAN); // which is judged as an error without bounds
    }
#endif
    e.judge(type);
}

// Row after row for all columns, or tiles of both where this processor generation has them.
template <class Block> void check_columns(const char * type, kind weights, kind activations, int64_t rows, int64_t columns, int64_t blocks) {
    example<Block> e(weights, activations, rows, columns, blocks);
#ifdef PL_S24_GEMM
    const pl::s24::columns y = { (const char *) e.y.data(), (char *) e.got.data(), columns, blocks, (size_t) rows * sizeof(float) };
    const pl::s24::operands<Block> o = { e.x.data(), blocks, y };
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
                check_rows<2, Block>(type, weights, activations, blocks);
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

float any_float(uint32_t exponents) {
    const uint32_t bits = random_below(2) << 31 | random_below(exponents) << 23 | random_below(1 << 23);
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

// Activations of several kinds, each by its place in the block; of those that are not finite only that much is promised.
void check_rounding() {
    const struct {
        const char * name;
        float (*value)(int i);
        bool finite = true;
    } kinds[] = {
        { "random", [](int) { return (float) random_below(1 << 24) / (1 << 23) - 1; } },
        { "halves", [](int i) { return i % 32 == 5 ? -127.0f : (float) random_below(255) - 126.5f; } }, // between two whole numbers
        { "zeros", [](int i) { return i % 64 < 40 ? -0.0f : 0.0f; } },
        { "any size", [](int i) { return i % 32 < 4 ? any_float(255) : any_float(30) * 1e-30f; } },
        { "next to nothing", [](int i) { return i % 32 ? any_float(9) : (float) (i % 3) * 1e-35f; } },
        { "not finite", [](int i) { return i % 32 < 31 ? any_float(256) : i % 64 < 32 ? NAN : -INFINITY; }, false },
    };
    for (const auto & kind : kinds) {
        int wrong = 0;
        for (int n = 0; n < 1000; n++) {
            float x[PL_S24_BLOCK];
            for (int i = 0; i < PL_S24_BLOCK; i++) {
                x[i] = kind.value(i);
            }
            pl_block_q8_s24 got, wanted;
            pl::s24::round(x, got);
            pl::s24::reference::round(x, wanted);
            bool same = !kind.finite || memcmp(&got, &wanted, sizeof(got)) == 0;
            for (int i = 0; i < PL_S24_BLOCK; i++) {
                const float d = got.d[i / 32 % 2][i / 64];
                // half a step, and what three roundings of up to 127 steps add
                const bool near = std::fabs(got.qs[i] * d - x[i]) <= 0.50003f * d + 1e-35f;
                same = same && got.qs[i] != -128 && (kind.finite ? near : std::isnan(d));
            }
            wrong += !same;
        }
        printf("rounding of %s %d 0\n", kind.name, wrong);
    }
}

} // namespace

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
    check<pl_block_s24_q4>("s24_q4");
    check<pl_block_s24_q8>("s24_q8");
    check<pl_block_s24_t>("s24_t");
    check_rounding();
    return 0;
}
