// Kernels over one row of logits. Selection works on integers that order like the floats, so that it is exact, vectorises without
// loosening IEEE rules, and sees NaN for free; exponentials run in fixed lanes, so that every build gives the same bits.
#include "panama_llama.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <utility>
#include <vector>

// A portable x86-64 build carries three versions of the hot loops and picks one when the library is loaded; a build for this machine
// (-march=native) needs no choice.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__AVX__)
#define PL_VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PL_VERSIONS
#endif

#if defined(__GNUC__)
#define PL_INLINE static inline __attribute__((always_inline))
#else
#define PL_INLINE static inline
#endif

namespace {

constexpr int32_t LANES = 16;
constexpr int32_t BLOCK = 128;                       // logits per block of the first pass
constexpr int32_t SUM_BLOCK = 1024;                  // logits per float partial sum, 64 additions per lane
constexpr int32_t SORTED = 256;                      // below this, sorting beats selecting
constexpr int32_t FEW_BLOCKS = 128;                  // above this, candidates are counted before any is collected
constexpr int32_t KEY_INFINITY = 0x7f800000;
constexpr int32_t KEY_MINUS_INFINITY = -0x7f800001;  // key_of(-inf)
constexpr float EXP_FLOOR = -87.0f;                  // exp below this is taken as 0: its result would be subnormal at -87.34

// An integer that orders like the float: NaN falls outside the keys of the infinities, -0 equals 0.
PL_INLINE int32_t key_of(float x) {
    x += 0.0f;
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

PL_INLINE float float_of(int32_t key) {
    const int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

PL_INLINE int32_t lowest_bit(uint32_t bits) {
#ifdef _MSC_VER
    unsigned long index;
    _BitScanForward(&index, bits);
    return static_cast<int32_t>(index);
#else
    return __builtin_ctz(bits);
#endif
}

// (logit, token) packed so that ascending integers mean: larger logit first, then smaller id.
PL_INLINE uint64_t pack(int32_t key, int32_t token) {
    const uint32_t descending = ~(static_cast<uint32_t>(key) ^ 0x80000000u);
    return static_cast<uint64_t>(descending) << 32 | static_cast<uint32_t>(token);
}

PL_INLINE int32_t token_of(uint64_t item) {
    return static_cast<int32_t>(item & 0xffffffffu);
}

PL_INLINE float logit_of(uint64_t item) {
    return float_of(static_cast<int32_t>(~static_cast<uint32_t>(item >> 32) ^ 0x80000000u));
}

// exp(x) for x <= 0. Range reduction x = n ln2 + r, then 1 + r + r^2 P(r); P is a least-maximum fit of the relative error on |r| <= ln2/2.
PL_INLINE float exp_nonpositive(float x) {
    const float y = x < EXP_FLOOR ? EXP_FLOOR : x;
    const float shifted = y * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer in the low mantissa bits
    uint32_t n;
    std::memcpy(&n, &shifted, sizeof n);
    const float nf = shifted - 12582912.0f;
    float r = y - nf * 0.693359375f;  // ln2 in two parts; the first product is exact
    r = r - nf * -2.12194440e-4f;
    float p = 0x1.6a23d0p-10f;
    p = p * r + 0x1.123a20p-7f;
    p = p * r + 0x1.5558f2p-5f;
    p = p * r + 0x1.555492p-3f;
    p = p * r + 0x1.fffffcp-2f;
    const float e = (p * (r * r) + r) + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &e, sizeof bits);
    bits += n << 23;  // the 1.5 * 2^23 bias leaves the register at the top
    float scaled;
    std::memcpy(&scaled, &bits, sizeof scaled);
    return x < EXP_FLOOR ? 0.0f : scaled;
}

// The largest key of each block, and the extremes of the row.
PL_VERSIONS void scan(const float * row, int32_t n, int32_t block, int32_t * maxima, int32_t * smallest, int32_t * largest) {
    int32_t lo = std::numeric_limits<int32_t>::max();
    int32_t hi = std::numeric_limits<int32_t>::min();
    for (int32_t from = 0, b = 0; from < n; from += block, b++) {
        const int32_t count = std::min(block, n - from);
        const float * x = row + from;
        int32_t block_hi = std::numeric_limits<int32_t>::min();
        for (int32_t i = 0; i < count; i++) {
            const int32_t key = key_of(x[i]);
            block_hi = key > block_hi ? key : block_hi;
            lo = key < lo ? key : lo;
        }
        maxima[b] = block_hi;
        hi = block_hi > hi ? block_hi : hi;
    }
    *smallest = lo;
    *largest = hi;
}

PL_INLINE double sum_lanes(const float * lane) {
    double sum = 0;
    for (int32_t j = 0; j < LANES; j++) {
        sum += lane[j];
    }
    return sum;
}

// sum exp((x - max) * inverse); writes the terms to out and the running total at the end of each SUM_BLOCK to totals where not null.
PL_VERSIONS double sum_exp(const float * x, int32_t n, float max, float inverse, float * out, double * totals) {
    double total = 0;
    for (int32_t from = 0; from < n; from += SUM_BLOCK) {
        const int32_t to = std::min(from + SUM_BLOCK, n);
        float lane[LANES] = {0};
        int32_t i = from;
        if (out) {
            for (; i + LANES <= to; i += LANES) {
                for (int32_t j = 0; j < LANES; j++) {
                    const float e = exp_nonpositive((x[i + j] - max) * inverse);
                    out[i + j] = e;
                    lane[j] += e;
                }
            }
        } else {
            for (; i + LANES <= to; i += LANES) {
                for (int32_t j = 0; j < LANES; j++) {
                    lane[j] += exp_nonpositive((x[i + j] - max) * inverse);
                }
            }
        }
        for (int32_t j = 0; i < to; i++, j++) {
            const float e = exp_nonpositive((x[i] - max) * inverse);
            if (out) {
                out[i] = e;
            }
            lane[j] += e;
        }
        total += sum_lanes(lane);
        if (totals) {
            totals[from / SUM_BLOCK] = total;
        }
    }
    return total;
}

// sum e and sum e d, with d = x - max and e = exp(d): the entropy is ln(sum e) - sum(e d) / sum(e).
PL_VERSIONS void sum_entropy(const float * x, int32_t n, float max, double * sum, double * moment) {
    *sum = 0;
    *moment = 0;
    for (int32_t from = 0; from < n; from += SUM_BLOCK) {
        const int32_t to = std::min(from + SUM_BLOCK, n);
        float lane[LANES] = {0};
        float lane_moment[LANES] = {0};
        int32_t i = from;
        for (; i + LANES <= to; i += LANES) {
            for (int32_t j = 0; j < LANES; j++) {
                const float d = x[i + j] - max;
                const float e = exp_nonpositive(d);
                lane[j] += e;
                lane_moment[j] += e * (d < EXP_FLOOR ? EXP_FLOOR : d);  // 0 * -inf is no number
            }
        }
        for (int32_t j = 0; i < to; i++, j++) {
            const float d = x[i] - max;
            const float e = exp_nonpositive(d);
            lane[j] += e;
            lane_moment[j] += e * (d < EXP_FLOOR ? EXP_FLOOR : d);
        }
        *sum += sum_lanes(lane);
        *moment += sum_lanes(lane_moment);
    }
}

PL_VERSIONS void scale(float * x, int32_t n, float factor) {
    for (int32_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

// Whether x holds an element with this key, and where the first is; n if none.
PL_VERSIONS int32_t first_with_key(const float * x, int32_t n, int32_t key) {
    for (int32_t from = 0; from < n; from += BLOCK) {
        const int32_t to = std::min(from + BLOCK, n);
        int32_t hits = 0;
        for (int32_t i = from; i < to; i++) {
            hits |= key_of(x[i]) == key;
        }
        if (hits) {
            for (int32_t i = from; i < to; i++) {
                if (key_of(x[i]) == key) {
                    return i;
                }
            }
        }
    }
    return n;
}

// Grows and is kept by the thread: a call allocates only when the row is longer than any before.
struct scratch {
    std::vector<int32_t> maxima;
    std::vector<int32_t> ranked;
    std::vector<uint64_t> items;    // candidates by ascending id
    std::vector<uint64_t> work;     // the same, reordered while selecting
    std::vector<float> logits;
    std::vector<float> terms;
    std::vector<double> totals;
    std::vector<std::pair<double, uint64_t>> scores;  // of items
    std::vector<pl_row_change> changes;
};

scratch & local() {
    static thread_local scratch s;
    return s;
}

template <typename T> T * at_least(std::vector<T> & v, size_t n) {
    if (v.size() < n) {
        v.resize(n);
    }
    return v.data();
}

struct row_view {
    const float * x;
    int32_t n;
    int32_t blocks;
    const int32_t * maxima;
    int32_t largest;  // key
    float max() const { return float_of(largest); }
};

int32_t first_bad(const float * x, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        if (!(x[i] < std::numeric_limits<float>::infinity())) {
            return i;
        }
    }
    return n;
}

// First pass: 0, or the code for a row that is refused.
int32_t view(const float * x, int32_t n, scratch & s, row_view & v) {
    v.x = x;
    v.n = n;
    v.blocks = (n + BLOCK - 1) / BLOCK;
    int32_t * maxima = at_least(s.maxima, v.blocks);
    int32_t smallest;
    scan(x, n, BLOCK, maxima, &smallest, &v.largest);
    v.maxima = maxima;
    if (smallest < KEY_MINUS_INFINITY || v.largest >= KEY_INFINITY) {
        return PL_ROW_BAD_LOGIT - first_bad(x, n);
    }
    return v.largest == KEY_MINUS_INFINITY ? PL_ROW_EMPTY : 0;
}

// Appends what has at least this key to out, by ascending id, looking only into blocks that hold such a token.
PL_VERSIONS int32_t collect(const row_view & v, int32_t key, uint64_t * out) {
    key = std::max(key, KEY_MINUS_INFINITY + 1);
    int32_t count = 0;
    for (int32_t b = 0; b < v.blocks; b++) {
        if (v.maxima[b] < key) {
            continue;
        }
        const int32_t to = std::min((b + 1) * BLOCK, v.n);
        int32_t i = b * BLOCK;
        for (; i + LANES <= to; i += LANES) {
            uint32_t hits = 0;
            for (int32_t j = 0; j < LANES; j++) {
                hits |= uint32_t(key_of(v.x[i + j]) >= key) << j;
            }
            for (; hits != 0; hits &= hits - 1) {
                const int32_t j = i + lowest_bit(hits);
                out[count++] = pack(key_of(v.x[j]), j);
            }
        }
        for (; i < to; i++) {
            const int32_t k = key_of(v.x[i]);
            out[count] = pack(k, i);
            count += k >= key;
        }
    }
    return count;
}

// The largest key in each lane of each whole block: LANES of them a block.
PL_VERSIONS void lane_maxima(const float * x, int32_t n, int32_t * out) {
    for (int32_t b = 0; b + BLOCK <= n; b += BLOCK, out += LANES) {
        int32_t top[LANES];
        for (int32_t j = 0; j < LANES; j++) {
            top[j] = KEY_MINUS_INFINITY;
        }
        for (int32_t i = b; i < b + BLOCK; i += LANES) {
            for (int32_t j = 0; j < LANES; j++) {
                top[j] = std::max(top[j], key_of(x[i + j]));
            }
        }
        std::copy(top, top + LANES, out);
    }
}

// A key that at least k of the n tokens reach, near the k-th largest.
int32_t key_for_top(const row_view & v, int32_t k, scratch & s) {
    // k groups of tokens have a maximum as large as the k-th largest maximum
    const auto kth = [k](int32_t * maxima, int32_t count) {
        std::nth_element(maxima, maxima + (k - 1), maxima + count, [](int32_t a, int32_t b) { return a > b; });
        return maxima[k - 1];
    };
    if (k <= v.blocks / 2) {
        int32_t * ranked = at_least(s.ranked, v.blocks);
        std::copy(v.maxima, v.maxima + v.blocks, ranked);
        return kth(ranked, v.blocks);
    }
    const int32_t lanes = v.n / BLOCK * LANES;
    if (k <= lanes / 2) {
        int32_t * ranked = at_least(s.ranked, lanes);
        lane_maxima(v.x, v.n, ranked);
        return kth(ranked, lanes);
    }
    constexpr int32_t SHIFT = 20;  // sign, exponent and three bits of the mantissa
    int32_t histogram[1 << (32 - SHIFT)] = {0};
    for (int32_t i = 0; i < v.n; i++) {
        histogram[(static_cast<uint32_t>(key_of(v.x[i])) ^ 0x80000000u) >> SHIFT]++;
    }
    int32_t bin = (1 << (32 - SHIFT)) - 1;
    for (int32_t reached = histogram[bin]; reached < k && bin > 0; reached += histogram[bin]) {
        bin--;
    }
    return static_cast<int32_t>((static_cast<uint32_t>(bin) << SHIFT) ^ 0x80000000u);
}

// Keeps the k best of count items, order kept; returns how many are left.
int32_t keep_best(uint64_t * items, int32_t count, int32_t k, scratch & s) {
    if (count <= k) {
        return count;
    }
    uint64_t * work = at_least(s.work, count);
    std::copy(items, items + count, work);
    std::nth_element(work, work + (k - 1), work + count);
    const uint64_t last = work[k - 1];
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t item = items[i];
        items[kept] = item;
        kept += item <= last;
    }
    return kept;
}

double mass_of(const uint64_t * items, int32_t count, float max) {
    double mass = 0;
    for (int32_t i = 0; i < count; i++) {
        mass += exp_nonpositive(logit_of(items[i]) - max);
    }
    return mass;
}

// The last item, best first, that is needed to reach the target when better ones already hold the mass before.
uint64_t last_for_mass(const uint64_t * items, int32_t count, double before, double target, float max, scratch & s) {
    uint64_t * work = at_least(s.work, count);
    std::copy(items, items + count, work);
    int32_t from = 0;
    int32_t to = count;
    while (to - from > SORTED) {
        const int32_t middle = from + (to - from) / 2;
        std::nth_element(work + from, work + middle, work + to);
        const double upper = mass_of(work + from, middle - from, max);
        if (before + upper >= target) {
            to = middle;
        } else {
            before += upper;
            from = middle;
        }
    }
    std::sort(work + from, work + to);
    for (int32_t i = from; i < to - 1; i++) {
        before += exp_nonpositive(logit_of(work[i]) - max);
        if (before >= target) {
            return work[i];
        }
    }
    return work[to - 1];
}

int32_t blocks_reaching(const row_view & v, int32_t key) {
    int32_t blocks = 0;
    for (int32_t b = 0; b < v.blocks; b++) {
        blocks += v.maxima[b] >= key;
    }
    return blocks;
}

// The same over the whole row, for flat ones: masses are gathered per 1/32 nat below the maximum, and only the bin that crosses the
// target is ordered.
uint64_t last_by_histogram(const row_view & v, double target, scratch & s) {
    constexpr int32_t BINS = 3072;  // 96 nats; below EXP_FLOOR there is no mass
    const float max = v.max();
    float * terms = at_least(s.terms, v.n);
    sum_exp(v.x, v.n, max, 1.0f, terms, nullptr);
    const auto bin_of = [max](float x) { return static_cast<int32_t>(std::min((max - x) * 32.0f, BINS - 1.0f)); };
    double mass[BINS] = {0};
    for (int32_t i = 0; i < v.n; i++) {
        mass[bin_of(v.x[i])] += terms[i];
    }
    double before = 0;
    int32_t bin = 0;
    while (bin < BINS - 1 && before + mass[bin] < target) {
        before += mass[bin++];
    }
    uint64_t * items = at_least(s.items, v.n);
    int32_t count = 0;
    for (int32_t i = 0; i < v.n; i++) {
        items[count] = pack(key_of(v.x[i]), i);
        count += bin_of(v.x[i]) == bin;
    }
    return count ? last_for_mass(items, count, before, target, max, s) : pack(KEY_MINUS_INFINITY + 1, std::numeric_limits<int32_t>::max());
}

int32_t keep_up_to(uint64_t * items, int32_t count, uint64_t last) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t item = items[i];
        items[kept] = item;
        kept += item <= last;
    }
    return kept;
}

