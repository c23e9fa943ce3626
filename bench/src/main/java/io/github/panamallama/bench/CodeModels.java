package io.github.panamallama.bench;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * What models of Java code are worth on files that none of them has seen, whatever their vocabularies: bits per byte, the next line with
 * what is above it alone and with what is below it too, and whether methods written from their heads parse. All models see the same
 * characters; differences are paired, intervals are bootstraps over files.
 *
 * <p>With {@code --expected}, whether a file gives the tokens and logits that {@code models/training} expects of it.
 */
@Command(name = "bench/run models", mixinStandardHelpOptions = true, sortOptions = false, showDefaultValues = true,
        description = "Compares models of Java code on held-out files, or one model with what its training expects.")
public final class CodeModels implements Callable<Integer> {
    private static final int ABOVE = 2000;          // characters of a prompt before the place
    private static final int BELOW = 800;
    private static final int LONGEST_LINE = 64;     // tokens
    private static final int LONGEST_METHOD = 256;
    private static final int CONTEXT = 2048;

    @Option(names = "--model", required = true, paramLabel = "FILE", description = "The first is what the others are compared with.")
    private List<Path> files;

    @Option(names = "--adapter", paramLabel = "FILE", description = "Also the first model under this adapter.")
    private List<Path> adapters = List.of();

    @Option(names = "--held-out", paramLabel = "DIR", description = "Java files; what stands before the package clause is left out.")
    private Path heldOut;

    @Option(names = "--expected", paramLabel = "DIR", description = "What models/training/expect.py wrote.")
    private Path expected;

    @Option(names = "--tolerance", description = "Largest difference of a logit from the expected one.", defaultValue = "0.05")
    private double tolerance;

    @Option(names = "--places", description = "Lines per file.", defaultValue = "8")
    private int linesPerFile;

    @Option(names = "--methods", description = "Methods per file.", defaultValue = "2")
    private int methodsPerFile;

    @Option(names = "--files", description = "At most so many files, evenly chosen.", defaultValue = "1000000")
    private int most;

    @Option(names = "--threads", defaultValue = "2")
    private int threads;

    @Option(names = "--seed", description = "Of the choice of places.", defaultValue = "1")
    private long seed;

    private final JavaSyntax java = new JavaSyntax();

    private record Text(String name, String text) {
    }

    private record Place(int file, String before, String wanted, String after) {
    }

    /** Of one model: per file bits and, per place, the figures by column. */
    private static final class Figures {
        final List<Double> bits = new ArrayList<>();
        final Map<String, List<Double>> columns = new LinkedHashMap<>();

        void add(String column, double value) {
            columns.computeIfAbsent(column, name -> new ArrayList<>()).add(value);
        }
    }

    public static void main(String[] arguments) {
        CommandLines.run(new CodeModels(), arguments);
    }

    @Override
    public Integer call() throws IOException {
        if ((heldOut == null) == (expected == null)) {
            throw new CommandLine.ParameterException(new CommandLine(this), "give either --held-out or --expected");
        }
        return expected != null ? check() : compare();
    }

    // --- comparing

    private int compare() throws IOException {
        var texts = read();
        if (texts.isEmpty()) {
            throw new IllegalArgumentException("no Java file that parses in " + heldOut);
        }
        var random = new SplittableRandom(seed);
        var lines = new ArrayList<Place>();
        var methods = new ArrayList<Place>();
        for (int i = 0; i < texts.size(); i++) {
            choose(i, texts.get(i).text, random, lines, methods);
        }
        System.out.printf("%d files, %d lines, %d methods%n", texts.size(), lines.size(), methods.size());
        var figures = new LinkedHashMap<String, Figures>();
        for (var file : files) {
            try (var model = Model.load(file)) {
                figures.put(file.getFileName().toString(), measure(model, AdapterSet.none(), texts, lines, methods));
                for (var adapter : file.equals(files.getFirst()) ? adapters : List.<Path>of()) {
                    try (var loaded = Adapter.load(model, adapter)) {
                        figures.put(adapter.getFileName().toString(), measure(model, AdapterSet.of(loaded), texts, lines, methods));
                    }
                }
            }
        }
        print(texts, lines, methods, figures);
        return 0;
    }

