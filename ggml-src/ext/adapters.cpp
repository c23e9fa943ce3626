// Adapter banks: LoRA adapters chosen per sequence and mixed in one batch.
//
// Upstream's way (llama_set_adapters_lora) puts the adapters into the graph: one set for a whole batch, and a graph to plan again after
// each change. Here the graph only has places: two nodes behind each product whose weight some resident adapter changes. What they do is
// decided row by row when they run, from tables that belong to the bank, so that a swap writes a few integers and the graph stays. A
// graph is built again only when a batch is the first with or without adapters after one of the other kind, or when the places change.
//
// The nodes are custom operations of the CPU. Weights that lie on another device are adapted by its own operations instead, and what a swap
// writes are inputs of the graph (adapters_device.hpp); where the device lacks them, the scheduler brings the nodes' inputs to the CPU and
// the result back.
#include "adapters.hpp"
#include "adapters_device.hpp"
#include "guard.hpp"
#include "threads.hpp"
#include "hooked.hpp"

#include "llama-batch.h"
#include "llama-ext.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace pl {

#if defined(__x86_64__)
extern const lora_kernels lora_kernels_v3, lora_kernels_v4;
#endif
extern const lora_kernels lora_kernels_base;

const lora_kernels & lora_kernels_of_this_machine() {
#if defined(__x86_64__)
    static const lora_kernels & chosen = [&]() -> const lora_kernels & {
        __builtin_cpu_init();
        const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
        const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
        return v4 ? lora_kernels_v4 : v3 ? lora_kernels_v3 : lora_kernels_base;
    }();
    return chosen;
#else
    return lora_kernels_base;
#endif
}

namespace {

constexpr int BLOCK_ROWS = 12; // of a unit of work: two of the kernels' tiles

struct bank;

// A place in the graph, for all tokens of a batch or for those that are outputs.
struct place {
    bank *  owner;
    int32_t target;
    bool    outputs;
};

// A weight that the graph multiplies by, or looks rows up in.
struct target {
    std::string name;
    bool        embedding = false;
    int64_t     k         = 1;     // rows of the product per token
    bool        bad       = false; // rows that can't be told apart by token
    bool        used      = false; // some adapter has had a part for it
    place       places[2] {};
    std::unique_ptr<device_bank> device; // NULL: nodes of the CPU adapt it
};

struct span {
    llama_pos from;
    int32_t   set;
};

int64_t power_of_2(int64_t at_least) {
    int64_t n = 1;
    while (n < at_least) { n *= 2; }
    return n;
}

// Rows of a batch that go through one adapter, all with their ranks from `offset` on in h.
struct group {
    int32_t              slot;
    int64_t              offset;
    std::vector<int32_t> tokens; // of the batch, or of its outputs
    std::vector<float>   scales;
};

struct plan {
    std::vector<group> groups; // the first n_groups are in use
    size_t             n_groups = 0;

    void clear() { n_groups = 0; }

    void add(int32_t slot, int64_t offset, int32_t token, float scale) {
        group * found = nullptr;
        for (size_t i = 0; i < n_groups && found == nullptr; i++) {
            if (groups[i].slot == slot && groups[i].offset == offset) {
                found = &groups[i];
            }
        }
        if (found == nullptr) {
            if (n_groups == groups.size()) {
                groups.emplace_back();
            }
            found = &groups[n_groups++];
            found->slot = slot;
            found->offset = offset;
            found->tokens.clear();
            found->scales.clear();
        }
        found->tokens.push_back(token);
        found->scales.push_back(scale);
    }
};

// Rows of a tensor [width, ne1, ne2], numbered as they lie in memory.
struct rows_of {
    char *  data;
    int64_t ne1;
    size_t  nb1, nb2;

    explicit rows_of(const ggml_tensor * t) : data((char *) t->data), ne1(t->ne[1]), nb1(t->nb[1]), nb2(t->nb[2]) {}

