package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ForkJoinPool;
import java.util.regex.Pattern;

/**
 * An adapter stored as a seed and some hundred coefficients per matrix (NOLA, arXiv 2310.02556), which expands to an ordinary LoRA
 * adapter:
 *
 * <pre>
 * A = A0 + sum alpha_i A_i     [rank][inputs],   A_i: entries / sqrt(k);  A0: entries / sqrt(inputs)
 * B =      sum beta_j  B_j     [outputs][rank],  B_j: entries / sqrt(l)
 * </pre>
 *
 * with random entries in (-1, 1) that are a function of seed, matrix and place, so that every machine expands the same bits.
 *
 * <h2>File</h2>
 * A GGUF file (coefficients that make no sense under another generator, rank or order can't be taken for anything else):
 * <table>
 * <caption>Metadata and tensors; arrays have one element per adapted matrix</caption>
 * <tr><th>key or tensor</th><th>type</th><th>value</th></tr>
 * <tr><td>general.type, adapter.type</td><td>string</td><td>{@code adapter}, {@code nola}</td></tr>
 * <tr><td>general.architecture, general.name</td><td>string</td><td>of the base model; of the adapter</td></tr>
 * <tr><td>adapter.nola.version</td><td>u32</td><td>{@value #VERSION}</td></tr>
 * <tr><td>adapter.nola.generator</td><td>string</td><td>{@code splitmix64-u24}: 64 bits mixed by the SplitMix64 finaliser of seed +
 * 0x9E3779B97F4A7C15 * (matrix * 2^40 + place + 1), whose top 24 bits u give (2u + 1 - 2^24) / 2^24; matrix 0 is A0, then A_1 to A_k,
 * then B_1 to B_l; places count row-major from 0; sums are float, in the order above, without fused operations</td></tr>
 * <tr><td>adapter.nola.base_hash</td><td>string</td><td>{@link #baseHash} of the model that it was trained on</td></tr>
 * <tr><td>adapter.nola.rank, adapter.lora.alpha</td><td>u32, f32</td><td>of all matrices</td></tr>
 * <tr><td>adapter.nola.targets</td><td>strings</td><td>names of the adapted matrices</td></tr>
 * <tr><td>adapter.nola.inputs, .outputs</td><td>u32s</td><td>row length and number of rows of each</td></tr>
 * <tr><td>adapter.nola.k, .l</td><td>u32s</td><td>number of coefficients of A and of B</td></tr>
 * <tr><td>nola.seeds</td><td>I64 tensor</td><td>seeds</td></tr>
 * <tr><td>nola.coefficients</td><td>tensor: F32, F16, Q8_0 or Q4_0</td><td>alpha and beta of the first matrix, of the second, and so
 * on; k and l of every matrix are multiples of 32 in the last two types</td></tr>
 * </table>
 *
 * Immutable and safe for use by several threads.
 */
public final class NolaAdapter {
    /** The version of the format that is written, and the only one that is read. */
    public static final int VERSION = 1;

    private static final System.Logger LOG = System.getLogger(NolaAdapter.class.getName());
    private static final String KEY = "adapter.nola.";
    private static final String SEEDS = "nola.seeds";
    private static final String COEFFICIENTS = "nola.coefficients";
    private static final Pattern HASH = Pattern.compile("[0-9a-f]{64}");
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /**
     * One adapted matrix. Arrays are shared, not copied.
     *
     * @param name    of the matrix in the model, for instance {@code blk.0.attn_q.weight}
     * @param seed    of its random matrices, another for each
     * @param inputs  row length of the adapted matrix
     * @param outputs rows of the adapted matrix
     * @param alpha   [k], coefficients of A, finite
     * @param beta    [l], coefficients of B, finite
     */
    public record Target(String name, long seed, int inputs, int outputs, float[] alpha, float[] beta) {
    }

    private final String architecture;
    private final String name;
    private final String baseHash;
    private final int rank;
    private final float loraAlpha;
    private final List<Target> targets;

