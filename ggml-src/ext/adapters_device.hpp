// Adapters by operations of ggml alone: how adapters.cpp adapts weights that lie on a device, where its own nodes can't run.
//
// The matrices of all resident adapters lie beside the weight, one slot each. For a product y = W x and K adapters in the largest stack
//     A [inputs, rank, slots]   h = s * mul_mat_id(A, x, ids)     [rank, K, rows]
//     B [rank, outputs, slots]  y += sum over K of mul_mat_id(B, h, ids)
// where ids [K, rows] and scales s [1, K, rows] are inputs of the graph: a swap writes those and nothing else. The lookup of token
// embeddings takes the rows of an A [rank, n_vocab * slots] instead of a product. Experts are chosen within the graph, so that slots can't
// be counted together with them: their matrices hold the ranks of all slots side by side, A [inputs, rank * slots, experts] and
// B [rank * slots, outputs, experts], and s [rank * slots, 1, rows] is zero for slots that do not act. That costs a product with all
// resident adapters, and needs no K.
#pragma once

#include "adapters.hpp"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <string>
#include <vector>

namespace pl {

constexpr int32_t DEVICE_SLOTS = 1024; // Metal sorts rows by slot in one group of threads
constexpr int32_t DEVICE_STACK = 16;   // nodes of a graph are counted before its adapters are known

// Inputs of a graph about adapters, for all rows or for those that are outputs.
class device_inputs {
public:
    // A graph is about to be made for so many tokens and outputs, with sets of at most `stack` adapters: a power of 2.
    void begin(int64_t n_tokens, int64_t n_outputs, int64_t stack);

    ggml_tensor * ids(ggml_context * g, bool outputs, int64_t k);    // [stack, k * rows] slots
    ggml_tensor * scales(ggml_context * g, bool outputs, int64_t k); // [1, stack, k * rows]
    ggml_tensor * embeddings(ggml_context * g, int64_t n_vocab);     // [stack * rows] slot * n_vocab + token
    ggml_tensor * mask(ggml_context * g, bool outputs, int64_t rank, int64_t slots); // [rank * slots, 1, rows] scales

    // The graph is whole, and replaces the last one.
    void built();

    using row_sets = std::vector<const std::vector<member> *>; // the adapters of each row
    // sets[0]: of all tokens; sets[1]: of outputs. slot_scales: what the scales of a slot are multiplied by.
    void fill(const row_sets (& sets)[2], const std::vector<int32_t> & tokens, const std::vector<float> & slot_scales);

private:
    enum kind { IDS, SCALES, EMBEDDINGS, MASK };
    struct input {
        kind          what;
        bool          outputs;
        int64_t       per; // IDS, SCALES: rows of a token; EMBEDDINGS: n_vocab; MASK: rank
        ggml_tensor * tensor;
    };
    int64_t              n_rows[2] {};
    int64_t              stack = 1;
    std::vector<input>   fresh, current;
    std::vector<int32_t> integers;
    std::vector<float>   floats;

    // The one of this graph, or a new one [ne0, ne1, ne2].
    ggml_tensor * find(kind what, bool outputs, int64_t per, ggml_context * g, ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2);
    void fill_slots(const input & i, const row_sets & sets, const std::vector<int32_t> & tokens);
    void fill_scales(const input & i, const row_sets & sets, const std::vector<float> & slot_scales);
};

// The matrices of all resident adapters for one weight.
class device_bank {
public:
    // Where they have to lie: NULL when the weight is the host's, or on a device that lacks the operations.
    // everywhere: host memory, too, is a device.
    static ggml_backend_buffer_type_t home(const ggml_tensor * w, bool everywhere);

    // Whether the scheduler may give a device nodes of our own, although it can't call them: the one for other machines (RPC) says that it
    // supports everything.
    static bool claims_nodes(ggml_backend_dev_t dev);

    device_bank(ggml_backend_buffer_type_t home, const ggml_tensor * w, bool embedding, bool experts);

    // Makes room; true when matrices have moved, so that graphs with the old ones are of no use.
    bool reserve(int64_t slots, const part & p);
    bool empty() const { return now.slots == 0; }

    // Uploads the matrices of a slot, for which there is room, with its scale / slot_scale multiplied in.
    void put(int32_t slot, const part & p, float slot_scale);
    // Makes a slot all zeros.
    void clear(int32_t slot);

    // y and what the adapters add to it. chosen: the experts of each row; k: rows of a token.
    ggml_tensor * adapt(ggml_context * g, device_inputs & in, ggml_tensor * x, ggml_tensor * chosen, ggml_tensor * y, bool of_outputs,
                        int64_t k) const;

private:
    struct matrices {
        int64_t slots = 0, rank = 0; // there is room for
        ggml_context_ptr        tensors;
        ggml_backend_buffer_ptr buffer;
        ggml_tensor * a = nullptr, * b = nullptr;
    };
    // Weights [width, height] within a tensor.
    struct tile {
        ggml_tensor * tensor;
        int64_t column, row, layer, width, height;

        size_t row_size() const { return ggml_row_size(tensor->type, width); }
        size_t offset() const;
        void write(const std::vector<float> & weights) const;
        void store(const void * data) const; // in the tensor's type
        void copy_to(tile to) const;
    };
    // Of a slot, and one of n_experts.
    tile tile_a(const matrices & m, int32_t slot, int64_t expert) const;
    tile tile_b(const matrices & m, int32_t slot, int64_t expert) const;

    matrices allocate(int64_t slots, int64_t rank, ggml_type type) const;

    const ggml_backend_buffer_type_t buft;
    const std::string name;
    const bool        embedding, experts;
    const int64_t     inputs, outputs, n_experts; // inputs of an embedding: n_vocab
    matrices          now;
    std::vector<bool> filled; // slots that are not zero
};

} // namespace pl
