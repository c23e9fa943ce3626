package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.asap.Asap;
import io.github.panamallama.sampling.asap.AsapOptions;
import io.github.panamallama.sampling.track.Fingerprint;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Strategies and ASAp ask the model that their sequence asks: the base under its adapters. */
class StrategyAdapterTest {
    private static final Path BASE = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final int LENGTH = 40;

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;
    private static Adapter adapter;
    private static AdapterSet set;
    private static int[] prompt;
    private static Decoding base;
    private static Decoding adapted;

    @BeforeAll
    static void load() {
        model = Model.load(BASE);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(1));
        adapter = Adapter.load(model, RandomAdapter.of(5).write(GgufFile.read(BASE), folder.resolve("random.gguf")));
        set = AdapterSet.of(adapter);
        prompt = model.vocabulary().tokenize("public final class Range {\n    private final int start;\n", true, false);
        base = decode(new Plain(), AdapterSet.none());
        adapted = decode(new Plain(), set);
        assertFalse(Arrays.equals(base.tokens(), adapted.tokens()), "the adapter changes the text");
    }

    @AfterAll
    static void unload() {
        engine.close();
        adapter.close();
        model.close();
    }

    private static Decoding decode(Strategy strategy, AdapterSet adapters) {
        try (var sequence = engine.newSequence(adapters)) {
            var decoding = strategy.start(sequence, prompt, StrategyOptions.defaults().withMaxTokens(LENGTH));
            try (decoding) {
                while (decoding.advance()) {
                }
            }
            assertEquals(adapters, sequence.adapters());
            return decoding;
        }
    }

    /** Equal tokens, or a first difference where the two best logits are closer than rows of other batch shapes are. */
    private static void assertSameUpToTies(Decoding expected, Decoding actual, Strategy strategy) {
        int at = Arrays.mismatch(expected.tokens(), actual.tokens());
        if (at >= 0 && at < Math.min(expected.tokens().length, actual.tokens().length)) {
            double margin = expected.confidence().margin(at);
            assertTrue(margin < 0.05, strategy + ": token " + at + " differs at a margin of " + margin);
        }
    }

    /** Each branches, searches or drafts in another way, and with these settings each gives the greedy text. */
    @Test
    void everyBranchIsEvaluatedUnderTheAdaptersOfTheSequence() {
        try (var draftEngine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(1))) {
            var table = TrigramTable.of(model.vocabulary(), List.of(base.tokens(), adapted.tokens()));
            for (var strategy : List.of(AdaDec.of(0).withCandidates(1), new BeamSearch(1, 1), Uscd.of(prompt), NGramDrafts.of(table),
                    new Speculative(draftEngine, 4))) {
                assertSameUpToTies(adapted, decode(strategy, set), strategy);
            }
        }
    }

    /** The text that a beam search finds is as likely under the adapters as it says. */
    @Test
    void aSearchReportsTheProbabilitiesOfTheAdaptedModel() {
        var found = decode(new BeamSearch(3, 1), set);
        assertEquals(logProbability(set, found.tokens()), found.confidence().logProbability(), 0.05);
    }

    private static Asap asap(AdapterSet adapters, int maxTokens) {
        var vocabulary = model.vocabulary();
        var texts = Stream.of("int size()", "int start()", "boolean isEmpty()", "String toString()")
                .map(text -> vocabulary.tokenize(text, false, false)).toList();
        var constraint = new FiniteConstraint(vocabulary.size(), texts, vocabulary.endOfGeneration());
        return Asap.open(engine, prompt, constraint, "signatures", AsapOptions.defaults().withMaxTokens(maxTokens).withAdapters(adapters));
    }

    @Test
    void asapDrawsFromTheAdaptedModel() {
        try (var under = asap(set, 20); var without = asap(AdapterSet.none(), 20)) {
            for (var text : under.enumerate(500).texts()) {
                assertEquals(logProbability(set, text.tokens()), text.logProbability(), 0.05, Arrays.toString(text.tokens()));
            }
            double difference = Math.abs(under.logMassBound() - without.enumerate(500).logMass());
            assertTrue(difference > 0.1, "the adapter changes how likely the language is: " + difference);
        }
    }

    private static double logProbability(AdapterSet adapters, int[] tokens) {
        try (var sequence = engine.newSequence(adapters)) {
            var row = engine.newRow();
            sequence.append(prompt, row);
            double sum = 0;
            for (int token : tokens) {
                sum += row.get(token) - RowMath.logSumExp(row);
                sequence.append(token, row);
            }
            return sum;
        }
    }

    @Test
    void aTrieLearnedUnderAnotherSetIsRefused() throws Exception {
        var file = folder.resolve("trie");
        var again = Files.copy(adapter.path(), folder.resolve("copy.gguf"));
        try (var first = asap(set, 20); var copy = Adapter.load(model, again)) {
            first.draw(20);
            first.save(file);
            for (var other : List.of(AdapterSet.none(), AdapterSet.of(adapter, 0.5f), set.with(copy, 0))) {
                try (var stranger = asap(other, 20)) {
                    var refused = assertThrows(LlamaException.class, () -> stranger.load(file));
                    assertTrue(refused.getMessage().contains("adapter set"), refused.getMessage());
                }
            }
            try (var same = asap(AdapterSet.of(copy), 20)) {
                same.load(file);
                assertEquals(first.stats().nodes(), same.stats().nodes(), "the same weights in another file");
            }
        }
    }

    @Test
    void aFingerprintTellsSetsApartAndIsThatOfTheModelWithoutAdapters() {
        var other = RandomAdapter.of(6).write(GgufFile.read(BASE), folder.resolve("other.gguf"));
        try (var second = Adapter.load(model, other)) {
            var prints = new ArrayList<byte[]>();
            for (var each : List.of(AdapterSet.none(), set, AdapterSet.of(adapter, -1), AdapterSet.of(second), set.with(second, 1),
                    AdapterSet.of(second).with(adapter, 1))) {
                prints.add(Fingerprint.of(model, each));
            }
            assertArrayEquals(Fingerprint.of(model), prints.getFirst());
            assertEquals(prints.size(), new HashSet<>(prints.stream().map(HexFormat.of()::formatHex).toList()).size());
        }
    }

    @Test
    void aSamplerThatCannotBeMadeHoldsNoAdapter() {
        var lora = RandomAdapter.of(7).write(GgufFile.read(BASE), folder.resolve("held.gguf"));
        var held = Adapter.load(model, lora);
        assertThrows(IllegalArgumentException.class, () -> asap(AdapterSet.of(held), 512));
        assertEquals(0, held.sequences());
        held.close();
    }
}
