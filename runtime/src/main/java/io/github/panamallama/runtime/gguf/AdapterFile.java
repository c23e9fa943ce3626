package io.github.panamallama.runtime.gguf;

import io.github.panamallama.runtime.AdapterException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * A LoRA adapter in a GGUF file: its header, checked without native code and without reading weights. Immutable and safe for use by
 * several threads; holds no open file.
 *
 * <p>An adapter adds {@code scale * B * A} to matrices of a model. The file has two tensors for each, named after the matrix. Shapes
 * here have the row length first, as in GGUF; {@code in} and {@code out} are the two dimensions of the matrix, and the third, with
 * equally many in both, is there where the matrix has one slice per expert.
 *
 * <table>
 * <caption>Tensors of a target</caption>
 * <tr><th>tensor</th><th>ordinary</th><th>{@code token_embd.weight}</th></tr>
 * <tr><td>{@code <name>.lora_a}</td><td>{@code [in, rank, experts]}</td><td>{@code [rank, out]}, out = tokens</td></tr>
 * <tr><td>{@code <name>.lora_b}</td><td>{@code [rank, out, experts]}</td><td>{@code [rank, in]}, in = embedding length</td></tr>
 * <tr><td>{@code <name>.lora_bt}, in place of lora_b</td><td>{@code [out, rank, experts]}</td><td>refused</td></tr>
 * </table>
 *
 * <p>The first two rows are llama.cpp's format. The third is this project's: ranks are smaller than the blocks of quantised types, so
 * a quantised B is stored transposed, its blocks along {@code out}. llama.cpp itself refuses files that use it.
 *
 * <p>Source: src/llama-adapter.cpp and build_inp_embd in src/llama-graph.cpp of the pinned llama.cpp. It skips whole norm vectors
 * silently and refuses other names; here both are refused.
 */
public final class AdapterFile {
    /** The matrix of token embeddings, whose rows are looked up and whose A and B are therefore stored the other way round. */
    public static final String EMBEDDING = "token_embd.weight";

    private static final String SUFFIX_A = ".lora_a";
    private static final String SUFFIX_B = ".lora_b";
    private static final String SUFFIX_BT = ".lora_bt";

    /**
     * One adapted matrix.
     *
     * @param name       of the matrix in the model, for instance {@code blk.0.attn_q.weight}
     * @param a          the tensor {@code <name>.lora_a}
     * @param b          the tensor {@code <name>.lora_b}, or {@code <name>.lora_bt} if {@code transposed}
     * @param transposed whether {@code b} has its rows along the outputs
     * @param rank       common dimension of A and B
     */
    public record Target(String name, GgufTensor a, GgufTensor b, boolean transposed, int rank) {
        /** Whether this is the matrix of token embeddings. */
        public boolean embedding() {
            return name.equals(EMBEDDING);
        }

        /** Row length of the adapted matrix, its first dimension. */
        public int inputs() {
            return size(embedding() ? b : a, embedding() ? 1 : 0);
        }

        /** Rows of the adapted matrix, its second dimension. */
        public int outputs() {
            return size(embedding() ? a : b, embedding() || !transposed ? 1 : 0);
        }

        /** Slices of the adapted matrix, its third dimension; 1 where it has none. */
        public int experts() {
            return size(a, 2);
        }

        /** What B * A is multiplied with: {@code alpha / rank}, or 1 if {@code alpha} is 0. */
        public float scale(float alpha) {
            return alpha != 0 ? alpha / rank : 1;
        }

        /** Bytes of both tensors. */
        public long byteSize() {
            return a.byteSize() + b.byteSize();
        }
    }

    private final GgufFile gguf;
    private final String architecture;
    private final float alpha;
    private final int[] invocationTokens;
    private final List<Target> targets;

    private AdapterFile(GgufFile gguf) {
        this.gguf = gguf;
        expect("general.type", "adapter", "this is no adapter; a model is loaded with Model.load");
        expect("adapter.type", "lora", "only LoRA adapters can be used");
        this.architecture = gguf.metadata().string("general.architecture").filter(name -> !name.isBlank())
                .orElseThrow(() -> refused("general.architecture is missing; it must name the architecture of the base model"));
        this.alpha = readAlpha();
        this.invocationTokens = readInvocationTokens();
        this.targets = readTargets();
    }

    /**
     * Reads and checks the header of an adapter.
     *
     * @throws GgufException    if there is no such file, or it breaks a rule of GGUF
     * @throws AdapterException if it is no LoRA adapter or breaks a rule of adapters
     */
    public static AdapterFile read(Path path) {
        return new AdapterFile(GgufFile.read(path));
    }