    /**
     * Makes an adapter from coefficients.
     *
     * @param architecture of the base model, for instance {@code llama}
     * @param name         for people
     * @param baseHash     {@link #baseHash} of the base model
     * @param rank         of A and B, at most the smaller dimension of every matrix
     * @param loraAlpha    positive; B * A counts {@code loraAlpha / rank} times
     * @param targets      at least one, with different names; equal seeds are accepted with a warning in the log
     * @throws AdapterException if a value is out of its range, or a coefficient isn't finite
     */
    public NolaAdapter(String architecture, String name, String baseHash, int rank, float loraAlpha, List<Target> targets) {
        this.architecture = architecture;
        this.name = name;
        this.baseHash = baseHash;
        this.rank = rank;
        this.loraAlpha = loraAlpha;
        this.targets = List.copyOf(targets);
        check();
    }

    private void check() {
        if (!HASH.matcher(baseHash).matches()) {
            throw refused("the base hash is \"" + baseHash + "\"; 64 lower-case hexadecimal digits are needed");
        }
        if (rank < 1) {
            throw refused("rank is " + rank + "; it must be at least 1");
        }
        if (!Float.isFinite(loraAlpha) || loraAlpha <= 0) {
            throw refused("alpha is " + loraAlpha + "; it must be a finite number above 0");
        }
        if (targets.isEmpty()) {
            throw refused("it adapts nothing; at least one matrix is needed");
        }
        var names = new HashSet<String>();
        var seeds = new HashMap<Long, String>();
        for (var target : targets) {
            check(target);
            if (!names.add(target.name)) {
                throw refused("\"" + target.name + "\" is adapted twice");
            }
            var other = seeds.putIfAbsent(target.seed, target.name);
            if (other != null) {
                LOG.log(System.Logger.Level.WARNING,
                        "NOLA adapter \"{0}\": \"{1}\" and \"{2}\" have the same seed {3}, so their random matrices are"
                        + " correlated; give each its own", name, other, target.name, Long.toUnsignedString(target.seed));
            }
        }
    }

    private void check(Target target) {
        var what = "\"" + target.name + "\" of " + target.inputs + " x " + target.outputs;
        if (target.inputs < 1 || target.outputs < 1) {
            throw refused(what + ": both dimensions must be at least 1");
        }
        if (rank > Math.min(target.inputs, target.outputs)) {
            throw refused("rank " + rank + " is above the smaller dimension of " + what + "; more than "
                    + Math.min(target.inputs, target.outputs) + " adds nothing");
        }
        int k = target.alpha.length;
        int l = target.beta.length;
        if (k < 1 || l < 1) {
            throw refused(what + " has k = " + k + " and l = " + l + "; each must be at least 1");
        }
        if ((long) k + l >= NolaBasis.MAX_STREAMS) {
            throw refused(what + " has k = " + k + " and l = " + l + "; together they must be below " + NolaBasis.MAX_STREAMS);
        }
        long largest = (long) rank * Math.max(target.inputs, target.outputs);
        if (largest > TensorValues.MAX_VALUES) {
            throw refused(what + " has factors of " + largest + " values; at most " + TensorValues.MAX_VALUES + " can be held");
        }
        if (k >= (long) rank * target.inputs || l >= (long) rank * target.outputs) {
            LOG.log(System.Logger.Level.WARNING,
                    "NOLA adapter \"{0}\": {1} has k = {2} and l = {3}, as many as its factors of rank {4} have values;"
                    + " plain LoRA is smaller", name, what, Integer.toString(k), Integer.toString(l), Integer.toString(rank));
        }
        requireFinite(target, "alpha", target.alpha);
        requireFinite(target, "beta", target.beta);
    }

    private void requireFinite(Target target, String which, float[] coefficients) {
        for (int i = 0; i < coefficients.length; i++) {
            if (!Float.isFinite(coefficients[i])) {
                throw refused(which + "[" + i + "] of \"" + target.name + "\" is " + coefficients[i]
                        + "; the file was damaged or training diverged");
            }
        }
    }

