package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.gguf.ArithmeticModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The search for plans and the routers that learn from it, on a model that adds exactly: block {@code i} adds its step, so that a wish
 * {@code t} behind which a number stands is granted under the plans whose steps sum to {@code t}.
 */
@Timeout(600)
class ArithmeticModelTest {
    /** Powers of 3: for each wish from 1 to 80 there is one plan of no, one or two runs of each block, and no other. */
    private static final ArithmeticModel TERNARY = new ArithmeticModel(81, List.of(9, 1, 27, 3));
    /** Small steps, many ways. */
    private static final ArithmeticModel MANY_WAYS = new ArithmeticModel(12, List.of(5, 1, 7, 2, 11));
    private static final int WHOLE = 9 + 1 + 27 + 3;

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void open() {
        model = load(TERNARY);
        engine = engine(model);
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    private static Model load(ArithmeticModel arithmetic) {
        var file = folder.resolve(arithmetic.modulus() + ".gguf");
        arithmetic.write(file);
        return Model.load(file);
    }

    private static Engine engine(Model model) {
        return Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(1).withSpareLayers(model.layerCount()));
    }

    /** What the model answers to each number under each plan: one batch a plan, whose tokens do not see one another. */
    private static Map<LayerPlan, int[]> answers(ArithmeticModel arithmetic, Engine engine) {
        int[] numbers = IntStream.range(0, arithmetic.modulus()).map(arithmetic::number).toArray();
        var rows = Stream.generate(engine::newRow).limit(numbers.length).toArray(Row[]::new);
        var answers = new HashMap<LayerPlan, int[]>();
        for (var plan : LabelSearchTest.everyPlan(arithmetic.steps().size())) {
            try (var sequence = engine.newSequence(plan)) {
                engine.decode(Append.all(sequence, numbers, rows));
            }
            answers.put(plan, Arrays.stream(rows).mapToInt(row -> RowMath.argmax(row) - arithmetic.number(0)).toArray());
        }
        return answers;
    }

    private static void assertClosedForm(ArithmeticModel arithmetic, Map<LayerPlan, int[]> answers) {
        assertEquals(Math.pow(3, arithmetic.steps().size()) - 1, answers.size());
        answers.forEach((plan, numbers) -> {
            int[] expected = IntStream.range(0, arithmetic.modulus()).map(number -> arithmetic.answer(number, plan::runs)).toArray();
            assertEquals(Arrays.toString(expected), Arrays.toString(numbers), plan.toString());
        });
    }

    @Test
    void everyPlanAddsTheStepsOfItsRuns() {
        assertClosedForm(TERNARY, answers(TERNARY, engine));
        try (var other = load(MANY_WAYS); var small = engine(other)) {
            assertClosedForm(MANY_WAYS, answers(MANY_WAYS, small));
        }
    }

    @Test
    void wishesNeedBlocksLeftOutOrRunTwiceOrNeither() {
        var plans = new HashMap<Integer, LayerPlan>();
        for (var plan : LabelSearchTest.everyPlan(4)) {
            assertEquals(null, plans.put(TERNARY.answer(0, plan::runs), plan), "another plan does the same as " + plan);
        }
        assertTrue(plans.get(WHOLE).isFull());
        assertEquals("0-2", plans.get(WHOLE - 3).toString(), "by skipping alone");
        assertEquals("0-2,3x2", plans.get(WHOLE + 3).toString(), "by running the last block twice alone");
        assertEquals("0,1x2,3", plans.get(WHOLE - 27 + 1).toString(), "by both");
        assertEquals(80, plans.size());
    }

    @Test
    void aPromptIsAnsweredAsANumberAlone() {
        for (var text : new String[] {"0-3", "0,2x2,3x2", "1x2", "0-1,3"}) {
            var plan = LayerPlan.parse(text, 4);
            for (int number : new int[] {0, 17, 80}) {
                int answer = TERNARY.answer(number, plan::runs);
                for (var template : Template.values()) {
                    assertEquals("" + answer, new CompletionTask(engine, template.prompt(5, number), 1, "", any -> true).answer(plan));
                }
                // and the number that it wrote is added to again
                assertEquals("" + answer + TERNARY.answer(answer, plan::runs),
                        new CompletionTask(engine, Template.PLAIN.prompt(5, number), 2, "", any -> true).answer(plan));
            }
        }
    }