// The truncated set by ascending id in s.items.
int32_t truncate(const row_view & v, int32_t top_k, float top_p, float min_p, scratch & s) {
    const float max = v.max();
    const bool by_k = top_k > 0 && top_k < v.n;
    const bool by_p = top_p < 1.0f;
    uint64_t * items = at_least(s.items, v.n);
    const int32_t min_key = min_p > 0 ? key_of(max + std::log(min_p)) : KEY_MINUS_INFINITY + 1;
    int32_t count;
    if (by_k) {
        count = keep_best(items, collect(v, key_for_top(v, top_k, s), items), top_k, s);
        if (by_p) {
            const double target = top_p * mass_of(items, count, max);
            count = keep_up_to(items, count, last_for_mass(items, count, 0.0, target, max, s));
        }
        return min_p > 0 ? keep_up_to(items, count, pack(min_key, std::numeric_limits<int32_t>::max())) : count;
    }
    if (!by_p) {
        return collect(v, min_key, items);
    }
    // Lower the bar until the mass above it suffices: a peaked row never looks at its tail. What is below min_p goes last anyway.
    const double target = top_p * sum_exp(v.x, v.n, max, 1.0f, nullptr, nullptr);
    for (float distance = 2.0f; distance <= 64.0f; distance *= 2.0f) {
        const int32_t key = std::max(min_key, key_of(max - distance));
        if (blocks_reaching(v, key) > FEW_BLOCKS) {
            break;
        }
        const int32_t count = collect(v, key, items);
        if (mass_of(items, count, max) >= target) {
            return keep_up_to(items, count, last_for_mass(items, count, 0.0, target, max, s));
        }
        if (key == min_key) {
            return count;
        }
    }
    const uint64_t last = last_by_histogram(v, target, s);
    const uint64_t bar = std::min(last, pack(min_key, std::numeric_limits<int32_t>::max()));
    return keep_up_to(items, collect(v, key_of(logit_of(bar)), items), bar);
}

