package io.github.panamallama.examples.cli;

import io.github.panamallama.adapters.LoraWeights;
import io.github.panamallama.adapters.PeftConverter;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Writes an adapter as GGUF: one of Hugging Face PEFT, or one in GGUF in another type. */
@Command(
        name = "convert",
        description = {
            "Convert a LoRA adapter of Hugging Face PEFT to GGUF, or one in GGUF to another type.",
            "",
            "What of a PEFT adapter can't be expressed (DoRA, trained biases, whole modules) is refused by name.",
        })
final class AdaptersConvertCommand implements Callable<Integer> {
    private static final List<GgmlType> TYPES = List.of(GgmlType.F32, GgmlType.F16, GgmlType.BF16, GgmlType.Q8_0, GgmlType.Q4_0);

    @ParentCommand
    private AdaptersCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "IN",
            description = "A folder with adapter_config.json and adapter_model.safetensors, or an adapter in a GGUF file.")
    private Path in;

    @Parameters(index = "1", paramLabel = "OUT", description = "The GGUF file to write.")
    private Path out;

    @Option(names = "--base", paramLabel = "MODEL", converter = ModelFile.class,
            description = "GGUF file of the model that the adapter is for; needed for PEFT, checked in any case.")
    private Path base;

    @Option(names = "--type", paramLabel = "f32|f16|bf16|q8_0|q4_0", defaultValue = "f16",
            description = "Type of the weights. Default: ${DEFAULT-VALUE}.")
    private String typeName;

    @Option(names = "--force", description = "Overwrite OUT if it exists.")
    private boolean force;

    @Override
    public Integer call() throws IOException {
        var type = GgmlType.byName(typeName).filter(TYPES::contains).orElseThrow(() -> new ParameterException(spec.commandLine(),
                "'" + typeName + "' is no type for adapters; the types are "
                        + TYPES.stream().map(GgmlType::label).collect(Collectors.joining(" "))));
        boolean peft = Files.isDirectory(in)
                || Files.exists(in) && !in.getFileName().toString().toLowerCase(Locale.ROOT).endsWith(".gguf");
        if (peft && base == null) {
            throw new ParameterException(spec.commandLine(),
                    "--base is needed to convert an adapter of PEFT: it says how tensors are named and ordered");
        }
        if (Files.exists(out) && !force) {
            throw new CommandException(out + " exists; --force overwrites it");
        }
        var model = base == null ? null : GgufFile.readParts(base);
        if (model != null && Files.exists(out)) {
            for (var part : model) {
                if (Files.isSameFile(out, part.path())) {
                    throw new CommandException(out + " is the base model, which would be lost");
                }
            }
        }
        var weights = peft ? PeftConverter.convert(in, model) : read(model);
        long before = size();
        weights.write(out, type);
        var written = AdapterFile.read(out);
        if (model != null) {
            written.check(model);
        }
        parent.main().shell().note("%s: %s, weights %s (%s), file %s, was %s".formatted(out, AdaptersInspectCommand.matrices(written),
                Units.bytes(written.byteSize()),
                AdaptersInspectCommand.types(written), Units.bytes(Files.size(out)), Units.bytes(before)));
        return Main.OK;
    }

    private LoraWeights read(List<GgufFile> model) {
        var adapter = AdapterFile.read(in);
        if (model != null) {
            adapter.check(model);
        }
        return LoraWeights.read(adapter);
    }

    /** Bytes of the input's weights on disk, before they may be overwritten. */
    private long size() throws IOException {
        if (Files.isRegularFile(in)) {
            return Files.size(in);
        }
        long bytes = 0;
        try (var files = Files.newDirectoryStream(in, "adapter_model*.safetensors")) {
            for (var file : files) {
                bytes += Files.size(file);
            }
        }
        return bytes;
    }
}
