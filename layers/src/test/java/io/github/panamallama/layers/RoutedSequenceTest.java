package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.layers.RoutedSequence.By;
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
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Routes token by token, on a model with random weights. */
@Timeout(300)
class RoutedSequenceTest {
    private static final int BLOCKS = 6;
    private static final int WIDTH = 64;
    private static final int[] PROMPT = {1, 300, 301, 40, 77, 410, 200, 12, 350, 9};
    private static final LayerPlan ALL = LayerPlan.all(BLOCKS);

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void open() {
        var path = folder.resolve("llama.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(BLOCKS).write(path);
        model = Model.load(path);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(1));
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    /** Routers of random weights, so that decisions hang on the states. */
    private static DrLlmRouter router(long seed) {
        var random = new SplittableRandom(seed);
        var parameters = new float[BLOCKS][Mlp.size(WIDTH, 4)];
        for (float[] block : parameters) {
            for (int k = 0; k < block.length; k++) {
                block[k] = (float) random.nextGaussian();
            }
        }
        return new DrLlmRouter(parameters, WIDTH, 4, 8);
    }

    /** What the routers want of one token that is evaluated behind a sequence under a plan. */
    private static LayerPlan decisions(Router router, Hand before, LayerPlan plan, int token) {
        try (var fork = before.sequence.fork(plan, CacheReuse.APPROXIMATE)) {
            var look = router.look(1, false);
            Router.observe(fork, new int[] {token}, null, look);
            return kept(router.decide(look));
        }
    }

    /** A sequence under changing plans, made by hand. */
    private static final class Hand implements AutoCloseable {
        private Sequence sequence = engine.newSequence();

        void append(LayerPlan plan, int[] tokens, Row row) {
            var fork = sequence.fork(plan, CacheReuse.APPROXIMATE);
            sequence.close();
            sequence = fork;
            sequence.append(tokens, row);
        }

        @Override
        public void close() {
            sequence.close();
        }
    }

    private static LayerPlan kept(LayerPlan plan) {
        var kept = ALL;
        for (int block = 0; block < BLOCKS; block++) {
            kept = plan.runs(block) == 0 ? kept.skipKeepingCache(block) : kept;
        }
        return kept;
    }

    @ParameterizedTest
    @EnumSource
    void routersThatRunAllLeaveTheModelAsItIs(By by) {
        var row = engine.newRow();
        var expected = engine.newRow();
        for (var router : List.of(DrLlmRouterTest.constant(BLOCKS, WIDTH, 0, 1, 0), DrLlmRouterTest.constant(BLOCKS, WIDTH, 0, 0, 1))) {
            try (var routed = new RoutedSequence(engine, router, by); var plain = engine.newSequence()) {
                routed.append(PROMPT, row);
                plain.append(PROMPT, expected);
                for (int token = 20; token < 30; token++) {
                    assertArrayEquals(expected.toArray(), row.toArray());
                    routed.append(token, row);
                    plain.append(token, expected);
                }
                assertEquals(11, routed.evaluations(), "who wants a second run gets one");
                assertEquals(0, routed.blocksLeftOut());
            }
        }
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void byItselfEachTokenRunsTheBlocksThatItsOwnStatesAskFor() {
        var plans = new HashSet<LayerPlan>();
        var row = engine.newRow();
        var expected = engine.newRow();
        for (long seed = 1; seed <= 6; seed++) {
            var router = router(seed);
            try (var routed = new RoutedSequence(engine, router, By.ITSELF); var hand = new Hand()) {
                routed.append(PROMPT, row);
                hand.append(routed.sequence().plan(), PROMPT, expected);
                assertArrayEquals(expected.toArray(), row.toArray(), 1e-4f);
                long left = 0;
                long evaluations = 1 + left(routed);
                for (int token = 100; token < 112; token++) {
                    routed.append(token, row);
                    var plan = routed.sequence().plan();
                    assertEquals(plan, decisions(router, hand, plan, token), "the states under the route ask for the route");
                    hand.append(plan, new int[] {token}, expected);
                    assertArrayEquals(expected.toArray(), row.toArray(), 1e-4f);
                    plans.add(plan);
                    left += left(routed);
                    evaluations += 1 + left(routed);
                }
                assertEquals(left, routed.blocksLeftOut());
                assertEquals(evaluations, routed.evaluations(), "one, and one more for each block that is left out");
            }
        }
        assertTrue(plans.size() > 5, plans.toString());
        assertEquals(0, engine.stats().sequenceIds());
    }

    private static int left(RoutedSequence routed) {
        return BLOCKS - (int) routed.sequence().plan().cost();
    }

    @Test
    void byTheTokenBeforeItEachTokenIsEvaluatedOnce() {
        var plans = new ArrayList<LayerPlan>();
        var row = engine.newRow();
        var expected = engine.newRow();
        for (long seed = 1; seed <= 6; seed++) {
            var router = router(seed);
            try (var routed = new RoutedSequence(engine, router, By.TOKEN_BEFORE); var hand = new Hand()) {
                routed.append(PROMPT, row);
                assertTrue(routed.sequence().plan().isFull(), "a prompt runs through all blocks");
                var look = router.look(PROMPT.length, false);
                try (var whole = engine.newSequence()) {
                    Router.observe(whole, PROMPT, null, look);
                }
                var next = kept(router.decide(look));
                hand.append(ALL, PROMPT, expected);
                for (int token = 100; token < 112; token++) {
                    var after = decisions(router, hand, next, token);
                    routed.append(token, row);
                    assertEquals(next, routed.sequence().plan());
                    hand.append(next, new int[] {token}, expected);
                    assertArrayEquals(expected.toArray(), row.toArray(), 1e-4f);
                    plans.add(next);
                    next = after;
                }
                assertEquals(13, routed.evaluations());
                routed.append(PROMPT, null);
                assertTrue(routed.sequence().plan().isFull(), "and so does one in the middle");
            }
        }
        assertTrue(plans.stream().distinct().count() > 5, plans.toString());
    }

    @Test
    void firstRoutersDecideTokenByTokenToo() {
        var weights = new float[BLOCKS][WIDTH];
        var router = new FirstRouter(weights, new float[] {-5, -5, 5, -5, 5, -5}, 0.5, Prefill.SKIP);
        try (var routed = new RoutedSequence(engine, router, By.TOKEN_BEFORE)) {
            routed.append(PROMPT, null);
            routed.append(20, null);
            assertEquals("0,1:kv,2,3:kv,4-5", routed.sequence().plan().toString(), "the first and the last block always run");
            assertEquals(2, routed.blocksLeftOut());
        }
    }

    @Test
    void scoresThatAreNoNumbersRunTheBlock() {
        var router = DrLlmRouterTest.constant(BLOCKS, WIDTH, 1, 0, Float.NaN);
        try (var routed = new RoutedSequence(engine, router, By.ITSELF)) {
            routed.append(PROMPT, null);
            routed.append(20, null);
            assertTrue(routed.sequence().plan().isFull());
            assertEquals(2 * BLOCKS, router.undecided());
        }
    }

    @Test
    void refusesWhatDoesNotFit() {
        var other = new FirstRouter(new float[5][32], new float[5], 0.5, Prefill.SKIP);
        assertThrows(LayerPlanException.class, () -> new RoutedSequence(engine, other, By.ITSELF));
        try (var routed = new RoutedSequence(engine, router(1), By.ITSELF)) {
            assertThrows(IllegalArgumentException.class, () -> routed.append(new int[0], null));
            assertThrows(IllegalArgumentException.class, () -> routed.append(100_000, null));
            routed.append(PROMPT, null);
            assertEquals(PROMPT.length, routed.sequence().length());
        }
        assertEquals(0, engine.stats().sequenceIds());
    }
}
