package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Choosers on models with random weights. */
class PlanDivergenceTest {
    private static final int BLOCKS = 6;
    /** So small a model gains nothing by more threads, and loses much where others wait for a core as well. */
    private static final EngineOptions ONE_THREAD = EngineOptions.defaults().withThreads(1).withBatchThreads(1);

    @TempDir
    static Path folder;
    private static Path file;
    private static Model model;
    private static Engine engine;
    private static List<int[]> texts;

    @BeforeAll
    static void load() {
        file = folder.resolve("random.gguf");
        RandomModel.tiny(Architecture.LLAMA).withLayers(BLOCKS).write(file);
        model = Model.load(file);
        engine = Engine.open(model, ONE_THREAD);
        texts = texts(6, 11);
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    private static List<int[]> texts(int count, long seed) {
        var random = new SplittableRandom(seed);
        return IntStream.range(0, count).mapToObj(i -> random.ints(10 + 5L * (i % 3), 3, 512).toArray()).toList();
    }

    /** By the book: {@code sum p ln(p / q)} of two softmaxes. */
    private static double divergence(float[] p, float[] q) {
        double[] left = softmax(p);
        double[] right = softmax(q);
        return IntStream.range(0, p.length).mapToDouble(i -> left[i] * Math.log(left[i] / right[i])).sum();
    }

    private static double[] softmax(float[] logits) {
        double[] powers = IntStream.range(0, logits.length).mapToDouble(i -> Math.exp(logits[i])).toArray();
        double sum = Arrays.stream(powers).sum();
        return Arrays.stream(powers).map(power -> power / sum).toArray();
    }

    @Test
    void thePlanThatChangesNothingDivergesByNothing() {
        var fitness = new PlanDivergence(engine, texts);
        assertEquals(0, fitness.of(LayerPlan.all(BLOCKS), List.of(new Slice(0, 10), new Slice(4, 12))));
        assertTrue(fitness.of(LayerPlan.all(BLOCKS).skip(2), List.of(new Slice(0, 10))) > 0.001);
        assertEquals(BLOCKS, fitness.blocks());
        assertEquals(List.of(10, 15, 20, 10, 15, 20), fitness.lengths());
    }

    @Test
    void isTheMeanOverAllPositionsOfTheSample() {
        var plan = LayerPlan.parse("0,1:attn,3-5", BLOCKS);
        double sum = 0;
        int[] lengths = {10, 11};
        for (int text = 0; text < 2; text++) {
            var full = rows(LayerPlan.all(BLOCKS), Arrays.copyOf(texts.get(text), lengths[text]));
            var part = rows(plan, Arrays.copyOf(texts.get(text), lengths[text]));
            for (int i = 0; i < lengths[text]; i++) {
                sum += divergence(full[i].toArray(), part[i].toArray());
            }
        }
        var fitness = new PlanDivergence(engine, texts);
        assertEquals(sum / 21, fitness.of(plan, List.of(new Slice(0, 10), new Slice(1, 11))), 1e-5 * sum);
        var sample = List.of(new Slice(0, 10), new Slice(1, 11));
        assertEquals(fitness.of(plan, sample), fitness.of(plan, sample));
    }

    private static Row[] rows(LayerPlan plan, int[] text) {
        var rows = new Row[text.length];
        Arrays.setAll(rows, i -> engine.newRow());
        try (var sequence = engine.newSequence(plan)) {
            engine.decode(Append.all(sequence, text, rows));
        }
        return rows;
    }

    @ParameterizedTest
    @CsvSource({"false,2,1", "false,3,2", "true,1,3", "true,2,4"})
    void theSearchFindsTheBestOfAllPlans(boolean halves, int removed, long seed) {
        int tokens = texts.stream().mapToInt(text -> text.length).sum();
        var calibration = new PlanDivergence(engine, texts);
        var heldOut = new PlanDivergence(engine, texts(4, 12));
        var search = PlanSearch.removing(removed).withHalves(halves).withSeed(seed).withGenerations(6).withOffspring(10).withInitial(12, 40)
                .withStages(new Stage(3, 40), new Stage(1, tokens));
        var found = search.run(calibration, heldOut);
        var everything = IntStream.range(0, texts.size()).mapToObj(i -> new Slice(i, texts.get(i).length)).toList();
        var values = PlanSearchTest.all(BLOCKS, removed, halves).stream().mapToDouble(plan -> calibration.of(plan, everything)).toArray();
        double own = calibration.of(found.plan(), everything);
        long better = Arrays.stream(values).filter(value -> value < own).count();
        // the sum runs in another order than the search's last sample
        assertEquals(own, found.fitness(), 1e-9);
        assertTrue(better < (halves ? Math.max(1, values.length / 50) : 1), search + ": " + found.plan() + " is number " + (better + 1)
                + " of " + values.length);
        assertTrue(found.heldOut() > 0 && found.heldOut() < 1, "held out " + found.heldOut());
        assertEquals(0, found.notFinite());
        if (seed == 1) {
            assertEquals(found, search.run(calibration, heldOut));
        }
    }

    @Test
    void aModelThatComputesNothingButNaNCanNotBeSearched() {
        var broken = folder.resolve("broken.gguf");
        Altered.write(file, broken, name -> {
            if (!name.equals("output_norm.weight")) {
                return null;
            }
            var values = new float[64];
            Arrays.fill(values, Float.NaN);
            return values;
        });
        try (var odd = Model.load(broken); var own = Engine.open(odd, ONE_THREAD)) {
            var fitness = new PlanDivergence(own, texts);
            assertEquals(Double.NaN, fitness.of(LayerPlan.all(BLOCKS).skip(1), List.of(new Slice(0, 10))));
            var refused = assertThrows(LlamaException.class, () -> PlanSearch.removing(1).withInitial(2, 20).withStages(new Stage(1, 20))
                    .run(fitness, fitness));
            assertTrue(refused.getMessage().contains("generation 0"), refused.getMessage());
        }
    }

    @Test
    void textsThatDoNotFitAreRefused() {
        var refused = assertThrows(LlamaException.class, () -> new PlanDivergence(engine, texts, 90 * 512 * 4 - 1));
        assertTrue(refused.getMessage().contains("the logits of 90 positions by 512 tokens take 184320 bytes"), refused.getMessage());
        assertEquals(6, new PlanDivergence(engine, texts, 90 * 512 * 4).lengths().size());
        assertThrows(LlamaException.class, () -> new PlanDivergence(engine, List.of()));
        assertThrows(LlamaException.class, () -> new PlanDivergence(engine, List.of(new int[0])));
        assertThrows(LlamaException.class, () -> new PlanDivergence(engine, List.of(new int[engine.contextSize() + 1])));
        var fitness = new PlanDivergence(engine, texts);
        assertThrows(LayerPlanException.class, () -> fitness.of(LayerPlan.all(5).skip(1), List.of(new Slice(0, 10))));
    }

    @Test
    void influenceIsThatOfTheHiddenStates() {
        var influence = BlockInfluence.measure(engine, texts);
        assertEquals(90 - 6, influence.tokens());
        int[] all = IntStream.range(-1, BLOCKS).toArray();
        var sums = new double[BLOCKS];
        for (int[] text : texts) {
            try (var sequence = engine.newSequence()) {
                sequence.tap(Tap.hidden(all), reading -> {
                    if (reading.position() == 0) {
                        return;
                    }
                    var before = new float[64];
                    var after = new float[64];
                    for (int block = 0; block < BLOCKS; block++) {
                        reading.hidden(block - 1, before);
                        reading.hidden(block, after);
                        sums[block] += 1 - cosine(before, after);
                    }
                });
                var rows = new Row[text.length];
                Arrays.setAll(rows, i -> engine.newRow());
                engine.decode(Append.all(sequence, text, rows));
            }
        }
        for (int block = 0; block < BLOCKS; block++) {
            assertEquals(sums[block] / 84, influence.of(block), 1e-5, "block " + block);
            assertTrue(influence.of(block) > 0.001, "block " + block);
        }
    }

    private static double cosine(float[] a, float[] b) {
        double dot = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            dot += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return dot / Math.sqrt(aa * bb);
    }

    @Test
    void blocksThatDoNothingHaveNoInfluenceAndGoFirst() {
        var idle = folder.resolve("idle.gguf");
        Altered.write(file, idle, name -> switch (name) {
            case "blk.2.attn_output.weight", "blk.4.attn_output.weight" -> new float[64 * 64];
            case "blk.2.ffn_down.weight", "blk.4.ffn_down.weight" -> new float[128 * 64];
            default -> null;
        });
        try (var odd = Model.load(idle); var own = Engine.open(odd, ONE_THREAD)) {
            var influence = BlockInfluence.measure(own, texts);
            assertEquals(0, influence.of(2), 1e-6);
            assertEquals(0, influence.of(4), 1e-6);
            var plan = influence.without(2);
            assertEquals("0-1,3,5", plan.toString());
            var fitness = new PlanDivergence(own, texts);
            assertEquals(0, fitness.of(plan, List.of(new Slice(2, 20))), 1e-9);
            var search = PlanSearch.removing(2).withInitial(4, 40).withOffspring(6).withStages(new Stage(2, 40), new Stage(1, 80));
            assertEquals(plan, search.run(fitness, fitness).plan());
        }
    }
}
