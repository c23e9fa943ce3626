package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufValueType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Converts LoRA adapters as Hugging Face PEFT saves them: a folder with {@code adapter_config.json} and
 * {@code adapter_model.safetensors}, or several shards with an index. The base model's GGUF file says which architecture it is, how
 * tensors are named there and in which order llama.cpp's converter put the rows of queries and keys.
 *
 * <p>Covered are LoRA on linear layers, Conv1D, experts and token embeddings, rank-stabilised scaling (rsLoRA) and ranks and alphas
 * per module. PEFT's scale of each module is kept: where it isn't the file's {@code alpha / rank}, the difference goes into B.
 * Whatever can't be expressed (DoRA, trained biases, whole modules, unknown fields and tensors) is refused by name.
 *
 * <p>An adapter on the embeddings of a model whose output head shares them acts on the looked-up rows only in PEFT.
 */
public final class PeftConverter {
    private static final String CONFIG = "adapter_config.json";
    private static final String WEIGHTS = "adapter_model.safetensors";
    private static final String INDEX = "adapter_model.safetensors.index.json";

    /** Module, factor, name of the adapter in PEFT where it was left in. */
    private static final Pattern LINEAR = Pattern.compile("(?:base_model\\.model\\.)?(.+)\\.lora_([AB])(?:\\.([^.]+))?\\.weight");
    private static final Pattern EMBEDDING = Pattern.compile("(?:base_model\\.model\\.)?(.+)\\.lora_embedding_([AB])(?:\\.([^.]+))?");

    /** Below this, a module's scale is the file's, up to rounding of alpha to a float. */
    private static final double SAME_SCALE = 1e-6;

    /** A tensor and the file that it is in. */
    private record Stored(SafeTensors file, SafeTensors.Tensor tensor) {
        float[] values() {
            return file.values(tensor);
        }

        String what() {
            return file.path() + ": tensor \"" + tensor.name() + "\"";
        }
    }

    /** The two factors of one module as the files have them. */
    private static final class Pair {
        private final boolean embedding;
        private Stored a;
        private Stored b;

        Pair(boolean embedding) {
            this.embedding = embedding;
        }
    }

    /**
     * One module, or one expert of it, in the order of GGUF.
     *
     * @param scale what PEFT multiplies B * A with
     * @param a     {@code [rank][inputs]}
     * @param b     {@code [outputs][rank]}
     */
    private record Part(int expert, int rank, double scale, float[] a, float[] b) {
    }

    private final Path folder;
    private final PeftConfig config;
    private final GgufFile base;
    private final String architecture;
    private final ModuleNames names;
    private final Map<String, GgufTensor> baseTensors = new LinkedHashMap<>();

    private PeftConverter(Path folder, List<GgufFile> parts) {
        this.folder = folder;
        this.base = parts.getFirst();
        if (!Files.isDirectory(folder)) {
            SafeTensors.refusePickle(folder);
            throw new AdapterException(folder + ": is no folder; give the one with " + CONFIG + " and " + WEIGHTS);
        }
        if (!Files.isRegularFile(folder.resolve(CONFIG))) {
            throw new AdapterException(folder + ": has no " + CONFIG + ", so it is no adapter of PEFT");
        }
        this.config = new PeftConfig(folder.resolve(CONFIG));
        this.architecture = base.metadata().string("general.architecture")
                .orElseThrow(() -> new AdapterException(base.path() + ": has no general.architecture; give the base model"));
        this.names = new ModuleNames(architecture);
        parts.forEach(part -> part.tensors().forEach(tensor -> baseTensors.put(tensor.name(), tensor)));
    }

    /**
     * Reads an adapter and brings it to the names and row order of its base model in GGUF.
     *
     * @param folder as PEFT's save_pretrained writes it
     * @param base   the parts of the base model, as {@link GgufFile#readParts} gives them; only headers are used
     * @return the adapter, which declares layers, embedding length and tokenizer of its base
     * @throws AdapterException if it is damaged, for another model, or has what can't be converted; the message says what and why
     */
    public static LoraWeights convert(Path folder, List<GgufFile> base) {
        return new PeftConverter(folder, base).convert();
    }