    private AdapterException refused(String message) {
        return new AdapterException("NOLA adapter \"" + name + "\": " + message);
    }

    /** Whether a file says that it is a NOLA adapter. */
    public static boolean isNola(GgufFile file) {
        return file.metadata().contains("adapter.type") && file.metadata().string("adapter.type").equals(Optional.of("nola"));
    }

    /**
     * Reads an adapter.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if there is no such file, it is truncated or breaks a rule of GGUF
     * @throws AdapterException if it is no NOLA adapter, of an unknown version or generator, or breaks a rule above
     */
    public static NolaAdapter read(Path path) {
        return new NolaReader(GgufFile.read(path)).read();
    }

    /** The fields of one file. */
    private record NolaReader(GgufFile file) {
        NolaAdapter read() {
            expect("general.type", "adapter");
            expect("adapter.type", "nola");
            long version = integer(KEY + "version");
            if (version != VERSION) {
                throw refused(KEY + "version is " + version + "; this program knows version " + VERSION);
            }
            expect(KEY + "generator", NolaBasis.GENERATOR);
            var names = file.metadata().strings(KEY + "targets").orElseThrow(() -> missing(KEY + "targets"));
            var inputs = sizes("inputs", names.size());
            var outputs = sizes("outputs", names.size());
            var k = sizes("k", names.size());
            var l = sizes("l", names.size());
            long count = 0;
            for (int i = 0; i < names.size(); i++) {
                count += (long) k[i] + l[i];
            }
            var seeds = seeds(tensor(SEEDS, names.size()));
            var stored = tensor(COEFFICIENTS, count);
            var coefficients = TensorValues.readUnchecked(file, stored);
            var targets = new ArrayList<Target>();
            int at = 0;
            for (int i = 0; i < names.size(); i++) {
                if (k[i] % stored.type().blockSize() != 0 || l[i] % stored.type().blockSize() != 0) {
                    throw refused("\"" + names.get(i) + "\" has k = " + k[i] + " and l = " + l[i] + ", which are no whole blocks of "
                            + stored.type().label());
                }
                targets.add(new Target(names.get(i), seeds[i], inputs[i], outputs[i], Arrays.copyOfRange(coefficients, at, at + k[i]),
                        Arrays.copyOfRange(coefficients, at + k[i], at + k[i] + l[i])));
                at += k[i] + l[i];
            }
            var name = file.metadata().string("general.name").orElse(file.path().getFileName().toString());
            int rank = (int) Math.min(Integer.MAX_VALUE, integer(KEY + "rank"));
            float alpha = (float) file.metadata().number("adapter.lora.alpha").orElseThrow(() -> missing("adapter.lora.alpha"));
            try {
                return new NolaAdapter(string("general.architecture"), name, string(KEY + "base_hash"), rank, alpha, targets);
            } catch (AdapterException e) {
                throw new AdapterException(file.path() + ": " + e.getMessage(), e);
            }
        }

        private void expect(String key, String wanted) {
            var value = string(key);
            if (!value.equals(wanted)) {
                throw refused(key + " is \"" + value + "\"; \"" + wanted + "\" is needed for a NOLA adapter that this program can expand");
            }
        }

        private String string(String key) {
            return file.metadata().string(key).orElseThrow(() -> missing(key));
        }

        private long integer(String key) {
            return file.metadata().integer(key).orElseThrow(() -> missing(key));
        }

        private int[] sizes(String field, int count) {
            var values = file.metadata().integers(KEY + field).orElseThrow(() -> missing(KEY + field));
            if (values.length != count) {
                throw refused(KEY + field + " has " + values.length + " elements, but " + KEY + "targets has " + count);
            }
            for (long value : values) {
                if (value < 0 || value > Integer.MAX_VALUE) {
                    throw refused(KEY + field + " has " + value + "; at most " + Integer.MAX_VALUE + " is possible");
                }
            }
            return Arrays.stream(values).mapToInt(value -> (int) value).toArray();
        }

