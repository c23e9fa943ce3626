// Layer plans and taps: which blocks of a model run, and what is read of them while they do.
//
// Upstream builds its graph as always; then, before anything has memory, it is rewritten. Blocks are found by the names that most
// architectures give to the output of each (l_out-<i>): who reads the output of a block that is left out reads its input instead, and its
// stores into the cache, which nothing in the graph depends on, are dropped. A block that runs again is a copy of its nodes with the
// output as its input and a spare layer in place of its part of the cache. Every other node stays, in its old order.
//
// The last block of most models goes on with those tokens only whose logits are wanted (get_rows by out_ids). Where it runs again, its own
// nodes are its last run, and copies before them are the earlier ones, over all tokens. What shapes their nodes have then, upstream says:
// it builds the graph once more as if all logits were wanted.
//
// A tap is one more node behind what it looks at, a custom operation of the CPU, which writes what it saw straight into memory of ours.
// Every node is a barrier for all threads, so that norms are measured for some blocks at a time.
#include "guard.hpp"
#include "hooked.hpp"
#include "threads.hpp"

#include "llama-batch.h"
#include "llama-ext.h"
#include "llama-graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace pl {
namespace {

// What a plan says of a block: how often it runs, or one of these.
enum action : int8_t { SKIP = 0, RUN = 1, KEYS_AND_VALUES = -1, ATTENTION = -2, FEED_FORWARD = -3 };

using plan = std::vector<int8_t>; // [n_layer]; empty: every block once

struct taps {
    bool                     norms = false;
    std::vector<int32_t>     hidden;  // blocks; -1: the embedding
    std::vector<std::string> weights; // whose inputs are copied

    bool any() const { return norms || !hidden.empty() || !weights.empty(); }
    bool operator==(const taps & o) const { return norms == o.norms && hidden == o.hidden && weights == o.weights; }
};

[[noreturn]] void refuse(const std::string & why) { throw std::runtime_error(why); }

std::string block_name(uint32_t i) { return "block " + std::to_string(i); }

bool starts_with(const char * text, const std::string & prefix) { return strncmp(text, prefix.c_str(), prefix.size()) == 0; }

const ggml_tensor * root_of(const ggml_tensor * t) { return t->view_src != nullptr ? t->view_src : t; }

bool is_cache(const ggml_tensor * t) { return t->op == GGML_OP_NONE && starts_with(t->name, "cache_"); }

// Nodes that write into the cache.
bool is_store(const ggml_tensor * t) { return (t->op == GGML_OP_SET_ROWS || t->op == GGML_OP_CPY) && is_cache(root_of(t)); }

// Values of taps, of one batch. Rows that were not computed are NaN.
struct readings {
    struct norm { float norm, difference, cosine; };

    uint32_t                        n_layer = 0;
    int64_t                         n_tokens = 0;
    std::vector<norm>               norms;    // [n_tokens][1 + n_layer], the embedding first
    std::vector<std::vector<float>> vectors;  // [hidden blocks, then weights][n_tokens * width]
    std::vector<int64_t>            widths;   // 0: not in the graph

    // Of a weight of experts the width is that of all its inputs: one that all experts of a token see, or one for each.
    struct choice {
        int64_t              used = 0, experts = 0; // by a token, of the weight; 0: no experts
        std::vector<int32_t> chosen;                // [n_tokens * used]
    };
    std::vector<choice> choices; // as vectors

    norm & at(int64_t token, int64_t layer) { return norms[token * (n_layer + 1) + layer + 1]; }
};

struct layers;

// Where a tap's node puts a vector.
struct place {
    layers * owner;
    int32_t  index; // of the vectors
};

// What a node measures.
struct measured {
    static constexpr size_t BLOCKS = 4; // more would keep the outputs of many blocks in memory, which matters with long prompts

    struct block {
        int32_t index;
        int     in, out; // sources of the node
        bool    first;   // the input is the embedding
    };

    layers *           owner;
    std::vector<block> blocks;
};

struct layers final : graph_hook {
    llama_context * const                 ctx;
    const uint32_t                        n_layer;
    const std::vector<spare_layers::cache> spares;

    plan wanted, built_plan;
    taps tapped, built_taps;
    bool stale = false; // the graph's nodes of taps point to what is no more
    bool again = false; // a graph is built for its shapes alone
    std::unique_ptr<llm_graph_result> of_all_tokens; // that graph

    // of the ubatch that is evaluated
    int64_t              first_token = 0; // of the batch
    int64_t              next_token  = 0;
    std::vector<int32_t> outputs;         // tokens of the ubatch whose logits are wanted

    readings                                  seen;
    std::deque<measured>                      norm_places;   // of the graph that was built last
    std::vector<place>                        vector_places; // as readings::vectors
    std::unordered_map<std::string, ggml_tensor *> inputs_of;  // weight: what it is multiplied by in the graph that is built
    std::unordered_set<std::string>           several;       // weights that are multiplied by several

    explicit layers(llama_context * ctx)
        : ctx(ctx), n_layer(llama_model_n_layer(llama_get_model(ctx))), spares(spare_layers_of(ctx)) {}

