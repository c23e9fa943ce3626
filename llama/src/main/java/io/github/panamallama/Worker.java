package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.Frames.Frame;
import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.LlamaException;
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
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The program of a worker JVM: loads one model and does what the process that started it asks for. It ends when its standard input or its
 * connection does, whatever it is doing, so that no worker outlives its parent.
 */
final class Worker {
    /** Grammars kept with what was learnt about them. */
    private static final int GRAMMARS = 64;

    private final Frames frames;
    private final Map<Long, Task> tasks = new ConcurrentHashMap<>();
    private final Map<Long, Held> dialogues = new ConcurrentHashMap<>();
    private final Map<GrammarDefinition, Grammar> grammars = Collections.synchronizedMap(new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<GrammarDefinition, Grammar> eldest) {
            return size() > GRAMMARS;
        }
    });
    private final Semaphore goOn = new Semaphore(0);
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
            case LOAD, COMPLETE, INFILL, TOKENS, ANSWER, LENGTH, RELEASE -> {
                var task = new Task(frame);
                tasks.put(frame.call(), task);
                daemon("call " + frame.call(), task::begin);
            }
            case HELLO, PROGRESS, LOADED, OPENED, VALUE, PIECE, END, FAILED, BEAT ->
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
                        opened(llama.complete(complete.prompt(), complete.options().options(grammars)).generation());
                    }
                    case INFILL -> {
                        var infill = Wire.read(request.payload(), Wire.Infill.class);
                        opened(llama.infill(infill.prefix(), infill.suffix(), infill.options().options(grammars)).generation());
                    }
                    case ANSWER -> {
                        var answer = Wire.read(request.payload(), Wire.Answer.class);
                        var held = dialogues.computeIfAbsent(answer.dialogue(),
                                number -> new Held(new LocalDialogue(llama.engine(), AdapterSet.none()), new ReentrantLock()));
                        lock = held.lock;
                        lock.lock();
                        try {
                            opened(held.dialogue.answer(answer.prompt(), answer.options().options(grammars)));
                        } finally {
                            lock.unlock();
                        }
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
                while (true) {
                    credits.acquireUninterruptibly();
                    var text = generation.next();
                    var stats = generation.stats();
                    var logProbs = generation.logProbs();
                    var piece = new Wire.Piece(text == null ? "" : text, stats.generatedTokens(), stats.promptNanos(),
                            stats.generationNanos(), logProbs.subList(told, logProbs.size()));
                    told = logProbs.size();
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
        var model = load.told() ? load.model().withProgress(part -> progress(call, part)) : load.model();
        var loaded = Llama.load(Path.of(load.path()), LlamaOptions.defaults().withModel(model).withEngine(load.engine()));
        llama = loaded;
        var vocabulary = loaded.model().vocabulary();
        return new Wire.Loaded(loaded.engine().contextSize(), loaded.canInfill(), loaded.model().chatTemplateSource(null).orElse(null),
                text(vocabulary.bos()), text(vocabulary.eos()));
    }

    private String text(int token) {
        return token < 0 ? "" : new String(llama.model().vocabulary().bytes(token), StandardCharsets.UTF_8);
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
