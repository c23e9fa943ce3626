package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Normalization;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Vectors and scores of random models are those of a program in C over {@code llama.h}: the same bits where it evaluates the same batches,
 * and nearly the same where it evaluates every text alone, in a context for one.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class EmbeddingsTest {
    private static final List<String> TEXTS = List.of("a list of words", "a map",
            "Some quite different text, longer than the others are", "x", "UPPER CASE 123 caf\u00e9",
            "and one that is read in many tokens: " + "again and ".repeat(8));
    private static final String QUERY = "which words?";
    /** Of one batch, in tokens; all texts fit. */
    private static final int CAPACITY = 512;
    private static final EmbedderOptions OPTIONS =
            EmbedderOptions.defaults().withNormalization(Normalization.NONE).withBatchSize(CAPACITY).withThreads(1);
    /**
     * By which numbers may differ in another batch, beside the largest of their vector: flash attention chooses by the batch's shape how it
     * sums values of F16, and GELU is looked up by numbers of F16.
     */
    private static final double ROUNDING = 4e-3;

    private Path folder;
    private CProgram program;

    @BeforeAll
    void compile(@TempDir Path folder) throws Exception {
        this.folder = folder;
        program = CProgram.compile(folder, "vectors");
    }

    private Path write(GgufWriter writer, String name) {
        var file = folder.resolve(name + ".gguf");
        writer.write(file);
        return file;
    }

    /** The vectors that the program gives, by {@code together} texts in a batch. */
    private List<float[]> inC(Path file, Pooling pooling, String attention, int width, int sequences, List<int[]> texts, int together)
            throws Exception {
        var lines = new StringBuilder();
        for (int from = 0; from < texts.size(); from += together) {
            lines.append(texts.subList(from, Math.min(texts.size(), from + together)).stream()
                    .map(text -> Arrays.stream(text).mapToObj(Integer::toString).collect(Collectors.joining(" ")))
                    .collect(Collectors.joining(" ; "))).append('\n');
        }
        return program.rows(List.of(file.toString()), List.of(pooling.name().toLowerCase(Locale.ROOT), attention, String.valueOf(CAPACITY),
                String.valueOf(sequences), "1"), lines.toString(), width);
    }

    private static List<int[]> tokens(Model model) {
        return TEXTS.stream().map(text -> model.vocabulary().tokenize(text, true, false)).toList();
    }

    private static void assertSameBits(List<float[]> expected, List<float[]> actual, String what) {
        assertEquals(expected.size(), actual.size(), what);
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i), actual.get(i), what + ", vector " + i);
        }
    }

    private static void assertNear(List<float[]> expected, List<float[]> actual, double tolerance, String what) {
        assertEquals(expected.size(), actual.size(), what);
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i), actual.get(i), (float) (tolerance * largest(expected.get(i))), what + ", vector " + i);
        }
    }

    private static double largest(float[] vector) {
        return absolutes(vector).max().orElseThrow();
    }

    private static DoubleStream absolutes(float[] vector) {
        return IntStream.range(0, vector.length).mapToDouble(i -> Math.abs(vector[i]));
    }

    /** Texts have vectors of their own: no comparison is one of zeros, or of a text with another. */
    private static void assertDifferent(List<float[]> vectors, String what) {
        for (int i = 0; i < vectors.size(); i++) {
            for (int j = 0; j < i; j++) {
                assertTrue(Embedder.cosine(vectors.get(i), vectors.get(j)) < 0.9999, what + ", texts " + i + " and " + j);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"BERT", "NOMIC_BERT", "JINA_BERT_V2", "T5_ENCODER"})
    void encoders(RandomEncoder.Architecture architecture) throws Exception {
        everyPooling(write(RandomEncoder.tiny(architecture).writer(), architecture.key()), null);
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "QWEN3", "GEMMA3", "MAMBA", "JAMBA"})
    void decoders(RandomModel.Architecture architecture) throws Exception {
        everyPooling(write(RandomModel.tiny(architecture).writer(), architecture.name()), null);
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void decodersWhoseAttentionIsChosen(boolean causal) throws Exception {
        everyPooling(write(RandomModel.tiny(RandomModel.Architecture.LLAMA).writer(), "attention"), causal);
    }

    private void everyPooling(Path file, Boolean causal) throws Exception {
        var attention = causal == null ? "model" : causal ? "causal" : "non-causal";
        for (var pooling : List.of(Pooling.MEAN, Pooling.CLS, Pooling.LAST)) {
            var what = file.getFileName() + ", " + attention + ", " + pooling;
            var options = OPTIONS.withPooling(pooling).withCausal(causal);
            try (var model = Model.load(file); var many = Embedder.open(model, options);
                    var few = Embedder.open(model, options.withMaxTexts(2))) {
                var texts = tokens(model);
                int size = many.size();
                var vectors = Arrays.asList(many.embed(TEXTS));
                if (pooling != Pooling.CLS) { // the first token of all texts is the same one
                    assertDifferent(vectors, what);
                }
                assertSameBits(inC(file, pooling, attention, size, options.maxTexts(), texts, texts.size()), vectors, what);
                assertSameBits(inC(file, pooling, attention, size, 2, texts, 2), Arrays.asList(few.embed(TEXTS)), what + ", by twos");
                assertNear(inC(file, pooling, attention, size, 1, texts, 1), vectors, ROUNDING, what + ", alone");
            }
        }
        var options = OPTIONS.withPooling(Pooling.NONE).withCausal(causal);
        try (var embedder = Embedder.load(file, options)) {
            var what = file.getFileName() + ", " + attention + ", tokens";
            var texts = tokens(embedder.model());
            var vectors = TEXTS.stream().flatMap(text -> Arrays.stream(embedder.embedTokens(text))).toList();
            assertSameBits(inC(file, Pooling.NONE, attention, embedder.size(), options.maxTexts(), texts, 1), vectors, what);
            assertNear(inC(file, Pooling.NONE, attention, embedder.size(), options.maxTexts(), texts, texts.size()), vectors, ROUNDING,
                    what + ", together");
        }
    }

    /** What {@code llama-embedding --embd-normalize} divides by. */
    @ParameterizedTest
    @ValueSource(ints = {-1, 0, 1, 2, 3, 7})
    void normalizations(int p) throws Exception {
        var file = write(RandomEncoder.tiny(RandomEncoder.Architecture.BERT).writer(), "norms");
        try (var embedder = Embedder.load(file, OPTIONS.withNormalization(new Normalization(p)))) {
            var expected = inC(file, Pooling.MEAN, "model", embedder.size(), OPTIONS.maxTexts(), tokens(embedder.model()), TEXTS.size());
            for (var vector : expected) {
                double divisor = switch (p) {
                    case -1 -> 1;
                    case 0 -> largest(vector) / 32760;
                    default -> Math.pow(absolutes(vector).map(x -> Math.pow(x, p)).sum(), 1.0 / p);
                };
                for (int i = 0; i < vector.length; i++) {
                    vector[i] = (float) (vector[i] / divisor);
                }
            }
            assertNear(expected, Arrays.asList(embedder.embed(TEXTS)), 1e-6, "p " + p);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3})
    void scoresOfAClassificationHead(int classes) throws Exception {
        var writer = RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(4).withClasses(classes).writer();
        scores(write(writer, "classes" + classes), classes, document -> QUERY + "</s>" + document);
    }

    @Test
    void scoresOfPairsThatATokenSeparates() throws Exception {
        var writer = RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(4).withClasses(1).writer()
                .put("tokenizer.ggml.add_sep_token", true).putU32("tokenizer.ggml.seperator_token_id", 1);
        scores(write(writer, "separated"), 1, document -> QUERY + "</s><s>" + document);
    }

    @Test
    void scoresOfADecoderWithATemplate() throws Exception {
        var head = new float[2 * 64];
        for (int i = 0; i < head.length; i++) {
            head[i] = 0.1f * (float) Math.sin(i * i);
        }
        var writer = RandomModel.tiny(RandomModel.Architecture.QWEN3).writer().putU32("qwen3.pooling_type", 4)
                .putStrings("qwen3.classifier.output_labels", List.of("yes", "no"))
                .put("tokenizer.chat_template.rerank", "<s>Query: {query} Document: {document}</s>")
                .tensor("cls.output.weight", GgmlType.F32, List.of(64L, 2L), out -> {
                    var bytes = MemorySegment.ofArray(new byte[4 * head.length]);
                    MemorySegment.copy(head, 0, bytes, ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN), 0, head.length);
                    out.write(bytes);
                });
        scores(write(writer, "template"), 2, document -> "<s>Query: " + QUERY + " Document: " + document + "</s>");
    }

    /** @param pair the text that llama.cpp makes of a document, whose special tokens are spelled out */
    private void scores(Path file, int classes, Function<String, String> pair) throws Exception {
        try (var reranker = Reranker.load(file, OPTIONS)) {
            var pairs = TEXTS.stream().map(pair).map(text -> reranker.model().vocabulary().tokenize(text, true, true)).toList();
            var scores = reranker.scores(QUERY, TEXTS);
            assertEquals(TEXTS.size(), absolutes(scores).distinct().count(), "the same scores");
            int sequences = OPTIONS.maxTexts();
            assertArrayEquals(first(inC(file, Pooling.RANK, "model", classes, sequences, pairs, pairs.size())), scores);
            assertNear(List.of(first(inC(file, Pooling.RANK, "model", classes, 1, pairs, 1))), List.of(scores), ROUNDING, "alone");
        }
    }

    /** The first output of each text. */
    private static float[] first(List<float[]> outputs) {
        var scores = new float[outputs.size()];
        for (int i = 0; i < scores.length; i++) {
            scores[i] = outputs.get(i)[0];
        }
        return scores;
    }
}
