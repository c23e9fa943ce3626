package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.SamplerOptions;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What a token costs when several virtual threads share an engine, beside what parking a virtual thread costs by itself. The
 * figure of interest is the allocation ({@code -prof gc}). JMH's own thread is a platform thread, which parks without allocation.
 * Threads and engines live to the end of the process: JMH counts a tear-down to the last iteration, and its allocations with it.
 */
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 2)
@Measurement(iterations = 5, time = 2)
@Fork(value = 1, jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "-Xmx512m"})
public class ParkBenchmark {
    private static final int CALLERS = 4;
    private static final int TOKENS = 64;

    /** A round: the benchmark's thread starts it, virtual threads work, the last to finish wakes the benchmark's thread. */
    abstract static class Rounds {
        private final Thread[] workers;
        private final AtomicInteger working = new AtomicInteger();
        private volatile int round;
        private volatile Thread owner;

        Rounds(int workers) {
            this.workers = new Thread[workers];
        }

        abstract void work(int worker);

        final void start() {
            for (int i = 0; i < workers.length; i++) {
                int own = i;
                workers[i] = Thread.ofVirtual().start(() -> {
                    int seen = 0;
                    while (true) {
                        while (round == seen) {
                            LockSupport.park();
                        }
                        seen++;
                        work(own);
                        if (working.decrementAndGet() == 0) {
                            LockSupport.unpark(owner);
                        }
                    }
                });
            }
        }

        final void play() {
            owner = Thread.currentThread();
            working.set(workers.length);
            round++;
            for (var worker : workers) {
                LockSupport.unpark(worker);
            }
            while (working.get() > 0) {
                LockSupport.park();
            }
        }
    }

    /** One virtual thread that only parks. */
    @State(Scope.Benchmark)
    public static class Bare {
        private Rounds rounds;

        @Setup
        public void start() {
            rounds = new Rounds(1) {
                @Override
                void work(int worker) {
                }
            };
            rounds.start();
        }
    }

    /** Virtual threads that each draw {@value #TOKENS} tokens per round from one engine. */
    @State(Scope.Benchmark)
    public static class Shared {
        private Rounds rounds;

        @Setup
        public void start() throws IOException {
            var engine = tinyEngine();
            var sequences = new Sequence[CALLERS];
            var rows = new Row[CALLERS];
            var samplers = new Sampler[CALLERS];
            for (int i = 0; i < CALLERS; i++) {
                sequences[i] = engine.newSequence();
                rows[i] = engine.newRow();
                samplers[i] = Sampler.greedy();
            }
            rounds = new Rounds(CALLERS) {
                @Override
                void work(int worker) {
                    var sequence = sequences[worker];
                    var row = rows[worker];
                    var sampler = samplers[worker];
                    sequence.truncate(0);
                    int token = 300;
                    for (int i = 0; i < TOKENS; i++) {
                        sequence.append(token, row);
                        token = sampler.sample(row);
                        sampler.accept(token);
                    }
                }
            };
            rounds.start();
        }
    }

    /** A caller alone, on a platform thread. */
    @State(Scope.Benchmark)
    public static class Direct {
        private Sequence sequence;
        private Row row;
        private Sampler sampler;
        private int token;

        @Setup
        public void start() throws IOException {
            var engine = tinyEngine();
            sequence = engine.newSequence();
            row = engine.newRow();
            sampler = Sampler.of(SamplerOptions.defaults().withSeed(1));
            token = 300;
        }
    }

    private static Engine tinyEngine() throws IOException {
        var model = Model.load(BenchModels.cached(RandomModel.tiny(RandomModel.Architecture.LLAMA)));
        return Engine.open(model, EngineOptions.defaults().withContextSize(1024).withThreads(1).withMaxSequences(CALLERS));
    }

    /** One token of a caller alone: the direct path. */
    @Benchmark
    public int tokenAlone(Direct direct) {
        if (direct.sequence.length() == TOKENS) {
            direct.sequence.truncate(1);
        }
        direct.sequence.append(direct.token, direct.row);
        direct.token = direct.sampler.sample(direct.row);
        direct.sampler.accept(direct.token);
        return direct.token;
    }

    /** One park and one unpark of a virtual thread. */
    @Benchmark
    public void parkAndUnpark(Bare bare) {
        bare.rounds.play();
    }

    /** One token of one of {@value #CALLERS} virtual threads. */
    @Benchmark
    @OperationsPerInvocation(CALLERS * TOKENS)
    public void token(Shared shared) {
        shared.rounds.play();
    }
}
