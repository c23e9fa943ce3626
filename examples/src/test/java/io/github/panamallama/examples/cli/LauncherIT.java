package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** The launcher as a process, over the jars that this build has just made. */
@DisabledOnOs(OS.WINDOWS)
class LauncherIT {
    private static final Path LAUNCHER = Path.of("..", "panama-llama").toAbsolutePath().normalize();
    private static final Path APP = Path.of("target", "app").toAbsolutePath();

    /** Any JDK 25 of this machine: the one that runs the test. */
    private static final String JDK = System.getProperty("java.home");

    private record Result(int code, String out, String err) {
    }

    @TempDir
    Path folder;

    private Result run(Map<String, String> environment, Path directory, List<String> command) throws IOException, InterruptedException {
        var out = folder.resolve("out");
        var err = folder.resolve("err");
        var builder = new ProcessBuilder(command).directory(directory.toFile()).redirectOutput(out.toFile()).redirectError(err.toFile())
                .redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()));
        builder.environment().remove("PANAMA_LLAMA_JAVA_OPTS");
        builder.environment().putAll(environment);
        var process = builder.start();
        assertTrue(process.waitFor(120, TimeUnit.SECONDS), "the program hangs");
        return new Result(process.exitValue(), Files.readString(out), Files.readString(err));
    }

    private Map<String, String> app() {
        return Map.of("JAVA_HOME", JDK, "PANAMA_LLAMA_APP", APP.toString());
    }

    @Test
    void startsFromAnyFolderAndThroughASymbolicLink() throws Exception {
        var link = Files.createSymbolicLink(folder.resolve("llama"), LAUNCHER);
        var second = Files.createSymbolicLink(folder.resolve("again"), Path.of("llama"));
        for (var command : List.of(LAUNCHER, link, second)) {
            var result = run(app(), folder, List.of(command.toString(), "--version"));
            assertEquals(0, result.code, result.err);
            assertTrue(result.out.contains("llama.cpp 0.5.0"), result.out);
            assertEquals("", result.err);
        }
    }

    @Test
    void passesArgumentsWithBlanksAndExitCodesThrough() throws Exception {
        var missing = folder.resolve("no such * file.gguf").toString();
        var failure = run(app(), folder, List.of(LAUNCHER.toString(), "inspect", missing));
        assertEquals(1, failure.code);
        assertTrue(failure.err.contains(missing), failure.err);
        assertEquals(2, run(app(), folder, List.of(LAUNCHER.toString(), "inspect")).code);
    }

    @Test
    void whatIsClosedIsNotReadOrWritten() throws Exception {
        var in = run(app(), folder, List.of("bash", "-c", "\"$0\" tokenize <&-", LAUNCHER.toString()));
        assertEquals(new Result(0, "", ""), in);
        var out = run(app(), folder, List.of("bash", "-c", "echo 'int x' | \"$0\" tokenize >&-", LAUNCHER.toString()));
        assertEquals(1, out.code());
        assertTrue(out.err().startsWith("panama-llama: can't write the output: "), out.err());
    }

    @Test
    void withoutALocaleNamesAreUtf8() throws Exception {
        var environment = new HashMap<>(app());
        environment.put("LC_ALL", "C");
        var script = "f=$'\\xc3\\xa9.txt'; printf 'int x' > \"$f\" && exec \"$0\" tokenize \"$f\"";
        var result = run(environment, folder, List.of("bash", "-c", script, LAUNCHER.toString()));
        assertEquals(0, result.code(), result.err());
        assertTrue(result.out().contains("int"), result.out());
    }

    @Test
    void withoutAJdk25ItSaysWhatToInstallAndHowToPointToIt() throws Exception {
        var old = jdk("17.0.9");
        var result = run(Map.of("JAVA_HOME", old.toString(), "PANAMA_LLAMA_JDK_DIRS", folder.toString(), "PATH", old.resolve("bin")
                + ":/usr/bin:/bin"),
                folder, List.of(LAUNCHER.toString(), "--version"));
        assertEquals(1, result.code);
        assertTrue(result.err.startsWith("panama-llama: no JDK 25 found."), result.err);
        assertTrue(result.err.contains("JAVA_HOME: " + old), result.err);
        assertTrue(result.err.contains("sdk install java 25") && result.err.contains("JAVA_HOME=/path/to/jdk-25"), result.err);
        assertEquals("", result.out);
    }

    @Test
    void aJdk25AmongOthersIsFound() throws Exception {
        jdk("17.0.9");
        jdk("26");
        Files.createSymbolicLink(folder.resolve("the-right-one"), Path.of(JDK));
        var environment = Map.of("JAVA_HOME", "/nowhere", "PANAMA_LLAMA_JDK_DIRS", folder.toString(), "PATH",
                folder.resolve("jdk-17.0.9/bin") + ":/usr/bin:/bin",
                "PANAMA_LLAMA_APP", APP.toString());
        var result = run(environment, folder, List.of(LAUNCHER.toString(), "--version"));
        assertEquals(0, result.code, result.err);
        assertTrue(result.out.contains("Java 25"), result.out);
    }

    @Test
    void buildsTheFirstTimeAndThenOnlyWhenContentHasChanged() throws Exception {
        var project = project();
        var launcher = project.resolve("panama-llama").toString();
        var first = run(building(project), folder, List.of(launcher, "one"));
        assertEquals("one\n", first.out, first.err);
        assertTrue(first.err.contains("building once") && first.err.contains("ready"), first.err);
        assertEquals(1, builds(project));

        assertEquals("", run(building(project), folder, List.of(launcher, "two")).err, "the second start is quiet");
        Files.setLastModifiedTime(project.resolve("runtime/Source.java"), FileTime.from(Instant.now().plusSeconds(5)));
        assertEquals("two\n", run(building(project), folder, List.of(launcher, "two")).out);
        assertEquals(1, builds(project), "same content, another time");

        Files.writeString(project.resolve("runtime/Source.java"), "changed");
        var changed = run(building(project), folder, List.of(launcher, "three"));
        assertTrue(changed.err.contains("the sources have changed"), changed.err);
        assertEquals("three\n", changed.out);
        assertEquals(2, builds(project));
    }

    @Test
    void aFailedBuildShowsItsErrorsAndIsTriedAgain() throws Exception {
        var project = project();
        var launcher = project.resolve("panama-llama").toString();
        Files.writeString(project.resolve("fail"), "");
        var failed = run(building(project), folder, List.of(launcher));
        assertEquals(1, failed.code);
        assertTrue(failed.err.contains("the build failed") && failed.err.contains("[ERROR] something is wrong")
                && failed.err.contains("build.log"), failed.err);
        Files.delete(project.resolve("fail"));
        assertEquals(0, run(building(project), folder, List.of(launcher)).code);
    }

    @Test
    void missingToolsAreNamedWithTheirPackages() throws Exception {
        var project = project();
        var tools = Files.createDirectories(folder.resolve("few tools"));
        for (var tool : List.of("bash", "env", "find", "sort", "xargs", "cat", "sha256sum", "head", "sed", "mkdir", "rm", "touch", "mv",
                "cp", "tee", "awk")) {
            var real = Stream.of("/bin", "/usr/bin").map(bin -> Path.of(bin, tool)).filter(Files::isExecutable).findFirst();
            if (real.isPresent()) {
                script(tools.resolve(tool), "exec " + real.get() + " \"$@\"");
            }
        }
        var result = run(Map.of("JAVA_HOME", JDK, "PATH", tools.toString()), folder, List.of(project.resolve("panama-llama").toString()));
        assertEquals(1, result.code);
        for (var name : List.of("mvn", "cmake", "git", "apt-get install maven", "build-essential")) {
            assertTrue(result.err.contains(name), result.err);
        }
    }

    /** A project whose mvn takes no time: it copies a jar whose program prints its first argument, and counts its calls. */
    private Path project() throws Exception {
        var project = Files.createDirectories(folder.resolve("a project"));
        Files.copy(LAUNCHER, project.resolve("panama-llama"), StandardCopyOption.COPY_ATTRIBUTES);
        Files.writeString(project.resolve("pom.xml"), "<project/>");
        for (var module : List.of("ggml-src", "runtime", "examples")) {
            Files.createDirectories(project.resolve(module));
        }
        Files.writeString(project.resolve("runtime/Source.java"), "as it was");

        var classes = Files.createDirectories(project.resolve("bin/classes"));
        var sources = Files.createDirectories(project.resolve("bin/sources"));
        for (var name : List.of("Main", "WarmUp")) {
            Files.writeString(sources.resolve(name + ".java"), "package io.github.panamallama.examples.cli; class " + name
                    + " { public static void main(String[] a) { System.out.println(a.length > 0 ? a[0] : \"\"); } }");
        }
        assertEquals(0, ToolProvider.findFirst("javac").orElseThrow().run(System.out, System.err, "-d", classes.toString(),
                sources.resolve("Main.java").toString(), sources.resolve("WarmUp.java").toString()));
        assertEquals(0, ToolProvider.findFirst("jar").orElseThrow().run(System.out, System.err, "--create", "--file",
                project.resolve("bin/app.jar").toString(), "-C", classes.toString(), "."));
        script(project.resolve("bin/mvn"), """
                echo called >> bin/calls
                echo "[INFO] Building panama-llama: runtime 1.0            [1/1]"
                if [ -e fail ]; then echo "[ERROR] something is wrong"; exit 1; fi
                mkdir -p examples/target/app && cp bin/app.jar examples/target/app/
                """);
        for (var tool : List.of("cmake", "c++", "git")) {
            script(project.resolve("bin").resolve(tool), "exit 0");
        }
        return project;
    }

    private Map<String, String> building(Path project) {
        return Map.of("JAVA_HOME", JDK, "PATH", project.resolve("bin") + ":/usr/bin:/bin");
    }

    private static int builds(Path project) throws IOException {
        return Files.readAllLines(project.resolve("bin/calls")).size();
    }

    /** A folder that looks like a JDK of another version and would fail if it were started. */
    private Path jdk(String version) throws IOException {
        var home = Files.createDirectories(folder.resolve("jdk-" + version));
        Files.writeString(home.resolve("release"), "JAVA_VERSION=\"" + version + "\"\n");
        for (var tool : List.of("java", "javac")) {
            script(Files.createDirectories(home.resolve("bin")).resolve(tool), "echo 'openjdk version \"" + version + "\"' >&2\nexit 3");
        }
        return home;
    }

    private static void script(Path file, String body) throws IOException {
        Files.writeString(file, "#!/bin/sh\n" + body + "\n");
        assertTrue(file.toFile().setExecutable(true));
    }
}
