package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.ContrastiveSearch;
import io.github.panamallama.sampling.strategy.EntropyThreshold;
import io.github.panamallama.sampling.strategy.NGramDrafts;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.Speculative;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import io.github.panamallama.sampling.strategy.TrigramTable;
import io.github.panamallama.sampling.strategy.Uscd;
import io.github.panamallama.sampling.strategy.Work;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/** What strategies cost against greedy decoding of the same prompt through the same engine. */
final class StrategyCosts implements AutoCloseable {
    private static final int LEAST_TOKENS = 16;

    private final Model model;
    private final Engine engine;
    private final Model draftModel;
    private final Engine draftEngine;
    private final int[] prompt;
    private final int tokens;
    private final Map<String, Candidate> candidates = new LinkedHashMap<>();

    /** @param memory bytes beyond greedy decoding's, computed from shapes */
    private record Candidate(Strategy strategy, long memory, String what) {
    }

    record Run(double rate, int tokens, Work work) {
    }

    StrategyCosts(BenchModels.BenchModel bench, Path home, int threads, int tokens) throws IOException {
        model = Model.load(bench.path());
        var options = EngineOptions.defaults().withContextSize(2048).withThreads(threads).withMaxSequences(32);
        engine = Engine.open(model, options);
        this.tokens = tokens;
        var vocabulary = model.vocabulary();
        prompt = vocabulary.tokenize(GenerationWork.JAVA_PROMPT.strip(), true, false);
        // a draft model of the same vocabulary: the model's own weights where it is small, else a random one of a fiftieth of the size
        draftModel = Model.load(bench.shipped() ? bench.path() : BenchModels.cached(draftShape(vocabulary.size())));
        draftEngine = Engine.open(draftModel, options);

        long cell = cellBytes(model);
        long row = 4L * vocabulary.size();
        double median = medianEntropy();
        var adaDec = AdaDec.of(bench.shipped() ? learned(home) : median);
        candidates.put("greedy", new Candidate(new Plain(), 0, ""));
        candidates.put("AdaDec", new Candidate(adaDec, adaDec.candidates() * (adaDec.depth() * cell + (adaDec.depth() + 1) * row),
                String.format(Locale.ROOT, "threshold %.2f nats, %s", adaDec.threshold(), bench.shipped()
                        ? "learned from sources of this project"
                        : "the median entropy of the greedy text")));
        int[] lame = vocabulary.tokenize(GenerationWork.JAVA_PROMPT.strip().replaceAll("(?s)/\\*\\*.*?\\*/", ""), true, false);
        candidates.put("USCD", new Candidate(Uscd.of(lame), (lame.length + tokens) * cell + 5 * row,
                "lame prompt without comments, kappa 0.6"));
        candidates.put("USCD, every position", new Candidate(Uscd.of(lame).withKappa(1), (lame.length + tokens) * cell + 5 * row,
                "kappa 1"));
        candidates.put("beam search", new Candidate(BeamSearch.of(4), 4L * (tokens * cell + 2 * row), "4 beams"));
        candidates.put("best of n", new Candidate(BestOfN.of(4), 4L * (tokens * cell + row), "4 texts, greedy each: the cost of the rows"));
        var empty = TrigramTable.empty(vocabulary);
        candidates.put("n-gram drafts", new Candidate(NGramDrafts.of(empty), 12 * (cell + row) + empty.memory(),
                "12 nodes, empty table at first"));
        candidates.put("n-gram drafts, 4 nodes", new Candidate(NGramDrafts.of(TrigramTable.empty(vocabulary)).withTree(4, 2), 4 * (cell
                + row) + empty.memory(),
                "4 nodes on 2 paths"));
        candidates.put("draft model", new Candidate(new Speculative(draftEngine, 4), draftModel.sizeBytes() + 2048 * cellBytes(draftModel)
                + 5 * row,
                bench.shipped() ? "the model itself as its draft: every token accepted" : "random draft model: nearly nothing accepted"));
        candidates.put("contrastive search", new Candidate(ContrastiveSearch.of(), tokens * 4L * model.embeddingSize() + 4 * (cell + row),
                "4 candidates, alpha 0.6"));
        var plan = everyOther(model.layerCount());
        var what = "blocks " + plan + " draft, ";
        candidates.put("self-draft", new Candidate(PlanDrafts.of(plan), 16 * (cell + row), what + "0 to 16 tokens as it pays"));
        candidates.put("self-draft, 4 tokens", new Candidate(PlanDrafts.of(plan).withLength(4), 4 * (cell + row), what + "4 tokens"));
    }

    /** Every other block between the first and the last left out. */
    private static LayerPlan everyOther(int blocks) {
        return LayerPlan.all(blocks).skip(IntStream.range(1, blocks - 1).filter(block -> block % 2 == 0).toArray());
    }

    private static RandomModel draftShape(int vocabulary) {
        return RandomModel.llama(4, 256, 4, 2, 512, vocabulary);
    }

