package io.github.panamallama.examples.cli;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import java.nio.file.Path;
import picocli.CommandLine.Option;

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

    @Option(names = {"-ngl", "--gpu-layers"}, paramLabel = "N", description = "Layers on the GPU, where this build has one.")
    private int gpuLayers;

    Path path() {
        return path == null ? DefaultModel.path() : path;
    }

    boolean shipped() {
        return path == null;
    }

    int gpuLayers() {
        return gpuLayers;
    }

    boolean mmap() {
        return !noMmap;
    }

    ModelOptions options(Main main) {
        var options = ModelOptions.defaults().withMmap(!noMmap).withMlock(mlock).withGpuLayers(gpuLayers)
                .withCancellation(main.interrupts()::raised);
        var console = main.shell().interactive() && path != null && path.toFile().length() >= SLOW_BYTES;
        if (!console) {
            return options;
        }
        var err = main.shell().err();
        return options.withProgress(done -> err.print(done < 1 ? "\rloading %3.0f %%".formatted(100 * done) : "\r              \r"));
    }

    Model load(Main main) {
        return load(main, options(main));
    }

    Model load(Main main, ModelOptions options) {
        return Model.load(path(), options);
    }
}