PL_INLINE float inverse_of(float temperature) {
    // finite, so that the best token's distance 0 stays 0
    return std::min(1.0f / temperature, std::numeric_limits<float>::max());
}

template <typename F> int32_t guarded(F && f) noexcept {
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return PL_ROW_OUT_OF_MEMORY;
    }
}

// Terms of the truncated softmax in s.terms, aligned with s.items; sum in *total.
void soften(int32_t count, float max, float temperature, scratch & s, double * total) {
    float * logits = at_least(s.logits, count);
    for (int32_t i = 0; i < count; i++) {
        logits[i] = logit_of(s.items[i]);
    }
    *total = sum_exp(logits, count, max, inverse_of(temperature), at_least(s.terms, count), nullptr);
}

int32_t index_at(const float * terms, int32_t count, double before, double target) {
    int32_t last = 0;
    for (int32_t i = 0; i < count; i++) {
        if (terms[i] > 0) {
            before += terms[i];
            last = i;
            if (before > target) {
                return i;
            }
        }
    }
    return last;
}

// ---- chains of samplers: candidates by ascending id in scratch.items ----

struct candidates {
    const float * row;
    int32_t count;
    int32_t excluded;  // at -infinity: upstream counts them among its candidates

    int32_t size() const { return count + excluded; }
};

