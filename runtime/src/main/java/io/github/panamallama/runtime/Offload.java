package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.ggml_backend_dev_props;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Which devices take which layers of a model: makes numbers of what {@link ModelOptions} leaves open, before anything is loaded. What it
 * gives asks llama.cpp for exactly these numbers.
 */
final class Offload {
    private static final Pattern BLOCK = Pattern.compile("(?:^|\\.)blk\\.(\\d{1,4})\\.");
    private static final String NONE = "none";

    private Offload() {
    }

    /**
     * @return options with a number of layers, the devices' names and, with {@link SplitMode#LAYER}, the layers of each as its share. As
     *         they were where weights are left out, and with {@link SplitMode#TENSOR}
     */
    static ModelOptions resolve(List<GgufFile> parts, ModelOptions options) {
        var placement = options.placement();
        boolean auto = options.gpuLayers() == ModelOptions.AUTO_LAYERS;
        if (options.vocabularyOnly() || placement.splitMode() == SplitMode.TENSOR) {
            return auto ? options.withGpuLayers(ModelOptions.ALL_LAYERS) : options;
        }
        var targets = targets(options);
        if (targets.isEmpty()) {
            return auto ? options.withGpuLayers(0) : options;
        }
        options = options.withDevices(targets.stream().map(Device::name).toList());
        int all = layers(parts);
        int asked = options.gpuLayers() < 0 ? all : Math.min(options.gpuLayers(), all);
        boolean one = placement.splitMode() == SplitMode.NONE;
        if (placement.splitMode() == SplitMode.ROW || one && placement.mainDevice() >= targets.size()
                || placement.shares().size() > targets.size()) { // the last two are refused later
            return options.withGpuLayers(asked);
        }
        if (one) {
            targets = List.of(targets.get(placement.mainDevice()));
        }
        var devices = targets.stream().map(Device::of).toList();
        var shares = new float[targets.size()];
        boolean given = !one && !placement.shares().isEmpty();
        for (int i = 0; i < shares.length; i++) {
            shares[i] = !given ? freeBytes(devices.get(i)) : i < placement.shares().size() ? placement.shares().get(i) : 0;
        }
        if (!auto) {
            return one ? options.withGpuLayers(asked) : with(options, LayerFit.proportional(asked, shares));
        }
        var rooms = devices.stream().mapToLong(device -> device.totalBytes() == 0 ? 0
                : Math.min(LayerFit.room(device.freeBytes(), device.totalBytes()),
                        device.type() == Device.Type.INTEGRATED_GPU ? AvailableMemory.now() : Long.MAX_VALUE)).toArray();
        var planner = planner(parts, options, devices);
        var counts = given ? LayerFit.fit(all, shares, rooms, planner) : LayerFit.fit(weights(parts, all), rooms, planner);
        return LayerFit.sum(counts) == 0 ? options.withGpuLayers(0).withDevices(NONE).withTensorSplit(List.of())
                : one ? options.withGpuLayers(LayerFit.sum(counts)) : with(options, counts);
    }

    private static ModelOptions with(ModelOptions options, int[] counts) {
        int sum = LayerFit.sum(counts);
        return options.withGpuLayers(sum).withTensorSplit(sum == 0 ? List.of() : Arrays.stream(counts).mapToObj(n -> (float) n).toList());
    }

    /** As llama.cpp takes it for its own shares. */
    private static long freeBytes(Device device) {
        return device.freeBytes() == 0 && device.totalBytes() == 0 ? AvailableMemory.now() : device.freeBytes();
    }

    private static LayerFit.Planner planner(List<GgufFile> parts, ModelOptions options, List<Device> devices) {
        var engine = options.roomFor() == null ? EngineOptions.defaults() : options.roomFor();
        return counts -> {
            var trial = options.placement().splitMode() == SplitMode.NONE ? options.withGpuLayers(LayerFit.sum(counts))
                    : with(options, counts);
            MemoryEstimate estimate;
            try {
                estimate = MemoryCheck.plan(parts, trial, engine);
            } catch (LlamaException e) {
                estimate = MemoryCheck.weights(parts, trial); // no engine can be opened like that, but another one, or an embedder
            }
            var places = estimate.devices().stream().collect(Collectors.toMap(MemoryEstimate.Device::name, place -> place, (a, b) -> a));
            return devices.stream().map(device -> Objects.requireNonNullElseGet(places.get(device.name()),
                    () -> new MemoryEstimate.Device(device.name(), 0, 0, 0, 0, 0))).toList();
        };
    }

    /** The blocks, and the output as one more. */
    static int layers(List<GgufFile> parts) {
        var metadata = parts.getFirst().metadata();
        var key = metadata.string("general.architecture").orElse("") + ".block_count";
        return (int) Math.clamp(metadata.integer(key).orElse(0), 0, 4096) + 1;
    }

    /** Of each layer, in bytes. */
    static long[] weights(List<GgufFile> parts, int layers) {
        var weights = new long[layers];
        long embedding = 0;
        boolean output = false;
        for (var part : parts) {
            for (GgufTensor tensor : part.tensors()) {
                var block = BLOCK.matcher(tensor.name());
                if (block.find()) {
                    int index = Integer.parseInt(block.group(1));
                    if (index < layers - 1) {
                        weights[index] += tensor.byteSize();
                    }
                } else if (tensor.name().startsWith("output")) {
                    weights[layers - 1] += tensor.byteSize();
                    output |= tensor.name().equals("output.weight");
                } else if (tensor.name().equals("token_embd.weight")) {
                    embedding = tensor.byteSize();
                }
            }
        }
        weights[layers - 1] += output ? 0 : embedding; // the embedding once more
        return weights;
    }

