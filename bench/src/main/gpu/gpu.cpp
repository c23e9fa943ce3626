// Measures a device of ggml with weights of several types, and compares its logits with those of the CPU. Models are random ones, which it
// writes itself. Every result is a line of words.
//
//   gpu devices
//   gpu bandwidth DEVICE BYTES               bandwidth GB/S                     a copy from the device to itself, read and written bytes
//   gpu product DEVICE TYPE ROWS LENGTH COLUMNS
//                                            product TYPE ROWS LENGTH COLUMNS MICROSECONDS GB/S    median; GB/S of weights
//   gpu logits DEVICE FOLDER TYPE...         logits TYPE KIND ERROR             error normalised by the logits' squares
//   gpu tokens DEVICE FOLDER SHAPE TYPE      tokens SHAPE TYPE PROMPT/S DECODED/S    medians; SHAPE is tiny, 1b or 8b
#include "models.h"

#include "ggml-alloc.h"

#include <chrono>
#include <cmath>
#include <functional>

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> all) {
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
}

// A graph on one device, made by `build`, with memory for all of its tensors.
struct computation {
    ggml_backend_ptr backend;
    ggml_context_ptr context;
    ggml_backend_buffer_ptr buffer;
    ggml_cgraph * graph;

    computation(ggml_backend_dev_t device, const std::function<void(ggml_context *, ggml_cgraph *)> & build)
        : backend(ggml_backend_dev_init(device, nullptr)),
          context(ggml_init({ 512 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true })),
          graph(ggml_new_graph(context.get())) {
        build(context.get(), graph);
        for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
            if (!ggml_backend_dev_supports_op(device, ggml_graph_node(graph, i))) {
                fail(std::string(ggml_backend_dev_name(device)) + " does not do " + ggml_op_desc(ggml_graph_node(graph, i)) + " of " +
                     ggml_type_name(ggml_graph_node(graph, i)->src[0]->type));
            }
        }
        buffer.reset(ggml_backend_alloc_ctx_tensors(context.get(), backend.get()));
        if (buffer == nullptr) {
            fail("not enough memory on " + std::string(ggml_backend_dev_name(device)));
        }
    }
    // Seconds of one run: the median of those that fit into a second, at least 20.
    double time() const {
        std::vector<double> all;
        const double begin = seconds();
        for (int i = 0; i < 5 || all.size() < 20 || seconds() - begin < 1; i++) {
            const double start = seconds();
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                fail("the graph could not be computed");
            }
            if (i >= 5) { // the first ones make CUDA graphs
                all.push_back(seconds() - start);
            }
        }
        return median(all);
    }
};

void bandwidth(ggml_backend_dev_t device, int64_t bytes) {
    const computation c(device, [&](ggml_context * context, ggml_cgraph * graph) {
        ggml_tensor * from = ggml_new_tensor_1d(context, GGML_TYPE_F32, bytes / 4);
        ggml_tensor * to = ggml_new_tensor_1d(context, GGML_TYPE_F32, bytes / 4);
        ggml_build_forward_expand(graph, ggml_cpy(context, from, to));
    });
    ggml_backend_buffer_clear(c.buffer.get(), 0);
    printf("bandwidth %.0f\n", 2.0 * (double) bytes / c.time() * 1e-9);
}

// Products with several matrices after one another, so that weights come from memory and not from a cache.
void product(ggml_backend_dev_t device, ggml_type type, int64_t rows, int64_t length, int64_t columns) {
    const size_t bytes = ggml_row_size(type, length) * (size_t) rows;
    const int copies = (int) std::clamp<size_t>((size_t) 512 << 20, bytes, 64 * bytes) / (int64_t) bytes;
    std::vector<ggml_tensor *> all;
    ggml_tensor * x = nullptr;
    const computation c(device, [&](ggml_context * context, ggml_cgraph * graph) {
        x = ggml_new_tensor_2d(context, GGML_TYPE_F32, length, columns);
        for (int i = 0; i < copies; i++) {
            all.push_back(ggml_new_tensor_2d(context, type, length, rows));
            ggml_build_forward_expand(graph, ggml_mul_mat(context, all.back(), x));
        }
    });
    for (ggml_tensor * weights : all) {
        ggml_backend_tensor_set(weights, weights_of(type, bytes).data(), 0, bytes);
    }
    std::vector<float> values((size_t) (length * columns));
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (auto & value : values) {
        value = normal(random);
    }
    ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
    const double time = c.time() / copies;
    printf("product %s %d %d %d %.2f %.1f\n", ggml_type_name(type), (int) rows, (int) length, (int) columns, time * 1e6,
            (double) bytes / time * 1e-9);
}

struct session {
    llama_model * model;
    llama_context * context;

