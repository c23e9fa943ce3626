package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.ImportanceMatrix;
import io.github.panamallama.quantization.PlannedQuantizer;
import io.github.panamallama.quantization.TypePlan;
import io.github.panamallama.runtime.Quantizer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
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

/** Writes a model with its weights in another type. */
@Command(name = "quantize", description = "Write a model with its weights in another type.")
final class QuantizeCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "IN", converter = ModelFile.class, description = "A GGUF file, best in F32, F16 or BF16.")
    private Path in;

    @Parameters(index = "1", paramLabel = "OUT", description = "The file to write.")
    private Path out;

    @Parameters(index = "2", arity = "0..1", paramLabel = "TYPE",
            description = "For instance Q8_0, Q6_K, Q5_K_M, Q4_K_M, IQ4_XS, Q4_0, F16; any other word lists all. Not with --plan.")
    private String typeName;

    @Option(names = {"-t", "--threads"}, paramLabel = "N", description = "CPU threads. Without it: all.")
    private int threads;

    @Option(names = "--force", description = "Overwrite OUT if it exists.")
    private boolean force;

    @Option(names = "--allow-requantize", description = "Also from types that are quantized already, which costs quality.")
    private boolean requantize;

    @Option(names = "--pure", description = "The same type for all matrices, without the usual mix.")
    private boolean pure;

    @Option(names = "--leave-output-tensor", description = "Keep the output matrix as it is.")
    private boolean leaveOutput;

    @Option(names = "--imatrix", paramLabel = "FILE",
            description = "How much each column matters, a file that 'imatrix' wrote; types below 2.5 bits need one.")
    private Path imatrix;

    @Option(names = "--plan", paramLabel = "FILE", description = "A type for each matrix, a file that 'search-types' wrote for this model.")
    private Path plan;

    @Option(names = "--calib", paramLabel = "TEXT",
            description = "With --plan: where the text is that the plan was found with. Without it: where it was then.")
    private Path text;

    @Override
    public Integer call() throws Exception {
        if ((typeName == null) == (plan == null)) {
            throw new ParameterException(spec.commandLine(), "either a TYPE or --plan is needed");
        }
        if (threads < 0) {
            throw new ParameterException(spec.commandLine(), "-t is " + threads + "; it must be at least 1");
        }
        if (plan == null && text != null || plan != null && (imatrix != null || pure || leaveOutput || requantize)) {
            throw new ParameterException(spec.commandLine(), plan == null ? "--calib is for --plan; see --imatrix"
                    : "a plan says everything about types and rounding; --imatrix, --pure, --leave-output-tensor and --allow-requantize "
                            + "are for a TYPE");
        }
        long before = Files.isRegularFile(in) ? Files.size(in) : 0;
        long start = System.nanoTime();
        if (plan != null) {
            byPlan();
        } else {
            byType();
        }
        main.shell().note(String.format(Locale.ROOT, "%s: %s, was %s; %.1f s", out, Units.bytes(Files.size(out)), Units.bytes(before),
                (System.nanoTime() - start) / 1e9));
        return Main.OK;
    }

    private void byPlan() {
        var types = TypePlan.read(plan);
        var quantizer = PlannedQuantizer.of(in, types).withThreads(threads).withOverwrite(force)
                .withProgress(CalibrationMixin.progress(main));
        var from = types.text().map(known -> text != null ? text : Path.of(known.path()));
        if (text == null && from.isPresent() && !Files.exists(from.get())) {
            throw new CommandException("the text that the plan was found with is no longer at " + from.get()
                    + "; --calib says where it is");
        }
        quantizer.run(from.map(Sources::read).orElse(null), out);
    }

    private void byType() {
        var type = Quantizer.Type.byName(typeName).orElseThrow(() -> new ParameterException(spec.commandLine(),
                "'" + typeName + "' is no type; the types are "
                        + Arrays.stream(Quantizer.Type.values()).map(Enum::name).collect(Collectors.joining(" "))));
        var quantizer = Quantizer.to(type).withThreads(threads).withOverwrite(force).withRequantize(requantize).withPure(pure)
                .withOutputTensor(!leaveOutput);
        if (imatrix != null) {
            quantizer = quantizer.withImportance(ImportanceMatrix.read(imatrix).means());
        }
        quantizer.run(in, out);
    }
}