    private LoraWeights convert() {
        var parts = new LinkedHashMap<String, List<Part>>();
        var seen = new HashSet<ModuleNames.Place>();
        pairs(weightFiles()).forEach((module, pair) -> {
            var place = names.place(module);
            if (!seen.add(place)) {
                throw new AdapterException(folder + ": two modules are \"" + place.tensor() + "\" in GGUF, one of them \"" + module + "\"");
            }
            parts.computeIfAbsent(place.tensor(), key -> new ArrayList<>()).add(part(module, pair, place));
        });
        if (parts.isEmpty()) {
            throw new AdapterException(folder + ": has no LoRA weights");
        }
        var targets = new ArrayList<LoraWeights.Target>();
        for (var tensor : baseTensors.values()) {
            if (parts.containsKey(tensor.name())) {
                targets.add(target(tensor, parts.get(tensor.name())));
            }
        }
        var name = folder.toAbsolutePath().normalize().getFileName();
        return new LoraWeights(architecture, name == null ? "adapter" : name.toString(), config.alpha(), config.invocationTokens(),
                metadata(), targets);
    }

    private List<SafeTensors> weightFiles() {
        if (Files.isRegularFile(folder.resolve(WEIGHTS))) {
            return List.of(SafeTensors.read(folder.resolve(WEIGHTS)));
        }
        if (Files.isRegularFile(folder.resolve(INDEX))) {
            return shards();
        }
        for (var name : List.of("adapter_model.bin", "adapter_model.pt")) {
            if (Files.exists(folder.resolve(name))) {
                SafeTensors.refusePickle(folder.resolve(name));
            }
        }
        throw new AdapterException(folder + ": has neither " + WEIGHTS + " nor " + INDEX);
    }

    private List<SafeTensors> shards() {
        var index = folder.resolve(INDEX);
        var fileOf = new LinkedHashMap<String, String>();
        for (var entry : JsonFiles.read(index).path("weight_map").properties()) {
            fileOf.put(entry.getKey(), entry.getValue().asString(""));
        }
        var files = new ArrayList<SafeTensors>();
        for (var name : new TreeSet<>(fileOf.values())) {
            // the index must not lead out of the folder
            if (!name.matches("[\\w-][\\w.-]*")) {
                throw new AdapterException(index + ": \"" + name + "\" is no name of a file in this folder");
            }
            files.add(SafeTensors.read(folder.resolve(name)));
        }
        var missing = new LinkedHashMap<>(fileOf);
        for (var file : files) {
            for (var tensor : file.tensors()) {
                if (!missing.remove(tensor.name(), file.path().getFileName().toString())) {
                    throw new AdapterException(file.path() + ": has tensor \"" + tensor.name() + "\", which " + INDEX
                            + " doesn't place there");
                }
            }
        }
        missing.forEach((tensor, file) -> {
            throw new AdapterException(folder.resolve(file) + ": tensor \"" + tensor + "\" is missing, which " + INDEX + " places there");
        });
        return files;
    }

    /** The factors by module, in the files' order. */
    private Map<String, Pair> pairs(List<SafeTensors> files) {
        var pairs = new LinkedHashMap<String, Pair>();
        var adapters = new TreeSet<String>();
        for (var file : files) {
            for (var tensor : file.tensors()) {
                var stored = new Stored(file, tensor);
                var match = LINEAR.matcher(tensor.name());
                boolean embedding = !match.matches();
                if (embedding) {
                    match = EMBEDDING.matcher(tensor.name());
                    if (!match.matches()) {
                        throw unexpected(stored);
                    }
                }
                adapters.add(match.group(3) == null ? "" : match.group(3));
                add(pairs, match, embedding, stored);
            }
        }
        if (adapters.size() > 1) {
            throw new AdapterException(folder + ": has weights of several adapters: " + String.join(", ", adapters)
                    + "; save them one by one");
        }
        pairs.forEach((module, pair) -> {
            if (pair.a == null || pair.b == null) {
                throw new AdapterException((pair.a == null ? pair.b : pair.a).what()
                        + " has no counterpart; the adapter was saved incompletely");
            }
        });
        return pairs;
    }

