package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.LongFunction;
import java.util.logging.LogManager;

/**
 * Broken files, tried one after the other in a child JVM, which says which one it tries and what became of it. A child that dies, hangs,
 * takes too much memory or throws what isn't this library's own exception names the seed of its file, and another one goes on.
 *
 * <p>Runs {@code -Dpanamallama.fuzz.seconds} (60), from {@code -Dpanamallama.fuzz.seed} on (the time of day); a seed alone, with
 * {@code -Dpanamallama.fuzz.count=1}, repeats one file.
 */
final class Trials {
    private static final int HANG_SECONDS = 60;
    private static final long MEMORY = 3L << 30;
    private static final int MAX_FAULTS = 20;

    private final Class<?> child;
    private final Path folder;
    private final long seed = Long.getLong("panamallama.fuzz.seed", System.nanoTime());
    private final long count = Long.getLong("panamallama.fuzz.count", Long.MAX_VALUE);
    private final long end;
    private final Map<Outcome, Integer> outcomes = new EnumMap<>(Outcome.class);
    private final List<String> faults = new ArrayList<>();

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

    /** A broken file. */
    interface Subject {
        /** What is broken about it. */
        List<String> changes();

        /** What became of it. */
        Outcome tried(long seed);
    }

    private Trials(Class<?> child, Path folder, int seconds) {
        this.child = child;
        this.folder = folder;
        end = System.currentTimeMillis() + Duration.ofSeconds(Long.getLong("panamallama.fuzz.seconds", seconds)).toMillis();
    }

    // --- the parent -----------------------------------------------------------------------------------------------------

    /** As {@link #run(Class, Path, int)}, a minute long. */
    static void run(Class<?> child, Path folder) throws Exception {
        run(child, folder, 60);
    }

    /**
     * @param child   a class whose main method calls {@link #child}
     * @param folder  for its files
     * @param seconds where the property doesn't say
     */
    static void run(Class<?> child, Path folder, int seconds) throws Exception {
        var trials = new Trials(child, folder, seconds);
        System.out.println("first seed " + trials.seed);
        long next = 0;
        while (next < trials.count && System.currentTimeMillis() < trials.end && trials.faults.size() < MAX_FAULTS) {
            next = trials.run(next);
        }
        System.out.println(trials.outcomes.values().stream().mapToInt(n -> n).sum() + " files: " + trials.outcomes);
        trials.faults.forEach(System.out::println);
        assertEquals(List.of(), trials.faults, "seeds from " + trials.seed);
        if (trials.count > 1) {
            assertTrue(trials.outcomes.containsKey(Outcome.REFUSED) && trials.outcomes.containsKey(Outcome.EVALUATED),
                    trials.outcomes.toString());
        }
    }

    /** One child, until the end or its own; returns the index of the next file. */
    private long run(long first) throws Exception {
        var errors = folder.resolve("errors.txt");
        var process = new ProcessBuilder(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-CreateCoredumpOnCrash",
                "-XX:ErrorFile=" + folder.resolve("crash.txt"),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), child.getName(),
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
                count(Outcome.HUNG, seed + current, changes, "no answer in " + HANG_SECONDS + " s");
                return current + 1;
            }
            if (line.isEmpty()) {
                int code = process.waitFor();
                if (trying || code != 0) {
                    count(Outcome.DIED, seed + current, changes, "exit code " + code + ", " + reason(errors));
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
                    count(Outcome.valueOf(words[1]), seed + current, changes, words.length > 2 ? words[2] : "");
                }
                default -> { } // what native code prints
            }
        }
    }

    private void count(Outcome outcome, long seed, String changes, String why) {
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

    // --- the child ------------------------------------------------------------------------------------------------------

    /** Tries file after file: says which, then what became of it. Ends the process. */
    static void child(String[] arguments, LongFunction<? extends Subject> subjects) throws IOException {
        long seed = Long.parseLong(arguments[1]);
        long count = Long.parseLong(arguments[3]);
        long end = Long.parseLong(arguments[4]);
        LogManager.getLogManager().reset();
        for (long i = Long.parseLong(arguments[2]); i < count && System.currentTimeMillis() < end; i++) {
            var subject = subjects.apply(seed + i);
            System.out.println("try " + i + " " + subject.changes().toString().replaceAll("\\p{Cntrl}", "?"));
            String answer;
            try {
                answer = subject.tried(seed + i).toString();
            } catch (LlamaException e) {
                answer = (e.getMessage().contains("can't be loaded: ") ? Outcome.NATIVE : Outcome.REFUSED).toString();
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

    private static long mostMemory() throws IOException {
        var status = Path.of("/proc/self/status");
        return !Files.exists(status) ? 0 : Files.readAllLines(status).stream().filter(line -> line.startsWith("VmHWM:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) << 10).findFirst().orElse(0);
    }
}