    /** Keys and values of one token, F16. */
    private static long cellBytes(Model model) {
        long heads = model.keyValueHeadCount();
        return 2L * 2 * model.layerCount() * heads * (model.embeddingSize() / model.headCount());
    }

    private double learned(Path home) throws IOException {
        var texts = new ArrayList<int[]>();
        texts.add(model.vocabulary().tokenize(GenerationWork.JAVA_PROMPT, false, false));
        try (var files = Files.walk(home.resolve("sampling/src/main/java"))) {
            for (var file : files.filter(f -> f.toString().endsWith(".java")).sorted().limit(8).toList()) {
                texts.add(model.vocabulary().tokenize(Files.readString(file), false, false));
            }
        }
        return EntropyThreshold.learn(engine, texts, 1).threshold();
    }

    private double medianEntropy() {
        try (var sequence = engine.newSequence(); var decoding = new Plain().start(sequence, prompt,
                StrategyOptions.defaults().withMaxTokens(32))) {
            var entropies = new ArrayList<Double>();
            decoding.forEachRemaining(token -> entropies.add(token.entropy()));
            return Statistics.median(entropies.stream().mapToDouble(Double::doubleValue).toArray());
        }
    }

    List<String> names() {
        return List.copyOf(candidates.keySet());
    }

    /** Decodes once; tokens per second from the start of the prompt to the last token. */
    Run run(String name) {
        try (var sequence = engine.newSequence();
                var decoding = candidates.get(name).strategy.start(sequence, prompt,
                        StrategyOptions.defaults().withMaxTokens(tokens).withConfidence(false))) {
            long start = System.nanoTime();
            while (decoding.advance()) {
            }
            int made = decoding.tokens().length;
            return new Run(made / ((System.nanoTime() - start) * 1e-9), made, decoding.work());
        }
    }

    /** All of them, in pairs with greedy decoding. */
    void measure(String modelName, int threads, int pairs, SplittableRandom random, Report report) throws IOException {
        var table = new ArrayList<List<String>>();
        var greedy = run("greedy");
        for (var name : names()) {
            if (name.equals("greedy")) {
                continue;
            }
            var warm = run(name);
            if (warm.tokens < LEAST_TOKENS) {
                System.out.println(name + " ended after " + warm.tokens + " tokens; its rate says little");
            }
            var measured = new ArrayList<Comparison.Pair>();
            var last = warm;
            for (int i = 0; i < pairs; i++) {
                boolean first = random.nextBoolean();
                double base = 0;
                if (!first) {
                    base = run("greedy").rate;
                }
                last = run(name);
                if (first) {
                    base = run("greedy").rate;
                }
                measured.add(new Comparison.Pair(last.rate, base, first));
            }
            var candidate = candidates.get(name);
            var comparison = new Comparison("strategies", modelName, last.tokens + " tokens after " + prompt.length + ", prompt included; "
                    + candidate.what,
                    threads, name, "greedy", 0, measured);
            report.add(comparison);
            var work = last.work;
            table.add(List.of(name, Integer.toString(last.tokens), per(work.rows() - prompt.length, last.tokens), per(work.batches(),
                    last.tokens),
                    work.helperRows() == 0 ? "" : per(work.helperRows() - (candidate.strategy instanceof PlanDrafts ? 0 : prompt.length),
                            last.tokens),
                    accepted(work), String.format(Locale.ROOT, "%.2f", candidate.memory / 1e6), work.events().toString()));
            System.out.printf(Locale.ROOT, "  %s: %.1f t/s, greedy %.1f, ratio %.3f%n", name, comparison.medianOurs(),
                    comparison.medianBaseline(),
                    comparison.ratio());
        }
        table.addFirst(List.of("greedy", Integer.toString(greedy.tokens), per(greedy.work.rows() - prompt.length, greedy.tokens),
                per(greedy.work.batches(), greedy.tokens), "", "", "0", ""));
        report.add(new Report.Table("Work of strategies, " + modelName,
                "Rows are tokens evaluated beyond the prompt; memory is what is needed beside greedy "
                + "decoding's, computed from shapes (keys and values of branches, rows, tables, a draft model with its cache of 2048).",
                List.of("strategy", "tokens", "rows per token", "batches per token", "rows of the draft per token", "accepted",
                        "more memory, MB",
                        "events"), table));
    }

    /** The share of drafted tokens that were accepted; empty without any. */
    private static String accepted(Work work) {
        long drafted = work.count("drafted");
        return drafted == 0 ? "" : String.format(Locale.ROOT, "%.2f", work.count("accepted") / (double) drafted);
    }

    private static String per(long count, int tokens) {
        return String.format(Locale.ROOT, "%.2f", count / (double) tokens);
    }

    @Override
    public void close() {
        draftEngine.close();
        draftModel.close();
        engine.close();
        model.close();
    }
}
