// What the programs of bench/gpu-check share: names of types and devices, and models with random weights.
#pragma once

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"
#include "gguf.h"
#include "llama.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <strings.h>
#include <utility>
#include <vector>

[[noreturn]] inline void fail(const std::string & what) {
    fprintf(stderr, "gpu-check: %s\n", what.c_str());
    exit(1);
}

inline ggml_type type_of(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * label = ggml_type_name((ggml_type) i);
        if (label != nullptr && strcasecmp(label, name.c_str()) == 0) {
            return (ggml_type) i;
        }
    }
    fail("no type " + name);
}

inline ggml_backend_dev_t device_of(const std::string & name) {
    ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
    return device != nullptr ? device : (fail("no device " + name + "; gpu devices lists them"), nullptr);
}

// At least so many bytes of random weights, in whole blocks, the same for each call.
inline const std::vector<uint8_t> & weights_of(ggml_type type, size_t bytes) {
    static std::map<ggml_type, std::vector<uint8_t>> made;
    auto & all = made[type];
    if (all.empty()) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal(0, 0.03f);
        std::vector<float> floats(1024 * 256);
        for (auto & x : floats) {
            x = normal(random);
        }
        all.resize(ggml_row_size(type, (int64_t) floats.size()));
        ggml_quantize_chunk(type, floats.data(), all.data(), 0, 1024, 256, nullptr);
    }
    while (all.size() < bytes) {
        const size_t size = all.size();
        all.resize(2 * size);
        memcpy(&all[size], all.data(), size);
    }
    return all;
}

struct shape {
    const char * name;
    int layers, width, heads, key_heads, feed_forward, vocabulary, experts;
};

inline const shape shapes[] = {
    { "tiny", 2, 512, 8, 4, 1536, 1024, 0 },
    { "small", 4, 1024, 16, 4, 2816, 4096, 0 },
    { "experts", 3, 768, 12, 4, 1024, 4096, 4 },
    { "1b", 16, 2048, 32, 8, 8192, 32000, 0 },
    { "8b", 32, 4096, 32, 8, 14336, 128256, 0 },
};

inline const shape & shape_of(const std::string & name) {
    for (const auto & s : shapes) {
        if (name == s.name) {
            return s;
        }
    }
    fail("no shape " + name);
}

// A random model of architecture llama without vocabulary. All matrices hold the same weights from their beginning on.
inline std::string write_model(const std::string & folder, const shape & s, ggml_type type) {
    const std::string file = folder + "/" + s.name + "-" + ggml_type_name(type) + ".gguf";
    const gguf_context_ptr gguf(gguf_init_empty());
    const auto number = [&](const char * key, int value) { gguf_set_val_u32(gguf.get(), key, (uint32_t) value); };
    gguf_set_val_str(gguf.get(), "general.architecture", "llama");
    gguf_set_val_str(gguf.get(), "tokenizer.ggml.model", "no_vocab");
    number("llama.vocab_size", s.vocabulary);
    number("llama.context_length", 4096);
    number("llama.block_count", s.layers);
    number("llama.embedding_length", s.width);
    number("llama.feed_forward_length", s.feed_forward);
    number("llama.attention.head_count", s.heads);
    number("llama.attention.head_count_kv", s.key_heads);
    number("llama.rope.dimension_count", s.width / s.heads);
    if (s.experts > 0) {
        number("llama.expert_count", s.experts);
        number("llama.expert_used_count", s.experts); // all: which ones are chosen must not hang on a near-tie
    }
    gguf_set_val_f32(gguf.get(), "llama.attention.layer_norm_rms_epsilon", 1e-5f);

    const ggml_context_ptr context(ggml_init({ (size_t) (s.layers * 16 + 8) * ggml_tensor_overhead(), nullptr, true }));
    const auto add = [&](const std::string & name, ggml_type t, int64_t ne0, int64_t ne1, int64_t ne2 = 1) {
        ggml_tensor * tensor = ggml_new_tensor_3d(context.get(), t, ne0, ne1, ne2);
        ggml_set_name(tensor, name.c_str());
        gguf_add_tensor(gguf.get(), tensor);
        return tensor;
    };
    std::vector<float> ones((size_t) s.width, 1.0f);
    size_t largest = 0;
    std::vector<std::pair<std::string, bool>> names; // and whether it is a norm
    const auto matrix = [&](const std::string & name, int64_t ne0, int64_t ne1, int64_t ne2 = 1) {
        largest = std::max(largest, ggml_nbytes(add(name, type, ne0, ne1, ne2)));
        names.emplace_back(name, false);
    };
    const auto norm = [&](const std::string & name) {
        add(name, GGML_TYPE_F32, s.width, 1);
        names.emplace_back(name, true);
    };
    const int key_width = s.width / s.heads * s.key_heads;
    matrix("token_embd.weight", s.width, s.vocabulary);
    for (int i = 0; i < s.layers; i++) {
        const std::string block = "blk." + std::to_string(i) + ".";
        norm(block + "attn_norm.weight");
        matrix(block + "attn_q.weight", s.width, s.width);
        matrix(block + "attn_k.weight", s.width, key_width);
        matrix(block + "attn_v.weight", s.width, key_width);
        matrix(block + "attn_output.weight", s.width, s.width);
        norm(block + "ffn_norm.weight");
        if (s.experts > 0) {
            matrix(block + "ffn_gate_inp.weight", s.width, s.experts);
            matrix(block + "ffn_gate_exps.weight", s.width, s.feed_forward, s.experts);
            matrix(block + "ffn_up_exps.weight", s.width, s.feed_forward, s.experts);
            matrix(block + "ffn_down_exps.weight", s.feed_forward, s.width, s.experts);
        } else {
            matrix(block + "ffn_gate.weight", s.width, s.feed_forward);
            matrix(block + "ffn_up.weight", s.width, s.feed_forward);
            matrix(block + "ffn_down.weight", s.feed_forward, s.width);
        }
    }
    norm("output_norm.weight");
    matrix("output.weight", s.width, s.vocabulary);
    const auto & weights = weights_of(type, largest);
    for (const auto & [name, is_norm] : names) {
        gguf_set_tensor_data(gguf.get(), name.c_str(), is_norm ? (const void *) ones.data() : (const void *) weights.data());
    }
    if (!gguf_write_to_file(gguf.get(), file.c_str(), false)) {
        fail("cannot write " + file);
    }
    return file;
}

inline std::vector<llama_token> tokens_of(int count, int vocabulary, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<llama_token> tokens((size_t) count);
    for (auto & token : tokens) {
        token = (llama_token) (random() % (unsigned) vocabulary);
    }
    return tokens;
}
