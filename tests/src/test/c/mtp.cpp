// Logits of a model's MTP head by nothing but upstream's own interface (llama.h and its staging header): what the engine's drafts are
// compared with, bit for bit. The head reads along as in upstream's common/speculative.cpp: every token beside the hidden state before it.
//
//   mtp MODEL OUT n_ctx n_batch n_ubatch n_seq_max n_threads n_threads_batch flash_attention
//
// flash_attention: -1 auto, 0 off, 1 on. Each line of the standard input is one step on sequence 0:
//
//   L id id ...   decode the tokens as one batch, write the model's logits after the last
//   D id id ...   draft: let the head go through these tokens, write its logits after each, forget them
//   R n           forget everything from position n on
//
// OUT receives the rows as native floats, one after the other. Exit code 0, or 1 with a line on the standard error.
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama-ext.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

static int fail(const char * what) {
    fprintf(stderr, "mtp: %s\n", what);
    return 1;
}

int main(int argc, char ** argv) {
    if (argc != 10) {
        return fail("9 arguments wanted");
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);
    ggml_backend_load_all();
    llama_backend_init();

    llama_model_params mp = llama_model_default_params();
    mp.load_mtp = true;
    llama_model * model = llama_model_load_from_file(argv[1], mp);
    FILE * out = fopen(argv[2], "wb");
    if (model == nullptr || out == nullptr) {
        return fail("can't open the model or the output");
    }
    llama_context_params cp = llama_context_default_params();
    cp.n_ctx           = (uint32_t) atoi(argv[3]);
    cp.n_batch         = (uint32_t) atoi(argv[4]);
    cp.n_ubatch        = (uint32_t) atoi(argv[5]);
    cp.n_seq_max       = (uint32_t) atoi(argv[6]);
    cp.n_threads       = atoi(argv[7]);
    cp.n_threads_batch = atoi(argv[8]);
    cp.flash_attn_type = (llama_flash_attn_type) atoi(argv[9]);
    cp.kv_unified      = true;
    llama_context * main = llama_init_from_model(model, cp);
    cp.ctx_type  = LLAMA_CONTEXT_TYPE_MTP;
    cp.ctx_other = main;
    llama_context * head = llama_init_from_model(model, cp);
    if (main == nullptr || head == nullptr) {
        return fail("no context");
    }
    llama_set_embeddings_nextn(main, true, /*masked*/ false);
    llama_set_embeddings_nextn(head, true, /*masked*/ true);

    const size_t n_vocab = (size_t) llama_vocab_n_tokens(llama_model_get_vocab(model));
    const size_t width   = (size_t) llama_model_n_embd_out(model);
    const int capacity   = (int) llama_n_batch(main);
    llama_batch batch = llama_batch_init(capacity, 0, 1);
    std::vector<float> hidden(width);   // of every position behind a row of zeros
    llama_pos pos = 0;

    const auto add = [&](llama_token token, llama_pos at, bool output) {
        const int i = batch.n_tokens++;
        batch.token[i]     = token;
        batch.pos[i]       = at;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = output;
    };
    const auto write = [&](llama_context * ctx, int i) {
        return fwrite(llama_get_logits_ith(ctx, i), sizeof(float), n_vocab, out) == n_vocab;
    };

    for (std::string line; std::getline(std::cin, line); ) {
        std::istringstream rest(line.substr(1));
        std::vector<int> values;
        for (int value; rest >> value; ) {
            values.push_back(value);
        }
        if (values.empty() || (int) values.size() > capacity) {
            return fail("a line without tokens, or with more than n_batch");
        }
        if (line[0] == 'R') {
            pos = values[0];
            hidden.resize((size_t) (pos + 1) * width);
            if (!llama_memory_seq_rm(llama_get_memory(main), 0, pos, -1) || !llama_memory_seq_rm(llama_get_memory(head), 0, pos, -1)) {
                return fail("llama_memory_seq_rm refused");
            }
        } else if (line[0] == 'L') {
            batch.n_tokens = 0;
            for (size_t i = 0; i < values.size(); i++) {
                add(values[i], pos + (llama_pos) i, i + 1 == values.size());
            }
            if (llama_decode(main, batch) != 0) {
                return fail("llama_decode failed");
            }
            if (!write(main, batch.n_tokens - 1)) {
                return fail("can't write");
            }
            const float * rows = llama_get_embeddings_nextn(main);
            hidden.insert(hidden.end(), rows, rows + values.size() * width);
            batch.logits[batch.n_tokens - 1] = false;
            batch.embd = hidden.data() + (size_t) pos * width;
            if (llama_decode(head, batch) != 0) {
                return fail("llama_decode of the head failed");
            }
            batch.embd = nullptr;
            pos += (llama_pos) values.size();
        } else {
            std::vector<float> state(hidden.end() - (long) width, hidden.end());
            for (size_t i = 0; i < values.size(); i++) {
                batch.n_tokens = 0;
                add(values[i], pos + (llama_pos) i, true);
                batch.embd = state.data();
                if (llama_decode(head, batch) != 0) {
                    return fail("llama_decode of a draft failed");
                }
                batch.embd = nullptr;
                if (!write(head, 0)) {
                    return fail("can't write");
                }
                const float * next = llama_get_embeddings_nextn_ith(head, 0);
                state.assign(next, next + width);
            }
            llama_memory_seq_rm(llama_get_memory(head), 0, pos, -1);
        }
    }
    llama_batch_free(batch);
    llama_free(head);
    llama_free(main);
    llama_model_free(model);
    return fclose(out) == 0 ? 0 : fail("can't write");
}
