// The runtime's own layer (panama_llama.h) on a device against the processor: adapters in mixed batches, layer plans, taps, memory that
// runs out, a device that is lost. Every check is a line of words that ends with an error and its bound.
//
//   whole check DEVICE FOLDER TYPE SHAPE   whole TYPE-SHAPE CHECK ERROR BOUND    normalised by the squares of what the processor gives
//   whole memory DEVICE FOLDER             whole memory-... ERROR BOUND          plans against use, and what happens when it is short
//   whole lost DEVICE FOLDER               whole lost ERROR BOUND                the device fails while it decodes; this process must live
//   whole ratio DEVICE FOLDER SHAPE TYPE   ratio SHAPE TYPE SHARE                tokens per second through this layer, to those of llama.h
#include "models.h"

#include "panama_llama.h"

#include <chrono>
#include <cmath>
#include <functional>

#if defined(__GNUC__)
extern "C" void pl_poison_device() __attribute__((weak)); // poison.cu, where CUDA is
#else
extern "C" void pl_poison_device();
#endif

namespace {

using rows = std::vector<float>;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// As upstream's tests measure products.
double off(const rows & expected, const rows & got) {
    if (expected.size() != got.size() || expected.empty()) {
        fail("rows of different sizes");
    }
    double off = 0, size = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        off += ((double) expected[i] - got[i]) * ((double) expected[i] - got[i]);
        size += (double) expected[i] * expected[i];
    }
    return off / size; // NaN is never within a bound
}

void require(const pl_error & err, const char * what) {
    if (err.code != PL_OK) {
        fail(std::string(what) + ": " + err.message);
    }
}

llama_model_params model_params(ggml_backend_dev_t device, ggml_backend_dev_t * devices) {
    const bool gpu = ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU;
    devices[0] = gpu ? device : nullptr;
    devices[1] = nullptr;
    llama_model_params m = llama_model_default_params();
    m.devices = devices;
    m.n_gpu_layers = gpu ? 999 : 0;
    m.use_extra_bufts = false;
    return m;
}

llama_context_params context_params() {
    llama_context_params c = llama_context_default_params();
    c.n_ctx = 512;
    c.n_batch = c.n_ubatch = 128;
    c.n_seq_max = 4;
    c.kv_unified = true;
    c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    return c;
}

const uint32_t spare = 2;

struct part_data {
    std::string tensor;
    rows a, b;
    int64_t inputs, outputs, experts;
};

// LoRA matrices for products of all kinds, so strong that logits change.
std::vector<part_data> adapter_of(const shape & s, int rank, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<part_data> parts;
    const auto add = [&](const std::string & tensor, int64_t inputs, int64_t outputs, int64_t experts) {
        part_data part { tensor, {}, {}, inputs, outputs, experts };
        for (int64_t i = 0; i < experts * rank * inputs; i++) {
            part.a.push_back(normal(random) / std::sqrt((float) inputs));
        }
        for (int64_t i = 0; i < experts * rank * outputs; i++) {
            part.b.push_back(normal(random) / std::sqrt((float) rank));
        }
        parts.push_back(std::move(part));
    };
    for (int i = 0; i < s.layers; i++) {
        const std::string block = "blk." + std::to_string(i) + ".";
        add(block + "attn_q.weight", s.width, s.width, 1);
        add(block + "attn_v.weight", s.width, (int64_t) s.width / s.heads * s.key_heads, 1);
        if (s.experts > 0) {
            add(block + "ffn_down_exps.weight", s.feed_forward, s.width, s.experts);
        } else {
            add(block + "ffn_down.weight", s.feed_forward, s.width, 1);
        }
    }
    return parts;
}

struct session {
    const shape & s;
    ggml_backend_dev_t devices[2];
    pl_error err;
    llama_model * model;
    llama_context * context;
    pl_adapters * adapters = nullptr;
    pl_layers * layers = nullptr;

