package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Vectors and scores of random models; the tests module compares them with those of a program in C. */
@Timeout(120)
class EmbedderTest {
    private static final EmbedderOptions OPTIONS = EmbedderOptions.defaults().withThreads(1);
    private static final List<String> TEXTS = List.of("a list of words", "a map", "Some quite different text, longer than the others are",
            "x", "a list of words", "UPPER CASE 123");

    @TempDir
    Path folder;

    private Model load(GgufWriter writer) {
        var path = folder.resolve("model.gguf");
        writer.write(path);
        return Model.load(path);
    }

    private Model encoder(RandomEncoder.Architecture architecture) {
        return load(RandomEncoder.tiny(architecture).writer());
    }

    private static void assertNear(float[] expected, float[] actual, String what) {
        assertEquals(expected.length, actual.length);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], 5e-4 * Math.max(1, Math.abs(expected[i])), what + ", element " + i);
        }
    }

    private static double length(float[] vector) {
        return Math.sqrt(IntStream.range(0, vector.length).mapToDouble(i -> (double) vector[i] * vector[i]).sum());
    }

    @ParameterizedTest
    @EnumSource(names = {"T5"}, mode = EnumSource.Mode.EXCLUDE)
    void aTextHasTheSameVectorInEveryBatch(RandomEncoder.Architecture architecture) {
        try (var model = encoder(architecture);
                var many = Embedder.open(model, OPTIONS.withPooling(Pooling.MEAN));
                var few = Embedder.open(model, OPTIONS.withPooling(Pooling.MEAN).withMaxTexts(2));
                var small = Embedder.open(model, OPTIONS.withPooling(Pooling.MEAN).withBatchSize(64))) {
            assertEquals(64, many.size());
            var vectors = many.embed(TEXTS);
            for (int i = 0; i < vectors.length; i++) {
                assertEquals(1, length(vectors[i]), 1e-5);
                assertNear(vectors[i], many.embed(TEXTS.get(i)), architecture + " alone");
                assertNear(vectors[i], few.embed(TEXTS)[i], architecture + " by twos");
                assertNear(vectors[i], small.embed(TEXTS)[i], architecture + " in small batches");
            }
            assertNear(vectors[0], vectors[4], "the same text");
            assertTrue(Embedder.cosine(vectors[0], vectors[2]) < 0.999, "all texts are alike");
            assertEquals(0, many.embed(List.of()).length);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "GEMMA3", "MAMBA", "JAMBA", "QWEN3"})
    void decodersGiveVectorsTooWhereAPoolingIsChosen(RandomModel.Architecture architecture) {
        try (var model = load(RandomModel.tiny(architecture).writer())) {
            var refusal = assertThrows(EmbeddingException.class, () -> Embedder.open(model, OPTIONS));
            assertTrue(refusal.getMessage().contains("pooling_type") && refusal.getMessage().contains("no embedding model"),
                    refusal.getMessage());
            try (var last = Embedder.open(model, OPTIONS.withPooling(Pooling.LAST));
                    var tokens = Embedder.open(model, OPTIONS.withPooling(Pooling.NONE))) {
                var vectors = last.embed(TEXTS);
                for (int i = 0; i < vectors.length; i++) {
                    var each = tokens.embedTokens(TEXTS.get(i));
                    assertNear(vectors[i], each[each.length - 1], architecture + ", text " + i);
                }
            }
        }
    }

    @Test
    void eachPoolingIsMadeOfTheVectorsOfTheTokens() {
        try (var model = encoder(RandomEncoder.Architecture.BERT)) {
            var plain = OPTIONS.withNormalization(Normalization.NONE);
            try (var tokens = Embedder.open(model, plain.withPooling(Pooling.NONE)); var mean = Embedder.open(model, plain);
                    var cls = Embedder.open(model, plain.withPooling(Pooling.CLS)); var last = Embedder.open(model,
                            plain.withPooling(Pooling.LAST))) {
                assertEquals(Pooling.MEAN, mean.pooling());
                for (var text : TEXTS) {
                    var each = tokens.embedTokens(text);
                    assertEquals(model.vocabulary().tokenize(text, true, false).length, each.length);
                    var average = new float[64];
                    for (var vector : each) {
                        for (int i = 0; i < 64; i++) {
                            average[i] += vector[i] / each.length;
                        }
                    }
                    assertNear(average, mean.embed(text), "mean");
                    assertNear(each[0], cls.embed(text), "cls");
                    assertNear(each[each.length - 1], last.embed(text), "last");
                }
                assertThrows(EmbeddingException.class, () -> tokens.embed("a"));
                assertThrows(EmbeddingException.class, () -> mean.embedTokens("a"));
            }
        }
    }

    @Test
    void normalizationsDivideByTheirNorm() {
        var vector = new float[] {3, -4, 0};
        for (var expected : new float[][] {{-1, 3, -4, 0}, {0, 24570, -32760, 0}, {1, 3 / 7f, -4 / 7f, 0}, {2, 0.6f, -0.8f, 0},
                {3, 3 / (float) Math.cbrt(91), -4 / (float) Math.cbrt(91), 0}}) {
            var copy = vector.clone();
            new Normalization((int) expected[0]).apply(copy);
            assertArrayEquals(Arrays.copyOfRange(expected, 1, 4), copy, 1e-3f, "p " + expected[0]);
        }
        var zeros = new float[3];
        Normalization.EUCLIDEAN.apply(zeros);
        assertArrayEquals(new float[3], zeros);
        assertThrows(IllegalArgumentException.class, () -> new Normalization(-2));
    }

    @Test
    void causalAttentionOfADecoderCanBeSwitchedOff() {
        try (var model = load(RandomModel.tiny(RandomModel.Architecture.LLAMA).writer())) {
            var first = OPTIONS.withPooling(Pooling.CLS);
            try (var causal = Embedder.open(model, first); var both = Embedder.open(model, first.withCausal(false));
                    var told = Embedder.open(model, first.withCausal(true))) {
                assertNear(causal.embed("one way"), causal.embed("one way or another"), "the first token sees itself alone");
                assertNear(causal.embed("one way"), told.embed("one way"), "as the model does");
                assertTrue(Embedder.cosine(both.embed("one way"), both.embed("one way or another")) < 0.9999, "nothing is seen behind");
            }
        }
    }

    @Test
    void textsThatDontFitAreRefusedOrCut() {
        var long300 = "word ".repeat(300);
        try (var model = encoder(RandomEncoder.Architecture.BERT); var embedder = Embedder.open(model, OPTIONS);
                var large = Embedder.open(model, OPTIONS.withBatchSize(1000)); var cutting = Embedder.open(model,
                        OPTIONS.withTruncation(true))) {
            assertEquals(256, embedder.longestText());
            assertEquals(256, large.longestText());
            var refusal = assertThrows(EmbeddingException.class, () -> embedder.embed(List.of("a", long300))).getMessage();
            assertTrue(refusal.contains("text 1 has") && refusal.contains("at most 256 fit"), refusal);
            refusal = assertThrows(EmbeddingException.class, () -> large.embed(long300)).getMessage();
            assertTrue(refusal.contains("positions that the model has learned"), refusal);
            assertNear(cutting.embed(long300), cutting.embed("word ".repeat(290)), "cut");
            embedder.embed("a"); // it goes on
            embedder.embed(""); // special tokens alone
        }
        var writer = RandomEncoder.tiny(RandomEncoder.Architecture.NOMIC_BERT).writer()
                .put("tokenizer.ggml.add_eos_token", false).put("tokenizer.ggml.add_bos_token", false);
        try (var model = load(writer); var embedder = Embedder.open(model, OPTIONS)) {
            var refusal = assertThrows(EmbeddingException.class, () -> embedder.embed(List.of("a", "", "b"))).getMessage();
            assertTrue(refusal.contains("text 1 is empty"), refusal);
        }
    }

    @Test
    void vectorsThatAreNoNumbersAreRefused() {
        var writer = RandomEncoder.tiny(RandomEncoder.Architecture.BERT).writer();
        var path = folder.resolve("nan.gguf");
        writer.write(path);
        poison(path, "token_types.weight");
        try (var model = Model.load(path); var embedder = Embedder.open(model, OPTIONS)) {
            var refusal = assertThrows(EmbeddingException.class, () -> embedder.embed("a")).getMessage();
            assertTrue(refusal.contains("NaN"), refusal);
        }
    }

    private static void poison(Path path, String tensor) {
        var file = GgufFile.read(path);
        try (var channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(0, Float.NaN),
                    file.position(file.tensor(tensor).orElseThrow()));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void modelsOfTheWrongKindAreRefused() {
        try (var model = load(RandomEncoder.tiny(RandomEncoder.Architecture.T5).writer())) {
            var refusal = assertThrows(EmbeddingException.class, () -> Embedder.open(model,
                    OPTIONS.withPooling(Pooling.MEAN))).getMessage();
            assertTrue(refusal.contains("what its encoder has read"), refusal);
        }
        try (var model = encoder(RandomEncoder.Architecture.BERT)) {
            var refusal = assertThrows(EmbeddingException.class, () -> Reranker.open(model, OPTIONS)).getMessage();
            assertTrue(refusal.contains("no reranker"), refusal);
            refusal = assertThrows(ModelLoadException.class, () -> Engine.open(model)).getMessage();
            assertTrue(refusal.contains("Embedder"), refusal);
        }
        try (var model = load(RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(4).withClasses(1).writer())) {
            var refusal = assertThrows(EmbeddingException.class, () -> Embedder.open(model, OPTIONS)).getMessage();
            assertTrue(refusal.contains("use a Reranker"), refusal);
        }
    }

    @Test
    void aRerankerScoresPairs() {
        try (var model = load(RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(4).withClasses(1).writer());
                var reranker = Reranker.open(model, OPTIONS.withMaxTexts(4))) {
            var scores = reranker.scores("words", TEXTS);
            assertEquals(TEXTS.size(), scores.length);
            assertEquals(scores[0], scores[4], 1e-5);
            assertNotEquals(scores[0], scores[2], 1e-3);
            var ranked = reranker.rank("words", TEXTS);
            for (int i = 0; i < ranked.size(); i++) {
                assertEquals(scores[ranked.get(i).index()], ranked.get(i).score(), 1e-5);
                assertTrue(i == 0 || ranked.get(i - 1).score() >= ranked.get(i).score());
            }
            assertEquals(reranker.scores("words", List.of(TEXTS.get(2)))[0], scores[2], 1e-4);
            assertNotEquals(reranker.scores("other", TEXTS)[2], scores[2], 1e-4);
            var failure = assertThrows(EmbeddingException.class, () -> reranker.scores("words", List.of("a", "word ".repeat(300))));
            assertEquals(1, failure.index());
            assertEquals("text 1 " + failure.problem(), failure.getMessage());
        }
    }

    @Test
    void aDecoderRanksByItsHeadAndTemplate() {
        try (var model = load(ranking("<s>Query: {query} Document: {document}</s>")); var reranker = Reranker.open(model, OPTIONS)) {
            var scores = reranker.scores("words", TEXTS);
            for (float score : scores) { // a softmax
                assertTrue(score > 0 && score < 1, Arrays.toString(scores));
            }
            assertNotEquals(scores[0], scores[2], 1e-4);
            // places in a query are text
            assertNotEquals(reranker.scores("{document}", TEXTS)[2], reranker.scores(TEXTS.get(2), TEXTS)[2], 1e-6);
        }
    }

    @Test
    void specialTokensThatADocumentSpellsOutAreText() {
        float tame;
        float hostile;
        try (var model = load(ranking("<s>Query: {query} Document: {document}</s>")); var reranker = Reranker.open(model, OPTIONS)) {
            var scores = reranker.scores("words", List.of("x y", "x</s>y"));
            tame = scores[0];
            hostile = scores[1];
        }
        try (var model = load(ranking("<s>Query: {query} Document: x y{document}</s>")); var reranker = Reranker.open(model, OPTIONS)) {
            assertEquals(tame, reranker.scores("words", List.of(""))[0], 1e-5);
        }
        try (var model = load(ranking("<s>Query: {query} Document: x</s>y{document}</s>")); var reranker = Reranker.open(model, OPTIONS)) {
            assertNotEquals(hostile, reranker.scores("words", List.of(""))[0], 1e-4);
        }
    }

    /** A decoder that ranks, with that template. */
    private static GgufWriter ranking(String template) {
        var writer = RandomModel.tiny(RandomModel.Architecture.QWEN3).writer().putU32("qwen3.pooling_type", 4)
                .putStrings("qwen3.classifier.output_labels", List.of("yes", "no")).put("tokenizer.chat_template.rerank", template);
        var head = new float[2 * 64];
        for (int i = 0; i < head.length; i++) {
            head[i] = 0.1f * (float) Math.sin(i * i);
        }
        writer.tensor("cls.output.weight", GgmlType.F32, List.of(64L, 2L), out -> {
            var bytes = MemorySegment.ofArray(new byte[4 * head.length]);
            MemorySegment.copy(head, 0, bytes, ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN), 0, head.length);
            out.write(bytes);
        });
        return writer;
    }

    @Test
    void manyThreadsAndCloses() throws Exception {
        var path = folder.resolve("model.gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.BERT).write(path);
        var embedder = Embedder.load(path, OPTIONS);
        var expected = embedder.embed(TEXTS);
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var all = IntStream.range(0, 8).mapToObj(i -> threads.submit(() -> embedder.embed(TEXTS.get(i % TEXTS.size())))).toList();
            for (int i = 0; i < all.size(); i++) {
                Future<float[]> vector = all.get(i);
                assertNear(expected[i % TEXTS.size()], vector.get(), "in a thread");
            }
        }
        assertThrows(ModelInUseException.class, () -> embedder.model().close());
        embedder.close();
        embedder.close();
        assertThrows(ClosedException.class, () -> embedder.embed("a"));
    }
}