    private List<Text> read() throws IOException {
        List<Path> found;
        try (var walk = Files.walk(heldOut)) {
            found = walk.filter(file -> file.toString().endsWith(".java")).sorted().toList();
        }
        var texts = new ArrayList<Text>();
        for (int i = 0; i < Math.min(most, found.size()); i++) {
            var file = found.get((int) ((long) i * found.size() / Math.min(most, found.size())));
            var text = Files.readString(file).replace("\r\n", "\n");
            int start = text.startsWith("package ") ? 0 : text.indexOf("\npackage ") + 1;      // the training text has no licence headers
            text = start > 0 || text.startsWith("package ") ? text.substring(start) : "";
            if (!text.isEmpty() && java.parses(text)) {
                texts.add(new Text(heldOut.relativize(file).toString(), text));
            }
        }
        return texts;
    }

    private void choose(int file, String text, SplittableRandom random, List<Place> lines, List<Place> methods) {
        var possible = new ArrayList<JavaSyntax.Span>();
        int at = 0;
        int number = 0;
        for (var line : text.split("\n", -1)) {
            var bare = line.strip();
            if (number++ >= 10 && bare.length() >= 2 && !bare.startsWith("*") && !bare.startsWith("/*") && !bare.startsWith("import")) {
                possible.add(new JavaSyntax.Span(at, at + line.length()));
            }
            at += line.length() + 1;
        }
        for (var span : draw(possible, linesPerFile, random)) {
            lines.add(place(file, text, span));
        }
        var bodies = new ArrayList<>(java.bodies(text));
        bodies.removeIf(body -> text.substring(body.from(), body.to()).isBlank());
        for (var span : draw(bodies, methodsPerFile, random)) {
            methods.add(place(file, text, span));
        }
    }

    private static Place place(int file, String text, JavaSyntax.Span span) {
        return new Place(file, text.substring(0, span.from()), text.substring(span.from(), span.to()), text.substring(span.to()));
    }

    private static <T> List<T> draw(List<T> from, int count, SplittableRandom random) {
        var drawn = new ArrayList<T>();
        while (drawn.size() < count && !from.isEmpty()) {
            drawn.add(from.remove(random.nextInt(from.size())));
        }
        return drawn;
    }

    private Figures measure(Model model, AdapterSet under, List<Text> texts, List<Place> lines, List<Place> methods) {
        var figures = new Figures();
        var options = EngineOptions.defaults().withContextSize(CONTEXT).withThreads(threads).withMaxSequences(2);
        try (var engine = Engine.open(model, options)) {
            for (var text : texts) {
                figures.bits.add(bits(engine, under, text.text));
            }
            var vocabulary = model.vocabulary();
            boolean fills = vocabulary.fimPrefix() >= 0 && vocabulary.fimSuffix() >= 0 && vocabulary.fimMiddle() >= 0;
            for (var place : lines) {
                compare(figures, "from above", line(engine, under, above(model, place)), place);
                if (fills) {
                    compare(figures, "from above and below", line(engine, under, around(model, place)), place);
                }
            }
            for (var place : methods) {
                var body = method(engine, under, above(model, place));
                boolean parses = body != null && java.parses(place.before + body + place.after);
                figures.add("methods that parse", parses ? 1 : 0);
            }
        }
        return figures;
    }

    /** Of a text, each token under the half context before it at least; the first behind the token that separates files. */
    private static double bits(Engine engine, AdapterSet under, String text) {
        var vocabulary = engine.model().vocabulary();
        int[] plain = vocabulary.tokenize(text, false, false);
        var tokens = new int[plain.length + 1];
        tokens[0] = vocabulary.eos();
        System.arraycopy(plain, 0, tokens, 1, plain.length);
        int window = Math.min(CONTEXT, engine.model().contextLength());
        double nats = 0;
        for (int from = 0, scored = 1; scored < tokens.length; from += window / 2) {
            int to = Math.min(tokens.length, from + window);
            try (var sequence = engine.newSequence(under)) {
                int skipped = scored - 1 - from;
                if (skipped > 0) {
                    sequence.append(Arrays.copyOfRange(tokens, from, scored - 1), null);
                }
                for (; scored < to; ) {
                    int count = Math.min(64, to - scored);
                    var rows = new Row[count];
                    Arrays.setAll(rows, i -> engine.newRow());
                    engine.decode(Append.all(sequence, Arrays.copyOfRange(tokens, scored - 1, scored - 1 + count), rows));
                    for (int i = 0; i < count; i++) {
                        nats -= RowMath.logProbability(rows[i], tokens[scored + i]);
                    }
                    scored += count;
                }
            }
        }
        return nats / Math.log(2);
    }

