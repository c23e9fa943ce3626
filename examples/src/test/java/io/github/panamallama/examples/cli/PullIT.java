package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The program as processes with an empty cache folder, against the JDK's own web server over files laid out as the hub has them. */
@Timeout(120)
class PullIT {
    private static final String MODEL = "org/Tiny-GGUF";
    private static final String FILE = "tiny-Q8_0.gguf";
    private static final String JAVA = Path.of(System.getProperty("java.home"), "bin", "java").toString();
    private static final Pattern PORT = Pattern.compile("http://127\\.0\\.0\\.1:(\\d+)/");

    private final List<String> requests = Collections.synchronizedList(new ArrayList<>());

    @TempDir
    Path folder;

    private Process server;
    private String endpoint;
    private Thread log;

    private record Result(int code, String out, String err) {
    }

    @BeforeEach
    void serve() throws IOException {
        var site = folder.resolve("site");
        var content = Files.createDirectories(site.resolve(MODEL + "/resolve/main"));
        Files.copy(DefaultModel.path(), content.resolve(FILE));
        var listing = Files.createDirectories(site.resolve("api/models/" + MODEL + "/tree")).resolve("main");
        Files.writeString(listing, """
                [{"type": "file", "path": "%s", "size": %d, "lfs": {"oid": "%s", "size": %d}}]"""
                .formatted(FILE, DefaultModel.SIZE, DefaultModel.SHA256, DefaultModel.SIZE));
        server = new ProcessBuilder(JAVA, "-m", "jdk.httpserver", "-b", "127.0.0.1", "-p", "0", "-d", site.toString(), "-o", "info")
                .redirectErrorStream(true).start();
        var out = new BufferedReader(server.inputReader());
        while (endpoint == null) {
            var line = out.readLine();
            assertNotNull(line, "the server ended");
            var port = PORT.matcher(line);
            endpoint = port.find() ? "http://127.0.0.1:" + port.group(1) : null;
        }
        log = Thread.ofVirtual().start(() -> out.lines().forEach(requests::add));
    }

    @AfterEach
    void stop() {
        server.destroyForcibly();
    }

    private ProcessBuilder program(String shell, String... arguments) {
        var command = Stream.concat(Stream.of(JAVA, "--enable-native-access=ALL-UNNAMED", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1",
                "-cp", Path.of("target", "app").toAbsolutePath() + "/*", "io.github.panamallama.examples.cli.Main"), Stream.of(arguments));
        var builder = shell == null ? new ProcessBuilder(command.toList()) : new ProcessBuilder("bash", "-c",
                shell + " && exec " + command.map(word -> "'" + word + "'").collect(Collectors.joining(" ")));
        builder.environment().put("HF_ENDPOINT", endpoint);
        builder.environment().put("PANAMA_LLAMA_CACHE", folder.resolve("cache").toString());
        builder.environment().remove("HF_TOKEN");
        return builder;
    }

    private Result finish(Process process) throws Exception {
        // each far below the size of a pipe's buffer
        var out = new String(process.getInputStream().readAllBytes());
        var err = new String(process.getErrorStream().readAllBytes());
        return new Result(process.waitFor(), out, err);
    }

    private Result run(String... arguments) throws Exception {
        return finish(program(null, arguments).start());
    }

    @Test
    void aPulledModelIsUsedByItsNameAndRemoved() throws Exception {
        var before = run("tokenize", "-m", MODEL);
        assertEquals(2, before.code, before.err);
        assertTrue(before.err.contains("panama-llama pull " + MODEL), before.err);

        var pulled = run("pull", MODEL);
        assertEquals(0, pulled.code, pulled.err);
        assertEquals(-1, Files.mismatch(DefaultModel.path(), Path.of(pulled.out.strip())));
        assertTrue(pulled.err.contains("100 %, 5.95 MiB of 5.95 MiB"), pulled.err);

        assertEquals(MODEL + ":Q8_0  5.95 MiB\n", run("list").out);
        assertTrue(run("list", "--json").out.contains(pulled.out.strip()));
        var text = run("generate", "-m", MODEL + ":q8_0", "-p", "int x = ", "-n", "4", "--temp", "0");
        assertEquals(0, text.code, text.err);
        assertEquals(run("generate", "-p", "int x = ", "-n", "4", "--temp", "0").out, text.out);
        assertEquals(0, run("inspect", MODEL).code);

        assertEquals(0, run("rm", MODEL).code);
        assertEquals("", run("list").out);
        var again = run("rm", MODEL);
        assertEquals(1, again.code);
        assertTrue(again.err.contains("not on this machine"), again.err);
        assertEquals(2, run("pull", "no-name").code);
        assertTrue(run("pull", "org/none").err.contains("no model org/none"));
    }

    @ParameterizedTest
    @CsvSource({"HF_ENDPOINT, ftp://host", "HF_ENDPOINT, no address at all", "HF_TOKEN, two words"})
    void anEnvironmentThatCannotBeRightIsAUsageError(String name, String value) throws Exception {
        for (var arguments : List.of(List.of("pull", MODEL), List.of("list"), List.of("rm", MODEL), List.of("tokenize", "-m", MODEL))) {
            var program = program(null, arguments.toArray(String[]::new));
            program.environment().put(name, value);
            var result = finish(program.start());
            assertEquals(2, result.code, arguments + ": " + result.err);
            assertEquals("", result.out);
            assertTrue(result.err.startsWith("panama-llama: ") && result.err.contains(name), result.err);
        }
    }

    @Test
    void processesThatPullAtOnceFetchOnce() throws Exception {
        var processes = new ArrayList<Process>();
        for (int i = 0; i < 3; i++) {
            processes.add(program(null, "pull", MODEL).start());
        }
        for (var process : processes) {
            var result = finish(process);
            assertEquals(0, result.code, result.err);
            assertEquals(-1, Files.mismatch(DefaultModel.path(), Path.of(result.out.strip())));
        }
        server.destroy();
        log.join();
        assertEquals(1, requests.stream().filter(line -> line.contains("/resolve/main/")).count(), requests.toString());
    }

    /** A limit on the size of files stands for a full disk: writes fail in the middle in the same way. */
    @Test
    @DisabledOnOs(OS.WINDOWS)
    void aFullDiskKeepsWhatArrivedAndSaysSo() throws Exception {
        var full = finish(program("ulimit -f 2000", "pull", MODEL).start());
        assertEquals(1, full.code, full.err);
        assertTrue(full.err.contains("can't write") && full.err.contains("Make room"), full.err);
        try (var files = Files.walk(folder.resolve("cache"))) {
            var partial = files.filter(path -> path.toString().endsWith(".part")).findFirst().orElseThrow();
            assertTrue(Files.size(partial) > 1_000_000, () -> "kept: " + partial);
        }
        assertEquals("", run("list").out);
        var pulled = run("pull", MODEL);
        assertEquals(0, pulled.code, pulled.err);
        assertEquals(-1, Files.mismatch(DefaultModel.path(), Path.of(pulled.out.strip())));
    }

    @Test
    void processesThatStartAtOnceUnpackTheNativesOnce() throws Exception {
        var processes = new ArrayList<Process>();
        for (int i = 0; i < 4; i++) {
            var process = program(null, "tokenize").start();
            process.getOutputStream().write("int x".getBytes());
            process.getOutputStream().close();
            processes.add(process);
        }
        for (var process : processes) {
            var result = finish(process);
            assertEquals(0, result.code, result.err);
            assertFalse(result.out.isBlank());
        }
        try (var unpacked = Files.list(folder.resolve("cache/unpacked"))) {
            assertEquals(1, unpacked.count());
        }
    }
}