PL_INLINE float best_logit(const scratch & s, int32_t count) {
    return logit_of(*std::min_element(s.items.data(), s.items.data() + count));
}

// Softmax terms in s.terms relative to the best logit; their sum.
double terms_of(const candidates & c, scratch & s, float max) {
    double total;
    soften(c.count, max, 1.0f, s, &total);
    return total;
}

// -sum p ln p in nats.
double entropy_of(const candidates & c, scratch & s, float max, double total) {
    double moment = 0;
    for (int32_t i = 0; i < c.count; i++) {
        if (s.terms[i] > 0) {
            moment += s.terms[i] * static_cast<double>(logit_of(s.items[i]) - max);
        }
    }
    return std::log(total) - moment / total;
}

template <typename F> void keep_if(candidates & c, scratch & s, F && kept) {
    int32_t count = 0;
    for (int32_t i = 0; i < c.count; i++) {
        const uint64_t item = s.items[i];
        if (kept(i, item)) {
            s.items[count++] = item;
        }
    }
    c.count = count;
}

void chain_top_k(candidates & c, scratch & s, int32_t k) {
    const int32_t size = std::min(k, c.size());
    c.count = keep_best(s.items.data(), c.count, k, s);
    c.excluded = size - c.count;
}

void chain_top_p(candidates & c, scratch & s, float p) {
    const float max = best_logit(s, c.count);
    const double target = p * mass_of(s.items.data(), c.count, max);
    c.count = keep_up_to(s.items.data(), c.count, last_for_mass(s.items.data(), c.count, 0.0, target, max, s));
    c.excluded = 0;
}

