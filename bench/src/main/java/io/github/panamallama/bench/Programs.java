package io.github.panamallama.bench;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Child processes that run to their end. */
final class Programs {
    private static final File NOTHING = new File("/dev/null");

    private Programs() {
    }

    record Result(String out, String error) {
    }

    /** Runs a program and returns what it printed; an exit code other than 0 is an error that shows the end of the output. */
    static Result run(Path directory, List<String> command) throws IOException, InterruptedException {
        var process = new ProcessBuilder(command).directory(directory.toFile())
                .redirectInput(ProcessBuilder.Redirect.from(NOTHING)).start();
        var error = CompletableFuture.supplyAsync(() -> {
            try {
                return new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
        var out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int code = process.waitFor();
        var result = new Result(out, error.join());
        if (code != 0) {
            var all = result.out() + result.error();
            throw new IOException(String.join(" ", command) + " ended with " + code + ":\n"
                    + all.substring(Math.max(0, all.length() - 4000)));
        }
        return result;
    }
}
