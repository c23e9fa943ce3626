package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_memory_use;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.natives.NativeError;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.ToLongFunction;

/**
 * Refuses what doesn't fit before it is allocated: upstream zeroes its buffers, so too large ones end in the OOM killer, not in an
 * error. A cheap upper bound from the metadata lets small things pass; what might be too much is planned exactly by native code.
 */
final class MemoryCheck {
    private static final int MAX_DEVICES = 17;
    /** Of llama_kv_cells: position, shift, extension and the set of 256 sequences. Allocated even when only planning. */
    private static final long CELL_BYTES = 56;
    private static final long OVERHEAD = 64L << 20;

    private MemoryCheck() {
    }

    /**
     * Called before an engine allocates anything.
     *
     * @throws InsufficientMemoryException if its context and compute buffers don't fit beside what is in memory already
     */
    static void ensure(Model model, EngineOptions options) {
        ensure(model, options, AvailableMemory.now());
    }

    static void ensure(Model model, EngineOptions options, long available) {
        var bound = engineBound(model.gguf().metadata(), model.options(), options);
        if (bound.host().total() <= available / 2 && model.options().devices().isEmpty()
                && model.options().placement().rpcServers().isEmpty() && Model.devices().isEmpty()) {
            return;
        }
        var estimate = estimate(model.parts(), model.options(), options, available);
        var host = estimate.host();
        long needed = MemoryEstimate.saturated(host.context(), host.compute());
        if (needed > available) {
            throw tooMuch(model, options, estimate, needed, available);
        }
    }

    /**
     * After native code found no memory although the check let it try.
     *
     * @param reason its own words
     */
    static InsufficientMemoryException exhausted(Model model, EngineOptions options, String reason) {
        long available = AvailableMemory.now();
        var estimate = estimate(model.parts(), model.options(), options, available);
        var tightest = Tightest.of(model.options(), estimate, device -> MemoryEstimate.saturated(device.context(), device.compute()),
                available, reason);
        if (!tightest.host()) {
            return new InsufficientMemoryException("not enough memory on " + tightest.name() + " for an engine with a context of "
                    + NativeContext.contextSize(model.gguf().metadata(), options) + " tokens: it needs "
                    + MemoryEstimate.text(tightest.needed()) + " there, and " + MemoryEstimate.text(tightest.free())
                    + " are free (" + reason + "); lower contextSize, or load the model with fewer layers there: withGpuLayers, or"
                    + " withGpuLayers(AUTO_LAYERS) and withRoomFor this engine", estimate, tightest.free(), tightest.name());
        }
        return tooMuch(model, options, estimate, tightest.needed(), available);
    }

    /** After native code found no memory for a model's weights. */
    static InsufficientMemoryException exhausted(List<GgufFile> parts, ModelOptions options, String reason) {
        long available = AvailableMemory.now();
        var estimate = weights(parts, options);
        var tightest = Tightest.of(options, estimate, MemoryEstimate.Device::needed, available, reason);
        return new InsufficientMemoryException("not enough memory on " + tightest.name() + " for the weights of " + parts.getFirst().path()
                + ": " + MemoryEstimate.text(tightest.needed()) + " are needed there, and " + MemoryEstimate.text(tightest.free())
                + " are free (" + reason + ")" + (tightest.host() ? ""
                        : "; lower gpuLayers, or let it be chosen, withGpuLayers(AUTO_LAYERS)"),
                estimate, tightest.free(), tightest.name());
    }

    /** The place that native code names as short of memory, else where the least is left for what is needed. */
    private record Tightest(String name, boolean host, long needed, long free) {
        static Tightest of(ModelOptions options, MemoryEstimate estimate, ToLongFunction<MemoryEstimate.Device> need, long available,
                String reason) {
            var handles = options.vocabularyOnly() ? List.<MemorySegment>of() : Offload.targets(options);
            Tightest tightest = null;
            for (var place : estimate.devices()) {
                boolean host = place == estimate.host();
                long free = host ? available : handles.stream().map(Device::of).filter(device -> device.name().equals(place.name()))
                        .mapToLong(Device::freeBytes).findFirst().orElse(0);
                long needed = need.applyAsLong(place);
                if (!host && reason.contains("allocate " + place.name())) { // "failed to allocate CUDA1 buffer of size 4096"
                    return new Tightest(place.name(), false, needed, free);
                }
                if (tightest == null || (double) free - needed < (double) tightest.free - tightest.needed) {
                    tightest = new Tightest(place.name(), host, needed, free);
                }
            }
            return tightest;
        }
    }

