package io.github.panamallama.bench;

import io.github.panamallama.layers.Agreement;
import io.github.panamallama.layers.CompletionTask;
import io.github.panamallama.layers.DrLlmRouter;
import io.github.panamallama.layers.Example;
import io.github.panamallama.layers.FirstRouter;
import io.github.panamallama.layers.InfluenceLabels;
import io.github.panamallama.layers.LabelSearch;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.ArithmeticModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.Stream;

/**
 * Whether routers choose blocks better than simpler ways do: the share of held-out questions that are answered against the blocks that run,
 * for trained routers, for the best fixed plan, random plans and the whole model, and for plans that were searched with the answer at hand.
 * To a model of Java a question is a stretch of it, the answer the next two tokens; routers and the fixed plan see questions of other
 * files. To a model that adds exactly a question is a number and a wish for what shall be added to it, which hangs on the blocks that run;
 * routers and the fixed plan see other numbers.
 */
final class RouterQuality implements AutoCloseable {
    private static final int SEEDS = 3;
    private static final int QUESTIONS = 60;
    private static final int PROMPT = 48;
    private static final int ANSWER = 2;
    /** For each wish one plan of up to two runs of each block, and no other. */
    private static final ArithmeticModel ADDING = new ArithmeticModel(81, List.of(9, 1, 27, 3));
    private static final String AS_DECIDED = "as the routers decide";
    /** Most blocks that the best fixed plan is searched for, among all plans. */
    private static final int MOST_LEFT_OUT = 2;

    /** Draws a question. */
    private interface Questions {
        LabelSearch.Question draw(SplittableRandom random);
    }

    private final Model model;
    private final Engine engine;
    private final long seed;
    private final String about;
    private final Questions learning;
    private final Questions testing;
    /** Questions that routers learn from. */
    private final int learned;
    /** Share of examples whose plan repairs an answer. */
    private final double repairs;
    private final DrLlmRouter.Options options;
    private final Map<String, Score> scores = new LinkedHashMap<>();
    /** Of questions whose plan, by Dr.LLM's routers, repeats a block. */
    private final Map<String, Score> repeating = new LinkedHashMap<>();
    private final long[][] confusion = new long[3][3];
    private long usual;
    private long decisions;

    /** Of a model of Java. */
    RouterQuality(Path modelFile, Path heldOut, int threads, long seed) throws IOException {
        this.seed = seed;
        model = Model.load(modelFile);
        engine = engine(model, threads);
        about = String.format(Locale.ROOT, "%d tokens of a held-out file, answered where the next %d come out as they stand there. Routers "
                + "and the fixed plan have learned from as many questions of other files.", PROMPT, ANSWER);
        var texts = new ArrayList<String>();
        var others = new ArrayList<String>();
        try (var walk = Files.walk(heldOut)) {
            for (var file : walk.filter(path -> path.toString().endsWith(".java")).sorted().toList()) {
                var text = Files.readString(file);
                var code = text.substring(Math.max(0, text.indexOf("package ")));    // the training text had no licence headers
                (texts.size() <= others.size() ? texts : others).add(code);
            }
        }
        learning = random -> next(texts, random);
        testing = random -> next(others, random);
        learned = QUESTIONS;
        repairs = 0.3;    // the method's source has it for code
        options = DrLlmRouter.Options.defaults();
    }

    /** Of the model that adds. */
    RouterQuality(int threads, long seed) throws IOException {
        this.seed = seed;
        var file = Files.createTempFile("adding", ".gguf");
        file.toFile().deleteOnExit();
        ADDING.write(file);
        model = Model.load(file);
        engine = engine(model, threads);
        var wishes = new ArrayList<Integer>();
        int whole = ADDING.answer(0, block -> 1);
        wishes.add(whole);
        ADDING.steps().forEach(step -> wishes.addAll(List.of(whole - step, whole + step)));
        learned = 20 * wishes.size();
        about = String.format(Locale.ROOT, "a number from 0 to %d behind a wish for what shall be added to it. The blocks add %s: of the "
                + "%d wishes the whole model grants one, one block less another for each, one more run of a block another for each. "
                + "Routers and the fixed plan have learned from %d questions with other numbers.", ADDING.modulus() - 1, ADDING.steps(),
                wishes.size(), learned);
        learning = random -> sum(wishes, 3 * random.nextInt(ADDING.modulus() / 3) + random.nextInt(2), random);
        testing = random -> sum(wishes, 3 * random.nextInt(ADDING.modulus() / 3) + 2, random);
        repairs = 1 - 1.0 / wishes.size();
        options = DrLlmRouter.Options.defaults().withHidden(32).withLearningRate(5e-3);
    }

