package io.github.panamallama.runtime.gguf;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.EnumSet;
import java.util.Set;

/**
 * Random tensor data with mean 0 and a wanted standard deviation. Quantised types get random quants under equal scales, so that
 * nothing has to be quantised: the data is written at about the speed of the generator. The block layouts are those of
 * ggml/src/ggml-common.h.
 */
final class RandomWeights {
    static final Set<GgmlType> TYPES = EnumSet.of(
            GgmlType.F32, GgmlType.F16, GgmlType.BF16, GgmlType.Q8_0, GgmlType.Q4_0, GgmlType.Q2_K, GgmlType.Q3_K, GgmlType.Q4_K,
            GgmlType.Q6_K, GgmlType.IQ3_S, GgmlType.TQ2_0, GgmlType.S24_Q4, GgmlType.S24_Q8, GgmlType.S24_T);

    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int CHUNK_BLOCKS = 4096;
    private static final int[] PAIRS = {0 | 1 << 2, 0 | 2 << 2, 0 | 3 << 2, 1 | 2 << 2, 1 | 3 << 2, 2 | 3 << 2};

    private RandomWeights() {
    }

    static void write(GgmlType type, long elements, double deviation, long seed, GgufWriter.Output out) throws IOException {
        var random = new Xoroshiro(seed);
        long blocks = elements / type.blockSize();
        try (var arena = Arena.ofConfined()) {
            var chunk = arena.allocate((long) CHUNK_BLOCKS * type.blockBytes(), 8);
            for (long done = 0; done < blocks; done += CHUNK_BLOCKS) {
                int count = (int) Math.min(CHUNK_BLOCKS, blocks - done);
                for (int i = 0; i < count; i++) {
                    block(type, deviation, random, chunk, (long) i * type.blockBytes());
                }
                out.write(chunk.asSlice(0, (long) count * type.blockBytes()));
            }
        }
    }

    private static void block(GgmlType type, double deviation, Xoroshiro random, MemorySegment to, long at) {
        switch (type) {
            case F32 -> to.set(FLOAT, at, uniform(random, deviation));
            case F16 -> to.set(SHORT, at, Float.floatToFloat16(uniform(random, deviation)));
            case BF16 -> to.set(SHORT, at, (short) (Float.floatToRawIntBits(uniform(random, deviation)) + 0x8000 >>> 16));
            case Q8_0 -> {
                // quants -127..127, deviation 73.3 about
                to.set(SHORT, at, half(deviation / 73.3));
                for (int i = 0; i < 4; i++) {
                    to.set(LONG, at + 2 + 8 * i, withoutMinimum(random.next()));
                }
            }
            case Q4_0 -> {
                // quants 1..15 around 8, with 8 twice as often: deviation sqrt(17.5)
                to.set(SHORT, at, half(deviation / 4.183));
                to.set(LONG, at + 2, withoutZeroNibbles(random.next()));
                to.set(LONG, at + 10, withoutZeroNibbles(random.next()));
            }
            case Q2_K -> {
                // every 4-bit scale and minimum is 8; quants 0..3 have mean 1.5 and deviation sqrt(1.25)
                double d = deviation / (8 * 1.118);
                to.set(LONG, at, 0x8888_8888_8888_8888L);
                to.set(LONG, at + 8, 0x8888_8888_8888_8888L);
                for (int i = 0; i < 8; i++) {
                    to.set(LONG, at + 16 + 8 * i, random.next());
                }
                to.set(SHORT, at + 80, half(d));
                to.set(SHORT, at + 82, half(1.5 * d));
            }
            case Q3_K -> {
                // quants -4..3, mean -0.5 and root mean square sqrt(5.5), under scales of 16 and -16 in turn
                for (int i = 0; i < 12; i++) {
                    to.set(LONG, at + 8 * i, random.next());
                }
                to.set(LONG, at + 96, 0);
                to.set(ValueLayout.JAVA_INT_UNALIGNED, at + 104, 0x55FF_55FF);
                to.set(SHORT, at + 108, half(deviation / (16 * 2.345)));
            }
            case Q4_K -> {
                // every 6-bit scale and minimum is 32; quants 0..15 have mean 7.5 and deviation 4.61
                double d = deviation / (32 * 4.61);
                to.set(SHORT, at, half(d));
                to.set(SHORT, at + 2, half(7.5 * d));
                to.set(LONG, at + 4, 0xA0A0_A0A0_A0A0_A0A0L);
                to.set(ValueLayout.JAVA_INT_UNALIGNED, at + 12, 0);
                for (int i = 0; i < 16; i++) {
                    to.set(LONG, at + 16 + 8 * i, random.next());
                }
            }
            case Q6_K -> {
                // 24 longs of quants -32..31, deviation 18.47; sixteen scales of 16
                for (int i = 0; i < 24; i++) {
                    to.set(LONG, at + 8 * i, random.next());
                }
                to.set(LONG, at + 192, 0x1010_1010_1010_1010L);
                to.set(LONG, at + 200, 0x1010_1010_1010_1010L);
                to.set(SHORT, at + 208, half(deviation / (16 * 18.47)));
            }
            case IQ3_S -> {
                // any index, any sign; the grid's root mean square is 7.594; every scale is 1 + 2 * 8
                to.set(SHORT, at, half(deviation / (17 * 7.594)));
                for (int i = 0; i < 13; i++) {
                    to.set(LONG, at + 2 + 8 * i, random.next());
                }
                to.set(ValueLayout.JAVA_INT_UNALIGNED, at + 106, 0x8888_8888);
            }
            case TQ2_0 -> {
                // -1, 0, 0 and 1
                for (int i = 0; i < 8; i++) {
                    to.set(LONG, at + 8 * i, withoutThrees(random.next()));
                }
                to.set(SHORT, at + 64, half(deviation * Math.sqrt(2)));
            }
            case S24_Q4 -> {
                // half of the weights are 0, the others as in Q4_0
                for (int i = 0; i < 8; i++) {
                    to.set(LONG, at + 8 * i, withoutZeroNibbles(random.next()));
                }
                positions(random, to, at + 64);
                to.set(LONG, at + 96, 0x1_0001_0001_0001L * (half(deviation * Math.sqrt(2) / 4.183) & 0xFFFF));
            }
            case S24_Q8 -> {
                for (int i = 0; i < 16; i++) {
                    to.set(LONG, at + 8 * i, withoutMinimum(random.next()));
                }
                positions(random, to, at + 128);
                to.set(LONG, at + 160, 0x1_0001_0001_0001L * (half(deviation * Math.sqrt(2) / 73.3) & 0xFFFF));
            }
            case S24_T -> {
                // signs under four scales of 64
                positions(random, to, at);
                to.set(LONG, at + 32, random.next());
                to.set(LONG, at + 40, random.next());
                to.set(ValueLayout.JAVA_INT_UNALIGNED, at + 48, 0x4040_4040);
                to.set(SHORT, at + 52, half(deviation * Math.sqrt(2) / 64));
            }
            default -> throw new IllegalArgumentException("no random weights of type " + type.label() + "; possible are " + TYPES);
        }
    }