    float * operator[](int64_t row) const { return (float *) (data + (row % ne1) * nb1 + (row / ne1) * nb2); }
};

struct bank final : graph_hook {
    llama_context * const        ctx;
    std::vector<target>          targets;
    std::unordered_map<std::string, int32_t> by_name[2];
    std::unordered_map<const ggml_tensor *, int32_t> by_tensor[2]; // of products, of lookups
    std::vector<std::vector<part>>   slots; // [slot][target]; empty: free
    std::vector<std::vector<member>> sets;  // set 0 is empty
    std::vector<std::vector<span>>   spans; // [sequence id]
    bool recording = true;
    bool in_place  = true;
    bool operations;        // in place of nodes also for weights in host memory
    bool on_device = false; // some target has matrices on a device
    std::vector<float> slot_scales; // [slot] what those matrices lack of alpha / rank
    int64_t            slots_there = 0; // that they have room for

    // of the ubatch that is evaluated
    int64_t n_tokens  = 0;
    int64_t n_outputs = 0;
    bool    active    = false;
    plan    plans[2];
    device_inputs           device;
    device_inputs::row_sets sets_of_rows[2];
    std::vector<int32_t>    tokens;

    // what the places of a graph depend on
    struct topology {
        bool     active;
        uint32_t targets;
        int64_t  width; // of h: ranks of all adapters of a set
        int64_t  stack; // adapters of a set, a power of 2
        uint32_t moves; // of matrices on devices
        bool operator!=(const topology & o) const {
            return active != o.active || (active && (targets != o.targets || width != o.width || stack != o.stack || moves != o.moves));
        }
    };
    topology now { false, 0, 16, 1, 0 };
    topology last { false, 0, 0, 0, 0 };

    bank(llama_context * ctx, bool operations) : ctx(ctx), sets(1), spans(llama_n_seq_max(ctx)), operations(operations) {
        for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
            ggml_backend_dev_t dev = ggml_backend_dev_get(i);
            if (ggml_backend_dev_type(dev) != GGML_BACKEND_DEVICE_TYPE_CPU) {
                in_place = false;
                this->operations |= device_bank::claims_nodes(dev);
            }
        }
    }

    int64_t slot_width(int32_t slot) const {
        int64_t most = 0;
        for (const part & p : slots[slot]) { most = std::max(most, p.rank); }
        return most;
    }

    // ---- the graph -------------------------------------------------------------------------------------------------------------

    bool begin(const llama_ubatch & ubatch, uint32_t outputs) override {
        n_tokens  = ubatch.n_tokens;
        n_outputs = outputs;
        plans[0].clear();
        plans[1].clear();
        sets_of_rows[0].clear();
        sets_of_rows[1].clear();
        int32_t output = 0;
        for (int32_t i = 0; i < n_tokens; i++) {
            const bool wanted = ubatch.output != nullptr && ubatch.output[i] != 0;
            const int32_t set = set_of(ubatch.seq_id[i][0], ubatch.pos[i]);
            int64_t offset = 0;
            for (const member & m : sets[set]) {
                if (m.scale != 0) {
                    plans[0].add(m.slot, offset, i, m.scale);
                    if (wanted) {
                        plans[1].add(m.slot, offset, output, m.scale);
                    }
                }
                offset += slot_width(m.slot);
            }
            output += wanted;
            if (on_device) {
                sets_of_rows[0].push_back(&sets[set]);
                if (wanted) {
                    sets_of_rows[1].push_back(&sets[set]);
                }
            }
        }
        now.active = plans[0].n_groups > 0;
        if (on_device) {
            device.begin(n_tokens, n_outputs, now.stack);
            tokens.assign(n_tokens, 0);
            if (ubatch.token != nullptr) {
                std::copy_n(ubatch.token, n_tokens, tokens.begin());
            }
        }
        const bool changed = now != last;
        last = now;
        return changed;
    }