    private static Engine engine(Model model, int threads) {
        return Engine.open(model, EngineOptions.defaults().withContextSize(256).withThreads(threads).withMaxSequences(2)
                .withSpareLayers(model.layerCount()));
    }

    /** Answers of all seeds, one after the other. */
    private static final class Score {
        private final List<Boolean> right = new ArrayList<>();
        private double blocks;

        void add(LabelSearch.Question question, LayerPlan plan) {
            right.add(question.task().correct(plan));
            blocks += plan.cost();
        }

        double share() {
            return right.stream().filter(answer -> answer).count() / (double) right.size();
        }

        /** In points, with two standard errors over questions. */
        String difference(Score other) {
            int n = right.size();
            double sum = 0;
            double squares = 0;
            for (int i = 0; i < n; i++) {
                double d = (right.get(i) ? 100 : 0) - (other.right.get(i) ? 100 : 0);
                sum += d;
                squares += d * d;
            }
            double mean = sum / n;
            return String.format(Locale.ROOT, "%+.1f \u00b1 %.1f", mean, 2 * Math.sqrt((squares / n - mean * mean) / (n - 1)));
        }
    }

    private void score(String who, LabelSearch.Question question, LayerPlan plan) {
        scores.computeIfAbsent(who, name -> new Score()).add(question, plan);
    }

    /** Whether repetitions help, and in those blocks: the plan, the plan without them, and the plan with them elsewhere. */
    private void scoreRepetitions(LabelSearch.Question question, LayerPlan plan, SplittableRandom random) {
        if (plan.spareLayers() == 0) {
            return;
        }
        repeating.computeIfAbsent(AS_DECIDED, name -> new Score()).add(question, plan);
        repeating.computeIfAbsent("no repetitions", name -> new Score()).add(question, once(plan));
        repeating.computeIfAbsent("repetitions of random other blocks", name -> new Score()).add(question, elsewhere(plan, random));
        repeating.computeIfAbsent("the whole model", name -> new Score()).add(question, LayerPlan.all(plan.blocks()));
    }