        private GgufTensor tensor(String name, long elements) {
            var tensor = file.tensor(name).orElseThrow(() -> refused("tensor \"" + name + "\" is missing"));
            if (tensor.shape().size() != 1 || tensor.elementCount() != elements) {
                throw refused("tensor \"" + name + "\" has shape " + tensor.shape() + "; the metadata wants [" + elements + "]");
            }
            return tensor;
        }

        private long[] seeds(GgufTensor tensor) {
            if (tensor.type() != GgmlType.I64) {
                throw refused("tensor \"" + SEEDS + "\" is of type " + tensor.type().label() + "; it must be i64");
            }
            try (var arena = Arena.ofConfined()) {
                return file.map(tensor, arena).toArray(LONG);
            }
        }

        private AdapterException missing(String key) {
            return refused(key + " is missing; this is no complete NOLA adapter");
        }

        private AdapterException refused(String message) {
            return new AdapterException(file.path() + ": " + message);
        }
    }

    /**
     * Writes the adapter, replacing a file that is there.
     *
     * @param type of the coefficients: F32, F16, Q8_0 or Q4_0. Errors of single coefficients add up over a matrix: check the loss after
     * @throws AdapterException if the type is another one, can't hold a coefficient, or is Q8_0 or Q4_0 while a k or l is no multiple of 32
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file can't be written
     */
    public void write(Path path, GgmlType type) {
        var coefficients = new float[TensorValues.count("\"" + name + "\"", coefficientCount())];
        var seeds = MemorySegment.ofArray(new byte[8 * targets.size()]);
        int at = 0;
        for (int i = 0; i < targets.size(); i++) {
            var target = targets.get(i);
            if (target.alpha.length % type.blockSize() != 0 || target.beta.length % type.blockSize() != 0) {
                throw refused("\"" + target.name + "\" has k = " + target.alpha.length + " and l = " + target.beta.length
                        + ", which must be multiples of " + type.blockSize() + " for " + type.label() + "; write f16");
            }
            for (var values : List.of(target.alpha, target.beta)) {
                System.arraycopy(values, 0, coefficients, at, values.length);
                at += values.length;
            }
            seeds.set(LONG, 8L * i, target.seed);
        }
        var writer = new GgufWriter()
                .put("general.architecture", architecture)
                .put("general.type", "adapter")
                .put("general.name", name)
                .put("adapter.type", "nola")
                .putF32("adapter.lora.alpha", loraAlpha)
                .putU32(KEY + "version", VERSION)
                .put(KEY + "generator", NolaBasis.GENERATOR)
                .put(KEY + "base_hash", baseHash)
                .putU32(KEY + "rank", rank)
                .putStrings(KEY + "targets", targets.stream().map(Target::name).toList())
                .putU32s(KEY + "inputs", targets.stream().mapToInt(Target::inputs).toArray())
                .putU32s(KEY + "outputs", targets.stream().mapToInt(Target::outputs).toArray())
                .putU32s(KEY + "k", targets.stream().mapToInt(target -> target.alpha.length).toArray())
                .putU32s(KEY + "l", targets.stream().mapToInt(target -> target.beta.length).toArray())
                .tensor(SEEDS, GgmlType.I64, List.of((long) targets.size()), out -> out.write(seeds));
        TensorValues.declare(writer, COEFFICIENTS, type, List.of((long) coefficients.length), coefficients);
        writer.write(path);
    }

    /**
     * Checks that this adapter is for a model.
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them; all of their data is read
     * @throws AdapterException if architecture, name or shape of a matrix or the model's hash differs; the message has both values
     */
    public void check(List<GgufFile> base) {
        checkMatrices(base);
        checkHash(base, baseHash(base));
    }

    /** As {@link #check(List)}, of a model whose hash is known. */
    void check(List<GgufFile> base, String hash) {
        checkMatrices(base);
        checkHash(base, hash);
    }

    private void checkMatrices(List<GgufFile> base) {
        LoraWeights.requireArchitecture(name, architecture, base);
        targets.forEach(target -> LoraWeights.requireMatrix(name, base, target.name, target.inputs, target.outputs, 1));
    }

