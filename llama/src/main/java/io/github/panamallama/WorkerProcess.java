package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.Frames.Frame;
import io.github.panamallama.Frames.Type;
import io.github.panamallama.WorkerDiedException.Death;
import io.github.panamallama.WorkerDiedException.Phase;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.ModelLoadException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.function.DoubleConsumer;

/**
 * One worker JVM, from its start to its end, and the calls to it. The process is started with this program's JDK and class or module path;
 * it connects to a Unix domain socket in a folder that only this user can enter, and shows a secret that it got through its standard
 * input. That stays open as long as this process lives: its end is the worker's end, whatever else happens.
 *
 * <p>Four threads belong to it: one reads what it sends, one writes, one reads what it prints, one watches that it shows signs of life.
 * When it ends, for whatever reason, every call that is open fails with {@link WorkerDiedException}. Nothing that it sends is believed: a
 * message that is none, or a piece that nobody allowed, ends it.
 */
final class WorkerProcess {
    /** Pieces that may be on the way to a reader. */
    static final int WINDOW = 64;

    /** How often a worker shows a sign of life. */
    static final Duration BEAT = Duration.ofMillis(250);

    private static final System.Logger LOG = System.getLogger("panamallama.worker");
    private static final int LINES = 30;
    private static final int LINE_LENGTH = 500;
    /** Time to end by itself when its connection has gone. */
    private static final long GRACE_SECONDS = 5;
    private static final Frame GONE = new Frame(null, 0, null);
    private static final Frame WAKE = new Frame(null, 0, null);

    private final IsolationOptions options;
    private final Consumer<WorkerProcess> whenDead;
    private final Process process;
    private final Path folder;
    private final ServerSocketChannel server;
    private final String secret;
    private final Map<Long, Call> calls = new ConcurrentHashMap<>();
    private final LinkedBlockingQueue<Frame> unsent = new LinkedBlockingQueue<>();
    private final AtomicLong numbers = new AtomicLong();
    private final ArrayDeque<String> output = new ArrayDeque<>();
    private final Thread printed;
    /** By the file system's clock, which may count whole seconds. */
    private final long born = System.currentTimeMillis() - 1000;
    private final CountDownLatch ended = new CountDownLatch(1);
    private final CountDownLatch buried = new CountDownLatch(1);
    /** Who connected last; the worker when {@link #frames} are there. */
    private volatile SocketChannel guest;
    private volatile Frames frames;
    private volatile Phase phase = Phase.STARTING;
    /** Watch intervals since the last sign of life. */
    private volatile int silent;
    private volatile String killed;
    private volatile boolean closing;
    private volatile Death death;
    private volatile boolean served;
    private Wire.Loaded loaded;

    /**
     * Starts a process.
     *
     * @param whenDead told once, when a worker that had loaded its model has ended without being closed
     */
    WorkerProcess(IsolationOptions options, Consumer<WorkerProcess> whenDead) {
        this.options = options;
        this.whenDead = whenDead;
        var random = new byte[32];
        new SecureRandom().nextBytes(random);
        secret = HexFormat.of().formatHex(random);
        try {
            folder = Files.createTempDirectory("llama");
            server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        } catch (IOException e) {
            throw unborn(e);
        }
        var socket = folder.resolve("s");
        try {
            server.bind(UnixDomainSocketAddress.of(socket));
            process = new ProcessBuilder(command(options)).redirectErrorStream(true).start();
        } catch (IOException e) {
            closeQuietly(server);
            unlink();
            throw unborn(e);
        }
        printed = daemon("output", this::readOutput);
        daemon("watch", this::watch);
        process.onExit().thenRun(() -> {
            ended.countDown();
            closeQuietly(server);
            if (frames == null && guest != null) {
                closeQuietly(guest);
            }
        });
        try {
            var stdin = process.getOutputStream();      // not closed before the end
            stdin.write(bytes(secret + "\n" + socket + "\n"));
            stdin.flush();
        } catch (IOException e) {
            LOG.log(System.Logger.Level.DEBUG, "the worker is gone already", e);      // greet() will tell
        }
    }

