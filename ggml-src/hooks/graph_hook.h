// Where code of ours takes part in the graphs that llama.cpp builds. Who decodes on a thread may set a hook for it (ext/adapters.cpp);
// without one the graphs are upstream's. patches/graph-hook.patch calls it in llama-graph.cpp, llama-model.cpp and llama-context.cpp.
#pragma once

#include "ggml.h"
#include "llama.h"

#include <cstdint>

struct llama_ubatch;
class  llm_graph_result;

namespace pl {

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
    virtual void built(llm_graph_result & /*graph*/, uint32_t /*n_layer*/) {}

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

inline void graph_hook_built(llm_graph_result & graph, uint32_t n_layer) {
    graph_hook * hook = thread_graph_hook();
    if (hook != nullptr) { hook->built(graph, n_layer); }
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