    private void checkHash(List<GgufFile> base, String hash) {
        if (!hash.equals(baseHash)) {
            throw refused("it was trained on the model with hash " + baseHash + ", but " + base.getFirst().path() + " has hash " + hash
                    + "; use that model in the same quantisation");
        }
    }

    /**
     * Identifies the weights of a model: SHA-256 over name, type, shape and bytes of every tensor, by name. Metadata and the split into
     * parts don't count; another quantisation of the same model is another model.
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them
     * @return 64 lower-case hexadecimal digits
     */
    public static String baseHash(List<GgufFile> base) {
        record Located(GgufFile file, GgufTensor tensor) {
        }
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
        base.stream().flatMap(part -> part.tensors().stream().map(tensor -> new Located(part, tensor)))
                .sorted(Comparator.comparing(located -> located.tensor.name()))
                .forEach(located -> {
                    var tensor = located.tensor;
                    digest.update((tensor.name() + "\0" + tensor.type().label() + "\0" + tensor.shape() + "\0")
                            .getBytes(StandardCharsets.UTF_8));
                    try (var arena = Arena.ofConfined()) {
                        var data = located.file.map(tensor, arena);
                        for (long at = 0; at < data.byteSize(); at += 1 << 30) {
                            digest.update(data.asSlice(at, Math.min(1 << 30, data.byteSize() - at)).asByteBuffer());
                        }
                    }
                });
        return HexFormat.of().formatHex(digest.digest());
    }

    /** The ordinary adapter that this one stands for, computed with all processors: the same bits on every machine. */
    public LoraWeights expand() {
        return expand(ForkJoinPool.commonPool(), NolaBasis.BLOCK);
    }

    LoraWeights expand(ForkJoinPool pool, int block) {
        var sums = new ArrayList<NolaBasis.Sum>();
        for (var target : targets) {
            int k = target.alpha.length;
            sums.add(new NolaBasis.Sum(target.seed, root(target.inputs), 1, target.alpha, root(k), rank * target.inputs));
            sums.add(new NolaBasis.Sum(target.seed, 0, k + 1, target.beta, root(target.beta.length), target.outputs * rank));
        }
        var factors = NolaBasis.expand(sums, pool, block);
        var expanded = new ArrayList<LoraWeights.Target>();
        for (int i = 0; i < targets.size(); i++) {
            var target = targets.get(i);
            expanded.add(new LoraWeights.Target(target.name, rank, target.inputs, target.outputs, 1, factors.get(2 * i),
                    factors.get(2 * i + 1)));
        }
        return new LoraWeights(architecture, name, loraAlpha, new int[0], Map.of(), expanded);
    }

    /** {@code 1 / sqrt(size)}; both operations are exactly rounded in double, so this too is the same everywhere. */
    private static float root(int size) {
        return (float) (1 / Math.sqrt(size));
    }

    /** The architecture of the base model. */
    public String architecture() {
        return architecture;
    }

    public String name() {
        return name;
    }

    /** {@link #baseHash(List)} of the model that it was trained on. */
    public String baseHash() {
        return baseHash;
    }

    public int rank() {
        return rank;
    }

    /** B * A counts {@code loraAlpha / rank} times. */
    public float loraAlpha() {
        return loraAlpha;
    }

    public List<Target> targets() {
        return targets;
    }

    /** The number of coefficients of all matrices. */
    public long coefficientCount() {
        return targets.stream().mapToLong(target -> (long) target.alpha.length + target.beta.length).sum();
    }

    /** Bytes of all factors after {@link #expand}, as floats. */
    public long expandedSize() {
        return targets.stream().mapToLong(target -> 4L * rank * ((long) target.inputs + target.outputs)).sum();
    }

    /** Bytes of all coefficients in {@code type}, a multiple of whose block each k and l is. */
    public long byteSize(GgmlType type) {
        return type.bytes(coefficientCount());
    }
}
