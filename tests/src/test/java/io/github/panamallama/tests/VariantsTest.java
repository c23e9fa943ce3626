package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/**
 * The portable build, which a released jar holds: every library of ggml's CPU back end that runs on this processor gives the perplexities
 * of the build for this very machine, with our kernels and block types. The build takes long the first time, hence the property.
 */
@EnabledIfSystemProperty(named = "panamallama.variants", matches = "true",
        disabledReason = "builds for all processor generations; run it with -Dpanamallama.variants=true")
class VariantsTest {
    /** What the order of sums and the rounding of activations to 8 bits may change. */
    private static final double RELATIVE = 0.01;
    private static final Pattern ESTIMATE = Pattern.compile("Final estimate: PPL = ([\\d.]+)");
    private static final Pattern LIBRARY = Pattern.compile("libggml-cpu-([\\w.]+)\\.(so|dylib)");

    @TempDir
    private Path folder;

    @Test
    void everyVariantThatRunsHereGivesTheSamePerplexities() throws Exception {
        var text = Files.writeString(folder.resolve("text.txt"), JavaText.below(Project.HOME.resolve("runtime/src/main/java")));
        var sparse = folder.resolve("sparse.gguf");
        Commands.run("sparsify", Models.shippedF16().toString(), sparse.toString(), "--type", "S24_Q4", "--method", "magnitude")
                .succeeded();
        var works = new LinkedHashMap<String, List<String>>();
        works.put("Q8_0, prompts", work(Models.shippedQ8(), text, 512, 8));
        works.put("S24_Q4, prompts", work(sparse, text, 512, 8));
        works.put("Q8_0, token by token", work(Models.shippedQ8(), text, 64, 2, "-ub", "1"));
        works.put("S24_Q4, token by token", work(sparse, text, 64, 2, "-ub", "1"));

        var portable = portable();
        var ran = new ArrayList<String>();
        for (var variant : variants(portable)) {
            var natives = only(portable, variant);
            for (var work : works.entrySet()) {
                var result = run(natives, work.getValue());
                if (result.error().contains("no CPU back end of ggml runs on this processor")) {
                    System.out.println(variant + ": not for this processor");
                    break;
                }
                double expected = estimate(run(Project.natives(), work.getValue()));
                double got = estimate(result);
                System.out.printf("%s, %s: %.4f, built for this machine %.4f%n", variant, work.getKey(), got, expected);
                assertEquals(expected, got, RELATIVE * expected, variant + ", " + work.getKey());
                ran.add(variant);
            }
        }
        assertTrue(ran.stream().anyMatch(List.of("x64", "armv8.0_1", "apple_m1")::contains), "the plainest one runs everywhere: " + ran);

        // all together: ggml takes the best of them
        for (var work : works.values()) {
            double expected = estimate(run(Project.natives(), work));
            assertEquals(expected, estimate(run(portable, work)), RELATIVE * expected);
        }
    }

    private static List<String> work(Path model, Path text, int window, int chunks, String... more) {
        var arguments = new ArrayList<>(List.of("perplexity", "-m", model.toString(), "-c", "" + window, "--chunks", "" + chunks));
        arguments.addAll(List.of(more));
        arguments.add(text.toString());
        return arguments;
    }

    private static Path portable() throws IOException, InterruptedException {
        var built = Project.run(List.of(Project.HOME.resolve("ggml-src/build").toString(), "--portable"), "").succeeded();
        return Path.of(built.out().strip().lines().toList().getLast());
    }

    private static List<String> variants(Path natives) throws IOException {
        try (var files = Files.list(natives.resolve("lib"))) {
            return files.map(file -> LIBRARY.matcher(file.getFileName().toString())).filter(Matcher::matches)
                    .map(match -> match.group(1)).sorted().toList();
        }
    }

    /** The same build with one library of the CPU back end only. */
    private Path only(Path natives, String variant) throws IOException {
        var one = folder.resolve(variant);
        Files.createDirectories(one.resolve("lib"));
        var kept = new ArrayList<String>();
        try (var files = Files.list(natives.resolve("lib"))) {
            for (var file : files.toList()) {
                var name = file.getFileName().toString();
                var library = LIBRARY.matcher(name);
                if (!library.matches() || library.group(1).equals(variant)) {
                    Files.copy(file, one.resolve("lib").resolve(name));
                    kept.add(name);
                }
            }
        }
        var properties = new Properties();
        properties.load(new StringReader(Files.readString(natives.resolve("natives.properties"))));
        var modules = new ArrayList<>(List.of(properties.getProperty("modules").split(",")));
        modules.retainAll(kept);
        properties.setProperty("modules", String.join(",", modules));
        try (var out = Files.newBufferedWriter(one.resolve("natives.properties"))) {
            properties.store(out, null);
        }
        return one;
    }

    private static Project.Result run(Path natives, List<String> arguments) throws IOException, InterruptedException {
        var command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx1g",
                "--enable-native-access=ALL-UNNAMED", "-Dpanamallama.natives=" + natives, "-cp", System.getProperty("java.class.path"),
                "io.github.panamallama.examples.cli.Main"));
        command.addAll(arguments);
        return Project.run(command, "");
    }

    private static double estimate(Project.Result result) {
        var matcher = ESTIMATE.matcher(result.succeeded().out());
        assertTrue(matcher.find(), () -> "no estimate in: " + result.out());
        return Double.parseDouble(matcher.group(1));
    }
}