    void start(int64_t n_tokens) {
        first_token = next_token = 0;
        if (!tapped.any()) {
            return;
        }
        seen.n_layer = n_layer;
        seen.n_tokens = n_tokens;
        if (tapped.norms) {
            seen.norms.assign(n_tokens * (n_layer + 1), { NAN, NAN, NAN });
        }
        for (size_t i = 0; i < seen.vectors.size(); i++) {
            seen.vectors[i].assign(n_tokens * seen.widths[i], NAN);
            seen.choices[i].chosen.assign(n_tokens * seen.choices[i].used, -1);
        }
    }

    // ---- the graph -------------------------------------------------------------------------------------------------------------

    bool begin(const llama_ubatch & ubatch, uint32_t) override {
        first_token = next_token;
        next_token += ubatch.n_tokens;
        outputs.clear();
        for (uint32_t i = 0; tapped.any() && i < ubatch.n_tokens; i++) {
            if (ubatch.output != nullptr && ubatch.output[i] != 0) { outputs.push_back(i); }
        }
        const bool changed = stale || !(wanted == built_plan) || !(tapped == built_taps);
        built_plan = wanted;
        built_taps = tapped;
        stale = false;
        return changed;
    }

    ggml_tensor * mul_mat(ggml_context *, ggml_tensor * w, ggml_tensor * x, ggml_tensor *, ggml_tensor * y) override {
        if (!tapped.weights.empty() && !again) {
            const auto [known, fresh] = inputs_of.emplace(w->name, x);
            if (!fresh && known->second != x) { several.insert(w->name); }
        }
        return y;
    }

    void built(llm_graph_result & graph, uint32_t, const graph_builder & builder) override {
        if (!wanted.empty() || tapped.any()) {
            stale = true; // until it is complete: what was refused half-way is not evaluated next time
            rewriting(*this, graph, builder).run();
            stale = false;
        }
        inputs_of.clear();
        several.clear();
    }

    class rewriting {
    public:
        rewriting(layers & owner, llm_graph_result & graph, const graph_builder & builder)
            : owner(owner), ctx(graph.get_ctx()), gf(graph.get_gf()), builder(builder), n_layer(owner.n_layer),
              what(owner.wanted.empty() ? plan(owner.n_layer, RUN) : owner.wanted) {
            for (int i = 0; i < ggml_graph_n_nodes(gf); i++) {
                nodes.push_back(ggml_graph_node(gf, i));
                position[nodes.back()] = i;
            }
        }

        void run() {
            find_blocks();
            decide();
            mark();
            check();
            emit();
        }

    private:
        struct block {
            ggml_tensor * in = nullptr, * middle = nullptr, * out = nullptr; // middle: between attention and feed-forward part
            int           from = 0, to = 0;                                   // nodes of the block: from < position <= to
        };

        layers &                                              owner;
        ggml_context * const                                  ctx;
        ggml_cgraph * const                                   gf;
        const graph_builder &                                 builder;
        const uint32_t                                        n_layer;
        const plan                                            what;
        std::vector<ggml_tensor *>                            nodes;
        std::unordered_map<const ggml_tensor *, int>          position;
        std::vector<block>                                    blocks;
        std::unordered_map<const ggml_tensor *, ggml_tensor *> instead; // who is read in place of whom
        std::vector<bool>                                     dropped;  // stores that are not kept, by position
        std::unordered_set<const ggml_tensor *>               live;
        ggml_tensor *                                         out_ids = nullptr;
        std::unordered_set<const ggml_tensor *>               selections; // rows of a tensor, made here
        std::vector<ggml_tensor *>                            to_measure; // sources of the node that measures norms_of
        std::vector<measured::block>                          norms_of;
        std::unordered_map<std::string, size_t>               copied; // weights whose inputs are yet to be copied, and where to

        // The nodes of each block lie between the outputs of the one before and its own: whatever a block stores depends on its input.
        void find_blocks() {
            blocks.resize(n_layer);
            for (int i = 0; i < (int) nodes.size(); i++) {
                uint32_t b = 0;
                if (sscanf(nodes[i]->name, "l_out-%u", &b) == 1 && b < n_layer) {
                    blocks[b].out = nodes[i];
                    blocks[b].to = i;
                } else if ((sscanf(nodes[i]->name, "ffn_inp-%u", &b) == 1 || sscanf(nodes[i]->name, "sa_out-%u", &b) == 1) && b < n_layer) {
                    blocks[b].middle = nodes[i];
                }
                for (ggml_tensor * s : nodes[i]->src) {
                    if (s != nullptr && strcmp(s->name, "out_ids") == 0) { out_ids = s; }
                }
            }
            for (uint32_t b = 0; b < n_layer; b++) {
                if (blocks[b].out == nullptr) {
                    refuse("the graph of this architecture does not name the output of " + block_name(b) + ", so that no plan or tap can find it");
                }
                blocks[b].in = b == 0 ? embedding() : blocks[b - 1].out;
                blocks[b].from = position.at(blocks[b].in);
                if (blocks[b].from >= blocks[b].to) {
                    refuse("the blocks of this architecture do not follow one another in its graph");
                }
            }
        }

