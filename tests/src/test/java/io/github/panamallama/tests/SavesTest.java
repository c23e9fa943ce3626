package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.layers.Example;
import io.github.panamallama.layers.FirstRouter;
import io.github.panamallama.layers.PlanFile;
import io.github.panamallama.layers.RouterFile;
import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.strategy.EntropyThreshold;
import io.github.panamallama.sampling.strategy.TrigramTable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * What is saved to a disk that is full, or where nobody may write: a typed error that names the file, nothing is left of it, and an older
 * file stays as it was. The disk is a small file system of memory, mounted where user namespaces allow it to anybody; elsewhere a limit on
 * the size of files stands for it. {@link DiskFullTest} does the same with models.
 */
class SavesTest {
    private static final List<String> ALL =
            List.of("state", "prompt", "chat", "trie", "trigrams", "thresholds", "routers", "plan", "adapter");
    /** Those that take more than {@link #ROOM} kilobytes. */
    private static final List<String> LARGE = List.of("state", "prompt", "trigrams", "adapter");
    private static final int ROOM = 16;

    /** Runs the rest of its arguments, then tells what is in the folder. */
    private static final String TELL = """
            "$@"; code=$?
            cd "$F" && for f in $(ls -A); do [ "$f" = fill ] || echo "left $f $(head -c 20 "$f")"; done
            exit $code
            """;

    @TempDir
    private Path folder;

    /** Saves one of each kind twice, in place of nothing and of an older file, and prints what came of it. */
    static final class Saver {
        private Saver() {
        }

