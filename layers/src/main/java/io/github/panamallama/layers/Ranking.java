package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import java.util.Comparator;
import java.util.stream.IntStream;

/** Plans out of one number per block. */
final class Ranking {
    private Ranking() {
    }

    /**
     * The plan that leaves out the {@code count} blocks that matter least, of equal ones the earlier. The first and the last block stay.
     *
     * @param importance one number per block, none of those between the first and the last NaN
     */
    static LayerPlan withoutLowest(double[] importance, int count) {
        int blocks = importance.length;
        int most = Math.max(0, blocks - 2);
        if (count < 0 || count > most) {
            throw new IllegalArgumentException("can't leave out " + count + " of " + blocks
                    + " blocks: the first and the last stay, so 0 to " + most + " can go");
        }
        int[] lowest = IntStream.range(1, Math.max(1, blocks - 1)).boxed()
                .sorted(Comparator.comparingDouble(block -> importance[block]))
                .limit(count).mapToInt(Integer::intValue).toArray();
        return LayerPlan.all(blocks).skip(lowest);
    }
}