    private static InsufficientMemoryException tooMuch(Model model, EngineOptions options, MemoryEstimate estimate, long needed,
            long available) {
        int size = NativeContext.contextSize(model.gguf().metadata(), options);
        var host = estimate.host();
        var message = new StringBuilder("not enough memory for an engine with a context of ").append(size).append(" tokens: ")
                .append(estimate.exact() ? "it needs " : "it needs about ").append(MemoryEstimate.text(needed)).append(" (")
                .append(MemoryEstimate.text(host.context())).append(" context, ").append(MemoryEstimate.text(host.compute()))
                .append(" compute), ").append(MemoryEstimate.text(available)).append(" are available; lower contextSize");
        long fitting = (long) (size * 0.9 * ((double) available / needed)) / 256 * 256;
        if (fitting >= 256) {
            message.append(" to about ").append(fitting);
        }
        if (options.keyType() == GgmlType.F16 || options.keyType() == GgmlType.F32 || options.keyType() == GgmlType.BF16) {
            message.append(", or use a smaller cache type, withCacheTypes(Q8_0, Q8_0)");
        }
        if (options.ubatchSize() > 512) {
            message.append(", or lower ubatchSize");
        }
        return new InsufficientMemoryException(message.toString(), estimate, available);
    }

    /** Refuses weights that don't fit, before they are read. */
    static void ensureWeights(List<GgufFile> parts, ModelOptions options, long available) {
        long weights = parts.stream().mapToLong(GgufFile::tensorBytes).sum();
        if (options.vocabularyOnly() || weights <= available / 2) {
            return;
        }
        var estimate = weights(parts, options);
        if (estimate.host().needed() > available) {
            var advice = !options.mmap() ? "; map the file (withMmap(true)) or use a smaller quantisation"
                    : options.repack() ? "; load it without repacked copies (withRepack(false)) or use a smaller quantisation"
                    : "; use a smaller quantisation";
            throw new InsufficientMemoryException("not enough memory for the weights of " + parts.getFirst().path() + ": "
                    + MemoryEstimate.text(estimate.host().needed()) + " are needed, " + MemoryEstimate.text(available) + " are available"
                    + advice, estimate, available);
        }
    }

    /** The weights alone, exactly. */
    static MemoryEstimate weights(List<GgufFile> parts, ModelOptions options) {
        return plan(parts, options, null);
    }

    /** Model and engine; exact unless planning itself would take too much of what is available. */
    static MemoryEstimate estimate(List<GgufFile> parts, ModelOptions options, EngineOptions engine, long available) {
        var metadata = parts.getFirst().metadata();
        var bound = engineBound(metadata, options, engine);
        long cells = cells(metadata, engine);
        if (cells * CELL_BYTES > available / 4 && bound.host().total() > available) {
            long weights = parts.stream().mapToLong(GgufFile::tensorBytes).sum();
            var host = bound.host();
            return new MemoryEstimate(List.of(new MemoryEstimate.Device(host.name(), weights, Model.maps(parts, options) ? weights : 0,
                    host.context(), host.compute(), Offload.layers(parts))), false);
        }
        return plan(parts, options, engine);
    }

    /** @param engine null for the weights alone */
    static MemoryEstimate plan(List<GgufFile> parts, ModelOptions options, EngineOptions engine) {
        var metadata = parts.getFirst().metadata();
        try (var arena = Arena.ofConfined()) {
            if (engine == null) {
                return plan(arena, parts, options, MemorySegment.NULL, 0, 0);
            }
            var main = plan(arena, parts, options, NativeContext.parameters(arena, metadata, engine), engine.spareLayers(),
                    cells(metadata, engine) * CELL_BYTES);
            return !options.mtp() ? main : together(main, plan(arena, parts, options, MtpContext.parameters(arena, metadata, engine), 0,
                    cells(metadata, engine) * CELL_BYTES + stateBytes(metadata, engine)));
        }
    }

    /** Two contexts over the same weights. */
    private static MemoryEstimate together(MemoryEstimate first, MemoryEstimate second) {
        return new MemoryEstimate(first.devices().stream().map(device -> {
            var other = second.devices().stream().filter(each -> each.name().equals(device.name())).findFirst();
            return other.isEmpty() ? device : new MemoryEstimate.Device(device.name(), device.weights(), device.mapped(),
                    device.context() + other.get().context(), device.compute() + other.get().compute(), device.layers());
        }).toList(), true);
    }

    /** @param more bytes beside those of native buffers, on the host */
    private static MemoryEstimate plan(
            Arena arena, List<GgufFile> parts, ModelOptions options, MemorySegment context, int spareLayers, long more) {
        var error = new NativeError();
        var params = Model.params(arena, parts, options);
        var uses = pl_memory_use.allocateArray(MAX_DEVICES, arena);
        int count = LlamaH.pl_memory_estimate(Model.paths(arena, parts), parts.size(), params, context, spareLayers, uses, MAX_DEVICES,
                error.segment());
        if (count < 0) {
            throw new LlamaException(parts.getFirst().path() + ": the memory it needs can't be planned: " + error.message());
        }
        return of(uses, Math.min(count, MAX_DEVICES), parts, options, more);
    }

    /** What a context takes beside its model's weights, as it is. */
    static MemoryEstimate used(MemorySegment context, Model model) {
        var error = new NativeError();
        try (var arena = Arena.ofConfined()) {
            var uses = pl_memory_use.allocateArray(MAX_DEVICES, arena);
            int count = LlamaH.pl_memory_used(context, uses, MAX_DEVICES, error.segment());
            error.check("asking for the memory in use");
            return of(uses, Math.min(count, MAX_DEVICES), model.parts(), model.options(), 0);
        }
    }

