package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.logging.LogManager;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * No file ends the JVM. Models of every architecture, adapters and split models are broken by {@link GgufMutator}; a child JVM loads
 * them one after the other, and what loads is tokenised with and evaluated. A child that dies, hangs, takes too much memory or throws
 * what isn't this library's own exception names the seed of its file.
 *
 * <p>Runs {@code -Dpanamallama.fuzz.seconds} (60), from {@code -Dpanamallama.fuzz.seed} on (the time of day); a seed alone, with
 * {@code -Dpanamallama.fuzz.count=1}, repeats one file.
 */
class HostileFilesTest {
    private static final int HANG_SECONDS = 60;
    private static final long MEMORY = 3L << 30;
    private static final int MAX_FAULTS = 20;

    @TempDir
    private Path folder;

    /** What became of a file. */
    enum Outcome {
        /** By a check in Java; native code never saw it. */
        REFUSED,
        /** By native code, with an error. */
        NATIVE,
        /** And no more than loaded: its context or a token was refused. */
        LOADED,
        EVALUATED,
        /** Another exception than the library's own. */
        UNTYPED,
        DIED,
        HUNG,
        MEMORY
    }

    @Test
    void noFileEndsTheProcess() throws Exception {
        long seed = Long.getLong("panamallama.fuzz.seed", System.nanoTime());
        long count = Long.getLong("panamallama.fuzz.count", Long.MAX_VALUE);
        long end = System.currentTimeMillis() + Duration.ofSeconds(Long.getLong("panamallama.fuzz.seconds", 60)).toMillis();
        System.out.println("first seed " + seed);
        var outcomes = new EnumMap<Outcome, Integer>(Outcome.class);
        var faults = new ArrayList<String>();
        long next = 0;
        while (next < count && System.currentTimeMillis() < end && faults.size() < MAX_FAULTS) {
            next = run(seed, next, count, end, outcomes, faults);
        }
        System.out.println(outcomes.values().stream().mapToInt(n -> n).sum() + " files: " + outcomes);
        faults.forEach(System.out::println);
        assertEquals(List.of(), faults, "seeds from " + seed);
        if (count > 1) {
            assertTrue(outcomes.containsKey(Outcome.REFUSED) && outcomes.containsKey(Outcome.EVALUATED), outcomes.toString());
        }
    }

