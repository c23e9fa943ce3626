package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Routers on a model with random weights: what they decide by, and what sequences they make. */
@Timeout(300)
class RouterModelTest {
    private static final int BLOCKS = 6;
    private static final int WIDTH = 64;

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void open() {
        var path = folder.resolve("llama.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(BLOCKS).write(path);
        model = Model.load(path);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(2).withSpareLayers(BLOCKS));
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    /** Tokens of one of two halves of the vocabulary, from the bytes on. */
    private static int[] prompt(SplittableRandom random, boolean upperHalf) {
        return random.ints(24, upperHalf ? 130 : 3, upperHalf ? 250 : 125).toArray();
    }

    /** Routers that skip block 2 of prompts of the upper half, learned from states of the whole model. */
    private static FirstRouter first(Prefill prefill) {
        return FirstRouter.train(engine, halves(1, 40, plan -> plan.skip(2)), FirstRouter.Options.defaults().withPrefill(prefill));
    }

    private interface Edit {
        LayerPlan of(LayerPlan plan);
    }

    private static List<Example> halves(long seed, int count, Edit upper) {
        var random = new SplittableRandom(seed);
        var examples = new ArrayList<Example>();
        for (int i = 0; i < count; i++) {
            var all = LayerPlan.all(BLOCKS);
            examples.add(new Example(prompt(random, i % 2 == 1), i % 2 == 1 ? upper.of(all) : all));
        }
        return examples;
    }

    private static FirstRouter constant(float bias, Prefill prefill) {
        return new FirstRouter(new float[BLOCKS][WIDTH], new float[] {bias, bias, bias, bias, bias, bias}, 0.5, prefill);
    }

    /** Logits behind a prompt and behind one more token. */
    private static float[] logits(Sequence sequence, Row row, int token) {
        sequence.append(token, row);
        return row.toArray();
    }

    @Test
    void keepingAllIsTheModelAsItIs() {
        int[] prompt = prompt(new SplittableRandom(1), true);
        var row = engine.newRow();
        var expected = engine.newRow();
        for (var prefill : Prefill.values()) {
            try (var sequence = constant(5, prefill).start(engine, prompt, row); var plain = engine.newSequence()) {
                plain.append(prompt, expected);
                assertTrue(sequence.plan().isFull());
                assertArrayEquals(expected.toArray(), row.toArray());
                assertArrayEquals(logits(plain, expected, 9), logits(sequence, row, 9));
            }
        }
    }

    @Test
    void withSkipThePromptRunsUnderThePlan() {
        int[] prompt = prompt(new SplittableRandom(2), true);
        var row = engine.newRow();
        var expected = engine.newRow();
        try (var sequence = constant(-5, Prefill.SKIP).start(engine, prompt, row);
                var under = engine.newSequence(LayerPlan.parse("0,5", BLOCKS))) {
            under.append(prompt, expected);
            assertEquals("0,5", sequence.plan().toString());
            assertArrayEquals(expected.toArray(), row.toArray());
            assertArrayEquals(logits(under, expected, 9), logits(sequence, row, 9));
        }
    }

    @Test
    void withFullThePromptRunsThroughTheWholeModelAndWhatFollowsDoesNot() {
        int[] prompt = prompt(new SplittableRandom(3), true);
        var row = engine.newRow();
        var expected = engine.newRow();
        try (var sequence = constant(-5, Prefill.FULL).start(engine, prompt, row); var plain = engine.newSequence()) {
            plain.append(prompt, expected);
            assertEquals("0,5", sequence.plan().toString());
            assertArrayEquals(expected.toArray(), row.toArray());
            try (var fork = plain.fork(sequence.plan(), CacheReuse.APPROXIMATE)) {
                assertArrayEquals(logits(fork, expected, 9), logits(sequence, row, 9));
            }
        }
    }

    /** Routers of random weights, so that decisions hang on what the blocks before leave behind. */
    @Test
    void withSkipEachBlockIsDecidedByTheStateUnderThePlanSoFar() {
        var random = new SplittableRandom(4);
        var seen = new ArrayList<LayerPlan>();
        boolean orderMattered = false;
        for (int i = 0; i < 40; i++) {
            var parameters = new float[BLOCKS][Mlp.size(WIDTH, 4)];
            for (float[] block : parameters) {
                for (int k = 0; k < block.length; k++) {
                    block[k] = (float) random.nextGaussian();
                }
            }
            var router = new DrLlmRouter(parameters, WIDTH, 4, 8);
            int[] prompt = prompt(random, false);
            var plan = router.plan(engine, prompt);
            seen.add(plan);
            try (var under = engine.newSequence(plan); var whole = engine.newSequence()) {
                var look = router.look(prompt.length, false);
                Router.observe(under, prompt, null, look);
                assertEquals(plan, router.decide(look), "decided again by the states under the plan");
                var first = router.look(prompt.length, false);
                Router.observe(whole, prompt, null, first);
                orderMattered |= !router.decide(first).equals(plan);
            }
        }
        assertTrue(seen.stream().distinct().count() > 5, seen.toString());
        assertTrue(seen.stream().anyMatch(plan -> plan.spareLayers() > 0), seen.toString());
        assertTrue(orderMattered, "the states of the whole model would have decided alike each time");
    }

    @Test
    void firstLearnsFromTheModelsStates() {
        for (var prefill : Prefill.values()) {
            var held = first(prefill).agreement(engine, halves(2, 40, plan -> plan.skip(2)));
            assertTrue(held.accuracy() >= 0.99, prefill + ": " + held.accuracy());
            assertTrue(held.f1(0) >= 0.95, prefill + ": " + held.f1(0));
        }
    }

    @Test
    void drLlmLearnsFromTheModelsStates() {
        Edit edit = plan -> plan.skip(2).repeat(4, 2);
        var options = DrLlmRouter.Options.defaults().withHidden(16).withLearningRate(5e-3);
        var router = DrLlmRouter.train(engine, halves(1, 80, edit), options);
        var held = router.agreement(engine, halves(2, 40, edit));
        System.out.printf("held-out accuracy %.3f, F1 of skip %.3f, run %.3f, twice %.3f%n", held.accuracy(), held.f1(0), held.f1(1),
                held.f1(2));
        assertTrue(held.accuracy() >= 0.98, "accuracy " + held.accuracy());
        assertTrue(held.f1(0) >= 0.9 && held.f1(2) >= 0.9, held.f1(0) + " and " + held.f1(2));
        assertEquals(0, router.undecided());
    }

    @Test
    void labelsByInfluenceKeepTheirShare() {
        var random = new SplittableRandom(6);
        var texts = new ArrayList<int[]>();
        for (int i = 0; i < 10; i++) {
            texts.add(prompt(random, i % 2 == 0));
        }
        for (double kept : new double[] {0, 0.3, 0.5, 1}) {
            var examples = InfluenceLabels.of(engine, texts, kept);
            double inner = examples.stream().mapToDouble(example -> example.plan().cost() - 2).sum();
            assertEquals(Math.round(kept * 10 * (BLOCKS - 2)), inner);
            for (var example : examples) {
                assertEquals(1, example.plan().runs(0));
                assertEquals(1, example.plan().runs(BLOCKS - 1));
            }
        }
        var halves = InfluenceLabels.of(engine, texts, 0.5);
        double weakestKept = Double.POSITIVE_INFINITY;
        double strongestDropped = 0;
        for (var example : halves) {
            var influence = BlockInfluence.measure(engine, List.of(example.prompt()));
            for (int block = 1; block < BLOCKS - 1; block++) {
                if (example.plan().runs(block) > 0) {
                    weakestKept = Math.min(weakestKept, influence.of(block));
                } else {
                    strongestDropped = Math.max(strongestDropped, influence.of(block));
                }
            }
        }
        assertTrue(weakestKept >= strongestDropped - 1e-6, weakestKept + " kept, " + strongestDropped + " dropped");
        assertThrows(IllegalArgumentException.class, () -> InfluenceLabels.of(engine, texts, 1.1));
    }

    @Test
    void anEmptyPromptKeepsAllBlocks() {
        try (var sequence = constant(-5, Prefill.SKIP).start(engine, new int[0], null)) {
            assertTrue(sequence.plan().isFull());
            assertEquals(0, sequence.length());
        }
    }

    @Test
    void aModelOfAnotherShapeIsRefusedWithBoth() {
        var router = new FirstRouter(new float[5][32], new float[5], 0.5, Prefill.SKIP);
        var refused = assertThrows(LayerPlanException.class, () -> router.start(engine, new int[] {3, 4}, null));
        assertTrue(refused.getMessage().contains("5 blocks and width 32") && refused.getMessage().contains("6 and 64"),
                refused.getMessage());
    }

    @Test
    void repetitionsWithoutSpareLayersAreRefusedBeforeAnythingIsGenerated() {
        try (var bare = Engine.open(model, EngineOptions.defaults().withContextSize(512))) {
            var router = DrLlmRouterTest.constant(BLOCKS, WIDTH, 0, 0, 1);
            assertThrows(LayerPlanException.class, () -> router.start(bare, new int[] {3, 4, 5}, null));
        }
    }

    @Test
    void examplesThatDoNotFitAreRefused() {
        var options = FirstRouter.Options.defaults();
        var twice = List.of(new Example(new int[] {3}, LayerPlan.all(BLOCKS).repeat(1, 2)));
        var thrice = List.of(new Example(new int[] {3}, LayerPlan.all(BLOCKS).repeat(1, 3)));
        var other = List.of(new Example(new int[] {3}, LayerPlan.all(BLOCKS + 1)));
        assertThrows(IllegalArgumentException.class, () -> FirstRouter.train(engine, List.of(), options));
        assertThrows(IllegalArgumentException.class, () -> FirstRouter.train(engine, twice, options));
        assertThrows(IllegalArgumentException.class, () -> FirstRouter.train(engine, other, options));
        assertThrows(IllegalArgumentException.class, () -> DrLlmRouter.train(engine, thrice, DrLlmRouter.Options.defaults()));
    }

    /** Every plan of the four blocks is tried; the answer that counts is the whole model's own, or another plan's. */
    @Test
    void theLabelSearchAgreesWithEveryPlanOfARealModel() {
        var path = folder.resolve("four.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(path);
        try (var four = Model.load(path);
                var small = Engine.open(four, EngineOptions.defaults().withContextSize(256).withThreads(2).withSpareLayers(4))) {
            var random = new SplittableRandom(8);
            int optimal = 0;
            for (int question = 0; question < 10; question++) {
                int[] prompt = prompt(random, false);
                var wanted = question < 7 ? LayerPlan.all(4) : LayerPlan.all(4).repeat(random.nextInt(4), 2);
                var answer = new CompletionTask(small, prompt, 3, "", text -> true).answer(wanted);
                var task = new CompletionTask(small, prompt, 3, "", answer::equals);
                var shortest = LabelSearchTest.everyPlan(4).stream().filter(task::correct).findFirst().orElseThrow();
                var found = LabelSearch.defaults().withEnough(4).withSimulations(200).search(4, task).plan().orElseThrow();
                assertTrue(task.correct(found), found.toString());
                assertTrue(found.cost() >= shortest.cost());
                optimal += found.cost() == shortest.cost() ? 1 : 0;
            }
            System.out.println("the optimum was found for " + optimal + " of 10");
            assertTrue(optimal >= 6, "the optimum was found for " + optimal + " of 10");
        }
    }

    @Test
    void anAnswerEndsAtItsStop() {
        int[] prompt = prompt(new SplittableRandom(9), false);
        var all = LayerPlan.all(BLOCKS);
        var whole = new CompletionTask(engine, prompt, 12, "", text -> true).answer(all);
        assertFalse(whole.isEmpty());
        int middle = whole.length() / 2;
        var stop = whole.substring(middle, middle + 1);
        assertEquals(whole.substring(0, whole.indexOf(stop)), new CompletionTask(engine, prompt, 12, stop, text -> true).answer(all));
        assertThrows(IllegalArgumentException.class, () -> new CompletionTask(engine, new int[0], 12, "", text -> true));
        assertThrows(IllegalArgumentException.class, () -> new CompletionTask(engine, prompt, 0, "", text -> true));
    }
}
