package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.Sampler;
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
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What a token costs when several virtual threads share an engine, beside what parking a virtual thread costs by itself. The
 * figure of interest is the allocation ({@code -prof gc}). JMH's own thread is a platform thread, which parks without allocation;
 * all virtual threads live as long as the trial.
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
        private volatile boolean over;
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
                        while (round == seen && !over) {
                            LockSupport.park();
                        }
                        if (over) {
                            return;
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

        final void stop() throws InterruptedException {
            over = true;
            for (var worker : workers) {
                LockSupport.unpark(worker);
                worker.join();
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

        @TearDown
        public void stop() throws InterruptedException {
            rounds.stop();
        }
    }

    /** Virtual threads that each draw {@value #TOKENS} tokens per round from one engine. */
    @State(Scope.Benchmark)
    public static class Shared {
        private Model model;
        private Engine engine;
        private Rounds rounds;

        @Setup
        public void start() throws IOException {
            model = Model.load(BenchModels.cached(RandomModel.tiny(RandomModel.Architecture.LLAMA)));
            engine = Engine.open(model, EngineOptions.defaults().withContextSize(1024).withThreads(1).withMaxSequences(CALLERS));
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

        @TearDown
        public void stop() throws InterruptedException {
            rounds.stop();
            engine.close();
            model.close();
        }
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