        // The input of block 0: the last tensor of the right width before its first weight that both its norm and its residual read.
        ggml_tensor * embedding() const {
            int first_weight = blocks[0].to;
            for (int i = 0; i < first_weight; i++) {
                for (const ggml_tensor * s : nodes[i]->src) {
                    if (s != nullptr && starts_with(s->name, "blk.0.")) { first_weight = i; break; }
                }
            }
            for (int i = first_weight - 1; i >= 0; i--) {
                if (nodes[i]->ne[0] != blocks[0].out->ne[0] || nodes[i]->type != GGML_TYPE_F32) {
                    continue;
                }
                int readers = 0;
                for (int j = i + 1; j <= blocks[0].to; j++) {
                    for (const ggml_tensor * s : nodes[j]->src) { readers += s == nodes[i]; }
                }
                if (readers >= 2) {
                    return nodes[i];
                }
            }
            refuse("the input of block 0 was not found in the graph of this architecture");
        }

        bool reads(const ggml_tensor * t, const ggml_tensor * source) const {
            for (const ggml_tensor * s : t->src) {
                if (s == source || (s != nullptr && s->op == GGML_OP_GET_ROWS && s->src[0] == source && s->src[1] == out_ids)) { return true; }
            }
            return false;
        }

        void need_middle(uint32_t b) const {
            const block & k = blocks[b];
            bool parts = k.middle != nullptr && k.middle->op == GGML_OP_ADD && reads(k.middle, k.in) && reads(k.out, k.middle);
            if (parts) {
                for (int i = position.at(k.middle) + 1; i <= k.to; i++) { parts &= !reads(nodes[i], k.in); }
            }
            if (!parts) {
                refuse("attention and feed-forward part of " + block_name(b) + " can't be told apart in the graph of this architecture; "
                       "it can be skipped as a whole");
            }
        }

        // Whether tokens are dropped in a block; with one token they may look all alike.
        bool selects(const block & k) const {
            for (int i = k.from + 1; i <= k.to; i++) {
                for (const ggml_tensor * s : nodes[i]->src) {
                    if (s != nullptr && s == out_ids) { return true; }
                }
            }
            return false;
        }

        void decide() {
            dropped.resize(nodes.size());
            size_t again = 0;
            for (uint32_t b = 0; b < n_layer; b++) {
                const block & k = blocks[b];
                switch (what[b]) {
                    case RUN: continue;
                    case SKIP:
                    case KEYS_AND_VALUES: instead[k.out] = rows_like(k.in, k.out); break;
                    case ATTENTION:       need_middle(b); instead[k.out] = k.middle; break;
                    case FEED_FORWARD:    need_middle(b); instead[k.middle] = rows_like(k.in, k.middle); break;
                    default:
                        again += what[b] - 1;
                        continue;
                }
                for (int i = k.from + 1; i <= k.to; i++) {
                    const bool part_of_ffn = what[b] == FEED_FORWARD || what[b] == SKIP;
                    dropped[i] = is_store(nodes[i]) && part_of_ffn;
                }
            }
            const size_t spares = owner.spares.empty() ? 0 : owner.spares.front().spares.size(); // in each
            if (again > spares) {
                refuse("the plan repeats blocks " + std::to_string(again) + " times, and the cache has " + std::to_string(spares) +
                       " spare layers");
            }
        }

        // The last block of most models goes on with those tokens only whose logits are wanted.
        ggml_tensor * rows_like(ggml_tensor * t, const ggml_tensor * like) {
            t = resolve(t);
            if (t->ne[1] == like->ne[1] || out_ids == nullptr) {
                return t;
            }
            ggml_tensor * rows = ggml_get_rows(ctx, t, out_ids);
            selections.insert(rows);
            return rows;
        }

        ggml_tensor * resolve(ggml_tensor * t) const {
            for (auto found = instead.find(t); found != instead.end(); found = instead.find(t)) { t = found->second; }
            return t;
        }

        // The same while nodes are emitted, when blocks that run again have changed what is read.
        ggml_tensor * resolve_now(ggml_tensor * t) const {
            t = resolve(t);
            if (selections.count(t) != 0) { t->src[0] = resolve(t->src[0]); }
            return t;
        }

        // Roots are what nobody reads: results and stores.
        void mark() {
            std::unordered_set<const ggml_tensor *> read;
            for (ggml_tensor * n : nodes) {
                for (const ggml_tensor * s : n->src) { read.insert(s); }
            }
            std::vector<ggml_tensor *> stack;
            for (size_t i = 0; i < nodes.size(); i++) {
                if (read.count(nodes[i]) == 0 && !dropped[i] && !in_skipped(i)) { stack.push_back(resolve(nodes[i])); }
            }
            while (!stack.empty()) {
                ggml_tensor * t = stack.back();
                stack.pop_back();
                if (!live.insert(t).second) {
                    continue;
                }
                for (ggml_tensor * s : t->src) {
                    if (s != nullptr) { stack.push_back(resolve(s)); }
                }
                if (t->view_src != nullptr) { stack.push_back(resolve(t->view_src)); }
            }
        }

        // Something that nobody reads in a block that is left out, and that is no store which the plan keeps.
        bool in_skipped(int i) const {
            for (uint32_t b = 0; b < n_layer; b++) {
                if ((what[b] == SKIP || what[b] == KEYS_AND_VALUES) && i > blocks[b].from && i <= blocks[b].to) {
                    return what[b] == SKIP || !is_store(nodes[i]);
                }
            }
            return false;
        }

