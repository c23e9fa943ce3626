package io.github.panamallama.adapters;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Adapters with random weights, and what they add to a matrix, computed in the plainest way. */
final class RandomAdapters {
    private RandomAdapters() {
    }

    static LoraWeights.Target target(Random random, String name, int rank, int inputs, int outputs, int experts) {
        return new LoraWeights.Target(name, rank, inputs, outputs, experts, values(random, experts * rank * inputs),
                values(random, experts * outputs * rank));
    }

    static LoraWeights adapter(String name, float alpha, LoraWeights.Target... targets) {
        return new LoraWeights("llama", name, alpha, new int[0], Map.of(), List.of(targets));
    }

    private static float[] values(Random random, int count) {
        var values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    /** {@code scale * B * A} of one matrix, {@code [experts][outputs][inputs]}; zeros if the adapter doesn't have it. */
    static double[] update(LoraWeights adapter, LoraWeights.Target shape) {
        var update = new double[shape.experts() * shape.outputs() * shape.inputs()];
        adapter.targets().stream().filter(target -> target.name().equals(shape.name())).forEach(target -> {
            double scale = adapter.alpha() == 0 ? 1 : (double) adapter.alpha() / target.rank();
            for (int row = 0; row < shape.experts() * shape.outputs(); row++) {
                int expert = row / shape.outputs();
                for (int r = 0; r < target.rank(); r++) {
                    for (int column = 0; column < shape.inputs(); column++) {
                        update[row * shape.inputs() + column] += scale * target.b()[row * target.rank() + r]
                                * target.a()[(expert * target.rank() + r) * shape.inputs() + column];
                    }
                }
            }
        });
        return update;
    }

    static double norm(double[] values) {
        double sum = 0;
        for (double value : values) {
            sum += value * value;
        }
        return Math.sqrt(sum);
    }

    static double distance(double[] one, double[] other) {
        var difference = new double[one.length];
        for (int i = 0; i < one.length; i++) {
            difference[i] = one[i] - other[i];
        }
        return norm(difference);
    }

    /** Names of all matrices of some adapters, each once. */
    static List<LoraWeights.Target> shapes(LoraWeights... adapters) {
        var shapes = new ArrayList<LoraWeights.Target>();
        for (var adapter : adapters) {
            for (var target : adapter.targets()) {
                if (shapes.stream().noneMatch(shape -> shape.name().equals(target.name()))) {
                    shapes.add(target);
                }
            }
        }
        return shapes;
    }
}
