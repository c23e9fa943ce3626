package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.Tap;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * What layer plans bring and cost: decoding with blocks left out beside a model that never had them, the hook without a plan, changes of
 * the plan, taps, drafts by a part of the blocks.
 */
final class LayerCosts implements AutoCloseable {
    private static final int CONTEXT = 1024;
    private static final int BEHIND = 32;
    /** Of a test of changes: so many tokens under each plan in turn. */
    private static final int TURNS = 40;
    /** Tokens of a text with drafts. */
    private static final int MOST_DRAFTED = 256;

    private final BenchModels.BenchModel bench;
    private final int threads;
    private final double seconds;
    private final Model model;
    private final EngineOptions options;
    private final int[] prompt;

    LayerCosts(BenchModels.BenchModel bench, int threads, double seconds) {
        this.bench = bench;
        this.threads = threads;
        this.seconds = seconds;
        model = Model.load(bench.path());
        options = EngineOptions.defaults().withContextSize(CONTEXT).withThreads(threads).withMaxSequences(4);
        prompt = new SplittableRandom(1).ints(BEHIND, 300, Math.min(model.vocabulary().size(), 4000)).toArray();
    }

    /** What can be measured. */
    enum What {
        /** The time of a change of plans. */
        changes,
        /** The hook in place, and no plan. */
        hook,
        /** Norms of all blocks read. */
        taps,
        /** Blocks left out; random models alone. */
        skips,
        /** Drafts by a part of the blocks. */
        drafts,
        /** Perplexity without blocks; the shipped model alone. */
        quality,
        /** Routers beside simpler choices; the shipped model alone. */
        routers
    }

    void measure(Set<What> what, int pairs, SplittableRandom random, Report report) throws IOException {
        double rate;
        try (var engine = Engine.open(model, options)) {
            rate = decode(engine, null, 64);
            if (what.contains(What.changes)) {
                report.add(changes(engine, pairs));
            }
        }
        int tokens = (int) Math.clamp(seconds * rate, 16, CONTEXT - BEHIND - 16);
        var work = tokens + " tokens one by one";
        if (what.contains(What.hook)) {
            add(report, compare("no plan", work, "hook in place, no plan", "no hook", 0.995, pairs, random,
                    () -> hooked(tokens), () -> alone(model, null, tokens)));
        }
        if (what.contains(What.taps)) {
            taps(work, tokens, pairs, random, report);
        }
        for (int left : bench.random() == null || !what.contains(What.skips) ? new int[0] : new int[] {2, 4, 8}) {
            if (left < model.layerCount() - 1) {
                skipped(left, tokens, pairs, random, report);
            }
        }
        if (what.contains(What.drafts)) {
            new SelfDraftCosts(bench, threads, Math.min(tokens, MOST_DRAFTED), pairs, random, report).measure();
        }
    }

    /** On one sequence of one engine, so that nothing but the tap differs. */
    private void taps(String work, int tokens, int pairs, SplittableRandom random, Report report) throws IOException {
        try (var engine = Engine.open(model, options); var sequence = engine.newSequence()) {
            sequence.append(prompt, engine.newRow());
            var sum = new double[1];
            add(report, compare("taps", work, "norms of all blocks read", "nothing read", 0.97, pairs, random, () -> {
                sequence.tap(Tap.norms(), reading -> sum[0] += reading.norm(0));
                double rate = decode(sequence, tokens);
                sequence.untap();
                return rate;
            }, () -> decode(sequence, tokens)));
        }
    }

    /** Tokens per second in an engine of its own: two engines' threads would spin against each other. */
    private double alone(Model model, LayerPlan plan, int tokens) {
        try (var engine = Engine.open(model, options)) {
            return decode(engine, plan, tokens);
        }
    }

    /** The same where decodes go through the hook, because there was a plan once. */
    private double hooked(int tokens) {
        try (var engine = Engine.open(model, options)) {
            engine.newSequence(LayerPlan.all(model.layerCount()).skip(1)).close();
            return decode(engine, null, tokens);
        }
    }

    /** Against a model of the same shape that has so many blocks less: the ideal. */
    private void skipped(int left, int tokens, int pairs, SplittableRandom random, Report report) throws IOException {
        var plan = LayerPlan.all(model.layerCount()).skip(spread(model.layerCount(), left));
        var shape = bench.random().withLayers(model.layerCount() - left);
        try (var smaller = Model.load(BenchModels.cached(shape))) {
            double full = alone(model, null, tokens);
            var comparison = compare(left + " of " + model.layerCount() + " blocks left out", tokens + " tokens one by one, plan " + plan,
                    "plan", "a model of " + shape.layers() + " blocks", 0.97, pairs, random,
                    () -> alone(model, plan, tokens), () -> alone(smaller, null, tokens));
            add(report, comparison);
            System.out.printf(Locale.ROOT, "    %.2f times the speed of all %d blocks (%.2f t/s)%n", comparison.medianOurs() / full,
                    model.layerCount(), full);
        }
    }

