package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** From the start of a process to the first piece of an answer: the launcher, as users start it. */
final class StartUp {
    private static final String SOURCE = "class Point {\n    int x() {\n        return \n    }\n}\n";
    /** Milliseconds to the first token of the shipped model. */
    private static final double LIMIT = 600;

    private StartUp() {
    }

    static void measure(Path home, BenchModels.BenchModel model, int threads, int runs, Report report)
            throws IOException, InterruptedException {
        var file = Files.createTempFile("Point", ".java");
        try {
            Files.writeString(file, SOURCE);
            var command = new ArrayList<>(List.of(home.resolve("panama-llama").toString(), "complete", file + ":3", "-n", "8", "-t",
                    "" + threads));
            if (!model.shipped()) {
                command.addAll(List.of("-m", model.path().toString()));
            }
            firstByte(home, command);       // builds what is missing, and warms the cache of files
            var first = new double[runs];
            var whole = new double[runs];
            for (int i = 0; i < runs; i++) {
                var run = firstByte(home, command);
                first[i] = run[0];
                whole[i] = run[1];
            }
            var interval = Statistics.medianInterval(0.95, first);
            System.out.printf(Locale.ROOT, "  start-up: %.0f ms to the first token (%.0f to %.0f), %.0f ms to the end%n",
                    Statistics.median(first), interval.low(), interval.high(), Statistics.median(whole));
            report.add(List.of(
                    new Report.TokenCost("start of the process to the first token, median of " + runs + ", " + model.name(),
                            Statistics.median(first), Double.NaN, "ms", model.shipped() ? LIMIT : Double.POSITIVE_INFINITY),
                    new Report.TokenCost("start of the process to its end, 8 tokens, median of " + runs + ", " + model.name(),
                            Statistics.median(whole), Double.NaN, "ms", Double.POSITIVE_INFINITY)));
        } finally {
            Files.delete(file);
        }
    }

    /** Milliseconds from before the process is started to its first byte of output, and to its end. */
    private static double[] firstByte(Path home, List<String> command) throws IOException, InterruptedException {
        long start = System.nanoTime();
        var process = new ProcessBuilder(command).directory(home.toFile()).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        process.getOutputStream().close();
        int first = process.getInputStream().read();
        long answered = System.nanoTime();
        var rest = process.getInputStream().readAllBytes();
        int code = process.waitFor();
        if (first < 0 || code != 0) {
            throw new IOException(String.join(" ", command) + " ended with " + code + " and " + new String(rest, StandardCharsets.UTF_8));
        }
        return new double[] {(answered - start) / 1e6, (System.nanoTime() - start) / 1e6};
    }
}
