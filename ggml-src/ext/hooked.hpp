// What takes part in the graphs of one context.
#pragma once

#include "graph_hook.h"
#include "panama_llama.h"
#include "spare_layers.h"

#include <array>
#include <vector>

namespace pl {

// Several hooks one after the other; absent ones are NULL.
class hook_chain final : public graph_hook {
public:
    explicit hook_chain(std::array<graph_hook *, 2> hooks) : hooks(hooks) {}

    bool begin(const llama_ubatch & ubatch, uint32_t n_outputs) override {
        bool changed = false;
        for (graph_hook * hook : hooks) {
            if (hook != nullptr) { changed |= hook->begin(ubatch, n_outputs); }
        }
        return changed;
    }

    ggml_tensor * mul_mat(ggml_context * ctx, ggml_tensor * w, ggml_tensor * x, ggml_tensor * experts, ggml_tensor * y) override {
        for (graph_hook * hook : hooks) {
            if (hook != nullptr) { y = hook->mul_mat(ctx, w, x, experts, y); }
        }
        return y;
    }

    ggml_tensor * get_rows(ggml_context * ctx, ggml_tensor * w, ggml_tensor * tokens, ggml_tensor * y) override {
        for (graph_hook * hook : hooks) {
            if (hook != nullptr) { y = hook->get_rows(ctx, w, tokens, y); }
        }
        return y;
    }

    void built(llm_graph_result & graph, uint32_t n_layer, const graph_builder & again) override {
        for (graph_hook * hook : hooks) {
            if (hook != nullptr) { hook->built(graph, n_layer, again); }
        }
    }

    void inputs() override {
        for (graph_hook * hook : hooks) {
            if (hook != nullptr) { hook->inputs(); }
        }
    }

private:
    std::array<graph_hook *, 2> hooks;
};

// This thread's hook while an object of this kind lives.
class hooked {
public:
    explicit hooked(graph_hook * hook) { thread_graph_hook() = hook; }
    ~hooked() { thread_graph_hook() = nullptr; }
    hooked(const hooked &) = delete;
    hooked & operator=(const hooked &) = delete;
};

// The hooks of what C calls by these names; NULL for NULL.
graph_hook * hook_of(pl_adapters * adapters);
graph_hook * hook_of(pl_layers * layers);

// Contexts that are made while an object of this kind lives get spare layers.
class spare_scope {
public:
    explicit spare_scope(uint32_t wanted) { thread_spare_layers() = { wanted, {} }; }
    ~spare_scope() { thread_spare_layers() = {}; }
    spare_scope(const spare_scope &) = delete;
    spare_scope & operator=(const spare_scope &) = delete;
};

// The spare layers of a context's caches, in the order in which they were made.
std::vector<spare_layers::cache> spare_layers_of(const llama_context * ctx);
void forget_spare_layers(const llama_context * ctx);

} // namespace pl