void chain_min_p(candidates & c, scratch & s, float p) {
    const int32_t key = key_of(best_logit(s, c.count) + std::log(p));
    c.count = keep_up_to(s.items.data(), c.count, pack(key, std::numeric_limits<int32_t>::max()));
    c.excluded = 0;
}

// Meister et al., Locally Typical Sampling, TACL 2023.
void chain_typical(candidates & c, scratch & s, float p) {
    const float max = best_logit(s, c.count);
    const double total = terms_of(c, s, max);
    const double log_total = std::log(total);
    const double entropy = entropy_of(c, s, max, total);
    auto & ranked = s.scores;  // a heap whose top is the most typical of what is left
    ranked.clear();
    for (int32_t i = 0; i < c.count; i++) {
        const double surprise = log_total - static_cast<double>(logit_of(s.items[i]) - max);
        ranked.emplace_back(std::abs(surprise - entropy), s.items[i]);
    }
    std::make_heap(ranked.begin(), ranked.end(), std::greater<>());
    double mass = 0;
    auto left = ranked.end();
    while (left != ranked.begin() && !(mass > p * total)) {
        std::pop_heap(ranked.begin(), left--, std::greater<>());
        mass += exp_nonpositive(logit_of(left->second) - max);
    }
    c.count = static_cast<int32_t>(ranked.end() - left);
    std::transform(left, ranked.end(), s.items.begin(), [](const auto & scored) { return scored.second; });
    std::sort(s.items.begin(), s.items.begin() + c.count, [](uint64_t x, uint64_t y) { return token_of(x) < token_of(y); });
    c.excluded = 0;
}

// Tang et al., Top-n-sigma: Not All Logits Are You Need, 2024.
void chain_top_n_sigma(candidates & c, scratch & s, float n) {
    if (c.size() <= 1) {
        return;
    }
    double sum = 0;
    double squares = 0;
    for (int32_t i = 0; i < c.count; i++) {
        sum += logit_of(s.items[i]);
    }
    const double mean = sum / c.count;
    for (int32_t i = 0; i < c.count; i++) {
        const double apart = logit_of(s.items[i]) - mean;
        squares += apart * apart;
    }
    const auto bar = static_cast<float>(best_logit(s, c.count) - n * std::sqrt(squares / c.count));
    const int32_t before = c.count;
    keep_if(c, s, [bar](int32_t, uint64_t item) { return logit_of(item) >= bar; });
    c.excluded += before - c.count;
}

// Exclude top choices: all that are likely enough but the last of them.
void chain_xtc(candidates & c, scratch & s, float threshold) {
    if (c.size() < 2) {
        return;
    }
    const double total = terms_of(c, s, best_logit(s, c.count));
    uint64_t last = 0;  // before every item
    for (int32_t i = 0; i < c.count; i++) {
        if (static_cast<float>(s.terms[i] / total) >= threshold) {
            last = std::max(last, s.items[i]);
        }
    }
    keep_if(c, s, [last](int32_t, uint64_t item) { return item >= last; });
}

