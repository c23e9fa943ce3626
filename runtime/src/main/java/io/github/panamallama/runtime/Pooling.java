package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;

/** How the vectors of a text's tokens become one. */
public enum Pooling {
    /** Not at all: a text has a vector for each of its tokens. */
    NONE(LlamaH.LLAMA_POOLING_TYPE_NONE()),
    /** Their mean. */
    MEAN(LlamaH.LLAMA_POOLING_TYPE_MEAN()),
    /** That of the first token. */
    CLS(LlamaH.LLAMA_POOLING_TYPE_CLS()),
    /** That of the last token. */
    LAST(LlamaH.LLAMA_POOLING_TYPE_LAST()),
    /** By the model's classification head, into scores; see {@link Reranker}. */
    RANK(LlamaH.LLAMA_POOLING_TYPE_RANK());

    private final int id;

    Pooling(int id) {
        this.id = id;
    }

    /** {@code enum llama_pooling_type}. */
    int id() {
        return id;
    }

    /** What the model's file says; null where it says nothing. */
    public static Pooling of(Model model) {
        var said = model.gguf().metadata().integer(model.architecture() + ".pooling_type");
        for (var pooling : values()) {
            if (said.isPresent() && said.getAsLong() == pooling.id) {
                return pooling;
            }
        }
        return null;
    }
}
