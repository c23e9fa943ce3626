package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.ImportanceMatrix;
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

    @Parameters(index = "0", paramLabel = "IN", description = "A GGUF file, best in F32, F16 or BF16.")
    private Path in;

    @Parameters(index = "1", paramLabel = "OUT", description = "The file to write.")
    private Path out;

    @Parameters(index = "2", paramLabel = "TYPE", description = "For instance Q8_0, Q6_K, Q5_K_M, Q4_K_M, IQ4_XS, Q4_0, F16; any other word lists all.")
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

    @Override
    public Integer call() throws Exception {
        var type = Quantizer.Type.byName(typeName).orElseThrow(() -> new ParameterException(spec.commandLine(),
                "'" + typeName + "' is no type; the types are " + Arrays.stream(Quantizer.Type.values()).map(Enum::name).collect(Collectors.joining(" "))));
        if (threads < 0) {
            throw new ParameterException(spec.commandLine(), "-t is " + threads + "; it must be at least 1");
        }
        var quantizer = Quantizer.to(type).withThreads(threads).withOverwrite(force).withRequantize(requantize).withPure(pure)
                .withOutputTensor(!leaveOutput);
        if (imatrix != null) {
            quantizer = quantizer.withImportance(ImportanceMatrix.read(imatrix).means());
        }
        long before = Files.isRegularFile(in) ? Files.size(in) : 0;
        long start = System.nanoTime();
        quantizer.run(in, out);
        main.shell().note(String.format(Locale.ROOT, "%s: %s, was %s; %.1f s", out, Units.bytes(Files.size(out)), Units.bytes(before),
                (System.nanoTime() - start) / 1e9));
        return Main.OK;
    }
}
