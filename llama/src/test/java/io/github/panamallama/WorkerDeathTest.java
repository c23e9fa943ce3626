package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.WorkerDiedException.Phase;
import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.io.BufferedReader;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.spi.ToolProvider;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Workers are killed, in every phase and in every way, and this process goes on. */
@DisabledOnOs(OS.WINDOWS)      // no signals
@Timeout(300)
class WorkerDeathTest {
    private static final String PROMPT = "public final class Point {\n    private final int x;\n";
    private static final LlamaOptions OPTIONS = LlamaOptions.defaults()
            .withEngine(EngineOptions.defaults().withContextSize(8192).withThreads(1).withMaxSequences(24))
            .withGeneration(GenerationOptions.defaults().withTemperature(0).withMaxTokens(60));

    private static String expected;
    private static GenerationOptions endless;

    @TempDir
    Path reports;

    @BeforeAll
    static void askHere() {
        try (var llama = Llama.loadDefault(OPTIONS)) {
            expected = llama.complete(PROMPT).text();
            endless = IsolatedLlamaTest.endless(llama, 0);
        }
    }

    @AfterEach
    void noWorkerIsLeft() {
        assertEquals(Set.of(), workers());
    }

    private IsolationOptions isolation() {
        return IsolationOptions.defaults().withCrashFolder(reports);
    }

    private IsolatedLlama start(IsolationOptions isolation) {
        return Llama.isolatedDefault(OPTIONS, isolation);
    }

    private static Set<Long> workers() {
        return ProcessHandle.current().children().map(ProcessHandle::pid).collect(Collectors.toSet());
    }

    /** The worker that has appeared since. */
    private static long newWorker(Set<Long> before) {
        while (true) {
            var now = new HashSet<>(workers());
            now.removeAll(before);
            if (!now.isEmpty()) {
                return now.iterator().next();
            }
            Thread.onSpinWait();
        }
    }

