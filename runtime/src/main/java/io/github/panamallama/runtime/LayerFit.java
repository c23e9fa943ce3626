package io.github.panamallama.runtime;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;

/**
 * How many of a model's layers go to each device: as many as fit. Layers are the blocks, in their order, and the output behind them; the
 * last ones go to devices, the first device taking the earliest of these (llama-model.cpp, load_tensors). What fits is decided by plans of
 * llama.cpp alone; arithmetic over the weights of single layers proposes the next thing to plan.
 */
final class LayerFit {
    /** Plans of a fit that is hard to find; each reads the vocabulary. */
    private static final int MOST_PLANS = 8;
    private static final long LARGEST_MARGIN = 1L << 30;
    private static final int MARGIN_SHARE = 8;

    /** Says what model and engine take on each device when it has so many layers. */
    @FunctionalInterface
    interface Planner {
        /** @return an entry per device, in their order */
        List<MemoryEstimate.Device> plan(int[] layers);
    }

    private LayerFit() {
    }

    /**
     * What may be used of a device, in bytes: all that is free but an eighth of its memory, at most 1 GiB. That is for what no plan knows:
     * kernels, the work space of libraries, weights that are expanded for a prompt, the screen.
     */
    static long room(long free, long total) {
        return Math.max(0, free - Math.min(LARGEST_MARGIN, total / MARGIN_SHARE));
    }

    /**
     * What llama.cpp makes of shares.
     *
     * @param layers how many are shared out
     * @param shares of each device, relative to each other; not all of them 0
     */
    static int[] proportional(int layers, float[] shares) {
        var ends = new float[shares.length];
        float sum = 0;
        for (int i = 0; i < shares.length; i++) {
            sum += shares[i];
            ends[i] = sum;
        }
        var counts = new int[shares.length];
        for (int layer = 0; layer < layers; layer++) {
            int device = 0;
            while (device < shares.length - 1 && ends[device] / sum <= (float) layer / layers) {
                device++;
            }
            counts[device]++;
        }
        return counts;
    }

    /**
     * As many layers as fit into the rooms; all of them, in proportion to the rooms, if that fits.
     *
     * @param weights of each layer, in bytes
     * @param rooms   of each device, in bytes
     * @return layers of each device
     */
    static int[] fit(long[] weights, long[] rooms, Planner planner) {
        int devices = rooms.length;
        int blocks = weights.length - 1;
        if (Arrays.stream(rooms).allMatch(room -> room <= 0)) {
            return new int[devices];
        }
        var shares = new float[devices];
        for (int i = 0; i < devices; i++) {
            shares[i] = rooms[i];
        }
        var counts = proportional(weights.length, shares);
        var plan = planner.plan(counts);
        if (fits(plan, rooms)) {
            return counts;
        }
        double context = plan.stream().mapToLong(MemoryEstimate.Device::context).sum() / (double) Math.max(1, blocks);
        var costs = new double[weights.length];
        for (int i = 0; i < costs.length; i++) {
            costs[i] = weights[i] + (i < blocks ? context : 0);
        }
        // what a device takes beside its layers: scratch buffers, and what the arithmetic doesn't know
        var beside = new double[devices];
        var best = new int[devices];
        int least = weights.length;
        var tried = new HashSet<List<Integer>>();
        for (int i = 0; tried.add(key(counts)) && i < MOST_PLANS; i++) {
            int layer = costs.length - sum(counts);
            for (int d = 0; d < devices; d++) {
                double layers = 0;
                for (int n = 0; n < counts[d]; n++) {
                    layers += costs[layer++];
                }
                if (counts[d] > 0) {
                    beside[d] = plan.get(d).total() - layers;
                }
            }
            counts = fill(costs, rooms, beside);
            if (sum(counts) == 0 || tried.contains(key(counts))) {
                break;
            }
            plan = planner.plan(counts);
            if (!fits(plan, rooms)) {
                least = Math.min(least, sum(counts));
            } else if (sum(counts) > sum(best)) {
                best = counts;
            }
        }
        // the arithmetic led nowhere: fewer and fewer
        for (int sum = least / 2; sum(best) == 0 && sum > 0; sum /= 2) {
            counts = proportional(sum, shares);
            if (fits(planner.plan(counts), rooms)) {
                best = counts;
            }
        }
        return best;
    }

    /**
     * As many layers as fit in given proportions.
     *
     * @param layers how many there are
     */
    static int[] fit(int layers, float[] shares, long[] rooms, Planner planner) {
        int low = 0;
        int high = layers;
        for (int middle = high; low < high; middle = (low + high + 1) / 2) {
            if (fits(planner.plan(proportional(middle, shares)), rooms)) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return proportional(low, shares);
    }

    /** From the last layer and the last device on, each taking what it has room for. */
    private static int[] fill(double[] costs, long[] rooms, double[] beside) {
        var counts = new int[rooms.length];
        int layer = costs.length - 1;
        for (int d = rooms.length - 1; d >= 0; d--) {
            double left = rooms[d] - beside[d];
            while (layer >= 0 && costs[layer] <= left) {
                left -= costs[layer--];
                counts[d]++;
            }
        }
        return counts;
    }

    private static boolean fits(List<MemoryEstimate.Device> plan, long[] rooms) {
        for (int d = 0; d < rooms.length; d++) {
            if (plan.get(d).total() > rooms[d]) {
                return false;
            }
        }
        return true;
    }

    static int sum(int[] counts) {
        return Arrays.stream(counts).sum();
    }

    private static List<Integer> key(int[] counts) {
        return Arrays.stream(counts).boxed().toList();
    }
}
