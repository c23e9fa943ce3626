package io.github.panamallama.adapters;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.RecursiveAction;

/**
 * The fixed random matrices of NOLA adapters. An entry is a function of seed, stream and index alone, so any block of any matrix can be
 * made by itself, and every machine makes the same bits whatever its threads and block sizes.
 *
 * <p>Entry {@code index} (row-major, from 0) of matrix {@code stream} is the SplitMix64 finaliser (Steele, Lea and Flood, 2014) of
 * {@code seed + 0x9E3779B97F4A7C15 * (stream * 2^40 + index + 1)}. Of the result's top 24 bits, {@code u}, the value is
 * {@code (2u + 1 - 2^24) / 2^24}: odd multiples of 2^-24 between -1 and 1, exact in float, with mean 0. Stream 0 is A0, streams 1 to
 * k are A_1 to A_k, streams k+1 to k+l are B_1 to B_l.
 *
 * <p>A combination is summed in float in the order of the streams, each product rounded before it is added. Since JDK 17 Java
 * rounds every float operation and never fuses two.
 */
final class NolaBasis {
    /** The name of all this in files. */
    static final String GENERATOR = "splitmix64-u24";

    /** Streams per seed: above, {@code stream * 2^40} would wrap around. */
    static final int MAX_STREAMS = 1 << 24;
    /** Entries per block: 16 KiB, which stays in a core's first cache while all streams pass over it. */
    static final int BLOCK = 4096;

    private static final long GOLDEN = 0x9E37_79B9_7F4A_7C15L;
    private static final float ULP = 0x1.0p-24f;

    private NolaBasis() {
    }

    /** One entry, in (-1, 1). */
    static float value(long seed, long stream, long index) {
        return uniform(seed + GOLDEN * ((stream << 40) + index + 1));
    }

    /**
     * A sum of matrices.
     *
     * @param rest         factor of stream 0, which is added first; 0 leaves it out
     * @param firstStream  stream of the first coefficient
     * @param coefficients one per matrix
     * @param scale        factor of every matrix, applied to the entry before the coefficient
     * @param size         number of entries
     */
    record Sum(long seed, float rest, int firstStream, float[] coefficients, float scale, int size) {
        /** Entries {@code from} to {@code until} into the same places of {@code to}. */
        void into(float[] to, int from, int until) {
            for (int i = from; i < until; i++) {
                to[i] = rest == 0 ? 0 : value(seed, 0, i) * rest;
            }
            for (int c = 0; c < coefficients.length; c++) {
                float coefficient = coefficients[c];
                long at = seed + GOLDEN * ((firstStream + (long) c << 40) + from + 1);
                for (int i = from; i < until; i++) {
                    to[i] += coefficient * (uniform(at) * scale);
                    at += GOLDEN;
                }
            }
        }
    }

    /** The values of several sums, computed by all threads of {@code pool} in blocks of {@code block} entries. */
    static List<float[]> expand(List<Sum> sums, ForkJoinPool pool, int block) {
        var results = new ArrayList<float[]>(sums.size());
        var tasks = new ArrayList<RecursiveAction>();
        for (var sum : sums) {
            var to = new float[sum.size];
            results.add(to);
            for (int from = 0; from < sum.size; from += block) {
                int first = from;
                int last = (int) Math.min(sum.size, from + (long) block);
                tasks.add(new RecursiveAction() {
                    @Override
                    protected void compute() {
                        sum.into(to, first, last);
                    }
                });
            }
        }
        pool.submit(() -> RecursiveAction.invokeAll(tasks)).join();
        return results;
    }

    private static float uniform(long z) {
        z = (z ^ z >>> 30) * 0xBF58_476D_1CE4_E5B9L;
        z = (z ^ z >>> 27) * 0x94D0_49BB_1331_11EBL;
        z ^= z >>> 31;
        return ((int) (z >>> 40) * 2 + 1 - (1 << 24)) * ULP;
    }
}
