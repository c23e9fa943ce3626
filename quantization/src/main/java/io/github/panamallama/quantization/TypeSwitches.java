package io.github.panamallama.quantization;

import io.github.panamallama.runtime.search.Tournament;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Choices of a level for each unit whose bytes stay within a budget and leave room for no further level. Units and steps between levels
 * have any size: a child has one to three units at a higher level, mostly one, pays for them by lowering others, drawn one by one, and
 * spends what is left over on raising others again.
 */
final class TypeSwitches implements Tournament.Species<TypeSwitches.Choice> {
    private static final int MOST = 3;

    /** One level for each unit. */
    static final class Choice {
        private final byte[] levels;

        private Choice(byte[] levels) {
            this.levels = levels;
        }

        int level(int unit) {
            return levels[unit];
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Choice choice && Arrays.equals(levels, choice.levels);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(levels);
        }

        @Override
        public String toString() {
            return Arrays.toString(levels);
        }
    }

    private final long[] elements;
    private final long[][] bytes;
    private final long budget;

    /**
     * @param elements {@code [unit]}
     * @param bytes    {@code [unit][level]}, not falling from level to level
     * @param budget   at least the sum of the smallest levels
     */
    TypeSwitches(long[] elements, long[][] bytes, long budget) {
        this.elements = elements;
        this.bytes = bytes;
        this.budget = budget;
        if (smallest() > budget) {
            throw new IllegalArgumentException("a budget of " + budget + " bytes; the smallest levels take " + smallest());
        }
    }

    long smallest() {
        return Arrays.stream(bytes).mapToLong(levels -> levels[0]).sum();
    }

    long largest() {
        return Arrays.stream(bytes).mapToLong(levels -> levels[levels.length - 1]).sum();
    }

    long bytes(Choice choice) {
        return IntStream.range(0, bytes.length).mapToLong(unit -> bytes[unit][choice.levels[unit]]).sum();
    }

    /** All units at about the bits per element of one level of one of them, and then some raised or lowered until the budget is met. */
    @Override
    public Choice first(SplittableRandom random) {
        int model = random.nextInt(bytes.length);
        double bits = bits(model, random.nextInt(bytes[model].length));
        var levels = new byte[bytes.length];
        for (int unit = 0; unit < levels.length; unit++) {
            while (levels[unit] + 1 < bytes[unit].length && bits(unit, levels[unit] + 1) <= bits) {
                levels[unit]++;
            }
        }
        lower(levels, new boolean[levels.length], random);
        raise(levels, random);
        return new Choice(levels);
    }

    private double bits(int unit, int level) {
        return 8.0 * bytes[unit][level] / elements[unit];
    }

    @Override
    public Choice child(Choice parent, SplittableRandom random) {
        var levels = parent.levels.clone();
        var raised = new boolean[levels.length];
        for (int i = fewOf(MOST, random); i > 0; i--) {
            int unit = random.nextInt(levels.length);
            levels[unit] = (byte) Math.min(levels[unit] + fewOf(MOST, random), bytes[unit].length - 1);
            raised[unit] = true;
        }
        if (!lower(levels, raised, random)) {
            return parent;
        }
        raise(levels, random);
        return new Choice(levels);
    }

    private static int fewOf(int most, SplittableRandom random) {
        return Math.min(1 + random.nextInt(most), 1 + random.nextInt(most));
    }

    /** Until the budget is met; false if it can't be by units that are not held. */
    private boolean lower(byte[] levels, boolean[] held, SplittableRandom random) {
        long over = bytes(new Choice(levels)) - budget;
        while (over > 0) {
            int[] able = IntStream.range(0, levels.length).filter(unit -> levels[unit] > 0 && !held[unit]).toArray();
            if (able.length == 0) {
                return false;
            }
            int unit = able[random.nextInt(able.length)];
            over -= bytes[unit][levels[unit]] - bytes[unit][--levels[unit]];
        }
        return true;
    }

    /** While the budget has room for a larger level of some unit. */
    private void raise(byte[] levels, SplittableRandom random) {
        long room = budget - bytes(new Choice(levels));
        while (true) {
            var able = new ArrayList<Integer>();
            for (int unit = 0; unit < levels.length; unit++) {
                int larger = larger(unit, levels[unit]);
                if (larger >= 0 && bytes[unit][larger] - bytes[unit][levels[unit]] <= room) {
                    able.add(unit);
                }
            }
            if (able.isEmpty()) {
                return;
            }
            int unit = able.get(random.nextInt(able.size()));
            int larger = larger(unit, levels[unit]);
            room -= bytes[unit][larger] - bytes[unit][levels[unit]];
            levels[unit] = (byte) larger;
        }
    }

    /** The next level that takes more bytes; -1 if there is none. */
    private int larger(int unit, int level) {
        for (int next = level + 1; next < bytes[unit].length; next++) {
            if (bytes[unit][next] > bytes[unit][level]) {
                return next;
            }
        }
        return -1;
    }
}
