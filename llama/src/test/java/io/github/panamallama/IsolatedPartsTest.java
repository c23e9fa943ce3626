package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.layers.Budget;
import io.github.panamallama.layers.BudgetControl;
import io.github.panamallama.layers.Example;
import io.github.panamallama.layers.FirstRouter;
import io.github.panamallama.layers.RouterFile;
import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterInUseException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.EmbeddingException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.ModelLoadException;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Normalization;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.MtpDrafts;
import io.github.panamallama.sampling.strategy.NGramDrafts;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.PlanSwitching;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.TrigramTable;
import io.github.panamallama.sampling.strategy.Uscd;
import io.github.panamallama.sampling.strategy.Work;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Vectors, adapters, control vectors, states and strategies of a worker are those of this process, bit for bit. */
@Timeout(300)
class IsolatedPartsTest extends BothWays {
    private static final GenerationOptions GREEDY = GenerationOptions.defaults().withTemperature(0).withMaxTokens(48);
    private static final LlamaOptions OPTIONS = LlamaOptions.defaults().withContextSize(1024).withThreads(1).withGeneration(GREEDY);
    private static final EmbedderOptions EMBEDDING = EmbedderOptions.defaults().withThreads(1);
    private static final List<String> TEXTS = List.of("public int size()", "int length()", "/** Copyright */", "für ∑ 😀",
            "x".repeat(500));

    @TempDir
    static Path folder;

    @BeforeAll
    static void load() {
        open(OPTIONS);
    }

    // --- vectors -------------------------------------------------------------------------------------------------------------

    @Test
    void vectorsAreThoseOfThisProcessBitForBit() {
        for (var pooling : List.of(Pooling.MEAN, Pooling.LAST, Pooling.CLS)) {
            for (var norm : List.of(Normalization.EUCLIDEAN, Normalization.NONE)) {
                var options = EMBEDDING.withPooling(pooling).withNormalization(norm);
                try (var local = here.embedder(options); var remote = there.embedder(options)) {
                    assertEquals(List.of(local.pooling(), local.size(), local.longestText()),
                            List.of(remote.pooling(), remote.size(), remote.longestText()));
                    assertArrayEquals(local.embed(TEXTS), remote.embed(TEXTS));
                    assertArrayEquals(local.embed("one"), remote.embed("one"));
                    assertArrayEquals(new float[0][], remote.embed(List.of()));
                }
            }
        }
        var options = EMBEDDING.withPooling(Pooling.NONE);
        try (var local = here.embedder(options); var remote = there.embedder(options)) {
            assertTrue(local.embedTokens(PROMPT).length > 5);
            assertArrayEquals(local.embedTokens(PROMPT), remote.embedTokens(PROMPT));
        }
    }

    @Test
    void manyVectorsCrossInParts() {
        var options = EMBEDDING.withPooling(Pooling.MEAN);
        try (var local = here.embedder(options); var remote = there.embedder(options)) {
            int count = 2 * (1 << 20) / (local.size() * Float.BYTES);       // more than one part
            var texts = IntStream.range(0, count).mapToObj(i -> "x" + i % 10).toList();
            assertArrayEquals(local.embed(texts), remote.embed(texts));
        }
    }

    @Test
    void failuresOfVectorsComeAsWhatTheyAre() {
        sameFailure(EmbeddingException.class, model -> model.embedder(EMBEDDING));
        sameFailure(EmbeddingException.class, model -> model.reranker(EMBEDDING));
        sameFailure(EmbeddingException.class, model -> {
            try (var embedder = model.embedder(EMBEDDING.withPooling(Pooling.MEAN))) {
                return embedder.embed(List.of("short", "word ".repeat(5000)));
            }
        });
        sameFailure(EmbeddingException.class, model -> {
            try (var embedder = model.embedder(EMBEDDING.withPooling(Pooling.NONE))) {
                return embedder.embed("one vector of one text");
            }
        });
        sameFailure(ClosedException.class, model -> {
            var embedder = model.embedder(EMBEDDING.withPooling(Pooling.MEAN));
            embedder.close();
            embedder.close();
            return embedder.embed("too late");
        });
        assertEquals(0, there.restarts());
    }

