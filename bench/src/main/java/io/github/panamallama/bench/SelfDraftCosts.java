package io.github.panamallama.bench;

import io.github.panamallama.layers.DraftAcceptance;
import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import io.github.panamallama.sampling.strategy.Work;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * When drafts by a part of a model's own blocks pay: what a draft and its verification cost on a shape, from which acceptance on that is
 * less than the tokens it gives would have cost one by one, and what it comes to end to end. Random weights accept what the
 * {@link QuietModel} makes them accept: as often as the shipped model does on a piece of Java without the same share of its blocks, and
 * nine times in ten.
 */
final class SelfDraftCosts {
    /** What a draft without this part of the blocks is measured for. */
    private static final int[] PARTS = {4, 2};
    private static final int[] LENGTHS = {1, 2, 4, 8};
    private static final double HIGH = 0.9;
    private static final int TRIALS = 6;
    private static final double NEAR = 0.02;
    /** Tokens of the text that a dial is set by; those at the beginning of a text that do not count; positions drafted behind at once. */
    private static final int TEXT = 256;
    private static final int BEGINNING = 16;
    private static final int TOGETHER = 32;

    private final BenchModels.BenchModel bench;
    private final EngineOptions options;
    private final int threads;
    private final int tokens;
    private final int pairs;
    private final SplittableRandom random;
    private final Report report;
    private final List<List<String>> rows = new ArrayList<>();

    /** @param tokens of each text that is written */
    SelfDraftCosts(BenchModels.BenchModel bench, int threads, int tokens, int pairs, SplittableRandom random, Report report) {
        this.bench = bench;
        this.threads = threads;
        this.tokens = tokens;
        this.pairs = pairs;
        this.random = random;
        this.report = report;
        options = EngineOptions.defaults().withContextSize(1024).withThreads(threads).withMaxSequences(2);
    }

    void measure() throws IOException {
        for (int part : PARTS) {
            if (bench.random() == null) {
                measure(bench.path(), part);
            } else if (bench.random().type() == GgmlType.Q8_0) {
                double shipped;
                try (var model = Model.load(DefaultModel.path());
                        var engine = Engine.open(model, options.withMaxSequences(1 + TOGETHER))) {
                    shipped = acceptance(engine, without(model, part), text(engine));
                }
                LayerPlan plan;
                try (var model = Model.load(bench.path())) {
                    plan = without(model, part);
                }
                try (var quiet = new QuietModel(bench.path(), plan)) {
                    for (double wanted : new double[] {shipped, HIGH}) {
                        measure(dial(quiet, plan, wanted), part);
                    }
                }
            }
        }
        if (rows.isEmpty()) {
            return;
        }
        report.add(new Report.Table("Self-drafts, " + bench.name(), "Greedy decoding with drafts by the blocks named, nobody searched "
                + "for which; the whole model verifies. Costs are medians, in units of a token of the whole model: one drafted token, and "
                + "the batch that verifies so many (and one more), each with its change of the plan. Break-even is the share of drafted "
                + "tokens that must be right for drafts of the length at which fewest must. Acceptance is the share that was; the speed-up "
                + "is that of drafts of 0 to 16 tokens as it pays, prompt not counted."
                + (bench.random() == null ? "" : " The weights are random, and the blocks that are left out were made to matter less, "
                + "until drafts were right as often as the shipped model's on a piece of Java, and nine times in ten: a dial, not a "
                + "trained model."),
                List.of("blocks that draft", "draft", "verify 1", "verify 4", "verify 8", "break-even", "at length", "acceptance",
                        "speed-up"), rows));
    }

    private static LayerPlan without(Model model, int part) {
        int blocks = model.layerCount();
        return LayerPlan.all(blocks).skip(LayerCosts.spread(blocks, Math.max(1, blocks / part)));
    }

    private static int[] text(Engine engine) {
        return engine.model().vocabulary().tokenize(GenerationWork.JAVA_PROMPT.strip(), true, false);
    }

    /** The model, with blocks as quiet as makes drafts right so often. */
    private Path dial(QuietModel quiet, LayerPlan plan, double wanted) throws IOException {
        double low = -5;    // logarithms of factors
        double high = 0;
        for (int i = 0; ; i++) {
            double middle = (low + high) / 2;
            var file = quiet.with(Math.exp(middle));
            double accepted;
            try (var model = Model.load(file); var engine = Engine.open(model, options.withMaxSequences(1 + TOGETHER))) {
                // random tokens: quicker than a text that must be written first
                accepted = acceptance(engine, plan, new SplittableRandom(1).ints(TEXT, 300, model.vocabulary().size()).toArray());
            }
            System.out.printf(Locale.ROOT, "  blocks times %.3f: %.3f of the drafts right, %.3f wanted%n", Math.exp(middle), accepted,
                    wanted);
            if (Math.abs(accepted - wanted) < NEAR || i == TRIALS - 1) {
                return file;
            }
            low = accepted > wanted ? middle : low;
            high = accepted > wanted ? high : middle;
        }
    }

    /** Share of the positions of a text behind which a draft would be right. */
    private static double acceptance(Engine engine, LayerPlan plan, int[] text) {
        var rows = new Row[text.length];
        Arrays.setAll(rows, i -> engine.newRow());
        try (var sequence = engine.newSequence()) {
            engine.decode(Append.all(sequence, text, rows));
            return DraftAcceptance.count(sequence, plan, rows, BEGINNING, text.length, TOGETHER) / (double) (text.length - BEGINNING);
        }
    }