        public static void main(String[] arguments) {
            var folder = Path.of(arguments[0]);
            var options = LlamaOptions.defaults().withContextSize(1024).withThreads(1).withTemperature(0).withMaxTokens(2);
            try (var llama = Llama.loadDefault(options);
                    var sequence = llama.engine().newSequence(); var chat = llama.chat("You explain Java.");
                    var asap = llama.aligned("x", Grammar.choices(List.of("a", "b", "c")))) {
                var model = llama.model();
                var vocabulary = model.vocabulary();
                var tokens = vocabulary.tokenize(Files.readString(Path.of(arguments[1])), true, false);
                var some = Arrays.copyOf(tokens, 500);
                sequence.append(some, null);
                asap.draw();
                var table = TrigramTable.of(vocabulary, List.of(tokens));
                var plan = LayerPlan.all(model.layerCount()).skip(1);
                var router = FirstRouter.train(llama.engine(), Collections.nCopies(4, new Example(Arrays.copyOf(tokens, 20), plan)),
                        FirstRouter.Options.defaults());
                var base = GgufFile.read(DefaultModel.path());

                var saves = new LinkedHashMap<String, Consumer<Path>>();
                saves.put("state", sequence::save);
                saves.put("prompt", path -> llama.complete("int x = 1;\n".repeat(60), GenerationOptions.defaults().withMaxTokens(1)
                        .withPromptCache(path)).text());
                saves.put("chat", chat::save);
                saves.put("trie", asap::save);
                saves.put("trigrams", table::save);
                saves.put("thresholds", path -> new EntropyThreshold(1, 0, 1, 0.5, 0.9, 100, "model").store(path, model));
                saves.put("routers", path -> RouterFile.write(path, router, model));
                saves.put("plan", path -> PlanFile.of(model, plan,
                        new PlanFile.Found("test", OptionalLong.empty(), OptionalDouble.empty(), "text", 1)).write(path));
                saves.put("adapter", path -> RandomAdapter.of(1).write(base, path));
                for (int i = 2; i < arguments.length; i++) {
                    for (var age : List.of("new", "old")) {
                        // a cache that is there is read
                        if (!(arguments[i] + age).equals("promptold")) {
                            save(arguments[i], age, folder.resolve(arguments[i] + "." + age), saves.get(arguments[i]));
                        }
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static void save(String kind, String age, Path path, Consumer<Path> save) {
            try {
                save.accept(path);
                System.out.println("said " + kind + "." + age + " nothing");
            } catch (RuntimeException e) {
                System.out.println("said " + kind + "." + age + (e instanceof LlamaException ? " typed " : " untyped " + e.getClass() + " ")
                        + e.getMessage().replace('\n', ' '));
            }
        }
    }

    /** The words before, and then the program over the given kinds in a folder. */
    private List<String> command(Path into, List<String> kinds, String... before) throws IOException {
        var text = Files.writeString(folder.resolve("text.java"), JavaText.below(Project.HOME.resolve("llama/src/main/java")));
        var arguments = new ArrayList<>(List.of(into.toString(), text.toString()));
        arguments.addAll(kinds);
        var command = new ArrayList<>(List.of(before));
        var java = Project.javaCommand(Saver.class.getName(), arguments);
        java.add(1, "-XX:-UsePerfData");        // a file, too
        command.addAll(java);
        return command;
    }

    private static String old(String kind) {
        return kind.equals("thresholds") ? "{}" : "mine";
    }

    /** Older files are there, but the disk took no new one. */
    private static void assertNothingWasSaved(Path into, List<String> kinds, String reason, Project.Result result) {
        result.succeeded();
        Map<String, String> left = new TreeMap<>();
        int said = 0;
        for (var line : result.out().lines().toList()) {
            var words = line.split(" ", 3);
            if (words[0].equals("left")) {
                left.put(words[1], words.length < 3 ? "" : words[2]);
            } else if (words[0].equals("said")) {
                assertTrue(words[2].startsWith("typed "), line);
                assertTrue(words[2].contains(into.resolve(words[1]).toString()) && words[2].contains(reason), line);
                assertFalse(words[2].contains("Exception") || words[2].contains(".part"), line);
                said++;
            }
        }
        assertEquals(2 * kinds.size() - (kinds.contains("prompt") ? 1 : 0), said, result.out() + result.error());
        Map<String, String> expected = new TreeMap<>();
        kinds.forEach(kind -> expected.put(kind + ".old", old(kind)));
        assertEquals(expected, left, result.out());
    }

    private static boolean works(String... command) throws Exception {
        try {
            return Project.run(List.of(command), "").code() == 0;
        } catch (IOException e) {
            return false;       // there is no such program
        }
    }

    private Path withOldFiles(List<String> kinds) throws IOException {
        var into = Files.createDirectory(folder.resolve("into"));
        for (var kind : kinds) {
            Files.writeString(into.resolve(kind + ".old"), old(kind));
        }
        return into;
    }

    private void onAFullDisk(List<String> kinds, int room) throws Exception {
        assumeTrue(works("unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", folder.toString()),
                "needs user namespaces, to mount a small file system");
        var into = withOldFiles(kinds);
        var prepare = """
                set -e
                F="$1"; shift
                mkdir "$F.kept"; cp "$F"/* "$F.kept"
                mount -t tmpfs -o size=1m none "$F"
                cp "$F.kept"/* "$F"
                head -c %dk /dev/zero > "$F/gap"
                head -c 2m /dev/zero > "$F/fill" 2>/dev/null || true
                rm "$F/gap"
                set +e
                """.formatted(room);
        var result = Project.run(command(into, kinds, "unshare", "-rm", "bash", "-c", prepare + TELL, "bash", into.toString()), "");
        assertNothingWasSaved(into, kinds, "No space left on device", result);
    }

    @Test
    void onADiskThatIsFullFromTheFirstByte() throws Exception {
        onAFullDisk(ALL, 0);
    }

    @Test
    void onADiskThatIsFullInMidFile() throws Exception {
        onAFullDisk(LARGE, ROOM);
    }

    @Test
    void whereFilesMayNotGrow() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/bin/bash")), "needs bash, to limit the size of files");
        var into = withOldFiles(LARGE);
        var limited = "F=\"$1\"; shift; ulimit -f " + ROOM + "\n" + TELL;
        var result = Project.run(command(into, LARGE, "bash", "-c", limited, "bash", into.toString()), "");
        assertNothingWasSaved(into, LARGE, "File too large", result);
    }

    /** A superuser is held to permissions, too, without the capability to override them. */
    @Test
    void whereNobodyMayWrite() throws Exception {
        var into = withOldFiles(ALL);
        var before = new ArrayList<String>();
        assertTrue(into.toFile().setWritable(false, false));
        try {
            if (Files.isWritable(into)) {
                var setpriv = List.of("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override");
                var tried = new ArrayList<>(setpriv);
                tried.addAll(List.of("touch", into.resolve("tried").toString()));
                assumeTrue(works("setpriv", "--version") && !works(tried.toArray(String[]::new)),
                        "needs setpriv: this user may write everywhere");
                before.addAll(setpriv);
            }
            before.addAll(List.of("bash", "-c", "F=\"$1\"; shift\n" + TELL, "bash", into.toString()));
            var result = Project.run(command(into, ALL, before.toArray(String[]::new)), "");
            assertNothingWasSaved(into, ALL, "permission denied", result);
        } finally {
            into.toFile().setWritable(true, true);
        }
    }

    /** What is no folder can't hold a file, for whichever user. */
    @Test
    void whereThereIsNoFolder() throws Exception {
        var into = folder.resolve("missing");
        var result = Project.run(command(into, ALL), "").succeeded();
        var said = result.out().lines().filter(line -> line.startsWith("said ")).toList();
        assertEquals(2 * ALL.size() - 1, said.size(), result.out());
        said.forEach(line -> assertTrue(line.contains(" typed ") && line.contains(into.toString())
                && !line.contains("Exception") && line.contains("there is no such"), line));
        assertTrue(Files.notExists(into));
    }
}