        // What is left out must be gone altogether: an architecture whose blocks are wired otherwise is refused, not evaluated wrongly.
        void check() const {
            std::unordered_set<const ggml_tensor *> gone;
            for (size_t i = 0; i < nodes.size(); i++) {
                if (dropped[i]) { gone.insert(root_of(nodes[i])); }
            }
            for (const ggml_tensor * t : nodes) {
                if (live.count(t) == 0) {
                    continue;
                }
                for (const ggml_tensor * s : t->src) {
                    uint32_t b = 0;
                    int at = 0;
                    if (s == nullptr || s->op != GGML_OP_NONE || sscanf(s->name, "blk.%u.%n", &b, &at) != 1 || b >= n_layer) {
                        continue;
                    }
                    const bool ffn = starts_with(s->name + at, "ffn_");
                    const bool attention = starts_with(s->name + at, "attn_");
                    if (what[b] == SKIP || (what[b] == KEYS_AND_VALUES && ffn) || (what[b] == ATTENTION && ffn) ||
                        (what[b] == FEED_FORWARD && attention)) {
                        refuse(block_name(b) + " of this architecture can't be left out: '" + s->name + "' is used all the same");
                    }
                }
                if (t->view_src != nullptr && gone.count(t->view_src) != 0) {
                    refuse("other blocks of this architecture read keys and values of one that is left out");
                }
            }
        }

        void emit() {
            std::vector<ggml_tensor *> inputs;
            std::unordered_set<const ggml_tensor *> known;
            for (ggml_tensor * n : nodes) {
                for (ggml_tensor * s : n->src) {
                    if (s != nullptr && s->op == GGML_OP_NONE && (s->flags & GGML_TENSOR_FLAG_INPUT) != 0 && known.insert(s).second) {
                        inputs.push_back(s);
                    }
                }
            }
            std::unordered_map<const ggml_tensor *, std::vector<uint32_t>> ends; // blocks by their last node
            for (uint32_t b = 0; b < n_layer; b++) { ends[blocks[b].out].push_back(b); }
            copied = taps_of_inputs();

            ggml_graph_clear(gf);
            owner.norm_places.clear();
            size_t spare = 0;
            for (uint32_t b = 0, i = 0; i < nodes.size(); i++) {
                while (b < n_layer && blocks[b].from < (int) i) {
                    if (what[b] > RUN && selects(blocks[b])) { spare = before(b, spare); }
                    b++;
                }
                ggml_tensor * n = nodes[i];
                if (live.count(n) != 0) {
                    place(n);
                    copy_input(n);
                }
                const auto found = ends.find(n);
                if (found != ends.end()) {
                    for (uint32_t e : found->second) {
                        if (what[e] > RUN && !selects(blocks[e])) { spare = behind(e, spare); }
                        tap(e);
                    }
                }
            }
            measure_pending();
            for (ggml_tensor * s : inputs) { ggml_build_forward_expand(gf, s); } // to be set, they must have memory
        }

        void place(ggml_tensor * n) {
            for (ggml_tensor *& s : n->src) {
                if (s != nullptr) { s = resolve_now(s); }
            }
            if (n->view_src != nullptr) { n->view_src = resolve_now(n->view_src); }
            expand(n);
        }

        void expand(ggml_tensor * n) {
            if ((n->flags & GGML_TENSOR_FLAG_COMPUTE) != 0) {
                ggml_build_forward_expand(gf, n);
            } else {
                ggml_build_forward_order(gf, n);
            }
        }

        // More runs of a block that has just been emitted. The next spare layer.
        size_t behind(uint32_t b, size_t spare) {
            ggml_tensor * const in = resolve(blocks[b].in), * const out = resolve(blocks[b].out);
            ggml_tensor * last = out;
            for (int r = 1; r < what[b]; r++) { last = run(b, in, last, &spare_of(b, spare++), nodes); }
            instead[out] = last;
            return spare;
        }

        // The runs of a block before its last one, over all tokens; its own nodes, which come next, are the last. The next spare layer.
        size_t before(uint32_t b, size_t spare) {
            const block & k = blocks[b];
            const std::vector<ggml_tensor *> shapes = over_all_tokens(b);
            ggml_tensor * last = run(b, k.in, resolve(k.in), nullptr, shapes);
            for (int r = 2; r < what[b]; r++) { last = run(b, k.in, last, &spare_of(b, spare++), shapes); }
            const spare_layers::kv & own = spare_of(b, spare++);
            for (int i = k.from + 1; i <= k.to; i++) {
                ggml_tensor * n = nodes[i];
                for (ggml_tensor *& s : n->src) {
                    if (s != nullptr) { s = s == k.in ? last : is_cache(s) ? spare_for(s, own, b) : s; }
                }
                if (n->view_src != nullptr && is_cache(n->view_src)) { n->view_src = spare_for(n->view_src, own, b); }
            }
            return spare;
        }

