package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.UnaryOperator;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Sequences that are saved and restored, and whatever must not be restored. Random weights, tiny shapes. */
@Timeout(120)
class SequenceStateTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(4).withThreads(1);
    /** Magic number and length of the header. */
    private static final int HEADER = 12;

    @TempDir
    Path folder;

    private Model load(RandomModel shape) {
        var path = folder.resolve(shape.architecture() + "-" + shape.seed() + ".gguf");
        shape.write(path);
        return Model.load(path);
    }

    private Model load(Architecture architecture) {
        return load(RandomModel.tiny(architecture));
    }

    private static byte[] bytes(Sequence sequence) {
        var out = new ByteArrayOutputStream();
        try {
            sequence.save(out);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        return out.toByteArray();
    }

    private static Sequence restore(Engine engine, byte[] saved) {
        try {
            return engine.restore(new ByteArrayInputStream(saved), AdapterSet.none(), LayerPlan.all(engine.model().layerCount()));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static String refusal(Engine engine, byte[] saved) {
        return assertThrows(StateException.class, () -> restore(engine, saved).close()).getMessage();
    }

    /** Below the window, where cells lie as they lay, the very bits; with a window behind it, what the model's own noise allows. */
    @ParameterizedTest
    @EnumSource
    void aRestoredSequenceGoesOnAsIfItHadNeverBeenAway(Architecture architecture) {
        try (var model = load(architecture)) {
            for (int length : new int[] {1, 30, 200}) {
                var history = Evaluation.tokens(model, length, 1);
                var file = folder.resolve("sequence");
                var expected = new float[2][];
                try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
                    sequence.append(history, null);
                    sequence.save(file);
                    var row = engine.newRow();
                    for (int i = 0; i < 2; i++) {
                        sequence.append(330 + i, row);
                        expected[i] = row.toArray();
                    }
                }
                double tolerance = model.slidingWindow() == 0 || length <= model.slidingWindow() ? 0
                        : Evaluation.tolerance(model, OPTIONS, history);
                try (var engine = Engine.open(model, OPTIONS); var sequence = engine.restore(file)) {
                    assertArrayEquals(history, sequence.tokens());
                    var row = engine.newRow();
                    for (int i = 0; i < 2; i++) {
                        sequence.append(330 + i, row);
                        if (tolerance == 0) {
                            assertArrayEquals(expected[i], row.toArray(), architecture + ", " + length + " tokens");
                        } else {
                            assertClose(expected[i], row, tolerance, architecture + ", " + length + " tokens");
                        }
                    }
                    assertEquals(2, engine.stats().evaluated(), "something was evaluated again");
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GEMMA3", "JAMBA", "MAMBA"})
    void restoredSequencesForkTruncateAndAreSavedAgain(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 60, 2);
            double tolerance = Evaluation.tolerance(model, OPTIONS, history);
            sequence.append(history, null);
            var saved = bytes(sequence);
            try (var restored = restore(engine, saved); var fork = restored.fork()) {
                var row = engine.newRow();
                fork.append(330, row);
                var longer = Arrays.copyOf(history, 61);
                longer[60] = 330;
                assertClose(Evaluation.fresh(model, OPTIONS, longer), row, tolerance, "a fork");
                restored.truncate(40);
                restored.append(331, row);
                var shorter = Arrays.copyOf(history, 41);
                shorter[40] = 331;
                assertClose(Evaluation.fresh(model, OPTIONS, shorter), row, tolerance, "truncated");
                try (var again = restore(engine, bytes(restored))) {
                    assertArrayEquals(shorter, again.tokens());
                    again.append(332, row);
                    assertClose(Evaluation.fresh(model, OPTIONS, joined(shorter, 332)), row, tolerance, "the second time");
                }
            }
        }
    }

    private static int[] joined(int[] tokens, int token) {
        var longer = Arrays.copyOf(tokens, tokens.length + 1);
        longer[tokens.length] = token;
        return longer;
    }

    @Test
    void anEmptySequenceAndOneWithoutCellsAreSaved() {
        try (var model = load(Architecture.LLAMA); var engine = Engine.open(model, OPTIONS.withMaxSequences(2))) {
            try (var empty = engine.newSequence(); var restored = restore(engine, bytes(empty))) {
                assertEquals(0, restored.length());
                restored.append(300, engine.newRow());
            }
            var history = Evaluation.tokens(model, 50, 3);
            try (var sequence = engine.newSequence(); var other = engine.newSequence(); var third = engine.newSequence()) {
                sequence.append(history, null);
                engine.decode(Append.of(other, history, null), Append.of(third, history, null)); // takes the id of the first
                try (var restored = restore(engine, bytes(sequence))) {
                    assertArrayEquals(history, restored.tokens());
                }
            }
        }
    }

    @Test
    void whereNoCellsAreFreeTheTokensAreEvaluatedAgain() {
        try (var model = load(Architecture.LLAMA); var engine = Engine.open(model, OPTIONS.withContextSize(256))) {
            var history = Evaluation.tokens(model, 200, 4);
            byte[] saved;
            float[] expected;
            var row = engine.newRow();
            try (var sequence = engine.newSequence()) {
                sequence.append(history, null);
                saved = bytes(sequence);
                sequence.append(330, row);
                expected = row.toArray();
                double tolerance = Evaluation.tolerance(model, OPTIONS, history);
                try (var restored = restore(engine, saved)) { // beside 201 cells of 256
                    restored.append(330, row);
                    assertClose(expected, row, tolerance, "evaluated again");
                }
            }
        }
    }

    @Test
    void quantisedCachesWithAndWithoutFlashAttention() {
        var shape = RandomModel.tiny(Architecture.LLAMA).withHeads(4, 2, 32);
        try (var model = load(shape)) {
            var quantised = OPTIONS.withCacheTypes(GgmlType.Q8_0, GgmlType.Q4_0).withFlashAttention(FlashAttention.ON);
            for (var options : List.of(quantised, OPTIONS.withFlashAttention(FlashAttention.OFF),
                    OPTIONS.withCacheTypes(GgmlType.F32, GgmlType.F32).withFlashAttention(FlashAttention.ON))) {
                byte[] saved;
                float[] expected;
                try (var engine = Engine.open(model, options); var sequence = engine.newSequence()) {
                    sequence.append(Evaluation.tokens(model, 70, 5), null);
                    saved = bytes(sequence);
                    var row = engine.newRow();
                    sequence.append(330, row);
                    expected = row.toArray();
                }
                try (var engine = Engine.open(model, options); var sequence = restore(engine, saved)) {
                    var row = engine.newRow();
                    sequence.append(330, row);
                    assertArrayEquals(expected, row.toArray(), options.toString());
                }
                try (var engine = Engine.open(model, OPTIONS.withCacheTypes(GgmlType.BF16, GgmlType.BF16))) {
                    var message = refusal(engine, saved);
                    assertTrue(message.contains("keys of type " + options.keyType().label() + ", but this engine has bf16"), message);
                }
            }
            byte[] without;
            try (var engine = Engine.open(model, OPTIONS.withFlashAttention(FlashAttention.OFF)); var sequence = engine.newSequence()) {
                sequence.append(Evaluation.tokens(model, 20, 5), null);
                without = bytes(sequence);
            }
            try (var engine = Engine.open(model, OPTIONS.withFlashAttention(FlashAttention.ON))) {
                var message = refusal(engine, without);
                assertTrue(message.contains("saved without flash attention"), message);
            }
        }
    }

    @Test
    void aSequenceOfAnotherModelPlanOrCacheIsRefused() {
        try (var model = load(Architecture.LLAMA); var other = load(RandomModel.tiny(Architecture.LLAMA).withSeed(2));
                var engine = Engine.open(model, OPTIONS); var elsewhere = Engine.open(other, OPTIONS);
                var spare = Engine.open(model, OPTIONS.withSpareLayers(1));
                var small = Engine.open(model, OPTIONS.withContextSize(256)); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 300, 6), null);
            var saved = bytes(sequence);
            var message = refusal(elsewhere, saved);
            assertTrue(message.contains(model.fingerprint()) && message.contains(other.fingerprint()), message);
            message = refusal(spare, saved);
            assertTrue(message.contains("spare layers: 0, but this engine has 1"), message);
            message = assertThrows(ContextFullException.class, () -> restore(small, saved)).getMessage();
            assertTrue(message.contains("300 tokens does not fit in 256"), message);

            var plan = LayerPlan.parse("0-1,3", 4);
            message = assertThrows(StateException.class, () -> engine.restore(new ByteArrayInputStream(saved), AdapterSet.none(), plan))
                    .getMessage();
            assertTrue(message.contains("the plan 0-3, but this engine has 0-1,3"), message);
            try (var planned = engine.newSequence(plan)) {
                planned.append(Evaluation.tokens(model, 20, 7), null);
                var underPlan = bytes(planned);
                message = refusal(engine, underPlan);
                assertTrue(message.contains("the plan 0-1,3, but this engine has 0-3"), message);
                var expected = engine.newRow();
                planned.append(330, expected);
                try (var fresh = Engine.open(model, OPTIONS);
                        var restored = fresh.restore(new ByteArrayInputStream(underPlan), AdapterSet.none(), plan)) {
                    var row = engine.newRow();
                    restored.append(330, row);
                    assertArrayEquals(expected.toArray(), row.toArray());
                } catch (IOException e) {
                    throw new AssertionError(e);
                }
                try (var mixed = planned.fork(LayerPlan.parse("0-1", 4), CacheReuse.APPROXIMATE)) {
                    message = assertThrows(StateException.class, () -> bytes(mixed)).getMessage();
                    assertTrue(message.contains("APPROXIMATE"), message);
                }
            }
        }
    }

    @Test
    void adaptersHaveToBeTheSameFilesScalesAndInvocations() throws IOException {
        try (var model = load(Architecture.LLAMA); var engine = Engine.open(model, OPTIONS)) {
            var base = GgufFile.read(model.path());
            var one = Adapter.load(model, TestLora.random(base, 4, 1, TestLora::projection).write(folder.resolve("one.gguf")));
            var two = Adapter.load(model, TestLora.random(base, 4, 2, TestLora::projection).write(folder.resolve("two.gguf")));
            var activated = Adapter.load(model, TestLora.random(base, 4, 3, TestLora::projection).write(folder.resolve("three.gguf"), 340,
                    341));
            var all = LayerPlan.all(4);
            try (one; two; activated) {
                byte[] saved;
                var expected = engine.newRow();
                try (var sequence = engine.newSequence(AdapterSet.of(one, 0.5f))) {
                    sequence.append(Evaluation.tokens(model, 30, 8), null);
                    saved = bytes(sequence);
                    sequence.append(330, expected);
                }
                for (var set : List.of(AdapterSet.none(), AdapterSet.of(one), AdapterSet.of(two, 0.5f),
                        AdapterSet.of(one, 0.5f).with(two, 1))) {
                    var message = assertThrows(StateException.class, () -> engine.restore(new ByteArrayInputStream(saved), set,
                            all)).getMessage();
                    assertTrue(message.contains("it was saved with adapters"), message);
                }
                try (var sequence = engine.restore(new ByteArrayInputStream(saved), AdapterSet.of(one, 0.5f), all)) {
                    var row = engine.newRow();
                    sequence.append(330, row);
                    assertArrayEquals(expected.toArray(), row.toArray());
                }
                byte[] switched;
                try (var sequence = engine.newSequence(AdapterSet.of(activated))) {
                    sequence.append(new int[] {300, 301, 340, 341, 302}, null);
                    switched = bytes(sequence);
                    sequence.append(330, expected);
                }
                try (var sequence = engine.restore(new ByteArrayInputStream(switched), AdapterSet.of(activated), all)) {
                    assertEquals(List.of(0, 2), sequence.spans().stream().map(Sequence.Span::from).toList());
                    var row = engine.newRow();
                    sequence.append(330, row);
                    assertArrayEquals(expected.toArray(), row.toArray());
                }
                var moved = withSum(header(switched, json -> json.replace("\"activation\":2", "\"activation\":1")));
                var message = assertThrows(StateException.class,
                        () -> engine.restore(new ByteArrayInputStream(moved), AdapterSet.of(activated), all)).getMessage();
                assertTrue(message.contains("switched on at token 1"), message);
            }
        }
    }

    @Test
    void modelsThatKeepMoreThanACacheAreRefused() {
        RandomModel.tiny(Architecture.HY_V3).write(folder.resolve("mtp.gguf"));
        try (var model = Model.load(folder.resolve("mtp.gguf"), ModelOptions.defaults().withMtp(true));
                var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(new int[] {300, 301}, null);
            var message = assertThrows(StateException.class, () -> sequence.save(folder.resolve("sequence"))).getMessage();
            assertTrue(message.contains("multi-token prediction"), message);
            assertFalse(Files.exists(folder.resolve("sequence")));
        }
    }

    // --- files --------------------------------------------------------------------------------------------------------------

    @Test
    void aFileAppearsWholeOrNotAtAll() throws IOException {
        try (var model = load(Architecture.LLAMA); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 30, 9), null);
            var file = folder.resolve("sequence");
            sequence.save(file);
            var first = Files.readAllBytes(file);
            assertArrayEquals(first, bytes(sequence));
            sequence.append(300, null);
            sequence.save(file);
            try (var restored = engine.restore(file)) {
                assertEquals(31, restored.length());
            }
            var nowhere = folder.resolve("no such folder").resolve("sequence");
            var message = assertThrows(LlamaException.class, () -> sequence.save(nowhere)).getMessage();
            assertTrue(message.contains(nowhere.toString()) && message.contains("there is no such file or folder"), message);
            message = assertThrows(StateException.class, () -> engine.restore(nowhere)).getMessage();
            assertTrue(message.contains(nowhere.toString()) && message.contains("can't be read: there is no such file"), message);
            var full = new OutputStream() {
                private int room = 5000;

                @Override
                public void write(int b) throws IOException {
                    if (room-- == 0) {
                        throw new IOException("No space left on device");
                    }
                }
            };
            assertEquals("No space left on device", assertThrows(IOException.class, () -> sequence.save(full)).getMessage());
            var taken = Files.createDirectory(folder.resolve("taken"));
            Files.writeString(taken.resolve("something"), "");
            message = assertThrows(LlamaException.class, () -> sequence.save(taken)).getMessage();
            assertTrue(message.contains(taken.toString()), message);
            try (var left = Files.list(folder)) {
                assertEquals(List.of(), left.map(Path::getFileName).filter(name -> name.toString().endsWith(".part")).toList());
            }
            sequence.append(301, engine.newRow()); // it goes on
        }
    }

    @Test
    void aTruncatedFileIsRefusedWhereverItEnds() {
        try (var model = load(Architecture.GEMMA3); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 50, 10), null);
            var saved = bytes(sequence);
            var random = new SplittableRandom(1);
            for (int i = 0; i < 300; i++) {
                int length = i < 100 ? 5 * i : random.nextInt(saved.length);
                refusal(engine, Arrays.copyOf(saved, length));
            }
            var message = refusal(engine, Arrays.copyOf(saved, saved.length - 1));
            assertTrue(message.contains("cut short"), message);
            message = refusal(engine, Arrays.copyOf(saved, saved.length + 1));
            assertTrue(message.contains("more behind its end"), message);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GEMMA3", "JAMBA", "MAMBA"})
    void aFlippedBitIsFoundWhereverItIs(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 40, 11), null);
            var saved = bytes(sequence);
            long seed = System.nanoTime();
            System.out.println("seed " + seed);
            var random = new SplittableRandom(seed);
            for (int i = 0; i < 1200; i++) {
                int at = i < 900 ? i : random.nextInt(saved.length);
                var broken = saved.clone();
                broken[at] ^= (byte) (1 << random.nextInt(8));
                assertThrows(LlamaException.class, () -> restore(engine, broken).close(), "byte " + at);
            }
        }
    }

    /** CVE-2026-43629. As if an attacker had computed the checksum anew: each field of the native state but the payload is compared. */
    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GEMMA3", "JAMBA", "MAMBA"})
    void everyFieldOfANativeStateIsChecked(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 5, 12), null);
            var saved = bytes(sequence);
            int start = stateStart(saved, 5);
            for (int value : new int[] {-1, Integer.MAX_VALUE, Integer.MIN_VALUE, 12345}) {
                for (int at : fields(architecture)) {
                    var broken = saved.clone();
                    ByteBuffer.wrap(broken).order(ByteOrder.LITTLE_ENDIAN).putInt(start + at, value);
                    var message = refusal(engine, withSum(broken));
                    assertTrue(message.contains("byte " + at) || message.contains("cells for 5") || message.contains("is at position")
                            || message.contains("sequence of cell 0") || message.contains("flash attention")
                                    || message.contains("bytes of a row"), "field at " + at + ": " + message);
                }
            }
            try (var restored = restore(engine, withSum(saved.clone()))) {
                assertEquals(5, restored.length());
            }
        }
    }

    /** Offsets of what comes before the first row of keys or of recurrent state. */
    private static int[] fields(Architecture architecture) {
        return architecture == Architecture.MAMBA ? new int[] {0, 8, 12, 16, 20, 24, 28, 32, 36}
                : new int[] {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 76, 80, 84, 88};
    }

    @Test
    void headersWithoutSenseAreRefused() {
        try (var model = load(Architecture.LLAMA); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 20, 13), null);
            var saved = bytes(sequence);
            record Change(String from, String to, String message) {
            }
            for (var change : List.of(
                    new Change("\"version\":1", "\"version\":2", "version 2"),
                    new Change("\"tokens\":20", "\"tokens\":-1", "-1 tokens"),
                    new Change("\"tokens\":20", "\"tokens\":19", "damaged"),
                    new Change("\"tokens\":20", "\"tokens\":\"many\"", "header can't be read"),
                    new Change("\"state\":", "\"state\":9", "where 20 tokens take at most"),
                    new Change("\"state\":", "\"state\":-", "where 20 tokens take at most"),
                    new Change("\"activation\":-1", "\"activation\":3", "switched on at token 3"),
                    new Change("\"activation\":-1", "\"activation\":-1,\"activation\":-1", "header can't be read"),
                    new Change("\"adapters\":[]", "\"adapters\":null", "header can't be read"),
                    new Change("\"llamaCpp\":\"", "\"llamaCpp\":\"9", "llama.cpp"),
                    new Change("{", "[", "header can't be read"))) {
                var message = refusal(engine, withSum(header(saved, json -> json.replaceFirst(
                        java.util.regex.Pattern.quote(change.from), change.to))));
                assertTrue(message.contains(change.message), change + ": " + message);
            }
            var foreign = saved.clone();
            ByteBuffer.wrap(foreign).order(ByteOrder.LITTLE_ENDIAN).putInt(stateStart(saved, 20) - 4, 512);
            assertTrue(refusal(engine, withSum(foreign)).contains("token 512 is not in the vocabulary of 512"));
        }
    }

    private static int headerLength(byte[] saved) {
        return ByteBuffer.wrap(saved).order(ByteOrder.LITTLE_ENDIAN).getInt(HEADER - 4);
    }

    private static int stateStart(byte[] saved, int tokens) {
        return HEADER + headerLength(saved) + 4 * tokens;
    }

    private static byte[] header(byte[] saved, UnaryOperator<String> change) {
        int length = headerLength(saved);
        var json = change.apply(new String(saved, HEADER, length, StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
        var changed = ByteBuffer.allocate(saved.length - length + json.length).order(ByteOrder.LITTLE_ENDIAN);
        return changed.put(saved, 0, HEADER - 4).putInt(json.length).put(json).put(saved, HEADER + length,
                saved.length - HEADER - length).array();
    }

    private static byte[] withSum(byte[] saved) {
        var sum = new CRC32C();
        sum.update(saved, 0, saved.length - 4);
        ByteBuffer.wrap(saved).order(ByteOrder.LITTLE_ENDIAN).putInt(saved.length - 4, (int) sum.getValue());
        return saved;
    }
}