    void measure(String modelName, Report report) throws IOException {
        for (int i = 0; i < SEEDS; i++) {
            measure(seed + i);
        }
        var fixed = scores.get("best fixed plan of that size");
        var rows = new ArrayList<List<String>>();
        scores.forEach((who, score) -> {
            rows.add(List.of(who, number(100 * score.share()), String.format(Locale.ROOT, "%.2f", score.blocks / score.right.size()),
                    score == fixed ? "" : score.difference(fixed)));
            System.out.println("  " + String.join(" | ", rows.getLast()));
        });
        report.add(new Report.Table("Routers, " + modelName, String.format(Locale.ROOT, "%d questions for each of %d seeds, which draw "
                + "questions, searches and first weights: %s Random plans do to as many blocks the same as the router's plan for that "
                + "question. Searched plans know the answer: a bound, not a method. Differences are in points, \u00b1 two standard errors, "
                + "paired over questions.", QUESTIONS, SEEDS, about),
                List.of("blocks chosen by", "answered, %", "of " + model.layerCount() + " blocks", "beyond the fixed plan"), rows));
        var table = new ArrayList<List<String>>();
        repeating.forEach((who, score) -> {
            table.add(List.of(who, number(100 * score.share()), String.format(Locale.ROOT, "%.2f", score.blocks / score.right.size()),
                    who.equals(AS_DECIDED) ? "" : score.difference(repeating.get(AS_DECIDED))));
            System.out.println("  " + String.join(" | ", table.getLast()));
        });
        int repeat = repeating.isEmpty() ? 0 : repeating.get(AS_DECIDED).right.size();
        report.add(new Report.Table("What repetitions are worth, " + modelName, String.format(Locale.ROOT, "Of the %d questions above, the "
                + "%d whose plan by Dr.LLM's routers repeats a block. Each plan's repetitions are left out, or go to as many random ones "
                + "of the other blocks that it runs; what it skips stays skipped. Differences as above, from the plans as they are.",
                SEEDS * QUESTIONS, repeat), List.of("plans", "answered, %", "of " + model.layerCount() + " blocks", "beyond as decided"),
                table));
        var agreement = new Agreement(confusion);
        var names = List.of("skip", "run", "run twice");
        var decided = new ArrayList<List<String>>();
        for (int label = 0; label < names.size(); label++) {
            decided.add(List.of(names.get(label), "" + confusion[label][0], "" + confusion[label][1], "" + confusion[label][2],
                    number(agreement.f1(label))));
            System.out.println("  " + String.join(" | ", decided.getLast()));
        }
        report.add(new Report.Table("Decisions of Dr.LLM's routers, " + modelName, String.format(Locale.ROOT, "On the questions above for "
                + "which the search found a plan, which is the label. Right: %.1f %% of the decisions; always deciding as most labels of "
                + "the block do: %.1f %%.", 100 * agreement.accuracy(), 100.0 * usual / decisions),
                List.of("label", "skipped", "run", "run twice", "F1"), decided));
    }

    private static String number(double value) {
        return Double.isNaN(value) ? "" : String.format(Locale.ROOT, "%.2f", value);
    }

    private void measure(long seed) {
        int blocks = model.layerCount();
        var all = LayerPlan.all(blocks);
        var random = new SplittableRandom(seed);
        var known = Stream.generate(() -> learning.draw(random)).limit(learned).toList();
        var asked = Stream.generate(() -> testing.draw(random)).limit(QUESTIONS).toList();
        var search = LabelSearch.defaults().withSpareLayers(engine.options().spareLayers()).withSeed(seed);
        var examples = search.examples(blocks, known, repairs);
        var drLlm = DrLlmRouter.train(engine, examples, options.withSeed(seed));
        var plans = asked.stream().map(question -> drLlm.plan(engine, question.prompt())).toList();
        double cost = plans.stream().mapToDouble(LayerPlan::cost).average().orElseThrow();
        int left = (int) Math.clamp(Math.round(blocks - cost), 0, MOST_LEFT_OUT);
        double keep = Math.clamp((blocks - 2.0 - left) / (blocks - 2), 0, 1);
        var first = FirstRouter.train(engine, InfluenceLabels.of(engine, known.stream().map(LabelSearch.Question::prompt).toList(), keep),
                FirstRouter.Options.defaults());
        var fixed = fixed(known, left);
        for (int i = 0; i < asked.size(); i++) {
            var question = asked.get(i);
            score("none: the whole model, which is what the usual label says", question, all);
            score("best fixed plan of that size", question, fixed);
            score("Dr.LLM's routers", question, plans.get(i));
            score("chance, the same decisions for other blocks", question, shuffled(plans.get(i), random));
            score("Dr.LLM's routers, repetitions of random other blocks", question, elsewhere(plans.get(i), random));
            scoreRepetitions(question, plans.get(i), random);
            score("FiRST's routers, trained to leave out as many", question, first.plan(engine, question.prompt()));
            var found = search.search(blocks, question.task()).plan();
            score("a search that knows the answer", question, found.orElse(all));
            if (found.isPresent()) {
                count(new Example(question.prompt(), found.get()), plans.get(i), examples);
            }
        }
    }

