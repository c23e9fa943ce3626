package io.github.panamallama.runtime.natives;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_batch;
import io.github.panamallama.bindings.llama_chat_message;
import io.github.panamallama.bindings.llama_context_params;
import io.github.panamallama.bindings.llama_model_params;
import io.github.panamallama.bindings.pl_flags;
import io.github.panamallama.bindings.pl_memory_use;
import io.github.panamallama.bindings.pl_thread_options;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.ResourceBundle;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What would end the process without a guard is an error after one. */
class GuardsTest {
    private static final int UBATCH = 32;

    @TempDir
    static Path folder;

    private static Path file;

    private final NativeError error = new NativeError();
    private Arena arena;

    @BeforeAll
    static void makeModel() {
        Natives.load();
        file = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(file);
    }

    @BeforeEach
    void open() {
        arena = Arena.ofConfined();
    }

    @AfterEach
    void close() {
        NativeLog.install(System.getLogger(NativeLog.NAME));
        arena.close();
    }

    private MemorySegment load(Path path, MemorySegment params) {
        var paths = arena.allocateFrom(ValueLayout.ADDRESS, arena.allocateFrom(path.toString()));
        return LlamaH.pl_model_load(paths, 1, params, error.segment());
    }

    private MemorySegment load() {
        var model = load(file, LlamaH.llama_model_default_params(arena));
        error.check("load");
        return model;
    }

    private MemorySegment contextParams() {
        var params = LlamaH.llama_context_default_params(arena);
        llama_context_params.n_ctx(params, 256);
        llama_context_params.n_batch(params, UBATCH);
        llama_context_params.n_ubatch(params, UBATCH);
        llama_context_params.n_threads(params, 2);
        llama_context_params.n_threads_batch(params, 2);
        return params;
    }

    /** Tokens 1, 1, ... of sequence 0, positions chosen by upstream. */
    private MemorySegment batch(int tokens) {
        var batch = llama_batch.allocate(arena);
        batch.fill((byte) 0);
        llama_batch.n_tokens(batch, tokens);
        var ids = arena.allocate(ValueLayout.JAVA_INT, tokens);
        for (int i = 0; i < tokens; i++) {
            ids.setAtIndex(ValueLayout.JAVA_INT, i, 1);
        }
        llama_batch.token(batch, ids);
        return batch;
    }

    @Test
    void aMissingModelFileFailsWithUpstreamsReason() {
        var model = load(folder.resolve("missing.gguf"), LlamaH.llama_model_default_params(arena));
        assertEquals(MemorySegment.NULL, model);
        assertEquals(LlamaH.PL_FAILED(), error.code());
        assertTrue(error.message().contains("missing.gguf"), error::message);
        assertThrows(LlamaException.class, () -> error.check("loading missing.gguf"));
    }

    @Test
    void noPathsFail() {
        assertEquals(MemorySegment.NULL, LlamaH.pl_model_load(MemorySegment.NULL, 0, LlamaH.llama_model_default_params(arena),
                error.segment()));
        assertTrue(error.failed());
    }

    @Test
    void aSuccessClearsTheErrorBefore() {
        load(folder.resolve("missing.gguf"), LlamaH.llama_model_default_params(arena));
        assertTrue(error.failed());
        LlamaH.pl_model_free(load());
        assertFalse(error.failed());
        assertEquals("", error.message());
    }

    @Test
    void aFailedAssertionIsAnErrorAndTheProcessLives() {
        var model = load();
        var context = LlamaH.pl_context_new(model, contextParams(), 0, error.segment());
        error.check("context");
        int code = LlamaH.pl_decode(context, batch(UBATCH + 1), error.segment());
        assertEquals(LlamaH.PL_ASSERTION(), code);
        assertTrue(error.assertionFailed());
        assertTrue(error.message().contains("n_batch"), error::message);
        assertFalse(error.message().startsWith("/"), error::message);
        LlamaH.pl_context_free(context, MemorySegment.NULL);

        context = LlamaH.pl_context_new(model, contextParams(), 0, error.segment());
        assertEquals(0, LlamaH.pl_decode(context, batch(UBATCH), error.segment()), error::message);
        LlamaH.pl_context_free(context, MemorySegment.NULL);
        LlamaH.pl_model_free(model);
    }

