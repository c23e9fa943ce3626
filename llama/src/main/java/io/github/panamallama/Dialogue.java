package io.github.panamallama;

import io.github.panamallama.runtime.AdapterSet;
import java.nio.file.Path;
import java.util.List;

/** The evaluated tokens of a conversation, in this process or in a worker. One thread at a time. */
interface Dialogue extends AutoCloseable {
    /** Tokens that the context holds. */
    int contextSize();

    /** {@link io.github.panamallama.runtime.Vocabulary#specialSpellings} of the model. */
    List<String> specialSpellings();

    /** The tokens of a prompt that a chat template has written of {@linkplain Spellings#mark marked} messages. */
    int[] tokens(String prompt);

    /** What the model answers to a prompt; what is evaluated already of it is not evaluated again. */
    Generation answer(int[] prompt, GenerationOptions options);

    /** What the conversation is held under. */
    AdapterSet adapters();

    /** Goes on under other adapters; forgets what they evaluate otherwise. */
    void adapters(AdapterSet adapters);

    /** Tokens evaluated and kept. */
    int length();

    /** Writes the evaluated tokens to a file; {@link io.github.panamallama.runtime.StateException} where they can't be saved. */
    void save(Path file);

    /**
     * Takes evaluated tokens from a file in place of its own; {@link io.github.panamallama.runtime.StateException} where they don't fit.
     */
    void restore(Path file);

    /** Forgets all tokens. */
    void clear();

    @Override
    void close();
}
