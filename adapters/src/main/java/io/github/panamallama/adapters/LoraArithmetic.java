package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.ejml.data.DMatrixRMaj;
import org.ejml.dense.row.CommonOps_DDRM;
import org.ejml.dense.row.SingularOps_DDRM;
import org.ejml.dense.row.factory.DecompositionFactory_DDRM;

/**
 * Sums of adapters, and adapters of smaller rank. What an adapter adds to a matrix, {@code scale * B * A}, is its update; everything
 * here is about updates, so adapters of different rank and alpha mix. Stateless; any thread may call.
 */
public final class LoraArithmetic {
    /** An adapter and how often it counts in a sum: any finite number. */
    public record Term(LoraWeights adapter, float weight) {
    }

    /**
     * An adapter of smaller rank and what that cost.
     *
     * @param adapter the result
     * @param error   of all updates together: Frobenius norm of what was cut, relative to that of the original
     * @param errors  of the update of each adapted matrix
     */
    public record Truncation(LoraWeights adapter, double error, Map<String, Double> errors) {
    }

    private LoraArithmetic() {
    }

    /**
     * An adapter whose updates are {@code factor} times as large.
     *
     * @throws AdapterException if the factor isn't finite, or too large for floats
     */
    public static LoraWeights scale(LoraWeights adapter, float factor) {
        return sum(List.of(new Term(adapter, factor))).withName(adapter.name()).withMetadata(adapter.metadata());
    }

    /**
     * The weighted sum of the terms' updates, as one adapter in which their ranks stand side by side:
     * {@code B = [w1 s1 B1 | w2 s2 B2]}, {@code A = [A1; A2]}. Nothing is lost but the rounding of B to float. A matrix that only some
     * terms adapt gets the rank of those.
     *
     * @return an adapter with the highest rank as its alpha, with the metadata that all terms agree on
     * @throws AdapterException if there are no terms, a weight isn't finite, or terms differ in architecture, in the shape of a matrix
     *                          or in their invocation tokens (after which an activated adapter acts: a sum has one such moment only)
     */
    public static LoraWeights sum(List<Term> terms) {
        if (terms.isEmpty()) {
            throw new AdapterException("there are no adapters to add");
        }
        var first = terms.getFirst().adapter;
        var parts = new LinkedHashMap<String, List<Part>>();
        for (var term : terms) {
            var adapter = term.adapter;
            if (!Float.isFinite(term.weight)) {
                throw new AdapterException("the weight of \"" + adapter.name() + "\" is " + term.weight + "; it must be finite");
            }
            if (!adapter.architecture().equals(first.architecture())) {
                throw new AdapterException("\"" + first.name() + "\" is for architecture \"" + first.architecture() + "\" and \""
                        + adapter.name() + "\" for \"" + adapter.architecture() + "\"; only adapters of one model can be added");
            }
            if (!Arrays.equals(adapter.invocationTokens(), first.invocationTokens())) {
                throw new AdapterException("\"" + first.name() + "\" acts after tokens " + Arrays.toString(first.invocationTokens())
                        + " and \""
                        + adapter.name() + "\" after " + Arrays.toString(adapter.invocationTokens()) + "; one adapter can't do both");
            }
            for (var target : adapter.targets()) {
                var found = parts.computeIfAbsent(target.name(), name -> new ArrayList<>());
                if (!found.isEmpty()) {
                    requireSameShape(found.getFirst(), adapter, target);
                }
                found.add(new Part(adapter.name(), target, (double) term.weight * target.scale(adapter.alpha())));
            }
        }
        int rank = parts.values().stream().mapToInt(LoraArithmetic::rank).max().orElseThrow();
        var targets = parts.values().stream().map(found -> concatenate(found, rank)).toList();
        return new LoraWeights(first.architecture(), name(terms), rank, first.invocationTokens(), commonMetadata(terms), targets);
    }

    /** @param factor of B * A */
    private record Part(String adapter, LoraWeights.Target target, double factor) {
    }

