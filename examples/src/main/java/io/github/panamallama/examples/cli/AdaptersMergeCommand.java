package io.github.panamallama.examples.cli;

import io.github.panamallama.adapters.AdapterMerger;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
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

/** Writes a model with adapters merged into it. */
@Command(name = "merge", description = "Write a model with adapters merged into it.",
        customSynopsis = "panama-llama adapters merge [OPTIONS] BASE ADAPTER[:SCALE]... OUT")
final class AdaptersMergeCommand implements Callable<Integer> {
    @ParentCommand
    private AdaptersCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "BASE", converter = ModelFile.class,
            description = "The model, a GGUF file; of a split one the first part.")
    private Path base;

    @Parameters(index = "1..*", arity = "2..*", paramLabel = "ADAPTER[:SCALE]... OUT",
            description = "LoRA or NOLA adapters as GGUF files, each with its scale (without it: 1); last the file to write.")
    private List<String> files;

    @Option(names = "--type", paramLabel = "TYPE",
            description = "f32, f16 or bf16: the type of the merged matrices, while others stay as they are. Any other type of the "
                    + "quantize command, for instance Q4_K_M: quantize the whole model. Without it: as the base, f16 where that is "
                    + "quantized.")
    private String typeName;

    @Option(names = "--force", description = "Overwrite OUT if it exists.")
    private boolean force;

    @Override
    public Integer call() throws Exception {
        var arguments = new AdapterArguments(spec, files);
        var merger = typed(AdapterMerger.of(base)).withOverwrite(force);
        for (var adapter : arguments.adapters()) {
            merger = merger.with(adapter.file(), adapter.scale());
        }
        var shell = parent.main().shell();
        long start = System.nanoTime();
        merger.run(arguments.out());
        shell.note(String.format(Locale.ROOT, "%s: %s, %d adapter%s merged into %s; %.1f s", arguments.out(),
                Units.bytes(Files.size(arguments.out())),
                arguments.adapters().size(), arguments.adapters().size() == 1 ? "" : "s", base, (System.nanoTime() - start) / 1e9));
        return Main.OK;
    }

    private AdapterMerger typed(AdapterMerger merger) {
        if (typeName == null) {
            return merger;
        }
        var type = Quantizer.Type.byName(typeName).orElseThrow(() -> new ParameterException(spec.commandLine(), "'" + typeName
                + "' is no type; the types are " + Arrays.stream(Quantizer.Type.values()).map(Enum::name)
                .collect(Collectors.joining(" "))));
        return switch (type) {
            case F32 -> merger.withMatrixType(GgmlType.F32);
            case F16 -> merger.withMatrixType(GgmlType.F16);
            case BF16 -> merger.withMatrixType(GgmlType.BF16);
            default -> merger.withQuantization(type);
        };
    }
}
