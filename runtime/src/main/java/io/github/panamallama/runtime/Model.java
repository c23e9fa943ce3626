package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_params;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * The weights, vocabulary and metadata of a GGUF file. Immutable and shared: any number of {@link Engine}s on any threads decode with
 * one model. It owns native memory until {@link #close}, which is refused while engines are open. What a model says about itself can
 * be read after it is closed.
 */
public final class Model implements AutoCloseable {
    static {
        Natives.load();
    }

    /** Tensors are used where the mapping has them; ggml wants them at multiples of this. */
    private static final int MAPPED_ALIGNMENT = 32;

    private final List<GgufFile> parts;
    private final ModelOptions options;
    private final MemorySegment handle;
    private final Vocabulary vocabulary;

    private final String description;
    private final long sizeBytes;
    private final long parameterCount;
    private final int contextLength;
    private final int embeddingSize;
    private final int layerCount;
    private final int headCount;
    private final int keyValueHeadCount;
    private final int slidingWindow;
    private final boolean hasEncoder;
    private final boolean hasDecoder;
    private final int decoderStart;
    private final boolean recurrent;
    private final boolean hybrid;
    private final boolean diffusion;

    private static final System.Logger LOG = System.getLogger("panamallama.model");

    private int engines;
    private boolean closed;

    private Model(List<GgufFile> parts, ModelOptions options, MemorySegment handle) {
        this.parts = parts;
        this.options = options;
        this.handle = handle;
        try (var arena = Arena.ofConfined()) {
            var buffer = arena.allocate(256);
            LlamaH.llama_model_desc(handle, buffer, buffer.byteSize());
            description = buffer.getString(0);
        }
        sizeBytes = LlamaH.llama_model_size(handle);
        parameterCount = LlamaH.llama_model_n_params(handle);
        contextLength = LlamaH.llama_model_n_ctx_train(handle);
        embeddingSize = LlamaH.llama_model_n_embd(handle);
        layerCount = LlamaH.llama_model_n_layer(handle);
        headCount = options.vocabularyOnly() ? 0 : LlamaH.llama_model_n_head(handle);
        keyValueHeadCount = options.vocabularyOnly() ? 0 : LlamaH.llama_model_n_head_kv(handle);
        slidingWindow = LlamaH.llama_model_n_swa(handle);
        hasEncoder = LlamaH.llama_model_has_encoder(handle);
        hasDecoder = LlamaH.llama_model_has_decoder(handle);
        recurrent = LlamaH.llama_model_is_recurrent(handle);
        hybrid = LlamaH.llama_model_is_hybrid(handle);
        diffusion = LlamaH.llama_model_is_diffusion(handle);
        vocabulary = new Vocabulary(LlamaH.llama_model_get_vocab(handle));
        int start = LlamaH.llama_model_decoder_start_token(handle);
        decoderStart = !hasEncoder || !hasDecoder ? -1 : start >= 0 && start < vocabulary.size() ? start : vocabulary.bos();
    }

    /** Loads a model with {@link ModelOptions#defaults}. */
    public static Model load(Path path) {
        return load(path, ModelOptions.defaults());
    }

    /**
     * Loads a model. The file is checked before native code sees it.
     *
     * @param path a GGUF file; of a split model the first part, {@code <name>-00001-of-00003.gguf}
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file is missing, can't be read or breaks the format
     * @throws ModelLoadException if it is no model that can be loaded, its MTP head is asked for and it has none, or the load was cancelled
     * @throws InsufficientMemoryException if the weights don't fit into the machine's memory, and then nothing was read; or if a device has
     *         too little for the layers that were asked for, and then nothing of them stays there
     */
    public static Model load(Path path, ModelOptions options) {
        Objects.requireNonNull(options, "options");
        var parts = GgufFile.readParts(path);
        ModelCheck.check(parts, options.vocabularyOnly());
        if (options.mtp()) {
            MtpHeads.require(parts);
        }
        boolean shared = !options.placement().shares().isEmpty();
        if ((options.gpuLayers() > 0 || shared) && options.devices().isEmpty() && options.placement().rpcServers().isEmpty()
                && devices().isEmpty()) {
            LOG.log(System.Logger.Level.WARNING, "no device for " + (options.gpuLayers() > 0 ? "the " + options.gpuLayers()
                    + " layers that gpuLayers asks for" : "the shares of tensorSplit") + ": " + path
                            + " is evaluated by the processor alone");
        }
        var servers = servers(options);
        RpcServers.enter(servers);
        boolean loaded = false;
        try {
            var model = load(path, parts, Offload.resolve(parts, options));
            model.tellPlacement(options);
            loaded = true;
            return model;
        } finally {
            if (!loaded) {
                RpcServers.leave(servers);
            }
        }
    }

    private static Model load(Path path, List<GgufFile> parts, ModelOptions options) {
        MemoryCheck.ensureWeights(parts, options, AvailableMemory.now());

        MemorySegment handle;
        Model model = null;
        var error = new NativeError();
        try (var monitor = new LoadMonitor(options); var arena = Arena.ofConfined()) {
            var params = params(arena, parts, options);
            llama_model_params.progress_callback(params, LlamaH.pl_progress_callback$address());
            llama_model_params.progress_callback_user_data(params, monitor.flags());
            monitor.start();
            boolean complete = false;
            try {
                handle = monitor.cancelled() ? MemorySegment.NULL : LlamaH.pl_model_load(paths(arena, parts), parts.size(), params,
                        error.segment());
                if (handle.equals(MemorySegment.NULL)) {
                    monitor.stop();
                } else {
                    try {
                        model = new Model(parts, options, handle);
                    } finally {
                        if (model == null) {
                            LlamaH.pl_model_free(handle);
                        }
                    }
                    monitor.finish();
                }
                monitor.rethrow();
                if (monitor.cancelled()) {
                    throw new ModelLoadException(path + ": loading was cancelled", null, true);
                }
                if (model == null) {
                    throw failure(path, parts, options, error);
                }
                model.checkSpecialTokens();
                complete = true;
                return model;
            } finally {
                if (!complete && model != null) {
                    model.close();
                }
            }
        }
    }

    /** @param asked before numbers were made of it */
    private void tellPlacement(ModelOptions asked) {
        var layers = deviceLayers();
        if (!layers.isEmpty()) {
            LOG.log(System.Logger.Level.INFO, Offload.describe(parts, options, layers));
        } else if (asked.gpuLayers() == ModelOptions.AUTO_LAYERS && !options.devices().equals(asked.devices())) {
            LOG.log(System.Logger.Level.WARNING, "not one layer of " + path() + " fits on a device beside an engine's buffers;"
                    + " everything is evaluated by the processor");
        }
    }

    private static LlamaException failure(Path path, List<GgufFile> parts, ModelOptions options, NativeError error) {
        if (error.outOfMemory()) {
            return MemoryCheck.exhausted(parts, options, error.message());
        }
        return new ModelLoadException(path + " can't be loaded: " + (options.checkTensors() ? fault(parts).orElse(error.message())
                : error.message()));
    }

    /** The first tensor with blocks that are not sound, and what is wrong with them: native code checks on threads of its own. */
    private static Optional<String> fault(List<GgufFile> parts) {
        var error = new NativeError();
        for (var part : parts) {
            for (var tensor : part.tensors()) {
                try (var arena = Arena.ofConfined()) {
                    LlamaH.pl_validate_blocks(tensor.type().id(), part.map(tensor, arena), tensor.byteSize(), error.segment());
                }
                if (error.failed()) {
                    return Optional.of("\"" + tensor.name() + "\" has invalid data"
                            + (error.message().isEmpty() ? " (" + tensor.type().label() + ")" : ": " + error.message()));
                }
            }
        }
        return Optional.empty();
    }

    /** Upstream asserts that a token it shall add exists, when a text is tokenised. */
    private void checkSpecialTokens() {
        if (vocabulary.addsBos() && vocabulary.bos() < 0 || vocabulary.addsEos() && vocabulary.eos() < 0) {
            var which = vocabulary.addsBos() && vocabulary.bos() < 0 ? "bos" : "eos";
            throw new ModelLoadException(parts.getFirst().path() + " wants a token added to every text (tokenizer.ggml.add_" + which
                    + "_token) but has none (tokenizer.ggml." + which + "_token_id)");
        }
    }

    /**
     * What a model and an engine would take, planned by llama.cpp, with nothing allocated and no weights read. Takes as long as
     * reading the vocabulary.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException as {@link #load}
     * @throws ModelLoadException as {@link #load}
     * @throws LlamaException if the options contradict each other or the model
     */
    public static MemoryEstimate estimate(Path path, ModelOptions options, EngineOptions engine) {
        var parts = GgufFile.readParts(path);
        ModelCheck.check(parts, options.vocabularyOnly());
        if (options.mtp()) {
            MtpHeads.require(parts);
        }
        Objects.requireNonNull(engine, "engine");
        return MemoryCheck.estimate(parts, Offload.resolve(parts, options.withRoomFor(engine)), engine, AvailableMemory.now());
    }

    /** The names of the accelerators that weights can be put on; empty where everything runs on the CPU. */
    public static List<String> devices() {
        var names = new ArrayList<String>();
        for (long i = 0; i < LlamaH.ggml_backend_dev_count(); i++) {
            var device = LlamaH.ggml_backend_dev_get(i);
            if (LlamaH.ggml_backend_dev_type(device) != LlamaH.GGML_BACKEND_DEVICE_TYPE_CPU()) {
                names.add(LlamaH.ggml_backend_dev_name(device).getString(0));
            }
        }
        return List.copyOf(names);
    }

    /** Native parameters as long as {@code arena} lives, without callbacks. */
    static MemorySegment params(Arena arena, List<GgufFile> parts, ModelOptions options) {
        var params = LlamaH.llama_model_default_params(arena);
        llama_model_params.n_gpu_layers(params, options.gpuLayers());
        llama_model_params.load_mode(params, loadMode(parts, options));
        llama_model_params.vocab_only(params, options.vocabularyOnly());
        llama_model_params.load_mtp(params, options.mtp());
        llama_model_params.check_tensors(params, options.checkTensors());
        llama_model_params.use_extra_bufts(params, options.repack());
        if (!options.vocabularyOnly()) {
            place(arena, params, options);
        }
        return params;
    }

    private static void place(Arena arena, MemorySegment params, ModelOptions options) {
        var placement = options.placement();
        llama_model_params.split_mode(params, placement.splitMode().ordinal());
        llama_model_params.main_gpu(params, placement.mainDevice());
        var chosen = options.devices().isEmpty() && placement.rpcServers().isEmpty() ? null : Offload.targets(options);
        if (chosen != null) {
            var devices = arena.allocate(ValueLayout.ADDRESS, chosen.size() + 1L);
            for (int i = 0; i < chosen.size(); i++) {
                devices.setAtIndex(ValueLayout.ADDRESS, i, chosen.get(i));
            }
            llama_model_params.devices(params, devices);
        }
        int count = chosen == null ? devices().size() : chosen.size();
        if (placement.splitMode() == SplitMode.NONE && count > 0 && placement.mainDevice() >= count) {
            throw new ModelLoadException("mainDevice is " + placement.mainDevice() + ", and there are " + count + " devices");
        }
        if (!placement.shares().isEmpty()) {
            if (count > 0 && placement.shares().size() > count) {
                throw new ModelLoadException("there are " + placement.shares().size() + " shares for " + count + " devices");
            }
            var shares = arena.allocate(ValueLayout.JAVA_FLOAT, Math.max(LlamaH.llama_max_devices(), placement.shares().size()));
            for (int i = 0; i < placement.shares().size(); i++) {
                shares.setAtIndex(ValueLayout.JAVA_FLOAT, i, placement.shares().get(i));
            }
            llama_model_params.tensor_split(params, shares);
        }
    }

    static MemorySegment paths(Arena arena, List<GgufFile> parts) {
        var paths = arena.allocate(ValueLayout.ADDRESS, parts.size());
        for (int i = 0; i < parts.size(); i++) {
            paths.setAtIndex(ValueLayout.ADDRESS, i, arena.allocateFrom(parts.get(i).path().toString()));
        }
        return paths;
    }

    /** Whether weights that need no other layout are used where the file is mapped. */
    static boolean maps(List<GgufFile> parts, ModelOptions options) {
        return options.mmap() && LlamaH.llama_supports_mmap() && parts.stream().allMatch(part ->
                part.tensors().stream().allMatch(tensor -> part.position(tensor) % MAPPED_ALIGNMENT == 0));
    }

    private static int loadMode(List<GgufFile> parts, ModelOptions options) {
        if (maps(parts, options)) {
            return options.mlock() ? LlamaH.LLAMA_LOAD_MODE_MMAP_MLOCK() : LlamaH.LLAMA_LOAD_MODE_MMAP();
        }
        return options.mlock() ? LlamaH.LLAMA_LOAD_MODE_MLOCK() : LlamaH.LLAMA_LOAD_MODE_NONE();
    }

    /** The model's tokens. */
    public Vocabulary vocabulary() {
        return vocabulary;
    }

    /**
     * The source of the model's own chat template, in Jinja.
     *
     * @param name of one of several templates, for instance {@code tool_use}; null for the usual one
     */
    public Optional<String> chatTemplateSource(String name) {
        var key = "tokenizer.chat_template" + (name == null ? "" : "." + name);
        return gguf().metadata().contains(key) ? gguf().metadata().string(key) : Optional.empty();
    }

    /** The file that was loaded, of a split model the first part. */
    public Path path() {
        return gguf().path();
    }

    /** The file's own words: architecture, size and type, for instance {@code llama 1B Q4_0}. */
    public String description() {
        return description;
    }

    /** What {@code general.architecture} says, for instance {@code llama}. */
    public String architecture() {
        return gguf().metadata().string("general.architecture").orElseThrow();
    }

    /** The size of all weights, in bytes. */
    public long sizeBytes() {
        return sizeBytes;
    }

    /** The number of weights. */
    public long parameterCount() {
        return parameterCount;
    }

    /** The context that the model was trained on, in tokens. */
    public int contextLength() {
        return contextLength;
    }

    /** Positions that the model has vectors for; {@link Long#MAX_VALUE} where they are computed. */
    long learnedPositions() {
        return parts.stream().flatMap(part -> part.tensor("position_embd.weight").stream()).mapToLong(tensor -> tensor.shape().getLast())
                .findFirst().orElse(Long.MAX_VALUE);
    }

    /** The size of an embedding, {@code n_embd}. */
    public int embeddingSize() {
        return embeddingSize;
    }

    /** The number of layers. */
    public int layerCount() {
        return layerCount;
    }

    /** The number of query heads of the first layer. */
    public int headCount() {
        return headCount;
    }

    /** The number of key and value heads of the first layer. */
    public int keyValueHeadCount() {
        return keyValueHeadCount;
    }

    /** Tokens that layers with a sliding window see; 0 without such layers. */
    public int slidingWindow() {
        return slidingWindow;
    }

    /**
     * {@link #mtpHeads()} of a file that is not loaded.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException as {@link #load}
     */
    public static int mtpHeads(Path path) {
        return MtpHeads.count(GgufFile.readParts(path));
    }

    /**
     * Heads for multi-token prediction (MTP) in the file, 0 for most models and for those whose heads llama.cpp can't evaluate. They are
     * of use where the model is loaded with {@link ModelOptions#withMtp}.
     */
    public int mtpHeads() {
        return MtpHeads.count(parts);
    }

    /** Whether text has to be encoded before it is decoded, as in T5. */
    public boolean hasEncoder() {
        return hasEncoder;
    }

    /** Whether the model can decode; false for embedding models such as BERT. */
    public boolean hasDecoder() {
        return hasDecoder;
    }

    /** The token that the decoder of an encoder-decoder begins with; -1 in other models. */
    public int decoderStart() {
        return decoderStart;
    }

    /** Whether the model keeps a state of fixed size instead of a KV cache, as Mamba and RWKV. */
    public boolean isRecurrent() {
        return recurrent;
    }

    /** Whether some layers attend and others keep a state. */
    public boolean isHybrid() {
        return hybrid;
    }

    /** Whether the model writes by diffusion, all positions at once. */
    public boolean isDiffusion() {
        return diffusion;
    }

    /**
     * How many layers are on each device, in the order of the layers, the output counting as one; what is left is evaluated by the
     * processor. Empty without a device.
     */
    public Map<String, Integer> deviceLayers() {
        return Collections.unmodifiableMap(Offload.layersByDevice(parts, options));
    }

    /** How the model was loaded, with the devices and the number of layers that were chosen. */
    public ModelOptions options() {
        return options;
    }

    /** The metadata in the file's order, scalars as text; arrays are described, {@link #gguf} has them whole. */
    public Map<String, String> metadata() {
        var result = new LinkedHashMap<String, String>();
        var metadata = gguf().metadata();
        metadata.keys().forEach(key -> result.put(key, metadata.text(key).orElseThrow()));
        return Collections.unmodifiableMap(result);
    }

    /** The header of the file, of a split model that of the first part. */
    public GgufFile gguf() {
        return parts.getFirst();
    }

    /** The headers of all parts; one for a model that isn't split. */
    public List<GgufFile> parts() {
        return parts;
    }

    /**
     * Tells this model from others, as {@link GgufFile#fingerprint}. Stored results that depend on a model carry it; another quantisation
     * of the same model is another model.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file is no longer as it was loaded
     */
    public String fingerprint() {
        return GgufFile.fingerprint(parts);
    }

    /**
     * Frees the weights. Closing a closed model does nothing.
     *
     * @throws ModelInUseException while engines are open; the model stays open
     */
    @Override
    public void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            if (engines > 0) {
                throw new ModelInUseException(path() + " is used by " + engines + (engines == 1 ? " open engine" : " open engines")
                        + "; close " + (engines == 1 ? "it" : "them") + " first", engines);
            }
            closed = true;
        }
        vocabulary.close();
        LlamaH.pl_model_free(handle);
        RpcServers.leave(servers(options));
    }

    private static List<String> servers(ModelOptions options) {
        return options.vocabularyOnly() ? List.of() : options.placement().rpcServers();
    }

    /**
     * For {@link TrialModel}: points a weight at other blocks. No engine is open meanwhile.
     *
     * @param blocks native memory, which lives at least as long as this model
     */
    synchronized void pointTo(String weight, GgmlType type, MemorySegment blocks) {
        if (closed) {
            throw new ClosedException("the model " + path() + " is closed");
        }
        if (engines > 0) {
            throw new ModelInUseException(path() + " is used by " + engines + (engines == 1 ? " open engine" : " open engines")
                    + "; weights are replaced between engines", engines);
        }
        try (var arena = Arena.ofConfined()) {
            var error = new NativeError();
            LlamaH.pl_model_set_weight(handle, arena.allocateFrom(weight), type.id(), blocks, error.segment());
            error.check("replacing \"" + weight + "\" of " + path());
        }
    }

    /** For an engine: keeps the model open until {@link #release}, and gives the {@code llama_model}. */
    synchronized MemorySegment retain() {
        if (closed) {
            throw new ClosedException("the model " + path() + " is closed");
        }
        if (options.vocabularyOnly()) {
            throw new LlamaException(path() + " was loaded with its vocabulary only; load it with weights to open an engine");
        }
        engines++;
        return handle;
    }

    /** Ends a {@link #retain}. */
    synchronized void release() {
        if (engines == 0) {
            throw new IllegalStateException("released more often than retained");
        }
        engines--;
    }

    /** The {@code llama_model}; valid only between {@link #retain} and {@link #release}. */
    synchronized MemorySegment handle() {
        if (closed) {
            throw new ClosedException("the model " + path() + " is closed");
        }
        return handle;
    }

    @Override
    public String toString() {
        return "Model[" + path() + ", " + description + "]";
    }
}
