// Logits by nothing but llama.h: what the engine's rows are compared with, bit for bit.
//
//   logits MODEL OUT n_ctx n_batch n_ubatch n_seq_max n_threads n_threads_batch flash_attention
//
// flash_attention: -1 auto, 0 off, 1 on. Each line of the standard input is one step on sequence 0:
//
//   L id id ...   decode the tokens as one batch, write the logits after the last
//   A id id ...   the same, write the logits after each
//   R n           forget everything from position n on
//
// OUT receives the rows as native floats, one after the other. Exit code 0, or 1 with a line on the standard error.
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void only_errors(enum ggml_log_level level, const char * text, void * user) {
    (void) user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int fail(const char * what) {
    fprintf(stderr, "logits: %s\n", what);
    return 1;
}

int main(int argc, char ** argv) {
    if (argc != 10) {
        return fail("9 arguments wanted");
    }
    llama_log_set(only_errors, NULL);
    ggml_backend_load_all();
    llama_backend_init();

    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    FILE * out = fopen(argv[2], "wb");
    if (!model || !out) {
        return fail("can't open the model or the output");
    }
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx           = (uint32_t) atoi(argv[3]);
    cp.n_batch         = (uint32_t) atoi(argv[4]);
    cp.n_ubatch        = (uint32_t) atoi(argv[5]);
    cp.n_seq_max       = (uint32_t) atoi(argv[6]);
    cp.n_threads       = atoi(argv[7]);
    cp.n_threads_batch = atoi(argv[8]);
    cp.flash_attn_type = (enum llama_flash_attn_type) atoi(argv[9]);
    cp.kv_unified      = true;
    struct llama_context * ctx = llama_init_from_model(model, cp);
    if (!ctx) {
        return fail("no context");
    }
    struct ggml_threadpool_params one = ggml_threadpool_params_default(cp.n_threads);
    struct ggml_threadpool_params many = ggml_threadpool_params_default(cp.n_threads_batch);
    struct ggml_threadpool * pool = ggml_threadpool_new(&one);
    struct ggml_threadpool * pool_batch = cp.n_threads == cp.n_threads_batch ? NULL : ggml_threadpool_new(&many);
    llama_attach_threadpool(ctx, pool, pool_batch);

    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    const int capacity = (int) llama_n_batch(ctx);
    struct llama_batch batch = llama_batch_init(capacity, 0, 1);
    char * line = NULL;
    size_t size = 0;
    llama_pos pos = 0;
    while (getline(&line, &size, stdin) > 0) {
        char * rest = line + 1;
        if (line[0] == 'R') {
            pos = (llama_pos) strtol(rest, NULL, 10);
            if (!llama_memory_seq_rm(llama_get_memory(ctx), 0, pos, -1)) {
                return fail("llama_memory_seq_rm refused");
            }
            continue;
        }
        batch.n_tokens = 0;
        for (char * end; ; rest = end) {
            const llama_token token = (llama_token) strtol(rest, &end, 10);
            if (end == rest) {
                break;
            }
            if (batch.n_tokens == capacity) {
                return fail("more tokens in a line than n_batch");
            }
            const int i = batch.n_tokens++;
            batch.token[i] = token;
            batch.pos[i] = pos++;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = line[0] == 'A';
        }
        if (batch.n_tokens == 0) {
            return fail("a line without tokens");
        }
        batch.logits[batch.n_tokens - 1] = 1;
        if (llama_decode(ctx, batch) != 0) {
            return fail("llama_decode failed");
        }
        for (int i = 0; i < batch.n_tokens; i++) {
            if (batch.logits[i] && fwrite(llama_get_logits_ith(ctx, i), sizeof(float), (size_t) n_vocab, out) != (size_t) n_vocab) {
                return fail("can't write");
            }
        }
    }
    free(line);
    llama_batch_free(batch);
    llama_free(ctx);
    ggml_threadpool_free(pool);
    if (pool_batch) {
        ggml_threadpool_free(pool_batch);
    }
    llama_model_free(model);
    return fclose(out) == 0 ? 0 : fail("can't write");
}