    /** The file's header as it is. */
    public GgufFile gguf() {
        return gguf;
    }

    public Path path() {
        return gguf.path();
    }

    /** The architecture of the base model, for instance {@code llama}. */
    public String architecture() {
        return architecture;
    }

    /** {@code general.name}, or else the file's name. */
    public String name() {
        return gguf.metadata().string("general.name").filter(name -> !name.isBlank()).orElse(path().getFileName().toString());
    }

    /** The adapter's alpha, finite and at least 0; 0 if none is given: B * A is then used as it is. */
    public float alpha() {
        return alpha;
    }

    /**
     * The tokens that switch an activated LoRA (aLoRA) on, see {@link io.github.panamallama.runtime.Adapter#invocationTokens}; empty for
     * others.
     */
    public int[] invocationTokens() {
        return invocationTokens.clone();
    }

    /** The adapted matrices, in the file's order; at least one. */
    public List<Target> targets() {
        return targets;
    }

    /** Bytes of all weights. */
    public long byteSize() {
        return targets.stream().mapToLong(Target::byteSize).sum();
    }

    /**
     * Checks that this adapter is for a model: architecture, every target with its shape, and whatever else the adapter declares
     * about its base (layers, embedding length, tokenizer).
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them
     * @throws AdapterException if it isn't; the message has both values
     */
    public void check(List<GgufFile> base) {
        var model = base.getFirst();
        var theirs = model.metadata().string("general.architecture").orElse("");
        if (!theirs.equals(architecture)) {
            throw refused("the adapter is for architecture \"" + architecture + "\", but " + model.path() + " is \"" + theirs
                    + "\"; use the model it was trained on");
        }
        for (var key : List.of(architecture + ".block_count", architecture + ".embedding_length", "tokenizer.ggml.model",
                "tokenizer.ggml.pre", "tokenizer.ggml.tokens")) {
            compare(key, model);
        }

        var tensors = new HashMap<String, GgufTensor>();
        base.forEach(part -> part.tensors().forEach(tensor -> tensors.put(tensor.name(), tensor)));
        for (var target : targets) {
            var tensor = tensors.get(target.name);
            if (tensor == null) {
                throw refused("it adapts \"" + target.name + "\", which " + model.path() + " has not"
                        + model.metadata().integer(architecture + ".block_count").stream().mapToObj(" (%d layers)"::formatted).findAny()
                        .orElse("")
                        + "; use the model it was trained on");
            }
            var wanted = List.of(target.inputs(), target.outputs(), target.experts());
            var found = List.of(dimension(tensor, 0), dimension(tensor, 1), dimension(tensor, 2));
            if (!found.equals(wanted.stream().map(Integer::longValue).toList()) || dimension(tensor, 3) != 1) {
                throw refused("it adapts \"" + target.name + "\" as a matrix of " + shape(wanted) + ", but in " + model.path() + " it is "
                        + shape(tensor.shape()) + "; use the model it was trained on");
            }
        }
    }

    /** A token list is compared by its length. */
    private void compare(String key, GgufFile model) {
        var own = gguf.metadata().text(key);
        var theirs = model.metadata().text(key);
        if (own.isPresent() && !own.equals(theirs)) {
            throw refused("it declares " + key + " = " + own.get() + ", but " + model.path() + " has " + theirs.orElse("none")
                    + "; use the model it was trained on");
        }
    }

    private void expect(String key, String wanted, String hint) {
        var value = gguf.metadata().string(key);
        if (!value.equals(Optional.of(wanted))) {
            throw refused(key + " is " + value.map(text -> "\"" + text + "\"").orElse("missing") + "; it must be \"" + wanted + "\" ("
                    + hint + ")");
        }
    }

    private float readAlpha() {
        var key = "adapter.lora.alpha";
        // llama.cpp asserts the type, and an assertion ends the process
        if (gguf.metadata().contains(key) && gguf.metadata().type(key).orElseThrow() != GgufValueType.FLOAT32) {
            throw refused(key + " is of type " + gguf.metadata().type(key).orElseThrow().label() + "; it must be f32");
        }
        float value = (float) gguf.metadata().number(key).orElse(0);
        if (!Float.isFinite(value) || value < 0) {
            throw refused(key + " is " + value + "; it must be a finite number of at least 0");
        }
        return value;
    }

    private int[] readInvocationTokens() {
        var key = "adapter.alora.invocation_tokens";
        var values = gguf.metadata().integers(key).orElse(new long[0]);
        var tokens = new int[values.length];
        for (int i = 0; i < values.length; i++) {
            tokens[i] = (int) values[i];
            if (values[i] < 0 || tokens[i] != values[i]) {
                throw refused(key + "[" + i + "] is " + values[i] + ", which is no token id");
            }
        }
        return tokens;
    }