    /** One child, until the end or its own; returns the index of the next file. */
    private long run(long seed, long first, long count, long end, Map<Outcome, Integer> outcomes, List<String> faults) throws Exception {
        var errors = folder.resolve("errors.txt");
        var process = new ProcessBuilder(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-CreateCoredumpOnCrash",
                "-XX:ErrorFile=" + folder.resolve("crash.txt"),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), Child.class.getName(),
                folder.toString(), String.valueOf(seed), String.valueOf(first), String.valueOf(count), String.valueOf(end)))
                .directory(Project.HOME.toFile()).redirectError(errors.toFile()).start();
        var lines = new LinkedBlockingQueue<Optional<String>>();
        Thread.ofVirtual().start(() -> read(process.inputReader(), lines));
        long current = first - 1;
        var changes = "";
        boolean trying = false;
        while (true) {
            var line = lines.poll(HANG_SECONDS, TimeUnit.SECONDS);
            if (line == null) {
                process.destroyForcibly().waitFor();
                count(Outcome.HUNG, seed + current, changes, "no answer in " + HANG_SECONDS + " s", outcomes, faults);
                return current + 1;
            }
            if (line.isEmpty()) {
                int code = process.waitFor();
                if (trying || code != 0) {
                    count(Outcome.DIED, seed + current, changes, "exit code " + code + ", " + reason(errors), outcomes, faults);
                }
                return current + 1;
            }
            var words = line.get().split(" ", 3);
            switch (words[0]) {
                case "try" -> {
                    current = Long.parseLong(words[1]);
                    changes = words[2];
                    trying = true;
                }
                case "is" -> {
                    trying = false;
                    count(Outcome.valueOf(words[1]), seed + current, changes, words.length > 2 ? words[2] : "", outcomes, faults);
                }
                default -> { } // what native code prints
            }
        }
    }

    private static void count(
            Outcome outcome, long seed, String changes, String why, Map<Outcome, Integer> outcomes, List<String> faults) {
        outcomes.merge(outcome, 1, Integer::sum);
        if (outcome.compareTo(Outcome.EVALUATED) > 0) {
            faults.add(outcome + " seed " + seed + ": " + changes + ": " + why);
            System.out.println(faults.getLast());
        }
    }

    /** What the JVM says about its own end, else what native code said last. */
    private String reason(Path errors) throws IOException {
        var crash = folder.resolve("crash.txt");
        var found = new ArrayList<String>();
        if (Files.exists(crash)) {
            Files.readAllLines(crash).stream().filter(line -> line.startsWith("#  SIG") || line.startsWith("C  ")).limit(12)
                    .forEach(found::add);
            Files.delete(crash);
        }
        var said = Files.readString(errors).lines().filter(line -> !line.isBlank()).toList();
        said.stream().filter(line -> line.contains("GGML_ASSERT") || line.contains("terminate called") || line.contains("what():")
                || line.contains("OutOfMemoryError")).forEach(found::add);
        return found.isEmpty() ? String.join(" | ", said.subList(Math.max(0, said.size() - 3), said.size())) : String.join("\n    ", found);
    }

    private static void read(BufferedReader in, LinkedBlockingQueue<Optional<String>> lines) {
        try (in) {
            for (var line = in.readLine(); line != null; line = in.readLine()) {
                lines.add(Optional.of(line));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } finally {
            lines.add(Optional.empty());
        }
    }

    /** A broken file, with the whole ones it needs beside it. */
    private record Subject(Path model, Path adapter, List<String> changes) {
        private static final RandomModel.Architecture[] ARCHITECTURES = RandomModel.Architecture.values();
        private static final List<GgmlType> TYPES =
                List.of(GgmlType.F32, GgmlType.F32, GgmlType.F16, GgmlType.Q4_0, GgmlType.Q8_0, GgmlType.BF16);
        private static final Map<String, RawGguf> WHOLE = new HashMap<>();

        static Subject of(long seed, Path folder) {
            try {
                var random = new SplittableRandom(seed);
                var architecture = ARCHITECTURES[random.nextInt(ARCHITECTURES.length)];
                var type = TYPES.get(random.nextInt(TYPES.size()));
                var whole = folder.resolve(architecture.key() + "-" + type.label() + ".gguf");
                if (!Files.exists(whole)) {
                    RandomModel.tiny(architecture).withLayers(2).withVocabularySize(300).withType(type).write(whole);
                }
                return switch (random.nextInt(10)) {
                    case 0 -> adapter(whole, folder, random.nextLong());
                    case 1 -> split(whole, folder, random);
                    default -> {
                        var mutant = GgufMutator.mutant(whole(whole), random.nextLong());
                        yield new Subject(Files.write(folder.resolve("broken.gguf"), mutant.bytes()), null, named(whole, mutant));
                    }
                };
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static RawGguf whole(Path file) throws IOException {
            var name = file.getFileName().toString();
            if (!WHOLE.containsKey(name)) {
                WHOLE.put(name, RawGguf.of(Files.readAllBytes(file)));
            }
            return WHOLE.get(name);
        }

        private static List<String> named(Path whole, GgufMutator.Mutant mutant) {
            var changes = new ArrayList<>(List.of(whole.getFileName().toString()));
            changes.addAll(mutant.changes());
            return changes;
        }

        private static Subject adapter(Path model, Path folder, long seed) throws IOException {
            var whole = folder.resolve("adapter-" + model.getFileName());
            if (!Files.exists(whole)) {
                new RandomAdapter(4, 1, GgmlType.F16, 1).write(GgufFile.read(model), whole);
            }
            var mutant = GgufMutator.mutant(whole(whole), seed);
            return new Subject(model, Files.write(folder.resolve("broken-adapter.gguf"), mutant.bytes()), named(whole, mutant));
        }

        private static Subject split(Path model, Path folder, SplittableRandom random) throws IOException {
            var file = GgufFile.read(model);
            var names = new ArrayList<Path>();
            for (int i = 0; i < 2; i++) {
                var part = folder.resolve("part-" + i + "-" + model.getFileName());
                if (!Files.exists(part)) {
                    part(file, i).write(part);
                }
                names.add(part);
            }
            int broken = random.nextInt(2);
            var mutant = GgufMutator.mutant(whole(names.get(broken)), random.nextLong());
            for (int i = 0; i < 2; i++) {
                Files.write(folder.resolve("broken-0000" + (i + 1) + "-of-00002.gguf"),
                        i == broken ? mutant.bytes() : Files.readAllBytes(names.get(i)));
            }
            return new Subject(folder.resolve("broken-00001-of-00002.gguf"), null, named(names.get(broken), mutant));
        }

        private static GgufWriter part(GgufFile file, int number) {
            var writer = new GgufWriter();
            if (number == 0) {
                writer.putAll(file.metadata());
            }
            writer.putU16("split.no", number).putU16("split.count", 2).putI32("split.tensors.count", file.tensors().size());
            int half = file.tensors().size() / 2;
            for (var tensor : number == 0 ? file.tensors().subList(0, half) : file.tensors().subList(half, file.tensors().size())) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                    try (var arena = Arena.ofConfined()) {
                        out.write(file.map(tensor, arena));
                    }
                });
            }
            return writer;
        }
    }

    /** Tries file after file: says which, then what became of it. */
    static final class Child {
        private static final String TEXT = "The quick \u2581brown fox\0 jumps <|endoftext|> <0x41> \uD83D\uDE00 caf\u00e9 123";
        private static final EngineOptions SMALL =
                EngineOptions.defaults().withContextSize(256).withBatchSize(32).withThreads(1).withMaxSequences(2);

        public static void main(String[] arguments) throws IOException {
            var folder = Path.of(arguments[0]);
            long seed = Long.parseLong(arguments[1]);
            long count = Long.parseLong(arguments[3]);
            long end = Long.parseLong(arguments[4]);
            LogManager.getLogManager().reset();
            for (long i = Long.parseLong(arguments[2]); i < count && System.currentTimeMillis() < end; i++) {
                var subject = Subject.of(seed + i, folder);
                System.out.println("try " + i + " " + subject.changes.toString().replaceAll("\\p{Cntrl}", "?"));
                String answer;
                try {
                    answer = load(subject, seed + i).toString();
                } catch (LlamaException e) {
                    answer = outcome(e).toString();
                } catch (Throwable e) {
                    var where = e.getStackTrace().length == 0 ? "" : e.getStackTrace()[0];
                    answer = Outcome.UNTYPED + " " + e.toString().lines().findFirst().orElse("") + " at " + where;
                }
                long memory = mostMemory();
                if (memory > MEMORY) {
                    System.out.println("is " + Outcome.MEMORY + " " + (memory >> 20) + " MiB resident");
                    System.exit(0);
                }
                System.out.println("is " + answer);
            }
            System.exit(0);
        }

        private static Outcome outcome(LlamaException e) {
            return e.getMessage().contains("can't be loaded: ") ? Outcome.NATIVE : Outcome.REFUSED;
        }

        private static Outcome load(Subject subject, long seed) {
            if (seed % 8 == 0 && subject.adapter == null) {
                try (var model = Model.load(subject.model, ModelOptions.defaults().withVocabularyOnly(true))) {
                    return tokenize(model) ? Outcome.EVALUATED : Outcome.LOADED;
                }
            }
            try (var model = Model.load(subject.model)) {
                boolean texts = tokenize(model);
                if (subject.adapter == null) {
                    return evaluate(model, AdapterSet.none()) && texts ? Outcome.EVALUATED : Outcome.LOADED;
                }
                try (var adapter = Adapter.load(model, subject.adapter)) {
                    return evaluate(model, AdapterSet.of(adapter)) ? Outcome.EVALUATED : Outcome.LOADED;
                }
            }
        }

        private static boolean tokenize(Model model) {
            try {
                var vocabulary = model.vocabulary();
                for (boolean special : new boolean[] {false, true}) {
                    vocabulary.detokenize(vocabulary.tokenize(TEXT, true, special));
                }
                for (int i = 0; i < vocabulary.size(); i += 7) {
                    vocabulary.bytes(i);
                    vocabulary.text(i);
                }
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static boolean evaluate(Model model, AdapterSet adapters) {
            int most = model.vocabulary().size() - 1;
            try (var engine = Engine.open(model, SMALL); var sequence = engine.newSequence(adapters)) {
                var row = engine.newRow();
                sequence.append(new int[] {Math.min(1, most), Math.min(70, most), most, 0, Math.min(5, most)}, row);
                sequence.append(0, row);
                sequence.append(most, row);
                try (var fork = sequence.fork()) {
                    fork.append(Math.min(9, most), row);
                }
                sequence.truncate(3);
                sequence.append(new int[40], row);
                return true;
            } catch (LlamaException e) {
                return false;
            }
        }

        private static long mostMemory() throws IOException {
            var status = Path.of("/proc/self/status");
            return !Files.exists(status) ? 0 : Files.readAllLines(status).stream().filter(line -> line.startsWith("VmHWM:"))
                    .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) << 10).findFirst().orElse(0);
        }
    }
}
