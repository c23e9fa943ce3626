package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bench.JavaSyntax;
import io.github.panamallama.layers.CompletionTask;
import io.github.panamallama.layers.DrLlmRouter;
import io.github.panamallama.layers.Example;
import io.github.panamallama.layers.FirstRouter;
import io.github.panamallama.layers.InfluenceLabels;
import io.github.panamallama.layers.LabelSearch;
import io.github.panamallama.layers.Prefill;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Routers of the shipped model, which learn from plans that were searched for completions that parse, and from the blocks' influence. */
@Timeout(900)
class RouterTest {
    private static final int CONTEXT_TOKENS = 128;
    private static final int LONGEST_LINE = 40;
    private static final int QUESTIONS = 24;

    private static final JavaSyntax JAVA = new JavaSyntax();
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void open() {
        model = Model.load(Models.shippedF16());
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(2).withSpareLayers(model.layerCount()));
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    /** Every other one of the files that the model was not trained on, without what stands before the package. */
    private static List<String> files(int from) throws IOException {
        var heldOut = Project.shared().resolve("models/heldout");
        Assumptions.assumeTrue(Files.isDirectory(heldOut), () -> "skipped: no " + heldOut
                + "; set PANAMA_LLAMA_SHARED to the folder that has models/heldout");
        var texts = new ArrayList<String>();
        try (var walk = Files.walk(heldOut)) {
            var sources = walk.filter(path -> path.toString().endsWith(".java")).sorted().toList();
            for (int i = from; i < sources.size(); i += 2) {
                var text = Files.readString(sources.get(i));
                texts.add(text.substring(Math.max(0, text.indexOf("package "))));
            }
        }
        return texts;
    }

    /** A line that opens a block is to be written, so that the file parses with it in the place of the true one. */
    private static List<CompletionTask> questions(List<String> files, int count, long seed) {
        var random = new SplittableRandom(seed);
        var tasks = new ArrayList<CompletionTask>();
        while (tasks.size() < count) {
            var lines = files.get(random.nextInt(files.size())).split("\n");
            int at = random.nextInt(lines.length);
            if (at < 10 || !lines[at].endsWith("{")) {
                continue;
            }
            var before = String.join("\n", Arrays.copyOf(lines, at)) + "\n";
            var after = "\n" + String.join("\n", Arrays.copyOfRange(lines, at + 1, lines.length)) + "\n";
            int[] tokens = model.vocabulary().tokenize(before, true, false);
            int[] prompt = Arrays.copyOfRange(tokens, Math.max(0, tokens.length - CONTEXT_TOKENS), tokens.length);
            tasks.add(new CompletionTask(engine, prompt, LONGEST_LINE, "\n", line -> JAVA.parses(before + line + after)));
        }
        return tasks;
    }