    /** Blocks to leave out, spread evenly over all but the first and the last one. */
    static int[] spread(int blocks, int left) {
        return IntStream.range(0, left).map(i -> 1 + (2 * i + 1) * (blocks - 2) / (2 * left)).toArray();
    }

    private interface Rate {
        double measure();
    }

    private Comparison compare(String what, String work, String ours, String baseline, double target, int pairs, SplittableRandom random,
            Rate our, Rate base) {
        var measured = new ArrayList<Comparison.Pair>();
        our.measure();
        base.measure();
        for (int i = 0; i < pairs; i++) {
            boolean first = random.nextBoolean();
            double mine = first ? our.measure() : 0;
            double theirs = base.measure();
            measured.add(new Comparison.Pair(first ? mine : our.measure(), theirs, first));
        }
        return new Comparison("layers, " + what, bench.name(), work, threads, ours, baseline, bench.shipped() ? 0 : target, measured);
    }

    static void add(Report report, Comparison comparison) throws IOException {
        System.out.printf(Locale.ROOT, "  %s: %.2f t/s, %s %.2f, ratio %.4f%n", comparison.part(), comparison.medianOurs(),
                comparison.baseline(), comparison.medianBaseline(), comparison.ratio());
        report.add(comparison);
    }

    /** Tokens per second, one by one behind a prompt; null for no plan. */
    private double decode(Engine engine, LayerPlan plan, int tokens) {
        try (var sequence = plan == null ? engine.newSequence() : engine.newSequence(plan)) {
            sequence.append(prompt, engine.newRow());
            return decode(sequence, tokens);
        }
    }

    /** Tokens per second behind the prompt, which is all that is left then. */
    private double decode(Sequence sequence, int tokens) {
        var row = sequence.engine().newRow();
        for (int i = 0; i < 4; i++) {
            sequence.append(prompt[i], row);
        }
        long begin = System.nanoTime();
        for (int i = 0; i < tokens; i++) {
            sequence.append(prompt[i % prompt.length], row);
        }
        double rate = tokens * 1e9 / (System.nanoTime() - begin);
        sequence.truncate(BEHIND);
        return rate;
    }

    /** The time of a token after a change of the plan, beside that of one without. */
    private List<Report.TokenCost> changes(Engine engine, int repetitions) {
        var plan = LayerPlan.all(model.layerCount()).skip(spread(model.layerCount(), Math.max(1, model.layerCount() / 4)));
        var more = new ArrayList<Double>();
        var drafted = new ArrayList<Double>();
        try (var full = engine.newSequence(); var draft = engine.newSequence(plan)) {
            var row = engine.newRow();
            full.append(prompt, row);
            draft.append(prompt, row);
            for (int i = 0; i < repetitions; i++) {
                double apart = nanos(full, full, row) + nanos(draft, draft, row);
                drafted.add(nanos(draft, draft, row) / (2 * TURNS));
                double inTurn = nanos(full, draft, row) + nanos(draft, full, row);
                more.add((inTurn - apart) / (4 * TURNS));
                full.truncate(BEHIND);
                draft.truncate(BEHIND);
            }
        }
        double change = Statistics.median(more.stream().mapToDouble(Double::doubleValue).toArray());
        double step = Statistics.median(drafted.stream().mapToDouble(Double::doubleValue).toArray());
        var name = "layers, change of the plan, " + bench.name();
        var costs = List.of(new Report.TokenCost(name, change / 1e3, Double.NaN, "us", Double.POSITIVE_INFINITY),
                new Report.TokenCost(name, change / step, Double.NaN, "draft steps", Double.POSITIVE_INFINITY));
        costs.forEach(cost -> System.out.printf(Locale.ROOT, "  %s: %.3f %s%n", cost.name(), cost.value(), cost.unit()));
        return costs;
    }

    /** Nanoseconds of a token behind each of two sequences, in turn. */
    private double nanos(Sequence a, Sequence b, Row row) {
        a.append(prompt[0], row);
        b.append(prompt[0], row);
        long begin = System.nanoTime();
        for (int i = 0; i < TURNS; i++) {
            a.append(prompt[i % prompt.length], row);
            b.append(prompt[i % prompt.length], row);
        }
        return System.nanoTime() - begin;
    }

    @Override
    public void close() {
        model.close();
    }
}
