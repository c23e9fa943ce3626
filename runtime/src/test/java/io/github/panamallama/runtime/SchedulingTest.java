package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.Scheduling.Priority;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Which threads evaluate, as Linux shows them; the callers' own settings stay as they are. */
@Timeout(120)
class SchedulingTest {
    private static final Path TASKS = Path.of("/proc/self/task");
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(2).withMaxSequences(1);
    private static Model model;

    @BeforeAll
    static void load() {
        model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
    }

    @AfterAll
    static void unload() {
        model.close();
    }

    /** Thread ids. */
    private static Set<String> threads() throws IOException {
        var ids = new HashSet<String>();
        try (var tasks = Files.newDirectoryStream(TASKS)) {
            tasks.forEach(task -> ids.add(task.getFileName().toString()));
        }
        return ids;
    }

    private static String cpus(String thread) {
        return status(thread).lines().filter(line -> line.startsWith("Cpus_allowed_list:")).findFirst().orElse(":").split(":")[1].strip();
    }

    private static String status(String thread) {
        try {
            return Files.readString(TASKS.resolve(thread).resolve("status"));
        } catch (IOException e) {
            return "";    // it has ended
        }
    }

    /** proc_pid_stat(5): niceness is field 19, the policy field 41; the name in field 2 may hold blanks. */
    private static String field(String thread, int number) {
        try {
            var stat = Files.readString(TASKS.resolve(thread).resolve("stat"));
            return stat.substring(stat.lastIndexOf(')') + 2).split(" ")[number - 3];
        } catch (IOException e) {
            return "";
        }
    }

