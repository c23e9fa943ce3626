package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.EntropyThreshold;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import io.github.panamallama.sampling.strategy.Uscd;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.function.ToDoubleFunction;

/**
 * Whether a strategy writes better code: the next line of Java files that the model has not seen. Exact match and edit similarity of the
 * line, and whether the file still parses with the line in the place of the true one, by the JDK's own compiler. Every strategy sees the
 * same places, and differences to greedy decoding are paired.
 */
final class NextLines implements AutoCloseable {
    private static final int CONTEXT_TOKENS = 400;
    private static final int LONGEST_LINE = 64;
    private static final int PLACES_PER_FILE = 16;

    private final Model model;
    private final Engine engine;
    private final JavaSyntax java = new JavaSyntax();
    private final List<Place> places = new ArrayList<>();
    private final EntropyThreshold threshold;

    private record Place(String file, String before, String line, String after) {
    }

    private record Outcome(boolean exact, double similarity, boolean parses, double confidence, double seconds) {
    }

    NextLines(Path modelFile, Path heldOut, int threads, long seed) throws IOException {
        model = Model.load(modelFile);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(2048).withThreads(threads).withMaxSequences(16));
        var random = new SplittableRandom(seed);
        var learning = new ArrayList<int[]>();
        List<Path> files;
        try (var walk = Files.walk(heldOut)) {
            files = walk.filter(file -> file.toString().endsWith(".java")).sorted().toList();
        }
        int i = 0;
        for (var file : files) {
            var text = Files.readString(file);
            int start = text.indexOf("package ");    // the training text had no licence headers
            if (start < 0 || !java.parses(text)) {
                continue;
            }
            text = text.substring(start);
            if (i++ % 4 == 0) {
                learning.add(model.vocabulary().tokenize(text, false, false));    // for the threshold, and for nothing else
            } else {
                choose(heldOut.relativize(file).toString(), text, random);
            }
        }
        threshold = EntropyThreshold.learn(engine, learning, seed);
    }

    private void choose(String file, String text, SplittableRandom random) {
        var lines = text.split("\n", -1);
        var possible = new ArrayList<Integer>();
        for (int i = 10; i < lines.length - 1; i++) {
            if (lines[i].strip().length() >= 2 && !lines[i].strip().startsWith("*") && !lines[i].strip().startsWith("import")) {
                possible.add(i);
            }
        }
        for (int n = 0; n < PLACES_PER_FILE && !possible.isEmpty(); n++) {
            int at = possible.remove(random.nextInt(possible.size()));
            places.add(new Place(file, String.join("\n", Arrays.copyOf(lines, at)) + "\n", lines[at],
                    "\n" + String.join("\n", Arrays.copyOfRange(lines, at + 1, lines.length))));
        }
    }

    void measure(String modelName, Report report) throws IOException {
        System.out.printf(Locale.ROOT, "%d places, threshold %.3f nats (accuracy %.3f)%n", places.size(), threshold.threshold(),
                threshold.accuracy());
        var sampling = SamplerOptions.defaults().withSeed(1);
        var strategies = new LinkedHashMap<String, ToStrategy>();
        strategies.put("greedy", lame -> new Plain());
        strategies.put("sampling", lame -> new Plain());
        strategies.put("best of 4", lame -> BestOfN.of(4));
        strategies.put("beam search, 4", lame -> BeamSearch.of(4));
        strategies.put("AdaDec", lame -> AdaDec.of(threshold.threshold()));
        strategies.put("USCD", Uscd::of);
        var table = new ArrayList<List<String>>();
        var silent = new ArrayList<List<String>>();
        List<Outcome> greedy = null;
        for (var entry : strategies.entrySet()) {
            boolean draws = entry.getKey().equals("sampling") || entry.getKey().equals("best of 4");
            var outcomes = new ArrayList<Outcome>();
            for (int i = 0; i < places.size(); i++) {
                outcomes.add(complete(places.get(i), entry.getValue(), draws ? sampling.withSeed(i) : SamplerOptions.greedy()));
            }
            greedy = greedy == null ? outcomes : greedy;
            table.add(List.of(entry.getKey(), share(outcomes, o -> o.exact ? 1 : 0), difference(outcomes, greedy, o -> o.exact ? 1 : 0),
                    share(outcomes, Outcome::similarity), difference(outcomes, greedy, Outcome::similarity),
                    share(outcomes, o -> o.parses ? 1 : 0), difference(outcomes, greedy, o -> o.parses ? 1 : 0),
                    String.format(Locale.ROOT, "%.1f", 1000 * outcomes.stream().mapToDouble(Outcome::seconds).average().orElse(0))));
            System.out.println("  " + String.join(" | ", table.getLast()));
            for (int percent : entry.getKey().equals("greedy") ? new int[] {100, 50, 25, 10} : new int[0]) {
                var sure = outcomes.stream().sorted(Comparator.comparingDouble(Outcome::confidence).reversed())
                        .limit(outcomes.size() * percent / 100).toList();
                silent.add(List.of(percent + " %", ungrouped(sure, o -> o.exact ? 1 : 0), ungrouped(sure, Outcome::similarity),
                        ungrouped(sure, o -> o.parses ? 1 : 0)));
            }
        }
        report.add(new Report.Table("Next lines, " + modelName, places.size() + " lines of "
                + places.stream().map(Place::file).distinct().count()
                + " held-out files, up to " + CONTEXT_TOKENS
                        + " tokens of context. In brackets 95 % by bootstrap over files and their lines; differences are "
                + "to greedy, paired. AdaDec's threshold of " + String.format(Locale.ROOT, "%.3f", threshold.threshold())
                + " nats was learned from other held-out files; USCD's lame prompt is the prompt without comments.",
                List.of("strategy", "exact match", "to greedy", "edit similarity", "to greedy", "parses", "to greedy", "ms per line"),
                        table));
        report.add(new Report.Table("Next lines where greedy decoding is surest, " + modelName,
                "Only the lines of highest mean log-probability are shown to the user, the model is silent otherwise.",
                List.of("lines shown", "exact match", "edit similarity", "parses"), silent));
    }

    private interface ToStrategy {
        Strategy of(int[] lamePrompt);
    }

    private Outcome complete(Place place, ToStrategy strategy, SamplerOptions sampling) {
        var vocabulary = model.vocabulary();
        int[] prompt = tail(vocabulary.tokenize(place.before, true, false));
        var bare = place.before.replaceAll("(?s)/\\*.*?\\*/", "").replaceAll("//[^\n]*", "").replaceAll("\n\\s*\n+", "\n");
        int[] lame = tail(vocabulary.tokenize(bare, true, false));
        var options = StrategyOptions.defaults().withMaxTokens(LONGEST_LINE).withStopStrings("\n").withSampling(sampling);
        long start = System.nanoTime();
        try (var sequence = engine.newSequence(); var decoding = strategy.of(lame).start(sequence, prompt, options)) {
            while (decoding.advance()) {
            }
            double seconds = (System.nanoTime() - start) * 1e-9;
            var line = decoding.wholeText();
            return new Outcome(line.strip().equals(place.line.strip()), similarity(line.strip(), place.line.strip()),
                    java.parses(place.before + line + place.after), decoding.confidence().meanLogProbability(), seconds);
        }
    }

    private static int[] tail(int[] tokens) {
        return Arrays.copyOfRange(tokens, Math.max(0, tokens.length - CONTEXT_TOKENS), tokens.length);
    }

    /** 1 less the Levenshtein distance in characters over the longer length. */
    static double similarity(String a, String b) {
        int longest = Math.max(a.length(), b.length());
        if (longest == 0) {
            return 1;
        }
        var last = new int[b.length() + 1];
        Arrays.setAll(last, i -> i);
        for (int i = 1; i <= a.length(); i++) {
            var row = new int[b.length() + 1];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                row[j] = Math.min(Math.min(row[j - 1], last[j]) + 1, last[j - 1] + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1));
            }
            last = row;
        }
        return 1 - last[b.length()] / (double) longest;
    }

    private String share(List<Outcome> outcomes, ToDoubleFunction<Outcome> of) {
        double[] values = outcomes.stream().mapToDouble(of).toArray();
        return interval(values, false, true);
    }

    private String ungrouped(List<Outcome> outcomes, ToDoubleFunction<Outcome> of) {
        return interval(outcomes.stream().mapToDouble(of).toArray(), false, false);
    }

    private String difference(List<Outcome> outcomes, List<Outcome> greedy, ToDoubleFunction<Outcome> of) {
        if (outcomes == greedy) {
            return "";
        }
        var values = new double[outcomes.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = of.applyAsDouble(outcomes.get(i)) - of.applyAsDouble(greedy.get(i));
        }
        return interval(values, true, true);
    }

    /**
     * Mean in percent with the middle 95 % of the means of resampled files, if there is a value for each place in order, else of resampled
     * lines.
     */
    private String interval(double[] values, boolean signed, boolean byFile) {
        var groups = new int[values.length];
        for (int i = 1; i < values.length; i++) {
            boolean same = byFile && places.get(i).file.equals(places.get(i - 1).file);
            groups[i] = same ? groups[i - 1] : groups[i - 1] + 1;
        }
        var mean = Bootstrap.mean(values, groups);
        return signed ? mean.signedPercent() : mean.percent();
    }

    @Override
    public void close() {
        engine.close();
        model.close();
    }
}