    /**
     * How many layers of a model with resolved options are on each device, in their order. With {@link SplitMode#ROW} and
     * {@link SplitMode#TENSOR} each device has a part of all of them.
     */
    static Map<String, Integer> layersByDevice(List<GgufFile> parts, ModelOptions options) {
        var result = new LinkedHashMap<String, Integer>();
        int layers = options.gpuLayers() < 0 ? layers(parts) : Math.min(options.gpuLayers(), layers(parts));
        if (options.vocabularyOnly() || layers == 0) {
            return result;
        }
        var names = options.devices();
        switch (options.placement().splitMode()) {
            case NONE -> names.stream().skip(options.placement().mainDevice()).findFirst().ifPresent(name -> result.put(name, layers));
            case ROW, TENSOR -> names.forEach(name -> result.put(name, layers));
            case LAYER -> {
                var shares = new float[names.size()];
                for (int i = 0; i < Math.min(shares.length, options.placement().shares().size()); i++) {
                    shares[i] = options.placement().shares().get(i);
                }
                var counts = LayerFit.proportional(shares.length == 0 ? 0 : layers, shares);
                for (int i = 0; i < counts.length; i++) {
                    if (counts[i] > 0) {
                        result.put(names.get(i), counts[i]);
                    }
                }
            }
        }
        return result;
    }

    /** One line: what is where. */
    static String describe(List<GgufFile> parts, ModelOptions options, Map<String, Integer> layers) {
        int all = layers(parts);
        int left = all - Math.min(all, options.placement().splitMode() == SplitMode.LAYER ? layers.values().stream().mapToInt(n -> n).sum()
                : layers.values().stream().mapToInt(n -> n).max().orElse(0));
        var words = new ArrayList<String>();
        layers.forEach((name, count) -> words.add(count + " on " + name));
        if (left > 0) {
            words.add(left + " on the processor");
        }
        return parts.getFirst().path().getFileName() + ": of " + all + " layers " + String.join(", ", words);
    }

    /** The devices that take weights: those that are asked for, else as llama.cpp chooses among those of this machine. */
    static List<MemorySegment> targets(ModelOptions options) {
        if (!options.devices().isEmpty() || !options.placement().rpcServers().isEmpty()) {
            return named(options);
        }
        var discrete = new ArrayList<MemorySegment>();
        var integrated = new ArrayList<MemorySegment>();
        var ids = new ArrayList<String>();
        for (long i = 0; i < LlamaH.ggml_backend_dev_count(); i++) {
            var device = LlamaH.ggml_backend_dev_get(i);
            var type = Device.type(device);
            if (type == Device.Type.GPU) {
                var id = id(device);
                if (id.isEmpty() || !ids.contains(id)) { // the same GPU through two back ends
                    discrete.add(device);
                    ids.add(id);
                }
            } else if (type == Device.Type.INTEGRATED_GPU && (integrated.isEmpty() || LlamaH.ggml_backend_dev_backend_reg(device)
                    .equals(LlamaH.ggml_backend_dev_backend_reg(integrated.getLast())))) {
                integrated.add(device);
            }
        }
        return discrete.isEmpty() ? integrated : discrete;
    }

    private static String id(MemorySegment device) {
        try (var arena = Arena.ofConfined()) {
            var props = ggml_backend_dev_props.allocate(arena);
            LlamaH.ggml_backend_dev_get_props(device, props);
            var id = ggml_backend_dev_props.device_id(props);
            return id.equals(MemorySegment.NULL) ? "" : id.reinterpret(256).getString(0);
        }
    }

    private static List<MemorySegment> named(ModelOptions options) {
        if (options.devices().equals(List.of(NONE))) {
            return List.of();
        }
        var all = new ArrayList<MemorySegment>();
        for (var server : options.placement().rpcServers()) {
            all.addAll(List.of(RpcServers.devices(server)));
        }
        for (long i = 0; i < LlamaH.ggml_backend_dev_count(); i++) {
            all.add(LlamaH.ggml_backend_dev_get(i));
        }
        all.removeIf(device -> !Device.takesWeights(device) && !options.devices().contains(Device.name(device)));
        if (options.devices().isEmpty()) {
            return all;
        }
        return options.devices().stream().map(name -> all.stream()
                .filter(device -> Device.name(device).equals(name)
                        && LlamaH.ggml_backend_dev_type(device) != LlamaH.GGML_BACKEND_DEVICE_TYPE_CPU())
                .findFirst().orElseThrow(() -> new ModelLoadException(noDevice(name, all)))).toList();
    }

    private static String noDevice(String name, List<MemorySegment> all) {
        var others = all.stream().map(Device::name).filter(other -> !other.equals("CPU")).toList();
        return "there is no device \"" + name + "\" that takes layers; " + (others.isEmpty() ? "there is none but the processor"
                : "there are " + others);
    }
}
