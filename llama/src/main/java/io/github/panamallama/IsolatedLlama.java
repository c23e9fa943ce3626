package io.github.panamallama;

import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.chat.ChatTemplate;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.DoubleConsumer;

/**
 * A model in a JVM of its own: a crash in native code, a hang or a lack of memory there ends calls with an exception and nothing else.
 *
 * <pre>{@code
 * try (IsolatedLlama llama = Llama.isolated(Path.of("model.gguf"))) {
 *     llama.complete("public static int max(").forEach(System.out::print);
 * } catch (WorkerDiedException e) {
 *     System.err.println(e.getMessage());         // this process goes on
 * }
 * }</pre>
 *
 * <p>When the worker dies, calls that are open throw {@link WorkerDiedException}, and a new worker loads the model at once, after a pause
 * when the last ones died too; later calls wait for it. When that has been in vain {@link IsolationOptions#restarts} times in a row,
 * it stays down and calls throw what ended the last one. A {@link Chat} outlives its worker: its messages are kept here. When this process
 * ends, however it does, the worker ends too.
 *
 * <p>What can't be sent to another process is refused with {@link IllegalArgumentException}: adapters, confidence, a {@link PlanChooser}
 * other than one plan, and strategies that hold models, tables or code. Chat templates are rendered here, by Java code with limits. The
 * worker writes ahead of the reader by some dozens of pieces, which cost no waiting; a text that nobody reads stops there.
 */
public final class IsolatedLlama extends TextModel {
    private final Wire.Load load;
    private final DoubleConsumer progress;
    private final IsolationOptions isolation;
    private final AtomicLong dialogues = new AtomicLong();

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition closing = lock.newCondition();
    private volatile WorkerProcess worker;
    /** One that loads the model; it is not {@link #worker} yet. */
    private volatile WorkerProcess beginning;
    private volatile boolean closed;
    private volatile int restarts;
    /** Deaths and failed starts since a call last ended well. */
    private int failures;
    private RuntimeException lastFailure;
    /** When the next worker may be started, in nanoseconds of {@link System#nanoTime}. */
    private long notBefore = System.nanoTime();

    private IsolatedLlama(Wire.Load load, DoubleConsumer progress, IsolationOptions isolation, GenerationOptions generation) {
        super(generation);
        this.load = load;
        this.progress = progress;
        this.isolation = isolation;
    }

    static IsolatedLlama start(Path path, LlamaOptions options, IsolationOptions isolation) {
        Wire.Options.of(options.generation());
        if (options.control() != null) {
            throw new IllegalArgumentException("a control vector is made by code, which can't be sent to another process");
        }
        var load = Wire.load(path, options.model(), options.engine());
        var llama = new IsolatedLlama(load, options.model().progress(), isolation, options.generation());
        llama.worker = llama.begun();
        return llama;
    }

    /** In the reading thread of a worker that is no more. */
    private void died(WorkerProcess dead) {
        Thread.ofVirtual().name("panama-llama-worker-restart").start(() -> {
            try {
                worker();
            } catch (LlamaException e) {
                // who calls next is told
            }
        });
    }

    /**
     * The worker that runs, after a restart if need be.
     *
     * @throws WorkerDiedException if it died too often
     * @throws LlamaException      if the model can't be loaded any more
     */
    WorkerProcess worker() {
        var running = worker;
        if (running != null && running.alive() && !closed) {
            return running;
        }
        lock.lock();
        try {
            while (!closed) {
                if (worker != null) {
                    if (worker.alive()) {
                        return worker;
                    }
                    worker.awaitEnd();
                    failed(new WorkerDiedException(worker.death()), worker.served());
                    worker = null;
                }
                if (failures > isolation.restarts()) {
                    throw givenUp();
                }
                long pause = notBefore - System.nanoTime();
                if (pause <= 0) {
                    restart();
                } else {
                    await(pause);       // another thread may have started one meanwhile
                }
            }
            throw new ClosedException("the isolated model has been closed");
        } finally {
            lock.unlock();
        }
    }

    /** The first restart in a row comes at once, those after it later and later. */
    private void failed(RuntimeException failure, boolean afterSuccess) {
        failures = afterSuccess ? 1 : failures + 1;
        lastFailure = failure;
        long longest = isolation.longestBackOff().toNanos();
        long pause = failures < 2 ? 0 : isolation.backOff().toNanos();
        for (int i = 2; i < failures && pause < longest; i++) {
            pause *= 2;
        }
        notBefore = System.nanoTime() + Math.min(pause, longest);
    }

    private RuntimeException givenUp() {
        var why = "the worker failed " + failures + " times in a row and is not started again; find the cause, close this and load anew. ";
        return lastFailure instanceof WorkerDiedException died ? new WorkerDiedException(why, died.death())
                : new LlamaException(why + lastFailure.getMessage(), lastFailure);
    }

    private void await(long nanos) {
        try {
            closing.awaitNanos(nanos);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new DecodeCancelledException("interrupted while a worker was waited for");
        }
    }

    private void restart() {
        try {
            worker = begun();
            restarts++;
        } catch (LlamaException e) {
            failed(e, false);
        }
    }

    private WorkerProcess begun() {
        var fresh = new WorkerProcess(isolation, this::died);
        beginning = fresh;
        if (closed) {
            fresh.kill("it is not wanted any more");
        }
        fresh.begin(load, progress);
        beginning = null;
        return fresh;
    }

    @Override
    public Completion complete(String prompt, GenerationOptions options) {
        return new Completion(worker().open(Type.COMPLETE, new Wire.Complete(prompt, Wire.Options.of(options))));
    }

    @Override
    public boolean canInfill() {
        return worker().loaded().canInfill();
    }

    @Override
    public Completion infill(String prefix, String suffix, GenerationOptions options) {
        return new Completion(worker().open(Type.INFILL, new Wire.Infill(prefix, suffix, Wire.Options.of(options))));
    }

    @Override
    ChatTemplate template() {
        var loaded = worker().loaded();
        return ChatTemplate.ofModelFile(loaded.template(), loaded.bos(), loaded.eos());
    }

    @Override
    Dialogue dialogue(AdapterSet adapters) {
        Wire.requireNoAdapters(adapters);
        return new RemoteDialogue(this);
    }

    long newDialogue() {
        return dialogues.incrementAndGet();
    }

    /** The process id of the worker, which may have died meanwhile. */
    public long workerPid() {
        return worker().pid();
    }

    /** How often a new worker has been started. */
    public int restarts() {
        return restarts;
    }

    /** Ends the worker. Calls that are open end with {@link ClosedException}. */
    @Override
    public void close() {
        closed = true;
        var unfinished = beginning;
        if (unfinished != null) {
            unfinished.kill("it is not wanted any more");
        }
        lock.lock();
        try {
            closing.signalAll();
            if (worker != null) {
                worker.close();
            }
        } finally {
            lock.unlock();
        }
    }
}
