package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.TokenDecoder;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.SamplerOptions;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * A token from the engine through the sampler at a vocabulary of 151,936 (as Qwen has it), on a model so small that evaluation is
 * little more than its output matrix. {@link OutsideOfDecode} subtracts what the engine spent in {@code llama_decode}.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 2)
@Measurement(iterations = 10, time = 2)
@Fork(value = 1, jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "-Xmx512m"})
public class TokenBenchmark {
    static final RandomModel SHAPE = RandomModel.llama(1, 64, 2, 1, 128, 151_936).withType(GgmlType.Q8_0);
    private static final int LONGEST = 256;

    /** The engine that {@link OutsideOfDecode} asks; one benchmark thread runs at a time. */
    static volatile Engine measured;

    /** Threads of the evaluation; one leaves the rest of the machine to whatever else runs. */
    @Param("1")
    public int threads;

    private Model model;
    private Engine engine;
    private Sequence sequence;
    private Row row;
    private Sampler greedy;
    private Sampler drawing;
    private TokenDecoder decoder;
    private int token;

    /** Closed by the end of the process: JMH counts a tear-down to the last iteration, and its allocations with it. */
    @Setup(Level.Trial)
    public void open() throws IOException {
        model = Model.load(BenchModels.cached(SHAPE));
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(threads).withMaxSequences(1));
        measured = engine;
        sequence = engine.newSequence();
        row = engine.newRow();
        greedy = Sampler.greedy();
        drawing = Sampler.of(SamplerOptions.defaults().withMinP(0).withSeed(1));
        decoder = model.vocabulary().decoder();
        token = 300;
    }

    /** Evaluation and row copy alone: what the other two have in common. */
    @Benchmark
    public int evaluate() {
        step();
        token = (token + 1) % SHAPE.vocabularySize();
        return token;
    }

    @Benchmark
    public int greedy() {
        step();
        token = greedy.sample(row);
        greedy.accept(token);
        return token;
    }

    @Benchmark
    public int draw() {
        step();
        token = drawing.sample(row);
        drawing.accept(token);
        return token;
    }

    /** As {@link #greedy}, and the token's text, whose string is the one thing that has to be allocated. */
    @Benchmark
    public String greedyText() {
        return decoder.push(greedy());
    }

    /** As {@link #draw}, with the text. */
    @Benchmark
    public String drawText() {
        return decoder.push(draw());
    }

    private void step() {
        if (sequence.length() == LONGEST) {
            sequence.truncate(1);
        }
        sequence.append(token, row);
    }
}
