package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.largestDifference;
import static io.github.panamallama.runtime.Evaluation.rms;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_batch;
import io.github.panamallama.bindings.llama_context_params;
import io.github.panamallama.runtime.TestLora.Scaled;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.natives.NativeError;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Adapters act, as much as they should and on nobody else. Against merged F32 models the tolerance is that of float sums in another order,
 * 1e-4 of the logits' norm; across batch shapes the model's own noise.
 */
@Timeout(600)
class AdapterTest {
    static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(2)
            .withCacheTypes(GgmlType.F32, GgmlType.F32);
    static final double RELATIVE = 1e-4;

    @TempDir
    Path folder;
    private int files;

    Path fresh(String name) {
        return folder.resolve(files++ + "-" + name + ".gguf");
    }

    Path llama() {
        var path = fresh("llama");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(path);
        return path;
    }

    static float[] logits(Engine engine, AdapterSet set, int... tokens) {
        try (var sequence = engine.newSequence(set)) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row.toArray();
        }
    }

    /** The norm of the difference, relative to that of {@code expected}. */
    static double distance(float[] expected, float[] actual) {
        var difference = new float[expected.length];
        for (int i = 0; i < difference.length; i++) {
            difference[i] = expected[i] - actual[i];
        }
        return rms(difference) / rms(expected);
    }

    static void assertClose(float[] expected, float[] actual, String what) {
        assertClose(expected, actual, RELATIVE, what);
    }

    static void assertClose(float[] expected, float[] actual, double allowed, String what) {
        double difference = distance(expected, actual);
        assertTrue(difference <= allowed, () -> what + ": logits differ by " + difference + " of their norm");
    }

    static void assertDiffers(float[] one, float[] other, String what) {
        double difference = distance(one, other);
        assertTrue(difference > 100 * RELATIVE, () -> what + ": logits differ by " + difference + " of their norm only");
    }

    // --- they act as merged weights would -------------------------------------------------------------------------------

    /** Checks an adapter against its merged model: a prompt in one batch, then single tokens. */
    private void assertActsAsMerged(Path base, TestLora lora) {
        assertTrue(!lora.parts().isEmpty(), "the adapter has no parts");
        var file = GgufFile.read(base);
        var merged = TestLora.merge(file, fresh("merged"), new Scaled(lora, 1));
        try (var model = Model.load(base); var reference = Model.load(merged); var adapter = Adapter.load(model, lora.write(fresh("lora")));
                var engine = Engine.open(model, OPTIONS); var expected = Engine.open(reference, OPTIONS);
                var adapted = engine.newSequence(AdapterSet.of(adapter)); var straight = expected.newSequence();
                var plain = engine.newSequence()) {
            var tokens = Evaluation.tokens(model, 40, 5);
            var row = engine.newRow();
            var wanted = expected.newRow();
            double allowed = Math.max(RELATIVE, 4 * sensitivity(file, lora, tokens));
            adapted.append(Arrays.copyOf(tokens, 37), row);
            straight.append(Arrays.copyOf(tokens, 37), wanted);
            assertClose(wanted.toArray(), row.toArray(), allowed, "a prompt of which the last row is wanted");
            for (int i = 37; i < 40; i++) {
                adapted.append(tokens[i], row);
                straight.append(tokens[i], wanted);
                assertClose(wanted.toArray(), row.toArray(), allowed, "token " + i);
            }
            plain.append(tokens, row);
            assertDiffers(wanted.toArray(), row.toArray(), "base and adapter");
        }
    }

    /** What rounding errors in the adapted matrices are worth, relative to the logits' norm: little, but in models that amplify them. */
    private double sensitivity(GgufFile base, TestLora lora, int... tokens) {
        try (var one = Model.load(TestLora.merge(base, fresh("merged"), new Scaled(lora, 1)));
                var other = Model.load(TestLora.merge(base, fresh("nearly"), new Scaled(lora, 1 + 1e-6f)))) {
            return distance(Evaluation.fresh(one, OPTIONS, tokens), Evaluation.fresh(other, OPTIONS, tokens));
        }
    }

    @ParameterizedTest
    @EnumSource
    void aPromptAndSingleTokensEqualTheMergedModel(RandomModel.Architecture architecture) {
        var base = fresh("base");
        RandomModel.tiny(architecture).write(base);
        // block 4 is a head for further tokens, which plain decoding leaves alone
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 8, 3,
                name -> TestLora.projection(name) && !name.startsWith("blk.4.")));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3, 5, 16, 33})
    void everyRankEqualsTheMergedModel(int rank) {
        var base = llama();
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), rank, rank, TestLora::projection).withAlpha(2 * rank));
    }

    @Test
    void outputAndLastBlockFollowTheSelectionOfRows() {
        var base = llama();
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 4, 1, name -> name.equals("output.weight")));
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 4, 1, name -> name.equals("blk.3.ffn_down.weight")));
    }

    @Test
    void tokenEmbeddingsAreAdaptedInTheLookup() {
        var base = llama();
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 4, 2, AdapterFile.EMBEDDING::equals));
        var gemma = fresh("gemma");
        RandomModel.tiny(RandomModel.Architecture.GEMMA3).write(gemma);
        assertActsAsMerged(gemma, TestLora.random(GgufFile.read(gemma), 4, 2, AdapterFile.EMBEDDING::equals));
    }

    @Test
    void expertsAreAdaptedEachByItsOwnFactors() {
        var base = TestLora.mixture(GgufFile.read(llama()), fresh("experts"), 4);
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 4, 5, name -> name.contains("_exps")));
        assertActsAsMerged(base, TestLora.random(GgufFile.read(base), 4, 6, name -> name.contains("ffn_gate_inp")
                || TestLora.projection(name)));
    }

    @Test
    void scalesCountAsMergingWithThem() {
        var base = llama();
        var lora = TestLora.random(GgufFile.read(base), 8, 3, TestLora::projection).withAlpha(4);
        try (var model = Model.load(base); var adapter = Adapter.load(model, lora.write(fresh("lora")));
                var engine = Engine.open(model, OPTIONS)) {
            var tokens = Evaluation.tokens(model, 24, 5);
            for (float scale : new float[] {0.25f, 1, -1.5f}) {
                var merged = TestLora.merge(GgufFile.read(base), fresh("merged"), new Scaled(lora, scale));
                try (var reference = Model.load(merged)) {
                    assertClose(Evaluation.fresh(reference, OPTIONS, tokens), logits(engine, AdapterSet.of(adapter, scale), tokens),
                            "scale " + scale);
                }
            }
            assertArrayEquals(logits(engine, AdapterSet.none(), tokens), logits(engine, AdapterSet.of(adapter, 0), tokens),
                    "scale 0 is the base");
        }
    }

    @Test
    void stackedAdaptersAddUp() {
        var base = llama();
        var file = GgufFile.read(base);
        var first = TestLora.random(file, 8, 3, TestLora::projection);
        var second = TestLora.random(file, 5, 4, name -> name.contains("ffn") || name.contains("attn_v"));
        var merged = TestLora.merge(file, fresh("merged"), new Scaled(first, 1), new Scaled(second, 0.5f));
        try (var model = Model.load(base); var reference = Model.load(merged); var one = Adapter.load(model, first.write(fresh("one")));
                var two = Adapter.load(model, second.write(fresh("two"))); var engine = Engine.open(model, OPTIONS)) {
            var tokens = Evaluation.tokens(model, 24, 5);
            var expected = Evaluation.fresh(reference, OPTIONS, tokens);
            assertClose(expected, logits(engine, AdapterSet.of(one).with(two, 0.5f), tokens), "first and second");
            assertClose(expected, logits(engine, AdapterSet.of(two, 0.5f).with(one, 1), tokens), "second and first");
        }
    }

    // --- every type of weights ------------------------------------------------------------------------------------------

    /** The logits after {@code tokens} as llama.cpp itself applies the adapter, with {@code llama_set_adapters_lora}. */
    private static float[] upstream(Path base, ModelOptions options, Path lora, int... tokens) {
        var failure = new NativeError();
        var error = failure.segment();
        try (var model = Model.load(base, options); var arena = Arena.ofConfined()) {
            var params = NativeContext.parameters(arena, model.gguf().metadata(), OPTIONS);
            llama_context_params.n_threads(params, 2);
            llama_context_params.n_threads_batch(params, 2);
            var context = LlamaH.pl_context_new(model.handle(), params, 0, error);
            failure.check("context");
            var adapter = LlamaH.pl_adapter_lora_init(model.handle(), arena.allocateFrom(lora.toString()), error);
            failure.check("adapter");
            var adapters = arena.allocate(ValueLayout.ADDRESS);
            adapters.set(ValueLayout.ADDRESS, 0, adapter);
            LlamaH.pl_set_adapters_lora(context, adapters, 1, arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1), error);
            failure.check("set");
            var batch = LlamaH.llama_batch_get_one(arena, arena.allocateFrom(ValueLayout.JAVA_INT, tokens), tokens.length);
            assertEquals(0, LlamaH.pl_decode(context, batch, error), failure::message);
            try (var row = new RowHolder(model.vocabulary().size())) {
                LlamaH.pl_get_logits(context, -1, row.row.segment(), model.vocabulary().size(), error);
                failure.check("logits");
                LlamaH.pl_context_free(context, MemorySegment.NULL);
                LlamaH.pl_adapter_lora_free(adapter);
                return row.row.toArray();
            }
        }
    }

    private record RowHolder(Row row) implements AutoCloseable {
        RowHolder(int size) {
            this(new Row(size));
        }

        @Override
        public void close() {
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
    void everyTypeOfBaseWeightsIsAdaptedAsLlamaCppDoes(String type) {
        var base = fresh("base");
        RandomModel.llama(3, 256, 4, 2, 512, 512).withType(GgmlType.valueOf(type)).write(base);
        var lora = TestLora.random(GgufFile.read(base), 16, 7, TestLora::projection);
        var path = fresh("lora");
        for (boolean repacked : new boolean[] {true, false}) {
            var options = ModelOptions.defaults().withRepack(repacked);
            try (var model = Model.load(base, options); var adapter = Adapter.load(model, lora.write(path));
                    var engine = Engine.open(model, OPTIONS)) {
                for (int length : new int[] {1, 30}) {
                    var tokens = Evaluation.tokens(model, length, 8);
                    var expected = upstream(base, options, lora.write(path), tokens);
                    // a rounding error here and there tips quantised activations over by a step: what such errors are worth in this model
                    double tolerance = 1e-3 * rms(expected);
                    for (float error : new float[] {1 - 1e-6f, 1 + 1e-6f, 1 + 2e-6f}) {
                        var nearly = upstream(base, options, lora.times(error).write(path), tokens);
                        tolerance = Math.max(tolerance, 4 * largestDifference(expected, nearly));
                    }
                    double difference = largestDifference(expected, logits(engine, AdapterSet.of(adapter), tokens));
                    double allowed = tolerance;
                    assertTrue(difference <= allowed, type + ", repack " + repacked + ", " + length + " tokens: " + difference + " above "
                            + tolerance);
                    assertTrue(largestDifference(expected, logits(engine, AdapterSet.none(), tokens)) > 3 * allowed,
                            "the adapter hardly acts");
                }
            }
        }
    }

    @Test
    void weightsOfHalfPrecisionActAsTheirFloats() {
        var base = llama();
        var lora = TestLora.random(GgufFile.read(base), 8, 3, name -> TestLora.projection(name) || name.equals(AdapterFile.EMBEDDING));
        var halves = new ArrayList<TestLora.Part>();
        for (var part : lora.parts()) {
            halves.add(new TestLora.Part(part.name(), part.rank(), part.in(), part.out(), part.experts(), half(part.a()), half(part.b())));
        }
        var rounded = new TestLora(lora.architecture(), lora.alpha(), halves);
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS);
                var f16 = Adapter.load(model, lora.write(fresh("f16"), GgmlType.F16)); var f32 = Adapter.load(model,
                        rounded.write(fresh("f32")))) {
            var tokens = Evaluation.tokens(model, 24, 5);
            assertArrayEquals(logits(engine, AdapterSet.of(f32), tokens), logits(engine, AdapterSet.of(f16), tokens));
            assertTrue(f16.sizeBytes() < 0.6 * f32.sizeBytes(), f16.sizeBytes() + " of " + f32.sizeBytes() + " bytes");
        }
    }

    private static float[] half(float[] values) {
        var result = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            result[i] = Float.float16ToFloat(Float.floatToFloat16(values[i]));
        }
        return result;
    }

    @Test
    void quantisedWeightsActAsTheirFloats() {
        var base = fresh("base");
        RandomModel.llama(2, 256, 4, 2, 512, 512).withType(GgmlType.F32).write(base);
        var name = "blk.0.ffn_up.weight";
        var lora = TestLora.random(GgufFile.read(base), 8, 3, name::equals);
        var part = lora.parts().getFirst();
        var a = quantise(part.a());
        var bt = new float[part.b().length];
        for (int o = 0; o < part.out(); o++) {
            for (int r = 0; r < part.rank(); r++) {
                bt[r * part.out() + o] = part.b()[o * part.rank() + r];
            }
        }
        var turned = quantise(bt);
        var quantised = fresh("q8");
        new GgufWriter().put("general.type", "adapter").put("adapter.type", "lora").put("general.architecture", "llama")
                .putF32("adapter.lora.alpha", 8)
                .tensor(name + ".lora_a", GgmlType.Q8_0, List.of((long) part.in(), 8L), out -> out.write(a.bytes))
                .tensor(name + ".lora_bt", GgmlType.Q8_0, List.of((long) part.out(), 8L), out -> out.write(turned.bytes)).write(quantised);
        var b = new float[part.b().length];
        for (int o = 0; o < part.out(); o++) {
            for (int r = 0; r < part.rank(); r++) {
                b[o * part.rank() + r] = turned.floats[r * part.out() + o];
            }
        }
        var floats = new TestLora("llama", 8, List.of(new TestLora.Part(name, 8, part.in(), part.out(), 1, a.floats, b)));
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS); var q8 = Adapter.load(model, quantised);
                var f32 = Adapter.load(model, floats.write(fresh("f32")))) {
            for (int count : new int[] {1, 30}) {
                var tokens = Evaluation.tokens(model, count, 5);
                var expected = logits(engine, AdapterSet.of(f32), tokens);
                assertClose(expected, logits(engine, AdapterSet.of(q8), tokens), count + " tokens");
                assertDiffers(expected, logits(engine, AdapterSet.none(), tokens), "base");
            }
        }
    }

    private record Quantised(MemorySegment bytes, float[] floats) {
    }

    private static Quantised quantise(float[] values) {
        var bytes = Arena.ofAuto().allocate(GgmlType.Q8_0.bytes(values.length));
        var floats = new float[values.length];
        for (int block = 0; block < values.length / 32; block++) {
            float most = 0;
            for (int i = 0; i < 32; i++) {
                most = Math.max(most, Math.abs(values[block * 32 + i]));
            }
            short scale = Float.floatToFloat16(most / 127);
            bytes.set(ValueLayout.JAVA_SHORT_UNALIGNED, block * 34L, scale);
            for (int i = 0; i < 32; i++) {
                int q = Math.clamp(Math.round(values[block * 32 + i] / Float.float16ToFloat(scale)), -127, 127);
                bytes.set(ValueLayout.JAVA_BYTE, block * 34L + 2 + i, (byte) q);
                floats[block * 32 + i] = q * Float.float16ToFloat(scale);
            }
        }
        return new Quantised(bytes, floats);
    }

    // --- one batch, many sets -------------------------------------------------------------------------------------------

    @Test
    void oneBatchMixesAnySets() {
        var base = llama();
        var file = GgufFile.read(base);
        try (var model = Model.load(base);
                var one = Adapter.load(model, TestLora.random(file, 8, 3, TestLora::projection).write(fresh("one")));
                var two = Adapter.load(model, TestLora.random(file, 3, 4, name -> name.contains("ffn")).write(fresh("two")));
                var three = Adapter.load(model,
                        TestLora.random(file, 16, 5, name -> TestLora.projection(name) || name.equals("output.weight"))
                        .write(fresh("three"))); var engine = Engine.open(model, OPTIONS)) {
            var sets = List.of(AdapterSet.none(), AdapterSet.of(one), AdapterSet.of(two, 0.7f), AdapterSet.of(one).with(three, 1),
                    AdapterSet.of(three, -0.5f).with(two, 2));
            double tolerance = Evaluation.tolerance(model, OPTIONS, Evaluation.tokens(model, 24, 1));
            var appends = new ArrayList<Append>();
            var rows = new ArrayList<Row>();
            var expected = new ArrayList<float[]>();
            var sequences = new ArrayList<Sequence>();
            for (int i = 0; i < 8; i++) {
                var set = sets.get(i % sets.size());
                var tokens = Evaluation.tokens(model, 3 + i, i);
                expected.add(logits(engine, set, tokens));
                var sequence = engine.newSequence(set);
                sequences.add(sequence);
                rows.add(engine.newRow());
                appends.add(Append.of(sequence, tokens, rows.getLast()));
            }
            long steps = engine.stats().steps();
            engine.decode(appends.toArray(Append[]::new));
            assertEquals(1, engine.stats().steps() - steps, "evaluated together");
            for (int i = 0; i < 8; i++) {
                Evaluation.assertClose(expected.get(i), rows.get(i), tolerance, "sequence " + i + " under " + sets.get(i % sets.size()));
                for (int j = 0; j < i; j++) {
                    assertDiffers(expected.get(i), expected.get(j), "sequences " + i + " and " + j);
                }
            }
            sequences.forEach(Sequence::close);
        }
    }

    @Test
    void manyThreadsUnderManySetsGetWhatTheyGetAlone() throws Exception {
        var base = llama();
        var file = GgufFile.read(base);
        var adapters = new ArrayList<Adapter>();
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS.withMaxSequences(24));
                var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (int i = 0; i < 6; i++) {
                adapters.add(Adapter.load(model, TestLora.random(file, 4 + i, i, TestLora::projection).write(fresh("lora"))));
            }
            double tolerance = Evaluation.tolerance(model, OPTIONS, Evaluation.tokens(model, 24, 1));
            var expected = IntStream.range(0, 6)
                    .mapToObj(i -> logits(engine, AdapterSet.of(adapters.get(i)), Evaluation.tokens(model, 20, i))).toList();
            var tasks = new ArrayList<Callable<Void>>();
            for (int t = 0; t < 32; t++) {
                int which = t % 6;
                tasks.add(() -> {
                    var row = engine.newRow();
                    for (int round = 0; round < 6; round++) {
                        try (var sequence = engine.newSequence(AdapterSet.of(adapters.get(which)))) {
                            for (int token : Evaluation.tokens(model, 20, which)) {
                                sequence.append(token, row);
                            }
                            Evaluation.assertClose(expected.get(which), row, tolerance, "adapter " + which);
                        }
                    }
                    return null;
                });
            }
            for (var done : threads.invokeAll(tasks)) {
                done.get();
            }
            logits(engine, AdapterSet.none(), 300); // whatever was posted before is done
            for (var adapter : adapters) {
                assertEquals(0, adapter.sequences());
                adapter.close();
            }
        }
    }

    /** Of the test of many swaps, at least 1,000. */
    int swaps() {
        return 10_000;
    }

    @Test
    void manySwapsChangeNothingAndLeakNothing() {
        var base = llama();
        var file = GgufFile.read(base);
        try (var model = Model.load(base);
                var one = Adapter.load(model, TestLora.random(file, 8, 3, TestLora::projection).write(fresh("one")));
                var two = Adapter.load(model, TestLora.random(file, 8, 4, TestLora::projection)
                        .write(fresh("two"))); var engine = Engine.open(model, OPTIONS)) {
            var tokens = Evaluation.tokens(model, 6, 1);
            var sets = List.of(AdapterSet.of(one), AdapterSet.none(), AdapterSet.of(two), AdapterSet.of(two, 0.5f).with(one, 1));
            var first = sets.stream().map(set -> logits(engine, set, tokens)).toList();
            long before = 0;
            for (int i = 0; i < swaps(); i++) {
                if (i == swaps() / 5) {
                    before = residentBytes();
                }
                int which = i % sets.size();
                var again = logits(engine, sets.get(which), tokens);
                if (i % 97 == 0 || i >= swaps() - 4) {
                    assertArrayEquals(first.get(which), again, "swap " + i);
                }
            }
            long grown = residentBytes() - before;
            assertTrue(grown < 64 << 20, swaps() * 4 / 5 + " swaps took " + grown + " bytes");
            assertEquals(0, one.sequences() + two.sequences());
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    /** The heap's free part is not counted as growth: it was touched before. */
    private static long residentBytes() {
        System.gc();
        try (var lines = java.nio.file.Files.lines(Path.of("/proc/self/status"))) {
            return lines.filter(line -> line.startsWith("VmRSS:")).mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) * 1024)
                    .findFirst().orElse(0);
        } catch (IOException e) {
            return 0; // no such file outside Linux
        }
    }

    // --- bad input ------------------------------------------------------------------------------------------------------

    static void assertRefused(Class<? extends RuntimeException> type, org.junit.jupiter.api.function.Executable body, String... words) {
        var message = assertThrows(type, body).getMessage();
        for (var word : words) {
            assertTrue(message.contains(word), () -> "\"" + message + "\" lacks \"" + word + "\"");
        }
    }

    @Test
    void weightsThatAreNoNumbersAreRefused() {
        var base = llama();
        var file = GgufFile.read(base);
        Predicate<String> which = name -> name.equals("blk.1.attn_q.weight");
        try (var model = Model.load(base)) {
            var nan = TestLora.random(file, 4, 1, which);
            nan.parts().getFirst().a()[7] = Float.NaN;
            assertRefused(AdapterException.class, () -> Adapter.load(model, nan.write(fresh("nan"))), "weight 7",
                    "blk.1.attn_q.weight.lora_a", "NaN");
            var infinite = TestLora.random(file, 4, 1, which);
            infinite.parts().getFirst().b()[9] = Float.POSITIVE_INFINITY;
            assertRefused(AdapterException.class, () -> Adapter.load(model, infinite.write(fresh("inf"), GgmlType.F16)), "weight 9",
                    "lora_b");
        }
    }

    @Test
    void adaptersOfOtherModelsAreRefused() {
        var base = llama();
        var wide = fresh("wide");
        RandomModel.llama(4, 128, 4, 2, 256, 512).write(wide);
        var deep = fresh("deep");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(6).write(deep);
        var qwen = fresh("qwen");
        RandomModel.tiny(RandomModel.Architecture.QWEN3).write(qwen);
        try (var model = Model.load(base); var other = Model.load(deep)) {
            assertRefused(AdapterException.class, () -> Adapter.load(model, lora(wide)), "[128 x 128", "[64 x 64");
            assertRefused(AdapterException.class, () -> Adapter.load(model, lora(deep)), "blk.4.", "4 layers");
            assertRefused(AdapterException.class, () -> Adapter.load(model, lora(qwen)), "qwen3", "llama");
            assertRefused(AdapterException.class, () -> Adapter.load(model, base), "general.type");
            try (var adapter = Adapter.load(other, lora(base)); var engine = Engine.open(model, OPTIONS)) {
                assertRefused(IllegalArgumentException.class, () -> engine.newSequence(AdapterSet.of(adapter)), "another model");
            }
        }
    }

    private Path lora(Path base) {
        return TestLora.random(GgufFile.read(base), 4, 1, TestLora::projection).write(fresh("lora"));
    }

    @Test
    void truncatedFilesAreRefused() throws IOException {
        var base = llama();
        var path = lora(base);
        try (var model = Model.load(base)) {
            for (double part : new double[] {0, 0.001, 0.3, 0.9999}) {
                var cut = fresh("cut");
                java.nio.file.Files.copy(path, cut);
                try (var file = new RandomAccessFile(cut.toFile(), "rw")) {
                    file.setLength((long) (file.length() * part));
                }
                assertThrows(LlamaException.class, () -> Adapter.load(model, cut), "the first " + part);
            }
        }
    }

    @Test
    void setsAreCheckedWhenTheyAreMade() {
        var base = llama();
        try (var model = Model.load(base); var adapter = Adapter.load(model, lora(base)); var other = Model.load(base);
                var foreign = Adapter.load(other, lora(base))) {
            assertRefused(IllegalArgumentException.class, () -> AdapterSet.of(adapter).with(adapter, 0.5f), "twice");
            assertRefused(IllegalArgumentException.class, () -> AdapterSet.of(adapter, Float.NaN), "NaN", "finite");
            assertRefused(IllegalArgumentException.class, () -> AdapterSet.of(adapter, Float.NEGATIVE_INFINITY), "finite");
            assertRefused(IllegalArgumentException.class, () -> AdapterSet.of(adapter).with(foreign, 1), "another model");
            assertEquals(AdapterSet.of(adapter), AdapterSet.of(adapter, 1));
            assertEquals(AdapterSet.none(), AdapterSet.of(List.of()));
        }
    }

    @Test
    void anAdapterInUseCantBeClosedAndAClosedOneCantBeUsed() {
        var base = llama();
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS); var bystander = engine.newSequence()) {
            var adapter = Adapter.load(model, lora(base));
            var tokens = Evaluation.tokens(model, 12, 1);
            var row = engine.newRow();
            bystander.append(tokens, row);
            var sequence = engine.newSequence(AdapterSet.of(adapter));
            sequence.append(tokens, row);
            var expected = row.toArray();
            assertEquals(1, assertThrows(AdapterInUseException.class, adapter::close).sequences());
            sequence.truncate(11);
            sequence.append(tokens[11], row);
            assertTrue(largestDifference(expected, row.toArray()) < 0.01 * rms(expected), "it stays usable");
            sequence.close();
            adapter.close();
            adapter.close();
            assertRefused(ClosedException.class, () -> engine.newSequence(AdapterSet.of(adapter)), "closed");
            assertRefused(ClosedException.class, () -> bystander.fork(AdapterSet.of(adapter)), "closed");
            bystander.append(5, row);
            assertEquals(13, bystander.length(), "others go on");
        }
    }

    @Test
    void anAdapterCanBeClosedRightAfterItsLastSequenceWhileOthersDecode() throws Exception {
        var base = llama();
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS); var bystander = engine.newSequence()) {
            var file = lora(base);
            var done = new AtomicBoolean();
            var others = Executors.newSingleThreadExecutor();
            try {
                var decoded = others.submit(() -> {
                    var row = engine.newRow();
                    int steps = 0;
                    for (; !done.get(); steps++) {
                        bystander.append(steps % 64 == 63 ? 0 : 300 + steps % 64, row);
                        bystander.truncate(bystander.length() % 64);
                    }
                    return steps;
                });
                for (int i = 0; i < 200; i++) {
                    var adapter = Adapter.load(model, file);
                    try (var sequence = engine.newSequence(AdapterSet.of(adapter))) {
                        sequence.append(300 + i, null);
                    }
                    assertEquals(0, adapter.sequences());
                    adapter.close();
                    assertTrue(adapter.closed());
                }
                done.set(true);
                assertTrue(decoded.get() > 0);
            } finally {
                done.set(true);
                others.shutdown();
            }
        }
    }

    @Test
    void closingTheEngineLetsGoOfAdapters() {
        var base = llama();
        try (var model = Model.load(base); var adapter = Adapter.load(model, lora(base))) {
            var engine = Engine.open(model, OPTIONS);
            var sequence = engine.newSequence(AdapterSet.of(adapter));
            sequence.append(new int[] {300, 301}, null);
            engine.close();
            assertEquals(0, adapter.sequences());
            sequence.close();
            assertEquals(0, adapter.sequences());
            assertThrows(ClosedException.class, () -> engine.newSequence(AdapterSet.of(adapter)));
            assertEquals(0, adapter.sequences());
        }
    }

    @Test
    void aMatrixThatTheGraphDoesNotMultiplyByIsRefusedByName() {
        var base = fresh("mamba");
        RandomModel.tiny(RandomModel.Architecture.MAMBA).write(base);
        var file = GgufFile.read(base);
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS); var plain = engine.newSequence();
                var adapter = Adapter.load(model, TestLora.random(file, 4, 1, name -> name.endsWith("ssm_conv1d.weight"))
                        .write(fresh("lora")))) {
            assertRefused(AdapterException.class, () -> engine.newSequence(AdapterSet.of(adapter)), "ssm_conv1d.weight", "can't apply");
            assertEquals(0, adapter.sequences());
            plain.append(Evaluation.tokens(model, 4, 1), engine.newRow());
            assertEquals(4, plain.length(), "others go on");
        }
    }
}