    @Test
    void refusesWhatItCannotAdd() {
        assertThrows(IllegalArgumentException.class, () -> new ArithmeticModel(1, List.of(0)));
        assertThrows(IllegalArgumentException.class, () -> new ArithmeticModel(10, List.of()));
        assertThrows(IllegalArgumentException.class, () -> new ArithmeticModel(10, List.of(3, 10)));
        assertThrows(IllegalArgumentException.class, () -> TERNARY.number(81));
        assertThrows(IllegalArgumentException.class, () -> TERNARY.wish(-1));
        assertThrows(IllegalArgumentException.class, () -> TERNARY.word(ArithmeticModel.WORDS));
        assertThrows(IllegalArgumentException.class, () -> TERNARY.answer(81, block -> 1));
    }

    // ---- the search -------------------------------------------------------------------------------------------------------------

    /** Of all questions that some plan answers: for how many the search found one, and one of the fewest runs that any correct plan has. */
    private record Rates(double found, double optimal, double evaluations) {
    }

    private static Rates rates(ArithmeticModel arithmetic, Map<LayerPlan, int[]> answers, LabelSearch search, int[] wishes) {
        var plans = LabelSearchTest.everyPlan(arithmetic.steps().size());
        int questions = 0;
        int found = 0;
        int optimal = 0;
        double evaluations = 0;
        for (int wish : wishes) {
            for (int number = 0; number < arithmetic.modulus(); number += arithmetic.modulus() / 12) {
                int asked = number;
                int truth = (number + wish) % arithmetic.modulus();
                LabelSearch.Task task = plan -> answers.get(plan)[asked] == truth;
                double fewest = plans.stream().filter(task::correct).findFirst().orElseThrow().cost();
                var result = search.withSeed(search.seed() * 1000 + questions).search(arithmetic.steps().size(), task);
                questions++;
                evaluations += result.evaluations();
                if (result.plan().isPresent()) {
                    assertTrue(task.correct(result.plan().get()));
                    assertTrue(result.plan().get().cost() >= fewest);
                    found++;
                    optimal += result.plan().get().cost() == fewest ? 1 : 0;
                }
            }
        }
        var rates = new Rates(found / (double) questions, optimal / (double) questions, evaluations / questions);
        System.out.println("modulo " + arithmetic.modulus() + ", " + questions + " questions, seed " + search.seed() + ", "
                + search.simulations() + " simulations: " + rates);
        return rates;
    }

    @Test
    void theSearchFindsTheOneRightPlan() {
        var answers = answers(TERNARY, engine);
        int[] every = IntStream.range(1, 81).toArray();
        int[] near = WISHES.stream().mapToInt(wish -> wish).toArray();
        for (long seed = 1; seed <= 3; seed++) {
            var search = LabelSearch.defaults().withEnough(4).withSeed(seed);
            var fifty = rates(TERNARY, answers, search, every);
            assertTrue(fifty.optimal >= 0.38, "one plan of 80, 28 of which are tried: " + fifty);
            assertTrue(fifty.optimal > fifty.evaluations / 80, "as many plans drawn by lot find it less often: " + fifty);
            assertEquals(fifty.found, fifty.optimal);
            var thousand = rates(TERNARY, answers, search.withSimulations(1000), every);
            assertTrue(thousand.optimal >= 0.65, "walks come back to short plans: " + thousand);
            var oneEdit = rates(TERNARY, answers, search, near);
            assertTrue(oneEdit.optimal >= 0.98, "one edit away: " + oneEdit);
        }
    }

    /** It ends with the first plan that repairs an answer: only where the whole model is right does it look for the fewest runs. */
    @Test
    void theSearchFindsTheFewestRunsOfManyWays() {
        try (var other = load(MANY_WAYS); var small = engine(other)) {
            var answers = answers(MANY_WAYS, small);
            for (long seed = 1; seed <= 3; seed++) {
                var search = LabelSearch.defaults().withEnough(5).withSeed(seed);
                var every = rates(MANY_WAYS, answers, search, IntStream.range(0, 12).toArray());
                assertTrue(every.found >= 0.95, every.toString());
                int[] whole = {MANY_WAYS.answer(0, block -> 1)};
                double fifty = rates(MANY_WAYS, answers, search, whole).optimal;
                double thousand = rates(MANY_WAYS, answers, search.withSimulations(1000), whole).optimal;
                assertTrue(thousand >= 0.9 && thousand > fifty, thousand + " after " + fifty);
            }
        }
    }