// Logits become distances to the best, which nothing can overflow, unless a later step looks at their signs.
void chain_temperature(candidates & c, scratch & s, float temperature, float range, float exponent, bool signs) {
    const float max = best_logit(s, c.count);
    float t = temperature;
    if (range > 0) {
        if (c.size() <= 1) {
            return;
        }
        const float low = std::max(0.0f, temperature - range);
        const double entropy = entropy_of(c, s, max, terms_of(c, s, max)) / std::log(static_cast<double>(c.size()));
        t = low + (temperature + range - low) * static_cast<float>(std::pow(std::max(0.0, entropy), exponent));
    }
    if (t <= 0) {
        const uint64_t best = *std::min_element(s.items.data(), s.items.data() + c.count);
        c.excluded += c.count - 1;
        c.count = 1;
        s.items[0] = best;
        return;
    }
    constexpr float LARGE = 1e30f;
    const float inverse = inverse_of(t);
    const float shift = signs ? std::min(std::max(max * inverse, -LARGE), LARGE) : 0.0f;
    for (int32_t i = 0; i < c.count; i++) {
        const float apart = (logit_of(s.items[i]) - max) * inverse;
        s.items[i] = pack(key_of(std::max(apart + shift, std::numeric_limits<float>::lowest())), token_of(s.items[i]));
    }
}

// Basu et al., Mirostat, ICLR 2021, in the form that truncates by surprise.
void chain_mirostat(candidates & c, scratch & s, float mu) {
    const float max = best_logit(s, c.count);
    const double log_total = std::log(terms_of(c, s, max));
    const uint64_t best = *std::min_element(s.items.data(), s.items.data() + c.count);
    keep_if(c, s, [=](int32_t, uint64_t item) {
        const double bits = (log_total - static_cast<double>(logit_of(item) - max)) / 0.6931471805599453;
        return static_cast<float>(bits) <= mu || item == best;
    });
    c.excluded = 0;
}

// 0, or the code for a candidate that is no number any more.
int32_t chain_changes(candidates & c, scratch & s, const pl_row_step & step) {
    s.changes.assign(step.changes, step.changes + step.n);
    std::sort(s.changes.begin(), s.changes.end(), [](const auto & x, const auto & y) { return x.token < y.token; });
    const auto end = s.changes.cend();
    auto next = s.changes.cbegin();
    int32_t count = 0;
    for (int32_t i = 0; i < c.count; i++) {
        uint64_t item = s.items[i];
        const int32_t token = token_of(item);
        next = std::lower_bound(next, end, token, [](const pl_row_change & change, int32_t t) { return change.token < t; });
        if (next != end && next->token == token) {
            float x = logit_of(item);
            x = (x <= 0 ? x * step.a : x / step.a) - next->minus;
            if (!(x < std::numeric_limits<float>::infinity())) {
                return PL_ROW_BAD_LOGIT - token;
            }
            if (x == -std::numeric_limits<float>::infinity()) {
                c.excluded++;
                continue;
            }
            item = pack(key_of(x), token);
        }
        s.items[count++] = item;
    }
    c.count = count;
    return count == 0 ? PL_ROW_EMPTY : 0;
}

// Upstream's sampler for code that is filled in, see llama_sampler_init_infill in llama.h.
void chain_infill(candidates & c, scratch & s, const pl_row_pieces & pieces) {
    const double total = terms_of(c, s, best_logit(s, c.count));
    auto & ranked = s.scores;  // probability and item, best first
    ranked.clear();
    double ending = 0;
    for (int32_t i = 0; i < c.count; i++) {
        ranked.emplace_back(s.terms[i] / total, s.items[i]);
        ending += pieces.ending[token_of(s.items[i])] ? ranked.back().first : 0.0;
    }
    std::sort(ranked.begin(), ranked.end(), [](const auto & x, const auto & y) { return x.second < y.second; });
    const auto ends = [&pieces](uint64_t item) { return pieces.ending[token_of(item)] != 0; };
    if (3 * ending * c.size() > 1 - ending) {
        keep_if(c, s, [&ends](int32_t, uint64_t item) { return ends(item); });
        c.excluded = 0;
        return;
    }

    const auto first = [&pieces](int32_t token) { return token == 0 ? 0 : pieces.ends[token - 1]; };
    const auto begins = [&](uint64_t item, uint64_t other) {
        const int32_t from = first(token_of(item));
        const int32_t other_from = first(token_of(other));
        const int32_t length = pieces.ends[token_of(item)] - from;
        return length > 0 && length <= pieces.ends[token_of(other)] - other_from
            && std::memcmp(pieces.bytes + from, pieces.bytes + other_from, length) == 0;
    };
    for (size_t i = 0; i < ranked.size(); i++) {
        for (size_t j = 0; j < ranked.size() && ranked[i].first > 0; j++) {
            if (i != j && ranked[j].first > 0 && begins(ranked[i].second, ranked[j].second)) {
                const bool up = ranked[j].first > ranked[i].first;
                auto & into = ranked[up ? j : i];
                auto & gone = ranked[up ? i : j];
                into.first += gone.first;
                gone.first = 0;
            }
        }
    }

    const auto likely = [&](double bar) {
        ranked.erase(std::remove_if(ranked.begin(), ranked.end(), [&](const auto & scored) {
            return scored.first == 0 || (scored.first < bar && !ends(scored.second));
        }), ranked.end());
        return std::count_if(ranked.begin(), ranked.end(), [&](const auto & scored) { return !ends(scored.second); });
    };
    const auto texts = likely(0.2);
    if (texts == 0) {
        const float logit = pieces.end < 0 ? -std::numeric_limits<float>::infinity() : c.row[pieces.end];
        if (logit > -std::numeric_limits<float>::infinity()) {  // else a constraint forbids the end, and the candidates stay
            s.items[0] = pack(key_of(logit), pieces.end);
            c.count = 1;
            c.excluded = 0;
        }
        return;
    }
    double sum = 0;
    for (const auto & scored : ranked) {
        sum += scored.first;
    }
    likely(sum / (texts + 1));
    c.count = static_cast<int32_t>(ranked.size());
    std::transform(ranked.begin(), ranked.end(), s.items.begin(), [](const auto & scored) { return scored.second; });
    std::sort(s.items.begin(), s.items.begin() + c.count, [](uint64_t x, uint64_t y) { return token_of(x) < token_of(y); });
    c.excluded = 0;
}