    @Test
    void aThrownExceptionIsAnError() {
        var model = load();
        var piece = arena.allocate(64);
        int code = LlamaH.pl_token_to_piece(LlamaH.llama_model_get_vocab(model), 1_000_000, piece, 64, 0, true, error.segment());
        assertTrue(code < -99, "code " + code);
        assertEquals(code, error.code());
        assertFalse(error.message().isEmpty());
        LlamaH.pl_model_free(model);
    }

    @Test
    void theCancelFlagEndsALoadAndAFreshOneSucceeds() {
        var flags = pl_flags.allocate(arena);
        flags.fill((byte) 0);
        var params = LlamaH.llama_model_default_params(arena);
        llama_model_params.progress_callback(params, LlamaH.pl_progress_callback$address());
        llama_model_params.progress_callback_user_data(params, flags);

        pl_flags.cancel(flags, 1);
        assertEquals(MemorySegment.NULL, load(file, params));
        assertTrue(error.failed());

        pl_flags.cancel(flags, 0);
        var model = load(file, params);
        error.check("load");
        assertEquals(1f, pl_flags.progress(flags));
        LlamaH.pl_model_free(model);
    }

    @Test
    void theCancelFlagEndsADecode() {
        var model = load();
        var flags = pl_flags.allocate(arena);
        flags.fill((byte) 0);
        var params = contextParams();
        llama_context_params.abort_callback(params, LlamaH.pl_abort_callback$address());
        llama_context_params.abort_callback_data(params, flags);
        var context = LlamaH.pl_context_new(model, params, 0, error.segment());
        error.check("context");

        pl_flags.cancel(flags, 1);
        assertEquals(2, LlamaH.pl_decode(context, batch(8), error.segment()));
        assertFalse(error.failed(), error::message);
        assertFalse(error.message().isEmpty());
        pl_flags.cancel(flags, 0);
        assertEquals(0, LlamaH.pl_decode(context, batch(8), error.segment()));
        LlamaH.pl_context_free(context, MemorySegment.NULL);
        LlamaH.pl_model_free(model);
    }

    private MemorySegment threads(int single, int many) {
        var options = pl_thread_options.allocate(arena);
        pl_thread_options.n_threads(options, single);
        pl_thread_options.n_threads_batch(options, many);
        pl_thread_options.poll(options, 50);
        return options;
    }

    @Test
    void attachedThreadsDecodeTheSameRow() {
        var model = load();
        int vocabulary = LlamaH.llama_vocab_n_tokens(LlamaH.llama_model_get_vocab(model));
        var rows = new ArrayList<float[]>();
        for (boolean attach : new boolean[] {false, true}) {
            var context = LlamaH.pl_context_new(model, contextParams(), 0, error.segment());
            error.check("context");
            var threads = attach ? LlamaH.pl_threads_attach(context, threads(2, 1), error.segment()) : MemorySegment.NULL;
            error.check("threads");
            assertEquals(0, LlamaH.pl_decode(context, batch(8), error.segment()));
            var row = arena.allocate(ValueLayout.JAVA_FLOAT, vocabulary);
            assertEquals(0, LlamaH.pl_get_logits(context, -1, row, vocabulary, error.segment()), error::message);
            rows.add(row.toArray(ValueLayout.JAVA_FLOAT));
            assertEquals(LlamaH.PL_FAILED(), LlamaH.pl_get_logits(context, 3, row, vocabulary, error.segment()));
            assertFalse(error.message().isEmpty());
            LlamaH.pl_context_free(context, threads);
        }
        assertEquals(List.of(), java.util.stream.IntStream.range(0,
                vocabulary).filter(i -> rows.get(0)[i] != rows.get(1)[i]).boxed().toList());
        LlamaH.pl_model_free(model);
    }