    private void add(Map<String, Pair> pairs, Matcher match, boolean embedding, Stored stored) {
        var pair = pairs.computeIfAbsent(match.group(1), module -> new Pair(embedding));
        boolean first = match.group(2).equals("A");
        if (pair.embedding != embedding || (first ? pair.a : pair.b) != null) {
            throw new AdapterException(stored.what() + " is there twice for module \"" + match.group(1) + "\"");
        }
        if (stored.tensor.shape().size() != 2) {
            throw new AdapterException(stored.what() + " has shape " + stored.tensor.shape() + "; only matrices can be converted");
        }
        if (first) {
            pair.a = stored;
        } else {
            pair.b = stored;
        }
    }

    private static AdapterException unexpected(Stored stored) {
        var name = stored.tensor.name();
        String reason;
        if (name.contains("lora_magnitude_vector")) {
            reason = PeftConfig.reason("use_dora");
        } else if (name.contains(".lora_") && name.endsWith(".bias")) {
            reason = PeftConfig.reason("lora_bias");
        } else if (name.contains(".lora_")) {
            reason = "it isn't known what this part of an adapter means";
        } else {
            reason = PeftConfig.reason("modules_to_save");
        }
        return new AdapterException(stored.what() + " can't be converted: " + reason);
    }

    private Part part(String module, Pair pair, ModuleNames.Place place) {
        boolean tokens = place.tensor().equals(AdapterFile.EMBEDDING);
        if (pair.embedding != tokens) {
            throw new AdapterException(pair.a.what() + ": \"" + place.tensor() + "\" takes "
                    + (tokens ? "lora_embedding_A and lora_embedding_B"
                    : "lora_A and lora_B") + ", not these");
        }
        int rank = config.rank(module);
        long rankOfA = pair.a.tensor.shape().getFirst();
        long rankOfB = pair.b.tensor.shape().get(1);
        if (rankOfA != rank || rankOfB != rank) {
            throw new AdapterException(pair.a.what() + " has rank " + rankOfA + " and its B " + rankOfB + ", but " + CONFIG + " says "
                    + rank);
        }
        var tensor = baseTensors.get(place.tensor());
        if (tensor == null) {
            throw new AdapterException("module \"" + module + "\" is \"" + place.tensor() + "\" in GGUF, which " + base.path() + " has not"
                    + (place.layer() < 0 ? "; its head shares the embeddings" : "; use the model that the adapter was trained on"));
        }
        int inputs = size(tensor, 0);
        int outputs = size(tensor, 1);
        long givenInputs = pair.embedding ? pair.b.tensor.shape().getFirst() : pair.a.tensor.shape().get(1);
        long givenOutputs = pair.embedding ? pair.a.tensor.shape().get(1) : pair.b.tensor.shape().getFirst();
        // llama.cpp's converter leaves out Gemma 3's rows behind the last token
        boolean fewer = pair.embedding && architecture.equals("gemma3") && givenOutputs > outputs;
        if (givenInputs != inputs || givenOutputs != outputs && !fewer) {
            throw new AdapterException("module \"" + module + "\" is adapted as a matrix of [" + givenInputs + " x " + givenOutputs
                    + "], but \""
                    + tensor.name() + "\" of " + base.path() + " is " + tensor.shape() + "; use the model that the adapter was trained on");
        }
        if (place.expert() >= size(tensor, 2)) {
            throw new AdapterException("module \"" + module + "\" is an expert that " + base.path() + " has not: \"" + tensor.name()
                    + "\" has "
                    + size(tensor, 2));
        }
        double scale = config.scale(module);
        var a = pair.a.values();
        var b = pair.b.values();
        if (pair.embedding) {
            // the adapted matrix is (B * A) transposed
            return new Part(0, rank, scale, TensorValues.transpose(b, 1, inputs, rank),
                    TensorValues.transpose(columns(a, rank, (int) givenOutputs, outputs), 1, rank, outputs));
        }
        return new Part(place.expert(), rank, scale, a, reordered(module, place, b, outputs, rank));
    }

