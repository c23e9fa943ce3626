package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.function.Function;
import org.junit.jupiter.api.AfterAll;

/** The shipped model in this process and in a worker, for tests of one class at a time. */
abstract class BothWays {
    static final String PROMPT = "public final class Point {\n    private final int x;\n";

    static Llama here;
    static IsolatedLlama there;

    static void open(LlamaOptions options) {
        here = Llama.loadDefault(options);
        there = Llama.isolatedDefault(options, IsolationOptions.defaults());
    }

    @AfterAll
    static void close() {
        there.close();
        here.close();
    }

    /** Both must give this. */
    static <T> T alike(Function<TextModel, T> asked) {
        var local = asked.apply(here);
        assertEquals(local, asked.apply(there));
        return local;
    }

    /** Both must throw the same, with the same words. */
    static <T extends Throwable> T sameFailure(Class<T> type, Function<TextModel, ?> asked) {
        var local = assertThrows(type, () -> asked.apply(here));
        var remote = assertThrows(type, () -> asked.apply(there));
        assertEquals(local.getClass(), remote.getClass());
        assertEquals(local.getMessage(), remote.getMessage());
        return remote;
    }
}
