// Guards over the hidden states that heads for multi-token prediction (MTP, upstream's NextN) start from.
#include "guard.hpp"

#include "llama-ext.h"

#include <cstring>

extern "C" {

int32_t pl_nextn_keep(llama_context * ctx, bool outputs_only, pl_error * err) {
    return pl::guard_void(err, [&] { llama_set_embeddings_nextn(ctx, true, outputs_only); });
}

int32_t pl_get_nextn(llama_context * ctx, int32_t i, float * dst, int32_t n, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        const int32_t width = llama_model_n_embd_out(llama_get_model(ctx));
        if (n != width) {
            const std::string text = std::to_string(n) + " floats for a hidden state of " + std::to_string(width);
            pl::fail(err, PL_BAD_ARGUMENT, text.c_str());
            return PL_BAD_ARGUMENT;
        }
        const float * row = llama_get_embeddings_nextn_ith(ctx, i);
        if (row == nullptr) {
            const std::string & reason = pl::logged();
            pl::fail(err, PL_FAILED, reason.empty() ? "no hidden state was kept" : reason.c_str());
            return PL_FAILED;
        }
        memcpy(dst, row, (size_t) n * sizeof(float));
        return PL_OK;
    });
}

} // extern "C"
