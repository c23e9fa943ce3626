// See adapters_device.hpp.
#include "adapters_device.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace pl {
namespace {

constexpr float LARGEST = 65504; // of F16

// Ranks are filled up with zeros to a multiple of this. CUDA's kernel for picked matrices takes rows of 64 halves; without it each product
// waits until the host has sorted the rows.
int64_t rank_step(ggml_backend_buffer_type_t buft) {
    ggml_backend_dev_t dev = ggml_backend_buft_get_device(buft);
    const std::string name = dev == nullptr ? "CPU" : ggml_backend_reg_name(ggml_backend_dev_backend_reg(dev));
    return name == "CUDA" || name == "ROCm" || name == "MUSA" ? 64 : 16;
}

ggml_context_ptr context_of(size_t n_tensors) {
    return ggml_context_ptr(ggml_init({ n_tensors * ggml_tensor_overhead(), nullptr, /*no_alloc*/ true }));
}

bool runs(ggml_backend_dev_t dev, ggml_type type) {
    const ggml_context_ptr scratch = context_of(8);
    ggml_context * g = scratch.get();
    ggml_tensor * x = ggml_new_tensor_3d(g, GGML_TYPE_F32, 64, 1, 1);
    ggml_tensor * ids = ggml_new_tensor_2d(g, GGML_TYPE_I32, 1, 1);
    ggml_tensor * h = ggml_mul_mat_id(g, ggml_new_tensor_3d(g, type, 64, 64, 2), x, ids);
    ggml_tensor * rows = ggml_get_rows(g, ggml_new_tensor_2d(g, type, 64, 64), ids);
    return ggml_backend_dev_supports_op(dev, h) && ggml_backend_dev_supports_op(dev, rows);
}

} // namespace

// ---- inputs of a graph --------------------------------------------------------------------------------------------------------------

void device_inputs::begin(int64_t n_tokens, int64_t n_outputs, int64_t n) {
    n_rows[0] = n_tokens;
    n_rows[1] = n_outputs;
    stack = n;
    fresh.clear();
}

ggml_tensor * device_inputs::find(kind what, bool outputs, int64_t per, ggml_context * g, ggml_type type, int64_t ne0, int64_t ne1,
                                  int64_t ne2) {
    for (const input & i : fresh) {
        if (i.what == what && i.outputs == outputs && i.per == per && i.tensor->ne[0] == ne0) {
            return i.tensor;
        }
    }
    ggml_tensor * tensor = ggml_new_tensor_3d(g, type, ne0, ne1, ne2);
    ggml_set_input(tensor);
    fresh.push_back({ what, outputs, per, tensor });
    return tensor;
}

ggml_tensor * device_inputs::ids(ggml_context * g, bool outputs, int64_t k) {
    return find(IDS, outputs, k, g, GGML_TYPE_I32, stack, k * n_rows[outputs], 1);
}

ggml_tensor * device_inputs::scales(ggml_context * g, bool outputs, int64_t k) {
    return find(SCALES, outputs, k, g, GGML_TYPE_F32, 1, stack, k * n_rows[outputs]);
}

ggml_tensor * device_inputs::embeddings(ggml_context * g, int64_t n_vocab) {
    return find(EMBEDDINGS, false, n_vocab, g, GGML_TYPE_I32, stack * n_rows[0], 1, 1);
}

ggml_tensor * device_inputs::mask(ggml_context * g, bool outputs, int64_t rank, int64_t slots) {
    return find(MASK, outputs, rank, g, GGML_TYPE_F32, rank * slots, 1, n_rows[outputs]);
}

void device_inputs::built() {
    current = std::move(fresh);
    fresh.clear();
}

// The slots of a row must differ, since back ends look for the one place of a slot in a row: beyond its own adapters a row names others,
// with scale 0.
static void name_slots(const std::vector<member> & set, int64_t stack, int32_t * out) {
    int64_t n = 0;
    for (const member & m : set) { out[n++] = m.slot; }
    for (int32_t slot = 0; n < stack; slot++) {
        if (std::find(out, out + n, slot) == out + n) {
            out[n++] = slot;
        }
    }
}