    private static MemoryEstimate of(MemorySegment uses, int count, List<GgufFile> parts, ModelOptions options, long more) {
        boolean maps = Model.maps(parts, options);
        var layers = Offload.layersByDevice(parts, options);
        var elsewhere = layers.values().stream().mapToInt(n -> n);
        int left = Offload.layers(parts) - (options.placement().splitMode() == SplitMode.LAYER ? elsewhere.sum()
                : elsewhere.max().orElse(0));
        var devices = new ArrayList<MemoryEstimate.Device>();
        for (int i = 0; i < count; i++) {
            var use = pl_memory_use.asSlice(uses, i);
            boolean host = pl_memory_use.host(use) != 0;
            long weights = pl_memory_use.model(use);
            var name = pl_memory_use.device(use).getString(0);
            devices.add(new MemoryEstimate.Device(name, weights, host && maps ? weights - pl_memory_use.copied(use) : 0,
                    pl_memory_use.context(use) + (host ? more : 0), pl_memory_use.compute(use), host ? left
                            : layers.getOrDefault(name, 0)));
        }
        if (count > 1) {
            devices.subList(1, count).sort(Comparator.comparingInt(device -> options.devices().indexOf(device.name())));
        }
        return new MemoryEstimate(devices, true);
    }

    /** The cells of the KV cache; models without attention have none, whatever the context. */
    private static long cells(GgufMetadata metadata, EngineOptions options) {
        if (value(metadata, metadata.string("general.architecture").orElse("") + ".attention.head_count", 0) == 0) {
            return 0;
        }
        return (NativeContext.contextSize(metadata, options) + 255L) / 256 * 256;
    }

    /** Hidden states kept for an MTP head: of every token of the context, and of a batch twice. */
    private static long stateBytes(GgufMetadata metadata, EngineOptions options) {
        double width = value(metadata, metadata.string("general.architecture").orElse("") + ".embedding_length", 1);
        return (long) ((cells(metadata, options) + 2.0 * options.batchSize()) * width * Float.BYTES);
    }

    /**
     * More than any known architecture takes, in bytes: every layer keeps keys and values of all tokens and states of all sequences,
     * scores of all heads are there at once.
     */
    private static MemoryEstimate engineBound(GgufMetadata metadata, ModelOptions model, EngineOptions options) {
        var architecture = metadata.string("general.architecture").orElse("") + ".";
        double layers = value(metadata, architecture + "block_count", 1);
        double width = value(metadata, architecture + "embedding_length", 1);
        double heads = value(metadata, architecture + "attention.head_count", 0);
        double keyValueHeads = value(metadata, architecture + "attention.head_count_kv", heads);
        double headSize = heads > 0 ? width / heads : 0;
        double keySize = Math.max(value(metadata, architecture + "attention.key_length", headSize),
                value(metadata, architecture + "attention.key_length_swa", 0));
        double valueSize = Math.max(value(metadata, architecture + "attention.value_length", headSize),
                value(metadata, architecture + "attention.value_length_swa", 0));
        double cells = cells(metadata, options);
        double context = cells * (2 * CELL_BYTES + layers * keyValueHeads
                * (keySize * options.keyType().bitsPerElement() + valueSize * options.valueType().bitsPerElement()) / 8);

        double inner = value(metadata, architecture + "ssm.inner_size", 2 * width);
        double state = value(metadata, architecture + "ssm.state_size", value(metadata, architecture + "wkv.head_size", 128));
        double kernel = value(metadata, architecture + "ssm.conv_kernel", 4);
        context += options.maxSequences() * layers * inner * (state + 2 * kernel) * 4;

        double tokens = metadata.arrayLength("tokenizer.ggml.tokens").orElse((int) value(metadata, architecture + "vocab_size", 1));
        double inside = Math.max(width, value(metadata, architecture + "feed_forward_length", 4 * width));
        double experts = Math.max(1, value(metadata, architecture + "expert_used_count", 1));
        double compute = options.ubatchSize() * 4.0 * (2 * tokens + 32 * width + 8 * inside * experts + 2 * heads * cells + 2 * cells)
                + options.batchSize() * 4.0 * tokens + OVERHEAD;
        if (model.mtp()) { // its layers are among those counted, beside cells and buffers of its own
            context += cells * 2 * CELL_BYTES + stateBytes(metadata, options);
            compute *= 2;
        }
        return new MemoryEstimate(List.of(new MemoryEstimate.Device("CPU", 0, 0, (long) context, (long) compute, 0)), false);
    }

    /** A number, of an array its largest element. */
    private static double value(GgufMetadata metadata, String key, double fallback) {
        if (!metadata.contains(key)) {
            return fallback;
        }
        if (metadata.elementType(key).isEmpty()) {
            return metadata.number(key).getAsDouble();
        }
        double most = 0;
        for (long value : metadata.integers(key).orElseThrow()) {
            most = Math.max(most, value);
        }
        return most;
    }
}
