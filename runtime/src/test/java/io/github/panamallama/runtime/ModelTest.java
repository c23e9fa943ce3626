package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ModelTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path VENDORED = Path.of("..", "ggml-src", "upstream", "models");

    @TempDir
    Path folder;

    @Test
    void theShippedModelIsLoadedAndDescribesItself() {
        try (var model = Model.load(JAVA_TINY)) {
            assertEquals(5_771_520, model.parameterCount());
            assertEquals(1024, model.contextLength());
            assertEquals(256, model.embeddingSize());
            assertEquals(8, model.layerCount());
            assertEquals(4, model.headCount());
            assertEquals(2, model.keyValueHeadCount());
            assertEquals(0, model.slidingWindow());
            assertEquals(4096, model.vocabulary().size());
            assertEquals("llama", model.architecture());
            assertTrue(model.description().startsWith("llama"), model.description());
            assertEquals(model.gguf().tensorBytes(), model.sizeBytes());
            assertTrue(model.hasDecoder());
            assertFalse(model.hasEncoder() || model.isRecurrent() || model.isHybrid() || model.isDiffusion());
            assertTrue(model.chatTemplateSource(null).orElseThrow().contains("<|im_start|>"));
            assertTrue(model.chatTemplateSource("tool_use").isEmpty());
            assertEquals("256", model.metadata().get("llama.embedding_length"));
            assertEquals("array of string, 4096 elements", model.metadata().get("tokenizer.ggml.tokens"));
        }
    }

    @Test
    void aFingerprintIsTheHeaderAndTheEndsAndMiddleOfEachTensor() throws Exception {
        var copy = Files.copy(JAVA_TINY, folder.resolve("copy.gguf"));
        var changed = Files.copy(JAVA_TINY, folder.resolve("changed.gguf"));
        byte[] bytes = Files.readAllBytes(JAVA_TINY);
        var digest = MessageDigest.getInstance("SHA-256");
        var file = GgufFile.read(JAVA_TINY);
        digest.update(bytes, 0, (int) file.dataStart());
        for (var tensor : file.tensors()) {
            int start = (int) file.position(tensor);
            int size = (int) tensor.byteSize();
            if (size <= 3 * 4096) {
                digest.update(bytes, start, size);
            } else {
                digest.update(bytes, start, 4096);
                digest.update(bytes, start + size / 2, 4096);
                digest.update(bytes, start + size - 4096, 4096);
            }
        }
        var expected = HexFormat.of().formatHex(digest.digest());
        bytes[bytes.length - 1] ^= 1;
        Files.write(changed, bytes);
        try (var one = Model.load(JAVA_TINY); var two = Model.load(copy); var other = Model.load(changed)) {
            assertEquals(expected, one.fingerprint());
            assertEquals(expected, two.fingerprint());
            assertNotEquals(expected, other.fingerprint());
        }
        try (var shortened = Model.load(copy, ModelOptions.defaults().withMmap(false));
                var channel = FileChannel.open(copy, StandardOpenOption.WRITE)) {
            channel.truncate(bytes.length - 100);
            var refused = assertThrows(GgufException.class, shortened::fingerprint);
            assertTrue(refused.getMessage().contains("has become shorter"), refused.getMessage());
        }
    }

    @ParameterizedTest
    @EnumSource(RandomModel.Architecture.class)
    void everyKindOfModelIsLoaded(RandomModel.Architecture architecture) {
        var shape = RandomModel.tiny(architecture);
        try (var model = Model.load(write(shape))) {
            assertEquals(shape.parameterCount(), model.parameterCount());
            assertEquals(architecture == RandomModel.Architecture.MAMBA, model.isRecurrent());
            assertEquals(Set.of(RandomModel.Architecture.JAMBA, RandomModel.Architecture.QWEN35).contains(architecture), model.isHybrid());
            assertEquals(architecture == RandomModel.Architecture.GEMMA3 ? shape.slidingWindow() : 0, model.slidingWindow());
        }
    }

    @ParameterizedTest
    @EnumSource(value = GgmlType.class, names = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
    void weightsOfEveryTypePassTheCheckOfTensors(GgmlType type) {
        var shape = RandomModel.llama(2, 256, 4, 2, 512, 512).withType(type);
        try (var model = Model.load(write(shape), ModelOptions.defaults().withCheckTensors(true))) {
            assertEquals(shape.parameterCount(), model.parameterCount());
        }
    }

    @Test
    void aModelIsLoadedWithEveryCombinationOfOptions() {
        var path = write(RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(GgmlType.Q4_0));
        for (boolean mmap : new boolean[] {true, false}) {
            for (boolean mlock : new boolean[] {true, false}) {
                for (boolean repack : new boolean[] {true, false}) {
                    var options = ModelOptions.defaults().withMmap(mmap).withMlock(mlock).withRepack(repack).withGpuLayers(0);
                    try (var model = Model.load(path, options)) {
                        assertEquals(4, model.layerCount(), options.toString());
                    }
                }
            }
        }
    }

    @Test
    void aFileWithSmallAlignmentIsReadInsteadOfMapped() {
        var path = folder.resolve("aligned.gguf");
        GgufWriter.copyOf(GgufFile.read(JAVA_TINY)).alignment(8).write(path);
        var file = GgufFile.read(path);
        assumeTrue(file.tensors().stream().anyMatch(tensor -> file.position(tensor) % 32 != 0), "the alignment shows in no offset");
        assertFalse(Model.maps(List.of(file), ModelOptions.defaults()));
        try (var model = Model.load(path)) {
            assertEquals(5_771_520, model.parameterCount());
        }
    }

    @Test
    void theVocabularyAloneIsLoadedWithoutWeights() {
        try (var model = Model.load(JAVA_TINY, ModelOptions.defaults().withVocabularyOnly(true))) {
            assertEquals(4096, model.vocabulary().size());
            var failure = assertThrows(LlamaException.class, model::retain);
            assertTrue(failure.getMessage().contains("vocabulary only"), failure.getMessage());
        }
    }

    @Test
    void everyVendoredVocabularyIsLoaded() throws IOException {
        assumeTrue(Files.isDirectory(VENDORED), VENDORED + " is missing; ggml-src/vendor brings it");
        try (var files = Files.newDirectoryStream(VENDORED, "*.gguf")) {
            for (var path : files) {
                try (var model = Model.load(path, ModelOptions.defaults().withVocabularyOnly(true))) {
                    assertEquals(GgufFile.read(path).metadata().arrayLength("tokenizer.ggml.tokens").get(), model.vocabulary().size(),
                            path.toString());
                }
                var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
                assertTrue(failure.getMessage().contains("withVocabularyOnly") || failure.getMessage().contains("has no "),
                        failure.getMessage());
            }
        }
    }

    @Test
    void aSplitModelIsLoadedFromItsFirstPart() {
        var whole = GgufFile.read(JAVA_TINY);
        var half = whole.tensors().size() / 2;
        part(whole, 0, 0, half);
        part(whole, 1, half, whole.tensors().size());
        try (var model = Model.load(folder.resolve("split-00001-of-00002.gguf"))) {
            assertEquals(5_771_520, model.parameterCount());
            assertEquals(2, model.parts().size());
        }
        var failure = assertThrows(GgufException.class, () -> Model.load(folder.resolve("split-00002-of-00002.gguf")));
        assertTrue(failure.getMessage().contains("give the first part"), failure.getMessage());
    }

    private void part(GgufFile whole, int number, int from, int to) {
        var writer = new GgufWriter();
        if (number == 0) {
            writer.putAll(whole.metadata());
        }
        writer.putU16("split.no", number).putU16("split.count", 2).putI32("split.tensors.count", whole.tensors().size());
        for (var tensor : whole.tensors().subList(from, to)) {
            writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                try (var arena = Arena.ofConfined()) {
                    out.write(whole.map(tensor, arena));
                }
            });
        }
        writer.write(folder.resolve("split-%05d-of-00002.gguf".formatted(number + 1)));
    }

    @Test
    void progressGoesFromNothingToEverything() {
        var seen = new ArrayList<Double>();
        try (var model = Model.load(JAVA_TINY, ModelOptions.defaults().withProgress(p -> {
            synchronized (seen) {
                seen.add(p);
            }
        }))) {
            assertEquals(0.0, seen.getFirst());
            assertEquals(1.0, seen.getLast());
            for (int i = 1; i < seen.size(); i++) {
                assertTrue(seen.get(i) > seen.get(i - 1), seen.toString());
            }
            assertEquals(8, model.layerCount());
        }
    }

    @Test
    void whatACallbackThrowsCancelsTheLoadAndIsThrownByIt() {
        var fault = new IllegalStateException("enough");
        for (double when : new double[] {0, 1}) {
            assertSame(fault, assertThrows(IllegalStateException.class, () -> Model.load(JAVA_TINY,
                    ModelOptions.defaults().withProgress(p -> {
                if (p >= when) {
                    throw fault;
                }
            }))));
        }
        var error = new AssertionError("an error too");
        assertSame(error, assertThrows(AssertionError.class, () -> Model.load(JAVA_TINY, ModelOptions.defaults().withCancellation(() -> {
            throw error;
        }))));
    }

    @Test
    void aLoadEndsWhenItIsCancelled() {
        var before = assertThrows(ModelLoadException.class, () -> Model.load(JAVA_TINY,
                ModelOptions.defaults().withCancellation(() -> true)));
        assertTrue(before.cancelled());
        assertTrue(before.getMessage().contains("cancelled"), before.getMessage());
        // asked at the start, every 50 ms and at the end: one of the later ones says yes
        var asked = new AtomicInteger();
        var later = assertThrows(ModelLoadException.class, () -> Model.load(JAVA_TINY,
                ModelOptions.defaults().withCancellation(() -> asked.getAndIncrement() > 0)));
        assertTrue(later.cancelled());
    }

    @Test
    void aLongLoadEndsBetweenTwoTensorsWhenItIsCancelled() {
        // 180 MB whose checks of every weight take longer than the first look of the monitor
        var path = write(RandomModel.llama(12, 1024, 16, 4, 4096, 4096).withType(GgmlType.Q8_0));
        var asked = new AtomicInteger();
        var highest = new double[1];
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(path,
                ModelOptions.defaults().withMmap(false).withCheckTensors(true)
                .withProgress(p -> highest[0] = p).withCancellation(() -> asked.getAndIncrement() > 0)));
        assertTrue(failure.cancelled());
        assertTrue(highest[0] <= 1, "progress " + highest[0]);
    }

    @Test
    void interruptingTheLoadingThreadCancelsTheLoad() {
        Thread.currentThread().interrupt();
        try {
            var failure = assertThrows(ModelLoadException.class, () -> Model.load(JAVA_TINY));
            assertTrue(failure.cancelled());
        } finally {
            assertTrue(Thread.interrupted(), "the interrupt stays for the caller to see");
        }
    }

    @Test
    void closingWithOpenEnginesIsRefusedAndNamesThem() {
        var model = Model.load(JAVA_TINY);
        model.retain();
        model.retain();
        var failure = assertThrows(ModelInUseException.class, model::close);
        assertEquals(2, failure.engines());
        assertTrue(failure.getMessage().contains("2 open engines"), failure.getMessage());
        assertTrue(model.vocabulary().tokenize("class", false, false).length > 0, "still open");
        model.release();
        assertThrows(ModelInUseException.class, model::close);
        model.release();
        model.close();
        model.close();
        assertThrows(ClosedException.class, model::retain);
        assertThrows(ClosedException.class, model::handle);
        assertThrows(IllegalStateException.class, model::release);
        assertEquals(5_771_520, model.parameterCount());
    }

    @Test
    void closingFromManyThreadsFreesOnce() throws Exception {
        var model = Model.load(JAVA_TINY);
        var start = new CountDownLatch(1);
        try (var executor = Executors.newVirtualThreadPerTaskExecutor()) {
            var tasks = new ArrayList<Future<?>>();
            for (int i = 0; i < 16; i++) {
                tasks.add(executor.submit((Callable<Void>) () -> {
                    start.await();
                    model.close();
                    return null;
                }));
            }
            start.countDown();
            for (var task : tasks) {
                task.get();
            }
        }
        assertThrows(ClosedException.class, model::handle);
    }

    @Test
    void manyThreadsLoadAtOnce() throws Exception {
        try (var executor = Executors.newVirtualThreadPerTaskExecutor()) {
            Callable<Long> task = () -> {
                try (var model = Model.load(JAVA_TINY)) {
                    return model.parameterCount();
                }
            };
            for (var result : executor.invokeAll(Collections.nCopies(8, task))) {
                assertEquals(5_771_520, result.get());
            }
        }
    }

    @Test
    void aThousandModelsLeaveNothingBehind() throws Throwable {
        var mallinfo = Linker.nativeLinker().defaultLookup().find("mallinfo2");
        assumeTrue(mallinfo.isPresent() && Files.isReadable(Path.of("/proc/self/maps")), "needs glibc and /proc");
        var fields = MemoryLayout.structLayout(Collections.nCopies(10, ValueLayout.JAVA_LONG).toArray(MemoryLayout[]::new));
        var call = Linker.nativeLinker().downcallHandle(mallinfo.get(), FunctionDescriptor.of(fields));
        var path = write(RandomModel.tiny(RandomModel.Architecture.LLAMA));
        for (int i = 0; i < 100; i++) {
            Model.load(path).close();
        }
        long before = inUse(call);
        for (int i = 0; i < 1000; i++) {
            Model.load(path).close();
        }
        long growth = inUse(call) - before;
        // a leaked model would be 0.9 MB each time; the JVM's own compiler takes some
        assertTrue(growth < 16 << 20, "native memory in use grew by " + growth + " bytes over 1000 loads");
        assertFalse(Files.readString(Path.of("/proc/self/maps")).contains(path.toRealPath().toString()), "the file is still mapped");
        try (var open = Files.list(Path.of("/proc/self/fd"))) {
            assertEquals(0, open.filter(fd -> pointsTo(fd, path)).count(), "the file is still open");
        }
    }

    private static boolean pointsTo(Path link, Path file) {
        try {
            return Files.readSymbolicLink(link).equals(file.toRealPath());
        } catch (IOException e) {
            // closed in between
            return false;
        }
    }

    /** Bytes that malloc has given out, in arenas and in mappings of their own. */
    private static long inUse(MethodHandle mallinfo2) throws Throwable {
        try (var arena = Arena.ofConfined()) {
            var info = (MemorySegment) mallinfo2.invokeExact((SegmentAllocator) arena);
            return info.getAtIndex(ValueLayout.JAVA_LONG, 7) + info.getAtIndex(ValueLayout.JAVA_LONG, 4);
        }
    }

    @Test
    void anUnknownArchitectureIsRefusedByName() {
        var path = folder.resolve("unknown.gguf");
        var source = GgufFile.read(JAVA_TINY);
        GgufWriter.copyOf(source).put("general.architecture", "llama9")
                .putU32("llama9.block_count", 8).putU32("llama9.context_length", 8).putU32("llama9.embedding_length", 256).write(path);
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(failure.getMessage().contains("llama9"), failure.getMessage());
        assertTrue(failure.getMessage().contains(path.toString()), failure.getMessage());
    }

    @Test
    void aMissingTensorIsNamed() {
        var path = folder.resolve("partial.gguf");
        var source = GgufFile.read(JAVA_TINY);
        var writer = new GgufWriter().putAll(source.metadata());
        for (var tensor : source.tensors()) {
            if (!tensor.name().equals("blk.3.ffn_up.weight")) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(),
                        out -> out.write(MemorySegment.ofArray(new byte[(int) tensor.byteSize()])));
            }
        }
        writer.write(path);
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(failure.getMessage().contains("blk.3.ffn_up.weight"), failure.getMessage());
    }

    @Test
    void anUnknownDeviceIsRefused() {
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(JAVA_TINY, ModelOptions.defaults().withDevices("CUDA99")));
        assertTrue(failure.getMessage().contains("CUDA99"), failure.getMessage());
    }

    @Test
    void filesThatAreNoModelAreRefusedByTheReader() throws IOException {
        assertThrows(GgufException.class, () -> Model.load(folder.resolve("missing.gguf")));
        assertThrows(GgufException.class, () -> Model.load(folder));
        assertThrows(GgufException.class, () -> Model.load(Files.writeString(folder.resolve("text.gguf"), "hello, this is not a model")));
    }

    private Path write(RandomModel model) {
        var path = folder.resolve(model.architecture().key() + "-" + model.type().label() + ".gguf");
        model.write(path);
        return path;
    }
}
