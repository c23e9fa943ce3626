package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class LacModelTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final String TEXT = """
            public static int max(int a, int b) {
                return a > b ? a : b;
            }
            """;

    private static Model model;
    private static Engine engine;
    private static int[] text;
    private static int blocks;

    @TempDir
    Path folder;

    @BeforeAll
    static void load() {
        model = Model.load(JAVA_TINY);
        engine = Engine.open(model);
        text = model.vocabulary().tokenize(TEXT, true, false);
        blocks = model.layerCount();
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    /** Rows behind each token, appended one by one. */
    private static List<float[]> plain() {
        var rows = new ArrayList<float[]>();
        var row = engine.newRow();
        try (var sequence = engine.newSequence()) {
            for (int token : text) {
                sequence.append(token, row);
                rows.add(row.toArray());
            }
        }
        return rows;
    }

    private static double norm(float[] vector) {
        double sum = 0;
        for (float each : vector) {
            sum += (double) each * each;
        }
        return Math.sqrt(sum);
    }

    private static double largestDifference(float[] a, float[] b) {
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            largest = Math.max(largest, Math.abs((double) a[i] - b[i]));
        }
        return largest;
    }

    @Test
    void tracesAreTheNormsOfTheHiddenStates() {
        var lac = new Lac(Lac.DEFAULT_ALPHA);
        var traces = lac.trace(engine, text);
        assertEquals(text.length, traces.size());
        int[] all = new int[blocks + 1];
        Arrays.setAll(all, i -> i - 1);
        var vector = new float[model.embeddingSize()];
        var norms = new double[blocks + 1];
        var seen = new int[1];
        try (var sequence = engine.newSequence()) {
            sequence.tap(Tap.hidden(all), reading -> {
                for (int block = -1; block < blocks; block++) {
                    reading.hidden(block, vector);
                    norms[block + 1] = norm(vector);
                }
                var trace = traces.get(reading.position());
                var expected = lac.judge(reading.position(), norms);
                assertEquals(reading.position(), trace.position());
                for (int block = 0; block < blocks; block++) {
                    assertEquals(expected.growth(block), trace.growth(block), 1e-2 * norms[block + 1],
                            "token " + seen[0] + " block " + block);
                }
                seen[0]++;
            });
            var row = engine.newRow();
            for (int token : text) {
                sequence.append(token, row);
            }
        }
        assertEquals(text.length, seen[0]);
        assertEquals(0, traces.stream().mapToInt(Lac.Trace::notFinite).sum());
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, 0.3, 0.8, 1})
    void aReadoutIsTheModelWithoutTheBlocksBehindTheLastActiveOne(double alpha) {
        var plain = plain();
        var row = engine.newRow();
        var early = engine.newRow();
        long changed = 0;
        try (var readout = new LacReadout(engine, new Lac(alpha))) {
            for (int i = 0; i < text.length; i++) {
                var trace = readout.append(text[i], row);
                assertEquals(i, trace.position());
                int last = trace.lastActive();
                if (last < 0 || last == blocks - 1) {
                    assertArrayEquals(plain.get(i), row.toArray(), "token " + i);
                    continue;
                }
                changed++;
                var plan = LayerPlan.all(blocks);
                for (int block = last + 1; block < blocks; block++) {
                    plan = plan.skip(block);
                }
                try (var sequence = engine.newSequence(plan)) {
                    sequence.append(Arrays.copyOf(text, i + 1), early);
                }
                assertTrue(largestDifference(early.toArray(), row.toArray()) < 0.02, "token " + i + " read out behind block " + last);
                assertTrue(largestDifference(plain.get(i), row.toArray()) > 0.1, "token " + i + " read out behind block " + last);
            }
            assertEquals(changed, readout.early());
            assertArrayEquals(text, readout.sequence().tokens());
            assertEquals(0, readout.fallbacks());
            assertTrue(alpha < 0.8 || changed > 0, "nothing was read out early");
        }
    }

    @Test
    void aPromptIsReadOutLikeItsTokens() {
        var lac = new Lac(0.8);
        var whole = engine.newRow();
        var single = engine.newRow();
        try (var one = new LacReadout(engine, lac); var other = new LacReadout(engine, lac)) {
            var trace = one.append(text, whole);
            for (int token : text) {
                other.append(token, single);
            }
            assertEquals(text.length - 1, trace.position());
            assertTrue(largestDifference(whole.toArray(), single.toArray()) < 0.02);
            assertThrows(IllegalArgumentException.class, () -> one.append(new int[0], whole));
            assertThrows(NullPointerException.class, () -> one.append(text[0], null));
            assertEquals(text.length, one.sequence().length());
        }
    }

    @Test
    void aTokenWhoseBlocksAreAllVoidsFallsBackToTheWholeModel() {
        var file = folder.resolve("random.gguf");
        var shrinking = folder.resolve("shrinking.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(file);
        // attention takes a share of its own input away, nothing else happens: 2 key-value heads of 16 serve 2 heads each
        var values = new float[32 * 64];
        var output = new float[64 * 64];
        for (int i = 0; i < 32; i++) {
            values[i * 64 + i] = 1;
            output[i * 64 + (i < 16 ? i : i + 16)] = -0.1f;
        }
        Altered.write(file, shrinking, name -> name.endsWith("attn_v.weight") ? values : name.endsWith("attn_output.weight") ? output
                : name.endsWith("ffn_down.weight") ? new float[128 * 64] : null);
        try (var odd = Model.load(shrinking); var own = Engine.open(odd); var readout = new LacReadout(own, new Lac(0));
                var whole = own.newSequence()) {
            var row = own.newRow();
            var expected = own.newRow();
            var trace = readout.append(300, row);
            whole.append(300, expected);
            assertEquals(-1, trace.lastActive());
            assertEquals(1, readout.fallbacks());
            assertEquals(0, readout.early());
            assertArrayEquals(expected.toArray(), row.toArray());
            assertTrue(Lac.skipping(new Lac(0).trace(own, new int[] {300, 301, 302}), 2).cost() == 2);
        }
    }

    @Test
    void aPlanForAPromptRuns() {
        var traces = new Lac(0.8).trace(engine, text);
        var plan = Lac.skipping(traces, 3);
        assertEquals(5, plan.cost());
        assertTrue(plan.runs(0) == 1 && plan.runs(blocks - 1) == 1);
        var row = engine.newRow();
        try (var sequence = engine.newSequence(plan)) {
            sequence.append(text, row);
            for (float logit : row.toArray()) {
                assertTrue(Float.isFinite(logit));
            }
        }
        assertEquals(plan, Lac.skipping(new Lac(0.8).trace(engine, text), 3));
    }

    @Test
    void predictedTokensRunUnderThePlanOfTheLastFullOne() {
        int prompt = text.length / 2;
        var lac = new Lac(0.8);
        var rows = new ArrayList<float[]>();
        var plans = new ArrayList<LayerPlan>();
        var row = engine.newRow();
        long leftOut = 0;
        try (var skipping = new LacSkipping(engine, lac, 3, 3)) {
            assertTrue(skipping.next().isFull());
            skipping.append(Arrays.copyOf(text, prompt), row);
            rows.add(row.toArray());
            for (int i = prompt; i < text.length; i++) {
                var plan = skipping.next();
                skipping.append(text[i], row);
                assertEquals(plan, skipping.sequence().plan());
                plans.add(plan);
                rows.add(row.toArray());
                leftOut += Math.round(blocks - plan.cost());
            }
            assertEquals(leftOut, skipping.blocksLeftOut());
            assertTrue(leftOut > 0, "no block was left out");
            assertArrayEquals(text, skipping.sequence().tokens());
        }
        // two tokens without voids, one with all blocks
        for (int i = 0; i < plans.size(); i++) {
            assertTrue(i % 3 != 2 || plans.get(i).isFull(), "token " + i + ": " + plans.get(i));
            assertTrue(i % 3 != 1 || plans.get(i).equals(plans.get(i - 1)), "token " + i + ": " + plans.get(i));
            assertTrue(plans.get(i).cost() >= blocks - 3);
            for (int block = 0; block < blocks; block++) {
                assertTrue(plans.get(i).cached(block), plans.get(i).toString());
            }
        }
        // the same by hand
        var sequence = engine.newSequence();
        sequence.append(Arrays.copyOf(text, prompt), row);
        assertArrayEquals(rows.getFirst(), row.toArray(), 0.02f);
        for (int i = prompt; i < text.length; i++) {
            var next = sequence.fork(plans.get(i - prompt), CacheReuse.APPROXIMATE);
            sequence.close();
            sequence = next;
            sequence.append(text[i], row);
            assertArrayEquals(rows.get(i - prompt + 1), row.toArray(), 0.02f, "token " + i);
        }
        sequence.close();
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void theFlagsAreThoseOfTheTokenBefore() {
        var lac = new Lac(0.8);
        var traces = lac.trace(engine, text);
        try (var skipping = new LacSkipping(engine, lac, blocks, 2)) {
            skipping.append(Arrays.copyOf(text, 5), null);
            // before anything was left out the traces are the text's own
            assertEquals(Lac.predict(traces.get(4), blocks), skipping.next());
            skipping.append(text[5], null);
            assertTrue(skipping.next().isFull());
            skipping.append(text[6], null);
            assertFalse(skipping.next().isFull());
        }
    }

    @Test
    void withNothingToLeaveOutAllIsAsItWas() {
        var plain = plain();
        var row = engine.newRow();
        try (var skipping = new LacSkipping(engine, new Lac(0.8), 0, 2)) {
            for (int i = 0; i < text.length; i++) {
                skipping.append(text[i], row);
                assertArrayEquals(plain.get(i), row.toArray(), "token " + i);
            }
            assertEquals(0, skipping.blocksLeftOut());
        }
    }

    @Test
    void badArgumentsAreRefused() {
        var lac = new Lac(0.8);
        assertThrows(IllegalArgumentException.class, () -> new LacSkipping(engine, lac, -1, 2));
        assertThrows(IllegalArgumentException.class, () -> new LacSkipping(engine, lac, 1, 1));
        assertThrows(LlamaException.class, () -> lac.trace(engine, new int[0]));
        var refused = assertThrows(LlamaException.class, () -> lac.trace(engine, new int[engine.contextSize() + 1]));
        assertTrue(refused.getMessage().contains("1 to " + engine.contextSize()), refused.getMessage());
        try (var skipping = new LacSkipping(engine, lac, 1, 2)) {
            assertThrows(IllegalArgumentException.class, () -> skipping.append(new int[0], null));
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MAMBA", "JAMBA"})
    void recurrentModelsAreRefusedByName(Architecture architecture) {
        var file = folder.resolve("recurrent.gguf");
        RandomModel.tiny(architecture).write(file);
        try (var recurrent = Model.load(file); var own = Engine.open(recurrent)) {
            var lac = new Lac(0.8);
            for (Executable use : List.<Executable>of(
                    () -> lac.trace(own, new int[] {1, 2}), () -> new LacReadout(own, lac), () -> new LacSkipping(own, lac, 1, 2),
                    () -> BlockInfluence.measure(own, List.of(new int[] {1, 2})))) {
                var refused = assertThrows(LayerPlanException.class, use);
                assertTrue(refused.getMessage().contains(architecture.key()), refused.getMessage());
            }
        }
    }
}
