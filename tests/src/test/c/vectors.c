// Embeddings and rerank scores by nothing but llama.h: what Embedder and Reranker are compared with, bit for bit.
//
//   vectors MODEL OUT POOLING ATTENTION n_ctx n_seq_max n_threads
//
// POOLING is none, mean, cls, last or rank; ATTENTION model, causal or non-causal. Each line of the standard input is a batch: texts
// separated by ';', each of ids separated by blanks. OUT receives native floats, one vector after the other: of each text, or without
// pooling of each token. Exit code 0, or 1 with a line on the standard error.
#include "ggml-backend.h"
#include "llama.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    const char * name;
    int value;
};

static const struct choice POOLINGS[] = {
    {"none", LLAMA_POOLING_TYPE_NONE}, {"mean", LLAMA_POOLING_TYPE_MEAN}, {"cls", LLAMA_POOLING_TYPE_CLS},
    {"last", LLAMA_POOLING_TYPE_LAST}, {"rank", LLAMA_POOLING_TYPE_RANK}, {NULL, 0},
};
static const struct choice ATTENTIONS[] = {
    {"model", LLAMA_ATTENTION_TYPE_UNSPECIFIED}, {"causal", LLAMA_ATTENTION_TYPE_CAUSAL},
    {"non-causal", LLAMA_ATTENTION_TYPE_NON_CAUSAL}, {NULL, 0},
};

static void only_errors(enum ggml_log_level level, const char * text, void * user) {
    (void) user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int fail(const char * what) {
    fprintf(stderr, "vectors: %s\n", what);
    return 1;
}

static int choose(const struct choice * choices, const char * name) {
    for (; choices->name; choices++) {
        if (strcmp(choices->name, name) == 0) {
            return choices->value;
        }
    }
    exit(fail(name));
}

// the number of texts, 0 if the line is none of a batch
static int parse(const char * line, struct llama_batch * batch, int capacity) {
    int text = 0;
    int position = 0;
    batch->n_tokens = 0;
    for (;;) {
        while (isspace((unsigned char) *line)) {
            line++;
        }
        if (*line == '\0') {
            return position > 0 ? text + 1 : 0;
        }
        if (*line == ';') {
            text++;
            position = 0;
            line++;
            continue;
        }
        char * end;
        const llama_token token = (llama_token) strtol(line, &end, 10);
        if (end == line || batch->n_tokens == capacity) {
            return 0;
        }
        const int i = batch->n_tokens++;
        batch->token[i] = token;
        batch->pos[i] = position++;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = text;
        batch->logits[i] = 1;
        line = end;
    }
}

int main(int argc, char ** argv) {
    if (argc != 8) {
        return fail("7 arguments wanted");
    }
    llama_log_set(only_errors, NULL);
    ggml_backend_load_all();
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    FILE * out = fopen(argv[2], "wb");
    if (!model || !out) {
        return fail("can't open the model or the output");
    }
    const int capacity = atoi(argv[5]);
    struct llama_context_params cp = llama_context_default_params();
    cp.embeddings = true;
    cp.pooling_type = choose(POOLINGS, argv[3]);
    cp.attention_type = choose(ATTENTIONS, argv[4]);
    cp.n_ctx = cp.n_batch = cp.n_ubatch = (uint32_t) capacity;
    cp.n_seq_max = (uint32_t) atoi(argv[6]);
    cp.n_threads = cp.n_threads_batch = atoi(argv[7]);
    cp.kv_unified = true;
    struct llama_context * ctx = llama_init_from_model(model, cp);
    if (!ctx) {
        return fail("no context");
    }
    const enum llama_pooling_type pooling = llama_pooling_type(ctx);
    const size_t width = pooling == LLAMA_POOLING_TYPE_RANK ? llama_model_n_cls_out(model) : (size_t) llama_model_n_embd_out(model);
    struct llama_batch batch = llama_batch_init(capacity, 0, 1);
    char * line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        const int texts = parse(line, &batch, capacity);
        if (texts == 0) {
            return fail("a line that is no batch, or too long");
        }
        llama_memory_clear(llama_get_memory(ctx), true);
        if (llama_decode(ctx, batch) != 0) {
            return fail("llama_decode failed");
        }
        const int vectors = pooling == LLAMA_POOLING_TYPE_NONE ? batch.n_tokens : texts;
        for (int i = 0; i < vectors; i++) {
            const float * vector = pooling == LLAMA_POOLING_TYPE_NONE ? llama_get_embeddings_ith(ctx, i) : llama_get_embeddings_seq(ctx, i);
            if (!vector || fwrite(vector, sizeof(float), width, out) != width) {
                return fail("no vector, or can't write it");
            }
        }
    }
    free(line);
    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
    return fclose(out) == 0 ? 0 : fail("can't write");
}
