package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** Devices and models that do not exist; {@code LimitedDeviceTest} has llama.cpp's own plans. */
class LayerFitTest {
    private static final long GIB = 1L << 30;
    private static final long MIB = 1L << 20;

    /** A model's shape, in bytes. */
    private record Shape(long block, long output, long contextPerBlock, long scratch, int blocks) {
        /** Llama 3.1 8B: 32 blocks of 218 M weights, a vocabulary of 128,256. */
        static Shape of8B(double bitsPerWeight, int context) {
            return new Shape((long) (218_112_000 * bitsPerWeight / 8), (long) (4096L * 128_256 * bitsPerWeight / 8), context * 4096L,
                    128_256L * 512 * 4 + 40 * MIB, 32);
        }

        /** 70B: 80 blocks of 856 M weights. */
        static Shape of70B(double bitsPerWeight, int context) {
            return new Shape((long) (855_654_400 * bitsPerWeight / 8), (long) (8192L * 128_256 * bitsPerWeight / 8), context * 4096L,
                    128_256L * 512 * 4 + 80 * MIB, 80);
        }

        long[] weights() {
            var weights = new long[blocks + 1];
            Arrays.fill(weights, block);
            weights[blocks] = output;
            return weights;
        }

        /** Buffers are on devices with layers, and the logits where the output is: more than single layers tell. */
        List<MemoryEstimate.Device> plan(int[] layers) {
            var places = new ArrayList<MemoryEstimate.Device>();
            int left = LayerFit.sum(layers);
            for (int i = 0; i < layers.length; i++) {
                left -= layers[i];
                boolean last = left == 0 && layers[i] > 0;
                int n = layers[i] - (last ? 1 : 0);
                places.add(new MemoryEstimate.Device("GPU" + i, n * block + (last ? output : 0), 0, n * contextPerBlock,
                        layers[i] == 0 ? 0 : last ? scratch : scratch / 4, layers[i]));
            }
            return places;
        }

        boolean fits(int[] layers, long[] rooms) {
            var plan = plan(layers);
            for (int i = 0; i < rooms.length; i++) {
                if (plan.get(i).total() > rooms[i]) {
                    return false;
                }
            }
            return true;
        }

        /** By trying everything. */
        int most(long... rooms) {
            return most(new int[rooms.length], 0, blocks + 1, rooms);
        }

        private int most(int[] layers, int device, int left, long[] rooms) {
            if (device == layers.length) {
                return fits(layers, rooms) ? LayerFit.sum(layers) : 0;
            }
            int best = 0;
            for (int n = 0; n <= left; n++) {
                layers[device] = n;
                best = Math.max(best, most(layers, device + 1, left - n, rooms));
            }
            layers[device] = 0;
            return best;
        }
    }

    private static int[] fit(Shape shape, long... rooms) {
        return LayerFit.fit(shape.weights(), rooms, shape::plan);
    }

    @Test
    void whatFitsAltogetherIsSharedOutByWhatIsFree() {
        assertArrayEquals(new int[] {33}, fit(Shape.of8B(4.5, 8192), 23 * GIB));
        assertArrayEquals(new int[] {22, 11}, fit(Shape.of8B(4.5, 8192), 20 * GIB, 10 * GIB));
    }

    @Test
    void asManyLayersAsFitGoToTheDeviceAndNoneMoreWould() {
        for (long gib : new long[] {1, 2, 3, 4, 5, 7, 10}) {
            for (var shape : List.of(Shape.of8B(4.5, 8192), Shape.of8B(8.5, 32_768), Shape.of70B(4.5, 8192))) {
                var layers = fit(shape, gib * GIB);
                assertTrue(LayerFit.sum(layers) == 0 || shape.fits(layers, new long[] {gib * GIB}), shape + " in " + gib + " GiB");
                assertEquals(shape.most(gib * GIB), LayerFit.sum(layers), shape + " in " + gib + " GiB");
            }
        }
    }