    private static int[] above(Model model, Place place) {
        var shown = tail(place.before);
        int[] text = model.vocabulary().tokenize(shown, false, false);
        return shown.length() < place.before.length() ? text : concat(new int[] {model.vocabulary().eos()}, text);
    }

    private static int[] around(Model model, Place place) {
        var vocabulary = model.vocabulary();
        var indented = tail(place.before) + place.wanted.substring(0, place.wanted.length() - place.wanted.stripLeading().length());
        var below = place.after.substring(0, Math.min(BELOW, place.after.length()));
        return concat(new int[] {vocabulary.fimPrefix()}, vocabulary.tokenize(indented, false, false), new int[] {vocabulary.fimSuffix()},
                vocabulary.tokenize(below, false, false), new int[] {vocabulary.fimMiddle()});
    }

    /** The last characters, whole lines of them. */
    private static String tail(String text) {
        return text.length() <= ABOVE ? text : text.substring(text.indexOf('\n', text.length() - ABOVE - 1) + 1);
    }

    private static int[] concat(int[]... parts) {
        return Arrays.stream(parts).flatMapToInt(Arrays::stream).toArray();
    }

    private static String line(Engine engine, AdapterSet under, int[] prompt) {
        var options = StrategyOptions.defaults().withMaxTokens(LONGEST_LINE).withStopStrings("\n").withSampling(SamplerOptions.greedy());
        try (var sequence = engine.newSequence(under); var decoding = new Plain().start(sequence, prompt, options)) {
            while (decoding.advance()) {
            }
            return decoding.wholeText();
        }
    }

    /** @return up to the closing brace; null if the model does not get there */
    private static String method(Engine engine, AdapterSet under, int[] prompt) {
        var options = StrategyOptions.defaults().withMaxTokens(LONGEST_METHOD).withSampling(SamplerOptions.greedy());
        try (var sequence = engine.newSequence(under); var decoding = new Plain().start(sequence, prompt, options)) {
            while (decoding.advance()) {
                int end = decoding.text().contains("}") ? MethodEnd.of(decoding.wholeText()) : -1;
                if (end >= 0) {
                    return decoding.wholeText().substring(0, end);
                }
            }
        }
        return null;
    }

    private static void compare(Figures figures, String how, String written, Place place) {
        var line = written.strip();
        var wanted = place.wanted.strip();
        figures.add("exact, " + how, line.equals(wanted) ? 1 : 0);
        figures.add("similar, " + how, NextLines.similarity(line, wanted));
    }

    private static void print(List<Text> texts, List<Place> lines, List<Place> methods, Map<String, Figures> figures) {
        var first = figures.values().iterator().next();
        int[] each = new int[texts.size()];
        Arrays.setAll(each, i -> i);
        double[] bytes = texts.stream().mapToDouble(text -> text.text.getBytes(StandardCharsets.UTF_8).length).toArray();
        for (var entry : figures.entrySet()) {
            var model = entry.getValue();
            System.out.printf("%n%s%n", entry.getKey());
            var bits = doubles(model.bits);
            System.out.printf("  %-32s %s%s%n", "bits per byte", Bootstrap.ratio(bits, bytes, each).plain(),
                    model == first ? "" : ", of the first's " + Bootstrap.ratio(bits, doubles(first.bits), each).percent());
            for (var column : model.columns.entrySet()) {
                double[] values = doubles(column.getValue());
                int[] groups = (column.getKey().startsWith("methods") ? methods : lines).stream().mapToInt(Place::file).toArray();
                var base = first.columns.get(column.getKey());
                var difference = "";
                if (model != first && base != null) {
                    var gained = new double[values.length];
                    Arrays.setAll(gained, i -> values[i] - base.get(i));
                    difference = ", to the first " + Bootstrap.mean(gained, groups).signedPercent();
                }
                System.out.printf("  %-32s %s%s%n", column.getKey(), Bootstrap.mean(values, groups).percent(), difference);
            }
        }
    }

