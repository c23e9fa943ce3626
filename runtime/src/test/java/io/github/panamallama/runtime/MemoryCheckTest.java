package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class MemoryCheckTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final long MIB = 1 << 20;

    @TempDir
    Path folder;

    @Test
    void theEstimateIsWhatTheFileAndTheContextAddUpTo() {
        var options = EngineOptions.defaults().withContextSize(1024);
        var estimate = Model.estimate(JAVA_TINY, ModelOptions.defaults().withRepack(false), options);
        assertTrue(estimate.exact());
        assertEquals(GgufFile.read(JAVA_TINY).tensorBytes(), estimate.weights(), 4096);
        // 8 layers, 2 heads of 64, keys and values, 2 bytes each
        long cache = 1024L * 8 * 2 * 64 * 2 * 2;
        assertTrue(estimate.context() >= cache && estimate.context() < cache + MIB, estimate.toString());
        assertTrue(estimate.compute() > 0, estimate.toString());
        assertEquals(estimate.total(), estimate.weights() + estimate.context() + estimate.compute());
        assertEquals(estimate.weights(), estimate.host().mapped(), "mapped weights can be dropped");
        assertEquals(0, Model.estimate(JAVA_TINY, ModelOptions.defaults().withMmap(false), options).host().mapped());
    }

    @Test
    void smallerCacheTypesTakeLess() {
        var options = EngineOptions.defaults().withContextSize(4096).withFlashAttention(FlashAttention.ON);
        long half = Model.estimate(JAVA_TINY, ModelOptions.defaults(), options).context();
        long eight = Model.estimate(JAVA_TINY, ModelOptions.defaults(), options.withCacheTypes(GgmlType.Q8_0, GgmlType.Q8_0)).context();
        assertTrue(eight < half * 0.6, eight + " against " + half);
    }

    @ParameterizedTest
    @EnumSource(RandomModel.Architecture.class)
    void theQuickBoundIsAboveTheExactNumber(RandomModel.Architecture architecture) {
        var path = folder.resolve("model.gguf");
        RandomModel.tiny(architecture).write(path);
        boolean head = MtpHeads.ARCHITECTURES.contains(architecture.key());
        for (int context : new int[] {256, 4096, 65536}) {
            var options = EngineOptions.defaults().withContextSize(context);
            var how = ModelOptions.defaults().withMtp(head);
            var exact = Model.estimate(path, how, options);
            try (var model = Model.load(path, how)) {
                // passes without the exact plan only if the bound is at most half of what is available
                MemoryCheck.ensure(model, options, 100 * exact.total() + (1L << 32));
                long needed = exact.host().context() + exact.host().compute();
                MemoryCheck.ensure(model, options, needed);
                assertThrows(InsufficientMemoryException.class, () -> MemoryCheck.ensure(model, options, needed - 1));
            }
        }
    }

    @Test
    void aHugeContextIsRefusedWithNumbersAndAdviceInsteadOfBeingAllocated() {
        try (var model = Model.load(JAVA_TINY)) {
            var options = EngineOptions.defaults().withContextSize(1 << 30);
            var failure = assertThrows(InsufficientMemoryException.class, () -> MemoryCheck.ensure(model, options, 16L << 30));
            var message = failure.getMessage();
            assertTrue(message.contains("context of 1073741824 tokens"), message);
            assertTrue(message.contains("16.0 GiB are available"), message);
            assertTrue(message.contains("lower contextSize to about "), message);
            assertTrue(message.contains("withCacheTypes(Q8_0, Q8_0)"), message);
            assertEquals(16L << 30, failure.available());
            assertFalse(failure.estimate().exact(), "planning this would take as much memory as having it");
            assertTrue(failure.estimate().total() > 4L << 40, failure.estimate().toString());
        }
    }

    @Test
    void anEngineThatDoesNotFitIsRefusedAndTheModelCanBeClosed() {
        var model = Model.load(JAVA_TINY);
        assertThrows(InsufficientMemoryException.class, () -> Engine.open(model, EngineOptions.defaults().withContextSize(1 << 30)));
        var engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withThreads(1));
        assertThrows(ModelInUseException.class, model::close);
        engine.close();
        model.close();
        assertThrows(ClosedException.class, () -> Engine.open(model, EngineOptions.defaults()));
    }

    @Test
    void theLargestPossibleContextIsRefusedToo() {
        try (var model = Model.load(JAVA_TINY)) {
            var options = EngineOptions.defaults().withContextSize(Integer.MAX_VALUE).withMaxSequences(256);
            assertThrows(InsufficientMemoryException.class, () -> MemoryCheck.ensure(model, options, 16L << 30));
        }
    }

    @Test
    void aContextSlightlyTooLargeIsRefusedByTheExactPlan() {
        try (var model = Model.load(JAVA_TINY)) {
            var options = EngineOptions.defaults().withContextSize(65536);
            var failure = assertThrows(InsufficientMemoryException.class, () -> MemoryCheck.ensure(model, options, 128 * MIB));
            assertTrue(failure.estimate().exact());
        }
    }

    @Test
    void weightsThatDoNotFitAreRefusedUnlessTheyAreMapped() {
        var path = folder.resolve("model.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(GgmlType.F16).write(path);
        var parts = GgufFile.readParts(path);
        var read = ModelOptions.defaults().withMmap(false);
        var failure = assertThrows(InsufficientMemoryException.class, () -> MemoryCheck.ensureWeights(parts, read, 100_000));
        assertTrue(failure.getMessage().contains("withMmap(true)"), failure.getMessage());
        assertEquals(0, failure.estimate().context());
        MemoryCheck.ensureWeights(parts, ModelOptions.defaults().withRepack(false), 100_000);
        MemoryCheck.ensureWeights(parts, read.withVocabularyOnly(true), 100_000);
        MemoryCheck.ensureWeights(parts, read, 10 * MIB);
    }

    @Test
    void repackedWeightsCountEvenWhenTheFileIsMapped() {
        var path = folder.resolve("model.gguf");
        RandomModel.llama(2, 256, 4, 4, 512, 512).withType(GgmlType.Q4_0).write(path);
        var parts = GgufFile.readParts(path);
        var host = MemoryCheck.weights(parts, ModelOptions.defaults()).host();
        var plain = MemoryCheck.weights(parts, ModelOptions.defaults().withRepack(false)).host();
        assertEquals(plain.weights(), plain.mapped());
        assertTrue(host.mapped() <= plain.mapped(), host + " against " + plain);
        if (host.mapped() < host.weights()) {
            // this processor has its own layout for q4_0
            var failure = assertThrows(InsufficientMemoryException.class,
                    () -> MemoryCheck.ensureWeights(parts, ModelOptions.defaults(), host.needed() - 1));
            assertTrue(failure.getMessage().contains("withRepack(false)"), failure.getMessage());
        }
    }

    @Test
    void sumsSaturate() {
        var device = new MemoryEstimate.Device("CPU", Long.MAX_VALUE, 0, Long.MAX_VALUE, 1, 0);
        assertEquals(Long.MAX_VALUE, device.total());
        assertEquals("1.5 GiB", MemoryEstimate.text(3L << 29));
        assertEquals("2.0 MiB", MemoryEstimate.text(2 * MIB));
        assertEquals("3 KiB", MemoryEstimate.text(3072));
    }
}
