package io.github.panamallama.sampling;

/**
 * Random numbers as a function of (seed, index): no state to copy, fork or rewind.
 *
 * <p>SplitMix64 (Steele, Lea, Flood, <i>Fast splittable pseudorandom number generators</i>, OOPSLA 2014) entered at step
 * {@code index}; the seed is mixed first, so that neighbouring seeds give unrelated streams. The same on every platform.
 */
final class Draws {
    private static final long GOLDEN_GAMMA = 0x9e3779b97f4a7c15L;

    private Draws() {
    }

    /** Uniform in [0, 1), 53 bits. */
    static double uniform(long seed, long index) {
        return (mix(mix(seed) + (index + 1) * GOLDEN_GAMMA) >>> 11) * 0x1p-53;
    }

    /** Stafford's variant 13 of the 64-bit finaliser. */
    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
        return z ^ (z >>> 31);
    }
}