    @Test
    void aModelThatOnlyEncodesWorksInAWorkerOfItsOwn() {
        var encoder = folder.resolve("bert.gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(1).write(encoder);
        try (var local = Embedder.load(encoder, EMBEDDING);
                var remote = Llama.isolatedEmbedder(encoder, EMBEDDING, IsolationOptions.defaults())) {
            assertArrayEquals(local.embed(TEXTS.subList(0, 3)), remote.embed(TEXTS.subList(0, 3)));
        }
        var ranker = folder.resolve("ranker.gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(4).withClasses(1).write(ranker);
        try (var local = Reranker.load(ranker, EMBEDDING);
                var remote = Llama.isolatedReranker(ranker, EMBEDDING, IsolationOptions.defaults())) {
            assertArrayEquals(local.scores("words", TEXTS.subList(0, 3)), remote.scores("words", TEXTS.subList(0, 3)));
            assertEquals(local.rank("words", TEXTS.subList(0, 3)), remote.rank("words", TEXTS.subList(0, 3)));
        }
        var local = assertThrows(EmbeddingException.class, () -> Reranker.load(encoder, EMBEDDING));
        var remote = assertThrows(EmbeddingException.class, () -> Llama.isolatedReranker(encoder, EMBEDDING, IsolationOptions.defaults()));
        assertEquals(local.getMessage(), remote.getMessage());
        assertThrows(ModelLoadException.class, () -> Llama.isolated(encoder, OPTIONS, IsolationOptions.defaults()));
        assertFalse(ProcessHandle.current().children().anyMatch(child -> child.pid() != there.workerPid()), "no worker is left");
    }

    @Test
    void aDecoderRanksInAWorkerToo() {
        var random = new SplittableRandom(7);
        var head = ByteBuffer.allocate(4 * 64).order(ByteOrder.LITTLE_ENDIAN);
        IntStream.range(0, 64).forEach(i -> head.putFloat((float) random.nextDouble(-1, 1)));
        var ranker = folder.resolve("decoder.gguf");
        RandomModel.tiny(RandomModel.Architecture.QWEN3).writer().putU32("qwen3.pooling_type", 4)
                .tensor("cls.output.weight", GgmlType.F32, List.of(64L, 1L), out -> out.write(MemorySegment.ofArray(head.array())))
                .write(ranker);
        try (var local = Llama.load(ranker, OPTIONS.withContextSize(128));
                var remote = Llama.isolated(ranker, OPTIONS.withContextSize(128), IsolationOptions.defaults());
                var scores = local.reranker(EMBEDDING); var same = remote.reranker(EMBEDDING)) {
            assertArrayEquals(scores.scores("q", TEXTS.subList(0, 3)), same.scores("q", TEXTS.subList(0, 3)));
            assertEquals(scores.longestText(), same.longestText());
            var refused = assertThrows(LlamaException.class, () -> local.chat());
            assertEquals(refused.getMessage(), assertThrows(LlamaException.class, () -> remote.complete(PROMPT)).getMessage());
        }
    }

    // --- adapters ------------------------------------------------------------------------------------------------------------

    private static Path adapterFile(int seed) {
        return RandomAdapter.of(seed).write(GgufFile.read(DefaultModel.path()), folder.resolve("adapter-" + seed + ".gguf"));
    }

    @Test
    void textsUnderAdaptersAreThoseOfThisProcess() {
        var one = adapterFile(1);
        var other = adapterFile(2);
        var plain = alike(model -> model.complete(PROMPT).text());
        var under = alike(model -> model.complete(PROMPT, GREEDY.withAdapters(AdapterSet.of(model.adapter(one)))).text());
        assertNotEquals(plain, under);
        alike(model -> {
            var both = AdapterSet.of(model.adapter(one), 0.5f).with(model.adapter(other), -0.25f);
            return model.infill("int max = ", ";\n", GREEDY.withAdapters(both)).text();
        });
        alike(model -> {
            var texts = new ArrayList<Object>();
            try (var chat = model.chat(ChatOptions.defaults().withGeneration(GREEDY.withAdapters(AdapterSet.of(model.adapter(one)))))) {
                texts.add(chat.send("What does `List.add` do?").text());
                texts.add(chat.adapters().toString());
                chat.adapters(AdapterSet.of(model.adapter(other)));
                var reply = chat.send("And `size`?");
                texts.add(reply.text());
                texts.add(reply.stats().cachedTokens());
                chat.adapters(AdapterSet.none());
                texts.add(chat.send("And `get`?").text());
            }
            return texts;
        });
        alike(model -> {
            var adapter = model.adapter(one);
            assertSame(adapter, model.adapter(one));
            return List.of(adapter.name(), adapter.maxRank(), adapter.alpha(), adapter.sizeBytes(), adapter.targets().size(),
                    adapter.sequences(), model.adapters().size());
        });
        assertEquals(plain, there.complete(PROMPT).text());
    }

    @Test
    void adaptersThatAreUsedOrClosedAreRefusedAsInThisProcess() {
        var file = adapterFile(3);
        var used = sameFailure(AdapterInUseException.class, model -> {
            var adapter = model.adapter(file);
            try (var completion = model.complete(PROMPT, GREEDY.withAdapters(AdapterSet.of(adapter)))) {
                assertTrue(completion.iterator().hasNext());
                assertEquals(1, adapter.sequences());
                adapter.close();
                return null;
            }
        });
        assertEquals(1, used.sequences());
        alike(model -> {
            var adapter = model.adapter(file);
            var set = AdapterSet.of(adapter);
            adapter.close();
            assertTrue(adapter.closed());
            assertThrows(ClosedException.class, () -> model.complete(PROMPT, GREEDY.withAdapters(set)));
            assertNotEquals(adapter, model.adapter(file));
            return model.adapters().stream().anyMatch(known -> known == adapter);
        });
        sameFailure(GgufException.class, model -> model.adapter(folder.resolve("missing.gguf").toAbsolutePath()));
        var stranger = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(stranger);
        var foreign = RandomAdapter.of(4).write(GgufFile.read(stranger), folder.resolve("foreign.gguf"));
        sameFailure(AdapterException.class, model -> model.adapter(foreign.toAbsolutePath()));
    }

    @Test
    void anAdapterOfAnotherProcessIsRefusedOnBothSides() {
        var file = adapterFile(5);
        var ours = GREEDY.withAdapters(AdapterSet.of(here.adapter(file)));
        var theirs = GREEDY.withAdapters(AdapterSet.of(there.adapter(file)));
        assertThrows(IllegalArgumentException.class, () -> there.complete(PROMPT, ours));
        assertThrows(IllegalArgumentException.class, () -> here.complete(PROMPT, theirs));
        assertThrows(IllegalArgumentException.class, () -> here.chat(ChatOptions.defaults().withGeneration(theirs)));
        assertThrows(IllegalArgumentException.class, () -> ours.adapters().with(there.adapter(file), 1));
        assertThrows(UnsupportedOperationException.class, () -> there.adapter(file).model());
        var state = folder.resolve("state");
        try (var sequence = here.engine().newSequence()) {
            sequence.append(here.model().vocabulary().tokenize(PROMPT, true, false), null);
            sequence.save(state);
        }
        assertThrows(StateException.class, () -> here.engine().restore(state, theirs.adapters(),
                LayerPlan.all(here.model().layerCount())));
    }

    // --- control vectors -----------------------------------------------------------------------------------------------------

    private static Path control(int block) {
        int width = here.model().embeddingSize();
        var random = new SplittableRandom(block);
        var values = ByteBuffer.allocate(4 * width).order(ByteOrder.LITTLE_ENDIAN);
        IntStream.range(0, width).forEach(i -> values.putFloat((float) random.nextDouble(-1, 1)));
        var path = folder.resolve("control-" + block + ".gguf");
        new GgufWriter().put("general.architecture", "controlvector").put("controlvector.model_hint", "llama")
                .tensor("direction." + block, GgmlType.F32, List.of((long) width), out -> out.write(MemorySegment.ofArray(values.array())))
                .write(path);
        return path;
    }

    @Test
    void controlVectorsOfFilesCross() {
        var files = ControlFiles.of(control(2), 40).with(control(3), -20);
        var plain = here.complete(PROMPT).text();
        for (var control : List.of(files, files.withLayers(1, 2))) {
            var options = OPTIONS.withControl(control);
            try (var local = Llama.loadDefault(options); var remote = Llama.isolatedDefault(options, IsolationOptions.defaults())) {
                var text = local.complete(PROMPT).text();
                assertNotEquals(plain, text);
                assertEquals(text, remote.complete(PROMPT).text());
            }
        }
        var none = OPTIONS.withControl(ControlFiles.of(DefaultModel.path(), 1));
        var local = assertThrows(AdapterException.class, () -> Llama.loadDefault(none));
        var remote = assertThrows(AdapterException.class, () -> Llama.isolatedDefault(none, IsolationOptions.defaults()));
        assertEquals(local.getMessage(), remote.getMessage());
        var code = OPTIONS.withControl(model -> ControlVector.load(model, control(2)));
        assertThrows(IsolationException.class, () -> Llama.isolatedDefault(code, IsolationOptions.defaults()));
        assertThrows(IllegalArgumentException.class, () -> files.withLayers(3, 2));
        assertThrows(IllegalArgumentException.class, () -> ControlFiles.of(control(2), Float.NaN));
    }

    // --- measures, strategies, plans -----------------------------------------------------------------------------------------

    @Test
    void confidenceCrosses() {
        alike(model -> {
            var completion = model.complete(PROMPT, GREEDY.withConfidence(true));
            completion.iterator().next();
            var confidence = completion.confidence();
            int first = confidence.size();
            completion.text();
            assertSame(confidence, completion.confidence(), "it grows");
            assertTrue(first > 0 && confidence.size() > first);
            return List.of(first, confidence.toString(), confidence.lowestMargin(), confidence.highestEntropy(),
                    IntStream.range(0, confidence.size()).mapToObj(i -> List.of(confidence.token(i), confidence.logProbability(i),
                            confidence.entropy(i), confidence.margin(i))).toList());
        });
    }

    @Test
    void strategiesThatAreSettingsCross() {
        int blocks = here.model().layerCount();
        var ladder = BudgetControl.ladder(List.of(LayerPlan.all(blocks).skip(1), LayerPlan.all(blocks).skip(2)));
        var lame = here.model().vocabulary().tokenize("class Point {\n", true, false);
        for (Strategy strategy : List.of(AdaDec.of(0.5), AdaDec.of(0.5).withFinished(AdaDec.AT_END_OF_FUNCTION).withDepth(2), Uscd.of(lame),
                PlanDrafts.of(LayerPlan.all(blocks).skip(1)).withLength(3), new PlanSwitching(Budget.ofWork(ladder, 0.8)))) {
            alike(model -> {
                var completion = model.complete(PROMPT, GREEDY.withStrategy(strategy));
                return List.of(completion.text(), completion.finishReason(), completion.work());
            });
        }
    }

    @Test
    void draftsByAModelsOwnHeadCross() {
        var file = folder.resolve("mtp.gguf");
        RandomModel.tiny(RandomModel.Architecture.QWEN35).write(file);
        var options = OPTIONS.withModel(ModelOptions.defaults().withMtp(true));
        try (var local = Llama.load(file, options); var remote = Llama.isolated(file, options, IsolationOptions.defaults())) {
            var answers = Stream.of(local, remote).map(model -> {
                var completion = model.complete(PROMPT, GREEDY.withStrategy(new MtpDrafts(2)));
                return List.of(completion.text(), completion.finishReason(), completion.work());
            }).toList();
            assertEquals(answers.getFirst(), answers.getLast());
            assertTrue(((Work) answers.getFirst().getLast()).count("drafted") > 0);
        }
    }

    @Test
    void plansByARouterInAFileCross() {
        int blocks = here.model().layerCount();
        var examples = new ArrayList<Example>();
        for (int i = 0; i < 8; i++) {
            var prompt = here.model().vocabulary().tokenize("int x" + i + " = 1;", true, false);
            examples.add(new Example(prompt, LayerPlan.all(blocks).skip(1)));
        }
        var file = folder.resolve("router.gguf");
        RouterFile.write(file, FirstRouter.train(here.engine(), examples, FirstRouter.Options.defaults()), here.model());
        var plan = alike(model -> {
            var completion = model.complete(PROMPT, GREEDY.withPlans(RoutedPlans.of(file)));
            return List.of(completion.plan(), completion.text());
        });
        assertEquals(LayerPlan.all(blocks).skip(1), plan.getFirst());
        sameFailure(LlamaException.class, model -> model.complete(PROMPT, GREEDY.withPlans(RoutedPlans.of(DefaultModel.path()))));
    }

    @Test
    void whatIsCodeOrLivesHereIsRefusedByName() {
        var table = TrigramTable.empty(here.model().vocabulary());
        for (var refused : List.of(GREEDY.withStrategy(NGramDrafts.of(table)), GREEDY.withStrategy(AdaDec.of(1).withFinished(text -> true)),
                GREEDY.withStrategy(new PlanSwitching(() -> BudgetControl.ofWork(List.of(LayerPlan.all(2)), 1))))) {
            var e = assertThrows(IsolationException.class, () -> there.complete(PROMPT, refused));
            assertTrue(e.getMessage().contains(refused.strategy().getClass().getSimpleName()) && e.getMessage().contains("Llama.load"),
                    e.getMessage());
            assertThrows(IsolationException.class,
                    () -> Llama.isolatedDefault(OPTIONS.withGeneration(refused), IsolationOptions.defaults()));
        }
        assertEquals(0, there.restarts());
    }

    // --- states --------------------------------------------------------------------------------------------------------------

    @Test
    void conversationsAreSavedAndLoadedWithTheirEvaluatedTokens() {
        alike(model -> {
            var file = folder.resolve("chat-" + model.getClass().getSimpleName());
            var said = new ArrayList<Object>();
            try (var chat = model.chat("You explain Java.")) {
                said.add(chat.send("What does `List.add` do?").text());
                chat.save(file);
                said.add(chat.length());
            }
            assertTrue(Files.exists(file) && Files.exists(file.resolveSibling(file.getFileName() + ".kv")));
            try (var chat = model.chat()) {
                var loaded = chat.load(file);
                said.add(loaded);
                assertTrue(loaded.tokens() > 10 && loaded.reason() == null, loaded.toString());
                var reply = chat.send("And `size`?");
                said.add(reply.text());
                said.add(reply.stats().cachedTokens());
                assertTrue(reply.stats().cachedTokens() > 10);
            }
            return said;
        });
        // and each reads what the other wrote
        try (var chat = there.chat()) {
            assertTrue(chat.load(folder.resolve("chat-Llama")).tokens() > 10);
        }
    }

    @Test
    void aConversationThatCannotBeSavedIsToldAsInThisProcess() {
        var nowhere = folder.resolve("missing").resolve("chat");
        sameFailure(LlamaException.class, model -> {
            try (var chat = model.chat()) {
                chat.save(nowhere);
                return null;
            }
        });
    }

    @Test
    void promptCachesAreWrittenAndReadByTheWorker() {
        alike(model -> {
            var options = GREEDY.withPromptCache(folder.resolve("prompt-" + model.getClass().getSimpleName()));
            var first = model.complete(PROMPT.repeat(3), options);
            var text = first.text();
            var second = model.complete(PROMPT.repeat(3), options);
            assertEquals(text, second.text());
            assertTrue(second.stats().cachedTokens() > 10);
            return List.of(text, first.stats().cachedTokens(), second.stats().cachedTokens());
        });
        assertTrue(Files.exists(folder.resolve("prompt-IsolatedLlama")));
    }
}