    @Test
    void threadCountsOutOfRangeAreRefusedWithTheValue() {
        var model = load();
        var context = LlamaH.pl_context_new(model, contextParams(), 0, error.segment());
        assertEquals(MemorySegment.NULL, LlamaH.pl_threads_attach(context, threads(0, 2), error.segment()));
        assertEquals(LlamaH.PL_BAD_ARGUMENT(), error.code());
        assertTrue(error.message().contains("the number of threads is 0; it must be from 1 to "), error::message);
        LlamaH.pl_context_free(context, MemorySegment.NULL);
        LlamaH.pl_model_free(model);
    }

    @Test
    void theEstimateGrowsWithTheContextAndCountsTheWeights() {
        var paths = arena.allocateFrom(ValueLayout.ADDRESS, arena.allocateFrom(file.toString()));
        var uses = pl_memory_use.allocateArray(8, arena);
        long[] contextBytes = new long[2];
        for (int i = 0; i < 2; i++) {
            var params = contextParams();
            llama_context_params.n_ctx(params, 256 << i);
            int n = LlamaH.pl_memory_estimate(paths, 1, LlamaH.llama_model_default_params(arena), params, 0, uses, 8, error.segment());
            error.check("estimate");
            assertTrue(n >= 1, "devices: " + n);
            assertNotEquals(0, pl_memory_use.host(uses));
            contextBytes[i] = pl_memory_use.context(uses);
            assertTrue(pl_memory_use.model(uses) > 500_000, "weights: " + pl_memory_use.model(uses));
            assertTrue(pl_memory_use.compute(uses) > 0);
        }
        assertEquals(2 * contextBytes[0], contextBytes[1]);

        assertEquals(1, LlamaH.pl_memory_estimate(paths, 1, LlamaH.llama_model_default_params(arena), MemorySegment.NULL, 0, uses, 8,
                error.segment()));
        assertEquals(0, pl_memory_use.context(uses));
    }

    @Test
    void quantisingAMissingFileFails() {
        int code = LlamaH.pl_model_quantize(arena.allocateFrom(folder.resolve("missing.gguf").toString()),
                arena.allocateFrom(folder.resolve("out.gguf").toString()),
                LlamaH.llama_model_quantize_default_params(arena), error.segment());
        assertTrue(code < -99, "code " + code);
        assertFalse(error.message().isEmpty());
    }

    @Test
    void anUnknownChatTemplateIsMinusOne() {
        var message = llama_chat_message.allocate(arena);
        llama_chat_message.role(message, arena.allocateFrom("user"));
        llama_chat_message.content(message, arena.allocateFrom("hello"));
        assertEquals(-1, LlamaH.pl_chat_apply_template(arena.allocateFrom("no such template"), message, 1, true, MemorySegment.NULL, 0,
                error.segment()));
        assertFalse(error.failed(), error::message);
        assertTrue(LlamaH.pl_chat_apply_template(arena.allocateFrom("chatml"), message, 1, true, arena.allocate(256), 256,
                error.segment()) > 0);
    }

    @Test
    void aLoggerThatThrowsHarmsNobody() {
        var calls = new ArrayList<String>();
        NativeLog.install(new System.Logger() {
            @Override
            public String getName() {
                return NativeLog.NAME;
            }

            @Override
            public boolean isLoggable(Level level) {
                return true;
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String message, Throwable thrown) {
                calls.add(message);
                throw new IllegalStateException("from the logger");
            }

            @Override
            public void log(Level level, ResourceBundle bundle, String format, Object... params) {
                log(level, bundle, format, (Throwable) null);
            }
        });
        load(folder.resolve("missing.gguf"), LlamaH.llama_model_default_params(arena));
        assertTrue(error.message().contains("missing.gguf"), error::message);
        assertTrue(calls.stream().anyMatch(line -> line.contains("missing.gguf")), calls::toString);
        assertTrue(calls.stream().noneMatch(line -> line.contains("\n")), calls::toString);
    }
}
