package io.github.panamallama.bench;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.nio.ByteOrder.nativeOrder;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.TimeUnit;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * The native row kernels of {@link RowMath} against the same arithmetic in the Vector API and in plain Java. The Vector API versions
 * do less: no check for NaN, fused products, single-precision sums.
 *
 * <p>Medians in microseconds at 4,096 / 32,000 / 151,936 tokens, sample mode, AMD EPYC (Zen 5), one thread of a busy two-core virtual
 * machine, JDK 25, GCC 12:
 * <pre>
 *                  native               Vector API           plain Java
 * argmax           0.47 / 3.1 / 14.1    0.63 / 4.4 / 20.2    0.86 / 6.5 / 29.8
 * log-sum-exp      1.20 / 9.0 / 43.2    1.35 / 10.1 / 47.2   15.9 / 125 / 584
 * entropy          1.24 / 9.6 / 45.9
 * top-k, k = 40    5.5 / 7.0 / 19.3
 * top-k, k = 1000  12.3 / 54.0 / 173
 * </pre>
 * Native code wins, and it needs no incubator module on every user's command line.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "--add-modules=jdk.incubator.vector"})
public class RowKernelBenchmark {
    private static final VectorSpecies<Float> SPECIES = FloatVector.SPECIES_PREFERRED;

    @Param({"4096", "32000", "151936"})
    public int vocabulary;

    private Row row;
    private Candidates top;

    @Setup
    public void prepare() {
        row = Rows.peaked(1, vocabulary)[0];
        top = new Candidates(vocabulary);
        double apart = Math.abs(logSumExpVectorApi() - RowMath.logSumExp(row));
        if (argmaxVectorApi() != RowMath.argmax(row) || apart > 1e-4) {
            throw new AssertionError("the kernels disagree: " + apart);
        }
    }

    @Benchmark
    public int argmaxNative() {
        return RowMath.argmax(row);
    }

    @Benchmark
    public int argmaxVectorApi() {
        MemorySegment logits = row.segment();
        int n = row.size();
        float max = maxVectorApi(logits, n);
        int step = SPECIES.length();
        for (int i = 0; i <= n - step; i += step) {
            var equal = FloatVector.fromMemorySegment(SPECIES, logits, i * 4L, nativeOrder()).eq(max);
            if (equal.anyTrue()) {
                return i + equal.firstTrue();
            }
        }
        for (int i = n - n % step; i < n; i++) {
            if (logits.getAtIndex(JAVA_FLOAT, i) == max) {
                return i;
            }
        }
        return -1;
    }

    @Benchmark
    public int argmaxPlainJava() {
        MemorySegment logits = row.segment();
        int best = 0;
        float max = logits.getAtIndex(JAVA_FLOAT, 0);
        for (int i = 1; i < row.size(); i++) {
            float x = logits.getAtIndex(JAVA_FLOAT, i);
            if (x > max) {
                max = x;
                best = i;
            }
        }
        return best;
    }

    @Benchmark
    public double logSumExpNative() {
        return RowMath.logSumExp(row);
    }

    @Benchmark
    public double logSumExpVectorApi() {
        MemorySegment logits = row.segment();
        int n = row.size();
        float max = maxVectorApi(logits, n);
        int step = SPECIES.length();
        var a = FloatVector.zero(SPECIES);
        var b = FloatVector.zero(SPECIES);
        int i = 0;
        for (; i <= n - 2 * step; i += 2 * step) {
            a = a.add(exp(FloatVector.fromMemorySegment(SPECIES, logits, i * 4L, nativeOrder()).sub(max)));
            b = b.add(exp(FloatVector.fromMemorySegment(SPECIES, logits, (i + step) * 4L, nativeOrder()).sub(max)));
        }
        double sum = a.add(b).reduceLanes(VectorOperators.ADD);
        for (; i < n; i++) {
            sum += Math.exp(logits.getAtIndex(JAVA_FLOAT, i) - max);
        }
        return max + Math.log(sum);
    }

    @Benchmark
    public double logSumExpPlainJava() {
        MemorySegment logits = row.segment();
        double max = logits.getAtIndex(JAVA_FLOAT, argmaxPlainJava());
        double sum = 0;
        for (int i = 0; i < row.size(); i++) {
            sum += Math.exp(logits.getAtIndex(JAVA_FLOAT, i) - max);
        }
        return max + Math.log(sum);
    }

    @Benchmark
    public double entropyNative() {
        return RowMath.entropy(row);
    }

    @Benchmark
    public int top40Native() {
        return RowMath.topK(row, 40, top);
    }

    @Benchmark
    public int top1000Native() {
        return RowMath.topK(row, 1000, top);
    }

    @Benchmark
    public int aboveNative() {
        return RowMath.above(row, 5, top);
    }

    private static float maxVectorApi(MemorySegment logits, int n) {
        int step = SPECIES.length();
        var a = FloatVector.broadcast(SPECIES, Float.NEGATIVE_INFINITY);
        var b = a;
        int i = 0;
        for (; i <= n - 2 * step; i += 2 * step) {
            a = a.max(FloatVector.fromMemorySegment(SPECIES, logits, i * 4L, nativeOrder()));
            b = b.max(FloatVector.fromMemorySegment(SPECIES, logits, (i + step) * 4L, nativeOrder()));
        }
        float max = a.max(b).reduceLanes(VectorOperators.MAX);
        for (; i < n; i++) {
            max = Math.max(max, logits.getAtIndex(JAVA_FLOAT, i));
        }
        return max;
    }

    /** As ext/rows.cpp, with fused products: exp(x) for x at most 0, and 0 below -87. */
    private static FloatVector exp(FloatVector x) {
        var low = x.compare(VectorOperators.LT, -87f);
        var y = x.max(-87f);
        var shifted = y.fma(FloatVector.broadcast(SPECIES, 1.44269504f), FloatVector.broadcast(SPECIES, 12582912f));
        var bits = shifted.reinterpretAsInts();
        var n = shifted.sub(12582912f);
        var r = n.fma(FloatVector.broadcast(SPECIES, -0.693359375f), y);
        r = n.fma(FloatVector.broadcast(SPECIES, 2.12194440e-4f), r);
        var p = r.fma(FloatVector.broadcast(SPECIES, 0x1.6a23d0p-10f), FloatVector.broadcast(SPECIES, 0x1.123a20p-7f));
        p = p.fma(r, FloatVector.broadcast(SPECIES, 0x1.5558f2p-5f));
        p = p.fma(r, FloatVector.broadcast(SPECIES, 0x1.555492p-3f));
        p = p.fma(r, FloatVector.broadcast(SPECIES, 0x1.fffffcp-2f));
        var e = p.fma(r.mul(r), r).add(1f);
        var scaled = e.reinterpretAsInts().add(bits.lanewise(VectorOperators.LSHL, 23)).reinterpretAsFloats();
        return scaled.blend(0f, low);
    }
}