    int32_t set_of(llama_seq_id seq, llama_pos pos) const {
        int32_t set = 0;
        for (const span & s : spans[seq]) {
            if (s.from > pos) {
                break;
            }
            set = s.set;
        }
        return set;
    }

    ggml_tensor * mul_mat(ggml_context * g, ggml_tensor * w, ggml_tensor * x, ggml_tensor * experts, ggml_tensor * y) override {
        if (recording) {
            record(w, false, experts, y);
            return y;
        }
        return adapted(g, w, x, experts, y);
    }

    ggml_tensor * get_rows(ggml_context * g, ggml_tensor * w, ggml_tensor * tokens, ggml_tensor * y) override {
        if (recording) {
            record(w, true, nullptr, y);
            return y;
        }
        return adapted(g, w, tokens, nullptr, y);
    }

    void built(llm_graph_result &, uint32_t, const graph_builder &) override { device.built(); }

    void inputs() override { device.fill(sets_of_rows, tokens, slot_scales); }

    // The dry run has a number of tokens that no other dimension has by chance.
    static constexpr int64_t DRY_TOKENS = 7, DRY_OUTPUTS = 3;

    void record(const ggml_tensor * w, bool embedding, const ggml_tensor * experts, const ggml_tensor * y) {
        const std::string name = ggml_get_name(w);
        int32_t i = find(name, embedding);
        const int64_t rows = ggml_nrows(y);
        int64_t k = 0;
        if (y->ne[3] == 1 && (y->ne[1] == DRY_TOKENS || y->ne[1] == DRY_OUTPUTS) && y->ne[2] == 1) {
            k = 1;
        } else if (y->ne[3] == 1 && (y->ne[2] == DRY_TOKENS || y->ne[2] == DRY_OUTPUTS)) {
            k = rows / y->ne[2];
        }
        if (i < 0) {
            i = (int32_t) targets.size();
            targets.emplace_back();
            targets[i].name = name;
            targets[i].embedding = embedding;
            targets[i].k = k;
            ggml_backend_buffer_type_t home = w->ne[2] == 1 || experts != nullptr ? device_bank::home(w, operations) : nullptr;
            if (home != nullptr) {
                targets[i].device = std::make_unique<device_bank>(home, w, embedding, experts != nullptr);
                on_device = true;
            }
            by_name[embedding][name] = i;
        }
        targets[i].bad |= k == 0 || k != targets[i].k || y->type != GGML_TYPE_F32;
        by_tensor[embedding][w] = i;
    }

    int32_t find(const std::string & name, bool embedding) const {
        const auto found = by_name[embedding].find(name);
        return found == by_name[embedding].end() ? -1 : found->second;
    }

    ggml_tensor * adapted(ggml_context * g, ggml_tensor * w, ggml_tensor * x, ggml_tensor * experts, ggml_tensor * y) {
        if (!now.active) {
            return y;
        }
        const bool embedding = x->type == GGML_TYPE_I32;
        const auto known = by_tensor[embedding].find(w);
        if (known == by_tensor[embedding].end() || !targets[known->second].used) {
            return y;
        }
        target & t = targets[known->second];
        const int64_t tokens = ggml_nrows(y) / t.k;
        if (tokens * t.k != ggml_nrows(y) || (tokens != n_tokens && tokens != n_outputs)) {
            throw std::runtime_error("adapters can't act on '" + t.name + "': a product of " + std::to_string(ggml_nrows(y)) + " rows for " +
                                     std::to_string(n_tokens) + " tokens and " + std::to_string(n_outputs) + " outputs");
        }
        if (t.device != nullptr) {
            return tokens == 0 ? y : t.device->adapt(g, device, x, experts, y, tokens != n_tokens, t.k);
        }
        place * p = &t.places[tokens == n_tokens ? 0 : 1];
        ggml_tensor * down_args[] = { x, experts };
        ggml_tensor * h = ggml_custom_4d(g, GGML_TYPE_F32, now.width, y->ne[1], y->ne[2], 1, down_args, experts != nullptr ? 2 : 1,
                                         embedding ? lookup : down, GGML_N_TASKS_MAX, p);
        if (in_place) {
            ggml_tensor * up_args[] = { h, experts };
            return ggml_custom_inplace(g, y, up_args, experts != nullptr ? 2 : 1, up, GGML_N_TASKS_MAX, p);
        }
        ggml_tensor * up_args[] = { y, h, experts };
        return ggml_custom_4d(g, GGML_TYPE_F32, y->ne[0], y->ne[1], y->ne[2], y->ne[3], up_args, experts != nullptr ? 3 : 2, up,
                              GGML_N_TASKS_MAX, p);
    }