    // ---- routers ----------------------------------------------------------------------------------------------------------------

    /** Wishes that the whole model grants, that one block less grants, and that one more run grants. */
    private static final List<Integer> WISHES = Stream.concat(Stream.of(WHOLE),
            TERNARY.steps().stream().flatMap(step -> Stream.of(WHOLE - step, WHOLE + step))).toList();

    /** Ways to ask. */
    private enum Template {
        PLAIN((wish, number) -> new int[] {TERNARY.wish(wish), TERNARY.number(number)}),
        WORD_FIRST((wish, number) -> new int[] {TERNARY.word(0), TERNARY.wish(wish), TERNARY.number(number)}),
        WORD_BETWEEN((wish, number) -> new int[] {TERNARY.wish(wish), TERNARY.word(1), TERNARY.number(number)}),
        /** With a word that is in no other. */
        UNSEEN((wish, number) -> new int[] {TERNARY.word(2), TERNARY.wish(wish), TERNARY.word(0), TERNARY.number(number)});

        private interface Prompt {
            int[] of(int wish, int number);
        }

        private final Prompt prompt;

        Template(Prompt prompt) {
            this.prompt = prompt;
        }

        int[] prompt(int wish, int number) {
            return prompt.of(wish, number);
        }
    }

    private static LabelSearch.Question question(Template template, int wish, int number) {
        int[] prompt = template.prompt(wish, number);
        return new LabelSearch.Question(prompt, new CompletionTask(engine, prompt, 1, "", ("" + (number + wish) % 81)::equals));
    }

    private static double share(List<LabelSearch.Question> questions, Function<LabelSearch.Question, LayerPlan> chooser) {
        return questions.stream().filter(question -> question.task().correct(chooser.apply(question))).count() / (double) questions.size();
    }

    /** The same numbers of runs, of other blocks. */
    private static LayerPlan shuffled(LayerPlan plan, SplittableRandom random) {
        var runs = new ArrayList<>(IntStream.range(0, 4).mapToObj(plan::runs).toList());
        for (int block = 3; block > 0; block--) {
            Collections.swap(runs, block, random.nextInt(block + 1));
        }
        var shuffled = plan;
        for (int block = 0; block < 4; block++) {
            shuffled = runs.get(block) == 0 ? shuffled.skip(block) : shuffled.repeat(block, runs.get(block));
        }
        return shuffled;
    }

    /** Numbers that leave 2 modulo 3, and a template, are in no question that routers learn from. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3})
    void routersAnswerWhatTheyHaveNotSeenFarBetterThanTheWholeModelAndThanOtherBlocks(long seed) {
        var random = new SplittableRandom(seed);
        var known = new ArrayList<LabelSearch.Question>();
        var asked = new ArrayList<LabelSearch.Question>();
        for (int i = 0; i < 180; i++) {
            int number = 3 * random.nextInt(27) + random.nextInt(2);
            known.add(question(Template.values()[random.nextInt(3)], WISHES.get(i % WISHES.size()), number));
        }
        for (int i = 0; i < 90; i++) {
            var template = i % 2 == 0 ? Template.UNSEEN : Template.values()[random.nextInt(3)];
            asked.add(question(template, WISHES.get(i % WISHES.size()), 3 * random.nextInt(27) + 2));
        }
        var examples = LabelSearch.defaults().withSeed(seed).examples(4, known, 8.0 / 9);
        var options = DrLlmRouter.Options.defaults().withHidden(32).withLearningRate(5e-3).withSeed(seed);
        var router = DrLlmRouter.train(engine, examples, options);
        double routed = share(asked, question -> router.plan(engine, question.prompt()));
        double whole = share(asked, question -> LayerPlan.all(4));
        double others = share(asked, question -> shuffled(router.plan(engine, question.prompt()), random));
        System.out.printf("seed %d, %d examples: routers answer %.3f of unseen questions, the whole model %.3f, other blocks %.3f%n", seed,
                examples.size(), routed, whole, others);
        assertEquals(1.0 / WISHES.size(), whole, 1e-9);
        assertTrue(routed >= 0.9, "routers: " + routed);
        assertTrue(others <= 0.5, "as many runs of other blocks: " + others);
    }
}