        // The nodes of the graph as they are when all logits are wanted, by position, for those of a block.
        std::vector<ggml_tensor *> over_all_tokens(uint32_t b) {
            const block & k = blocks[b];
            if (k.in->ne[1] == out_ids->ne[0]) {
                return nodes;
            }
            struct building {
                bool & now;
                explicit building(bool & now) : now(now) { now = true; }
                ~building() { now = false; }
            };
            {
                const building scope(owner.again);
                builder(owner.of_all_tokens, (uint32_t) k.in->ne[1]);
            }
            ggml_cgraph * other = owner.of_all_tokens->get_gf();
            std::vector<ggml_tensor *> shapes(nodes.size());
            for (int i = k.from + 1; i <= k.to; i++) {
                shapes[i] = i < ggml_graph_n_nodes(other) ? ggml_graph_node(other, i) : nullptr;
                bool same = shapes[i] != nullptr && shapes[i]->op == nodes[i]->op && shapes[i]->type == nodes[i]->type;
                for (int s = 0; same && s < GGML_MAX_SRC; s++) {
                    const ggml_tensor * mine = nodes[i]->src[s], * its = shapes[i]->src[s];
                    const bool weight = mine != nullptr && mine->op == GGML_OP_NONE && (mine->flags & GGML_TENSOR_FLAG_INPUT) == 0;
                    same = (mine == nullptr) == (its == nullptr) && (!weight || mine == its);
                }
                if (!same) {
                    refuse(block_name(b) + " can't run again: the graph of this architecture is another when all logits are wanted");
                }
            }
            return shapes;
        }

        // One more run of a block, with `input` where its nodes read `in`: copies of those that depend on it, on the block's part of the
        // cache or on which tokens are wanted, with other shapes. own: what is in place of the cache; NULL: the cache. Returns the output.
        ggml_tensor * run(uint32_t b, const ggml_tensor * in, ggml_tensor * input, const spare_layers::kv * own,
                          const std::vector<ggml_tensor *> & shapes) {
            const block & k = blocks[b];
            std::unordered_map<const ggml_tensor *, ggml_tensor *> copies { { in, input } };
            auto copy_of = [&](ggml_tensor * t) {
                const auto found = copies.find(t);
                return found != copies.end() ? found->second : resolve_now(t);
            };
            for (int i = k.from + 1; i <= k.to; i++) {
                ggml_tensor * n = nodes[i];
                if (live.count(n) == 0) {
                    continue;
                }
                for (ggml_tensor * s : n->src) {
                    if (s != nullptr && is_cache(s)) { copies.emplace(s, own == nullptr ? s : spare_for(s, *own, b)); }
                }
                bool touched = n->view_src != nullptr && copies.count(n->view_src) != 0, selection = false;
                for (ggml_tensor * s : n->src) {
                    touched |= s != nullptr && copies.count(s) != 0;
                    selection |= s != nullptr && s == out_ids;
                }
                if (!touched && !selection) {
                    place(n);
                    continue;
                }
                const ggml_tensor * like = shapes[i];
                ggml_tensor * c = selection ? ggml_cont(ctx, all_rows(b, n, copy_of(n->src[0]), like)) :
                                              ggml_new_tensor(ctx, n->type, GGML_MAX_DIMS, like->ne);
                c->flags = n->flags & ~GGML_TENSOR_FLAG_OUTPUT;
                if (!selection) {
                    memcpy(c->nb, like->nb, sizeof(c->nb));
                    memcpy(c->op_params, like->op_params, sizeof(c->op_params));
                    c->op = n->op;
                    for (int s = 0; s < GGML_MAX_SRC; s++) {
                        if (n->src[s] != nullptr) {
                            if (copies.count(n->src[s]) == 0) { need_shape(b, n->src[s], like->src[s]); }
                            c->src[s] = copy_of(n->src[s]);
                        }
                    }
                    c->view_src = n->view_src == nullptr ? nullptr : copy_of(n->view_src);
                    c->view_offs = like->view_offs;
                }
                ggml_format_name(c, "%.40s again", n->name);
                copies[n] = c;
                expand(c);
                copy_input(c);
            }
            return copies.at(k.out);
        }

        // What a run over all tokens reads in place of the rows of those that are wanted.
        ggml_tensor * all_rows(uint32_t b, const ggml_tensor * selection, ggml_tensor * x, const ggml_tensor * like) const {
            if (selection->op != GGML_OP_GET_ROWS || selection->src[1] != out_ids || x->type != like->type ||
                !ggml_are_same_shape(x, like)) {
                refuse(block_name(b) + " can't run again: which tokens' logits are wanted matters in '" + selection->name + "'");
            }
            return x;
        }

        // What comes from without the block is the same for all tokens.
        void need_shape(uint32_t b, const ggml_tensor * t, const ggml_tensor * like) const {
            if (!ggml_are_same_shape(t, like)) {
                refuse(block_name(b) + " can't run again: '" + t->name + "' is there for those tokens alone whose logits are wanted");
            }
        }

        // The block's own part of the cache is among its sources by its keys at least.
        const spare_layers::kv & spare_of(uint32_t b, size_t spare) const {
            for (int i = blocks[b].from + 1; i <= blocks[b].to; i++) {
                for (const ggml_tensor * s : nodes[i]->src) {
                    for (const auto & cache : owner.spares) {
                        if (std::find(cache.keys.begin(), cache.keys.end(), s) != cache.keys.end()) { return cache.spares[spare]; }
                    }
                }
            }
            refuse(block_name(b) + " can't run again: it keeps no keys and values of its own");
        }