void device_inputs::fill(const row_sets (& sets)[2], const std::vector<int32_t> & tokens, const std::vector<float> & slot_scales) {
    for (const input & i : current) {
        if (i.tensor->buffer == nullptr) {
            continue; // the graph was rewritten, and does not use it
        }
        if (i.what == IDS || i.what == EMBEDDINGS) {
            fill_slots(i, sets[i.outputs], tokens);
        } else {
            fill_scales(i, sets[i.outputs], slot_scales);
        }
    }
}

void device_inputs::fill_slots(const input & i, const row_sets & sets, const std::vector<int32_t> & tokens) {
    const int64_t n = ggml_nelements(i.tensor);
    integers.resize(n);
    for (int64_t row = 0; row < n / stack; row++) {
        int32_t * out = integers.data() + row * stack;
        name_slots(*sets[i.what == IDS ? row / i.per : row], stack, out);
        for (int64_t j = 0; i.what == EMBEDDINGS && j < stack; j++) { out[j] = out[j] * (int32_t) i.per + tokens[row]; }
    }
    ggml_backend_tensor_set(i.tensor, integers.data(), 0, ggml_nbytes(i.tensor));
}

void device_inputs::fill_scales(const input & i, const row_sets & sets, const std::vector<float> & slot_scales) {
    const int64_t n = ggml_nelements(i.tensor), width = i.what == SCALES ? stack : i.tensor->ne[0];
    floats.assign(n, 0);
    for (int64_t row = 0; row < n / width; row++) {
        float * out = floats.data() + row * width;
        for (const member & m : *sets[i.what == SCALES ? row / i.per : row]) {
            const float scale = m.scale * slot_scales[m.slot];
            if (i.what == SCALES) {
                *out++ = scale;
            } else {
                std::fill_n(out + m.slot * i.per, i.per, scale);
            }
        }
    }
    ggml_backend_tensor_set(i.tensor, floats.data(), 0, ggml_nbytes(i.tensor));
}

// ---- matrices -----------------------------------------------------------------------------------------------------------------------

ggml_backend_buffer_type_t device_bank::home(const ggml_tensor * w, bool everywhere) {
    if (w->buffer == nullptr) {
        return nullptr;
    }
    ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(w->buffer);
    ggml_backend_dev_t dev = ggml_backend_buft_get_device(buft);
    const auto type = dev == nullptr ? GGML_BACKEND_DEVICE_TYPE_CPU : ggml_backend_dev_type(dev);
    if (ggml_backend_buft_is_host(buft) || (type != GGML_BACKEND_DEVICE_TYPE_GPU && type != GGML_BACKEND_DEVICE_TYPE_IGPU)) {
        return everywhere ? ggml_backend_cpu_buffer_type() : nullptr;
    }
    // not the weight's own type, which may split rows or lay them out for kernels of its own
    return runs(dev, GGML_TYPE_F16) && runs(dev, GGML_TYPE_F32) ? ggml_backend_dev_buffer_type(dev) : nullptr;
}

bool device_bank::claims_nodes(ggml_backend_dev_t dev) {
    const ggml_context_ptr scratch = context_of(2);
    ggml_tensor * x = ggml_new_tensor_1d(scratch.get(), GGML_TYPE_F32, 1);
    const auto nothing = [](ggml_tensor *, int, int, void *) {};
    return ggml_backend_dev_supports_op(dev, ggml_custom_4d(scratch.get(), GGML_TYPE_F32, 1, 1, 1, 1, &x, 1, nothing, 1, nullptr));
}

device_bank::device_bank(ggml_backend_buffer_type_t home, const ggml_tensor * w, bool embedding, bool experts)
    : buft(home), name(ggml_get_name(w)), embedding(embedding), experts(experts), inputs(w->ne[embedding ? 1 : 0]),
      outputs(w->ne[embedding ? 0 : 1]), n_experts(experts ? w->ne[2] : 1) {}