    private static double[] doubles(List<Double> values) {
        return values.stream().mapToDouble(Double::doubleValue).toArray();
    }

    // --- checking

    private int check() throws IOException {
        boolean right = true;
        try (var model = Model.load(files.getFirst())) {
            int same = 0;
            var lines = Files.readAllLines(expected.resolve("tokens.txt"));
            for (var line : lines) {
                int tab = line.indexOf('\t');
                var text = Files.readString(expected.resolve(line.substring(0, tab)));
                int[] wanted = ints(line.substring(tab + 1));
                int[] got = model.vocabulary().tokenize(text, true, false);
                if (Arrays.equals(got, wanted)) {
                    same++;
                } else {
                    int at = Arrays.mismatch(got, wanted);
                    var instead = at < got.length ? model.vocabulary().text(got[at]) : "none";
                    System.out.printf("%s: token %d is %s%n", line.substring(0, tab), at, instead);
                }
            }
            System.out.printf("tokens: %d of %d files alike%n", same, lines.size());
            right &= same == lines.size() && same > 0;
            var options = EngineOptions.defaults().withContextSize(CONTEXT).withThreads(threads).withMaxSequences(1)
                    .withFlashAttention(FlashAttention.OFF).withCacheTypes(GgmlType.F32, GgmlType.F32);
            try (var engine = Engine.open(model, options)) {
                right &= logits(engine, AdapterSet.none(), "base");
                for (var file : adapters) {
                    try (var adapter = Adapter.load(model, file)) {
                        right &= logits(engine, AdapterSet.of(adapter), file.getFileName().toString());
                    }
                }
            }
        }
        System.out.println(right ? "all as expected" : "NOT as expected");
        return right ? 0 : 1;
    }

    /** {@code FILE.logits}: a line of token numbers, then a line of logits for each of its last positions; and so on. */
    private boolean logits(Engine engine, AdapterSet under, String name) throws IOException {
        double worst = 0;
        double squares = 0;
        int best = 0;
        int count = 0;
        Sequence sequence = null;
        try {
            int[] prompt = null;
            int at = 0;
            for (var line : Files.readAllLines(expected.resolve(name + ".logits"))) {
                if (line.startsWith("prompt ")) {
                    if (sequence != null) {
                        sequence.close();
                    }
                    var words = line.split(" ", 3);
                    prompt = ints(words[2]);
                    at = prompt.length - Integer.parseInt(words[1]);
                    sequence = engine.newSequence(under);
                    if (at > 0) {
                        sequence.append(Arrays.copyOf(prompt, at), null);
                    }
                    continue;
                }
                double[] wanted = Arrays.stream(line.split(" ")).mapToDouble(Double::parseDouble).toArray();
                var row = engine.newRow();
                sequence.append(prompt[at++], row);
                int likeliest = 0;
                for (int i = 0; i < wanted.length; i++) {
                    worst = Math.max(worst, Math.abs(wanted[i] - row.get(i)));
                    squares += wanted[i] * wanted[i] / wanted.length;
                    likeliest = wanted[i] > wanted[likeliest] ? i : likeliest;
                }
                best += likeliest == RowMath.argmax(row) ? 1 : 0;
                count++;
            }
        } finally {
            if (sequence != null) {
                sequence.close();
            }
        }
        System.out.printf(Locale.ROOT, "logits, %s: %d positions, largest difference %.5f at a root mean square of %.3f, "
                + "%d with the same likeliest token%n", name, count, worst, Math.sqrt(squares / count), best);
        return count > 0 && worst <= tolerance;
    }

    private static int[] ints(String text) {
        return Arrays.stream(text.trim().split(" ")).mapToInt(Integer::parseInt).toArray();
    }
}
