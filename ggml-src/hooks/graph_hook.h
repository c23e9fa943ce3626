// Where code of ours takes part in the graphs that llama.cpp builds. Who decodes on a thread may set a hook for it (ext/adapters.cpp);
// without one the graphs are upstream's. patches/graph-hook.patch calls it in llama-graph.cpp, llama-model.cpp and llama-context.cpp.
#pragma once

#include "ggml.h"
#include "llama.h"

#include <cstdint>
#include <functional>
#include <memory>

struct llama_ubatch;
class  llm_graph_result;

namespace pl {

// Builds the model's part of the graph once more, as if so many outputs were wanted, into a result that is made if there is none. That
// graph has inputs of its own and is there to be looked at.
using graph_builder = std::function<void(std::unique_ptr<llm_graph_result> &, uint32_t n_outputs)>;

// What a hook does not override changes nothing.
class graph_hook {
public:
    // Before the graph of a ubatch is built or used again. True: the last graph must not be used again.
    virtual bool begin(const llama_ubatch & /*ubatch*/, uint32_t /*n_outputs*/) { return false; }

    // The product y of a weight w and its input x, both as llama.cpp made them: what the graph goes on with in place of y.
    // experts: the expert of each row [n_used, n_tokens], for products through mul_mat_id; otherwise NULL.
    virtual ggml_tensor * mul_mat(ggml_context * /*ctx*/, ggml_tensor * /*w*/, ggml_tensor * /*x*/, ggml_tensor * /*experts*/, ggml_tensor * y) {
        return y;
    }

    // The same for the rows y of a token embedding w.
    virtual ggml_tensor * get_rows(ggml_context * /*ctx*/, ggml_tensor * /*w*/, ggml_tensor * /*tokens*/, ggml_tensor * y) { return y; }

    // The graph is whole: it may be rewritten. n_layer: blocks of the model.
    virtual void built(llm_graph_result & /*graph*/, uint32_t /*n_layer*/, const graph_builder & /*again*/) {}

    // The graph has its memory, and is about to be computed: tensors marked as inputs may be filled.
    virtual void inputs() {}

protected:
    ~graph_hook() = default;
};

// The hook of this thread; NULL for none.
LLAMA_API graph_hook *& thread_graph_hook();

// Nodes that hooks may add to a graph of a model with so many tensors: several per product, and some thousand for repeated blocks.
inline uint32_t graph_hook_nodes(size_t n_tensors) { return 8 * uint32_t(n_tensors) + 4096; }

inline bool graph_hook_begin(const llama_ubatch & ubatch, uint32_t n_outputs) {
    graph_hook * hook = thread_graph_hook();
    return hook != nullptr && hook->begin(ubatch, n_outputs);
}

inline ggml_tensor * graph_hook_mul_mat(ggml_context * ctx, ggml_tensor * w, ggml_tensor * x, ggml_tensor * experts, ggml_tensor * y) {
    graph_hook * hook = thread_graph_hook();
    return hook == nullptr ? y : hook->mul_mat(ctx, w, x, experts, y);
}

inline ggml_tensor * graph_hook_get_rows(ggml_context * ctx, ggml_tensor * w, ggml_tensor * tokens, ggml_tensor * y) {
    graph_hook * hook = thread_graph_hook();
    return hook == nullptr ? y : hook->get_rows(ctx, w, tokens, y);
}

template <typename model_type, typename params_type, typename result_type>
void graph_hook_built(const model_type & model, const params_type & params, result_type & graph, uint32_t n_layer) {
    graph_hook * hook = thread_graph_hook();
    if (hook == nullptr) {
        return;
    }
    hook->built(graph, n_layer, [&](std::unique_ptr<result_type> & other, uint32_t n_outputs) {
        if (other == nullptr) {
            other = std::make_unique<result_type>(graph.get_max_nodes());
        } else {
            other->reset();
        }
        params_type with_outputs = params;
        with_outputs.n_outputs = n_outputs;
        with_outputs.res = other.get();
        with_outputs.cb = [](const llama_ubatch &, ggml_tensor *, const char *, int) {}; // names and places of tensors
        model.build_arch_graph(with_outputs);
    });
}

inline void graph_hook_inputs() {
    graph_hook * hook = thread_graph_hook();
    if (hook != nullptr) { hook->inputs(); }
}

} // namespace pl

#ifdef PL_GRAPH_HOOK_HOME
pl::graph_hook *& pl::thread_graph_hook() {
    static thread_local graph_hook * hook = nullptr;
    return hook;
}
#endif