    private void count(Example label, LayerPlan decided, List<Example> learned) {
        for (int block = 0; block < label.plan().blocks(); block++) {
            int at = block;
            int runs = Math.min(2, label.plan().runs(block));
            confusion[runs][Math.min(2, decided.runs(block))]++;
            var counts = new int[3];
            learned.forEach(example -> counts[Math.min(2, example.plan().runs(at))]++);
            int most = counts[1] >= counts[0] && counts[1] >= counts[2] ? 1 : counts[0] >= counts[2] ? 0 : 2;
            usual += runs == most ? 1 : 0;
            decisions++;
        }
    }

    private LabelSearch.Question next(List<String> texts, SplittableRandom random) {
        var vocabulary = model.vocabulary();
        int[] tokens;
        do {
            tokens = vocabulary.tokenize(texts.get(random.nextInt(texts.size())), true, false);
        } while (tokens.length <= PROMPT + ANSWER);
        int at = random.nextInt(tokens.length - PROMPT - ANSWER);
        int[] prompt = Arrays.copyOfRange(tokens, at, at + PROMPT);
        var truth = vocabulary.detokenize(Arrays.copyOfRange(tokens, at + PROMPT, at + PROMPT + ANSWER));
        return new LabelSearch.Question(prompt, new CompletionTask(engine, prompt, ANSWER, "", truth::equals));
    }

    private LabelSearch.Question sum(List<Integer> wishes, int number, SplittableRandom random) {
        int wish = wishes.get(random.nextInt(wishes.size()));
        int[] prompt = {ADDING.word(random.nextInt(ArithmeticModel.WORDS)), ADDING.wish(wish), ADDING.number(number)};
        var truth = "" + (number + wish) % ADDING.modulus();
        return new LabelSearch.Question(prompt, new CompletionTask(engine, prompt, 1, "", truth::equals));
    }

    /** Of all plans without so many blocks the one that answers most of the questions. */
    private LayerPlan fixed(List<LabelSearch.Question> questions, int left) {
        LayerPlan best = null;
        long most = -1;
        for (var plan : without(LayerPlan.all(model.layerCount()), 0, left)) {
            long right = questions.stream().filter(question -> question.task().correct(plan)).count();
            if (right > most) {
                best = plan;
                most = right;
            }
        }
        return best;
    }

    private static List<LayerPlan> without(LayerPlan plan, int from, int left) {
        if (left == 0) {
            return List.of(plan);
        }
        var plans = new ArrayList<LayerPlan>();
        for (int block = from; block <= plan.blocks() - left; block++) {
            plans.addAll(without(plan.skip(block), block + 1, left - 1));
        }
        return plans;
    }

    /** A plan without its repetitions. */
    private static LayerPlan once(LayerPlan plan) {
        var once = plan;
        for (int block = 0; block < plan.blocks(); block++) {
            once = plan.runs(block) > 1 ? once.repeat(block, 1) : once;
        }
        return once;
    }

    /** A plan whose repetitions are of random other blocks that it runs, as far as there are any. */
    private static LayerPlan elsewhere(LayerPlan plan, SplittableRandom random) {
        var others = new ArrayList<Integer>();
        for (int block = 0; block < plan.blocks(); block++) {
            if (plan.runs(block) == 1) {
                others.add(block);
            }
        }
        var moved = plan;
        for (int block = 0; block < plan.blocks() && !others.isEmpty(); block++) {
            if (plan.runs(block) > 1) {
                int other = others.remove(random.nextInt(others.size()));
                moved = moved.repeat(block, 1).repeat(other, plan.runs(block));
            }
        }
        return moved;
    }

    /** A plan that does to the blocks what another does to them, in another order. */
    private static LayerPlan shuffled(LayerPlan plan, SplittableRandom random) {
        int[] runs = new int[plan.blocks()];
        Arrays.setAll(runs, plan::runs);
        var shuffled = plan;
        for (int block = runs.length - 1; block >= 0; block--) {
            int other = random.nextInt(block + 1);
            int mine = runs[other];
            runs[other] = runs[block];
            shuffled = mine == 0 ? shuffled.skip(block) : shuffled.repeat(block, mine);
        }
        return shuffled;
    }

    @Override
    public void close() {
        engine.close();
        model.close();
    }
}