    /** The first {@code wanted} columns. */
    private static float[] columns(float[] values, int rows, int columns, int wanted) {
        if (columns == wanted) {
            return values;
        }
        var kept = new float[rows * wanted];
        for (int row = 0; row < rows; row++) {
            System.arraycopy(values, row * columns, kept, row * wanted, wanted);
        }
        return kept;
    }

    /** B with its rows in the order of GGUF. */
    private float[] reordered(String module, ModuleNames.Place place, float[] b, int outputs, int rank) {
        if (place.rows() == ModuleNames.Rows.SAME) {
            return b;
        }
        int heads = heads(".attention.head_count", place.layer());
        int keyHeads = base.metadata().contains(architecture + ".attention.head_count_kv")
                ? heads(".attention.head_count_kv", place.layer()) : heads;
        if (heads % keyHeads != 0 || outputs % ModuleNames.divisor(place.rows(), heads, keyHeads) != 0) {
            throw new AdapterException("the " + outputs + " rows of module \"" + module + "\" can't be those of " + heads + " heads and "
                    + keyHeads
                    + " key-value heads, as " + base.path() + " has them");
        }
        var turned = new float[b.length];
        for (int row = 0; row < outputs; row++) {
            System.arraycopy(b, ModuleNames.sourceRow(place.rows(), row, outputs, heads, keyHeads) * rank, turned, row * rank, rank);
        }
        return turned;
    }

    /** One number for all layers, or one for each. */
    private int heads(String field, int layer) {
        var key = architecture + field;
        var metadata = base.metadata();
        boolean array = metadata.type(key).orElse(null) == GgufValueType.ARRAY;
        long count = !array ? metadata.integer(key).orElse(0)
                : layer < metadata.arrayLength(key).orElseThrow() ? metadata.integers(key).orElseThrow()[layer] : 0;
        if (count < 1 || count > 1 << 20) {
            throw new AdapterException(base.path() + ": " + key + " of layer " + layer + " is " + count
                    + ", so the rows of its weights can't be ordered");
        }
        return (int) count;
    }

    private LoraWeights.Target target(GgufTensor tensor, List<Part> parts) {
        int inputs = size(tensor, 0);
        int outputs = size(tensor, 1);
        int experts = size(tensor, 2);
        // experts of lower rank, or without an adapter, are filled with zeros
        int rank = parts.stream().mapToInt(Part::rank).max().orElseThrow();
        var what = "\"" + tensor.name() + "\"";
        var a = new float[TensorValues.count(what, (long) experts * rank * inputs)];
        var b = new float[TensorValues.count(what, (long) experts * outputs * rank)];
        double inFile = (double) config.alpha() / rank;
        for (var part : parts) {
            System.arraycopy(part.a, 0, a, part.expert * rank * inputs, part.a.length);
            double factor = part.scale / inFile;
            if (Math.abs(factor - 1) < SAME_SCALE) {
                factor = 1;
            }
            for (int row = 0; row < outputs; row++) {
                int to = (part.expert * outputs + row) * rank;
                for (int k = 0; k < part.rank; k++) {
                    b[to + k] = (float) (part.b[row * part.rank + k] * factor);
                }
            }
        }
        return new LoraWeights.Target(tensor.name(), rank, inputs, outputs, experts, a, b);
    }

    /** Where the adapter comes from, and what it needs of its base. */
    private Map<String, Object> metadata() {
        var metadata = config.origin();
        for (var key : List.of(architecture + ".block_count", architecture + ".embedding_length")) {
            base.metadata().integer(key).ifPresent(value -> metadata.put(key, value));
        }
        for (var key : List.of("tokenizer.ggml.model", "tokenizer.ggml.pre")) {
            base.metadata().string(key).ifPresent(value -> metadata.put(key, value));
        }
        return metadata;
    }

    private static int size(GgufTensor tensor, int dimension) {
        return dimension < tensor.shape().size() ? Math.toIntExact(tensor.shape().get(dimension)) : 1;
    }
}
