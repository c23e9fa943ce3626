package io.github.panamallama.quantization;

/**
 * How large the input of a weight was in each column.
 *
 * @param sums   of squares over all tokens, {@code [columns]}
 * @param tokens how many; of an expert those that were given to it
 */
public record ColumnSquares(double[] sums, long tokens) {
    /** The Euclidean norm of each column over all tokens, {@code [columns]}: what Wanda multiplies a weight's size by. */
    double[] norms() {
        var norms = new double[sums.length];
        for (int i = 0; i < norms.length; i++) {
            norms[i] = Math.sqrt(sums[i]);
        }
        return norms;
    }

    /**
     * The mean square of each column, {@code [columns]}, for {@link io.github.panamallama.runtime.BlockQuantizer}. None is 0: a column
     * that the text never uses still has weights of unequal size.
     *
     * @return null where there was no token
     */
    float[] importance() {
        if (tokens == 0) {
            return null;
        }
        double total = 0;
        for (double sum : sums) {
            total += sum;
        }
        double least = total > 0 ? 1e-6 * total / sums.length : tokens;
        var importance = new float[sums.length];
        for (int i = 0; i < importance.length; i++) {
            importance[i] = (float) (Math.max(sums[i], least) / tokens);
        }
        return importance;
    }
}
