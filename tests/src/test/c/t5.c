// An encoder-decoder by nothing but llama.h: what the engine's rows are compared with, bit for bit.
//
//   t5 MODEL OUT n_ctx n_threads
//
// Lines of the standard input, ids separated by blanks:
//
//   E id id ...   encode the tokens; forget what was decoded
//   L id id ...   decode the tokens as one batch, write the logits after the last
//   G n id        decode the token, then n - 1 times the likeliest one; write the logits after each
//
// OUT receives the rows as native floats, one after the other. Exit code 0, or 1 with a line on the standard error.
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>

static void only_errors(enum ggml_log_level level, const char * text, void * user) {
    (void) user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int fail(const char * what) {
    fprintf(stderr, "t5: %s\n", what);
    return 1;
}

static int argmax(const float * row, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        best = row[i] > row[best] ? i : best;
    }
    return best;
}

static int decode(struct llama_context * ctx, llama_token * tokens, int n, FILE * out, int n_vocab, int * next) {
    if (llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0) {
        return fail("llama_decode failed");
    }
    const float * row = llama_get_logits_ith(ctx, -1);
    *next = argmax(row, n_vocab);
    return fwrite(row, sizeof(float), (size_t) n_vocab, out) == (size_t) n_vocab ? 0 : fail("can't write");
}

int main(int argc, char ** argv) {
    if (argc != 5) {
        return fail("4 arguments wanted");
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
    cp.n_ctx = cp.n_batch = cp.n_ubatch = (uint32_t) atoi(argv[3]);
    cp.n_threads = cp.n_threads_batch = atoi(argv[4]);
    cp.kv_unified = true;
    struct llama_context * ctx = llama_init_from_model(model, cp);
    if (!ctx) {
        return fail("no context");
    }
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    const int capacity = (int) cp.n_ctx;
    llama_token * tokens = malloc((size_t) capacity * sizeof(llama_token));
    char * line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        int n = 0;
        char * rest = line + 1;
        for (char * end; n < capacity; rest = end) {
            const llama_token token = (llama_token) strtol(rest, &end, 10);
            if (end == rest) {
                break;
            }
            tokens[n++] = token;
        }
        if (n == 0) {
            return fail("a line without tokens");
        }
        int next = 0;
        switch (line[0]) {
            case 'E':
                llama_memory_clear(llama_get_memory(ctx), true);
                if (llama_encode(ctx, llama_batch_get_one(tokens, n)) != 0) {
                    return fail("llama_encode failed");
                }
                break;
            case 'L':
                if (decode(ctx, tokens, n, out, n_vocab, &next)) {
                    return 1;
                }
                break;
            case 'G':
                next = tokens[1];
                for (int i = 0; i < tokens[0]; i++) {
                    llama_token token = next;
                    if (decode(ctx, &token, 1, out, n_vocab, &next)) {
                        return 1;
                    }
                }
                break;
            default:
                return fail("an unknown line");
        }
    }
    free(tokens);
    free(line);
    llama_free(ctx);
    llama_model_free(model);
    return fclose(out) == 0 ? 0 : fail("can't write");
}