    private static void requireSameShape(Part other, LoraWeights adapter, LoraWeights.Target target) {
        if (target.inputs() != other.target.inputs() || target.outputs() != other.target.outputs()
                || target.experts() != other.target.experts()) {
            throw new AdapterException("\"" + target.name() + "\" is " + shape(other.target) + " in \"" + other.adapter + "\" and "
                    + shape(target) + " in \"" + adapter.name() + "\"; only adapters of one model can be added");
        }
    }

    private static String shape(LoraWeights.Target target) {
        return target.inputs() + " x " + target.outputs() + (target.experts() == 1 ? "" : " x " + target.experts());
    }

    private static int rank(List<Part> parts) {
        return parts.stream().mapToInt(part -> part.target.rank()).reduce(0, Math::addExact);
    }

    /** @param alpha of the adapter that is made: it will multiply this target with {@code alpha / rank} */
    private static LoraWeights.Target concatenate(List<Part> parts, int alpha) {
        var shape = parts.getFirst().target;
        int rank = rank(parts);
        int inputs = shape.inputs();
        int outputs = shape.outputs();
        var a = new float[TensorValues.count("A of \"" + shape.name() + "\"", (long) shape.experts() * rank * inputs)];
        var b = new float[TensorValues.count("B of \"" + shape.name() + "\"", (long) shape.experts() * outputs * rank)];
        int column = 0;
        for (var part : parts) {
            var target = part.target;
            int own = target.rank();
            double factor = part.factor * rank / alpha;
            for (int expert = 0; expert < shape.experts(); expert++) {
                System.arraycopy(target.a(), expert * own * inputs, a, (expert * rank + column) * inputs, own * inputs);
                for (int row = expert * outputs; row < (expert + 1) * outputs; row++) {
                    for (int i = 0; i < own; i++) {
                        b[row * rank + column + i] = (float) (factor * target.b()[row * own + i]);
                    }
                }
            }
            column += own;
        }
        return new LoraWeights.Target(shape.name(), rank, inputs, outputs, shape.experts(), a, b);
    }

    private static String name(List<Term> terms) {
        return terms.stream().map(term -> term.weight == 1 ? term.adapter.name()
                : String.format(Locale.ROOT, "%s * %s", term.weight, term.adapter.name())).collect(Collectors.joining(" + "));
    }

    private static Map<String, Object> commonMetadata(List<Term> terms) {
        var common = new LinkedHashMap<>(terms.getFirst().adapter.metadata());
        for (var term : terms) {
            common.entrySet().removeIf(entry -> !Objects.deepEquals(entry.getValue(), term.adapter.metadata().get(entry.getKey())));
        }
        return common;
    }

    /**
     * The best adapter of a rank: every update becomes the one of at most {@code rank} that is nearest to it in the Frobenius norm (Eckart
     * and Young, 1936), by a singular value decomposition in the space of the factors, so at a cost linear in the size of the matrix.
     * Updates of lower rank stay as they are.
     *
     * @return the adapter, whose ranks are {@code rank} or less, with {@code rank} as its alpha; the same one if there is nothing to cut
     * @throws AdapterException if {@code rank} is below 1, or a decomposition doesn't converge
     */
    public static Truncation truncate(LoraWeights adapter, int rank) {
        if (rank < 1) {
            throw new AdapterException("rank is " + rank + "; it must be at least 1");
        }
        if (adapter.targets().stream().allMatch(target -> target.rank() <= rank)) {
            var none = new LinkedHashMap<String, Double>();
            adapter.targets().forEach(target -> none.put(target.name(), 0.0));
            return new Truncation(adapter, 0, none);
        }
        var cuts = adapter.targets().parallelStream().map(target -> cut(target, target.scale(adapter.alpha()), rank)).toList();
        var errors = new LinkedHashMap<String, Double>();
        cuts.forEach(cut -> errors.put(cut.target.name(), relative(cut.lost, cut.all)));
        double error = relative(cuts.stream().mapToDouble(Cut::lost).sum(), cuts.stream().mapToDouble(Cut::all).sum());
        return new Truncation(adapter.withAlpha(rank).withTargets(cuts.stream().map(Cut::target).toList()), error, errors);
    }

