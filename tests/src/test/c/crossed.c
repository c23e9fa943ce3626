// Logits of a build with loadable back ends, for a platform that has no JVM at hand: prompt in one batch, then tokens one by one.
//
//   crossed LIBRARIES MODEL OUT
//
// OUT receives five rows as native floats. Exit code 0, or 1 with a line on the standard error.
#include "llama.h"
#include "panama_llama.h"

#include <stdio.h>

enum { PROMPT = 24, STEPS = 4 };

static int fail(const char * what) {
    fprintf(stderr, "crossed: %s\n", what);
    return 1;
}

static void only_errors(enum ggml_log_level level, const char * text, void * user) {
    (void) user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int main(int argc, char ** argv) {
    if (argc != 4) {
        return fail("3 arguments wanted");
    }
    llama_log_set(only_errors, NULL);
    struct pl_error error = {0};
    if (pl_backend_init(argv[1], &error) != PL_OK) {
        return fail(error.message);
    }
    struct llama_model * model = llama_model_load_from_file(argv[2], llama_model_default_params());
    FILE * out = fopen(argv[3], "wb");
    if (!model || !out) {
        return fail("can't open the model or the output");
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 128;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return fail("no context");
    }
    const size_t vocabulary = (size_t) llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_token tokens[PROMPT + STEPS];
    for (int i = 0; i < PROMPT + STEPS; i++) {
        tokens[i] = 300 + 7 * i;
    }
    for (int i = 0; i <= STEPS; i++) {
        struct llama_batch batch = i == 0 ? llama_batch_get_one(tokens, PROMPT) : llama_batch_get_one(tokens + PROMPT + i - 1, 1);
        if (llama_decode(context, batch) != 0) {
            return fail("llama_decode failed");
        }
        if (fwrite(llama_get_logits_ith(context, -1), sizeof(float), vocabulary, out) != vocabulary) {
            return fail("can't write");
        }
    }
    llama_free(context);
    llama_model_free(model);
    return fclose(out) == 0 ? 0 : fail("can't write");
}