    session(const std::string & file, ggml_backend_dev_t device, int batch) {
        const bool gpu = ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU;
        ggml_backend_dev_t devices[] = { gpu ? device : nullptr, nullptr };
        llama_model_params m = llama_model_default_params();
        m.devices = devices;
        m.n_gpu_layers = gpu ? 999 : 0;
        model = llama_model_load_from_file(file.c_str(), m);
        if (model == nullptr) {
            fail("cannot load " + file);
        }
        llama_context_params c = llama_context_default_params();
        c.n_ctx = 1024;
        c.n_batch = c.n_ubatch = (uint32_t) batch;
        c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        c.offload_kqv = gpu;
        c.op_offload = gpu;
        context = llama_init_from_model(model, c);
        if (context == nullptr) {
            fail("cannot make a context for " + file);
        }
    }
    session(const session &) = delete;
    ~session() {
        llama_free(context);
        llama_model_free(model);
    }
    int vocabulary() const { return llama_vocab_n_tokens(llama_model_get_vocab(model)); }

    // The logits of the last of these tokens.
    std::vector<float> decode(std::vector<llama_token> tokens) {
        if (llama_decode(context, llama_batch_get_one(tokens.data(), (int) tokens.size())) != 0) {
            fail("cannot decode");
        }
        const float * logits = llama_get_logits_ith(context, -1);
        return std::vector<float>(logits, logits + vocabulary());
    }
};

// Prompts of several lengths and single tokens, the same on both sides.
void logits(ggml_backend_dev_t device, const std::string & folder, ggml_type type) {
    for (const char * name : { "small", "experts" }) {
        const std::string file = write_model(folder, shape_of(name), type);
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        double off = 0, size = 0;
        {
            session ours(file, device, 256), theirs(file, cpu, 256);
            for (const int count : { 1, 1, 2, 3, 4, 5, 7, 8, 9, 33, 130, 1, 1 }) {
                const auto tokens = tokens_of(count, ours.vocabulary(), (unsigned) count);
                const auto a = ours.decode(tokens), b = theirs.decode(tokens);
                for (size_t i = 0; i < a.size(); i++) {
                    off += (double) (a[i] - b[i]) * (a[i] - b[i]);
                    size += (double) b[i] * b[i];
                }
            }
        }
        printf("logits %s %s %.3g\n", ggml_type_name(type), name, off / size);
        fflush(stdout);
        remove(file.c_str());
    }
}

void tokens(ggml_backend_dev_t device, const std::string & folder, const shape & s, ggml_type type) {
    const std::string file = write_model(folder, s, type);
    std::vector<double> prompts, decoded;
    {
        session one(file, device, 512);
        for (int i = 0; i < 8; i++) {
            llama_memory_clear(llama_get_memory(one.context), true);
            const auto prompt = tokens_of(512, one.vocabulary(), 1);
            const double start = seconds();
            one.decode(prompt);
            if (i >= 2) {
                prompts.push_back(seconds() - start);
            }
        }
        for (int i = 0; i < 136; i++) {
            const double start = seconds();
            one.decode({ (llama_token) (i % one.vocabulary()) });
            if (i >= 8) {
                decoded.push_back(seconds() - start);
            }
        }
    }
    remove(file.c_str());
    printf("tokens %s %s %.1f %.2f\n", s.name, ggml_type_name(type), 512 / median(prompts), 1 / median(decoded));
}

} // namespace

int main(int argc, char ** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT) {
            fputs(text, stderr);
        }
    }, nullptr);
    ggml_backend_load_all();
    const std::string command = words.empty() ? "" : words[0];
    const auto is = [&](const char * name, size_t count) { return command == name && words.size() >= count; };
    if (is("devices", 1)) {
        for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
            printf("device %s %s\n", ggml_backend_dev_name(ggml_backend_dev_get(i)), ggml_backend_dev_description(ggml_backend_dev_get(i)));
        }
    } else if (is("bandwidth", 3)) {
        bandwidth(device_of(words[1]), atoll(words[2].c_str()));
    } else if (is("product", 6)) {
        product(device_of(words[1]), type_of(words[2]), atoll(words[3].c_str()), atoll(words[4].c_str()), atoll(words[5].c_str()));
    } else if (is("logits", 4)) {
        for (size_t i = 3; i < words.size(); i++) {
            logits(device_of(words[1]), words[2], type_of(words[i]));
        }
    } else if (is("tokens", 5)) {
        tokens(device_of(words[1]), words[2], shape_of(words[3]), type_of(words[4]));
    } else {
        fprintf(stderr, "usage: gpu devices | bandwidth | product | logits | tokens, as its source says\n");
        return 2;
    }
    return 0;
}