    // Brings an adapter's parts to the devices.
    void upload(int32_t slot, const std::vector<part> & parts) {
        if (slot >= DEVICE_SLOTS) {
            throw std::runtime_error("more than " + std::to_string(DEVICE_SLOTS) + " adapters are resident; a device holds no more");
        }
        llama_synchronize(ctx); // the last graph may still read what is written or freed here
        slots_there = std::max(slots_there, power_of_2(slot + 1));
        slot_scales.resize(slots_there, 1);
        slot_scales[slot] = 1;
        for (const part & p : parts) {
            if (p.rank > 0 && p.scale != 0) {
                slot_scales[slot] = p.scale;
                break;
            }
        }
        for (size_t i = 0; i < targets.size(); i++) {
            device_bank * there = targets[i].device.get();
            if (there == nullptr || (there->empty() && parts[i].rank == 0)) {
                continue;
            }
            now.moves += there->reserve(slots_there, parts[i]);
            if (parts[i].rank > 0) {
                there->put(slot, parts[i], slot_scales[slot]);
            } else {
                there->clear(slot);
            }
        }
    }

    // ---- what the nodes do, on every thread of the pool -----------------------------------------------------------------------------

    const part & part_of(const group & g, const place & p) const { return slots[g.slot][p.target]; }

    static int32_t expert_of(const ggml_tensor * experts, int64_t row) {
        return experts == nullptr ? 0 : *(const int32_t *) ((const char *) experts->data + (row % experts->ne[0]) * experts->nb[0] +
                                                            (row / experts->ne[0]) * experts->nb[1]);
    }

    // h = s A x
    static void down(ggml_tensor * h, int ith, int nth, void * data) {
        const place & p = *(const place *) data;
        const bank & b = *p.owner;
        const ggml_tensor * x = h->src[0], * experts = h->src[1];
        const lora_kernels & kernels = lora_kernels_of_this_machine();
        const rows_of from(x), to(h);
        const int64_t k = b.targets[p.target].k;
        const bool shared = ggml_nrows(x) < ggml_nrows(h); // one row of x for all experts of a token
        const plan & plan = b.plans[p.outputs];
        int64_t unit = 0;
        for (size_t i = 0; i < plan.n_groups; i++) {
            const group & g = plan.groups[i];
            const part & w = b.part_of(g, p);
            if (w.rank == 0) {
                continue;
            }
            const int64_t n = (int64_t) g.tokens.size() * k;
            const int64_t block = experts != nullptr ? 1 : BLOCK_ROWS;
            const int64_t blocks = (n + block - 1) / block;
            const int64_t ranks = blocks >= 4 * nth ? w.rank : 4; // of a unit
            for (int64_t first = 0; first < n; first += block) {
                for (int64_t r = 0; r < w.rank; r += ranks) {
                    if (unit++ % nth != ith) {
                        continue;
                    }
                    const float * xs[BLOCK_ROWS];
                    float * hs[BLOCK_ROWS];
                    float scales[BLOCK_ROWS];
                    const int64_t count = std::min(block, n - first);
                    int64_t row = 0;
                    for (int64_t j = 0; j < count; j++) {
                        row = g.tokens[(first + j) / k] * k + (first + j) % k;
                        xs[j] = from[shared ? row / k : row];
                        hs[j] = to[row] + g.offset;
                        scales[j] = g.scales[(first + j) / k] * w.scale;
                    }
                    kernels.down(w.a_of(expert_of(experts, row)), r, std::min(r + ranks, w.rank), xs, hs, scales, count);
                }
            }
        }
    }

