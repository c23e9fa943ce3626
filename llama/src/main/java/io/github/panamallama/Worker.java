package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.Frames.Frame;
import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarDefinition;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/**
 * The program of a worker JVM: loads one model and does what the process that started it asks for. It ends when its standard input or its
 * connection does, whatever it is doing, so that no worker outlives its parent.
 */
final class Worker {
    /** Grammars kept with what was learnt about them. */
    private static final int GRAMMARS = 64;
    /** Of a message with vectors, unless they are few or one takes more. */
    private static final int LEAST_VECTOR_BYTES = 1 << 20;
    private static final int MOST_VECTOR_BYTES = 16 << 20;

    private final Frames frames;
    private final Map<Long, Task> tasks = new ConcurrentHashMap<>();
    private final Map<Long, Held> dialogues = new ConcurrentHashMap<>();
    private final Map<GrammarDefinition, Grammar> grammars = Collections.synchronizedMap(new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<GrammarDefinition, Grammar> eldest) {
            return size() > GRAMMARS;
        }
    });
    private final Map<String, RoutedPlans> routers = new ConcurrentHashMap<>();
    private final Map<Adapter, String> fingerprints = new HashMap<>();
    private final Map<Long, LocalVectors> vectors = new ConcurrentHashMap<>();
    private final Semaphore goOn = new Semaphore(0);
    private volatile Model model;
    /** Null for a model that only gives vectors or scores. */
    private volatile Llama llama;

    private Worker(Frames frames) {
        this.frames = frames;
    }

    public static void main(String[] arguments) throws IOException {
        var stdin = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var secret = stdin.readLine();
        var socket = stdin.readLine();
        if (secret == null || socket == null) {
            System.err.println("this program is started by IsolatedLlama, which tells it where to connect; it does nothing by itself");
            Runtime.getRuntime().halt(2);
        }
        daemon("parent", () -> {
            try {
                while (stdin.read() >= 0) {
                    // nothing comes any more but the end
                }
            } catch (IOException e) {
                System.err.println("standard input failed: " + e);
            }
            Runtime.getRuntime().halt(0);
        });
        try (var channel = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
            var frames = new Frames(channel);
            frames.write(Type.HELLO, 0, Wire.json(new Wire.Hello(Frames.PROTOCOL, secret)));
            daemon("beat", () -> beat(frames));
            var worker = new Worker(frames);
            for (Frame frame; (frame = frames.read()) != null; ) {
                worker.receive(frame);
            }
        } catch (BrokenException e) {
            System.err.println("what the parent process sent is no message: " + e.getMessage());
            Runtime.getRuntime().halt(3);
        }
        Runtime.getRuntime().halt(0);
    }

    private static void beat(Frames frames) {
        try {
            while (true) {
                frames.write(Type.BEAT, 0, new byte[0]);
                Thread.sleep(WorkerProcess.BEAT);
            }
        } catch (IOException | InterruptedException e) {
            Runtime.getRuntime().halt(0);       // nobody listens
        }
    }

    private static void daemon(String name, Runnable work) {
        Thread.ofPlatform().daemon().name(name).start(work);
    }

    /** In the reading thread, which must not wait. */
    private void receive(Frame frame) throws BrokenException {
        switch (frame.type()) {
            case GO_ON -> goOn.release();
            case CREDIT -> {
                var task = tasks.get(frame.call());
                if (task != null) {
                    task.credit(credit(frame));
                }
            }
            case CANCEL -> {
                var task = tasks.get(frame.call());
                if (task != null) {
                    task.cancel();
                }
            }
            case LOAD, COMPLETE, INFILL, TOKENS, ANSWER, LENGTH, RELEASE, ADAPT, SAVE, RESTORE, ADAPTER, CLOSE_ADAPTER, OPEN_VECTORS,
                 VECTORS_OF, CLOSE_VECTORS -> {
                var task = new Task(frame);
                tasks.put(frame.call(), task);
                daemon("call " + frame.call(), task::begin);
            }
            case HELLO, PROGRESS, LOADED, OPENED, VALUE, PIECE, END, FAILED, VECTORS, BEAT ->
                throw new BrokenException("a message of type " + frame.type() + ", which workers send");
        }
    }

    private static int credit(Frame frame) throws BrokenException {
        int pieces = frame.payload().length == Integer.BYTES ? ByteBuffer.wrap(frame.payload()).getInt() : 0;
        if (pieces < 1 || pieces > WorkerProcess.WINDOW) {
            throw new BrokenException("credit for " + pieces + " pieces");
        }
        return pieces;
    }

    /** A conversation, and who uses it: the next answer waits for the end of the last. */
    private record Held(LocalDialogue dialogue, ReentrantLock lock) {
    }

    /** A call. */
    private final class Task {
        private final Frame request;
        private final Semaphore credits = new Semaphore(0);
        /** Held while {@link #generation} runs; of a conversation, the conversation's. */
        private ReentrantLock lock = new ReentrantLock();
        private volatile Generation generation;
        private volatile boolean cancelled;
        private boolean running;

        Task(Frame request) {
            this.request = request;
        }

        /** Answers the request; of a text, says that it can be read. */
        void begin() {
            try {
                switch (request.type()) {
                    case LOAD -> answer(Type.LOADED, load(Wire.read(request.payload(), Wire.Load.class), request.call()));
                    case TOKENS -> answer(Type.VALUE, tokens(Wire.read(request.payload(), String.class)));
                    case LENGTH -> answer(Type.VALUE, length(Wire.read(request.payload(), Long.class)));
                    case RELEASE -> {
                        release(Wire.read(request.payload(), Long.class));
                        tasks.remove(request.call());
                    }
                    case COMPLETE -> {
                        var complete = Wire.read(request.payload(), Wire.Complete.class);
                        opened(llama.complete(complete.prompt(), options(complete.options())).generation());
                    }
                    case INFILL -> {
                        var infill = Wire.read(request.payload(), Wire.Infill.class);
                        opened(llama.infill(infill.prefix(), infill.suffix(), options(infill.options())).generation());
                    }
                    case ANSWER -> {
                        var answer = Wire.read(request.payload(), Wire.Answer.class);
                        var held = held(answer.dialogue());
                        lock = held.lock;
                        lock.lock();
                        try {
                            held.dialogue.adapters(adapters(answer.adapters()));
                            opened(held.dialogue.answer(answer.prompt(), options(answer.options())));
                        } finally {
                            lock.unlock();
                        }
                    }
                    case ADAPT -> {
                        var adapted = Wire.read(request.payload(), Wire.Adapted.class);
                        answer(Type.VALUE, with(adapted.dialogue(), adapted.adapters(), dialogue -> { }));
                    }
                    case SAVE -> {
                        var kept = Wire.read(request.payload(), Wire.Kept.class);
                        answer(Type.VALUE, with(kept.dialogue(), kept.adapters(), dialogue -> dialogue.save(Path.of(kept.file()))));
                    }
                    case RESTORE -> {
                        var kept = Wire.read(request.payload(), Wire.Kept.class);
                        answer(Type.VALUE, with(kept.dialogue(), kept.adapters(), dialogue -> dialogue.restore(Path.of(kept.file()))));
                    }
                    case ADAPTER -> {
                        var adapter = adapter(Wire.read(request.payload(), Wire.AdapterRef.class));
                        answer(Type.VALUE, new Wire.AdapterState(adapter.sizeBytes(), adapter.sequences()));
                    }
                    case CLOSE_ADAPTER -> answer(Type.VALUE, closeAdapter(Path.of(Wire.read(request.payload(), String.class))));
                    case OPEN_VECTORS -> answer(Type.VALUE, vectors(Wire.read(request.payload(), Wire.Vectors.class)).opened());
                    case VECTORS_OF -> {
                        var of = Wire.read(request.payload(), Wire.VectorsOf.class);
                        var rows = vectors(of.of()).of(of);
                        sendRows(rows);
                        answer(Type.VALUE, rows.length);
                    }
                    case CLOSE_VECTORS -> {
                        var open = vectors.remove(Wire.read(request.payload(), Long.class));
                        if (open != null) {
                            open.close();
                        }
                        tasks.remove(request.call());
                    }
                    default -> throw new IllegalStateException(request.type() + " is no request");
                }
            } catch (BrokenException e) {
                failed(new LlamaException("the worker can't read the request: " + e.getMessage()), null);
            } catch (IOException e) {
                Runtime.getRuntime().halt(0);       // nobody listens
            } catch (RuntimeException | Error e) {
                failed(e, null);
            }
        }

        private void answer(Type type, Object value) throws IOException {
            tasks.remove(request.call());
            frames.write(type, request.call(), Wire.json(value));
        }

        /** In parts that fit into messages; nobody allows them one by one, so that there is a limit. */
        private void sendRows(float[][] rows) throws IOException {
            int width = rows.length == 0 ? 1 : rows[0].length;
            long share = ((long) rows.length * width * Float.BYTES) / WorkerProcess.WINDOW + (long) width * Float.BYTES;
            int each = Math.max(1, Math.clamp(share, LEAST_VECTOR_BYTES, MOST_VECTOR_BYTES) / (width * Float.BYTES));
            if (rows.length > (long) each * WorkerProcess.WINDOW) {
                throw new IllegalArgumentException(rows.length + " vectors of " + width
                        + " numbers are more than a worker process sends at "
                        + "once; ask for at most " + (long) each * WorkerProcess.WINDOW + " at a time");
            }
            for (int from = 0; from < rows.length; from += each) {
                int to = Math.min(rows.length, from + each);
                var part = ByteBuffer.allocate((to - from) * width * Float.BYTES);
                for (int i = from; i < to; i++) {
                    part.asFloatBuffer().put(rows[i]);
                    part.position(part.position() + width * Float.BYTES);
                }
                frames.write(Type.VECTORS, request.call(), part.array());
            }
        }

        private void opened(Generation opened) throws IOException {
            generation = opened;
            if (cancelled) {
                opened.cancel();
                tasks.remove(request.call());
                return;
            }
            var stats = opened.stats();
            frames.write(Type.OPENED, request.call(),
                    Wire.json(new Wire.Opened(stats.promptTokens(), stats.cachedTokens(), stats.truncated(), Wire.Plan.of(opened.plan()))));
        }

        private void failed(Throwable e, FinishReason reason) {
            tasks.remove(request.call());
            try {
                frames.write(Type.FAILED, request.call(), Wire.json(Wire.Failure.of(e, reason)));
            } catch (IOException gone) {
                Runtime.getRuntime().halt(0);
            }
        }

        /** In the reading thread. The first one starts the text. */
        void credit(int pieces) {
            credits.release(pieces);
            if (!running && generation != null) {
                running = true;
                daemon("text " + request.call(), this::run);
            }
        }

        /** In the reading thread. */
        void cancel() {
            cancelled = true;
            var known = generation;
            if (known != null) {
                known.cancel();
                credits.release();
                if (!running) {
                    tasks.remove(request.call());
                }
            }
        }

        private void run() {
            lock.lock();
            try {
                int told = 0;
                int measured = 0;
                while (true) {
                    credits.acquireUninterruptibly();
                    var text = generation.next();
                    var stats = generation.stats();
                    var logProbs = generation.logProbs();
                    var measures = Wire.Measure.of(generation.confidence(), measured);
                    var piece = new Wire.Piece(text == null ? "" : text, stats.generatedTokens(), stats.promptNanos(),
                            stats.generationNanos(), logProbs.subList(told, logProbs.size()), measures);
                    told = logProbs.size();
                    measured += measures.size();
                    frames.write(Type.PIECE, request.call(), piece.bytes());
                    if (text == null) {
                        break;
                    }
                }
                tasks.remove(request.call());
                frames.write(Type.END, request.call(), Wire.json(new Wire.End(generation.reason(), partial(), generation.work())));
            } catch (IOException e) {
                Runtime.getRuntime().halt(0);       // nobody listens
            } catch (RuntimeException | Error e) {
                failed(e, generation.reason());
            } finally {
                lock.unlock();
            }
        }

        private int[] partial() {
            try {
                generation.requireWhole();
                return null;
            } catch (IncompleteException e) {
                return e.tokens();
            }
        }
    }

    private Wire.Loaded load(Wire.Load load, long call) {
        var options = load.told() ? load.model().withProgress(part -> progress(call, part)) : load.model();
        if (load.engine() == null) {
            model = Model.load(Path.of(load.path()), options);
            return new Wire.Loaded(0, false, null, "", "", List.of());
        }
        var loaded = Llama.load(Path.of(load.path()), LlamaOptions.defaults().withModel(options).withEngine(load.engine())
                .withControl(load.control()));
        llama = loaded;
        model = loaded.model();
        var vocabulary = model.vocabulary();
        return new Wire.Loaded(loaded.engine().contextSize(), loaded.canInfill(), model.chatTemplateSource(null).orElse(null),
                text(vocabulary.bos()), text(vocabulary.eos()), vocabulary.specialSpellings());
    }

    private String text(int token) {
        return token < 0 ? "" : new String(model.vocabulary().bytes(token), StandardCharsets.UTF_8);
    }

    /** Waits until the parent has heard it: it may end this process instead. */
    private void progress(long call, double part) {
        try {
            frames.write(Type.PROGRESS, call, ByteBuffer.allocate(Double.BYTES).putDouble(part).array());
        } catch (IOException e) {
            Runtime.getRuntime().halt(0);
        }
        goOn.acquireUninterruptibly();
    }

    private GenerationOptions options(Wire.Options options) {
        return options.options(grammars, routers, this::adapters);
    }

    /** The adapter of this file, as it was when it was loaded first: in another worker, it may be. */
    private Adapter adapter(Wire.AdapterRef ref) {
        synchronized (fingerprints) {
            var adapter = llama.adapter(Path.of(ref.path()));
            if (!fingerprints.computeIfAbsent(adapter, loaded -> Wire.AdapterRef.fingerprint(loaded.file())).equals(ref.fingerprint())) {
                fingerprints.remove(adapter);
                adapter.close();
                throw new AdapterException(ref.path()
                        + " is another file than the one that was loaded; close that adapter and load it anew");
            }
            return adapter;
        }
    }

    private AdapterSet adapters(List<Wire.AdapterRef> refs) {
        return AdapterSet.of(refs.stream().map(ref -> new AdapterSet.Entry(adapter(ref), ref.scale())).toList());
    }

    private int closeAdapter(Path path) {
        synchronized (fingerprints) {
            for (var adapter : llama.adapters()) {
                if (adapter.path().equals(path)) {
                    adapter.close();
                    fingerprints.remove(adapter);
                }
            }
        }
        return 0;
    }

    private Held held(long dialogue) {
        return dialogues.computeIfAbsent(dialogue,
                number -> new Held(new LocalDialogue(llama.engine(), AdapterSet.none()), new ReentrantLock()));
    }

    /** Does something with a conversation under adapters; gives its length then. */
    private int with(long dialogue, List<Wire.AdapterRef> adapters, Consumer<LocalDialogue> what) {
        var held = held(dialogue);
        held.lock.lock();
        try {
            held.dialogue.adapters(adapters(adapters));
            what.accept(held.dialogue);
            return held.dialogue.length();
        } finally {
            held.lock.unlock();
        }
    }

    private LocalVectors vectors(Wire.Vectors asked) {
        return vectors.computeIfAbsent(asked.number(), number -> LocalVectors.open(model, asked));
    }

    private int[] tokens(String prompt) {
        try (var dialogue = new LocalDialogue(llama.engine(), AdapterSet.none())) {
            return dialogue.tokens(prompt);
        }
    }

    private int length(long number) {
        var held = dialogues.get(number);
        return held == null ? 0 : held.dialogue.length();
    }

    private void release(long number) {
        var held = dialogues.remove(number);
        if (held != null) {
            held.lock.lock();
            try {
                held.dialogue.close();
            } finally {
                held.lock.unlock();
            }
        }
    }
}