        ggml_tensor * spare_for(const ggml_tensor * cache, const spare_layers::kv & spare, uint32_t b) const {
            const bool key = strstr(cache->name, "k_l") != nullptr;
            ggml_tensor * own = key ? spare.k : spare.v;
            if (own == nullptr || !ggml_are_same_shape(own, cache) || own->type != cache->type) {
                refuse(block_name(b) + " can't run again: its keys and values have another shape than the spare layers'");
            }
            return own;
        }

        // ---- taps --------------------------------------------------------------------------------------------------------------

        void tap(uint32_t b) {
            ggml_tensor * in = resolve_now(blocks[b].in), * out = resolve_now(blocks[b].out);
            if (owner.tapped.norms && in != out && selections.count(out) == 0) {
                norms_of.push_back({ (int32_t) b, source(in), source(out), in == blocks[0].in });
                if (norms_of.size() == measured::BLOCKS) { measure_pending(); }
            }
            for (size_t i = 0; i < owner.tapped.hidden.size(); i++) {
                if (owner.tapped.hidden[i] == (int32_t) b) { copy(out, i); }
                if (owner.tapped.hidden[i] == -1 && b == 0) { copy(resolve(blocks[0].in), i); }
            }
        }

        int source(ggml_tensor * t) {
            const auto found = std::find(to_measure.begin(), to_measure.end(), t);
            const int at = (int) (found - to_measure.begin());
            if (found == to_measure.end()) { to_measure.push_back(t); }
            return at;
        }

        void measure_pending() {
            static_assert(2 * measured::BLOCKS <= GGML_MAX_SRC, "a node can't have so many sources");
            if (!norms_of.empty()) {
                owner.norm_places.push_back({ &owner, std::move(norms_of) });
                ggml_build_forward_expand(gf, ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, to_measure.data(), (int) to_measure.size(),
                                                             measure, GGML_N_TASKS_MAX, &owner.norm_places.back()));
                norms_of.clear();
                to_measure.clear();
            }
        }

        // Weights whose inputs are copied, and where to.
        std::unordered_map<std::string, size_t> taps_of_inputs() const {
            std::unordered_map<std::string, size_t> copied;
            for (size_t i = 0; i < owner.tapped.weights.size(); i++) {
                const std::string & name = owner.tapped.weights[i];
                if (owner.inputs_of.count(name) == 0 || owner.several.count(name) != 0) {
                    refuse("the graph has no product of a weight '" + name + "' with one input");
                }
                copied[name] = owner.tapped.hidden.size() + i;
            }
            return copied;
        }

        // Of a weight that is in several runs, the input of the first.
        void copy_input(ggml_tensor * n) {
            if (n->op != GGML_OP_MUL_MAT && n->op != GGML_OP_MUL_MAT_ID) {
                return;
            }
            const auto tapped = copied.find(n->src[0]->name);
            if (tapped != copied.end()) {
                if (n->op == GGML_OP_MUL_MAT_ID) {
                    copy_chosen(n, tapped->second);
                } else {
                    copy(n->src[1], tapped->second);
                }
                copied.erase(tapped);
            }
        }

        void copy(ggml_tensor * t, size_t index) {
            if (t->type != GGML_TYPE_F32 || t->nb[0] != sizeof(float) || t->ne[2] != 1 || t->ne[3] != 1) {
                refuse(std::string("'") + t->name + "' is not one vector per token");
            }
            owner.seen.widths[index] = t->ne[0];
            ggml_tensor * args[] = { t };
            ggml_build_forward_expand(gf, ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, args, 1, keep, GGML_N_TASKS_MAX,
                                                         &owner.vector_places[index]));
        }