    session(const shape & s, const std::string & file, ggml_backend_dev_t device, const llama_context_params & params = context_params()) : s(s) {
        const char * path = file.c_str();
        const llama_model_params m = model_params(device, devices);
        model = pl_model_load(&path, 1, &m, &err);
        require(err, "loading");
        context = pl_context_new(model, &params, spare, &err);
        require(err, "making a context");
    }
    session(const session &) = delete;
    ~session() {
        if (adapters != nullptr) {
            pl_adapters_free(adapters);
        }
        if (layers != nullptr) {
            pl_layers_free(layers);
        }
        pl_context_free(context, nullptr);
        pl_model_free(model);
    }

    int vocabulary() const { return llama_vocab_n_tokens(llama_model_get_vocab(model)); }

    void put(int slot, const std::vector<part_data> & adapter, int rank) {
        if (adapters == nullptr) {
            adapters = pl_adapters_new(context, 0, &err);
            require(err, "a bank of adapters");
        }
        std::vector<pl_adapter_part> parts;
        for (const auto & p : adapter) {
            parts.push_back({ p.tensor.c_str(), p.a.data(), p.b.data(), GGML_TYPE_F32, GGML_TYPE_F32, 0, rank, p.inputs, p.outputs, p.experts, 1.0f });
        }
        pl_adapters_put(adapters, slot, parts.data(), (int) parts.size(), &err);
        require(err, "an adapter");
    }

    void use(const std::vector<int8_t> & actions) {
        if (layers == nullptr) {
            layers = pl_layers_new(context, &err);
            require(err, "layers");
        }
        const int8_t * plan = actions.empty() ? nullptr : actions.data();
        pl_layers_check(layers, plan, (int) actions.size(), &err);
        require(err, "a plan");
        pl_layers_use(layers, plan, (int) actions.size(), &err);
        require(err, "a plan");
    }

    void clear() {
        pl_memory_clear(llama_get_memory(context), true, &err);
        require(err, "clearing");
        for (int i = 0; i < 4; i++) {
            length[i] = 0;
        }
    }

    int length[4] = {};

    struct run {
        llama_seq_id id;
        std::vector<llama_token> tokens;
    };

    // One batch; the logits after the last token of each run, or after every one.
    rows decode(const std::vector<run> & runs, bool all = false) {
        int n = 0;
        for (const auto & r : runs) {
            n += (int) r.tokens.size();
        }
        llama_batch batch = llama_batch_init(n, 0, 1);
        for (const auto & r : runs) {
            for (size_t i = 0; i < r.tokens.size(); i++) {
                const int at = batch.n_tokens++;
                batch.token[at] = r.tokens[i];
                batch.pos[at] = length[r.id]++;
                batch.n_seq_id[at] = 1;
                batch.seq_id[at][0] = r.id;
                batch.logits[at] = all || i + 1 == r.tokens.size();
            }
        }
        const int code = pl_hooked_decode(context, adapters, layers, &batch, &err);
        rows result;
        rows row((size_t) vocabulary());
        for (int i = 0; code == 0 && i < batch.n_tokens; i++) {
            if (batch.logits[i] && pl_get_logits(context, i, row.data(), vocabulary(), &err) == PL_OK) {
                result.insert(result.end(), row.begin(), row.end());
            }
        }
        llama_batch_free(batch);
        if (code != 0) {
            if (err.code == PL_OK) {
                pl_synchronize(context, &err);
            }
            failed = err.code != PL_OK ? err.message : "code " + std::to_string(code);
        } else if (err.code != PL_OK) {
            failed = err.message;
        }
        return result;
    }

    std::string failed;

    rows decoded(const std::vector<run> & runs, bool all = false) {
        rows result = decode(runs, all);
        if (!failed.empty()) {
            fail("decoding: " + failed);
        }
        return result;
    }
};

