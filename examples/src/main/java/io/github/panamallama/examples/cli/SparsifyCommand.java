package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.PlannedQuantizer;
import io.github.panamallama.quantization.Sparsifier;
import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.quantization.TypeSearch;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Writes a model with 2:4 sparse matrices. */
@Command(name = "sparsify", description = {
        "Write a model whose matrices keep at most 2 of every 4 consecutive weights.",
        "",
        "Which ones: the largest (magnitude), the largest times the norm of their input (wanda), or those that the others can't make up",
        "for (sparsegpt, which changes what it keeps, and takes the most time). One-shot pruning costs much quality: measure it with",
        "'perplexity'. Embedding and output matrices stay as they are."})
final class SparsifyCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "IN", converter = ModelFile.class,
            description = "A GGUF file in F32, F16 or BF16; of a split model the first part.")
    private Path in;

    @Parameters(index = "1", paramLabel = "OUT", description = "The file to write.")
    private Path out;

    @Option(names = "--type", paramLabel = "TYPE", required = true,
            description = "S24_Q8, S24_Q4 or S24_T: 5.25, 3.25 or 1.69 bits per weight; kept weights have 8 bits, 4 bits or a sign.")
    private String typeName;

    @Option(names = "--calib", paramLabel = "TEXT",
            description = "A text file of the kind that the model is for, two windows of tokens or more.")
    private Path text;

    @Option(names = "--method", paramLabel = "METHOD",
            description = "magnitude, wanda or sparsegpt. Without it: sparsegpt where there is a text.")
    private Method method;

    @Option(names = "--keep-dense", paramLabel = "PATTERN",
            description = "Matrices that stay as they are: a regular expression that is found in their names, for instance attn_v. "
                    + "May be repeated.")
    private List<String> dense = List.of();

    @Option(names = "--bpw", paramLabel = "BITS", description = "Search which matrices stay dense, so that the whole model has so many "
            + "bits per weight and writes most nearly what it wrote. Needs --calib; other options about dense matrices don't apply.")
    private Double bits;

    @Option(names = "--dense-type", paramLabel = "TYPE",
            description = "With --bpw: the type of those that stay dense, for instance Q4_K. Without it: they stay as they are.")
    private String denseType;

    @Option(names = "--pure", description = "Embedding and output matrices too, by magnitude.")
    private boolean pure;

    @Option(names = {"--overwrite", "--force"}, description = "Overwrite OUT if it exists.")
    private boolean overwrite;

    @Option(names = "--allow-requantize", description = "Also from types that are quantized already, which costs quality.")
    private boolean requantize;

    @Mixin
    private CalibrationMixin calibration;

    @Mixin
    private TypeSearchMixin search;

    @Override
    public Integer call() throws Exception {
        var type = GgmlType.byName(typeName).filter(Sparsifier.TYPES::contains).orElseThrow(() -> new ParameterException(spec.commandLine(),
                "'" + typeName + "' is no sparse type; S24_Q8, S24_Q4 and S24_T are"));
        var wanted = method != null ? method : text != null ? Method.SPARSEGPT : Method.MAGNITUDE;
        if (wanted != Method.MAGNITUDE && text == null) {
            throw new ParameterException(spec.commandLine(), "--method " + wanted.name().toLowerCase(Locale.ROOT)
                    + " needs a text, --calib");
        }
        if (bits != null) {
            return search(type, wanted);
        }
        if (denseType != null) {
            throw new ParameterException(spec.commandLine(), "--dense-type is for --bpw, the size to search for");
        }
        var sparsifier = Sparsifier.of(in).withType(type).withDense(patterns()).withPure(pure).withOverwrite(overwrite)
                .withRequantize(requantize).withThreads(calibration.threads(spec.commandLine()))
                .withProgress(CalibrationMixin.progress(main))
                .withMethod(wanted, text == null ? null : calibration.of(spec.commandLine(), Sources.read(text)));
        long before = Files.size(in);
        long start = System.nanoTime();
        var result = sparsifier.run(out);
        result.dense().forEach((name, why) -> main.shell().note(name + " stays dense: " + why));
        result.notes().forEach((name, what) -> main.shell().note(name + ": " + what));
        main.shell().note(String.format(Locale.ROOT, "%s: %s, was %s; %d matrices are %s; %.1f s", out, Units.bytes(result.bytes()),
                Units.bytes(before), result.sparse().size(), type.label().toUpperCase(Locale.ROOT), (System.nanoTime() - start) / 1e9));
        return Main.OK;
    }

    private Integer search(GgmlType type, Method method) throws IOException {
        if (text == null || !dense.isEmpty() || requantize) {
            throw new ParameterException(spec.commandLine(), text == null ? "--bpw needs a text, --calib"
                    : "--bpw searches which matrices stay dense, in a model that isn't quantized; --keep-dense and --allow-requantize "
                            + "don't go with it");
        }
        if (Files.exists(out) && !overwrite) {      // before the search
            throw new CommandException(out + " exists; --overwrite replaces it");
        }
        Sources.requireWritable(out);
        var types = new ArrayList<>(List.of(type));
        if (denseType != null) {
            types.add(GgmlType.byName(denseType).orElseThrow(() -> new ParameterException(spec.commandLine(), "--dense-type: '" + denseType
                    + "' is no type of a tensor; q4_K is one")));
        }
        long before = Files.size(in);
        long start = System.nanoTime();
        int threads = calibration.threads(spec.commandLine());
        var source = Sources.read(text);
        TypeSearch searched;
        try {
            searched = search.of(spec.commandLine(), TypeSearch.to(bits)).withTypes(types).withOwn(denseType == null).withEnds(pure)
                    .withMethod(method);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage());
        }
        var found = searched.run(in, text, calibration.of(spec.commandLine(), source), search.resources(main, threads));
        long bytes = PlannedQuantizer.of(in, found.plan()).withOverwrite(overwrite).withThreads(threads)
                .withProgress(CalibrationMixin.progress(main)).run(source, out);
        found.fixed().forEach((name, why) -> main.shell().note(name + " stays dense: " + why));
        var stay = found.plan().types().entrySet().stream().filter(entry -> entry.getValue() != type && entry.getKey().startsWith("blk."))
                .map(Map.Entry::getKey).filter(name -> !found.fixed().containsKey(name)).toList();
        if (!stay.isEmpty()) {
            main.shell().note(stay.size() + " matrices stay dense: " + String.join(", ", stay));
        }
        main.shell().note(String.format(Locale.ROOT,
                "%s: %s, was %s; %d matrices are %s; %.4f nats per token from the model, on held-out text; %.1f s", out, Units.bytes(bytes),
                        Units.bytes(before),
                found.plan().types().values().stream().filter(own -> own == type).count(), type.label().toUpperCase(Locale.ROOT),
                found.heldOut(), (System.nanoTime() - start) / 1e9));
        return Main.OK;
    }

    private List<Pattern> patterns() {
        var patterns = new ArrayList<Pattern>();
        for (var pattern : dense) {
            try {
                patterns.add(Pattern.compile(pattern));
            } catch (PatternSyntaxException e) {
                throw new ParameterException(spec.commandLine(), "--keep-dense '" + pattern + "': " + e.getDescription());
            }
        }
        return patterns;
    }
}
