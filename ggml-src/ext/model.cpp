// Guards over whole models: load, save, quantise, adapters.
#include "allocator.hpp"
#include "guard.hpp"
#include "llama-model.h"
#include "model.hpp"
#include "threads.hpp"

#include <vector>

namespace pl {

llama_model * load(const char * const * paths, size_t n_paths, const llama_model_params & params) {
    if (n_paths == 1) {
        return llama_model_load_from_file(paths[0], params);
    }
    std::vector<const char *> parts(paths, paths + n_paths);
    return llama_model_load_from_splits(parts.data(), parts.size(), params);
}

} // namespace pl

extern "C" {

llama_model * pl_model_load(const char * const * paths, size_t n_paths, const llama_model_params * params, pl_error * err) {
    return pl::guard_value<llama_model *>(err, "the model was not loaded, and no reason was logged", [&] {
        return n_paths == 0 ? nullptr : pl::load(paths, n_paths, *params);
    });
}

void pl_model_free(llama_model * model) {
    pl_error ignored;
    pl::guard_void(&ignored, [&] {
        const pl::letting_go scope;
        llama_model_free(model);
    });
    pl::give_back_memory();
}

int32_t pl_model_save(const llama_model * model, const char * path, pl_error * err) {
    return pl::guard_void(err, [&] { llama_model_save_to_file(model, path); });
}

int32_t pl_model_quantize(const char * path_in, const char * path_out, const llama_model_quantize_params * params, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        if (llama_model_quantize(path_in, path_out, params) != 0) {
            const std::string & reason = pl::logged();
            pl::fail(err, PL_FAILED, reason.empty() ? "quantising failed, and no reason was logged" : reason.c_str());
        }
        return PL_OK;
    });
}

int32_t pl_model_set_weight(llama_model * model, const char * name, int32_t type, const void * data, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        bool found = false;
        for (const auto & [own, weight] : llama_internal_get_tensor_map(model)) { // a matrix that is input and output may be here twice
            if (own != name) {
                continue;
            }
            if (weight->buffer != nullptr && !ggml_backend_buffer_is_host(weight->buffer)) {
                throw std::runtime_error("it lies on a device, or in another layout than in the file");
            }
            weight->type  = (ggml_type) type;
            weight->nb[0] = ggml_type_size(weight->type);
            weight->nb[1] = ggml_row_size(weight->type, weight->ne[0]);
            for (int i = 2; i < GGML_MAX_DIMS; i++) {
                weight->nb[i] = weight->nb[i - 1] * weight->ne[i - 1];
            }
            weight->data = const_cast<void *>(data);
            found = true;
        }
        if (!found) {
            throw std::runtime_error("the model does not use it");
        }
        return PL_OK;
    });
}

int32_t pl_validate_blocks(int32_t type, const void * data, uint64_t bytes, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        if (!ggml_validate_row_data((ggml_type) type, data, bytes)) {
            pl::fail(err, PL_FAILED, pl::logged().c_str());
        }
        return PL_OK;
    });
}

llama_adapter_lora * pl_adapter_lora_init(llama_model * model, const char * path, pl_error * err) {
    return pl::guard_value<llama_adapter_lora *>(err, "the adapter was not loaded, and no reason was logged",
                                                 [&] { return llama_adapter_lora_init(model, path); });
}

void pl_adapter_lora_free(llama_adapter_lora * adapter) {
    pl_error ignored;
    pl::guard_void(&ignored, [&] { llama_adapter_lora_free(adapter); });
}

int32_t pl_set_adapters_lora(llama_context * ctx, llama_adapter_lora ** adapters, size_t n_adapters, float * scales, pl_error * err) {
    return pl::guard_upstream_code(err, [&] { return llama_set_adapters_lora(ctx, adapters, n_adapters, scales); });
}

int32_t pl_set_adapter_cvec(llama_context * ctx, const float * data, size_t len, int32_t n_embd, int32_t il_start, int32_t il_end,
                            pl_error * err) {
    return pl::guard_upstream_code(err, [&] { return llama_set_adapter_cvec(ctx, data, len, n_embd, il_start, il_end); });
}

} // extern "C"
