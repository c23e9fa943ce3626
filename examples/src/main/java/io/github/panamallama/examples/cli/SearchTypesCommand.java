package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.quantization.TypeSearch;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Finds a type for each matrix. */
@Command(name = "search-types", description = {
        "Find a type for each matrix of a model, for 'quantize --plan', so that it has a given size and writes most nearly what it wrote.",
        "",
        "Evolutionary search (EvoPress) over mixes of dense and 2:4 sparse types. What a mix costs is told as the KL divergence of its",
        "next-token distribution from the model's, in nats per token, on an eighth of the text, which the search does not see."})
final class SearchTypesCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "IN", description = "A GGUF file in F32, F16 or BF16; of a split model the first part.")
    private Path in;

    @Option(names = "--bpw", paramLabel = "BITS", required = true, description = "Bits per weight of the whole model.")
    private double bits;

    @Option(names = "--calib", paramLabel = "TEXT", required = true,
            description = "A text file of the kind that the model is for, two windows of tokens or more.")
    private Path text;

    @Option(names = "-o", paramLabel = "FILE", required = true, description = "Write the plan there.")
    private Path out;

    @Option(names = "--types", paramLabel = "TYPE,...", split = ",",
            description = "Types to choose from. Without it: dense types from IQ2_XS to Q8_0, and S24_T, S24_Q4 and S24_Q8.")
    private List<String> names;

    @Option(names = "--method", paramLabel = "METHOD",
            description = "How sparse matrices are pruned: magnitude, wanda or sparsegpt. Default: ${DEFAULT-VALUE}.")
    private Method method = Method.SPARSEGPT;

    @Mixin
    private TypeSearchMixin search;

    @Mixin
    private CalibrationMixin calibration;

    @Override
    public Integer call() {
        Sources.requireWritable(out);
        TypeSearch types;
        try {
            types = search.of(spec.commandLine(), TypeSearch.to(bits)).withMethod(method);
            if (names != null) {
                types = types.withTypes(names.stream().map(this::type).toList());
            }
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage());
        }
        var result = types.run(in, text, calibration.of(spec.commandLine(), Sources.read(text)),
                search.resources(main, calibration.threads(spec.commandLine())));
        result.plan().write(out);
        result.fixed().forEach((name, why) -> main.shell().note(name + " stays as it is: " + why));
        main.shell().println(String.format(Locale.ROOT, "%.3f bits per weight, %.4f nats per token from the model, on held-out text; %s",
                result.plan().found().bitsPerWeight(), result.heldOut(), counts(result)));
        main.shell().note("written to " + out + ", for quantize --plan");
        return Main.OK;
    }

    private GgmlType type(String name) {
        return GgmlType.byName(name).orElseThrow(() -> new ParameterException(spec.commandLine(), "--types: '" + name
                + "' is no type of a tensor; " + TypeSearch.TYPES.stream().map(GgmlType::label).collect(Collectors.joining(" "))
                + " and others are"));
    }

    private static String counts(TypeSearch.Result result) {
        return result.plan().types().values().stream().collect(Collectors.groupingBy(type -> type, TreeMap::new,
                Collectors.counting())).entrySet().stream().map(entry -> entry.getValue() + " " + entry.getKey().label())
                .collect(Collectors.joining(", "));
    }
}
