package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The most memory that a process takes for the same text: the command line and llama.cpp's {@code llama-completion}. */
final class MemoryUse {
    private static final int CONTEXT = 1024;
    private static final int TOKENS = 64;
    private static final long GLANCE_MILLIS = 5;

    private MemoryUse() {
    }

    static void measure(Path home, Upstream upstream, List<BenchModels.BenchModel> models, int threads, Report report)
            throws IOException, InterruptedException {
        if (!Files.isReadable(Path.of("/proc/self/status"))) {
            report.add(Report.Table.notMeasured("Memory", "this system has no `/proc`, which tells it."));
            return;
        }
        var rows = new ArrayList<List<String>>();
        for (var model : models) {
            var work = List.of("-m", model.path().toString(), "-p", "int size", "-n", "" + TOKENS, "-c", "" + CONTEXT, "-t", "" + threads);
            var command = new ArrayList<>(List.of(home.resolve("panama-llama").toString(), "generate"));
            command.addAll(work);
            var ours = peak(home, command);
            command = new ArrayList<>(List.of(upstream.folder().resolve("llama-completion").toString(), "--ignore-eos", "-no-cnv",
                    "--no-display-prompt", "--simple-io"));
            command.addAll(work);
            var theirs = peak(home, command);
            long file = Files.size(model.path());
            rows.add(List.of(model.name(), mebibytes(file), mebibytes(ours.get("VmHWM")), mebibytes(ours.get("RssAnon")),
                    mebibytes(theirs.get("VmHWM")), mebibytes(theirs.get("RssAnon"))));
            System.out.println("  memory: " + rows.getLast());
        }
        report.add(new Report.Table("Memory", "MiB of a process that writes " + TOKENS + " tokens with a context of " + CONTEXT
                + ", looked up every " + GLANCE_MILLIS + " ms: the most that was resident, and the most that was resident of no file.",
                List.of("model", "file", "panama-llama generate", "of that not the file", "llama-completion", "of that not the file"),
                rows));
    }

    private static String mebibytes(Long bytes) {
        return bytes == null ? "unknown" : String.format(Locale.ROOT, "%.1f", bytes / 1048576.0);
    }

    /** The largest value of each figure while the process runs. The launcher becomes the JVM, so that one process is looked at. */
    static Map<String, Long> peak(Path home, List<String> command) throws IOException, InterruptedException {
        var log = Files.createTempFile("memory", ".log");
        try {
            var process = new ProcessBuilder(command).directory(home.toFile()).redirectErrorStream(true).redirectOutput(log.toFile())
                    .redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile())).start();
            var most = new HashMap<String, Long>();
            do {
                Resident.bytes(process.pid()).forEach((name, bytes) -> most.merge(name, bytes, Math::max));
            } while (!process.waitFor(Duration.ofMillis(GLANCE_MILLIS)));
            if (process.exitValue() != 0) {
                throw new IOException(String.join(" ", command) + " ended with " + process.exitValue() + ":\n" + Files.readString(log));
            }
            return most;
        } finally {
            Files.delete(log);
        }
    }
}
