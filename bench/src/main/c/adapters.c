// Adapters as llama.cpp itself offers them: one set for a batch. One token for each of several sequences, each under an adapter of its own,
// takes a decode per adapter, with llama_set_adapters_lora before it. What this project's mixed batches are compared with.
//
//   adapters MODEL threads steps prompt_tokens ADAPTER...
//
// Prints the tokens per second over all steps, one token per sequence and step. Exit code 0, or 1 with a line on the standard error.
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
    fprintf(stderr, "adapters: %s\n", what);
    return 1;
}

static int decode(struct llama_context * ctx, struct llama_batch * batch, llama_token token, int count, llama_pos pos, llama_seq_id seq) {
    batch->n_tokens = count;
    for (int i = 0; i < count; i++) {
        batch->token[i] = token + i;
        batch->pos[i] = pos + i;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = seq;
        batch->logits[i] = i == count - 1;
    }
    return llama_decode(ctx, *batch) == 0 && llama_get_logits_ith(ctx, -1) != NULL;
}

int main(int argc, char ** argv) {
    if (argc < 6) {
        return fail("at least 5 arguments wanted");
    }
    llama_log_set(only_errors, NULL);
    ggml_backend_load_all();
    llama_backend_init();
    const int threads = atoi(argv[2]), steps = atoi(argv[3]), prompt = atoi(argv[4]), n = argc - 5;

    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return fail("can't load the model");
    }
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx           = 2048;
    cp.n_batch         = 2048;
    cp.n_seq_max       = (uint32_t) n;
    cp.n_threads       = threads;
    cp.n_threads_batch = threads;
    cp.kv_unified      = true;
    struct llama_context * ctx = llama_init_from_model(model, cp);
    if (!ctx) {
        return fail("no context");
    }
    struct ggml_threadpool_params tp = ggml_threadpool_params_default(threads);
    struct ggml_threadpool * pool = ggml_threadpool_new(&tp);
    llama_attach_threadpool(ctx, pool, NULL);

    struct llama_adapter_lora ** adapters = malloc((size_t) n * sizeof *adapters);
    for (int i = 0; i < n; i++) {
        adapters[i] = llama_adapter_lora_init(model, argv[5 + i]);
        if (!adapters[i]) {
            return fail("can't load an adapter");
        }
    }
    struct llama_batch batch = llama_batch_init(prompt > 1 ? prompt : 1, 0, 1);
    float scale = 1.0f;
    for (int i = 0; i < n; i++) {
        llama_set_adapters_lora(ctx, &adapters[i], 1, &scale);
        if (!decode(ctx, &batch, 300, prompt, 0, i)) {
            return fail("llama_decode failed");
        }
    }
    int64_t begin = 0;
    for (int step = -2; step < steps; step++) { // two to warm up
        if (step == 0) {
            begin = llama_time_us();
        }
        for (int i = 0; i < n; i++) {
            llama_set_adapters_lora(ctx, &adapters[i], 1, &scale);
            if (!decode(ctx, &batch, 300 + step + 2, 1, prompt + step + 2, i)) {
                return fail("llama_decode failed");
            }
        }
    }
    printf("%.6f\n", (double) steps * n * 1e6 / (double) (llama_time_us() - begin));
    llama_batch_free(batch);
    llama_free(ctx);
    ggml_threadpool_free(pool);
    for (int i = 0; i < n; i++) {
        llama_adapter_lora_free(adapters[i]);
    }
    free(adapters);
    llama_model_free(model);
    return 0;
}