    private static double relative(double lost, double all) {
        return all == 0 ? 0 : Math.sqrt(lost / all);
    }

    /** @param lost squared Frobenius norm of what was cut off, and of {@code all} */
    private record Cut(LoraWeights.Target target, double lost, double all) {
    }

    private static Cut cut(LoraWeights.Target target, double scale, int rank) {
        if (target.rank() <= rank) {
            // the update's norm alone is wanted
            double norm = norm(target, scale);
            return new Cut(concatenate(List.of(new Part("", target, scale)), rank), 0, norm * norm);
        }
        int inputs = target.inputs();
        int outputs = target.outputs();
        var a = new float[target.experts() * rank * inputs];
        var b = new float[target.experts() * outputs * rank];
        double lost = 0;
        double all = 0;
        for (int expert = 0; expert < target.experts(); expert++) {
            var left = DecompositionFactory_DDRM.qr(outputs, target.rank());
            var right = DecompositionFactory_DDRM.qr(inputs, target.rank());
            var at = new DMatrixRMaj(inputs, target.rank());
            CommonOps_DDRM.transpose(matrix(target.a(), expert, target.rank(), inputs), at);
            var svd = DecompositionFactory_DDRM.svd(Math.min(outputs, target.rank()), Math.min(inputs, target.rank()), true, true, true);
            // false here only says that a column is zero, or depends on others exactly; Q and R are right all the same
            left.decompose(matrix(target.b(), expert, outputs, target.rank()));
            right.decompose(at);
            if (!svd.decompose(CommonOps_DDRM.multTransB(scale, left.getR(null, true), right.getR(null, true), null))) {
                throw new AdapterException("\"" + target.name() + "\": the singular value decomposition doesn't converge");
            }
            var u = svd.getU(null, false);
            var v = svd.getV(null, false);
            var values = svd.getSingularValues();
            int count = svd.numberOfSingularValues();
            SingularOps_DDRM.descendingOrder(u, false, values, count, v, false);
            var qu = CommonOps_DDRM.mult(left.getQ(null, true), u, null);
            var qv = CommonOps_DDRM.mult(right.getQ(null, true), v, null);
            for (int i = 0; i < count; i++) {
                all += values[i] * values[i];
                if (i >= rank) {
                    lost += values[i] * values[i];
                    continue;
                }
                // both factors get the root, so that neither is hard to store in 16 bits
                double root = Math.sqrt(values[i]);
                for (int row = 0; row < outputs; row++) {
                    b[(expert * outputs + row) * rank + i] = (float) (root * qu.unsafe_get(row, i));
                }
                for (int column = 0; column < inputs; column++) {
                    a[(expert * rank + i) * inputs + column] = (float) (root * qv.unsafe_get(column, i));
                }
            }
        }
        return new Cut(new LoraWeights.Target(target.name(), rank, inputs, outputs, target.experts(), a, b), lost, all);
    }

    /** Slice {@code expert} of an array of matrices. */
    private static DMatrixRMaj matrix(float[] values, int expert, int rows, int columns) {
        var matrix = new DMatrixRMaj(rows, columns);
        int from = expert * rows * columns;
        for (int i = 0; i < rows * columns; i++) {
            matrix.data[i] = values[from + i];
        }
        return matrix;
    }

    /**
     * The Frobenius norm of an update, {@code scale * B * A}, over all experts: the root of the trace of {@code (B^T B) (A A^T)}, so
     * without making the product.
     */
    static double norm(LoraWeights.Target target, double scale) {
        int rank = target.rank();
        double squares = 0;
        for (int expert = 0; expert < target.experts(); expert++) {
            var a = matrix(target.a(), expert, rank, target.inputs());
            var b = matrix(target.b(), expert, target.outputs(), rank);
            var aa = CommonOps_DDRM.multTransB(a, a, null);
            var bb = CommonOps_DDRM.multTransA(b, b, null);
            for (int i = 0; i < rank * rank; i++) {
                squares += aa.data[i] * bb.data[i];     // both are symmetric
            }
        }
        // rounding may leave a little less than nothing
        return Math.abs(scale) * Math.sqrt(Math.max(0, squares));
    }
}
