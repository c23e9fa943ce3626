package io.github.panamallama.tests;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Where things are, and child processes. */
final class Project {
    /** Root of the checkout. */
    static final Path HOME = home();

    private Project() {
    }

    private static Path home() {
        var given = System.getProperty("panamallama.home");
        var start = given != null ? Path.of(given) : Path.of("").toAbsolutePath();
        for (var folder = start.toAbsolutePath(); folder != null; folder = folder.getParent()) {
            if (Files.exists(folder.resolve("ggml-src/build"))) {
                return folder;
            }
        }
        throw new IllegalStateException("no checkout around " + start + "; set -Dpanamallama.home");
    }

    /** The folder of large files that stand beside the checkout, where it exists. */
    static Path shared() {
        var given = System.getProperty("panamallama.shared", System.getenv("PANAMA_LLAMA_SHARED"));
        return given != null ? Path.of(given) : HOME.resolveSibling("shared");
    }

    /** What a child process did. */
    record Result(int code, String out, String error) {
        Result succeeded() {
            if (code != 0) {
                throw new AssertionError("exit code " + code + "\n" + out + error);
            }
            return this;
        }
    }

    static Result run(List<String> command, String input) throws IOException, InterruptedException {
        var process = new ProcessBuilder(command).directory(HOME.toFile()).start();
        var error = read(process.getErrorStream());
        var out = read(process.getInputStream());
        try (var stdin = process.getOutputStream()) {
            stdin.write(input.getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            // the child ended without reading everything; its exit code tells
        }
        return new Result(process.waitFor(), out.join(), error.join());
    }

    private static CompletableFuture<String> read(InputStream stream) {
        return CompletableFuture.supplyAsync(() -> {
            try {
                return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }, Thread::startVirtualThread); // the common pool may have a single thread, which the other stream keeps
    }

    /** Runs {@code main} in a JVM of its own with this one's class path: what might end a JVM ends only that one. */
    static Result java(Class<?> main, String... arguments) throws IOException, InterruptedException {
        return java(main.getName(), arguments);
    }

    static Result java(String main, String... arguments) throws IOException, InterruptedException {
        return java(main, List.of(arguments), "");
    }

    static Result java(String main, List<String> arguments, String input) throws IOException, InterruptedException {
        return run(javaCommand(main, arguments), input);
    }

    /** The command that starts it. */
    static List<String> javaCommand(String main, List<String> arguments) {
        var command = new ArrayList<String>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-CreateCoredumpOnCrash",
                "-XX:ErrorFile=/dev/null",
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path")));
        command.add(main);
        command.addAll(arguments);
        return command;
    }

    /** What {@code ggml-src/build} prints: the folder of the libraries and headers that the tests' JVM runs on too. */
    static Path natives() throws IOException, InterruptedException {
        return Natives.FOLDER;
    }

    /** Folder of upstream's own programs, built on first use (some minutes). */
    static Path tools() throws IOException, InterruptedException {
        return Tools.FOLDER;
    }

    /** Where the programs of llama.cpp exactly as released are, if they are built. */
    static Path releasedTools() throws IOException, InterruptedException {
        var key = run(List.of(HOME.resolve("ggml-src/build").toString(), "--unpatched", "--print-key"), "").succeeded().out().strip();
        return natives().resolveSibling(key).resolve("bin");
    }

    private static final class Natives {
        static final Path FOLDER = build();
    }

    private static final class Tools {
        static final Path FOLDER = build("--tools");
    }

    private static Path build(String... options) {
        var command = new ArrayList<String>();
        command.add(HOME.resolve("ggml-src/build").toString());
        command.addAll(List.of(options));
        try {
            var lines = run(command, "").succeeded().out().lines().map(String::strip).filter(line -> !line.isEmpty()).toList();
            return Path.of(lines.getLast());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
