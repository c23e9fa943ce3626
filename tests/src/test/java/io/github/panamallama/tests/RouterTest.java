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
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Routers of the shipped model, which learn from plans that were searched for completions that parse, and from the blocks' influence. */
@Timeout(600)
class RouterTest {
    private static final int CONTEXT_TOKENS = 128;
    private static final int LONGEST_LINE = 40;
    private static final int QUESTIONS = 40;

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

    /** This project's own files, without what stands before the package. */
    private static List<String> files(String folder) throws IOException {
        var texts = new ArrayList<String>();
        try (var walk = Files.walk(Project.HOME.resolve(folder))) {
            for (var file : walk.filter(path -> path.toString().endsWith(".java") && !path.endsWith("module-info.java")).sorted().toList()) {
                var text = Files.readString(file);
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

    /** Plans under which completions parse, and routers that have learned them, on files that they have not seen. */
    @Test
    void searchFindsPlansForCompletionsThatParseAndRoutersLearnThem() throws IOException {
        int blocks = model.layerCount();
        var search = LabelSearch.defaults();
        var examples = new ArrayList<Example>();
        int whole = 0;
        int repaired = 0;
        for (var task : questions(files("runtime/src/main/java"), QUESTIONS, 1)) {
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
        System.out.printf("%d questions: the whole model answers %d, plans %d more; %.2f of %d blocks on average%n", QUESTIONS, whole, repaired,
                cost, blocks);
        assertTrue(repaired > 0 && cost < blocks, repaired + " repaired, " + cost + " blocks");

        var router = DrLlmRouter.train(engine, examples, DrLlmRouter.Options.defaults());
        var own = router.agreement(engine, examples);
        int routed = 0;
        int all = 0;
        double routedCost = 0;
        for (var task : questions(files("sampling/src/main/java"), QUESTIONS, 2)) {
            var plan = router.plan(engine, task.prompt());
            routed += task.correct(plan) ? 1 : 0;
            all += task.correct(LayerPlan.all(blocks)) ? 1 : 0;
            routedCost += plan.cost() / QUESTIONS;
        }
        System.out.printf("agreement with the labels %.3f, F1 of skip %.3f, run %.3f, twice %.3f; of %d other questions the whole model answers "
                + "%d, the routed one %d with %.2f blocks on average%n", own.accuracy(), own.f1(0), own.f1(1), own.f1(2), QUESTIONS, all, routed,
                routedCost);
        assertTrue(own.accuracy() >= 0.9, "agreement with the labels learned from: " + own.accuracy());
        assertTrue(routed >= all / 2, routed + " answered, " + all + " by the whole model");
        assertTrue(routedCost < blocks, "blocks on average: " + routedCost);
    }

    @Test
    void routersTellTheBlocksInfluenceBetterThanTheirMajority() throws IOException {
        var texts = chunks("runtime/src/main/java", 60);
        int learned = texts.size();
        texts.addAll(chunks("sampling/src/main/java", 60));
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
            var agreement = FirstRouter.train(engine, examples, FirstRouter.Options.defaults().withPrefill(prefill)).agreement(engine, held);
            System.out.printf("%s: agreement with the labels of %d other texts %.3f, F1 of skip %.3f, run %.3f; each block's majority %.3f%n",
                    prefill, held.size(), agreement.accuracy(), agreement.f1(0), agreement.f1(1), baseline);
            assertTrue(agreement.accuracy() > baseline, prefill + ": " + agreement.accuracy() + ", majority " + baseline);
        }
    }

    private static List<int[]> chunks(String folder, int count) throws IOException {
        var chunks = new ArrayList<int[]>();
        for (var text : files(folder)) {
            int[] tokens = model.vocabulary().tokenize(text, true, false);
            for (int at = 0; at + CONTEXT_TOKENS <= tokens.length && at < 3 * CONTEXT_TOKENS && chunks.size() < count; at += CONTEXT_TOKENS) {
                chunks.add(Arrays.copyOfRange(tokens, at, at + CONTEXT_TOKENS));
            }
        }
        return chunks;
    }
}