int32_t chain_step(candidates & c, scratch & s, const pl_row_step & step, bool signs) {
    switch (step.kind) {
        case PL_ROW_TOP_K:       chain_top_k(c, s, step.n); break;
        case PL_ROW_TOP_P:       chain_top_p(c, s, step.a); break;
        case PL_ROW_MIN_P:       chain_min_p(c, s, step.a); break;
        case PL_ROW_TYPICAL:     chain_typical(c, s, step.a); break;
        case PL_ROW_TOP_N_SIGMA: chain_top_n_sigma(c, s, step.a); break;
        case PL_ROW_XTC:         chain_xtc(c, s, step.a); break;
        case PL_ROW_TEMPERATURE: chain_temperature(c, s, step.a, step.b, step.c, signs); break;
        case PL_ROW_MIROSTAT:    chain_mirostat(c, s, step.a); break;
        case PL_ROW_CHANGES:     return chain_changes(c, s, step);
        case PL_ROW_INFILL:      chain_infill(c, s, *step.pieces); break;
        default: break;
    }
    return 0;
}

// Leaves candidates with softmax terms in s.items and s.terms; a code below 0, or how many there are.
int32_t run_chain(const float * row, int32_t n, const pl_row_step * steps, int32_t n_steps, scratch & s, double * total) {
    row_view v;
    int32_t code = view(row, n, s, v);
    if (code) {
        return code;
    }
    uint64_t * items = at_least(s.items, n);
    candidates c = { row, 0, 0 };
    int32_t i = 0;
    while (i < n_steps && steps[i].kind == PL_ROW_NOTHING) {
        i++;
    }
    if (i < n_steps && steps[i].kind == PL_ROW_TOP_K && steps[i].n < n) {
        c.count = collect(v, key_for_top(v, steps[i].n, s), items);
        c.excluded = std::max(0, steps[i].n - c.count);
    } else {
        c.count = collect(v, KEY_MINUS_INFINITY + 1, items);
        c.excluded = n - c.count;
    }
    for (; i < n_steps; i++) {
        const bool signs = std::any_of(steps + i + 1, steps + n_steps,
                                       [](const pl_row_step & later) { return later.kind == PL_ROW_CHANGES && later.a != 1.0f; });
        code = chain_step(c, s, steps[i], signs);
        if (code) {
            return code;
        }
    }
    *total = terms_of(c, s, best_logit(s, c.count));
    return c.count;
}

}  // namespace

int32_t pl_row_argmax(const float * row, int32_t n) {
    return guarded([=] {
        row_view v;
        scratch & s = local();
        const int32_t code = view(row, n, s, v);
        if (code) {
            return code;
        }
        int32_t b = 0;
        while (v.maxima[b] != v.largest) {
            b++;
        }
        return b * BLOCK + first_with_key(row + b * BLOCK, std::min(BLOCK, n - b * BLOCK), v.largest);
    });
}

double pl_row_log_sum_exp(const float * row, int32_t n) {
    row_view v;
    double result = 0;
    const int32_t code = guarded([&] { return view(row, n, local(), v); });
    if (code == 0) {
        result = v.max() + std::log(sum_exp(row, n, v.max(), 1.0f, nullptr, nullptr));
    }
    return code == 0 ? result : code == PL_ROW_EMPTY ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
}

double pl_row_entropy(const float * row, int32_t n) {
    row_view v;
    const int32_t code = guarded([&] { return view(row, n, local(), v); });
    if (code) {
        return code == PL_ROW_EMPTY ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    }
    double sum;
    double moment;
    sum_entropy(row, n, v.max(), &sum, &moment);
    return std::max(0.0, std::log(sum) - moment / sum);
}

