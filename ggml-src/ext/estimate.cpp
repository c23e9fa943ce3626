// What a model and a context take, or would: planned by upstream on buffers without memory.
#include "guard.hpp"
#include "hooked.hpp"
#include "model.hpp"
#include "threads.hpp"

#include "llama-ext.h"

#include <cstdio>
#include <memory>
#include <vector>

namespace {

struct free_model {
    void operator()(llama_model * m) const {
        const pl::letting_go scope;
        llama_model_free(m);
    }
};
struct free_context {
    void operator()(llama_context * c) const {
        const pl::letting_go scope;
        llama_free(c);
    }
};

void describe(pl_memory_use & use, ggml_backend_dev_t device, bool host) {
    snprintf(use.device, sizeof(use.device), "%s", ggml_backend_dev_name(device));
    use.host = host ? 1 : 0;
    size_t free = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    use.free  = free;
    use.total = total;
}

// By device, the host first.
std::vector<pl_memory_use> breakdown(const llama_context * ctx, bool context) {
    std::vector<pl_memory_use> uses(1);
    std::vector<ggml_backend_dev_t> devices(1, ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    describe(uses[0], devices[0], true);
    for (const auto & [type, bytes] : llama_get_memory_breakdown(ctx)) {
        size_t at = 0;
        const bool host = ggml_backend_buft_is_host(type);
        if (!host) {
            ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
            // Buffers of the CPU's own layouts (repacked weights) are not "host" to ggml, but are the machine's memory.
            while (device != nullptr && at < devices.size() && devices[at] != device) {
                at++;
            }
            if (at == devices.size()) {
                devices.push_back(device);
                uses.emplace_back();
                describe(uses[at], device, false);
            }
        }
        uses[at].model += bytes.model;
        if (!host) {
            uses[at].copied += bytes.model;
        }
        if (context) {
            uses[at].context += bytes.context;
            uses[at].compute += bytes.compute;
        }
    }
    return uses;
}

int32_t give(const std::vector<pl_memory_use> & uses, pl_memory_use * out, int32_t n_max) {
    for (size_t i = 0; i < uses.size() && i < (size_t) n_max; i++) {
        out[i] = uses[i];
    }
    return (int32_t) uses.size();
}

} // namespace

extern "C" int32_t pl_memory_estimate(const char * const * paths, size_t n_paths, const llama_model_params * params,
                                      const llama_context_params * context, uint32_t spare_layers, pl_memory_use * out,
                                      int32_t n_max, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        llama_model_params planned = *params;
        planned.no_alloc  = true;
        // Mapped or read makes no difference to the sum, and mapping would touch the file.
        planned.load_mode = LLAMA_LOAD_MODE_NONE;

        std::unique_ptr<llama_model, free_model> model(n_paths == 0 ? nullptr : pl::load(paths, n_paths, planned));
        std::unique_ptr<llama_context, free_context> ctx;
        if (model) {
            llama_context_params smallest = llama_context_default_params();
            if (context == nullptr) {
                smallest.n_ctx = 256;
            }
            const pl::spare_scope spares(spare_layers);
            ctx.reset(llama_init_from_model(model.get(), context != nullptr ? *context : smallest));
        }
        if (!ctx) {
            const std::string & reason = pl::logged();
            pl::fail(err, PL_FAILED, reason.empty() ? "planning failed, and no reason was logged" : reason.c_str());
            return PL_FAILED;
        }

        return give(breakdown(ctx.get(), context != nullptr), out, n_max);
    });
}

extern "C" int32_t pl_memory_used(const llama_context * ctx, pl_memory_use * out, int32_t n_max, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t { return give(breakdown(ctx, true), out, n_max); });
}