    /** Two rising positions of 4 for each of 64 groups: group g's in field g / 16 of bytes 2 (g % 16) and 2 (g % 16) + 1. */
    private static void positions(Xoroshiro random, MemorySegment to, long at) {
        for (int i = 0; i < 16; i++) {
            long bits = random.next();
            int first = 0;
            int second = 0;
            for (int field = 0; field < 4; field++, bits >>>= 16) {
                int pair = PAIRS[(int) ((bits & 0xFFFF) * PAIRS.length >>> 16)];
                first |= (pair & 3) << 2 * field;
                second |= (pair >> 2) << 2 * field;
            }
            to.set(SHORT, at + 2 * i, (short) (first | second << 8));
        }
    }

    private static short half(double value) {
        return Float.floatToFloat16((float) value);
    }

    private static float uniform(Xoroshiro random, double deviation) {
        // an even distribution over ±sqrt(3) has deviation 1
        return (float) (((random.next() >> 11) * 0x1.0p-52) * Math.sqrt(3) * deviation);
    }

    /** Replaces nibbles of 0, which no other value balances, by 8, the middle. */
    static long withoutZeroNibbles(long x) {
        long any = x | x >>> 1;
        any |= any >>> 2;
        return x | (~any & 0x1111_1111_1111_1111L) << 3;
    }

    /** Replaces pairs of bits that are 3, which is no ternary value, by 1, the middle. */
    static long withoutThrees(long x) {
        return x ^ (x & x << 1 & 0xAAAA_AAAA_AAAA_AAAAL);
    }

    /** Replaces bytes of -128 by -127. */
    static long withoutMinimum(long x) {
        long y = x ^ 0x8080_8080_8080_8080L;
        long zeros = ~(((y & 0x7F7F_7F7F_7F7F_7F7FL) + 0x7F7F_7F7F_7F7F_7F7FL) | y) & 0x8080_8080_8080_8080L;
        return x | zeros >>> 7;
    }

    /** xoroshiro128++ (Blackman and Vigna, 2019), seeded by SplitMix64: fast, and the same on every JDK. */
    static final class Xoroshiro {
        private long a;
        private long b;

        Xoroshiro(long seed) {
            a = mix(seed + 0x9E37_79B9_7F4A_7C15L);
            b = mix(seed + 2 * 0x9E37_79B9_7F4A_7C15L);
            if ((a | b) == 0) {
                b = 1;
            }
        }

        long next() {
            long s0 = a;
            long s1 = b;
            long result = Long.rotateLeft(s0 + s1, 17) + s0;
            s1 ^= s0;
            a = Long.rotateLeft(s0, 49) ^ s1 ^ s1 << 21;
            b = Long.rotateLeft(s1, 28);
            return result;
        }

        static long mix(long z) {
            z = (z ^ z >>> 30) * 0xBF58_476D_1CE4_E5B9L;
            z = (z ^ z >>> 27) * 0x94D0_49BB_1331_11EBL;
            return z ^ z >>> 31;
        }
    }
}