    // h = s times the row of A that belongs to the token
    static void lookup(ggml_tensor * h, int ith, int nth, void * data) {
        const place & p = *(const place *) data;
        const bank & b = *p.owner;
        const int32_t * tokens = (const int32_t *) h->src[0]->data;
        const rows_of to(h);
        const plan & plan = b.plans[p.outputs];
        int64_t unit = 0;
        for (size_t i = 0; i < plan.n_groups; i++) {
            const group & g = plan.groups[i];
            const part & w = b.part_of(g, p);
            if (w.rank == 0) {
                continue;
            }
            for (size_t j = 0; j < g.tokens.size(); j++) {
                if (unit++ % nth != ith) {
                    continue;
                }
                float * row = to[g.tokens[j]] + g.offset;
                to_floats(w.a, tokens[g.tokens[j]], w.rank, row);
                for (int64_t r = 0; r < w.rank; r++) { row[r] *= g.scales[j] * w.scale; }
            }
        }
    }

    // y += B h
    static void up(ggml_tensor * dst, int ith, int nth, void * data) {
        constexpr int64_t BLOCK = 64;
        const place & p = *(const place *) data;
        const bank & b = *p.owner;
        const ggml_tensor * y = dst->src[0], * hidden = dst->src[1], * experts = dst->src[2];
        const lora_kernels & kernels = lora_kernels_of_this_machine();
        const rows_of from(hidden), to(dst);
        const int64_t k = b.targets[p.target].k;
        const int64_t step = (dst->ne[0] + nth - 1) / nth;
        const int64_t o0 = std::min(dst->ne[0], (step + 255) / 256 * 256 * ith);
        const int64_t o1 = ith == nth - 1 ? dst->ne[0] : std::min(dst->ne[0], (step + 255) / 256 * 256 * (ith + 1));
        if (o0 >= o1) {
            return;
        }
        if (dst->data != y->data) {
            const rows_of before(y);
            for (int64_t row = 0; row < ggml_nrows(dst); row++) { memcpy(to[row] + o0, before[row] + o0, (o1 - o0) * sizeof(float)); }
        }
        const plan & plan = b.plans[p.outputs];
        for (size_t i = 0; i < plan.n_groups; i++) {
            const group & g = plan.groups[i];
            const part & w = b.part_of(g, p);
            if (w.rank == 0) {
                continue;
            }
            const int64_t n = (int64_t) g.tokens.size() * k;
            const int64_t block = experts != nullptr ? 1 : BLOCK;
            for (int64_t first = 0; first < n; first += block) {
                const float * hs[BLOCK];
                float * ys[BLOCK];
                const int64_t count = std::min(block, n - first);
                int64_t row = 0;
                for (int64_t j = 0; j < count; j++) {
                    row = g.tokens[(first + j) / k] * k + (first + j) % k;
                    hs[j] = from[row] + g.offset;
                    ys[j] = to[row];
                }
                kernels.up(w.b_of(expert_of(experts, row)), w.rank, hs, ys, count, o0, o1);
            }
        }
    }
};

bank & of(pl_adapters * adapters) { return *reinterpret_cast<bank *>(adapters); }

lora_matrix matrix(const void * data, int32_t type, int64_t columns) {
    return { data, ggml_row_size((ggml_type) type, columns), columns, type, ggml_get_type_traits((ggml_type) type)->to_float };
}

// ---- reading files ------------------------------------------------------------------------------------------------------------------