rows joined(rows a, const rows & b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// A prompt and single tokens of one sequence.
rows text(session & one, unsigned seed) {
    one.clear();
    rows all = one.decoded({ { 0, tokens_of(37, one.vocabulary(), seed) } });
    for (int i = 0; i < 3; i++) {
        all = joined(all, one.decoded({ { 0, tokens_of(1, one.vocabulary(), seed + i) } }));
    }
    return all;
}

const int ranks[] = { 8, 5 };

// Three sequences in one batch: without adapters, with one, with two.
rows mixed(session & one) {
    one.clear();
    const int none = 0;
    const int slots[] = { 0, 1 };
    const float scales[] = { 0.7f, -1.2f };
    pl_adapters_define(one.adapters, 1, slots, scales, 1, &one.err);
    require(one.err, "a set");
    pl_adapters_define(one.adapters, 2, slots, scales, 2, &one.err);
    require(one.err, "a set");
    const llama_pos start = 0;
    const int sets[] = { none, 1, 2 };
    for (int i = 0; i < 3; i++) {
        pl_adapters_assign(one.adapters, i, &start, &sets[i], 1, &one.err);
        require(one.err, "a set");
    }
    const llama_pos from[] = { 0, 10 }; // the set changes within a sequence
    const int changing[] = { 1, 2 };
    pl_adapters_assign(one.adapters, 3, from, changing, 2, &one.err);
    require(one.err, "a set");
    rows all;
    for (const int count : { 21, 1, 1, 5, 1 }) {
        std::vector<session::run> runs;
        for (int i = 0; i < 4; i++) {
            runs.push_back({ i, tokens_of(count == 1 ? 1 : count + i, one.vocabulary(), 7u * (unsigned) count + (unsigned) i) });
        }
        all = joined(all, one.decoded(runs));
    }
    return all;
}

// What taps read while a prompt and a token are evaluated: norms of all blocks, the stream behind some, the input of a weight.
rows tapped(session & one) {
    one.clear();
    const int hidden[] = { -1, 0, one.s.layers - 1 };
    const char * weights[] = { "blk.0.attn_q.weight" };
    pl_layers_tap(one.layers, true, hidden, 3, weights, 1, &one.err);
    require(one.err, "a tap");
    rows all;
    for (const int count : { 9, 1 }) {
        one.decoded({ { 0, tokens_of(count, one.vocabulary(), 3) } }, true);
        for (int t = 0; t < count; t++) {
            rows norms((size_t) (1 + one.s.layers) * 3);
            pl_layers_norms(one.layers, t, norms.data());
            all = joined(all, norms);
            for (int v = 0; v < 4; v++) {
                rows vector((size_t) pl_layers_tap_width(one.layers, v));
                if (!pl_layers_vector(one.layers, v, t, vector.data())) {
                    fail("a tap has no vector " + std::to_string(v) + " of token " + std::to_string(t));
                }
                all = joined(all, vector);
            }
        }
    }
    for (float & x : all) { // of what a plan leaves out
        x = std::isnan(x) ? -1 : x;
    }
    pl_layers_tap(one.layers, false, nullptr, 0, nullptr, 0, &one.err);
    require(one.err, "a tap");
    return all;
}

void check(ggml_backend_dev_t device, const std::string & folder, ggml_type type, const shape & s) {
    const std::string file = write_model(folder, s, type);
    {
        std::vector<std::vector<part_data>> adapters; // whose memory banks use
        session here(s, file, device), there(s, file, ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
        const rows plain = text(there, 1);
        const double noise = off(plain, text(here, 1));
        const std::string name = std::string(ggml_type_name(type)) + "-" + s.name;
        const double bound = std::max(5e-4, 4 * noise); // upstream's for products, or what the device's other arithmetic makes of the model
        const auto line = [&](const char * what, double error) {
            printf("whole %s %s %.3g %.3g\n", name.c_str(), what, error, bound);
            fflush(stdout);
        };
        printf("whole %s plain %.3g %.3g\n", name.c_str(), noise, 0.02);
        // each of these must also do something: far from what the model gives without
        const auto changes = [&](const char * what, const rows & with, const rows & without) {
            printf("whole %s %s-changes %.3g %.3g\n", name.c_str(), what, bound / off(without, with), 0.5);
        };
        const std::vector<std::pair<const char *, std::vector<int8_t>>> plans = {
            { "skip", { 1, 0 } }, { "repeat", { 1, 2 } }, { "keys-and-values", { 1, -1 } }, { "attention", { 1, -2 } }, { "feed-forward", { 1, -3 } },
        };
        for (const auto & [what, start] : plans) {
            std::vector<int8_t> plan((size_t) s.layers, 1);
            std::copy(start.begin(), start.end(), plan.begin());
            here.use(plan);
            there.use(plan);
            const rows expected = text(there, 1);
            line(what, off(expected, text(here, 1)));
            changes(what, expected, plain);
        }
        here.use({});
        there.use({});
        line("no-plan-again", off(plain, text(here, 1)));
        line("taps", off(tapped(there), tapped(here)));
        for (int i = 0; i < 2; i++) {
            adapters.push_back(adapter_of(s, ranks[i], 100u + (unsigned) i));
            here.put(i, adapters.back(), ranks[i]); // moved vectors keep their memory
            there.put(i, adapters.back(), ranks[i]);
        }
        const rows expected = mixed(there);
        line("adapters-mixed", off(expected, mixed(here)));
        rows first(expected.begin(), expected.begin() + there.vocabulary());
        rows second(expected.begin() + there.vocabulary(), expected.begin() + 2 * there.vocabulary());
        changes("adapters", second, first);
        std::vector<int8_t> plan((size_t) s.layers, 1);
        plan[0] = 2;
        plan[1] = 0;
        here.use(plan);
        there.use(plan);
        line("adapters-and-plan", off(mixed(there), mixed(here)));
        line("taps-of-a-plan", off(tapped(there), tapped(here)));
    }
    remove(file.c_str());
}

const pl_memory_use & of(const std::vector<pl_memory_use> & uses, ggml_backend_dev_t device) {
    for (const auto & use : uses) {
        if (use.device == std::string(ggml_backend_dev_name(device))) {
            return use;
        }
    }
    fail("no memory on the device");
}

size_t free_bytes(ggml_backend_dev_t device) {
    uint64_t free = 0, total = 0;
    pl_error err;
    pl_device_memory(device, &free, &total, &err);
    require(err, "memory");
    return free;
}

void memory(ggml_backend_dev_t device, const std::string & folder) {
    const shape & s = shape_of("small");
    const std::string file = write_model(folder, s, GGML_TYPE_Q8_0);
    const char * path = file.c_str();
    ggml_backend_dev_t devices[2];
    const llama_model_params m = model_params(device, devices);
    const llama_context_params c = context_params();
    pl_error err;
    std::vector<pl_memory_use> planned(8), used(8);
    planned.resize((size_t) std::max(0, pl_memory_estimate(&path, 1, &m, &c, spare, planned.data(), 8, &err)));
    require(err, "planning");
    const size_t before = free_bytes(device);
    {
        session one(s, file, device);
        text(one, 1);
        used.resize((size_t) std::max(0, pl_memory_used(one.context, used.data(), 8, &err)));
        require(err, "memory");
        const auto & p = of(planned, device);
        const auto & u = of(used, device);
        const auto sum = [](const pl_memory_use & x) { return (double) (x.model + x.context + x.compute); };
        printf("whole memory planned-against-used %.3g 0.001\n", std::abs(sum(p) - sum(u)) / sum(u));
        // what it takes beside the plan: work space of libraries, graphs; an eighth of the device, at most 1 GiB, is left for it
        printf("whole memory beside-the-plan-GiB %.3f 1\n", std::max(0.0, (double) before - (double) free_bytes(device) - sum(u)) / (1 << 30));
        if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            llama_context_params large = c;
            large.type_k = large.type_v = GGML_TYPE_F32;
            const double per_token = 2.0 * s.layers * s.width / s.heads * s.key_heads * sizeof(float);
            large.n_ctx = (uint32_t) std::min(2e9, 2 * (double) u.total / per_token);
            llama_context * none = pl_context_new(one.model, &large, 0, &err);
            const bool told = none == nullptr && err.code == PL_OUT_OF_MEMORY && strstr(err.message, "failed to allocate") != nullptr;
            printf("whole memory too-large-is-an-error %d 0\n", told ? 0 : 1);
            fprintf(stderr, "%s\n", err.message);
            printf("whole memory works-afterwards %.3g 0\n", off(text(one, 1), text(one, 1)));
        }
    }
    printf("whole memory not-given-back-MiB %.1f 512\n", std::max(0.0, (double) before - (double) free_bytes(device)) / (1 << 20)); // the driver keeps some
    remove(file.c_str());
}

void lost(ggml_backend_dev_t device, const std::string & folder) {
    const shape & s = shape_of("small");
    const std::string file = write_model(folder, s, GGML_TYPE_Q8_0);
    bool told = false;
    {
        const auto adapter = adapter_of(s, 8, 1);
        session one(s, file, device), other(s, file, device);
        one.put(0, adapter, 8);
        one.decode({ { 0, { 5 } } });
        if (pl_poison_device != nullptr) {
            pl_poison_device();
        }
        for (int i = 0; i < 200 && one.failed.empty(); i++) {
            one.decode({ { 0, { 5 } } });
        }
        told = !one.failed.empty() && one.err.code == PL_ASSERTION;
        fprintf(stderr, "%s\n", one.failed.c_str());
        printf("whole lost is-an-error %d 0\n", told ? 0 : 1);
    }
    session processor(s, file, ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    printf("whole lost processor-goes-on %.3g 0\n", off(text(processor, 1), text(processor, 1)));
    remove(file.c_str());
}

// The same tokens in turns, through this layer and through llama.h, each with a copy of the logits.
void ratio(ggml_backend_dev_t device, const std::string & folder, const shape & s, ggml_type type) {
    const std::string file = write_model(folder, s, type);
    {
        session one(s, file, device);
        rows row((size_t) one.vocabulary());
        std::vector<double> shares;
        for (int turn = 0; turn < 7; turn++) {
            double times[2];
            for (int ours = 0; ours < 2; ours++) {
                one.clear();
                const double start = seconds();
                for (int i = 0; i < 64; i++) {
                    llama_token token = i;
                    llama_batch batch = llama_batch_get_one(&token, 1);
                    if (ours) {
                        if (pl_hooked_decode(one.context, nullptr, nullptr, &batch, &one.err) != 0) {
                            fail(one.err.message);
                        }
                        pl_get_logits(one.context, 0, row.data(), one.vocabulary(), &one.err);
                        require(one.err, "logits");
                    } else {
                        if (llama_decode(one.context, batch) != 0) {
                            fail("cannot decode");
                        }
                        memcpy(row.data(), llama_get_logits_ith(one.context, 0), row.size() * sizeof(float));
                    }
                }
                times[ours] = seconds() - start;
            }
            if (turn > 0) {
                shares.push_back(times[0] / times[1]);
            }
        }
        std::sort(shares.begin(), shares.end());
        printf("ratio %s %s %.3f\n", s.name, ggml_type_name(type), shares[shares.size() / 2]);
    }
    remove(file.c_str());
}

} // namespace

int main(int argc, char ** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    pl_error err;
    pl_backend_init(nullptr, &err);
    require(err, "starting");
    pl_log_set([](int32_t, const char * text, void *) { fprintf(stderr, "%s\n", text); }, nullptr, GGML_LOG_LEVEL_WARN);
    ggml_backend_load_all(); // also what GGML_BACKEND_PATH names
    const auto is = [&](const char * name, size_t count) { return !words.empty() && words[0] == name && words.size() == count; };
    if (is("check", 5)) {
        check(device_of(words[1]), words[2], type_of(words[3]), shape_of(words[4]));
    } else if (is("memory", 3)) {
        memory(device_of(words[1]), words[2]);
    } else if (is("lost", 3)) {
        lost(device_of(words[1]), words[2]);
    } else if (is("ratio", 5)) {
        ratio(device_of(words[1]), words[2], shape_of(words[3]), type_of(words[4]));
    } else {
        fprintf(stderr, "usage: whole check | memory | lost | ratio, as its source says\n");
        return 2;
    }
    return 0;
}