    private static void signal(String name, long pid) {
        try {
            assertEquals(0, new ProcessBuilder("kill", "-" + name, Long.toString(pid)).start().waitFor());
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private static void signalAndWait(String name, long pid) {
        var process = ProcessHandle.of(pid).orElseThrow();
        signal(name, pid);
        process.onExit().join();
    }

    private static <T> FutureTask<T> inThread(Callable<T> work) {
        var task = new FutureTask<>(work);
        Thread.ofPlatform().daemon().start(task);
        return task;
    }

    private static WorkerDiedException death(Future<?> of) throws InterruptedException {
        try {
            of.get(120, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            return assertInstanceOf(WorkerDiedException.class, e.getCause());
        } catch (TimeoutException e) {
            throw new AssertionError("still waiting", e);
        }
        throw new AssertionError("it ended as if nothing had happened");
    }

    private void assertDiedOf(String signal, Phase phase, WorkerDiedException e) {
        assertEquals(phase, e.phase(), e.getMessage());
        int code = e.exitCode().orElseThrow();
        switch (signal) {
            case "KILL" -> assertEquals(128 + 9, code, e.getMessage());
            case "ABRT" -> assertEquals(128 + 6, code, e.getMessage());
            // the JVM's own handler writes a report and ends the process, if it is there yet
            default -> assertTrue(code == 128 + 11 || e.crashReport().isPresent() && e.getMessage().contains("SIGSEGV"), e.getMessage());
        }
    }

    private static void assertServes(IsolatedLlama llama) {
        assertEquals(expected, llama.complete(PROMPT).text());
    }

    // --- signals in every phase ----------------------------------------------------------------------------------------------

    /** A JVM that waits for a debugger before its first class. */
    private IsolationOptions neverStarting() {
        return isolation().withJvmOptions("-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=localhost:0");
    }

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileStarting(String signal) throws Exception {
        var before = workers();
        var start = inThread(() -> start(neverStarting()));
        signal(signal, newWorker(before));
        var e = death(start);
        assertEquals(Phase.STARTING, e.phase(), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileLoading(String signal) throws Exception {
        var before = workers();
        var loading = OPTIONS.withModel(OPTIONS.model().withProgress(part -> signalAndWait(signal, newWorker(before))));
        var start = inThread(() -> Llama.isolatedDefault(loading, isolation()));
        assertDiedOf(signal, Phase.LOADING, death(start));
    }

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileAPromptIsEvaluated(String signal) throws Exception {
        try (var llama = start(isolation())) {
            var completion = llama.complete("int x = 1;\n".repeat(1000));
            assertTrue(completion.stats().promptTokens() > 5000);
            var read = new FutureTask<>(completion::text);
            var reader = Thread.ofPlatform().daemon().start(read);
            while (reader.getState() != Thread.State.TIMED_WAITING) {
                Thread.onSpinWait();
            }
            signal(signal, llama.workerPid());
            assertDiedOf(signal, Phase.SERVING, death(read));
            assertEquals(0, completion.stats().generatedTokens(), "it was the prompt");
            assertEquals("FAILED", completion.finishReason().name());
            assertServes(llama);
            assertEquals(1, llama.restarts());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileATextStreams(String signal) throws Exception {
        try (var llama = start(isolation())) {
            var completion = llama.complete(PROMPT, endless);
            assertTrue(completion.iterator().hasNext());
            signal(signal, llama.workerPid());
            assertDiedOf(signal, Phase.SERVING, assertThrows(WorkerDiedException.class, completion::text));
            assertServes(llama);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileNobodyAsks(String signal) {
        try (var llama = start(isolation())) {
            long first = llama.workerPid();
            signalAndWait(signal, first);
            assertServes(llama);
            assertTrue(first != llama.workerPid());
        }
    }

    // --- hangs ---------------------------------------------------------------------------------------------------------------

    @Test
    void aWorkerThatShowsNoSignOfLifeIsKilled() {
        try (var llama = start(isolation().withHeartbeatTimeout(Duration.ofSeconds(1)))) {
            var completion = llama.complete(PROMPT, endless);
            assertTrue(completion.iterator().hasNext());
            signal("STOP", llama.workerPid());
            var e = assertThrows(WorkerDiedException.class, completion::text);
            assertTrue(e.getMessage().contains("no sign of life"), e.getMessage());
            assertServes(llama);
        }
    }

    @Test
    void aCallThatIsNotAnsweredBeforeItsDeadlineEndsTheWorker() {
        try (var llama = start(isolation().withCallDeadline(Duration.ofSeconds(2)))) {
            signal("STOP", llama.workerPid());
            var e = assertThrows(WorkerDiedException.class, () -> llama.complete(PROMPT));
            assertTrue(e.getMessage().contains("no answer for 2000 ms"), e.getMessage());
            assertServes(llama);
        }
    }

    @Test
    void aWorkerThatDoesNotStartBeforeItsDeadlineIsKilled() {
        var e = assertThrows(WorkerDiedException.class, () -> start(neverStarting().withStartDeadline(Duration.ofSeconds(2))));
        assertEquals(Phase.STARTING, e.phase());
        assertTrue(e.getMessage().contains("not loaded after 2000 ms"), e.getMessage());
    }

    @Test
    void aStoppedWorkerIsEndedByClosing() {
        var llama = start(isolation());
        signal("STOP", llama.workerPid());
        llama.close();
        assertEquals(Set.of(), workers());
    }

    // --- memory --------------------------------------------------------------------------------------------------------------

    @Test
    void outOfMemoryWhileLoading() {
        var e = assertThrows(WorkerDiedException.class, () -> start(isolation().withHeap(6)));
        assertEquals(3, e.exitCode().orElseThrow(), e.getMessage());
        assertTrue(e.getMessage().contains("OutOfMemoryError"), e.getMessage());
    }

    @Test
    void outOfMemoryWhileServing() {
        try (var llama = start(isolation().withHeap(64))) {
            var e = assertThrows(WorkerDiedException.class, () -> llama.complete("x".repeat(40 << 20)));
            assertEquals(3, e.exitCode().orElseThrow(), e.getMessage());
            assertTrue(e.getMessage().contains("OutOfMemoryError"), e.getMessage());
            assertServes(llama);
        }
    }

    @Test
    void aJvmThatCannotStartTellsWhy() {
        var e = assertThrows(WorkerDiedException.class, () -> start(isolation().withJvmOptions("-XX:NoSuchOption")));
        assertEquals(Phase.STARTING, e.phase());
        assertTrue(e.getMessage().contains("NoSuchOption"), e.getMessage());
        assertFalse(e.output().isEmpty());
    }

    // --- vectors ---------------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"KILL", "SEGV", "ABRT"})
    void whileTextsAreEmbedded(String signal) throws Exception {
        try (var llama = start(isolation());
                var embedder = llama.embedder(EmbedderOptions.defaults().withPooling(Pooling.MEAN).withThreads(1))) {
            var before = embedder.embed(PROMPT);
            var embedding = new FutureTask<>(() -> embedder.embed(Collections.nCopies(2000, "int x = 1;\n".repeat(100))));
            var asking = Thread.ofPlatform().daemon().start(embedding);
            while (asking.getState() != Thread.State.TIMED_WAITING) {
                Thread.onSpinWait();
            }
            signal(signal, llama.workerPid());
            assertDiedOf(signal, Phase.SERVING, death(embedding));
            assertArrayEquals(before, embedder.embed(PROMPT), "the next worker opens it again");
            assertEquals(1, llama.restarts());
            assertServes(llama);
        }
    }

    @Test
    void anEmbedderOfItsOwnOutlivesItsWorker() {
        var before = workers();
        try (var embedder = Llama.isolatedEmbedder(DefaultModel.path(), EmbedderOptions.defaults().withPooling(Pooling.LAST).withThreads(1),
                isolation())) {
            var first = embedder.embed(PROMPT);
            signalAndWait("KILL", newWorker(before));
            assertArrayEquals(first, embedder.embed(PROMPT));
        }
    }

    @Test
    void adaptersComeBackWithTheNextWorkerUnlessTheirFilesHaveChanged() {
        var base = GgufFile.read(DefaultModel.path());
        var file = RandomAdapter.of(1).write(base, reports.resolve("style.gguf"));
        try (var llama = start(isolation())) {
            var adapter = llama.adapter(file);
            var options = llama.generation().withAdapters(AdapterSet.of(adapter));
            var text = llama.complete(PROMPT, options).text();
            assertNotEquals(expected, text);
            signalAndWait("KILL", llama.workerPid());
            assertEquals(text, llama.complete(PROMPT, options).text());
            RandomAdapter.of(2).write(base, file);
            signalAndWait("KILL", llama.workerPid());
            var e = assertThrows(AdapterException.class, () -> llama.complete(PROMPT, options));
            assertTrue(e.getMessage().contains("style.gguf"), e.getMessage());
            adapter.close();
            var anew = llama.generation().withAdapters(AdapterSet.of(llama.adapter(file)));
            assertNotEquals(text, llama.complete(PROMPT, anew).text());
        }
    }

    // --- everything else goes on ---------------------------------------------------------------------------------------------

    @Test
    void ofTwentyStreamsAllFailTypedAndLaterOnesWork() throws Exception {
        try (var llama = start(isolation()); var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var begun = new CountDownLatch(20);
            var streams = IntStream.range(0, 20).mapToObj(i -> threads.submit(() -> {
                try (var completion = llama.complete(PROMPT, endless)) {
                    completion.iterator().next();
                    begun.countDown();
                    begun.await();
                    return completion.text();
                }
            })).toList();
            begun.await();
            signal("KILL", llama.workerPid());
            for (var stream : streams) {
                assertEquals(Phase.SERVING, death(stream).phase());
            }
            var later = IntStream.range(0, 20).mapToObj(i -> threads.submit(() -> llama.complete(PROMPT).text())).toList();
            for (var text : later) {
                assertTrue(text.get().startsWith(expected.substring(0, 8)), text.get());
            }
            assertServes(llama);
            assertEquals(1, llama.restarts());
        }
    }

    @Test
    void aConversationOutlivesItsWorker() {
        try (var here = Llama.loadDefault(OPTIONS); var there = start(isolation()); var same = here.chat(); var chat = there.chat()) {
            var first = same.send("What does `List.add` do?").text();
            assertEquals(first, chat.send("What does `List.add` do?").text());
            signalAndWait("KILL", there.workerPid());
            var second = same.send("And `size`?");
            var after = chat.send("And `size`?");
            assertEquals(second.text(), after.text());
            assertEquals(same.history(), chat.history());
            assertEquals(0, after.stats().cachedTokens());
        }
    }

    @Test
    void afterTooManyDeathsInARowItStaysDown() {
        try (var llama = start(isolation().withRestarts(2).withBackOff(Duration.ofMillis(10), Duration.ofMillis(20)))) {
            for (int i = 0; i < 3; i++) {
                signalAndWait("KILL", llama.workerPid());
            }
            var e = assertThrows(WorkerDiedException.class, () -> llama.complete(PROMPT));
            assertTrue(e.getMessage().contains("3 times in a row"), e.getMessage());
            assertEquals(137, e.exitCode().orElseThrow());
            assertEquals(2, llama.restarts());
        }
    }

    @Test
    void deathsBetweenCallsThatWorkAreNotInARow() {
        try (var llama = start(isolation().withRestarts(1))) {
            for (int i = 0; i < 3; i++) {
                assertServes(llama);
                signalAndWait("KILL", llama.workerPid());
            }
            assertServes(llama);
            assertEquals(3, llama.restarts());
        }
    }

    @Test
    void aModelThatIsGoneWhenAWorkerRestartsIsNamed() throws Exception {
        var model = Files.copy(DefaultModel.path(), reports.resolve("model.gguf"));
        try (var llama = Llama.isolated(model, OPTIONS, isolation().withRestarts(1))) {
            Files.delete(model);
            signalAndWait("KILL", llama.workerPid());
            var e = assertThrows(LlamaException.class, () -> llama.complete(PROMPT));
            assertTrue(e.getMessage().contains("model.gguf") && e.getMessage().contains("2 times in a row"), e.getMessage());
        }
    }

    @Test
    void closingEndsStreamsAndTheWorker() throws Exception {
        var llama = start(isolation());
        long pid = llama.workerPid();
        var completion = llama.complete(PROMPT, endless);
        assertTrue(completion.iterator().hasNext());
        llama.close();
        assertThrows(ClosedException.class, completion::text);
        assertThrows(ClosedException.class, () -> llama.complete(PROMPT));
        assertFalse(ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false));
        llama.close();
    }

    // --- the parent dies -----------------------------------------------------------------------------------------------------

    /** A program that streams from a worker, whose number it prints. */
    static final class Parent {
        private Parent() {
        }

        public static void main(String[] arguments) {
            var llama = Llama.isolatedDefault(LlamaOptions.defaults().withContextSize(512).withThreads(1), IsolationOptions.defaults());
            System.out.println(llama.workerPid());
            while (true) {
                llama.complete(PROMPT).text();
            }
        }
    }

    @Test
    void aWorkerDoesNotOutliveItsParent() throws Exception {
        var classes = System.getProperty("jdk.module.path", "") + ":" + System.getProperty("java.class.path") + ":"
                + Path.of("target", "test-classes").toAbsolutePath();
        var parent = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-cp", classes, Parent.class.getName())
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try (var out = new BufferedReader(parent.inputReader())) {
            var worker = ProcessHandle.of(Long.parseLong(out.readLine())).orElseThrow();
            assertTrue(worker.isAlive());
            parent.destroyForcibly().waitFor();
            worker.onExit().get(60, TimeUnit.SECONDS);
        }
    }

    // --- nothing that comes is believed --------------------------------------------------------------------------------------

    @Test
    void aStrangerAtTheSocketIsTurnedAway() throws Exception {
        var temporary = Path.of(System.getProperty("java.io.tmpdir"));
        var before = sockets(temporary);
        var workersBefore = workers();
        var start = inThread(() -> start(neverStarting()));
        Path socket = null;
        while (socket == null) {
            var now = new HashSet<>(sockets(temporary));
            now.removeAll(before);
            socket = now.isEmpty() ? null : now.iterator().next();
        }
        var random = new Random(5);
        for (int i = 0; i < 20; i++) {
            try (var channel = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
                var bytes = new byte[1 + random.nextInt(5000)];
                random.nextBytes(bytes);
                bytes[0] |= (byte) (i % 2 == 0 ? 0x80 : 0);      // a length that can't be, or one that may
                if (i % 5 == 0) {
                    new Frames(channel).write(Frames.Type.HELLO, 0, Wire.json(new Wire.Hello(Frames.PROTOCOL, "guess" + i)));
                } else {
                    channel.write(ByteBuffer.wrap(bytes));
                }
                channel.shutdownOutput();
                assertTrue(channel.read(ByteBuffer.allocate(1)) <= 0, "nothing is said to a stranger");
            } catch (IOException e) {
                // turned away before all was said
                assertTrue(e.getMessage().contains("Broken pipe") || e.getMessage().contains("reset"), e.toString());
            }
        }
        assertFalse(start.isDone());
        signal("KILL", newWorker(workersBefore));
        death(start);
    }

    private static Set<Path> sockets(Path folder) throws IOException {
        try (var files = Files.list(folder)) {
            return files.filter(file -> file.getFileName().toString().matches("llama\\d+")).map(file -> file.resolve("s"))
                    .filter(Files::exists).collect(Collectors.toSet());
        }
    }

    /** In place of the real one: says who it is, as it should, and then what it should not. */
    private static final String LIAR = """
            package io.github.panamallama;

            import java.io.*;
            import java.nio.ByteBuffer;
            import java.nio.channels.SocketChannel;
            import java.net.UnixDomainSocketAddress;
            import java.util.List;

            final class Worker {
                public static void main(String[] arguments) throws Exception {
                    var stdin = new BufferedReader(new InputStreamReader(System.in));
                    var secret = stdin.readLine();
                    var channel = SocketChannel.open(UnixDomainSocketAddress.of(stdin.readLine()));
                    var frames = new Frames(channel);
                    var lie = System.getProperty("lie");
                    frames.write(Frames.Type.HELLO, 0, Wire.json(new Wire.Hello(lie.equals("protocol") ? 99 : Frames.PROTOCOL, secret)));
                    frames.read();
                    var noise = new byte[4096];
                    new java.util.Random(lie.hashCode()).nextBytes(noise);
                    switch (lie) {
                        case "noise" -> channel.write(ByteBuffer.wrap(noise));
                        case "long" -> channel.write(ByteBuffer.allocate(13).putInt(Integer.MAX_VALUE).put((byte) 3).putLong(1).flip());
                        case "answer" -> frames.write(Frames.Type.LOADED, 1, noise);
                        case "type" -> frames.write(Frames.Type.END, 1, noise);
                        case "nothing" -> frames.write(Frames.Type.LOADED, 1, "{}".getBytes());
                        case "flood", "piece", "plan" -> {
                            frames.write(Frames.Type.LOADED, 1, Wire.json(new Wire.Loaded(512, true, null, "", "", List.of())));
                            frames.read();
                            var blocks = lie.equals("plan") ? Integer.MAX_VALUE : 2;
                            frames.write(Frames.Type.OPENED, 2, ("{\\"promptTokens\\":1,\\"cachedTokens\\":0,\\"truncated\\":false,"
                                    + "\\"plan\\":{\\"text\\":\\"0-1\\",\\"blocks\\":" + blocks + "}}").getBytes());
                            var piece = lie.equals("piece") ? new byte[] {1, 2, 3} : new Wire.Piece("x", 1, 1, 1, List.of(), List.of()).bytes();
                            for (int i = 0; i < (lie.equals("flood") ? 100_000 : 1); i++) {
                                frames.write(Frames.Type.PIECE, 2, piece);
                            }
                        }
                        case "vector", "vectors", "width" -> {
                            frames.write(Frames.Type.LOADED, 1, Wire.json(new Wire.Loaded(512, true, null, "", "", List.of())));
                            frames.read();
                            int size = lie.equals("width") ? Integer.MAX_VALUE : 4;
                            frames.write(Frames.Type.VALUE, 2, ("{\\"pooling\\":\\"MEAN\\",\\"size\\":" + size + ",\\"longest\\":9}").getBytes());
                            frames.read();
                            frames.write(Frames.Type.VECTORS, 3, new byte[lie.equals("vector") ? 15 : 32]);
                            frames.write(Frames.Type.VALUE, 3, "1".getBytes());
                        }
                    }
                    while (true) {
                        Thread.sleep(1000);
                    }
                }
            }
            """;

    @ParameterizedTest
    @ValueSource(strings = {"noise", "long", "answer", "type", "nothing", "protocol", "flood", "piece", "plan", "vector", "vectors",
            "width"})
    void aWorkerThatLiesIsKilled(String lie, @TempDir Path liar) throws Exception {
        var source = Files.writeString(liar.resolve("Worker.java"), LIAR);
        var classes = new ArrayList<String>();
        var module = Llama.class.getModule().isNamed();
        if (module) {
            classes.addAll(List.of("--module-path", System.getProperty("jdk.module.path"), "--patch-module", "panamallama=" + liar));
        } else {
            classes.addAll(List.of("-cp", System.getProperty("java.class.path")));
        }
        classes.addAll(List.of("-d", liar.toString(), source.toString()));
        assertEquals(0, ToolProvider.findFirst("javac").orElseThrow().run(System.out, System.err, classes.toArray(String[]::new)));
        var lying = module ? new String[] {"-Dlie=" + lie, "--patch-module", "panamallama=" + liar}
                : new String[] {"-Dlie=" + lie, "-cp", liar + ":" + System.getProperty("java.class.path")};
        var e = assertThrows(WorkerDiedException.class, () -> {
            try (var llama = start(isolation().withJvmOptions(lying).withRestarts(0))) {
                if (Set.of("vector", "vectors", "width").contains(lie)) {
                    llama.embedder(EmbedderOptions.defaults()).embed("one text");
                }
                llama.complete(PROMPT).text();
            }
        });
        assertTrue(e.getMessage().contains(lie.equals("protocol") ? "speaks protocol 99" : "is no message"), e.getMessage());
    }
}