        // The product of experts [columns, rows, experts] with x [columns, 1 or used, tokens], of those that are chosen [used, tokens].
        void copy_chosen(ggml_tensor * product, size_t index) {
            ggml_tensor * w = product->src[0], * x = product->src[1], * chosen = product->src[2];
            if (x->type != GGML_TYPE_F32 || x->nb[0] != sizeof(float) || x->ne[3] != 1 || chosen->ne[1] != x->ne[2] ||
                (x->ne[1] != 1 && x->ne[1] != chosen->ne[0])) {
                refuse(std::string("'") + x->name + "' is not one vector per token, or one for each of its experts");
            }
            owner.seen.widths[index] = x->ne[0] * x->ne[1];
            owner.seen.choices[index].used = chosen->ne[0];
            owner.seen.choices[index].experts = w->ne[2];
            ggml_tensor * args[] = { x, chosen };
            ggml_build_forward_expand(gf, ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, args, 2, keep_chosen, GGML_N_TASKS_MAX,
                                                         &owner.vector_places[index]));
        }
    };

    // ---- what the nodes of taps do, on every thread of the pool --------------------------------------------------------------------

    // Which token of the ubatch a row belongs to.
    int64_t token_of(int64_t row, int64_t rows) const {
        return rows == next_token - first_token ? row : row < (int64_t) outputs.size() ? outputs[row] : -1;
    }

    static void measure(ggml_tensor * dst, int ith, int nth, void * data) {
        const measured & m = *(const measured *) data;
        int64_t rows_before = 0;
        for (const measured::block & block : m.blocks) {
            const ggml_tensor * in = dst->src[block.in], * out = dst->src[block.out];
            // the rows of all blocks are dealt out in turn, so that one token of each keeps every thread busy
            for (int64_t row = (ith + nth - rows_before % nth) % nth; row < out->ne[1]; row += nth) {
                m.owner->measure(block, in, out, row);
            }
            rows_before += out->ne[1];
        }
    }

    void measure(const measured::block & block, const ggml_tensor * in, const ggml_tensor * out, int64_t row) {
        const int64_t token = token_of(row, out->ne[1]);
        if (token < 0 || first_token + token >= seen.n_tokens) {
            return;
        }
        const int64_t from = in->ne[1] == out->ne[1] ? row : token;
        const float * x = (const float *) ((const char *) in->data + from * in->nb[1]);
        const float * y = (const float *) ((const char *) out->data + row * out->nb[1]);
        constexpr int LANES = 8; // four sums of so many stay in the registers of any processor
        float xx[LANES] {}, yy[LANES] {}, xy[LANES] {}, dd[LANES] {};
        const int64_t n = out->ne[0];
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            for (int j = 0; j < LANES; j++) {
                const float a = x[i + j], b = y[i + j], d = b - a;
                xx[j] += a * a;
                yy[j] += b * b;
                xy[j] += a * b;
                dd[j] += d * d;
            }
        }
        double sxx = 0, syy = 0, sxy = 0, sdd = 0;
        for (int j = 0; j < LANES; j++) { sxx += xx[j]; syy += yy[j]; sxy += xy[j]; sdd += dd[j]; }
        for (; i < n; i++) {
            const double a = x[i], b = y[i];
            sxx += a * a;
            syy += b * b;
            sxy += a * b;
            sdd += (b - a) * (b - a);
        }
        const double both = std::sqrt(sxx) * std::sqrt(syy);
        seen.at(first_token + token, block.index) = { (float) std::sqrt(syy), (float) std::sqrt(sdd),
                                                      (float) (both > 0 ? sxy / both : sxx == syy ? 1 : 0) };
        if (block.first) { seen.at(first_token + token, -1) = { (float) std::sqrt(sxx), 0, 1 }; }
    }

    static void keep(ggml_tensor * dst, int ith, int nth, void * data) {
        const place & p = *(const place *) data;
        layers & owner = *p.owner;
        const ggml_tensor * t = dst->src[0];
        const int64_t width = t->ne[0];
        std::vector<float> & values = owner.seen.vectors[p.index];
        for (int64_t row = ith; row < t->ne[1]; row += nth) {
            const int64_t token = owner.token_of(row, t->ne[1]);
            if (token >= 0 && (size_t) ((owner.first_token + token + 1) * width) <= values.size()) {
                memcpy(values.data() + (owner.first_token + token) * width, (const char *) t->data + row * t->nb[1], width * sizeof(float));
            }
        }
    }

    static void keep_chosen(ggml_tensor * dst, int ith, int nth, void * data) {
        const place & p = *(const place *) data;
        layers & owner = *p.owner;
        const ggml_tensor * x = dst->src[0], * chosen = dst->src[1];
        std::vector<float> & values = owner.seen.vectors[p.index];
        std::vector<int32_t> & experts = owner.seen.choices[p.index].chosen;
        for (int64_t row = ith; row < x->ne[2]; row += nth) {
            const int64_t token = owner.token_of(row, x->ne[2]), at = owner.first_token + token;
            if (token < 0 || (size_t) ((at + 1) * x->ne[0] * x->ne[1]) > values.size() ||
                (size_t) ((at + 1) * chosen->ne[0]) > experts.size()) {
                continue;
            }
            for (int64_t i = 0; i < x->ne[1]; i++) {
                memcpy(values.data() + (at * x->ne[1] + i) * x->ne[0], (const char *) x->data + row * x->nb[2] + i * x->nb[1],
                       x->ne[0] * sizeof(float));
            }
            const char * ids = (const char *) chosen->data + row * chosen->nb[1];
            for (int64_t i = 0; i < chosen->ne[0]; i++) {
                experts[at * chosen->ne[0] + i] = *(const int32_t *) (ids + i * chosen->nb[0]);
            }
        }
    }

    // Builds the graph under a plan and taps, which refuses what can't be done, and gives it memory.
    void dry_run() {
        stale = true;
        inputs_of.clear();
        several.clear();
        const hooked scope(this);
        const uint32_t n = std::min<uint32_t>(llama_n_ubatch(ctx), llama_n_ctx(ctx));
        if (llama_graph_reserve(ctx, n, 1, n > 1 ? n - 1 : 1) == nullptr) {
            refuse("the graph can't be planned: " + logged());
        }
    }

    void check(plan other) {
        std::swap(wanted, other);
        const taps none, before = std::exchange(tapped, none);
        struct restore {
            layers & l;
            plan &   p;
            const taps & t;
            ~restore() { l.wanted = std::move(p); l.tapped = t; }
        } const back { *this, other, before };
        dry_run();
    }

    void tap(taps other) {
        if (other == tapped) {
            return;
        }
        std::swap(tapped, other);
        auto vectors = seen.vectors;
        auto widths = seen.widths;
        auto choices = seen.choices;
        try {
            make_room();
            if (tapped.any()) {
                const plan none, before = std::exchange(wanted, none);
                struct restore {
                    layers & l;
                    const plan & p;
                    ~restore() { l.wanted = p; }
                } const back { *this, before };
                dry_run();
            }
        } catch (...) {
            tapped = std::move(other);
            make_room();
            seen.vectors = std::move(vectors);
            seen.widths = std::move(widths);
            seen.choices = std::move(choices);
            throw;
        }
    }

    void make_room() {
        stale = true;
        vector_places.clear();
        for (size_t i = 0; i < tapped.hidden.size() + tapped.weights.size(); i++) { vector_places.push_back({ this, (int32_t) i }); }
        seen.vectors.resize(vector_places.size());
        seen.widths.assign(vector_places.size(), 0);
        seen.choices.assign(vector_places.size(), {});
    }
};

