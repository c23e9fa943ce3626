// Attention of few queries over a long cache with F16 keys and values: what every decoded token does. AVX-512, or AVX2 with FMA.
//
// Upstream goes through the cells one by one: a dot product added up across its lanes, a scalar exp, a multiply-add into F16. Here the
// cells that a query may see are gathered first, 64 at a time (most cells of a shared cache belong to other sequences); scores of a
// vector's worth of cells are added up together, exp runs on whole vectors, and the query heads that share a key head share the
// reading of keys and values. All sums are F32, so results differ from upstream's in the last bits, towards the exact ones.
//
// Softmax runs online over the blocks of cells (Milakov and Gimelshein 2018), its state per head is maximum, sum and weighted values.
//
// patches/query-attention.patch calls it in ggml-cpu's ops.cpp. Upstream still does ALiBi, logit soft-capping, sinks, quantised
// caches, and prompts: from GGML_FA_TILE_Q queries on it works in tiles.
#pragma once

#if (defined(__AVX512F__) && defined(__AVX512DQ__)) || (defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
#    define PL_ATTEND 1
#endif

#ifdef PL_ATTEND

#include "common.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "masked_cells.h"
#include "vec.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace pl {

// A vector of floats.
#if defined(__AVX512F__)
struct floats {
    static constexpr int n = 16;
    __m512 v;