    /**
     * Plans under which completions parse, and routers that have learned them. How many questions of other files the routed model answers
     * is printed beside a random choice of blocks of the same size, and not asserted: a few examples teach the labels, not more.
     */
    @Test
    void searchFindsPlansForCompletionsThatParseAndRoutersLearnThem() throws IOException {
        int blocks = model.layerCount();
        var search = LabelSearch.defaults();
        var examples = new ArrayList<Example>();
        int whole = 0;
        int repaired = 0;
        for (var task : questions(files(0), QUESTIONS, 1)) {
            var found = search.search(blocks, task);
            whole += found.wholeModel() ? 1 : 0;
            repaired += found.repairs() ? 1 : 0;
            found.plan().ifPresent(plan -> {
                assertTrue(task.correct(plan), plan + " does not answer any more");
                examples.add(new Example(task.prompt(), plan));
            });
        }
        assertEquals(whole + repaired, examples.size());
        double cost = examples.stream().mapToDouble(example -> example.plan().cost()).average().orElseThrow();
        System.out.printf("%d questions: the whole model answers %d, plans %d more; %.2f of %d blocks on average%n", QUESTIONS, whole,
                repaired, cost, blocks);
        assertTrue(repaired > 0 && cost < blocks, repaired + " repaired, " + cost + " blocks");

        var router = DrLlmRouter.train(engine, examples, DrLlmRouter.Options.defaults());
        var own = router.agreement(engine, examples);
        int routed = 0;
        int all = 0;
        int drawn = 0;
        double routedCost = 0;
        var random = new SplittableRandom(3);
        for (var task : questions(files(1), QUESTIONS, 2)) {
            var plan = router.plan(engine, task.prompt());
            routed += task.correct(plan) ? 1 : 0;
            all += task.correct(LayerPlan.all(blocks)) ? 1 : 0;
            drawn += task.correct(shuffled(plan, random)) ? 1 : 0;
            routedCost += plan.cost() / QUESTIONS;
        }
        System.out.printf("agreement with the labels %.3f, F1 of skip %.3f, run %.3f, twice %.3f%n", own.accuracy(), own.f1(0), own.f1(1),
                own.f1(2));
        System.out.printf("of %d other questions the whole model answers %d, the routed one %d, as many random blocks %d; %.2f blocks%n",
                QUESTIONS, all, routed, drawn, routedCost);
        assertTrue(own.accuracy() >= 0.9, "agreement with the labels learned from: " + own.accuracy());
        assertTrue(routedCost < blocks, "blocks on average: " + routedCost);
    }

    @Test
    void routersTellTheBlocksInfluenceBetterThanTheirMajority() throws IOException {
        var texts = chunks(0, 60);
        int learned = texts.size();
        texts.addAll(chunks(1, 60));
        var labels = InfluenceLabels.of(engine, texts, 0.7);
        var examples = labels.subList(0, learned);
        var held = labels.subList(learned, labels.size());
        int blocks = model.layerCount();
        long majority = 0;
        for (int block = 0; block < blocks; block++) {
            int at = block;
            long kept = examples.stream().filter(example -> example.plan().runs(at) > 0).count();
            int most = 2 * kept >= learned ? 1 : 0;
            majority += held.stream().filter(example -> example.plan().runs(at) == most).count();
        }
        double baseline = majority / (double) (blocks * held.size());
        for (var prefill : Prefill.values()) {
            var router = FirstRouter.train(engine, examples, FirstRouter.Options.defaults().withPrefill(prefill));
            var agreement = router.agreement(engine, held);
            System.out.printf("%s: agreement with the labels of %d other texts %.3f, F1 of skip %.3f, run %.3f; majority %.3f%n", prefill,
                    held.size(), agreement.accuracy(), agreement.f1(0), agreement.f1(1), baseline);
            assertTrue(agreement.accuracy() > baseline, prefill + ": " + agreement.accuracy() + ", majority " + baseline);
        }
    }

    /** A plan that does to the blocks but the last what another does to them, in another order. */
    private static LayerPlan shuffled(LayerPlan plan, SplittableRandom random) {
        var shuffled = plan;
        for (int block = plan.blocks() - 2; block > 0; block--) {
            int other = random.nextInt(block + 1);
            int runs = shuffled.runs(block);
            shuffled = with(shuffled, block, shuffled.runs(other));
            shuffled = with(shuffled, other, runs);
        }
        return shuffled;
    }

    private static LayerPlan with(LayerPlan plan, int block, int runs) {
        return runs == 0 ? plan.skip(block) : plan.repeat(block, runs);
    }

    private static List<int[]> chunks(int from, int count) throws IOException {
        var chunks = new ArrayList<int[]>();
        for (var text : files(from)) {
            int[] tokens = model.vocabulary().tokenize(text, true, false);
            int most = Math.min(3, Math.min(tokens.length / CONTEXT_TOKENS, count - chunks.size()));
            for (int i = 0; i < most; i++) {
                chunks.add(Arrays.copyOfRange(tokens, i * CONTEXT_TOKENS, (i + 1) * CONTEXT_TOKENS));
            }
        }
        return chunks;
    }
}