    @Test
    void unequalDevicesTakeWhatEachHasRoomFor() {
        var shape = Shape.of70B(4.5, 8192);
        var rooms = new long[] {22 * GIB, 10 * GIB};
        var layers = fit(shape, rooms);
        assertTrue(shape.fits(layers, rooms), Arrays.toString(layers));
        assertTrue(LayerFit.sum(layers) >= shape.most(rooms) - 1, Arrays.toString(layers) + " of " + shape.most(rooms));
        assertTrue(layers[0] > 1.9 * layers[1], Arrays.toString(layers));
        assertArrayEquals(new int[] {0, LayerFit.sum(fit(shape, 10 * GIB))}, fit(shape, 0, 10 * GIB), "a full device takes none");
    }

    @Test
    void nothingFitsWhereThereIsNoRoom() {
        assertArrayEquals(new int[] {0, 0}, fit(Shape.of8B(4.5, 8192), 0, 0));
        assertArrayEquals(new int[] {0}, fit(Shape.of8B(4.5, 8192), 100 * MIB));
    }

    @Test
    void whateverIsChosenFits() {
        long seed = new SplittableRandom().nextLong();
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        for (int i = 0; i < 300; i++) {
            var shape = new Shape(random.nextLong(1, 900 * MIB), random.nextLong(1, 900 * MIB), random.nextLong(0, 100 * MIB),
                    random.nextLong(0, 500 * MIB), random.nextInt(1, 100));
            var rooms = random.longs(random.nextInt(1, 5), 0, 30 * GIB).toArray();
            int[] plans = new int[1];
            var layers = LayerFit.fit(shape.weights(), rooms, counts -> {
                plans[0]++;
                return shape.plan(counts);
            });
            assertTrue(LayerFit.sum(layers) == 0 || shape.fits(layers, rooms), shape + " in " + Arrays.toString(rooms));
            assertTrue(plans[0] <= 20, plans[0] + " plans for " + shape + " in " + Arrays.toString(rooms));
        }
    }

    @Test
    void arithmeticThatIsFarOffStillLeadsToWhatFits() {
        // blocks that take ten times what their weights say
        LayerFit.Planner planner = layers -> List.of(new MemoryEstimate.Device("GPU0", layers[0] * 100 * MIB, 0, 0, 0, layers[0]));
        var weights = new long[33];
        Arrays.fill(weights, 10 * MIB);
        var layers = LayerFit.fit(weights, new long[] {GIB}, planner);
        assertTrue(layers[0] >= 5 && layers[0] <= 10, Arrays.toString(layers));
    }

    @Test
    void givenProportionsAreKept() {
        var shape = Shape.of8B(4.5, 8192);
        var layers = LayerFit.fit(33, new float[] {3, 1}, new long[] {3 * GIB, 3 * GIB}, shape::plan);
        assertEquals(3.0, layers[0] / (double) layers[1], 1.0, Arrays.toString(layers));
        assertTrue(shape.fits(layers, new long[] {3 * GIB, 3 * GIB}));
        assertTrue(!shape.fits(LayerFit.proportional(LayerFit.sum(layers) + 1, new float[] {3, 1}), new long[] {3 * GIB, 3 * GIB}));
    }

    @Test
    void sharesBecomeLayersAsInLlamaCpp() {
        assertArrayEquals(new int[] {3, 1}, LayerFit.proportional(4, new float[] {3, 1}));
        assertArrayEquals(new int[] {0, 5, 0}, LayerFit.proportional(5, new float[] {0, 2, 0}));
        for (int a = 0; a <= 40; a++) {
            for (int b = a == 0 ? 1 : 0; b <= 40; b++) {
                assertArrayEquals(new int[] {a, b}, LayerFit.proportional(a + b, new float[] {a, b}), "numbers of layers give themselves");
            }
        }
    }

    @Test
    void aMarginStaysFree() {
        assertEquals(23 * GIB, LayerFit.room(24 * GIB, 24 * GIB));
        assertEquals(3 * GIB + GIB / 2, LayerFit.room(4 * GIB, 4 * GIB));
        assertEquals(0, LayerFit.room(GIB / 2, 24 * GIB));
    }
}