    private List<Target> readTargets() {
        var halves = new LinkedHashMap<String, Map<String, GgufTensor>>();
        for (var tensor : gguf.tensors()) {
            var suffix = List.of(SUFFIX_BT, SUFFIX_A, SUFFIX_B).stream().filter(tensor.name()::endsWith).findFirst()
                    .orElseThrow(() -> unknown(tensor));
            check(tensor);
            halves.computeIfAbsent(tensor.name().substring(0, tensor.name().length() - suffix.length()), key -> new LinkedHashMap<>())
                    .put(suffix, tensor);
        }
        if (halves.isEmpty()) {
            throw refused("it has no tensors; an adapter needs at least one pair of lora_a and lora_b");
        }
        var all = new ArrayList<Target>();
        halves.forEach((name, found) -> all.add(target(name, found)));
        return List.copyOf(all);
    }

    private AdapterException unknown(GgufTensor tensor) {
        var what = "tensor \"" + tensor.name() + "\" ";
        if (tensor.name().endsWith("_norm.weight")) {
            return refused(what + "is a whole norm vector, which can't be applied per request; merge the adapter into its model where it "
                    + "was trained, or convert it again without this tensor");
        }
        return refused(what + "has no suffix of an adapter; " + SUFFIX_A + ", " + SUFFIX_B + " and " + SUFFIX_BT + " are known");
    }

    private void check(GgufTensor tensor) {
        switch (tensor.type()) {
            case I8, I16, I32, I64, F64, Q8_1, Q8_K -> throw refused("tensor \"" + tensor.name() + "\" is of type " + tensor.type().label()
                    + ", which can't be multiplied with; convert the adapter to f32, f16, q8_0 or q4_0");
            default -> { }
        }
        if (tensor.shape().stream().anyMatch(size -> size > Integer.MAX_VALUE)) {
            throw refused("tensor \"" + tensor.name() + "\" has shape " + shape(tensor.shape()) + "; a dimension may be "
                    + Integer.MAX_VALUE
                    + " at most");
        }
        if (dimension(tensor, 3) != 1) {
            throw refused("tensor \"" + tensor.name() + "\" has shape " + shape(tensor.shape())
                    + "; at most three dimensions are possible");
        }
    }

    private Target target(String name, Map<String, GgufTensor> found) {
        var a = found.get(SUFFIX_A);
        var plain = found.get(SUFFIX_B);
        var turned = found.get(SUFFIX_BT);
        if (a == null || plain == null && turned == null) {
            throw refused("\"" + name + "\" has only " + found.values().iterator().next().name() + "; its other half is missing: "
                    + "the file was written incompletely");
        }
        if (plain != null && turned != null) {
            throw refused("\"" + name + "\" has both " + SUFFIX_B + " and " + SUFFIX_BT + "; one of them must go");
        }
        boolean transposed = turned != null;
        var b = transposed ? turned : plain;
        boolean embedding = name.equals(EMBEDDING);
        if (embedding && transposed) {
            throw refused("tensor \"" + b.name() + "\" is transposed, which is not possible for embeddings; store it as " + SUFFIX_B);
        }
        long rank = dimension(a, embedding ? 0 : 1);
        long other = dimension(b, transposed ? 1 : 0);
        if (rank != other) {
            throw refused("\"" + name + "\": A of " + shape(a.shape()) + " has rank " + rank + ", but B of " + shape(b.shape())
                    + " has rank "
                    + other + (embedding ? "" : "; A must be [inputs, rank]") + "; convert the adapter again");
        }
        if (dimension(a, 2) != dimension(b, 2) || embedding && dimension(a, 2) != 1) {
            throw refused("\"" + name + "\": A of " + shape(a.shape()) + " and B of " + shape(b.shape())
                    + " differ in their number of experts"
                    + (embedding ? "; embeddings have none" : ""));
        }
        return new Target(name, a, b, transposed, (int) rank);
    }

    private AdapterException refused(String message) {
        return new AdapterException(path() + ": " + message);
    }

    private static int size(GgufTensor tensor, int dimension) {
        return (int) dimension(tensor, dimension);
    }

    private static long dimension(GgufTensor tensor, int index) {
        return index < tensor.shape().size() ? tensor.shape().get(index) : 1;
    }

    private static String shape(List<? extends Number> sizes) {
        return sizes.stream().map(String::valueOf).collect(Collectors.joining(" x ", "[", "]"));
    }

    @Override
    public String toString() {
        return "AdapterFile[" + path() + ", " + architecture + ", alpha " + alpha + ", " + targets.size() + " targets]";
    }
}
