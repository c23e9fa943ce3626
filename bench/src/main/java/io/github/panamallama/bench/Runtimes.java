package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * Other runtimes for Java on the same file, each in a JVM of its own: a small program of {@code src/main/runtimes} over artifacts that
 * Maven fetches when this runs, so that the project depends on none of them. Whatever doesn't run is reported with its reason.
 */
final class Runtimes {
    private static final Pattern TIMES = Pattern.compile("times (\\d+) (\\d+) (\\d+)");
    private static final int MINUTES = 10;

    /** @param artifact Maven coordinates; null for this project */
    private record Candidate(String name, String artifact, String program, List<String> jvm) {
    }

    private static final List<Candidate> ALL = List.of(
            new Candidate("panama-llama", null, "PanamaLlama.java", List.of("--enable-native-access=ALL-UNNAMED")),
            new Candidate("de.kherud:llama", "de.kherud:llama:4.2.0", "Kherud.java", List.of("--enable-native-access=ALL-UNNAMED")),
            new Candidate("com.github.tjake:jlama-core", "com.github.tjake:jlama-core:0.8.4", "Jlama.java",
                    List.of("--enable-native-access=ALL-UNNAMED", "--add-modules=jdk.incubator.vector", "--enable-preview", "--source",
                            "25")));

    private final Path home;
    private final Path folder;
    private final int threads;

    Runtimes(Path home, int threads) throws IOException {
        this.home = home;
        this.threads = threads;
        folder = Files.createDirectories(home.resolve("bench/target/runtimes"));
    }

    void measure(BenchModels.BenchModel model, int tokens, int rounds, Report report) throws IOException, InterruptedException {
        var prompt = Files.writeString(folder.resolve("prompt.txt"), GenerationWork.JAVA_PROMPT.strip());
        var first = new ArrayList<List<Double>>();
        var rates = new ArrayList<List<Double>>();
        var failures = new ArrayList<String>();
        for (var candidate : ALL) {
            first.add(new ArrayList<>());
            rates.add(new ArrayList<>());
            failures.add(null);
        }
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < ALL.size(); i++) {
                if (failures.get(i) != null) {
                    continue;
                }
                var output = run(ALL.get(i), model.path(), prompt, tokens);
                var times = TIMES.matcher(output);
                if (times.find() && Long.parseLong(times.group(3)) > 0) {
                    first.get(i).add(Long.parseLong(times.group(1)) / 1e6);
                    rates.get(i).add(1e9 * Long.parseLong(times.group(3)) / Long.parseLong(times.group(2)));
                    System.out.printf(Locale.ROOT, "  %s: %.2f t/s%n", ALL.get(i).name(), rates.get(i).getLast());
                } else {
                    failures.set(i, reason(output));
                    System.out.println("  " + ALL.get(i).name() + ": " + failures.get(i));
                }
            }
        }
        var rows = new ArrayList<List<String>>();
        for (int i = 0; i < ALL.size(); i++) {
            var name = ALL.get(i).artifact() == null ? ALL.get(i).name() : ALL.get(i).artifact();
            rows.add(failures.get(i) != null ? List.of(name, "", "", failures.get(i))
                    : List.of(name, String.format(Locale.ROOT, "%.0f", median(first.get(i))), Report.rate(median(rates.get(i))), "ran"));
        }
        report.add(new Report.Table("Runtimes for Java, " + model.name(), "A greedy text of " + tokens + " tokens, piece by piece, "
                + threads + " threads, each in a JVM of its own after a short text to warm up; median of " + rounds + " JVMs in turn. "
                + "`bench/src/main/runtimes` has the programs.",
                List.of("runtime", "prompt to first piece, ms", "tokens/s after it", "result"), rows));
    }

    private static double median(List<Double> values) {
        return Statistics.median(values.stream().mapToDouble(Double::doubleValue).toArray());
    }

    /** All that the program printed, with what Maven said where it found nothing. */
    private String run(Candidate candidate, Path model, Path prompt, int tokens) throws IOException, InterruptedException {
        String path;
        try {
            path = classPath(candidate);
        } catch (IOException e) {
            return "not fetched: " + e.getMessage();
        }
        var command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.addAll(candidate.jvm());
        command.addAll(List.of("-cp", path, home.resolve("bench/src/main/runtimes").resolve(candidate.program()).toString(),
                model.toString(), prompt.toString(), "" + tokens, "" + threads));
        var log = folder.resolve(candidate.program() + ".log");
        var process = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (!process.waitFor(MINUTES, TimeUnit.MINUTES)) {
            process.destroyForcibly();
            return Files.readString(log) + "\nError: did not end within " + MINUTES + " minutes";
        }
        return Files.readString(log) + (process.exitValue() == 0 ? "" : "\nexit code " + process.exitValue());
    }

    private String classPath(Candidate candidate) throws IOException, InterruptedException {
        if (candidate.artifact() == null) {
            return System.getProperty("java.class.path");
        }
        var parts = candidate.artifact().split(":");
        var project = Files.createDirectories(folder.resolve(parts[1]));
        var out = project.resolve("classpath");
        if (!Files.exists(out)) {
            Files.writeString(project.resolve("pom.xml"), """
                    <project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
                      <groupId>bench</groupId><artifactId>runtime</artifactId><version>1</version><packaging>pom</packaging>
                      <dependencies><dependency>
                        <groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version>
                      </dependency></dependencies></project>
                    """.formatted((Object[]) parts));
            Programs.run(project, List.of("mvn", "-B", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.11.0:build-classpath",
                    "-Dmdep.outputFile=" + out, "-Dmdep.includeScope=runtime"));
        }
        return Files.readString(out).strip();
    }

    /** The line that names an error, else the last one. */
    private static String reason(String output) {
        var lines = output.lines().map(String::strip).filter(line -> !line.isEmpty() && !line.startsWith("at ")).toList();
        var named = lines.stream().filter(line -> line.matches(".*(Exception|Error|error:|SIG\\w+|ERROR).*")).findFirst();
        var line = named.orElse(lines.isEmpty() ? "no output" : lines.getLast());
        return "failed: " + line.substring(0, Math.min(line.length(), 300));
    }
}
