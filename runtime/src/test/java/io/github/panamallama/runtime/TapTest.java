package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What taps read: the norms agree with the vectors, the vectors with each other and with the model's own embedding of a token. */
class TapTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(2).withSpareLayers(2);
    private static final Tap EVERYTHING = Tap.norms().withHidden(-1, 0, 1, 2, 3).withInputs("blk.1.attn_q.weight", "blk.2.ffn_down.weight");

    @TempDir
    static Path folder;
    private static Model model;
    private static int[] tokens;

    @BeforeAll
    static void load() {
        var file = folder.resolve("llama.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(file);
        model = Model.load(file);
        tokens = Evaluation.tokens(model, 40, 3);
    }

    @AfterAll
    static void unload() {
        model.close();
    }

    /** A reading that was kept. */
    private record Kept(int position, int token, float[] norms, float[] differences, float[] cosines, float[][] hidden, float[] down) {
        static Kept of(Tap.Reading reading) {
            var norms = new float[5];
            var differences = new float[4];
            var cosines = new float[4];
            var hidden = new float[5][];
            for (int block = -1; block < 4; block++) {
                norms[block + 1] = reading.norm(block);
                if (block >= 0) {
                    differences[block] = reading.difference(block);
                    cosines[block] = reading.cosine(block);
                }
                if (reading.has(block)) {
                    hidden[block + 1] = new float[64];
                    reading.hidden(block, hidden[block + 1]);
                }
            }
            float[] down = null;
            if (reading.has("blk.2.ffn_down.weight")) {
                down = new float[128];
                reading.input("blk.2.ffn_down.weight", down);
            }
            return new Kept(reading.position(), reading.token(), norms, differences, cosines, hidden, down);
        }
    }

    private static List<Kept> read(Sequence sequence, int[] tokens) {
        var kept = new ArrayList<Kept>();
        sequence.tap(EVERYTHING, reading -> kept.add(Kept.of(reading)));
        sequence.append(tokens, sequence.engine().newRow());
        return kept;
    }

    private static double norm(float[] v) {
        double sum = 0;
        for (float x : v) {
            sum += (double) x * x;
        }
        return Math.sqrt(sum);
    }

    @ParameterizedTest
    @CsvSource({"LLAMA,all", "QWEN3,all", "GEMMA3,all", "LLAMA,0-2;3x2", "GEMMA3,0x2;1-2;3x2"})
    void normsAgreeWithVectors(Architecture architecture, String plan) {
        var file = folder.resolve("norms-" + architecture + ".gguf");
        RandomModel.tiny(architecture).write(file);
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS);
                var sequence = engine.newSequence(LayerPlan.parse(plan.replace(';', ','), 4))) {
            var kept = read(sequence, tokens);
            assertEquals(40, kept.size());
            for (int i = 0; i < 40; i++) {
                var at = kept.get(i);
                assertEquals(i, at.position);
                assertEquals(tokens[i], at.token);
                for (int block = -1; block < 4; block++) {
                    var after = at.hidden[block + 1];
                    if (block == 3 && i < 39) {
                        assertTrue(Float.isNaN(at.norms[4]) && after == null, "no logits are wanted here");
                        continue;
                    }
                    assertEquals(norm(after), at.norms[block + 1], 1e-5 * norm(after));
                    if (block >= 0) {
                        var before = at.hidden[block];
                        var difference = new float[64];
                        double dot = 0;
                        for (int j = 0; j < 64; j++) {
                            difference[j] = after[j] - before[j];
                            dot += (double) after[j] * before[j];
                        }
                        assertEquals(norm(difference), at.differences[block], 1e-4 * norm(difference));
                        assertEquals(dot / norm(before) / norm(after), at.cosines[block], 1e-5);
                        assertTrue(norm(difference) > 1e-3 * norm(before), "the block does something");
                    }
                }
            }
        }
    }

    @Test
    void whatIsReadDoesNotDependOnHowTokensAreBatched() {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(16)); var whole = engine.newSequence(); var single = engine.newSequence()) {
            var expected = read(whole, tokens);
            var kept = new ArrayList<Kept>();
            single.tap(EVERYTHING, reading -> kept.add(Kept.of(reading)));
            for (int token : tokens) {
                single.append(token, null);
            }
            assertEquals(expected.size(), kept.size());
            for (int i = 0; i < 40; i++) {
                for (int block = 0; block < 4; block++) { // the first three blocks and the embedding
                    assertArrayEquals(expected.get(i).hidden[block], kept.get(i).hidden[block], 1e-4f);
                }
                assertArrayEquals(expected.get(i).down, kept.get(i).down, 1e-4f);
            }
        }
    }

    @Test
    void tapsChangeNothing() {
        var expected = Evaluation.fresh(model, OPTIONS, tokens);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.tap(EVERYTHING, reading -> { });
            sequence.append(tokens, row);
            assertArrayEquals(expected, row.toArray());
            sequence.truncate(0);
            sequence.untap();
            sequence.append(tokens, row);
            assertArrayEquals(expected, row.toArray());
        }
    }

    @Test
    void plansShowInWhatIsRead() {
        try (var engine = Engine.open(model, OPTIONS); var full = engine.newSequence();
                var skipping = engine.newSequence(LayerPlan.all(4).skip(1)); var twice = engine.newSequence(LayerPlan.all(4).repeat(1,
                        2))) {
            var plain = read(full, tokens).get(20);
            var skipped = read(skipping, tokens).get(20);
            assertArrayEquals(plain.hidden[1], skipped.hidden[1]);
            assertArrayEquals(skipped.hidden[1], skipped.hidden[2], "block 1 hands its input on");
            assertEquals(0, skipped.differences[1]);
            assertEquals(1, skipped.cosines[1]);
            assertEquals(skipped.norms[1], skipped.norms[2]);
            var repeated = read(twice, tokens).get(20);
            assertArrayEquals(plain.hidden[1], repeated.hidden[1]);
            assertFalse(Arrays.equals(plain.hidden[2], repeated.hidden[2]), "block 1 ran twice");
            assertEquals(norm(repeated.hidden[2]), repeated.norms[2], 1e-4 * repeated.norms[2]);
        }
    }

    /** Which evaluates all tokens, whether their logits are wanted or not. */
    @Test
    void inputsOfARepeatedLastBlockAreThoseOfItsFirstRun() {
        var weights = new String[] {"blk.3.attn_q.weight", "blk.3.ffn_down.weight"};
        try (var engine = Engine.open(model, OPTIONS); var once = engine.newSequence();
                var twice = engine.newSequence(LayerPlan.all(4).repeat(3, 2))) {
            var inputs = new ArrayList<float[]>();
            var again = new ArrayList<float[]>();
            for (var sequence : List.of(once, twice)) {
                sequence.tap(Tap.inputs(weights), reading -> {
                    for (var weight : weights) {
                        var input = new float[weight.contains("down") ? 128 : 64];
                        reading.input(weight, input);
                        (sequence == once ? inputs : again).add(input);
                    }
                });
            }
            engine.decode(Append.all(once, tokens, Stream.generate(engine::newRow).limit(40).toArray(Row[]::new)));
            twice.append(tokens, null);
            assertEquals(80, again.size());
            for (int i = 0; i < 80; i++) {
                assertArrayEquals(inputs.get(i), again.get(i));
            }
        }
    }

    @Test
    void everySinkGetsItsOwnTokens() throws Exception {
        try (var engine = Engine.open(model, OPTIONS); var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var jobs = new ArrayList<Callable<List<Integer>>>();
            for (int i = 0; i < 6; i++) {
                var own = Evaluation.tokens(model, 30, 50 + i);
                var tap = i % 3 == 0 ? Tap.norms() : i % 3 == 1 ? Tap.hidden(1) : Tap.inputs("blk.0.ffn_up.weight");
                int number = i;
                jobs.add(() -> {
                    var seen = new ArrayList<Integer>();
                    try (var sequence = engine.newSequence(number % 2 == 0 ? LayerPlan.all(4) : LayerPlan.all(4).skip(2))) {
                        sequence.tap(tap, reading -> {
                            seen.add(reading.token());
                            switch (number % 3) {
                                case 0 -> assertTrue(reading.norm(0) > 0);
                                case 1 -> assertTrue(reading.has(1));
                                default -> assertTrue(reading.has("blk.0.ffn_up.weight"));
                            }
                        });
                        for (int token : own) {
                            sequence.append(token, null);
                        }
                    }
                    return seen;
                });
            }
            var done = threads.invokeAll(jobs);
            for (int i = 0; i < 6; i++) {
                assertArrayEquals(Evaluation.tokens(model, 30, 50 + i), done.get(i).get().stream().mapToInt(Integer::intValue).toArray());
            }
        }
    }

    @Test
    void treesAreReadNodeByNode() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(tokens, null);
            var nodes = new ArrayList<Integer>();
            var positions = new ArrayList<Integer>();
            sequence.tap(Tap.hidden(3), reading -> {
                nodes.add(reading.node());
                positions.add(reading.position());
                assertTrue(reading.has(3));
            });
            try (var tree = new TokenTree(sequence, new int[] {300, 301, 302}, new int[] {-1, -1, 0})) {
                engine.decode(tree, new Row[] {engine.newRow(), engine.newRow(), engine.newRow()});
            }
            assertEquals(List.of(0, 1, 2), nodes);
            assertEquals(List.of(40, 40, 41), positions);
        }
    }

    @Test
    void aSinkThatThrowsEndsItsAppendAlone() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(); var other = engine.newSequence()) {
            sequence.tap(Tap.norms(), reading -> {
                if (reading.position() == 5) {
                    throw new IllegalStateException("enough");
                }
            });
            assertEquals("enough", assertThrows(IllegalStateException.class, () -> sequence.append(tokens, null)).getMessage());
            assertEquals(0, sequence.length());
            sequence.untap();
            var row = engine.newRow();
            sequence.append(tokens, row);
            assertArrayEquals(Evaluation.fresh(model, OPTIONS, tokens), row.toArray());
            other.tap(Tap.norms(), reading -> sequence.append(300, null));
            assertTrue(assertThrows(IllegalStateException.class, () -> other.append(tokens, null)).getMessage().contains("engine"));
        }
    }

    @Test
    void aTapThatIsRefusedLeavesTheOneBeforeInForce() {
        try (var engine = Engine.open(model, OPTIONS); var other = engine.newSequence(); var sequence = engine.newSequence()) {
            var kept = new ArrayList<float[]>();
            Tap.Sink sink = reading -> {
                var vector = new float[64];
                reading.hidden(1, vector);
                kept.add(vector);
            };
            other.tap(Tap.hidden(1), sink);
            other.append(tokens, null);
            sequence.tap(Tap.hidden(1), sink);
            sequence.append(Evaluation.tokens(model, 40, 4), null);
            assertThrows(LayerPlanException.class, () -> sequence.tap(Tap.hidden(1, 2).withInputs("blk.9.ffn_up.weight"), reading -> { }));
            sequence.truncate(0);
            sequence.append(tokens, null);
            assertEquals(120, kept.size());
            for (int i = 0; i < 40; i++) {
                assertArrayEquals(kept.get(i), kept.get(80 + i));
            }
        }
    }

    /** Blocks of OLMO2 have no norm before them: their queries are the product with what the block before hands on. */
    @Test
    void inputsAreThoseOfThePlan() {
        var file = folder.resolve("olmo2.gguf");
        RandomModel.tiny(Architecture.OLMO2).write(file);
        try (var olmo = Model.load(file); var engine = Engine.open(olmo, OPTIONS)) {
            for (var text : new String[] {"all", "0,2-3", "0,1x2,2-3", "0-1,3", "2-3", "0:ffn,1:kv,2-3"}) {
                try (var sequence = engine.newSequence(LayerPlan.parse(text, 4))) {
                    var read = new ArrayList<Integer>();
                    sequence.tap(Tap.hidden(1).withInputs("blk.2.attn_q.weight", "blk.2.attn_k.weight"), reading -> {
                        assertEquals(!text.equals("0-1,3"), reading.has("blk.2.attn_q.weight"), text);
                        if (reading.has("blk.2.attn_q.weight")) {
                            var before = new float[64];
                            var queries = new float[64];
                            var keys = new float[64];
                            reading.hidden(1, before);
                            reading.input("blk.2.attn_q.weight", queries);
                            reading.input("blk.2.attn_k.weight", keys);
                            assertArrayEquals(before, queries, text);
                            assertArrayEquals(before, keys, text);
                        }
                        read.add(reading.position());
                    });
                    sequence.append(tokens, null);
                    assertEquals(40, read.size());
                }
            }
        }
    }

    @Test
    void whoIsReadInAModelWithAWindowGoesAlone() {
        var file = folder.resolve("gemma3.gguf");
        RandomModel.tiny(Architecture.GEMMA3).write(file);
        try (var gemma = Model.load(file); var engine = Engine.open(gemma, OPTIONS)) {
            var sequences = new Sequence[] {engine.newSequence(), engine.newSequence(), engine.newSequence()};
            var read = new ArrayList<Integer>();
            sequences[1].tap(Tap.hidden(0), reading -> read.add(reading.token()));
            var steps = new ArrayList<Set<Sequence>>();
            engine.loop().trace = slices -> steps.add(slices.stream().map(DecodeLoop.Slice::sequence).collect(Collectors.toSet()));
            engine.decode(Append.of(sequences[0], new int[] {300}, null), Append.of(sequences[1], tokens, null),
                    Append.of(sequences[2], new int[] {301}, null));
            assertEquals(List.of(Set.of(sequences[0], sequences[2]), Set.of(sequences[1])), steps);
            assertArrayEquals(tokens, read.stream().mapToInt(Integer::intValue).toArray());
        }
    }

    /** Router and feed-forward part of the experts are computed a second time from what the tap reads. */
    @Test
    void expertsAreThoseOfTheRouterAndReadWhatItGivesThem() {
        var file = folder.resolve("experts.gguf");
        RandomModel.tiny(Architecture.QWEN3MOE).write(file);
        var router = values(file, "blk.1.ffn_gate_inp.weight");
        var gates = values(file, "blk.1.ffn_gate_exps.weight");
        var ups = values(file, "blk.1.ffn_up_exps.weight");
        try (var model = Model.load(file); var engine = Engine.open(model, OPTIONS.withBatchSize(16));
                var sequence = engine.newSequence()) {
            var tap = Tap.inputs("blk.1.ffn_gate_inp.weight", "blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight",
                    "blk.1.ffn_down_exps.weight", "blk.3.ffn_down_exps.weight");
            var used = new HashSet<Integer>();
            var positions = new ArrayList<Integer>();
            var inLast = new ArrayList<Integer>();
            sequence.tap(tap, reading -> {
                positions.add(reading.position());
                if (reading.has("blk.3.ffn_down_exps.weight")) {
                    inLast.add(reading.position());
                } else {
                    assertThrows(IllegalStateException.class, () -> reading.experts("blk.3.ffn_down_exps.weight"));
                }
                assertEquals(0, reading.expertCount("blk.1.ffn_gate_inp.weight"));
                assertEquals(4, reading.expertCount("blk.1.ffn_down_exps.weight"));
                var input = new float[64];
                reading.input("blk.1.ffn_gate_inp.weight", input);
                int[] experts = reading.experts("blk.1.ffn_down_exps.weight");
                assertArrayEquals(largestTwo(product(router, 0, 4, input)), experts);
                assertArrayEquals(experts, reading.experts("blk.1.ffn_gate_exps.weight"));
                for (int i = 0; i < experts.length; i++) {
                    used.add(experts[i]);
                    var own = new float[64];
                    for (var weight : List.of("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight")) {
                        reading.input(weight, i, own);
                        assertArrayEquals(input, own);
                    }
                    double[] gate = product(gates, experts[i], 128, input);
                    double[] up = product(ups, experts[i], 128, input);
                    var inner = new float[128];
                    reading.input("blk.1.ffn_down_exps.weight", i, inner);
                    for (int row = 0; row < 128; row++) {
                        assertEquals(gate[row] / (1 + Math.exp(-gate[row])) * up[row], inner[row], 1e-4);
                    }
                }
                assertThrows(IllegalArgumentException.class, () -> reading.input("blk.1.ffn_down_exps.weight", new float[256]));
                assertThrows(IllegalArgumentException.class, () -> reading.experts("blk.1.ffn_gate_inp.weight"));
                assertThrows(IllegalArgumentException.class, () -> reading.input("blk.1.ffn_down_exps.weight", 0, new float[127]));
                assertThrows(IndexOutOfBoundsException.class, () -> reading.input("blk.1.ffn_down_exps.weight", 2, new float[128]));
            });
            sequence.append(tokens, engine.newRow());
            sequence.append(new int[] {300}, engine.newRow());
            assertEquals(IntStream.rangeClosed(0, tokens.length).boxed().toList(), positions);
            assertEquals(List.of(tokens.length - 1, tokens.length), inLast);
            assertEquals(Set.of(0, 1, 2, 3), used);
        }
    }

    private static float[] values(Path file, String name) {
        var gguf = GgufFile.read(file);
        try (var arena = Arena.ofConfined()) {
            return gguf.map(gguf.tensor(name).orElseThrow(), arena).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        }
    }

    /** One of several matrices of so many rows times a vector. */
    private static double[] product(float[] weights, int matrix, int rows, float[] input) {
        var result = new double[rows];
        for (int row = 0; row < rows; row++) {
            for (int i = 0; i < input.length; i++) {
                result[row] += (double) weights[(matrix * rows + row) * input.length + i] * input[i];
            }
        }
        return result;
    }

    private static int[] largestTwo(double[] values) {
        return IntStream.range(0, values.length).boxed().sorted(Comparator.comparingDouble(i -> -values[i])).limit(2)
                .mapToInt(Integer::intValue).toArray();
    }

    @Test
    void badTapsAreRefused() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            assertThrows(IllegalArgumentException.class, () -> Tap.hidden(-2));
            assertThrows(LayerPlanException.class, () -> sequence.tap(Tap.hidden(4), reading -> { }));
            var missing = assertThrows(LayerPlanException.class, () -> sequence.tap(Tap.inputs("blk.9.ffn_up.weight"), reading -> { }));
            assertTrue(missing.getMessage().contains("blk.9.ffn_up.weight"), missing.getMessage());
            sequence.tap(Tap.norms(), reading -> {
                assertThrows(IllegalArgumentException.class, () -> reading.has(1));
                assertThrows(IndexOutOfBoundsException.class, () -> reading.norm(4));
            });
            sequence.append(tokens, null);
            sequence.tap(Tap.hidden(1), reading -> {
                assertThrows(IllegalStateException.class, () -> reading.norm(0));
                assertThrows(IllegalArgumentException.class, () -> reading.hidden(1, new float[3]));
            });
            sequence.append(tokens, null);
        }
    }
}
