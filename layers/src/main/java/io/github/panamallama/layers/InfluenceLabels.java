package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/** Plans for texts by the {@linkplain BlockInfluence influence} that each block has on them. */
public final class InfluenceLabels {
    private InfluenceLabels() {
    }

    /**
     * Keeps, of all blocks in all texts together, the share of the highest influence: a text in which more blocks matter keeps more. The
     * first and the last block are always kept and not counted.
     *
     * @param texts tokens of each, at least two
     * @param kept  share of blocks, 0 to 1; at 0.5 the threshold is the median
     */
    public static List<Example> of(Engine engine, List<int[]> texts, double kept) {
        if (!(kept >= 0 && kept <= 1)) {
            throw new IllegalArgumentException("a share of " + kept + " of the blocks can't be kept; it must be between 0 and 1");
        }
        int inner = Math.max(0, engine.model().layerCount() - 2);
        var influence = new double[texts.size()][];
        for (int i = 0; i < influence.length; i++) {
            var measured = BlockInfluence.measure(engine, List.of(texts.get(i)));
            influence[i] = IntStream.rangeClosed(1, inner).mapToDouble(measured::of).toArray();
        }
        double[] sorted = Arrays.stream(influence).flatMapToDouble(Arrays::stream).sorted().toArray();
        int dropped = sorted.length - (int) Math.round(kept * sorted.length);
        double threshold = dropped == sorted.length ? Double.POSITIVE_INFINITY : sorted[dropped];
        var examples = new ArrayList<Example>();
        for (int i = 0; i < influence.length; i++) {
            var keep = new boolean[engine.model().layerCount()];
            Arrays.fill(keep, true);
            for (int block = 0; block < inner; block++) {
                keep[block + 1] = influence[i][block] >= threshold;
            }
            examples.add(new Example(texts.get(i), LayerPlan.keeping(keep)));
        }
        return List.copyOf(examples);
    }
}