int32_t pl_row_top_k(const float * row, int32_t n, int32_t k, int32_t * tokens, float * logits) {
    return guarded([=] {
        row_view v;
        scratch & s = local();
        const int32_t code = view(row, n, s, v);
        if (code || k <= 0) {
            return code;
        }
        const int32_t wanted = std::min(k, n);
        uint64_t * items = at_least(s.items, n);
        const int32_t count = keep_best(items, collect(v, key_for_top(v, wanted, s), items), wanted, s);
        std::sort(items, items + count);
        for (int32_t i = 0; i < count; i++) {
            tokens[i] = token_of(items[i]);
            logits[i] = logit_of(items[i]);
        }
        return count;
    });
}

int32_t pl_row_above(const float * row, int32_t n, float threshold, int32_t capacity, int32_t * tokens, float * logits) {
    return guarded([=] {
        row_view v;
        scratch & s = local();
        const int32_t code = view(row, n, s, v);
        if (code) {
            return code;
        }
        uint64_t * items = at_least(s.items, n);
        const int32_t key = key_of(threshold);
        const int32_t count = key >= KEY_INFINITY ? 0 : collect(v, key + 1, items);
        for (int32_t i = 0; i < std::min(count, capacity); i++) {
            tokens[i] = token_of(items[i]);
            logits[i] = logit_of(items[i]);
        }
        return count;
    });
}

int32_t pl_row_softmax(float * row, int32_t n, float temperature) {
    return guarded([=] {
        row_view v;
        const int32_t code = view(row, n, local(), v);
        if (code) {
            return code;
        }
        const double total = sum_exp(row, n, v.max(), inverse_of(temperature), row, nullptr);
        scale(row, n, static_cast<float>(1 / total));
        return 0;
    });
}

int32_t pl_row_sample(const float * row, int32_t n, int32_t top_k, float top_p, float min_p, float temperature, double u) {
    if (temperature <= 0) {
        return pl_row_argmax(row, n);
    }
    return guarded([=] {
        row_view v;
        scratch & s = local();
        const int32_t code = view(row, n, s, v);
        if (code) {
            return code;
        }
        if ((top_k <= 0 || top_k >= n) && top_p >= 1.0f && min_p <= 0) {
            const int32_t blocks = (n + SUM_BLOCK - 1) / SUM_BLOCK;
            double * totals = at_least(s.totals, blocks);
            float * terms = at_least(s.terms, n);
            const double target = u * sum_exp(row, n, v.max(), inverse_of(temperature), terms, totals);
            int32_t b = 0;
            while (b < blocks - 1 && totals[b] <= target) {
                b++;
            }
            const int32_t from = b * SUM_BLOCK;
            return from + index_at(terms + from, std::min(SUM_BLOCK, n - from), b ? totals[b - 1] : 0.0, target);
        }
        const int32_t count = truncate(v, top_k, top_p, min_p, s);
        double total;
        soften(count, v.max(), temperature, s, &total);
        return token_of(s.items[index_at(s.terms.data(), count, 0.0, u * total)]);
    });
}

int32_t pl_row_distribution(const float * row, int32_t n, int32_t top_k, float top_p, float min_p, float temperature,
                            int32_t capacity, int32_t * tokens, float * probabilities) {
    return guarded([=] {
        row_view v;
        scratch & s = local();
        const int32_t code = view(row, n, s, v);
        if (code) {
            return code;
        }
        if (temperature <= 0) {
            if (capacity > 0) {
                tokens[0] = pl_row_argmax(row, n);
                probabilities[0] = 1.0f;
            }
            return 1;
        }
        const int32_t count = truncate(v, top_k, top_p, min_p, s);
        double total;
        soften(count, v.max(), temperature, s, &total);
        for (int32_t i = 0; i < std::min(count, capacity); i++) {
            tokens[i] = token_of(s.items[i]);
            probabilities[i] = static_cast<float>(s.terms[i] / total);
        }
        return count;
    });
}

int32_t pl_row_chain_sample(const float * row, int32_t n, const pl_row_step * steps, int32_t n_steps, double u) {
    return guarded([=] {
        scratch & s = local();
        double total;
        const int32_t count = run_chain(row, n, steps, n_steps, s, &total);
        return count < 0 ? count : token_of(s.items[index_at(s.terms.data(), count, 0.0, u * total)]);
    });
}

int32_t pl_row_chain_distribution(const float * row, int32_t n, const pl_row_step * steps, int32_t n_steps, int32_t capacity,
                                  int32_t * tokens, float * probabilities) {
    return guarded([=] {
        scratch & s = local();
        double total;
        const int32_t count = run_chain(row, n, steps, n_steps, s, &total);
        for (int32_t i = 0; i < std::min(count, capacity); i++) {
            tokens[i] = token_of(s.items[i]);
            probabilities[i] = static_cast<float>(s.terms[i] / total);
        }
        return count;
    });
}