device_bank::tile device_bank::tile_a(const matrices & m, int32_t slot, int64_t expert) const {
    if (embedding) {
        return { m.a, 0, slot * inputs, 0, m.rank, inputs };
    }
    return experts ? tile { m.a, 0, slot * m.rank, expert, inputs, m.rank } : tile { m.a, 0, 0, slot, inputs, m.rank };
}

device_bank::tile device_bank::tile_b(const matrices & m, int32_t slot, int64_t expert) const {
    return experts ? tile { m.b, slot * m.rank, 0, expert, m.rank, outputs } : tile { m.b, 0, 0, slot, m.rank, outputs };
}

size_t device_bank::tile::offset() const { return ggml_row_size(tensor->type, column) + row * tensor->nb[1] + layer * tensor->nb[2]; }

void device_bank::tile::store(const void * data) const {
    if (width == tensor->ne[0]) {
        ggml_backend_tensor_set(tensor, data, offset(), height * row_size());
    } else {
        ggml_backend_tensor_set_2d(tensor, data, offset(), row_size(), height, tensor->nb[1], row_size());
    }
}

void device_bank::tile::write(const std::vector<float> & weights) const {
    for (float w : weights) {
        if (std::fabs(w) > LARGEST) {
            throw std::runtime_error("a weight of an adapter for '" + std::string(ggml_get_name(tensor)) + "' is larger than F16 can hold");
        }
    }
    if (tensor->type == GGML_TYPE_F32) {
        store(weights.data());
        return;
    }
    std::vector<ggml_fp16_t> halves(weights.size());
    ggml_fp32_to_fp16_row(weights.data(), halves.data(), (int64_t) weights.size());
    store(halves.data());
}

void device_bank::tile::copy_to(tile to) const {
    std::vector<char> data(row_size() * height);
    if (width == tensor->ne[0]) {
        ggml_backend_tensor_get(tensor, data.data(), offset(), data.size());
    } else {
        ggml_backend_tensor_get_2d(tensor, data.data(), offset(), row_size(), height, tensor->nb[1], row_size());
    }
    to.width = width;
    to.height = height;
    if (to.tensor->type == tensor->type) {
        to.store(data.data());
    } else {
        std::vector<float> floats(width * height);
        ggml_fp16_to_fp32_row((const ggml_fp16_t *) data.data(), floats.data(), (int64_t) floats.size());
        to.store(floats.data());
    }
}

device_bank::matrices device_bank::allocate(int64_t slots, int64_t rank, ggml_type type) const {
    matrices m;
    m.slots = slots;
    m.rank = rank;
    m.tensors = context_of(2);
    ggml_context * g = m.tensors.get();
    if (experts) {
        m.a = ggml_new_tensor_3d(g, type, inputs, rank * slots, n_experts);
        m.b = ggml_new_tensor_3d(g, type, rank * slots, outputs, n_experts);
    } else {
        m.a = embedding ? ggml_new_tensor_2d(g, type, rank, inputs * slots) : ggml_new_tensor_3d(g, type, inputs, rank, slots);
        m.b = ggml_new_tensor_3d(g, type, rank, outputs, slots);
    }
    ggml_set_name(m.a, name.c_str());
    ggml_set_name(m.b, name.c_str());
    m.buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(g, buft));
    if (m.buffer == nullptr) {
        throw std::runtime_error("no memory on " + std::string(ggml_backend_buft_name(buft)) + " for " + std::to_string(slots) +
                                 " adapters of rank " + std::to_string(rank) + " to '" + name + "'");
    }
    ggml_backend_buffer_set_usage(m.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS); // products run where they lie
    ggml_backend_buffer_clear(m.buffer.get(), 0);
    return m;
}