    /** The same of a text that is written. */
    private static double acceptance(Engine engine, LayerPlan plan, int[] text, int tokens) {
        var work = new Work[1];
        write(engine, PlanDrafts.of(plan).withLength(1), text, tokens, work);
        return work[0].count("accepted") / (double) work[0].count("drafted");
    }

    private void measure(Path file, int part) throws IOException {
        try (var model = Model.load(file); var engine = Engine.open(model, options)) {
            var plan = without(model, part);
            int[] text = text(engine);
            double accepted = acceptance(engine, plan, text, tokens);
            var costs = costs(engine, plan, text);
            double least = 2;
            int at = 0;
            for (int i = 0; i < LENGTHS.length; i++) {
                double even = breakEven(costs.draft[i] + costs.verify[i], LENGTHS[i]);
                if (even < least) {
                    least = even;
                    at = LENGTHS[i];
                }
            }
            var measured = new ArrayList<Comparison.Pair>();
            for (int i = -1; i < pairs; i++) {
                boolean first = random.nextBoolean();
                double drafted = first ? write(engine, PlanDrafts.of(plan), text, tokens, null) : 0;
                double plain = write(engine, new Plain(), text, tokens, null);
                drafted = first ? drafted : write(engine, PlanDrafts.of(plan), text, tokens, null);
                if (i >= 0) {
                    measured.add(new Comparison.Pair(drafted, plain, first));
                }
            }
            var comparison = new Comparison("layers, self-draft", bench.name(), String.format(Locale.ROOT,
                    "%d tokens; blocks %s draft, %.2f of it right", tokens, plan, accepted), threads, "self-draft", "greedy", 0, measured);
            LayerCosts.add(report, comparison);
            rows.add(List.of(plan.toString(), number(costs.draft[2] / LENGTHS[2]), number(costs.verify[0]), number(costs.verify[2]),
                    number(costs.verify[3]), at == 0 ? "never" : number(least), at == 0 ? "" : "" + at, number(accepted),
                    String.format(Locale.ROOT, "%.3f", comparison.ratio())));
            System.out.println("  " + String.join(" | ", rows.getLast()));
        }
    }

    private static String number(double value) {
        return String.format(Locale.ROOT, "%.2f", value);
    }

    /** In tokens of the whole model, by length. */
    private record Costs(double[] draft, double[] verify) {
    }

    private Costs costs(Engine engine, LayerPlan plan, int[] text) {
        var draft = new double[LENGTHS.length][pairs];
        var verify = new double[LENGTHS.length][pairs];
        var row = engine.newRow();
        var rows = new Row[LENGTHS[LENGTHS.length - 1] + 1];
        Arrays.setAll(rows, i -> engine.newRow());
        try (var sequence = engine.newSequence()) {
            sequence.append(text, row);
            for (int pair = -1; pair < pairs; pair++) {
                double plain = plain(sequence, text, row);
                for (int i = 0; i < LENGTHS.length; i++) {
                    int length = LENGTHS[i];
                    long start = System.nanoTime();
                    try (var fork = sequence.fork(plan, CacheReuse.APPROXIMATE)) {
                        for (int k = 0; k < length; k++) {
                            fork.append(text[k], row);
                        }
                    }
                    long drafted = System.nanoTime();
                    engine.decode(Append.all(sequence, Arrays.copyOf(text, length + 1), Arrays.copyOf(rows, length + 1)));
                    long verified = System.nanoTime();
                    sequence.truncate(text.length);
                    if (pair >= 0) {
                        draft[i][pair] = (drafted - start) / plain;
                        verify[i][pair] = (verified - drafted) / plain;
                    }
                }
            }
        }
        return new Costs(Arrays.stream(draft).mapToDouble(Statistics::median).toArray(),
                Arrays.stream(verify).mapToDouble(Statistics::median).toArray());
    }

    /** Nanoseconds of a token, one by one. */
    private static double plain(Sequence sequence, int[] text, Row row) {
        int count = Math.min(8, text.length - 1);
        sequence.append(text[0], row);    // back from another plan's graph
        long start = System.nanoTime();
        for (int i = 1; i <= count; i++) {
            sequence.append(text[i], row);
        }
        double nanos = (System.nanoTime() - start) / (double) count;
        sequence.truncate(text.length);
        return nanos;
    }

    /** The least {@code a} with {@code 1 + a + ... + a^length >= cost}; 2 where not even 1 is enough. */
    static double breakEven(double cost, int length) {
        if (cost > length + 1) {
            return 2;
        }
        double low = 0;
        double high = 1;
        for (int i = 0; i < 50; i++) {
            double a = (low + high) / 2;
            double tokens = 1;
            for (int k = 0; k < length; k++) {
                tokens = 1 + a * tokens;
            }
            low = tokens < cost ? a : low;
            high = tokens < cost ? high : a;
        }
        return high;
    }

    /** Tokens per second behind the first, whose time is that of the prompt. */
    private static double write(Engine engine, Strategy strategy, int[] text, int tokens, Work[] work) {
        try (var sequence = engine.newSequence(); var decoding = strategy.start(sequence, text,
                StrategyOptions.defaults().withMaxTokens(tokens + 1).withConfidence(false))) {
            decoding.advance();
            long begin = System.nanoTime();
            while (decoding.advance()) {
            }
            double rate = (decoding.tokens().length - 1) * 1e9 / (System.nanoTime() - begin);
            if (work != null) {
                work[0] = decoding.work();
            }
            return rate;
        }
    }
}