template <typename T, typename F> int64_t first_not_finite(const T * x, int64_t n, F && special) {
    constexpr int64_t BLOCK = 4096;
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t to = std::min(n, from + BLOCK);
        bool any = false;
        for (int64_t i = from; i < to; i++) { any |= special(x[i]); }
        for (int64_t i = from; any && i < to; i++) {
            if (special(x[i])) { return i; }
        }
    }
    return -1;
}

bool not_finite_f32(uint32_t x) { return (x & 0x7f800000u) == 0x7f800000u; }
bool not_finite_f16(uint16_t x) { return (x & 0x7c00u) == 0x7c00u; }
bool not_finite_bf16(uint16_t x) { return (x & 0x7f80u) == 0x7f80u; }

int64_t first_not_finite(const void * data, int32_t type, int64_t columns, int64_t rows) {
    const int64_t n = columns * rows;
    switch (type) {
        case GGML_TYPE_F32:  return first_not_finite((const uint32_t *) data, n, not_finite_f32);
        case GGML_TYPE_F16:  return first_not_finite((const uint16_t *) data, n, not_finite_f16);
        case GGML_TYPE_BF16: return first_not_finite((const uint16_t *) data, n, not_finite_bf16);
        default: break;
    }
    const lora_matrix m = matrix(data, type, columns);
    std::vector<float> row(columns);
    for (int64_t r = 0; r < rows; r++) {
        to_floats(m, r, columns, row.data());
        const int64_t i = first_not_finite((const uint32_t *) row.data(), columns, not_finite_f32);
        if (i >= 0) { return r * columns + i; }
    }
    return -1;
}

template <typename T> void transpose(const T * src, int64_t columns, int64_t rows, T * dst) {
    constexpr int64_t BLOCK = 32;
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        for (int64_t c = 0; c < columns; c++) {
            for (int64_t r = r0, r1 = std::min(rows, r0 + BLOCK); r < r1; r++) { dst[c * rows + r] = src[r * columns + c]; }
        }
    }
}

} // namespace

graph_hook * hook_of(pl_adapters * adapters) { return adapters == nullptr ? nullptr : &of(adapters); }

} // namespace pl

