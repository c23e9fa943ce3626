package io.github.panamallama;

import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.TextEmbedder;
import io.github.panamallama.runtime.TextReranker;
import io.github.panamallama.runtime.chat.ChatTemplate;
import io.github.panamallama.runtime.gguf.AdapterFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
 * <p>It does what a {@link Llama} in this process does, with the same results. What can't be sent to another process is refused with
 * {@link IsolationException} before anything is sent:
 * <ul>
 * <li>code: a {@link PlanChooser} other than one plan or {@link RoutedPlans}, the control of a {@code PlanSwitching} other than a
 *     {@link io.github.panamallama.layers.Budget}, an end of {@code AdaDec}'s look-ahead other than its two constants, a control vector
 *     other than {@link ControlFiles}, a cancellation of loading;
 * <li>what lives in the memory of this process and would have to be there too: the second model of {@code Speculative} and
 *     {@code EntropySwitching}, the table of {@code NGramDrafts}, which learns while it is used.
 * </ul>
 * There is neither {@link Llama#model} nor {@link Llama#engine}, because both are handles of native memory, and no {@link Llama#aligned}:
 * its sampler is a trie that grows in the memory beside the engine from draw to draw and would be lost with each worker.
 *
 * <p>Chat templates are rendered here, by Java code with limits. The worker writes ahead of the reader by some dozens of pieces, which cost
 * no waiting; a text that nobody reads stops there. Files (adapters, evaluated prompts and conversations, routers) are read and written by
 * the worker. After a restart it loads adapters again when they are next asked for, and refuses one whose file is another one by then.
 */
public final class IsolatedLlama extends TextModel {
    private final Wire.Load load;
    private final DoubleConsumer progress;
    private final IsolationOptions isolation;
    private final AtomicLong numbers = new AtomicLong();
    /** What {@link #adapter} has given away, and how a worker is told of it. */
    private final Map<Adapter, Wire.AdapterRef> adapters = new LinkedHashMap<>();

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
        var load = Wire.load(path, options);
        var llama = new IsolatedLlama(load, options.model().progress(), isolation, options.generation());
        llama.wire(options.generation());
        llama.worker = llama.begun();
        return llama;
    }

    /** One that only gives vectors or scores, as models do that only encode. */
    static IsolatedLlama startVectors(Path path, IsolationOptions isolation) {
        var llama = new IsolatedLlama(Wire.load(path), null, isolation, GenerationOptions.defaults());
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
        return open(Type.COMPLETE, new Wire.Complete(prompt, wire(options)), options);
    }

    private Completion open(Type type, Object request, GenerationOptions options) {
        return new Completion(worker().open(type, request, options.confidence()));
    }

    private Wire.Options wire(GenerationOptions options) {
        return Wire.Options.of(options, refs(options.adapters()));
    }

    @Override
    public boolean canInfill() {
        return worker().loaded().canInfill();
    }

    @Override
    public Completion infill(String prefix, String suffix, GenerationOptions options) {
        return open(Type.INFILL, new Wire.Infill(prefix, suffix, wire(options)), options);
    }

    @Override
    ChatTemplate template() {
        var loaded = worker().loaded();
        return ChatTemplate.ofModelFile(loaded.template(), loaded.bos(), loaded.eos());
    }

    @Override
    Dialogue dialogue(AdapterSet adapters) {
        return new RemoteDialogue(this, adapters);
    }

    /** Of a conversation, embedder or reranker in a worker. */
    long newNumber() {
        return numbers.incrementAndGet();
    }

    /** Says something to the worker, if there is one, that it does not answer. */
    void tell(Type type, Object message) {
        var running = worker;
        if (running != null && running.alive()) {
            running.tell(type, message);
        }
    }

    /** The worker loads it; here is what its file says of itself. */
    @Override
    public Adapter adapter(Path path) {
        synchronized (adapters) {
            adapters.keySet().removeIf(Adapter::closed);
            var key = path.toAbsolutePath().normalize();
            for (var known : adapters.keySet()) {
                if (known.path().equals(key)) {
                    return known;
                }
            }
            var file = AdapterFile.read(key);
            var ref = new Wire.AdapterRef(key.toString(), 1, Wire.AdapterRef.fingerprint(file));
            var state = worker().ask(Type.ADAPTER, ref, Wire.AdapterState.class);
            var adapter = Adapter.elsewhere(file, state.sizeBytes(), new Holder(ref));
            adapters.put(adapter, ref);
            return adapter;
        }
    }

    @Override
    public List<Adapter> adapters() {
        synchronized (adapters) {
            return adapters.keySet().stream().filter(adapter -> !adapter.closed()).toList();
        }
    }

    /** Who has the weights of an adapter: whichever worker there is. */
    private final class Holder implements Adapter.Holder {
        private final Wire.AdapterRef ref;

        Holder(Wire.AdapterRef ref) {
            this.ref = ref;
        }

        @Override
        public Object owner() {
            return IsolatedLlama.this;
        }

        @Override
        public int sequences() {
            return worker().ask(Type.ADAPTER, ref, Wire.AdapterState.class).sequences();
        }

        @Override
        public void close() {
            var running = worker;
            try {
                if (running != null && running.alive()) {
                    running.ask(Type.CLOSE_ADAPTER, ref.path(), Integer.class);
                }
            } catch (WorkerDiedException | ClosedException e) {
                // it went with the worker
            }
        }
    }

    /**
     * How a worker is told of adapters.
     *
     * @throws ClosedException          if one is closed
     * @throws IllegalArgumentException if one is of another model
     */
    List<Wire.AdapterRef> refs(AdapterSet set) {
        var refs = new ArrayList<Wire.AdapterRef>();
        for (var entry : set.entries()) {
            var adapter = entry.adapter();
            if (adapter.closed()) {
                throw new ClosedException("the adapter " + adapter.path() + " is closed");
            }
            Wire.AdapterRef ref;
            synchronized (adapters) {
                ref = adapters.get(adapter);
            }
            if (ref == null) {
                throw new IllegalArgumentException(adapter.name() + " was loaded for another model than this one, " + load.path()
                        + " in a worker process; IsolatedLlama.adapter loads it there");
            }
            refs.add(ref.times(entry.scale()));
        }
        return refs;
    }

    /** Vectors as {@link Llama#embedder} gives them. It outlives its worker; the next one opens it again. */
    @Override
    public TextEmbedder embedder(EmbedderOptions options) {
        return new RemoteEmbedder(this, options, false);
    }

    /** Scores as {@link Llama#reranker} gives them. It outlives its worker; the next one opens it again. */
    @Override
    public TextReranker reranker(EmbedderOptions options) {
        return new RemoteReranker(this, options, false);
    }

    /** The process id of the worker, which may have died meanwhile. */
    public long workerPid() {
        return worker().pid();
    }

    /** How often a new worker has been started. */
    public int restarts() {
        return restarts;
    }

    /** Ends the worker, and its adapters with it. Calls that are open end with {@link ClosedException}. */
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
        adapters().forEach(Adapter::close);
    }
}