    private static WorkerDiedException unborn(IOException e) {
        var message = "no worker process could be started: " + LlamaException.reason(e);
        return new WorkerDiedException(new Death(message, Phase.STARTING, OptionalInt.empty(), List.of(), null));
    }

    private static List<String> command(IsolationOptions options) {
        var command = new ArrayList<String>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        if (options.heap() > 0) {
            command.add("-Xmx" + options.heap() + "m");
        }
        var reports = options.crashFolder() == null ? Path.of(System.getProperty("java.io.tmpdir")) : options.crashFolder();
        command.add("-XX:ErrorFile=" + reports.toAbsolutePath().resolve("hs_err_pid%p.log"));
        command.addAll(List.of("-XX:-CreateCoredumpOnCrash", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"));
        System.getProperties().forEach((key, value) -> {
            if (key.toString().startsWith("panamallama.")) {
                command.add("-D" + key + "=" + value);
            }
        });
        var classes = System.getProperty("java.class.path", "");
        if (!classes.isEmpty()) {
            command.addAll(List.of("-cp", classes));
        }
        var module = Worker.class.getModule();
        if (!module.isNamed()) {
            command.add("--enable-native-access=ALL-UNNAMED");
            command.addAll(options.jvmOptions());
            command.add(Worker.class.getName());
        } else {
            var modules = System.getProperty("jdk.module.path", "");
            if (!modules.isEmpty()) {
                command.addAll(List.of("--module-path", modules));
            }
            command.add("--enable-native-access=panamallama.bindings,panamallama.runtime");
            command.addAll(options.jvmOptions());
            command.addAll(List.of("--module", module.getName() + "/" + Worker.class.getName()));
        }
        return command;
    }

    // --- start ---------------------------------------------------------------------------------------------------------------

    /**
     * Waits for the process and loads a model in it. Called once; when it fails, the process has ended.
     *
     * @param progress told how much is loaded; null for none
     */
    void begin(Wire.Load load, DoubleConsumer progress) {
        greet();
        try {
            load(load, progress);
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    /** Waits for the connection and hands it to the reading thread. */
    private void greet() {
        try {
            do {
                guest = server.accept();
            } while (!greeted(guest));
            phase = Phase.LOADING;
            server.close();
        } catch (ClosedChannelException e) {
            LOG.log(System.Logger.Level.DEBUG, "the worker ended before it came", e);
        } catch (IOException e) {
            kill("its connection failed: " + e.getMessage());
        }
        unlink();
        daemon("reader", this::serve);
        if (frames != null) {
            daemon("writer", this::write);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Whether it is the worker. */
    private boolean greeted(SocketChannel guest) throws IOException {
        try {
            var conversation = new Frames(guest);
            var first = conversation.read();
            var hello = first == null || first.type() != Type.HELLO ? null : Wire.read(first.payload(), Wire.Hello.class);
            if (hello == null || !MessageDigest.isEqual(bytes(hello.secret()), bytes(secret))) {
                throw new BrokenException("a greeting without the secret");
            }
            if (hello.protocol() != Frames.PROTOCOL) {
                kill("it speaks protocol " + hello.protocol() + ", this program " + Frames.PROTOCOL
                        + "; was the program replaced while it ran?");
            }
            frames = conversation;
            return true;
        } catch (BrokenException e) {
            LOG.log(System.Logger.Level.WARNING, "somebody else than the worker wrote to its socket: {0}", e.getMessage());
            guest.close();
            return false;
        }
    }

    private void load(Wire.Load load, DoubleConsumer progress) {
        try (var call = begin()) {
            call.send(Type.LOAD, Wire.json(load));
            while (loaded == null) {
                Frame answer;
                try {
                    answer = call.take();
                } catch (DecodeCancelledException e) {
                    throw new ModelLoadException("the load of " + load.path() + " was interrupted", e, true);
                }
                switch (answer.type()) {
                    case LOADED -> loaded = read(answer, Wire.Loaded.class);
                    case PROGRESS -> {
                        if (progress == null || answer.payload().length != Double.BYTES) {
                            throw broken(answer);
                        }
                        progress.accept(ByteBuffer.wrap(answer.payload()).getDouble());
                        call.send(Type.GO_ON, new byte[0]);
                    }
                    case FAILED -> throw read(answer, Wire.Failure.class).exception();
                    default -> throw broken(answer);
                }
            }
        }
        phase = Phase.SERVING;
    }

    // --- calls ---------------------------------------------------------------------------------------------------------------

    /** A request and what comes back for it. One thread takes; {@link #wake} and {@link #cancel} may come from any thread. */
    final class Call implements AutoCloseable {
        private final long number;
        private final LinkedBlockingQueue<Frame> answers = new LinkedBlockingQueue<>();

        private Call(long number) {
            this.number = number;
        }

        /** Does not wait. A worker that can't be written to is dying; {@link #take} will tell. */
        void send(Type type, byte[] payload) {
            WorkerProcess.this.send(type, number, payload);
        }

        /**
         * The next message; null after {@link #wake}.
         *
         * @throws WorkerDiedException      if the worker has ended, or did not answer before the deadline and was killed
         * @throws DecodeCancelledException if the thread is interrupted; the call is over then
         */
        Frame take() {
            try {
                var limit = phase == Phase.SERVING ? options.callDeadline() : options.startDeadline();
                var answer = answers.poll(limit.toNanos(), TimeUnit.NANOSECONDS);
                if (answer == null) {
                    kill("it hung: no answer for " + limit.toMillis() + " ms");
                    answer = answers.take();
                }
                if (answer == GONE) {
                    answers.add(GONE);
                    throw gone();
                }
                return answer == WAKE ? null : answer;
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                cancel();
                throw new DecodeCancelledException("interrupted while the worker was asked");
            }
        }

        /** Makes {@link #take} return. */
        void wake() {
            answers.add(WAKE);
        }

        /** Ends it on both sides. */
        void cancel() {
            if (calls.remove(number) != null) {
                send(Type.CANCEL, new byte[0]);
            }
        }

        WorkerProcess worker() {
            return WorkerProcess.this;
        }

        /** The last answer has come. */
        @Override
        public void close() {
            calls.remove(number);
        }

        private void answer(Frame frame) throws BrokenException {
            if (answers.size() > WINDOW + 4) {
                throw new BrokenException("more pieces of text than were asked for");
            }
            answers.add(frame);
        }
    }

    private Call begin() {
        var call = new Call(numbers.incrementAndGet());
        calls.put(call.number, call);
        if (death != null) {
            call.answers.add(GONE);
        }
        return call;
    }

    /**
     * Asks for a text.
     *
     * @param measured whether confidence is asked for
     */
    Generation open(Type type, Object request, boolean measured) {
        var payload = Wire.json(request);
        var call = begin();
        try {
            call.send(type, payload);
            var answer = call.take();
            return switch (answer.type()) {
                case OPENED -> new RemoteGeneration(call, read(answer, Wire.Opened.class), measured);
                case FAILED -> throw read(answer, Wire.Failure.class).exception();
                default -> throw broken(answer);
            };
        } catch (RuntimeException e) {
            call.cancel();
            throw e;
        }
    }

    /** Asks for a value. */
    <T> T ask(Type type, Object request, Class<T> answered) {
        return ask(type, request, answered, null);
    }

    /**
     * Asks for a value.
     *
     * @param vectors told of those that come before it; null where none may
     */
    <T> T ask(Type type, Object request, Class<T> answered, Consumer<byte[]> vectors) {
        var payload = Wire.json(request);
        try (var call = begin()) {
            call.send(type, payload);
            while (true) {
                var answer = call.take();
                switch (answer.type()) {
                    case VALUE -> {
                        return read(answer, answered);
                    }
                    case VECTORS -> {
                        if (vectors == null) {
                            throw broken(answer);
                        }
                        vectors.accept(answer.payload());
                    }
                    case FAILED -> throw read(answer, Wire.Failure.class).exception();
                    default -> throw broken(answer);
                }
            }
        }
    }

    /** Sends what is not answered. */
    void tell(Type type, Object message) {
        send(type, 0, Wire.json(message));
    }

    private void send(Type type, long call, byte[] payload) {
        Frames.requireFits(payload);
        unsent.add(new Frame(type, call, payload));
    }

    /**
     * The writing thread. Callers don't write themselves: an interrupt in mid-write would close the channel for everybody, and a worker
     * that does not read would keep them beyond their deadline.
     */
    private void write() {
        try {
            for (Frame frame; (frame = unsent.take()) != GONE; ) {
                frames.write(frame.type(), frame.call(), frame.payload());
            }
        } catch (IOException e) {
            LOG.log(System.Logger.Level.DEBUG, "the worker does not read any more", e);
        } catch (InterruptedException e) {
            throw new IllegalStateException("the writing thread of a worker is never interrupted", e);
        }
    }

    /** Reads an answer; one that is none is the end of the worker. */
    <T> T read(Frame answer, Class<T> type) {
        try {
            return Wire.read(answer.payload(), type);
        } catch (BrokenException e) {
            throw broken(e.getMessage());
        }
    }

    RuntimeException broken(Frame answer) {
        return broken("an answer of type " + answer.type() + " that does not belong there");
    }

    RuntimeException broken(String what) {
        kill("what it sent is no message: " + what);
        awaitEnd();
        return gone();
    }

    private RuntimeException gone() {
        return closing && killed == null ? new ClosedException("the isolated model has been closed") : new WorkerDiedException(death);
    }

    // --- life and death ------------------------------------------------------------------------------------------------------

    /** The reading thread: hands every message to its call, until the end. */
    private void serve() {
        try (var channel = guest) {
            for (Frame frame; frames != null && (frame = frames.read()) != null; ) {
                silent = 0;
                var call = calls.get(frame.call());
                if (call != null) {
                    call.answer(frame);
                }
            }
        } catch (BrokenException e) {
            kill("what it sent is no message: " + e.getMessage());
        } catch (IOException e) {
            LOG.log(System.Logger.Level.DEBUG, "the worker has gone", e);
        }
        bury();
    }

    private void bury() {
        int code;
        try {
            if (!process.waitFor(GRACE_SECONDS, TimeUnit.SECONDS)) {
                kill("it gave up its connection and did not end");
            }
            code = process.waitFor();
            printed.join(Duration.ofSeconds(1));
        } catch (InterruptedException e) {
            throw new IllegalStateException("the reading thread of a worker is never interrupted", e);
        }
        death = obituary(code);
        if (!closing) {
            LOG.log(System.Logger.Level.WARNING, death.message());
        }
        closeQuietly(process.getOutputStream());
        unsent.add(GONE);
        for (var call : calls.values()) {
            call.answers.add(GONE);
        }
        buried.countDown();
        if (!closing && phase == Phase.SERVING) {
            whenDead.accept(this);
        }
    }

    private Death obituary(int code) {
        List<String> lines;
        synchronized (output) {
            lines = List.copyOf(output);
        }
        var report = report();
        var message = new StringBuilder("the worker process " + process.pid() + " died while " + switch (phase) {
            case STARTING -> "it started: ";
            case LOADING -> "it loaded the model: ";
            case SERVING -> "it served: ";
        });
        message.append(killed != null ? "killed, because " + killed : code > 128 ? "signal " + signal(code - 128) : "exit code " + code);
        if (report != null) {
            lines.stream().filter(line -> line.matches("# +(SIG|EXCEPTION_|Internal Error).*")).findFirst()
                    .ifPresent(line -> message.append(", ").append(line.replaceFirst("# +", "")));
            message.append("; crash report in ").append(report);
        } else if (!lines.isEmpty()) {
            message.append("; it printed last: ").append(String.join("\n", lines.subList(Math.max(0, lines.size() - 5), lines.size())));
        }
        return new Death(message.toString(), phase, OptionalInt.of(code), lines, report);
    }

    private Path report() {
        var reports = options.crashFolder() == null ? Path.of(System.getProperty("java.io.tmpdir")) : options.crashFolder();
        var report = reports.toAbsolutePath().resolve("hs_err_pid" + process.pid() + ".log");
        try {
            // numbers of processes come again, and so do names of reports
            return Files.getLastModifiedTime(report).toMillis() >= born ? report : null;
        } catch (IOException e) {
            return null;        // there is none
        }
    }

    private static String signal(int number) {
        return number + switch (number) {       // as Linux and macOS number them
            case 4 -> " (SIGILL)";
            case 6 -> " (SIGABRT)";
            case 8 -> " (SIGFPE)";
            case 9 -> " (SIGKILL)";
            case 11 -> " (SIGSEGV)";
            case 15 -> " (SIGTERM)";
            default -> "";
        };
    }

    private void readOutput() {
        try (var lines = new BufferedReader(process.inputReader(StandardCharsets.UTF_8))) {
            for (String line; (line = lines.readLine()) != null; ) {
                LOG.log(System.Logger.Level.DEBUG, line);
                synchronized (output) {
                    if (output.size() == LINES) {
                        output.removeFirst();
                    }
                    output.addLast(line.length() > LINE_LENGTH ? line.substring(0, LINE_LENGTH) + "..." : line);
                }
            }
        } catch (IOException | UncheckedIOException e) {
            LOG.log(System.Logger.Level.DEBUG, "the output of the worker can't be read any more", e);
        }
    }

    /** Counts intervals, not time: when this process itself stood still, the worker's signs of life wait in the socket. */
    private void watch() {
        long start = System.nanoTime();
        long most = Math.max(1, options.heartbeatTimeout().dividedBy(BEAT));
        try {
            while (!ended.await(BEAT.toMillis(), TimeUnit.MILLISECONDS)) {
                if (phase != Phase.SERVING && System.nanoTime() - start > options.startDeadline().toNanos()) {
                    kill("it hung: the model was not loaded after " + options.startDeadline().toMillis() + " ms");
                } else if (frames != null && ++silent > most) {
                    kill("it hung: no sign of life for " + options.heartbeatTimeout().toMillis() + " ms");
                }
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException("the watching thread of a worker is never interrupted", e);
        }
    }

    /** Ends it at once. */
    synchronized void kill(String reason) {
        if (killed == null && process.isAlive()) {
            killed = reason;
        }
        process.destroyForcibly();
    }

    /** Whether it can be asked. */
    boolean alive() {
        return death == null && killed == null && process.isAlive();
    }

    /** Whether a call has ended well. */
    boolean served() {
        return served;
    }

    void hasServed() {
        served = true;
    }

    Wire.Loaded loaded() {
        return loaded;
    }

    long pid() {
        return process.pid();
    }

    Death death() {
        return death;
    }

    /** Ends it; open calls end with {@link ClosedException}. */
    void close() {
        closing = true;
        closeQuietly(process.getOutputStream());        // the worker ends when it sees this
        boolean interrupted = false;
        try {
            if (!process.waitFor(GRACE_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            interrupted = true;
        }
        awaitEnd();
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Waits for a process that is ending. */
    void awaitEnd() {
        boolean interrupted = false;
        while (true) {
            try {
                buried.await();
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private Thread daemon(String name, Runnable work) {
        return Thread.ofPlatform().daemon().name("panama-llama-worker-" + name).start(work);
    }

    private static void closeQuietly(AutoCloseable what) {
        try {
            what.close();
        } catch (Exception e) {
            LOG.log(System.Logger.Level.DEBUG, "closed while in use", e);
        }
    }

    private void unlink() {
        try {
            Files.deleteIfExists(folder.resolve("s"));
            Files.deleteIfExists(folder);
        } catch (IOException e) {
            LOG.log(System.Logger.Level.WARNING, "{0} could not be deleted: {1}", folder, e.getMessage());
        }
    }
}