extern "C" {

pl_adapters * pl_adapters_new(llama_context * ctx, int32_t operations, pl_error * err) {
    return pl::guard<pl_adapters *>(err, nullptr, [&]() -> pl_adapters * {
        auto fresh = std::make_unique<pl::bank>(ctx, operations != 0);
        {
            const pl::hooked scope(fresh.get());
            if (llama_graph_reserve(ctx, pl::bank::DRY_TOKENS, 1, pl::bank::DRY_OUTPUTS) == nullptr) {
                throw std::runtime_error("the graph can't be planned: " + pl::logged());
            }
        }
        fresh->recording = false;
        for (size_t i = 0; i < fresh->targets.size(); i++) {
            for (int outputs = 0; outputs < 2; outputs++) {
                fresh->targets[i].places[outputs] = { fresh.get(), (int32_t) i, outputs == 1 };
            }
        }
        return reinterpret_cast<pl_adapters *>(fresh.release());
    });
}

void pl_adapters_free(pl_adapters * adapters) {
    pl_error ignored;
    pl::guard_void(&ignored, [&] {
        const pl::letting_go scope; // the device may be lost
        if (adapters != nullptr && pl::of(adapters).on_device) {
            llama_synchronize(pl::of(adapters).ctx); // a graph may still read the matrices
        }
        delete reinterpret_cast<pl::bank *>(adapters);
    });
}

int32_t pl_adapters_put(pl_adapters * adapters, int32_t slot, const pl_adapter_part * parts, int32_t n_parts, pl_error * err) {
    return pl::guard_void(err, [&] {
        auto & bank = pl::of(adapters);
        std::vector<pl::part> fresh(bank.targets.size());
        std::vector<int32_t> touched;
        for (int32_t i = 0; i < n_parts; i++) {
            const pl_adapter_part & p = parts[i];
            const int32_t t = bank.find(p.tensor, p.embedding != 0);
            if (t < 0 || bank.targets[t].bad) {
                throw std::runtime_error(std::string("the graph of this model can't apply adapters to '") + p.tensor + "'");
            }
            fresh[t].a = pl::matrix(p.a, p.a_type, p.embedding ? p.rank : p.inputs);
            fresh[t].b = pl::matrix(p.b, p.b_type, p.outputs);
            fresh[t].rank = p.rank;
            fresh[t].experts = p.experts;
            fresh[t].scale = p.scale;
            touched.push_back(t);
        }
        if (bank.on_device) {
            bank.upload(slot, fresh);
        }
        if ((size_t) slot >= bank.slots.size()) {
            bank.slots.resize(slot + 1);
        }
        bank.slots[slot] = std::move(fresh);
        for (int32_t t : touched) {
            bank.now.targets += !bank.targets[t].used;
            bank.targets[t].used = true;
        }
    });
}

int32_t pl_adapters_define(pl_adapters * adapters, int32_t set, const int32_t * slots, const float * scales, int32_t n, pl_error * err) {
    return pl::guard_void(err, [&] {
        auto & bank = pl::of(adapters);
        if (bank.on_device && n > pl::DEVICE_STACK) {
            throw std::runtime_error(std::to_string(n) + " adapters in one set; on a device at most " + std::to_string(pl::DEVICE_STACK) +
                                     " act together");
        }
        if ((size_t) set >= bank.sets.size()) {
            bank.sets.resize(set + 1);
        }
        auto & members = bank.sets[set];
        members.clear();
        int64_t width = 0;
        for (int32_t i = 0; i < n; i++) {
            members.push_back({ slots[i], scales[i] });
            width += bank.slot_width(slots[i]);
        }
        bank.now.width = std::max(bank.now.width, (width + 15) / 16 * 16);
        if (bank.on_device) {
            bank.now.stack = std::max(bank.now.stack, pl::power_of_2(n));
        }
    });
}

int32_t pl_adapters_assign(pl_adapters * adapters, llama_seq_id seq, const llama_pos * from, const int32_t * sets, int32_t n, pl_error * err) {
    return pl::guard_void(err, [&] {
        auto & spans = pl::of(adapters).spans.at(seq);
        spans.clear();
        for (int32_t i = 0; i < n; i++) { spans.push_back({ from[i], sets[i] }); }
    });
}

int64_t pl_weights_first_not_finite(const void * data, int32_t type, int64_t columns, int64_t rows, pl_error * err) {
    return pl::guard<int64_t>(err, -1, [&] { return pl::first_not_finite(data, type, columns, rows); });
}

int32_t pl_weights_to_f16(const void * src, int32_t type, int64_t columns, int64_t rows, void * dst, pl_error * err) {
    return pl::guard_void(err, [&] {
        const pl::lora_matrix m = pl::matrix(src, type, columns);
        std::vector<float> row(columns);
        for (int64_t r = 0; r < rows; r++) {
            pl::to_floats(m, r, columns, row.data());
            ggml_fp32_to_fp16_row(row.data(), (ggml_fp16_t *) dst + r * columns, columns);
        }
    });
}

int32_t pl_weights_transpose(const void * src, int32_t type, int64_t columns, int64_t rows, void * dst, pl_error * err) {
    return pl::guard_void(err, [&] {
        switch (ggml_type_size((ggml_type) type) * 8 / ggml_blck_size((ggml_type) type)) {
            case 32: pl::transpose((const uint32_t *) src, columns, rows, (uint32_t *) dst); break;
            case 16: pl::transpose((const uint16_t *) src, columns, rows, (uint16_t *) dst); break;
            default: throw std::runtime_error(std::string("no element of ") + ggml_type_name((ggml_type) type) + " stands alone");
        }
    });
}

} // extern "C"
