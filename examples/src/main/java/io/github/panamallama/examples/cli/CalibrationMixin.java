package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.Calibration;
import io.github.panamallama.quantization.Progress;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** How a calibration text is read. */
final class CalibrationMixin {
    @Option(names = {"-c", "--ctx-size"}, paramLabel = "N", description = "Tokens of a window of the text. Default: ${DEFAULT-VALUE}.")
    private int window = Calibration.WINDOW;

    @Option(names = "--chunks", paramLabel = "N", description = "Windows that are read; all without it.")
    private int windows = Integer.MAX_VALUE;

    @Option(names = {"-t", "--threads"}, paramLabel = "N", description = "CPU threads that evaluate the text. Without it: one per core.")
    private int threads;

    int threads(CommandLine command) {
        if (threads < 0) {
            throw new ParameterException(command, "-t is " + threads + "; it must be at least 1");
        }
        return threads;
    }

    Calibration of(CommandLine command, String text) {
        try {
            return new Calibration(text, window, windows);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "-c and --chunks: " + e.getMessage());
        }
    }

    /** Ends the work on Ctrl-C. */
    static Progress progress(Main main) {
        return new Steps(main.shell(), main.interrupts()::raised, System::nanoTime);
    }
}
