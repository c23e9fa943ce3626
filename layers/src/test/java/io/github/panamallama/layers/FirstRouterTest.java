package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class FirstRouterTest {
    private static final int BLOCKS = 6;
    private static final int WIDTH = 32;
    private static final int TOKENS = 16;

    /** Prompts whose states vary about a mean of their own, at scales as unequal as those of real models, and what planted routers say. */
    private static final class Planted {
        final float[][] w = new float[BLOCKS][WIDTH];
        final float[] b = new float[BLOCKS];
        final List<List<float[]>> states = new ArrayList<>();
        final List<Example> examples = new ArrayList<>();

        Planted(long seed, int prompts) {
            var weightsRandom = new SplittableRandom(17);
            for (int block = 0; block < BLOCKS; block++) {
                for (int j = 0; j < WIDTH; j++) {
                    w[block][j] = (float) (weightsRandom.nextGaussian() / scale(j));
                }
                b[block] = (float) weightsRandom.nextGaussian();
                states.add(new ArrayList<>());
            }
            var router = new FirstRouter(w, b, 0.5, Prefill.SKIP);
            var random = new SplittableRandom(seed);
            for (int prompt = 0; prompt < prompts; prompt++) {
                var look = router.look(TOKENS, false);
                for (int block = 0; block < BLOCKS; block++) {
                    var mean = new double[WIDTH];
                    Arrays.setAll(mean, j -> scale(j) * random.nextGaussian());
                    for (int token = 0; token < TOKENS; token++) {
                        var state = new float[WIDTH];
                        for (int j = 0; j < WIDTH; j++) {
                            state[j] = (float) (mean[j] + 0.7 * scale(j) * random.nextGaussian());
                        }
                        look.see(token, block, state);
                        states.get(block).add(state);
                    }
                }
                examples.add(new Example(new int[TOKENS], router.decide(look)));
            }
        }

        private static double scale(int j) {
            return j == 5 ? 200 : j % 3 == 0 ? 0.05 : 1;
        }

        FirstRouter trained(FirstRouter.Options options) {
            var counts = new int[examples.size()];
            Arrays.fill(counts, TOKENS);
            return FirstRouter.fit(states, counts, examples, options);
        }
    }

    private static double agreement(FirstRouter router, Planted planted) {
        int same = 0;
        int all = 0;
        for (int i = 0; i < planted.examples.size(); i++) {
            var look = router.look(TOKENS, false);
            for (int block = 0; block < BLOCKS; block++) {
                for (int token = 0; token < TOKENS; token++) {
                    look.see(token, block, planted.states.get(block).get(i * TOKENS + token));
                }
            }
            var plan = router.decide(look);
            for (int block = 1; block < BLOCKS - 1; block++) {
                same += plan.runs(block) == planted.examples.get(i).plan().runs(block) ? 1 : 0;
                all++;
            }
        }
        return same / (double) all;
    }

    @Test
    void trainingRecoversPlantedRouters() {
        var held = new Planted(2, 200);
        var router = new Planted(1, 400).trained(FirstRouter.Options.defaults());
        double agreement = agreement(router, held);
        System.out.println("held-out agreement with the planted routers: " + agreement);
        assertTrue(agreement >= 0.92, "held-out agreement with the planted routers: " + agreement);
    }

    @Test
    void theSameStatesGiveTheSameRouters() {
        var planted = new Planted(1, 50);
        var one = planted.trained(FirstRouter.Options.defaults());
        var other = planted.trained(FirstRouter.Options.defaults());
        for (int block = 0; block < BLOCKS; block++) {
            assertArrayEquals(one.weights()[block], other.weights()[block]);
            assertEquals(one.biases()[block], other.biases()[block]);
        }
    }

    @Test
    void theFitConvergesAndItsWeightsApplyToInputsAsTheyAre() {
        var random = new SplittableRandom(3);
        var x = new ArrayList<float[]>();
        var y = new boolean[4000];
        for (int i = 0; i < y.length; i++) {
            x.add(new float[] {(float) (1000 + 10 * random.nextGaussian()), (float) (0.01 * random.nextGaussian()), 7});
            double z = 0.2 * (x.get(i)[0] - 1003) - 100 * x.get(i)[1];
            y[i] = random.nextDouble() < 1 / (1 + Math.exp(-z));
        }
        var fit = Logistic.fit(x, y, 0);
        assertTrue(fit.converged(), fit.toString());
        assertEquals(0.2, fit.weights()[0], 0.02);
        assertEquals(-100, fit.weights()[1], 8);
        assertEquals(0, fit.weights()[2], "an input that never varies tells nothing");
        assertEquals(-0.2 * 1003, fit.bias(), 20);
    }

    @Test
    void labelsOfOneKindGiveTheirPrior() {
        var fit = Logistic.fit(List.of(new float[] {1}, new float[] {2}), new boolean[] {true, true}, 1e-3);
        assertEquals(0, fit.weights()[0]);
        assertEquals(Math.log(2.5 / 0.5), fit.bias(), 1e-6);
    }

    private static FirstRouter constant(float bias) {
        var biases = new float[4];
        Arrays.fill(biases, bias);
        return new FirstRouter(new float[4][2], biases, 0.5, Prefill.FULL);
    }

    private static LayerPlan decide(Router router, int tokens, boolean bos, float[]... states) {
        var look = router.look(tokens, bos);
        for (int token = 0; token < tokens; token++) {
            for (int block = 0; block < router.blocks(); block++) {
                look.see(token, block, states[token]);
            }
        }
        return router.decide(look);
    }

    @Test
    void theFirstAndTheLastBlockAreAlwaysKept() {
        assertEquals("0,3", decide(constant(-5), 1, false, new float[2]).toString());
        assertTrue(decide(constant(5), 1, false, new float[2]).isFull());
    }

    @Test
    void theMeanOfTheTokensDecidesAndBosHasNoVote() {
        var router = new FirstRouter(new float[][] {{1}, {1}, {1}}, new float[3], 0.5, Prefill.SKIP);
        float[] away = {-9};
        float[] keep = {1};
        assertEquals("0,2", decide(router, 3, false, away, keep, keep).toString(), "0, 0.73 and 0.73 are 0.49 on average");
        assertTrue(decide(router, 3, true, away, keep, keep).isFull());
        assertTrue(decide(router, 1, true, away).isFull(), "nothing but BOS: nothing to decide by");
        assertEquals("0,2", decide(router.withTau(0.8), 2, false, keep, keep).toString());
    }

    @Test
    void aScoreThatIsNoNumberKeepsTheBlockAndIsCounted() {
        var router = constant(-5);
        assertTrue(decide(router, 1, false, new float[] {Float.NaN, 0}).isFull());
        assertEquals(2, router.undecided());
        decide(router, 2, false, new float[2], new float[] {0, Float.POSITIVE_INFINITY});
        assertEquals(4, router.undecided());
        decide(router, 1, false, new float[2]);
        assertEquals(4, router.undecided());
    }

    @Test
    void refusesOptionsAndExamplesWithoutSense() {
        var options = FirstRouter.Options.defaults();
        assertThrows(IllegalArgumentException.class, () -> options.withStates(0));
        assertThrows(IllegalArgumentException.class, () -> options.withPenalty(-1));
        assertThrows(IllegalArgumentException.class, () -> options.withPenalty(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> options.withTau(1.5));
        assertThrows(IllegalArgumentException.class, () -> new Example(new int[0], LayerPlan.all(4)));
        assertThrows(IllegalArgumentException.class, () -> new Example(new int[1], LayerPlan.all(4).skipAttention(2)));
    }
}