    static floats zero() { return {_mm512_setzero_ps()}; }
    static floats all(float x) { return {_mm512_set1_ps(x)}; }
    static floats load(const float * p) { return {_mm512_loadu_ps(p)}; }
    static floats load(const ggml_fp16_t * p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p))}; }
    void store(float * p) const { _mm512_storeu_ps(p, v); }
    float max() const { return _mm512_reduce_max_ps(v); }
    float sum() const { return _mm512_reduce_add_ps(v); }

    // Element i of the result is the sum of x[i].
    static floats sums(const floats * x) {
        __m512 u[4];
        for (int i = 0; i < 4; i++) {
            const __m512 a = x[4 * i].v, b = x[4 * i + 1].v, c = x[4 * i + 2].v, d = x[4 * i + 3].v;
            const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
            const __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
            u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
        }
        const __m512 low  = _mm512_add_ps(_mm512_shuffle_f32x4(u[0], u[1], 0x44), _mm512_shuffle_f32x4(u[0], u[1], 0xEE));
        const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(u[2], u[3], 0x44), _mm512_shuffle_f32x4(u[2], u[3], 0xEE));
        return {_mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xDD))};
    }
};
inline floats operator+(floats a, floats b) { return {_mm512_add_ps(a.v, b.v)}; }
inline floats operator-(floats a, floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline floats operator*(floats a, floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline floats max(floats a, floats b) { return {_mm512_max_ps(a.v, b.v)}; }
inline floats fma(floats a, floats b, floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
#else
struct floats {
    static constexpr int n = 8;
    __m256 v;

    static floats zero() { return {_mm256_setzero_ps()}; }
    static floats all(float x) { return {_mm256_set1_ps(x)}; }
    static floats load(const float * p) { return {_mm256_loadu_ps(p)}; }
    static floats load(const ggml_fp16_t * p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p))}; }
    void store(float * p) const { _mm256_storeu_ps(p, v); }
    float max() const {
        __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
    }
    float sum() const {
        __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
    }

    // Element i of the result is the sum of x[i].
    static floats sums(const floats * x) {
        const __m256 low  = _mm256_hadd_ps(_mm256_hadd_ps(x[0].v, x[1].v), _mm256_hadd_ps(x[2].v, x[3].v));
        const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(x[4].v, x[5].v), _mm256_hadd_ps(x[6].v, x[7].v));
        return {_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31))};
    }
};
inline floats operator+(floats a, floats b) { return {_mm256_add_ps(a.v, b.v)}; }
inline floats operator-(floats a, floats b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline floats operator*(floats a, floats b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline floats max(floats a, floats b) { return {_mm256_max_ps(a.v, b.v)}; }
inline floats fma(floats a, floats b, floats c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
#endif
inline floats exp(floats x) { return {ggml_v_expf(x.v)}; }

class attend {
    static constexpr int     block   = 64;  // cells
    static constexpr int     most    = 4;   // query heads at a time
    static constexpr int64_t longest = 576; // values per head

    const ggml_tensor * dst, * q, * k, * v, * mask;
    const int64_t dk, dv, cells, per_kv; // per_kv: query heads that share a key head
    float scale;

    explicit attend(const ggml_tensor * dst)
        : dst(dst), q(dst->src[0]), k(dst->src[1]), v(dst->src[2]), mask(dst->src[3]), dk(k->ne[0]), dv(v->ne[0]), cells(k->ne[1]),
          per_kv(q->ne[2] / k->ne[2]) {
        memcpy(&scale, dst->op_params, sizeof(scale));
    }

    static bool can(const ggml_tensor * dst) {
        const ggml_tensor * q = dst->src[0], * k = dst->src[1], * v = dst->src[2], * mask = dst->src[3];
        float bias, softcap;
        memcpy(&bias, (const float *) dst->op_params + 1, sizeof(bias));
        memcpy(&softcap, (const float *) dst->op_params + 2, sizeof(softcap));
        return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && q->ne[1] < GGML_FA_TILE_Q && bias == 0
            && softcap == 0 && dst->src[4] == nullptr && k->ne[0] % floats::n == 0 && v->ne[0] % floats::n == 0 && k->ne[0] <= longest
            && v->ne[0] <= longest && k->ne[2] == v->ne[2] && k->ne[3] == v->ne[3] 
            && (mask == nullptr || (mask->type == GGML_TYPE_F16 && mask->ne[2] == 1));
    }

    // G query heads that share a key head, one query.
    template <int G> struct state {
        alignas(64) float query[G][longest]; // scaled
        alignas(64) float values[G][longest];
        float max[G], sum[G];
    };

    // Cells that a query may see, up to a whole block.
    struct found_cells {
        alignas(64) int32_t at[block];
        alignas(64) float   bias[block]; // of the mask
        int count;
    };

    static void prefetch(const char * from, int64_t bytes) {
        for (int64_t b = 0; b < bytes; b += 64) {
            _mm_prefetch(from + b, _MM_HINT_T1);
        }
    }

    // Fills cells from [cell, end) and returns where to go on.
    int64_t find(found_cells & cells, const ggml_fp16_t * seen, int64_t cell, int64_t end, const char * keys, const char * vals) const {
        int count = 0;
        while (count < block && cell < end) {
            if (seen != nullptr && (cell = next_visible(seen, cell, end)) == end) {
                break;
            }
            cells.bias[count] = seen == nullptr ? 0 : GGML_CPU_FP16_TO_FP32(seen[cell]);
            prefetch(keys + cell * k->nb[1], dk * sizeof(ggml_fp16_t));
            prefetch(vals + cell * v->nb[1], dv * sizeof(ggml_fp16_t));
            cells.at[count++] = int32_t(cell++);
        }
        cells.count = count;
        for (; count % floats::n != 0; count++) { // whole vectors: the last cell again, which will weigh nothing
            cells.at[count]   = cells.at[cells.count - 1];
            cells.bias[count] = cells.bias[cells.count - 1];
        }
        return cell;
    }

    template <int G> void cell_block(state<G> & s, const found_cells & cells,
            const char * keys, const char * vals) const {
        const int32_t * at = cells.at;
        const int count = cells.count;
        alignas(64) float p[G][block];
        for (int c = 0; c < count; c += floats::n) {
            floats dots[G][floats::n];
            for (int j = 0; j < floats::n; j++) {
                const auto * key = (const ggml_fp16_t *) (keys + at[c + j] * k->nb[1]);
                floats sum[G];
                for (int g = 0; g < G; g++) {
                    sum[g] = floats::zero();
                }
                for (int64_t d = 0; d < dk; d += floats::n) {
                    const floats x = floats::load(key + d);
                    for (int g = 0; g < G; g++) {
                        sum[g] = fma(x, floats::load(s.query[g] + d), sum[g]);
                    }
                }
                for (int g = 0; g < G; g++) {
                    dots[g][j] = sum[g];
                }
            }
            for (int g = 0; g < G; g++) {
                (floats::sums(dots[g]) + floats::load(cells.bias + c)).store(p[g] + c);
            }
        }
        float shrink[G];
        for (int g = 0; g < G; g++) {
            floats top = floats::load(p[g]);
            for (int c = floats::n; c < count; c += floats::n) {
                top = max(top, floats::load(p[g] + c));
            }
            const float before = s.max[g];
            s.max[g]  = std::max(before, top.max());
            shrink[g] = before == s.max[g] ? 1.0f : expf(before - s.max[g]);
            floats sum = floats::zero();
            for (int c = 0; c < count; c += floats::n) {
                exp(floats::load(p[g] + c) - floats::all(s.max[g])).store(p[g] + c);
                for (int j = std::max(c, count); j < c + floats::n; j++) {
                    p[g][j] = 0; // beyond the last cell
                }
                sum = sum + floats::load(p[g] + c);
            }
            s.sum[g] = s.sum[g] * shrink[g] + sum.sum();
        }
        int64_t d = 0;
        for (; d + 4 * floats::n <= dv; d += 4 * floats::n) {
            weigh<G, 4>(s, p, shrink, at, count, vals, d);
        }
        for (; d < dv; d += floats::n) {
            weigh<G, 1>(s, p, shrink, at, count, vals, d);
        }
    }

    // values = values * shrink + p * the cells' values, W vectors of them from d on.
    template <int G, int W>
    void weigh(state<G> & s, const float (&p)[G][block], const float (&shrink)[G], const int32_t * at, int count,
            const char * vals, int64_t d) const {
        floats sum[G][W];
        for (int g = 0; g < G; g++) {
            for (int w = 0; w < W; w++) {
                sum[g][w] = floats::load(s.values[g] + d + w * floats::n) * floats::all(shrink[g]);
            }
        }
        for (int c = 0; c < count; c++) {
            const auto * value = (const ggml_fp16_t *) (vals + at[c] * v->nb[1]) + d;
            for (int w = 0; w < W; w++) {
                const floats x = floats::load(value + w * floats::n);
                for (int g = 0; g < G; g++) {
                    sum[g][w] = fma(x, floats::all(p[g][c]), sum[g][w]);
                }
            }
        }
        for (int g = 0; g < G; g++) {
            for (int w = 0; w < W; w++) {
                sum[g][w].store(s.values[g] + d + w * floats::n);
            }
        }
    }

    // Heads head.. of query iq1 over cells [begin, end): the result itself, or maximum, sum and values at partial + g * stride.
    template <int G> void heads(int64_t head, int64_t iq1, int64_t iq3, int64_t begin, int64_t end, float * partial, int64_t stride) const {
        state<G> s;
        for (int g = 0; g < G; g++) {
            const auto * query = (const float *) ((const char *) q->data + iq1 * q->nb[1] + (head + g) * q->nb[2] + iq3 * q->nb[3]);
            for (int64_t d = 0; d < dk; d += floats::n) {
                (floats::load(query + d) * floats::all(scale)).store(s.query[g] + d);
            }
            memset(s.values[g], 0, dv * sizeof(float));
            s.max[g] = -INFINITY;
            s.sum[g] = 0;
        }
        const int64_t ik2 = head / per_kv, ik3 = iq3 / (q->ne[3] / k->ne[3]);
        const char * keys = (const char *) k->data + ik2 * k->nb[2] + ik3 * k->nb[3];
        const char * vals = (const char *) v->data + ik2 * v->nb[2] + ik3 * v->nb[3];
        const ggml_fp16_t * seen = mask == nullptr ? nullptr : (const ggml_fp16_t *) ((const char *) mask->data + iq1 * mask->nb[1]
                + iq3 % mask->ne[3] * mask->nb[3]);

        // the next cells are on their way from memory while these are worked on
        found_cells now, next;
        int64_t cell = find(now, seen, begin, end, keys, vals);
        while (now.count > 0) {
            cell = find(next, seen, cell, end, keys, vals);
            cell_block(s, now, keys, vals);
            std::swap(now, next);
        }

        for (int g = 0; g < G; g++) {
            if (partial != nullptr) {
                float * out = partial + g * stride;
                out[0] = s.max[g];
                out[1] = s.sum[g];
                memcpy(out + 2, s.values[g], dv * sizeof(float));
                continue;
            }
            auto * out = (float *) ((char *) dst->data + (iq3 * dst->ne[2] * dst->ne[1] + head + g + iq1 * dst->ne[1]) * dst->nb[1]);
            const floats share = floats::all(s.sum[g] == 0 ? 0 : 1 / s.sum[g]);
            for (int64_t d = 0; d < dv; d += floats::n) {
                (floats::load(s.values[g] + d) * share).store(out + d);
            }
        }
    }

    void some_heads(int64_t count, int64_t head, int64_t iq1, int64_t iq3, int64_t begin, int64_t end, float * partial,
            int64_t stride) const {
        while (count > 0) {
            const int64_t now = std::min<int64_t>(count, most);
            switch (now) {
                case 1: heads<1>(head, iq1, iq3, begin, end, partial, stride); break;
                case 2: heads<2>(head, iq1, iq3, begin, end, partial, stride); break;
                case 3: heads<3>(head, iq1, iq3, begin, end, partial, stride); break;
                default: heads<4>(head, iq1, iq3, begin, end, partial, stride); break;
            }
            count -= now;
            head += now;
            partial = partial == nullptr ? nullptr : partial + now * stride;
        }
    }

  public:
    // True if it was done. One query over many cells is split by cells: their partial results lie where and as upstream's own do, and
    // reduce, upstream's, puts them together.
    template <typename Reduce> static bool run(const ggml_compute_params * params, ggml_tensor * dst, Reduce reduce) {
        if (params->use_ref || !can(dst)) {
            return false;
        }
        const attend work(dst);
        const int64_t queries = work.q->ne[1], batches = work.q->ne[3], n_heads = work.q->ne[2];
        const int ith = params->ith, nth = params->nth;

        if (queries == 1 && batches == 1 && work.cells >= 512) {
            const int64_t each = (work.cells + nth - 1) / nth;
            const int64_t size = 2 + work.dv;
            float * partial = (float *) params->wdata + nth * (work.dk + 2 * work.dv + CACHE_LINE_SIZE_F32) + ith * size;
            const int64_t begin = std::min(work.cells, ith * each), end = std::min(work.cells, begin + each);
            for (int64_t head = 0; head < n_heads; head += work.per_kv) {
                work.some_heads(work.per_kv, head, 0, 0, begin, end, partial + head * nth * size, nth * size);
            }
            ggml_barrier(params->threadpool);
            reduce(params, dst, nth, each);
            return true;
        }

        // a unit of work: some heads of one key head, one query; at least two units a thread where there are as many
        int64_t together = std::min<int64_t>(work.per_kv, most);
        const int64_t key_heads = work.k->ne[2];
        while (together > 1 && queries * batches * key_heads * ((work.per_kv + together - 1) / together) < 2 * nth) {
            together = (together + 1) / 2;
        }
        const int64_t parts = (work.per_kv + together - 1) / together;
        const int64_t units = batches * queries * key_heads * parts;
        const int64_t chunk = std::max<int64_t>(1, units / (4 * nth));

        if (ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, nth);
        }
        ggml_barrier(params->threadpool);
        for (int64_t mine = ith; mine * chunk < units; mine = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            for (int64_t unit = mine * chunk; unit < std::min(units, (mine + 1) * chunk); unit++) {
                const int64_t part = unit % parts, ik2 = unit / parts % key_heads;
                const int64_t iq1 = unit / (parts * key_heads) % queries, iq3 = unit / (parts * key_heads * queries);
                const int64_t first = part * together;
                work.some_heads(std::min(together, work.per_kv - first), ik2 * work.per_kv + first, iq1, iq3, 0, work.cells, nullptr, 0);
            }
        }
        return true;
    }
};

} // namespace pl

#endif
