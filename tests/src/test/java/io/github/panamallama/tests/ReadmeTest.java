package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a newcomer copies from the README works. */
class ReadmeTest {
    private static final Pattern EXAMPLE = Pattern.compile("```java\\R(.*?)```", Pattern.DOTALL);
    private static final Pattern CLASS = Pattern.compile("class (\\w+)");

    @TempDir
    private Path folder;

    @Test
    void javaExamplesCompileWithoutWarningsAndRun() throws Exception {
        var readme = Files.readString(Project.HOME.resolve("README.md"));
        var examples = EXAMPLE.matcher(readme).results().map(match -> match.group(1)).toList();
        assertFalse(examples.isEmpty(), "the README has no Java example");
        int records = 0;
        for (var example : examples) {
            var name = CLASS.matcher(example);
            assertTrue(name.find(), () -> "not a whole class: " + example);
            var classes = compile(name.group(1), example);
            var arguments = example.contains(".adapter(") ? List.of(adapter().toString()) : List.<String>of();
            var result = runExample(classes, name.group(1), arguments);
            assertTrue(result.out().strip().length() > 20, () -> "printed next to nothing: " + result.out());
            if (example.contains("record City(")) {
                assertTrue(result.out().matches("City\\[name=(?s:.*), population=-?\\d+]\\R"), () -> "no record: " + result.out());
                records++;
            }
        }
        assertEquals(1, records, "the README shows a record from a prompt");
    }

    private Path compile(String name, String source) throws Exception {
        var file = Files.writeString(folder.resolve(name + ".java"), source);
        var classes = Files.createDirectories(folder.resolve("classes"));
        var messages = new StringWriter();
        var compiler = ToolProvider.getSystemJavaCompiler();
        try (var files = compiler.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8)) {
            boolean good = compiler.getTask(messages, files, null,
                    List.of("-Xlint:all,-processing", "-Werror", "-d", classes.toString(), "-cp",
                            System.getProperty("java.class.path")), null,
                    files.getJavaFileObjects(file)).call();
            assertTrue(good, messages::toString);
        }
        return classes;
    }

    /** Any adapter of the shipped model. */
    private Path adapter() {
        return RandomAdapter.of(1).write(GgufFile.read(Models.shippedQ8()), folder.resolve("house-style.gguf"));
    }

    private static Project.Result runExample(Path classes, String name, List<String> arguments) throws Exception {
        var command = new ArrayList<String>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-cp",
                classes + System.getProperty("path.separator") + System.getProperty("java.class.path"), name));
        command.addAll(arguments);
        return Project.run(command, "").succeeded();
    }
}
