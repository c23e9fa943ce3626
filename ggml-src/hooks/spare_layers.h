// Layers of a KV cache that belong to no block of the model: a plan that runs a block twice keeps the keys and values of the second
// time there (ext/layers.cpp). Who makes a context says how many it wants; patches/spare-layers.patch adds them in llama-kv-cache.cpp, to
// each cache of a model that has several: what is saved and restored of a cache are the rows of its own cells.
#pragma once

#include "ggml.h"
#include "llama.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace pl {

// Of the contexts that this thread makes: how many spare layers each of their caches gets, and which tensors those are.
struct spare_layers {
    struct kv { ggml_tensor * k, * v; }; // v may be NULL
    struct cache {
        std::vector<const ggml_tensor *> keys;   // of the blocks
        std::vector<kv>                  spares; // as many as wanted
    };
    uint32_t           wanted = 0;
    std::vector<cache> made;
};

LLAMA_API spare_layers & thread_spare_layers();

// Behind the layers of a cache, each like the first one: they are saved, restored and shifted with the others.
template <typename layer> void add_spare_layers(std::vector<layer> & layers, ggml_context * ctx, uint32_t n_stream) {
    const uint32_t n = layers.empty() ? 0 : thread_spare_layers().wanted;
    spare_layers::cache made;
    for (const layer & l : layers) { made.keys.push_back(l.k); }
    for (uint32_t i = 0; i < n; i++) {
        layer spare = layers.front();
        auto like = [&](ggml_tensor * t, std::vector<ggml_tensor *> & streams, char kind) -> ggml_tensor * {
            if (t == nullptr) {
                return nullptr;
            }
            ggml_tensor * own = ggml_new_tensor(ctx, t->type, GGML_MAX_DIMS, t->ne);
            ggml_format_name(own, "cache_%c_spare%u", kind, i);
            for (uint32_t s = 0; s < n_stream; s++) {
                streams[s] = ggml_view_2d(ctx, own, own->ne[0], own->ne[1], own->nb[1], s * own->nb[2]);
            }
            return own;
        };
        spare.k = like(layers.front().k, spare.k_stream, 'k');
        spare.v = like(layers.front().v, spare.v_stream, 'v');
        made.spares.push_back({ spare.k, spare.v });
        layers.push_back(spare);
    }
    if (n > 0) { thread_spare_layers().made.push_back(std::move(made)); }
}

} // namespace pl

#ifdef PL_SPARE_LAYERS_HOME
pl::spare_layers & pl::thread_spare_layers() {
    static thread_local spare_layers layers;
    return layers;
}
#endif
