// llama.cpp's own way from a JSON Schema to masks, timed: its converter, its parser, its grammar sampler over all candidates.
//
//   masks VOCABULARY.gguf MOST_MASKS < requests > answers
//
// A request, integers of 32 bits in native order: length and bytes of the schema; number of texts; for each its length and tokens.
// An answer: "refused", or "grammar NANOSECONDS", then per text "text ALLOWED NANOSECONDS..." with one time per mask; at its end ".".
// May end without an answer: the engine ends the process on some grammars.

#include "json-schema-to-grammar.h"
#include "llama.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

static bool read_int(int32_t & value) {
    return fread(&value, sizeof value, 1, stdin) == 1;
}

static long long now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: masks VOCABULARY.gguf MOST_MASKS\n");
        return 2;
    }
    const int most = atoi(argv[2]);
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    llama_model * model = llama_model_load_from_file(argv[1], params);
    if (!model) {
        fprintf(stderr, "cannot load %s\n", argv[1]);
        return 1;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model);
    std::vector<llama_token_data> candidates(llama_vocab_n_tokens(vocab));
    int32_t length;
    while (read_int(length)) {
        std::string schema(length, 0);
        if (fread(schema.data(), 1, length, stdin) != (size_t) length) {
            return 1;
        }
        int32_t n_texts;
        if (!read_int(n_texts)) {
            return 1;
        }
        std::vector<std::vector<int32_t>> texts(n_texts);
        for (auto & text : texts) {
            int32_t n;
            if (!read_int(n)) {
                return 1;
            }
            text.resize(n);
            if (fread(text.data(), sizeof(int32_t), n, stdin) != (size_t) n) {
                return 1;
            }
        }
        const long long start = now();
        llama_sampler * grammar = nullptr;
        try {
            grammar = llama_sampler_init_grammar(vocab, json_schema_to_grammar(common_json::parse(schema), true).c_str(), "root");
        } catch (const std::exception &) {
        }
        if (!grammar) {
            printf("refused\n.\n");
            fflush(stdout);
            continue;
        }
        printf("grammar %lld\n", now() - start);
        for (const auto & text : texts) {
            llama_sampler * sampler = llama_sampler_clone(grammar);
            std::vector<long long> times;
            int allowed = 0;
            while (allowed < (int) text.size() && allowed < most) {
                for (size_t t = 0; t < candidates.size(); t++) {
                    candidates[t] = {(llama_token) t, 0.0f, 0.0f};
                }
                llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
                const long long before = now();
                llama_sampler_apply(sampler, &array);
                times.push_back(now() - before);
                if (candidates[text[allowed]].logit != 0) {
                    break;
                }
                llama_sampler_accept(sampler, text[allowed++]);
            }
            printf("text %d", allowed);
            for (long long time : times) {
                printf(" %lld", time);
            }
            printf("\n");
            llama_sampler_free(sampler);
        }
        printf(".\n");
        fflush(stdout);
        llama_sampler_free(grammar);
    }
    return 0;
}
