// The 2:4 sparse types between floats and blocks, the check of blocks, and products shared by threads as ggml-cpu calls them, all of it
// compiled into this program so that a sanitizer sees it. Prints one line per case: what, error, and the largest that is allowed.
#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "s24_mul_mat.h"
#include "s24_quants.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

// Of the CPU library, which this program does without.
struct ggml_threadpool {
    std::atomic<int> next;
};

extern "C" int ggml_threadpool_chunk_add(ggml_threadpool * pool, int value) { return pool->next.fetch_add(value); }

extern "C" void quantize_row_q8_K(const float * from, void * to, int64_t k) {
    for (int64_t b = 0; b < k / PL_S24_BLOCK; b++) {
        pl_block_q8_K & y = ((pl_block_q8_K *) to)[b];
        float largest = 0;
        for (int i = 0; i < PL_S24_BLOCK; i++) { largest = std::fmax(largest, std::fabs(from[b * PL_S24_BLOCK + i])); }
        y.d = largest / 127;
        for (int i = 0; i < PL_S24_BLOCK; i++) { y.qs[i] = largest > 0 ? (int8_t) std::lround(from[b * PL_S24_BLOCK + i] / y.d) : 0; }
    }
}

namespace {

uint64_t state;

uint64_t next() {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double uniform() { return (double) (next() >> 11) * 0x1p-53; }

struct type {
    const char * name;
    ggml_type    id;
    size_t       block;
    size_t (*quantize)(const float *, void *, int64_t, int64_t, const float *);
    void (*dequantize)(const void *, float *, int64_t);
    double bound; // of a kept value's error, in parts of the largest of its 64
};

// Half a step of 127 and the rounding of the scale; in 4 bits also the two steps that are cut off where that lowers the sum of squares;
// signs can miss the largest altogether.
const type types[] = {
    { "s24_q4", GGML_TYPE_S24_Q4, sizeof(pl_block_s24_q4), pl_quantize_s24_q4, pl_dequantize_row_s24_q4, 0.3 },
    { "s24_q8", GGML_TYPE_S24_Q8, sizeof(pl_block_s24_q8), pl_quantize_s24_q8, pl_dequantize_row_s24_q8, 1.25 / 254 },
    { "s24_t", GGML_TYPE_S24_T, sizeof(pl_block_s24_t), pl_quantize_s24_t, pl_dequantize_row_s24_t, 1 },
};

void report(const char * name, const std::string & what, double error, double bound) { printf("%s %s %.3g %.3g\n", name, what.c_str(), error, bound); }

// Memory of exactly this many elements, so that one more is an error.
template <class T> std::unique_ptr<T[]> exactly(size_t n) { return std::unique_ptr<T[]>(new T[n]()); }

const int ROWS = 3, COLUMNS = 512;

using filler = std::function<float(int)>;

struct kind {
    const char * name;
    filler       value;
    bool         finite = true; // and not beyond what a 16-bit scale holds
    double       floor  = 0;    // that errors are measured against at least: steps of the 16-bit scale
};

std::vector<kind> kinds() {
    return {
        { "random", [](int) { return (float) (2 * uniform() - 1); } },
        { "constant", [](int) { return 0.25f; } },
        { "zero", [](int i) { return i % 2 ? -0.0f : 0.0f; } },
        { "outlier", [](int i) { return i % 64 == 17 ? -3e4f : (float) uniform(); } },
        { "ties of both signs", [](int i) { return i % 2 ? 1.0f : -1.0f; } },
        { "one of four", [](int i) { return i % 4 == 3 ? (float) (uniform() - 0.5) : 0.0f; } },
        { "halves of steps", [](int i) { return (float) (i % 16 - 8) + 0.5f; } },
        { "uneven ends", [](int i) { return i % 4 < 2 ? (i % 8 < 4 ? 8.0f : -8.0f) : 7.9f; } },
        { "next to nothing", [](int i) { return (float) (i % 5 - 2) * 1e-40f; }, true, 1e-6 },
        { "as large as scales", [](int i) { return (i % 3 ? 1.0f : -1.0f) * 6e4f; } },
        { "too large", [](int i) { return (i % 3 ? 1.0f : -1.0f) * 3e38f; }, false },
        { "not finite", [](int i) { return i % 7 == 0 ? INFINITY : i % 11 == 0 ? NAN : 1.0f; }, false },
    };
}

// There and back. With importance, values that count for nothing may be far off: the weighted sum of squares is less than without any
// values. What is not finite need only be refused afterwards, or be finite.
void round_trip(const type & t, const kind & k) {
    double error = 0;
    for (int weighted = 0; weighted < 2; weighted++) {
        auto x = exactly<float>(ROWS * COLUMNS), importance = exactly<float>(COLUMNS), y = exactly<float>(ROWS * COLUMNS);
        auto blocks = exactly<char>(ROWS * COLUMNS / PL_S24_BLOCK * t.block);
        for (int i = 0; i < ROWS * COLUMNS; i++) { x[i] = k.value(i); }
        for (int i = 0; i < COLUMNS; i++) { importance[i] = i % 5 == 0 ? 0.0f : (float) std::exp(20 * uniform() - 10); }
        t.quantize(x.get(), blocks.get(), ROWS, COLUMNS, weighted ? importance.get() : nullptr);
        const bool sound = pl_s24_validate(t.id, blocks.get(), ROWS * COLUMNS / PL_S24_BLOCK);
        t.dequantize(blocks.get(), y.get(), ROWS * COLUMNS);
        if (!k.finite) {
            for (int i = 0; i < ROWS * COLUMNS; i++) { error += sound && !std::isfinite(y[i]); }
            continue;
        }
        error += sound ? 0 : INFINITY;
        for (int from = 0; from < ROWS * COLUMNS; from += 64) {
            double largest = k.floor, before = 0, after = 0;
            for (int i = from; i < from + 64; i++) {
                largest = std::fmax(largest, std::fabs(x[i]));
                before += (double) importance[i % COLUMNS] * x[i] * x[i];
                after += (double) importance[i % COLUMNS] * std::pow((double) x[i] - y[i], 2);
            }
            for (int i = from; i < from + 64 && !weighted; i++) {
                const double off = std::fabs((double) x[i] - y[i]);
                if (y[i] != 0) { error = std::fmax(error, largest > 0 ? off / largest : off); }
            }
            if (weighted && !(after <= before * 1.001)) { error = INFINITY; }
            for (int g = from; g < from + 64; g += 4) {
                if ((y[g] != 0) + (y[g + 1] != 0) + (y[g + 2] != 0) + (y[g + 3] != 0) > 2) { error = INFINITY; }
            }
        }
    }
    report(t.name, std::string("round trip, ") + k.name, error, k.finite ? t.bound : 0);
}

// Bytes of any kind are checked, and sound or not they can be read.
void any_bytes(const type & t) {
    int refused = 0;
    double wrong = 0;
    for (int i = 0; i < 200; i++) {
        auto block = exactly<char>(t.block);
        auto y = exactly<float>(PL_S24_BLOCK);
        for (size_t b = 0; b < t.block; b++) { block[b] = (char) next(); }
        const bool sound = pl_s24_validate(t.id, block.get(), 1);
        refused += !sound;
        t.dequantize(block.get(), y.get(), PL_S24_BLOCK);
        for (int v = 0; sound && v < PL_S24_BLOCK; v++) { wrong += !std::isfinite(y[v]); }
    }
    report(t.name, "any bytes, refused", 200 - refused, 0);
    report(t.name, "any bytes, sound and not finite", wrong, 0);
}

void lay_out(ggml_tensor & to, const int64_t (&ne)[4], size_t element, int64_t block) {
    for (int i = 0; i < 4; i++) { to.ne[i] = ne[i]; }
    to.nb[0] = element;
    to.nb[1] = element * size_t(ne[0] / block);
    to.nb[2] = to.nb[1] * size_t(ne[1]);
    to.nb[3] = to.nb[2] * size_t(ne[2]);
}

struct shape {
    int64_t rows, columns, blocks, matrices, served; // each matrix of weights serves so many of activations
};

template <class Block> void product(const type & t, const shape & s, int threads) {
    const int64_t k = s.blocks * PL_S24_BLOCK, many = s.matrices * s.served;
    auto x = exactly<float>(s.matrices * s.rows * k), y = exactly<float>(many * s.columns * k), got = exactly<float>(many * s.columns * s.rows);
    auto weights = exactly<Block>(s.matrices * s.rows * s.blocks);
    auto columns = exactly<pl_block_q8_s24>(many * s.columns * s.blocks);
    for (int64_t i = 0; i < s.matrices * s.rows * k; i++) { x[i] = (float) (uniform() - 0.5); }
    for (int64_t i = 0; i < many * s.columns * k; i++) { y[i] = (float) (uniform() - 0.5); }
    t.quantize(x.get(), weights.get(), s.matrices * s.rows, k, nullptr);
    pl_quantize_row_q8_s24(y.get(), columns.get(), many * s.columns * k);

    ggml_tensor a {}, b {}, c {};
    a.type = t.id;
    b.type = c.type = GGML_TYPE_F32;
    lay_out(a, { k, s.rows, s.matrices, 1 }, sizeof(Block), PL_S24_BLOCK);
    lay_out(b, { k, s.columns, many, 1 }, sizeof(float), 1);
    lay_out(c, { s.rows, s.columns, many, 1 }, sizeof(float), 1);
    a.data = weights.get();
    b.data = y.get();
    c.data = got.get();
    c.op = GGML_OP_MUL_MAT;
    c.src[0] = &a;
    c.src[1] = &b;
    ggml_threadpool pool { { threads } };
    std::vector<std::thread> workers;
    std::atomic<int> done { 0 };
    for (int i = 0; i < threads; i++) {
        workers.emplace_back([&, i] {
            ggml_compute_params params {};
            params.ith = i;
            params.nth = threads;
            params.wsize = size_t(many * s.columns * s.blocks) * sizeof(pl_block_q8_s24);
            params.wdata = columns.get();
            params.threadpool = &pool;
            done += pl_s24_mul_mat(&params, &c);
        });
    }
    for (auto & worker : workers) { worker.join(); }

    double error = done == threads ? 0 : INFINITY, bound = 0;
    for (int64_t m = 0; m < many; m++) {
        for (int64_t j = 0; j < s.columns; j++) {
            for (int64_t row = 0; row < s.rows; row++) {
                float wanted;
                pl::s24::reference::rows<1>(&weights[(m / s.served * s.rows + row) * s.blocks], s.blocks,
                                            &columns[(m * s.columns + j) * s.blocks], s.blocks, &wanted);
                error = std::fmax(error, std::fabs((double) wanted - got[(m * s.columns + j) * s.rows + row]));
                bound = std::fmax(bound, 1e-6 * 0.25 * (double) k);
            }
        }
    }
    report(t.name, "product of " + std::to_string(s.rows) + "x" + std::to_string(s.columns) + "x" + std::to_string(k) + ", threads "
           + std::to_string(threads), error, bound);
}

// The second of three experts, which every token's first choice is, shared by threads.
template <class Block> void expert(const type & t, int threads) {
    const int64_t rows = 37, k = 2 * PL_S24_BLOCK, experts = 3, tokens = 5, used = 2, which_expert = 1;
    auto x = exactly<float>(experts * rows * k), y = exactly<float>(tokens * k), got = exactly<float>(tokens * used * rows);
    auto weights = exactly<Block>(experts * rows * k / PL_S24_BLOCK);
    auto columns = exactly<pl_block_q8_s24>(tokens * k / PL_S24_BLOCK);
    auto which = exactly<int32_t>(2 * tokens);
    for (int64_t i = 0; i < experts * rows * k; i++) { x[i] = (float) (uniform() - 0.5); }
    for (int64_t i = 0; i < tokens * k; i++) { y[i] = (float) (uniform() - 0.5); }
    for (int32_t i = 0; i < tokens; i++) { which[2 * i + 1] = i; }
    t.quantize(x.get(), weights.get(), experts * rows, k, nullptr);
    pl_quantize_row_q8_s24(y.get(), columns.get(), tokens * k);

    ggml_tensor a {}, b {}, c {};
    a.type = t.id;
    b.type = c.type = GGML_TYPE_F32;
    lay_out(a, { k, rows, experts, 1 }, sizeof(Block), PL_S24_BLOCK);
    lay_out(b, { k, 1, tokens, 1 }, sizeof(float), 1);
    lay_out(c, { rows, used, tokens, 1 }, sizeof(float), 1);
    a.data = weights.get();
    b.data = y.get();
    c.data = got.get();
    c.op = GGML_OP_MUL_MAT_ID;
    c.src[0] = &a;
    c.src[1] = &b;
    int done = 0;
    for (int i = 0; i < threads; i++) { // one after the other: they share nothing here
        ggml_compute_params params {};
        params.ith = i;
        params.nth = threads;
        params.wdata = columns.get();
        done += pl_s24_mul_mat_id(&params, &c, which_expert, tokens, which.get());
    }
    double error = done == threads ? 0 : INFINITY;
    for (int64_t token = 0; token < tokens; token++) {
        for (int64_t row = 0; row < rows; row++) {
            float wanted;
            pl::s24::reference::rows<1>(&weights[(which_expert * rows + row) * k / PL_S24_BLOCK], 0, &columns[token * k / PL_S24_BLOCK],
                                        k / PL_S24_BLOCK, &wanted);
            error = std::fmax(error, std::fabs((double) wanted - got[token * used * rows + row]));
            error += got[(token * used + 1) * rows + row] != 0; // the other choice's results are another call's
        }
    }
    report(t.name, "product by an expert, threads " + std::to_string(threads), error, 1e-6 * 0.25 * (double) k);
}

} // namespace

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
    static std::atomic<int> said { 0 };
    ggml_log_set([](ggml_log_level, const char * text, void *) { // what is refused is counted elsewhere
        said += strstr(text, "slow reference") != nullptr;
    }, nullptr);
#ifdef PL_S24_REFERENCE
    const int expected = 1;
#else
    const int expected = 0;
#endif
    // first, so that a model that is sparse in its experts alone is seen to warn as well
    for (int threads : { 1, 3 }) {
        expert<pl_block_s24_q4>(types[0], threads);
        expert<pl_block_s24_q8>(types[1], threads);
        expert<pl_block_s24_t>(types[2], threads);
    }
    report("all", "warnings of the slow reference for experts", std::abs(said - expected), 0);
    for (const type & t : types) {
        for (const kind & k : kinds()) { round_trip(t, k); }
        any_bytes(t);
        for (const shape & s : { shape { 1, 1, 1, 1, 1 }, shape { 37, 1, 2, 2, 3 }, shape { 50, 33, 3, 2, 2 }, shape { 129, 17, 1, 1, 1 } }) {
            for (int threads : { 1, 2, 5 }) {
                switch (t.id) {
                    case GGML_TYPE_S24_Q4: product<pl_block_s24_q4>(t, s, threads); break;
                    case GGML_TYPE_S24_Q8: product<pl_block_s24_q8>(t, s, threads); break;
                    default: product<pl_block_s24_t>(t, s, threads); break;
                }
            }
        }
    }
    report("all", "warnings of the slow reference", std::abs(said - expected), 0);
    return 0;
}
