package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class DrLlmRouterTest {
    private static final int BLOCKS = 3;
    private static final int WIDTH = 16;

    private final List<float[][][]> pooled = new ArrayList<>();
    private final List<LayerPlan> labels = new ArrayList<>();

    /** Windows about a mean of their own, whose first two values say what the block shall do: an eighth skip, another one runs twice. */
    private void plant(long seed, int prompts) {
        var random = new SplittableRandom(seed);
        for (int i = 0; i < prompts; i++) {
            var example = new float[BLOCKS][8][WIDTH];
            var plan = LayerPlan.all(BLOCKS);
            for (int block = 0; block < BLOCKS; block++) {
                var mean = new double[WIDTH];
                Arrays.setAll(mean, j -> random.nextGaussian());
                for (float[] window : example[block]) {
                    for (int j = 0; j < WIDTH; j++) {
                        window[j] = (float) (scale(j) * (mean[j] + 0.3 * random.nextGaussian()));
                    }
                }
                if (mean[0] > 0 && mean[1] > 0.68) {
                    plan = plan.skip(block);
                } else if (mean[0] < 0 && mean[1] > 0.68) {
                    plan = plan.repeat(block, 2);
                }
            }
            pooled.add(example);
            labels.add(plan);
        }
    }

    private static double scale(int j) {
        return j == 3 ? 100 : j < 2 ? 0.02 : 1;
    }

    private Agreement agreement(DrLlmRouter router) {
        var counts = new long[3][3];
        for (int i = 0; i < pooled.size(); i++) {
            var look = router.look(8, false);
            for (int block = 0; block < BLOCKS; block++) {
                for (int token = 0; token < 8; token++) {
                    look.see(token, block, pooled.get(i)[block][token]);
                }
            }
            for (int block = 0; block < BLOCKS; block++) {
                counts[labels.get(i).runs(block)][look.runs(block)]++;
            }
        }
        return new Agreement(counts);
    }

    @Test
    void trainingRecoversPlantedDecisions() {
        plant(1, 1200);
        var router = DrLlmRouter.fit(pooled, labels, DrLlmRouter.Options.defaults());
        pooled.clear();
        labels.clear();
        plant(2, 300);
        var held = agreement(router);
        System.out.printf("held-out accuracy %.3f, F1 of skip %.3f, run %.3f, twice %.3f%n", held.accuracy(), held.f1(0), held.f1(1),
                held.f1(2));
        assertTrue(held.accuracy() >= 0.9, "accuracy " + held.accuracy());
        for (int runs = 0; runs < 3; runs++) {
            assertTrue(held.f1(runs) >= 0.8, "F1 of " + runs + " runs: " + held.f1(runs));
        }
    }

    @Test
    void aSeedFixesTheTraining() {
        plant(1, 40);
        var options = DrLlmRouter.Options.defaults().withHidden(4).withEpochs(2);
        var one = DrLlmRouter.fit(pooled, labels, options);
        var same = DrLlmRouter.fit(pooled, labels, options);
        var other = DrLlmRouter.fit(pooled, labels, options.withSeed(2));
        for (int block = 0; block < BLOCKS; block++) {
            assertArrayEquals(one.parameters()[block], same.parameters()[block]);
        }
        assertFalse(Arrays.equals(one.parameters()[0], other.parameters()[0]));
    }

    /** The figures are those of the paper's released code, whose weights come out as 0.92, 0.90 and 1.18. */
    @Test
    void classesWeighByTheirEffectiveNumber() {
        var plans = new ArrayList<LayerPlan>();
        var all = LayerPlan.all(127);
        var skipped = all;
        var repeated = all;
        for (int block = 0; block < 127; block++) {
            skipped = skipped.skip(block);
            repeated = repeated.repeat(block, 2);
        }
        // 120956, 4399 and 1457 labels, as near as plans of 127 blocks come
        plans.addAll(Collections.nCopies(952, all));
        plans.addAll(Collections.nCopies(35, skipped));
        plans.addAll(Collections.nCopies(11, repeated));
        assertArrayEquals(new double[] {0.91, 0.90, 1.19}, DrLlmRouter.classWeights(plans, 0.999), 0.015);
        assertArrayEquals(new double[] {0, 3, 0}, DrLlmRouter.classWeights(List.of(all), 0.999), 1e-12);
    }

    @Test
    void windowsAreOfEqualSizeAndTheTailDoesNotCount() {
        var windows = new DrLlmRouter.Windows(3, 11, 1, 1);
        for (int token = 0; token < 11; token++) {
            windows.add(token, 0, new float[] {token});
        }
        assertArrayEquals(new float[] {1, 4, 7}, flat(windows), 1e-5f);
        var few = new DrLlmRouter.Windows(8, 2, 1, 1);
        few.add(0, 0, new float[] {5});
        few.add(1, 0, new float[] {6});
        assertArrayEquals(new float[] {5, 6}, flat(few));
    }

    private static float[] flat(DrLlmRouter.Windows windows) {
        float[][] means = windows.means()[0];
        var flat = new float[means.length];
        for (int i = 0; i < flat.length; i++) {
            flat[i] = means[i][0];
        }
        return flat;
    }

    /** Routers whose networks have nothing but their last bias. */
    static DrLlmRouter constant(int blocks, int width, float... logits) {
        var parameters = new float[blocks][Mlp.size(width, 1)];
        for (float[] block : parameters) {
            System.arraycopy(logits, 0, block, block.length - 3, 3);
        }
        return new DrLlmRouter(parameters, width, 1, 8);
    }

    private static LayerPlan decide(Router router, float value) {
        var look = router.look(1, false);
        for (int block = 0; block < router.blocks(); block++) {
            look.see(0, block, new float[] {value, value});
        }
        return router.decide(look);
    }

    @Test
    void theHighestLogitDecides() {
        assertEquals("0-3x2", decide(constant(4, 2, 0, 1, 2), 1).toString());
        assertTrue(decide(constant(4, 2, 1, 1, 1), 1).isFull(), "ties run");
    }

    /** Probabilities of about 0.63 for one run, 0.23 for two and 0.14 for none. */
    @Test
    void theKnobGoesFromSkippingAllToRepeatingAll() {
        var router = constant(4, 2, -0.5f, 1, 0);
        var plans = new ArrayList<String>();
        for (double knob : new double[] {-1, -0.4, -0.3, 0, 0.2, 0.3, 1}) {
            plans.add(decide(router.withBlend(knob, 2), 1).toString());
        }
        assertEquals(List.of("3", "3", "0-3", "0-3", "0-3", "0-3x2", "0-3x2"), plans);
        assertEquals("3", decide(constant(4, 2, 3, 1, 2).withBlend(0.2, 1), 1).toString());
        assertEquals("0-3", decide(constant(4, 2, 3, 1, 2).withBlend(0.6, 1), 1).toString());
        assertEquals("0-3x2", decide(constant(4, 2, 0, 1, 2).withBlend(0, 1), 1).toString());
        assertTrue(decide(router.withBlend(-1, 2), Float.NaN).isFull(), "what is no number runs");
        for (double knob : new double[] {-1.1, 1.1, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> router.withBlend(knob, 1));
        }
        assertThrows(IllegalArgumentException.class, () -> router.withBlend(0, 3));
        assertThrows(IllegalArgumentException.class, () -> router.withBlend(0, 0));
    }

    @Test
    void somethingIsAlwaysRun() {
        assertEquals("3", decide(constant(4, 2, 2, 1, 0), 1).toString());
    }

    @Test
    void logitsThatAreNoNumbersRunTheBlockAndAreCounted() {
        var router = constant(4, 2, 2, 1, 0);
        assertTrue(decide(router, Float.NaN).isFull());
        assertEquals(4, router.undecided());
    }

    @Test
    void refusesOptionsWithoutSense() {
        var options = DrLlmRouter.Options.defaults();
        assertThrows(IllegalArgumentException.class, () -> options.withHidden(0));
        assertThrows(IllegalArgumentException.class, () -> options.withWindows(0));
        assertThrows(IllegalArgumentException.class, () -> options.withEpochs(0));
        assertThrows(IllegalArgumentException.class, () -> options.withLearningRate(0));
        assertThrows(IllegalArgumentException.class, () -> options.withBeta(1));
    }
}