layers & of(pl_layers * layers) { return *reinterpret_cast<pl::layers *>(layers); }

plan plan_of(const int8_t * actions, int32_t n) { return actions == nullptr ? plan() : plan(actions, actions + n); }

} // namespace

graph_hook * hook_of(pl_layers * layers) { return layers == nullptr ? nullptr : &of(layers); }

void start(pl_layers * layers, int64_t n_tokens) {
    if (layers != nullptr) { of(layers).start(n_tokens); }
}

} // namespace pl

extern "C" {

pl_layers * pl_layers_new(llama_context * ctx, pl_error * err) {
    return pl::guard<pl_layers *>(err, nullptr, [&] { return reinterpret_cast<pl_layers *>(new pl::layers(ctx)); });
}

void pl_layers_free(pl_layers * layers) { delete reinterpret_cast<pl::layers *>(layers); }

int32_t pl_layers_check(pl_layers * layers, const int8_t * actions, int32_t n, pl_error * err) {
    return pl::guard_void(err, [&] { pl::of(layers).check(pl::plan_of(actions, n)); });
}

int32_t pl_layers_use(pl_layers * layers, const int8_t * actions, int32_t n, pl_error * err) {
    return pl::guard_void(err, [&] { pl::of(layers).wanted = pl::plan_of(actions, n); });
}

int32_t pl_layers_tap(pl_layers * layers, bool norms, const int32_t * hidden, int32_t n_hidden, const char * const * weights,
                      int32_t n_weights, pl_error * err) {
    return pl::guard_void(err, [&] {
        pl::of(layers).tap({ norms, std::vector<int32_t>(hidden, hidden + n_hidden), std::vector<std::string>(weights, weights + n_weights) });
    });
}

int64_t pl_layers_tap_width(pl_layers * layers, int32_t index) { return pl::of(layers).seen.widths[index]; }

int32_t pl_layers_tap_experts(pl_layers * layers, int32_t index) { return (int32_t) pl::of(layers).seen.choices[index].experts; }

int32_t pl_layers_tap_used(pl_layers * layers, int32_t index) { return (int32_t) pl::of(layers).seen.choices[index].used; }

void pl_layers_norms(pl_layers * layers, int32_t token, float * dst) {
    auto & l = pl::of(layers);
    memcpy(dst, &l.seen.at(token, -1), (l.n_layer + 1) * sizeof(pl::readings::norm));
    for (size_t b = 0; b < l.built_plan.size(); b++) {
        if (l.built_plan[b] == pl::SKIP || l.built_plan[b] == pl::KEYS_AND_VALUES) {
            const float values[] = { dst[3 * b], 0, 1 };
            memcpy(dst + 3 * (b + 1), values, sizeof(values));
        }
    }
}

bool pl_layers_vector(pl_layers * layers, int32_t index, int32_t token, float * dst) {
    auto & seen = pl::of(layers).seen;
    const int64_t width = seen.widths[index];
    const float * from = seen.vectors[index].data() + token * width;
    if (width == 0 || std::isnan(from[0])) {
        return false;
    }
    memcpy(dst, from, width * sizeof(float));
    return true;
}

bool pl_layers_chosen(pl_layers * layers, int32_t index, int32_t token, int32_t * dst) {
    const auto & choice = pl::of(layers).seen.choices[index];
    const int32_t * from = choice.chosen.data() + token * choice.used;
    if (choice.used == 0 || from[0] < 0) {
        return false;
    }
    memcpy(dst, from, choice.used * sizeof(int32_t));
    return true;
}

int32_t pl_hooked_decode(llama_context * ctx, pl_adapters * adapters, pl_layers * layers, const llama_batch * batch, pl_error * err) {
    return pl::evaluate(ctx, [&] {
        return pl::guard_upstream_code(err, [&] {
            pl::hook_chain chain({ pl::hook_of(adapters), pl::hook_of(layers) });
            pl::start(layers, batch->n_tokens);
            const pl::hooked scope(&chain);
            return llama_decode(ctx, *batch);
        });
    });
}

} // extern "C"
