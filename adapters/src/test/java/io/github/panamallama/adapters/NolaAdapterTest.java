package io.github.panamallama.adapters;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.text.MessageFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ForkJoinPool;
import java.util.function.UnaryOperator;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.ejml.data.DMatrixRMaj;
import org.ejml.dense.row.CommonOps_DDRM;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class NolaAdapterTest {
    private static final String HASH = "0123456789abcdef".repeat(4);

    @TempDir
    Path folder;

    @Test
    void theGeneratorIsWhatTheFormatSays() {
        // the value by its definition, in exact arithmetic
        long z = 42 + 0x9E3779B97F4A7C15L * (3 * (1L << 40) + 7 + 1);
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        z ^= z >>> 31;
        long u = z >>> 40;
        assertEquals((2.0 * u + 1 - (1 << 24)) / (1 << 24), (double) NolaBasis.value(42, 3, 7));
    }

    @Test
    void expansionHasTheSameBitsOnEveryMachine() throws Exception {
        var weights = coefficients(7, 5, 3, new int[] {40, 24}, 33, 20).expand();
        var digest = MessageDigest.getInstance("SHA-256");
        for (var target : weights.targets()) {
            for (var factor : List.of(target.a(), target.b())) {
                var bytes = ByteBuffer.allocate(4 * factor.length).order(ByteOrder.LITTLE_ENDIAN);
                bytes.asFloatBuffer().put(factor);
                digest.update(bytes);
            }
        }
        assertEquals("7da43e9f2d1dc83986af41a76a3d3e06d972de845a53f915bb56ec18b0b64a25", HexFormat.of().formatHex(digest.digest()));
    }

    @ParameterizedTest
    @CsvSource({"1, 1", "1, 4096", "2, 7", "3, 64", "5, 1000000"})
    void expansionIsTheSameForAnyNumberOfThreadsAndSizeOfBlock(int threads, int block) {
        var adapter = coefficients(11, 6, 4, new int[] {96, 130}, 17, 23);
        var wanted = adapter.expand();
        try (var pool = new ForkJoinPool(threads)) {
            var found = adapter.expand(pool, block);
            for (int i = 0; i < wanted.targets().size(); i++) {
                assertArrayEquals(wanted.targets().get(i).a(), found.targets().get(i).a());
                assertArrayEquals(wanted.targets().get(i).b(), found.targets().get(i).b());
            }
        }
    }

    @Test
    void factorsAreTheSumsOfTheirDefinition() {
        var adapter = coefficients(3, 3, 4, new int[] {10, 8}, 6, 5);
        var source = adapter.targets().getFirst();
        var expanded = adapter.expand().targets().getFirst();
        for (int i = 0; i < expanded.a().length; i++) {
            double sum = NolaBasis.value(source.seed(), 0, i) / Math.sqrt(10);
            for (int j = 0; j < 6; j++) {
                sum += source.alpha()[j] * NolaBasis.value(source.seed(), 1 + j, i) / Math.sqrt(6);
            }
            assertEquals(sum, expanded.a()[i], 1e-6);
        }
        for (int i = 0; i < expanded.b().length; i++) {
            double sum = 0;
            for (int j = 0; j < 5; j++) {
                sum += source.beta()[j] * NolaBasis.value(source.seed(), 7 + j, i) / Math.sqrt(5);
            }
            assertEquals(sum, expanded.b()[i], 1e-6);
        }
    }

    @Test
    void coefficientsOfZeroExpandToABOfZero() {
        var target = new NolaAdapter.Target("blk.0.attn_q.weight", 9, 16, 12, new float[4], new float[4]);
        var expanded = new NolaAdapter("llama", "zero", HASH, 2, 4, List.of(target)).expand().targets().getFirst();
        assertArrayEquals(new float[24], expanded.b());
        double size = 0;
        for (float value : expanded.a()) {
            size += value * value;
        }
        assertTrue(size > 0, "A0 is not zero, so that B has a gradient");
    }

    @Test
    void entriesAreUniformAndIndependentOfTheirNeighbours() {
        int n = 1 << 20;
        var values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = NolaBasis.value(1, 5, i);
        }
        // five standard errors of each estimate
        double bound = 5 / Math.sqrt(n);
        double mean = 0;
        double square = 0;
        for (float v : values) {
            mean += v / n;
            square += v * (double) v / n;
        }
        assertEquals(0, mean, bound * Math.sqrt(1 / 3.0));
        assertEquals(1 / 3.0, square - mean * mean, bound * Math.sqrt(4 / 45.0));
        var counts = new int[64];
        for (float v : values) {
            counts[(int) ((v + 1) * 32)]++;
        }
        double chi = Arrays.stream(counts).mapToDouble(c -> Math.pow(c - n / 64.0, 2) / (n / 64.0)).sum();
        assertEquals(63, chi, 5 * Math.sqrt(2 * 63));
        for (int lag : new int[] {1, 2, 3, 7, 16, 64, 256, 4096, 65536}) {
            double correlation = 0;
            for (int i = 0; i + lag < n; i++) {
                correlation += 3.0 * values[i] * values[i + lag] / n;
            }
            assertEquals(0, correlation, bound, "lag " + lag);
        }
        for (long[] other : new long[][] {{1, 6}, {1, 0}, {1, 4096}, {2, 5}, {-1, 5}, {1L << 40, 5}}) {
            double correlation = 0;
            for (int i = 0; i < n; i++) {
                correlation += 3.0 * values[i] * NolaBasis.value(other[0], other[1], i) / n;
            }
            assertEquals(0, correlation, bound, "seed " + other[0] + ", stream " + other[1]);
        }
    }

    @Test
    void asManyCoefficientsAsAHasValuesReproduceAnyA() {
        int rank = 2;
        int inputs = 24;
        int k = rank * inputs;
        var random = new Random(5);
        var basis = new DMatrixRMaj(k, k);
        var rest = new DMatrixRMaj(k, 1);
        var wanted = new float[k];
        for (int i = 0; i < k; i++) {
            wanted[i] = (float) random.nextGaussian();
            rest.set(i, 0, wanted[i] - NolaBasis.value(77, 0, i) / Math.sqrt(inputs));
            for (int j = 0; j < k; j++) {
                basis.set(i, j, NolaBasis.value(77, 1 + j, i) / Math.sqrt(k));
            }
        }
        var solution = new DMatrixRMaj(k, 1);
        assertTrue(CommonOps_DDRM.solve(basis, rest, solution));
        var alpha = new float[k];
        for (int i = 0; i < k; i++) {
            alpha[i] = (float) solution.get(i, 0);
        }
        var target = new NolaAdapter.Target("blk.0.attn_q.weight", 77, inputs, 8, alpha, new float[] {1});
        assertArrayEquals(wanted, new NolaAdapter("llama", "fit", HASH, rank, 4, List.of(target)).expand().targets().getFirst().a(), 2e-4f);
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16", "Q8_0", "Q4_0"})
    void aFileGivesBackWhatItsTypeCanHold(GgmlType type) {
        var path = folder.resolve("nola.gguf");
        var adapter = coefficients(1, 2, 4, new int[] {48, 36}, 32, 64);
        adapter.write(path, type);
        var read = NolaAdapter.read(path);
        assertEquals(adapter.architecture(), read.architecture());
        assertEquals(adapter.name(), read.name());
        assertEquals(adapter.baseHash(), read.baseHash());
        assertEquals(adapter.rank(), read.rank());
        assertEquals(adapter.loraAlpha(), read.loraAlpha());
        double steps = switch (type) {
            case F32 -> 0;
            case F16 -> 1e-3;
            case Q8_0 -> 1 / 120.0;
            default -> 1 / 7.5;
        };
        for (int i = 0; i < adapter.targets().size(); i++) {
            var wanted = adapter.targets().get(i);
            var found = read.targets().get(i);
            assertEquals(List.of(wanted.name(), wanted.seed(), wanted.inputs(), wanted.outputs()),
                    List.of(found.name(), found.seed(), found.inputs(), found.outputs()));
            assertArrayEquals(wanted.alpha(), found.alpha(), (float) steps);
            assertArrayEquals(wanted.beta(), found.beta(), (float) steps);
        }
        assertEquals(type.bytes(2 * 96), read.byteSize(type));
    }

    @Test
    void filesAreSmallerThanLoraOfRankOne() throws IOException {
        var targets = new ArrayList<NolaAdapter.Target>();
        for (int layer = 0; layer < 7; layer++) {
            for (var matrix : List.of("attn_q", "attn_v")) {
                targets.add(target("blk." + layer + "." + matrix + ".weight", layer * 2L + (matrix.equals("attn_q") ? 0 : 1), 256, 256, 64,
                        64, new Random(layer)));
            }
        }
        var adapter = new NolaAdapter("llama", "sizes", HASH, 8, 4, targets);
        var lora = folder.resolve("lora.gguf");
        var expanded = adapter.expand();
        expanded.withTargets(expanded.targets().stream()
                .map(t -> new LoraWeights.Target(t.name(), 1, t.inputs(), t.outputs(), 1, Arrays.copyOf(t.a(), t.inputs()),
                Arrays.copyOf(t.b(), t.outputs()))).toList()).write(lora, GgmlType.F16);
        System.out.printf("14 matrices of 256 x 256, k = l = 64, against LoRA of rank 1 in f16: %d bytes%n", Files.size(lora));
        for (var type : List.of(GgmlType.F32, GgmlType.F16, GgmlType.Q8_0, GgmlType.Q4_0)) {
            var file = folder.resolve(type + ".gguf");
            adapter.write(file, type);
            System.out.printf("  %s: %d bytes of coefficients, %d of file%n", type.label(), adapter.byteSize(type), Files.size(file));
            assertTrue(Files.size(file) < adapter.byteSize(type) + 14 * 64 + 1024, "little more than coefficients, names and seeds");
            assertTrue(Files.size(file) < Files.size(lora));
        }
        assertEquals(1008, adapter.byteSize(GgmlType.Q4_0));
    }

    @Test
    void anExpandedFileIsAnOrdinaryAdapter() {
        var path = folder.resolve("lora.gguf");
        var expanded = coefficients(4, 2, 4, new int[] {32, 48}, 8, 8).expand();
        expanded.write(path, GgmlType.F32);
        var read = LoraWeights.read(AdapterFile.read(path));
        assertEquals(4f, read.alpha());
        assertArrayEquals(expanded.targets().getLast().b(), read.targets().getLast().b());
    }

    @Test
    void theBaseIsCheckedByNameShapeAndHash() {
        var model = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(model);
        var base = GgufFile.readParts(model);
        var hash = NolaAdapter.baseHash(base);
        var fits = target("blk.1.attn_q.weight", 1, 64, 64, 4, 4, new Random(1));
        new NolaAdapter("llama", "good", hash, 2, 4, List.of(fits)).check(base);

        refuses("qwen3", () -> new NolaAdapter("qwen3", "other", hash, 2, 4, List.of(fits)).check(base));
        refuses("blk.9.attn_q.weight", () -> new NolaAdapter("llama", "name", hash, 2, 4,
                List.of(target("blk.9.attn_q.weight", 1, 64, 64, 4, 4, new Random(1)))).check(base));
        refuses("64 x 32", () -> new NolaAdapter("llama", "shape", hash, 2, 4,
                List.of(target("blk.1.attn_q.weight", 1, 64, 32, 4, 4, new Random(1)))).check(base));
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withSeed(2).write(model);
        refuses(hash, () -> new NolaAdapter("llama", "hash", hash, 2, 4, List.of(fits)).check(GgufFile.readParts(model)));
    }

    @Test
    void theHashIsOfWeightsAndNotOfMetadata() {
        var model = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(model);
        var renamed = folder.resolve("renamed.gguf");
        GgufWriter.copyOf(GgufFile.read(model)).put("general.name", "another").write(renamed);
        assertEquals(NolaAdapter.baseHash(GgufFile.readParts(model)), NolaAdapter.baseHash(GgufFile.readParts(renamed)));
    }

    @Test
    void valuesOutOfRangeAreRefusedWithTheirPlace() {
        var random = new Random(1);
        refuses("rank is 0", () -> new NolaAdapter("llama", "x", HASH, 0, 4, List.of(target("m", 1, 8, 8, 2, 2, random))));
        refuses("rank 9", () -> new NolaAdapter("llama", "x", HASH, 9, 4, List.of(target("m", 1, 16, 8, 2, 2, random))));
        refuses("k = 0", () -> new NolaAdapter("llama", "x", HASH, 2, 4, List.of(target("m", 1, 8, 8, 0, 2, random))));
        refuses("l = 0", () -> new NolaAdapter("llama", "x", HASH, 2, 4, List.of(target("m", 1, 8, 8, 2, 0, random))));
        refuses("alpha is NaN", () -> new NolaAdapter("llama", "x", HASH, 2, Float.NaN, List.of(target("m", 1, 8, 8, 2, 2, random))));
        refuses("twice", () -> new NolaAdapter("llama", "x", HASH, 2, 4,
                List.of(target("m", 1, 8, 8, 2, 2, random), target("m", 2, 8, 8, 2, 2, random))));
        refuses("nothing", () -> new NolaAdapter("llama", "x", HASH, 2, 4, List.of()));
        refuses("base hash", () -> new NolaAdapter("llama", "x", "abc", 2, 4, List.of(target("m", 1, 8, 8, 2, 2, random))));
        var broken = target("blk.0.ffn_up.weight", 1, 8, 8, 2, 3, random);
        broken.beta()[2] = Float.NEGATIVE_INFINITY;
        var e = refuses("blk.0.ffn_up.weight", () -> new NolaAdapter("llama", "x", HASH, 2, 4, List.of(broken)));
        assertTrue(e.getMessage().contains("beta[2]"), e.getMessage());
    }

    @Test
    void equalSeedsAndUselessManyCoefficientsAreWarnedOf() {
        var random = new Random(1);
        var lines = logged(() -> new NolaAdapter("llama", "x", HASH, 2, 4,
                List.of(target("first", 1, 8, 8, 2, 2, random), target("second", 1, 8, 8, 2, 2, random))));
        assertTrue(lines.size() == 1 && lines.getFirst().contains("first") && lines.getFirst().contains("second"), lines.toString());
        lines = logged(() -> new NolaAdapter("llama", "x", HASH, 2, 4, List.of(target("m", 1, 8, 8, 16, 2, random))));
        assertTrue(lines.size() == 1 && lines.getFirst().contains("k = 16"), lines.toString());
        assertEquals(List.of(), logged(() -> new NolaAdapter("llama", "x", HASH, 2, 4,
                List.of(target("m", 1, 8, 8, 2, 2, random), target("n", 2, 8, 8, 2, 2, random)))));
    }

    @Test
    void unknownVersionsGeneratorsAndKindsAreRefused() {
        refuses("version is 2", () -> NolaAdapter.read(changed(writer -> writer.putU32("adapter.nola.version", 2))));
        refuses("splitmix64-u24", () -> NolaAdapter.read(changed(writer -> writer.put("adapter.nola.generator", "philox"))));
        refuses("\"lora\"", () -> NolaAdapter.read(changed(writer -> writer.put("adapter.type", "lora"))));
        refuses("adapter.nola.k has 1", () -> NolaAdapter.read(changed(writer -> writer.putU32s("adapter.nola.k", new int[] {8}))));
        refuses("wants [36]", () -> NolaAdapter.read(changed(writer -> writer.putU32s("adapter.nola.k", new int[] {8, 12}))));
        refuses("adapter.nola.outputs is missing", () -> NolaAdapter.read(changed(writer -> writer.remove("adapter.nola.outputs"))));
        refuses("above the smaller dimension", () -> NolaAdapter.read(changed(writer -> writer.putU32("adapter.nola.rank", 1L << 31))));
    }

    @Test
    void aNolaFileIsNotTakenForLora() {
        refuses("nola", () -> AdapterFile.read(written()));
    }

    @Test
    void blocksNeedMultiplesOf32() {
        refuses("multiples of 32", () -> coefficients(1, 1, 2, new int[] {16, 16}, 33, 32).write(folder.resolve("x.gguf"), GgmlType.Q4_0));
    }

    @Test
    void aCoefficientThatIsNotFiniteInAFileIsNamed() {
        var bytes = ByteBuffer.allocate(32 * 4).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putFloat(4 * (16 + 8 + 3), Float.NaN);
        var path = changed(writer -> writer, Map.of("nola.coefficients", bytes.array()));
        var e = refuses("blk.1.attn_q.weight", () -> NolaAdapter.read(path));
        assertTrue(e.getMessage().contains("beta[3]"), e.getMessage());
    }

    @Test
    void aTruncatedFileIsRefused() throws IOException {
        var path = written();
        var bytes = Files.readAllBytes(path);
        for (int length : new int[] {0, 10, bytes.length / 2, bytes.length - 40}) {
            Files.write(path, Arrays.copyOf(bytes, length));
            assertThrows(GgufException.class, () -> NolaAdapter.read(path), length + " bytes");
        }
    }

    /** Two matrices, k = l = 8, F32. */
    private Path written() {
        var path = folder.resolve("written.gguf");
        coefficients(1, 2, 2, new int[] {16, 16}, 8, 8).write(path, GgmlType.F32);
        return path;
    }

    private Path changed(UnaryOperator<GgufWriter> change) {
        return changed(change, Map.of());
    }

    private Path changed(UnaryOperator<GgufWriter> change, Map<String, byte[]> replaced) {
        var source = GgufFile.read(written());
        var writer = new GgufWriter();
        writer.putAll(source.metadata());
        change.apply(writer);
        for (var tensor : source.tensors()) {
            try (var arena = Arena.ofConfined()) {
                var bytes = source.map(tensor, arena).toArray(ValueLayout.JAVA_BYTE);
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(),
                        out -> out.write(MemorySegment.ofArray(replaced.getOrDefault(tensor.name(), bytes))));
            }
        }
        var path = folder.resolve("changed.gguf");
        writer.write(path);
        return path;
    }

    /** @param shape inputs and outputs of the first matrix; the other ones have them the other way round */
    private static NolaAdapter coefficients(long seed, int matrices, int rank, int[] shape, int k, int l) {
        var random = new Random(seed);
        var targets = new ArrayList<NolaAdapter.Target>();
        for (int i = 0; i < matrices; i++) {
            targets.add(target("blk." + i + ".attn_q.weight", seed * 100 + i, shape[i % 2], shape[1 - i % 2], k, l, random));
        }
        return new NolaAdapter("llama", "seed " + seed, HASH, rank, 4, targets);
    }

    private static NolaAdapter.Target target(String name, long seed, int inputs, int outputs, int k, int l, Random random) {
        var alpha = new float[k];
        var beta = new float[l];
        for (var values : List.of(alpha, beta)) {
            for (int i = 0; i < values.length; i++) {
                values[i] = random.nextFloat(-1, 1);
            }
        }
        return new NolaAdapter.Target(name, seed, inputs, outputs, alpha, beta);
    }

    private static AdapterException refuses(String part, Runnable action) {
        var e = assertThrows(AdapterException.class, action::run);
        assertTrue(e.getMessage().contains(part), e.getMessage());
        return e;
    }

    private static List<String> logged(Runnable action) {
        var logger = Logger.getLogger(NolaAdapter.class.getName());
        var lines = new ArrayList<String>();
        var handler = new Handler() {
            @Override
            public void publish(LogRecord line) {
                lines.add(MessageFormat.format(line.getMessage(), line.getParameters()));
            }

            @Override
            public void flush() {
            }

            @Override
            public void close() {
            }
        };
        logger.addHandler(handler);
        try {
            action.run();
        } finally {
            logger.removeHandler(handler);
        }
        return lines;
    }
}
