// Guards over contexts: evaluation, rows, memory of sequences, state.
#include "guard.hpp"
#include "hooked.hpp"
#include "threads.hpp"

#include <cstring>
#include <mutex>
#include <unordered_map>

namespace pl {
namespace {

std::mutex spares_lock;
std::unordered_map<const llama_context *, std::vector<spare_layers::cache>> spares;

} // namespace

std::vector<spare_layers::cache> spare_layers_of(const llama_context * ctx) {
    const std::lock_guard<std::mutex> held(spares_lock);
    const auto found = spares.find(ctx);
    return found == spares.end() ? std::vector<spare_layers::cache>() : found->second;
}

void forget_spare_layers(const llama_context * ctx) {
    const std::lock_guard<std::mutex> held(spares_lock);
    spares.erase(ctx);
}

} // namespace pl

extern "C" {

llama_context * pl_context_new(llama_model * model, const llama_context_params * params, uint32_t spare_layers, pl_error * err) {
    return pl::guard_value<llama_context *>(err, "the context was not made, and no reason was logged", [&] {
        const pl::spare_scope scope(spare_layers);
        llama_context * ctx = llama_init_from_model(model, *params);
        if (ctx != nullptr && spare_layers > 0) {
            const std::lock_guard<std::mutex> held(pl::spares_lock);
            pl::spares[ctx] = pl::thread_spare_layers().made;
        }
        return ctx;
    });
}

int32_t pl_encode(llama_context * ctx, const llama_batch * batch, pl_error * err) {
    return pl::evaluate(ctx, [&] { return pl::guard_upstream_code(err, [&] { return llama_encode(ctx, *batch); }); });
}

int32_t pl_decode(llama_context * ctx, const llama_batch * batch, pl_error * err) {
    return pl::evaluate(ctx, [&] { return pl::guard_upstream_code(err, [&] { return llama_decode(ctx, *batch); }); });
}

int32_t pl_synchronize(llama_context * ctx, pl_error * err) {
    return pl::guard_void(err, [&] { llama_synchronize(ctx); });
}

static int32_t copy_row(const float * row, float * dst, int32_t n, pl_error * err) {
    if (row == nullptr) {
        const std::string & reason = pl::logged();
        pl::fail(err, PL_FAILED, reason.empty() ? "no such output" : reason.c_str());
        return PL_FAILED;
    }
    memcpy(dst, row, (size_t) n * sizeof(float));
    return PL_OK;
}

int32_t pl_get_logits(llama_context * ctx, int32_t i, float * dst, int32_t n_vocab, pl_error * err) {
    return pl::guard_code(err, [&] { return copy_row(llama_get_logits_ith(ctx, i), dst, n_vocab, err); });
}

int32_t pl_get_embeddings(llama_context * ctx, int32_t i, float * dst, int32_t n, pl_error * err) {
    return pl::guard_code(err, [&] { return copy_row(llama_get_embeddings_ith(ctx, i), dst, n, err); });
}

int32_t pl_get_embeddings_seq(llama_context * ctx, llama_seq_id seq_id, float * dst, int32_t n, pl_error * err) {
    return pl::guard_code(err, [&] { return copy_row(llama_get_embeddings_seq(ctx, seq_id), dst, n, err); });
}

int32_t pl_memory_clear(llama_memory_t mem, bool data, pl_error * err) {
    return pl::guard_void(err, [&] { llama_memory_clear(mem, data); });
}

bool pl_memory_seq_rm(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, pl_error * err) {
    return pl::guard(err, false, [&] { return llama_memory_seq_rm(mem, seq_id, p0, p1); });
}

int32_t pl_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1, pl_error * err) {
    return pl::guard_void(err, [&] { llama_memory_seq_cp(mem, src, dst, p0, p1); });
}

int32_t pl_memory_seq_keep(llama_memory_t mem, llama_seq_id seq_id, pl_error * err) {
    return pl::guard_void(err, [&] { llama_memory_seq_keep(mem, seq_id); });
}

int32_t pl_memory_seq_add(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta, pl_error * err) {
    return pl::guard_void(err, [&] { llama_memory_seq_add(mem, seq_id, p0, p1, delta); });
}

llama_pos pl_memory_seq_pos_min(llama_memory_t mem, llama_seq_id seq_id, pl_error * err) {
    return pl::guard_code(err, [&] { return llama_memory_seq_pos_min(mem, seq_id); });
}

llama_pos pl_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq_id, pl_error * err) {
    return pl::guard_code(err, [&] { return llama_memory_seq_pos_max(mem, seq_id); });
}

size_t pl_state_get_size(llama_context * ctx, pl_error * err) {
    return pl::guard_value<size_t>(err, "the state has no size", [&] { return llama_state_get_size(ctx); });
}

size_t pl_state_get_data(llama_context * ctx, uint8_t * dst, size_t size, pl_error * err) {
    return pl::guard_value<size_t>(err, "the state was not written", [&] { return llama_state_get_data(ctx, dst, size); });
}

size_t pl_state_set_data(llama_context * ctx, const uint8_t * src, size_t size, pl_error * err) {
    return pl::guard_value<size_t>(err, "the state was not read", [&] { return llama_state_set_data(ctx, src, size); });
}

size_t pl_state_seq_get_size(llama_context * ctx, llama_seq_id seq_id, llama_state_seq_flags flags, pl_error * err) {
    return pl::guard_value<size_t>(err, "the sequence's state has no size",
                                   [&] { return llama_state_seq_get_size_ext(ctx, seq_id, flags); });
}

size_t pl_state_seq_get_data(llama_context * ctx, uint8_t * dst, size_t size, llama_seq_id seq_id, llama_state_seq_flags flags,
                             pl_error * err) {
    return pl::guard_value<size_t>(err, "the sequence's state was not written",
                                   [&] { return llama_state_seq_get_data_ext(ctx, dst, size, seq_id, flags); });
}

size_t pl_state_seq_set_data(llama_context * ctx, const uint8_t * src, size_t size, llama_seq_id seq_id, llama_state_seq_flags flags,
                             pl_error * err) {
    return pl::guard_value<size_t>(err, "the sequence's state was not read",
                                   [&] { return llama_state_seq_set_data_ext(ctx, src, size, seq_id, flags); });
}

} // extern "C"
