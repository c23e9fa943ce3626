package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.Activations;
import io.github.panamallama.quantization.ImportanceMatrix;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Writes an importance matrix. */
@Command(name = "imatrix", description = "Write how much each column of a model's matrices matters on a text, in the format of llama.cpp's "
        + "llama-imatrix, for 'quantize --imatrix'.")
final class ImatrixCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(index = "0", paramLabel = "TEXT",
            description = "A text file of the kind that the model is for, two windows of tokens or more.")
    private Path text;

    @Parameters(index = "1", paramLabel = "OUT", description = "The file to write, a GGUF file.")
    private Path out;

    @Option(names = {"--overwrite", "--force"}, description = "Overwrite OUT if it exists.")
    private boolean overwrite;

    @Mixin
    private ModelMixin model;

    @Mixin
    private CalibrationMixin calibration;

    @Override
    public Integer call() {
        if (Files.exists(out) && !overwrite) {      // before the text is evaluated
            throw new CommandException(out + " exists; --overwrite replaces it");
        }
        Sources.requireWritable(out);
        var source = Sources.read(text);
        int threads = calibration.threads(spec.commandLine());
        var columns = new LinkedHashMap<String, Integer>();
        for (var part : GgufFile.readParts(model.path())) {
            for (var tensor : part.tensors()) {
                if (tensor.name().startsWith("blk.") && tensor.name().endsWith(".weight") && tensor.shape().size() > 1) {
                    columns.put(tensor.name(), Math.toIntExact(tensor.shape().getFirst()));
                }
            }
        }
        try (var loaded = model.load(main); var activations = Activations.open(loaded, columns,
                calibration.of(spec.commandLine(), source), threads, CalibrationMixin.progress(main))) {
            var matrix = ImportanceMatrix.gather(activations, new ArrayList<>(columns.keySet()), text.toString());
            matrix.write(out, overwrite);
            var missing = columns.keySet().stream().filter(name -> !activations.readable(name)).toList();
            if (!missing.isEmpty()) {
                main.shell().note("without " + missing.size() + " matrices whose inputs can't be read, " + missing.getFirst()
                        + (missing.size() > 1 ? " and others" : ""));
            }
            main.shell().note(String.format(Locale.ROOT, "%s: %d matrices on %d tokens", out, matrix.weights().size(),
                    activations.tokens()));
        }
        return Main.OK;
    }
}
