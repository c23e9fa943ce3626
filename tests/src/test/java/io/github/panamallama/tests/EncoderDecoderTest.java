package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.TokenTree;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.grammar.Grammar;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;

/** A random T5 writes what a program in C makes it write. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class EncoderDecoderTest {
    private static final EngineOptions OPTIONS =
            EngineOptions.defaults().withContextSize(256).withBatchSize(256).withUbatchSize(256).withMaxSequences(4).withThreads(1);

    private Path folder;
    private Path file;
    private CProgram program;

    @BeforeAll
    void prepare(@TempDir Path folder) throws Exception {
        this.folder = folder;
        file = folder.resolve("t5.gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.T5).write(file);
        program = CProgram.compile(folder, "t5");
    }

    private static int[] source(int length, long seed) {
        return new SplittableRandom(seed).ints(length, 260, 512).toArray();
    }

    private List<float[]> inC(String... lines) throws Exception {
        return program.rows(List.of(file.toString()), List.of("256", "1"), String.join("\n", lines) + "\n", 512);
    }

    private static String line(char kind, int... values) {
        return kind + " " + Arrays.stream(values).mapToObj(Integer::toString).collect(Collectors.joining(" "));
    }

    /** The rows after each of {@code count} tokens, the first given and the others likeliest. */
    private static List<float[]> greedy(Engine engine, Sequence sequence, int start, int count) {
        var rows = new ArrayList<float[]>();
        var row = engine.newRow();
        for (int token = start; rows.size() < count; token = RowMath.argmax(row)) {
            sequence.append(token, row);
            rows.add(row.toArray());
        }
        return rows;
    }

    private static void assertSameBits(List<float[]> expected, List<float[]> actual, String what) {
        assertEquals(expected.size(), actual.size(), what);
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i), actual.get(i), what + ", row " + i);
        }
    }

    @Test
    void greedyTextsAreThoseOfAProgramInC() throws Exception {
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS)) {
            assertEquals(0, model.decoderStart());
            for (int length : new int[] {1, 7, 40, 200}) {
                var source = source(length, length);
                var expected = inC(line('E', source), line('G', 24, model.decoderStart()));
                try (var sequence = engine.newSequence(source)) {
                    assertArrayEquals(source, sequence.source());
                    assertSameBits(expected, greedy(engine, sequence, model.decoderStart(), 24), length + " tokens read");
                }
            }
        }
    }

    @Test
    void forksShareWhatWasReadAndTruncationForgetsWhatWasWritten() throws Exception {
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(source(30, 1))) {
            var row = engine.newRow();
            sequence.append(new int[] {0, 300, 301}, row);
            assertArrayEquals(inC(line('E', source(30, 1)), line('L', 0, 300, 301)).getFirst(), row.toArray());
            try (var fork = sequence.fork()) {
                assertArrayEquals(sequence.source(), fork.source());
                fork.append(302, row);
                assertArrayEquals(inC(line('E', source(30, 1)), line('L', 0, 300, 301), line('L', 302)).get(1), row.toArray());
            }
            sequence.truncate(1);
            sequence.append(303, row);
            assertArrayEquals(inC(line('E', source(30, 1)), line('L', 0), line('L', 303)).get(1), row.toArray());
            sequence.truncate(0);
            sequence.append(0, row);
            assertArrayEquals(inC(line('E', source(30, 1)), line('L', 0)).getFirst(), row.toArray());
        }
    }

    /** A context has one encoder output: sequences of other sources take turns, and each is as if it were alone. */
    @Test
    void sequencesOfSeveralSourcesDoNotSeeEachOther() throws Exception {
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS)) {
            var sequences = IntStream.range(0, 4).mapToObj(i -> engine.newSequence(source(10 + i % 2, i % 2))).toList();
            var alone = List.of(inC(line('E', source(10, 0)), line('G', 12, 0)), inC(line('E', source(11, 1)), line('G', 12, 0)));
            var rows = IntStream.range(0, 4).mapToObj(i -> engine.newRow()).toArray(Row[]::new);
            var tokens = new int[4];
            for (int step = 0; step < 12; step++) {
                var appends = new Append[4];
                for (int i = 0; i < 4; i++) {
                    appends[i] = Append.of(sequences.get(i), new int[] {tokens[i]}, rows[i]);
                }
                engine.decode(appends);
                for (int i = 0; i < 4; i++) {
                    assertClose(alone.get(i % 2).get(step), rows[i].toArray(), "sequence " + i + ", step " + step);
                    tokens[i] = argmax(alone.get(i % 2).get(step));
                }
            }
            sequences.forEach(Sequence::close);
            try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
                var all = IntStream.range(0, 6).mapToObj(i -> threads.submit(() -> {
                    try (var sequence = engine.newSequence(source(10 + i % 2, i % 2))) {
                        return greedy(engine, sequence, 0, 12);
                    }
                })).toList();
                for (int i = 0; i < 6; i++) {
                    var written = all.get(i).get();
                    for (int step = 0; step < 12; step++) {
                        assertClose(alone.get(i % 2).get(step), written.get(step), "thread " + i + ", step " + step);
                    }
                }
            }
        }
    }

    private static int argmax(float[] row) {
        return IntStream.range(0, row.length).reduce((a, b) -> row[b] > row[a] ? b : a).orElseThrow();
    }

    /** Rows of other batches, in F32. */
    private static void assertClose(float[] expected, float[] actual, String what) {
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], 2e-2, what + ", token " + i);
        }
    }

    @Test
    void treesBranchBehindOneSource() throws Exception {
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(source(20, 2))) {
            sequence.append(0, null);
            var rows = new Row[] {engine.newRow(), engine.newRow()};
            try (var tree = new TokenTree(sequence, new int[] {300, 301}, new int[] {-1, -1})) {
                engine.decode(tree, rows);
                assertClose(inC(line('E', source(20, 2)), line('L', 0), line('L', 300)).get(1), rows[0].toArray(), "one branch");
                assertClose(inC(line('E', source(20, 2)), line('L', 0), line('L', 301)).get(1), rows[1].toArray(), "the other");
                tree.keep(1);
            }
            sequence.append(302, rows[0]);
            assertClose(inC(line('E', source(20, 2)), line('L', 0), line('L', 301), line('L', 302)).get(2), rows[0].toArray(), "behind it");
        }
    }

    @Test
    void whatAnEncoderCanNotDoIsRefused() throws IOException {
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS.withUbatchSize(64))) {
            assertTrue(assertThrows(LlamaException.class, engine::newSequence).getMessage().contains("has an encoder"));
            assertTrue(assertThrows(ContextFullException.class, () -> engine.newSequence(source(65, 1))).getMessage()
                    .contains("reads at most 64"));
            assertThrows(IllegalArgumentException.class, () -> engine.newSequence(new int[0]));
            assertThrows(IllegalArgumentException.class, () -> engine.newSequence(new int[] {512}));
            assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.parse("0-1", 3)));
            try (var sequence = engine.newSequence(source(5, 1)); var other = engine.newSequence(source(5, 2))) {
                sequence.append(0, null);
                assertThrows(StateException.class, () -> sequence.save(OutputStream.nullOutputStream()));
                assertThrows(IllegalArgumentException.class, () -> sequence.exchange(other));
            }
        }
        var plain = folder.resolve("llama.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(plain);
        try (var model = Model.load(plain); var engine = Engine.open(model, OPTIONS)) {
            assertEquals(-1, model.decoderStart());
            assertTrue(assertThrows(LlamaException.class, () -> engine.newSequence(source(5, 1))).getMessage().contains("no encoder"));
        }
    }

    @Test
    void theFacadeWritesWhatTheEncoderRead() {
        var greedy = GenerationOptions.defaults().withTemperature(0).withMaxTokens(12);
        try (var llama = Llama.load(file, LlamaOptions.defaults().withEngine(OPTIONS))) {
            var text = llama.complete("a text to read", greedy).text();
            assertFalse(text.isEmpty());
            assertEquals(text, llama.complete("a text to read", greedy).text());
            var number = llama.generate("a text to read", Grammar.regex("[0-9]{3}"), greedy);
            assertTrue(number.matches("[0-9]{3}"), number);
            assertTrue(assertThrows(LlamaException.class, llama::chat).getMessage().contains("holds no conversation"));
            var cached = greedy.withPromptCache(folder.resolve("prompt"));
            assertThrows(LlamaException.class, () -> llama.complete("a", cached));
        }
    }
}