    private static String self() {
        try {
            return Path.of("/proc/thread-self").toRealPath().getFileName().toString();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static float[] evaluate(Engine engine) {
        try (var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(new int[] {1, 50, 60, 70}, row);
            sequence.append(5, row);
            return row.toArray();
        }
    }

    @Test
    void pinnedThreadsRunWhereTheyAreToldAndCallersWhereTheyWere() throws IOException {
        assumeTrue(Files.isDirectory(TASKS), "threads can be looked at on Linux only");
        var caller = self();
        var before = cpus(caller);
        var usable = Scheduling.ranges(before);
        assumeTrue(usable.size() > 1, "with one processor there is nothing to choose");
        var chosen = usable.getLast();
        float[] expected;
        try (var engine = Engine.open(model, OPTIONS)) {
            expected = evaluate(engine);
        }
        var others = threads();
        try (var engine = Engine.open(model, OPTIONS.withScheduling(Scheduling.usual().withCpus(List.of(chosen))))) {
            assertArrayEquals(expected, evaluate(engine));
            var made = threads();
            made.removeAll(others);
            long pinned = made.stream().filter(thread -> cpus(thread).equals(chosen.toString())).count();
            assertEquals(2, pinned, "one thread that evaluates and one of its pool");
            assertEquals(before, cpus(caller));
        }
        others = threads();
        try (var engine = Engine.open(model, OPTIONS.withScheduling(new Scheduling(usable.subList(0, 2), true, Priority.NORMAL, false)))) {
            assertArrayEquals(expected, evaluate(engine));
            var made = threads();
            made.removeAll(others);
            for (var cpu : usable.subList(0, 2)) {
                assertEquals(1, made.stream().filter(thread -> cpus(thread).equals(cpu.toString())).count(), "on processor " + cpu);
            }
        }
        assertEquals(before, cpus(caller));
    }

    @Test
    void lowPriorityAndPolitenessAreNice() throws IOException {
        assumeTrue(Files.isDirectory(TASKS), "threads can be looked at on Linux only");
        var caller = self();
        int own = Integer.parseInt(field(caller, 19));
        var nicer = Integer.toString(Math.min(19, own + 10));
        for (var scheduling : List.of(Scheduling.usual().withPriority(Priority.LOW), Scheduling.usual().withPolite(true))) {
            var others = threads();
            try (var engine = Engine.open(model, OPTIONS.withScheduling(scheduling))) {
                evaluate(engine);
                var made = threads();
                made.removeAll(others);
                long nice = made.stream().filter(thread -> field(thread, 19).equals(nicer) && field(thread, 41).equals("3")).count();
                assertEquals(2, nice, "threads of niceness " + nicer + " under SCHED_BATCH, " + scheduling);
                assertEquals(own, Integer.parseInt(field(caller, 19)));
            }
        }
    }

    @Test
    void threadsOfTheirOwnEvaluateAdaptersPlansAndErrorsAsCallersDo() {
        var options = OPTIONS.withScheduling(Scheduling.usual().withPriority(Priority.LOW));
        var plan = LayerPlan.parse("0-2,4-7", model.layerCount());
        float[] expected;
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(new int[] {1, 2, 3}, row);
            expected = row.toArray();
        }
        try (var engine = Engine.open(model, options); var sequence = engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(new int[] {1, 2, 3}, row);
            assertArrayEquals(expected, row.toArray());
            assertThrows(ContextFullException.class, () -> sequence.append(new int[engine.contextSize() + 1], row));
        }
    }

    @Test
    void politeThreadsLeaveOthersWhatTheyUse() {
        double[] busy = {0};
        var politeness = new Politeness(8, () -> busy[0]);
        long now = System.nanoTime();
        assertTrue(politeness.look(now));
        assertEquals(8, politeness.threads(8));
        assertEquals(4, politeness.threads(4));
        busy[0] = 5.2;
        assertFalse(politeness.look(now + 1_000), "not every call asks the system");
        assertEquals(8, politeness.threads(8));
        assertTrue(politeness.look(now + 1_000_000_000));
        assertEquals(3, politeness.threads(8));
        assertEquals(2, politeness.threads(2));
        busy[0] = 8;
        assertTrue(politeness.look(now + 2_000_000_000L));
        assertEquals(1, politeness.threads(8), "somebody has to work");
        busy[0] = -1;
        assertTrue(politeness.look(now + 3_000_000_000L));
        assertEquals(8, politeness.threads(8), "unknown load counts as none");
    }

    @Test
    void processorsThatAreNoneAndContradictionsAreRefused() {
        assertEquals(List.of(0, 1, 2, 6), Scheduling.usual().withCpus("0-2,6").cpus());
        assertEquals(List.of(0, 2, 8), Scheduling.mask("0x105"));
        for (var wrong : List.of("", "a", "3-1", "0-512", "-2", "1,,2")) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> Scheduling.ranges(wrong)).getMessage()
                    .startsWith("'" + wrong + "' are no processors"), wrong);
        }
        for (var wrong : List.of("", "0", "xyz", "-1", "1" + "0".repeat(128))) {
            assertThrows(IllegalArgumentException.class, () -> Scheduling.mask(wrong), wrong);
        }
        assertThrows(IllegalArgumentException.class, () -> Scheduling.usual().withStrict(true));
        assertThrows(IllegalArgumentException.class, () -> Scheduling.usual().withPriority(Priority.HIGH).withPolite(true));
    }

    @Test
    void threadsNeverOutnumberTheProcessorsThatTheyAreGiven() {
        assertEquals(1, Scheduling.usual().withCpus("0").usualThreads());
        assertEquals(Cores.physical(), Scheduling.usual().withCpus("0-511").usualThreads());
        var strict = Scheduling.usual().withCpus("0").withStrict(true);
        var message = assertThrows(IllegalArgumentException.class,
                () -> Engine.open(model, OPTIONS.withScheduling(strict).withThreads(1).withBatchThreads(2))).getMessage();
        assertTrue(message.contains("2 threads can't each have a processor of [0]"), message);
        try (var engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withScheduling(strict))) {
            assertEquals(1, engine.options().threads());
        }
    }

    @Test
    void processorsThatThisMachineHasNotAreAnErrorOfTheEngine() {
        assumeTrue(Files.isDirectory(TASKS), "other systems take it as a hint");
        var message = assertThrows(LlamaException.class,
                () -> Engine.open(model, OPTIONS.withScheduling(Scheduling.usual().withCpus(List.of(511))))).getMessage();
        assertTrue(message.contains("this process can't run on processor 511"), message);
    }

    @Test
    void realTimePriorityWorksOrIsRefusedWithTheReason() {
        try (var engine = Engine.open(model, OPTIONS.withScheduling(Scheduling.usual().withPriority(Priority.MEDIUM)))) {
            assertEquals(model.vocabulary().size(), evaluate(engine).length);
        } catch (LlamaException e) {
            assertTrue(e.getMessage().contains("the system refuses a priority above normal"), e.getMessage());
        }
    }
}