bool device_bank::reserve(int64_t slots, const part & p) {
    const int64_t step = rank_step(buft);
    const int64_t rank = std::max(now.rank, (p.rank + step - 1) / step * step);
    // F32 stays F32; all else fits F16
    const bool wide = (p.rank > 0 && (p.a.type == GGML_TYPE_F32 || p.b.type == GGML_TYPE_F32)) ||
                      (!empty() && now.a->type == GGML_TYPE_F32);
    const ggml_type type = wide ? GGML_TYPE_F32 : GGML_TYPE_F16;
    if (slots <= now.slots && rank == now.rank && type == now.a->type) {
        return false;
    }
    matrices larger = allocate(std::max(slots, now.slots), rank, type);
    filled.resize(larger.slots);
    for (int32_t slot = 0; slot < now.slots; slot++) {
        for (int64_t e = 0; filled[slot] && e < n_experts; e++) {
            tile_a(now, slot, e).copy_to(tile_a(larger, slot, e));
            tile_b(now, slot, e).copy_to(tile_b(larger, slot, e));
        }
    }
    now = std::move(larger);
    return true;
}

void device_bank::put(int32_t slot, const part & p, float slot_scale) {
    filled[slot] = true;
    std::vector<float> weights, row(outputs);
    for (int64_t e = 0; e < n_experts; e++) {
        const tile a = tile_a(now, slot, e), b = tile_b(now, slot, e);
        const int64_t rows = embedding ? inputs : p.rank;
        weights.assign(a.width * a.height, 0);
        const int64_t columns = embedding ? p.rank : inputs;
        for (int64_t r = 0; r < rows; r++) { to_floats(p.a_of(e), r, columns, weights.data() + r * a.width); }
        a.write(weights);
        weights.assign(b.width * b.height, 0);
        for (int64_t r = 0; r < p.rank; r++) {
            to_floats(p.b_of(e), r, outputs, row.data());
            for (int64_t o = 0; o < outputs; o++) { weights[o * b.width + r] = row[o] * (p.scale / slot_scale); }
        }
        b.write(weights);
    }
}

void device_bank::clear(int32_t slot) {
    for (int64_t e = 0; filled[slot] && e < n_experts; e++) {
        for (const tile & t : { tile_a(now, slot, e), tile_b(now, slot, e) }) { t.write(std::vector<float>(t.width * t.height)); }
    }
    filled[slot] = false;
}

// ---- the graph ----------------------------------------------------------------------------------------------------------------------

ggml_tensor * device_bank::adapt(ggml_context * g, device_inputs & in, ggml_tensor * x, ggml_tensor * chosen, ggml_tensor * y,
                                 bool of_outputs, int64_t k) const {
    if (experts) {
        ggml_tensor * h = ggml_mul(g, ggml_mul_mat_id(g, now.a, x, chosen), in.mask(g, of_outputs, now.rank, now.slots));
        return ggml_add(g, y, ggml_mul_mat_id(g, now.b, h, chosen));
    }
    ggml_tensor * ids = in.ids(g, of_outputs, k);
    const int64_t stack = ids->ne[0], rows = ids->ne[1];
    ggml_tensor * h;
    if (embedding) {
        h = ggml_reshape_3d(g, ggml_get_rows(g, now.a, in.embeddings(g, inputs)), now.rank, stack, rows);
    } else {
        ggml_tensor * flat = ggml_is_contiguous(x) ? x : ggml_cont(g, x);
        h = ggml_mul_mat_id(g, now.a, ggml_reshape_3d(g, flat, inputs, 1, rows), ids);
    }
    h = ggml_mul(g, h, in.scales(g, of_outputs, k));
    ggml_tensor * d = ggml_mul_mat_id(g, now.b, h, ids); // [outputs, stack, rows]
    for (int64_t half = stack / 2; half > 0; half /= 2) {
        d = ggml_add(g, ggml_view_3d(g, d, outputs, half, rows, d->nb[1], d->nb[2], 0),
                     ggml_view_3d(g, d, outputs, half, rows, d->nb[1], d->nb[2], half * d->nb[1]));
    }
    return ggml_add(g, y, ggml_reshape(g, d, y));
}

} // namespace pl
