package io.github.panamallama.examples.cli;

import io.github.panamallama.adapters.LoraArithmetic;
import io.github.panamallama.adapters.LoraWeights;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Writes the weighted sum of adapters as one. */
@Command(name = "combine", description = "Write the weighted sum of adapters as one adapter; of a single one, a scaled or smaller copy.",
        customSynopsis = "panama-llama adapters combine [OPTIONS] ADAPTER[:SCALE]... OUT")
final class AdaptersCombineCommand implements Callable<Integer> {
    @ParentCommand
    private AdaptersCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(arity = "2..*", paramLabel = "ADAPTER[:SCALE]... OUT",
            description = "LoRA or NOLA adapters as GGUF files, each with its scale (without it: 1); last the file to write.")
    private List<String> files;

    @Option(names = "--rank", paramLabel = "R",
            description = "Cut the sum to this rank, the nearest possible. Without it ranks add up and nothing is lost.")
    private Integer rank;

    @Option(names = "--name", paramLabel = "NAME", description = "The name of the result. Without it: the sum of the names.")
    private String name;

    @Option(names = "--type", paramLabel = "TYPE", defaultValue = "f16",
            description = "f32, f16, bf16, q8_0 or q4_0. Without it: ${DEFAULT-VALUE}.")
    private String typeName;

    @Option(names = "--force", description = "Overwrite OUT if it exists.")
    private boolean force;

    @Override
    public Integer call() throws Exception {
        var arguments = new AdapterArguments(spec, files);
        var type = GgmlType.byName(typeName).filter(LoraWeights.TYPES::contains)
                .orElseThrow(() -> new ParameterException(spec.commandLine(), "--type is '" + typeName + "'; adapters can be "
                        + String.join(", ", LoraWeights.TYPES.stream().map(GgmlType::label).toList())));
        if (rank != null && rank < 1) {
            throw new ParameterException(spec.commandLine(), "--rank is " + rank + "; it must be at least 1");
        }
        requireWritable(arguments);
        var terms = new ArrayList<LoraArithmetic.Term>();
        for (var adapter : arguments.adapters()) {
            terms.add(new LoraArithmetic.Term(LoraWeights.read(adapter.file()), adapter.scale()));
        }
        var sum = LoraArithmetic.sum(terms);
        var cut = rank == null ? null : LoraArithmetic.truncate(sum, rank);
        var result = cut == null ? sum : cut.adapter();
        (name == null ? result : result.withName(name)).write(arguments.out(), type);

        int highest = result.targets().stream().mapToInt(LoraWeights.Target::rank).max().orElseThrow();
        parent.main().shell().note(String.format(Locale.ROOT, "%s: %s, rank %d%s", arguments.out(),
                Units.bytes(Files.size(arguments.out())), highest,
                cut == null ? "" : String.format(Locale.ROOT, "; the cut changes the updates by %.2f %%", 100 * cut.error())));
        return Main.OK;
    }

    private void requireWritable(AdapterArguments arguments) throws Exception {
        var out = arguments.out();
        if (!Files.exists(out)) {
            return;
        }
        for (var adapter : arguments.adapters()) {
            if (Files.exists(adapter.file()) && Files.isSameFile(adapter.file(), out)) {
                throw new CommandException(out + " is an input; name another file");
            }
        }
        if (!force || Files.isDirectory(out)) {
            throw new CommandException(out
                    + (Files.isDirectory(out) ? " is a directory; name the file to write" : " exists; use --force or name another file"));
        }
    }
}
