package io.github.panamallama.examples.cli;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.MemoryEstimate;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Placement;
import io.github.panamallama.runtime.SplitMode;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import picocli.CommandLine;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/** Which model, and how it is held in memory. */
final class ModelMixin {
    /** From this size on, loading takes long enough to be shown. */
    private static final long SLOW_BYTES = 1L << 30;

    @Option(names = {"-m", "--model"}, paramLabel = "MODEL", converter = ModelFile.class,
            description = "GGUF file; of a split model, its first part. Or OWNER/REPOSITORY[:QUANT], a model that was pulled. "
                    + "Without it: the shipped model.")
    private Path path;

    @Option(names = "--mlock", description = "Keep the weights in memory; never swap them out.")
    private boolean mlock;

    @Option(names = "--no-mmap", description = "Read the weights instead of mapping the file.")
    private boolean noMmap;

    @Option(names = {"-ngl", "--gpu-layers", "--n-gpu-layers"}, paramLabel = "N|all|auto", converter = Layers.class,
            description = "Layers on the devices. Default: auto, as many as fit there with the context.")
    private int gpuLayers = ModelOptions.AUTO_LAYERS;

    @Option(names = {"-dev", "--device"}, paramLabel = "NAMES", split = ",",
            description = "The devices to use, with commas between; 'devices' lists them. none: the processor alone.")
    private List<String> devices = List.of();

    @Option(names = {"-ts", "--tensor-split"}, paramLabel = "SHARES", split = ",",
            description = "What each device takes, relative to the others: "
            + "3,1. Without it: by free memory.")
    private List<Float> shares = List.of();

    @Option(names = {"-sm", "--split-mode"}, paramLabel = "none|layer|row|tensor",
            description = "How devices share the model. Default: layer.")
    private SplitMode splitMode;

    @Option(names = {"-mg", "--main-gpu"}, paramLabel = "INDEX",
            description = "With --split-mode none: the device that takes all. Default: 0.")
    private Integer mainDevice;

    @Option(names = "--rpc", paramLabel = "HOST:PORT", split = ",",
            description = "Use the devices of ggml's RPC servers there, with commas between; "
            + "'rpc-server' is one. On trusted networks only.")
    private List<String> rpcServers = List.of();

    Path path() {
        return path == null ? DefaultModel.path() : path;
    }

    boolean shipped() {
        return path == null;
    }

    List<String> rpcServers() {
        return rpcServers;
    }

    /** Says where layers, cache and buffers went, if a device has a part; and that there is none, if the user asked for it. */
    void report(Main main, Engine engine) {
        var places = engine.memory().devices();
        if (places.size() > 1) {
            main.shell().note(places.stream().map(ModelMixin::describe).collect(Collectors.joining("; ")));
        } else if (gpuLayers > 0 || gpuLayers == ModelOptions.ALL_LAYERS || !shares.isEmpty()) {
            main.shell().note("no device takes layers here; everything is on the processor");
        }
    }

    static String describe(MemoryEstimate.Device device) {
        return device.name() + ": " + device.layers() + (device.layers() == 1 ? " layer, " : " layers, ") + Units.bytes(device.weights())
                + " weights, " + Units.bytes(device.context()) + " context, "
                + Units.bytes(device.compute()) + " buffers";
    }

    boolean mmap() {
        return !noMmap;
    }

    ModelOptions options(Main main) {
        var options = placed(main.command(), ModelOptions.defaults().withMmap(!noMmap).withMlock(mlock))
                .withCancellation(main.interrupts()::raised);
        var console = main.shell().interactive() && path != null && path.toFile().length() >= SLOW_BYTES;
        if (!console) {
            return options;
        }
        var err = main.shell().err();
        return options.withProgress(done -> err.print(done < 1 ? "\rloading %3.0f %%".formatted(100 * done) : "\r              \r"));
    }

    private ModelOptions placed(CommandLine command, ModelOptions options) {
        if (mainDevice != null && splitMode != SplitMode.NONE) {
            throw new ParameterException(command, "--main-gpu is for --split-mode none");
        }
        try {
            return options.withGpuLayers(gpuLayers).withDevices(devices).withPlacement(new Placement(
                    splitMode == null ? SplitMode.LAYER : splitMode, shares, mainDevice == null ? 0 : mainDevice, rpcServers));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage());
        }
    }

    Model load(Main main) {
        return load(main, options(main));
    }

    /** Leaves room for an engine where layers go to devices. */
    Model load(Main main, EngineOptions engine) {
        return load(main, options(main).withRoomFor(engine));
    }

    Model load(Main main, ModelOptions options) {
        return Model.load(path(), options);
    }

    /** A number, or a word for one. */
    static final class Layers implements ITypeConverter<Integer> {
        @Override
        public Integer convert(String text) {
            return switch (text) {
                case "auto" -> ModelOptions.AUTO_LAYERS;
                case "all", "-1" -> ModelOptions.ALL_LAYERS;
                default -> {
                    if (!text.matches("\\d{1,6}")) {
                        throw new TypeConversionException("'" + text + "' is no number of layers; give one, or all, or auto");
                    }
                    yield Integer.parseInt(text);
                }
            };
        }
    }
}
